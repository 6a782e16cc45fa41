"""Quick, Draw! files: both formats read alike, parts that never meet, and every bad line named by file and number."""

import itertools
import json
import os
import re

import numpy as np
import pytest

from sfhelpers.datasets import quickdraw
from sfhelpers.datasets.sketches import load_sketches
from sfhelpers.drawing import Drawing, ndjson
from sfhelpers.toyworld import CATEGORIES, quick
from tests.backbone_fixtures import refused

FEW = ("airplane", "cup", "key")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """12 quick drawings of three categories, simplified."""
    root = tmp_path_factory.mktemp("quick")
    quick.write_quick(root, 12, categories=FEW)
    return root


def lines(folder, *content):
    """Writes lines as `cat.ndjson`; gives the folder."""
    (folder / "cat.ndjson").write_bytes(b"\n".join(content) + b"\n")
    return folder


def line(key="1", drawing=None, **more):
    return json.dumps({"word": "cat", "key_id": key, "drawing": drawing or [[[0, 9, 5], [0, 3, 8]]]} | more).encode()


def test_every_category_is_drawn_within_the_screen_and_in_time_and_with_less_ink_by_a_hastier_hand():
    whose = list(itertools.product(("cow", "dog"), range(5), range(3)))  # category, individual, seed
    first, again = ([b"".join(s.tobytes() for s in quick.quick_drawing(*who)) for who in whose] for _ in range(2))
    assert first == again and len(set(first)) == 30
    ink = []
    for difficulty in (0.0, 1.0):
        drawings = [quick.quick_drawing(c, k, 0, difficulty) for c in CATEGORIES for k in range(3)]
        ink.append(sum(len(stroke) for strokes in drawings for stroke in strokes))
        for strokes in drawings:
            points = np.concatenate(strokes)
            assert min(map(len, strokes)) >= 2 and (np.diff(points[:, 2]) >= 0).all()
            assert points[:, :2].min() >= 0 and points[:, :2].max() <= quick.CANVAS
            assert max(stroke[0, 2] for stroke in strokes[1:] or strokes) <= quick.DEADLINE + 1000
    assert ink[1] < 0.9 * ink[0]


def test_what_is_written_is_read_back_and_both_formats_show_the_same(folder, tmp_path, monkeypatch):
    for path in folder.iterdir():  # as Google publishes them raw: in px of the screen and ms
        told = map(json.loads, path.read_text().splitlines())
        raw = ([stroke.T.tolist() for stroke in quick.quick_drawing(path.stem, k, 0)] for k in range(12))
        content = (json.dumps(a | {"drawing": b}) + "\n" for a, b in zip(told, raw, strict=True))
        (tmp_path / path.name).write_text("".join(content))
    simple, raw = (quickdraw.read(root, "9/3") for root in (folder, tmp_path))
    one, other = ([(d.category, d.line, d.instance, d.part) for d in found] for found in (simple, raw))
    assert one == other and len(simple) == 36 and {d.category for d in simple} == set(FEW)
    read, strokes_of = [], quickdraw._strokes
    monkeypatch.setattr(quickdraw, "_strokes", lambda content: read.append(len(content)) or strokes_of(content))
    first, second = (quickdraw.load_doodles(found[:6], 64) for found in (simple, raw))
    assert read == [doodle.length for doodle in simple[:6] + raw[:6]], "only the drawings asked for"
    assert first.shape == (6, 3, 64, 64) and first.min() >= 0 and first.max() == 1
    ink = [1 - images.mean(1).flatten(1) for images in (first, second)]
    alike = np.corrcoef(np.concatenate([x.numpy() for x in ink]))[:6, 6:]
    assert (alike.argmax(1) == np.arange(6)).all() and (np.diag(alike) > 0.6).all()
    boxed = json.loads((folder / "cup.ndjson").open().readline())["drawing"]
    assert max(max(axis) for stroke in boxed for axis in stroke) == 255


def test_a_drawing_fills_its_picture_whatever_its_own_units(tmp_path):
    small, large = [[[0, 10, 10, 0, 0], [0, 0, 5, 5, 0]]], [[[300, 900, 900, 300, 300], [100, 100, 400, 400, 100]]]
    root = lines(tmp_path, line("1", small), line("2", large))
    a, b = quickdraw.load_doodles(quickdraw.read(root), 100)
    assert (a - b).abs().mean() < 0.005
    rows, columns = np.nonzero((1 - a[0].numpy()) > 0.5)
    assert abs(columns.min() - 8) <= 2 and abs(rows.mean() - 49.5) < 1  # 8 % margin, centred
    thick = quickdraw.load_doodles(quickdraw.read(root)[:1], 100, line_width=0.06)
    assert (1 - thick).sum() > 2 * (1 - a).sum()


def test_parts_by_numbers_are_counted_and_parts_by_hash_do_not_move_and_few_are_nested(folder, tmp_path):
    found = quickdraw.read(folder, "9/3")
    for category in FEW:
        parts = [d.part for d in found if d.category == category]
        assert [parts.count(p) for p in ("train", "val", "test")] == [7, 2, 3]
    (tmp_path / "cup.ndjson").write_text((folder / "cup.ndjson").read_text().split("\n", 4)[4])
    before = {d.instance: d.part for d in quickdraw.read(folder) if d.category == "cup"}
    after = {d.instance: d.part for d in quickdraw.read(tmp_path)}
    assert len(after) == 8 and after.items() <= before.items()
    assert [d.part for d in quickdraw.read(tmp_path, "1/1")] in (["train", "test"], ["test", "train"])
    sketches = load_sketches("quickdraw", folder)
    three, one = sketches.few(3), sketches.few(1)
    assert len(three) == 9 and len(one) == 3 and set(one.records) < set(three.records)
    assert sketches.few(0) is sketches


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (line()[:40], "cannot be used (its drawing is cut or not JSON)"),
        (line("2", [[[1, 2], [3, 4], [5, 6]]]), "cannot be used (its drawing is not in the Quick, Draw! format)"),
        (b"[1, 2]", "cannot be used (its drawing is not in the Quick, Draw! format)"),
        (line("2", [[["1", "2"], ["3", "4"]]]), "cannot be used (a stroke's points are not M rows of two numbers"),
        (b"\xff\xfe\x00", "cannot be used ('utf-8' codec can't decode"),
        (line("1"), "repeats cat.ndjson line 1"),
    ],
)
def test_a_line_that_is_cut_empty_no_drawing_or_repeated_is_named_and_skipped_only_if_asked(tmp_path, bad, says):
    root = lines(tmp_path, line("1"), bad, line("3"))
    with refused(f"1 of 3 drawings .*{re.escape('cat.ndjson line 2 ' + says)}.* skip_broken=True"):
        quickdraw.read(root)
    with pytest.warns(UserWarning, match="1 of 3 drawings"):
        found = quickdraw.read(root, skip_broken=True)
    assert [d.line for d in found] == [1, 3]
    assert quickdraw.load_doodles(found, 32).shape == (2, 3, 32, 32)


def test_lines_without_key_are_known_by_their_content_and_ends_of_lines_are_no_error(tmp_path):
    own, other = (b'{"word":"cat","drawing":[[[0,9],[%d,9]]]}' % k for k in (0, 4))
    found = quickdraw.read(lines(tmp_path, b"\xef\xbb\xbf" + own + b"\r", other + b"\r"))
    assert len({d.instance for d in found}) == 2 and len(quickdraw.load_doodles(found, 32)) == 2
    half = line("x").replace(b'"x"', b'"\\ud800"')  # half a character, which JSON may hold and UTF-8 may not
    assert quickdraw.read(lines(tmp_path, half))[0].part in ("train", "val", "test")


def test_both_readers_of_a_file_agree_on_every_line_and_one_key_for_all_is_no_repetition(tmp_path):
    rng = np.random.default_rng(0)
    blank = [b"", b" \t", b"\r"]
    bad = [b"[1]", b"\xff", b"{", line("1", [[[1, 2], [3]]]), line("1", [[[1, 2], [3, 4], [9, 5]]])]
    for _ in range(40):
        good = [line("1", rng.integers(0, 256, (3, 2, 4)).tolist()) + rng.choice([b"", b"\r"]) for _ in range(4)]
        mixed = [good[0], *rng.permutation(np.array([*good[1:], *blank, *bad], dtype=object))]
        path = lines(tmp_path, *mixed) / "cat.ndjson"
        with pytest.warns(UserWarning, match="5 of 9 drawings"):
            kept = {doodle.line: doodle for doodle in quickdraw.read(tmp_path, skip_broken=True)}
        assert len(kept) == len({doodle.instance for doodle in kept.values()}) == 4
        for number, place in enumerate(place for place, content in enumerate(mixed, 1) if content.strip()):
            if place in kept:
                both = Drawing.load(path, number).strokes, quickdraw.draw(kept[place], 384).strokes
                one, other = ([stroke.points.tolist() for stroke in strokes] for strokes in both)
                assert one == other
            else:
                with refused("^'cat.ndjson' cannot be opened because "):
                    Drawing.load(path, number=number)
        with refused("it has 9 drawings and none of number 9"):
            Drawing.load(path, number=9)


def test_strokes_written_as_points_are_refused_and_drawings_that_the_game_did_not_guess_are_counted(tmp_path):
    rng = np.random.default_rng(0)
    for trial in range(100):
        strokes = [rng.integers(1, 256, (rng.integers(2, 4 + trial % 3), 2)) for _ in range(rng.integers(1, 5))]
        strokes = strokes if max(map(len, strokes)) > 2 else [np.tile(strokes[0], (2, 1))[:3]]
        times = np.cumsum([0, *rng.integers(1, 99, sum(map(len, strokes)))]).tolist()
        raw = [[*stroke.T.tolist(), [times.pop(0) for _ in stroke]] for stroke in strokes]
        for drawing in (raw, [stroke[:2] for stroke in raw]):
            assert len(quickdraw.read(lines(tmp_path, line(str(trial), drawing)))) == 1
        with refused("not in the Quick, Draw! format"):
            Drawing.parse(line("1", [stroke.tolist() for stroke in strokes]), "cat.ndjson")
    root = lines(tmp_path, line("1"), line("2", recognized=False), line("3", recognized=True))
    with pytest.warns(UserWarning, match="1 of 3 drawings under .* were not guessed by the game"):
        assert len(quickdraw.read(root)) == 3


def test_an_enormous_line_is_refused_without_reading_it_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(ndjson, "MAX_LINE", 1000)
    for long in (b"1" * 1001, b"1" * 1002, b"1" * 2003, b" " * 3000 + line("2")):
        lines(tmp_path, line("1"), long, line("3"), long)
        with pytest.warns(UserWarning, match="2 of 4 drawings .*line 2 has more than.*line 4 has"):
            assert [doodle.line for doodle in quickdraw.read(tmp_path, skip_broken=True)] == [1, 3]
        assert Drawing.load(tmp_path / "cat.ndjson", 2).strokes


def test_a_folder_without_drawings_says_what_was_found(tmp_path):
    (tmp_path / "photo").mkdir()
    with refused("photo/"):
        quickdraw.read(tmp_path)
    (tmp_path / "cat.ndjson").write_bytes(b"")
    os.mkfifo(tmp_path / "dog.ndjson")
    (tmp_path / "eel.ndjson").symlink_to("/dev/zero")
    (tmp_path / "owl.ndjson").symlink_to("nowhere")
    with refused(r"cat\.ndjson line 1 cannot be used .*dog\.ndjson cannot be read .*eel\.ndjson cannot be read"):
        quickdraw.read(tmp_path)
    with pytest.warns(UserWarning, match=r"owl\.ndjson cannot be read"), refused("no usable drawing"):
        quickdraw.read(tmp_path, skip_broken=True)


def test_every_ending_of_a_file_is_read_or_counted_and_two_files_of_one_category_are_refused(tmp_path):
    for number, name in enumerate(("cat.ndjson", "caf\u00e9.NDJSON", "dog.ndjson.gz", "owl.ndjson (1)", "a.json")):
        (tmp_path / name).write_bytes(line(str(number)))
    with pytest.warns(UserWarning, match=r"^2 files .*left out \(dog\.ndjson\.gz, owl\.ndjson \(1\)\)"):
        assert [doodle.category for doodle in quickdraw.read(tmp_path)] == ["caf\u00e9", "cat"]
    (tmp_path / "cafe\u0301.ndjson").write_bytes(line("9"))
    with refused("has the category of another file"):
        quickdraw.read(tmp_path)


def test_more_drawings_than_there_are_and_splits_that_are_none_fail(folder):
    for said, *given in (
        ("'airplane' has 12 drawings", "quickdraw", folder, "20/5"),
        *((f"split is '{split}'", "quickdraw", folder, split) for split in ("0/5", "20/", "parts")),
        ("no split '20/5'", "folder", folder, "20/5"),
        ("no sketches 'sketchy'", "sketchy"),
        ("takes no data_root", "toy", folder),
        ("-p data_root", "quickdraw"),
    ):
        with refused(said):
            load_sketches(*given)


def test_a_file_changed_after_it_was_read_is_noticed(tmp_path):
    root = lines(tmp_path, line("1"))
    found = quickdraw.read(root)
    lines(tmp_path, b"gone")
    with refused("has changed"):
        quickdraw.load_doodles(found, 32)
    (root / "cat.ndjson").unlink()
    with refused(r"cat\.ndjson cannot be read any more", FileNotFoundError):
        quickdraw.load_doodles(found, 32)
