"""Images side by side, masks laid over them, and boxes with arrows between them."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.offsetbox import AnnotationBbox, OffsetImage, TextArea, VPacker
from matplotlib.patches import FancyArrowPatch, Rectangle
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sfhelpers.plots.figure import BLUE, COLORMAP, DPI, HAIR, INK, PALE, PLAIN, TITLE, VERMILION, Figure, sheet, write

GAP = 5  # pixels between two images
Picture = Tensor | np.ndarray | Image.Image
Box = tuple[float, float, float, float]  # left, top, width, height
STYLES = {  # told apart in grey print as well
    "frozen": {"facecolor": "#ECECEC", "edgecolor": PALE, "linewidth": 0.8},
    "learned": {"facecolor": "#DCEBF7", "edgecolor": BLUE, "linewidth": 2.0},
    "data": {"facecolor": "white", "edgecolor": INK, "linewidth": 0.8},
}
KINDS = {"features": INK, "tokens": VERMILION}
SIDE = 78  # px of a picture in a box


def picture(image: Picture) -> np.ndarray:
    """Any image or map as (H, W, 3) uint8."""
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    values = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if isinstance(image, Tensor) and image.ndim == 3:
        values = values.transpose(1, 2, 0)
    if values.ndim == 2:
        return color_map(values, 0, 1) if values.dtype.kind == "f" else picture(Image.fromarray(values))
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


def paste(axes: Axes, image: Picture, left: float, top: float, side: float) -> Box:
    """Draw an image into a square of the axes, its proportions kept; returns where it came to lie."""
    pixels = picture(image)
    height, width = (side * length / max(pixels.shape[:2]) for length in pixels.shape[:2])
    x, y = left + (side - width) / 2, top + (side - height) / 2
    axes.imshow(pixels, extent=(x, x + width, y + height, y), aspect="auto", zorder=0)
    edge = {"edgecolor": HAIR, "linewidth": 0.7, "zorder": 0, "clip_on": False}  # a sketch on white needs an edge
    axes.add_patch(Rectangle((x, y), width, height, fill=False, **edge))
    return x, y, width, height


def grid(
    rows: Sequence[Sequence[Picture | None]],
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    size: float = 1.1,
    title: str = "",
    captions: Sequence[Sequence[str]] = (),
) -> Figure:
    """Images in rows, close together and without axes; a coarse map shows its positions as blocks.

    Rows may differ in length, and None leaves a cell empty; `size` is the side of a cell in inches, `captions` a line
    or two for each image of each row. Raises a ValueError if there is no image, or labels do not fit in number.
    """
    count = max((len(row) for row in rows), default=0)
    if count == 0:
        raise ValueError("there is no image to show: pass at least one row with one image.")
    for labels, number, what in ((row_labels, len(rows), "rows"), (column_labels, count, "columns")):
        if labels is not None and len(labels) != number:
            raise ValueError(f"{len(labels)} labels for {number} {what}: pass one for each.")
    cell = round(size * DPI)
    lines = max((caption.count("\n") + 1 for words in captions for caption in words), default=0)
    across, down = cell + GAP, cell + GAP + 14 * lines
    axes = sheet(count * across - GAP, len(rows) * down - GAP, cut=True)
    for y, (row, words) in enumerate(zip_longest(rows, captions, fillvalue=())):
        for x, (image, caption) in enumerate(zip_longest(row, words)):
            if image is not None:
                paste(axes, image, x * across, y * down, cell)
                write(axes, x * across + cell / 2, y * down + cell + 4, caption or "", 8, ha="center", va="top")
    for y, label in enumerate(row_labels or ()):
        write(axes, -7, y * down + cell / 2, label, ha="right", va="center", linespacing=1.2)
    wrapped = [[textwrap.fill(line, max(6, cell // 7)) for line in label.split("\n")] for label in column_labels or ()]
    heads = ["\n".join(lines) for lines in wrapped]
    for x, head in enumerate(heads):
        write(axes, x * across + cell / 2, -4, head, ha="center", va="bottom")
    above = 16 * max((head.count("\n") + 1 for head in heads if head), default=0)
    write(axes, 0, -8 - above, title, va="bottom", linespacing=1.2, **TITLE)
    return axes.figure


def mask_grid(
    sketches: Sequence[Picture],
    photos: Sequence[Picture],
    probabilities: Sequence[np.ndarray | Tensor],
    masks: Sequence[np.ndarray | Tensor],
    truths: Sequence[np.ndarray | Tensor],
    row_labels: Sequence[str] | None = None,
    size: float = 1.1,
) -> Figure:
    """One row a query: sketch, photo, a map from 0 to 1, the predicted mask and the true one (paper, Fig. 4)."""
    marked = map(overlay, photos, masks)
    right = (overlay(photo, truth, BLUE) for photo, truth in zip(photos, truths, strict=True))
    rows = list(zip(sketches, photos, probabilities, marked, right, strict=True))
    return grid(rows, row_labels, ["query", "photo", "probability, 0 (violet) to 1", "mask", "truth"], size)


def scheme(boxes: Mapping[str, tuple], arrows: Sequence[tuple[str, str, str]], width: int, height: int) -> Figure:
    """Boxes, name -> (x and y of the middle in px, words, "frozen", "learned" or "data", and perhaps a picture), and
    arrows, (name of one box, name of another, what goes there: "features" or "tokens"); width and height in px."""
    axes, placed = sheet(width, height, fine=2), {}
    for name, (x, y, words, style, *pictures) in boxes.items():
        texts = [(text, weight) for text, weight in ((name, "bold"), (words, "normal")) if text]
        look = {"fontsize": 8, "color": INK, "linespacing": 1.1, "multialignment": "center", **PLAIN}
        inside = [TextArea(text, textprops={**look, "weight": weight}) for text, weight in texts]
        inside += [OffsetImage(p, zoom=SIDE / max(p.shape) * 72 / DPI) for p in map(picture, pictures)]
        packed = VPacker(children=inside, align="center", pad=0, sep=3)
        round_box = {"boxstyle": "round,pad=0.4,rounding_size=0.4", **STYLES[style]}
        placed[name] = axes.add_artist(AnnotationBbox(packed, (x, y), bboxprops=round_box, zorder=3))
    for start, end, kind in arrows:
        look = {"arrowstyle": "-|>", "mutation_scale": 8, "linewidth": 1.2, "color": KINDS[kind], "zorder": 4}
        between = {"patchA": placed[start].patch, "patchB": placed[end].patch}
        axes.add_patch(FancyArrowPatch(boxes[start][:2], boxes[end][:2], **between, **look))
    return axes.figure
