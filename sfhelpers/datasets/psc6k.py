"""PSC6K (Lu et al., ICML 2023): eight corresponding points on photos of a Sketchy tree (A) and their sketches (B)."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from sfhelpers.datasets import records, sketchy
from sfhelpers.datasets.records import Dataset, Record
from sfhelpers.files import reading, shown

NAME = "test_pairs_ps.csv"
COLUMNS = ("photo", "sketch", "class", "XA", "YA", "XB", "YB")  # X: eight numbers, px to the right, empty if hidden
FRAME = 256  # pixels; a point up to half of one outside, as rounding leaves some, is put onto the edge
POINTS = 8
SPLITS = ("default", "60:40", "self-supervised")


@dataclass(frozen=True, eq=False)
class KeypointPair:
    """One annotated sketch-photo pair; category, instance, part and seen are the same in both records."""

    sketch: Record
    photo: Record
    sketch_points: np.ndarray  # (8, 2) float64, x then y, in pixels of a 256 x 256 frame; NaN where not given
    photo_points: np.ndarray
    visible: np.ndarray  # (8,) bool, the points that are given in both


@dataclass(frozen=True)
class Annotated:
    """What a correspondence model is trained and tested on, and the dataset and split that it comes from."""

    pairs: tuple[KeypointPair, ...]  # part by record: to be trained on with their keypoints, or tested
    unlabelled: Dataset  # of the parts train and val, for training without keypoints ("self-supervised")
    dataset: str
    split: str

    def select(self, part: str, seen: bool | None = None) -> list[KeypointPair]:
        return [p for p in self.pairs if p.photo.part == part and seen in (None, p.photo.seen)]

    def fingerprint(self) -> str:
        images = dict.fromkeys(record for pair in self.pairs for record in (pair.sketch, pair.photo))
        points = [array.tobytes() for pair in self.pairs for array in (pair.sketch_points, pair.photo_points)]
        return records.fingerprint([*images, *self.unlabelled.records], points)


def load(dataset: Dataset, split: str = "default", limit: int = 0, seed: int = 0) -> Annotated:
    """Read the keypoints that lie beside a dataset in Sketchy's layout, of the images that it has, and part them.

    Args:
        split: "default": the dataset's own parts. "60:40": the paper's, see `sixty_forty`; every category is seen.
            "self-supervised": no keypoint is trained on. All annotated pairs are tested and the tree's other pairs
            train, unless the table annotates most of the tree, as the toy world's does: then the dataset's own parts.
        limit: at most so many annotated photos a category, and as many unlabelled ones, by `seed`; 0 takes all.

    ValueError or FileNotFoundError, one sentence, for an unknown split, no table, a row that cannot be, with its line,
    or an image file that is trained on and tested with under two names.
    """
    if split not in SPLITS:
        raise ValueError(f"there is no split {split!r} of the keypoints: choose one of {', '.join(SPLITS)}.")
    root = dataset.root
    around = sketchy.tree(root).parents[:3]  # as published, PSC6K/ lies beside Sketchy/rendered_256x256/256x256/
    places = [place / name for place in (root, *around) for name in (NAME, f"PSC6K/{NAME}")]
    if (table := next(filter(Path.is_file, places), None)) is None:
        raise FileNotFoundError(f"no keypoints beside {shown(root)}: expected {NAME} in it, PSC6K/ or a folder above.")
    if not (pairs := read(table, dataset)):
        raise ValueError(f"{shown(table)} annotates none of the {len(dataset.photos)} photos: check both.")
    annotated = list(dict.fromkeys(pair.photo for pair in pairs))
    photos = set(records.limited(annotated, limit, seed))
    pairs = [pair for pair in pairs if pair.photo in photos]
    unlabelled = replace(dataset, records=())
    if split == "60:40":
        pairs = sixty_forty(pairs)
    if split == "self-supervised":
        if 2 * len(annotated) > len(dataset.photos):  # most of the tree
            pairs = [pair for pair in pairs if pair.photo.part == "test"]
            annotated = [photo for photo in annotated if photo.part == "test"]
        pairs = [_parted(pair, "test", pair.photo.seen) for pair in pairs]
        held = set(map(_instance, annotated))
        rest = [r for r in dataset.records if r.seen and r.part != "test" and _instance(r) not in held]
        taken = set(map(_instance, records.limited([r for r in rest if r.domain == "photo"], limit, seed)))
        unlabelled = replace(dataset, records=tuple(r for r in rest if _instance(r) in taken))
    images = dict.fromkeys(record for pair in pairs for record in (pair.photo, pair.sketch))
    taught = [record for record in images if record.part != "test"]
    records.check_apart([*unlabelled.records, *taught], [record for record in images if record.part == "test"])
    return Annotated(tuple(pairs), unlabelled, dataset.name, split)


def _instance(record: Record) -> tuple[str, str]:
    return record.category, record.instance


def read(path: Path, dataset: Dataset) -> list[KeypointPair]:
    """The pairs whose two images are in the dataset, in the table's order, except those without a visible point."""
    known = {record.path.parts[-4:]: record for record in dataset.records}  # what every unpacking keeps
    lines: dict[tuple, int] = {}
    found = []
    for line, row in _rows(path):
        where = f"line {line} of {shown(path)}"
        keys = tuple(_image(row[kind], kind, dataset.root, where) for kind in ("photo", "sketch"))
        if (first := lines.setdefault(keys, line)) != line:
            raise ValueError(f"{where} repeats the pair of line {first}: delete one of them.")
        in_photo, in_sketch = (_points(row, letter, where) for letter in "AB")
        visible = np.isfinite(in_photo).all(1) & np.isfinite(in_sketch).all(1)
        if all(key in known for key in keys):
            photo, sketch = (known[key] for key in keys)
            if _instance(photo) != _instance(sketch):
                both = shown(f"{sketch.path.name} with {photo.path.name}")
                raise ValueError(f"{where} pairs {both}, which it does not show.")
            found += [KeypointPair(sketch, photo, in_sketch, in_photo, visible)] * bool(visible.any())
    return found


def _rows(path: Path) -> list[tuple[int, dict]]:
    try:
        with reading(path), path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            if lacking := [name for name in COLUMNS if name not in (table.fieldnames or ())]:
                raise ValueError(f"{shown(path)} has no column {', '.join(lacking)}: it needs {', '.join(COLUMNS)}.")
            return [(table.line_num, row) for row in table]
    except (UnicodeDecodeError, csv.Error) as error:
        what = f"{shown(path)} cannot be read as CSV in UTF-8 after its line {table.line_num} ({error})"
        raise ValueError(f"{what}: repair that line or save the table anew.") from error


def sixty_forty(pairs: Iterable[KeypointPair]) -> list[KeypointPair]:
    """The pairs parted as in the paper: of each category the first 60 % of the photos, by file name, train."""
    ordered = sorted(pairs, key=lambda pair: (pair.photo.category, pair.photo.path.name, pair.sketch.path.name))
    found = []
    for category, some in groupby(ordered, key=lambda pair: pair.photo.category):
        some = list(some)
        photos = list(dict.fromkeys(pair.photo.path for pair in some))
        if len(photos) < 3:
            has = f"{category!r} has {len(photos)} annotated photos but 60:40 needs three, to train, validate and test"
            raise ValueError(f'{has}: add photos, or use split="default".')
        train = max(2, len(photos) * 3 // 5)  # the last of them validates; the paper chooses its epoch on the test
        parts = dict(zip(photos, ["train"] * (train - 1) + ["val"] + ["test"] * len(photos), strict=False))
        found += [_parted(pair, parts[pair.photo.path], seen=True) for pair in some]
    return found


def _parted(pair: KeypointPair, part: str, seen: bool) -> KeypointPair:
    photo, sketch = (replace(record, part=part, seen=seen) for record in (pair.photo, pair.sketch))
    return replace(pair, photo=photo, sketch=sketch)


def _image(text: str | None, kind: str, root: Path, where: str) -> tuple[str, ...]:
    key = Path(text or "").parts[-4:]  # photo or sketch, rendering, category, file
    base = sketchy.tree(root)
    if len(key) != 4 or key[0] != kind:
        raise ValueError(f"{where} has the {kind} {text!r}: expected .../{kind}/tx_000100000000/<category>/<file>.")
    if not base.joinpath(*key).is_file():
        raise ValueError(f"{where} names {'/'.join(key)}, not there under {shown(base)}: unpack it or delete the line.")
    return key


def _points(row: dict, letter: str, where: str) -> np.ndarray:
    names = [f"X{letter}", f"Y{letter}"]
    cells = [[cell.strip() or "nan" for cell in (row[name] or "").split(";")] for name in names]
    if [len(column) for column in cells] != [POINTS, POINTS]:
        raise ValueError(f"{where} has not {POINTS} numbers in each of {' and '.join(names)}: leave hidden ones empty.")
    try:
        points = np.array(cells, dtype=float).T
    except ValueError as error:
        raise ValueError(f"{where}, {' or '.join(names)}: {error}; give numbers, empty where hidden.") from error
    if (np.isnan(points[:, 0]) != np.isnan(points[:, 1])).any():
        raise ValueError(f"{where} gives only one of X{letter} and Y{letter} of a point: give both, or neither.")
    if len(outside := points[((points < -0.5) | (points > FRAME + 0.5)).any(1)]):
        x, y = outside[0]
        raise ValueError(f"{where} has ({x:g}, {y:g}), outside the {FRAME} px frame: correct it, or leave it empty.")
    return points.clip(0, FRAME)
