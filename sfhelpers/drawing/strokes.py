"""Strokes: what a hand drew between putting the pen down and lifting it, as points."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

MAX_POINTS, MAX_STROKES = 20_000, 2_000  # in one drawing; a careful one has a few hundred and a few dozen
FARTHEST = 1e7  # pixels; beyond it, a file is damaged
MAX_WIDTH = 1024.0  # pixels

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stroke:
    """One line. A single point is a dot. Raises a ValueError if the points or the width are wrong."""

    points: Points  # (M, 2), x then y, in pixels from the upper left corner, up to 1e7, M of 1 or more
    width: float  # of the line, in pixels, above 0 and at most 1024

    def __post_init__(self) -> None:
        width = self.width
        try:
            points = np.array(self.points)
        except ValueError:  # lists of different lengths
            points = np.array(None)
        if points.dtype.kind not in "iuf" or points.ndim != 2 or points.shape[1] != 2 or not len(points):
            raise ValueError("a stroke's points are not M rows of two numbers, x and y: give one row or more.")
        if not np.abs(points).max() <= FARTHEST:
            raise ValueError(f"a stroke holds a coordinate that is not a finite number up to {FARTHEST:.0e}: mend it.")
        if isinstance(width, bool) or not isinstance(width, int | float | np.number) or not 0 < width <= MAX_WIDTH:
            raise ValueError(f"a stroke's width is {width!r}: give pixels above 0 and up to {MAX_WIDTH:.0f}.")
        points = points.astype(np.float64)
        points.flags.writeable = False
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "width", float(width))

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Stroke) and self.width == other.width
        return same and np.array_equal(self.points, other.points)

    def scaled(self, scale: float) -> "Stroke":
        return Stroke(self.points * scale, min(self.width * scale, MAX_WIDTH))


def joined(strokes: Sequence[Stroke]) -> Points:
    """The points of all strokes, one after the other."""
    return np.concatenate([np.zeros((0, 2)), *(stroke.points for stroke in strokes)])


def check_count(strokes: int, points: int) -> None:
    for number, most, what in ((strokes, MAX_STROKES, "strokes"), (points, MAX_POINTS, "points")):
        if number > most:
            raise ValueError(f"the drawing has {number:,} {what}, more than {most:,}: simplify it.")


def clipped(points: Points, size: float | Points) -> list[Points]:
    """Cut a line at the paper's edge, segment by segment (Liang, Barsky 1984); one that comes back becomes two."""
    inside = np.clip(points, 0, size)
    if np.abs(inside - points).max() < 1e-6:  # rounding is no reason to cut
        return [inside]
    pieces: list[list[Points]] = []
    for start, end in pairwise(points):
        still = np.where(start > 0, -1e-100, 1e-100)  # inwards, as nothing is divided by no step along an axis
        step = np.where(start == end, still, end - start)
        first, last = np.sort([-start / step, (size - start) / step], axis=0)
        enter, leave = max(0.0, *first), min(1.0, *last)
        if enter >= leave:
            continue
        if enter > 0 or not pieces or not np.array_equal(pieces[-1][-1], start):
            pieces.append([np.clip(start + enter * (end - start), 0, size)])
        pieces[-1].append(end if leave == 1 else np.clip(start + leave * (end - start), 0, size))
    return [np.array(piece) for piece in pieces]


def simplified(points: Points, tolerance: float) -> Points:
    """Drop points that lie within `tolerance` of the line between those kept (Ramer 1972, Douglas and Peucker 1973)."""
    kept, ends = [0], [len(points) - 1]
    while ends:
        first, last = kept[-1], ends[-1]
        start, step = points[first], points[last] - points[first]
        between, length = points[first + 1 : last] - start, step @ step
        along = np.clip(between @ step / length, 0, 1) if length else np.zeros(len(between))
        far = np.hypot(*(between - along[:, None] * step).T)
        if far.max(initial=0) > tolerance:
            ends.append(first + 1 + int(far.argmax()))
        else:
            kept.append(ends.pop())
    return points[np.unique(kept)]  # a dot's first point is its last
