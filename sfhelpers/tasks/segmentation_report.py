"""What a comparison of segmentation arms is told as: example pairs, pictures of masks, result rows."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfhelpers import plots, results
from sfhelpers.datasets import Dataset, Record, pairs
from sfhelpers.images import open_image
from sfhelpers.tasks.segmentation import PAPER_THRESHOLD, PreparedPairs
from sfhelpers.tasks.segmentation_comparison import Parts, Trial, scores

DEFINITIONS = {
    "foreground IoU": "mean over pairs of |P and T| / |P or T|, both empty = 1",
    "mIoU": "mean over pairs of the mean of foreground and background IoU",
    "pAcc": "mean over pairs of right pixels / all pixels",
    "pAcc (foreground)": "mean over pairs of right foreground pixels / true foreground pixels",
    "pAcc (class mean)": "mean over pairs of the mean over both classes of right / true pixels",
    "dataset IoU": "sum of intersections / sum of unions over all pairs",
}
COMMITTED = Path(__file__).resolve().parents[2] / "data" / "results" / "04_segmentation.json"
CHOSEN = "threshold chosen on validation pairs, no CRF"


def example_pairs(dataset: Dataset, number: int) -> list[tuple[Record, Record]]:
    """The first (sketch, photo) pair with a mask of as many categories, spread over the alphabet.

    Raises:
        ValueError: no photo has a mask.
    """
    if not dataset.has_masks:
        raise ValueError(
            f"none of the {len(dataset.photos)} photos of dataset {dataset.name} to be shown has a mask: "
            "add mask/<class>/<photo>.png for more photos, or raise limit (0 takes all)."
        )
    first: dict[str, tuple[Record, Record]] = {}
    for sketch, photo in pairs(dataset.select(masked=True)):
        first.setdefault(photo.category, (sketch, photo))
    chosen = np.linspace(0, len(first) - 1, min(number, len(first))).round().astype(int)
    return [list(first.values())[k] for k in chosen]


def show_pairs(
    trial: Trial, data: PreparedPairs, photos: Tensor, part: str, which: Iterable[int], values: np.ndarray
) -> plots.Figure:
    """Query, photo, probability, mask and truth of some pairs, labelled by category and value.

    Args:
        photos: (N, 3, side, side) of all pairs; values: (N,) of all pairs; which: positions among them.
    """
    index = torch.as_tensor(np.asarray(list(which)))
    sketch, photo = data.pairs[index].unbind(1)
    maps = trial.probabilities[part][index]
    return plots.mask_grid(
        [open_image(data.sketch_records[k].path) for k in sketch],
        list(photos[index]),
        list(maps),
        list(maps >= trial.threshold),
        list(data.pair_masks[index]),
        [f"{data.photo_records[k].category}\nIoU {values[i]:.2f}" for k, i in zip(photo, index, strict=True)],
    )


def rows(run: Any, trials: Iterable[Trial], parts: Parts, weights_sha256: str) -> list[results.Row]:
    """One row a trial, part and metric at the chosen threshold, and foreground IoU at the paper's 0.47.

    Dataset and split are those that were measured, which may differ from the run's: photos without masks are only
    segmented, never scored.
    """
    return [
        row
        for trial in trials
        for part in parts.test
        for cut, rule in ((None, CHOSEN), (PAPER_THRESHOLD, "threshold 0.47 (paper), no CRF"))
        for row in _rows(run, trial, part, parts, weights_sha256, cut, rule)
    ]


def crf_rows(run: Any, refined: Iterable[Trial], parts: Parts, weights_sha256: str) -> list[results.Row]:
    """Rows of trials that went through `comparison.refined`."""
    rule = "threshold chosen on validation pairs, then dense CRF"
    return [
        row
        for trial in refined
        for part in trial.probabilities
        for row in _rows(run, trial, part, parts, weights_sha256, None, rule)
    ]


def gallery_row(run: Any, found: list[float], weights_sha256: str) -> results.Row:
    """The row of a gallery whose photos came with masks; `found` is the foreground IoU of each."""
    definition = (
        f"{DEFINITIONS['foreground IoU'].replace('pairs', 'photos')}; threshold from validation pairs, then CRF"
    )
    return results.row(
        run, task="segmentation", method="fused", metric="foreground IoU", definition=definition,
        value=np.mean(found), n=len(found), weights_sha256=weights_sha256, gallery="whole gallery",
    )  # fmt: skip


def _rows(
    run: Any, trial: Trial, part: str, parts: Parts, weights_sha256: str, cut: float | None, rule: str
) -> list[results.Row]:
    masks = parts.test[part].pair_masks
    return [
        results.row(
            run, task="segmentation", method=trial.method, metric=metric, definition=f"{DEFINITIONS[metric]}; {rule}",
            value=values.mean(), n=len(masks), weights_sha256=weights_sha256, gallery=f"{part} categories",
            seconds=trial.seconds, seed=trial.seed, dataset=parts.dataset, split=parts.split,
        )
        for metric, values in scores(trial, part, masks, cut).items()
        if cut is None or metric == "foreground IoU"
    ]  # fmt: skip
