"""Runs the notebooks with papermill, executes and cleans the committed ones, and checks that they are clean.

python -m sfhelpers.notebooks run [--out runs] [names...]
python -m sfhelpers.notebooks execute [names...]
python -m sfhelpers.notebooks check [names...]
"""

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"


def find(names: list[str], folder: Path = FOLDER) -> list[Path]:
    """Notebooks called NN_name.ipynb, in order; with names only those (04, 04_segmentation or a path will do).

    Raises:
        FileNotFoundError: no notebook has such a name.
    """
    notebooks = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not names:
        return notebooks
    found = []
    for name in names:
        stem = Path(name).name.removesuffix(".ipynb")
        matches = [path for path in notebooks if path.stem == stem or path.stem.split("_")[0] == stem]
        if not matches:
            known = ", ".join(path.stem for path in notebooks)
            raise FileNotFoundError(f"no notebook {name!r} in {folder.name}/: choose from {known}.")
        found += matches
    return found
