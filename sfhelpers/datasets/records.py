"""What every dataset gives: records of files, the choice among them, and the pairing of sketches with photos."""

import hashlib
import unicodedata
import warnings
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import cycle
from pathlib import Path

from tqdm.auto import tqdm

from sfhelpers import images
from sfhelpers.files import shown

PLURAL = {"photo": "photos", "sketch": "sketches"}
PARTS = {"train": 0.60, "val": 0.15, "test": 0.25}


@dataclass(frozen=True)
class Record:
    """One image file."""

    path: Path
    domain: str  # "photo" or "sketch"
    category: str
    instance: str  # a photo's file name without extension; a sketch of Sketchy has its photo's, any other its own
    mask: Path | None = None  # the file of a photo's exact mask
    part: str = "test"  # or "train" or "val"
    seen: bool = True  # False for a category that training must not see


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

    @cached_property
    def has_masks(self) -> bool:
        """Whether any photo has a mask; `select(masked=True)` gives those that do."""
        return any(photo.mask is not None for photo in self.photos)

    def select(
        self,
        part: str | None = None,
        seen: bool | None = None,
        domain: str | None = None,
        categories: Collection[str] | None = None,
        masked: bool | None = None,
    ) -> "Dataset":
        """The records for which everything given holds. `masked` asks photos alone; sketches have no masks."""

        def wanted(record: Record) -> bool:
            return (
                (part is None or record.part == part)
                and (seen is None or record.seen == seen)
                and (domain is None or record.domain == domain)
                and (categories is None or record.category in categories)
                and (masked is None or record.domain == "sketch" or (record.mask is not None) == masked)
            )

        return replace(self, records=tuple(filter(wanted, self.records)))


def pairs(dataset: Dataset) -> list[tuple[Record, Record]]:
    """(sketch, photo) pairs: each photo with every sketch drawn from it, or else with one sketch of its category.

    The latter are dealt out in turn, in the order of their names, so that all of a category's sketches get used.
    ValueError if a photo's category has no sketch among the records.
    """
    drawn_from: dict[tuple[str, str], list[Record]] = {}
    drawn_in: dict[str, list[Record]] = {}
    for sketch in dataset.sketches:
        drawn_from.setdefault((sketch.category, sketch.instance), []).append(sketch)
        drawn_in.setdefault(sketch.category, []).append(sketch)
    if lacking := [photo.category for photo in dataset.photos if photo.category not in drawn_in]:
        raise ValueError(f"no sketch of {lacking[0]!r} to pair its photos with: select records with both.")
    in_turn = {category: cycle(sketches) for category, sketches in drawn_in.items()}
    result = []
    for photo in dataset.photos:
        own = drawn_from.get((photo.category, photo.instance)) or [next(in_turn[photo.category])]
        result += [(sketch, photo) for sketch in own]
    return result


def first_sketches(dataset: Dataset, number: int) -> Dataset:
    """The dataset with at most `number` sketches a photo, or, where sketches stand alone, all of them."""
    seen: Counter[tuple[str, str, str]] = Counter()
    kept = []
    for record in dataset.records:
        key = (record.domain, record.category, record.instance)
        seen[key] += 1
        if record.domain == "photo" or seen[key] <= number:
            kept.append(record)
    return replace(dataset, records=tuple(kept))


def fraction(text: str) -> float:
    """A number in [0, 1) that depends on the text alone: the same on every machine, and when files are added."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:8]) / 2**64


def part_of(category: str, stem: str) -> str:
    """The part of a file by its hashed name: about 60 % train, 15 % val, 25 % test; adding files moves none."""
    position = fraction(f"{plain(category)}/{stem}")
    if position < PARTS["train"]:
        return "train"
    return "val" if position < PARTS["train"] + PARTS["val"] else "test"


def limited(records: list[Record], limit: int, seed: int) -> list[Record]:
    """At most `limit` records a category (0 = all), chosen by seed, the parts kept near their shares.

    The k-th record of a part with share s stands at (k + 1/2) / s, so every beginning of that queue is mixed.
    """
    if limit < 0:
        raise ValueError(f"limit is {limit}: pass 0 for all of them, or the most you want of a category.")
    if limit == 0:
        return records
    taken: Counter[tuple[str, str]] = Counter()
    queues: dict[str, list[tuple[float, Record]]] = {}
    for record in sorted(records, key=lambda r: (fraction(f"{seed}/{r.category}/{r.path.name}"), r.path.name)):
        key = (record.category, record.part)
        queues.setdefault(record.category, []).append(((taken[key] + 0.5) / PARTS[record.part], record))
        taken[key] += 1
    chosen = [record for queue in queues.values() for _, record in sorted(queue, key=lambda e: e[0])[:limit]]
    return sorted(chosen, key=lambda record: (record.category, record.path.name))


def nfc(name: str) -> str:
    """The composed form of a name: the same letters come as other bytes from another system."""
    return unicodedata.normalize("NFC", name)


def plain(category: str) -> str:
    """A category's name for comparing: `hot-air_balloon`, `hot_air_balloon` and `hot air balloon` are one."""
    return nfc(category).casefold().replace("-", "_").replace(" ", "_")


def listed(names: Iterable[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    names = list(names)
    text = ", ".join(shown(name) for name in names[:most])
    return text + (f" and {len(names) - most} more" if len(names) > most else "")


def contents(folder: Path) -> str:
    """What a folder holds, for error messages: `photo/, sketch/ and 2 more`, or `nothing`."""
    if not folder.is_dir():
        return "no such folder"
    return listed(path.name + "/" * path.is_dir() for path in _entries(folder)) or "nothing"


def image_files(folder: Path) -> dict[str, list[Path]]:
    """Category (name of the subfolder) to its image files, sorted; what is hidden or no image is left out.

    Links that lead nowhere and images one folder deeper are counted in a warning.
    """
    found: dict[str, list[Path]] = {}
    lost: list[Path] = []
    for subfolder in _entries(folder):
        if not subfolder.is_dir():
            lost += [subfolder] * (_leads_nowhere(subfolder) and not subfolder.suffix)
            continue
        files = []
        for path in _entries(subfolder):
            if not _has_image_name(path):
                lost += [inner for inner in _entries(path) if _has_image_name(inner)] if path.is_dir() else []
            elif path.is_file():
                files.append(path)
            elif _leads_nowhere(path):
                lost.append(path)
        if files:
            found.setdefault(nfc(subfolder.name), []).extend(files)
    if lost:
        warnings.warn(
            f"links that lead nowhere and images in a folder inside a class are left out under {shown(folder)} "
            f"({len(lost)} in all): {listed(_under(path, folder) for path in lost)}.",
            stacklevel=3,
        )
    return found


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _has_image_name(path: Path) -> bool:
    return path.suffix.lower() in images.EXTENSIONS


def _leads_nowhere(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def without_broken(records: list[Record], root: Path, skip_broken: bool, repair: str = "replace them") -> list[Record]:
    """Decode every image once, so that no damaged file stops the work later; errors as of `tell_broken`."""
    found = {record.path: _problem(record, root) for record in tqdm(records, desc="checking images", leave=False)}
    problems = [problem for problem in found.values() if problem]
    tell_broken(problems, f"{len(problems)} of {len(records)} images", root, skip_broken, repair)
    return [record for record in records if not found[record.path]]


def tell_broken(problems: list[str], counted: str, root: Path, skip_broken: bool, repair: str) -> None:
    """If there are problems, a ValueError that names some, or, with `skip_broken`, a warning that names them."""
    summary = f"{counted} under {shown(root)} cannot be used"
    if problems and not skip_broken:
        raise ValueError(f"{summary} ({listed(problems)}): {repair}, or pass skip_broken=True to leave them out.")
    if problems:
        warnings.warn(f"{summary} and are skipped: {listed(problems, most=20)}.", stacklevel=4)


def _problem(record: Record, root: Path) -> str:
    found = images.problem(record.path)
    if found:
        return f"{_under(record.path, root)} {found}"
    if record.mask is None:
        return ""
    found = images.problem(record.mask)
    if not found and (sizes := (images.image_size(record.mask), images.image_size(record.path)))[0] != sizes[1]:
        found = "is {0[0]} x {0[1]} pixels and its photo {1[0]} x {1[1]}".format(*sizes)
    return f"{_under(record.mask, root)} {found}" if found else ""


def _under(path: Path, root: Path) -> str:
    return str(path.relative_to(root))


def given_folder(name: str, root: str | Path, no_folder: str) -> Path:
    """The folder given for a dataset; an error of one sentence if there is none."""
    base = Path(root).expanduser()
    if not str(root):
        raise ValueError(f"dataset {name!r} needs to know where your files are: pass -p data_root FOLDER.")
    if not base.exists():
        raise FileNotFoundError(f"data_root {shown(base)} does not exist: check -p data_root.")
    if not base.is_dir():
        raise NotADirectoryError(f"data_root {shown(base)} {no_folder}")
    return base


def own_names(categories: Collection[str], there: Iterable[str], root: Path, more: str = "") -> set[str]:
    """The names under which categories are there, whatever their dashes, spaces and capitals."""
    there = list(there)
    known = {plain(name): name for name in there}
    if missing := [name for name in categories if plain(name) not in known]:
        raise ValueError(
            f"there is no category {listed(missing)} under {shown(root)} (it has {listed(there)}): "
            f"correct the list of categories{more}."
        )
    return {known[plain(name)] for name in categories}


def require_both(records: list[Record], root: Path) -> None:
    """ValueError unless every category has a photo and a sketch."""
    for category in sorted({record.category for record in records}):
        domains = {record.domain for record in records if record.category == category}
        for missing in {"photo", "sketch"} - domains:
            where = shown(root)
            raise ValueError(f"{category!r} under {where} is left without a usable {missing}: add one or take it away.")
    if not records:
        raise ValueError(f"no usable image is left under {shown(root)}: replace the broken files.")
