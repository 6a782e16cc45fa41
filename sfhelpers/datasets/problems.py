"""The problems of sketch-based retrieval: which images of a dataset teach, choose the epoch and are asked for."""

import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sfhelpers.datasets import splits
from sfhelpers.datasets.records import Dataset, Record, pairs

Level = Literal["category", "instance"]
GROUP = 4  # pairs of one category that enter a step together
NUMBER = 9  # test classes drawn where the dataset itself calls none unseen
# Problem -> the split it stands on and the level it is trained for, each a training of its own on the same images.
PROBLEMS: dict[str, tuple[str, Level]] = {
    "strict": ("strict", "category"),
    "fine-grained": ("strict", "instance"),
    "clip-style": ("clip-style", "category"),
}


@dataclass
class Groups:
    """Training pairs, of which a step draws groups of up to GROUP of one category.

    So a step has positives, negatives of other categories and negatives of the same one, and computes no image twice.
    A category has one group for every GROUP pairs, so an epoch sees each pair once on average.

    Attributes:
        pairs: (N, 2) positions of sketches and photos in the dataset.
        members: category, as `numbers` gives it, -> positions of its pairs.
        slots: an epoch's groups, each by its category.
    """

    pairs: Tensor
    members: dict[int, Tensor]
    slots: list[int]

    @classmethod
    def of(cls, found: Tensor, categories: Tensor, level: Level) -> "Groups":
        """Pairs (N, 2) of sketches that have `categories` (N,); at level "instance" of two photos or more each."""
        members = {category: (categories == category).nonzero()[:, 0] for category in categories.unique().tolist()}
        if len(members) < 2:
            raise ValueError("there is one training category, so no negative: give two or more.")
        if level == "instance":
            members = {k: chosen for k, chosen in members.items() if len(found[chosen, 1].unique()) > 1}
            if not members:
                raise ValueError(
                    "no training category has two photos, so there is no hard negative: give more photos a category or "
                    'raise limit, or in Python make SketchRetriever(..., level="category").'
                )
        return cls(found, members, [k for k, chosen in members.items() for _ in range(-(-len(chosen) // GROUP))])

    def __len__(self) -> int:
        return len(self.slots)

    def draw(self, indices: Tensor, seed: int) -> Tensor:
        """(n, 2) pairs of a step, each once: others every epoch, and the same when a training goes on."""
        dice = torch.Generator().manual_seed(zlib.crc32(indices.numpy().tobytes(), seed % 2**32))
        groups = [self.members[self.slots[k]] for k in indices.tolist()]
        chosen = [group[torch.randperm(len(group), generator=dice)[:GROUP]] for group in groups]
        return self.pairs[torch.cat(chosen).unique()]


@dataclass
class Problem:
    """One training and its tests; positions are those in the dataset's sketches and photos.

    Attributes:
        split: by which images were chosen.
        level: what is right.
        train: what is learned from.
        validation: positions of the sketches that choose the epoch, and of the photos that they rank.
        sketches, photos: records of the pool, every image that is tested with.
        places: positions of the pool's sketches and photos.
        tests: name ("zero-shot", "class", "sample") -> queries and gallery, by where they stand in the pool.
        unseen: bool, which of the pool's sketches are of the split's test classes.
    """

    split: str
    level: Level
    train: Groups
    validation: tuple[Tensor, Tensor]
    sketches: list[Record]
    photos: list[Record]
    places: tuple[Tensor, Tensor]
    tests: dict[str, tuple[np.ndarray, np.ndarray]]
    unseen: np.ndarray


def problems_of(
    dataset: Dataset, names: Collection[str] = tuple(PROBLEMS)
) -> tuple[dict[str, Problem], dict[str, Dataset]]:
    """The problems of these names, and the generalised tests of "strict", as far as it has images for them.

    Raises:
        ValueError: an unknown name, or what `splits` refuses; one training category; for level "instance" no pair
            whose sketch was drawn from its photo, or no category with two such photos.
    """
    if unknown := set(names) - set(PROBLEMS):
        raise ValueError(f"unknown problem {min(unknown)!r}: use some of {', '.join(PROBLEMS)}.")
    unseen = {record.category for record in dataset.records if not record.seen}
    make = {"strict": splits.strict, "clip-style": partial(splits.clip_style, number=len(unseen) or NUMBER)}
    by_split = {name: splits.apply(dataset, make[name](dataset)) for name in {PROBLEMS[p][0] for p in names}}
    mixed = {}
    if "strict" in names and by_split["strict"].seen.photos:
        mixed = {kind: splits.generalised(by_split["strict"], kind) for kind in ("class", "sample")}
    # By its file, since a split may change the rest of a record.
    place = {record.path: k for side in (dataset.sketches, dataset.photos) for k, record in enumerate(side)}
    return {p: _problem(p, by_split[PROBLEMS[p][0]], mixed if p == "strict" else {}, place) for p in names}, mixed


def names_of(records: Iterable[Record], level: Level) -> np.ndarray:
    """(N,) names that are equal where one record is a right answer to the other."""
    return np.array([r.category if level == "category" else f"{r.category}/{r.instance}" for r in records])


def numbers(records: Iterable[Record]) -> Tensor:
    """(N,) whole numbers, equal where the categories are."""
    return torch.tensor([zlib.crc32(record.category.encode()) for record in records])


def _problem(name: str, found: splits.ZeroShot, mixed: dict[str, Dataset], place: dict) -> Problem:
    level = PROBLEMS[name][1]
    train, validation = _own(pairs(found.train), level), pairs(found.validation)
    asking = [place[sketch.path] for sketch, _ in _own(validation, level)]
    offered = [place[photo.path] for _, photo in validation]
    positions = torch.tensor([(place[sketch.path], place[photo.path]) for sketch, photo in train])
    tests = {"zero-shot": found.test} | {kind: drawn for kind, drawn in mixed.items()}
    sketches, photos = (
        list(dict.fromkeys(r for test in tests.values() for r in getattr(test, side)))
        for side in ("sketches", "photos")
    )
    at = {record: k for pool in (sketches, photos) for k, record in enumerate(pool)}
    return Problem(
        found.split.name,
        level,
        Groups.of(positions, numbers(sketch for sketch, _ in train), level),
        (torch.tensor(asking).unique(), torch.tensor(offered).unique()),
        sketches,
        photos,
        tuple(torch.tensor([place[record.path] for record in pool]) for pool in (sketches, photos)),
        {k: tuple(np.array([at[r] for r in side]) for side in (t.sketches, t.photos)) for k, t in tests.items()},
        np.array([sketch.category in found.split.test for sketch in sketches]),
    )


def _own(found: list[tuple[Record, Record]], level: Level) -> list[tuple[Record, Record]]:
    """At level "instance" the pairs whose sketch was drawn from the photo: one without is paired with another's."""
    if level == "category":
        return found
    own = [pair for pair in found if len(set(names_of(pair, level))) == 1]
    if not own:
        raise ValueError(
            f"none of {len(found)} pairs is of a sketch and the photo that it was drawn from: give some that are "
            '(named alike, as in Sketchy), or in Python make SketchRetriever(..., level="category").'
        )
    return own
