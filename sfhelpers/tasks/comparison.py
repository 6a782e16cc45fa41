"""The arms of the segmentation table, trained and tested alike: same pairs, epochs, grid and number of parameters."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from sfhelpers import metrics
from sfhelpers.backbones import Backbone, randomised
from sfhelpers.datasets import Dataset
from sfhelpers.fusion import ARMS, FusedExtractor, matched_width, trainable_parameters
from sfhelpers.tasks import segmentation
from sfhelpers.tasks.fit import History
from sfhelpers.tasks.segmentation import PreparedPairs, SketchSegmenter

RANDOM_UNET = "fused (random UNet)"
MEAN_MASK = "mean mask"
METHODS = (*ARMS, RANDOM_UNET, MEAN_MASK)
DIM, WIDTH = 64, 32  # of the map and of the fused arm's ResNet blocks; the other arms' widths are matched to it
PLAIN = "plain"  # the frozen tensors of every arm whose UNet is the backbone's own and gets no injection


@dataclass
class Trial:
    """One method trained with one seed.

    Attributes:
        method, seed: which.
        model: the trained segmenter, None for the mean mask.
        history: of the training, None for the mean mask.
        threshold: chosen on the validation pairs.
        probabilities: part name ("seen", "unseen") -> (N, side, side).
        parameters: how many it learned.
        seconds: training and prediction; what is frozen not included.
    """

    method: str
    seed: int
    model: SketchSegmenter | None
    history: History | None
    threshold: float
    probabilities: dict[str, Tensor]
    parameters: int
    seconds: float


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


def first_sketches(dataset: Dataset, number: int) -> Dataset:
    """The dataset with at most `number` sketches a photo, or, where sketches stand alone, all of them."""
    seen: dict[tuple[str, str], int] = {}
    kept = []
    for record in dataset.records:
        key = (record.category, record.instance)
        if record.domain == "sketch":
            seen[key] = seen.get(key, 0) + 1
        if record.domain == "photo" or seen[key] <= number:
            kept.append(record)
    return replace(dataset, records=tuple(kept))


def parts_of(dataset: Dataset, prepare: Callable[[Dataset], PreparedPairs]) -> Parts:
    """Prepare a dataset's parts: trained on seen categories, tested on seen and, if there are any, unseen ones."""
    test = {
        name: chosen
        for name, seen in (("seen", True), ("unseen", False))
        if (chosen := dataset.select(part="test", seen=seen)).photos
    }
    return Parts(
        train=prepare(dataset.select(part="train", seen=True)),
        validation=prepare(dataset.select(part="val", seen=True)),
        test={name: prepare(chosen) for name, chosen in test.items()},
        dataset=dataset.name,
        split=dataset.split,
    )


def reading_size(backbone: Backbone) -> int:
    """Side in px at which images are read: the larger of what the two models look at."""
    return max(backbone.diffusion.size, backbone.vision.size)


def extractor_for(method: str, backbone: Backbone, seed: int, inject: str = "up") -> FusedExtractor:
    """The extractor of a method's arm, its width matched to the parameters of the fused arm.

    Args:
        method: one of METHODS but the mean mask.
        inject: of the arm called "fused".
    """
    settings: dict[str, Any] = dict(ARMS.get(method, {}))
    if method in ("fused", RANDOM_UNET):
        settings["inject"] = inject
    settings.setdefault("branches", ("f1", "f2", "f3"))
    target = trainable_parameters(backbone, ("f1", "f2", "f3"), "up", DIM, WIDTH)
    width = matched_width(backbone, settings["branches"], settings["inject"], DIM, target)
    grid = backbone.diffusion.size // backbone.diffusion.factor  # the third up-block's own: 24, or 60 with SD 2.1
    return FusedExtractor(backbone, dim=DIM, grid=grid, width=width, seed=seed, **settings)


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
) -> tuple[list[Trial], Parts]:
    """Train and test every method with every seed.

    What is frozen is computed once a kind of arm and shared by its seeds; the arms without injection share one.

    Returns:
        The trials, method by method, and the parts of the last arm (for pictures: their pairs are the same in all).

    Raises:
        ValueError: an unknown method, no method, or the mean mask before any arm.
    """
    methods, seeds = _checked(methods), tuple(seeds)
    trials: list[Trial] = []
    parts, prepared = None, ""
    for method, seed in ((method, seed) for method in methods for seed in seeds):
        if method == MEAN_MASK:
            trials.append(_mean_mask_trial(parts, seed))
            continue
        used = randomised(backbone, seed=0) if method == RANDOM_UNET else backbone
        extractor = extractor_for(method, used, seed, inject)
        key = _frozen_key(method, extractor, seed)
        if key != prepared:
            parts, prepared = None, key  # let go first: one kind at a time is kept in memory
            source = extractor_for("SD+CLIP concatenated", used, seed) if key == PLAIN else extractor
            side = reading_size(used)
            parts = parts_of(dataset, lambda part, s=source, px=side: segmentation.prepare_pairs(s, part, size=px))
        trials.append(_trial(method, seed, extractor, parts, epochs, learning_rate, batch_size))
        log(f"{method}, seed {seed}: best epoch {trials[-1].history.best_epoch} of {epochs}")
        if not keep_models:
            trials[-1].model = None
    return trials, parts


def _checked(methods: Iterable[str]) -> tuple[str, ...]:
    methods = tuple(methods)
    for method in methods:
        if method not in METHODS:
            raise ValueError(f"unknown method {method!r}: use some of {', '.join(METHODS)}.")
    if methods[:1] in ((), (MEAN_MASK,)):
        raise ValueError(f"{MEAN_MASK} reuses another arm's pairs: name at least one of them, and name it before.")
    return methods


def _frozen_key(method: str, extractor: FusedExtractor, seed: int) -> str:
    """What an arm's frozen tensors depend on: arms with the same key can share them."""
    if extractor.inject in ("none", "late") and method != RANDOM_UNET:
        return PLAIN
    return f"{method} {seed}" if extractor.inject == "random" else method


def _trial(
    method: str, seed: int, extractor: FusedExtractor, parts: Parts, epochs: int, learning_rate: float, batch_size: int
) -> Trial:
    started = time.perf_counter()
    model = SketchSegmenter(extractor)
    history = segmentation.train_segmenter(
        model, parts.train, parts.validation, epochs, learning_rate, batch_size, seed, progress=f"{method}, seed {seed}"
    )
    validation = segmentation.predict_pairs(model, parts.validation, progress=None)
    return Trial(
        method, seed, model, history,
        threshold=segmentation.choose_threshold(validation, parts.validation.pair_masks),
        probabilities={part: segmentation.predict_pairs(model, data) for part, data in parts.test.items()},
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        seconds=time.perf_counter() - started,
    )  # fmt: skip


def _mean_mask_trial(parts: Parts, seed: int) -> Trial:
    started = time.perf_counter()
    mean = segmentation.mean_mask(parts.train.pair_masks)
    expand = {name: mean.expand(len(data), *mean.shape) for name, data in parts.test.items()}
    validation = mean.expand(len(parts.validation), *mean.shape)
    threshold = segmentation.choose_threshold(validation, parts.validation.pair_masks)
    return Trial(MEAN_MASK, seed, None, None, threshold, expand, 0, time.perf_counter() - started)


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
