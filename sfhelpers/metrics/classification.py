"""Recognition metrics: top-k accuracy, confusion, means over classes, calibration."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn.metrics

from sfhelpers.metrics.arrays import numbers, to_array, whole

__all__ = ["Reliability", "calibration_error", "confusion_matrix", "macro_mean", "reliability", "top_k_accuracy"]


def top_k_accuracy(scores: Any, labels: Any, k: int = 1) -> np.ndarray | float:
    """Acc@k of recognition, item by item: is the true class among the k best? Its mean is the papers' Acc.@k (micro).

    Args:
        scores: (C,) or (B, C), higher is better: logits or probabilities.
        labels: the true class, or (B,), whole numbers from 0.
        k: how many classes may be named; from k = C on everything is right.

    Returns:
        A float, or (B,) float64, 1 or 0. Ties count against the item: another class with the true one's score stands
        before it, so that equal scores for all classes earn nothing.

    Raises:
        ValueError: shapes differ, a score is NaN, a label is no class, or k is no whole number from 1.
    """
    scores, labels = to_array(scores, "scores", 2), to_array(labels)
    classes = scores.shape[-1]
    if classes == 0:
        raise ValueError("scores have no classes: give one score a class.")
    if labels.shape != scores.shape[:-1]:
        raise ValueError(
            f"labels have shape {labels.shape} for {scores.size // classes} items: give one label an item."
        )
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
    if values.ndim != 1 or values.shape != labels.shape:
        raise ValueError(f"values have shape {values.shape} and labels {labels.shape}: give (B,) for both.")
    if len(values) == 0:
        raise ValueError("none of 0 items has a value: there is no mean to take.")
    of = np.unique(labels, return_inverse=True)[1]
    return float((np.bincount(of, numbers(values, "values")) / np.bincount(of)).mean())


@dataclass(frozen=True)
class Reliability:
    """Items in bins by their confidence: (bins + 1,) `edges` from 0 to 1, and of each bin how many items it has, their
    mean confidence, and the share that is right; both NaN in an empty bin."""

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def reliability(probabilities: Any, labels: Any, bins: int = 15) -> Reliability:
    """The reliability diagram (Guo et al. 2017, "On Calibration of Modern Neural Networks", Sec. 2).

    Args:
        probabilities, labels: (B, C), rows that sum to 1, and (B,) whole numbers from 0.
        bins: of equal width; a confidence on an edge belongs to the bin below it.

    Returns:
        The bins. Confidence is the largest probability; an item is right as in `top_k_accuracy`, ties against it.

    Raises:
        ValueError: as in `top_k_accuracy`, rows that are no probabilities, no items, or bins below 1.
    """
    bins, right = whole(bins, "bins"), top_k_accuracy(probabilities, labels)
    if np.size(right) == 0 or np.ndim(right) == 0:
        raise ValueError("calibration is a property of many items: give probabilities (B, C) of at least one.")
    probabilities = to_array(probabilities).astype(np.float64)
    if (probabilities < 0).any() or not np.allclose(probabilities.sum(1), 1, atol=1e-3):
        raise ValueError("probabilities are negative or do not sum to 1 in each row: apply softmax to logits first.")
    edges, confidence = np.linspace(0, 1, bins + 1), probabilities.max(1)
    of = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(of, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(of, weights=values, minlength=bins) / count for values in (confidence, right)]
    return Reliability(edges, count, *means)


def calibration_error(probabilities: Any, labels: Any, bins: int = 15) -> float:
    """Expected calibration error (ECE): the mean gap of confidence and accuracy over the bins, weighted by their items.

    Arguments and errors as in `reliability`. In [0, 1]; it depends on the number of bins, so a result must name it.
    """
    table = reliability(probabilities, labels, bins)
    gaps = np.abs(table.confidence - table.accuracy)
    return float(np.nansum(gaps * table.count) / table.count.sum())
