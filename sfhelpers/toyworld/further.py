"""Two further data sets of the toy world: things in another style, and many individuals of two categories."""

import colorsys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from tqdm.auto import tqdm

from sfhelpers.toyworld import wares
from sfhelpers.toyworld.categories import UNSEEN, individual
from sfhelpers.toyworld.quick import hasty
from sfhelpers.toyworld.scenes import CANVAS, COLUMNS, FINE, ROWS, Mask, Pixels, Placed, developed, fine
from sfhelpers.toyworld.shapes import SIZE, Drawing, Pose, Stream, stream
from sfhelpers.toyworld.sketches import penned
from sfhelpers.toyworld.world import cached, save

VERSION = 1  # raise it when they are drawn otherwise, so that no older ones are read from the cache
NEW = ("pear", "penguin", "scissors", "shoe")  # not among the 36
AGAIN = ("apple", "bicycle", "cat", "chair", "cup", "fish", "house", "key", "tree", "umbrella")  # of the seen ones


def _fitted(rng: Stream, drawing: Drawing, mirror: bool, least: float, most: float) -> Pose:
    """Nearly upright, nearly in the middle, and as large as a share of the picture's side."""
    pose = Pose(1.0, float(np.clip(rng.normal(0, 0.05), -0.12, 0.12)), (0.0, 0.0), mirror)
    corners = pose(drawing.corners) / SIZE - 0.5
    low, high = corners.min(0), corners.max(0)
    scale = float(rng.uniform(least, most) / (high - low).max())
    shift = rng.uniform(-0.03, 0.03, 2) - scale * (low + high) / 2
    return replace(pose, scale=scale, shift=tuple(shift.tolist()))


def _posed(rng: Stream, drawing: Drawing, mirror: bool, ground: np.ndarray, difficulty: float) -> tuple[Pixels, Mask]:
    """The thing alone and large, in any colours, before a plain ground with its soft shadow."""
    thing = Placed("", drawing, _fitted(rng, drawing, mirror, 0.8, 0.93))
    left, _, right, foot = (edge / (SIZE * FINE) for edge in thing.stencil.getbbox())
    away = ((COLUMNS - (left + right) / 2) / (0.55 * (right - left))) ** 2 + ((ROWS - foot) / 0.05) ** 2
    pixels = ground * (1.04 - 0.12 * ROWS - 0.35 * np.exp(-1.5 * away))[..., None]
    canvas = Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8)).resize(CANVAS, Image.Resampling.BILINEAR)
    main, second = _colour(rng, (0.25, 0.9), (0.3, 0.9)), _colour(rng, (0.25, 0.9), (0.3, 0.9))
    palette = np.clip([main, second, main * 0.7, (0.93, 0.92, 0.88), (0.15, 0.14, 0.16)], 0.02, 0.98) * 255
    thing.paint(canvas, [tuple(colour) for colour in palette.astype(int).tolist()])
    mask = np.asarray(thing.stencil.reduce(FINE)) > 127
    return developed(rng, canvas, [mask], difficulty), mask


def _colour(rng: Stream, saturation: tuple[float, float], value: tuple[float, float]) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value)))


def _for_sale(rng: Stream, drawing: Drawing, mirror: bool) -> tuple[Pixels, Mask]:
    """Before white paper."""
    return _posed(rng, drawing, mirror, np.ones(3) * rng.uniform(0.9, 1.0), 0.1)


def _old(rng: Stream, drawing: Drawing, mirror: bool) -> tuple[Pixels, Mask]:
    """Before coloured paper, out of focus, its colours faded towards brown, with coarse grain."""
    photo, mask = _posed(rng, drawing, mirror, _colour(rng, (0.15, 0.6), (0.45, 0.95)), 0.8)
    soft = np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 1.3))), np.float32) / 255
    brown = soft.mean(2, keepdims=True) * (1.06, 0.96, 0.8)
    grain = Image.fromarray(rng.standard_normal((SIZE // 2, SIZE // 2), dtype=np.float32)).resize((SIZE, SIZE))
    faded = 0.12 + 0.8 * (soft + rng.uniform(0.1, 0.75) * (brown - soft)) + 0.035 * np.asarray(grain)[..., None]
    return (np.clip(faded, 0, 1) * 255).astype(np.uint8), mask


def _careful(rng: Stream, drawing: Drawing, mirror: bool) -> Pixels:
    """In pen, by somebody who looks at the photo."""
    return penned(rng, drawing, _fitted(rng, drawing, mirror, 0.7, 0.9), 0.1 * rng.random(), 0.2)


def _broad(rng: Stream, drawing: Drawing, mirror: bool) -> Pixels:
    """With a broad marker, in a hurry: few strokes, crooked and shaken, facing either way."""
    strokes = [stroke[:, :2] for stroke in hasty(drawing, rng, 0.5)]
    low, high = (edge(np.concatenate(strokes), axis=0) for edge in (np.min, np.max))
    canvas, radius = Image.new("L", CANVAS, 255), rng.uniform(1.8, 3) * FINE
    brush = ImageDraw.Draw(canvas)
    for stroke in strokes:
        points = fine((stroke - (low + high) / 2) * (0.85 * SIZE / max((high - low).max(), 1)) + SIZE / 2)
        brush.line(points, fill=60, width=round(2 * radius), joint="curve")
        for x, y in (points[0], points[-1]):
            brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=60)
    return np.asarray(canvas.reduce(FINE))


class Further(NamedTuple):
    """A data set: what it shows, how many of each, and how these are photographed and sketched."""

    categories: tuple[str, ...]
    photos: int  # of a category
    sketches: int  # of a photo
    photo: Callable[[Stream, Drawing, bool], tuple[Pixels, Mask]]
    sketch: Callable[[Stream, Drawing, bool], Pixels]


FURTHER = {
    "toy-restyled": Further(tuple(sorted((*AGAIN, *UNSEEN, *NEW))), 24, 2, _old, _broad),
    "toy-instances": Further(("chair", "shoe"), 120, 3, _for_sale, _careful),
}


def render_further(name: str, category: str, index: int) -> tuple[Pixels, Mask, list[Pixels]]:
    """Individual `index` of a data set: its photo, (SIZE, SIZE, 3) uint8, its mask and its sketches, 255 = paper."""
    about, rng = FURTHER[name], stream(name, category, index)
    if draw := getattr(wares, category, None):
        draw(drawing := Drawing(), rng.uniform)
    else:
        drawing = individual(category, rng)
    mirror = bool(rng.random() < 0.5)
    return *about.photo(rng, drawing, mirror), [about.sketch(rng, drawing, mirror) for _ in range(about.sketches)]


def write_further(root: Path, name: str, photos: int = 0, categories: tuple[str, ...] = ()) -> None:
    """Write a data set, or so many photos of some categories, in Sketchy's layout with masks, as `write_sketchy`."""
    about = FURTHER[name]
    drawn = product(categories or about.categories, range(photos or about.photos))
    for category, index in tqdm([*drawn], desc=f"drawing {name}", leave=False):
        path = f"256x256/{{}}/tx_000100000000/{category}/{category}_{index:03d}"
        photo, mask, sketches = render_further(name, category, index)
        save(photo, root / (path.format("photo") + ".jpg"))
        save(mask, root / (path.format("mask") + ".png"))
        for n, sketch in enumerate(sketches):
            save(sketch, root / (path.format("sketch") + f"-{n + 1}.png"))


def ensure_further(name: str) -> Path:
    """The folder of a data set, written on first use (about 15 s); OSError as `cached`."""
    about = FURTHER[name]
    return cached(name, f"v{VERSION}-seed0-{about.photos}x{about.sketches}", partial(write_further, name=name))
