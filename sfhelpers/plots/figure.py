"""The figure all plots return, the colours they share, and a sheet that is measured in pixels."""

import base64
import io
import os
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as MatplotlibFigure
from PIL import Image

from sfhelpers.files import replace_file

# Okabe and Ito (2008), told apart with every common kind of colour vision; yellow is too pale for lines on white.
BLUE, ORANGE, GREEN, PINK, SKY, VERMILION = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
COLORS = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, "#000000")
LOOKS = tuple(zip(COLORS, ("o", "s", "^", "D", "v", "P", "X"), strict=True))  # colour and marker
INK, PALE, HAIR = "#222222", "#6B6B6B", "#D8D8D8"
COLORMAP = "viridis"
DPI = 100  # pixels an inch, as shown
PLAIN = {"parse_math": False}  # for words of the user's: a folder may be called $x$
TITLE = {"fontsize": 10.5, "color": INK, "weight": "bold", **PLAIN}
DASHED = {"color": PALE, "linestyle": (0, (4, 3)), "linewidth": 1.1, "zorder": 1}


class Figure(MatplotlibFigure):
    """A matplotlib figure that notebooks show without pyplot: no global state, no backend, the same bytes always."""

    cut = False  # True: the picture ends where what is drawn ends, to hold words around, and not where the figure does

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{"dpi": DPI, "facecolor": "white", **kwargs})

    def savefig(self, fname: Any, **how: Any) -> None:
        """As matplotlib's; a file, in the format that its name ends in, is written whole or not at all."""
        if isinstance(fname, str | os.PathLike):
            super().savefig(file := io.BytesIO(), **{"format": Path(fname).suffix[1:] or "png", **how})
            replace_file(Path(fname), file.getvalue())
        else:
            super().savefig(fname, **how)

    def png(self, live: bool = False) -> bytes:
        """The figure as a PNG of 256 colours, half the usual size or less, without date and version; or, for live use,
        in all its colours and in a fifth of the time."""
        if self.get_layout_engine():  # each pass moves what it lays out a little: two, and then no more
            self.draw_without_rendering()
            self.draw_without_rendering()
            self.set_layout_engine("none")
        around = {"bbox_inches": "tight", "pad_inches": 0.03} if self.cut else {}
        self.savefig(drawn := io.BytesIO(), format="png", dpi="figure", pil_kwargs={"compress_level": 0}, **around)
        image = Image.open(drawn).convert("RGB")
        few = image if live else image.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1)
        few.save(file := io.BytesIO(), format="PNG", **{"compress_level": 1} if live else {"optimize": True})
        return file.getvalue()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        # A mime bundle and not _repr_png_, since matplotlib's inline backend registers its own printer for the latter.
        png = self.png()
        width = round(Image.open(io.BytesIO(png)).width * DPI / self.dpi)  # most are drawn finer than they are shown
        data = {"image/png": base64.b64encode(png).decode(), "text/plain": f"<figure, {width} px wide>"}
        return data, {"image/png": {"width": width}}


def chart(width: float, height: float, title: str = "") -> Figure:
    """A figure of that many inches, drawn half again as fine as shown, that matplotlib lays out."""
    figure = Figure(figsize=(width, height), dpi=1.5 * DPI, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", **TITLE)
    return figure


def sheet(width: float, height: float, fine: float = 1, cut: bool = False) -> Axes:
    """Axes over a whole figure whose units are pixels as shown, y downwards; drawn `fine` times as fine."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=fine * DPI)
    figure.cut = cut
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False, aspect="auto")
    axes.set_axis_off()
    return axes


def write(axes: Axes, x: float, y: float, text: str, size: float = 9, **style: Any) -> None:
    """Words of the user's on axes; half a character, which no font has, as its number."""
    text = text.encode("utf-8", "backslashreplace").decode()
    axes.text(x, y, text, **{"fontsize": size, "color": INK, "linespacing": 1.1, **PLAIN, **style})
