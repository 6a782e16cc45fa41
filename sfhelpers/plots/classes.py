"""Figures of recognition: what is taken for what, how far a probability can be trusted, and which sketches lie near."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from sfhelpers.metrics import Reliability
from sfhelpers.plots.charts import tidy
from sfhelpers.plots.figure import BLUE, COLORMAP, DASHED, INK, LOOKS, PLAIN, VERMILION, Figure, chart, sheet, write
from sfhelpers.plots.grids import Picture, grid, picture

MOST = 48  # categories that a confusion matrix has room for


def confusion(matrix: np.ndarray, names: Sequence[str], title: str = "") -> Figure:
    """A confusion matrix as shares of each row: rows are the true categories, columns what they were taken for.

    `matrix` (C, C) counts, C of 48 or fewer, or a ValueError.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.shape != (len(names), len(names)) or len(names) > MOST:
        raise ValueError(
            f"a confusion matrix of {matrix.shape} with {len(names)} names: give {MOST} categories at most."
        )
    side = max(0.15 * len(names), 2.4)
    figure = chart(2.3 + side, 1.9 + side, title)
    axes = figure.subplots()
    image = axes.imshow(matrix / np.maximum(matrix.sum(1, keepdims=True), 1), vmin=0, vmax=1, cmap=COLORMAP)
    axes.set_yticks(range(len(names)), names, fontsize=8, color=INK, **PLAIN)
    axes.set_xticks(range(len(names)), names, fontsize=8, color=INK, rotation=90, **PLAIN)
    axes.xaxis.tick_top()
    axes.set_xlabel("rows: the true category; columns: what it was taken for", fontsize=8.5, color=INK)
    bar = figure.colorbar(image, shrink=0.5, aspect=16, anchor=(0, 0), ticks=(0, 0.5, 1), format="{x:.0%}")
    for some in (axes, bar.ax):
        some.tick_params(labelsize=8, length=0)
        some.spines[:].set_visible(False)
    return figure


def reliability_diagram(tables: Mapping[str, Reliability], title: str = "") -> Figure:
    """Accuracy over confidence, bin by bin, and below it how many sketches a bin holds.

    Whoever is as sure as right lies on the diagonal; a bin of few sketches says little. `tables`: name to what
    `metrics.reliability` gave.
    """
    above, below = chart(5, 4.8, title).subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], **DASHED)
    for (name, table), (color, marker) in zip(tables.items(), cycle(LOOKS), strict=False):
        full = table.count > 0
        look = {"color": color, "marker": marker, "markersize": 5, "markeredgecolor": "white", "linewidth": 1.4}
        above.plot(table.confidence[full], table.accuracy[full], label=name, **look)
        below.plot(table.confidence[full], table.count[full], **look)
    tidy(above, "", "share that is right")
    tidy(below, "confidence: the highest probability", "sketches")
    above.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    below.set_ylim(bottom=0)
    above.legend(fontsize=9, frameon=False, labelcolor=INK, loc="upper left")
    return above.figure


def scattered(
    points: np.ndarray,
    images: Sequence[Picture],
    right: Sequence[bool] | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """Pictures where their points lie, so that neighbours can be looked at.

    Args:
        points: (N, 2); only their arrangement is shown, their scale is not.
        images: N pictures on white.
        right: those that are False get a frame.
        names: of the N pictures' categories, each written once, below the picture that lies nearest to its others.
    """
    side, width, height = 34, 800, 560
    axes = sheet(width, height, fine=2)
    corners = (points - points.min(0)) / np.maximum(np.ptp(points, axis=0), 1e-9)
    corners = corners * (width - side - 4, height - side - 18) + (2, 2)
    for k, ((x, y), image) in enumerate(zip(corners, images, strict=True)):
        pixels = picture(image)
        shown = np.dstack([np.zeros_like(pixels), 255 - pixels.min(axis=2)])  # no paper, which would cover neighbours
        axes.imshow(shown, extent=(x, x + side, y + side, y), interpolation="antialiased", aspect="auto", zorder=2)
        if right is not None and not right[k]:
            axes.plot([x, x + side, x + side, x, x], [y, y, y + side, y + side, y], color=VERMILION, linewidth=1.2)
    _name_middles(axes, corners + (side / 2, side + 6), np.asarray(names if names is not None else []))
    return axes.figure


def _name_middles(axes: Axes, places: np.ndarray, names: np.ndarray) -> None:
    """Each name once, at the place nearest to its others whose words cover no earlier ones."""
    taken = np.zeros((0, 2))
    for name in np.unique(names):
        own = places[names == name]
        order = np.linalg.norm(own[:, None] - own[None], axis=2).sum(1).argsort()
        free = [k for k in order if not (np.abs(taken - own[k]) < (60, 13)).all(1).any()]
        x, y = own[free[0] if free else order[0]]
        taken = np.vstack([taken, (x, y)])
        edge = [withStroke(linewidth=2.5, foreground="white")]
        style = {"color": BLUE, "ha": "center", "va": "center", "weight": "bold", "path_effects": edge}
        write(axes, np.clip(x, 30, 770), y, name.replace("_", " "), 8, **style)


def captioned(images: Sequence[Picture], captions: Sequence[str], columns: int = 7) -> Figure:
    """Images in rows, each with a line or two below it."""
    starts = range(0, len(images), columns)
    rows, words = ([some[start : start + columns] for start in starts] for some in (images, captions))
    return grid(rows, size=1.05, captions=words)
