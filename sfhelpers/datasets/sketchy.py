"""The Sketchy database (Sangkloy et al. 2016) as its `rendered_256x256` archive lays it out, masks optional."""

from collections.abc import Collection
from os.path import isdir
from pathlib import Path

from sfhelpers.datasets import layouts, published, records
from sfhelpers.datasets.records import Record

RENDERING = "tx_000100000000"  # photos cropped to the object's box plus 10 %; sketches centred


def read(root: Path, unseen: Collection[str], limit: int = 0, seed: int = 0, skip_broken: bool = False) -> list[Record]:
    """Records of `256x256/{photo,sketch}/tx_000100000000/<category>/*` and masks `256x256/mask/.../<stem>.png`.

    Sketch `n02691156_58-1.png` was drawn from photo `n02691156_58.jpg` and is in its part; photos that show anything of
    an unseen category and lone ones are tested. `limit` and `seed` choose photos, which keep all their sketches.
    """
    base = tree(root)
    found = layouts.Tree(base, {domain: [base / domain / RENDERING] for domain in records.PLURAL})
    return layouts.read(published.DATASETS["sketchy"], found, layouts.by_class(unseen), limit, seed, skip_broken)


def tree(root: Path) -> Path:
    """The folder `256x256` of a root that is it or holds it, alone or within the folders that it is published in."""
    places = [root / place / "256x256" for place in ("", "rendered_256x256", "Sketchy/rendered_256x256")]
    return root if root.name == "256x256" else next(filter(isdir, places), places[0])
