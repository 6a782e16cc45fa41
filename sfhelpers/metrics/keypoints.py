"""PCK, the share of keypoints that land near enough to the truth, under every threshold in use.

PSC6K's own code takes `<= alpha * 256` on 256 px images and both directions; SketchFusion's code takes `<` on images of
336 px, on a 60:40 split of the test pairs. On the same points these differ little, on different pairs a lot, so a
result must name base, comparison, direction and split.
"""

from typing import Any

import numpy as np

from sfhelpers.metrics.arrays import flags, one_of, per_item, to_array

__all__ = ["correct_keypoints", "keypoint_box_side", "pck"]


def correct_keypoints(
    pred: Any, true: Any, alpha: float, base: Any, visible: Any = None, strict: bool = False
) -> np.ndarray:
    """Which keypoints have a Euclidean error of at most alpha * base.

    Args:
        pred: (J, 2) predicted points of one directed pair, or (B, J, 2), in pixels; anywhere, inside the image or not.
        true: the annotated points, of the same shape.
        alpha: share of the base, e.g. 0.05 or 0.1.
        base: pixels, one number or one a pair: the image's side (256 for PSC6K), or a box's (`keypoint_box_side`).
        visible: (J,) or (B, J) bool or 0/1, the points that count; all if None. Hidden ones may be anything.
        strict: a point exactly on the threshold is wrong (`<`, SketchFusion's code) instead of right (PSCNet's).

    Returns:
        (J,) or (B, J) bool; False for hidden points.

    Raises:
        ValueError: shapes differ, a visible point is not finite, or alpha or base is not above 0.
    """
    pred, true, visible = _points(pred, true, visible)
    limit = float(alpha) * per_item(base, pred.shape[:-2], "base").astype(np.float64)[..., None]
    if not (np.isfinite(limit) & (limit > 0)).all():
        raise ValueError(f"alpha {alpha} times base is not above 0: give a share such as 0.1 and a base in pixels.")
    with np.errstate(invalid="ignore"):  # hidden points may hold anything
        error = np.linalg.norm(pred - true, axis=-1)
        return visible & ((error < limit) if strict else (error <= limit))


def pck(
    pred: Any, true: Any, alpha: float, base: Any, visible: Any = None, strict: bool = False, per: str = "pair"
) -> np.ndarray | float:
    """Share of keypoints that `correct_keypoints` finds right, with its arguments; its mean is PCK@(100 alpha).

    Returns:
        `per` "pair", every pair weighs the same (both papers): a float, or (B,) float64 in [0, 1], NaN for a pair
        without a visible point. `per` "point", every visible point does: (P,), 1 or 0 for each, pair by pair.
    """
    one_of(per, ("pair", "point"), "per")
    right = correct_keypoints(pred, true, alpha, base, visible, strict)
    visible = _points(pred, true, visible)[2]
    if per == "point":
        return right[visible].astype(np.float64)
    shown = visible.sum(-1)
    return np.where(shown > 0, right.sum(-1) / np.maximum(shown, 1), np.nan)[()]


def keypoint_box_side(points: Any, visible: Any = None) -> np.ndarray | float:
    """The longer side in pixels of the box around the visible true points, the base of PCK "by bounding box".

    Takes (J, 2) or (B, J, 2) and `visible` as `pck`. ValueError if a pair's visible points are all in one place.
    """
    points, _, visible = _points(points, points, visible)
    high = np.where(visible[..., None], points, -np.inf).max(-2)
    sides = (high - np.where(visible[..., None], points, np.inf).min(-2)).max(-1)
    if (sides <= 0).any():
        raise ValueError(
            f"pair {(sides <= 0).argmax()} has fewer than two visible places: leave it out, or take the image's side "
            "as base."
        )
    return sides


def _points(pred: Any, true: Any, visible: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The points as float64 and which of them are visible."""
    pred, true = to_array(pred, "predicted points", 3), to_array(true, "true points", 3)
    if pred.shape != true.shape or pred.shape[-1] != 2 or pred.shape[-2] == 0:
        raise ValueError(
            f"predicted points have shape {pred.shape} and true ones {true.shape}: give (B, J, 2) for both."
        )
    shown = np.ones(pred.shape[:-1], dtype=bool) if visible is None else to_array(visible, "visible", 2)
    if shown.shape != pred.shape[:-1]:
        raise ValueError(f"visible has shape {shown.shape} for points {pred.shape[:-1]}: give one for each point.")
    shown = flags(shown, "visible")
    pred, true = pred.astype(np.float64), true.astype(np.float64)
    for points, name in ((pred, "predicted"), (true, "true")):
        bad = np.argwhere(np.atleast_2d(shown & ~np.isfinite(points).all(-1)))
        if len(bad):
            pair, point = bad[0]
            raise ValueError(
                f"{name} point {point} of pair {pair} is not finite: mark it hidden, or mend the prediction."
            )
    return pred, true, shown
