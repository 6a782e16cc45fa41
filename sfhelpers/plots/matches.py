"""Matched points of two images, right and wrong told apart by colour, line and mark (paper, Fig. 3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from sfhelpers.plots.figure import BLUE, COLORS, DPI, TITLE, VERMILION, Figure, sheet, write
from sfhelpers.plots.grids import Box, Picture, paste

BETWEEN, APART, HEAD = 26, 20, 28  # pixels between source and target, for the lines to cross; and around a pair
MARKS = {  # how the end of a line is marked: found, found wrongly, where it should be
    "o": {"markersize": 4.5, "markeredgecolor": "white", "markeredgewidth": 0.6},
    "x": {"markersize": 4.5, "markeredgewidth": 1.6},
    "s": {"markersize": 5.5, "markerfacecolor": "none"},
}


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
    where it should be. Without a truth the points are numbered at both ends. `size`: side of an image in inches.
    """
    if not pairs:
        raise ValueError("there is no pair to show: pass at least one Match.")
    cell, columns = round(size * DPI), min(columns, len(pairs))
    wide, high = 2 * cell + BETWEEN + APART, cell + HEAD
    axes = sheet(columns * wide - APART, -(-len(pairs) // columns) * high - HEAD)
    axes.figure.cut = True  # to hold the words around
    axes.text(0, -HEAD, title, va="bottom", **TITLE)
    for index, pair in enumerate(pairs):
        left, top = index % columns * wide, index // columns * high
        write(axes, left, top - 4, pair.label, 8.5, va="bottom")
        boxes = paste(axes, pair.source, left, top, cell), paste(axes, pair.target, left + cell + BETWEEN, top, cell)
        for k, ends in enumerate(zip(pair.points, pair.predicted, strict=True)):
            if pair.right is None:
                connect_numbered(axes, boxes, ends, k)
            elif pair.right[k]:
                connect(axes, boxes, ends, BLUE)
            else:
                connect(axes, boxes, ends, VERMILION, (0, (3, 1.5)), "ox")
                if pair.truth is not None:
                    axes.plot(*inside(boxes[1], pair.truth[k]), "s", color=VERMILION, **MARKS["s"])
    return axes.figure


def inside(box: Box, point: Sequence[float]) -> tuple[float, float]:
    """A point in [0, 1] of a pasted image, in the sheet's pixels."""
    return box[0] + point[0] * box[2], box[1] + point[1] * box[3]


def connect(axes: Axes, boxes: Sequence[Box], ends: Sequence, color: str, dashes="-", marks: str = "oo") -> list:
    """A line between a point of each of two pasted images, with a white edge to be seen on any; where its ends lie."""
    places = [inside(box, end) for box, end in zip(boxes, ends, strict=True)]
    axes.plot(*zip(*places, strict=True), color="white", linewidth=2.6, alpha=0.7)
    axes.plot(*zip(*places, strict=True), color=color, linewidth=1.2, linestyle=dashes)
    for place, mark in zip(places, marks, strict=True):
        axes.plot(*place, mark, color=color, **MARKS[mark])
    return places


def connect_numbered(axes: Axes, boxes: Sequence[Box], ends: Sequence, k: int) -> str:
    """The k-th of several lines, with its number at both ends; returns its colour."""
    color = COLORS[k % len(COLORS)]
    for x, y in connect(axes, boxes, ends, color):
        axes.plot(x, y, "o", markersize=11, color=color, markeredgecolor="white", zorder=4)
        write(axes, x, y, str(k + 1), 7, ha="center", va="center_baseline", color="white", zorder=5)
    return color
