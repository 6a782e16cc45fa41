"""Images side by side, and masks laid over them."""

import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from PIL import Image
from torch import Tensor

from sfhelpers.plots.figure import BLUE, COLORMAP, DPI, HAIR_PIXEL, INK, PALE, PLAIN, VERMILION, Figure, text_width

GAP = 5  # pixels between two images
Picture = Tensor | np.ndarray | Image.Image


def picture(image: Picture) -> np.ndarray:
    """Any image or map as (H, W, 3) uint8. ValueError if its shape is none of the module's."""
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    values = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if isinstance(image, Tensor) and image.ndim == 3:
        values = values.transpose(1, 2, 0)
    if values.ndim == 2:
        return _flat(values)
    if values.ndim != 3 or values.shape[2] != 3:
        shape = tuple(image.shape)
        raise ValueError(f"an image of shape {shape} cannot be shown: pass (3, H, W), (H, W, 3) or (H, W).")
    return values if values.dtype == np.uint8 else np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _flat(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        return color_map(values, 0, 1)
    return np.repeat((values * np.uint8(255) if values.dtype == bool else values)[..., None], 3, axis=2)


def color_map(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """(H, W) values to (H, W, 3) uint8 colours: `low` and below is dark violet, `high` and above yellow."""
    scaled = (np.asarray(values, dtype=np.float64) - low) / max(high - low, 1e-12)
    return matplotlib.colormaps[COLORMAP](np.clip(scaled, 0, 1), bytes=True)[..., :3]


def overlay(image: Picture, mask: np.ndarray | Tensor, color: str = VERMILION) -> np.ndarray:
    """Lay a mask over its image, (H, W, 3) uint8: the object tinted and outlined, all else faded.

    Args:
        image: the photo.
        mask: (H, W), bool or a probability in [0, 1]; the outline runs at 0.5.
        color: any matplotlib colour.

    Raises:
        ValueError: mask and image differ in height or width.
    """
    pixels = picture(image).astype(np.float32) / 255
    strength = np.asarray(mask, dtype=np.float32)
    if strength.shape != pixels.shape[:2]:
        raise ValueError(f"the mask is {strength.shape} and its image {pixels.shape[:2]}: resize one of them.")
    ink = np.array(matplotlib.colors.to_rgb(color), dtype=np.float32)
    faded = 0.45 * pixels.mean(axis=2, keepdims=True) + 0.15 * pixels + 0.40
    alpha = np.clip(strength, 0, 1)[..., None]
    result = faded + alpha * (0.8 * pixels + 0.2 * ink - faded)
    result[_outline(strength >= 0.5)] = ink
    return np.round(np.clip(result, 0, 1) * 255).astype(np.uint8)


def _outline(inside: np.ndarray) -> np.ndarray:
    """The inner rim of a mask, about 1/80 of the image wide; the image's own edge counts as outside."""
    width = max(1, round(min(inside.shape) / 80))
    core = np.pad(inside, width)
    height, length = inside.shape
    for axis in (0, 1):
        core = np.logical_and.reduce([np.roll(core, shift, axis) for shift in range(-width, width + 1)])
    return inside & ~core[width : width + height, width : width + length]


def grid(
    rows: Sequence[Sequence[Picture | None]],
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    size: float = 1.1,
    title: str = "",
) -> Figure:
    """Images in rows, close together and without axes.

    Args:
        rows: images; None leaves a cell empty. Rows may differ in length.
        row_labels: one a row, written to its left.
        column_labels: one a column, written above.
        size: the side of a cell in inches; images keep their proportions inside.
        title: a line above all.

    Raises:
        ValueError: there is no image, or labels and rows or columns differ in number.
    """
    return _sheet(rows, row_labels, column_labels, size, title)[0]


def mask_grid(
    sketches: Sequence[Picture],
    photos: Sequence[Picture],
    correlations: Sequence[np.ndarray | Tensor],
    masks: Sequence[np.ndarray | Tensor],
    truths: Sequence[np.ndarray | Tensor] | None = None,
    row_labels: Sequence[str] | None = None,
    size: float = 1.1,
    title: str = "",
) -> Figure:
    """One row a query: sketch, photo, correlation map, predicted mask and, if given, the true one (paper, Fig. 4).

    All correlation maps share one colour scale, printed below them, so that rows can be compared.
    Raises ValueError if the sequences differ in length.
    """
    maps = [np.asarray(values, dtype=np.float64) for values in correlations]
    low, high = min(values.min() for values in maps), max(values.max() for values in maps)
    labels = ["query", "photo", "correlation", "mask"]
    columns = [
        list(sketches),
        list(photos),
        [color_map(values, low, high) for values in maps],
        [overlay(photo, mask) for photo, mask in zip(photos, masks, strict=True)],
    ]
    if truths is not None:
        labels.append("truth")
        columns.append([overlay(photo, truth, BLUE) for photo, truth in zip(photos, truths, strict=True)])
    figure, axes, corners = _sheet(list(zip(*columns, strict=True)), row_labels, labels, size, title, below=34)
    cell = round(size * DPI)
    left, bottom = corners[2], axes.get_ylim()[0]
    ramp = color_map(np.linspace(0, 1, cell)[None].repeat(8, 0), 0, 1)
    axes.imshow(ramp, extent=(left, left + cell, bottom - 24, bottom - 32), interpolation="none", zorder=3)
    for x, value, side in ((left, low, "left"), (left + cell, high, "right")):
        axes.text(x, bottom - 20, f"{value:.2f}", ha=side, va="top", fontsize=8, color=PALE)
    return figure


def contact_sheet(
    photos: Sequence[Picture],
    masks: Sequence[np.ndarray | Tensor],
    sketch: Picture,
    title: str,
    columns: int = 10,
    size: float = 0.8,
) -> Figure:
    """All photos of a category with their masks, in reading order; the query sketch stands first."""
    cell = round(size * DPI)
    cells: list[Picture | None] = [sketch]
    for photo, mask in zip(photos, masks, strict=True):
        small = _fitted(picture(photo), 2 * cell)  # twice as fine, for a smooth outline
        shrunk = Image.fromarray(np.asarray(mask, dtype=np.float32)).resize(small.size, Image.Resampling.BOX)
        cells.append(overlay(small, np.asarray(shrunk) >= 0.5))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    labels = ["query"] + [""] * (min(columns, len(cells)) - 1)
    return grid(rows, None, labels, size, title)


def _fitted(pixels: np.ndarray, cell: int) -> Image.Image:
    height, width = pixels.shape[:2]
    scale = cell / max(height, width)
    smooth = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    return Image.fromarray(pixels).resize((max(1, round(width * scale)), max(1, round(height * scale))), smooth)


def _sheet(
    rows: Sequence[Sequence[Picture | None]],
    row_labels: Sequence[str] | None,
    column_labels: Sequence[str] | None,
    size: float,
    title: str,
    below: int = 0,
) -> tuple[Figure, Axes, list[int]]:
    """The images as one picture in a single axes whose units are pixels, y downwards; and the columns' left edges."""
    count = max((len(row) for row in rows), default=0)
    if count == 0:
        raise ValueError("there is no image to show: pass at least one row with one image.")
    for labels, number, what in ((row_labels, len(rows), "rows"), (column_labels, count, "columns")):
        if labels is not None and len(labels) != number:
            raise ValueError(f"{len(labels)} labels for {number} {what}: pass one for each.")
    cell = round(size * DPI)
    heads = [textwrap.fill(label, max(6, cell // 7)) for label in column_labels or [""] * count]
    head_height = (4 + 16 * max(head.count("\n") + 1 for head in heads)) * any(heads)
    left = round(max((text_width(label, 9) for label in row_labels or [""]), default=0)) + (13 if row_labels else 2)
    top = 2 + (26 if title else 0) + head_height
    corners = [left + index * (cell + GAP) for index in range(count)]
    width = max(corners[-1] + cell + 2, round(text_width(title, 10.5)) + 8)
    height = top + len(rows) * (cell + GAP) - GAP + 2 + below
    figure = Figure(figsize=(width / DPI, height / DPI))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    axes.imshow(_mosaic(rows, corners, top, cell, (height, width)), extent=(0, width, height, 0), interpolation="none")
    axes.text(2, 2, title, ha="left", va="top", fontsize=10.5, color=INK, weight="bold", **PLAIN)
    for head, x in zip(heads, corners, strict=True):
        style = {"ha": "center", "va": "bottom", "linespacing": 1.05, **PLAIN}
        axes.text(x + cell / 2, top - 4, head, fontsize=9, color=INK, **style)
    for index, label in enumerate(row_labels or []):
        middle = top + index * (cell + GAP) + cell / 2
        style = {"ha": "right", "va": "center", "linespacing": 1.2, **PLAIN}
        axes.text(left - 7, middle, label, fontsize=9, color=INK, **style)
    return figure, axes, corners


def _mosaic(
    rows: Sequence[Sequence[Picture | None]], corners: list[int], top: int, cell: int, shape: tuple[int, int]
) -> np.ndarray:
    mosaic = np.full((*shape, 3), 255, dtype=np.uint8)
    for number, row in enumerate(rows):
        for corner, image in zip(corners, row, strict=False):
            if image is None:
                continue
            small = np.asarray(_fitted(picture(image), cell))
            height, width = small.shape[:2]
            y, x = top + number * (cell + GAP) + (cell - height) // 2, corner + (cell - width) // 2
            mosaic[y - 1 : y + height + 1, x - 1 : x + width + 1] = HAIR_PIXEL  # a sketch on white needs an edge
            mosaic[y : y + height, x : x + width] = small
    return mosaic
