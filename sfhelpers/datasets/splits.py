"""Zero-shot retrieval: which classes and images of a dataset teach, choose the epoch and are asked for."""

import random
import warnings
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sfhelpers.datasets.records import Dataset, Record, check_apart, listed, pairs, part_of
from sfhelpers.files import shown

VALIDATION = 0.15  # of the classes that are not tested, at least one, choose the epoch
SHARE = 0.2  # of the seen classes, or of the test's images, are added for a generalised test
Level = Literal["category", "instance"]
GROUP = 4  # pairs of one category that enter a step together
# Problem -> the level it is trained for, each a training of its own on the same images; the first two share a split.
PROBLEMS: dict[str, Level] = {"strict": "category", "fine-grained": "instance", "clip-style": "category"}


@dataclass(frozen=True)
class ClassSplit:
    """Classes by what they are for; ValueError if one is for two things, named twice, or if there are too few."""

    name: str  # of the protocol, as result rows carry it
    train: tuple[str, ...]  # teach the head
    validation: tuple[str, ...]  # choose the epoch; taken out of the training classes, never out of the test classes
    test: tuple[str, ...]  # are asked for

    def __post_init__(self) -> None:
        times = Counter(self.train + self.validation + self.test)
        if twice := sorted(name for name in times if times[name] > 1):
            raise ValueError(f"split {self.name!r} overlaps, {listed(twice)} is named twice: keep each class once.")
        for role, least in (("train", 2), ("validation", 1), ("test", 2)):
            if (number := len(getattr(self, role))) < least:
                what = f"split {self.name!r} has {number} classes for {role}"
                raise ValueError(f"{what}: give {least} or more, since what is retrieved must differ from something.")


@dataclass(frozen=True)
class ZeroShot:
    split: ClassSplit
    train: Dataset
    validation: Dataset
    test: Dataset  # queries and gallery
    seen: Dataset  # of training and validation classes, but kept from training and choosing: for the generalised test


def strict(dataset: Dataset) -> ClassSplit:
    """Classes that neither head nor backbone saw, as the dataset calls them, against others; ValueError for none."""
    if not (unseen := {record.category for record in dataset.records if not record.seen}):
        why = f"dataset {dataset.name} has no class that its backbone never saw, so it cannot be split strictly"
        raise ValueError(f"{why}: give photos and sketches of unseen classes too, or take splits.clip_style.")
    return class_split(dataset, "strict", unseen)


def clip_style(dataset: Dataset, number: int = 9) -> ClassSplit:
    """So many classes, always the same, new to the head alone, as in all published tables on CLIP, against others."""
    if not 2 <= number < len(dataset.categories):
        why = f"dataset {dataset.name} has {len(dataset.categories)} classes, so {number} cannot be held out of them"
        raise ValueError(f"{why}: give photos and sketches of more classes, or another number, 2 or more.")
    return class_split(dataset, "clip-style", random.Random("clip-style 0").sample(dataset.categories, number))


def class_split(dataset: Dataset, name: str, test: Iterable[str]) -> ClassSplit:
    """These classes against all others of the dataset, of which a share of VALIDATION chooses the epoch."""
    test = tuple(sorted(test))
    others = [category for category in dataset.categories if category not in test]
    held = random.Random("validation 0").sample(others, min(len(others), max(1, round(VALIDATION * len(others)))))
    return ClassSplit(name, tuple(c for c in others if c not in held), tuple(sorted(held)), test)


def apply(dataset: Dataset, split: ClassSplit) -> ZeroShot:
    """A dataset's images by a split; no image file stands on two sides, and nothing of a test class in a photo before.

    Of training and validation classes the test part is set aside, by hashed names where all is test; of test classes
    all images are taken, one of each photo.
    """
    if missing := sorted({*split.train, *split.validation, *split.test} - set(dataset.categories)):
        what = f"split {split.name!r} names {listed(missing)}, which dataset {dataset.name} does not have"
        raise ValueError(f"{what}: correct the list (it has {listed(dataset.categories)}).")

    tested = set(split.test)

    def chosen(categories: Collection[str], held: bool) -> Dataset:
        """Images of these categories that are held back for tests, or the others."""
        parts = {r: r.part if r.seen else part_of(r.category, r.instance) for r in dataset.records}
        kept = (r for r, part in parts.items() if r.category in categories and (part == "test") == held)
        kept = (r for r in kept if held or not tested.intersection(r.things))
        return replace(dataset, records=tuple(kept))

    train, validation = chosen(split.train, held=False), chosen(split.validation, held=False)
    seen = without_duplicates(chosen(split.train + split.validation, held=True))
    test = without_duplicates(dataset.select(categories=split.test))
    for role, part in (("train", train), ("validation", validation)):
        if not part.photos:
            why = f"dataset {dataset.name} has no {role} image in split {split.name!r}: all are test images"
            raise ValueError(f"{why}; pass -p split parts to part your own folder.")
    require_relevant(test)
    check_apart((*train.records, *validation.records), (*test.records, *seen.records))
    return ZeroShot(split, train, validation, test, seen)


def generalised(found: ZeroShot, kind: Literal["class", "sample", "trained"]) -> Dataset:
    """The test of a split with held-out images of seen classes too; the published protocols add those of "trained"."""
    if kind not in ("class", "sample", "trained"):
        raise ValueError(f"kind is {kind!r}: use class, sample or trained.")
    pool, rng = found.seen, random.Random(f"generalised {'sample' if kind == 'sample' else 'class'} 0")
    if not (usable := sorted({r.category for r in pool.photos} & {r.category for r in pool.sketches})):
        raise ValueError(f"split {found.split.name!r} has no held-out image of a seen class to add: take more images.")

    def drawn(some: Sequence, number: float) -> list:
        return rng.sample(some, min(len(some), max(1, round(number))))

    if kind != "sample":  # all of some classes (Dr. CLIP), as published with the images that they were learned from
        classes = drawn(usable, SHARE * len(usable))
        learned = found.train.records + found.validation.records if kind == "trained" else ()
        added = [record for record in pool.records + learned if record.category in classes]
    else:  # so many photos, and sketches of what they show (sem-pcyc does not ask that)
        photos = drawn([p for p in pool.photos if p.category in usable], SHARE * len(found.test.photos))
        classes = {photo.category for photo in photos}
        sketches = [sketch for sketch in pool.sketches if sketch.category in classes]
        added = photos + drawn(sketches, SHARE * len(found.test.sketches))
    return without_duplicates(replace(found.test, records=found.test.records + tuple(added)))


def without_duplicates(dataset: Dataset) -> Dataset:
    """The dataset with one of each photo, by its sha256, and all sketches: Sketchy-Extended holds 12,500 twice."""
    first: dict[str, Record] = {}
    twin: dict[tuple[str, str], str] = {}
    for photo in dataset.photos:
        kept = first.setdefault(photo.digest, photo)
        if kept.category != photo.category:
            this, that = (f"{shown(record.path.name)} of class {record.category!r}" for record in (photo, kept))
            raise ValueError(f"{this} is the same file as {that}: remove one of them.")
        twin[photo.category, photo.instance] = kept.instance
    if not (surplus := len(dataset.photos) - len(first)):
        return dataset
    warnings.warn(f"{surplus} of {len(dataset.photos)} gallery photos are copies and are left out.", stacklevel=2)
    photos = set(first.values())
    sketches = [replace(s, instance=twin.get((s.category, s.instance), s.instance)) for s in dataset.sketches]
    return replace(dataset, records=(*(p for p in dataset.photos if p in photos), *sketches))


def require_relevant(dataset: Dataset) -> None:
    """ValueError unless there are queries, and every query's class is shown in a photo of the gallery."""
    if not dataset.sketches:
        raise ValueError(f"dataset {dataset.name} has no query sketch here: choose a split that has some.")
    gallery = {thing for photo in dataset.photos for thing in photo.things}
    if lacking := sorted({sketch.category for sketch in dataset.sketches} - gallery):
        raise ValueError(f"the gallery has no photo of {listed(lacking)}, which sketches ask for: add photos of them.")


class Groups:
    """Training pairs (N, 2) of sketches that have `categories` (N,); a step draws groups of up to GROUP of one."""

    def __init__(self, pairs: Tensor, categories: Tensor, level: Level):
        members = {category: (categories == category).nonzero()[:, 0] for category in categories.unique().tolist()}
        if len(members) < 2:
            raise ValueError("there is one training category, so no negative: give two or more.")
        if level == "instance":
            members = {k: chosen for k, chosen in members.items() if len(pairs[chosen, 1].unique()) > 1}
        if not members:
            raise ValueError("no training category has two photos to tell apart: give more photos or raise limit.")
        self.pairs, self.members = pairs, members
        # A group for every GROUP pairs, so that an epoch sees each pair once on average.
        self.slots = [k for k, chosen in members.items() for _ in range(-(-len(chosen) // GROUP))]

    def __len__(self) -> int:
        return len(self.slots)

    def first(self, number: int) -> "Groups":
        """The same of so many categories alone, each time the same ones; ValueError for less than two, or too many."""
        if not 2 <= number <= len(self.members):
            raise ValueError(f"{number} training categories are asked for: choose from 2 to {len(self.members)}.")
        found, members = copy(self), dict(list(self.members.items())[:number])
        found.pairs = self.pairs[torch.cat(list(members.values()))]
        places = torch.arange(len(found.pairs)).split([*map(len, members.values())])
        found.members = dict(zip(members, places, strict=True))
        found.slots = [slot for slot in self.slots if slot in members]
        return found

    def draw(self, indices: Tensor, seed: int) -> Tensor:
        """(n, 2) pairs of a step, each once: others every epoch, and the same when a training goes on."""
        dice = torch.Generator().manual_seed(zlib.crc32(indices.numpy().tobytes(), seed % 2**32))
        groups = [self.members[self.slots[k]] for k in indices.tolist()]
        chosen = [group[torch.randperm(len(group), generator=dice)[:GROUP]] for group in groups]
        return self.pairs[torch.cat(chosen).unique()]


@dataclass
class Problem:
    """One training and its tests; positions are those in the dataset's sketches and photos."""

    split: ClassSplit
    level: Level
    train: Any  # what draws a step's images, e.g. Groups
    validation: tuple[Tensor, Tensor]  # positions of the sketches that choose the epoch, and of what they rank
    sketches: list[Record]  # the pool: every image that is tested with
    photos: list[Record]
    places: tuple[Tensor, Tensor]  # positions of the pool's sketches and photos
    tests: dict[str, tuple[np.ndarray, np.ndarray]]  # "zero-shot", "class", ... -> queries, gallery in the pool


def served(dataset: Dataset) -> tuple[str, ...]:
    """The PROBLEMS that a dataset serves: where no sketch is of a photo, all but "fine-grained", with a warning."""
    instances = (names_of(side, "instance") for side in (dataset.sketches, dataset.photos))
    if not set.isdisjoint(*map(set, instances)):
        return tuple(PROBLEMS)
    what = f"no sketch of {dataset.name} is of one of its photos"
    warnings.warn(f"{what}, so none is asked for the very photo: fine-grained is left out.", stacklevel=2)
    return tuple(name for name in PROBLEMS if PROBLEMS[name] != "instance")


def problems_of(dataset: Dataset, names: Collection[str] = tuple(PROBLEMS)) -> dict[str, Problem]:
    """The problems of these names, "strict" with the generalised tests; ValueError as of `splits` and `Groups`."""
    if unknown := set(names) - set(PROBLEMS):
        raise ValueError(f"unknown problem {min(unknown)!r}: use some of {', '.join(PROBLEMS)}.")
    unseen = {record.category for record in dataset.records if not record.seen}

    @cache
    def parted(laxer: bool) -> ZeroShot:
        return apply(dataset, clip_style(dataset, len(unseen) or 9) if laxer else strict(dataset))

    # By its file, since a split may change the rest of a record.
    place = {record.path: k for side in (dataset.sketches, dataset.photos) for k, record in enumerate(side)}
    made = {}
    for name in names:
        kinds = ("class", "sample") if name == "strict" else ()
        made[name] = problem_of(parted(name == "clip-style"), PROBLEMS[name], place, kinds)
    return made


def problem_of(
    found: ZeroShot, level: Level, place: Mapping[Path, int], kinds: Iterable[str] = (), train: Any = None
) -> Problem:
    """A split's training, by `train` if not by Groups, and tests: the zero-shot one and, with seen images to add,
    generalised ones of some kinds; `place` is where each file stands among the data's sketches or photos."""

    def places(records: Iterable[Record]) -> Tensor:
        return torch.tensor([place[record.path] for record in records])

    validation = pairs(found.validation)
    chosen = places(s for s, _ in own_pairs(validation, level)).unique(), places(p for _, p in validation).unique()
    tests = {"zero-shot": found.test}
    if found.seen.photos:
        tests |= {kind: generalised(found, kind) for kind in kinds}
    sides = {kind: (test.sketches, test.photos) for kind, test in tests.items()}
    pools = [list(dict.fromkeys(r for side in some for r in side)) for some in zip(*sides.values(), strict=True)]
    at = {record: k for pool in pools for k, record in enumerate(pool)}
    if train is None:
        drawn = own_pairs(pairs(found.train), level)
        positions = torch.tensor([(place[sketch.path], place[photo.path]) for sketch, photo in drawn])
        train = Groups(positions, numbers(names_of((sketch for sketch, _ in drawn), "category")), level)
    asked = {kind: tuple(np.array([at[r] for r in side]) for side in both) for kind, both in sides.items()}
    return Problem(found.split, level, train, chosen, *pools, tuple(map(places, pools)), asked)


def names_of(records: Iterable[Record], level: Level) -> np.ndarray:
    """(N,) names of what records are asked for: their category, or the very instance."""
    return np.array([r.category if level == "category" else f"{r.category}/{r.instance}" for r in records])


def shown_in(photos: Iterable[Record], level: Level) -> np.ndarray:
    """(N, K) names of what photos answer: the very instance, or all things in them, the own one again if fewer."""
    photos = list(photos)
    if level == "instance":
        return names_of(photos, level)[:, None]
    most = max((len(photo.things) for photo in photos), default=1)
    return np.array([photo.things + photo.things[:1] * (most - len(photo.things)) for photo in photos])


def numbers(names: np.ndarray) -> Tensor:
    """Whole numbers of the same shape, equal where names are."""
    return torch.tensor([zlib.crc32(name.encode()) for name in names.ravel().tolist()]).view(names.shape)


def own_pairs(found: list[tuple[Record, Record]], level: Level) -> list[tuple[Record, Record]]:
    """At level "instance" the pairs whose sketch was drawn from the photo: one without is paired with another's."""
    if level == "category":
        return found
    if own := [pair for pair in found if len(set(names_of(pair, level))) == 1]:
        return own
    wanted = 'name them alike, as in Sketchy, or in Python leave out the problem "fine-grained"'
    raise ValueError(f"none of {len(found)} pairs is of a sketch and the photo that it was drawn from: {wanted}.")
