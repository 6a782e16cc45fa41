"""Saved drawings come back; files that are none, or hostile, are refused in one sentence."""

import json
import re

import numpy as np
import pytest

from sfhelpers.drawing import Drawing, Stroke
from sfhelpers.drawing.strokes import MAX_POINTS, MAX_STROKES

SVG = '<svg xmlns="http://www.w3.org/2000/svg"{}>{}</svg>'
LAUGHS = """<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "ha ha ha ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><svg xmlns="http://www.w3.org/2000/svg"><title>&c;</title></svg>"""


def stroke(*points, width=4.0):
    return Stroke(np.array(points, dtype=float), width)


def drawing():
    """A bent line, a line of another width, a dot."""
    strokes = (stroke((20, 30), (200.25, 40), (300, 333.5)), stroke((50, 300), (150, 300), width=9.5), stroke((60, 90)))
    return Drawing(384, strokes)


def sentence(error):
    text = str(error.value)
    assert text.endswith(".") and ". " not in text and "\n" not in text
    return text


def opened(content, name="mine.svg", **wanted):
    return Drawing.parse(content.encode() if isinstance(content, str) else content, name, **wanted)


def test_our_own_svg_comes_back_as_it_was_drawn(tmp_path):
    path = tmp_path / "mine.svg"
    drawing().save(path, word="a <cat> & co")
    assert Drawing.load(path) == drawing()
    assert Drawing.load(path, size=192) == drawing().resized(192)
    text = path.read_text(encoding="utf-8")
    assert 'viewBox="0 0 384 384"' in text and "<title>a &lt;cat&gt; &amp; co</title>" in text


def test_the_largest_drawing_can_be_saved_and_loaded(tmp_path):
    points = np.random.default_rng(0).uniform(0, 384, (MAX_STROKES, MAX_POINTS // MAX_STROKES, 2)).round(2)
    largest = Drawing(384, tuple(Stroke(line, 4) for line in points))
    for name in ("large.svg", "large.ndjson"):
        largest.save(tmp_path / name)
        assert len(Drawing.load(tmp_path / name).strokes) == MAX_STROKES
    assert Drawing.load(tmp_path / "large.svg") == largest


def test_ndjson_is_in_the_simplified_format_of_quick_draw(tmp_path):
    line = np.stack([np.linspace(100, 300, 101), np.linspace(50, 152, 101)], 1)
    mine = Drawing(384, (Stroke(line, 4), stroke((100, 62), (100, 148)), stroke((121, 140))))
    mine.save(tmp_path / "mine.ndjson", word="roof")
    text = (tmp_path / "mine.ndjson").read_text(encoding="utf-8")
    assert text.endswith("\n") and text.count("\n") == 1
    expected = [[[0, 255], [0, 130]], [[0, 0], [15, 125]], [[27], [115]]]
    assert json.loads(text) == {"word": "roof", "drawing": expected}
    loaded = Drawing.load(tmp_path / "mine.ndjson")
    again = np.concatenate([item.points for item in loaded.strokes])
    ends = np.concatenate([line[[0, -1]], mine.strokes[1].points, mine.strokes[2].points])
    scale = np.ptp(again[:, 0]) / 200
    assert np.allclose((again - again[0]) / scale, ends - ends[0], atol=1)  # the form is kept, within a box of 255


def test_raw_quick_draw_lines_any_line_and_blank_lines_are_read():
    raw = {"word": "x", "drawing": [[[10.5, 700.25], [3, 90], [0, 16]], [[], []], [[5], [5], [20]]]}
    simple = {"word": "y", "drawing": [[[0, 9, 9], [0, 0, 9]]]}
    content = f"\n{json.dumps(raw)}\n\n{json.dumps(simple)}\n"
    assert [len(item.points) for item in opened(content, "a.ndjson").strokes] == [2, 1]
    assert [len(item.points) for item in opened(content, "A.NDJSON", number=1).strokes] == [3]


def test_a_foreign_svg_is_outlined_fitted_and_its_curves_are_smooth():
    shapes = """<defs><path d="M0 0 L 900 900"/></defs><rect width="100%" height="100%" fill="#FFF"/>
        <g fill="none" stroke="black" transform="translate(100 50) scale(2)"><circle cx="10" cy="10" r="10"/>
        <path d="m 10,10 h 5 z M 0 0 c 0 10 10 20 20 20" style="stroke-width:3"/><path stroke="none" d="M0 0L99 99"/>
        <g style="display: none"><path d="M0 0L99 99"/></g></g>"""
    found = opened(SVG.format(' viewBox="0 0 500 500"', shapes), size=200)
    circle, corner, curve = (item.points for item in found.strokes)
    assert np.allclose(np.hypot(*(circle - 100).T), 84, atol=0.1)  # fitted: a margin of 8% on each side
    assert 40 < len(circle) < 400 and len(corner) == 3 and np.allclose(corner[0], corner[2])
    assert np.hypot(*np.diff(curve, axis=0).T).max() < 4 and np.allclose(curve[[0, -1]], [[16, 16], [184, 184]])
    assert all(item.width == pytest.approx(200 * 4 / 384) for item in found.strokes)


def test_an_own_svg_that_was_edited_beyond_the_paper_is_fitted():
    text = drawing().to_file("svg").replace("20.00,30.00", "-500.00,30.00")
    assert opened(text).strokes[0].points.min() >= 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LAUGHS, "document type or entities"),
        ('<!DOCTYPE svg SYSTEM "file:///etc/hostname"><svg/>', "document type"),
        ("hello", "not an SVG"),
        ("<html><body/></html>", "first element is <html>"),
        ("<svg><path d='M0 0", "cut"),
        (SVG.format("", ""), "no path, line or shape"),
        (SVG.format("", "<path/>"), "no path, line or shape"),
        (SVG.format("", "<script>alert(1)</script>"), "script"),
        (SVG.format(' onload="alert(1)"', '<path d="M0 0L9 9"/>'), "script"),
        (SVG.format("", '<metadata><a href="JavaScript:alert(1)"/></metadata>'), "script"),
        (SVG.format("", "<foreignObject><p/></foreignObject>"), "foreign object"),
        (SVG.format("", '<image href="http://127.0.0.1/a.png"/>'), "<image>"),
        (SVG.format("", "<text>hello</text>"), "<text>"),
        (SVG.format("", '<use href="#a"/>'), "<use>"),
        (SVG.format("", '<path d="M0 0 L nan nan"/>'), "<path> whose 'd'"),
        (SVG.format("", '<path d="M0 0 L 1e999 3"/>'), "not a finite number"),
        (SVG.format("", '<path d="M0 0 L 1e300 3"/>'), "beyond"),
        (SVG.format("", '<line x1="inf" x2="3"/>'), "'x1'"),
        (SVG.format("", '<g transform="scale(9)evil"><path d="M0 0L9 9"/></g>'), "'transform'"),
        (SVG.format("", f'<g transform="{"scale(1)" * 400}"><path d="M0 0L9 9"/></g>'), "'transform'"),
        (SVG.format("", '<path d="L 1 1"/>'), "cannot be read"),
        (SVG.format("", f'<path d="M0 0{"h1" * (MAX_POINTS + 1)}"/>'), "20,000"),
        (SVG.format("", f'<path d="M0 0{"z" * 2_000_000}"/>'), "more than 20,000 points"),
        (SVG.format("", "<g>" * 100 + "</g>" * 100), "64 deep"),
        (SVG.format("", "<g>" * 1_000_000), "more than 10,000 tags"),
        (SVG.format("", '<path d="M0 0l1 1"/>' * (MAX_STROKES + 1)), "2,001 strokes"),
        (b"\xff\xfe<\x00s\x00v\x00g\x00", "not UTF-8"),
        (b"", "empty"),
        (b"x" * 5_000_001, "more than 5 MB"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 30 else "",
)
def test_an_svg_that_is_none_or_hostile_is_refused_in_one_sentence(content, words):
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        opened(content)
    assert sentence(caught).startswith("'mine.svg' ")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"word":"cat","drawing":[[[1,2],[3', "cut or not JSON"),
        ("[" * 100_000, "cut or not JSON"),
        ('{"drawing":[[[1,' + "9" * 5000 + "],[1,2]]]}", "cut or not JSON"),
        ("[1]", "Quick, Draw! format"),
        ('{"word":"cat"}', "Quick, Draw! format"),
        ('{"drawing":"[]"}', "Quick, Draw! format"),
        ('{"drawing":[]}', "no strokes"),
        ('{"drawing":[[[],[]]]}', "no strokes"),
        ('{"drawing":[[[1,2],[3]]]}', "of one length"),
        ('{"drawing":[[1,2]]}', "of one length"),
        ('{"drawing":[[["1"],["2"]]]}', "two numbers"),
        ('{"drawing":[[[NaN],[2]]]}', "not a finite number"),
        ('{"drawing":[[[1e999],[2]]]}', "not a finite number"),
        (json.dumps({"drawing": [[[1] * (MAX_POINTS + 1)] * 2]}), "20,001 points"),
        (" \n \n", "blank lines"),
        (b"\xff{}", "not UTF-8"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 30 else "",
)
def test_an_ndjson_that_is_none_or_hostile_is_refused_in_one_sentence(content, words):
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        opened(content, "mine.ndjson")
    assert sentence(caught).startswith("'mine.ndjson' ")


@pytest.mark.parametrize("number", [1, -1, 0.0, True, "0"])
def test_a_line_that_is_not_there_is_refused(number):
    with pytest.raises(ValueError, match="from 0 to 0") as caught:
        opened('{"drawing":[[[1,2],[3,4]]]}', "mine.ndjson", number=number)
    sentence(caught)


def test_a_file_of_100_megabytes_is_refused_without_opening_it(tmp_path, monkeypatch):
    path = tmp_path / "large.svg"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    monkeypatch.setattr("pathlib.Path.open", lambda *_: pytest.fail("the file was opened"))
    with pytest.raises(ValueError, match=r"100\.0 MB, more than 5 MB") as caught:
        Drawing.load(path)
    assert str(caught.value).endswith(".")


def test_other_places_and_suffixes_are_refused_in_one_sentence(tmp_path):
    (tmp_path / "folder.svg").mkdir()
    for name, kind, words in (
        ("none.svg", FileNotFoundError, "no drawing"),
        ("a.png", ValueError, "ends in '.png'"),
        ("folder.svg", ValueError, "no ordinary file"),
    ):
        with pytest.raises(kind, match=words):
            Drawing.load(tmp_path / name)
    for name, kind, words in (("a.png", ValueError, "ends in '.png'"), ("no/a.svg", FileNotFoundError, "no folder")):
        with pytest.raises(kind, match=words):
            drawing().save(tmp_path / name)


def test_a_failed_save_leaves_the_earlier_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "mine.svg"
    drawing().save(path)
    with pytest.raises(ValueError, match="nothing to save"):
        Drawing().save(path)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk"):
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        drawing().resized(256).save(path)
    assert Drawing.load(path) == drawing() and list(tmp_path.iterdir()) == [path]
