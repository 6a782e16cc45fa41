"""Writes into README.md what was measured, so that no number there is ever typed by hand, and its picture.

    python -m tools.readme

The results come from `data/results`, the picture (`data/readme.png`) from the executed notebook 04: it is the image of
the cell tagged `readme`.
"""

import base64
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat

from sfhelpers import params, results
from sfhelpers.files import replace_file
from sfhelpers.metrics import AP, Acc
from sfhelpers.tasks import recognition as shots
from sfhelpers.tasks.arms import SINGLE
from sfhelpers.tasks.correspondence import DEFINITION
from sfhelpers.tasks.segmentation import CHOSEN

START, END = "<!-- results:start -->", "<!-- results:end -->"
GALLERIES = ("seen categories", "unseen categories")
TAG = "readme"
FULL = "### Segmentation in full"
CONTROLS = ("right sketch", "wrong sketch", "not there")  # segmentation's metrics of what the sketch decides


@dataclass(frozen=True)
class Headline:
    """Which rows of a notebook's results stand for a task; `trivial` is the method that looks at nothing."""

    task: str
    notebook: str
    metric: str
    gallery: str
    rule: str
    trivial: str
    split: str = "default"

    def of(self, rows: Iterable[results.Row], gallery: str = "") -> list[results.Row]:
        """Those of the rows that count, of this gallery or another."""
        wanted = self.split, gallery or self.gallery, self.metric
        rows = [row for row in rows if row.definition.endswith(self.rule)]
        return [row for row in rows if (row.split, row.gallery, row.metric) == wanted]


SEGMENTATION = Headline("segmentation", "04_segmentation", "foreground IoU", GALLERIES[0], CHOSEN, "mean mask")
HEADLINES = (
    Headline("correspondence", "03_correspondence", "PCK@5", GALLERIES[0], DEFINITION, "same pixel"),
    SEGMENTATION,
    Headline("retrieval of unseen categories", "05_retrieval", "mAP@all", "all", AP().definition, "chance", "strict"),
    Headline("retrieval of the very photo", "05_retrieval", "Acc@1", "all", Acc(1).definition, "chance", "strict"),
    Headline("recognition", "06_recognition", "Acc@1", shots.GALLERY, shots.rule(10), "class prior"),
)


def block(by_notebook: Mapping[str, Iterable[results.Row]]) -> str:
    """Everything between the marks, of notebook -> the rows of one whole run of it: the four tasks, then segmentation.

    ValueError: rows that lack a task or a gallery, mix several runs, or repeat one another.
    """
    return f"{tasks_block(by_notebook)}\n\n{FULL}\n\n{segmentation_block(by_notebook['04_segmentation'])}"


def tasks_block(by_notebook: Mapping[str, Iterable[results.Row]]) -> str:
    """The tasks as a table: fused, the better single backbone, the best row, what looks at nothing; as `block`."""
    head = "| task | metric | fused | better single backbone | fused against it | best row | looks at nothing | n |"
    lines, told, counted, verdicts = [head, "|" + "---|" * 8], [], [], []
    for line in HEADLINES:
        rows = [row for row in by_notebook[line.notebook] if row.split == line.split]
        kept = line.of(rows)
        table = results.table(kept, line.gallery, line.metric)
        if not {"fused", *SINGLE, line.trivial} <= table.keys():
            raise ValueError(f"{line.notebook}.json lacks rows of {line.metric}: put those of a whole run back.")
        single = max(SINGLE, key=lambda method: table[method][0])
        verdicts.append(results.verdicts(rows, line.gallery, line.metric)[single])
        others = [f"{name}: {_cell(table[name])}" for name in (single, next(iter(table)), line.trivial)]
        cells = [line.metric, _cell(table["fused"]), others[0], verdicts[-1], *others[1:], _only(kept, "n")]
        lines.append(f"| [{line.task}](notebooks/{line.notebook}.ipynb) | {' | '.join(cells)} |")
        seeds, steps = len({row.seed for row in kept}), [row.steps for row in kept if row.steps]
        conditions = f"{seeds} seed{'s' * (seeds > 1)}, {min(steps):,} to {max(steps):,} steps"
        told.append(f"- {line.task}: {_only(kept, 'definition')}; {conditions}")
        counted += kept
    summary = ", ".join(f"{verdict} in {verdicts.count(verdict)}" for verdict in results.VERDICTS)
    weights, dataset = (_only(counted, field) for field in ("weights_sha256", "dataset"))
    return "\n".join([
        *lines, f"\nFused against the better single backbone: {summary} of {len(HEADLINES)}.\n", *told,
        f"\nMean ± sample standard deviation over seeds; dataset `{dataset}`, weights sha256 `{weights[:12]}`.",
    ])  # fmt: skip


def segmentation_block(rows: Iterable[results.Row]) -> str:
    """All methods of segmentation in both galleries, measured as in the table of all tasks; errors as `block`."""
    kept = {gallery: SEGMENTATION.of(rows, gallery) for gallery in GALLERIES}
    for gallery, found in kept.items():
        if not found:
            raise ValueError(f'the results have no foreground IoU of {gallery} ("{CHOSEN}"): run the notebook again.')
    every = [row for found in kept.values() for row in found]
    runs = Counter((row.method, row.gallery) for row in every)
    if len({(row.method, row.gallery, row.seed) for row in every}) < len(every) or len(set(runs.values())) > 1:
        raise ValueError("the results have not each seed once for every method: keep the rows of one whole run.")
    for field in ("weights_sha256", "epochs", "dataset"):
        _only(every, field)
    tables = {gallery: results.table(found, gallery, SEGMENTATION.metric) for gallery, found in kept.items()}
    asked = [results.table(rows, GALLERIES[0], metric, CHOSEN) for metric in CONTROLS]
    heads = ["method", *GALLERIES, *CONTROLS, "n (seen / unseen)"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for method in dict.fromkeys(method for table in tables.values() for method in table):
        cells = [_cell(tables[gallery].get(method)) for gallery in GALLERIES]
        cells += [_cell(found.get(method)) for found in asked]
        counts = " / ".join(_only(kept[gallery], "n", method) for gallery in GALLERIES)
        lines.append(f"| {method} | {' | '.join(cells)} | {counts} |")
    told = "n counts questions for what is in a photo, *right* to *not there* are of seen categories"
    return "\n".join([*lines, f"\n{told}; all else as said above of segmentation and in its notebook."])


def _cell(entry: tuple[float, float | None] | None) -> str:
    if entry is None:
        return "–"
    mean, spread = entry
    return f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {spread:.3f}"


def _only(rows: list[results.Row], field: str, method: str = "") -> str:
    """The one value that these rows share in a field; a dash if there is no such row."""
    values = sorted({str(getattr(row, field)) for row in rows if method in ("", row.method)})
    if len(values) > 1:
        what = f"{field} for {method}, {rows[0].gallery}" if method else field
        raise ValueError(f"the results mix rows of several runs ({what}: {' and '.join(values)}): keep those of one.")
    return values[0] if values else "–"


def with_block(text: str, block: str) -> str:
    """The README's text with `block` between its two results marks; ValueError unless each is there once, in order."""
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise ValueError(f"README.md must hold {START} and after it {END}, once each: put these two lines back.")
    before, after = text.split(START)[0], text.split(END)[1]
    return f"{before}{START}\n\n{block}\n\n{END}{after}"


def picture(notebook: Path) -> bytes:
    """The PNG that the notebook's cell tagged `readme` shows; ValueError unless there is one such cell and picture."""
    tagged = [cell for cell in nbformat.read(notebook, as_version=4).cells if TAG in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{notebook.name} has {len(tagged)} cells tagged {TAG}: tag the one that shows the picture.")
    shown = [output.data["image/png"] for output in tagged[0].outputs if "image/png" in output.get("data", {})]
    if len(shown) != 1:
        raise ValueError(f"the cell of {notebook.name} tagged {TAG} shows {len(shown)} pictures: run make execute.")
    return base64.b64decode(shown[0])


def update(root: Path) -> list[Path]:
    """Rewrite the results of `root`/README.md and `root`/data/readme.png; if either cannot be made, neither changes."""
    readme, image = root / "README.md", root / "data" / "readme.png"
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
