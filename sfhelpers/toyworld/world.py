"""The toy world on disk: written once in the real layouts, kept in the user's cache within a size bound."""

import io
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image
from platformdirs import user_cache_path
from tqdm.auto import tqdm

from sfhelpers.files import given, read_file, replace_file, shown, writing
from sfhelpers.toyworld.categories import CATEGORIES, individual
from sfhelpers.toyworld.scenes import render_scene
from sfhelpers.toyworld.shapes import SIZE, Keypoints, stream
from sfhelpers.toyworld.sketches import render_sketch

VERSION = 7  # raise it when rendering changes, so that no cached world of an older look is read
DIFFICULTY = 0.5
PHOTOS, SKETCHES = 32, 3  # photos a category, sketches a photo
CACHE_MEGABYTES = 500
MANIFEST = "manifest.json"  # of a cached world: the files that were drawn and their sizes in bytes
READ = (".jpg", ".png", ".csv", ".ndjson")
FRAME = 256  # pixels a side, of PSC6K's coordinates, whatever the images' own size


def write_sketchy(root: Path, photos: int = PHOTOS, sketches: int = SKETCHES, **options: Any) -> None:
    """Write the world in Sketchy's layout, with masks beside it and PSC6K's keypoints of every pair.

    `root/256x256/{photo,sketch,mask}/tx_000100000000/<category>/`, pictures 160 px wide, sketches named
    `<photo stem>-<number>.png`; a photo lies with the category that it is asked for, masks of its stem with each
    thing's own; keypoints in `root/test_pairs_ps.csv`, empty where hidden. `photos` are a category's, `sketches` a
    photo's; `options`: `seed`, `categories`, and `difficulty` and `things` as `render_scene` takes them.
    """
    pairs = _drawn(root, "256x256/{}/tx_000100000000/{}", photos, sketches, **options)
    lines = ["photo,sketch,class,XA,YA,XB,YB"]
    lines += [",".join([*names, *_columns(in_photo), *_columns(in_sketch)]) for *names, in_photo, in_sketch in pairs]
    replace_file(root / "test_pairs_ps.csv", "".join(line + "\n" for line in lines).encode("utf-8"))


def write_folder(root: Path, photos: int = PHOTOS, sketches: int = SKETCHES, **options: Any) -> None:
    """As `write_sketchy` in anybody's own layout, `root/{photo,sketch,mask}/<category>/`; `masks=False` omits them."""
    _drawn(root, "{}/{}", photos, sketches, **options)


def _drawn(
    root: Path, layout: str, photos: int, sketches: int, seed: int = 0, difficulty: float = DIFFICULTY,
    things: int = 0, categories: tuple[str, ...] = CATEGORIES, masks: bool = True,
) -> list[tuple[str, str, str, Keypoints, Keypoints]]:  # fmt: skip
    """Draw and save a world, stems as Sketchy's; returns paths, class from 1 and keypoints (8, 3) of every pair."""
    pairs = []
    for category, k in tqdm([*product(categories, range(photos))], desc="drawing the toy world", leave=False):
        number = CATEGORIES.index(category)
        path = f"{layout}/n{number:08d}_{k}"
        photo_path = path.format("photo", category) + ".jpg"
        photo, found = render_scene(category, k, seed, difficulty, things)
        save(photo, root / photo_path)
        for thing in found if masks else ():
            save(thing.mask, root / (path.format("mask", thing.category) + ".png"))
        for n in range(sketches):
            sketch_path = f"{path.format('sketch', category)}-{n + 1}.png"
            sketch, in_sketch = render_sketch(category, k, n, seed, difficulty, things)
            save(sketch, root / sketch_path)
            pairs.append((photo_path, sketch_path, str(1 + number), found[0].keypoints, in_sketch))
    return pairs


def save(pixels: NDArray, path: Path) -> None:
    options = {"format": "JPEG", "quality": 92} if path.suffix == ".jpg" else {"format": "PNG"}
    Image.fromarray(pixels).save(content := io.BytesIO(), **options)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())  # Pillow's own writing of a JPEG does not say that the disk is full


def _columns(keypoints: Keypoints) -> list[str]:
    """The x and the y of eight points, semicolons between them."""
    scaled = keypoints[:, :2] * (FRAME / SIZE)
    # Rounding to 256.0 would put a point on the frame's far edge, which is outside.
    shown = keypoints[:, 2].astype(bool) & (scaled >= 0).all(1) & (scaled < FRAME - 0.05).all(1)
    return [";".join(f"{at:.1f}" if seen else "" for at, seen in zip(axis, shown, strict=True)) for axis in scaled.T]


def keypoint_names(category: str) -> tuple[str, ...]:
    """What the eight points of a category are called, in the table's order."""
    return tuple(individual(category, stream("names")).keypoints)


def ensure() -> Path:
    """The folder of the world in Sketchy's layout, written on first use (about 20 s); OSError as `cached`."""
    return cached("toyworld", f"v{VERSION}-seed0-difficulty{DIFFICULTY:g}-{PHOTOS}x{SKETCHES}", write_sketchy)


def cached(kind: str, name: str, write: Callable[[Path], None]) -> Path:
    """A cached folder, drawn if it is not there as its manifest says, else OSError; then `_tidy`."""
    given(os.environ.get("XDG_CACHE_HOME") or "~")  # which says it where there is no home folder
    cache = user_cache_path("sfhelpers") / kind
    folder = cache / name
    whole = _is_whole(folder)
    try:
        with writing(cache, "make that folder writable, or set the variable XDG_CACHE_HOME to one that is"):
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / ".lock", timeout=0 if whole else -1):  # nobody else writes here as long as it is held
                if not (whole or _is_whole(folder)):  # another process may have drawn it meanwhile
                    _draw(folder, write)
                os.utime(folder)
                if not (cache.is_symlink() or cache.parent.is_symlink()):
                    _tidy(cache, folder)
    except OSError:  # what is whole serves also where nothing can be written, or while another process writes
        if not _is_whole(folder):
            raise
    return folder


def _sizes(folder: Path) -> dict[str, int]:
    """What is read of a world, each file with its bytes."""
    found = (path for path in folder.rglob("[!.]*") if path.suffix in READ)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}


def _is_whole(folder: Path) -> bool:
    try:
        return json.loads(read_file(folder / MANIFEST)) == _sizes(folder) != {}
    except (OSError, ValueError, RecursionError):
        return False


def _draw(folder: Path, write: Callable[[Path], None]) -> None:
    """Draw a world beside its place and put it there once it is whole, whatever lies there."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="part-") as part:
        new = Path(part) / folder.name
        write(new)
        (new / MANIFEST).write_text(json.dumps(_sizes(new)), encoding="utf-8")
        if os.path.lexists(folder):
            warnings.warn(f"{shown(folder)} was not as it had been drawn, so it was drawn anew.", stacklevel=4)
            os.replace(folder, Path(part) / "before")
        os.replace(new, folder)


def _tidy(cache: Path, folder: Path) -> None:
    """Remove what is longest unused above CACHE_MEGABYTES, and what killed processes left; nothing behind a link."""
    found = [path for path in cache.iterdir() if path.is_dir() and not path.is_symlink()]
    total = 0.0
    for path in sorted(found, key=lambda path: (path != folder, -path.stat().st_mtime)):
        left, world = path.name.startswith("part-"), path.name.startswith("v")
        total += world * sum(_sizes(path).values()) / 1e6
        if left or (world and total > CACHE_MEGABYTES and path != folder):
            shutil.rmtree(path)
