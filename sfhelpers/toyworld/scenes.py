"""Photos of the toy world: one to four things, lit and partly before one another, on a ground with structure."""

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from sfhelpers.toyworld.categories import CATEGORIES, COLOURS, SEEN, USUAL, individual
from sfhelpers.toyworld.shapes import SIZE, Drawing, Keypoints, Point, Points, Pose, Stream, ellipse, smooth, stream

Pixels, Mask, Shade = NDArray[np.uint8], NDArray[np.bool_], NDArray[np.float32]
Scene = tuple[Pixels, tuple["Thing", ...]]  # a photo and what is in it
FINE = 2  # parts are drawn this many times larger and averaged down, which smooths their edges
CANVAS = (SIZE * FINE, SIZE * FINE)
SIDES = {1: (0.6, 0.9), 2: (0.48, 0.64), 3: (0.4, 0.54), 4: (0.34, 0.46)}  # of a thing among so many; the photo's is 1
FLYING = ("airplane", "butterfly")
VISIBLE = 0.45  # of every thing, at the least: more is hidden in no photo
TRIES = 12
ROWS, COLUMNS = (np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5) / SIZE


@dataclass(frozen=True)
class Thing:
    """One thing in a photo."""

    category: str
    colour: str  # the name of its main colour
    mask: Mask  # (SIZE, SIZE) bool, of what is seen of it
    keypoints: Keypoints  # (8, 3): x, y in pixels and visibility: 0 outside the photo or behind something


@dataclass(frozen=True)
class Placed:
    """A thing before it is painted."""

    category: str
    drawing: Drawing
    pose: Pose

    @cached_property
    def stencil(self) -> Image.Image:
        """All of it, L, as large as a CANVAS."""
        stencil = Image.new("L", CANVAS)
        self.paint(stencil, [255] * 5)
        return stencil

    def paint(self, canvas: Image.Image, palette: list) -> None:
        brush = ImageDraw.Draw(canvas)
        for part in self.drawing.parts:
            points = fine(self.pose(part.outline))
            if part.closed:
                brush.polygon(points, fill=palette[part.tone])
            else:
                width = max(2, round(part.thickness * self.pose.scale * SIZE / 2 * FINE))
                brush.line(points, fill=palette[part.tone], width=width, joint="curve")


def render_scene(category: str, index: int, seed: int, difficulty: float, things: int = 0) -> Scene:
    """Photo `index` that is asked for a category, (SIZE, SIZE, 3) uint8, and what is in it, the asked thing first.

    `things` says how many there are, 1 to 4; 0 draws two to four. They are of different categories: the others are
    seen ones, but beside an unseen one any. ValueError for a number of things for which there is no room, and for a
    difficulty outside 0 to 1.
    """
    planned, names, horizon, placed = _planned(category, index, seed, difficulty, things)
    rng = deepcopy(planned)  # the plan is kept, as it was
    canvas = _ground(rng, horizon, placed, difficulty)
    colours = [_painted(rng, thing, canvas, difficulty) for thing in placed]
    whole = [np.asarray(thing.stencil.reduce(FINE)) > 127 for thing in placed]
    hidden = _hidden(whole)
    seen = [mask & ~before for mask, before in zip(whole, hidden, strict=True)]
    photo = developed(rng, canvas, seen, difficulty)
    points = [_keypoints(thing, before) for thing, before in zip(placed, hidden, strict=True)]
    found = map(Thing, (thing.category for thing in placed), colours, seen, points)
    return photo, tuple(sorted(found, key=lambda thing: names.index(thing.category)))


def mirrored(category: str, index: int, seed: int, difficulty: float, things: int) -> bool:
    """Whether `render_scene` of the same arguments shows the asked thing mirrored."""
    *_, placed = _planned(category, index, seed, difficulty, things)
    return next(thing.pose.mirror for thing in placed if thing.category == category)


@lru_cache(maxsize=1, typed=True)  # a photo's sketches follow it
def _planned(category: str, index: int, seed: int, difficulty: float, things: int) -> tuple[Stream, list, float, list]:
    """The photo's stream as far as it is used, the names of its things, the horizon's height, and `_arranged`."""
    if things not in (0, *SIDES):
        raise ValueError(f"a photo has no room for {things} things: ask for 1 to {max(SIDES)}, or 0 for any number.")
    if not 0 <= difficulty <= 1:
        raise ValueError(f"the difficulty is {difficulty}: give a number from 0 to 1.")
    rng = stream("photo", seed, category, index)
    number = things or int(rng.integers(2, max(SIDES) + 1))
    others = [name for name in (SEEN if category in SEEN else CATEGORIES) if name != category]
    names = [category, *(others[k] for k in rng.choice(len(others), number - 1, replace=False))]
    streams = [stream("shape", seed, category, index), *[rng] * (number - 1)]
    drawings = {name: individual(name, own) for name, own in zip(names, streams, strict=True)}
    horizon = rng.uniform(0.25, 0.5)
    return rng, names, horizon, _arranged(rng, drawings, horizon, difficulty)


def _arranged(rng: Stream, drawings: dict[str, Drawing], horizon: float, difficulty: float) -> list[Placed]:
    """The things at their places, those farther away first; no thing hides more of another than VISIBLE leaves."""
    best, shown = [], -1.0
    for _ in range(TRIES):
        middles = (rng.permutation(len(drawings)) + 0.5) / len(drawings)
        placed = []
        for (name, drawing), middle in zip(drawings.items(), middles, strict=True):
            near = rng.uniform(0, 1)  # 0 at the back
            size = rng.uniform(*SIDES[len(drawings)]) * (0.88 + 0.24 * near)
            turn = float(np.clip(rng.normal(0, 0.05 + 0.15 * difficulty), -0.4, 0.4))
            pose = Pose(size, turn, (0.0, 0.0), bool(rng.random() < 0.5))
            x = 0.5 + 0.8 * (middle - 0.5) + rng.uniform(-0.09, 0.09)
            # On the ground, the lower the nearer, or in the air.
            foot = rng.uniform(0.45, 0.7) if name in FLYING else horizon + 0.2 + near * (0.76 - horizon)
            (left, top), (right, low) = (edge(pose(drawing.corners), axis=0) / SIZE - 0.5 for edge in (np.min, np.max))
            y = float(np.clip(foot - low, 0.02 - top, None))  # lower where its top would leave the photo
            moved = replace(pose, shift=(x - 0.5 - (left + right) / 2, y - 0.5))
            placed.append((near, Placed(name, drawing, moved)))
        found = [thing for _, thing in sorted(placed, key=lambda entry: entry[0])]
        if (share := _least_visible(found)) > shown:
            best, shown = found, share
        if shown >= VISIBLE:
            break
    return best


def _least_visible(placed: list[Placed]) -> float:
    """The smallest share of a thing that is neither hidden nor outside the photo."""
    masks = [np.asarray(thing.stencil.reduce(4)) > 127 for thing in placed]
    seen = [(mask & ~before).sum() for mask, before in zip(masks, _hidden(masks), strict=True)]
    corners = (thing.pose(thing.drawing.corners) for thing in placed)
    within = [((xy >= 0) & (xy < SIZE)).all(1).mean() for xy in corners]
    return float(min(np.multiply(within, seen) / [max(mask.sum(), 1) for mask in masks]))


def _hidden(masks: list[Mask]) -> list[Mask]:
    """Where something stands before each of them, those farther away first."""
    return [*accumulate(masks[:0:-1], np.logical_or, initial=np.zeros_like(masks[0]))][::-1]


def _painted(rng: Stream, thing: Placed, canvas: Image.Image, difficulty: float) -> str:
    """Paint a thing, the harder the world the less often in its usual colours; returns the main one's name."""
    usual = [name if rng.random() > difficulty * 0.7 else _any_colour(rng) for name in USUAL[thing.category].split()]
    main, second = (np.array(COLOURS[name]) + rng.normal(0, 0.05, 3) for name in usual)
    light, dark = (grey + rng.normal(0, 0.03, 3) for grey in np.array([(0.93, 0.92, 0.88), (0.15, 0.14, 0.16)]))
    palette = (np.clip([main, second, main * 0.7, light, dark], 0.02, 0.98) * 255).astype(int)
    thing.paint(canvas, [tuple(colour) for colour in palette.tolist()])
    return usual[0]


def _any_colour(rng: Stream) -> str:
    return list(COLOURS)[rng.integers(len(COLOURS))]


def fine(points: Points) -> list[Point]:
    """Pixels of the photo as points of a CANVAS."""
    return [tuple(p) for p in (points * FINE).tolist()]


def _keypoints(thing: Placed, hidden: Mask) -> Keypoints:
    xy = thing.drawing.placed(thing.pose)
    column, row = np.round(xy).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < SIZE) & (row < SIZE)
    covered = hidden[np.clip(row, 0, SIZE - 1), np.clip(column, 0, SIZE - 1)]
    return np.concatenate([xy, (inside & ~covered)[:, None]], 1)


def _ground(rng: Stream, horizon: float, placed: list[Placed], difficulty: float) -> Image.Image:
    """Wall or sky, floor in perspective, clutter and the things' shadows, RGB, as large as a CANVAS."""
    wall, floor = (np.array(COLOURS[_any_colour(rng)]) * 0.45 + 0.5 * rng.uniform(0.55, 1.0) for _ in range(2))
    below = np.clip((ROWS - horizon) * rng.choice([12.0, 80.0]) + 0.5, 0, 1)
    depth = 0.3 / np.maximum(ROWS - horizon, 0.03)
    strength = rng.uniform(0.01, 0.05, 2) * (0.6 + 0.8 * difficulty)
    far = np.exp(-0.25 * depth)  # fine patterns blur with the distance
    pattern = strength[0] * _pattern(rng, 6 * COLUMNS, 6 * ROWS) * (1 - below)
    pattern += strength[1] * _pattern(rng, 5 * (COLUMNS - 0.5) * depth, 4 * depth) * below * far * 1.5
    pattern += 0.03 * _noise(rng, 8) + 0.02 * _noise(rng, 32) + 0.015 * difficulty * _noise(rng, 80)
    shade = np.zeros((SIZE, SIZE), np.float32)
    for thing in (thing for thing in placed if thing.category not in FLYING):
        left, _, right, foot = (edge / (SIZE * FINE) for edge in thing.stencil.getbbox() or (0, 0, 1, 1))
        away = ((COLUMNS - (left + right) / 2 - 0.03) / (0.5 * (right - left))) ** 2 + ((ROWS - foot) / 0.06) ** 2
        shade = np.maximum(shade, np.exp(-1.2 * away))
    colours = wall * (1 - below[..., None]) + floor * below[..., None]
    pixels = (colours + pattern[..., None]) * (1 - 0.45 * shade[..., None])
    image = Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8)).resize(CANVAS, Image.Resampling.BILINEAR)
    for _ in range(rng.poisson(6 * difficulty)):
        _clutter(rng, image)
    return image.filter(ImageFilter.BoxBlur(rng.uniform(0, 2.0)))


def _pattern(rng: Stream, x: Shade, y: Shade) -> Shade:
    """One of six patterns about [-1, 1] on coordinates in which a tile is one by one."""
    kind = rng.integers(6)
    x, y = x * rng.uniform(0.7, 1.6), y * rng.uniform(0.7, 1.6)
    shift = 0.5 * (np.floor(2 * y) % 2)  # of every other row of bricks
    patterns = (
        lambda: np.sign(np.sin(np.pi * x) * np.sin(np.pi * y)),  # checks
        lambda: np.sin(2 * np.pi * x),  # stripes
        lambda: 1 - 2.0 * (np.minimum((x + shift) % 1, 2 * y % 1) < 0.08),  # bricks, the joints dark
        lambda: np.random.default_rng(rng.integers(1 << 30)).uniform(-1, 1, 64)[np.floor(x).astype(int) % 64],  # boards
        lambda: 2.0 * ((x % 1 - 0.5) ** 2 + (y % 1 - 0.5) ** 2 < 0.06) - 0.3,  # dots
        lambda: np.sin(2 * np.pi * (y + 0.3 * np.sin(x))),  # waves
    )
    return patterns[kind]()


def _clutter(rng: Stream, canvas: Image.Image) -> None:
    """Paint a blob, bar or wedge of a muted colour anywhere."""
    u = rng.uniform
    x, y, r = u(0, SIZE), u(0, SIZE), u(3, 14)
    shapes = (
        lambda: ellipse(x, y, r, r * u(0.3, 1), u(0, 3)),
        lambda: smooth(*[(x + r * np.cos(t) * u(0.5, 1.4), y + r * np.sin(t) * u(0.5, 1.4)) for t in range(6)]),
        lambda: np.array([(x + u(-r, r), y + u(-r, r)) for _ in range(4)]),
    )
    shape = shapes[rng.integers(3)]()
    muted = 255 * np.clip(np.array(COLOURS[_any_colour(rng)]) * u(0.6, 1.1), 0, 1)
    ImageDraw.Draw(canvas).polygon(fine(shape), fill=tuple(int(v) for v in muted))


def _noise(rng: Stream, cells: int) -> Shade:
    """Smooth noise about N(0, 1), (SIZE, SIZE), with `cells` bumps a side."""
    small = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    return np.asarray(small.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def developed(rng: Stream, canvas: Image.Image, seen: list[Mask], difficulty: float) -> Pixels:
    """Light, the things' texture, colour cast, vignette and grain: (SIZE, SIZE, 3) uint8."""
    pixels = np.asarray(canvas.reduce(FINE), np.float32) / 255
    lamp, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.3)
    light = np.ones((SIZE, SIZE), np.float32)
    for mask in seen:  # silhouettes as if they were cushions, under one lamp
        cushion = Image.fromarray(mask.astype(np.uint8) * 255)
        blurred = (np.asarray(cushion.filter(ImageFilter.BoxBlur(radius)), np.float32) / 255 for radius in (2, 7))
        dy, dx = np.gradient(sum(blur * high for blur, high in zip(blurred, (1.0, 4.0), strict=True)))
        slope = np.clip(strength * (dx * np.cos(lamp) + dy * np.sin(lamp)), -0.45, 0.4)
        texture = _noise(rng, int(rng.integers(6, 60))) * rng.uniform(0.02, 0.06 + 0.06 * difficulty)
        light += mask * (slope + texture)
    cast = rng.normal(1, 0.05, 3).astype(np.float32)
    tilt = rng.normal(0, 0.25, 2)
    exposure = (1 + (ROWS - 0.5) * tilt[0] + (COLUMNS - 0.5) * tilt[1]) * rng.uniform(0.85, 1.1)
    grain = rng.standard_normal((SIZE, SIZE, 1), dtype=np.float32) * np.float32(0.02 * (0.5 + difficulty))
    pixels = pixels * (light * exposure)[..., None] * cast + grain
    return (np.clip(pixels, 0, 1) * 255).astype(np.uint8)
