"""Anybody's own pictures: `photo/<category>/*`, `sketch/<category>/*` and, if there, `mask/<category>/<stem>.png`."""

import warnings
from collections import defaultdict
from dataclasses import replace
from itertools import product
from pathlib import Path

from sfhelpers.datasets import records
from sfhelpers.datasets.records import Record
from sfhelpers.files import shown


def read(root: Path, split: str = "default", limit: int = 0, seed: int = 0, skip_broken: bool = False) -> list[Record]:
    """Records of the user's own photos and sketches, at most `limit` of each a category, chosen by `seed`."""
    files = records.images_in({d: root / d for d in records.PLURAL}, root, "rename your folder", skip_broken)
    photo, sketch = files["photo"].keys(), files["sketch"].keys()
    if lonely := sorted(photo - sketch):
        why = f"photo classes without a sketch under {shown(root)}: {records.listed(lonely)}"
        has = f"(sketch/ has {records.listed(sorted(sketch))})"
        raise ValueError(f"{why} {has}; give the folders equal names, add a sketch, or take the photos away.")
    if unused := records.listed(sorted(sketch - photo)):
        warnings.warn(f"sketch classes without a photo under {shown(root)} are left out: {unused}.", stacklevel=3)
    masks = {"photo": records.masks_in(root / "mask", files["photo"], skip_broken), "sketch": {}}
    found = []
    for domain, category in product(files, sorted(photo)):
        stems = ((path, records.nfc(path.stem)) for path in files[domain][category])
        found += [Record(p, domain, category, s, **masks[domain].get((category, s), {})) for p, s in stems]
    if split == "parts":
        found = _parted(found)
    by_domain = ([record for record in found if record.domain == domain] for domain in files)
    return [record for some in by_domain for record in records.limited(some, limit, seed)]


def _parted(found: list[Record]) -> list[Record]:
    """By hashed names; a category with one photo, or without a sketch in each part of its photos, is tested whole."""
    parts = {domain: defaultdict(list) for domain in records.PLURAL}
    for record in found:
        parts[record.domain][record.category].append(records.part_of(record.category, record.instance))
    sketch = parts["sketch"]
    taught = {name for name, some in parts["photo"].items() if len(some) > 1 and set(some) <= set(sketch[name])}
    return [replace(r, part=records.part_of(r.category, r.instance)) if r.category in taught else r for r in found]
