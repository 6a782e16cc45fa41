"""Quick, Draw! (Google): a folder of a file a category, ndjson, binary or sketch-rnn's, indexed once, then drawn."""

import hashlib
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sfhelpers.datasets import layouts, packed, published, records
from sfhelpers.datasets.records import Record
from sfhelpers.drawing import Drawing, Stroke, ndjson
from sfhelpers.files import reading, shown

LINE_WIDTH = 2 / 160  # of the picture's side, as the toy world's sketches; Google's bitmaps, of 28 px, have 16 / 288
FORMATS = (".ndjson", ".bin", ".npz")
SAVED = re.compile(r"((full_)?(simplified|raw|binary)|sketchrnn)_|\.full$")  # what is about a category in saved files
FIRST = 100  # drawings of a file that the doctor looks at
VALIDATION = 0.2  # of the drawings to train on, where a split is given by numbers


@dataclass(frozen=True, slots=True)
class Doodle(Record):
    """One drawing in a file; `instance` is its key_id, or a sha256 of the line, or of a drawing that shares its key."""

    line: int = 0  # counted from 1; of a file without lines the drawing
    offset: int = 0  # in bytes
    length: int = 0
    content: bytes = b""  # (N, 3) int16 of sketch-rnn, whose files cannot be entered in the middle

    @property
    def digest(self) -> str:
        """Its key: two people may well draw the same straight line."""
        return self.instance

    @property
    def where(self) -> str:
        return f"{shown(self.path.name)} {'line' if self.lines else 'drawing'} {self.line}"

    @property
    def lines(self) -> bool:
        return self.path.suffix.lower() == ".ndjson"

    def unpacked(self, content: bytes) -> tuple[list[Stroke], str]:
        """As `_strokes`, of its bytes in a packed file."""
        try:
            return (packed.stroke3 if self.content else packed.binary_strokes)(content), ""
        except ValueError as error:
            return [], f"cannot be used ({str(error).partition(':')[0]})"


def find(root: Path) -> tuple[Path, dict[str, Path]]:
    """The folder with the files, the one that is passed or as published around it, and each category's file in it."""
    entry = published.DATASETS["quickdraw"]
    known, own = published.spellings(entry), [(base, _files(base)) for base in (root / n for n in entry["within"])]
    other = (
        (base, files)
        for base in layouts.around(entry, root)
        if known.keys() & map(published.compared, files := _files(base))
    )
    return next((found for found in own if found[1]), None) or next(other, own[0])


def _files(base: Path) -> dict[str, Path]:
    paths = (path for path in records.entries(base) if path.suffix.lower() in FORMATS)
    return {records.called(SAVED.sub("", path.stem)): path for path in paths}


def read(root: Path, split: str = "default", skip_broken: bool = False, name: str = "") -> list[Doodle]:
    """Where the drawings of a folder are, parted by their hashed keys, or as their npz files are; arguments and errors
    as of `load_sketches`."""
    parted([], split)  # which tells a split that cannot be before the files are read
    base, files = find(root)
    if said := layouts.moved(base, published.DATASETS["quickdraw"], root):
        warnings.warn(said, stacklevel=3)
    if not files:
        found = f"expected <category>.ndjson there (found: {records.contents(root)})"
        raise ValueError(f"no Quick, Draw! files under {shown(root)}: {found}; pass the folder that holds them.")
    others = [path for path in records.entries(base) if path not in files.values()]
    if twins := records.listed(path.name for path in others if path.suffix.lower() in FORMATS):
        raise ValueError(f"{twins} under {shown(base)} has the category of another file: rename it, or make them one.")
    others = [path for path in others if re.search(r"\.(ndjson|npz|npy|bin)", path.name, re.IGNORECASE)]
    if left := records.listed(path.name for path in others):
        what = f"{len(others)} files under {shown(base)} do not end in {', '.join(FORMATS)} and are left out ({left})"
        warnings.warn(f"{what}: unpack or rename those that are wanted.", stacklevel=3)
    found, problems, unrecognized = _indexed(files)
    counted = f"{len(problems)} of {len(found) + len(problems)} drawings"
    records.tell_broken(problems, counted, root, skip_broken, name)
    if not found:
        raise ValueError(f"no usable drawing is left under {shown(root)}: repair its lines or pass another folder.")
    if unrecognized:
        what = f"{unrecognized} of {len(found)} drawings under {shown(root)} were not guessed by the game and are used"
        warnings.warn(f"{what} all the same: to do without, delete lines of recognized false.", stacklevel=3)
    return parted(found, split)


def parted(found: list[Record], split: str) -> list[Record]:
    """Sketches by hashed names, but those of npz files as published; as "20/5", so many of a category to train on and
    to test; or as "fold1", of three: a third of each category is tested. ValueError for other splits, or too few."""
    numbers = re.fullmatch(r"([1-9]\d{0,8})/([1-9]\d{0,8})", split)
    fold = re.fullmatch("fold([123])", split)
    if split == "default":
        return [r if _npz(r) else replace(r, part=records.part_of(r.category, r.instance)) for r in found]
    if not (numbers or fold):
        wanted = "default, how many of a category train and are tested, as 20/5, or fold1, fold2 or fold3"
        raise ValueError(f"split is {split!r}: pass {wanted}.")
    groups = (list(group) for _, group in groupby(found, lambda record: record.category))
    if fold:
        return [record for group in groups for record in _folded(group, int(fold[1]))]
    return [record for group in groups for record in _counted(group, int(numbers[1]), int(numbers[2]))]


def draw(doodle: Doodle, side: int, line_width: float = LINE_WIDTH) -> Drawing:
    """One drawing from the disk, scaled as a whole and centred on `side` px of paper; `line_width` is a share of it."""
    try:
        with doodle.path.open("rb") as file:
            file.seek(doodle.offset)
            content = doodle.content or file.read(doodle.length)
            strokes, problem = (_strokes if doodle.lines else doodle.unpacked)(content)
    except OSError as error:
        what = f"{shown(doodle.path)} cannot be read any more ({error.strerror})"
        raise FileNotFoundError(f"{what}: put the file back, or read the folder again.") from error
    if problem:
        raise ValueError(f"{doodle.where} {problem}: it has changed, so read the folder again.")
    fitted = Drawing.fitted(strokes, side)  # whatever its own frame, as Google's bitmaps are
    return Drawing(side, tuple(Stroke(stroke.points, line_width * side) for stroke in fitted.strokes))


def load_doodles(doodles: Iterable[Doodle], side: int, line_width: float = LINE_WIDTH) -> Tensor:
    """Drawings as pictures, (B, 3, side, side) in [0, 1]: dark anti-aliased lines on white. Errors as `draw`."""
    pictures = [np.asarray(draw(doodle, side, line_width).to_image()) for doodle in doodles]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def _indexed(files: dict[str, Path]) -> tuple[list[Doodle], list[str], int]:
    """The usable drawings, what is wrong with the others, and how many the game did not recognise."""
    read: list[tuple[Doodle, str]] = []  # each with the sha256 of its strokes
    drawn: dict[str, str] = {}  # drawing of every key, "" of one that stands for several
    problems: list[str] = []
    unrecognized = 0
    for category, path in files.items():
        try:
            for doodle, strokes, problem, said in scan(path, category):
                if problem:
                    problems.append(f"{doodle.where} {problem}")
                    continue
                unrecognized += said.get("recognized") in (False, "false")
                drawing = hashlib.sha256(b"/".join(stroke.points.tobytes() for stroke in strokes)).hexdigest()
                key = doodle.instance
                if drawn.setdefault(key, drawing) != drawing:
                    drawn[key] = ""
                read.append((doodle, drawing))
        except OSError as error:  # a folder of that name, a link that leads nowhere, a file of somebody else's
            problems.append(f"{shown(path.name)} cannot be read ({os.strerror(error.errno)})")
    found: dict[str, Doodle] = {}
    for doodle, drawing in read:
        doodle = doodle if drawn[doodle.instance] else replace(doodle, instance=drawing)
        if (other := found.setdefault(doodle.instance, doodle)) is not doodle:
            problems.append(f"{doodle.where} repeats {other.where}")
    return list(found.values()), problems, unrecognized


def scan(path: Path, category: str) -> Iterator[tuple[Doodle, list[Stroke], str, dict]]:
    """Every drawing of a file, its strokes, what is wrong with it in a few words, and what else is said of it."""
    doodle = Doodle(path, "sketch", category, "")
    with reading(path), path.open("rb") as file:
        if path.suffix.lower() == ".npz":
            yield from _scan_npz(doodle)
            return
        for line, offset, content in ndjson.lines(file) if doodle.lines else packed.binary(file):
            doodle = replace(doodle, line=line, offset=offset, length=len(content))
            strokes, problem = (_strokes if doodle.lines else doodle.unpacked)(content)
            said = {} if problem else json.loads(content) if doodle.lines else packed.head(content)
            named = said.get("key_id")
            # A key may hold half a character, which JSON can and UTF-8 cannot.
            key = hashlib.sha256(content.strip()).hexdigest() if named is None else shown(str(named))
            yield replace(doodle, instance=key), strokes, problem, said


def _scan_npz(doodle: Doodle) -> Iterator[tuple[Doodle, list[Stroke], str, dict]]:
    try:
        for line, (part, content) in enumerate(packed.sketchrnn(doodle.path), 1):
            key = hashlib.sha256(content).hexdigest()
            doodle = replace(doodle, instance=key, line=line, part=part, content=content)
            yield doodle, *doodle.unpacked(content), {}
    except ValueError as error:
        yield replace(doodle, line=doodle.line + 1), [], f"cannot be used ({error})", {}


def _strokes(content: bytes) -> tuple[list[Stroke], str]:
    """The strokes of a line, or what is wrong with it in a few words that follow on its place."""
    if len(content) > ndjson.MAX_LINE:
        return [], f"has more than {ndjson.MAX_LINE / 1e6:.0f} MB"
    try:
        return ndjson.strokes_of(content.decode("utf-8-sig")), ""
    except ValueError as error:  # "its drawing is cut or not JSON: repair or delete that line."
        return [], f"cannot be used ({str(error).partition(':')[0]})"


def _npz(record: Record) -> bool:
    return bool(isinstance(record, Doodle) and record.content)


def _queue(group: list[Record]) -> list[Record]:
    return sorted(group, key=lambda r: (records.fraction(f"{r.category}/{r.instance}"), r.instance))


def _folded(group: list[Record], fold: int) -> list[Record]:
    tested = set(_queue(group)[fold - 1 :: 3])
    validates = {record for record in group if records.part_of(record.category, record.instance) == "val"} - tested
    parts = ("test" if r in tested else "val" if r in validates else "train" for r in group)
    return [replace(record, part=part) for record, part in zip(group, parts, strict=True)]


def _counted(group: list[Record], train: int, test: int) -> list[Record]:
    """`train` and `test` sketches of one category, the parts set; in their order."""
    category, queue = group[0].category, _queue(group)
    if _npz(group[0]):  # what is published as test is never trained on
        queue = [r for r in queue if r.part != "test"][:train] + [r for r in queue if r.part == "test"][:test]
    if len(queue) < train + test:
        what = f"{category!r} has {len(queue)} drawings, fewer than {train} to train on and {test} to test"
        raise ValueError(f"{what}: ask for fewer, or take the category's file away.")
    validation = max(1, round(VALIDATION * train)) if train > 1 else 0
    parts = Counter(train=train - validation, val=validation, test=test)
    chosen = dict(zip(queue, parts.elements(), strict=False))
    return [replace(record, part=chosen[record]) for record in group if record in chosen]
