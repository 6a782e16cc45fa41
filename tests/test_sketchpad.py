"""The sketch pad: what was drawn stays drawn, whatever else goes wrong, and Python and front end agree about it."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import traitlets

from sfhelpers.drawing import PRESETS, Drawing, Stroke
from sfhelpers.drawing.strokes import MAX_POINTS
from sfhelpers.widgets.sketchpad import HISTORY, SketchPad
from tests.backbone_fixtures import refused

LINE = [[10, 20], [30.5, 40], [100, 200.25]]
STROKE = {"do": "stroke", "points": LINE, "width": 4, "size": 384}


def from_page(pad, *buffers, **message):
    """A message as the front end sends it."""
    pad._handle_msg({"content": {"data": {"method": "custom", "content": message}}, "buffers": list(buffers)})


def draw(pad, points, width=4, size=384, number=0):
    from_page(pad, do="stroke", points=points, width=width, size=size, id=number)


@pytest.fixture
def pad():
    return SketchPad()


@pytest.fixture
def drawn(pad):
    draw(pad, LINE)
    return pad


@pytest.fixture
def sent(monkeypatch):
    """What the pads of a test tell the front end, in order."""
    messages = []
    monkeypatch.setattr(SketchPad, "_send", lambda pad, message, buffers=None: messages.append(message))
    return messages


def agree(pad):
    """The plain numbers that the front end shows are the drawing that Python has."""
    strokes = tuple(Stroke(item["points"], item["width"]) for item in pad.strokes)
    rounded = tuple(Stroke(item.points.round(2), item.width) for item in pad.drawing.strokes)
    return strokes == rounded and pad.size == pad.drawing.size


def test_a_stroke_from_the_front_end_is_drawn_and_told_once_and_given_back_before_it_is_done(pad, sent):
    heard = []
    pad.on_drawn(heard.append)
    draw(pad, LINE, width=6, number="page-1")
    assert pad.strokes == [{"width": 6.0, "points": LINE}]
    assert heard == [pad.drawing] == [Drawing(384, (Stroke(LINE, 6),))]
    assert agree(pad)
    draw(pad, "broken", number="page-2")
    told = ["strokes" in message.get("state", {}) or message.get("content") for message in sent]
    assert told == [True, {"done": "page-1"}, None, {"done": "page-2"}]


def test_undo_redo_and_clear_walk_through_all_that_was_done(pad):
    def assign():
        pad.drawing = PRESETS["fish"].resized(200)  # scaled to the paper

    seen = [pad.drawing]
    for step in (lambda: draw(pad, LINE), lambda: pad.preset("cup"), pad.clear, assign, lambda: draw(pad, [[5, 5]])):
        step()
        seen.append(pad.drawing)
    assert seen[4] == PRESETS["fish"].resized(200).resized(384) and pad.undoable and not pad.redoable
    for earlier in reversed(seen[:-1]):
        from_page(pad, do="undo")
        assert pad.drawing == earlier and agree(pad)
    assert not pad.undoable and pad.redoable
    for later in seen[1:]:
        pad.redo()
        assert pad.drawing == later and agree(pad)
    pad.undo()
    draw(pad, LINE)
    assert not pad.redoable  # a new stroke is a new future
    pad.redo()
    assert pad.words == "There is nothing to redo."


def test_the_history_is_bounded_and_nothing_to_undo_or_to_clear_changes_nothing(pad):
    pad.clear()
    assert not pad.undoable
    for _ in range(HISTORY + 5):
        draw(pad, [[5, 5]])
    for _ in range(HISTORY + 5):
        pad.undo()
    assert len(pad.drawing.strokes) == 5 and "nothing to undo" in pad.words and not pad.wrong


def test_another_size_scales_the_drawing_its_history_and_strokes_on_their_way(drawn, sent):
    before = drawn.drawing
    from_page(drawn, do="size", value=512)
    assert drawn.drawing == before.resized(512) and agree(drawn)
    together = [message["state"] for message in sent if "size" in message.get("state", {})]
    assert len(together) == 1 and "strokes" in together[0]  # never the strokes of one size on the paper of another
    draw(drawn, LINE, size=384)  # drawn before the page knew of the new size
    assert np.allclose(drawn.drawing.strokes[1].points, drawn.drawing.strokes[0].points)
    drawn.undo()
    from_page(drawn, do="size", value=256)
    drawn.undo()
    assert drawn.drawing == Drawing(256)
    drawn.redo()
    from_page(drawn, do="size", value=384)
    assert all(np.allclose(one.points, LINE) for one in drawn.drawing.strokes) and agree(drawn)


def test_a_stroke_beyond_the_edge_is_cut_and_one_beside_the_paper_is_no_step(pad):
    draw(pad, [[300, 100], [500, 100]])
    draw(pad, [[400, 100], [500, 100]])
    assert pad.strokes == [{"width": 4.0, "points": [[300, 100], [384, 100]]}]
    pad.undo()
    assert pad.strokes == [] and not pad.undoable


def test_files_are_saved_and_loaded_from_code_and_through_the_page(drawn, sent, tmp_path):
    mine = drawn.drawing
    mine.save(tmp_path / "mine.svg")
    drawn.clear()
    drawn.drawing = Drawing.load(tmp_path / "mine.svg")
    from_page(drawn, memoryview(b"<svg><script/></svg>"), do="open", name="<img src=x>.svg")
    assert "<img src=x>.svg" in drawn.words and drawn.wrong and drawn.drawing == mine and agree(drawn)
    from_page(drawn, PRESETS["tree"].to_file("svg").encode(), do="open", name="tree.svg")
    assert drawn.drawing == PRESETS["tree"] and drawn.words == "Opened tree.svg."
    for kind in ("svg", "ndjson"):
        from_page(drawn, **{"do": "save", "as": kind, "id": 7})
        assert sent[-1]["content"] == {"file": f"drawing.{kind}", "text": PRESETS["tree"].to_file(kind), "id": 7}
    drawn.clear()
    from_page(drawn, **{"do": "save", "as": "svg", "id": 8})
    assert "nothing to save" in drawn.words and drawn.wrong


def test_two_threads_lose_no_stroke(pad):
    def scribble(number):
        for step in range(40):
            draw(pad, [[number, step], [step, number]])

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(scribble, range(4)))
    sys.setswitchinterval(interval)
    assert len(pad.drawing.strokes) == len(pad.strokes) == 160 and agree(pad)


@pytest.mark.parametrize(
    "message",
    [
        *[STROKE | {"points": points} for points in ("abc", [[1, 2], [3]], [[1, float("nan")]], [])],
        STROKE | {"points": [[k % 100, 9] for k in range(MAX_POINTS)]},  # too many with those of the line before
        *[STROKE | wrong for wrong in ({"width": "4"}, {"width": 30}, {"size": [384]}, {"size": 300})],
        *[{"do": what} for what in ("stroke", "undo()", None)],
        {"do": "preset", "name": []},
        {"do": "size", "value": 1e9},
        {"do": "open", "name": "a.svg"},
        {},
    ],
)
def test_what_is_wrong_with_a_message_is_said_in_one_sentence_and_nothing_is_lost(drawn, message):
    before = drawn.drawing
    from_page(drawn, **message)
    assert drawn.wrong and drawn.words.endswith(".") and ". " not in drawn.words
    assert drawn.drawing == before and agree(drawn)
    draw(drawn, [[7, 8], [9, 10]])
    assert len(drawn.drawing.strokes) == 2 and not drawn.wrong and drawn.words == ""


def test_what_does_not_fit_is_refused_in_one_sentence_and_a_page_sets_neither_strokes_nor_size(drawn):
    for words, act, *given in (
        ("'size' trait .* not the int 300", SketchPad, 300),
        ("drawing is a str", setattr, drawn, "drawing", "cup"),
        ("width is 'wide'", setattr, drawn, "line_width", "wide"),
        ("width is 0", drawn.set_state, {"line_width": 0}),
    ):
        with refused(words, (ValueError, traitlets.TraitError)):
            act(*given)
        assert (drawn.size, drawn.line_width, len(drawn.strokes)) == (384, 4, 1)
    drawn.set_state({"strokes": [], "size": 512, "line_width": 9})
    assert (drawn.size, drawn.line_width, len(drawn.strokes)) == (384, 9, 1) and agree(drawn)
