"""Curves and dot plots."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from sfhelpers.plots.figure import BLUE, COLORS, DPI, HAIR, INK, MARKERS, PALE, PLAIN, Figure, text_width

WIDTH = 8.0  # inches, what a laptop shows beside the file list


def curve(
    x: Sequence[float],
    series: Mapping[str, tuple[Sequence[float], Sequence[float] | None]],
    xlabel: str,
    ylabel: str,
    title: str = "",
    baselines: Mapping[str, float] | None = None,
    log_x: bool = False,
) -> Figure:
    """Lines over x with a band of plus and minus the spread, each named at its right end.

    Args:
        x: positions, the same for all series.
        series: name to (means, spreads); None instead of the spreads draws no band.
        xlabel, ylabel: with units.
        baselines: name to a level, drawn as a dashed line.
        log_x: a logarithmic x axis; x must be above 0.
    """
    figure = Figure(figsize=(WIDTH, 3.6), dpi=2 * DPI)
    names_width = max(text_width(name, 9) for name in (*series, *(baselines or {}))) + 18
    axes = figure.add_axes((0.09, 0.15, 0.91 - names_width / (WIDTH * DPI), 0.74))
    ends = []
    for (name, (mean, spread)), color, marker in zip(series.items(), cycle(COLORS), cycle(MARKERS), strict=False):
        axes.plot(x, mean, color=color, marker=marker, markersize=4, markeredgecolor="white", linewidth=1.8)
        if spread is not None:
            low, high = np.subtract(mean, spread), np.add(mean, spread)
            axes.fill_between(x, low, high, color=color, alpha=0.16, linewidth=0)
        ends.append((float(mean[-1]), name, color))
    for name, level in (baselines or {}).items():
        axes.axhline(level, color=PALE, linestyle=(0, (4, 3)), linewidth=1.1, zorder=1)
        ends.append((level, name, PALE))
    if log_x:
        axes.set_xscale("log")
        ticks = _apart(x)
        axes.set_xticks(ticks, [f"{value / 1000:g}k" if value >= 1000 else f"{value:g}" for value in ticks])
        axes.minorticks_off()
    elif all(float(value).is_integer() for value in x):  # e.g. epochs: no tick at half of one
        axes.locator_params(axis="x", integer=True)
    _tidy(axes, xlabel, ylabel, title)
    _name_ends(axes, ends)
    return figure


def bars_with_spread(
    panels: Mapping[str, Mapping[str, tuple[float, float | None]]],
    xlabel: str,
    baselines: Mapping[str, tuple[str, float]] | None = None,
    highlight: str = "",
    title: str = "",
) -> Figure:
    """Methods compared, a dot and plus and minus the spread for each, with a trivial baseline as a dashed line.

    Args:
        panels: panel title (say, seen and unseen categories) to {method: (mean, spread)}, the spread None if there
            is but one run; the panels share methods in the order of the first one, and their x axis.
        xlabel: what is measured, with n and what the spread is over.
        baselines: panel title to (name, level).
        highlight: the method drawn in colour.
    """
    methods = list(next(iter(panels.values())))
    figure = Figure(figsize=(WIDTH, 1.2 + 0.29 * len(methods)), dpi=2 * DPI)
    inch = 1 / figure.get_figheight()
    left = (max(text_width(name, 9) for name in methods) + 18) / (WIDTH * DPI)
    width = (0.995 - left) / len(panels)
    beside = (max(1.1 * text_width(_value(*v), 8.5) for panel in panels.values() for v in panel.values()) + 20) / (
        WIDTH * DPI
    )  # the values stand to the right of each panel; bold is a tenth wider
    bottom, height = 0.52 * inch, 1 - ((0.68 if title else 0.46) + 0.52) * inch
    limits = _limits(panels, baselines or {})
    for index, (name, panel) in enumerate(panels.items()):
        axes = figure.add_axes((left + index * width, bottom, width - beside, height), xlim=limits)
        _tidy(axes, "", "", "")
        _dots(axes, methods, panel, highlight, named=index == 0)
        if baselines and name in baselines:
            _baseline(axes, *baselines[name])
        axes.set_title(name, fontsize=9.5, color=INK, loc="left", pad=15, weight="bold", **PLAIN)
    figure.text(left, 0.06 * inch, xlabel, fontsize=9, color=INK, va="bottom", **PLAIN)
    figure.text(0.01, 1 - 0.06 * inch, title, fontsize=10.5, color=INK, va="top", weight="bold", **PLAIN)
    return figure


def _value(mean: float, spread: float | None) -> str:
    return f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {spread:.3f}"


def _limits(panels: Mapping, baselines: Mapping[str, tuple[str, float]]) -> tuple[float, float]:
    levels = [level for _, level in baselines.values()]
    for mean, spread in (value for panel in panels.values() for value in panel.values()):
        levels += [mean - (spread or 0), mean + (spread or 0)]
    margin = 0.06 * (max(levels) - min(levels) or 1)
    return min(levels) - margin, max(levels) + margin


def _baseline(axes: Axes, label: str, level: float) -> None:
    axes.axvline(level, color=PALE, linestyle=(0, (4, 3)), linewidth=1.1, zorder=1)
    place = {"xycoords": ("data", "axes fraction"), "xytext": (-2, 2), "textcoords": "offset points"}
    axes.annotate(f"{label} {level:.2f}", (level, 1), **place, fontsize=8, color=PALE, ha="left", va="bottom", **PLAIN)


def _dots(
    axes: Axes, methods: list[str], panel: Mapping[str, tuple[float, float | None]], highlight: str, named: bool
) -> None:
    places = range(len(methods) - 1, -1, -1)
    for y, method in zip(places, methods, strict=True):
        mean, spread = panel[method]
        chosen = method == highlight
        color = BLUE if chosen else INK
        axes.errorbar(mean, y, xerr=spread, color=color, fmt="o", markersize=6 if chosen else 5, lw=1.8, capsize=0)
        style = {"textcoords": "offset points", "va": "center", "color": color, "weight": ["normal", "bold"][chosen]}
        sides = ("axes fraction", "data")
        axes.annotate(_value(mean, spread), (1, y), xycoords=sides, xytext=(6, 0), fontsize=8.5, **style)
        if named:
            axes.annotate(method, (0, y), xycoords=sides, xytext=(-8, 0), ha="right", fontsize=9, **style, **PLAIN)
    axes.set_ylim(-0.6, len(methods) - 0.4)
    axes.set_yticks(list(places), [""] * len(methods))
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.spines["left"].set_visible(False)


def _tidy(axes: Axes, xlabel: str, ylabel: str, title: str) -> None:
    axes.set_xlabel(xlabel, fontsize=9, color=INK)
    axes.set_ylabel(ylabel, fontsize=9, color=INK)
    axes.set_title(title, fontsize=10.5, color=INK, loc="left", weight="bold", pad=8, **PLAIN)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(HAIR)
    axes.tick_params(labelsize=8.5, colors=PALE, length=0)
    axes.grid(True, color=HAIR, linewidth=0.6, alpha=0.7)
    axes.set_axisbelow(True)


def _apart(x: Sequence[float]) -> list[float]:
    """Those x that have room for a label each on a logarithmic axis."""
    room = 0.07 * np.log(max(x) / min(x))
    kept: list[float] = []
    for value in sorted(x):
        if not kept or np.log(value / kept[-1]) >= room:
            kept.append(value)
    return kept


def _name_ends(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Write each line's name beside its last point, pushed apart where one would cover another."""
    figure = axes.get_figure()
    low, high = axes.get_ylim()
    step = 13 * (high - low) / (axes.get_position().height * figure.get_figheight() * DPI)
    ordered = sorted(ends)
    places = np.array([level for level, _, _ in ordered])
    for _ in range(100):
        push = np.clip(step - np.diff(places), 0, None) / 2
        places[1:] += push
        places[:-1] -= push
    for place, (_, name, color) in zip(places, ordered, strict=True):
        axes.annotate(name, (1, place), xycoords=("axes fraction", "data"), xytext=(5, 0), va="center",
                      textcoords="offset points", fontsize=9, color=color, annotation_clip=False, **PLAIN)  # fmt: skip
