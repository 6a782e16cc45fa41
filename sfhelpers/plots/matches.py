"""Matched points of two images, right and wrong told apart by colour, line and mark (paper, Fig. 3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sfhelpers.plots.figure import BLUE, DPI, INK, PLAIN, VERMILION, Figure, text_width
from sfhelpers.plots.grids import GAP, Picture, picture

BETWEEN = 26  # pixels between source and target, for the lines to cross


@dataclass(frozen=True)
class Match:
    """One directed pair.

    Args:
        source, target: its images, square.
        points: (J, 2) where the points are in the source, x then y in [0, 1].
        predicted: (J, 2) where they were found in the target.
        truth: (J, 2) where they are; None if nobody knows.
        right: (J,) bool, which predictions are near enough; None if nobody knows.
        label: above the pair.
    """

    source: Picture
    target: Picture
    points: np.ndarray
    predicted: np.ndarray
    truth: np.ndarray | None = None
    right: np.ndarray | None = None
    label: str = ""


def matches(pairs: Sequence[Match], columns: int = 2, size: float = 1.6, title: str = "") -> Figure:
    """Source and target side by side with a line a point.

    A right point has a solid blue line to a dot, a wrong one a dashed vermilion line to a cross and a small square
    where it should be. Without a truth all lines are grey, numbered at both ends.

    Args:
        size: side of an image in inches.

    Raises:
        ValueError: there is no pair.
    """
    if not pairs:
        raise ValueError("there is no pair to show: pass at least one Match.")
    cell = round(size * DPI)
    head, wide = 18, 2 * cell + BETWEEN
    top = 24 if title else 2
    columns = min(columns, len(pairs))
    rows = -(-len(pairs) // columns)
    width = columns * (wide + 4 * GAP)
    height = top + rows * (cell + head + 2 * GAP)
    figure = Figure(figsize=(max(width, text_width(title, 10.5) + 8) / DPI, height / DPI), dpi=1.08 * DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, figure.get_figwidth() * DPI), ylim=(height, 0))
    axes.set_axis_off()
    axes.text(2, 2, title, ha="left", va="top", fontsize=10.5, color=INK, weight="bold", **PLAIN)
    for index, pair in enumerate(pairs):
        left = 2 * GAP + (index % columns) * (wide + 4 * GAP)
        y = top + (index // columns) * (cell + head + 2 * GAP) + head
        axes.text(left, y - 4, pair.label, ha="left", va="bottom", fontsize=8.5, color=INK, **PLAIN)
        corners = (left, left + cell + BETWEEN)
        for corner, image in zip(corners, (pair.source, pair.target), strict=True):
            pixels = Image.fromarray(picture(image)).resize((2 * cell, 2 * cell), Image.Resampling.BICUBIC)
            axes.imshow(np.asarray(pixels), extent=(corner, corner + cell, y + cell, y), interpolation="none")
            axes.plot(*_frame(corner, y, cell), color="#D8D8D8", linewidth=0.8)
        _lines(axes, pair, corners, y, cell)
    axes.set_xlim(0, figure.get_figwidth() * DPI)
    axes.set_ylim(height, 0)
    return figure


def _frame(x: float, y: float, side: float) -> tuple[list[float], list[float]]:
    return [x, x + side, x + side, x, x], [y, y, y + side, y + side, y]


def _lines(axes, pair: Match, corners: tuple[float, float], y: float, cell: int) -> None:
    start, end = (np.asarray(p, dtype=float) * cell for p in (pair.points, pair.predicted))
    for k, (a, b) in enumerate(zip(start, end, strict=True)):
        known = pair.right is not None
        right = not known or bool(pair.right[k])
        color = INK if not known else BLUE if right else VERMILION
        x, heights = [corners[0] + a[0], corners[1] + b[0]], [y + a[1], y + b[1]]
        axes.plot(x, heights, color="white", linewidth=2.2, alpha=0.7)
        axes.plot(x, heights, color=color, linewidth=1.1, linestyle="-" if right else (0, (3, 1.5)))
        axes.plot(x[0], heights[0], "o", color=color, markersize=4, markeredgecolor="white", markeredgewidth=0.6)
        edge = {"markeredgecolor": "white" if right else color, "markeredgewidth": 0.6 if right else 1.6}
        axes.plot(x[1], heights[1], "o" if right else "x", color=color, markersize=4.5, **edge)
        if pair.truth is not None and not right:
            place = np.asarray(pair.truth[k], dtype=float) * cell + (corners[1], y)
            axes.plot(*place, "s", markersize=5.5, markerfacecolor="none", markeredgecolor=color, markeredgewidth=1.2)
        if not known:
            for place in ((x[0], heights[0]), (x[1], heights[1])):
                axes.annotate(str(k + 1), place, xytext=(3, 3), textcoords="offset points", fontsize=7, color=INK)
