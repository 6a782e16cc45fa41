"""Quick, Draw! (Google): a folder of `<category>.ndjson`, raw or simplified, indexed once, read from disk in batches.

Source: the README of googlecreativelab/quickdraw-dataset. Both formats are told apart line by line: a stroke of the raw
one has times. Simplified drawings stand in the upper left corner of a box of 255, raw ones anywhere on a screen of any
size; like Google's own bitmaps they are scaled as a whole and centred by their bounding box.
"""

import hashlib
import json
import re
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
from sfhelpers.files import shown

# Of the picture's side. Google's bitmaps have 16 / 288, made for 28 px; this is a pen of 2 px on a picture of 160, as
# thick as the lines of the toy world's sketches.
LINE_WIDTH = 2 / 160
MAX_LINE = 5_000_000  # bytes; a drawing has some thousand
VALIDATION = 0.2  # of the drawings to train on, where a split is given by numbers


@dataclass(frozen=True, slots=True)
class Doodle(Record):
    """One drawing in a file; its `instance` is its key_id, or, where a line has none, the sha256 of the line."""

    line: int = 0  # counted from 1
    offset: int = 0  # of the line, in bytes
    length: int = 0

    @property
    def digest(self) -> str:
        """Drawings are told apart by their keys: of a straight line, two people may well draw the same."""
        return self.instance

    @property
    def where(self) -> str:
        return f"{shown(self.path.name)} line {self.line}"


def read(root: Path, split: str = "default", skip_broken: bool = False, name: str = "") -> list[Doodle]:
    """Where the drawings of a folder are; every line is looked at once and none is kept.

    Arguments as of `load_sketches`; drawings are parted by their hashed keys, and repeated ones are broken.
    """
    numbers = re.fullmatch(r"([1-9]\d{0,8})/([1-9]\d{0,8})", split)
    if numbers is None and split != "default":
        raise ValueError(f"split is {split!r}: pass default, or how many of a category train and are tested, as 20/5.")
    files = {records.nfc(path.stem): path for path in sorted(root.glob("*.ndjson")) if not path.name.startswith(".")}
    if not files:
        there = f"expected <category>.ndjson there (found: {records.contents(root)})"
        raise ValueError(f"no Quick, Draw! files under {shown(root)}: {there}; pass the folder that holds them.")
    found, problems = _indexed(files)
    counted = f"{len(problems)} of {len(found) + len(problems)} drawings"
    records.tell_broken(problems, counted, root, skip_broken, name)
    if not found:
        raise ValueError(f"no usable drawing is left under {shown(root)}: repair its lines or pass another folder.")
    if numbers is None:
        return [replace(doodle, part=records.part_of(doodle.category, doodle.instance)) for doodle in found]
    groups = (list(group) for _, group in groupby(found, lambda doodle: doodle.category))
    return [doodle for group in groups for doodle in _counted(group, int(numbers[1]), int(numbers[2]))]


def draw(doodle: Doodle, side: int, line_width: float = LINE_WIDTH) -> Drawing:
    """One drawing from the disk, scaled as a whole and centred on `side` px of paper, 16 to 1024, with 8 % margin.

    `line_width` is a share of the side. ValueError or FileNotFoundError if the file has changed since it was read.
    """
    try:
        with doodle.path.open("rb") as file:
            file.seek(doodle.offset)
            strokes, problem = _strokes(file.read(doodle.length))
    except OSError as error:
        where = f"{shown(doodle.path)} cannot be read any more ({error.strerror})"
        raise FileNotFoundError(f"{where}: put the file back, or read the folder again.") from error
    if problem:
        raise ValueError(f"{doodle.where} {problem}: it has changed, so read the folder again.")
    fitted = Drawing.fitted(strokes, side)
    return Drawing(side, tuple(Stroke(stroke.points, line_width * side) for stroke in fitted.strokes))


def load_doodles(doodles: Iterable[Doodle], side: int, line_width: float = LINE_WIDTH) -> Tensor:
    """Drawings as pictures, (B, 3, side, side) in [0, 1]: dark anti-aliased lines on white. Errors as `draw`."""
    pictures = [np.asarray(draw(doodle, side, line_width).to_image()) for doodle in doodles]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def _indexed(files: dict[str, Path]) -> tuple[list[Doodle], list[str]]:
    """The usable drawings, and what is wrong with the others."""
    found: dict[str, Doodle] = {}  # by their keys
    problems: list[str] = []
    for category, path in files.items():
        if problem := _file_problem(path):
            problems.append(f"{shown(path.name)} {problem}")
            continue
        for line, offset, content in _lines(path):
            problem = _strokes(content)[1]
            named = None if problem else json.loads(content).get("key_id")
            # A key may hold half a character, which JSON can and UTF-8 cannot.
            key = hashlib.sha256(content.strip()).hexdigest() if named is None else shown(str(named))
            doodle = Doodle(path, "sketch", category, key, line=line, offset=offset, length=len(content))
            if not problem and (other := found.setdefault(key, doodle)) is not doodle:
                problem = f"repeats {'' if named is None else 'the key_id of '}{other.where}"
            if problem:
                problems.append(f"{doodle.where} {problem}")
    return list(found.values()), problems


def _file_problem(path: Path) -> str:
    """What is wrong with a file in a few words that follow on its name, "" if it can be read."""
    if not path.is_file():
        return "is a folder" if path.is_dir() else "is a link that leads nowhere" if path.is_symlink() else "is no file"
    try:
        with path.open("rb") as file:
            return "" if file.read(1) else "is empty"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Number, offset and content of every line; of one that is too long only its beginning, as the last."""
    with path.open("rb") as file:
        line, offset = 1, 0
        while content := file.readline(MAX_LINE + 1):
            yield line, offset, content
            if len(content) > MAX_LINE:
                return
            line, offset = line + 1, offset + len(content)


def _strokes(content: bytes) -> tuple[list[Stroke], str]:
    """The strokes of a line, or what is wrong with it in a few words that follow on its place."""
    if len(content) > MAX_LINE:
        return [], f"has more than {MAX_LINE / 1e6:.0f} MB"
    if not content.strip():
        return [], "is empty"
    try:
        return ndjson.strokes_of(content.decode("utf-8-sig")), ""
    except UnicodeDecodeError:
        return [], "is not UTF-8 text"
    except ValueError as error:  # "its drawing is cut or not JSON: repair or delete that line."
        reason = str(error).partition(":")[0]
        return [], reason.removeprefix("its drawing ") if reason.startswith("its") else f"cannot be used ({reason})"


def _counted(doodles: list[Doodle], train: int, test: int) -> list[Doodle]:
    """`train` and `test` drawings of one category, the parts set; in the order of their lines."""
    category = doodles[0].category
    if len(doodles) < train + test:
        has = f"{category!r} has {len(doodles)} drawings, fewer than {train} to train on and {test} to test"
        raise ValueError(f"{has}: ask for fewer, or take the category's file away.")
    validation = max(1, round(VALIDATION * train)) if train > 1 else 0
    parts = Counter(train=train - validation, val=validation, test=test)
    queue = sorted(doodles, key=lambda d: (records.fraction(f"{category}/{d.instance}"), d.instance))
    chosen = [replace(doodle, part=part) for doodle, part in zip(queue, parts.elements(), strict=False)]
    return sorted(chosen, key=lambda doodle: doodle.line)
