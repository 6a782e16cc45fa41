"""What the ablations are told as: result rows, the table of all variants, the paper's claims judged, branch weights."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from sfhelpers import plots, results
from sfhelpers.tasks.ablations import FULL, VARIANTS
from sfhelpers.tasks.ablations_kept import Outcome
from sfhelpers.tasks.before import Task

COMMITTED = Path(__file__).resolve().parents[2] / "data" / "results" / "07_ablations.json"
# Of each task the gallery that its claim is about; a task that lacks it is told by its first one.
MAIN = {"retrieval": "unseen categories"}
USUAL = "seen categories"
PARAMETERS, WEIGHT, WITHOUT = "learned parameters", "branch weight ", " without "
GROUPS = {
    "parts": "the paper's Table 6",
    "injection": "where and how CLIP enters",
    "details": "details",
    "draws": "noise draws",
    "timestep": "timestep (full: 195)",
    "encoder": "another image encoder",
}
LONGER = ", trained longer"  # behind the name of a variant that was trained with more epochs than the others
RULE = "bold: differs from full by more than both spreads together"


@dataclass(frozen=True)
class Measured:
    """A variant on a task.

    Attributes:
        value, spread: mean over seeds and their sample standard deviation, None for one seed.
        n, seeds: queries, and how many seeds.
        seconds: of one training and its test, the median over seeds; `preparing` what is frozen, once for all.
        parameters: how many it learned.
    """

    value: float
    spread: float | None
    n: int
    seeds: int
    seconds: float
    preparing: float
    parameters: int


def rows(
    run: Any, task: Task, outcomes: Iterable[Outcome], dataset: str, split: str, suffix: str = ""
) -> list[results.Row]:
    """Rows of one task: the metric a variant, seed and gallery, parameters, branch weights, silenced branches.

    Args:
        run: from `params.check`.
        suffix: behind the variants' names, LONGER or nothing.
    """
    found = []
    for outcome in outcomes:
        about = {"task": task.name, "method": outcome.variant + suffix, "seed": outcome.seed, "dataset": dataset}
        about |= {"split": split, "weights_sha256": outcome.weights_sha256}
        found.append(
            results.row(
                run, metric=PARAMETERS, value=outcome.parameters, n=1, seconds=outcome.preparing, **about,
                definition="that got gradients; `seconds` is what preparing the frozen tensors took, shared by seeds",
            )
        )  # fmt: skip
        found += [
            results.row(run, metric=WEIGHT + name, value=weight, n=1, definition="softmax over branches", **about)
            for name, weight in outcome.weights.items()
        ]
        for gallery, value in outcome.values.items():
            here = about | {"gallery": gallery, "n": outcome.n[gallery]}
            found.append(
                results.row(run, metric=task.metric, definition=task.definition, value=value,
                            seconds=outcome.seconds, **here)
            )  # fmt: skip
            found += [
                results.row(run, metric=task.metric + WITHOUT + name, value=silenced[gallery], **here,
                            definition=f"{task.definition}; the trained model with this branch's output set to zero")
                for name, silenced in outcome.without.items()
            ]  # fmt: skip
    return found


def metrics(told: Iterable[results.Row]) -> dict[str, str]:
    """Task -> the name of its metric, in the rows' order of tasks."""
    aside = (PARAMETERS, WEIGHT, WITHOUT)
    return {row.task: row.metric for row in told if not any(word in row.metric for word in aside)}


def main_gallery(told: Iterable[results.Row], task: str) -> str:
    """The gallery that the task is told by."""
    known = sorted({row.gallery for row in told if row.task == task and row.gallery})
    wanted = MAIN.get(task, USUAL)
    return wanted if wanted in known else known[0]


def measured(told: Iterable[results.Row], task: str, gallery: str = "") -> dict[str, Measured]:
    """Variant -> what was measured on a task, in the order of `ablations.VARIANTS`, others behind."""
    told = [row for row in told if row.task == task]
    metric, gallery = metrics(told)[task], gallery or main_gallery(told, task)
    found = {}
    order = [variant.name for variant in VARIANTS]
    names = dict.fromkeys(row.method for row in told)
    for name in sorted(names, key=lambda n: order.index(n) if n in order else len(order)):
        mine = [row for row in told if row.method == name and (row.metric, row.gallery) == (metric, gallery)]
        sizes = [row for row in told if row.method == name and row.metric == PARAMETERS]
        values = [row.value for row in mine]
        found[name] = Measured(
            fmean(values), stdev(values) if len(values) > 1 else None, mine[0].n, len(values),
            median(row.seconds for row in mine), median(row.seconds for row in sizes), int(sizes[0].value),
        )  # fmt: skip
    return found


def beyond(full: Measured, other: Measured) -> int:
    """1 if `other` is above full by more than both spreads together, -1 if below by as much, else 0.

    Where one has a single seed, the other's spread counts twice; with no spread at all nothing is beyond it.
    """
    spreads = [s for s in (full.spread, other.spread) if s is not None]
    margin = 2 * fmean(spreads) if spreads else float("inf")
    lead = other.value - full.value
    return 0 if abs(lead) <= margin else 1 if lead > 0 else -1


def table(told: Iterable[results.Row], groups: Iterable[str] = tuple(GROUPS)) -> plots.Figure:
    """All variants on all tasks, as differences from full, with what a training costs."""
    told = list(told)
    by_task = {task: measured(told, task) for task in metrics(told)}
    cost = costs(by_task)
    of = {variant.name: variant.group for variant in VARIANTS}
    names = list(dict.fromkeys(name for found in by_task.values() for name in found))
    drawn = {}
    for group in groups:
        members = [name for name in names if of.get(name, "encoder") == group and not name.endswith(LONGER)]
        if members:
            drawn[GROUPS[group]] = {name: _cells(name, by_task, cost) for name in members}
    heads = [f"{task}\n{metric}" for task, metric in metrics(told).items()]
    most = max(found[FULL].seeds for found in by_task.values())
    seeds = f"± sd over {most} seeds (without ±: one seed)" if most > 1 else "one seed"
    return plots.heat_table(
        drawn, [*heads, "seconds,\n× full", "learned\nparameters"], "", f"difference from full, {seeds}; {RULE}"
    )


def costs(by_task: Mapping[str, Mapping[str, Measured]]) -> dict[str, float]:
    """Variant -> seconds of a training as a multiple of full's, the mean over tasks."""
    names = dict.fromkeys(name for found in by_task.values() for name in found)
    return {
        name: fmean(f[name].seconds / max(f[FULL].seconds, 0.1) for f in by_task.values() if name in f)
        for name in names
    }


def judged(
    told: Iterable[results.Row], paper: Mapping[str, Mapping[str, tuple[float, float]]]
) -> list[tuple[str, str, float, float, str]]:
    """The paper's ablations beside ours.

    Args:
        paper: variant -> task -> (the paper's full, the paper's ablated).

    Returns:
        (variant, task, the paper's relative change, ours, "shows here" | "not shown here" | "the other way here").
    """
    told = list(told)
    lines = []
    for variant, claims in paper.items():
        for task, (full, ablated) in claims.items():
            found = measured(told, task) if task in metrics(told) else {}
            if variant in found:
                sign = beyond(found[FULL], found[variant])
                claimed = 1 if ablated > full else -1
                verdict = {claimed: "shows here", 0: "not shown here"}.get(sign, "the other way here")
                ours = found[variant].value / found[FULL].value - 1
                lines.append((variant, task, ablated / full - 1, ours, verdict))
    return lines


def branches(told: Iterable[results.Row], task: str) -> dict[str, tuple[float, float, float]]:
    """Branch -> the full extractor's weight, its spread over seeds, and what silencing the branch costs the metric."""
    told = [row for row in told if row.task == task and row.method == FULL]
    metric, gallery = metrics(told)[task], main_gallery(told, task)
    full = fmean(row.value for row in told if (row.metric, row.gallery) == (metric, gallery))
    found = {}
    for name in dict.fromkeys(row.metric for row in told if row.metric.startswith(WEIGHT)):
        weights = [row.value for row in told if row.metric == name]
        branch = name.removeprefix(WEIGHT)
        left = [r.value for r in told if (r.metric, r.gallery) == (metric + WITHOUT + branch, gallery)]
        if left:
            found[branch] = (fmean(weights), stdev(weights) if len(weights) > 1 else 0.0, full - fmean(left))
    return found


def timesteps(told: Iterable[results.Row], task: str) -> dict[int, Measured]:
    """Timestep -> what was measured with the full extractor at that timestep, at the sweep's seeds alone."""
    told = [row for row in told if row.task == task]
    swept = {v.name: v.noise["timestep"] for v in VARIANTS if v.group == "timestep"}
    seeds = {row.seed for row in told if row.method in swept}
    told = [row for row in told if row.seed in seeds]
    found = measured(told, task) if seeds else {}
    at = {195: found[FULL]} if FULL in found else {}
    return dict(sorted((at | {t: found[name] for name, t in swept.items() if name in found}).items()))


def _cells(name: str, by_task: Mapping[str, Mapping[str, Measured]], cost: Mapping[str, float]) -> list[plots.Cell]:
    cells = []
    for found in by_task.values():
        full, other = found[FULL], found.get(name)
        if other is None:
            cells.append(plots.Cell("–"))
        elif name == FULL:
            spread = "" if full.spread is None else f" ± {full.spread:.3f}"
            cells.append(plots.Cell(f"{full.value:.3f}{spread}", 0))
        else:
            lead, spread = other.value - full.value, "" if other.spread is None else f" ± {other.spread:.3f}"
            cells.append(plots.Cell(f"{lead:+.3f}{spread}", 5 * lead / full.value, beyond(full, other) != 0))
    size = next(found[name].parameters for found in by_task.values() if name in found)
    return [*cells, plots.Cell(f"{cost[name]:.1f}"), plots.Cell(f"{size / 1000:.0f}k")]
