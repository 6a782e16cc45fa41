"""Is one arm better than another? The paired test of every task's table, as result rows and as a sentence."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sfhelpers import results
from sfhelpers.metrics import paired_bootstrap
from sfhelpers.tasks.before import SINGLE, Task, Trial

TEST = "paired bootstrap over {what}, each method's values averaged over its seeds ({seeds}) first, 10,000 resamples"
ENDS = ("mean", "2.5 %", "97.5 %")
VERDICTS = BETTER, NOT_TOLD, WORSE = "better", "not told apart", "worse"


def against_all(
    run: Any,
    values: Mapping[str, Sequence[np.ndarray]],
    groups: Any,
    what: str,
    others: Iterable[str] | None = None,
    first: str = "fused",
    **row: Any,
) -> list[results.Row]:
    """Rows of `first` minus every other method, a mean and both ends of its 95 % interval each.

    Args:
        run: from `params.check`.
        values: method -> one (n,) array of values a seed, the queries in the same order everywhere.
        groups: (n,) labels of the queries that are resampled together, e.g. the photo a sketch was drawn from.
        what: the groups in words, e.g. "photos".
        others: the methods to compare with; None takes all.
        row: task, metric, gallery, weights_sha256 and what else `results.row` takes.
    """
    mine = np.mean(values[first], axis=0)
    metric = row.pop("metric")
    found = []
    for method in values if others is None else others:
        if method == first or method not in values:
            continue
        seeds = f"{first} {len(values[first])}, {method} {len(values[method])}"
        test = TEST.format(what=what, seeds=seeds)
        difference = paired_bootstrap(mine, np.mean(values[method], axis=0), groups)
        for end, value in zip(ENDS, (difference.mean, difference.low, difference.high), strict=True):
            name = f"{metric}: {first} - other"
            found.append(
                results.row(run, method=method, metric=name, definition=f"{test}; {end}", value=value,
                            n=difference.n, **row)
            )  # fmt: skip
    return found


def of_trials(
    run: Any, task: Task, trials: Iterable[Trial], parts: Any, what: str, first: str = "fused", **row: Any
) -> list[results.Row]:
    """`against_all` for every gallery of a task, from its trials.

    Args:
        trials: from the task's `compare`; all seeds of all methods.
        parts: as `compare` gave them.
        what, first, row: as in `against_all`, without metric and gallery.
    """
    values: dict[str, dict[str, list[np.ndarray]]] = {}
    for trial in trials:
        for gallery, found in task.values(trial, parts).items():
            values.setdefault(gallery, {}).setdefault(trial.method, []).append(found)
    groups = task.groups(parts)
    return [
        line
        for gallery, by_method in values.items()
        for line in against_all(
            run, by_method, groups[gallery], what, first=first, task=task.name, metric=task.metric, gallery=gallery,
            **row,
        )
    ]  # fmt: skip


def read(rows: Iterable[results.Row], gallery: str, metric: str, first: str = "fused") -> dict[str, tuple]:
    """Method -> (mean, low, high) of `first` minus that method, from the rows of `against_all`."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.gallery == gallery and row.metric == f"{metric}: {first} - other":
            found.setdefault(row.method, {})[row.definition.rpartition("; ")[2]] = row.value
    return {method: tuple(ends[end] for end in ENDS) for method, ends in found.items()}


def best_single(table: Mapping[str, tuple[float, float | None]]) -> str:
    """The better of the single backbones in a `results.table`."""
    return max((method for method in SINGLE if method in table), key=lambda method: table[method][0])


def verdict(
    table: Mapping[str, tuple[float, float | None]], found: Mapping[str, tuple], other: str, first: str = "fused"
) -> str:
    """ "better", "worse" or "not told apart": whether `first` is ahead of `other`, behind it, or neither.

    Ahead or behind asks two things: a distance of more than both spreads over seeds together, since another training
    should say so too, and an interval that leaves out zero, since other queries should.

    Args:
        table: from `results.table`.
        found: from `read`.
    """
    _, low, high = found[other]
    lead = table[first][0] - table[other][0]
    if abs(lead) <= (table[first][1] or 0) + (table[other][1] or 0) or low <= 0 <= high:
        return NOT_TOLD
    return BETTER if lead > 0 else WORSE


def beats(
    table: Mapping[str, tuple[float, float | None]], found: Mapping[str, tuple], other: str, first: str = "fused"
) -> bool:
    """Whether the `verdict` is "better"."""
    return verdict(table, found, other, first) == BETTER


def sentence(
    table: Mapping[str, tuple[float, float | None]], found: Mapping[str, tuple], other: str, first: str = "fused"
) -> str:
    """`fused - CLIP only: +.034 [.021, .047], spreads .004 and .004: better`."""
    mean, low, high = found[other]
    spreads = " and ".join(f"{table[name][1] or 0:.3f}" for name in (first, other))
    said = verdict(table, found, other, first)
    return f"{first} - {other}: {mean:+.3f} [{low:+.3f}, {high:+.3f}], spreads {spreads}: {said}"
