"""The arms of the correspondence table, trained and tested alike: same pairs, epochs, grid and number of parameters."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sfhelpers.backbones import Backbone
from sfhelpers.datasets.psc6k import Annotated
from sfhelpers.fusion import ARMS, FusedExtractor
from sfhelpers.fusion.modules import to_grid
from sfhelpers.tasks import before as arms
from sfhelpers.tasks import correspondence
from sfhelpers.tasks import correspondence_unlabelled as unlabelled
from sfhelpers.tasks.correspondence import SIDES, PreparedPoints, SketchMatcher
from sfhelpers.tasks.correspondence_unlabelled import WarpedPairs
from sfhelpers.tasks.prepared import fit_statistics

SAME_PIXEL = "same pixel"
# Off the shelf: the raw features, standardised, nothing trained.
RAW = {"B-CLIP": ("tokens",), "B-SD": ("f1", "f2", "f3"), "B-SD+CLIP": ("f1", "f2", "f3", "tokens")}
TRIVIAL = (*RAW, SAME_PIXEL)
PLAIN = tuple(m for m, settings in ARMS.items() if settings["inject"] in ("none", "late"))  # what these see, RAW needs
METHODS = (*(m for m in arms.METHODS if m not in PLAIN), *PLAIN, *TRIVIAL)
TEMPERATURES = (0.01, 0.02, 0.05, 0.1, 0.2)  # of the raw features' window soft-argmax; chosen on validation pairs
DEFINITION = "image side, <=, mean over pairs, both directions"


@dataclass
class Trial(arms.Trial):
    """One method trained with one seed.

    Attributes:
        places: part name ("seen", "unseen") -> direction -> (N, J, 2) predicted places in [0, 1].
    """

    places: dict[str, dict[str, Tensor]]


@dataclass
class Parts:
    """The pairs of one arm, everything frozen computed.

    Attributes:
        train, validation: annotated pairs; in the self-supervised split pairs without keypoints and their warps.
        test: part name ("seen", "unseen") -> annotated pairs.
        dataset, split: what they were taken from.
    """

    train: PreparedPoints | WarpedPairs
    validation: PreparedPoints | WarpedPairs
    test: dict[str, PreparedPoints]
    dataset: str
    split: str


class RawFeatures(nn.Module):
    """The frozen features of a plain extractor as one map, each source standardised and of the same weight.

    Args:
        extractor: with `inject="none"`, its statistics fitted.
        sources: some of its sources.
    """

    def __init__(self, extractor: FusedExtractor, sources: tuple[str, ...]):
        super().__init__()
        self.extractor, self.sources = extractor, sources

    def forward(self, prepared: dict[str, Tensor]) -> Tensor:
        """What was prepared to (B, channels of the sources, grid, grid)."""
        found, side = self.extractor.features(prepared), self.extractor.aggregator.grid
        maps = [to_grid(self.extractor.statistics[name](found[name]), (side, side)) for name in self.sources]
        return torch.cat([nn.functional.normalize(value, dim=1) for value in maps], dim=1)


def parts_of(annotated: Annotated, extractor: FusedExtractor, **settings: Any) -> Parts:
    """Prepare every part: trained on seen categories, tested on seen and, if there are any, unseen ones."""
    size = arms.reading_size(extractor.backbone)

    def prepare(part: str, seen: bool) -> PreparedPoints:
        return correspondence.prepare_points(extractor, annotated.select(part, seen), size, **settings)

    def warp(part: str) -> WarpedPairs:
        return unlabelled.prepare_warps(extractor, annotated.unlabelled.select(part=part), size, **settings)

    learns = warp if annotated.split == "self-supervised" else lambda part: prepare(part, True)
    tested = [(name, seen) for name, seen in (("seen", True), ("unseen", False)) if annotated.select("test", seen)]
    return Parts(
        learns("train"), learns("val"), {name: prepare("test", seen) for name, seen in tested},
        annotated.dataset, annotated.split,
    )  # fmt: skip


def compare(
    backbone: Backbone,
    annotated: Annotated,
    methods: Iterable[str],
    seeds: Iterable[int],
    epochs: int,
    learning_rate: float,
    batch_size: int,
    inject: str = "up",
    keep_models: bool = True,
    log: Callable[[str], None] = print,
    checkpoints: Path | None = None,
    configuration: dict[str, Any] | None = None,
) -> tuple[list[Trial], Parts]:
    """Train and test every method with every seed; see `arms.compare` for what is shared.

    Args:
        annotated: from `psc6k.load`.
        batch_size: photos a step, each with all its sketches.
        checkpoints: folder from which a comparison that was stopped goes on; None keeps nothing.
        configuration: what else made the trainings, as in `fit`.

    Returns:
        The trials, method by method with those that learn nothing last, and the parts of the last arm (for pictures:
        their pairs are the same in all).

    Raises:
        ValueError: an unknown method, or no arm.
    """
    methods, seeds = tuple(methods), tuple(seeds)
    arms.check_methods(methods, TRIVIAL)
    made = task(annotated, epochs, learning_rate, batch_size, checkpoints, configuration)
    trained = [method for method in methods if method not in TRIVIAL]
    trials, parts = arms.compare(backbone, made, trained, seeds, inject, keep_models, log)
    raw = [method for method in methods if method in RAW]
    if raw:
        extractor = arms.extractor_for("SD+CLIP concatenated", backbone, seeds[0])
        plain = parts if trained[-1] in PLAIN else parts_of(annotated, extractor)
        trials += [_raw_trial(method, extractor, plain, seed) for method in raw for seed in seeds[:1]]
    if SAME_PIXEL in methods:
        same = {n: {d: data.points[source] for d, (source, _) in SIDES.items()} for n, data in parts.test.items()}
        trials.append(Trial(SAME_PIXEL, seeds[0], None, None, 0, 0.0, same))
    return trials, parts


def task(
    annotated: Annotated,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    checkpoints: Path | None = None,
    configuration: dict[str, Any] | None = None,
) -> arms.Task:
    """Correspondence as the comparisons see it. Arguments as in `compare`."""
    images = annotated.fingerprint()

    def prepare(extractor: FusedExtractor, **settings: Any) -> Parts:
        return parts_of(annotated, extractor, **settings)

    def train(arm: arms.Arm, parts: Parts) -> Trial:
        kept = arm.kept(checkpoints, configuration, images)
        return _trial(arm, parts, epochs, learning_rate, batch_size, kept)

    def values(trial: Trial, parts: Parts) -> dict[str, np.ndarray]:
        return {
            f"{name} categories": correspondence.scores(trial.places[name], data, 0.05)
            for name, data in parts.test.items()
        }

    def groups(parts: Parts) -> dict[str, np.ndarray]:
        return {f"{name} categories": photo_groups(data) for name, data in parts.test.items()}

    return arms.Task("correspondence", "PCK@5", DEFINITION, prepare, train, values, groups, images=images)


def photo_groups(data: PreparedPoints) -> np.ndarray:
    """(2 N,) the photo of every directed pair, in the order of `correspondence.scores`."""
    return np.tile(data.images.pairs[:, 1].numpy(), len(SIDES))


def _trial(arm: arms.Arm, parts: Parts, epochs: int, learning_rate: float, batch_size: int, kept: dict) -> Trial:
    model = SketchMatcher(arm.extractor)
    train = unlabelled.train_matcher if isinstance(parts.train, WarpedPairs) else correspondence.train_matcher
    history = train(
        model, parts.train, parts.validation, epochs, arm.rate(learning_rate), batch_size, arm.seed,
        progress=f"{arm.method}, seed {arm.seed}", **kept,
    )  # fmt: skip
    started = time.perf_counter()
    places = {name: correspondence.predict_pairs(model, data) for name, data in parts.test.items()}
    seconds = history.seconds + time.perf_counter() - started
    return Trial(arm.method, arm.seed, model, history, arms.trainable(model), seconds, places)


def _raw_trial(method: str, extractor: FusedExtractor, parts: Parts, seed: int) -> Trial:
    """Nearest neighbour of untrained features; of it all, the validation pairs decide only the temperature."""
    started = time.perf_counter()
    fit_statistics(extractor, parts.train.images)
    models = [SketchMatcher(RawFeatures(extractor, RAW[method]), temperature=t) for t in TEMPERATURES]
    seen = parts.validation.teacher if isinstance(parts.validation, WarpedPairs) else parts.validation
    model = max(models, key=lambda m: correspondence.validation_score(m, seen))
    places = {name: correspondence.predict_pairs(model, data) for name, data in parts.test.items()}
    return Trial(method, seed, None, None, 0, time.perf_counter() - started, places)
