"""What of a sketch is ink, alike for data sets, which refuse blank sketches, and for search."""

import numpy as np
from PIL import Image, ImageOps
from scipy.ndimage import label
from scipy.stats import siegelslopes

FAINTEST = 0.12  # difference of lightness from the paper, below which nothing counts as a line
THIN = 0.08  # of a side, a frame's width at most
SMALLEST = 0.03  # of the image's longer side; less is a dot
LARGEST = 1024  # px, the longer side of a sketch as it is framed


def find_ink(image: Image.Image, said: str = "") -> tuple[Image.Image, np.ndarray, tuple[int, ...], np.ndarray]:
    """A sketch as seen, 1024 px at most, without a frame, dark on light; its ink, (H, W) bool, and the box around it;
    the paper's RGB in [0, 1]. ValueError, which begins with `said`, for no line or only a dot."""
    image.thumbnail((LARGEST, LARGEST))
    image = _unframed(image)
    pixels = np.asarray(image, dtype=np.float32) / 255
    paper = np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]), axis=0)
    difference = np.abs(pixels - paper).mean(axis=2)
    if difference.max() < FAINTEST:
        raise ValueError(f"{said}has no line: draw something first.")
    ink = difference > difference.max() / 2
    if paper.mean() < min(0.5, pixels[ink].mean()):  # light lines on a dark page ask as dark ones on a light page
        image, paper = ImageOps.invert(image), 1 - paper
    left, top, right, bottom = box = Image.fromarray(ink).getbbox()
    if max(right - left, bottom - top) < SMALLEST * max(image.size):
        raise ValueError(f"{said}is a single dot: draw a little more.")
    return image, ink, box, paper


def _unframed(image: Image.Image) -> Image.Image:
    """Thin bars at the edges, unless nothing is left then, and a straight frame painted over in the colour inside."""
    pixels, frame = np.array(image), []
    for turn in range(4):
        side = np.rot90(pixels, turn)
        lines = side[: 1 + round(THIN * len(side))]
        colours = np.median(lines, axis=1)
        even = (np.abs(lines - colours[:, None]).mean(axis=2) < 255 * FAINTEST).mean(axis=1) > 0.8
        framed = even & (np.abs(colours - colours[-1]).mean(axis=1) > 255 * FAINTEST)
        lines[: framed.argmin()] = colours[-1]
        lines = lines[: 1 + len(lines) * 2 // 3]  # drawings, too, may end at THIN
        found = _line(np.abs(lines - colours[-1]).mean(axis=2) > 255 * FAINTEST)
        frame += [(lines, found, colours[-1])] if framed[0] or found.any() else []
    whole = len(frame) == 4  # else what is near an edge may be ground, or the drawing
    for lines, found, colour in frame * whole:
        lines[found] = colour
    return Image.fromarray(pixels) if whole or np.ptp(pixels.mean(axis=2)) > 255 * FAINTEST else image


def _line(ink: np.ndarray) -> np.ndarray:
    """Of ink (H, W) bool along a side, the innermost straight line with all that it touches or has behind it."""
    if ink.any(axis=0).sum() <= max(1, 0.6 * ink.shape[1]):
        return np.zeros_like(ink)
    columns, inner = np.arange(ink.shape[1]), len(ink) - 1 - ink[::-1].argmax(axis=0)
    few = slice(None, None, 1 + len(columns) // 100)
    slope, start = siegelslopes(inner[few], columns[few])
    line = start + slope * columns
    on = ink.any(axis=0) & (np.abs(inner - line) < 1.5)
    parts = label(ink, np.ones((3, 3)))[0]
    touched = np.isin(parts, parts[inner[on], columns[on]])
    return (touched | (np.arange(len(ink))[:, None] <= line)) & (on.mean() > 0.6)
