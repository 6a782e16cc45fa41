"""Pictures at known places of one figure, so that a click can be traced back to the picture under it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from sfhelpers.plots import Figure
from sfhelpers.plots.figure import DPI, HAIR_PIXEL, INK, PALE, VERMILION


class Sheet:
    """A white sheet of `width` x `height` pixels. Put pictures on it, then write and draw on `axes`, in its pixels.

    Attributes:
        figure, axes: of matplotlib; x runs to the right, y downwards.
        places: name to (left, top, side) of every picture.
    """

    def __init__(self, width: int, height: int):
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / DPI, height / DPI))
        self.axes: Axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        self.axes.set_axis_off()
        self.places: dict[str, tuple[int, int, int]] = {}
        self._paper = np.full((height, width, 3), 255, dtype=np.uint8)

    def put(self, name: str, pixels: np.ndarray, left: int, top: int, side: int) -> None:
        """A square picture, (n, n, 3) uint8; a coarse one keeps its steps, so that nobody takes them for more."""
        self.places[name] = (left, top, side)
        smooth = Image.Resampling.LANCZOS if len(pixels) > side else Image.Resampling.NEAREST
        self._paper[top - 1 : top + side + 1, left - 1 : left + side + 1] = HAIR_PIXEL
        fitted = Image.fromarray(pixels).resize((side, side), smooth)
        self._paper[top : top + side, left : left + side] = np.asarray(fitted)

    def write(self, text: str, x: float, y: float, size: float = 9, color: str = INK, **style: str | float) -> None:
        """Text at a point, centred upon it unless `style` (matplotlib's) says otherwise."""
        self.axes.text(x, y, text, **{"size": size, "color": color, "ha": "center", "va": "center", **style})

    def mark(self, name: str, x: float, y: float, shape: str, color: str = VERMILION) -> None:
        """A mark at (x, y) in [0, 1] of a picture: "+" or "o", edged in white to be seen on any ground."""
        left, top, side = self.places[name]
        at = ([left + x * side], [top + y * side])
        fill = {"markerfacecolor": "none"}
        self.axes.plot(*at, shape, markersize=12, markeredgewidth=4.5, markeredgecolor="white", **fill)
        self.axes.plot(*at, shape, markersize=12, markeredgewidth=2, markeredgecolor=color, **fill)

    def ramp(self, colors: np.ndarray, ends: Sequence[str], left: float, top: float, width: float) -> None:
        """A colour scale, (1, K, 3) uint8 from low to high, with a word below each end."""
        self.axes.imshow(colors, extent=(left, left + width, top + 8, top), interpolation="none", zorder=3)
        self.axes.set(xlim=(0, self.width), ylim=(self.height, 0), aspect="auto")
        for text, x, side in zip(ends, (left, left + width), ("left", "right"), strict=True):
            self.write(text, x, top + 11, size=8, color=PALE, ha=side, va="top")

    def box(self, left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
        """A place in pixels as matplotlib's `add_axes` wants it."""
        return left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height

    def find(self, x: float, y: float) -> tuple[str, float, float] | None:
        """The picture under a point of the sheet, with the point in it, all from 0 to 1; None between them."""
        for name, (left, top, side) in self.places.items():
            inner = ((x * self.width - left) / side, (y * self.height - top) / side)
            if min(inner) >= 0 and max(inner) <= 1:
                return name, *inner
        return None

    def png(self) -> bytes:
        """The finished sheet for live use."""
        return self.finished().quick_png()

    def finished(self) -> Figure:
        """The figure with its pictures; put no more on it."""
        self.axes.imshow(self._paper, extent=(0, self.width, self.height, 0), interpolation="none", zorder=0)
        self.axes.set(xlim=(0, self.width), ylim=(self.height, 0), aspect="auto")
        return self.figure
