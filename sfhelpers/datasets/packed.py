"""Quick, Draw! in its packed formats: binary files, and sketch-rnn's npz, read without unpickling anything."""

import pickletools
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sfhelpers.drawing import Stroke
from sfhelpers.drawing.ndjson import MAX_LINE
from sfhelpers.drawing.strokes import check_count

HEAD = struct.Struct("<Q2s?IH")  # key_id, country, recognized, timestamp, number of strokes
PARTS = {"train": "train", "valid": "val", "test": "test"}
# All that numpy names when it pickles an array of int16 arrays; a pickle with any other name is not opened.
WORDS = {"b", "O", "O8", "i2", "|", "<", "numpy", "ndarray", "dtype", "_reconstruct"}
WORDS |= {"numpy.core.multiarray", "numpy._core.multiarray"}


def binary(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Number from 1, offset and bytes of every drawing; of one that is cut or none what there is, and nothing after."""
    whole, number = True, 0
    while whole and (content := file.read(HEAD.size)):
        number, offset, whole = number + 1, file.tell() - len(content), len(content) == HEAD.size
        strokes = HEAD.unpack(content)[-1] if whole else 0
        while whole and strokes:
            count = file.read(2)
            points = file.read(size := 2 * int.from_bytes(count, "little"))
            content, strokes = content + count + points, strokes - 1
            whole = len(count) == 2 and len(points) == size and len(content) <= MAX_LINE
        yield number, offset, content


def head(content: bytes) -> dict[str, Any]:
    """What the head of a drawing says, by the names of the ndjson files."""
    key, _, recognized, _, _ = HEAD.unpack_from(content)
    return {"key_id": str(key), "recognized": recognized}


def binary_strokes(content: bytes) -> list[Stroke]:
    """The strokes of a drawing, one pixel wide; a ValueError's words follow on its place."""
    found, at = [], HEAD.size
    try:
        for _ in range(HEAD.unpack_from(content)[-1]):
            (count,) = struct.unpack_from("<H", content, at)
            found.append(np.frombuffer(content, np.uint8, 2 * count, at + 2).reshape(2, count).T)
            at += 2 + 2 * count
    except (struct.error, ValueError):
        raise ValueError("it is cut, or no binary file of Quick, Draw!") from None
    return _strokes(found)


def stroke3(content: bytes) -> list[Stroke]:
    """The strokes of (N, 3) int16, steps to the right and down and whether the pen is lifted; errors as above."""
    rows = np.frombuffer(content, "<i2").reshape(-1, 3)
    points = rows[:, :2].cumsum(axis=0, dtype=np.int64)
    return _strokes(np.split(points, np.flatnonzero(rows[:, 2]) + 1))


def _strokes(found: list[np.ndarray]) -> list[Stroke]:
    found = [points for points in found if len(points)]
    check_count(len(found), sum(map(len, found)))
    if not found:
        raise ValueError("it has no strokes")
    return [Stroke(points, 1.0) for points in found]


def sketchrnn(path: Path) -> Iterator[tuple[str, bytes]]:
    """Part and (N, 3) int16 of every drawing, one after another; a ValueError's words follow on the file's name."""
    try:
        with zipfile.ZipFile(path) as file:
            for member, part in PARTS.items():
                with file.open(f"{member}.npy") as stream:
                    version = np.lib.format.read_magic(stream)
                    getattr(np.lib.format, f"read_array_header_{version[0]}_0")(stream)
                    yield from ((part, content) for content in rows(stream))
    except (zipfile.BadZipFile, zlib.error, EOFError, LookupError, AttributeError) as error:
        raise ValueError(f"it is cut, or no npz file of sketch-rnn ({error})") from error


class _Bounded:
    """A stream of which nothing long is read at once, whatever a pickle says of its strings' lengths."""

    def __init__(self, stream: BinaryIO):
        self.stream = stream

    def read(self, size: int) -> bytes:
        if size > MAX_LINE:
            raise ValueError("it holds more at once than a drawing has")
        return self.stream.read(size)

    def readline(self) -> bytes:
        return self.stream.readline(MAX_LINE)


def rows(stream: BinaryIO) -> Iterator[bytes]:
    """The content of every (N, 3) int16 array in a pickled array of arrays: its byte strings of some length.

    The pickle's opcodes are read one by one, and none is carried out. ValueError for what numpy does not write there.
    """
    last = ""
    for opcode, value, _ in pickletools.genops(_Bounded(stream)):
        text = value.encode("latin-1", "replace") if isinstance(value, str) else value  # as Python 2 wrote it
        if isinstance(text, bytes) and len(text) > 5 and opcode.name.endswith(("STRING", "BYTES")):
            if len(text) % 6:
                raise ValueError("it holds an array that has other than three columns")
            yield np.frombuffer(text, "<i2").reshape(3, -1).T.tobytes() if last == "NEWTRUE" else text  # by columns
        elif isinstance(value, str | bytes) and (other := {*text.decode("latin-1").split()} - WORDS):
            raise ValueError(f"it names {min(other)!r}, which no drawing needs, and is not opened")
        last = opcode.name
