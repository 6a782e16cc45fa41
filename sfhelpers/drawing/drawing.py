"""The drawing: strokes on a square paper, as a picture, as numbers, as a file."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sfhelpers.drawing import files, ndjson, svg
from sfhelpers.drawing.strokes import Stroke, check_count, clipped, count, fitted
from sfhelpers.files import replace_file

SIZE = 384  # pixels a side, unless one asks for more or fewer
SMALLEST, LARGEST = 16, 1024
LINE_WIDTH = 4 / 384  # of the side
FINE = 8  # drawn this many times as fine, then reduced
PAPER, INK = 255, 25  # grey levels, those of the toy world's sketches


@dataclass(frozen=True)
class Drawing:
    """Strokes on a square paper, unchangeable. `Drawing.clipped` and `Drawing.fitted` take strokes that reach beyond.

    Args:
        size: the paper's side in pixels, 16 to 1024.
        strokes: in the order they were drawn, every point on the paper, 20,000 points at most.

    Raises:
        ValueError: the size is wrong, a stroke is none or leaves the paper, or there are too many points.
    """

    size: int = SIZE
    strokes: tuple[Stroke, ...] = ()

    def __post_init__(self) -> None:
        _check_side(self.size)
        object.__setattr__(self, "strokes", tuple(self.strokes))
        for number, stroke in enumerate(self.strokes):
            if not isinstance(stroke, Stroke):
                raise ValueError(f"stroke {number} is a {type(stroke).__name__}: make it a Stroke(points, width).")
            if not ((stroke.points >= 0) & (stroke.points <= self.size)).all():
                paper = f"the {self.size} x {self.size} paper"
                raise ValueError(f"stroke {number} leaves {paper}: use Drawing.clipped or Drawing.fitted.")
        check_count(len(self.strokes), self.points)

    @classmethod
    def clipped(cls, strokes: Sequence[Stroke], size: int = SIZE) -> "Drawing":
        """A drawing of what lies on the paper: strokes are cut at its edge, as a pen that slips off it draws no line.

        Errors as `Drawing`.
        """
        _check_side(size)
        check_count(len(strokes), count(strokes))
        return cls(size, tuple(clipped(strokes, size)))

    @classmethod
    def fitted(cls, strokes: Sequence[Stroke], size: int = SIZE) -> "Drawing":
        """A drawing of strokes of any coordinates: scaled as a whole, centred, with a margin of 8% on each side.

        Args:
            strokes: at least one; their widths are replaced by 4 px of a 384 px paper.
            size: as `Drawing`.

        Raises:
            ValueError: no strokes, a wrong size, or too many points.
        """
        _check_side(size)
        if not strokes:
            raise ValueError("there are no strokes to fit: pass at least one.")
        return cls(size, tuple(fitted(strokes, size, LINE_WIDTH * size)))

    @property
    def points(self) -> int:
        """How many points all strokes have."""
        return count(self.strokes)

    def resized(self, size: int) -> "Drawing":
        """The same drawing on a larger or smaller paper, lines and widths scaled with it."""
        _check_side(size)
        if size == self.size:
            return self
        return Drawing.clipped([stroke.scaled(size / self.size) for stroke in self.strokes], size)

    def require_ink(self) -> "Drawing":
        """The drawing itself. ValueError if there is nothing to recognise: no stroke, or all of it within one dot."""
        if not self.strokes:
            raise ValueError("the drawing is empty: draw something, or choose a preset.")
        points = np.concatenate([stroke.points for stroke in self.strokes])
        if np.ptp(points, axis=0).max() <= max(stroke.width for stroke in self.strokes):
            raise ValueError("the drawing is a single dot, in which nothing can be recognised: draw lines.")
        return self

    def to_image(self, side: int | None = None) -> Image.Image:
        """The drawing as an RGB picture: white paper, dark anti-aliased lines with round ends and joints.

        Args:
            side: of the picture in pixels, 16 to 1024; the drawing's own size if None.
        """
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

    def __repr__(self) -> str:
        return f"<Drawing, {self.size} x {self.size} px, {len(self.strokes)} strokes, {self.points} points>"

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.to_image().save(file, format="PNG", optimize=True)
        return file.getvalue()

    def to_stroke3(self) -> NDArray[np.float64]:
        """The drawing as a recurrent network reads it (Ha and Eck 2017, "A Neural Representation of Sketch Drawings").

        Returns:
            (N, 3), one row a point: dx, dy in pixels from the point before (the first from the upper left corner), and
            1 where the pen is lifted after the point, else 0.
        """
        if not self.strokes:
            return np.zeros((0, 3))
        points = np.concatenate([stroke.points for stroke in self.strokes])
        lifted = np.zeros(len(points))
        lifted[np.cumsum([len(stroke.points) for stroke in self.strokes]) - 1] = 1
        return np.column_stack([np.diff(points, axis=0, prepend=0), lifted])

    def to_svg(self, title: str = "") -> str:
        """The drawing as an SVG file, which every browser and drawing program opens."""
        return svg.document(self.strokes, self.size, _printable(title))

    def to_ndjson(self, word: str = "") -> str:
        """The drawing as one line in the simplified format of Quick, Draw!, without a line break.

        The format aligns drawings to the upper left corner of a box of 255 and simplifies their lines: form is kept,
        place, size and line widths are not.
        """
        return ndjson.line_of(self.strokes, _printable(word))

    def to_file(self, kind: str, word: str = "") -> str:
        """What `save` writes: `kind` is "svg" or "ndjson". ValueError if nothing is drawn."""
        if not self.strokes:
            raise ValueError("the drawing is empty, so there is nothing to save: draw something first.")
        return self.to_svg(word) if kind == "svg" else self.to_ndjson(word) + "\n"

    def save(self, path: str | Path, word: str = "") -> None:
        """Write a file: SVG keeps all (to 0.01 px), ndjson is for programs that read Quick, Draw!.

        Args:
            path: ends in .svg or .ndjson; a file that is there is replaced once the new one is complete.
            word: what was drawn: the title of an SVG, the word of an ndjson line.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: another suffix, or nothing is drawn.
        """
        path = Path(path)
        suffix = files.kind(path.name)
        if not path.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {str(path.parent)!r} to save in: make it first.")
        replace_file(path, self.to_file(suffix.removeprefix("."), word).encode("utf-8"))

    @classmethod
    def load(cls, path: str | Path, size: int | None = None, number: int = 0) -> "Drawing":
        """Read an .svg or .ndjson file.

        Our own SVG files come back as they were drawn. All others are fitted to the paper with a margin, since their
        units mean nothing here; of shapes the outlines are taken.

        Args:
            path: a file of 5 MB at most.
            size: of the paper; that of our own file, else 384, if None.
            number: which drawing of an .ndjson file, counted from 0.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: in one sentence why the file cannot be read, found before anything large is computed.
        """
        return cls.parse(files.read(path), Path(path).name, size, number)

    @classmethod
    def parse(cls, content: bytes, name: str, size: int | None = None, number: int = 0) -> "Drawing":
        """As `load`, from a file's content and its name, for a file that lies on another machine."""
        suffix = files.kind(name)
        files.check_bytes(len(content), name)
        try:
            return cls._parsed(files.text(content), suffix, size, number)
        except ValueError as error:
            raise ValueError(f"{name!r} cannot be opened because {error}") from error

    @classmethod
    def _parsed(cls, text: str, suffix: str, size: int | None, number: int) -> "Drawing":
        if suffix == ".ndjson":
            return cls.fitted(ndjson.strokes_of(text, number), size or SIZE)
        strokes, own = svg.strokes_of(text)
        if own and all(((stroke.points >= 0) & (stroke.points <= own)).all() for stroke in strokes):
            return cls(own, tuple(strokes)).resized(size or own)
        return cls.fitted(strokes, size or SIZE)


def _check_side(side: int) -> None:
    if isinstance(side, bool) or not isinstance(side, int | np.integer) or not SMALLEST <= side <= LARGEST:
        raise ValueError(f"the paper's side is {side!r}: give a whole number of pixels from {SMALLEST} to {LARGEST}.")


def _printable(word: str) -> str:
    if not isinstance(word, str) or not word.isprintable():
        raise ValueError(f"the word {word!r} cannot be written into a file: give plain text on one line.")
    return word
