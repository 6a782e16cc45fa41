"""The Sketchy database (Sangkloy et al. 2016) as its `rendered_256x256` archive lays it out, masks optional."""

import warnings
from collections.abc import Collection
from dataclasses import replace
from os.path import isdir
from pathlib import Path

from sfhelpers.datasets import records
from sfhelpers.datasets.records import Record
from sfhelpers.files import shown

# The categories never seen in training in the 104/21 split (Yelamarthi et al. 2018) that the papers use.
UNSEEN = (
    "bat", "cabin", "cow", "dolphin", "door", "giraffe", "helicopter", "mouse", "pear", "raccoon", "rhinoceros",
    "saw", "scissors", "seagull", "skyscraper", "songbird", "sword", "tree", "wheelchair", "windmill", "window",
)  # fmt: skip
RENDERING = "tx_000100000000"  # photos cropped to the object's box plus 10 %; sketches centred


def read(root: Path, unseen: Collection[str], limit: int = 0, seed: int = 0, skip_broken: bool = False) -> list[Record]:
    """Records of `256x256/{photo,sketch}/tx_000100000000/<category>/*` and masks `256x256/mask/.../<stem>.png`.

    Sketch `n02691156_58-1.png` was drawn from photo `n02691156_58.jpg` and is in its part; photos that show anything of
    an unseen category and lone ones are tested. `limit` and `seed` choose photos, which keep all their sketches.
    """
    base = tree(root)
    places = {domain: base / domain / RENDERING for domain in records.PLURAL}
    files = records.images_in(places, base, "unpack rendered_256x256 there", skip_broken)
    if not files["photo"].keys() & files["sketch"].keys():
        has = " and ".join(f"{domain}/ has {records.listed(sorted(found))}" for domain, found in files.items())
        raise ValueError(f"no category under {shown(base)} has both photos and sketches ({has}): make the names equal.")
    unseen, photos = {records.plain(name) for name in unseen}, []
    masks = records.masks_in(base / "mask" / RENDERING, files["photo"], skip_broken)
    for category, paths in sorted(files["photo"].items()):
        seen = records.plain(category) not in unseen
        for path in paths:
            record = Record(path, "photo", category, path.stem, **masks.get((category, records.nfc(path.stem)), {}))
            taught = len(paths) > 1 and unseen.isdisjoint(map(records.plain, record.things))
            part = records.part_of(category, path.stem) if taught else "test"
            photos.append(replace(record, part=part, seen=seen))
    drawn, found, orphans = {(photo.category, photo.instance): photo for photo in photos}, {}, []
    for category, path in ((name, path) for name, paths in sorted(files["sketch"].items()) for path in paths):
        if photo := drawn.get((category, path.stem.rpartition("-")[0])):
            found[replace(photo, path=path, domain="sketch", mask=None, also=())] = photo
        else:
            orphans.append(path.name)
    if orphans:
        text = f"{len(orphans)} sketches under {shown(base)} have no photo and are left out: {records.listed(orphans)}."
        warnings.warn(text, stacklevel=3)
    chosen = records.limited(photos, limit, seed)
    kept = set(chosen)
    return chosen + [sketch for sketch, photo in found.items() if photo in kept]


def tree(root: Path) -> Path:
    """The folder `256x256` of a root that is it or holds it, alone or within the folders that it is published in."""
    places = [root / place / "256x256" for place in ("", "rendered_256x256", "Sketchy/rendered_256x256")]
    return root if root.name == "256x256" else next(filter(isdir, places), places[0])
