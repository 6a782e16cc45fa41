"""The one protocol: what a task is, how its arms are trained and measured alike, and the paired test between them."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from sfhelpers import kept, results
from sfhelpers.backbones import Backbone
from sfhelpers.files import check_own
from sfhelpers.fusion import FusedExtractor
from sfhelpers.metrics import holm, paired_bootstrap
from sfhelpers.results import Row
from sfhelpers.tasks import arms
from sfhelpers.tasks.fit import History, Training
from sfhelpers.tasks.prepared import keeping

TEST = (
    "paired bootstrap over {unit}: 10,000 times the seeds of both methods ({seeds}) and then the {unit} are drawn with "
    "replacement; two-sided p, corrected after Holm for {number} methods"
)
RATES = (1.0, 1 / 3, 3.0)  # times a task's learning rate, that are tried; the first wins a tie
SHARES = tuple(k / 10 for k in range(11))  # of Stable Diffusion in "B-SD+CLIP"
Frozen = Mapping[str, Any]  # part name -> what was prepared of it


@dataclass
class Trial:
    """One method trained with one seed on one problem."""

    method: str
    seed: int
    problem: str = ""
    model: nn.Module | None = None  # None where nothing is trained, as for `history`
    history: History | None = None
    tried: dict[Any, float] = field(default_factory=dict)  # what validation chose by: rate, share or up-block -> value
    parameters: int = 0  # that were learned
    seconds: float = 0.0  # for training and prediction
    found: Any = None  # what it predicted, as the task's `predict` gives it
    row: dict[str, Any] = field(default_factory=dict)  # result fields of its own, e.g. another encoder's weights
    factor: float = 1.0  # the chosen one of RATES


@dataclass
class Measured:
    """One number a query, under one definition."""

    gallery: str  # this, metric and definition as in `results.Row`
    metric: str
    definition: str
    values: np.ndarray  # (n,)
    # Unit, e.g. "photos" -> (n,) labels of what the paired test over it resamples together; None: no test is made.
    groups: Mapping[str, np.ndarray] | None = None
    n: int = 0  # over how many items, where `values` is one number in all; 0 is len(values)
    split: str = ""  # "" is the task's


class Task:
    """What is learned, how, and how it is measured; a task is a subclass in one file, with what is only declared here.

    `parts` are part name ("train", "validation", and the tested ones) -> what `read` takes; `dataset` and `split` are
    for result rows, `images` is the data's `fingerprint`: a training on other images is not gone on from.
    """

    name: ClassVar[str]
    baselines: ClassVar[tuple[str, ...]] = ()  # methods that `untrained` knows
    start: ClassVar[str] = "zero"  # of the injection, as in FusedExtractor; chosen on validation data
    main: ClassVar[str] = "fused"  # the method that all others are tested against

    read: Callable[..., Any]  # (extractor, part, size in px, **noise of `frozen`) -> all that is frozen of a part
    # (extractor, frozen) -> the head that learns, with its `settings`; standardised on training images.
    model: Callable[[FusedExtractor, Frozen], nn.Module]
    loss: Callable[[nn.Module, Frozen, Tensor], Tensor]  # of the training examples at indices (b,), their mean
    validate: Callable[[nn.Module, Frozen], float]  # by which the epoch is chosen; higher is better
    predict: Callable[[nn.Module, Frozen], Any]  # of everything that is measured
    # (one of `baselines`, seeds, frozen, extractor) -> its trials; both are of the arm that only joins the backbones.
    untrained: Callable[[str, Sequence[int], Frozen, FusedExtractor], Iterable[Trial]]
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

    def examples(self, frozen: Frozen) -> int:  # that an epoch has
        return len(frozen["train"])

    def images_in(self, part: Any) -> int:  # at most, that `read` prepares of a part
        return len(getattr(part, "records", part))

    def plain(self, backbone: Backbone, seed: int) -> arms.Arm:  # whose frozen tensors and extractor `untrained` gets
        return arms.arm_of("SD+CLIP concatenated", backbone, seed)


def compare(
    backbone: Backbone,
    task: Task,
    methods: Iterable[str] | Sequence[arms.Arm],
    seeds: Iterable[int] = (0,),
    inject: str = "up",
    rates: int = 1,
    log: Callable[[str], None] = print,
    checkpoints: Path | None = None,
    resume: bool = True,
    configuration: Mapping[str, Any] | None = None,
    after: Callable[[arms.Arm, list[Trial], Frozen], None] = lambda *given: None,
    store: str = "",
) -> tuple[list[Trial], Frozen]:
    """Train and test every method with every seed; what is frozen is computed once a kind of arm and seed, and shared.

    `methods` are of arms.METHODS and the task's baselines, or arms with their own seeds; `inject` is that of "fused",
    `rates` how many of RATES validation chooses from at an arm's first seed, `checkpoints` the folder of trainings to
    go on from, or, without `resume`, to remove at the first one; `configuration` is as in `Training.fit`. `store` says
    where what is frozen is kept, as in `keeping`, and whether it fits before anything starts; "" is in memory, unasked.

    Returns the trials, baselines last, and what was prepared last, whose records, pairs and labels are those of all;
    `after` gets each arm, its trials and what was prepared for it. ValueError: an unknown method, or no arm.
    """
    methods, seeds = tuple(methods), tuple(seeds)
    wanted = [method for method in methods if isinstance(method, arms.Arm)]
    wanted = wanted or arms.arms_for(methods, seeds, backbone, inject, task.baselines)
    baselines = [method for method in methods if method in task.baselines]
    if checkpoints is not None:
        check_own(checkpoints)
    groups: dict[tuple, list[arms.Arm]] = {}
    for arm in wanted:
        groups.setdefault(arm.frozen_key, []).append(arm)
    plain = task.plain(backbone, seeds[0])
    if baselines:
        groups.setdefault(plain.frozen_key, [])
    keep = _keeping(store, task, {key: group or [plain] for key, group in groups.items()}, log) if store else {}
    found: dict[int, list[Trial]] = {}
    others: list[Trial] = []
    factors: dict[tuple[str, str], tuple[float, ...]] = {}  # (method, problem) -> times the task's learning rate
    for key, group in groups.items():
        frozen, first = {}, (group or [plain])[0]  # what was frozen is let go first
        maker, size = arms.preparer(group or [plain]), arms.reading_size(first.backbone)
        how = keep.get(key, {})
        frozen = {name: task.read(maker, part, size, **first.noise, **how) for name, part in task.parts.items()}
        if checkpoints is not None and not resume and task.epochs:
            kept.remove_trainings(checkpoints)
            resume = True
        for arm in group:
            trials = found[id(arm)] = []
            for problem in task.problems(arm.method):
                some = factors.get((arm.method, problem), RATES[: rates if task.epochs else 1])
                about = dict(configuration or {}) | ({"kept": str(how["dtype"])} if how.get("dtype") else {})
                trials.append(_best(task, arm, problem, frozen, some, checkpoints, about))
                factors[arm.method, problem] = (trials[-1].factor,)
            log(f"{arm.method}, seed {arm.seed}: {', '.join(map(_ending, trials))}")
            after(arm, trials, frozen)
        if key == plain.frozen_key:
            others = [t for name in baselines for t in task.untrained(name, seeds, frozen, plain.extractor())]
    return [trial for arm in wanted for trial in found[id(arm)]] + others, frozen


def _keeping(store: str, task: Task, groups: Mapping[tuple, list[arms.Arm]], log: Callable) -> dict[tuple, dict]:
    """For each group, how its frozen tensors are kept; all is told, or refused, before anything starts."""
    n, found, said = sum(map(task.images_in, task.parts.values())), {}, {""}
    for key, group in groups.items():
        about = arms.preparer(group), arms.reading_size(group[0].backbone), n
        found[key], line = keeping(store, *about, **group[0].noise)
        if line not in said:
            log(line)
        said.add(line)
    return found


def _ending(trial: Trial) -> str:
    said, last = trial.history, len(trial.history.epochs) - 1
    rate = f" at rate {said.learning_rate:.2g}" * (len(trial.tried) > 1)
    return f"best epoch {said.best_epoch} of {last}{rate}, {said.ended or 'untrained'} {trial.problem}".rstrip()


def _best(task: Task, arm: arms.Arm, problem: str, frozen: Frozen, factors: Iterable[float], *kept: Any) -> Trial:
    """The trial at that of the task's learning rate times these factors which validation likes best."""
    frozen, tried = task.of_problem(frozen, problem), {}
    made = (_train(task, arm, problem, frozen, factor, tried, *kept) for factor in factors)
    best = max(made, key=lambda trial: trial.history.best)  # one by one, since models may be large
    started = time.perf_counter()
    best.found = task.predict(best.model, frozen)
    best.seconds += time.perf_counter() - started
    return best


def _train(task: Task, arm: arms.Arm, problem: str, frozen: Frozen, factor: float, tried: dict, *kept: Any) -> Trial:
    checkpoints, configuration = kept
    extractor = arm.extractor(task.start)
    model = task.model(extractor, frozen)
    made_by = configuration | arm.made_by(extractor) | {"images": task.images, "model": model.settings}
    made_by |= {"problem": problem} if problem else {}
    loss, validate = lambda m, indices: task.loss(m, frozen, indices), lambda m: task.validate(m, frozen)
    examples, learns = task.examples(frozen), any(p.requires_grad for p in model.parameters())
    epochs, rate = task.epochs * learns, task.learning_rate * factor * arm.pace
    training = Training(model, loss, examples, validate, epochs, rate, task.batch_size, arm.seed)
    words = ", ".join(filter(None, (problem, arm.method, f"seed {arm.seed}")))
    times = "" if factor == 1 else f"rate x{factor:.2g}"
    folder = checkpoints and checkpoints / arms.file_name(arm.method, f"-seed{arm.seed}") / problem / times
    history = training.fit(words, folder, made_by)
    tried[rate] = history.best
    parameters = sum(parameter.numel() for parameter in training.parameters)
    seconds = sum(row["seconds"] for row in history.epochs)
    return Trial(arm.method, arm.seed, problem, model, history, tried, parameters, seconds, factor=factor)


def best_share(score: Callable[[float], float]) -> tuple[float, dict[float, float]]:
    """That of SHARES which validation likes best, of equals the nearest to a half, and what it said of each."""
    tried = {share: score(share) for share in SHARES}
    return max(tried, key=lambda share: (tried[share], -abs(share - 0.5))), tried


def rows(run: Any, task: Task, trials: Iterable[Trial], frozen: Frozen, weights_sha256: str) -> list[Row]:
    """A row for everything that a task measures of its trials; `run` is from `params.check`."""
    told = []
    for trial in trials:
        about = {"method": trial.method, "seed": trial.seed, "seconds": trial.seconds, "weights_sha256": weights_sha256}
        about |= training_of(trial)
        for found in task.measure(trial, frozen):
            told.append(_row(run, task, found, found.values.mean(), found.n or len(found.values), about | trial.row))
    return told


def training_of(trial: Trial) -> dict[str, Any]:
    """What a row says of the training."""
    fields = ("steps", "best_epoch", "learning_rate", "ended") if trial.history else ()
    return {name: getattr(trial.history, name) for name in fields}


def differences(run: Any, task: Task, trials: Iterable[Trial], frozen: Frozen, weights_sha256: str) -> list[Row]:
    """The paired tests of the task's main method against every other, over every unit that has two or more."""
    tested: dict[tuple, tuple[Measured, dict[str, list[np.ndarray]]]] = {}
    ended: dict[tuple, set[str]] = {}  # (what is measured, method) -> how its trainings did
    main = task.main
    for trial in trials:
        for found in (found for found in task.measure(trial, frozen) if found.groups is not None):
            key = (found.gallery, found.metric, found.definition, found.split)
            tested.setdefault(key, (found, {}))[1].setdefault(trial.method, []).append(found.values)
            ended.setdefault((key, trial.method), set()).add(trial.history.ended if trial.history else "")
    told = []
    for key, (found, values) in tested.items():
        others = [method for method in values if method != main and main in values]
        for unit, labels in found.groups.items() if others else ():
            if len(np.unique(labels)) < 2:  # nothing can be said of others of its kind
                continue
            tests = [paired_bootstrap(np.stack(values[main]), np.stack(values[m]), labels) for m in others]
            for method, test, p in zip(others, tests, holm([test.p for test in tests]), strict=True):
                seeds = f"{main} {len(values[main])}, {method} {len(values[method])}"
                rule = TEST.format(unit=unit, seeds=seeds, number=len(others))
                about = {"method": method, "metric": f"{found.metric}: {main} - other"}
                about["weights_sha256"] = weights_sha256
                both = ended[key, main] | ended[key, method]
                about["ended"] = next((end for end in (results.CAP, results.PLATEAU) if end in both), "")
                for end, name in results.ENDS.items():
                    value, about["definition"] = getattr(test._replace(p=p), name), f"{rule}; {end}"
                    told.append(_row(run, task, found, value, test.n, about))
    return told


def _row(run: Any, task: Task, found: Measured, value: float, n: int, about: Mapping[str, Any]) -> Row:
    where = {"task": task.name, "dataset": task.dataset, "split": found.split or task.split, "gallery": found.gallery}
    what = {"metric": found.metric, "definition": found.definition, "value": value, "n": n}
    return results.row(run, **where | what | about)
