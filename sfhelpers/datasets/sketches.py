"""Sketches with a category each and no photo beside them: Quick, Draw!, the toy world's own, or a folder's."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from sfhelpers.datasets import DRAWN_ANEW, load_dataset, quickdraw, records
from sfhelpers.datasets.contents import check_apart
from sfhelpers.datasets.quickdraw import Doodle
from sfhelpers.datasets.records import Record
from sfhelpers.files import shown
from sfhelpers.images import load_images
from sfhelpers.toyworld import quick

VALIDATION = 4  # sketches a category to choose by, and never more than are learned from
NAMES = ("toy", "quickdraw", "folder")


@dataclass(frozen=True)
class Sketches:
    """Sketches in order of category and place, none of them in memory; name, root and split say where from."""

    name: str
    root: Path
    split: str
    items: tuple[Doodle | Record, ...]

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def categories(self) -> tuple[str, ...]:
        return tuple(sorted({item.category for item in self.items}))

    def select(self, part: str | None = None, categories: Collection[str] | None = None) -> "Sketches":
        """Those of a part, of some categories, or both."""
        of_part = (item for item in self.items if part is None or item.part == part)
        return replace(self, items=tuple(i for i in of_part if categories is None or i.category in categories))

    def few(self, number: int, seed: int = 0) -> "Sketches":
        """At most `number` of each category, the same for the same seed; fewer are always among more. 0 takes all.

        The choice hangs on what a sketch is called (its key or file name), so adding others seldom changes it.
        """
        if number == 0:
            return self
        taken: Counter[str] = Counter()
        kept = set()
        for item in sorted(self.items, key=lambda item: records.fraction(f"{seed}/{item.category}/{_name_of(item)}")):
            taken[item.category] += 1
            if taken[item.category] <= number:
                kept.add(item)
        return replace(self, items=tuple(item for item in self.items if item in kept))

    def images(self, which: Iterable[int], side: int) -> Tensor:
        """Those at some positions as pictures, (B, 3, side, side) in [0, 1], read from the disk.

        ValueError or FileNotFoundError if a file was changed or taken away after it was checked.
        """
        items = [self.items[k] for k in which]
        if not items:  # e.g. a category that has no sketch in this part
            return torch.zeros(0, 3, side, side)
        if isinstance(items[0], Doodle):
            return quickdraw.load_doodles(items, side)
        return load_images([item.path for item in items], side)


def _name_of(item: Doodle | Record) -> str:
    return item.key if isinstance(item, Doodle) else item.path.name


def load_sketches(
    name: str = "toy",
    root: str | Path = "",
    split: str = "default",
    categories: Collection[str] | None = None,
    skip_broken: bool = False,
) -> Sketches:
    """Find labelled sketches, part them, and check that each can be read.

    Args:
        name: "toy": the toy world's quick drawings, made on the spot and kept in the user's cache. "quickdraw": a
            folder of ndjson files. "folder": image files in `sketch/<category>/`, `photo/` beside them.
        root: where the files are; none for "toy".
        split: "default" parts by hashed names, about 60 % train, 15 % val and 25 % test; "20/5", not for "folder",
            takes 20 of each category to train on, one in five of them for validation, and 5 to test.
        categories: which to take, None for all.
        skip_broken: leave what is broken out with a warning that names and counts it.

    Raises:
        ValueError, FileNotFoundError, NotADirectoryError: one sentence, for an unknown name, split or category, a root
            for "toy" or none for the others, one that is not there or no folder, or broken files.
    """
    if name not in NAMES:
        raise ValueError(f"there are no sketches {name!r}: choose one of {', '.join(NAMES)}.")
    if name == "folder":
        return _from_folder(root, split, categories, skip_broken)
    if name == "toy" and str(root):
        raise ValueError(
            f"dataset 'toy' makes its own drawings and takes no data_root (got {shown(root)}): "
            "leave it out, or pass -p dataset quickdraw or folder."
        )
    no_folder = "is a file: pass the folder that holds <category>.ndjson."
    base = quick.ensure_quick() if name == "toy" else records.given_folder(name, root, no_folder)
    told = {"repair": DRAWN_ANEW} if name == "toy" else {}
    found = quickdraw.read(base, split, categories, skip_broken=skip_broken, **told)
    return Sketches(name, base, split, tuple(found))


def _from_folder(root: str | Path, split: str, categories: Collection[str] | None, skip_broken: bool) -> Sketches:
    if split != "default":
        raise ValueError(f"dataset 'folder' has no split {split!r}: leave it at default.")
    data = load_dataset("folder", root, "parts", skip_broken=skip_broken)
    wanted = None if categories is None else records.own_names(categories, data.categories, data.root)
    return Sketches("folder", data.root, split, data.select(categories=wanted).sketches)


def few_shot_parts(sketches: Sketches, shots: int, limit: int) -> dict[str, Sketches]:
    """ "train", "validation" and "test" of a data set, as many a category as asked for (0: all)."""
    for name, number in (("shots", shots), ("limit", limit)):
        if number < 0:
            raise ValueError(f"{name} is {number}: give how many sketches a category, or 0 for all of them.")
    train = sketches.select(part="train", categories=sketches.categories)
    check_categories(sketches.categories)
    chosen = {
        "train": choose_shots(train, shots, sketches.categories),
        "validation": sketches.select(part="val").few(min(shots, VALIDATION)),
        "test": sketches.select(part="test").few(limit),
    }
    missing = sorted(set(sketches.categories) - set(chosen["test"].categories))
    if missing or not len(chosen["validation"]):
        what = f"no test sketch of {missing[0]!r}" if missing else "no validation sketch"
        raise ValueError(f"there is {what}: give more sketches, or split them by numbers, as in 20/5.")
    # Drawings of an ndjson file are told apart by their keys: of a straight line, two people may well draw the same.
    files = {name: [i for i in part.items if isinstance(i, Record)] for name, part in chosen.items()}
    check_apart(files["train"] + files["validation"], files["test"])
    return chosen


def choose_shots(sketches: Sketches, shots: int, categories: Sequence[str]) -> Sketches:
    """`shots` sketches (0: all) of each category, fewer always among more; each must have so many, and at least one."""
    counts = {name: len(sketches.select(categories=[name])) for name in categories}
    short = {name: count for name, count in counts.items() if count < max(shots, 1)}
    if short:
        name, count = min(short.items(), key=lambda entry: entry[1])
        raise ValueError(
            f"{shots or 'all'} shots a category are asked for, but {len(short)} of {len(counts)} categories have fewer "
            f"sketches to train on ({name!r} has {count}): ask for fewer shots, or split by numbers, as in 20/5."
        )
    return sketches.few(shots)


def check_categories(categories: Sequence[str]) -> None:
    """ValueError, one sentence, unless there are two categories or more and none twice."""
    if len(categories) < 2:
        named = ", ".join(categories) or "none"
        raise ValueError(f"there is nothing to tell apart with {len(categories)} category ({named}): give two or more.")
    if len(set(categories)) < len(categories):
        twice = next(name for name in categories if list(categories).count(name) > 1)
        raise ValueError(f"the category {twice!r} is named twice: name each once.")
