"""Datasets by name: every adapter gives the same records, and every image has been opened once before it is used."""

import warnings
from dataclasses import replace
from pathlib import Path

from sfhelpers import toyworld
from sfhelpers.datasets import folder, layouts, published, sketchy
from sfhelpers.datasets.records import PLURAL, Dataset, Record, first_sketches, pairs, without_broken
from sfhelpers.files import shown
from sfhelpers.params import data_folder

__all__ = ["Dataset", "Record", "SPLITS", "first_sketches", "load_dataset", "pairs"]

PUBLISHED = [name for name, entry in published.DATASETS.items() if {"splits", "tested"} & entry.keys()]
SPLITS = dict.fromkeys(("toy", *toyworld.FURTHER), ("default",))
SPLITS |= {name: published.names_of(published.DATASETS[name]) for name in PUBLISHED} | {"folder": ("default", "parts")}
UNSEEN = {"toy": toyworld.UNSEEN, "toy-restyled": (*toyworld.UNSEEN, *toyworld.NEW)}


def load_dataset(
    name: str, root: str | Path = "", split: str = "default", limit: int = 0, skip_broken: bool = False, seed: int = 0
) -> Dataset:
    """Find a dataset's files, part them, and check that each image can be opened.

    Args:
        name: "toy", "toy-restyled" (other drawings and photos, partly of other categories) or "toy-instances" (120
            chairs and 120 shoes), all made on the spot and kept in the user's cache; "folder", whose files are in
            `root`, or one of PUBLISHED, whose files are in it as published, or below or above it, with a warning.
        split: "default": seen categories have about 60 % train, 15 % val and 25 % test photos, unseen ones test
            alone, but those of "toy-instances" are parted too; in "folder" all is test, unless split is "parts", which
            divides it likewise. Published ones have splits by name, as "100/25", of which "default" is the first.
        limit: at most so many photos a category, chosen by `seed`; 0 takes all.
        skip_broken: leave broken images out with a warning that names and counts them, instead of an error.

    ValueError, FileNotFoundError or NotADirectoryError, one sentence, for what is not there, empty, laid out otherwise
    or broken.
    """
    if name not in SPLITS:
        raise ValueError(f"there is no dataset {name!r}: choose one of {', '.join(SPLITS)}.")
    if split not in SPLITS[name]:
        raise ValueError(f"dataset {name!r} has no split {split!r}: choose one of {', '.join(SPLITS[name])}.")
    base = data_folder(name, root) or (toyworld.ensure() if name == "toy" else toyworld.ensure_further(name))
    if name in PUBLISHED:
        entry = published.DATASETS[name]
        split = SPLITS[name][1] if split == "default" else split  # which rows of results shall name
        tree = layouts.locate(entry, base)
        if said := layouts.moved(tree.base, entry, base):
            warnings.warn(said, stacklevel=2)
        base = tree.base
        found = layouts.read(entry, tree, layouts.role_of(entry, base, split), limit, seed, skip_broken)
    elif name == "folder":
        found = folder.read(base, split, limit, seed, skip_broken)
    else:
        found = sketchy.read(base, UNSEEN.get(name, ()), limit, seed, skip_broken)
    if name == "toy-instances":  # what is unseen is learned from too: individuals are held back, and no category
        found = [replace(record, seen=record.category in toyworld.SEEN) for record in found]
    usable = without_broken(found, base, skip_broken, name)
    if not usable:
        raise ValueError(f"no usable image is left under {shown(base)}: replace the broken files.")
    there = {(record.category, record.domain) for record in usable}
    for category, kind in sorted({(name, kind) for name, _ in there for kind in PLURAL} - there):
        raise ValueError(f"{category!r} under {shown(base)} is left without a usable {kind}: add one or take it away.")
    return Dataset(name, base, split, tuple(usable))
