"""What each part of the extractor is worth: it is left out or changed, everything else kept (SketchFusion, Sec. 7).

A variant is an arm with other settings, trained and measured by `compare` like any other; what it found is rows.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import numpy as np
import torch

from sfhelpers import results
from sfhelpers.backbones import Backbone
from sfhelpers.datasets import Dataset, psc6k
from sfhelpers.datasets.sketches import Sketches, load_sketches
from sfhelpers.files import replace_file
from sfhelpers.fusion import FusedExtractor
from sfhelpers.tasks.arms import UP, WIDTH, Arm
from sfhelpers.tasks.compare import Frozen, Task, Trial, compare
from sfhelpers.tasks.correspondence import Correspondence
from sfhelpers.tasks.recognition import Recognition
from sfhelpers.tasks.retrieval import Retrieval
from sfhelpers.tasks.segmentation import Segmentation

FULL = "full"
LONGER = ", trained longer"  # behind the name of a variant that was trained with more epochs than the others
# Of each task the gallery that its claim is about; a task that lacks it is told by its first one.
MAIN = {"retrieval": "unseen categories"}
USUAL = "seen categories"
PARAMETERS, WEIGHT, WITHOUT = "learned parameters", "branch weight ", " without "


@dataclass(frozen=True)
class Variant:
    """The full extractor with one thing changed.

    Attributes:
        group: "parts" (the paper's Table 6), "injection", "details", "timestep", "draws" or "encoder".
        settings: of FusedExtractor, where they differ from the full one's.
        noise: of its `prepare`: timestep, draws, prompt.
        encoder: name of the image encoder that stands for the backbone's own; "" keeps that.
        tasks, seeds: the tasks it is measured on, and the most seeds it is trained with; () and 0 are all.
    """

    name: str
    group: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    noise: Mapping[str, Any] = field(default_factory=dict)
    encoder: str = ""
    tasks: tuple[str, ...] = ()
    seeds: int = 0


FIG_5 = ("correspondence", "retrieval")  # the tasks of the paper's figure; one seed, since each t needs its own tensors
VARIANTS = (
    Variant(FULL, "parts"),
    Variant("w/o aggregation network", "parts", {"aggregate": False}),
    Variant("w/o learnable weights", "parts", {"learn_weights": False}),
    Variant("w/o 1-D convolutions", "parts", {"match": "interpolation"}),
    Variant("w/o 1-D convolutions, tokens scaled", "parts", {"match": "scaled interpolation"}),
    Variant("injected into down-blocks too", "injection", {"inject": "up+down"}, seeds=1),
    Variant("injected afterwards (late fusion)", "injection", {"inject": "late"}),
    Variant("injection fixed at random", "injection", {"inject": "random"}),
    Variant("no injection (SD only)", "injection", {"inject": "none"}),
    Variant("kernel 3", "details", {"kernel": 3}, seeds=1),
    Variant("kernel 5", "details", {"kernel": 5}, seeds=1),
    *(Variant(f"injected into {name} only", "details", {"inject_into": (name,)}, seeds=1) for name in UP),
    Variant("f4 added", "details", {"branches": (*UP, "f4")}, seeds=1),
    *(Variant(f"t = {t}", "timestep", {}, {"timestep": t}, tasks=FIG_5, seeds=1) for t in (5, 50, 400, 600, 800)),
    # Late fusion averages over the draws once and for all; inside the UNet every step would cost all of them.
    *(
        Variant(f"late fusion, {n} draws", "draws", {"inject": "late"}, {"draws": n}, tasks=FIG_5[:1], seeds=1)
        for n in (4, 16)
    ),
)


def chosen(names: Iterable[str] | None = None, encoders: Iterable[str] = ()) -> tuple[Variant, ...]:
    """The variants of these names, in the order of VARIANTS, with one more for every other image encoder.

    Raises:
        ValueError: an unknown name; None takes all.
    """
    known = {variant.name: variant for variant in VARIANTS}
    wanted = list(known) if names is None else list(names)
    wrong = [name for name in wanted if name not in known]
    if wrong:
        raise ValueError(f"unknown variant {', '.join(wrong)}: use some of {', '.join(known)}.")
    swapped = (Variant(f"{name} instead of CLIP", "encoder", encoder=name) for name in encoders)
    return (*(known[name] for name in known if name in wanted), *swapped)


@dataclass(frozen=True)
class Found:
    """A variant on a task: mean over seeds, their sample standard deviation (None for one), and what it cost.

    `seconds` is the median over seeds of a training with its test, `preparing` that of what is frozen.
    """

    value: float
    spread: float | None
    n: int
    seeds: int
    seconds: float
    preparing: float
    parameters: int


def arm_of(variant: Variant, backbone: Backbone, seed: int) -> Arm:
    """The variant as an arm; one thing is changed, so widths are not matched to equal numbers of parameters."""
    return Arm(
        variant.name,
        seed,
        backbone,
        {"branches": UP, "inject": "up", "width": WIDTH, **variant.settings},
        variant.noise,
    )


def task_for(name: str, run: Any, data: Dataset) -> Task:
    """One of `params.TASKS` on the data of a run, whose `limit` is recognition's shots and test sketches as well."""
    settings = run.epochs, run.learning_rate, run.batch_size
    if name == "correspondence":
        return Correspondence(psc6k.load(data), *settings)
    if name == "segmentation":
        return Segmentation(data, *settings)
    if name == "retrieval":  # real data has no classes that Stable Diffusion or CLIP never saw
        return Retrieval(data, *settings, problems=("strict" if data.select(seen=False).photos else "clip-style",))
    drawn = Sketches(data.name, data.root, data.split, data.select(seen=True).sketches)
    return Recognition(
        load_sketches("toy") if data.name == "toy" else drawn, *settings, shots=run.limit, limit=run.limit
    )


class Kept:
    """The rows of every variant and seed, written to a file, whole, after each one: a run that was killed goes on.

    Args:
        path: None keeps them in memory alone.
        configuration: what else decides the numbers, as JSON holds it; a file of another one is refused.
        resume: go on from what the file holds; else it is replaced when there is something new to keep, not before.
    """

    def __init__(self, path: Path | None = None, configuration: Mapping[str, Any] | None = None, resume: bool = True):
        self.path, self.configuration = path, json.loads(json.dumps(dict(configuration or {})))
        self.rows: dict[str, list[results.Row]] = {}
        if resume and path is not None and path.exists():
            self._read(path)

    def add(self, key: str, rows: list[results.Row]) -> None:
        """Keep these, on disk before this returns."""
        self.rows[key] = rows
        if self.path is not None:
            found = {name: [asdict(row) for row in kept] for name, kept in self.rows.items()}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"configuration": self.configuration, "rows": found}, indent=1)
            replace_file(self.path, text.encode("utf-8"))

    def _read(self, path: Path) -> None:
        try:
            text = json.loads(path.read_text(encoding="utf-8"))
            made = text["configuration"]
            self.rows = {key: [results.Row(**row) for row in rows] for key, rows in text["rows"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is not a file of ablations ({error}): delete it, or start anew with -p resume False."
            ) from error
        keys = made.keys() | self.configuration.keys()
        if differ := sorted(key for key in keys if made.get(key) != self.configuration.get(key)):
            raise ValueError(
                f"{path} was made with another {', '.join(differ)}: start anew with -p resume False, "
                "or pass what it was made with."
            )


def measure(
    run: Any,
    task: Task,
    backbone: Backbone,
    variants: Iterable[Variant],
    seeds: Iterable[int],
    encoders: Mapping[str, Backbone] | None = None,
    kept: Kept | None = None,
    suffix: str = "",
    log: Callable[[str], None] = print,
) -> list[results.Row]:
    """Train and test every variant that belongs to this task with every seed.

    Args:
        encoders: name -> the backbone with that image encoder, for the variants that name one.
        kept: what an earlier run found, which is not computed again; what is new is added as it comes.
        suffix: behind the variants' names, LONGER or nothing.

    Returns:
        Variant by variant: the metric a gallery, the learned parameters, the branch weights, and of the full extractor
        the metric with one branch silenced at a time.
    """
    seeds, kept, arms = tuple(seeds), kept or Kept(), {}
    for variant in (v for v in variants if not v.tasks or task.name in v.tasks):
        for seed in seeds[: variant.seeds or len(seeds)]:
            used = (encoders or {})[variant.encoder] if variant.encoder else backbone
            arms[_described(task, variant, seed)] = arm_of(variant, used, seed)
    missing = {id(arm): key for key, arm in arms.items() if key not in kept.rows}

    def keep(arm: Arm, trials: list[Trial], frozen: Frozen) -> None:
        kept.add(missing[id(arm)], list(_rows(run, task, arm, trials[0], frozen, suffix)))

    if missing:
        wanted = [arm for arm in arms.values() if id(arm) in missing]
        compare(backbone, task, wanted, keep_models=False, log=lambda line: log(f"{task.name}: {line}"), after=keep)
    return [row for key in arms for row in kept.rows[key]]


def _described(task: Task, variant: Variant, seed: int) -> str:
    """All that makes the variant on this task and its images, as text."""
    made = {"start": task.start, **variant.settings, "noise": dict(variant.noise), "encoder": variant.encoder}
    return json.dumps([task.name, seed, variant.name, made, task.images], sort_keys=True)


def _rows(run: Any, task: Task, arm: Arm, trial: Trial, frozen: Frozen, suffix: str) -> Iterator[results.Row]:
    about = {"task": task.name, "method": arm.method + suffix, "seed": arm.seed, "dataset": task.dataset}
    about |= {"split": task.split, "weights_sha256": arm.backbone.weights_sha256}
    yield results.row(
        run, metric=PARAMETERS, value=trial.parameters, n=1, seconds=trial.preparing, **about,
        definition="that got gradients; `seconds` is what preparing the frozen tensors took, shared by seeds",
    )  # fmt: skip
    extractor = trial.model.extractor
    weights = extractor.aggregator.branch_weights.softmax(dim=0).tolist()
    for name, weight in zip(extractor.branches, weights, strict=True):
        yield results.row(run, metric=WEIGHT + name, value=weight, n=1, definition="softmax over branches", **about)
    yield from _values(run, task, trial, frozen, about)
    for number, name in enumerate(extractor.branches if arm.method == FULL else ()):
        with silenced(extractor, number):
            again = task.predict(trial.model, task.of_problem(frozen, trial.problem))
        yield from _values(run, task, replace(trial, found=again, seconds=0.0), frozen, about, name)


def _values(run: Any, task: Task, trial: Trial, frozen: Frozen, about: dict, silent: str = "") -> Iterator[results.Row]:
    """The metric that the task is tested by, a row a gallery; a query that cannot be scored (NaN) is left out."""
    tested = [found for found in task.measure(trial, frozen) if found.groups is not None]
    for found in (found for found in tested if found.metric == tested[0].metric):
        rule = "; the trained model with this branch's output set to zero" if silent else ""
        yield results.row(
            run, metric=found.metric + (WITHOUT + silent if silent else ""), definition=found.definition + rule,
            value=np.nanmean(found.values), n=np.isfinite(found.values).sum(), seconds=trial.seconds,
            gallery=MAIN.get(task.name, found.gallery), **about,
        )  # fmt: skip


@contextmanager
def silenced(extractor: FusedExtractor, branch: int) -> Iterator[None]:
    """The extractor with one branch's contribution to the sum set to zero."""
    block = extractor.aggregator.blocks[branch]
    hook = block.register_forward_hook(lambda module, args, output: torch.zeros_like(output))
    try:
        yield
    finally:
        hook.remove()


def metrics(told: Iterable[results.Row]) -> dict[str, str]:
    """Task -> the name of its metric, in the rows' order of tasks."""
    aside = (PARAMETERS, WEIGHT, WITHOUT)
    return {row.task: row.metric for row in told if not any(word in row.metric for word in aside)}


def main_gallery(told: Iterable[results.Row], task: str) -> str:
    """The gallery that the task is told by."""
    known, wanted = sorted({r.gallery for r in told if r.task == task and r.gallery}), MAIN.get(task, USUAL)
    return wanted if wanted in known else known[0]


def measured(told: Iterable[results.Row], task: str) -> dict[str, Found]:
    """Variant -> what was measured on a task, in the order of `ablations.VARIANTS`, others behind."""
    told = [row for row in told if row.task == task]
    metric, gallery = metrics(told)[task], main_gallery(told, task)
    names, found = dict.fromkeys(row.method for row in told), {}
    for name in dict.fromkeys([*(v.name for v in VARIANTS if v.name in names), *names]):
        mine = [row for row in told if row.method == name and (row.metric, row.gallery) == (metric, gallery)]
        sizes = [row for row in told if row.method == name and row.metric == PARAMETERS]
        values = [row.value for row in mine]
        found[name] = Found(
            fmean(values), stdev(values) if len(values) > 1 else None, mine[0].n, len(values),
            median(row.seconds for row in mine), median(row.seconds for row in sizes), int(sizes[0].value),
        )  # fmt: skip
    return found


def beyond(full: Found, other: Found) -> int:
    """1 if `other` is above full by more than both spreads together, -1 if below by as much, else 0."""
    # Where one has a single seed, the other's spread counts twice; with no spread at all nothing is beyond it.
    spreads = [s for s in (full.spread, other.spread) if s is not None]
    margin = 2 * fmean(spreads) if spreads else float("inf")
    lead = other.value - full.value
    return 0 if abs(lead) <= margin else 1 if lead > 0 else -1
