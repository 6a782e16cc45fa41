"""One adapter for all that is laid out in folders as published: where the files lie, what they are, and whose."""

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from os.path import isdir
from pathlib import Path
from typing import NamedTuple

from sfhelpers.datasets import published, records
from sfhelpers.datasets.records import Record
from sfhelpers.files import read_file, reading, shown

FAR = 4  # folders above the one that is passed in which the files are looked for; below it, 2
SVG = "python -m sfhelpers.datasets draw FOLDER NEW_FOLDER makes pictures of SVG files"


Role = Callable[[Record, bool], Record]  # a photo or a sketch of its own, and whether others are of its class


class Tree(NamedTuple):
    base: Path
    places: dict[str, list[Path]]  # domain -> the folders of its classes or files, [] if there are none

    @property
    def complete(self) -> bool:
        return all(self.places.values())


def locate(entry: dict, root: Path) -> Tree:
    """The tree of a dataset in or within a folder as published, or whole in one further below or above."""
    trees = [_tree(entry, root / inner) for inner in entry["within"]]
    found = max(trees, key=lambda tree: sum(map(bool, tree.places.values())))
    if found.complete:
        return found
    return next((tree for base in around(entry, root) if (tree := _tree(entry, base)).complete), found)


def around(entry: dict, root: Path) -> Iterator[Path]:
    """Where else the files may be: the folders below a folder, and above it, and what is within these."""
    return (base / inner for base in chain(_below(root), root.parents[:FAR]) for inner in entry["within"])


def moved(base: Path, entry: dict, root: Path) -> str:
    """Where the files lie instead, "" if within the folder that was passed as published."""
    if base in {root / inner for inner in entry["within"]}:
        return ""
    level = "above" if root.is_relative_to(base) else "below"
    return f"{entry['title']} lies {level} {shown(root)}, in {shown(base)}: pass that folder next time."


def _tree(entry: dict, base: Path) -> Tree:
    places = {}
    for domain, side in entry["sides"].items():
        options = ([_named(base, place) for place in option] for option in side["places"])
        places[domain] = next((option for option in options if all(map(isdir, option))), [])
    return Tree(base, places)


def _named(base: Path, place: str) -> Path:
    """The folder of that name, whatever its case."""
    for part in place.split("/"):
        exact, alike = base / part, (name for name in _folders(base) if name.casefold() == part.casefold())
        base = exact if isdir(exact) else base / next(alike, part)
    return base


def _below(root: Path, depth: int = 2) -> Iterator[Path]:
    found = [root / name for name in _folders(root)] if depth else []
    yield from found
    for folder in found:
        yield from _below(folder, depth - 1)


def _folders(base: Path) -> list[str]:
    try:
        with os.scandir(base) as entries:
            return sorted(item.name for item in entries if item.is_dir() and item.name[:1] not in "._")
    except OSError:
        return []


def read(entry: dict, tree: Tree, role: Role, limit: int = 0, seed: int = 0, skip_broken: bool = False) -> list[Record]:
    """Records of a dataset of `published`, the names of its classes spelled as published.

    Sketches that were drawn from photos are in their photo's part, or left out with a warning where it is not there;
    others have a role of their own. `limit` and `seed` choose what has one. ValueError if there are no files or no
    class with both photos and sketches, and for masks of no photo.
    """
    files = records.without_closed({domain: _classes(entry, tree, domain, skip_broken) for domain in entry["sides"]})
    keyed = keys(entry, tree)
    if len(files) > 1 and not files["photo"].keys() & files["sketch"].keys():
        has = " and ".join(f"{domain}/ has {records.listed(sorted(found))}" for domain, found in files.items())
        raise ValueError(f"no category under {shown(tree.base)} has both photos and sketches ({has}): rename them.")
    known = records.masks_in(tree.base / entry["masks"], files["photo"], skip_broken) if "masks" in entry else {}
    own: dict[str, list[Record]] = {domain: [] for domain in files if domain == "photo" or not keyed.sketch}
    for domain, found in own.items():
        for category, path in _sorted(files[domain]):
            more = known.get((category, records.nfc(path.stem)), {}) if domain == "photo" else {}
            stem = Keys.of(keyed.photo, path.parent.name, path.stem) if keyed.sketch else records.nfc(path.stem)
            found.append(role(Record(path, domain, category, stem, **more), len(files[domain][category]) > 1))
    chosen = [record for found in own.values() for record in records.limited(found, limit, seed)]
    if not keyed.sketch:
        return chosen
    photos, kept, orphans = {(photo.category, photo.instance): photo for photo in own["photo"]}, set(chosen), []
    for category, path in _sorted(files["sketch"]):
        if photo := photos.get((category, Keys.of(keyed.sketch, path.parent.name, path.stem))):
            chosen += [replace(photo, path=path, domain="sketch", mask=None, also=())] * (photo in kept)
        else:
            orphans.append(path.name)
    if orphans:
        what = f"{len(orphans)} sketches under {shown(tree.base)} have no photo and are left out"
        warnings.warn(f"{what}: {records.listed(orphans)}.", stacklevel=3)
    return chosen


def _classes(entry: dict, tree: Tree, domain: str, skip_broken: bool) -> dict[str, list[Path]]:
    spelled, category, found = published.spellings(entry), entry.get("category", ""), {}
    for place in tree.places[domain]:
        for called, paths in records.image_files(place, skip_broken, loose=bool(category)).items():
            found.setdefault(category or spelled.get(published.compared(called), called), []).extend(paths)
    if not any(found.values()):
        raise ValueError(lacking(entry, tree, domain))
    return found


def _sorted(files: dict[str, list[Path]]) -> Iterator[tuple[str, Path]]:
    return ((category, path) for category, paths in sorted(files.items()) for path in paths)


class Keys(NamedTuple):
    """Patterns of `<folder>/<stem>` whose first group is the photo, or which one was drawn from ("" for none)."""

    photo: str = ".*/(.+)"
    sketch: str = ""

    @staticmethod
    def of(pattern: str, folder: str, stem: str) -> str:
        found = re.fullmatch(pattern, f"{folder}/{stem}")
        return found[1] if found else ""


def keys(entry: dict, tree: Tree) -> Keys:
    drawn = entry["sides"]["sketch"].get("drawn", "")
    if entry.get("nested") and any(all(map(isdir, records.entries(place))) for place in tree.places["photo"]):
        return Keys("(.+)/.*", "(.+)/.*")  # a folder for each individual
    return Keys(sketch=f".*/{drawn}" if drawn else "")


def lacking(entry: dict, tree: Tree, domain: str) -> str:
    """The sentence for a side without files: what was expected, and what lies there instead."""
    options = [tree.base / place for option in entry["sides"][domain]["places"][:1] for place in option]
    folder = (tree.places[domain] or options)[0]
    with reading(tree.base):  # a closed folder shows none below it
        upper = next(path for path in (folder, *folder.parents) if path.is_dir())
    kind = "/*" if "category" in entry else "/<class>/*"
    why = f"expected {shown(folder)}{kind} (found in {shown(upper)}: {records.contents(upper)})"
    drawn = any(next(folder.glob(kind), None) for kind in ("*.svg", "*/*.svg") if tree.places[domain])
    remedy = SVG if drawn else f"unpack its archive there, or {published.where(entry)[:-1]}"
    return f"no {records.PLURAL[domain]} under {shown(tree.base)}: {why}; {remedy}."


def role_of(entry: dict, base: Path, split: str) -> Role:
    """What a split of a dataset makes of a record."""
    return listed(entry, base, split) if "tested" in entry else by_class(published.unseen(entry, split))


def by_class(unseen: Iterable[str]) -> Role:
    """Parts by hashed names; what shows anything of an unseen class, and a lone one, is tested."""
    names = set(map(published.compared, unseen))

    def role(record: Record, several: bool) -> Record:
        taught = several and names.isdisjoint(map(published.compared, record.things))
        part = records.part_of(record.category, record.instance) if taught else "test"
        return replace(record, part=part, seen=published.compared(record.category) not in names)

    return role


def listed(entry: dict, base: Path, split: str) -> Role:
    """Parts by published lists of what is tested, or by the folder that it lies in; hashed names choose validation."""
    splits = entry["tested"]
    names = splits[next(iter(splits)) if split == "default" else split]
    tested = {stem for name in names if (base / name).is_file() for stem in stems(base / name)}
    folders = [base / name for name in names if isdir(base / name)]
    if not (tested or folders):
        why = f"no list of what is tested under {shown(base)}: expected {names[0]}"
        raise ValueError(f"{why}; {published.where(entry)}")

    def role(record: Record, several: bool) -> Record:
        if _plain(record.instance) in tested or any(record.path.is_relative_to(folder) for folder in folders):
            return replace(record, part="test")
        validates = records.part_of(record.category, record.instance) == "val"
        return replace(record, part="val" if validates else "train")

    return role


def stems(path: Path) -> Iterator[str]:
    """The stems that a published list names, a line each, with or without folders, endings and leading zeros."""
    for line in read_file(path).decode("utf-8-sig", "replace").splitlines():
        if name := line.strip().replace("\\", "/").rpartition("/")[2]:
            yield _plain(re.sub(r"\.(png|jpe?g|svg)$", "", name, flags=re.IGNORECASE))


def _plain(stem: str) -> str:
    return stem.lstrip("0") or stem if stem.isdecimal() else records.nfc(stem)
