"""Quick, Draw! (Google): a folder of `<category>.ndjson`, raw or simplified, indexed once and read in batches."""

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

from sfhelpers.datasets import records
from sfhelpers.datasets.records import Record
from sfhelpers.drawing import Drawing, Stroke, ndjson
from sfhelpers.files import reading, shown

LINE_WIDTH = 2 / 160  # of the picture's side, as the toy world's sketches; Google's bitmaps, of 28 px, have 16 / 288
VALIDATION = 0.2  # of the drawings to train on, where a split is given by numbers


@dataclass(frozen=True, slots=True)
class Doodle(Record):
    """One drawing in a file; `instance` is its key_id, or a sha256 of the line, or of a drawing that shares its key."""

    line: int = 0  # counted from 1
    offset: int = 0  # of the line, in bytes
    length: int = 0

    @property
    def digest(self) -> str:
        """Its key: two people may well draw the same straight line."""
        return self.instance

    @property
    def where(self) -> str:
        return f"{shown(self.path.name)} line {self.line}"


def read(root: Path, split: str = "default", skip_broken: bool = False, name: str = "") -> list[Doodle]:
    """Where the drawings of a folder are, parted by their hashed keys; arguments and errors as of `load_sketches`."""
    numbers = re.fullmatch(r"([1-9]\d{0,8})/([1-9]\d{0,8})", split)
    if numbers is None and split != "default":
        raise ValueError(f"split is {split!r}: pass default, or how many of a category train and are tested, as 20/5.")
    paths = [path for path in records.entries(root) if ".ndjson" in path.name.lower()]
    files = {records.called(path.stem): path for path in paths if path.suffix.lower() == ".ndjson"}
    if not files:
        found = f"expected <category>.ndjson there (found: {records.contents(root)})"
        raise ValueError(f"no Quick, Draw! files under {shown(root)}: {found}; pass the folder that holds them.")
    others = [path for path in paths if path not in files.values()]
    if twins := records.listed(path.name for path in others if path.suffix.lower() == ".ndjson"):
        raise ValueError(f"{twins} under {shown(root)} has the category of another file: rename it, or make them one.")
    if packed := records.listed(path.name for path in others):
        what = f"{len(others)} files under {shown(root)} do not end in .ndjson and are left out ({packed})"
        warnings.warn(f"{what}: unpack or rename those that are wanted.", stacklevel=3)
    found, problems, unrecognized = _indexed(files)
    counted = f"{len(problems)} of {len(found) + len(problems)} drawings"
    records.tell_broken(problems, counted, root, skip_broken, name)
    if not found:
        raise ValueError(f"no usable drawing is left under {shown(root)}: repair its lines or pass another folder.")
    if unrecognized:
        what = f"{unrecognized} of {len(found)} drawings under {shown(root)} were not guessed by the game and are used"
        warnings.warn(f"{what} all the same: to do without, delete lines of recognized false.", stacklevel=3)
    if numbers is None:
        return [replace(doodle, part=records.part_of(doodle.category, doodle.instance)) for doodle in found]
    groups = (list(group) for _, group in groupby(found, lambda doodle: doodle.category))
    return [doodle for group in groups for doodle in _counted(group, int(numbers[1]), int(numbers[2]))]


def draw(doodle: Doodle, side: int, line_width: float = LINE_WIDTH) -> Drawing:
    """One drawing from the disk, scaled as a whole and centred on `side` px of paper; `line_width` is a share of it."""
    try:
        with doodle.path.open("rb") as file:
            file.seek(doodle.offset)
            strokes, problem = _strokes(file.read(doodle.length))
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
            for line, offset, content in _lines(path):
                doodle = Doodle(path, "sketch", category, "", line=line, offset=offset, length=len(content))
                strokes, problem = _strokes(content)
                if problem:
                    problems.append(f"{doodle.where} {problem}")
                    continue
                said = json.loads(content)
                unrecognized += said.get("recognized") in (False, "false")
                drawing = hashlib.sha256(b"/".join(stroke.points.tobytes() for stroke in strokes)).hexdigest()
                named = said.get("key_id")
                # A key may hold half a character, which JSON can and UTF-8 cannot.
                key = hashlib.sha256(content.strip()).hexdigest() if named is None else shown(str(named))
                if drawn.setdefault(key, drawing) != drawing:
                    drawn[key] = ""
                read.append((replace(doodle, instance=key), drawing))
        except OSError as error:  # a folder of that name, a link that leads nowhere, a file of somebody else's
            problems.append(f"{shown(path.name)} cannot be read ({os.strerror(error.errno)})")
    found: dict[str, Doodle] = {}
    for doodle, drawing in read:
        doodle = doodle if drawn[doodle.instance] else replace(doodle, instance=drawing)
        if (other := found.setdefault(doodle.instance, doodle)) is not doodle:
            problems.append(f"{doodle.where} repeats {other.where}")
    return list(found.values()), problems, unrecognized


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    with reading(path), path.open("rb") as file:
        yield from ndjson.lines(file)


def _strokes(content: bytes) -> tuple[list[Stroke], str]:
    """The strokes of a line, or what is wrong with it in a few words that follow on its place."""
    if len(content) > ndjson.MAX_LINE:
        return [], f"has more than {ndjson.MAX_LINE / 1e6:.0f} MB"
    try:
        return ndjson.strokes_of(content.decode("utf-8-sig")), ""
    except ValueError as error:  # "its drawing is cut or not JSON: repair or delete that line."
        return [], f"cannot be used ({str(error).partition(':')[0]})"


def _counted(doodles: list[Doodle], train: int, test: int) -> list[Doodle]:
    """`train` and `test` drawings of one category, the parts set; in the order of their lines."""
    category = doodles[0].category
    if len(doodles) < train + test:
        what = f"{category!r} has {len(doodles)} drawings, fewer than {train} to train on and {test} to test"
        raise ValueError(f"{what}: ask for fewer, or take the category's file away.")
    validation = max(1, round(VALIDATION * train)) if train > 1 else 0
    parts = Counter(train=train - validation, val=validation, test=test)
    queue = sorted(doodles, key=lambda d: (records.fraction(f"{category}/{d.instance}"), d.instance))
    chosen = [replace(doodle, part=part) for doodle, part in zip(queue, parts.elements(), strict=False)]
    return sorted(chosen, key=lambda doodle: doodle.line)
