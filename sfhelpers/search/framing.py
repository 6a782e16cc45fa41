"""Where a sketch's ink is: the same drawing asks the same question wherever, and however small, it was drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from sfhelpers.drawing import Drawing
from sfhelpers.files import shown
from sfhelpers.images import Square, as_seen, find_ink, open_image

FILL = 0.78  # of the square's side, as Sketchy's centred sketches have it (Sangkloy et al. 2016)
Point = tuple[float, float]
Place = str | Path
Sketch = Place | Image.Image | Drawing


@dataclass(frozen=True)
class Frame:
    """The square around a sketch's ink, its longer side 78 % of it. Make it with `Frame.of`."""

    key: tuple  # size and bytes of the image, by which sketches are told apart
    image: Image.Image = field(compare=False)  # the whole sketch, RGB, 1024 px at most
    ink: np.ndarray = field(compare=False)  # (H, W) bool, the lines
    left: float  # the square, in px of the image; it may reach beyond it
    top: float
    side: float
    paper: tuple[int, int, int]  # RGB, what the square is filled with there

    @classmethod
    def of(cls, sketch: Sketch) -> "Frame":
        """Find the ink: what is more than half as far from the paper's lightness as the darkest line.

        ValueError if there is no line, or only a dot, or it is no sketch at all; FileNotFoundError for no file.
        """
        where = f" {shown(sketch)}" if isinstance(sketch, Place) else ""
        if isinstance(sketch, Drawing):
            sketch = sketch.to_image()
        image = open_image(sketch) if where else sketch
        if not isinstance(image, Image.Image):
            raise ValueError(f"a sketch of type {type(image).__name__} cannot be searched: pass an image or a Drawing.")
        image, ink, (left, top, right, bottom), paper = find_ink(as_seen(image), f"the sketch{where} ")
        side = max(right - left, bottom - top) / FILL
        colour = tuple(round(255 * float(value)) for value in paper)
        key = image.size, image.tobytes()
        return cls(key, image, ink, (left + right - side) / 2, (top + bottom - side) / 2, side, colour)

    def tensor(self, size: int) -> Tensor:
        """The square as (3, size, size) in [0, 1]."""
        square = Image.new("RGB", (round(self.side),) * 2, self.paper)
        square.paste(self.image, (-round(self.left), -round(self.top)))
        return Square.of(*square.size, size).image(square)

    def to_square(self, point: Point) -> Point:
        """A point of the image, x and y in [0, 1] of it, in the square, x and y in [0, 1] of that."""
        x, y = point[0] * self.image.width, point[1] * self.image.height
        return (x - self.left) / self.side, (y - self.top) / self.side

    def points(self, chosen: Sequence[Sequence[float]] | None) -> list[Point]:
        """These points, or five spread along the lines for None; ValueError for one that is not near the drawing."""
        try:
            found = spread_points(self, 5) if chosen is None else [(float(x), float(y)) for x, y in chosen]
        except (TypeError, ValueError) as error:
            raise ValueError(f"a point of {chosen!r} is no pair of numbers: pass x and y from 0 to 1.") from error
        for x, y in found:
            if not all(0 <= value <= 1 for value in (x, y, *self.to_square((x, y)))):
                raise ValueError(f"the point ({x:.2f}, {y:.2f}) is not near the drawing: choose one beside a line.")
        return found


def spread_points(frame: Frame, number: int) -> list[Point]:
    """Points on the ink, each the farthest from the others, x and y in [0, 1] of the image; from left to right."""
    places = np.argwhere(frame.ink)[:, ::-1] + 0.5  # x, y
    chosen = [int(np.hypot(*(places - places.mean(0)).T).argmax())]  # the farthest from the ink's middle
    distance = np.full(len(places), np.inf)
    while len(chosen) < min(number, len(places)):
        distance = np.minimum(distance, np.hypot(*(places - places[chosen[-1]]).T))
        chosen.append(int(distance.argmax()))
    return [(float(x), float(y)) for x, y in sorted((places[chosen] / frame.image.size).tolist())]
