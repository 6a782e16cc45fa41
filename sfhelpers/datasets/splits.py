"""Zero-shot class splits: which classes teach, which choose the epoch, which are asked for, and what else is there.

Three protocols, and a dataset has to say which one it was:

- strict: the test classes were never seen in any form, by the head or by the backbone. Only a world whose backbone's
  training data is known can offer it: toy does, and Sketchy's 104/21 split does not (CLIP has seen giraffes).
- clip-style: any classes may be test classes, as in all published tables on a CLIP backbone: new to the head alone.
- generalised: the gallery and the queries of a split, and images of its training classes among them.
"""

import math
import random
import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal, get_args

from sfhelpers.datasets.contents import check_apart
from sfhelpers.datasets.records import Dataset, Record, listed, part_of
from sfhelpers.files import file_sha256

Kind = Literal["class", "sample"]


@dataclass(frozen=True)
class ClassSplit:
    """Classes by what they are for; no class is for two things, and ValueError if one is or if there are too few."""

    name: str  # of the protocol, as result rows carry it
    train: tuple[str, ...]  # teach the head
    validation: tuple[str, ...]  # choose the epoch; taken out of the training classes, never out of the test classes
    test: tuple[str, ...]  # are asked for

    def __post_init__(self) -> None:
        for role, names in self.roles.items():
            if len(set(names)) < len(names):
                raise ValueError(f"split {self.name!r} names a class twice for {role}: name each once.")
        for (first, a), (second, b) in combinations(self.roles.items(), 2):
            if both := sorted(set(a) & set(b)):
                raise ValueError(f"split {self.name!r} overlaps: {listed(both)} in {first} and in {second}; keep one.")
        for role, least in (("train", 2), ("validation", 1), ("test", 2)):
            if len(self.roles[role]) < least:
                raise ValueError(
                    f"split {self.name!r} has {len(self.roles[role])} classes for {role}: give {least} or more, since "
                    "what is retrieved must differ from something."
                )

    @property
    def roles(self) -> dict[str, tuple[str, ...]]:
        return {"train": self.train, "validation": self.validation, "test": self.test}


@dataclass(frozen=True)
class ZeroShot:
    """A split's images."""

    split: ClassSplit
    train: Dataset
    validation: Dataset
    test: Dataset  # queries and gallery
    seen: Dataset  # of training and validation classes, but kept from training and choosing: for the generalised test


@dataclass(frozen=True)
class Generalised:
    """Queries and gallery of a generalised test: the zero-shot test and the seen images that were drawn."""

    kind: Kind
    fraction: float
    seed: int
    classes: tuple[str, ...]  # of the images that were drawn
    test: Dataset


def strict(dataset: Dataset, validation: float = 0.15, seed: int = 0) -> ClassSplit:
    """The classes that the dataset calls unseen against all others.

    The share `validation` of the others, at least one, chooses the epoch; `seed` draws them. ValueError if the dataset
    has no unseen class, or too few others.
    """
    unseen = {record.category for record in dataset.records if not record.seen}
    if not unseen:
        raise ValueError(
            f"dataset {dataset.name} has no class that its backbone never saw, so it cannot be split strictly: "
            "give photos and sketches of unseen classes too, or in Python take splits.clip_style."
        )
    return class_split(dataset, "strict", unseen, validation, seed)


def clip_style(dataset: Dataset, number: int = 9, validation: float = 0.15, seed: int = 0) -> ClassSplit:
    """So many classes drawn from all, whatever the backbone has seen, against all others.

    The draw is fixed by `seed` and differs from the dataset's own unseen classes; the rest as in `strict`.
    """
    if number < 2:
        raise ValueError(f"number is {number}: give how many classes to hold out for the test, 2 or more.")
    if number >= len(dataset.categories):
        raise ValueError(
            f"dataset {dataset.name} has {len(dataset.categories)} classes, so {number} cannot be held out of them: "
            "give photos and sketches of more classes, or in Python a lower number."
        )
    drawn = random.Random(f"clip-style {seed}").sample(dataset.categories, number)
    return class_split(dataset, "clip-style", drawn, validation, seed)


def class_split(
    dataset: Dataset, name: str, test: Iterable[str], validation: float = 0.15, seed: int = 0
) -> ClassSplit:
    """These classes against all others of the dataset; the rest as in `strict`."""
    test = tuple(sorted(set(test)))
    _there(dataset, name, test)
    others = [category for category in dataset.categories if category not in test]
    held = random.Random(f"validation {seed}").sample(others, min(len(others), max(1, round(validation * len(others)))))
    return ClassSplit(name, tuple(c for c in others if c not in held), tuple(sorted(held)), test)


def apply(dataset: Dataset, split: ClassSplit) -> ZeroShot:
    """A dataset's images by a split; no image file stands on two sides.

    Of training and validation classes the test part is set aside (`ZeroShot.seen`); a class that the dataset calls
    unseen has no parts of its own and gets them by the same hash of its names. Of test classes all images are taken,
    one of each photo (`without_duplicates`).
    """
    for names in split.roles.values():
        _there(dataset, split.name, names)

    def chosen(categories: Collection[str], held: bool | None = None) -> Dataset:
        records = (record for record in dataset.records if record.category in categories)
        return replace(dataset, records=tuple(r for r in records if held is None or (_part(r) == "test") == held))

    found = ZeroShot(
        split,
        train=chosen(split.train, held=False),
        validation=chosen(split.validation, held=False),
        test=without_duplicates(chosen(split.test)),
        seen=without_duplicates(chosen(split.train + split.validation, held=True)),
    )
    for role in ("train", "validation"):
        if not getattr(found, role).photos:
            raise ValueError(
                f"dataset {dataset.name} has no {role} image in split {split.name!r}: all are test images; pass "
                "-p split parts to part your own folder."
            )
    require_relevant(found.test)
    check_apart((*found.train.records, *found.validation.records), (*found.test.records, *found.seen.records))
    return found


def generalised(found: ZeroShot, kind: Kind = "class", fraction: float = 0.2, seed: int = 0) -> Generalised:
    """The test of a split with images of seen classes in queries and gallery (PROTOCOLS, section 1.6).

    The published protocols add images that were trained on; here they come from `ZeroShot.seen`, so what is measured
    is known classes and never known images.

    Args:
        kind: "class": all of these images of `fraction` of the seen classes (Dr. CLIP); "sample": as many seen
            sketches as `fraction` of the test sketches, and photos likewise, drawn without replacement from all seen
            classes, sketches only of classes of which a photo was drawn (sem-pcyc, which does not ask that).
        fraction: above 0.
        seed: of the draw.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind is {kind!r}: use {' or '.join(get_args(Kind))}.")
    if not 0 < fraction < math.inf:
        raise ValueError(f"fraction is {fraction}: give a finite number above 0, for example 0.2.")
    pool, rng = found.seen, random.Random(f"generalised {kind} {seed}")
    usable = sorted({r.category for r in pool.photos} & {r.category for r in pool.sketches})
    if not usable:
        raise ValueError(f"split {found.split.name!r} has no held-out image of a seen class to add: take more images.")
    if kind == "class":
        drawn = set(rng.sample(usable, min(len(usable), max(1, round(fraction * len(usable))))))
        added = [record for record in pool.records if record.category in drawn]
    else:
        photos = _sample(rng, [p for p in pool.photos if p.category in usable], fraction * len(found.test.photos))
        drawn = {photo.category for photo in photos}
        sketches = [sketch for sketch in pool.sketches if sketch.category in drawn]
        added = photos + _sample(rng, sketches, fraction * len(found.test.sketches))
    test = without_duplicates(replace(found.test, records=found.test.records + tuple(added)))
    return Generalised(kind, fraction, seed, tuple(sorted(drawn)), test)


def without_duplicates(dataset: Dataset) -> Dataset:
    """The dataset with one of each photo, by the sha256 of the files; a warning counts what was left out.

    Sketchy-Extended holds its 12,500 original photos once more, and file lists that add them a third time make the
    same ranking look better. The first in order is kept; sketches of a photo that goes belong to the one that stays.
    ValueError for the same file in two classes, which would be right and wrong at once.
    """
    first: dict[str, Record] = {}
    twin: dict[tuple[str, str], str] = {}
    for photo in dataset.photos:
        kept = first.setdefault(file_sha256(photo.path), photo)
        if kept.category != photo.category:
            raise ValueError(
                f"{photo.path.name} of class {photo.category!r} is the same file as {kept.path.name} of class "
                f"{kept.category!r}: remove one of them."
            )
        twin[photo.category, photo.instance] = kept.instance
    surplus = len(dataset.photos) - len(first)
    if not surplus:
        return dataset
    warnings.warn(f"{surplus} of {len(dataset.photos)} gallery photos are copies and are left out.", stacklevel=2)
    kept_photos = set(first.values())
    return replace(
        dataset,
        records=tuple(
            replace(r, instance=twin.get((r.category, r.instance), r.instance)) if r.domain == "sketch" else r
            for r in dataset.records
            if r.domain == "sketch" or r in kept_photos
        ),
    )


def require_relevant(dataset: Dataset) -> None:
    """ValueError unless there are queries, and every query's class has a photo in the gallery."""
    if not dataset.sketches:
        raise ValueError(f"dataset {dataset.name} has no query sketch here: choose a split that has some.")
    gallery = {photo.category for photo in dataset.photos}
    if lacking := sorted({sketch.category for sketch in dataset.sketches} - gallery):
        raise ValueError(
            f"the gallery has no photo of {listed(lacking)}, which sketches ask for: add photos, or leave the "
            "sketches out."
        )


def _there(dataset: Dataset, name: str, classes: Iterable[str]) -> None:
    if missing := sorted(set(classes) - set(dataset.categories)):
        raise ValueError(
            f"split {name!r} names {listed(missing)}, which dataset {dataset.name} does not have: correct the list "
            f"(it has {listed(dataset.categories)})."
        )


def _part(record: Record) -> str:
    return record.part if record.seen else part_of(record.category, record.instance)


def _sample(rng: random.Random, records: Sequence[Record], number: float) -> list[Record]:
    return rng.sample(records, min(len(records), max(1, round(number))))
