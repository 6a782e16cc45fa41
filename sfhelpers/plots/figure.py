"""The figure all plots return, and the colours they share."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.textpath import TextPath
from PIL import Image

# Okabe and Ito (2008), told apart with every common kind of colour vision; yellow is too pale for lines on white.
BLUE, ORANGE, GREEN, PINK, SKY, VERMILION = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
COLORS = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, PALE, HAIR = "#222222", "#6B6B6B", "#D8D8D8"
COLORMAP = "viridis"
DPI = 100  # pixels an inch, as shown


class Figure(MatplotlibFigure):
    """A matplotlib figure that notebooks show without pyplot: no global state, no backend, the same bytes always."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{"dpi": DPI, "facecolor": "white", **kwargs})
        FigureCanvasAgg(self)

    def png(self) -> bytes:
        """The figure as a PNG of 256 colours, half the usual size or less; it holds no date and no version."""
        self.canvas.draw()
        pixels = Image.fromarray(np.asarray(self.canvas.buffer_rgba())[..., :3].copy())
        file = io.BytesIO()
        few = pixels.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1)
        few.save(file, format="PNG", optimize=True)
        return file.getvalue()

    def save(self, path: str | Path) -> None:
        """Write `png()` to a file."""
        Path(path).write_bytes(self.png())

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        # A mime bundle and not _repr_png_, since matplotlib's inline backend registers its own printer for the latter.
        width = round(self.get_figwidth() * DPI)  # charts are drawn twice as fine as they are shown
        data = {"image/png": base64.b64encode(self.png()).decode(), "text/plain": f"<figure, {width} px wide>"}
        return data, {"image/png": {"width": width}}


def text_width(text: str, size: float) -> float:
    """The width of a text of `size` points, in pixels as shown."""
    lines = [line for line in text.split("\n") if line.strip()]
    return max((TextPath((0, 0), line, size=size).get_extents().x1 for line in lines), default=0.0) * DPI / 72
