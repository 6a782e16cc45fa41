"""The Quick, Draw! format (googlecreativelab/quickdraw-dataset): a drawing a line, a stroke as lists of x and of y."""

import json
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, BinaryIO

import numpy as np

from sfhelpers.drawing.strokes import Stroke, check_count, joined, simplified

BOX, EPSILON = 255, 2.0  # of its "simplified" lines; "raw" ones have their own size, and times
MAX_LINE = 5_000_000  # bytes; a drawing has some thousand, a category's file some hundred million


def line_of(strokes: Sequence[Stroke], word: str = "") -> str:
    """Strokes as one simplified line. They keep their form; place, size and width of lines are not in the format."""
    points = joined(strokes)
    low, extent = points.min(axis=0), np.ptp(points, axis=0).max()
    scale = BOX / extent if extent > 0 else 1.0
    lines = [simplified((stroke.points - low) * scale, EPSILON).round().astype(int) for stroke in strokes]
    drawing = [line.T.tolist() for line in lines]
    return json.dumps({"word": word, "drawing": drawing}, ensure_ascii=False, separators=(",", ":"))


def lines(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Number from 1, offset and content of every line that is not blank; of one too long its start."""
    found = False
    for number in count(1):
        offset, content = file.tell(), file.readline(MAX_LINE + 1)
        if content.strip() or len(content) > MAX_LINE:
            found = True
            yield number, offset, content
        if not content:
            break
        while len(content) > MAX_LINE and not content.endswith(b"\n"):  # what is left of a line too long
            content = file.readline(MAX_LINE + 1)
    if not found:  # but the first, so that what is wrong has a place
        file.seek(0)
        yield 1, 0, file.readline(MAX_LINE + 1)


def line(file: BinaryIO, number: int) -> bytes:
    """The line of one drawing, counted from 0; a ValueError's sentence follows on "because"."""
    for drawing, (_, _, content) in enumerate(lines(file)):
        if drawing == number:
            return content
    raise ValueError(f"it has {drawing + 1} drawings and none of number {number!r}: count from 0.")


def strokes_of(line: str) -> list[Stroke]:
    """The strokes of one line, one pixel wide; a ValueError's sentence follows on "because"."""
    if not line.strip():
        raise ValueError("it holds only blank lines: choose another file.")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # cut, no JSON, a number of 5,000 digits, or brackets nested too deep
        raise ValueError("its drawing is cut or not JSON: repair or delete that line.") from None
    strokes = record.get("drawing") if isinstance(record, dict) else None
    if not isinstance(strokes, list) or not all(map(_is_stroke, strokes)) or _are_pairs(strokes):
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


def _are_pairs(strokes: list[list[list[Any]]]) -> bool:
    """Whether strokes of two or three points [x, y] only look like such lists: raw times begin at 0 and never fall."""
    sizes = {(len(stroke), len(stroke[0])) for stroke in strokes if stroke[0]}
    if sizes != {(3, 2)}:
        return len({lists for lists, _ in sizes}) > 1
    times = [time for stroke in strokes for time in stroke[-1]]
    return not all(isinstance(time, int | float) for time in times) or times[0] != 0 or times != sorted(times)
