"""Images side by side, and masks laid over them."""

import textwrap
from collections.abc import Sequence
from itertools import zip_longest

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sfhelpers.plots.figure import BLUE, COLORMAP, DPI, HAIR, VERMILION, Figure, sheet, text_width, write

GAP = 5  # pixels between two images
Picture = Tensor | np.ndarray | Image.Image
Box = tuple[int, int, int, int]  # left, top, width, height in px


def picture(image: Picture) -> np.ndarray:
    """Any image or map as (H, W, 3) uint8."""
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    values = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if isinstance(image, Tensor) and image.ndim == 3:
        values = values.transpose(1, 2, 0)
    if values.ndim == 2 and values.dtype.kind == "f":
        return color_map(values, 0, 1)
    if values.ndim == 2:
        values = np.repeat((values * np.uint8(255) if values.dtype == bool else values)[..., None], 3, axis=2)
    if values.ndim != 3 or values.shape[2] != 3:
        shape = tuple(image.shape)
        raise ValueError(f"an image of shape {shape} cannot be shown: pass (3, H, W), (H, W, 3) or (H, W).")
    return values if values.dtype == np.uint8 else np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)


def color_map(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """(H, W) values to (H, W, 3) uint8 colours: `low` and below is dark violet, `high` and above yellow."""
    scaled = (np.asarray(values, dtype=np.float64) - low) / max(high - low, 1e-12)
    return matplotlib.colormaps[COLORMAP](np.clip(scaled, 0, 1), bytes=True)[..., :3]


def overlay(image: Picture, mask: np.ndarray | Tensor, color: str = VERMILION) -> np.ndarray:
    """(H, W, 3) uint8: an image under its mask (H, W), bool or 0 to 1, tinted and outlined at 0.5, all else faded."""
    pixels = picture(image).astype(np.float32) / 255
    strength = np.asarray(mask, dtype=np.float32)
    if strength.shape != pixels.shape[:2]:
        raise ValueError(f"the mask is {strength.shape} and its image {pixels.shape[:2]}: resize one of them.")
    ink = np.array(matplotlib.colors.to_rgb(color), dtype=np.float32)
    faded = 0.45 * pixels.mean(axis=2, keepdims=True) + 0.15 * pixels + 0.40
    alpha = np.clip(strength, 0, 1)[..., None]
    result = faded + alpha * (0.8 * pixels + 0.2 * ink - faded)
    inside, rim = torch.as_tensor(strength >= 0.5)[None], max(1, round(min(strength.shape) / 80))
    core = -F.max_pool2d(-F.pad(inside.float(), 4 * [rim]), 2 * rim + 1, 1)  # the image's own edge counts as outside
    result[(inside & (core == 0))[0].numpy()] = ink
    return np.round(np.clip(result, 0, 1) * 255).astype(np.uint8)


def paste(axes: Axes, image: Picture, left: int, top: int, side: int) -> Box:
    """Draw an image into a square of a `sheet`, its proportions kept; returns where it came to lie."""
    pixels = Image.fromarray(picture(image))
    width, height = (max(1, round(length * side / max(pixels.size))) for length in pixels.size)
    smooth = Image.Resampling.LANCZOS if side < max(pixels.size) else Image.Resampling.BICUBIC
    x, y = left + (side - width) // 2, top + (side - height) // 2
    small = np.asarray(pixels.resize((width, height), smooth))
    axes.imshow(small, extent=(x, x + width, y + height, y), interpolation="none", aspect="auto", zorder=0)
    edge = {"edgecolor": HAIR, "linewidth": 0.7, "zorder": 0}  # a sketch on white needs an edge
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), width + 1, height + 1, fill=False, **edge))
    return x, y, width, height


def grid(
    rows: Sequence[Sequence[Picture | None]],
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    size: float = 1.1,
    title: str = "",
    captions: Sequence[Sequence[str]] = (),
) -> Figure:
    """Images in rows, close together and without axes.

    Args:
        rows: images; None leaves a cell empty. Rows may differ in length.
        row_labels, column_labels: one a row, written to its left, and one a column, written above.
        size: the side of a cell in inches; images keep their proportions inside.
        captions: for each row its images' captions, a line or two each.

    Raises a ValueError if there is no image, or labels and rows or columns differ in number.
    """
    count = max((len(row) for row in rows), default=0)
    if count == 0:
        raise ValueError("there is no image to show: pass at least one row with one image.")
    for labels, number, what in ((row_labels, len(rows), "rows"), (column_labels, count, "columns")):
        if labels is not None and len(labels) != number:
            raise ValueError(f"{len(labels)} labels for {number} {what}: pass one for each.")
    cell, below = round(size * DPI), 34 if captions else 0
    wrapped = ([textwrap.fill(line, max(6, cell // 7)) for line in label.split("\n")] for label in column_labels or [])
    heads = ["\n".join(lines) for lines in wrapped] or [""] * count
    head_height = (4 + 16 * max(head.count("\n") + 1 for head in heads)) * any(heads)
    wide = max((text_width(label, 9) for label in row_labels or [""]), default=0)
    left = round(1.04 * wide) + 13 if row_labels else 2  # drawn, text may be a little wider than its outline
    lefts = [left + index * (cell + GAP) for index in range(count)]
    tops = [2 + (26 if title else 0) + head_height + index * (cell + GAP + below) for index in range(len(rows))]
    axes = sheet(lefts[-1] + cell + 2, tops[-1] + cell + 2 + below, title)
    for head, x in zip(heads, lefts, strict=True):
        write(axes, x + cell / 2, tops[0] - 4, head, ha="center", va="bottom")
    for label, y in zip(row_labels or [], tops, strict=False):
        write(axes, left - 7, y + cell / 2, label, ha="right", va="center", linespacing=1.2)
    for y, row, words in zip_longest(tops, rows, captions, fillvalue=()):
        for x, image, caption in zip_longest(lefts, row, words):
            if image is not None:
                paste(axes, image, x, y, cell)
                write(axes, x + cell / 2, y + cell + 4, caption or "", 8, ha="center", va="top")
    return axes.figure


def mask_grid(
    sketches: Sequence[Picture],
    photos: Sequence[Picture],
    correlations: Sequence[np.ndarray | Tensor],
    masks: Sequence[np.ndarray | Tensor],
    truths: Sequence[np.ndarray | Tensor] | None = None,
    row_labels: Sequence[str] | None = None,
    size: float = 1.1,
) -> Figure:
    """One row a query: sketch, photo, correlation map, predicted mask and, if given, the true one (paper, Fig. 4).

    All correlation maps share one colour scale, whose ends stand above them, so that rows can be compared.
    """
    maps = [np.asarray(values, dtype=np.float64) for values in correlations]
    low, high = min(values.min() for values in maps), max(values.max() for values in maps)
    columns = {
        "query": sketches,
        "photo": photos,
        f"correlation {low:.2f} (violet) to {high:.2f}": [color_map(values, low, high) for values in maps],
        "mask": [overlay(photo, mask) for photo, mask in zip(photos, masks, strict=True)],
    }
    if truths is not None:
        columns["truth"] = [overlay(photo, truth, BLUE) for photo, truth in zip(photos, truths, strict=True)]
    return grid(list(zip(*columns.values(), strict=True)), row_labels, list(columns), size)


def enlarged(pixels: np.ndarray, side: int = 144) -> np.ndarray:
    """A map (h, w, 3) with each position as a block of about side / h pixels, for `grid`, which would blur it."""
    return np.kron(pixels, np.ones((max(1, round(side / len(pixels))),) * 2 + (1,), dtype=pixels.dtype))
