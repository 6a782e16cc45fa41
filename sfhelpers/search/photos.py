"""Where a folder's photos and sketches lie, in every layout that people have."""

from pathlib import Path

from sfhelpers.datasets import Record, records, sketchy
from sfhelpers.files import shown
from sfhelpers.images import EXTENSIONS


def usable_photos(root: Path, limit: int = 0, seed: int = 0, skip_broken: bool = False) -> list[Record]:
    """Records of a folder's photos, each of which opens."""
    if not root.exists():
        raise FileNotFoundError(f"there is no folder {shown(root)}: pass the folder that holds your photos.")
    if not root.is_dir():
        raise NotADirectoryError(f"{shown(root)} is a file: pass the folder that holds your photos.")
    found = find_images(root, "photo")
    if not found:
        raise ValueError(
            f"no photo found under {shown(root)}: expected photo/<class>/*, <class>/* or the photos themselves "
            f"with one of {' '.join(EXTENSIONS)} (found: {records.contents(root)})."
        )
    usable = records.without_broken(records.limited(found, limit, seed), root, skip_broken)
    if not usable:
        raise ValueError(f"no usable photo is left under {shown(root)}: replace the broken files.")
    return usable


def find_images(root: Path, domain: str) -> list[Record]:
    """Records of a folder's photos or sketches, by category and name; empty if there are none.

    Looked for are, in this order, Sketchy's `256x256/<domain>/tx_000100000000/<class>/*`, then `<domain>/<class>/*`
    and `<domain>/*`, and, for photos alone, `<class>/*` and `*` in the folder itself.
    """
    places = [root / "256x256" / domain / sketchy.RENDERING, root / domain / sketchy.RENDERING, root / domain]
    for place in [*places, *([root] if domain == "photo" else [])]:
        if not place.is_dir():
            continue
        loose = [path for path in sorted(place.iterdir()) if path.suffix.lower() in EXTENSIONS and path.is_file()]
        files = {"": [path for path in loose if not path.name.startswith(".")]} | records.image_files(place)
        found = [Record(path, domain, name, path.stem) for name, paths in sorted(files.items()) for path in paths]
        if found:
            return found
    return []
