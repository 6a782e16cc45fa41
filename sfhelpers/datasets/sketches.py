"""Sketches with a category each and no photo beside them: Quick, Draw!, the toy world's own, or a folder's."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from itertools import groupby
from pathlib import Path

from torch import Tensor

from sfhelpers.datasets import layouts, load_dataset, published, quickdraw, records
from sfhelpers.datasets.quickdraw import Doodle
from sfhelpers.datasets.records import Dataset
from sfhelpers.images import load_images
from sfhelpers.params import data_folder
from sfhelpers.toyworld import quick

VALIDATION = 4  # sketches a category to choose by, and never more than are learned from
NAMES = ("toy", "quickdraw", "tuberlin", "folder")


@dataclass(frozen=True)
class Sketches(Dataset):
    """Sketches in order of category and place, none of them in memory."""

    def __len__(self) -> int:
        return len(self.records)

    def few(self, number: int) -> "Sketches":
        """At most `number` of each category, chosen by key or file name; fewer are always among more. 0 takes all."""
        if number == 0:
            return self
        called = {item: item.instance if isinstance(item, Doodle) else item.path.name for item in self.records}
        place = {item: records.fraction(f"0/{item.category}/{called[item]}") for item in self.records}
        groups = groupby(self.records, lambda item: item.category)
        kept = {item for _, group in groups for item in nsmallest(number, group, key=place.get)}
        return replace(self, records=tuple(item for item in self.records if item in kept))

    def images(self, which: Iterable[int], side: int) -> Tensor:
        """Those at some positions as pictures, (B, 3, side, side) in [0, 1]; errors as `draw`, `load_images`."""
        items = [self.records[k] for k in which]
        if items and isinstance(items[0], Doodle):
            return quickdraw.load_doodles(items, side)
        return load_images([item.path for item in items], side)


def load_sketches(name: str, root: str | Path = "", split: str = "default", skip_broken: bool = False) -> Sketches:
    """Find labelled sketches, part them, and check that each can be read. Errors as of `load_dataset`.

    Args:
        name: "toy": the toy world's quick drawings, made on the spot and kept in the user's cache. "quickdraw" and
            "tuberlin": their files in `root`. "folder": images in `sketch/<category>/` of it, `photo/` beside them.
        split: "default" parts by hashed names, about 60 % train, 15 % val and 25 % test; "20/5", not for "folder",
            takes 20 of each category to train on, one in five of them for validation, and 5 to test; "fold1" tests the
            first third of each category, of three.
    """
    if name not in NAMES:
        raise ValueError(f"there are no sketches {name!r}: choose one of {', '.join(NAMES)}.")
    if name == "folder":
        if split != "default":
            raise ValueError(f"dataset 'folder' has no split {split!r}: leave it at default.")
        data = load_dataset("folder", root, "parts", skip_broken=skip_broken)
        return Sketches("folder", data.root, split, data.sketches)
    base = data_folder(name, root) or quick.ensure_quick()
    if name == "tuberlin":
        entry = published.DATASETS[name]
        tree = layouts.locate(entry, base)
        found = layouts.read(entry, tree, layouts.by_class(()), skip_broken=skip_broken)
        found = records.without_broken(found, tree.base, skip_broken, name)
        return Sketches(name, tree.base, split, tuple(quickdraw.parted(found, split)))
    return Sketches(name, base, split, tuple(quickdraw.read(base, split, skip_broken, name)))


def few_shot_parts(sketches: Sketches, shots: int, limit: int) -> dict[str, Sketches]:
    """ "train", "validation" and "test" of a data set, as many a category as asked for (0: all)."""
    for name, number in (("shots", shots), ("limit", limit)):
        if number < 0:
            raise ValueError(f"{name} is {number}: give how many sketches a category, or 0 for all of them.")
    check_categories(sketches.categories)
    train = sketches.select("train")
    counts = Counter(item.category for item in train.records)
    if short := [name for name in sketches.categories if counts[name] < max(shots, 1)]:
        fewest = min(short, key=counts.__getitem__)
        why = f"{shots or 'all'} shots a category are too many, {len(short)} of {len(sketches.categories)} have fewer"
        raise ValueError(f"{why} to train on ({fewest!r} has {counts[fewest]}): ask for fewer, or split as in 20/5.")
    train, test = train.few(shots), sketches.select("test").few(limit)
    validation = sketches.select("val").few(min(shots, VALIDATION))
    missing = [f"test sketch of {name!r}" for name in sketches.categories if name not in test.categories]
    if missing or not len(validation):
        what = [*missing, "validation sketch"][0]
        raise ValueError(f"there is no {what}: give more sketches, or split them by numbers, as in 20/5.")
    records.check_apart(train.records + validation.records, test.records)
    return {"train": train, "validation": validation, "test": test}


def check_categories(categories: Sequence[str]) -> None:
    if len(categories) < 2:
        named = ", ".join(categories) or "none"
        raise ValueError(f"there is nothing to tell apart with {len(categories)} category ({named}): give two or more.")
    if twice := [name for name, times in Counter(categories).items() if times > 1]:
        raise ValueError(f"the category {twice[0]!r} is named twice: name each once.")
