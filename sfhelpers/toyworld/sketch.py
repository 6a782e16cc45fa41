"""Freehand sketches of the toy world: the same individual, another pose, an unsteady and forgetful hand."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sfhelpers.toyworld.categories import CATEGORIES
from sfhelpers.toyworld.shapes import SIZE, Points, Pose, place_keypoints, random_pose, stream, subject_pose, uniform

FINE = 2
TURNED_ROUND = 0.2  # of the sketches at difficulty 1: Sketchy lists its drawings in a wrong pose, and they stay in use


def _tremor(rng: np.random.Generator, points: Points, strength: float) -> Points:
    """Bend a polyline slowly along its length, as a hand does: a few random sine waves of its own for x and y."""
    t = np.linspace(0, 2 * np.pi, len(points))[:, None]
    waves = rng.integers(1, 5, (3, 2)) + rng.uniform(-0.3, 0.3, (3, 2))
    phase, size = rng.uniform(0, 2 * np.pi, (3, 2)), rng.normal(0, strength, (3, 2))
    bend = sum(size[k] * np.sin(waves[k] * t + phase[k]) for k in range(3))
    return points * (1 + rng.normal(0, strength, 2)) + bend


def _resample(points: Points, closed: bool) -> Points:
    """Points about 5 px apart along the polyline, the first repeated at the end if it is closed."""
    if closed:
        points = np.concatenate([points, points[:1]])
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    n = max(4, int(along[-1] / 5))
    grid = np.linspace(0, along[-1], n)
    return np.stack([np.interp(grid, along, points[:, k]) for k in (0, 1)], 1)


def render_sketch(
    category: str, index: int, number: int, seed: int, difficulty: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Render sketch `number` of an individual: dark strokes on white.

    Returns:
        The sketch (SIZE, SIZE) uint8, 255 = paper, and its keypoints (8, 3): x, y in pixels and visibility.
    """
    drawing = CATEGORIES[category].draw(uniform(stream("shape", seed, category, index)))
    rng = stream("sketch", seed, category, index, number)
    pose = _pose(rng, category, index, seed, difficulty)
    abstraction = rng.uniform(0, 1) * difficulty
    canvas = Image.new("L", (SIZE * FINE, SIZE * FINE), 255)
    brush = ImageDraw.Draw(canvas)
    width = round(rng.uniform(1.4, 2.6) * FINE)
    for part in drawing.parts:
        if part.detail and rng.random() < 0.15 + 0.7 * abstraction:
            continue
        line = _resample(pose(part.outline), part.closed)
        line = _tremor(rng, line - SIZE / 2, 0.012 + 0.03 * difficulty) + SIZE / 2 + rng.normal(0, 1.2 * difficulty, 2)
        line += rng.normal(0, 1, line.shape) * 0.4
        points = [tuple(p) for p in (line * FINE).tolist()]
        if part.closed:
            brush.polygon(points, fill=255)  # hides what lies behind, as one draws only what one sees
        for stroke in _strokes(rng, points, abstraction):
            brush.line(stroke, fill=25, width=width, joint="curve")
    xy = place_keypoints(drawing, pose)
    inside = ((xy >= 0) & (xy < SIZE)).all(1, keepdims=True)
    return np.asarray(canvas.reduce(FINE)), np.concatenate([xy, inside], 1)


def _pose(rng: np.random.Generator, category: str, index: int, seed: int, difficulty: float) -> Pose:
    """A pose of the sketch's own, facing the way its photo does, since that was before the eyes of who drew it.

    The harder the world, the more sketches are turned round all the same.
    """
    photo = subject_pose(stream("photo", seed, category, index))
    pose = random_pose(rng, (0.6, 1.0), 0.2, 0.1, mirror=TURNED_ROUND * difficulty)
    return replace(pose, mirror=pose.mirror != photo.mirror)


def _strokes(
    rng: np.random.Generator, points: list[tuple[float, float]], abstraction: float
) -> list[list[tuple[float, float]]]:
    """Cut a line into one to three strokes; some end early and some are forgotten."""
    cuts = np.sort(rng.integers(1, len(points), rng.integers(0, 3)))
    pieces = np.split(np.arange(len(points)), cuts)
    kept = []
    for piece in pieces:
        if len(piece) < 2 or rng.random() < 0.22 * abstraction:
            continue
        end = len(piece) - int(rng.integers(0, 2 + 3 * abstraction)) if len(piece) > 6 else len(piece)
        kept.append([points[k] for k in range(piece[0], min(piece[0] + end + 1, len(points)))])
    return kept
