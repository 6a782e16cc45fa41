"""Result rows, the list in a `results.json`: no value stands without its method, data, seed, weights and definition."""

import json
import math
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from sfhelpers.files import read_file, replace_file, shown

PACKAGES = ("torch", "diffusers", "open_clip_torch", "transformers", "timm", "numpy", "sfhelpers")
COMMITTED = Path(__file__).resolve().parents[1] / "data" / "results"  # of long runs, one file a notebook
VERDICTS = BETTER, NOT_TOLD, WORSE, NOT_ENDED = "better", "not told apart", "worse", "not trained to the end"
PLATEAU, CAP = "plateau", "cap"  # how a training ended: its validation no longer rose; or at its last epoch, rising
TRAINED = ("learning_rate", "steps", "best_epoch")  # of a training, in the order of their columns
LEVEL = 0.05  # from which a corrected p tells nothing apart
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
    epochs: int  # at most
    steps: int  # optimiser steps that were taken; this and the next three are neutral where nothing was trained
    best_epoch: int  # by validation, of which the weights are; 0 is before training
    learning_rate: float  # of the first step
    ended: str  # PLATEAU or CAP; of a paired test CAP if any of its trainings did
    seconds: float  # wall clock; the one field that differs between two runs with the same seed
    device: str
    spread: float | None  # sample standard deviation, where `value` is a mean over seeds
    versions: dict[str, str]

    def __post_init__(self) -> None:
        name, numbers = f"the row {self.method!r}, {self.metric!r}", (self.value, self.spread or 0, self.seconds)
        if self.ended not in ("", PLATEAU, CAP):
            raise ValueError(f"{name} ended by {self.ended!r}: say {PLATEAU}, {CAP}, or nothing.")
        for key in ("notebook", "task", "method", "dataset", "metric", "definition"):
            if not getattr(self, key):
                raise ValueError(f"{name} has no {key}: a value without it is not a result.")
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"{name} has {numbers} as value, spread and seconds: only finite ones can be written.")
        if self.n < 1:
            raise ValueError(f"{name} has n = {self.n}: a value is a mean over at least one item.")


def row(run: Any, **values: Any) -> Row:
    """A row, filled in from the run (of `params.check`); it needs task, method, metric, definition, value, n and
    weights_sha256, and takes what differs from the run's; tensors and numpy scalars are numbers too."""
    wanted = ("notebook", "backbone", "dataset", "split", "seed", "device")
    given = {key: getattr(run, key) for key in wanted if key not in values} | {"epochs": getattr(run, "epochs", 0)}
    given |= {"steps": 0, "best_epoch": 0, "learning_rate": 0.0, "ended": "", "gallery": "", "seconds": 0.0}
    given |= {"spread": None, "versions": versions()} | values
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


def committed(run: Any) -> list[Row]:
    """The rows of a notebook's long run that ship with the collection, of its name, e.g. "04_segmentation", or of a run
    (of `params.check`)."""
    return read(COMMITTED / f"{run if isinstance(run, str) else run.notebook}.json")


def ships(run: Any) -> bool:
    """Whether the committed rows of a run's notebook are of its own backbone and dataset; if not, it says so."""
    own, made = f"{run.backbone} on {run.dataset}", {f"{row.backbone} on {row.dataset}" for row in committed(run)}
    if own not in made:
        print(f"The tables are of this run, with {shown(own)}; the text tells of {' and of '.join(sorted(made))}.")
    return own in made


def table(rows: Iterable[Row], gallery: str, metric: str, rule: str = "") -> dict[str, tuple[float, float | None]]:
    """Method -> (mean, sample standard deviation or None) over seeds, best first; a definition's end is the `rule`."""
    by_method = {name: [row.value for row in found] for name, found in _of(rows, gallery, metric, rule).items()}
    return {name: (fmean(values), stdev(values) if values[1:] else None) for name, values in by_method.items()}


def trainings(rows: Iterable[Row], gallery: str, metric: str, rule: str = "") -> str:
    """How methods were trained, best first, a line each of all its seeds: first rate, steps, best epoch, ends."""
    lines = [f"{'':<28}{'seeds':<7}{'rate':<9}{'steps':<16}{'best epoch':<12}ended"]
    for name, found in _of(rows, gallery, metric, rule).items():
        if ends := [row.ended for row in found if row.ended]:
            rate, steps, best = (_span([getattr(row, k) for row in found]) for k in TRAINED)
            ended = ", ".join(f"{end} {ends.count(end)}" for end in (PLATEAU, CAP) if end in ends)
            lines.append(f"{name:<28}{len(found):<7}{rate:<9}{steps:<16}{best:<12}{ended}")
    return "\n".join(lines)


def _span(values: list[float]) -> str:
    low, high = (f"{value:,}" if isinstance(value, int) else f"{value:.3g}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _of(rows: Iterable[Row], gallery: str, metric: str, rule: str) -> dict[str, list[Row]]:
    """Method -> its rows under one definition, a row a seed, best first."""
    by_method: dict[str, list[Row]] = {}
    for row in rows:
        if row.gallery == gallery and row.metric == metric and row.definition.endswith(rule):
            by_method.setdefault(row.method, []).append(row)
    return dict(sorted(by_method.items(), key=lambda entry: -fmean(row.value for row in entry[1])))


def markdown(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, of its heads and the cells of each line."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *lines))


class Difference(NamedTuple):
    """What a paired test says of a task's main method, "fused" where nothing else is said, minus another one."""

    mean: float
    low: float  # both ends of its 95 % interval
    high: float
    p: float  # corrected for the number of methods that are compared with it


ENDS = {"mean": "mean", "2.5 %": "low", "97.5 %": "high", "p": "p"}  # how a test's definitions end


def differences(found: Iterable[Row], gallery: str, metric: str, unit: str = "categories") -> dict[str, Difference]:
    """Method -> what the test over this unit says, from the rows of `compare.differences`."""
    return {method: tests[unit] for method, (tests, _) in _tests(found, gallery, metric).items() if unit in tests}


def verdicts(found: Iterable[Row], gallery: str, metric: str) -> dict[str, str]:
    """Method -> one of VERDICTS: the main one ahead or behind by the tests over both units, else by how they ended."""
    told = {}
    for method, (tests, ended) in _tests(found, gallery, metric).items():
        if len(tests) > 1 and all(test.p < LEVEL for test in tests.values()):
            told[method] = BETTER if all(test.mean > 0 for test in tests.values()) else WORSE
        else:
            told[method] = NOT_TOLD if ended == PLATEAU else NOT_ENDED
    return told


def _tests(found: Iterable[Row], gallery: str, metric: str) -> dict[str, tuple[dict[str, Difference], str]]:
    """Method -> unit -> its test, and how the trainings ended."""
    values: dict[str, dict[str, dict[str, float]]] = {}
    ended: dict[str, str] = {}
    for row in found:
        if row.gallery == gallery and row.metric.startswith(f"{metric}: ") and row.metric.endswith(" - other"):
            start, _, end = row.definition.rpartition("; ")
            unit = start.partition("paired bootstrap over ")[2].partition(":")[0]
            values.setdefault(row.method, {}).setdefault(unit, {})[ENDS[end]] = row.value
            ended[row.method] = row.ended
    return {m: ({unit: Difference(**ends) for unit, ends in t.items()}, ended[m]) for m, t in values.items()}
