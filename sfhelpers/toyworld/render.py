"""Photos and freehand sketches of one individual: lit and textured before a scene; or drawn by a forgetful hand."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from sfhelpers.toyworld.categories import COLOURS, SEEN, USUAL, individual
from sfhelpers.toyworld.shapes import SIZE, Keypoints, Part, Points, Pose, ellipse, resampled, smooth, stream

Pixels, Mask = NDArray[np.uint8], NDArray[np.bool_]
FINE = 2  # parts are drawn this many times larger and averaged down, which smooths their edges
SUBJECT = ((0.6, 0.95), 0.15, 0.1)  # scale, turn and shift of what a photo shows, the first that its stream draws
TURNED_ROUND = 0.2  # of the sketches at difficulty 1: Sketchy lists its drawings in a wrong pose, and they stay in use


def render_photo(category: str, index: int, seed: int, difficulty: float) -> tuple[Pixels, Mask, Keypoints]:
    """One photo (SIZE, SIZE, 3) uint8, the mask of its visible object (SIZE, SIZE) bool, and its keypoints.

    These are (8, 3): x, y in pixels and visibility (1 seen, 0 outside the image or hidden behind something).
    """
    drawing = individual(category, stream("shape", seed, category, index))
    rng = stream("photo", seed, category, index)
    pose = Pose.drawn(rng, *SUBJECT)
    canvas = _background(rng, difficulty)
    behind = _bystanders(rng, category, difficulty, canvas)
    mask = Image.new("L", canvas.size)
    _paint(drawing.parts, pose, _palette(rng, category, difficulty), canvas, mask)
    whole = np.asarray(mask.reduce(FINE)) > 127
    if rng.random() < 0.6 * difficulty:  # clutter stands in front of the object; its pixels leave the mask
        ImageDraw.Draw(mask).polygon(_clutter(rng, canvas), fill=0)
    photo = _develop(rng, canvas, mask, ImageChops.lighter(behind, mask), difficulty)
    visible = np.asarray(mask.reduce(FINE)) > 127
    xy = drawing.placed(pose)
    column, row = np.round(xy).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < SIZE) & (row < SIZE)
    covered = (whole & ~visible)[np.clip(row, 0, SIZE - 1), np.clip(column, 0, SIZE - 1)]
    return photo, visible, np.concatenate([xy, (inside & ~covered)[:, None]], 1)


def _palette(rng: np.random.Generator, category: str, difficulty: float) -> Pixels:
    """(5, 3) colours of an individual; the harder the world, the more often they are not the usual ones."""
    usual = USUAL[category].split()
    pick = [COLOURS[name] if rng.random() > difficulty * 0.7 else _any_colour(rng) for name in usual]
    main, second = (np.array(colour) + rng.normal(0, 0.05, 3) for colour in pick)
    light = np.array([0.93, 0.92, 0.88]) + rng.normal(0, 0.03, 3)
    dark = np.array([0.15, 0.14, 0.16]) + rng.normal(0, 0.03, 3)
    return (np.clip([main, second, main * 0.7, light, dark], 0.02, 0.98) * 255).astype(np.uint8)


def _any_colour(rng: np.random.Generator) -> tuple[float, float, float]:
    return list(COLOURS.values())[rng.integers(len(COLOURS))]


def _paint(parts: list[Part], pose: Pose, palette: Pixels, canvas: Image.Image, mask: Image.Image) -> None:
    """Paint a drawing's parts onto an RGB canvas and white onto an L mask, both FINE * SIZE wide, in place."""
    brush, stencil = ImageDraw.Draw(canvas), ImageDraw.Draw(mask)
    for part in parts:
        points, colour = _fine(pose(part.outline)), tuple(palette[part.tone].tolist())
        if part.closed:
            brush.polygon(points, fill=colour)
            stencil.polygon(points, fill=255)
        else:
            width = max(2, round(part.thickness * pose.scale * SIZE / 2 * FINE))
            brush.line(points, fill=colour, width=width, joint="curve")
            stencil.line(points, fill=255, width=width, joint="curve")


def _fine(points: Points) -> list[tuple[float, ...]]:
    return [tuple(p) for p in (points * FINE).tolist()]


def _noise(rng: np.random.Generator, cells: int) -> NDArray[np.float32]:
    """Smooth noise about N(0, 1), (SIZE, SIZE), with `cells` bumps a side."""
    small = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    return np.asarray(small.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _background(rng: np.random.Generator, difficulty: float) -> Image.Image:
    """Wall and floor with soft texture and clutter, RGB, FINE * SIZE wide."""
    wall, floor = (np.array(_any_colour(rng)) * 0.45 + 0.5 * rng.uniform(0.55, 1.0) for _ in range(2))
    horizon = rng.uniform(0.5, 0.85)
    rows = 1 / (1 + np.exp(-(np.linspace(0, 1, SIZE) - horizon) * rng.choice([8.0, 60.0])))
    shades = wall[None] * (1 - rows[:, None]) + floor[None] * rows[:, None]
    texture = 0.03 * _noise(rng, 8) + 0.02 * _noise(rng, 32) + 0.015 * difficulty * _noise(rng, 80)
    pixels = (np.clip(shades[:, None] + texture[..., None], 0, 1) * 255).astype(np.uint8)
    image = Image.fromarray(pixels).resize((SIZE * FINE, SIZE * FINE), Image.Resampling.BILINEAR)
    for _ in range(rng.poisson(10 * difficulty)):
        _clutter(rng, image)
    return image.filter(ImageFilter.BoxBlur(rng.uniform(0, 2.5)))


def _clutter(rng: np.random.Generator, canvas: Image.Image) -> list[tuple[float, ...]]:
    """Paint a blob, bar or wedge of a muted colour anywhere; returns its outline."""
    x, y, r = rng.uniform(0, SIZE), rng.uniform(0, SIZE), rng.uniform(4, 22)
    kind = rng.integers(3)
    if kind == 0:
        shape = ellipse(x, y, r, r * rng.uniform(0.3, 1), rng.uniform(0, 3))
    elif kind == 1:
        u = rng.uniform
        shape = smooth(*[(x + r * np.cos(t) * u(0.5, 1.4), y + r * np.sin(t) * u(0.5, 1.4)) for t in range(6)])
    else:
        shape = np.array([(x + rng.uniform(-r, r), y + rng.uniform(-r, r)) for _ in range(4)])
    muted = 255 * np.clip(np.array(_any_colour(rng)) * rng.uniform(0.6, 1.1), 0, 1)
    ImageDraw.Draw(canvas).polygon(_fine(shape), fill=tuple(int(v) for v in muted))
    return _fine(shape)


def _bystanders(rng: np.random.Generator, category: str, difficulty: float, canvas: Image.Image) -> Image.Image:
    """Whole objects of other categories, smaller and behind, seen ones alone for strict splits. Returns their mask."""
    mask = Image.new("L", canvas.size)
    others = [name for name in SEEN if name != category]
    for _ in range(rng.binomial(2, min(1.0, 0.9 * difficulty))):
        name = others[rng.integers(len(others))]
        pose = Pose.drawn(rng, (0.25, 0.45), 0.3, 0.0)
        corner = rng.uniform(0.2, 0.4, 2) * rng.choice([-1, 1], 2)
        parts = individual(name, rng).parts
        _paint(parts, replace(pose, shift=tuple(corner)), _palette(rng, name, difficulty), canvas, mask)
    return mask


def _blurred(mask: Image.Image, radius: int) -> NDArray[np.float32]:
    return np.asarray(mask.filter(ImageFilter.BoxBlur(radius)), np.float32) / 255


def _develop(
    rng: np.random.Generator, canvas: Image.Image, mask: Image.Image, all_masks: Image.Image, difficulty: float
) -> Pixels:
    """Shadow, light, object texture, colour cast, vignette and grain: (SIZE, SIZE, 3) uint8."""
    pixels = np.asarray(canvas.reduce(FINE), np.float32) / 255
    small = mask.reduce(FINE)
    inside = np.asarray(small, np.float32)[..., None] / 255
    texture = _noise(rng, int(rng.integers(6, 60)))[..., None] * rng.uniform(0.02, 0.06 + 0.06 * difficulty)
    puffed = all_masks.reduce(FINE)  # silhouettes as if they were cushions, under one lamp
    dy, dx = np.gradient(sum(_blurred(puffed, radius) * high for radius, high in ((2, 1.0), (7, 4.0))))
    lamp = rng.uniform(0, 2 * np.pi)
    light = 1 + np.clip(rng.uniform(0.5, 1.3) * (dx * np.cos(lamp) + dy * np.sin(lamp)), -0.45, 0.4)[..., None]
    shadow = np.roll(_blurred(small, 6), (6, int(rng.integers(-8, 9))), (0, 1))[..., None] * (1 - inside)
    shadow = shadow * rng.uniform(0.1, 0.35)
    cast = rng.normal(1, 0.05, 3).astype(np.float32)
    grid = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE - 0.5
    slope = grid * rng.normal(0, 0.25, (2, 1, 1)).astype(np.float32)
    exposure = (1 + slope.sum(0))[..., None] * np.float32(rng.uniform(0.85, 1.1))
    grain = rng.standard_normal((SIZE, SIZE, 1), dtype=np.float32) * np.float32(0.02 * (0.5 + difficulty))
    pixels = pixels * light * (1 + texture * inside) * (1 - shadow) * cast * exposure + grain
    return (np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def render_sketch(category: str, index: int, number: int, seed: int, difficulty: float) -> tuple[Pixels, Keypoints]:
    """Sketch `number` of an individual, (SIZE, SIZE) uint8, 255 = paper, and its keypoints (8, 3) as of a photo.

    It has a pose of its own but faces the way its photo does; the harder the world, the more are turned round.
    """
    drawing = individual(category, stream("shape", seed, category, index))
    rng = stream("sketch", seed, category, index, number)
    pose = Pose.drawn(rng, (0.6, 1.0), 0.2, 0.1, mirror=TURNED_ROUND * difficulty)
    pose = replace(pose, mirror=pose.mirror != Pose.drawn(stream("photo", seed, category, index), *SUBJECT).mirror)
    abstraction = rng.uniform(0, 1) * difficulty
    canvas = Image.new("L", (SIZE * FINE, SIZE * FINE), 255)
    brush = ImageDraw.Draw(canvas)
    width = round(rng.uniform(1.4, 2.6) * FINE)
    for part in drawing.parts:
        if part.detail and rng.random() < 0.15 + 0.7 * abstraction:
            continue
        outline = pose(part.outline)
        line = resampled(np.concatenate([outline, outline[:1]]) if part.closed else outline, 5)  # px
        line = _tremor(rng, line - SIZE / 2, 0.012 + 0.03 * difficulty) + SIZE / 2 + rng.normal(0, 1.2 * difficulty, 2)
        line += rng.normal(0, 1, line.shape) * 0.4
        points = _fine(line)
        if part.closed:
            brush.polygon(points, fill=255)  # hides what lies behind, as one draws only what one sees
        for stroke in _strokes(rng, points, abstraction):
            brush.line(stroke, fill=25, width=width, joint="curve")
    xy = drawing.placed(pose)
    inside = ((xy >= 0) & (xy < SIZE)).all(1, keepdims=True)
    return np.asarray(canvas.reduce(FINE)), np.concatenate([xy, inside], 1)


def _tremor(rng: np.random.Generator, points: Points, strength: float) -> Points:
    """Bend a polyline slowly along its length, as a hand does: a few random sine waves of its own for x and y."""
    t = np.linspace(0, 2 * np.pi, len(points))[:, None]
    waves = rng.integers(1, 5, (3, 2)) + rng.uniform(-0.3, 0.3, (3, 2))
    phase, size = rng.uniform(0, 2 * np.pi, (3, 2)), rng.normal(0, strength, (3, 2))
    bend = sum(size[k] * np.sin(waves[k] * t + phase[k]) for k in range(3))
    return points * (1 + rng.normal(0, strength, 2)) + bend


def _strokes(rng: np.random.Generator, points: list[tuple[float, ...]], abstraction: float) -> list[list]:
    """Cut a line into one to three strokes; some end early and some are forgotten."""
    kept = []
    for piece in np.split(np.arange(len(points)), np.sort(rng.integers(1, len(points), rng.integers(0, 3)))):
        if len(piece) < 2 or rng.random() < 0.22 * abstraction:
            continue
        end = len(piece) - int(rng.integers(0, 2 + 3 * abstraction)) if len(piece) > 6 else len(piece)
        kept.append(points[piece[0] : piece[0] + end + 1])
    return kept
