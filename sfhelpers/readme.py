"""Writes into README.md what was measured, so that no number there is ever typed by hand, and its picture.

    python -m sfhelpers.readme

The results come from `data/results`, the picture (`data/readme.png`) from the executed notebook 04: it is the image of
the cell tagged `readme`.
"""

import base64
import binascii
import io
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat.reader import NotJSONError
from PIL import Image, UnidentifiedImageError

from sfhelpers import params, results
from sfhelpers.files import replace_file
from sfhelpers.metrics import AP, Acc
from sfhelpers.tasks import recognition as shots
from sfhelpers.tasks.arms import SINGLE, best_single
from sfhelpers.tasks.correspondence import DEFINITION
from sfhelpers.tasks.segmentation import CHOSEN

START, END = "<!-- results:start -->", "<!-- results:end -->"
METRIC = "foreground IoU"
GALLERIES = ("seen categories", "unseen categories")
TAG = "readme"
FULL = "### Segmentation in full"


@dataclass(frozen=True)
class Headline:
    """Which rows of a notebook's results stand for a task.

    Attributes:
        gallery, metric, rule: as in `results.table`.
        trivial: the method that looks at nothing.
    """

    task: str
    notebook: str
    metric: str
    gallery: str
    rule: str
    trivial: str
    split: str = "default"


HEADLINES = (
    Headline("correspondence", "03_correspondence", "PCK@5", GALLERIES[0], DEFINITION, "same pixel"),
    Headline("segmentation", "04_segmentation", METRIC, GALLERIES[0], CHOSEN, "mean mask"),
    Headline("retrieval of unseen categories", "05_retrieval", "mAP@all", "all", AP().definition, "chance", "strict"),
    Headline("retrieval of the very photo", "05_retrieval", "Acc@1", "all", Acc(1).definition, "chance", "strict"),
    Headline("recognition", "06_recognition", "Acc@1", shots.GALLERY, shots.rule(10), "class prior"),
)


def tasks_block(by_notebook: Mapping[str, Iterable[results.Row]]) -> str:
    """The four tasks as a markdown table: fused, the better single backbone, the best row, what looks at nothing.

    Args:
        by_notebook: notebook -> the rows of one whole run of it.

    Raises:
        ValueError: one sentence, for rows that lack a task or mix several runs.
    """
    head = "| task | metric | fused | better single backbone | fused against it | best row | looks at nothing | n |"
    lines, told, counted, verdicts = [head, "|" + "---|" * 8], [], [], []
    for line in HEADLINES:
        rows = [row for row in by_notebook[line.notebook] if row.split == line.split and row.gallery == line.gallery]
        kept = [row for row in rows if row.metric == line.metric and row.definition.endswith(line.rule)]
        table = results.table(kept, line.gallery, line.metric, line.rule)
        if not {"fused", *SINGLE, line.trivial} <= table.keys():
            raise ValueError(f"{line.notebook}.json lacks rows of {line.metric}: put those of a whole run back.")
        single = best_single(table)
        verdicts.append(results.verdict(table, results.differences(rows, line.gallery, line.metric), single))
        others = [f"{name}: {_cell(table[name])}" for name in (single, next(iter(table)), line.trivial)]
        cells = [line.metric, _cell(table["fused"]), others[0], verdicts[-1], *others[1:], _only(kept, "n")]
        lines.append(f"| [{line.task}](notebooks/{line.notebook}.ipynb) | {' | '.join(cells)} |")
        conditions = _plural(len({row.seed for row in kept}), "seed"), _plural(_only(kept, "epochs"), "epoch")
        told.append(f"- {line.task}: {_only(kept, 'definition')}; {', '.join(conditions)}")
        counted += kept
    summary = ", ".join(f"{verdict} in {verdicts.count(verdict)}" for verdict in results.VERDICTS)
    weights, dataset = (_only(counted, field) for field in ("weights_sha256", "dataset"))
    return "\n".join([
        *lines, f"\nFused against the better single backbone: {summary} of {len(HEADLINES)}.\n", *told,
        f"\nMean ± sample standard deviation over seeds; dataset `{dataset}`, weights sha256 `{weights[:12]}`.",
    ])  # fmt: skip


def _plural(number: int | str, word: str) -> str:
    return f"{number} {word}{'s' * (str(number) != '1')}"


def block(by_notebook: Mapping[str, Iterable[results.Row]]) -> str:
    """Everything between the marks: the four tasks, then segmentation in full. Arguments as in `tasks_block`."""
    return f"{tasks_block(by_notebook)}\n\n{FULL}\n\n{results_block(by_notebook['04_segmentation'])}"


def results_block(rows: Iterable[results.Row]) -> str:
    """The measured table as markdown, with what a reader must know to judge it.

    Args:
        rows: of one run of the segmentation notebook, all seeds and methods; those of other metrics, of the CRF and of
            the paper's threshold are passed over.

    Raises:
        ValueError: one sentence, for rows that lack a gallery, come from several runs, or repeat one another.
    """
    kept = [r for r in rows if r.metric == METRIC and r.definition.endswith(CHOSEN) and r.gallery in GALLERIES]
    _check(kept)
    tables = {gallery: results.table(kept, gallery, METRIC, CHOSEN) for gallery in GALLERIES}
    lines = ["| method | seen categories | unseen categories | n (seen / unseen) |", "|---|---|---|---|"]
    for method in dict.fromkeys(method for table in tables.values() for method in table):
        cells = [_cell(tables[gallery].get(method)) for gallery in GALLERIES]
        counts = " / ".join(_only(kept, "n", gallery, method) for gallery in GALLERIES)
        lines.append(f"| {method} | {' | '.join(cells)} | {counts} |")
    return "\n\n".join(filter(None, ["\n".join(lines), _differences(tables), _conditions(kept)]))


def _check(rows: list[results.Row]) -> None:
    """A ValueError unless both galleries are there and every method has each seed once."""
    for gallery in GALLERIES:
        if not any(row.gallery == gallery for row in rows):
            raise ValueError(f'the results have no {METRIC} of {gallery} ("{CHOSEN}"): run the notebook again.')
    seeds: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        seeds.setdefault((row.method, row.gallery), []).append(row.seed)
    if len({tuple(sorted(found)) for found in seeds.values()}) > 1 or any(len(f) > len(set(f)) for f in seeds.values()):
        raise ValueError("the results have not each seed once for every method: keep the rows of one whole run.")


def _cell(entry: tuple[float, float | None] | None) -> str:
    if entry is None:
        return "–"
    mean, spread = entry
    return f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {spread:.3f}"


def _differences(tables: dict[str, dict[str, tuple[float, float | None]]]) -> str:
    """How far the fused features are above or below the three methods everybody asks about."""
    parts = []
    for gallery, table in tables.items():
        gaps = [
            f"{table['fused'][0] - table[other][0]:+.3f} against {other}"
            for other in ("mean mask", "SD only", "CLIP only")
            if "fused" in table and other in table
        ]
        parts += [f"{gallery} {', '.join(gaps)}"] if gaps else []
    return f"Fused features, difference of the means: {'; '.join(parts)}." if parts else ""


def _conditions(rows: list[results.Row]) -> str:
    seeds = sorted({row.seed for row in rows})
    mean = "mean ± sample standard deviation over" if len(seeds) > 1 else "measured with"
    return (
        f"{METRIC} ({_only(rows, 'definition')}); {mean} {_plural(len(seeds), 'seed')} "
        f"({', '.join(map(str, seeds))}); {_plural(_only(rows, 'epochs'), 'epoch')}; "
        f"dataset `{_only(rows, 'dataset')}`, backbone `{_only(rows, 'backbone')}`, "
        f"weights sha256 `{_only(rows, 'weights_sha256')[:12]}`. n counts sketch-photo pairs."
    )


def _only(rows: Iterable[results.Row], field: str, gallery: str = "", method: str = "") -> str:
    """The one value that these rows share in a field; a dash if there is no such row."""
    chosen = [r for r in rows if gallery in ("", r.gallery) and method in ("", r.method)]
    values = sorted({str(getattr(row, field)) for row in chosen})
    if len(values) > 1:
        what = " ".join([field, *filter(None, [method and f"for {method},", gallery])])
        raise ValueError(f"the results mix rows of several runs ({what}: {' and '.join(values)}): keep those of one.")
    return values[0] if values else "–"


def with_block(text: str, block: str) -> str:
    """The README's text with `block` between its two results marks.

    Raises:
        ValueError: one sentence, if either mark is missing, stands twice or they are the wrong way round.
    """
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise ValueError(f"README.md must hold {START} and after it {END}, once each: put these two lines back.")
    before, after = text.split(START)[0], text.split(END)[1]
    return f"{before}{START}\n\n{block}\n\n{END}{after}"


def picture(notebook: Path) -> bytes:
    """The PNG that the notebook's cell tagged `readme` shows.

    Raises:
        FileNotFoundError, ValueError: one sentence, for a notebook that is missing, broken, not executed, or without
            such a cell.
    """
    if not notebook.is_file():
        raise FileNotFoundError(f"there is no notebook {notebook.name} in {notebook.parent.name}/: restore it first.")
    try:
        cells = nbformat.read(notebook, as_version=4).cells
    except (NotJSONError, ValueError, AttributeError) as error:
        raise ValueError(f"{notebook.name} is not a notebook ({type(error).__name__}): restore the file.") from error
    tagged = [cell for cell in cells if TAG in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{notebook.name} has {len(tagged)} cells tagged {TAG}: tag the one that shows the picture.")
    bundles = [output.get("data", {}) for output in tagged[0].get("outputs", [])]
    shown = [data["image/png"] for data in bundles if "image/png" in data]
    if len(shown) != 1:
        raise ValueError(f"the cell of {notebook.name} tagged {TAG} shows {len(shown)} pictures: run make execute.")
    try:
        png = base64.b64decode(shown[0])
        Image.open(io.BytesIO(png), formats=["PNG"]).verify()
    except (binascii.Error, UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(
            f"the picture of {notebook.name} tagged {TAG} is no readable PNG: run make execute."
        ) from error
    return png


def update(root: Path) -> list[Path]:
    """Rewrite the results of `root`/README.md and `root`/data/readme.png; if either cannot be made, neither changes.

    Returns:
        The files that were written.

    Raises:
        FileNotFoundError, ValueError: one sentence, for results, a notebook or a README that are missing or broken.
    """
    readme, image = root / "README.md", root / "data" / "readme.png"
    if not readme.is_file():
        raise FileNotFoundError("there is no README.md: restore it first.")
    rows = {line.notebook: results.read(root / "data" / "results" / f"{line.notebook}.json") for line in HEADLINES}
    contents = {
        image: picture(root / "notebooks" / "04_segmentation.ipynb"),
        readme: with_block(readme.read_text(encoding="utf-8"), block(rows)).encode(),
    }
    for path, content in contents.items():
        replace_file(path, content)
    return list(contents)


def main(root: Path = params.ROOT) -> int:
    """Update the README and say so; the exit status is 1, with one sentence, if something it needs is missing."""
    try:
        written = update(root)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(path.relative_to(root).as_posix() for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
