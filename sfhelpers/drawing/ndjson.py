"""The Quick, Draw! format: one drawing a line, each stroke as a list of x and a list of y.

Source: the README of googlecreativelab/quickdraw-dataset, "simplified" (aligned to the upper left corner, scaled to a
largest value of 255, simplified by Ramer-Douglas-Peucker with an epsilon of 2) and "raw" (own size, a list of times t).
"""

import json
from collections.abc import Sequence

import numpy as np

from sfhelpers.drawing.strokes import Stroke, check_count, joined, simplified

BOX = 255
EPSILON = 2.0  # of the box


def line_of(strokes: Sequence[Stroke], word: str = "") -> str:
    """Strokes as one simplified line. They keep their form; place, size and width of lines are not in the format."""
    points = joined(strokes)
    low, extent = points.min(axis=0), np.ptp(points, axis=0).max()
    scale = BOX / extent if extent > 0 else 1.0
    lines = [simplified((stroke.points - low) * scale, EPSILON).round().astype(int) for stroke in strokes]
    drawing = [line.T.tolist() for line in lines]
    return json.dumps({"word": word, "drawing": drawing}, ensure_ascii=False, separators=(",", ":"))


def strokes_of(content: str) -> list[Stroke]:
    """The strokes of the first line that is not blank, in their own pixels and one pixel wide.

    Raises a ValueError whose sentence follows on "because".
    """
    line = content.strip().split("\n", 1)[0]
    if not line:
        raise ValueError("it holds only blank lines: choose another file.")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # cut, no JSON, a number of 5,000 digits, or brackets nested too deep
        raise ValueError("its drawing is cut or not JSON: repair or delete that line.") from None
    if not isinstance(record, dict) or not isinstance(record.get("drawing"), list):
        raise ValueError('its drawing is not in the Quick, Draw! format: expected {"word": ..., "drawing": [...]}.')
    strokes = record["drawing"]
    for stroke in strokes:  # [xs, ys] or, raw, [xs, ys, times]; what stands in the lists is checked by `Stroke`
        lists = isinstance(stroke, list) and len(stroke) in (2, 3) and all(isinstance(axis, list) for axis in stroke)
        if not lists or len({len(axis) for axis in stroke}) > 1:
            raise ValueError(
                "its drawing has a stroke that is not [[x, ...], [y, ...]] of one length: repair that line."
            )
    check_count(len(strokes), sum(len(stroke[0]) for stroke in strokes))
    found = [Stroke(list(zip(*stroke[:2], strict=True)), 1.0) for stroke in strokes if stroke[0]]
    if not found:
        raise ValueError("its drawing has no strokes: choose another.")
    return found
