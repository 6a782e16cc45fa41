"""Matched points of two images, right and wrong told apart (paper, Fig. 3), and a sheet for all that a sketch found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from sfhelpers.plots.figure import BLUE, COLORS, DPI, HAIR, PALE, TITLE, VERMILION, Figure, sheet, write
from sfhelpers.plots.grids import Box, Picture, overlay, paste

BETWEEN, BESIDE, ABOVE = 26, 20, 28  # pixels between source and target, for the lines to cross; and around a pair
MARKS = {  # how the end of a line is marked: found, found wrongly, where it should be
    "o": {"markersize": 4.5, "markeredgecolor": "white", "markeredgewidth": 0.6},
    "x": {"markersize": 4.5, "markeredgewidth": 1.6},
    "s": {"markersize": 5.5, "markerfacecolor": "none"},
}
WIDTH, GAP, APART = 432, 7, 28  # px; narrow enough to stand beside a sketch pad on a laptop
HEAD, CAPTION, SCORES, BAR = 21, 34, 20, 26  # px, heights: a heading, words below a photo, scores, a bar with its name
NAMES, NUMBERS = 84, 40  # px, room beside a bar
NAMED = 3  # categories with a bar
Answers = Mapping[str, tuple[Any, Sequence[tuple[Picture, str]]]]  # title -> `search.Found`, best photos with captions


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
    wide, high = 2 * cell + BETWEEN + BESIDE, cell + ABOVE
    axes = sheet(columns * wide - BESIDE, -(-len(pairs) // columns) * high - ABOVE, cut=True)
    write(axes, 0, -ABOVE, title, va="bottom", linespacing=1.2, **TITLE)
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


def _side(count: int) -> int:
    return (WIDTH - 4 - (count - 1) * GAP) // count


def search_sheet(answers: Answers) -> tuple[Figure, list[Box]]:
    """Answers side by side, 432 px each; and where in [0, 1] of the sheet the first one's sketch and its photos are."""
    row = max(_side(max(4, len(photos))) for _, photos in answers.values()) + CAPTION
    height = 24 * any(answers) + 3 * HEAD + row + _side(2) + SCORES + _side(3) + 2
    width = len(answers) * (WIDTH + APART) - APART
    axes = sheet(width, height)
    boxes = [_draw(axes, 2 + k * (WIDTH + APART), name, *answers[name]) for k, name in enumerate(answers)]
    return axes.figure, (np.array(boxes[0]) / (width, height, width, height)).tolist()


def _draw(axes: Axes, left: int, title: str, found: Any, photos: Sequence[tuple[Picture, str]]) -> list[Box]:
    """The boxes of the sketch and of the photos."""
    heading = {"size": 8.5, "color": PALE}
    write(axes, left, 3, title, 10.5, va="top", weight="bold")
    top = HEAD + 24 * bool(title)
    write(axes, left, top - 5, "Photos, the most similar first (cosine of embeddings)", **heading)
    side, placed = _side(max(4, len(photos))), []
    for k, (photo, caption) in enumerate(photos):
        x, chosen = left + k * (side + GAP), found.order[k] == found.photo
        paste(axes, photo, x, top, side)
        placed.append((x, top, side, side))
        style = {"color": BLUE, "weight": "bold"} if chosen else {}
        write(axes, x + side / 2, top + side + 3, caption, 8, ha="center", va="top", **style)
        if chosen:
            axes.add_patch(Rectangle((x - 1, top - 1), side + 2, side + 2, fill=False, edgecolor=BLUE, linewidth=2.2))
    top, half = top + side + CAPTION + HEAD, _side(2)
    write(axes, left, top - 5, "Points of the sketch, found in the photo (cosine of features)", **heading)
    boxes = paste(axes, found.sketch, left, top, half), paste(axes, found.picture, left + half + GAP, top, half)
    for k, match in enumerate(found.matches):
        style = {"va": "center", "weight": "bold"}
        style["color"] = connect_numbered(axes, boxes, (match.sketch, match.photo), k)
        write(axes, left + 49 * k, top + half + SCORES / 2 + 1, f"{k + 1}: {match.score:.2f}", 8, **style)
    top, third = top + half + SCORES + HEAD, _side(3)
    write(axes, left, top - 5, "What was sketched", **heading)
    paste(axes, overlay(found.picture, found.mask), left, top, third)
    if found.categories:
        x, full = left + third + 2 * GAP + NAMES, WIDTH - 4 - third - 2 * GAP - NAMES - NUMBERS
        write(axes, x - NAMES, top - 5, "Category (one of the gallery's own)", **heading)
        for k, (name, probability) in enumerate(found.categories[:NAMED]):
            middle = top + BAR * (k + 0.5)
            write(axes, x - 6, middle, name[:13], ha="right", va="center")
            axes.barh([middle] * 2, [full, full * probability], 12, x, color=[HAIR, BLUE])
            write(axes, x + full + NUMBERS, middle, f"{probability:.0%}", ha="right", va="center")
    return [boxes[0], *placed]
