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
    """Records of the user's own photos and sketches, by `limit` of each a category, chosen by `seed`.

    Split "default" makes every image a test image; "parts" divides each category's photos and sketches by their hashed
    names. A category with one photo, or too few sketches for each of its parts to have one, goes to test as a whole.
    """
    photo_files, sketch_files = _files(root, "photo"), _files(root, "sketch")
    _require_meeting(photo_files.keys(), sketch_files.keys(), root)
    masks = _masks(root, photo_files)
    found = []
    for category in sorted(photo_files):
        for domain, files in (("photo", photo_files), ("sketch", sketch_files)):
            stems = ((path, records.nfc(path.stem)) for path in files[category])
            found += [Record(p, domain, category, s, masks.get((category, s, domain))) for p, s in stems]
    if split == "parts":
        found = _parted(found)
    by_domain = ([record for record in found if record.domain == domain] for domain in ("photo", "sketch"))
    return [record for some in by_domain for record in records.limited(some, limit, seed)]


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


def _masks(root: Path, photo_files: dict[str, list[Path]]) -> dict[tuple[str, str, str], Path]:
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
    return {(*key, "photo"): path for key, path in masks.items()}


def _parted(found: list[Record]) -> list[Record]:
    parted = [replace(record, part=records.part_of(record.category, record.instance)) for record in found]
    photos: dict[str, list[str]] = {}
    sketches: dict[str, list[str]] = {}
    for record in parted:
        (photos if record.domain == "photo" else sketches).setdefault(record.category, []).append(record.part)
    whole = {c for c, parts in photos.items() if len(parts) == 1 or not set(parts) <= set(sketches[c])}
    return [replace(record, part="test") if record.category in whole else record for record in parted]
