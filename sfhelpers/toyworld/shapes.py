"""Outlines, drawings and poses in object coordinates: x to the right, y down, the object about within [-1, 1]."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
Points = NDArray[np.float64]  # (N, 2): x, y; a closed outline does not repeat its first
Keypoints = NDArray[np.float64]  # (8, 3): x, y in pixels of a SIZE x SIZE image and visibility
Uniform = Callable[[float, float], float]  # a stream's `uniform`: a number between two
Stream = np.random.Generator
SIZE = 160  # side of every rendered image, in pixels


def stream(*key: object) -> Stream:
    """A random stream that depends on its key alone, on every machine and in any order of calls."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return Stream(np.random.PCG64(int.from_bytes(digest[:16], "big")))


@dataclass(frozen=True)
class Part:
    """One piece of a drawing, painted over the pieces before it: a filled shape or an open line."""

    outline: Points
    tone: int  # in the object's palette: 0 main, 1 second, 2 main in shade, 3 light, 4 near black
    closed: bool
    thickness: float  # of an open line, in object units
    detail: bool  # left out of abstract sketches


@dataclass
class Drawing:
    """An object: parts in painting order and eight named keypoints (name -> (x, y))."""

    parts: list[Part] = field(default_factory=list)
    keypoints: dict[str, Point] = field(default_factory=dict)

    def add(self, tone: int, *outlines: Points, detail: bool = False) -> None:
        """Paint filled shapes, one over the other."""
        self.parts += [Part(outline, tone, True, 0.04, detail) for outline in outlines]

    def line(self, tone: int, thickness: float, *outlines: Points, detail: bool = False) -> None:
        """Paint open lines."""
        self.parts += [Part(outline, tone, False, thickness, detail) for outline in outlines]

    def mark(self, **keypoints: Point) -> None:
        """Name points, their order kept: `tail_base=(x, y)`, or `left_right_ear=(x, y)` for the two at -x and x."""
        for name, (x, y) in keypoints.items():
            for side, at in (("left", -x), ("right", x)) if "left_right" in name else (("", x),):
                self.keypoints[name.replace("left_right", side).replace("_", " ")] = (at, y)

    @property
    def corners(self) -> Points:
        """(N, 2) corners of all outlines."""
        return np.concatenate([part.outline for part in self.parts])

    @property
    def symmetric(self) -> bool:
        """Whether the drawing is its own mirror image: every point of an outline has its counterpart."""
        points = self.corners
        if abs(points[:, 0].min() + points[:, 0].max()) > 1e-6:
            return False  # most drawings, at once
        gaps = np.abs(points[:, None] * (-1, 1) - points[None]).max(2)
        return bool((gaps.min(1) < 1e-6).all())

    def placed(self, pose: "Pose") -> Points:
        """(8, 2) pixels of the keypoints; left and right of a symmetric drawing are named as the picture shows them."""
        seen_from_front = replace(pose, mirror=False) if self.symmetric else pose
        return seen_from_front(np.array(list(self.keypoints.values())))


@dataclass(frozen=True)
class Pose:
    """A similarity transform from object coordinates to the pixels of a SIZE x SIZE image."""

    scale: float  # the object's side as a share of the image's side
    angle: float  # radians
    shift: Point  # of the object's centre from the image's centre, as a share of the image's side
    mirror: bool  # left and right are swapped

    def __call__(self, points: Points) -> Points:
        """(N, 2) points in pixels."""
        flipped = points * np.array([-1.0 if self.mirror else 1.0, 1.0])
        return turned(flipped, self.angle) * (self.scale * SIZE / 2) + SIZE * (0.5 + np.array(self.shift))


def turned(points: Points, angle: float, centre: Point = (0.0, 0.0)) -> Points:
    """Rotate by `angle` radians about `centre`, clockwise on screen."""
    c, s = np.cos(angle), np.sin(angle)
    return (points - centre) @ np.array([[c, s], [-s, c]]) + centre


def ellipse(x: float, y: float, rx: float, ry: float, angle: float = 0.0, n: int = 28) -> Points:
    """An ellipse with radii `rx`, `ry`, turned by `angle` radians."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return turned(np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], 1), angle, (x, y))


def box(x: float, y: float, w: float, h: float, taper: float = 1.0) -> Points:
    """A rectangle centred on (x, y); `taper` scales the width of its lower edge."""
    top, low = w / 2, w / 2 * taper
    corners = poly((x - top, y - h / 2), (x + top, y - h / 2), (x + low, y + h / 2), (x - low, y + h / 2))
    return turned(corners, 0.0, (x, y))  # a turn by nothing rounds; without it the world would be another in a bit


def poly(*corners: Point) -> Points:
    """The corners of a polygon, or of an open line."""
    return np.array(corners, dtype=float)


def symmetric(*right: Point) -> list[Point]:
    """The corners of a shape that is its own mirror image, from those of its right half, top to bottom."""
    corners = [*right, *((-x, y) for x, y in reversed(right) if x)]
    return corners[-1:] + corners[:-1] if right[0][0] else corners  # begins at its left upper corner or its top


def smooth(*corners: Point, steps: int = 6) -> Points:
    """A closed Catmull-Rom curve through the corners given."""
    p1 = np.array(corners, dtype=float)
    p0, p2, p3 = np.roll(p1, 1, 0), np.roll(p1, -1, 0), np.roll(p1, -2, 0)
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    a, b, c, d = (p[:, None] for p in (p0, p1, p2, p3))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return curve.reshape(-1, 2)


def limb(x0: float, y0: float, x1: float, y1: float, w0: float, w1: float | None = None) -> Points:
    """A straight tapered bar from (x0, y0) to (x1, y1) with end widths `w0` and `w1`."""
    start, end = np.array([x0, y0]), np.array([x1, y1])
    along = (end - start) / max(float(np.hypot(*(end - start))), 1e-9)
    side = np.array([-along[1], along[0]]) / 2
    at_start, at_end = side * w0, side * (w0 if w1 is None else w1)
    return np.stack([start + at_start, end + at_end, end - at_end, start - at_start])


def arc(x: float, y: float, rx: float, ry: float, start: float, stop: float, n: int = 16) -> Points:
    """An open arc of an ellipse; angles in turns, 0 is to the right, growing clockwise on screen."""
    t = np.linspace(start, stop, n) * 2 * np.pi
    return np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], 1)


def ring(x: float, y: float, radius: float, width: float) -> Points:
    """A ring as one outline that goes round outside and back inside."""
    return np.concatenate([arc(x, y, radius, radius, 0, 1, 28), arc(x, y, radius - width, radius - width, 1, 0, 28)])


def resampled(points: Points, step: float, whole: Callable[[float], int] = int) -> Points:
    """Points about `step` apart along a polyline, 4 at the least; `whole` makes their number one."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    grid = np.linspace(0, along[-1], max(4, whole(along[-1] / step)))
    return np.stack([np.interp(grid, along, points[:, k]) for k in (0, 1)], 1)
