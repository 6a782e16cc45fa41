"""One sheet for what a sketch found: ranked photos, matched points, the mask, and the likeliest categories."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image

from sfhelpers.plots.figure import BLUE, COLORS, DPI, HAIR, HAIR_PIXEL, INK, PALE, PLAIN, Figure
from sfhelpers.plots.grids import Picture, overlay, picture

WIDTH, GAP, EDGE = 432, 7, 2  # px; narrow enough to stand beside a sketch pad on a laptop
HEAD, CAPTION, SCORES, BAR = 21, 34, 20, 26  # px, heights: a heading, words below a photo, scores, a bar with its name
NAMES, NUMBERS = 84, 40  # px, room beside a bar
WORDS = {"linespacing": 1.1, **PLAIN}
Box = tuple[int, int, int, int]  # left, top, width, height in px


@dataclass(frozen=True)
class Answer:
    """What is drawn.

    Attributes:
        sketch: the query.
        photos: thumbnails of the best photos, best first, with a line or two below each in `captions`.
        chosen: which of them is looked into; -1 for none of them.
        looked: that photo, larger, and its `mask`, (H, W) bool of the same size.
        matches: ((x, y) in the sketch, (x, y) in the photo, score), x and y in [0, 1]; at most seven.
        categories: (name, probability) of the likeliest ones, best first; empty if there are none.
        title: a line above all.
    """

    sketch: Picture
    photos: Sequence[Picture]
    captions: Sequence[str]
    chosen: int
    looked: Picture
    mask: np.ndarray
    matches: Sequence[tuple[tuple[float, float], tuple[float, float], float]]
    categories: Sequence[tuple[str, float]]
    title: str = ""


@dataclass
class Sheet:
    """The figure, and where in it something can be chosen: boxes in px from the upper left corner."""

    figure: Figure
    sketches: list[Box] = field(default_factory=list)
    photos: list[Box] = field(default_factory=list)

    def png(self) -> bytes:
        """The sheet for live use."""
        return self.figure.quick_png()

    def sketch_at(self, x: float, y: float) -> tuple[float, float] | None:
        """The point of the sketch, x and y in [0, 1] of it, at a point of the sheet (in [0, 1] too), or None."""
        for left, top, width, height in self.sketches:
            u, v = (x * self._width - left) / width, (y * self._height - top) / height
            if 0 <= u <= 1 and 0 <= v <= 1:
                return float(u), float(v)
        return None

    def photo_at(self, x: float, y: float) -> int | None:
        """Which of the ranked photos lies at a point of the sheet, or None."""
        for k, (left, top, width, height) in enumerate(self.photos):
            if 0 <= x * self._width - left <= width and 0 <= y * self._height - top <= height:
                return k
        return None

    @property
    def _width(self) -> float:
        return self.figure.get_figwidth() * DPI

    @property
    def _height(self) -> float:
        return self.figure.get_figheight() * DPI


def search_sheet(answers: Sequence[Answer]) -> Sheet:
    """Draw answers side by side, 432 px each.

    Raises:
        ValueError: there is nothing to draw, or a mask and its photo differ in size.
    """
    if not answers:
        raise ValueError("there is nothing to show: pass at least one answer.")
    width = len(answers) * (WIDTH + 4 * GAP) - 4 * GAP
    height = max(_height(answer) for answer in answers)
    figure = Figure(figsize=(width / DPI, height / DPI))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    canvas = np.full((height, width, 3), 255, dtype=np.uint8)
    sheet = Sheet(figure)
    for number, answer in enumerate(answers):
        _draw(sheet, axes, canvas, answer, number * (WIDTH + 4 * GAP))
    axes.imshow(canvas, extent=(0, width, height, 0), interpolation="none", zorder=0)
    return sheet


def _cells(count: int) -> int:
    """Side of one of `count` cells in a row."""
    return (WIDTH - 2 * EDGE - (count - 1) * GAP) // count


def _height(answer: Answer) -> int:
    photos = _cells(max(4, len(answer.photos))) + CAPTION
    return (24 if answer.title else 0) + 3 * HEAD + photos + _cells(2) + SCORES + _cells(3) + EDGE


def _draw(sheet: Sheet, axes: Axes, canvas: np.ndarray, answer: Answer, left: int) -> None:
    left, top = left + EDGE, 24 if answer.title else 0
    axes.text(left, 3, answer.title, va="top", fontsize=10.5, color=INK, weight="bold", **WORDS)
    _heading(axes, left, top, "Photos, the most similar first (cosine of embeddings)")
    top = _photos(sheet, axes, canvas, answer, left, top + HEAD)
    _heading(axes, left, top, "Points of the sketch, found in the photo (cosine of features)")
    top, side = top + HEAD, _cells(2)
    boxes = [_paste(canvas, answer.sketch, left, top, side)]
    boxes.append(_paste(canvas, answer.looked, left + side + GAP, top, side))
    sheet.sketches.append(boxes[0])
    _lines(axes, answer, *boxes, left, top + side + SCORES / 2 + 1)
    top, side = top + side + SCORES, _cells(3)
    _heading(axes, left, top, "What was sketched")
    _paste(canvas, overlay(answer.looked, answer.mask), left, top + HEAD, side)
    _bars(axes, answer, left + side + 2 * GAP, top)


def _heading(axes: Axes, x: float, y: float, text: str) -> None:
    axes.text(x, y + HEAD - 5, text, va="baseline", fontsize=8.5, color=PALE)


def _photos(sheet: Sheet, axes: Axes, canvas: np.ndarray, answer: Answer, left: int, top: int) -> int:
    side = _cells(max(4, len(answer.photos)))
    for k, (photo, caption) in enumerate(zip(answer.photos, answer.captions, strict=True)):
        x = left + k * (side + GAP)
        _paste(canvas, photo, x, top, side)
        sheet.photos.append((x, top, side, side))
        strong = {"color": BLUE, "weight": "bold"} if k == answer.chosen else {"color": INK}
        axes.text(x + side / 2, top + side + 3, caption, ha="center", va="top", fontsize=8, **WORDS, **strong)
        if k == answer.chosen:
            axes.add_patch(Rectangle((x - 1, top - 1), side + 2, side + 2, fill=False, edgecolor=BLUE, linewidth=2.2))
    return top + side + CAPTION


def _paste(canvas: np.ndarray, image: Picture, left: int, top: int, side: int) -> Box:
    """Draw an image into a square, its proportions kept; returns where it came to lie."""
    pixels = Image.fromarray(picture(image))
    scale = side / max(pixels.size)
    width, height = (max(1, round(length * scale)) for length in pixels.size)
    smooth = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    x, y = left + (side - width) // 2, top + (side - height) // 2
    canvas[y - 1 : y + height + 1, x - 1 : x + width + 1] = HAIR_PIXEL  # a sketch on white needs an edge
    canvas[y : y + height, x : x + width] = np.asarray(pixels.resize((width, height), smooth))
    return x, y, width, height


def _lines(axes: Axes, answer: Answer, sketch: Box, photo: Box, left: int, below: int) -> None:
    """Every match as a numbered line from the sketch to the photo, its score below."""
    for number, ((start, end, score), color) in enumerate(zip(answer.matches, COLORS, strict=False), start=1):
        places = [(box[0] + xy[0] * box[2], box[1] + xy[1] * box[3]) for box, xy in ((sketch, start), (photo, end))]
        axes.plot(*zip(*places, strict=True), color="white", linewidth=3, alpha=0.7, zorder=2)
        axes.plot(*zip(*places, strict=True), color=color, linewidth=1.4, zorder=3)
        for x, y in places:
            axes.plot([x], [y], marker="o", markersize=11, color=color, markeredgecolor="white", zorder=4)
            axes.text(x, y, str(number), ha="center", va="center_baseline", fontsize=7, color="white", zorder=5)
        words = f"{number}: {score:.2f}"
        axes.text(left + (number - 1) * 49, below, words, va="center", fontsize=8, color=color, weight="bold")


def _bars(axes: Axes, answer: Answer, left: int, top: int) -> None:
    if not answer.categories:
        return
    _heading(axes, left, top, "Category (one of the gallery's own)")
    room = WIDTH - 2 * EDGE - _cells(3) - 2 * GAP
    for k, (name, probability) in enumerate(answer.categories):
        middle, x, full = top + HEAD + BAR * (k + 0.5), left + NAMES, room - NAMES - NUMBERS
        axes.text(x - 6, middle, name[:13], ha="right", va="center", fontsize=9, color=INK, **WORDS)
        for length, color in ((1, HAIR), (probability, BLUE)):
            axes.add_patch(Rectangle((x, middle - 6), full * length, 12, color=color, linewidth=0))
        axes.text(left + room, middle, f"{probability:.0%}", ha="right", va="center", fontsize=9, color=INK)
