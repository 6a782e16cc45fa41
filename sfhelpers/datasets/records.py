"""What every dataset gives: records of files, the choice among them, and the pairing of sketches with photos."""

import hashlib
import os
import re
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import cycle
from os.path import isdir, isfile
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from sfhelpers import images
from sfhelpers.files import file_sha256, reading, shown

HIDDEN = re.compile(r"\.|filelist\.txt$")  # the latter lies in TU-Berlin's png/
PLURAL = {"photo": "photos", "sketch": "sketches"}
LONGEST = 255 - len("_overlay.png")  # bytes of a photo's name without its ending, of which 04 names pictures
PARTS = {"train": 0.60, "val": 0.15, "test": 0.25}
nfc = partial(unicodedata.normalize, "NFC")  # the same letters come as other bytes from another system


@dataclass(frozen=True, slots=True)
class Record:
    path: Path
    domain: str  # "photo" or "sketch"
    category: str
    instance: str  # a photo's file name without extension; a sketch of Sketchy has its photo's, any other its own
    mask: Path | None = None  # the file of a photo's exact mask
    part: str = "test"  # or "train" or "val"
    seen: bool = True  # False for a category that training must not see
    also: tuple[tuple[str, Path], ...] = ()  # what else a photo shows: categories, sorted, and the files of their masks

    @property
    def things(self) -> tuple[str, ...]:
        """The categories of all that is shown, its own first."""
        return self.category, *(category for category, _ in self.also)

    @property
    def masks(self) -> dict[str, Path]:
        """Category -> mask file of all that a photo shows, its own first; empty without masks."""
        return {self.category: self.mask, **dict(self.also)} if self.mask else {}

    @property
    def digest(self) -> str:
        """The sha256 of the file: by it an image is known under any name."""
        return file_sha256(self.path)


@dataclass(frozen=True)
class Dataset:
    """Records of photos and sketches, ordered by domain, category and file name."""

    name: str
    root: Path
    split: str
    records: tuple[Record, ...]

    @cached_property
    def photos(self) -> tuple[Record, ...]:
        return tuple(record for record in self.records if record.domain == "photo")

    @cached_property
    def sketches(self) -> tuple[Record, ...]:
        return tuple(record for record in self.records if record.domain == "sketch")

    @cached_property
    def categories(self) -> tuple[str, ...]:
        return tuple(sorted({record.category for record in self.records}))

    def select(
        self, part: str = "", seen: bool | None = None, categories: Collection | None = None, masked: bool | None = None
    ) -> "Dataset":
        """The records for which everything given holds. `masked` asks photos alone; sketches have no masks."""
        found = (r for r in self.records if part in ("", r.part) and seen in (None, r.seen))
        found = (r for r in found if categories is None or r.category in categories)
        asked = (r for r in found if masked is None or r.domain == "sketch" or (r.mask is not None) == masked)
        return replace(self, records=tuple(asked))


def pairs(dataset: Dataset) -> list[tuple[Record, Record]]:
    """(sketch, photo) pairs: each photo with every sketch drawn from it, or else with the next of its category's.

    ValueError if a photo's category has no sketch among the records.
    """
    drawn_from: dict[tuple[str, str], list[Record]] = defaultdict(list)
    drawn_in: dict[str, list[Record]] = defaultdict(list)
    for sketch in dataset.sketches:
        drawn_from[sketch.category, sketch.instance].append(sketch)
        drawn_in[sketch.category].append(sketch)
    if lacking := [photo.category for photo in dataset.photos if photo.category not in drawn_in]:
        raise ValueError(f"no sketch of {lacking[0]!r} to pair its photos with: select records with both.")
    in_turn = {category: cycle(sketches) for category, sketches in drawn_in.items()}
    result = []
    for photo in dataset.photos:
        own = drawn_from[photo.category, photo.instance] or [next(in_turn[photo.category])]
        result += [(sketch, photo) for sketch in own]
    return result


def first_sketches(dataset: Dataset, number: int) -> Dataset:
    """The dataset with at most `number` sketches a photo, or, where sketches stand alone, all of them."""
    taken: Counter[tuple[str, str]] = Counter()
    kept = []
    for sketch in dataset.sketches:
        taken[sketch.category, sketch.instance] += 1
        kept += [sketch] * (taken[sketch.category, sketch.instance] <= number)
    return replace(dataset, records=(*dataset.photos, *kept))


def fraction(text: str) -> float:
    """A number in [0, 1) that depends on the text alone: the same on every machine, and when files are added."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:8]) / 2**64


def part_of(category: str, stem: str) -> str:
    """The part of a file by its hashed name, near the shares of PARTS; adding files moves none."""
    position = fraction(f"{plain(category)}/{stem}")
    return "train" if position < PARTS["train"] else "val" if position < PARTS["train"] + PARTS["val"] else "test"


def check_apart(train: Iterable[Record], test: Iterable[Record]) -> None:
    known = {record.digest: record for record in train}
    for record in test:
        if (other := known.get(record.digest)) is not None:
            learned, tested = (shown(f"{r.category}/{r.path.name}") for r in (other, record))
            what = f"{learned} is trained on and is the same file as the test image {tested}"
            raise ValueError(f"{what}: remove one of them.")


def fingerprint(found: Iterable[Record], more: Iterable[bytes] = ()) -> str:
    """16 hex digits that change with any image, mask, part, order or `more` (keypoints), and not with the folder."""
    digest = hashlib.sha256()
    for record in tqdm(list(found), "fingerprint of the images", leave=False, delay=2):
        masks = " ".join(f"{category} {file_sha256(path)}" for category, path in record.masks.items())
        line = f"{record.category}/{record.path.name} {record.part} {record.digest} {masks}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))  # names need not be valid UTF-8
    for piece in more:
        digest.update(piece)
    return digest.hexdigest()[:16]


def limited(records: list[Record], limit: int, seed: int) -> list[Record]:
    """At most `limit` records a category (0 = all), chosen by seed, the parts kept near their shares."""
    if limit < 0:
        raise ValueError(f"limit is {limit}: pass 0 for all of them, or the most you want of a category.")
    if limit == 0:
        return records
    taken: Counter[tuple[str, str]] = Counter()
    # The k-th record of a part with share s stands at (k + 1/2) / s, so every beginning of that queue is mixed.
    queues: dict[str, list[tuple[float, Record]]] = defaultdict(list)
    for record in sorted(records, key=lambda r: (fraction(f"{seed}/{r.category}/{r.path.name}"), r.path.name)):
        queues[record.category].append(((taken[record.category, record.part] + 0.5) / PARTS[record.part], record))
        taken[record.category, record.part] += 1
    chosen = [record for queue in queues.values() for _, record in sorted(queue, key=lambda e: e[0])[:limit]]
    return sorted(chosen, key=lambda record: (record.category, record.path.name))


def called(name: str) -> str:
    """What a class is called after its folder: what can be printed of it, composed, 60 letters at most."""
    name = shown(nfc(name))
    return name if len(name) <= 60 else f"{name[:53]}…{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def plain(category: str) -> str:
    """A category's name for comparing: `hot-air_balloon`, `hot_air_balloon` and `hot air balloon` are one."""
    return nfc(category).casefold().replace("-", "_").replace(" ", "_")


def listed(names: Iterable[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(shown, names[:most])) + more


def contents(folder: Path) -> str:
    """What a folder holds, for error messages: `photo/, sketch/ and 2 more`, or `nothing`."""
    return listed(path.name + "/" * isdir(path) for path in entries(folder)) or "nothing"


def image_files(folder: Path, skip_broken: bool = False, loose: bool = False) -> dict[str, list[Path]]:
    """Category (the subfolder; "" for `loose` images beside it) to its image files, sorted; what else is visible there
    is counted in warnings. A subfolder that cannot be read is told as in `tell_broken`, and has no files."""
    found: dict[str, list[Path]] = {}
    lost: list[Path] = []
    closed: list[str] = []
    kinds: Counter[str] = Counter()
    for place in entries(folder):
        try:
            category = called(place.name) if place.is_dir() else ""
            lost += [place] * (not place.exists() and not place.suffix)
            for path in entries(place) if category else [place]:
                below = (p for p in path.rglob("*") if not (isdir(p) or "/." in p.relative_to(folder).as_posix()))
                for file in below if path.is_dir() else [path]:
                    if file.suffix.lower() not in images.EXTENSIONS:
                        kinds[file.suffix.lower() or "without an ending"] += isfile(file)
                    elif file == path and path.is_file() and (category or loose):
                        found.setdefault(category, []).append(path)
                    else:
                        lost.append(file)
        except OSError as error:
            found[called(place.name)] = []
            closed.append(f"{place.name} cannot be read ({os.strerror(error.errno)})")
    tell_broken(closed, f"{len(closed)} folders", folder, skip_broken)
    if lost:
        named = listed(sorted(path.relative_to(folder) for path in lost))
        what = "links that lead nowhere, what is no file and images in no class's own folder are left out"
        warnings.warn(f"{what} under {shown(folder)} ({len(lost)} in all): {named}.", stacklevel=3)
    if told := [f"{number} {shown(kind)}" for kind, number in kinds.most_common() if number]:
        what = f"files of kinds that are not read are left out under {shown(folder)}"
        warnings.warn(f"{what} ({listed(told, 9)}): save those that are wanted as PNG or JPEG.", stacklevel=3)
    return found


def images_in(places: Mapping[str, Path], root: Path, remedy: str, skip_broken: bool) -> dict[str, dict]:
    """Domain -> `image_files` of its place, without the classes that one domain's cannot be read of; a ValueError tells
    what is there instead if there are none."""
    files = {domain: image_files(place, skip_broken) for domain, place in places.items()}
    for domain, folder in ((domain, place) for domain, place in places.items() if not any(files[domain].values())):
        upper = next(path for path in (folder, *folder.parents) if path.is_dir())
        wanted = f"{shown(folder)}/<class>/* with one of {' '.join(images.EXTENSIONS)}"
        why = f"no {PLURAL[domain]} under {shown(root)}: expected {wanted} (found in {shown(upper)}: {contents(upper)})"
        raise ValueError(f"{why}; {remedy}, or pass -p data_root.")
    return without_closed(files)


def without_closed(files: dict[str, dict]) -> dict[str, dict]:
    """Files by domain and class, without the classes that one domain's cannot be read of."""
    closed = {category for found in files.values() for category, paths in found.items() if not paths}
    return {d: {c: paths for c, paths in found.items() if c not in closed} for d, found in files.items()}


def masks_in(place: Path, photos: dict[str, list[Path]], skip_broken: bool) -> dict[tuple[str, str], dict[str, Any]]:
    """(category, stem) of a photo with a mask -> `mask` and `also` of its record, in `place/<category>/<stem>.png`."""
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


def entries(folder: Path) -> list[Path]:
    """What is not hidden in a folder; nothing in a file."""
    with reading(folder):
        return sorted(path for path in folder.iterdir() if not HIDDEN.match(path.name)) if folder.is_dir() else []


def without_broken(found: list[Record], root: Path, skip_broken: bool, name: str = "") -> list[Record]:
    """Decode every image once, so that no damaged file stops the work later; errors as of `tell_broken`."""
    problems = {r.path: _problem(r, root) for r in tqdm(found, desc="checking images", leave=False)}
    told = [problem for problem in problems.values() if problem]
    tell_broken(told, f"{len(told)} of {len(found)} images", root, skip_broken, name)
    return [record for record in found if not problems[record.path]]


def tell_broken(problems: list[str], counted: str, root: Path, skip_broken: bool, name: str = "") -> None:
    """If dataset `name` has problems, a ValueError that names some, or, with `skip_broken`, a warning."""
    summary = f"{counted} under {shown(root)} cannot be used"
    if problems and not skip_broken:
        anew = "delete this folder, so that the toy world is drawn anew"
        remedy = anew if name.startswith("toy") else "make them readable, replace or repair them"
        raise ValueError(f"{summary} ({listed(problems)}): {remedy}, or pass skip_broken=True to leave them out.")
    if problems:
        warnings.warn(f"{summary} and are skipped: {listed(problems, most=20)}.", stacklevel=4)


def _problem(record: Record, root: Path) -> str:
    if record.domain == "photo" and (size := len(os.fsencode(record.path.stem))) > LONGEST:
        return f"{record.path.relative_to(root)} has a name of {size} bytes, more than {LONGEST} before its ending"
    for path in (record.path, *record.masks.values()):
        if found := images.problem(path, record.domain if path is record.path else "mask"):
            return f"{path.relative_to(root)} {found}"
        if (mask := images.image_size(path)) != (photo := images.image_size(record.path)):
            return "{} is {} x {} pixels and its photo {} x {}".format(path.relative_to(root), *mask, *photo)
    return ""
