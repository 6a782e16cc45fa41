"""Matched points of two images, right and wrong told apart by colour, line and mark (paper, Fig. 3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from sfhelpers.plots.figure import BLUE, DPI, INK, VERMILION, Figure, sheet, write
from sfhelpers.plots.grids import GAP, Box, Picture, paste

BETWEEN, HEAD = 26, 18  # pixels between source and target, for the lines to cross; and above a pair


@dataclass(frozen=True)
class Match:
    """One directed pair."""

    source: Picture
    target: Picture
    points: np.ndarray  # (J, 2) where the points are in the source, x then y in [0, 1]
    predicted: np.ndarray  # (J, 2) where they were found in the target
    truth: np.ndarray | None = None  # (J, 2) where they are; None if nobody knows
    right: np.ndarray | None = None  # (J,) bool, which predictions are near enough; None if nobody knows
    label: str = ""  # above the pair


def matches(pairs: Sequence[Match], columns: int = 2, size: float = 1.6, title: str = "") -> Figure:
    """Source and target side by side with a line a point.

    A right point has a solid blue line to a dot, a wrong one a dashed vermilion line to a cross and a small square
    where it should be. Without a truth all lines are grey, numbered at both ends. `size`: side of an image in inches.
    """
    if not pairs:
        raise ValueError("there is no pair to show: pass at least one Match.")
    cell, columns, top = round(size * DPI), min(columns, len(pairs)), 24 if title else 2
    wide, high = 2 * cell + BETWEEN + 4 * GAP, cell + HEAD + 2 * GAP
    axes = sheet(columns * wide, top + -(-len(pairs) // columns) * high, title)
    for index, pair in enumerate(pairs):
        left, y = 2 * GAP + index % columns * wide, top + index // columns * high + HEAD
        write(axes, left, y - 4, pair.label, 8.5, va="bottom")
        images = ((pair.source, left), (pair.target, left + cell + BETWEEN))
        boxes = [paste(axes, image, x, y, cell) for image, x in images]
        for k in range(len(pair.points)):
            _draw(axes, pair, k, *boxes)
    return axes.figure


def _draw(axes: Axes, pair: Match, k: int, source: Box, target: Box) -> None:
    known = pair.right is not None
    right = not known or bool(pair.right[k])
    color = INK if not known else BLUE if right else VERMILION
    start, end = inside(source, pair.points[k]), inside(target, pair.predicted[k])
    connect(axes, start, end, color, "-" if right else (0, (3, 1.5)))
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.6}
    axes.plot(*start, "o", color=color, markersize=4.5, **edge)
    axes.plot(*end, "o" if right else "x", color=color, markersize=4.5, **(edge if right else {"markeredgewidth": 1.6}))
    if pair.truth is not None and not right:
        axes.plot(*inside(target, pair.truth[k]), "s", markersize=5.5, markerfacecolor="none", color=color)
    if not known:
        for x, y in (start, end):
            write(axes, x + 4, y - 4, str(k + 1), 7)


def inside(box: Box, point: Sequence[float]) -> tuple[float, float]:
    """A point in [0, 1] of a pasted image, in the sheet's pixels."""
    return box[0] + point[0] * box[2], box[1] + point[1] * box[3]


def connect(axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str, dashes="-") -> None:
    """A line with a white edge, to be seen on any image."""
    axes.plot(*zip(start, end, strict=True), color="white", linewidth=2.6, alpha=0.7)
    axes.plot(*zip(start, end, strict=True), color=color, linewidth=1.2, linestyle=dashes)
