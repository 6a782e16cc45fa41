"""How the parts of the collection fit together, as a drawing around one sketch and one photo."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image

from sfhelpers.plots.figure import BLUE, DPI, HAIR, INK, PALE, VERMILION, Figure
from sfhelpers.plots.grids import Picture, picture

WIDTH, HEIGHT, CELL = 800, 304, 78  # px
# Name to left, top and width in px, two lines of words, and whether anything in it is learned here.
BOXES = {
    "SD": (156, 26, 244, "Stable Diffusion", "frozen; its UNet's\nfeatures: where", False),
    "CLIP": (156, 186, 244, "CLIP", "frozen; tokens and\nembedding: what", False),
    "fused": (462, 26, 190, "fused map", "a few\nlearned\nlayers", True),
}
PICTURES = ("sketch", "photo", "SD", "CLIP", "fused", "mask")
TALL = 106  # px, the height of a box


def parts(pictures: Mapping[str, Picture]) -> Figure:
    """Sketch and photo go through two frozen models; what is learned sits on top; four kinds of answers come out.

    Args:
        pictures: "sketch" and "photo"; "SD", "CLIP" and "fused", the photo's features as colours; "mask", the
            photo with its mask.

    Raises:
        ValueError: one of these is missing.
    """
    if missing := [name for name in PICTURES if name not in pictures]:
        raise ValueError(f"there is no picture {missing[0]!r}: pass {', '.join(PICTURES)}.")
    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.set_axis_off()
    for name, x, y in (("sketch", 8, 40), ("photo", 8, 200), ("mask", 716, 40)):
        _paste(axes, pictures[name], x, y)
        _words(axes, name, x + CELL / 2, y + CELL + 12, ha="center")
    for name, (left, top, width, title, words, learned) in BOXES.items():
        style = {"facecolor": "#EAF3FA" if learned else "#F4F4F4", "edgecolor": BLUE if learned else PALE}
        axes.add_patch(FancyBboxPatch((left, top), width, TALL, boxstyle="round,pad=0,rounding_size=7", **style))
        _paste(axes, pictures[name], left + width - CELL - 14, top + 14)
        _words(axes, title, left + 11, top + 24, weight="bold")
        _words(axes, words, left + 11, top + 39, va="top")
    _arrows(axes)
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0), aspect="auto")
    return figure


def _arrows(axes: Axes) -> None:
    sd, clip, low = 79, 222, 262  # heights of the rows
    for y in (sd, clip):
        for start in (sd, low - 23):
            _arrow(axes, (90, start), (152, y), PALE)
    _arrow(axes, (404, sd), (458, sd), INK)
    _arrow(axes, (656, sd), (710, sd), INK)
    _arrow(axes, (240, 184), (240, 136), VERMILION)
    _words(axes, "tokens, injected\ninto the UNet", 248, 160, color=VERMILION)
    _arrow(axes, (404, clip), (644, clip), INK)
    _words(axes, "tokens, compared point by point", 412, clip - 10)
    _words(axes, "matches", 652, clip, weight="bold")
    _arrow(axes, (404, low), (644, low), INK)
    _words(axes, "embedding, compared as a whole", 412, low - 10)
    _words(axes, "ranked photos,\na category", 652, low, weight="bold")


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    style = {"arrowstyle": "-|>", "color": color, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=style)


def _words(axes: Axes, text: str, x: float, y: float, **style: str) -> None:
    axes.text(x, y, text, **{"fontsize": 9, "color": INK, "va": "center", "linespacing": 1.25, **style})


def _paste(axes: Axes, image: Picture, left: int, top: int) -> None:
    """An image in a square, its proportions kept; a coarse map keeps its steps."""
    pixels = picture(image)
    height, width = (max(1, round(CELL * length / max(pixels.shape[:2]))) for length in pixels.shape[:2])
    smooth = Image.Resampling.LANCZOS if max(pixels.shape) > CELL else Image.Resampling.NEAREST
    small = Image.fromarray(pixels).resize((width, height), smooth)
    x, y = left + (CELL - width) / 2, top + (CELL - height) / 2
    axes.imshow(np.asarray(small), extent=(x, x + width, y + height, y), interpolation="none", zorder=3)
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=HAIR, linewidth=1, zorder=4))
