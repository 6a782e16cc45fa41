"""Photos of the toy world: flat parts made into a lit, textured object in front of a cluttered scene."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from sfhelpers.toyworld.categories import CATEGORIES, COLOURS, SEEN
from sfhelpers.toyworld.shapes import (
    SIZE,
    Drawing,
    Pose,
    ellipse,
    place_keypoints,
    poly,
    random_pose,
    smooth,
    stream,
    subject_pose,
    uniform,
)

FINE = 2  # parts are drawn this many times larger and averaged down, which smooths their edges
Floats = NDArray[np.float32]


def _palette(rng: np.random.Generator, category: str, difficulty: float) -> NDArray[np.uint8]:
    """(5, 3) colours of an individual; the harder the world, the more often they are not the usual ones."""
    names = list(COLOURS)
    usual = CATEGORIES[category].colours
    pick = [n if rng.random() > difficulty * 0.7 else names[rng.integers(len(names))] for n in usual]
    main, second = (np.array(COLOURS[n]) + rng.normal(0, 0.05, 3) for n in pick)
    light = np.array([0.93, 0.92, 0.88]) + rng.normal(0, 0.03, 3)
    dark = np.array([0.15, 0.14, 0.16]) + rng.normal(0, 0.03, 3)
    return (np.clip([main, second, main * 0.7, light, dark], 0.02, 0.98) * 255).astype(np.uint8)


def paint(drawing: Drawing, pose: Pose, palette: NDArray[np.uint8], canvas: Image.Image, mask: Image.Image) -> None:
    """Paint a drawing onto an RGB canvas and white onto an L mask, both FINE * SIZE wide, in place."""
    brush, stencil = ImageDraw.Draw(canvas), ImageDraw.Draw(mask)
    for part in drawing.parts:
        points = [tuple(p) for p in (pose(part.outline) * FINE).tolist()]
        colour = tuple(palette[part.tone].tolist())
        if part.closed:
            brush.polygon(points, fill=colour)
            stencil.polygon(points, fill=255)
        else:
            width = max(2, round(part.thickness * pose.scale * SIZE / 2 * FINE))
            brush.line(points, fill=colour, width=width, joint="curve")
            stencil.line(points, fill=255, width=width, joint="curve")


def _noise(rng: np.random.Generator, cells: int) -> Floats:
    """Smooth noise about N(0, 1), (SIZE, SIZE), with `cells` bumps a side."""
    small = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    return np.asarray(small.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _background(rng: np.random.Generator, difficulty: float) -> Image.Image:
    """Wall and floor with soft texture and clutter, RGB, FINE * SIZE wide."""
    side = SIZE * FINE
    names = list(COLOURS)
    wall, floor = (
        np.array(COLOURS[names[rng.integers(len(names))]]) * 0.45 + 0.5 * rng.uniform(0.55, 1.0) for _ in range(2)
    )
    horizon = rng.uniform(0.5, 0.85)
    rows = 1 / (1 + np.exp(-(np.linspace(0, 1, SIZE) - horizon) * rng.choice([8.0, 60.0])))
    shades = wall[None] * (1 - rows[:, None]) + floor[None] * rows[:, None]
    texture = 0.03 * _noise(rng, 8) + 0.02 * _noise(rng, 32) + 0.015 * difficulty * _noise(rng, 80)
    pixels = np.clip(shades[:, None] + texture[..., None], 0, 1)
    image = Image.fromarray((pixels * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BILINEAR)
    brush = ImageDraw.Draw(image)
    for _ in range(rng.poisson(10 * difficulty)):
        brush.polygon(_clutter_piece(rng), fill=tuple(int(v) for v in _muted(rng)))
    return image.filter(ImageFilter.BoxBlur(rng.uniform(0, 2.5)))


def _muted(rng: np.random.Generator) -> NDArray[np.float64]:
    names = list(COLOURS)
    return 255 * np.clip(np.array(COLOURS[names[rng.integers(len(names))]]) * rng.uniform(0.6, 1.1), 0, 1)


def _clutter_piece(rng: np.random.Generator) -> list[tuple[float, float]]:
    """A random blob, bar or wedge anywhere in the image, as FINE pixel points."""
    x, y, r = rng.uniform(0, SIZE), rng.uniform(0, SIZE), rng.uniform(4, 22)
    kind = rng.integers(3)
    if kind == 0:
        shape = ellipse(x, y, r, r * rng.uniform(0.3, 1), rng.uniform(0, 3))
    elif kind == 1:
        shape = smooth(
            *[(x + r * np.cos(t) * rng.uniform(0.5, 1.4), y + r * np.sin(t) * rng.uniform(0.5, 1.4)) for t in range(6)]
        )
    else:
        shape = poly(*[(x + rng.uniform(-r, r), y + rng.uniform(-r, r)) for _ in range(4)])
    return [tuple(p) for p in (shape * FINE).tolist()]


def _bystanders(rng: np.random.Generator, category: str, difficulty: float, canvas: Image.Image) -> Image.Image:
    """Whole objects of other categories, smaller and behind: what makes the sketch worth asking. Returns their mask.

    They are of seen categories alone, so that no picture of an unseen one slips into a training set (strict split).
    """
    mask = Image.new("L", canvas.size)
    others = [name for name in SEEN if name != category]
    for _ in range(rng.binomial(2, min(1.0, 0.9 * difficulty))):
        name = others[rng.integers(len(others))]
        pose = random_pose(rng, (0.25, 0.45), 0.3, 0.0)
        corner = rng.uniform(0.2, 0.4, 2) * rng.choice([-1, 1], 2)
        pose = Pose(pose.scale, pose.angle, (float(corner[0]), float(corner[1])), pose.mirror)
        paint(CATEGORIES[name].draw(uniform(rng)), pose, _palette(rng, name, difficulty), canvas, mask)
    return mask


def _light(rng: np.random.Generator, mask: Image.Image) -> Floats:
    """Brightness of a puffed-up silhouette under one lamp: (SIZE, SIZE), about 1 where nothing is."""
    height = sum(np.asarray(mask.filter(ImageFilter.BoxBlur(r)), np.float32) / 255 * w for r, w in ((2, 1.0), (7, 4.0)))
    dy, dx = np.gradient(height)
    lamp = rng.uniform(0, 2 * np.pi)
    return 1 + np.clip(rng.uniform(0.5, 1.3) * (dx * np.cos(lamp) + dy * np.sin(lamp)), -0.45, 0.4)


def _occlude(rng: np.random.Generator, difficulty: float, canvas: Image.Image, mask: Image.Image) -> None:
    """Now and then a piece of clutter stands in front of the object; its pixels leave the mask."""
    if rng.random() < 0.6 * difficulty:
        piece = _clutter_piece(rng)
        ImageDraw.Draw(canvas).polygon(piece, fill=tuple(int(v) for v in _muted(rng)))
        ImageDraw.Draw(mask).polygon(piece, fill=0)


def _develop(
    rng: np.random.Generator, canvas: Image.Image, mask: Image.Image, all_masks: Image.Image, difficulty: float
) -> NDArray[np.uint8]:
    """Shadow, light, object texture, colour cast, vignette and grain: (SIZE, SIZE, 3) uint8."""
    pixels = np.asarray(canvas.reduce(FINE), np.float32) / 255
    small = mask.reduce(FINE)
    inside = np.asarray(small, np.float32)[..., None] / 255
    texture = _noise(rng, int(rng.integers(6, 60)))[..., None] * rng.uniform(0.02, 0.06 + 0.06 * difficulty)
    light = _light(rng, all_masks.reduce(FINE))[..., None]
    shadow = np.asarray(small.filter(ImageFilter.BoxBlur(6)), np.float32) / 255
    shadow = np.roll(shadow, (6, int(rng.integers(-8, 9))), (0, 1))[..., None] * (1 - inside) * rng.uniform(0.1, 0.35)
    cast = rng.normal(1, 0.05, 3).astype(np.float32)
    slope = (np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE - 0.5) * rng.normal(0, 0.25, (2, 1, 1)).astype(
        np.float32
    )
    exposure = (1 + slope.sum(0))[..., None] * np.float32(rng.uniform(0.85, 1.1))
    grain = rng.standard_normal((SIZE, SIZE, 1), dtype=np.float32) * np.float32(0.02 * (0.5 + difficulty))
    pixels = pixels * light * (1 + texture * inside) * (1 - shadow) * cast * exposure + grain
    return (np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def render_photo(
    category: str, index: int, seed: int, difficulty: float
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.float64]]:
    """Render one photo.

    Returns:
        The photo (SIZE, SIZE, 3) uint8; the mask of the visible object (SIZE, SIZE) bool; and its keypoints
        (8, 3): x, y in pixels and visibility (1 seen, 0 outside the image or hidden behind something).
    """
    drawing = CATEGORIES[category].draw(uniform(stream("shape", seed, category, index)))
    rng = stream("photo", seed, category, index)
    pose = subject_pose(rng)
    canvas = _background(rng, difficulty)
    behind = _bystanders(rng, category, difficulty, canvas)
    mask = Image.new("L", canvas.size)
    paint(drawing, pose, _palette(rng, category, difficulty), canvas, mask)
    whole = np.asarray(mask.reduce(FINE)) > 127
    _occlude(rng, difficulty, canvas, mask)
    together = Image.fromarray(np.maximum(np.asarray(behind), np.asarray(mask)))
    photo = _develop(rng, canvas, mask, together, difficulty)
    visible = np.asarray(mask.reduce(FINE)) > 127
    return photo, visible, _keypoints(drawing, pose, whole & ~visible)


def _keypoints(drawing: Drawing, pose: Pose, hidden: NDArray[np.bool_]) -> NDArray[np.float64]:
    xy = place_keypoints(drawing, pose)
    column, row = np.round(xy).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < SIZE) & (row < SIZE)
    covered = hidden[np.clip(row, 0, SIZE - 1), np.clip(column, 0, SIZE - 1)]
    return np.concatenate([xy, (inside & ~covered)[:, None]], 1)
