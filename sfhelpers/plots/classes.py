"""Figures of recognition: what is taken for what, how far a probability can be trusted, and which sketches lie near."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from sfhelpers.metrics import Reliability
from sfhelpers.plots.figure import COLORS, DPI, HAIR, INK, MARKERS, PALE, PLAIN, Figure, text_width
from sfhelpers.plots.grids import Picture, color_map, picture

CELL = 15  # px, of a confusion matrix
MOST = 48  # categories that a confusion matrix has room for


def confusion(matrix: np.ndarray, names: Sequence[str], title: str = "") -> Figure:
    """A confusion matrix as shares of each row: rows are the true categories, columns what they were taken for.

    Args:
        matrix: (C, C) counts, as `metrics.confusion_matrix` gives them, C of MOST or fewer.
        names: of the C categories.

    Raises:
        ValueError: more categories than there is room for, or another number of names.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.shape != (len(names), len(names)) or len(names) > MOST:
        raise ValueError(
            f"a confusion matrix of {matrix.shape} with {len(names)} names: give {MOST} categories at most."
        )
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    room = round(max(text_width(name, 8) for name in names)) + 10
    side, top = CELL * len(names), room + (26 if title else 4)
    below = 20
    figure = Figure(figsize=((room + side + 62) / DPI, (top + side + below) / DPI), dpi=2 * DPI)
    width, height = figure.get_figwidth() * DPI, figure.get_figheight() * DPI
    axes = figure.add_axes((room / width, below / height, side / width, side / height))
    axes.imshow(color_map(shares, 0, 1), interpolation="none")
    axes.set_yticks(range(len(names)), names, fontsize=8, color=INK, **PLAIN)
    axes.set_xticks(range(len(names)), names, fontsize=8, color=INK, rotation=90, **PLAIN)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=3)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("rows: the true category; columns: what it was taken for", fontsize=8.5, color=INK, labelpad=4)
    axes.xaxis.set_label_position("bottom")
    key = figure.add_axes(((room + side + 10) / width, below / height, 10 / width, min(side, 160) / height))
    key.imshow(color_map(np.linspace(1, 0, 64)[:, None], 0, 1), aspect="auto", extent=(0, 1, 0, 1))
    key.set_xticks([])
    key.yaxis.tick_right()
    key.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"], fontsize=8, color=PALE)
    key.tick_params(length=0, pad=3)
    key.spines[:].set_visible(False)
    figure.text(4 / width, 1 - 4 / height, title, fontsize=10.5, color=INK, va="top", weight="bold", **PLAIN)
    return figure


def reliability_diagram(tables: Mapping[str, Reliability], title: str = "") -> Figure:
    """Accuracy over confidence, bin by bin; whoever is as sure as right lies on the diagonal.

    Args:
        tables: name to what `metrics.reliability` gave; the size of a mark grows with the bin's number of sketches.
    """
    names = max(text_width(name, 9) for name in tables) + 24
    width, height = 380 + names, 340.0
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=2 * DPI)
    axes = figure.add_axes((52 / width, 44 / height, 264 / width, 264 / height), xlim=(0, 1), ylim=(0, 1))
    axes.plot([0, 1], [0, 1], color=PALE, linestyle=(0, (4, 3)), linewidth=1.1)
    for row, ((name, table), color, marker) in enumerate(
        zip(tables.items(), cycle(COLORS), cycle(MARKERS), strict=False)
    ):
        full = table.count > 0
        sizes = 12 + 160 * table.count[full] / table.count.sum()
        axes.plot(table.confidence[full], table.accuracy[full], color=color, linewidth=1.4, clip_on=False)
        axes.scatter(table.confidence[full], table.accuracy[full], sizes, color=color, marker=marker, zorder=3,
                     edgecolors="white", linewidths=0.6, clip_on=False)  # fmt: skip
        at = (1.06, 0.95 - 0.08 * row)
        axes.scatter([at[0]], [at[1]], 40, color=color, marker=marker, transform=axes.transAxes, clip_on=False)
        axes.text(at[0] + 0.05, at[1], name, fontsize=9, color=color, va="center", transform=axes.transAxes, **PLAIN)
    axes.set_xlabel("confidence: the highest probability", fontsize=9, color=INK)
    axes.set_ylabel("share that is right", fontsize=9, color=INK)
    axes.set_title(title, fontsize=10.5, color=INK, loc="left", weight="bold", pad=8, **PLAIN)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(HAIR)
    axes.tick_params(labelsize=8.5, colors=PALE, length=0)
    axes.grid(True, color=HAIR, linewidth=0.6, alpha=0.7)
    return figure


def scattered(
    points: np.ndarray,
    images: Sequence[Picture],
    right: Sequence[bool] | None = None,
    side: int = 34,
    title: str = "",
    names: Sequence[str] | None = None,
) -> Figure:
    """Pictures where their points lie, so that neighbours can be looked at.

    Args:
        points: (N, 2); only their arrangement is shown, their scale is not.
        images: N pictures on white.
        right: those that are False get a frame.
        side: of a picture in px.
        names: of the N pictures' categories, each written once, in the middle of its own.

    Raises:
        ValueError: points and images differ in number.
    """
    if len(points) != len(images):
        raise ValueError(f"there are {len(points)} points for {len(images)} images: give one for each.")
    low, extent = points.min(0), np.maximum(np.ptp(points, axis=0), 1e-9)
    width, height, top = 800, 560, 26 if title else 2
    figure = Figure(figsize=(width / DPI, (height + top) / DPI), dpi=2 * DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height + top, 0))
    axes.set_axis_off()
    corners = (points - low) / extent * (np.array([width, height]) - side - 4) + np.array([2, top + 2])
    for k, ((x, y), image) in enumerate(zip(corners, images, strict=True)):
        pixels = picture(image)
        ink = 255 - pixels.min(axis=2)  # paper is left out, so that neighbours do not cover each other
        shown = np.dstack([np.zeros_like(pixels), ink])
        axes.imshow(shown, extent=(x, x + side, y + side, y), interpolation="antialiased", zorder=2)
        if right is not None and not right[k]:
            axes.plot([x, x + side, x + side, x, x], [y, y, y + side, y + side, y], color=COLORS[1], linewidth=1.2)
    for name in sorted(set(names or ())):
        x, y = np.median(corners[np.asarray(names) == name], axis=0) + side / 2
        axes.text(x, y, name.replace("_", " "), fontsize=8, color=COLORS[0], ha="center", va="center", weight="bold",
                  path_effects=[withStroke(linewidth=2.5, foreground="white")], **PLAIN)  # fmt: skip
    axes.set(xlim=(0, width), ylim=(height + top, 0))
    axes.text(2, 2, title, fontsize=10.5, color=INK, va="top", weight="bold", **PLAIN)
    return figure


def captioned(images: Sequence[Picture], captions: Sequence[str], columns: int = 7, size: float = 1.05) -> Figure:
    """Square images in rows, each with a line or two below it.

    Raises:
        ValueError: there is no image, or images and captions differ in number.
    """
    if not len(images) or len(images) != len(captions):
        raise ValueError(
            f"there are {len(images)} images for {len(captions)} captions: give one for each, at least one."
        )
    cell, gap, below = round(size * DPI), 8, 32
    count = -(-len(images) // columns)
    width, height = columns * (cell + gap), count * (cell + below + gap)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=2 * DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    for k, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = gap / 2 + k % columns * (cell + gap), gap / 2 + k // columns * (cell + below + gap)
        axes.imshow(picture(image), extent=(x, x + cell, y + cell, y), interpolation="antialiased")
        axes.add_patch(Rectangle((x, y), cell, cell, fill=False, edgecolor=HAIR, linewidth=0.6))
        axes.text(x + cell / 2, y + cell + 3, caption, ha="center", va="top", fontsize=7.5, color=INK, **PLAIN)
    axes.set(xlim=(0, width), ylim=(height, 0))
    return figure
