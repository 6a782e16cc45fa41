"""PSC6K's keypoint table (Lu et al., ICML 2023) for the toy world: photo, sketch, class, XA, YA, XB, YB."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfhelpers.files import replace_file
from sfhelpers.toyworld.categories import CATEGORIES
from sfhelpers.toyworld.shapes import SIZE, stream, uniform

NAME = "test_pairs_ps.csv"
COLUMNS = ("photo", "sketch", "class", "XA", "YA", "XB", "YB")
FRAME = 256  # pixels a side, of the coordinates, whatever the images' own size

# Path of the photo, path of the sketch, number of the class from 1, keypoints (8, 3) of photo and of sketch.
Annotation = tuple[str, str, int, NDArray[np.float64], NDArray[np.float64]]


def write(root: Path, annotations: Iterable[Annotation]) -> None:
    """Write `root/test_pairs_ps.csv`, A the photo and B the sketch, X horizontal.

    Keypoints are (8, 3): x, y in pixels of a SIZE x SIZE image and visibility. The real benchmark has annotated every
    point; here one that is hidden or outside its image is left empty between its semicolons.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for photo, sketch, number, in_photo, in_sketch in annotations:
        table.writerow([photo, sketch, number, *_columns(in_photo), *_columns(in_sketch)])
    replace_file(root / NAME, text.getvalue().encode("utf-8"))


def keypoint_names(category: str) -> tuple[str, ...]:
    """What the eight points of a category are called, in the table's order."""
    return tuple(CATEGORIES[category].draw(uniform(stream("names"))).keypoints)


def _columns(keypoints: NDArray[np.float64]) -> list[str]:
    """The x and the y of eight points, semicolons between them."""
    scaled = keypoints[:, :2] * (FRAME / SIZE)
    # Rounding to 256.0 would put a point on the frame's far edge, which is outside.
    shown = keypoints[:, 2].astype(bool) & (scaled >= 0).all(1) & (scaled < FRAME - 0.05).all(1)
    return [
        ";".join(f"{value:.1f}" if seen else "" for value, seen in zip(scaled[:, axis], shown, strict=True))
        for axis in (0, 1)
    ]
