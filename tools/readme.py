"""Writes into README.md what was measured, so that no number there is ever typed by hand, and its picture.

    python -m tools.readme

The results come from `data/results`, the picture (`data/readme.png`) from the executed notebook 04: it is the image of
the cell tagged `readme`.
"""

import base64
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import nbformat

from sfhelpers import params, results
from sfhelpers.files import read_file, replace_file
from sfhelpers.metrics import AP, Acc
from sfhelpers.pocket import contract
from sfhelpers.tasks import recognition as shots
from sfhelpers.tasks.arms import CORE, SINGLE, ZEROED_UNET
from sfhelpers.tasks.correspondence import DEFINITION
from sfhelpers.tasks.segmentation import CHOSEN

START, END = "<!-- results:start -->", "<!-- results:end -->"
GALLERIES = ("seen categories", "unseen categories")
POCKET = "90_train_pocket"
AGAINST = ("the better single backbone", ZEROED_UNET)
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
    Headline("correspondence", "03_correspondence", "PCK@10", GALLERIES[0], DEFINITION, "same pixel"),
    SEGMENTATION,
    Headline("retrieval of unseen categories", "05_retrieval", "mAP@all", "all", AP().definition, "chance", "strict"),
    Headline("retrieval of the very photo", "05_retrieval", "Acc@1", "all", Acc(1).definition, "chance", "strict"),
    Headline("recognition", "06_recognition", "Acc@1", shots.GALLERY, shots.rule(10), "class prior"),
)


def block(by_notebook: Mapping[str, Iterable[results.Row]], bench: Mapping[str, dict]) -> str:
    """Everything between the marks, of notebook -> the rows of one whole run of it, and of what the bench measured.

    ValueError: rows that lack a task, a gallery or a pair of models, mix several runs, or repeat one another.
    """
    segmentation, pocket = segmentation_block(by_notebook["04_segmentation"]), contract.markdown(by_notebook[POCKET])
    heads = "### Segmentation in full", "### The contract of the miniature", "### What a training step takes"
    own = tasks_block(by_notebook), heads[0], segmentation, heads[1], pocket, heads[2], costs_block(bench)
    return "\n\n".join(own)


def tasks_block(by_notebook: Mapping[str, Iterable[results.Row]]) -> str:
    """The tasks as a table: fused, the verdicts against AGAINST, the best row, what looks at nothing; as `block`."""
    lines, told, counted, verdicts = [], [], [], {}
    for line in HEADLINES:
        rows = [row for row in by_notebook[line.notebook] if row.split == line.split]
        kept = line.of(rows)
        table = results.table(kept, line.gallery, line.metric)
        said = results.verdicts(rows, line.gallery, line.metric)
        if {*CORE, line.trivial} - table.keys() or {*SINGLE, ZEROED_UNET} - said.keys():
            raise ValueError(f"{line.notebook}.json lacks rows of {line.metric}: put those of a whole run back.")
        single = max(SINGLE, key=lambda method: table[method][0])
        names = {single: single, ZEROED_UNET: "zeroed"}
        beside = [f"**{said[method]}**<br>{name}: {_cell(table[method])}" for method, name in names.items()]
        ends = [f"{method}: {_cell(table[method])}" for method in (next(iter(table)), line.trivial)]
        task = f"[{line.task}](notebooks/{line.notebook}.ipynb)"
        lines.append([task, line.metric, _cell(table["fused"]), *beside, *ends, _only(kept, "n")])
        verdicts.setdefault(line.task, [said[method] for method in names])  # a task counts once, by its first metric
        seeds, steps = len({row.seed for row in kept}), [row.steps for row in kept if row.steps]
        conditions = f"{seeds} seed{'s' * (seeds > 1)}, {min(steps):,} to {max(steps):,} steps"
        told.append(f"- {line.task}: {_only(kept, 'definition')}; {conditions}, {_only(kept, 'epochs')} epochs at most")
        counted += kept
    heads = ["task", "metric", "fused", *(f"fused against {name}" for name in AGAINST), "best row", "looks at nothing"]
    counts = []
    for name, found in zip(AGAINST, zip(*verdicts.values(), strict=True), strict=True):
        summary = ", ".join(f"{verdict} in {found.count(verdict)}" for verdict in results.VERDICTS)
        counts.append(f"- Fused against {name}: {summary} of {len(found)} (correspondence by PCK@5).")
    weights, dataset = (_only(counted, field) for field in ("weights_sha256", "dataset"))
    return "\n".join([
        results.markdown([*heads, "n"], lines), "", *counts, "", *dict.fromkeys(told),
        f"\nMean ± sample standard deviation over seeds; dataset `{dataset}`, weights sha256 `{weights[:12]}`.",
    ])  # fmt: skip


def segmentation_block(rows: Iterable[results.Row]) -> str:
    """All methods of segmentation in both galleries, measured as in the table of all tasks; errors as `block`."""
    kept = {gallery: SEGMENTATION.of(rows, gallery) for gallery in GALLERIES}
    every = [row for found in kept.values() for row in found]
    methods, seeds = ({getattr(row, field) for row in every} for field in ("method", "seed"))
    once = Counter(product(methods, GALLERIES, seeds))
    if not every or Counter((row.method, row.gallery, row.seed) for row in every) != once:
        raise ValueError("the results have not each seed once for every method and gallery: keep those of a whole run.")
    for field in ("weights_sha256", "epochs", "dataset"):
        _only(every, field)
    tables = [results.table(found, gallery, SEGMENTATION.metric) for gallery, found in kept.items()]
    tables += [results.table(rows, GALLERIES[0], metric, CHOSEN) for metric in CONTROLS]
    heads = ["method", *(f"{gallery} (n = {_only(found, 'n')})" for gallery, found in kept.items()), *CONTROLS]
    table = results.markdown(heads, [[name, *(_cell(found.get(name)) for found in tables)] for name in tables[0]])
    told = "n counts questions for what is in a photo, *right* to *not there* are of seen categories"
    return f"{table}\n\n{told}; all else as said above of segmentation and in its notebook."


def costs_block(bench: Mapping[str, dict]) -> str:
    """CPU seconds of steps and passes, a column a backbone, and how many times those of another way they are."""
    parts = {name.removeprefix("steps, "): part["rows"] for name, part in bench.items() if name.startswith("steps, ")}
    taken = {name: {row["what"]: row for row in rows if "seconds" in row} for name, rows in parts.items()}
    heads = [f"{name}, {next(iter(rows.values()))['px']} px" for name, rows in taken.items()]
    lines = [f"| | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for what in dict.fromkeys(what for rows in taken.values() for what in rows):
        cells = [_taken(rows[what]) if what in rows else "–" for rows in taken.values()]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _taken(row: Mapping[str, Any]) -> str:
    said = f"{row['seconds']:.3g} s, {row['images']} image{'s' * (row['images'] != 1)}"
    if row["what"] == row["to"]:
        return said
    low, high = row["ratios"]
    return f"{said}: {row['ratio']:.3g} ({low:.3g} to {high:.3g}) times *{row['to']}*"


def _cell(entry: tuple[float, float | None] | None) -> str:
    if entry is None:
        return "–"
    mean, spread = entry
    return f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {spread:.3f}"


def _only(rows: list[results.Row], field: str) -> str:
    """The one value that these rows share in a field."""
    first, *others = sorted({str(getattr(row, field)) for row in rows})
    if others:
        told = f"{field}: {' and '.join([first, *others])}"
        raise ValueError(f"the results mix rows of several runs ({told}): keep those of one.")
    return first


def with_block(text: str, block: str) -> str:
    """The README's text with `block` between its two results marks; ValueError unless each is there once, in order."""
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise ValueError(f"README.md must hold {START} and after it {END}, once each: put these two lines back.")
    return f"{text.split(START)[0]}{START}\n\n{block}\n\n{END}{text.split(END)[1]}"


def picture(notebook: Path) -> bytes:
    """The one PNG that the notebook's cells tagged `readme` show; ValueError unless there is one."""
    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if "readme" in cell.metadata.get("tags", [])]
    shown = [each.data["image/png"] for cell in cells for each in cell.outputs if "image/png" in each.get("data", {})]
    if len(shown) != 1:
        raise ValueError(f"{notebook.name} has {len(shown)} pictures tagged readme: tag one, or run make execute.")
    return base64.b64decode(shown[0])


def update(root: Path) -> list[Path]:
    """Rewrite the results of `root`/README.md and `root`/data/readme.png; if either cannot be made, neither changes."""
    readme, image = root / "README.md", root / "data" / "readme.png"
    names = {POCKET, *(line.notebook for line in HEADLINES)}
    rows = {name: results.read(root / "data" / "results" / f"{name}.json") for name in names}
    bench = json.loads(read_file(root / "data" / "results" / "bench.json"))
    contents = {
        image: picture(root / "notebooks" / "04_segmentation.ipynb"),
        readme: with_block(readme.read_text(encoding="utf-8"), block(rows, bench)).encode(),
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
