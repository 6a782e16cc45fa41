"""Datasets by name: every adapter gives the same records, and every image has been opened once before it is used."""

from pathlib import Path

from sfhelpers import toyworld
from sfhelpers.datasets import folder, sketchy
from sfhelpers.datasets.records import (
    Dataset,
    Record,
    first_sketches,
    given_folder,
    pairs,
    require_both,
    without_broken,
)
from sfhelpers.files import shown

__all__ = ["Dataset", "Record", "SPLITS", "first_sketches", "load_dataset", "pairs"]

DRAWN_ANEW = "delete this folder, so that the toy world is drawn anew"
SPLITS = {"toy": ("default",), "sketchy": ("default",), "folder": ("default", "parts")}


def load_dataset(
    name: str,
    root: str | Path = "",
    split: str = "default",
    limit: int = 0,
    skip_broken: bool = False,
    seed: int = 0,
) -> Dataset:
    """Find a dataset's files, part them, and check that each image can be opened.

    Args:
        name: "toy" (made on the spot and kept in the user's cache), "sketchy" or "folder".
        root: where the files are; none for "toy".
        split: "default": seen categories have about 60 % train, 15 % val and 25 % test photos, unseen ones test
            alone; in "folder" all is test, unless split is "parts", which divides it likewise.
        limit: at most so many photos a category; 0 takes all.
        skip_broken: leave broken images out with a warning that names and counts them, instead of an error.
        seed: chooses the photos if `limit` leaves some out.

    Raises:
        ValueError, FileNotFoundError, NotADirectoryError: one sentence, for an unknown name or split, a root that is
            not there, no folder, empty or laid out otherwise, or broken images.
    """
    base = _checked(name, root, split, limit)
    if name == "toy":
        base = toyworld.ensure()
        found = sketchy.read(base, unseen=toyworld.UNSEEN, limit=limit, seed=seed)
    elif name == "sketchy":
        found = sketchy.read(base, limit=limit, seed=seed)
    else:
        found = folder.read(base, split, limit=limit, seed=seed)
    told = {"repair": DRAWN_ANEW} if name == "toy" else {}
    usable = without_broken(found, base, skip_broken, **told)
    require_both(usable, base)
    return Dataset(name, base, split, tuple(usable))


def _checked(name: str, root: str | Path, split: str, limit: int) -> Path:
    if name not in SPLITS:
        raise ValueError(f"there is no dataset {name!r}: choose one of {', '.join(SPLITS)}.")
    if split not in SPLITS[name]:
        raise ValueError(f"dataset {name!r} has no split {split!r}: choose one of {', '.join(SPLITS[name])}.")
    if limit < 0:
        raise ValueError(f"limit is {limit}: pass 0 for all photos, or the most you want of a category.")
    if name == "toy":
        if str(root):
            raise ValueError(
                f"dataset 'toy' makes its own files and takes no data_root (got {shown(root)}): "
                "leave it out, or pass -p dataset folder or sketchy."
            )
        return Path()
    base = given_folder(name, root, "is a file, not a folder: pass the folder that holds photo/.")
    if not any(path for path in base.iterdir() if not path.name.startswith(".")):
        raise ValueError(f"data_root {shown(base)} is empty: put your files there, or pass another -p data_root.")
    return base
