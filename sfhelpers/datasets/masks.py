"""Masks beside photos: one of a photo's own thing, and one of each other thing that it shows."""

import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from sfhelpers.datasets.records import entries, image_files, listed, nfc, tell_broken
from sfhelpers.files import shown


def masks_in(place: Path, photos: dict[str, list[Path]], skip_broken: bool) -> dict[tuple[str, str], dict[str, Any]]:
    """(category, stem) of a photo with a mask -> `mask` and `also`, as `Record` takes them.

    `place/<category>/<stem>.png` is of the photo of that category and stem, or of what it shows beside its own thing.
    """
    known = Counter((category, nfc(path.stem)) for category, paths in photos.items() for path in paths)
    for category, stem in [key for key, count in known.items() if count > 1]:
        where = shown(photos[category][0].parent)
        raise ValueError(f"some photos in {where} are called {stem!r} but for the extension: rename all but one.")
    if not place.is_dir() and (near := listed(p.name for p in entries(place.parent) if "mask" in p.name.lower())):
        warnings.warn(f"{near} under {shown(place.parent)} is not read: masks lie in {place.name}/.", stacklevel=3)
    found = image_files(place, skip_broken)
    files = [((category, nfc(path.stem)), path) for category, paths in found.items() for path in paths]
    masks, also = dict(files), defaultdict(tuple)
    own = masks.keys() & known.keys()
    of_stem = Counter(stem for _, stem in own)  # without a mask of its own thing a photo has none: a name is mistaken
    others = {key for key in masks.keys() - known.keys() if of_stem[key[1]] == 1}
    for category, stem in sorted(others):
        also[stem] += ((category, masks[category, stem]),)
    fitting = {masks[key] for key in own | others}
    lone = [path.relative_to(place) for _, path in files if path not in fitting]
    why = "is named like no photo with a mask of its own class, mask/<class>/<stem>.png, like several or another mask"
    tell_broken([f"{name} {why}" for name in lone], f"{len(lone)} of {len(files)} masks", place, skip_broken)
    return {key: {"mask": masks[key], "also": also[key[1]]} for key in own}
