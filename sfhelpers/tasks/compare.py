"""The one protocol: what a task is, how its arms are trained and measured alike, and the paired test between them.

A task is a class that fills `Task` in. `compare` trains every arm with every seed on the same frozen tensors, `rows`
tells what was measured, and `differences` tests it (`results.verdict` puts the test into two words).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from sfhelpers import results
from sfhelpers.backbones import Backbone
from sfhelpers.fusion import FusedExtractor
from sfhelpers.metrics import paired_bootstrap
from sfhelpers.tasks.arms import (
    METHODS,
    Arm,
    arm_of,
    arms_for,
    check_methods,
    file_stem,
    preparer,
    reading_size,
    trainable,
)
from sfhelpers.tasks.fit import History, fit

TEST = "paired bootstrap over {what}, each method's values averaged over its seeds ({seeds}) first, 10,000 resamples"
Frozen = Mapping[str, Any]  # part name -> what was prepared of it


@dataclass
class Trial:
    """One method trained with one seed on one problem.

    Attributes:
        method, seed, problem: which.
        model, history: the trained model and its training; None where nothing is trained.
        parameters: how many it learned.
        seconds, preparing: for training and prediction; for what is frozen, which arms of a kind share.
        found: what it predicted, as the task's `predict` gives it.
        row: fields of its result rows that differ from the comparison's, e.g. another encoder's weights.
    """

    method: str
    seed: int
    problem: str = ""
    model: nn.Module | None = None
    history: History | None = None
    parameters: int = 0
    seconds: float = 0.0
    preparing: float = 0.0
    found: Any = None
    row: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Measured:
    """One number a query, under one definition.

    Attributes:
        gallery, metric, definition: as in `results.Row`.
        values: (n,).
        groups: (n,) labels of the queries that the paired test resamples together; None where none is made.
        n: over how many items, where `values` is one number in all; 0 is len(values).
        split: "" is the task's.
    """

    gallery: str
    metric: str
    definition: str
    values: np.ndarray
    groups: np.ndarray | None = None
    n: int = 0
    split: str = ""


class Task:
    """What is learned, how, and how it is measured; a task is a subclass in one file.

    Args:
        parts: part name ("train", "validation", and the tested ones) -> what `read` takes.
        dataset, split: for result rows.
        images: `contents.fingerprint` of the data: a training on other images is not gone on from.
        epochs, learning_rate, batch_size: as in `fit`.
    """

    name: ClassVar[str]
    baselines: ClassVar[tuple[str, ...]] = ()  # methods that `untrained` knows
    unit: ClassVar[str] = "photos"  # what the paired test resamples
    start: ClassVar[str] = "zero"  # of the injection, as in FusedExtractor; chosen on validation data
    read: ClassVar[Callable[..., Any]]  # (extractor, part, size in px, **noise) -> everything frozen of a part

    def __init__(
        self, parts: Mapping[str, Any], dataset: str, split: str, images: str, epochs: int, learning_rate: float,
        batch_size: int,
    ):  # fmt: skip
        self.parts, self.dataset, self.split, self.images = dict(parts), dataset, split, images
        self.epochs, self.learning_rate, self.batch_size = epochs, learning_rate, batch_size

    def prepare(self, extractor: FusedExtractor, **noise: Any) -> Frozen:
        """Everything that is frozen for an extractor, once an image; `noise` goes to its own `prepare`."""
        size = reading_size(extractor.backbone)
        return {name: self.read(extractor, part, size, **noise) for name, part in self.parts.items()}

    def problems(self, method: str) -> tuple[str, ...]:
        """What a method is trained for, each time anew; "" where there is one problem."""
        return ("",)

    def of_problem(self, frozen: Frozen, problem: str) -> Frozen:
        """What a training on a problem sees of what is frozen."""
        return frozen

    def epochs_of(self, frozen: Frozen) -> int:
        """How many epochs a training takes."""
        return self.epochs

    def model(self, extractor: FusedExtractor, frozen: Frozen) -> nn.Module:
        """The head that learns, with its `settings`; its standardisation is fixed on training images."""
        raise NotImplementedError

    def examples(self, frozen: Frozen) -> int:
        """How many examples an epoch has."""
        return len(frozen["train"])

    def loss(self, model: nn.Module, frozen: Frozen, indices: Tensor) -> Tensor:
        """The mean loss of the training examples at `indices` (b,)."""
        raise NotImplementedError

    def validate(self, model: nn.Module, frozen: Frozen) -> float:
        """By which the epoch is chosen; higher is better."""
        raise NotImplementedError

    def predict(self, model: nn.Module, frozen: Frozen) -> Any:
        """Predictions of everything that is measured."""
        raise NotImplementedError

    def untrained(self, method: str, seeds: Sequence[int], frozen: Frozen, plain: "Plain") -> Iterable[Trial]:
        """The trials of one of `baselines`; `plain()` gives the backbone's own features, where it needs them."""
        raise NotImplementedError

    def measure(self, trial: Trial, frozen: Frozen) -> Iterator[Measured]:
        """Everything that goes into result rows; what has `groups` is tested as well."""
        raise NotImplementedError


Plain = Callable[[], tuple[FusedExtractor, Frozen]]


def compare(
    backbone: Backbone,
    task: Task,
    methods: Iterable[str] | Sequence[Arm],
    seeds: Iterable[int] = (0,),
    inject: str = "up",
    keep_models: bool = True,
    log: Callable[[str], None] = print,
    checkpoints: Path | None = None,
    configuration: Mapping[str, Any] | None = None,
    after: Callable[[Arm, list[Trial], Frozen], None] | None = None,
) -> tuple[list[Trial], Frozen]:
    """Train and test every method with every seed.

    What is frozen is computed once a kind of arm and shared; one kind at a time is kept in memory.

    Args:
        task: what is learned.
        methods: of arms.METHODS and the task's baselines; or arms, with seeds of their own.
        inject: of the arm called "fused".
        keep_models: whether the trials keep what was trained; 1 MB each, but B-Finetuning 50 MB.
        checkpoints: folder from which a comparison that was stopped goes on; None keeps nothing.
        configuration: what else made the trainings, as in `fit`.
        after: called with every arm, its trials and what is frozen, as soon as they are there.

    Returns:
        The trials, method by method with the baselines last, and what was prepared for the last kind of arm.

    Raises:
        ValueError: an unknown method, or no arm.
    """
    methods, seeds = tuple(methods), tuple(seeds)
    wanted = [method for method in methods if isinstance(method, Arm)]
    if not wanted:
        check_methods(methods, task.baselines)
        wanted = arms_for([m for m in methods if m in METHODS], seeds, backbone, inject)
    groups: dict[tuple, list[Arm]] = {}
    for arm in sorted(wanted, key=lambda arm: arm.plain):  # plain ones last, since baselines need what they need
        groups.setdefault(arm.frozen_key, []).append(arm)
    found: dict[int, list[Trial]] = {}
    frozen: Frozen = {}
    for group in groups.values():
        started, frozen = time.perf_counter(), {}  # let go first
        frozen = task.prepare(preparer(group), **group[0].noise)
        preparing = time.perf_counter() - started
        for arm in group:
            trials = [_train(task, arm, p, frozen, checkpoints, configuration) for p in task.problems(arm.method)]
            for trial in trials:
                trial.preparing = preparing
            ends = [(trial.history.best_epoch, len(trial.history.epochs) - 1, trial.problem) for trial in trials]
            best = ", ".join(f"{epoch} of {last} {problem}".rstrip() for epoch, last, problem in ends)
            log(f"{arm.method}, seed {arm.seed}: best epoch {best}")
            if after is not None:
                after(arm, trials, frozen)
            for trial in trials:
                trial.model = trial.model if keep_models else None
            found[id(arm)] = trials

    @cache
    def plain() -> tuple[FusedExtractor, Frozen]:
        arm = arm_of("SD+CLIP concatenated", backbone, seeds[0])
        return arm.extractor(), frozen if arm.frozen_key in list(groups)[-1:] else task.prepare(arm.extractor())

    trials = [trial for arm in wanted for trial in found[id(arm)]]
    for method in (method for method in methods if method in task.baselines):
        trials += task.untrained(method, seeds, frozen, plain)
    return trials, frozen


def _train(
    task: Task, arm: Arm, problem: str, everything: Frozen, checkpoints: Path | None, configuration: Any
) -> Trial:
    frozen = task.of_problem(everything, problem)
    extractor = arm.extractor(task.start)
    model = task.model(extractor, frozen)
    made_by = dict(configuration or {}) | {
        "method": arm.method, "seed": arm.seed, "inject": extractor.inject, "start": extractor.start,
        "branches": list(extractor.branches), "weights_sha256": arm.backbone.weights_sha256, "images": task.images,
        "model": model.settings,
    }  # fmt: skip
    if problem:
        made_by["problem"] = problem
    folder = None if checkpoints is None else checkpoints / f"{file_stem(arm.method)}-seed{arm.seed}"
    history = fit(
        model,
        lambda model, indices: task.loss(model, frozen, indices),
        task.examples(frozen),
        lambda model: task.validate(model, frozen),
        task.epochs_of(frozen),
        arm.rate(task.learning_rate),
        task.batch_size,
        arm.seed,
        progress=", ".join(filter(None, (problem, arm.method, f"seed {arm.seed}"))),
        checkpoint=folder / problem if folder and problem else folder,
        configuration=made_by,
    )
    started = time.perf_counter()
    found = task.predict(model, frozen)
    seconds = history.seconds + time.perf_counter() - started
    parameters = trainable(model)
    return Trial(arm.method, arm.seed, problem, model, history, parameters, seconds, found=found)


def rows(run: Any, task: Task, trials: Iterable[Trial], frozen: Frozen, weights_sha256: str) -> list[results.Row]:
    """A row for everything that a task measures of its trials; `run` is from `params.check`."""
    return [
        results.row(
            run, task=task.name, metric=found.metric, definition=found.definition, value=found.values.mean(),
            n=found.n or len(found.values), gallery=found.gallery, seconds=trial.seconds,
            **_source(task, found, weights_sha256) | {"method": trial.method, "seed": trial.seed} | dict(trial.row),
        )
        for trial in trials
        for found in task.measure(trial, frozen)
    ]  # fmt: skip


def differences(
    run: Any, task: Task, trials: Iterable[Trial], frozen: Frozen, weights_sha256: str, first: str = "fused"
) -> list[results.Row]:
    """The paired test of `first` against every other method, a mean and both ends of its 95 % interval each."""
    tested: dict[tuple, tuple[Measured, dict[str, list[np.ndarray]]]] = {}
    for trial in trials:
        for found in task.measure(trial, frozen):
            if found.groups is not None:
                key = (found.gallery, found.metric, found.definition, found.split)
                tested.setdefault(key, (found, {}))[1].setdefault(trial.method, []).append(found.values)
    made = []
    for found, values in tested.values():
        for method in (method for method in values if method != first and first in values):
            seeds = f"{first} {len(values[first])}, {method} {len(values[method])}"
            mine, other = (np.mean(values[name], axis=0) for name in (first, method))
            difference = paired_bootstrap(mine, other, found.groups)
            for end, value in zip(results.ENDS, (difference.mean, difference.low, difference.high), strict=True):
                made.append(
                    results.row(
                        run, task=task.name, method=method, metric=f"{found.metric}: {first} - other",
                        definition=f"{TEST.format(what=task.unit, seeds=seeds)}; {end}", value=value,
                        n=difference.n, gallery=found.gallery, **_source(task, found, weights_sha256),
                    )
                )  # fmt: skip
    return made


def _source(task: Task, found: Measured, weights_sha256: str) -> dict[str, Any]:
    return {"dataset": task.dataset, "split": found.split or task.split, "weights_sha256": weights_sha256}
