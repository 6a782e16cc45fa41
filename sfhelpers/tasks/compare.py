"""The one protocol: what a task is, how its arms are trained and measured alike, and the paired test between them."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from sfhelpers import kept, results
from sfhelpers.backbones import Backbone
from sfhelpers.files import check_own
from sfhelpers.fusion import FusedExtractor
from sfhelpers.metrics import paired_bootstrap
from sfhelpers.tasks import arms
from sfhelpers.tasks.fit import History, Training

TEST = "paired bootstrap over {what}, each method's values averaged over its seeds ({seeds}) first, 10,000 resamples"
Frozen = Mapping[str, Any]  # part name -> what was prepared of it
Plain = Callable[[], tuple[FusedExtractor, Frozen]]  # an extractor without injection, and what was prepared for it


@dataclass
class Trial:
    """One method trained with one seed on one problem."""

    method: str
    seed: int
    problem: str = ""
    model: nn.Module | None = None  # None where nothing is trained, as for `history`
    history: History | None = None
    parameters: int = 0  # that were learned
    seconds: float = 0.0  # for training and prediction
    preparing: float = 0.0  # seconds for what is frozen, which arms of a kind share
    found: Any = None  # what it predicted, as the task's `predict` gives it
    row: dict[str, Any] = field(default_factory=dict)  # result fields of its own, e.g. another encoder's weights


@dataclass
class Measured:
    """One number a query, under one definition."""

    gallery: str  # this, metric and definition as in `results.Row`
    metric: str
    definition: str
    values: np.ndarray  # (n,)
    groups: np.ndarray | None = None  # (n,) labels of what the paired test resamples together; None: no test is made
    n: int = 0  # over how many items, where `values` is one number in all; 0 is len(values)
    split: str = ""  # "" is the task's


class Task:
    """What is learned, how, and how it is measured; a task is a subclass in one file, with what is only declared here.

    `parts` are part name ("train", "validation", and the tested ones) -> what `read` takes; `dataset` and `split` are
    for result rows, `images` is the data's `fingerprint`: a training on other images is not gone on from.
    """

    name: ClassVar[str]
    baselines: ClassVar[tuple[str, ...]] = ()  # methods that `untrained` knows
    unit: ClassVar[str] = "photos"  # what the paired test resamples
    start: ClassVar[str] = "zero"  # of the injection, as in FusedExtractor; chosen on validation data

    read: Callable[..., Any]  # (extractor, part, size in px, **noise of `frozen`) -> all that is frozen of a part
    # (extractor, frozen) -> the head that learns, with its `settings`; standardised on training images.
    model: Callable[[FusedExtractor, Frozen], nn.Module]
    loss: Callable[[nn.Module, Frozen, Tensor], Tensor]  # of the training examples at indices (b,), their mean
    validate: Callable[[nn.Module, Frozen], float]  # by which the epoch is chosen; higher is better
    predict: Callable[[nn.Module, Frozen], Any]  # of everything that is measured
    # (one of `baselines`, seeds, frozen, plain) -> its trials; `plain()` gives the backbone's own features.
    untrained: Callable[[str, Sequence[int], Frozen, Plain], Iterable[Trial]]
    measure: Callable[[Trial, Frozen], Iterator[Measured]]  # all result rows; what has `groups` is tested as well

    def __init__(
        self, parts: Mapping[str, Any], dataset: str, split: str, images: str, epochs: int, learning_rate: float,
        batch_size: int,
    ):  # fmt: skip
        self.parts, self.dataset, self.split, self.images = dict(parts), dataset, split, images
        self.epochs, self.learning_rate, self.batch_size = epochs, learning_rate, batch_size

    def problems(self, method: str) -> tuple[str, ...]:  # that a method is trained for, each time anew
        return ("",)

    def of_problem(self, frozen: Frozen, problem: str) -> Frozen:  # what a training on a problem sees of it
        return frozen

    def epochs_of(self, frozen: Frozen) -> int:
        return self.epochs

    def examples(self, frozen: Frozen) -> int:  # that an epoch has
        return len(frozen["train"])


def compare(
    backbone: Backbone,
    task: Task,
    methods: Iterable[str] | Sequence[arms.Arm],
    seeds: Iterable[int] = (0,),
    inject: str = "up",
    log: Callable[[str], None] = print,
    checkpoints: Path | None = None,
    resume: bool = True,
    configuration: Mapping[str, Any] | None = None,
    after: Callable[[arms.Arm, list[Trial], Frozen], None] = lambda *given: None,
) -> tuple[list[Trial], Frozen]:
    """Train and test every method with every seed; what is frozen is computed once a kind of arm, and shared.

    `methods` are of arms.METHODS and the task's baselines; or arms, with seeds of their own. `inject` is of the arm
    called "fused", `checkpoints` the folder to keep every training in, and to go on from; without `resume`, what is
    there is removed when the first training begins. `configuration` is what else made them, as in `Training.fit`.

    Returns the trials, method by method with the baselines last, and what was prepared for the last kind of arm;
    `after` is called with it and an arm's trials as soon as these are there. ValueError: an unknown method, or no arm.
    """
    methods, seeds = tuple(methods), tuple(seeds)
    wanted = [method for method in methods if isinstance(method, arms.Arm)]
    wanted = wanted or arms.arms_for(methods, seeds, backbone, inject, task.baselines)
    if checkpoints is not None:
        check_own(checkpoints)
    groups: dict[tuple, list[arms.Arm]] = {}
    for arm in sorted(wanted, key=lambda arm: "plain" in arm.frozen_key):  # last, since baselines need these
        groups.setdefault(arm.frozen_key, []).append(arm)
    found: dict[int, list[Trial]] = {}
    for group in groups.values():
        started, frozen, maker = time.perf_counter(), {}, arms.preparer(group)  # what was frozen is let go first
        size, noise = arms.reading_size(maker.backbone), group[0].noise
        frozen = {name: task.read(maker, part, size, **noise) for name, part in task.parts.items()}
        preparing = time.perf_counter() - started
        if checkpoints is not None and not resume and task.epochs:
            kept.remove_trainings(checkpoints)
            resume = True
        for arm in group:
            made = (_train(task, arm, p, frozen, checkpoints, configuration) for p in task.problems(arm.method))
            trials = [replace(trial, preparing=preparing) for trial in made]
            ends = [(trial.history.best_epoch, len(trial.history.epochs) - 1, trial.problem) for trial in trials]
            best = ", ".join(f"{epoch} of {last} {problem}".rstrip() for epoch, last, problem in ends)
            log(f"{arm.method}, seed {arm.seed}: best epoch {best}")
            after(arm, trials, frozen)
            found[id(arm)] = trials

    @cache
    def plain() -> tuple[FusedExtractor, Frozen]:
        arm = arms.arm_of("SD+CLIP concatenated", backbone, seeds[0])
        extractor, size = arm.extractor(), arms.reading_size(backbone)
        if arm.frozen_key in list(groups)[-1:]:
            return extractor, frozen
        return extractor, {name: task.read(extractor, part, size) for name, part in task.parts.items()}

    trials = [trial for arm in wanted for trial in found[id(arm)]]
    for method in (method for method in methods if method in task.baselines):
        trials += task.untrained(method, seeds, frozen, plain)
    return trials, frozen


def _train(
    task: Task, arm: arms.Arm, problem: str, everything: Frozen, checkpoints: Path | None, configuration: Any
) -> Trial:
    frozen, extractor = task.of_problem(everything, problem), arm.extractor(task.start)
    model = task.model(extractor, frozen)
    made_by = dict(configuration or {}) | {
        "method": arm.method, "seed": arm.seed, "inject": extractor.inject, "start": extractor.start,
        "branches": list(extractor.branches), "weights_sha256": arm.backbone.weights_sha256, "images": task.images,
        "model": model.settings, **({"problem": problem} if problem else {}),
    }  # fmt: skip
    if arm.method not in arms.METHODS:  # a variant is what its settings are
        made_by |= {"settings": {**arm.settings}, "noise": {**arm.noise}}
    loss, validate = lambda m, indices: task.loss(m, frozen, indices), lambda m: task.validate(m, frozen)
    examples, epochs = task.examples(frozen), task.epochs_of(frozen)
    rate = task.learning_rate * (arms.FINETUNING_RATE if arm.finetuned else 1)
    training = Training(model, loss, examples, validate, epochs, rate, task.batch_size, arm.seed)
    words = ", ".join(filter(None, (problem, arm.method, f"seed {arm.seed}")))
    folder = checkpoints and checkpoints / arms.file_name(arm.method, f"-seed{arm.seed}") / problem
    history = training.fit(words, folder, made_by)
    started = time.perf_counter()
    found = task.predict(model, frozen)
    seconds = time.perf_counter() - started + sum(row["seconds"] for row in history.epochs)
    parameters = sum(parameter.numel() for parameter in training.parameters)
    return Trial(arm.method, arm.seed, problem, model, history, parameters, seconds, found=found)


def rows(run: Any, task: Task, trials: Iterable[Trial], frozen: Frozen, weights_sha256: str) -> list[results.Row]:
    """A row for everything that a task measures of its trials; `run` is from `params.check`."""
    told = []
    for trial in trials:
        about = {"method": trial.method, "seed": trial.seed, "seconds": trial.seconds, "weights_sha256": weights_sha256}
        for found in task.measure(trial, frozen):
            told.append(_row(run, task, found, found.values.mean(), found.n or len(found.values), about | trial.row))
    return told


def differences(
    run: Any, task: Task, trials: Iterable[Trial], frozen: Frozen, weights_sha256: str
) -> list[results.Row]:
    """The paired test of "fused" against every other method, a mean and both ends of its 95 % interval each."""
    tested: dict[tuple, tuple[Measured, dict[str, list[np.ndarray]]]] = {}
    for trial in trials:
        for found in (found for found in task.measure(trial, frozen) if found.groups is not None):
            key = (found.gallery, found.metric, found.definition, found.split)
            tested.setdefault(key, (found, {}))[1].setdefault(trial.method, []).append(found.values)
    told = []
    for found, values in tested.values():
        for method in (method for method in values if method != "fused" and "fused" in values):
            seeds = f"fused {len(values['fused'])}, {method} {len(values[method])}"
            means = (np.mean(values[name], axis=0) for name in ("fused", method))
            *apart, n = paired_bootstrap(*means, found.groups)
            about = {"method": method, "metric": f"{found.metric}: fused - other", "weights_sha256": weights_sha256}
            for end, value in zip(results.ENDS, apart, strict=True):
                about["definition"] = f"{TEST.format(what=task.unit, seeds=seeds)}; {end}"
                told.append(_row(run, task, found, value, n, about))
    return told


def _row(run: Any, task: Task, found: Measured, value: float, n: int, about: Mapping[str, Any]) -> results.Row:
    where = {"task": task.name, "dataset": task.dataset, "split": found.split or task.split, "gallery": found.gallery}
    what = {"metric": found.metric, "definition": found.definition, "value": value, "n": n}
    return results.row(run, **where | what | about)
