"""Quick, Draw!'s packed formats: drawn as the ndjson files are, never unpickled, and every cut file told."""

import io
import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from sfhelpers.datasets import packed, quickdraw
from sfhelpers.datasets.sketches import load_sketches
from tests.backbone_fixtures import refused

DRAWINGS = [[[[0, 200, 90 + k], [0, 30, 255]], [[10, 20], [200, 210]]] for k in range(12)]  # strokes of xs and ys


def ndjson(root):
    lines = [
        json.dumps({"word": "cat", "key_id": str(k), "recognized": True, "drawing": d}) for k, d in enumerate(DRAWINGS)
    ]
    (root / "cat.ndjson").write_text("\n".join(lines))


def binary(root):
    content = b""
    for key, drawing in enumerate(DRAWINGS):
        content += struct.pack("<Q2sbIH", key, b"DE", 1, 1_700_000_000, len(drawing))
        content += b"".join(struct.pack(f"<H{len(x)}B{len(x)}B", len(x), *x, *y) for x, y in drawing)
    (root / "cat.bin").write_bytes(content)


def rows(drawing):
    """The steps of a drawing, (N, 3), with the pen lifted at the end of each stroke."""
    points = np.concatenate([np.array(stroke).T for stroke in drawing])
    lifted = np.concatenate([[0] * (len(x) - 1) + [1] for x, _ in drawing])
    return np.column_stack([np.diff(points, axis=0, prepend=[[0, 0]]), lifted]).astype(np.int16, order="C")


def python2(arrays):
    """The bytes of a .npy file as numpy wrote it under Python 2, whose pickles have byte strings for names and data."""

    def array(shape, kind, data):
        head = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        sizes = b"".join(b"J" + struct.pack("<i", size) for size in shape) + (b"\x85" if len(shape) == 1 else b"\x86")
        order = b"|" if kind == b"O8" else b"<"
        dtype = b"cnumpy\ndtype\nU\x02" + kind + b"K\x00K\x01\x87R(K\x03U\x01" + order
        flags = b"K\x3f" if kind == b"O8" else b"K\x00"
        return head + sizes + dtype + b"NNN" + 2 * b"J\xff\xff\xff\xff" + flags + b"tb\x89" + data + b"tb"

    inner = [array(a.shape, b"i2", b"T" + struct.pack("<i", a.nbytes) + a.tobytes()) for a in arrays]
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|O", "fortran_order": False, "shape": (len(arrays),)})
    return head.getvalue() + b"\x80\x02" + array((len(arrays),), b"O8", b"](" + b"".join(inner) + b"e") + b"."


def python3(arrays, protocol=4):
    held = np.empty(len(arrays), object)
    held[:] = arrays
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|O", "fortran_order": False, "shape": held.shape})
    return head.getvalue() + pickle.dumps(held, protocol=protocol)


def npz(root, write=python3, name="cat.npz"):
    parts = {"train": DRAWINGS[:8], "valid": DRAWINGS[8:10], "test": DRAWINGS[10:]}
    with zipfile.ZipFile(root / name, "w", zipfile.ZIP_DEFLATED) as file:
        for part, some in parts.items():
            file.writestr(f"{part}.npy", write([rows(drawing) for drawing in some]))


WRITERS = {
    "bin": binary,
    "python 2": lambda root: npz(root, python2),
    "python 3": npz,
    "protocol 3": lambda root: npz(root, lambda arrays: python3(arrays, 3)),
    "by columns": lambda root: npz(root, lambda arrays: python3([np.asfortranarray(array) for array in arrays])),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_format_shows_the_same_drawings(writer, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    ndjson(tmp_path / "one")
    WRITERS[writer](tmp_path / "two")
    one, two = (quickdraw.read(tmp_path / name) for name in ("one", "two"))
    assert len(one) == len(two) == 12 and {d.category for d in two} == {"cat"}
    same = quickdraw.load_doodles(one, 64) == quickdraw.load_doodles(two, 64)
    assert same.all(), "to the last pixel"
    assert len({doodle.instance for doodle in two}) == 12 and quickdraw.draw(two[3], 64).strokes
    if writer == "bin":
        assert [d.instance for d in two] == [str(k) for k in range(12)] and two[1].where == "cat.bin drawing 2"


def test_numpy_itself_reads_what_stands_for_its_files(tmp_path):
    for write in (python2, python3):
        content = write([rows(drawing) for drawing in DRAWINGS])
        read = np.load(io.BytesIO(content), allow_pickle=True, encoding="latin1")
        assert all((a == rows(drawing)).all() for a, drawing in zip(read, DRAWINGS, strict=True))


def test_the_published_parts_of_npz_files_stay_and_what_is_published_as_test_is_never_trained_on(tmp_path):
    npz(tmp_path, name="sketchrnn_cat.full.npz")
    parts = [doodle.part for doodle in quickdraw.read(tmp_path)]
    assert parts == ["train"] * 8 + ["val"] * 2 + ["test"] * 2
    published = {doodle.line: doodle.part for doodle in quickdraw.read(tmp_path)}
    found = quickdraw.read(tmp_path, "6/2")
    assert all((published[d.line] == "test") == (d.part == "test") for d in found) and len(found) == 8
    with refused("'cat' has 11 drawings, fewer than 9 to train on and 3"):
        quickdraw.read(tmp_path, "9/3")
    assert load_sketches("quickdraw", tmp_path).images([0, 11], 32).shape == (2, 3, 32, 32)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda: python3([Evil()]), "it names '(posix|nt|mkdir)', which no drawing needs, and is not opened"),
        (lambda: python3([Evil()], 2), "it names '(mkdir|posix|_codecs)'"),
        (lambda: python3([rows(DRAWINGS[0]).astype(np.float32)]), "it names 'f4'"),
        (lambda: python3([np.zeros((4, 2), np.int16)]), "other than three columns"),
        (lambda: python3([rows(DRAWINGS[0])])[:-9], "pickle exhausted|cut"),
        (lambda: python3([])[:128] + b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x", "holds more at once"),
        (lambda: b"no npy", "reading magic string"),
    ],
)
def test_a_pickle_runs_nothing_and_whatever_no_drawing_needs_is_refused(content, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("cat.npz", "w") as file:
        file.writestr("train.npy", content())
    with pytest.raises(ValueError, match=said):
        list(packed.sketchrnn(tmp_path / "cat.npz"))
    with refused(r"1 of \d drawings .*cat.npz drawing \d cannot be used"):
        quickdraw.read(tmp_path, name="cat.npz")
    assert not (tmp_path / "evil").exists()


def test_files_cut_anywhere_tell_the_drawing_and_keep_those_before_it(tmp_path):
    binary(tmp_path)
    whole = (tmp_path / "cat.bin").read_bytes()
    size = len(whole) // 12
    for cut in (size + 1, size + 17, size + 18, size + 20, 2 * size - 1):
        (tmp_path / "cat.bin").write_bytes(whole[:cut])
        with pytest.warns(UserWarning, match=r"1 of 2 drawings .*cat\.bin drawing 2 cannot be used \(it is cut"):
            assert [d.line for d in quickdraw.read(tmp_path, skip_broken=True)] == [1]
    (tmp_path / "cat.bin").write_bytes(whole[:2] + b"\xff" * 500_000)
    with refused("1 of 1 drawings .*is cut, or no binary file"):
        quickdraw.read(tmp_path)
    (tmp_path / "cat.bin").unlink()
    for content in (b"", b"PK\x03\x04 and no more"):
        (tmp_path / "cat.npz").write_bytes(content)
        with refused("cat.npz drawing 1 cannot be used .it is cut, or no npz"):
            quickdraw.read(tmp_path)


def test_two_formats_of_one_category_are_refused(tmp_path):
    ndjson(tmp_path)
    binary(tmp_path)
    with refused("has the category of another file"):
        quickdraw.read(tmp_path)
