"""Anybody's own pictures: `photo/<category>/*`, `sketch/<category>/*` and, if there, `mask/<category>/<stem>.png`."""

import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

from sfhelpers.datasets import records
from sfhelpers.datasets.records import PLURAL, Record
from sfhelpers.files import shown
from sfhelpers.images import EXTENSIONS


def read(root: Path, split: str = "default", limit: int = 0, seed: int = 0) -> list[Record]:
    """Records of the user's own photos and sketches.

    Args:
        root: the folder that holds `photo/` and `sketch/`.
        split: "default" makes every image a test image; "parts" divides each category's photos and sketches into
            about 60 % train, 15 % val and 25 % test by their hashed names, for training on them. A category
            with one photo, or with too few sketches for each of its parts to have one, goes to test as a whole.
        limit: at most so many photos, and so many sketches, a category; 0 takes all.
        seed: chooses them.

    Raises:
        ValueError: photos or sketches are not where they should be, a category has photos and no sketch, two photos
            of a category share a name, or masks belong to no photo.
    """
    photo_files, sketch_files = _files(root, "photo"), _files(root, "sketch")
    _require_meeting(photo_files.keys(), sketch_files.keys(), root)
    masks = _masks(root, photo_files)
    found = []
    for category, paths in sorted(photo_files.items()):
        found += [_record(p, "photo", category, masks.get((category, records.nfc(p.stem)))) for p in paths]
        found += [_record(path, "sketch", category) for path in sketch_files[category]]
    if split == "parts":
        found = _parted(found)
    photos = records.limited([record for record in found if record.domain == "photo"], limit, seed)
    return photos + records.limited([record for record in found if record.domain == "sketch"], limit, seed)


def _record(path: Path, domain: str, category: str, mask: Path | None = None) -> Record:
    return Record(path, domain, category, records.nfc(path.stem), mask)


def _files(root: Path, domain: str) -> dict[str, list[Path]]:
    folder = root / domain
    found = records.image_files(folder) if folder.is_dir() else {}
    if not found:
        upper = folder if folder.is_dir() else root
        kinds = " ".join(EXTENSIONS)
        raise ValueError(
            f"no {PLURAL[domain]} found under {shown(root)}: expected {shown(folder)}/<class>/* with one of {kinds} "
            f"(found in {shown(upper)}: {records.contents(upper)}); rename your folder, or pass -p data_root."
        )
    return found


def _require_meeting(photo: set[str], sketch: set[str], root: Path) -> None:
    lonely = sorted(photo - sketch)
    if lonely:
        raise ValueError(
            f"photo classes without a sketch under {shown(root)}: {records.listed(lonely)} (sketch/ has "
            f"{records.listed(sorted(sketch))}); give the folders equal names, add a sketch, or take the photos away."
        )
    unused = sorted(sketch - photo)
    if unused:
        where = shown(root)
        warnings.warn(
            f"sketch classes without a photo under {where} are left out: {records.listed(unused)}.", stacklevel=4
        )


def _masks(root: Path, photo_files: dict[str, list[Path]]) -> dict[tuple[str, str], Path]:
    """(category, stem) of a photo to its mask."""
    photos = Counter((category, records.nfc(p.stem)) for category, paths in photo_files.items() for p in paths)
    (category, stem), count = photos.most_common(1)[0]
    if count > 1:
        where = shown(root / "photo" / category)
        raise ValueError(f"{count} photos in {where} are called {stem!r} but for the extension: rename all but one.")
    if not (root / "mask").is_dir():
        return {}
    found = records.image_files(root / "mask")
    masks = {(category, records.nfc(path.stem)): path for category, paths in found.items() for path in paths}
    strays = [f"mask/{key[0]}/{path.name}" for key, path in masks.items() if key not in photos]
    if strays:
        raise ValueError(
            f"{len(strays)} masks under {shown(root)} belong to no photo ({records.listed(strays)}): "
            f"name each like its photo, mask/<class>/<stem>.png, or take it away."
        )
    return masks


def _parted(found: list[Record]) -> list[Record]:
    parted = [replace(record, part=records.part_of(record.category, record.instance)) for record in found]
    photos: dict[str, list[str]] = {}
    sketches: dict[str, list[str]] = {}
    for record in parted:
        (photos if record.domain == "photo" else sketches).setdefault(record.category, []).append(record.part)
    whole = {c for c, parts in photos.items() if len(parts) == 1 or not set(parts) <= set(sketches[c])}
    return [replace(record, part="test") if record.category in whole else record for record in parted]
