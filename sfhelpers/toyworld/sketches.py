"""Freehand sketches of the toy world, drawn by an unsteady, forgetful hand."""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

from sfhelpers.toyworld.categories import individual
from sfhelpers.toyworld.scenes import CANVAS, FINE, Pixels, fine, mirrored
from sfhelpers.toyworld.shapes import SIZE, Drawing, Keypoints, Point, Points, Pose, Stream, resampled, stream

Sketch = tuple[Pixels, Keypoints]
TURNED_ROUND = 0.2  # of the sketches at difficulty 1: Sketchy lists its drawings in a wrong pose, and they stay in use


def render_sketch(category: str, index: int, number: int, seed: int, difficulty: float, things: int = 0) -> Sketch:
    """Sketch `number` of an individual, (SIZE, SIZE) uint8, 255 = paper, and its keypoints (8, 3) as of a photo.

    It has a pose of its own but faces the way the photo does that `render_scene` makes of the same arguments, which
    are refused as there; the harder the world, the more are turned round.
    """
    drawing = individual(category, stream("shape", seed, category, index))
    rng = stream("sketch", seed, category, index, number)
    scale, angle = rng.uniform(0.6, 1.0), float(np.clip(rng.normal(0, 0.2), -0.5, 0.5))
    shift, turned_round = (rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1)), rng.random() < TURNED_ROUND * difficulty
    pose = Pose(scale, angle, shift, turned_round != mirrored(category, index, seed, difficulty, things))
    sketch = penned(rng, drawing, pose, rng.uniform(0, 1) * difficulty, difficulty)
    xy = drawing.placed(pose)
    inside = ((xy >= 0) & (xy < SIZE)).all(1, keepdims=True)
    return sketch, np.concatenate([xy, inside], 1)


def penned(rng: Stream, drawing: Drawing, pose: Pose, abstraction: float, difficulty: float) -> Pixels:
    """A drawing in pen, the more abstract the less of it, the more difficult the shakier."""
    canvas = Image.new("L", CANVAS, 255)
    brush = ImageDraw.Draw(canvas)
    width = round(rng.uniform(1.4, 2.6) * FINE)
    for part in drawing.parts:
        if part.detail and rng.random() < 0.15 + 0.7 * abstraction:
            continue
        outline = pose(part.outline)
        line = resampled(np.concatenate([outline, outline[:1]]) if part.closed else outline, 5)  # px
        line = _tremor(rng, line - SIZE / 2, 0.012 + 0.03 * difficulty) + SIZE / 2 + rng.normal(0, 1.2 * difficulty, 2)
        line += rng.normal(0, 1, line.shape) * 0.4
        points = fine(line)
        if part.closed:
            brush.polygon(points, fill=255)  # hides what lies behind, as one draws only what one sees
        for stroke in _strokes(rng, points, abstraction):
            brush.line(stroke, fill=25, width=width, joint="curve")
    return np.asarray(canvas.reduce(FINE))


def _tremor(rng: Stream, points: Points, strength: float) -> Points:
    """Bend a polyline slowly along its length, as a hand does: a few random sine waves of its own for x and y."""
    t = np.linspace(0, 2 * np.pi, len(points))[:, None]
    waves = rng.integers(1, 5, (3, 2)) + rng.uniform(-0.3, 0.3, (3, 2))
    phase, size = rng.uniform(0, 2 * np.pi, (3, 2)), rng.normal(0, strength, (3, 2))
    bend = sum(size[k] * np.sin(waves[k] * t + phase[k]) for k in range(3))
    return points * (1 + rng.normal(0, strength, 2)) + bend


def _strokes(rng: Stream, points: list[Point], abstraction: float) -> Iterator[list[Point]]:
    """Cut a line into one to three strokes; some end early and some are forgotten."""
    for piece in np.split(np.arange(len(points)), np.sort(rng.integers(1, len(points), rng.integers(0, 3)))):
        if len(piece) > 1 and rng.random() >= 0.22 * abstraction:
            early = int(rng.integers(0, 2 + 3 * abstraction)) if len(piece) > 6 else 0
            yield points[piece[0] : piece[-1] + 2 - early]
