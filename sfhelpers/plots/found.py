"""One sheet for what a sketch found: ranked photos, matched points, the mask, and the likeliest categories."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from sfhelpers.plots.figure import BLUE, DPI, HAIR, PALE, Figure, sheet, write
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
    title: str = ""  # above all


@dataclass(frozen=True)
class Sheet:
    """The figure, and what can be chosen in it: the boxes, in px, of the first answer's sketch and of its photos."""

    figure: Figure
    boxes: list[Box]

    def at(self, x: float, y: float) -> tuple[int, tuple[float, float]] | None:
        """Which box lies at a point of the sheet, and where in it that is; x and y are in [0, 1] of sheet and box."""
        wide, high = self.figure.get_size_inches() * DPI
        for k, (left, top, width, height) in enumerate(self.boxes):
            u, v = (x * wide - left) / width, (y * high - top) / height
            if 0 <= u <= 1 and 0 <= v <= 1:
                return k, (u, v)
        return None


def _side(count: int) -> int:
    return (WIDTH - 4 - (count - 1) * GAP) // count


def search_sheet(answers: Sequence[Answer]) -> Sheet:
    """Draw answers, one or more, side by side, 432 px each."""
    photos = max(_side(max(4, len(answer.photos))) for answer in answers) + CAPTION
    height = 24 * any(answer.title for answer in answers) + 3 * HEAD + photos + _side(2) + SCORES + _side(3) + 2
    axes = sheet(len(answers) * (WIDTH + APART) - APART, height)
    boxes = [_draw(axes, answer, 2 + k * (WIDTH + APART)) for k, answer in enumerate(answers)]
    return Sheet(axes.figure, boxes[0])


def _draw(axes: Axes, answer: Answer, left: int) -> list[Box]:
    """The boxes of the sketch and of the photos."""
    found, heading = answer.found, {"size": 8.5, "color": PALE}
    write(axes, left, 3, answer.title, 10.5, va="top", weight="bold")
    top = HEAD + 24 * bool(answer.title)
    write(axes, left, top - 5, "Photos, the most similar first (cosine of embeddings)", **heading)
    side, photos = _side(max(4, len(answer.photos))), []
    for k, (photo, caption) in enumerate(zip(answer.photos, answer.captions, strict=True)):
        x, chosen = left + k * (side + GAP), found.order[k] == found.photo
        paste(axes, photo, x, top, side)
        photos.append((x, top, side, side))
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
    return [boxes[0], *photos]
