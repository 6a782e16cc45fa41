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
# Problem -> the split it stands on and the level it is trained for, each a training of its own on the same images.
PROBLEMS: dict[str, tuple[str, Level]] = {
    "strict": ("strict", "category"),
    "fine-grained": ("strict", "instance"),
    "clip-style": ("clip-style", "category"),
}


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

    def draw(self, indices: Tensor, seed: int) -> Tensor:
        """(n, 2) pairs of a step, each once: others every epoch, and the same when a training goes on."""
        dice = torch.Generator().manual_seed(zlib.crc32(indices.numpy().tobytes(), seed % 2**32))
        groups = [self.members[self.slots[k]] for k in indices.tolist()]
        chosen = [group[torch.randperm(len(group), generator=dice)[:GROUP]] for group in groups]
        return self.pairs[torch.cat(chosen).unique()]


@dataclass
class Problem:
    """One training and its tests; positions are those in the dataset's sketches and photos."""

    split: splits.ClassSplit
    level: Level
    train: Groups
    validation: tuple[Tensor, Tensor]  # positions of the sketches that choose the epoch, and of what they rank
    sketches: list[Record]  # the pool: every image that is tested with
    photos: list[Record]
    places: tuple[Tensor, Tensor]  # positions of the pool's sketches and photos
    tests: dict[str, tuple[np.ndarray, np.ndarray]]  # "zero-shot", "class", "sample" -> queries, gallery in the pool


def problems_of(dataset: Dataset, names: Collection[str] = tuple(PROBLEMS)) -> dict[str, Problem]:
    """The problems of these names, "strict" with the generalised tests; ValueError as of `splits` and `Groups`."""
    if unknown := set(names) - set(PROBLEMS):
        raise ValueError(f"unknown problem {min(unknown)!r}: use some of {', '.join(PROBLEMS)}.")
    unseen = {record.category for record in dataset.records if not record.seen}
    make = {"strict": splits.strict, "clip-style": partial(splits.clip_style, number=len(unseen) or 9)}
    parted = {name: splits.apply(dataset, make[name](dataset)) for name in {PROBLEMS[p][0] for p in names}}
    # By its file, since a split may change the rest of a record.
    place = {record.path: k for side in (dataset.sketches, dataset.photos) for k, record in enumerate(side)}
    return {name: _problem(name, parted[PROBLEMS[name][0]], place) for name in names}


def _problem(name: str, found: splits.ZeroShot, place: dict) -> Problem:
    def places(records: Iterable[Record]) -> Tensor:
        return torch.tensor([place[record.path] for record in records])

    level = PROBLEMS[name][1]
    train, validation = _own(pairs(found.train), level), pairs(found.validation)
    positions = torch.tensor([(place[sketch.path], place[photo.path]) for sketch, photo in train])
    chosen = places(s for s, _ in _own(validation, level)).unique(), places(p for _, p in validation).unique()
    tests = {"zero-shot": found.test}
    if name == "strict" and found.seen.photos:
        tests |= {kind: splits.generalised(found, kind) for kind in ("class", "sample")}
    sides = {kind: (test.sketches, test.photos) for kind, test in tests.items()}
    pools = [list(dict.fromkeys(r for side in some for r in side)) for some in zip(*sides.values(), strict=True)]
    at = {record: k for pool in pools for k, record in enumerate(pool)}
    groups = Groups(positions, numbers(sketch for sketch, _ in train), level)
    asked = {kind: tuple(np.array([at[r] for r in side]) for side in both) for kind, both in sides.items()}
    return Problem(found.split, level, groups, chosen, *pools, tuple(map(places, pools)), asked)


def names_of(records: Iterable[Record], level: Level) -> np.ndarray:
    """(N,) names that are equal where one record is a right answer to the other."""
    return np.array([r.category if level == "category" else f"{r.category}/{r.instance}" for r in records])


def numbers(records: Iterable[Record]) -> Tensor:
    """(N,) whole numbers, equal where the categories are."""
    return torch.tensor([zlib.crc32(record.category.encode()) for record in records])


def _own(found: list[tuple[Record, Record]], level: Level) -> list[tuple[Record, Record]]:
    """At level "instance" the pairs whose sketch was drawn from the photo: one without is paired with another's."""
    if level == "category":
        return found
    if own := [pair for pair in found if len(set(names_of(pair, level))) == 1]:
        return own
    wanted = 'name them alike, as in Sketchy, or in Python leave out the problem "fine-grained"'
    raise ValueError(f"none of {len(found)} pairs is of a sketch and the photo that it was drawn from: {wanted}.")
