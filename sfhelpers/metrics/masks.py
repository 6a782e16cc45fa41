"""Segmentation metrics of binary masks, one value an image, so that a spread can always stand beside the mean.

The SketchFusion paper (Sec. 6.4) names "mIoU" and "pAcc" without a formula, and no code for them is public; the kinds
in use differ by more than methods do, so each is a function of its own and a result must say which one it is.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Masks = np.ndarray | Tensor
AccuracyKind = Literal["all", "foreground", "class_mean"]


def foreground_iou(pred: Masks, true: Masks) -> np.ndarray:
    """Intersection over union of the foreground, image by image.

    Args:
        pred: (B, H, W) bool, the predicted masks.
        true: (B, H, W) bool, the annotated masks.

    Returns:
        (B,) float64 in [0, 1]; 1 where both masks are empty, 0 where only one is.

    Raises:
        ValueError: the arrays are not bool, not (B, H, W), or of different shapes.
    """
    pred, true = _flat_masks(pred, true)
    return _ratio((pred & true).sum(1), (pred | true).sum(1))


def two_class_iou(pred: Masks, true: Masks) -> np.ndarray:
    """Mean of the foreground's and the background's IoU, image by image.

    An all-background prediction already gets about half of the background's share, so this is milder than
    `foreground_iou`. Arguments, return and errors as there; a class absent from both masks counts as 1.
    """
    pred, true = _flat_masks(pred, true)
    foreground = _ratio((pred & true).sum(1), (pred | true).sum(1))
    background = _ratio((~pred & ~true).sum(1), (~pred | ~true).sum(1))
    return (foreground + background) / 2


def pixel_accuracy(pred: Masks, true: Masks, kind: AccuracyKind = "all") -> np.ndarray:
    """Share of pixels that are right, image by image.

    Args:
        pred: (B, H, W) bool.
        true: (B, H, W) bool.
        kind: which pixels count:
            "all": right pixels / all pixels;
            "foreground": right foreground pixels / true foreground pixels, 1 where there is none to find;
            "class_mean": mean of that share over the classes (foreground, background) present in the true mask.

    Returns:
        (B,) float64 in [0, 1].

    Raises:
        ValueError: unknown `kind`, or masks as in `foreground_iou`.
    """
    pred, true = _flat_masks(pred, true)
    if kind == "all":
        return (pred == true).mean(1)
    foreground = _ratio((pred & true).sum(1), true.sum(1))
    if kind == "foreground":
        return foreground
    if kind == "class_mean":
        background = _ratio((~pred & ~true).sum(1), (~true).sum(1))
        weights = np.stack([true.any(1), (~true).any(1)])
        return (np.stack([foreground, background]) * weights).sum(0) / weights.sum(0)
    raise ValueError(f"pixel_accuracy knows no kind {kind!r}: choose 'all', 'foreground' or 'class_mean'.")


def dataset_iou(pred: Masks, true: Masks) -> float:
    """Foreground IoU of all images taken as one: sum of intersections / sum of unions; large objects weigh more.

    Arguments and errors as in `foreground_iou`; 1 if every mask is empty.
    """
    pred, true = _flat_masks(pred, true)
    return float(_ratio((pred & true).sum(keepdims=True), (pred | true).sum(keepdims=True)).item())


def _flat_masks(pred: Masks, true: Masks) -> tuple[np.ndarray, np.ndarray]:
    """Both as (B, H*W) bool arrays."""
    pred, true = (
        mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask) for mask in (pred, true)
    )
    if pred.shape != true.shape:
        raise ValueError(
            f"predicted masks have shape {pred.shape} but true masks {true.shape}: resize one to the other."
        )
    if pred.ndim != 3 or (pred[:1].size == 0 and len(pred)):
        raise ValueError(f"masks have shape {pred.shape}: give (B, H, W) with at least one pixel an image.")
    if pred.dtype != bool or true.dtype != bool:
        raise ValueError(f"masks are {pred.dtype} and {true.dtype}, not bool: compare with a threshold first.")
    flat = (len(pred), pred.shape[1] * pred.shape[2])  # not -1, which no images leave open
    return pred.reshape(flat), true.reshape(flat)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole as float64, and 1 where `whole` is 0: what does not occur cannot have been missed."""
    return np.divide(part, whole, out=np.ones(part.shape), where=whole > 0)


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
