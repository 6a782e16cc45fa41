"""What of a sketch is ink, alike for data sets, which refuse blank sketches, and for search."""

import numpy as np
from PIL import Image, ImageOps

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
    """A thin frame on all four sides, or bars at the edges if something is left then, painted over as it is inside."""
    pixels, sides = np.array(image), []
    for turn in range(4):
        side = np.rot90(pixels, turn)
        lines = side[: 1 + round(THIN * len(side))]
        colours = np.median(lines, axis=1)
        even = (np.abs(lines - colours[:, None]).mean(axis=2) < 255 * FAINTEST).mean(axis=1) > 0.8
        sides.append((lines, even & (np.abs(colours - colours[-1]).mean(axis=1) > 255 * FAINTEST), colours[-1].copy()))
    whole = all(framed[: 1 + len(framed) * 2 // 3].any() for _, framed, _ in sides)  # drawings, too, may end at THIN
    for lines, framed, inside in sides:
        lines[: len(framed) - framed[::-1].argmax() if whole else framed.argmin()] = inside
    return Image.fromarray(pixels) if whole or np.ptp(pixels.mean(axis=2)) > 255 * FAINTEST else image
