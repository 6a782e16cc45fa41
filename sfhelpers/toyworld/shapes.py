"""Outlines in object coordinates: x to the right, y down, the object about within [-1, 1] on both axes.

Every function returns an (N, 2) float array of points. Closed outlines do not repeat their first point.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (N, 2): x, y
Uniform = Callable[[float, float], float]


@dataclass(frozen=True)
class Part:
    """One piece of a drawing, painted over the pieces before it.

    Args:
        outline: (N, 2) points.
        tone: index into the object's palette: 0 main, 1 second, 2 main in shade, 3 light, 4 near black.
        closed: a filled shape, or an open line of a given `thickness` (object units).
        detail: left out of abstract sketches.
    """

    outline: Points
    tone: int = 0
    closed: bool = True
    thickness: float = 0.04
    detail: bool = False


@dataclass
class Drawing:
    """An object: parts in painting order and eight named keypoints (name -> (x, y))."""

    parts: list[Part] = field(default_factory=list)
    keypoints: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, outline: Points, tone: int = 0, detail: bool = False) -> None:
        """Paint a filled shape."""
        self.parts.append(Part(outline, tone, detail=detail))

    def line(self, outline: Points, tone: int = 4, thickness: float = 0.04, detail: bool = False) -> None:
        """Paint an open line."""
        self.parts.append(Part(outline, tone, closed=False, thickness=thickness, detail=detail))

    @property
    def symmetric(self) -> bool:
        """Whether the drawing is its own mirror image: every point of an outline has its counterpart."""
        points = np.concatenate([part.outline for part in self.parts])
        if abs(points[:, 0].min() + points[:, 0].max()) > 1e-6:
            return False  # most drawings, at once
        gaps = np.abs(points[:, None] * (-1, 1) - points[None]).max(2)
        return bool((gaps.min(1) < 1e-6).all())


def turned(points: Points, angle: float, centre: tuple[float, float] = (0.0, 0.0)) -> Points:
    """Rotate by `angle` radians about `centre`, clockwise on screen."""
    c, s = np.cos(angle), np.sin(angle)
    return (points - centre) @ np.array([[c, s], [-s, c]]) + centre


def ellipse(x: float, y: float, rx: float, ry: float, angle: float = 0.0, n: int = 28) -> Points:
    """An ellipse with radii `rx`, `ry`, turned by `angle` radians."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return turned(np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], 1), angle, (x, y))


def box(x: float, y: float, w: float, h: float, angle: float = 0.0, taper: float = 1.0) -> Points:
    """A rectangle centred on (x, y); `taper` scales the width of its lower edge."""
    top, low = w / 2, w / 2 * taper
    corners = np.array([[x - top, y - h / 2], [x + top, y - h / 2], [x + low, y + h / 2], [x - low, y + h / 2]])
    return turned(corners, angle, (x, y))


def poly(*corners: tuple[float, float]) -> Points:
    """A polygon through the corners given."""
    return np.array(corners, dtype=float)


def smooth(*corners: tuple[float, float], steps: int = 6) -> Points:
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
    w1 = w0 if w1 is None else w1
    return np.stack([start + side * w0, end + side * w1, end - side * w1, start - side * w0])


def arc(x: float, y: float, rx: float, ry: float, start: float, stop: float, n: int = 16) -> Points:
    """An open arc of an ellipse; angles in turns, 0 is to the right, growing clockwise on screen."""
    t = np.linspace(start, stop, n) * 2 * np.pi
    return np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], 1)


def ring(x: float, y: float, radius: float, width: float, n: int = 28) -> Points:
    """A ring as one outline that goes round outside and back inside."""
    outer = arc(x, y, radius, radius, 0, 1, n)
    inner = arc(x, y, radius - width, radius - width, 1, 0, n)
    return np.concatenate([outer, inner])
