"""The Quick, Draw! format: one drawing a line, each stroke as a list of x and a list of y.

Source: the README of googlecreativelab/quickdraw-dataset, "simplified" (aligned to the upper left corner, scaled to a
largest value of 255, simplified by Ramer-Douglas-Peucker with an epsilon of 2) and "raw" (own size, a list of times t).
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from sfhelpers.drawing.strokes import Stroke, check_count, joined, simplified

BOX = 255
EPSILON = 2.0  # of the box


def line_of(strokes: Sequence[Stroke], word: str) -> str:
    """Strokes as one simplified line. They keep their form; place, size and width of lines are not in the format."""
    points = joined(strokes)
    low, extent = points.min(axis=0), np.ptp(points, axis=0).max()
    scale = BOX / extent if extent > 0 else 1.0
    lines = [simplified((stroke.points - low) * scale, EPSILON).round().astype(int) for stroke in strokes]
    drawing = [line.T.tolist() for line in lines]
    return json.dumps({"word": word, "drawing": drawing}, ensure_ascii=False, separators=(",", ":"))


def strokes_of(content: str, number: int) -> list[Stroke]:
    """The strokes of one line, counted from 0 without blank ones, in their own pixels and one pixel wide.

    Raises a ValueError whose sentence follows on "because".
    """
    lines = [line for line in content.split("\n") if line.strip()]
    if not lines:
        raise ValueError("it holds only blank lines: choose another file.")
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(lines):
        raise ValueError(f"it has no drawing {number!r}: give a number from 0 to {len(lines) - 1}.")
    where = f"its drawing {number}"
    try:
        record = json.loads(lines[number])
    except (ValueError, RecursionError):  # cut, no JSON, a number of 5,000 digits, or brackets nested too deep
        raise ValueError(f"{where} is cut or not JSON: repair or delete that line.") from None
    if not isinstance(record, dict) or not isinstance(record.get("drawing"), list):
        raise ValueError(f'{where} is not in the Quick, Draw! format: expected {{"word": ..., "drawing": [...]}}.')
    strokes = record["drawing"]
    if not all(_is_stroke(stroke) for stroke in strokes):
        raise ValueError(f"{where} has a stroke that is not [[x, ...], [y, ...]] of one length: repair that line.")
    check_count(len(strokes), sum(len(stroke[0]) for stroke in strokes))
    found = [Stroke(list(zip(*stroke[:2], strict=True)), 1.0) for stroke in strokes if stroke[0]]
    if not found:
        raise ValueError(f"{where} has no strokes: choose another.")
    return found


def _is_stroke(stroke: Any) -> bool:
    """[xs, ys] or, raw, [xs, ys, times]; what stands in the lists is checked by `Stroke`."""
    if not isinstance(stroke, list) or len(stroke) not in (2, 3):
        return False
    return all(isinstance(axis, list) for axis in stroke) and len({len(axis) for axis in stroke}) == 1
