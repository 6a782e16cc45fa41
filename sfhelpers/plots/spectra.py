"""Figures of the pilot study: PCA maps and Fourier spectra side by side, and radial profiles with yardsticks."""

from collections.abc import Mapping
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from sfhelpers.plots.charts import WIDTH, tidy
from sfhelpers.plots.figure import COLORMAP, HAIR, INK, LOOKS, PALE, PLAIN, Figure, chart
from sfhelpers.plots.grids import Picture, picture

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
    """
    rows = list(next(iter(columns.values())))
    cells = _cells(2 * len(rows), len(columns), title)
    for column, (name, found) in zip(cells.T, columns.items(), strict=True):
        column[0].set_title(name, fontsize=9.5, color=INK, weight="bold", **PLAIN)
        top = max(values.max() for _, values in found.values())
        for k, row in enumerate(rows):
            image, values = found[row]
            column[k].imshow(picture(image), interpolation="nearest")
            shown = _spectrum(column[len(rows) + k], values - top, limit, -DECADES, 0)
    for axes, row in zip(cells[:, 0], [*rows, *(f"{row}\nspectrum" for row in rows)], strict=True):
        axes.set_ylabel(row, fontsize=9, color=INK, rotation=0, ha="right", va="center")
    _ramp(cells[len(rows) :], shown, "log10 magnitude, largest of the column = 0")
    return cells[0, 0].figure


def spectra_row(panels: Mapping[str, np.ndarray], title: str = "") -> Figure:
    """Spectra of one grid side by side on one colour scale, from the largest value down to four decades less.

    Args:
        panels: heading -> log10 magnitude (h, w), centred.
    """
    cells = _cells(1, len(panels), title)
    top = max(values.max() for values in panels.values())
    low = max(min(values.min() for values in panels.values()), top - 2 * DECADES)
    for axes, (name, values) in zip(cells[0], panels.items(), strict=True):
        axes.set_title(name, fontsize=9, color=INK, **PLAIN)
        shown = _spectrum(axes, values, max(values.shape) / 2, low, top)
    _ramp(cells, shown, "log10 magnitude")
    return cells[0, 0].figure


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
    """
    figure = chart(WIDTH, 3.7, title)
    row = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    end = max(values[0].max() for panel in panels.values() for values in panel.values())
    for axes, (name, panel) in zip(row, panels.items(), strict=True):
        looks = zip(panel.items(), cycle(LOOKS), cycle(DASHES), strict=False)
        for (source, values), (color, marker), dash in looks:
            x, (low, middle, high) = _levelled(*values, band)
            axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
            axes.plot(x, middle, color=color, linestyle=dash, lw=1.8, marker=marker, markersize=3.5, label=source)
            axes.plot(x[-1:], middle[-1:], color=color, marker="|", markersize=16, markeredgewidth=1.6)
        for label, values in yardsticks.items():
            x, (_, level, _) = _levelled(*values, band)
            axes.plot(x, level, color=PALE, linestyle=(0, (1, 2)), linewidth=1.4)
            at = int(np.searchsorted(x, 0.55 * min(end, x[-1])))
            axes.annotate(label, (x[at], level[at]), (2, 4), textcoords="offset points", fontsize=8, color=PALE)
        tidy(axes, "frequency (cycles per image)")
        axes.set_title(name, fontsize=9.5, color=INK, loc="left", weight="bold", **PLAIN)
    row[0].set(xscale="log", yscale="log", xlim=(0.9, end * 1.12))
    row[0].set_ylim(max(row[0].get_ylim()[0], 1e-4), 6)
    row[0].set_ylabel(f"power, mean from 1 to {band:g} = 1", fontsize=9, color=INK)
    row[0].set_xticks([tick for tick in TICKS if tick <= end], [str(tick) for tick in TICKS if tick <= end])
    for axes in row:
        axes.minorticks_off()
    row[0].legend(fontsize=8, frameon=False, labelcolor=INK, loc="lower left", handlelength=2.6, borderpad=0)
    return figure


def _levelled(frequencies: np.ndarray, power: np.ndarray, band: float) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies above 0, and percentiles of power over its mean from 1 to `band`; what ends before, over it all."""
    inside, shown = (frequencies >= 1) & (frequencies <= band), frequencies > 0
    levelled = power / np.maximum(power[:, inside].mean(axis=1, keepdims=True), 1e-30)
    return frequencies[shown], np.percentile(levelled[:, shown], (10, 50, 90), axis=0)


def _cells(rows: int, columns: int, title: str) -> np.ndarray:
    """(rows, columns) square axes without ticks."""
    side = min(1.58, 6.3 / columns)
    figure = chart(1.7 + columns * side, 0.9 + rows * side, title, "compressed")
    cells = figure.subplots(rows, columns, squeeze=False)
    for axes in cells.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color(HAIR)
    return cells


def _spectrum(axes: Axes, values: np.ndarray, limit: float, low: float, high: float):
    """A centred spectrum on an axis in cycles per image; every frequency is one cell."""
    height, width = values.shape
    left, top = -(width // 2) - 0.5, -(height // 2) - 0.5
    place = {"extent": (left, left + width, top + height, top), "interpolation": "nearest"}
    image = axes.imshow(values, cmap=COLORMAP, vmin=low, vmax=high, **place)
    axes.set(xlim=(-limit - 0.5, limit + 0.5), ylim=(limit + 0.5, -limit - 0.5), facecolor="#F2F2F2")
    if axes.get_subplotspec().is_last_row():
        axes.set_xticks([-int(limit), 0, int(limit)])
        axes.tick_params(labelsize=8.5, colors=PALE, length=0)
        axes.set_xlabel("cycles per image", fontsize=8.5, color=INK, labelpad=2)
    return image


def _ramp(cells: np.ndarray, image, label: str) -> None:
    bar = cells[0, 0].figure.colorbar(image, ax=cells, aspect=30, pad=0.01, ticks=MaxNLocator(4))
    bar.set_label(label, fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=8, colors=PALE, length=0)
    bar.outline.set_visible(False)
