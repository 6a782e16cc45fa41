"""Figures of the pilot study: PCA maps and Fourier spectra side by side, and radial profiles with yardsticks."""

from collections.abc import Mapping
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from sfhelpers.plots.charts import WIDTH, tidy
from sfhelpers.plots.figure import COLORMAP, COLORS, DPI, HAIR, INK, MARKERS, PALE, Figure
from sfhelpers.plots.grids import Picture, picture

SHEET, GAP, LEFT, HEAD, FOOT, RAMP = 800, 8, 74, 38, 40, 96  # pixels of the layout, as shown
DECADES = 2.0  # of magnitude that the colours of spectra span
DASHES = ((0, ()), (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
TICKS = (1, 2, 3, 5, 8, 12, 20, 40, 80)


def maps_and_spectra(
    columns: Mapping[str, Mapping[str, tuple[Picture, np.ndarray]]], limit: float, title: str = ""
) -> Figure:
    """PCA maps above, Fourier spectra below, a column for each source (paper, Fig. 1, left).

    Each position of a map is a block of its own. All spectra are drawn on one axis in cycles per image, so that a
    coarse grid's is small: beyond its edge there is nothing. Their colours run from a column's largest log10 magnitude
    down to two decades less.

    Args:
        columns: source -> row, such as "photo" and "sketch" -> (map or image, log10 magnitude (h, w), centred); all
            sources have the same rows.
        limit: the highest frequency shown, in cycles per image.
        title: a line above all.
    """
    rows = list(next(iter(columns.values())))
    figure, place = _sheet(2 * len(rows), len(columns), title)
    for number, (name, cells) in enumerate(columns.items()):
        top = max(values.max() for _, values in cells.values())
        for row, label in enumerate(rows):
            image, values = cells[label]
            axes = figure.add_axes(place(row, number))
            axes.imshow(picture(image), interpolation="nearest")
            _frame(axes, "PCA map" if number else "image", label if number == 0 else "")
            if row == 0:
                axes.set_title(name, fontsize=9.5, color=INK, weight="bold", pad=6)
            below = figure.add_axes(place(len(rows) + row, number))
            _spectrum(below, values - top, limit, -DECADES, 0)
            _frame(below, "", f"{label}\nspectrum" if number == 0 else "")
            if row == len(rows) - 1:
                _frequency_axis(below, limit)
    _ramp(
        figure, place(2 * len(rows) - 1, len(columns) - 1), -DECADES, 0, "log10 magnitude,\nlargest of the\ncolumn = 0"
    )
    return figure


def spectra_row(panels: Mapping[str, np.ndarray], title: str = "") -> Figure:
    """Spectra of one grid side by side on one colour scale, from the largest value down to four decades less.

    Args:
        panels: heading -> log10 magnitude (h, w), centred.
        title: a line above all.
    """
    figure, place = _sheet(1, len(panels), title)
    top = max(values.max() for values in panels.values())
    low = max(min(values.min() for values in panels.values()), top - 2 * DECADES)
    for number, (name, values) in enumerate(panels.items()):
        axes = figure.add_axes(place(0, number))
        limit = max(values.shape) / 2
        _spectrum(axes, values, limit, low, top)
        axes.set_title(name, fontsize=9, color=INK, pad=6)
        _frame(axes, "", "")
        _frequency_axis(axes, limit)
    _ramp(figure, place(0, len(panels) - 1), low, top, "log10\nmagnitude")
    return figure


def radial_profiles(
    panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
    yardsticks: Mapping[str, tuple[np.ndarray, np.ndarray]],
    band: float,
    title: str = "",
) -> Figure:
    """Radial power profiles over many images: the median and, as a band, the 10th to 90th percentile.

    Each profile is divided by its own mean from 1 to `band` cycles per image, a range that every grid resolves. A line
    ends, with an upright stroke, where its grid does: at half its positions a side.

    Args:
        panels: heading -> source -> (frequencies (K,) in cycles per image, power (B, K)).
        yardsticks: name -> (frequencies, power (1, K)), e.g. white noise; dotted.
        band: in cycles per image.
        title: a line above all.
    """
    figure = Figure(figsize=(WIDTH, 3.7), dpi=2 * DPI)
    width = 0.93 / len(panels)
    everything = [values for panel in panels.values() for values in panel.values()]
    lowest = min(np.percentile(_levelled(*values, band), 10, axis=0)[values[0] > 0].min() for values in everything)
    end = max(values[0].max() for values in everything)
    for number, (name, panel) in enumerate(panels.items()):
        axes = figure.add_axes((0.07 + number * width, 0.14, width - 0.03, 0.70))
        axes.set(xscale="log", yscale="log", xlim=(0.9, end * 1.12), ylim=(max(lowest * 0.6, 1e-4), 6))
        for source, style in zip(panel, _styles(), strict=False):
            _profile(axes, source, *panel[source], band, **style)
        for label, values in yardsticks.items():
            level = _levelled(*values, band)[0]
            shown = values[0] > 0
            axes.plot(values[0][shown], level[shown], color=PALE, linestyle=(0, (1, 2)), linewidth=1.4)
            _name_inside(axes, values[0][shown], level[shown], label, end)
        tidy(axes, "frequency (cycles per image)", "", "")
        axes.set_ylabel(f"power, mean from 1 to {band:g} = 1" if number == 0 else "", fontsize=9, color=INK)
        axes.set_title(name, fontsize=9.5, color=INK, loc="left", pad=6, weight="bold")
        ticks = [tick for tick in TICKS if tick <= end]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.minorticks_off()
        if number > 0:
            axes.set_yticklabels([])
        else:
            axes.legend(fontsize=8, frameon=False, labelcolor=INK, loc="lower left", handlelength=2.6, borderpad=0)
    figure.text(0.01, 0.985, title, fontsize=10.5, color=INK, va="top", weight="bold")
    return figure


def enlarged(pixels: np.ndarray, side: int = 144) -> np.ndarray:
    """A map (h, w, 3) with each position as a block of about side / h pixels, for `grid`, which would blur it."""
    return np.kron(pixels, np.ones((max(1, round(side / len(pixels))),) * 2 + (1,), dtype=pixels.dtype))


def _sheet(rows: int, columns: int, title: str):
    """An empty figure, and a function from row and column to a cell's place in it."""
    cell = min(150, (SHEET - LEFT - RAMP) // columns - GAP)
    width = LEFT + columns * (cell + GAP) + RAMP
    above = (22 if title else 0) + HEAD
    height = above + rows * (cell + GAP) + FOOT
    figure = Figure(figsize=(width / DPI, height / DPI))
    figure.text(4 / width, 1 - 4 / height, title, fontsize=10.5, color=INK, va="top", weight="bold")

    def place(row: int, column: int) -> tuple[float, float, float, float]:
        x, y = LEFT + column * (cell + GAP), above + row * (cell + GAP)
        return x / width, 1 - (y + cell) / height, cell / width, cell / height

    return figure, place


def _spectrum(axes: Axes, values: np.ndarray, limit: float, low: float, high: float) -> None:
    """A centred spectrum on an axis in cycles per image; every frequency is one cell."""
    height, width = values.shape
    left, top = -(width // 2) - 0.5, -(height // 2) - 0.5
    axes.imshow(
        values, cmap=COLORMAP, vmin=low, vmax=high, interpolation="nearest",
        extent=(left, left + width, top + height, top),
    )  # fmt: skip
    axes.set(xlim=(-limit - 0.5, limit + 0.5), ylim=(limit + 0.5, -limit - 0.5), facecolor="#F2F2F2")


def _frame(axes: Axes, inside: str, beside: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(HAIR)
    axes.set_ylabel(beside, rotation=0, ha="right", va="center", fontsize=9, color=INK, labelpad=6)


def _frequency_axis(axes: Axes, limit: float) -> None:
    end = int(limit)
    axes.set_xticks([-end, 0, end], [f"−{end}", "0", str(end)])
    for label, side in zip(axes.get_xticklabels(), ("left", "center", "right"), strict=True):
        label.set_horizontalalignment(side)  # or those of neighbours would touch
    axes.tick_params(labelsize=8.5, colors=PALE, length=0)
    axes.set_xlabel("cycles per image", fontsize=8.5, color=INK, labelpad=2)


def _ramp(figure: Figure, beside: tuple[float, float, float, float], low: float, high: float, label: str) -> None:
    x, y, width, height = beside
    axes = figure.add_axes((x + width + 8 / (DPI * figure.get_figwidth()), y, 0.012, height))
    axes.imshow(np.linspace(high, low, 64)[:, None], cmap=COLORMAP, aspect="auto", extent=(0, 1, low, high))
    axes.set_xticks([])
    axes.set_yticks(
        [low, (low + high) / 2, high], [f"{v:.1f}".replace("-", "−") for v in (low, (low + high) / 2, high)]
    )
    axes.yaxis.tick_right()
    axes.tick_params(labelsize=8, colors=PALE, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(label, fontsize=7.5, color=INK, loc="left", pad=6)


def _styles():
    for color, marker, dash in zip(cycle(COLORS), cycle(MARKERS), cycle(DASHES), strict=False):
        yield {"color": color, "marker": marker, "dash": dash}


def _profile(
    axes: Axes, source: str, frequencies: np.ndarray, power: np.ndarray, band: float, color: str, marker: str,
    dash: tuple,
) -> None:  # fmt: skip
    shown = frequencies > 0
    low, middle, high = np.percentile(_levelled(frequencies, power, band)[:, shown], (10, 50, 90), axis=0)
    x = frequencies[shown]
    axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    axes.plot(x, middle, color=color, linestyle=dash, linewidth=1.8, marker=marker, markersize=3.5, label=source)
    axes.plot(x[-1:], middle[-1:], color=color, marker="|", markersize=16, markeredgewidth=1.6)


def _levelled(frequencies: np.ndarray, power: np.ndarray, band: float) -> np.ndarray:
    """(B, K) over its mean from 1 to `band` cycles per image; a profile that ends before, over all it has."""
    inside = (frequencies >= 1) & (frequencies <= band)
    return power / np.maximum(power[:, inside].mean(axis=1, keepdims=True), 1e-30)


def _name_inside(axes: Axes, x: np.ndarray, level: np.ndarray, label: str, end: float) -> None:
    """Write a yardstick's name above its line, near its right end."""
    at = int(np.searchsorted(x, 0.55 * min(end, x[-1])))
    axes.annotate(label, (x[at], level[at]), xytext=(2, 4), textcoords="offset points", fontsize=8, color=PALE)
