"""Rankings as pictures: what was found, right and wrong marked by colour and by shape, and where the vectors lie."""

from collections.abc import Sequence

import numpy as np
from matplotlib.patheffects import withStroke
from PIL import Image, ImageDraw

from sfhelpers.plots.figure import BLUE, COLORS, INK, PALE, PLAIN, VERMILION, Figure
from sfhelpers.plots.grids import Picture, grid, picture

SIDE = 160  # px of a picture in a ranked list


def ranked_lists(
    queries: Sequence[Picture],
    found: Sequence[Sequence[Picture]],
    right: Sequence[Sequence[bool]],
    labels: Sequence[str],
    own: Sequence[Picture] | None = None,
) -> Figure:
    """A row a query: the sketch, then photos, best first.

    Right photos have a blue frame and a tick, wrong ones an orange frame and a cross.

    Args:
        found, right: of every query the photos, and whether each is right.
        labels: of the rows.
        own: of every query the one photo that is right, which stands at the end once more, wherever it is ranked.
    """
    rows = [[query] for query in queries]
    for row, photos, good in zip(rows, found, right, strict=True):
        row += [marked(photo, is_right) for photo, is_right in zip(photos, good, strict=True)]
    for row, photo in zip(rows, own or (), strict=own is not None):
        row.append(photo)
    numbers = [str(k + 1) for k in range(max(map(len, found)))]
    return grid(rows, labels, ["query", *numbers, *["drawn from"] * (own is not None)], size=0.86)


def marked(photo: Picture, right: bool) -> Image.Image:
    """The photo as a square with a frame and a sign in its corner: blue and a tick, or orange and a cross."""
    square = Image.fromarray(picture(photo)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    draw, color, low = ImageDraw.Draw(square), BLUE if right else VERMILION, SIDE - 44
    draw.rectangle((0, 0, SIDE - 1, SIDE - 1), outline=color, width=8)
    draw.rectangle((low, low, SIDE - 1, SIDE - 1), fill=color)
    lines = [((8, 22), (18, 33), (36, 10))] if right else [((9, 9), (35, 35)), ((35, 9), (9, 35))]
    for line in lines:
        draw.line([(low + x, low + y) for x, y in line], fill="white", width=7)
    return square


def embedding_map(points: np.ndarray, categories: Sequence[str], hollow: Sequence[bool], title: str) -> Figure:
    """Points (N, 2) in the plane, each category with a colour and a shape of its own, and some of them hollow.

    A category is named above the half of its marks that lie closest together.
    """
    figure = Figure(figsize=(8, 5.2), dpi=200)
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.91))
    names, is_hollow = np.array(categories), np.array(hollow)
    for k, name in enumerate(sorted(set(categories))):
        color, marker = COLORS[k % len(COLORS)], "os^DvPXd*"[k % 9]
        for side, face in ((is_hollow, "white"), (~is_hollow, color)):
            mine = points[(names == name) & side]
            axes.scatter(*mine.T, s=30, marker=marker, facecolor=face, edgecolor=color, linewidth=1.1)
        own = points[names == name]
        away = np.linalg.norm(own - np.median(own, axis=0), axis=1)
        middle = own[away <= np.median(away)]
        axes.annotate(
            name.replace("_", " "), (middle[:, 0].mean(), middle[:, 1].max()), (0, 6), textcoords="offset points",
            fontsize=9.5, color=INK, ha="center", weight="bold",
            path_effects=[withStroke(linewidth=2, foreground="white")], **PLAIN,
        )  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(PALE)
    axes.set_title(title, fontsize=10.5, color=INK, loc="left", weight="bold", **PLAIN)
    return figure
