"""The arms of the recognition table, trained and tested alike: same sketches, epochs, grid and number of parameters."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfhelpers import metrics
from sfhelpers.backbones import Backbone
from sfhelpers.datasets.contents import check_apart, fingerprint
from sfhelpers.datasets.records import Record
from sfhelpers.datasets.sketches import Sketches
from sfhelpers.fusion import FusedExtractor
from sfhelpers.tasks import before as arms
from sfhelpers.tasks import recognition
from sfhelpers.tasks import recognition_probes as probes
from sfhelpers.tasks.recognition import PreparedSketches, SketchRecogniser
from sfhelpers.tasks.recognition_probes import CHANCE, PRIOR, PROBES, TRIVIAL

__all__ = [
    "CHANCE",
    "GALLERY",
    "METHODS",
    "PRIOR",
    "PROBES",
    "TRIVIAL",
    "Parts",
    "Trial",
    "compare",
    "parts_of",
    "task",
]

METHODS = (*arms.METHODS, *PROBES, *TRIVIAL)
GALLERY = "all categories"
VALIDATION = 4  # sketches a category to choose the epoch, C and temperature by, and never more than shots
# Validation log-loss of three heads that started so .40, from zero .55 (10 shots, 5 epochs).
START = "random"
MOST_EPOCHS = 4  # with fewer shots an epoch is shorter: so many times as many are run at the most


@dataclass
class Trial(arms.Trial):
    """One method trained with one seed and so many shots.

    Attributes:
        shots: sketches a category that it learned from, 0 for all there were.
        logits: (N, C) of the test sketches.
        temperature: by which logits are divided for calibrated probabilities; chosen on the validation sketches.
        features: (N, dim) standardised pooled features of the test sketches, None where none are learned.
        fewer: the same method and seed with fewer shots.
    """

    shots: int
    logits: Tensor
    temperature: float
    features: Tensor | None = None
    fewer: "list[Trial]" = field(default_factory=list)

    def probabilities(self, calibrated: bool = False) -> Tensor:
        """(N, C) float64, rows that sum to 1."""
        return (self.logits.double() / (self.temperature if calibrated else 1)).softmax(1)


@dataclass
class Parts:
    """The sketches of one arm, everything frozen computed.

    Attributes:
        train, validation, test: of the same categories.
        frozen: part -> source -> (N, C) pooled features of the untouched backbones, for the probes.
        dataset, split: what they were taken from.
    """

    train: PreparedSketches
    validation: PreparedSketches
    test: PreparedSketches
    frozen: dict[str, dict[str, np.ndarray]]
    dataset: str
    split: str


def compare(
    backbone: Backbone,
    sketches: Sketches,
    methods: Iterable[str],
    seeds: Iterable[int],
    epochs: int,
    learning_rate: float,
    batch_size: int,
    shots: int = 10,
    limit: int = 0,
    fewer: Sequence[int] = (),
    inject: str = "up",
    keep_models: bool = True,
    log: Callable[[str], None] = print,
    checkpoints: Path | None = None,
    configuration: dict[str, Any] | None = None,
) -> tuple[list[Trial], Parts]:
    """Train and test every method with every seed; see `arms.compare` for what is shared.

    The sketches that are learned from are the same for all seeds, so the spread over seeds is that of the training.

    Args:
        sketches: with their parts; categories without one of the parts are an error.
        shots: sketches a category to learn from; 0 takes all of the train part.
        limit: test sketches a category at most; 0 takes all.
        fewer: other numbers of shots, below `shots`, that fused, its halves and the probes learn from as well, for a
            curve.
        checkpoints, configuration: as in `fit`.

    Returns:
        The trials, method by method, and the parts of the last arm.

    Raises:
        ValueError: an unknown method, no arm, fewer than two categories, or more shots than there are.
    """
    methods, seeds = tuple(methods), tuple(seeds)
    arms.check_methods(methods, (*PROBES, *TRIVIAL))
    made = task(sketches, epochs, learning_rate, batch_size, shots, limit, fewer, checkpoints, configuration, backbone)
    trained = [method for method in methods if method in arms.METHODS]
    trials, parts = arms.compare(backbone, made, trained, seeds, inject, keep_models, log)
    if not parts.frozen and any(method in PROBES for method in methods):  # no arm stands on the backbone as it is
        plain = arms.extractor_for("SD+CLIP concatenated", backbone, seeds[0])
        parts = replace(parts, frozen=made.prepare(plain).frozen)
    for method in methods:
        if method in PROBES:
            trials.append(_probe_trial(method, seeds[0], parts, shots, fewer))
        if method in TRIVIAL:
            trials += [_trivial_trial(method, seed, parts, shots) for seed in seeds]
    return trials, parts


def task(
    sketches: Sketches,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    shots: int = 10,
    limit: int = 0,
    fewer: Sequence[int] = (),
    checkpoints: Path | None = None,
    configuration: dict[str, Any] | None = None,
    backbone: Backbone | None = None,
) -> arms.Task:
    """Recognition as the comparisons see it. Arguments and errors as in `compare`; `backbone`: the probes' own."""
    chosen = parts_of(sketches, shots, limit)
    images = fingerprint(item for part in chosen.values() for item in part.items)
    frozen: dict[str, dict[str, np.ndarray]] = {}

    def prepare(extractor: FusedExtractor, **settings: Any) -> Parts:
        side = arms.reading_size(extractor.backbone)
        found = {
            name: recognition.prepare_sketches(extractor, part, sketches.categories, side, **settings)
            for name, part in chosen.items()
        }
        # Not of the random UNet or a copy to be finetuned, which stand on other backbones.
        if not frozen and extractor.backbone is backbone and probes.has_all(extractor):
            frozen.update({name: probes.frozen_features(extractor, part) for name, part in found.items()})
        return Parts(**found, frozen=frozen, dataset=sketches.name, split=sketches.split)

    def train(arm: arms.Arm, parts: Parts) -> Trial:
        kept = arm.kept(checkpoints, configuration, images)
        trial = _trial(arm, parts, epochs, learning_rate, batch_size, shots, kept)
        for number in fewer if arm.method in arms.CORE else ():
            cut = _fewer(parts, number)
            more = min(MOST_EPOCHS, round(len(parts.train) / len(cut.train)))  # for about as many steps
            trial.fewer.append(_trial(arm.again(), cut, epochs * more, learning_rate, batch_size, number))
        return trial

    def values(trial: Trial, parts: Parts) -> dict[str, np.ndarray]:
        return {GALLERY: metrics.top_k_accuracy(trial.logits, parts.test.labels)}

    def groups(parts: Parts) -> dict[str, np.ndarray]:
        return {GALLERY: np.arange(len(parts.test))}

    definition = "share of test sketches whose category has the highest score, ties against it"
    return arms.Task("recognition", "Acc@1", definition, prepare, train, values, groups, START, images)


def parts_of(sketches: Sketches, shots: int, limit: int) -> dict[str, Sketches]:
    """ "train", "validation" and "test" of a data set, as many as asked for.

    Raises:
        ValueError: fewer than two categories, more shots than there are or fewer than none, likewise the limit, a
            category without a test sketch, or an image file that is learned from and tested with under two names.
            (Drawings of an ndjson file are told apart by their keys: of a straight line, two people may well draw the
            same.)
    """
    for name, number in (("shots", shots), ("limit", limit)):
        if number < 0:
            raise ValueError(f"{name} is {number}: give how many sketches a category, or 0 for all of them.")
    train = sketches.select(part="train", categories=sketches.categories)
    recognition.check_categories(sketches.categories)
    chosen = {
        "train": recognition.choose_shots(train, shots, sketches.categories),
        "validation": sketches.select(part="val").few(min(shots, VALIDATION)),
        "test": sketches.select(part="test").few(limit),
    }
    missing = sorted(set(sketches.categories) - set(chosen["test"].categories))
    if missing or not len(chosen["validation"]):
        what = f"no test sketch of {missing[0]!r}" if missing else "no validation sketch"
        raise ValueError(f"there is {what}: give more sketches, or split them by numbers, as in 20/5.")
    files = {name: [i for i in part.items if isinstance(i, Record)] for name, part in chosen.items()}
    check_apart(files["train"] + files["validation"], files["test"])
    return chosen


def _fewer(parts: Parts, shots: int) -> Parts:
    """The same test, fewer sketches to learn from and to choose by."""
    cut = {"train": shots, "validation": min(shots, VALIDATION)}
    which = {name: getattr(parts, name).few(number) for name, number in cut.items()}
    frozen = {
        name: {source: values[which[name]] if name in which else values for source, values in sources.items()}
        for name, sources in parts.frozen.items()
    }
    data = {name: getattr(parts, name).at(at) for name, at in which.items()}
    return Parts(**data, test=parts.test, frozen=frozen, dataset=parts.dataset, split=parts.split)


def _trial(
    arm: arms.Arm,
    parts: Parts,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    shots: int,
    kept: dict | None = None,
) -> Trial:
    model = SketchRecogniser(arm.extractor, parts.train.categories, arms.DIM)
    history = recognition.train_recogniser(
        model, parts.train, parts.validation, epochs, arm.rate(learning_rate), batch_size, arm.seed,
        progress=f"{arm.method}, seed {arm.seed}, {shots or 'all'} shots", **(kept or {}),
    )  # fmt: skip
    started = time.perf_counter()
    validation = recognition.predict_sketches(model, parts.validation)
    features = recognition.pooled_sketches(model, parts.test)
    with torch.no_grad():
        logits = model.head(features.to(model.head.weight.device)).cpu()
    return Trial(
        arm.method, arm.seed, model, history, arms.trainable(model), shots=shots,
        logits=logits, features=features,
        temperature=recognition.choose_temperature(validation, parts.validation.labels),
        seconds=history.seconds + time.perf_counter() - started,
    )  # fmt: skip


def _probe_trial(method: str, seed: int, parts: Parts, shots: int, fewer: Sequence[int] = ()) -> Trial:
    """A linear probe has no seed: it is fitted to its one optimum."""
    started = time.perf_counter()
    features = {
        part: np.concatenate([sources[name] for name in PROBES[method]], axis=1)
        for part, sources in parts.frozen.items()
    }
    number = len(parts.train.categories)
    logits = probes.probe(
        features["train"], parts.train.labels.numpy(), features["validation"], parts.validation.labels.numpy()
    )
    temperature = recognition.choose_temperature(logits(features["validation"]), parts.validation.labels)
    parameters = number * (features["train"].shape[1] + 1)
    return Trial(
        method, seed, None, None, parameters, time.perf_counter() - started, shots,
        logits(features["test"]), temperature, None,
        [_probe_trial(method, seed, _fewer(parts, k), k) for k in fewer],
    )  # fmt: skip


def _trivial_trial(method: str, seed: int, parts: Parts, shots: int) -> Trial:
    number, count = len(parts.train.categories), len(parts.test)
    prior = probes.prior_logits(parts.train.labels, number, count)
    logits = prior if method == PRIOR else probes.chance_logits(number, count, seed)
    return Trial(method, seed, None, None, 0, 0.0, shots, logits, 1.0)
