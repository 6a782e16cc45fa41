"""PCK, the share of keypoints that land near enough to the truth, under every threshold in use.

PSC6K's own code takes `<= alpha * 256` on 256 px images and both directions; SketchFusion's code takes `<` on images of
336 px, on a 60:40 split of the test pairs. On the same points these differ little, on different pairs a lot, so a
result must name base, comparison, direction and split.
"""

from typing import Any, Literal

import numpy as np

from sfhelpers.metrics.arrays import batched, flags, one_of, per_item, to_array, unbatched

Direction = Literal["both", "s2p", "p2s"]


def pck(
    pred: Any,
    true: Any,
    alpha: float,
    base: Any,
    visible: Any = None,
    strict: bool = False,
    per: Literal["pair", "point"] = "pair",
) -> np.ndarray | float:
    """Share of keypoints with a Euclidean error of at most alpha * base; its mean is PCK@(100 alpha).

    Args:
        pred: (J, 2) predicted points of one directed pair, or (B, J, 2), in pixels; anywhere, inside the image or not.
        true: the annotated points, of the same shape.
        alpha: share of the base, e.g. 0.05 or 0.1.
        base: pixels, one number or one a pair: the image's side (256 for PSC6K), or a box's (`keypoint_box_side`).
        visible: (J,) or (B, J) bool or 0/1, the points that count; all if None. Hidden ones may be anything.
        strict: a point exactly on the threshold is wrong (`<`, SketchFusion's code) instead of right (PSCNet's).
        per: "pair": every pair weighs the same (both papers); "point": every visible point weighs the same.

    Returns:
        per "pair": a float, or (B,) float64 in [0, 1], NaN for a pair without a visible point; per "point": (P,), 1 or
        0 for each visible point, pair by pair.

    Raises:
        ValueError: shapes differ, a visible point is not finite, or alpha or base is not above 0.
    """
    one_of(per, ("pair", "point"), "per")
    pred, true, visible, single = _points(pred, true, visible)
    right = _within(pred, true, visible, alpha, base, strict)
    if per == "point":
        return right[visible].astype(np.float64)
    shown = visible.sum(1)
    return unbatched(np.where(shown > 0, right.sum(1) / np.maximum(shown, 1), np.nan), single)


def correct_keypoints(
    pred: Any, true: Any, alpha: float, base: Any, visible: Any = None, strict: bool = False
) -> np.ndarray:
    """Which points are right, to draw them or to average by the keypoint's name.

    Arguments and errors as in `pck`.

    Returns:
        (J,) or (B, J) bool; False for hidden points.
    """
    pred, true, visible, single = _points(pred, true, visible)
    right = _within(pred, true, visible, alpha, base, strict)
    return right[0] if single else right


def keypoint_box_side(points: Any, visible: Any = None) -> np.ndarray | float:
    """The longer side of the box around the visible keypoints, the base of PCK "by bounding box".

    Args:
        points: (J, 2) or (B, J, 2), in pixels; of the true points in the target image.
        visible: (J,) or (B, J) bool or 0/1; all if None.

    Returns:
        A float, or (B,) float64 in pixels.

    Raises:
        ValueError: shapes differ, or the visible points of a pair are all in one place, so that there is no box.
    """
    points, _, visible, single = _points(points, points, visible)
    high = np.where(visible[..., None], points, -np.inf).max(1)
    low = np.where(visible[..., None], points, np.inf).min(1)
    sides = (high - low).max(1)
    if (sides <= 0).any():
        pair = int((sides <= 0).argmax())
        raise ValueError(
            f"pair {pair} has fewer than two visible places: leave it out, or take the image's side as base."
        )
    return unbatched(sides, single)


def select_direction(values: Any, directions: Any, direction: Direction = "both") -> np.ndarray:
    """The values of the directed pairs that count; "both" pools the two directions, as both papers' code does.

    Args:
        values: (B, ...) one a directed pair.
        directions: (B,) of "s2p" (sketch to photo, the paper's problem statement) and "p2s".
        direction: which ones count.

    Returns:
        (B', ...) in the same order.

    Raises:
        ValueError: an unknown direction, lengths that differ, or no pair of that direction.
    """
    one_of(direction, ("both", "s2p", "p2s"), "direction")
    values, directions = to_array(values), to_array(directions)
    if directions.shape != values.shape[:1]:
        raise ValueError(f"there are {values.shape[:1]} values but {directions.shape} directions: give one for each.")
    unknown = directions[~np.isin(directions, ("s2p", "p2s"))]
    if len(unknown):
        raise ValueError(f"directions hold {str(unknown[0])!r}: use 's2p' and 'p2s'.")
    chosen = np.ones(len(values), dtype=bool) if direction == "both" else directions == direction
    if not chosen.any():
        raise ValueError(f"no pair has the direction {direction!r}: add such pairs, or choose another direction.")
    return values[chosen]


def _points(pred: Any, true: Any, visible: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """(B, J, 2) float64 twice, (B, J) bool, and whether it is one pair."""
    (pred, single), (true, _) = batched(pred, "predicted points", 3), batched(true, "true points", 3)
    if pred.shape != true.shape or pred.shape[2] != 2 or pred.shape[1] == 0:
        raise ValueError(
            f"predicted points have shape {pred.shape} and true ones {true.shape}: give (B, J, 2) for both."
        )
    shown = np.ones(pred.shape[:2], dtype=bool)
    if visible is not None:
        visible, _ = batched(visible, "visible")
        if visible.shape != shown.shape:
            raise ValueError(f"visible has shape {visible.shape} for points {pred.shape[:2]}: give one for each point.")
        shown = flags(visible, "visible")
    pred, true = pred.astype(np.float64), true.astype(np.float64)
    for points, name in ((pred, "predicted"), (true, "true")):
        bad = shown & ~np.isfinite(points).all(2)
        if bad.any():
            pair, point = (int(i) for i in np.argwhere(bad)[0])
            raise ValueError(
                f"{name} point {point} of pair {pair} is not finite: mark it hidden, or mend the prediction."
            )
    return pred, true, shown, single


def _within(
    pred: np.ndarray, true: np.ndarray, visible: np.ndarray, alpha: float, base: Any, strict: bool
) -> np.ndarray:
    """(B, J) bool: visible and near enough."""
    limit = float(alpha) * per_item(base, len(pred), "base").astype(np.float64)[:, None]
    if not (np.isfinite(limit) & (limit > 0)).all():
        raise ValueError(f"alpha {alpha} times base is not above 0: give a share such as 0.1 and a base in pixels.")
    with np.errstate(invalid="ignore"):  # hidden points may hold anything
        error = np.linalg.norm(pred - true, axis=2)
        return visible & ((error < limit) if strict else (error <= limit))
