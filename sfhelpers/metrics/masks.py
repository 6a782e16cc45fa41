"""Segmentation metrics of binary masks, one value an image, so that a spread can always stand beside the mean.

The SketchFusion paper (Sec. 6.4) names "mIoU" and "pAcc" without a formula, and no code for them is public; the kinds
in use differ by more than methods do, so each is a function of its own and a result must say which one it is.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sfhelpers.metrics.arrays import to_array

__all__ = ["dataset_iou", "foreground_iou", "iou_by_threshold", "pixel_accuracy", "two_class_iou"]


def foreground_iou(pred: Any, true: Any) -> np.ndarray:
    """Intersection over union of the foreground, image by image.

    Args:
        pred, true: (B, H, W) bool, the predicted and the annotated masks, arrays or tensors.

    Returns:
        (B,) float64 in [0, 1]; 1 where both masks are empty, 0 where only one is.

    Raises:
        ValueError: the arrays are not bool, not (B, H, W), or of different shapes.
    """
    both, wrong, missed, _ = _counts(pred, true)
    return _ratio(both, both + wrong + missed)


def two_class_iou(pred: Any, true: Any) -> np.ndarray:
    """Mean of the foreground's and the background's IoU, image by image; arguments and errors as `foreground_iou`.

    An all-background prediction already gets about half of the background's share, so this is the milder one.
    """
    both, wrong, missed, neither = _counts(pred, true)
    return (_ratio(both, both + wrong + missed) + _ratio(neither, neither + wrong + missed)) / 2


def dataset_iou(pred: Any, true: Any) -> float:
    """`foreground_iou` of all images taken as one: sum of intersections / sum of unions; large objects weigh more."""
    both, wrong, missed, _ = (count.sum() for count in _counts(pred, true))
    return float(_ratio(both, both + wrong + missed))


def pixel_accuracy(pred: Any, true: Any, kind: Literal["all", "foreground", "class_mean"] = "all") -> np.ndarray:
    """(B,) share of pixels that are right, image by image; arguments and errors as `foreground_iou`.

    `kind` says which pixels count:
        "all": right pixels / all pixels;
        "foreground": right foreground pixels / true foreground pixels, 1 where there is none to find;
        "class_mean": mean of that share over the classes (foreground, background) present in the true mask.
    """
    if kind not in ("all", "foreground", "class_mean"):
        raise ValueError(f"pixel_accuracy knows no kind {kind!r}: choose 'all', 'foreground' or 'class_mean'.")
    both, wrong, missed, neither = _counts(pred, true)
    if kind == "all":
        return (both + neither) / (both + wrong + missed + neither)
    foreground, background = _ratio(both, both + missed), _ratio(neither, neither + wrong)
    if kind == "foreground":
        return foreground
    weights = np.stack([both + missed > 0, neither + wrong > 0])
    return (np.stack([foreground, background]) * weights).sum(0) / weights.sum(0)


def iou_by_threshold(probabilities: Tensor, masks: Tensor, candidates: Sequence[float]) -> Tensor:
    """Mean foreground IoU at every candidate, (len(candidates),) float64, in one pass over the pixels.

    Each pixel is counted under the number of candidates it reaches; summed from the top, these counts are the sizes
    of prediction and intersection at each threshold.
    """
    if probabilities.shape != masks.shape or len(masks) == 0:
        raise ValueError(
            f"probabilities have shape {tuple(probabilities.shape)} but masks {tuple(masks.shape)}: "
            "give at least one map, at the masks' side."
        )
    ordered = torch.tensor(sorted(candidates), dtype=probabilities.dtype)
    bins = len(ordered) + 1
    total = torch.zeros(len(ordered), dtype=torch.float64)
    for probability, mask in zip(probabilities, masks, strict=True):
        reached = torch.bucketize(probability.flatten(), ordered, right=True)
        counts = torch.bincount(reached + bins * mask.flatten(), minlength=2 * bins).view(2, bins).double()
        outside, inside = counts.flip(1).cumsum(1).flip(1)[:, 1:]
        union = outside + mask.sum()
        total += torch.where(union > 0, inside / union, 1.0)
    by_value = dict(zip(sorted(candidates), total / len(masks), strict=True))
    return torch.stack([by_value[candidate] for candidate in candidates])


def _counts(pred: Any, true: Any) -> list[np.ndarray]:
    """(B,) pixels each: object in both, in the prediction alone, in the truth alone, in neither."""
    pred, true = to_array(pred), to_array(true)
    if pred.shape != true.shape:
        raise ValueError(
            f"predicted masks have shape {pred.shape} but true masks {true.shape}: resize one to the other."
        )
    if pred.ndim != 3 or (pred[:1].size == 0 and len(pred)):
        raise ValueError(f"masks have shape {pred.shape}: give (B, H, W) with at least one pixel an image.")
    if pred.dtype != bool or true.dtype != bool:
        raise ValueError(f"masks are {pred.dtype} and {true.dtype}, not bool: compare with a threshold first.")
    return [np.count_nonzero(part, axis=(1, 2)) for part in (pred & true, pred & ~true, ~pred & true, ~pred & ~true)]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole as float64, and 1 where `whole` is 0: what does not occur cannot have been missed."""
    return np.divide(part, whole, out=np.ones(part.shape), where=whole > 0)
