"""PSC6K (Lu et al., ICML 2023): eight corresponding points on each photo of a Sketchy tree and on its sketches.

`test_pairs_ps.csv` has the columns photo, sketch, class, XA, YA, XB, YB: A is the photo, B the sketch, eight numbers
separated by semicolons, in pixels of a 256 x 256 frame, X horizontal. (The official loader calls XA `y1` and stacks
(row, column); only the names mislead.) Here the points of hidden keypoints may be left empty, which the real file
never does.
"""

import csv
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from sfhelpers.datasets import contents
from sfhelpers.datasets.records import Dataset, Record, limited, listed
from sfhelpers.files import shown

NAME = "test_pairs_ps.csv"
COLUMNS = ("photo", "sketch", "class", "XA", "YA", "XB", "YB")
FRAME = 256  # pixels
POINTS = 8
SPLITS = ("default", "60:40", "self-supervised")
TRAIN_SHARE = (3, 5)  # of a category's photos, in the 60:40 protocol


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
        """As `contents.fingerprint`: it changes with any image, keypoint or part."""
        images = [record for pair in self.pairs for record in (pair.sketch, pair.photo)]
        points = [array.tobytes() for pair in self.pairs for array in (pair.sketch_points, pair.photo_points)]
        return contents.fingerprint([*dict.fromkeys(images), *self.unlabelled.records], points)


def load(
    dataset: Dataset,
    split: str = "default",
    categories: Collection[str] | None = None,
    limit: int = 0,
    seed: int = 0,
) -> Annotated:
    """Read the keypoints that lie beside a dataset in Sketchy's layout, and part them.

    Rows of images that `dataset` has left out (its `limit`, its broken images) are left out.

    Args:
        dataset: from `load_dataset("toy")` or `load_dataset("sketchy", root)`.
        split: "default": the dataset's own parts; unseen categories are tested alone.
            "60:40": the paper's, supervised and inside the annotated set: per category the first 60 % of the photos,
            by file name, train and the rest is tested. The paper has no validation part and chooses its epoch on the
            test part; here the last training photo of each category validates. Every category is seen.
            "self-supervised": no keypoint is trained on. All annotated pairs are tested and the tree's other pairs
            train, unless the table annotates most of the tree, as the toy world's does: then the dataset's own parts.
        categories: take these alone.
        limit: at most so many annotated photos a category, and as many unlabelled ones; 0 takes all. The benchmark
            annotates a tenth of Sketchy's photos, so a limit given to `load_dataset` would leave few of them.
        seed: chooses the photos if `limit` leaves some out.

    Raises:
        ValueError, FileNotFoundError: one sentence, for an unknown split or category, no table, a row that cannot be,
            with its line, or an image file that is trained on and tested with under two names.
    """
    if split not in SPLITS:
        raise ValueError(f"there is no split {split!r} of the keypoints: choose one of {', '.join(SPLITS)}.")
    known = set(dataset.categories)
    missing = sorted(set(categories or ()) - known)
    if missing:
        raise ValueError(f"there is no category {listed(missing)} in {dataset.name}: it has {listed(sorted(known))}.")
    kept = dataset.select(categories=categories)
    pairs = read(_table(dataset.root), kept)
    if not pairs:
        raise ValueError(f"{shown(_table(dataset.root))} annotates none of the {len(kept.photos)} photos: check both.")
    annotated = list(dict.fromkeys(pair.photo for pair in pairs))
    photos = set(limited(annotated, limit, seed))
    pairs = [pair for pair in pairs if pair.photo in photos]
    unlabelled = replace(kept, records=())
    if split == "60:40":
        pairs = sixty_forty(pairs)
    if split == "self-supervised":
        pairs, rest = _unsupervised(pairs, kept, annotated)
        taken = {(photo.category, photo.instance) for photo in limited(list(rest.photos), limit, seed)}
        unlabelled = replace(rest, records=tuple(r for r in rest.records if (r.category, r.instance) in taken))
    check_parts(pairs)
    sides: dict[bool, list[Record]] = {True: [], False: list(unlabelled.records)}
    for pair in pairs:
        sides[pair.photo.part == "test"] += [pair.photo, pair.sketch]
    contents.check_apart(sides[False], sides[True])
    return Annotated(tuple(pairs), unlabelled, dataset.name, split)


def read(path: Path, dataset: Dataset) -> list[KeypointPair]:
    """The pairs whose two images are in the dataset, in the table's order, except those without a visible point."""
    records = {_key(record.path): record for record in dataset.records}
    seen: dict[tuple, int] = {}
    found = []
    for line, row in _rows(path):
        where = f"line {line} of {shown(path)}"
        keys = [_image(row[kind], kind, dataset.root, where) for kind in ("photo", "sketch")]
        if tuple(keys) in seen:
            raise ValueError(f"{where} repeats the pair of line {seen[tuple(keys)]}: delete one of them.")
        seen[tuple(keys)] = line
        points = [_points(row, letter, where) for letter in "AB"]
        if all(key in records for key in keys):
            photo, sketch = (records[key] for key in keys)
            if (photo.category, photo.instance) != (sketch.category, sketch.instance):
                raise ValueError(f"{where} pairs {sketch.path.name} with {photo.path.name}, which it does not show.")
            visible = np.isfinite(points[0]).all(1) & np.isfinite(points[1]).all(1)
            if visible.any():
                found.append(KeypointPair(sketch, photo, points[1], points[0], visible))
    return found


def _rows(path: Path) -> Iterator[tuple[int, dict]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            lacking = [name for name in COLUMNS if name not in (table.fieldnames or ())]
            if lacking:
                raise ValueError(f"{shown(path)} has no column {', '.join(lacking)}: it needs {', '.join(COLUMNS)}.")
            for row in table:
                yield table.line_num, row
    except UnicodeDecodeError as error:
        raise ValueError(f"{shown(path)} is not UTF-8 text: save the table as CSV in UTF-8.") from error
    except csv.Error as error:
        where = f"line {table.reader.line_num} of {shown(path)}"
        raise ValueError(f"{where} cannot be read as CSV ({error}): repair it or delete the line.") from error


def sixty_forty(pairs: Iterable[KeypointPair]) -> list[KeypointPair]:
    """The pairs with the parts of the paper's 60:40 protocol, see `load`; the real set gives 3,750 and 2,500 pairs."""
    ordered = sorted(pairs, key=lambda pair: (pair.photo.category, pair.photo.path.name, pair.sketch.path.name))
    found = []
    for category, group in groupby(ordered, key=lambda pair: pair.photo.category):
        some = list(group)
        photos = list(dict.fromkeys(pair.photo.path for pair in some))
        if len(photos) < 3:
            raise ValueError(
                f"{category!r} has {len(photos)} annotated photos but 60:40 needs three, one each to train, validate "
                'and test: add photos, or use split="default".'
            )
        train = max(2, len(photos) * TRAIN_SHARE[0] // TRAIN_SHARE[1])
        part = {photo: "train" if i < train - 1 else "val" if i < train else "test" for i, photo in enumerate(photos)}
        found += [_parted(pair, part[pair.photo.path], seen=True) for pair in some]
    return found


def check_parts(pairs: Iterable[KeypointPair]) -> None:
    """ValueError if an image is in two parts, since what is trained on must not be tested."""
    parts: dict[Path, str] = {}
    for pair in pairs:
        for record in (pair.photo, pair.sketch):
            other = parts.setdefault(record.path, record.part)
            if other != record.part:
                raise ValueError(
                    f"the parts overlap: {record.path.name} is in {other} and in {record.part}; "
                    "put all pairs of a photo into one part."
                )


def _unsupervised(
    pairs: list[KeypointPair], dataset: Dataset, annotated: list[Record]
) -> tuple[list[KeypointPair], Dataset]:
    if 2 * len(annotated) > len(dataset.photos):
        pairs = [pair for pair in pairs if pair.photo.part == "test"]
        annotated = [photo for photo in annotated if photo.part == "test"]
    held = {(photo.category, photo.instance) for photo in annotated}
    rest = (r for r in dataset.records if r.seen and r.part != "test" and (r.category, r.instance) not in held)
    return [_parted(pair, "test", pair.photo.seen) for pair in pairs], replace(dataset, records=tuple(rest))


def _parted(pair: KeypointPair, part: str, seen: bool) -> KeypointPair:
    photo, sketch = (replace(record, part=part, seen=seen) for record in (pair.photo, pair.sketch))
    return replace(pair, photo=photo, sketch=sketch)


def _table(root: Path) -> Path:
    places = [root / NAME, root / "PSC6K" / NAME, root.parent / NAME, root.parent / "PSC6K" / NAME]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"no keypoints beside {shown(root)}: expected {NAME} of PSC6K in it, in PSC6K/ or in the folder above."
    )


def _key(path: str | Path) -> tuple[str, ...]:
    return Path(path).parts[-4:]  # photo or sketch, rendering, category, file: what every unpacking keeps


def _image(text: str | None, kind: str, root: Path, where: str) -> tuple[str, ...]:
    key = _key(text or "")
    base = root if root.name == "256x256" else root / "256x256"
    if len(key) != 4 or key[0] != kind:
        raise ValueError(f"{where} has the {kind} {text!r}: expected .../{kind}/tx_000100000000/<category>/<file>.")
    if not base.joinpath(*key[:3]).is_dir():
        raise ValueError(f"{where} names the category {key[2]!r}, which {shown(base / kind)} does not have: add it.")
    if not base.joinpath(*key).is_file():
        raise ValueError(f"{where} names {'/'.join(key)}, not there under {shown(base)}: unpack it or delete the line.")
    return key


def _points(row: dict, letter: str, where: str) -> np.ndarray:
    columns = []
    for axis in "XY":
        cells = (row[axis + letter] or "").split(";")
        if len(cells) != POINTS:
            raise ValueError(f"{where} has {len(cells)} numbers in {axis}{letter}: give {POINTS}, empty where hidden.")
        try:
            columns.append([float(cell) if cell.strip() else np.nan for cell in cells])
        except ValueError as error:
            raise ValueError(f"{where}, {axis}{letter}: {error}; give numbers, empty where hidden.") from error
    points = np.array(columns).T
    if (np.isnan(points[:, 0]) != np.isnan(points[:, 1])).any():
        raise ValueError(f"{where} gives only one of X{letter} and Y{letter} of a point: give both, or neither.")
    outside = ~np.isnan(points).any(1) & ~((points >= 0) & (points <= FRAME)).all(1)
    if outside.any():
        x, y = points[outside.argmax()]
        raise ValueError(f"{where} has ({x:g}, {y:g}), outside the {FRAME} px frame: correct it, or leave it empty.")
    return points
