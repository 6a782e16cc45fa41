"""The arms of the segmentation table, trained and tested alike: same pairs, epochs, grid and number of parameters."""

import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sfhelpers import metrics
from sfhelpers.backbones import Backbone
from sfhelpers.datasets import Dataset
from sfhelpers.datasets.contents import check_apart, fingerprint
from sfhelpers.datasets.records import listed
from sfhelpers.fusion import FusedExtractor
from sfhelpers.tasks import arms, segmentation
from sfhelpers.tasks.segmentation import PreparedPairs, SketchSegmenter

MEAN_MASK = "mean mask"
METHODS = (*arms.METHODS, MEAN_MASK)


@dataclass
class Trial(arms.Trial):
    """One method trained with one seed.

    Attributes:
        threshold: chosen on the validation pairs.
        probabilities: part name ("seen", "unseen") -> (N, side, side).
    """

    threshold: float
    probabilities: dict[str, Tensor]


@dataclass
class Parts:
    """The pairs of one arm, everything frozen computed.

    Attributes:
        train, validation: of seen categories.
        test: part name ("seen", "unseen") -> pairs.
        dataset, split: what they were taken from.
    """

    train: PreparedPairs
    validation: PreparedPairs
    test: dict[str, PreparedPairs]
    dataset: str
    split: str


def parts_of(dataset: Dataset, prepare: Callable[[Dataset], PreparedPairs]) -> Parts:
    """Prepare a dataset's parts: trained on seen categories, tested on seen and, if there are any, unseen ones.

    Photos without a mask are left out, with a warning that counts them.

    Raises:
        ValueError: an image file is trained on and tested with, under whatever name, or no photo of a part has a mask.
    """
    train, validation = (dataset.select(part=part, seen=True) for part in ("train", "val"))
    test = {
        name: chosen
        for name, seen in (("seen", True), ("unseen", False))
        if (chosen := dataset.select(part="test", seen=seen)).photos
    }
    check_apart((*train.records, *validation.records), [r for part in test.values() for r in part.records])
    _warn_of_bare((train, validation, *test.values()))
    train, validation = _masked(train, "train"), _masked(validation, "val")
    test = {name: part.select(masked=True) for name, part in test.items() if part.has_masks} or {
        "seen": _masked(dataset.select(part="test"), "test")
    }
    return Parts(
        train=prepare(train),
        validation=prepare(validation),
        test={name: prepare(chosen) for name, chosen in test.items()},
        dataset=dataset.name,
        split=dataset.split,
    )


def _warn_of_bare(parts: Iterable[Dataset]) -> None:
    photos = [photo for part in parts for photo in part.photos]
    bare = [f"{photo.category}/{photo.path.name}" for photo in photos if photo.mask is None]
    if bare:
        count = f"{len(bare)} of {len(photos)}"
        warnings.warn(f"{count} photos have no mask and are left out of the comparison: {listed(bare)}.", stacklevel=3)


def _masked(dataset: Dataset, part: str) -> Dataset:
    """The records without photos that have no mask; ValueError if none is left of some."""
    if dataset.photos and not dataset.has_masks:
        raise ValueError(
            f"none of the {len(dataset.photos)} photos of dataset {dataset.name} in its part {part!r} has a mask: "
            "add mask/<class>/<photo>.png for more photos, or raise limit (0 takes all)."
        )
    return dataset.select(masked=True)


def compare(
    backbone: Backbone,
    dataset: Dataset,
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
        checkpoints: folder from which a comparison that was stopped goes on; None keeps nothing.
        configuration: what else made the trainings, as in `fit`.

    Returns:
        The trials, method by method with the mean mask last, and the parts of the last arm (for pictures: their pairs
        are the same in all).

    Raises:
        ValueError: an unknown method, or no arm.
    """
    methods, seeds = tuple(methods), tuple(seeds)
    arms.check_methods(methods, (MEAN_MASK,))

    made = task(dataset, epochs, learning_rate, batch_size, checkpoints, configuration)
    trained = [method for method in methods if method != MEAN_MASK]
    trials, parts = arms.compare(backbone, made, trained, seeds, inject, keep_models, log)
    if MEAN_MASK in methods:
        trials += [_mean_mask_trial(parts, seed) for seed in seeds]
    return trials, parts


def task(
    dataset: Dataset,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    checkpoints: Path | None = None,
    configuration: dict[str, Any] | None = None,
) -> arms.Task:
    """Segmentation as the comparisons see it. Arguments as in `compare`."""
    images = fingerprint(dataset.records)

    def prepare(extractor: FusedExtractor, **settings: Any) -> Parts:
        side = arms.reading_size(extractor.backbone)
        return parts_of(dataset, lambda part: segmentation.prepare_pairs(extractor, part, size=side, **settings))

    def train(arm: arms.Arm, parts: Parts) -> Trial:
        kept = arm.kept(checkpoints, configuration, images)
        return _trial(arm, parts, epochs, learning_rate, batch_size, kept)

    def values(trial: Trial, parts: Parts) -> dict[str, np.ndarray]:
        return {
            f"{name} categories": scores(trial, name, data.pair_masks)["foreground IoU"]
            for name, data in parts.test.items()
        }

    def groups(parts: Parts) -> dict[str, np.ndarray]:
        return {f"{name} categories": data.pairs[:, 1].numpy() for name, data in parts.test.items()}

    definition = "mean over pairs of |P and T| / |P or T|, threshold chosen on validation pairs, no CRF"
    return arms.Task("segmentation", "foreground IoU", definition, prepare, train, values, groups, images=images)


def _trial(arm: arms.Arm, parts: Parts, epochs: int, learning_rate: float, batch_size: int, kept: dict) -> Trial:
    model = SketchSegmenter(arm.extractor)
    history = segmentation.train_segmenter(
        model, parts.train, parts.validation, epochs, arm.rate(learning_rate), batch_size, arm.seed,
        progress=f"{arm.method}, seed {arm.seed}", **kept,
    )  # fmt: skip
    started = time.perf_counter()
    validation = segmentation.predict_pairs(model, parts.validation, progress=None)
    return Trial(
        arm.method, arm.seed, model, history, arms.trainable(model),
        threshold=segmentation.choose_threshold(validation, parts.validation.pair_masks),
        probabilities={part: segmentation.predict_pairs(model, data) for part, data in parts.test.items()},
        seconds=history.seconds + time.perf_counter() - started,
    )  # fmt: skip


def _mean_mask_trial(parts: Parts, seed: int) -> Trial:
    started = time.perf_counter()
    mean = segmentation.mean_mask(parts.train.pair_masks)
    expand = {name: mean.expand(len(data), *mean.shape) for name, data in parts.test.items()}
    validation = mean.expand(len(parts.validation), *mean.shape)
    threshold = segmentation.choose_threshold(validation, parts.validation.pair_masks)
    return Trial(MEAN_MASK, seed, None, None, 0, time.perf_counter() - started, threshold, expand)


def scores(trial: Trial, part: str, masks: Tensor, threshold: float | None = None) -> dict[str, np.ndarray]:
    """Every metric of a trial on a part, one value a pair ("dataset IoU": one value in all), at its own threshold."""
    cut = trial.threshold if threshold is None else threshold
    found = segmentation.evaluate(trial.probabilities[part], masks, cut)
    found["dataset IoU"] = np.array([metrics.dataset_iou(trial.probabilities[part] >= cut, masks)])
    return found


def refined(trial: Trial, part: str, photos: Tensor) -> Trial:
    """The trial with the maps of one part refined by the dense CRF; undecided (its threshold) becomes 0.5.

    Args:
        photos: (N, 3, side, side) in [0, 1], the photo of every pair.
    """
    maps = segmentation.refine_batch(photos, trial.probabilities[part], threshold=trial.threshold)
    return replace(trial, threshold=0.5, probabilities={part: maps})
