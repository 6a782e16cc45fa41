"""What a sketch pad refuses: one sentence on the pad, the drawing stays, and drawing goes on."""

import pytest

from sfhelpers.drawing.strokes import MAX_POINTS
from sfhelpers.widgets.sketchpad import SketchPad
from tests.test_sketchpad import LINE, agree, draw, from_page


@pytest.fixture
def drawn():
    pad = SketchPad()
    draw(pad, LINE)
    return pad


@pytest.mark.parametrize(
    "message",
    [
        {"do": "stroke", "points": "abc", "width": 4, "size": 384},
        {"do": "stroke", "points": [[1, 2], [3]], "width": 4, "size": 384},
        {"do": "stroke", "points": [[1, None]], "width": 4, "size": 384},
        {"do": "stroke", "points": [[1, float("nan")]], "width": 4, "size": 384},
        {"do": "stroke", "points": [], "width": 4, "size": 384},
        {"do": "stroke", "points": LINE, "width": float("inf"), "size": 384},
        {"do": "stroke", "points": LINE, "width": "4", "size": 384},
        {"do": "stroke", "points": LINE, "width": 4, "size": 0},
        {"do": "stroke", "points": LINE, "width": 4, "size": [384]},
        {"do": "stroke", "points": [[1, 2]] * (MAX_POINTS + 1), "width": 4, "size": 384},
        {"do": "stroke"},
        {"do": "preset", "name": "<b>dog"},
        {"do": "preset", "name": []},
        {"do": "size", "value": 1e9},
        {"do": "save", "as": "exe", "id": 1},
        {"do": "open", "name": "a.svg"},
        {"do": "undo()"},
        {},
    ],
    ids=lambda message: f"{message.get('do')}-{len(message.get('points', ''))}",
)
def test_what_is_wrong_with_a_message_is_said_in_one_sentence_and_nothing_is_lost(drawn, message):
    before = drawn.drawing
    from_page(drawn, **message)
    assert drawn.wrong and drawn.words.endswith(".") and ". " not in drawn.words
    assert drawn.drawing == before and agree(drawn)
    draw(drawn, [[7, 8], [9, 10]])
    assert len(drawn.drawing.strokes) == 2 and not drawn.wrong and drawn.words == ""


def test_a_drawing_that_grows_too_large_keeps_what_it_has(drawn):
    full = [[100 + k % 2, 50] for k in range(MAX_POINTS - len(LINE))]
    draw(drawn, full)
    assert drawn.drawing.points == MAX_POINTS
    draw(drawn, [[1, 1]])
    assert "20,001 points" in drawn.words and drawn.drawing.points == MAX_POINTS and agree(drawn)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("strokes", "<b>", "not a list"),
        ("strokes", [3], "not a list"),
        ("strokes", [{}], "two numbers"),
        ("strokes", [{"width": 4, "points": [[1, float("inf")]]}], "finite"),
        ("strokes", [{"width": -1, "points": [[1, 2]]}], "width is -1"),
        ("size", 300, "size is 300"),
        ("size", [], "size is"),
        ("line_width", 0, "width is 0"),
        ("line_width", "wide", "width is 'wide'"),
    ],
)
def test_traits_refuse_what_does_not_fit_from_code_and_from_the_front_end(drawn, name, value, words):
    before = drawn.drawing, drawn.line_width
    with pytest.raises(ValueError, match=words):
        setattr(drawn, name, value)
    with pytest.raises(ValueError, match=words):
        drawn.set_state({name: value})
    assert (drawn.drawing, drawn.line_width) == before and agree(drawn)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"size": 300}, "size is 300"), ({"line_width": 99}, "width is 99"), ({"drawing": "cup"}, "drawing is a str")],
)
def test_wrong_arguments_are_refused_in_one_sentence(arguments, words):
    with pytest.raises(ValueError, match=words) as caught:
        SketchPad(**arguments)
    assert str(caught.value).endswith(".")
