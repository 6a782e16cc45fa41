"""Recognition metrics: top-k accuracy, confusion, means over classes, calibration."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sfhelpers.metrics.arrays import batched, numbers, to_array, unbatched, whole


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
    scores, labels, single = _scored(scores, labels)
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    ahead = (scores >= own).sum(1) - 1
    return unbatched((ahead < whole(k)).astype(np.float64), single)


def confusion_matrix(predicted: Any, labels: Any, n_classes: int) -> np.ndarray:
    """How often each class was taken for each.

    Args:
        predicted: (B,) whole numbers from 0.
        labels: (B,) the true classes.
        n_classes: C.

    Returns:
        (C, C) int64, rows the true class, columns the predicted one; the sum is B.

    Raises:
        ValueError: shapes differ, or a number is no class.
    """
    n_classes = whole(n_classes, "n_classes")
    predicted, labels = to_array(predicted), to_array(labels)
    if predicted.ndim != 1 or predicted.shape != labels.shape:
        raise ValueError(f"predicted have shape {predicted.shape} and labels {labels.shape}: give (B,) for both.")
    _check_classes(predicted, n_classes, "predicted")
    _check_classes(labels, n_classes, "labels")
    cells = labels.astype(np.int64) * n_classes + predicted.astype(np.int64)
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def class_means(values: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """The mean of a value over the items of each class, e.g. the accuracy or the AP by class.

    Args:
        values: (B,) one an item; NaN, an item without a value, is left out.
        labels: (B,) numbers or strings.

    Returns:
        The classes that occur, sorted, and (C,) float64 their means, NaN where a class has no value at all.

    Raises:
        ValueError: lengths differ.
    """
    values, labels = to_array(values).astype(np.float64), to_array(labels)
    if values.ndim != 1 or values.shape != labels.shape:
        raise ValueError(f"values have shape {values.shape} and labels {labels.shape}: give (B,) for both.")
    classes, of = np.unique(labels, return_inverse=True)
    known = ~np.isnan(values)
    total = np.bincount(of[known], weights=values[known], minlength=len(classes))
    count = np.bincount(of[known], minlength=len(classes))
    return classes, np.where(count > 0, total / np.maximum(count, 1), np.nan)


def micro_mean(values: Any) -> float:
    """Mean over the items, those without a value (NaN) left out; what a retrieval paper means by mAP, as a rule.

    Raises:
        ValueError: there is no value at all.
    """
    values = to_array(values).astype(np.float64)
    if not (~np.isnan(values)).any():
        raise ValueError(f"none of {values.size} items has a value: there is no mean to take.")
    return float(np.nanmean(values))


def macro_mean(values: Any, labels: Any) -> float:
    """Mean of the class means, so that every class weighs the same (DSN); arguments as in `class_means`.

    Raises:
        ValueError: lengths differ, or there is no value at all.
    """
    return micro_mean(class_means(values, labels)[1])


@dataclass(frozen=True)
class Reliability:
    """Items sorted into bins by their confidence.

    Args:
        edges: (bins + 1,) from 0 to 1.
        count: (bins,) items in each bin.
        confidence: (bins,) their mean confidence; NaN in an empty bin.
        accuracy: (bins,) the share of them that is right; NaN in an empty bin.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def reliability(probabilities: Any, labels: Any, bins: int = 15) -> Reliability:
    """The reliability diagram (Guo et al. 2017, "On Calibration of Modern Neural Networks", Sec. 2).

    Args:
        probabilities: (B, C), rows that sum to 1.
        labels: (B,) whole numbers from 0.
        bins: of equal width; a confidence on an edge belongs to the bin below it.

    Returns:
        The bins. Confidence is the largest probability; an item is right as in `top_k_accuracy`, ties against it.

    Raises:
        ValueError: as in `top_k_accuracy`, rows that are no probabilities, no items, or bins below 1.
    """
    bins = whole(bins, "bins")
    probabilities, labels, single = _scored(probabilities, labels)
    if single or len(labels) == 0:
        raise ValueError("calibration is a property of many items: give probabilities (B, C) of at least one.")
    if (probabilities < 0).any() or not np.allclose(probabilities.sum(1), 1, atol=1e-3):
        raise ValueError("probabilities are negative or do not sum to 1 in each row: apply softmax to logits first.")
    edges = np.linspace(0, 1, bins + 1)
    confidence = probabilities.max(1)
    right = top_k_accuracy(probabilities, labels)
    of = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(of, minlength=bins)
    means = [
        np.where(count > 0, np.bincount(of, weights=values, minlength=bins) / np.maximum(count, 1), np.nan)
        for values in (confidence, right)
    ]
    return Reliability(edges, count, *means)


def calibration_error(probabilities: Any, labels: Any, bins: int = 15) -> float:
    """Expected calibration error (ECE): the mean gap of confidence and accuracy over the bins, weighted by their items.

    Arguments and errors as in `reliability`, where the source stands. It depends on the number of bins, so a result
    must name it.

    Returns:
        In [0, 1]; 0 if confidence is right on average in every bin.
    """
    table = reliability(probabilities, labels, bins)
    gaps = np.abs(table.confidence - table.accuracy)
    return float(np.nansum(gaps * table.count) / table.count.sum())


def _scored(scores: Any, labels: Any) -> tuple[np.ndarray, np.ndarray, bool]:
    """(B, C) float64 scores and (B,) int64 labels, and whether it is one item."""
    scores, single = batched(scores, "scores")
    labels = to_array(labels)
    if scores.shape[1] == 0:
        raise ValueError("scores have no classes: give one score a class.")
    if labels.shape != scores.shape[: 0 if single else 1]:
        raise ValueError(f"labels have shape {labels.shape} for {len(scores)} items: give one label an item.")
    _check_classes(labels, scores.shape[1], "labels")
    return numbers(scores, "scores"), labels.astype(np.int64).reshape(-1), single


def _check_classes(values: np.ndarray, n_classes: int, name: str) -> None:
    """Whole numbers from 0 to n_classes - 1."""
    if values.dtype.kind not in "iu" or ((values < 0) | (values >= n_classes)).any():
        raise ValueError(f"{name} hold something other than the classes 0 to {n_classes - 1}: use whole numbers.")
