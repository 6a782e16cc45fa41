"""The toy world on disk: written once in the real layouts, kept in the user's cache within a size bound."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from platformdirs import user_cache_path
from tqdm.auto import tqdm

from sfhelpers.files import writing
from sfhelpers.toyworld import psc6k
from sfhelpers.toyworld.categories import CATEGORIES
from sfhelpers.toyworld.photo import render_photo
from sfhelpers.toyworld.sketch import render_sketch

VERSION = 5  # raise it when rendering changes, so that no cached world of an older look is read
DIFFICULTY = 0.5
PHOTOS, SKETCHES = 32, 3  # photos a category, sketches a photo
CACHE_MEGABYTES = 500
CACHE_REMEDY = "make that folder writable, or set the variable XDG_CACHE_HOME to one that is"
TRANSFORM = "tx_000100000000"  # Sketchy's object crops

Points = NDArray[np.float64]  # (8, 3): x, y in pixels and visibility
Sketch = tuple[NDArray[np.uint8], Points]


def _pictures(
    photos: int, sketches: int, seed: int, difficulty: float, categories: tuple[str, ...]
) -> Iterator[tuple[str, str, NDArray[np.uint8], NDArray[np.bool_], Points, list[Sketch]]]:
    """Category, stem, photo, mask, keypoints and sketches of every individual.

    Stems look like Sketchy's (n<class>_<number>).
    """
    plan = [(c, k) for c in categories for k in range(photos)]
    for category, k in tqdm(plan, desc="drawing the toy world", leave=False):
        photo, mask, points = render_photo(category, k, seed, difficulty)
        drawings = [render_sketch(category, k, n, seed, difficulty) for n in range(sketches)]
        yield category, f"n{list(CATEGORIES).index(category):08d}_{k}", photo, mask, points, drawings


def _save(pixels: NDArray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **({"quality": 92} if path.suffix == ".jpg" else {}))


def write_sketchy(
    root: Path,
    photos: int = PHOTOS,
    sketches: int = SKETCHES,
    seed: int = 0,
    difficulty: float = DIFFICULTY,
    categories: tuple[str, ...] = tuple(CATEGORIES),
) -> None:
    """Write the world in Sketchy's layout, with masks beside it and PSC6K's keypoints of every pair.

    `root/256x256/{photo,sketch}/tx_000100000000/<category>/`, pictures 160 px wide, sketches named
    `<photo stem>-<number>.png`; masks, which the real data set lacks, in `root/256x256/mask/...` likewise;
    keypoints in `root/test_pairs_ps.csv`.
    """
    annotations: list[psc6k.Annotation] = []
    for category, stem, photo, mask, points, drawings in _pictures(photos, sketches, seed, difficulty, categories):
        folder = {kind: f"256x256/{kind}/{TRANSFORM}/{category}" for kind in ("photo", "mask", "sketch")}
        photo_path = f"{folder['photo']}/{stem}.jpg"
        _save(photo, root / photo_path)
        _save(mask, root / folder["mask"] / f"{stem}.png")
        for n, (drawing, drawn_points) in enumerate(drawings, start=1):
            path = f"{folder['sketch']}/{stem}-{n}.png"
            _save(drawing, root / path)
            annotations.append((photo_path, path, 1 + list(CATEGORIES).index(category), points, drawn_points))
    psc6k.write(root, annotations)


def write_folder(
    root: Path,
    photos: int = PHOTOS,
    sketches: int = SKETCHES,
    seed: int = 0,
    difficulty: float = DIFFICULTY,
    categories: tuple[str, ...] = tuple(CATEGORIES),
    masks: bool = True,
) -> None:
    """Write the world as anybody's own folder: `root/{photo,sketch,mask}/<category>/`."""
    for category, stem, photo, mask, _, drawings in _pictures(photos, sketches, seed, difficulty, categories):
        _save(photo, root / "photo" / category / f"{stem}.jpg")
        if masks:
            _save(mask, root / "mask" / category / f"{stem}.png")
        for n, (drawing, _) in enumerate(drawings, start=1):
            _save(drawing, root / "sketch" / category / f"{stem}-{n}.png")


def ensure(seed: int = 0, difficulty: float = DIFFICULTY, photos: int = PHOTOS, sketches: int = SKETCHES) -> Path:
    """The folder of a world in Sketchy's layout, written on first use (about 20 s) into the user's cache.

    Worlds used longest ago are deleted when all of them together pass CACHE_MEGABYTES.

    Returns:
        The root to give to the Sketchy adapter.

    Raises:
        OSError: one sentence, when the cache cannot be written.
    """
    cache = user_cache_path("sfhelpers") / "toyworld"
    world = cache / f"v{VERSION}-seed{seed}-difficulty{difficulty:g}-{photos}x{sketches}"
    with writing(cache, CACHE_REMEDY):
        cache.mkdir(parents=True, exist_ok=True)
        if not world.exists():
            with tempfile.TemporaryDirectory(dir=cache, prefix="part-") as part:
                write_sketchy(Path(part) / "world", photos, sketches, seed, difficulty)
                if not world.exists():  # another process may have been faster
                    os.replace(Path(part) / "world", world)
        os.utime(world)
        _forget_oldest(cache, keep=world)
    return world


def _forget_oldest(cache: Path, keep: Path) -> None:
    worlds = sorted(
        (p for p in cache.iterdir() if p.name.startswith("v")), key=lambda p: p.stat().st_mtime, reverse=True
    )
    total = 0.0
    for world in [keep, *(w for w in worlds if w != keep)]:
        total += sum(f.stat().st_size for f in world.rglob("*.*") if f.is_file()) / 1e6
        if total > CACHE_MEGABYTES and world != keep:
            shutil.rmtree(world)
