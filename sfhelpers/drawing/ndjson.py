"""The Quick, Draw! format: one drawing a line, each stroke as a list of x and a list of y.

Source: the README of googlecreativelab/quickdraw-dataset, "simplified" (in a box of 255 from the upper left corner, by
Ramer-Douglas-Peucker with an epsilon of 2) and "raw" (own size, a list of times t).
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from sfhelpers.drawing.strokes import Stroke, check_count, joined, simplified

BOX, EPSILON = 255, 2.0


def line_of(strokes: Sequence[Stroke], word: str = "") -> str:
    """Strokes as one simplified line. They keep their form; place, size and width of lines are not in the format."""
    points = joined(strokes)
    low, extent = points.min(axis=0), np.ptp(points, axis=0).max()
    scale = BOX / extent if extent > 0 else 1.0
    lines = [simplified((stroke.points - low) * scale, EPSILON).round().astype(int) for stroke in strokes]
    drawing = [line.T.tolist() for line in lines]
    return json.dumps({"word": word, "drawing": drawing}, ensure_ascii=False, separators=(",", ":"))


def strokes_of(content: str) -> list[Stroke]:
    """The strokes of the first line that is not blank, one pixel wide; a ValueError's sentence follows on "because"."""
    line = content.strip().split("\n", 1)[0]
    if not line:
        raise ValueError("it holds only blank lines: choose another file.")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # cut, no JSON, a number of 5,000 digits, or brackets nested too deep
        raise ValueError("its drawing is cut or not JSON: repair or delete that line.") from None
    strokes = record.get("drawing") if isinstance(record, dict) else None
    if not isinstance(strokes, list) or not all(map(_is_stroke, strokes)):
        wanted = '{"drawing": [[[x, ...], [y, ...]], ...]}, of one length'
        raise ValueError(f"its drawing is not in the Quick, Draw! format: expected {wanted}.")
    check_count(len(strokes), sum(len(stroke[0]) for stroke in strokes))
    found = [Stroke(list(zip(*stroke[:2], strict=True)), 1.0) for stroke in strokes if stroke[0]]
    if not found:
        raise ValueError("its drawing has no strokes: choose another.")
    return found


def _is_stroke(stroke: Any) -> bool:
    """Whether it is [xs, ys] or, raw, [xs, ys, times]; what stands in the lists is checked by `Stroke`."""
    lists = isinstance(stroke, list) and len(stroke) in (2, 3) and all(isinstance(axis, list) for axis in stroke)
    return lists and len({len(axis) for axis in stroke}) == 1
