"""Curves, dots with their spread, paired differences as a forest plot, and tables coloured by what they mean."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from sfhelpers.plots.figure import BLUE, DASHED, DPI, HAIR, INK, LOOKS, PALE, PLAIN, TITLE, VERMILION, Figure, chart

WIDTH = 8.0  # inches, what a laptop shows beside the file list
Dot = tuple[float, float, float, str, str, str]  # value, both ends of its bar, its number in words, colour, marker
Dots = dict[str, dict[str, Dot]]  # panel -> method -> its dot
Lines = Mapping[str, tuple[str, float]]  # panel -> the name of its dashed line, and where it stands
Levels = Mapping[str, float]
Series = Mapping[str, tuple[Sequence[float], Sequence[float] | None]]
Measured = Mapping[str, Mapping[str, tuple[float, float | None]]]
Differences = Mapping[str, Mapping[str, tuple[float, ...]]]
SHADES = LinearSegmentedColormap.from_list("worse to better", [VERMILION, "#FFFFFF", BLUE])
VERDICTS = {"better": (BLUE, ">"), "not told apart": (PALE, "o"), "worse": (VERMILION, "<")}
VERDICTS |= {"not trained to the end": (PALE, "s")}


def curve(
    x: Sequence[float], series: Series, xlabel: str, ylabel: str, title: str = "", baselines: Levels | None = None
) -> Figure:
    """Lines over x, name to (means, spreads or None), with a band of plus and minus the spread, each named at its
    right end, which may come before the last x; baselines, name to a level, are dashed."""
    axes = chart(WIDTH, 3.6).subplots()
    ends = []
    for (name, (mean, spread)), (color, marker) in zip(series.items(), cycle(LOOKS), strict=False):
        at, line = x[: len(mean)], {"markersize": 4, "markeredgecolor": "white", "linewidth": 1.8}
        axes.plot(at, mean, color=color, marker=marker, **line)
        if spread is not None:
            low, high = np.subtract(mean, spread), np.add(mean, spread)
            axes.fill_between(at, low, high, color=color, alpha=0.16, linewidth=0)
        ends.append((float(mean[-1]), name, color))
    for name, level in (baselines or {}).items():
        axes.axhline(level, **DASHED)
        ends.append((level, name, PALE))
    if all(float(value).is_integer() for value in x):  # e.g. epochs: no tick at half of one
        axes.locator_params(axis="x", integer=True)
    tidy(axes, xlabel, ylabel, title)
    (low, high), place = axes.get_ylim(), -np.inf
    style = {"va": "center", "fontsize": 9, "annotation_clip": False, **PLAIN}
    for level, name, color in sorted(ends):  # pushed up where a name would cover another
        place = max(level, place + 13 * (high - low) / (0.75 * 3.6 * DPI))
        axes.annotate(name, (1, place), (5, 0), ("axes fraction", "data"), "offset points", color=color, **style)
    return axes.figure


def bars_with_spread(
    panels: Measured, xlabel: str, baselines: Lines | None = None, highlight: str = "", title: str = ""
) -> Figure:
    """Methods compared, a dot and plus and minus the spread for each, with a trivial baseline as a dashed line.

    `panels` is panel title -> {method: (mean, spread or None)}, `baselines` panel title -> (name, level). The method
    `highlight` is in colour; the axis then shows what lies near it, and what does not is an arrow beside its number.
    """
    dots: Dots = {}
    for name, panel in panels.items():
        for method, (mean, spread) in panel.items():
            words = f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {spread:.3f}"
            color = BLUE if method == highlight else INK
            dots.setdefault(name, {})[method] = (mean, mean - (spread or 0), mean + (spread or 0), words, color, "o")
    chosen = [panel[highlight][0] for panel in panels.values() if highlight in panel]
    return _dot_panels(dots, xlabel, title, baselines or {}, float(np.mean(chosen)) if chosen else None, highlight)


def forest(differences: Differences, verdicts: Mapping[str, Mapping[str, str]], xlabel: str, title: str = "") -> Figure:
    """Paired differences with their intervals, a row a method and a panel a gallery, around a line at zero.

    `differences` is gallery -> method -> (mean, low, high, ...), as `results.differences` gives them, `verdicts`
    gallery -> method -> one of `VERDICTS`. What lies far beyond the others is an arrow at the edge, beside its number.
    """
    dots: Dots = {}
    for gallery, found in differences.items():
        for method, (mean, low, high, *_) in found.items():
            words = f"{mean:+.3f}".replace("-", "−")
            dots.setdefault(gallery, {})[method] = (mean, low, high, words, *VERDICTS[verdicts[gallery][method]])
    figure = _dot_panels(dots, xlabel, title, {gallery: ("", 0.0) for gallery in dots}, 0.0)
    occur = {verdict for said in verdicts.values() for verdict in said.values()}
    keys = [Line2D([], [], linestyle="", **_mark(*VERDICTS[v]), label=v) for v in VERDICTS if v in occur]
    figure.legend(handles=keys, loc="outside upper right", ncols=3, fontsize=8.5, frameon=False, labelcolor=INK)
    return figure


def heat_table(rows: Mapping[str, Sequence[tuple[str, float]]], columns: Sequence[str], title: str = "") -> Figure:
    """Rows by name, a cell a column: its text, and its shade from -1 (worse) over 0 (white) to 1 (better)."""
    axes = chart(WIDTH, 0.9 + 0.235 * len(rows), title).subplots()
    for y, cells in enumerate(rows.values()):
        for x, (text, _) in enumerate(cells):
            axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=8, color=INK)
    shades = np.array([[shade for _, shade in cells] for cells in rows.values()])
    shades = 0.66 * np.clip(shades, -1, 1)  # never so dark that black on it is hard to read
    axes.pcolormesh(shades, cmap=SHADES, vmin=-1, vmax=1, edgecolors="white", linewidth=1.5)
    axes.invert_yaxis()
    axes.xaxis.tick_top()
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, fontsize=8, weight="bold", color=INK, **PLAIN)
    axes.set_yticks(np.arange(len(rows)) + 0.5, list(rows), fontsize=8.5, color=INK, **PLAIN)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return axes.figure


def _dot_panels(
    panels: Dots, xlabel: str, title: str, lines: Lines, around: float | None, highlight: str = ""
) -> Figure:
    methods = list(dict.fromkeys(method for panel in panels.values() for method in panel))
    figure = chart(WIDTH, 1.35 + 0.27 * len(methods), title)
    first, *others = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    dots = [dot for panel in panels.values() for dot in panel.values()]
    low, high = _limits(dots, [level for _, level in lines.values()], around)
    first.set(xlim=(low, high), ylim=(len(methods) - 0.4, -0.6))
    first.set_yticks(range(len(methods)), methods, **PLAIN)
    pad = 17 if any(label for label, _ in lines.values()) else 6  # a line's label stands between title and dots
    for axes, (name, panel) in zip((first, *others), panels.items(), strict=True):
        tidy(axes)
        axes.set_title(name, loc="left", pad=pad, **{**TITLE, "fontsize": 9.5})
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(6 if len(panels) < 3 else 4, steps=[1, 2, 5, 10]))
        for method, dot in panel.items():
            _draw_dot(axes, methods.index(method), dot, "bold" if method == highlight else "normal")
        if name in lines:
            _draw_line(axes, *lines[name])
    first.tick_params("y", labelsize=9, labelcolor=INK)
    for label in [label for label in first.get_yticklabels() if label.get_text() == highlight]:
        label.set(color=BLUE, weight="bold")
    beyond = "" if all(low <= dot[0] <= high for dot in dots) else "  (« »: beyond the axis)"
    figure.supxlabel(xlabel + beyond, fontsize=9, color=INK, **PLAIN)
    return figure


def _limits(dots: Sequence[Dot], levels: Sequence[float], around: float | None) -> tuple[float, float]:
    """All dots and lines or, if that is much wider, the dots that lie near `around`."""
    ends = [*levels, *(end for dot in dots for end in dot[1:3])]
    if around is not None:
        reach = 4 * np.median([abs(dot[0] - around) for dot in dots])
        near = [end for dot in dots if abs(dot[0] - around) <= reach for end in dot[1:3]]
        ends = near if 2 * np.ptp(near) < np.ptp(ends) else ends
    margin = 0.06 * (np.ptp(ends) or 1)
    return min(ends) - margin, max(ends) + margin


def _mark(color: str, marker: str) -> dict:
    return {"color": color, "marker": marker, "markersize": 6, "markerfacecolor": "white" if color == PALE else color}


def _draw_dot(axes: Axes, y: int, dot: Dot, weight: str) -> None:
    (value, low, high, words, color, marker), (left, right) = dot, axes.get_xlim()
    style = {"va": "center", "color": color, "weight": weight, "fontsize": 8.5}
    if left <= value <= right:
        axes.plot([max(low, left), min(high, right)], [y, y], color=color, linewidth=1.8)
        axes.plot(value, y, **_mark(color, marker))
    else:
        at, sign, side = (0.005, "«", "left") if value < left else (0.995, "»", "right")
        axes.text(at, y, sign, transform=axes.get_yaxis_transform(), ha=side, **{**style, "fontsize": 12})
    axes.annotate(words, (1, y), (6, 0), ("axes fraction", "data"), "offset points", **style)


def _draw_line(axes: Axes, label: str, level: float) -> None:
    left, right = axes.get_xlim()
    words = f"{label} {level:.2f}" if label else ""
    if left <= level <= right:
        axes.axvline(level, **DASHED)
    else:
        words, level = (f"« {words}", left) if level < left else (f"{words} »", right)
    style = {"fontsize": 8, "color": PALE, "ha": "left" if level < (left + right) / 2 else "right", **PLAIN}
    axes.annotate(words, (level, 1), (-2, 3), ("data", "axes fraction"), "offset points", **style)


def tidy(axes: Axes, xlabel: str = "", ylabel: str = "", title: str = "") -> None:
    axes.set_xlabel(xlabel, fontsize=9, color=INK)
    axes.set_ylabel(ylabel, fontsize=9, color=INK)
    axes.set_title(title, loc="left", pad=8, **TITLE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(HAIR)
    axes.tick_params(labelsize=8.5, colors=PALE, length=0)
    axes.grid(True, color=HAIR, linewidth=0.6, alpha=0.7)
    axes.set_axisbelow(True)
