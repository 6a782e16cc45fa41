"""Metrics of keypoints (PCK), masks (IoU, pixel accuracy) and classes; a paired bootstrap (Efron, Tibshirani 1993)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import sklearn.metrics
import torch
from torch import Tensor

from sfhelpers.metrics.arrays import numbers, one_of, to_array, whole

__all__ = ["Reliability", "calibration_error", "confusion_matrix", "macro_mean", "reliability", "top_k_accuracy"]
__all__ += ["foreground_iou", "iou_by_threshold", "holm", "mask_scores", "paired_bootstrap", "pck"]
DRAWS = 10_000  # of the bootstrap


def pck(
    pred: Any, true: Any, alpha: float, base: Any, visible: Any = None, strict: bool = False, per: str = "pair"
) -> np.ndarray | float:
    """Share of the visible keypoints with a Euclidean error of at most alpha * base; its mean is PCK@(100 alpha).

    Args:
        pred, true: (J, 2) points of one directed pair, or (B, J, 2), in pixels, inside the image or not.
        base: pixels, one number or one a pair: the image's side (256 for PSC6K), or a box's.
        visible: (J,) or (B, J) bool or 0/1, the points that count; all if None. Hidden ones may be anything.
        strict: a point exactly on the threshold is wrong (`<`, SketchFusion's code) instead of right (PSCNet's).
        per: "pair": a float, or (B,), NaN where no point is visible; or "point": (P,), 1 or 0 for each visible one.
    """
    one_of(per, ("pair", "point"), "per")
    pred, true = (to_array(values, name, 3) for values, name in ((pred, "predicted points"), (true, "true points")))
    if pred.shape != true.shape or pred.shape[-1] != 2:
        raise ValueError(f"predicted points have shape {pred.shape}, true ones {true.shape}: give (B, J, 2) for both.")
    visible = np.ones(pred.shape[:-1], dtype=bool) if visible is None else visible
    visible = to_array(visible, "visible", shapes=(pred.shape[:-1],))
    if visible.dtype.kind not in "biuf" or not np.isin(visible, (0, 1)).all():
        raise ValueError("visible holds values other than 0 and 1: compare labels first, or apply a threshold.")
    visible, pred, true = visible.astype(bool), pred.astype(np.float64), true.astype(np.float64)
    for points, name in ((pred, "predicted"), (true, "true")):
        if len(bad := np.argwhere(np.atleast_2d(visible & ~np.isfinite(points).all(-1)))):
            raise ValueError(f"{name} point {bad[0][1]} of pair {bad[0][0]} is not finite: mark it hidden, or mend it.")
    limit = float(alpha) * to_array(base, "base", shapes=((), pred.shape[:-2])).astype(np.float64)[..., None]
    if not (np.isfinite(limit) & (limit > 0)).all():
        raise ValueError(f"alpha {alpha} times base is not above 0: give a share such as 0.1 and a base in pixels.")
    with np.errstate(invalid="ignore"):  # hidden points may hold anything
        error = np.linalg.norm(pred - true, axis=-1)
        right, shown = visible & ((error < limit) if strict else (error <= limit)), visible.sum(-1)
    if per == "point":
        return right[visible].astype(np.float64)
    return np.where(shown > 0, right.sum(-1) / np.maximum(shown, 1), np.nan)[()]


def foreground_iou(pred: Any, true: Any) -> np.ndarray:
    """(B,) intersection over union of (B, H, W) bool masks' foreground; 1 where both are empty, 0 where only one is."""
    both, wrong, missed, _ = _counts(pred, true)
    return _ratio(both, both + wrong + missed)


def mask_scores(pred: Any, true: Any) -> dict[str, np.ndarray]:
    """Metric -> (B,) values of (B, H, W) bool masks, for "dataset IoU" (1,); 1 where there was nothing to find."""
    both, wrong, missed, neither = _counts(pred, true)
    union = both + wrong + missed
    foreground, background = _ratio(both, both + missed), _ratio(neither, neither + wrong)
    has_object, has_rest = both + missed > 0, neither + wrong > 0
    return {
        "foreground IoU": _ratio(both, union),
        "mIoU": (_ratio(both, union) + _ratio(neither, neither + wrong + missed)) / 2,
        "pAcc": (both + neither) / (union + neither),
        "pAcc (foreground)": foreground,
        "pAcc (class mean)": (foreground * has_object + background * has_rest) / (has_object * 1 + has_rest),
        "dataset IoU": _ratio(both.sum(keepdims=True), union.sum(keepdims=True)),
    }


def iou_by_threshold(probabilities: Tensor, masks: Tensor, candidates: Sequence[float]) -> Tensor:
    """(len(candidates),) mean foreground IoU of (B, H, W) maps at every candidate, in one pass over the pixels."""
    if probabilities.shape != masks.shape or len(masks) == 0:
        raise ValueError(f"probabilities have shape {tuple(probabilities.shape)} but masks {tuple(masks.shape)}.")
    # Pixels counted by how many candidates they reach: summed from the top, the sizes of prediction and intersection.
    ordered, places = torch.tensor(candidates, dtype=probabilities.dtype).sort()
    bins = len(ordered) + 1
    total = torch.zeros(len(ordered), dtype=torch.float64)
    for probability, mask in zip(probabilities, masks, strict=True):
        reached = torch.bucketize(probability.flatten(), ordered, right=True)
        counts = torch.bincount(reached + bins * mask.flatten(), minlength=2 * bins).view(2, bins).double()
        outside, inside = counts.flip(1).cumsum(1).flip(1)[:, 1:]
        union = outside + mask.sum()
        total += torch.where(union > 0, inside / union, 1.0)
    return torch.empty_like(total).scatter(0, places, total / len(masks))


def _counts(pred: Any, true: Any) -> list[np.ndarray]:
    """(B,) pixels each: object in both, in the prediction alone, in the truth alone, in neither."""
    pred, true = to_array(pred), to_array(true)
    if pred.shape != true.shape or pred.ndim != 3 or (pred[:1].size == 0 and len(pred)):
        raise ValueError(f"masks have shape {pred.shape} and {true.shape}: give (B, H, W) with a pixel or more, alike.")
    if pred.dtype != bool or true.dtype != bool:
        raise ValueError(f"masks are {pred.dtype} and {true.dtype}, not bool: compare with a threshold first.")
    return [np.count_nonzero(part, axis=(1, 2)) for part in (pred & true, pred & ~true, ~pred & true, ~pred & ~true)]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, and 1 where `whole` is 0: what does not occur cannot have been missed."""
    return np.divide(part, whole, out=np.ones(part.shape), where=whole > 0)


def top_k_accuracy(scores: Any, labels: Any, k: int = 1) -> np.ndarray | float:
    """Acc@k, 1 or 0: is the true class among the k best of (C,) or (B, C) scores? Ties count against the item."""
    scores = to_array(scores, "scores", 2)
    labels, classes = to_array(labels, "labels", shapes=(scores.shape[:-1],)), scores.shape[-1]
    if labels.dtype.kind not in "iu" or ((labels < 0) | (labels >= classes)).any():
        raise ValueError(f"labels hold something other than the classes 0 to {classes - 1}: use whole numbers.")
    scores = numbers(scores, "scores")
    own = np.take_along_axis(scores, labels[..., None].astype(np.int64), axis=-1)
    return ((scores >= own).sum(-1) <= whole(k)) * 1.0


def confusion_matrix(predicted: Any, labels: Any, n_classes: int) -> np.ndarray:
    """(C, C) counts of (B,) whole numbers: rows the true class, columns the predicted one."""
    return sklearn.metrics.confusion_matrix(to_array(labels), to_array(predicted), labels=range(n_classes))


def macro_mean(values: Any, labels: Any) -> float:
    """Mean over the classes of each class's mean, so that every class weighs the same (DSN); both are (B,)."""
    values, labels = to_array(values), to_array(labels)
    if values.ndim != 1 or values.shape != labels.shape or len(values) == 0:
        raise ValueError(f"values have shape {values.shape}, labels {labels.shape}: give (B,) for both, one or more.")
    of = np.unique(labels, return_inverse=True)[1]
    return float((np.bincount(of, numbers(values, "values")) / np.bincount(of)).mean())


class Reliability(NamedTuple):
    """Items in bins by their confidence; its mean and the share that is right are NaN in an empty bin."""

    count: np.ndarray  # (bins,) items
    confidence: np.ndarray  # (bins,) mean
    accuracy: np.ndarray  # (bins,) share of items that are right


def reliability(probabilities: Any, labels: Any, bins: int = 15) -> Reliability:
    """The reliability diagram (Guo et al. 2017, Sec. 2) of (B, C) probabilities, whose largest is the confidence; bins
    are of equal width, an edge belongs to the bin below it, and an item is right as in `top_k_accuracy`."""
    bins, right = whole(bins, "bins"), top_k_accuracy(probabilities, labels)
    if np.ndim(right) == 0 or len(right) == 0:
        raise ValueError("calibration is a property of many items: give probabilities (B, C) of at least one.")
    probabilities = to_array(probabilities).astype(np.float64)
    if (probabilities < 0).any() or not np.allclose(probabilities.sum(1), 1, atol=1e-3):
        raise ValueError("probabilities are negative or do not sum to 1 in each row: apply softmax to logits first.")
    confidence = probabilities.max(1)
    of = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    count = np.bincount(of, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(of, weights=values, minlength=bins) / count for values in (confidence, right)]
    return Reliability(count, *means)


def calibration_error(probabilities: Any, labels: Any, bins: int = 15) -> float:
    """Expected calibration error (ECE) in [0, 1]: the mean gap of confidence and accuracy over bins, by their items."""
    table = reliability(probabilities, labels, bins)
    return float(np.nansum(np.abs(table.confidence - table.accuracy) * table.count) / table.count.sum())


class Paired(NamedTuple):
    mean: float
    low: float  # both ends of its 95 % percentile interval
    high: float
    p: float  # two-sided, that there is no difference
    n: int  # groups that were resampled


def paired_bootstrap(first: Any, second: Any, groups: Any = None) -> Paired:
    """Of first - second, (seeds, n) or (n,) values of order 1 of the same n queries: seeds are drawn and then `groups`,
    (n,) labels of queries that are drawn together; None: each for itself."""
    first, second = (np.atleast_2d(to_array(values)).astype(np.float64) for values in (first, second))
    labels = np.arange(first.shape[-1]) if groups is None else to_array(groups)
    if first.ndim != 2 or second.ndim != 2 or not first.shape[1:] == second.shape[1:] == labels.shape:
        shapes = f"{first.shape}, {second.shape} and {labels.shape}"
        raise ValueError(f"values and groups have shapes {shapes}: give one a query for both, and one for each.")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a value is not finite: leave out queries that cannot be answered, for both methods.")
    inverse = np.unique(labels, return_inverse=True)[1]
    counts = np.bincount(inverse).astype(np.float64)
    if (n := len(counts)) < 2:
        raise ValueError(f"there is only {n} group of queries: a bootstrap needs two or more.")
    rng, means = np.random.default_rng(0), np.empty(DRAWS)
    sums = [np.stack([np.bincount(inverse, row) for row in values]) for values in (first, second)]
    for part in np.split(means, range(1000, DRAWS, 1000)):
        # How often each seed and each group was drawn.
        ours, theirs, weights = (rng.multinomial(k, np.full(k, 1 / k), len(part)) for k in (*map(len, sums), n))
        apart = ours @ sums[0] / len(first) - theirs @ sums[1] / len(second)  # (draws, groups)
        part[:] = (weights * apart).sum(1) / (weights @ counts)
    # Values are of order 1 and often means over three seeds: thirds that cancel out leave 1e-17, which is a tie.
    means[np.abs(means) < 1e-12] = 0
    low, high = np.quantile(means, (0.025, 0.975))
    beyond = min((means <= 0).sum(), (means >= 0).sum())
    p = min(1.0, 2 * (beyond + 1) / (DRAWS + 1))
    return Paired(float((first.mean(0) - second.mean(0)).mean()), float(low), float(high), float(p), n)


def holm(p: Any) -> np.ndarray:
    """p values (k,) of k tests, corrected so that one wrong finding among all is as rare as each said (Holm 1979)."""
    p = to_array(p)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(1, steps)[np.argsort(order, kind="stable")]
