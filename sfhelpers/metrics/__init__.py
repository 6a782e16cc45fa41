"""Metrics as plain functions on numpy arrays and torch tensors, one item or a batch, with one value an item.

Papers use one name for several definitions ("mAP@200" has four), so every function says which one it computes and
where it came from, and a result row must carry it.
"""

from sfhelpers.metrics.bootstrap import Difference, paired_bootstrap
from sfhelpers.metrics.classification import (
    Reliability,
    calibration_error,
    class_means,
    confusion_matrix,
    macro_mean,
    micro_mean,
    reliability,
    top_k_accuracy,
)
from sfhelpers.metrics.definitions import AP, Acc, Measure, P
from sfhelpers.metrics.keypoints import correct_keypoints, keypoint_box_side, pck, select_direction
from sfhelpers.metrics.masks import dataset_iou, foreground_iou, iou_by_threshold, pixel_accuracy, two_class_iou
from sfhelpers.metrics.ranking import (
    accuracy_at_k,
    average_precision,
    average_precision_at_k,
    average_precision_of_scores,
    precision_at_k,
    rank,
)
from sfhelpers.metrics.retrieval import STANDARD, evaluate_retrieval

__all__ = [
    "AP",
    "Acc",
    "Difference",
    "Measure",
    "P",
    "Reliability",
    "STANDARD",
    "accuracy_at_k",
    "average_precision",
    "average_precision_at_k",
    "average_precision_of_scores",
    "calibration_error",
    "class_means",
    "confusion_matrix",
    "correct_keypoints",
    "dataset_iou",
    "evaluate_retrieval",
    "foreground_iou",
    "iou_by_threshold",
    "keypoint_box_side",
    "macro_mean",
    "micro_mean",
    "paired_bootstrap",
    "pck",
    "pixel_accuracy",
    "precision_at_k",
    "rank",
    "reliability",
    "select_direction",
    "top_k_accuracy",
    "two_class_iou",
]
