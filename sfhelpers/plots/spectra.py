"""Figures of the pilot study: PCA maps and Fourier spectra side by side, and radial profiles with yardsticks."""

from collections.abc import Mapping
from itertools import cycle

import numpy as np

from sfhelpers.plots.charts import WIDTH, tidy
from sfhelpers.plots.figure import INK, LOOKS, PALE, PLAIN, Figure, chart
from sfhelpers.plots.grids import Picture, color_map, enlarged, grid, picture

DASHES = ((0, ()), (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
TICKS = (1, 2, 3, 5, 8, 12, 20, 40, 80)


def maps_and_spectra(
    columns: Mapping[str, Mapping[str, tuple[Picture, np.ndarray]]], limit: float, title: str = ""
) -> Figure:
    """PCA maps above, Fourier spectra below, a column for each source (paper, Fig. 1, left).

    All spectra reach to `limit` cycles per image, so that a coarse grid's is small: beyond its edge there is nothing.
    Their colours run from a column's largest magnitude down to a hundredth of it.

    Args:
        columns: source -> row, such as "photo" and "sketch" -> (map or image, log10 magnitude (h, w), centred).
        limit: the highest frequency shown, in cycles per image.
    """
    names = list(next(iter(columns.values())))
    tops = [max(values.max() for _, values in cells.values()) for cells in columns.values()]
    maps = [[enlarged(picture(cells[name][0])) for cells in columns.values()] for name in names]
    spectra = [
        [_spectrum(cells[name][1], limit, top - 2, top) for cells, top in zip(columns.values(), tops, strict=True)]
        for name in names
    ]
    words = [f"{name} spectrum\n±{limit:g} cycles per image\nyellow to violet: 1 to 1/100" for name in names]
    return grid([*maps, *spectra], [*names, *words], list(columns), 1.4, title)


def spectra_row(panels: Mapping[str, np.ndarray], title: str = "") -> Figure:
    """Spectra of one grid side by side on one colour scale, from the largest value down to four decades less.

    `panels`: heading -> log10 magnitude (h, w), centred.
    """
    spectra = np.stack(list(panels.values()))
    top, limit = spectra.max(), max(spectra.shape[1:]) // 2
    low = max(spectra.min(), top - 4)
    words = f"±{limit} cycles per image\nlog10 from {low:.1f} (violet)\nto {top:.1f} (yellow)".replace("-", "−")
    return grid([[_spectrum(values, limit, low, top) for values in panels.values()]], [words], list(panels), 1.4, title)


def _spectrum(values: np.ndarray, limit: float, low: float, high: float) -> np.ndarray:
    """A centred spectrum as blocks, a frequency each, from -limit to limit; grey beyond its own."""
    side = 2 * int(limit) + 1
    colors = np.pad(color_map(values, low, high), ((side, side), (side, side), (0, 0)), constant_values=242)
    top, left = (side + length // 2 - int(limit) for length in values.shape)
    return enlarged(colors[top : top + side, left : left + side], 400)


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
