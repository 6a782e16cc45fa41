"""One sheet for what a sketch found: ranked photos, matched points, the mask, and the likeliest categories."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from sfhelpers.plots.figure import BLUE, HAIR, PALE, Figure, sheet, write
from sfhelpers.plots.grids import Box, Picture, overlay, paste
from sfhelpers.plots.matches import connect_numbered

WIDTH, GAP, APART = 432, 7, 28  # px; narrow enough to stand beside a sketch pad on a laptop
HEAD, CAPTION, SCORES, BAR = 21, 34, 20, 26  # px, heights: a heading, words below a photo, scores, a bar with its name
NAMES, NUMBERS = 84, 40  # px, room beside a bar
NAMED = 3  # categories with a bar


@dataclass(frozen=True)
class Answer:
    """What is drawn: what a sketch found, a `search.Found`, beside the pictures of the best photos."""

    found: Any
    photos: Sequence[Picture]  # thumbnails, best first
    captions: Sequence[str]  # a line or two below each
    chosen: int  # which of them is looked into
    title: str = ""  # above all


@dataclass
class Sheet:
    """The figure, its size in px, and where in it something can be chosen: boxes from the upper left corner."""

    figure: Figure
    _width: int
    _height: int
    sketches: list[Box] = field(default_factory=list)
    photos: list[Box] = field(default_factory=list)

    def sketch_at(self, x: float, y: float) -> tuple[float, float] | None:
        """The point of the sketch, x and y in [0, 1] of it, at a point of the sheet (in [0, 1] too), or None."""
        return self._inside(self.sketches[0], x, y)

    def photo_at(self, x: float, y: float) -> int | None:
        """Which of the ranked photos lies at a point of the sheet, or None."""
        return next((k for k, box in enumerate(self.photos) if self._inside(box, x, y)), None)

    def _inside(self, box: Box, x: float, y: float) -> tuple[float, float] | None:
        u, v = (x * self._width - box[0]) / box[2], (y * self._height - box[1]) / box[3]
        return (u, v) if 0 <= u <= 1 and 0 <= v <= 1 else None


def _side(count: int) -> int:
    return (WIDTH - 4 - (count - 1) * GAP) // count


def search_sheet(answers: Sequence[Answer]) -> Sheet:
    """Draw answers, one or more, side by side, 432 px each."""
    photos = max(_side(max(4, len(answer.photos))) for answer in answers) + CAPTION
    height = 24 * any(answer.title for answer in answers) + 3 * HEAD + photos + _side(2) + SCORES + _side(3) + 2
    width = len(answers) * (WIDTH + APART) - APART
    axes = sheet(width, height)
    page = Sheet(axes.figure, width, height)
    for number, answer in enumerate(answers):
        _draw(page, axes, answer, 2 + number * (WIDTH + APART))
    return page


def _draw(page: Sheet, axes: Axes, answer: Answer, left: int) -> None:
    found, heading = answer.found, {"size": 8.5, "color": PALE}
    write(axes, left, 3, answer.title, 10.5, va="top", weight="bold")
    top = HEAD + 24 * bool(answer.title)
    write(axes, left, top - 5, "Photos, the most similar first (cosine of embeddings)", **heading)
    side = _side(max(4, len(answer.photos)))
    for k, (photo, caption) in enumerate(zip(answer.photos, answer.captions, strict=True)):
        x, chosen = left + k * (side + GAP), k == answer.chosen
        paste(axes, photo, x, top, side)
        page.photos.append((x, top, side, side))
        style = {"color": BLUE, "weight": "bold"} if chosen else {}
        write(axes, x + side / 2, top + side + 3, caption, 8, ha="center", va="top", **style)
        if chosen:
            axes.add_patch(Rectangle((x - 1, top - 1), side + 2, side + 2, fill=False, edgecolor=BLUE, linewidth=2.2))
    top, half = top + side + CAPTION + HEAD, _side(2)
    write(axes, left, top - 5, "Points of the sketch, found in the photo (cosine of features)", **heading)
    boxes = paste(axes, found.sketch, left, top, half), paste(axes, found.picture, left + half + GAP, top, half)
    page.sketches.append(boxes[0])
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
