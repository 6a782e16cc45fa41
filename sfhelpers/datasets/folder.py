"""Anybody's own pictures: `photo/<category>/*`, `sketch/<category>/*` and, if there, `mask/<category>/<stem>.png`."""

import warnings
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import product
from pathlib import Path

from sfhelpers.datasets import records
from sfhelpers.datasets.records import Record
from sfhelpers.files import shown


def read(root: Path, split: str = "default", limit: int = 0, seed: int = 0, skip_broken: bool = False) -> list[Record]:
    """Records of the user's own photos and sketches, at most `limit` of each a category, chosen by `seed`."""
    places = {domain: root / domain for domain in records.PLURAL}
    files = records.images_in(places, root, "rename your folder", skip_broken)
    photo, sketch = files["photo"].keys(), files["sketch"].keys()
    if lonely := sorted(photo - sketch):
        why = f"photo classes without a sketch under {shown(root)}: {records.listed(lonely)}"
        has = f"(sketch/ has {records.listed(sorted(sketch))})"
        raise ValueError(f"{why} {has}; give the folders equal names, add a sketch, or take the photos away.")
    if unused := records.listed(sorted(sketch - photo)):
        warnings.warn(f"sketch classes without a photo under {shown(root)} are left out: {unused}.", stacklevel=3)
    masks = _masks(root, files["photo"], skip_broken)
    found = []
    for domain, category in product(files, sorted(photo)):
        stems = ((path, records.nfc(path.stem)) for path in files[domain][category])
        found += [Record(p, domain, category, s, masks.get((domain, category, s))) for p, s in stems]
    if split == "parts":
        found = _parted(found)
    by_domain = ([record for record in found if record.domain == domain] for domain in files)
    return [record for some in by_domain for record in records.limited(some, limit, seed)]


def _masks(root: Path, photo_files: dict[str, list[Path]], skip_broken: bool) -> dict[tuple[str, str, str], Path]:
    photos = Counter((category, records.nfc(p.stem)) for category, paths in photo_files.items() for p in paths)
    (category, stem), count = photos.most_common(1)[0]
    if count > 1:
        where = shown(root / "photo" / category)
        raise ValueError(f"{count} photos in {where} are called {stem!r} but for the extension: rename all but one.")
    found = records.image_files(root / "mask", skip_broken)
    masks = {(category, records.nfc(path.stem)): path for category, paths in found.items() for path in paths}
    if strays := [f"mask/{key[0]}/{path.name}" for key, path in masks.items() if key not in photos]:
        why = f"{len(strays)} masks under {shown(root)} belong to no photo ({records.listed(strays)})"
        raise ValueError(f"{why}: name each like its photo, mask/<class>/<stem>.png, or take it away.")
    return {("photo", *key): path for key, path in masks.items()}


def _parted(found: list[Record]) -> list[Record]:
    """By hashed names; a category with one photo, or without a sketch in each part of its photos, is tested whole."""
    parted = [replace(record, part=records.part_of(record.category, record.instance)) for record in found]
    parts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for record in parted:
        parts[record.category, record.domain].append(record.part)
    lone = {c for c, domain in parts if domain == "photo" and len(parts[c, domain]) == 1}
    whole = lone | {c for c, _ in list(parts) if not set(parts[c, "photo"]) <= set(parts[c, "sketch"])}
    return [replace(record, part="test") if record.category in whole else record for record in parted]
