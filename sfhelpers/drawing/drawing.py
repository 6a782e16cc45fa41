"""The drawing: strokes on a square paper, as a picture, as numbers, as a file; and some to begin with."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageDraw

from sfhelpers.drawing import ndjson, svg
from sfhelpers.drawing.strokes import Stroke, check_count, clipped, joined
from sfhelpers.files import given, reading, replace_file

SIZE = 384  # pixels a side, unless one asks for more or fewer
SMALLEST, LARGEST = 16, 1024
LINE_WIDTH = 4 / 384  # of the side
MARGIN = 0.08  # of the side, left free on each side of a fitted drawing
FINE = 8  # drawn this many times as fine, then reduced
PAPER, INK = 255, 25  # grey levels, those of the toy world's sketches


@dataclass(frozen=True)
class Drawing:
    """Strokes on a square paper, unchangeable; ValueError if one is none or leaves it, or they are too many."""

    size: int = SIZE  # the paper's side in pixels, 16 to 1024
    strokes: tuple[Stroke, ...] = field(default=(), repr=False)  # in the order drawn, 20,000 points at most

    def __post_init__(self) -> None:
        _check_side(self.size)
        object.__setattr__(self, "strokes", tuple(self.strokes))
        for number, stroke in enumerate(self.strokes):
            if not isinstance(stroke, Stroke):
                raise ValueError(f"stroke {number} is a {type(stroke).__name__}: make it a Stroke(points, width).")
            if not _within([stroke], self.size):
                paper = f"the {self.size} x {self.size} paper"
                raise ValueError(f"stroke {number} leaves {paper}: use Drawing.clipped or Drawing.fitted.")
        check_count(len(self.strokes), len(joined(self.strokes)))

    @classmethod
    def clipped(cls, strokes: Sequence[Stroke], size: int = SIZE) -> "Drawing":
        """What lies on the paper: strokes are cut at its edge, where a pen slips off."""
        check_count(len(strokes), len(joined(strokes)))
        return cls(size, tuple(Stroke(piece, one.width) for one in strokes for piece in clipped(one.points, size)))

    @classmethod
    def fitted(cls, strokes: Sequence[Stroke], size: int = SIZE) -> "Drawing":
        """One or more strokes of any coordinates, scaled and centred, 4 px of 384 wide, with a margin of 8% a side."""
        _check_side(size)
        if not strokes:
            raise ValueError("there are no strokes to fit: pass at least one.")
        points = joined(strokes)
        low, high = points.min(axis=0), points.max(axis=0)
        extent = (high - low).max()
        scale = size * (1 - 2 * MARGIN) / extent if extent > 1e-6 else 1.0  # a dot stays a dot
        moved = ((stroke.points - (low + high) / 2) * scale + size / 2 for stroke in strokes)
        return cls(size, tuple(Stroke(points, LINE_WIDTH * size) for points in moved))

    def resized(self, size: int) -> "Drawing":
        """The same drawing on a larger or smaller paper, lines and widths scaled with it."""
        _check_side(size)
        return Drawing.clipped([stroke.scaled(size / self.size) for stroke in self.strokes], size)

    def to_image(self, side: int | None = None) -> Image.Image:
        """An RGB picture, white paper and dark anti-aliased lines with round ends and joints; `side` as `size`."""
        side = self.size if side is None else side
        _check_side(side)
        canvas = Image.new("L", (side * FINE, side * FINE), PAPER)
        brush = ImageDraw.Draw(canvas)
        scale = side * FINE / self.size
        for stroke in self.strokes:
            points = [tuple(point) for point in (stroke.points * scale - 0.5).round().tolist()]
            radius = max(0, round((stroke.width * scale - 1) / 2))
            brush.line(points, fill=INK, width=2 * radius + 1)  # odd, so that lines and round ends share a middle
            for point in points:
                brush.circle(point, radius, fill=INK)
        return canvas.reduce(FINE).convert("RGB")

    def to_file(self, kind: str) -> str:
        """What `save` writes: `kind` is "svg" or "ndjson". ValueError if nothing is drawn."""
        if not self.strokes:
            raise ValueError("the drawing is empty, so there is nothing to save: draw something first.")
        return svg.document(self.strokes, self.size) if kind == "svg" else ndjson.line_of(self.strokes) + "\n"

    def save(self, path: str | Path) -> None:
        """Write an .svg, which keeps all (to 0.01 px), or .ndjson, as Quick, Draw!, which keeps the form only.
        ValueError for another suffix, and if nothing is drawn; OSError if it cannot be written."""
        path = Path(path)
        replace_file(path, self.to_file(_kind(path.name)).encode("utf-8"))

    @classmethod
    def load(cls, path: str | Path, number: int = 0) -> "Drawing":
        """Read an .svg (the outlines of its shapes) or of an .ndjson one drawing (`number`, from 0), of 5 MB at most.

        Our own SVG comes back as it was drawn, all else is fitted to 384 pixels. FileNotFoundError, or a ValueError
        that says why.
        """
        path = given(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no drawing {str(path)!r}: give the path of an .svg or .ndjson file.")
        with reading(path), path.open("rb") as file:
            return cls._read(file, path.name, number)

    @classmethod
    def parse(cls, content: bytes, name: str) -> "Drawing":
        """As `load`, from a file's content and its name, for a file that lies on another machine."""
        return cls._read(io.BytesIO(content), name)

    @classmethod
    def _read(cls, file: BinaryIO, name: str, number: int = 0) -> "Drawing":
        kind = _kind(name)
        try:
            content = file.read(ndjson.MAX_LINE + 1) if kind == "svg" else ndjson.line(file, number)
            if not 0 < len(content) <= ndjson.MAX_LINE:
                raise ValueError("it has more than 5 MB: cut it down to one drawing." if content else "it is empty.")
            text = content.decode("utf-8-sig")  # the one encoding whose every character can be checked
            strokes, own = svg.strokes_of(text) if kind == "svg" else (ndjson.strokes_of(text), None)
            if own and _within(strokes, own):
                return cls(own, tuple(strokes))
            return cls.fitted(strokes)
        except RecursionError:
            raise ValueError(f"{name!r} cannot be opened because it nests too deep: simplify it.") from None
        except ValueError as error:
            reason = "it is not UTF-8 text: save it again as UTF-8." if isinstance(error, UnicodeError) else error
            raise ValueError(f"{name!r} cannot be opened because {reason}") from error


def _within(strokes: Sequence[Stroke], size: int) -> bool:
    return all(((stroke.points >= 0) & (stroke.points <= size)).all() for stroke in strokes)


def _check_side(side: int) -> None:
    if isinstance(side, bool) or not isinstance(side, int | np.integer) or not SMALLEST <= side <= LARGEST:
        raise ValueError(f"the paper's side is {side!r}: give a whole number of pixels from {SMALLEST} to {LARGEST}.")


def _kind(name: str) -> str:
    suffix = Path(name).suffix.lower()
    if suffix not in (".svg", ".ndjson"):
        raise ValueError(f"{name!r} ends in {suffix!r}: a drawing is kept as .svg or as .ndjson (Quick, Draw!).")
    return suffix.removeprefix(".")


# One a line, named after categories of the toy world; the last four are of those never trained on.
_LINES = Path(__file__).with_name("presets.ndjson").read_text(encoding="utf-8").splitlines()
PRESETS = {
    record["word"]: Drawing(SIZE, tuple(Stroke(np.transpose(xy), LINE_WIDTH * SIZE) for xy in record["drawing"]))
    for record in map(json.loads, _LINES)
}
