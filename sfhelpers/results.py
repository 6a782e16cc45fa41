"""Result rows, the list in a `results.json`: no value stands without its method, data, seed, weights and definition,
since metric definitions differ between papers by more than methods do."""

import json
import math
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from sfhelpers.files import read_file, replace_file

PACKAGES = ("torch", "diffusers", "open_clip_torch", "transformers", "timm", "numpy", "sfhelpers")
COMMITTED = Path(__file__).resolve().parents[1] / "data" / "results"  # of long runs, one file a notebook
ENDS = ("mean", "2.5 %", "97.5 %")  # of a paired test's interval
VERDICTS = BETTER, NOT_TOLD, WORSE = "better", "not told apart", "worse"
ORDER = ("notebook", "task", "dataset", "split", "gallery", "metric", "definition", "method", "backbone", "seed")


@cache  # they are read from disk, and a task writes hundreds of rows
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a number."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


@dataclass(frozen=True)
class Row:
    """One measured value; ValueError for a number that is not finite, n below 1, or a required text that is empty."""

    notebook: str  # file name without its ending, e.g. "04_segmentation"
    task: str
    method: str  # e.g. "fused", "SD only", "mean mask"
    backbone: str  # preset or folder name; "" only where none is used, as for its weights
    weights_sha256: str
    dataset: str
    split: str
    gallery: str  # e.g. "seen categories"
    metric: str
    definition: str  # in words, how the metric is computed
    value: float  # in the metric's own unit
    n: int  # items (pairs, queries, photos) that the value is a mean over
    seed: int
    epochs: int
    seconds: float  # wall clock; the one field that differs between two runs with the same seed
    device: str
    spread: float | None  # sample standard deviation, where `value` is a mean over seeds
    versions: dict[str, str]

    def __post_init__(self) -> None:
        name, numbers = f"the row {self.method!r}, {self.metric!r}", (self.value, self.spread or 0, self.seconds)
        for key in ("notebook", "task", "method", "dataset", "metric", "definition"):
            if not getattr(self, key):
                raise ValueError(f"{name} has no {key}: a value without it is not a result.")
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"{name} has {numbers} as value, spread and seconds: only finite ones can be written.")
        if self.n < 1:
            raise ValueError(f"{name} has n = {self.n}: a value is a mean over at least one item.")


def row(run: Any, **values: Any) -> Row:
    """A row with what is not given filled in from the run, as `params.check` returned it.

    The values must hold task, method, metric, definition, value, n and weights_sha256; they may hold gallery, seconds,
    spread, and what differs from the run's, e.g. `seed=2`, `epochs=0`. Tensors and numpy scalars are numbers too.
    """
    wanted = ("notebook", "backbone", "dataset", "split", "seed", "device")
    given = {key: getattr(run, key) for key in wanted if key not in values} | {"epochs": getattr(run, "epochs", 0)}
    given |= {"gallery": "", "seconds": 0.0, "spread": None, "versions": versions()} | values
    given |= {key: float(given[key]) for key in ("value", "spread") if given[key] is not None}
    return Row(**given | {"n": int(given["n"]), "seconds": round(float(given["seconds"]), 1)})


def write(rows: Iterable[Row], path: str | Path) -> None:
    """Write rows as a JSON list, in an order that does not depend on theirs; whole, or the earlier file stays."""
    path = Path(path)
    records = sorted(map(asdict, rows), key=lambda record: [str(record[key]) for key in ORDER])
    text = json.dumps(records, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode("utf-8"))


def read(path: str | Path) -> list[Row]:
    """Read what `write` wrote; FileNotFoundError without the file, ValueError if something else is in it."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no results at {path}: run the notebook that writes them first.")
    try:
        records = json.loads(read_file(path))
        if not isinstance(records, list):
            raise TypeError("no list")
        return [Row(**record) for record in records]
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error).rstrip(".")
        raise ValueError(f"{path} holds no result rows ({reason}): delete it and run its notebook again.") from error


def committed(notebook: str) -> list[Row]:
    """The rows of a notebook's long run that ship with the collection, e.g. of "04_segmentation"."""
    return read(COMMITTED / f"{notebook}.json")


def table(rows: Iterable[Row], gallery: str, metric: str, rule: str = "") -> dict[str, tuple[float, float | None]]:
    """Method -> (mean over seeds, sample standard deviation over seeds or None for one seed), best first, of rows whose
    definition ends with the rule, which says for instance how masks were cut."""
    by_method: dict[str, list[float]] = {}
    for row in rows:
        if row.gallery == gallery and row.metric == metric and row.definition.endswith(rule):
            by_method.setdefault(row.method, []).append(row.value)
    found = {name: (fmean(values), stdev(values) if values[1:] else None) for name, values in by_method.items()}
    return dict(sorted(found.items(), key=lambda entry: -entry[1][0]))


def differences(found: Iterable[Row], gallery: str, metric: str) -> dict[str, tuple[float, ...]]:
    """Method -> (mean, low, high) of "fused" minus that method, from the rows of a paired test."""
    ends: dict[str, dict[str, float]] = {}
    for row in found:
        if row.gallery == gallery and row.metric == f"{metric}: fused - other":
            ends.setdefault(row.method, {})[row.definition.rpartition("; ")[2]] = row.value
    return {method: tuple(values[end] for end in ENDS) for method, values in ends.items()}


def verdict(table: Mapping[str, tuple[float, float | None]], found: Mapping[str, tuple[float, ...]], other: str) -> str:
    """One of VERDICTS: whether "fused" is ahead of `other`, behind it, or neither, from `table` and `differences`.

    Ahead or behind asks two things: a distance of more than both spreads over seeds together, since another training
    should say so too, and an interval that leaves out zero, since other queries should.
    """
    _, low, high = found[other]
    lead = table["fused"][0] - table[other][0]
    if abs(lead) <= (table["fused"][1] or 0) + (table[other][1] or 0) or low <= 0 <= high:
        return NOT_TOLD
    return BETTER if lead > 0 else WORSE
