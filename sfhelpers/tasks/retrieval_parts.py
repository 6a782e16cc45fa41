"""Which images of a dataset teach, choose and are asked for, in every problem of the retrieval tables.

Three problems, each a training of its own on the same prepared images: "strict" and "clip-style" are category level
on those splits, "fine-grained" is instance level on the strict split.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sfhelpers.datasets import Dataset, Record, pairs, splits
from sfhelpers.tasks.prepared import Prepared, PreparedPairs, prepare_records
from sfhelpers.tasks.retrieval import Level

NUMBER = 9  # test classes drawn where the dataset itself calls none unseen
# Problem to the split it stands on and the level it is trained for.
PROBLEMS: dict[str, tuple[str, Level]] = {
    "strict": ("strict", "category"),
    "fine-grained": ("strict", "instance"),
    "clip-style": ("clip-style", "category"),
}


@dataclass(frozen=True)
class Images:
    """Every image of a dataset, everything frozen computed.

    Attributes:
        sketches, photos: what `extractor.prepare` gave, one entry an image, on the CPU.
        sketch_records, photo_records: the records, in the same order.
    """

    sketches: Prepared
    photos: Prepared
    sketch_records: list[Record]
    photo_records: list[Record]

    def pairs_of(self, part: Dataset) -> PreparedPairs:
        """The pairs of a part of the dataset, over the same prepared images."""
        sketch_at, photo_at = self.places
        found = [(sketch_at[sketch.path], photo_at[photo.path]) for sketch, photo in pairs(part)]
        positions = torch.tensor(found, dtype=torch.int64).view(-1, 2)
        return PreparedPairs(**vars(self), pairs=positions, masks=None)

    @property
    def places(self) -> tuple[dict[Path, int], dict[Path, int]]:
        """Where the sketches and the photos of files stand; a split may change the rest of a record."""
        sides = (self.sketch_records, self.photo_records)
        first, second = ({record.path: k for k, record in enumerate(side)} for side in sides)
        return first, second


def prepare_images(extractor: nn.Module, dataset: Dataset, size: int, batch_size: int = 32, **noise: Any) -> Images:
    """Read all of a dataset's images and compute everything frozen, once an image; about 400 kB each with pocket.

    Args:
        size: side in px at which the images are read.
        noise: draws, noise_seed, timestep, prompt: passed on to `extractor.prepare`.
    """
    settings, sides = noise | {"batch_size": batch_size}, (list(dataset.sketches), list(dataset.photos))
    sketches, photos = (
        prepare_records(extractor, records, size, f"preparing {what}", settings)
        for records, what in zip(sides, ("sketches", "photos"), strict=True)
    )
    return Images(sketches, photos, *sides)


@dataclass
class Pool:
    """What a problem's tests are about: every image that was neither trained on nor chosen by.

    Attributes:
        sketches, photos: the records.
        tests: name ("zero-shot", "class", "sample") -> positions of the queries and of the gallery.
        unseen: (S,) bool, sketches of the split's test classes.
    """

    sketches: list[Record]
    photos: list[Record]
    tests: dict[str, tuple[np.ndarray, np.ndarray]]
    unseen: np.ndarray


@dataclass
class Parts:
    """The images of one arm, everything frozen computed, and who is for what.

    Attributes:
        images: all of the dataset.
        splits: of `PROBLEMS`, by problem.
        generalised: "class" and "sample" of the strict split, as far as it has images for them.
        pools: by problem.
        dataset: its name.
    """

    images: Images
    splits: dict[str, splits.ZeroShot]
    generalised: dict[str, splits.Generalised]
    pools: dict[str, Pool]
    dataset: str


def parts_of(
    dataset: Dataset, prepare: Callable[[Dataset], Images], problems: Collection[str] = tuple(PROBLEMS)
) -> Parts:
    """Split a dataset for these problems and prepare its images once for all of them.

    Raises:
        ValueError: an unknown problem, or what `splits` refuses.
    """
    if unknown := set(problems) - set(PROBLEMS):
        raise ValueError(f"unknown problem {min(unknown)!r}: use some of {', '.join(PROBLEMS)}.")
    unseen = {record.category for record in dataset.records if not record.seen}
    make = {"strict": splits.strict, "clip-style": partial(splits.clip_style, number=len(unseen) or NUMBER)}
    by_split = {name: splits.apply(dataset, make[name](dataset)) for name in {PROBLEMS[p][0] for p in problems}}
    zero_shot = {problem: by_split[PROBLEMS[problem][0]] for problem in problems}
    mixed = {}
    if "strict" in zero_shot and zero_shot["strict"].seen.photos:
        mixed = {kind: splits.generalised(zero_shot["strict"], kind) for kind in ("class", "sample")}
    pools = {p: _pool(found, mixed if p == "strict" else {}) for p, found in zero_shot.items()}
    return Parts(prepare(dataset), zero_shot, mixed, pools, dataset.name)


def _pool(found: splits.ZeroShot, mixed: Mapping[str, splits.Generalised]) -> Pool:
    """Test images, and of seen classes those that a generalised test draws."""
    tests = {"zero-shot": found.test} | {kind: drawn.test for kind, drawn in mixed.items()}
    sides = [list(dict.fromkeys(r for t in tests.values() for r in getattr(t, s))) for s in ("sketches", "photos")]
    places = [{record: k for k, record in enumerate(side)} for side in sides]
    positions = {
        name: (np.array([places[0][r] for r in t.sketches]), np.array([places[1][r] for r in t.photos]))
        for name, t in tests.items()
    }
    return Pool(*sides, positions, np.array([r.category in found.split.test for r in sides[0]]))
