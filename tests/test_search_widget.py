"""Draw and search: renewed after every stroke, chosen by clicks, and no drawing lost to a wrong word."""

import html
import io
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from sfhelpers.drawing import PRESETS, Drawing, Stroke
from sfhelpers.plots.found import Answer, search_sheet
from sfhelpers.search.gallery import Gallery
from sfhelpers.search.searcher import Searcher
from sfhelpers.widgets.search import EMPTY, SketchSearch
from tests.search_helpers import photo

LINE = Stroke(np.array([[20.0, 20.0], [300.0, 200.0]]), 4.0)
MORE = Stroke(np.array([[40.0, 300.0], [300.0, 310.0]]), 4.0)
DOT = Drawing(strokes=(Stroke(np.array([[9.0, 9.0]]), 4.0),))


@pytest.fixture(scope="module")
def searcher(tiny_backbone, heads, tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for name in ("cat", "fish", "a <b> $x$"):
        for k in range(3):
            photo(root / name / f"{k}.png", len(name) + 10 * k, size=(40 + 20 * k, 40))
    return Searcher(Gallery.from_folder(root, tiny_backbone), tiny_backbone, heads)


@pytest.fixture
def widget(searcher):
    found = SketchSearch(searcher)
    found.pad.drawing = Drawing(strokes=(LINE,))
    return found


def stroke(pad, line):
    """As the pad's front end reports one."""
    points = line.points.tolist()
    pad._heard(pad, {"do": "stroke", "points": points, "width": line.width, "size": pad.size, "id": 1}, [])


def test_every_stroke_is_answered_anew_from_its_best_photo_and_a_click_beside_all_changes_nothing(widget, searcher):
    before, answered = widget.image.value, widget.found
    widget.update(place=2, points=[(0.5, 0.3)])
    stroke(widget.pad, MORE)
    assert widget.image.value != before and Image.open(io.BytesIO(widget.image.value)).format == "PNG"
    found = widget.found
    assert found.matches == searcher.search(Drawing(strokes=(LINE, MORE))).matches and len(found.matches) == 5
    assert found.photo == found.order[0] and widget.controls["place"].value == 0
    widget.image.click(0.999, 0.999)
    assert widget.found is found
    widget.pad.undo()
    assert np.array_equal(widget.found.scores, answered.scores)


def click(widget, box, u=0.5, v=0.5):
    """On a place in one of the sheet's boxes."""
    left, top, width, height = box
    page = widget._sheet
    widget.image.click((left + u * width) / page._width, (top + v * height) / page._height)


def test_another_photo_is_looked_into_by_slider_click_and_code_and_named_as_its_folder_is(widget):
    order = widget.found.order.tolist()
    widget.controls["place"].value = 2
    assert widget.found.photo == order[2]
    click(widget, widget._sheet.photos[1])
    assert widget.found.photo == order[1] and widget.controls["place"].value == 1
    for place in range(6):
        widget.update(place=place)
        assert widget.found.photo == order[place] and widget.controls["place"].value == place
        name = widget.searcher.gallery.records[widget.found.photo].category
        assert html.escape(name) in widget.words.value and "<b>" not in widget.words.value


def test_points_are_chosen_by_clicks_and_given_back_by_none(widget):
    first, box = widget.found.matches, widget._sheet.sketches[0]
    click(widget, box, 0.5, 0.3)
    click(widget, box, 0.3, 0.25)
    assert [match.sketch for match in widget.found.matches] == [pytest.approx((0.5, 0.3)), pytest.approx((0.3, 0.25))]
    for _ in range(10):
        click(widget, box, 0.5, 0.3)
    assert len(widget.found.matches) == 7
    widget.update(points=None)
    assert widget.found.matches == first


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"drawing": DOT}, "the drawing is a single dot"),
        ({"drawing": "<i>cat"}, "drawing is of type str"),
        ({"place": 6}, "place is 6"),
        ({"place": "<i>"}, "place is &#x27;&lt;i&gt;&#x27;"),
        ({"points": [(0.01, 0.99)]}, "is not near the drawing"),
        ({"colour": 1}, "there is no setting &#x27;colour&#x27;"),
    ],
)
def test_a_failing_update_says_so_and_loses_nothing(widget, changes, words):
    found, picture, drawing = widget.found, widget.image.value, widget.pad.drawing
    widget.update(**changes)
    assert words in widget.words.value and "<i>" not in widget.words.value
    assert widget.found is found and widget.image.value == picture and widget.pad.drawing == drawing
    widget.update(place=1)
    assert widget.found.photo == found.order[1] and words not in widget.words.value


def test_a_dot_is_kept_and_said_and_an_empty_paper_shows_no_old_answer(widget):
    widget.pad.clear()
    assert widget.found is None and EMPTY in widget.words.value and widget.image.layout.display == "none"
    with pytest.raises(ValueError, match="nothing is drawn: draw something"):
        _ = widget.pair
    widget.image.click(0.1, 0.1)
    widget.pad.undo()
    assert widget.pair == (widget.found.sketch, widget.found.picture) and widget.image.layout.display is None
    widget.pad.clear()
    stroke(widget.pad, DOT.strokes[0])
    assert "single dot" in widget.words.value and len(widget.pad.drawing.strokes) == 1
    stroke(widget.pad, LINE)
    assert "single dot" not in widget.words.value and widget.found is not None


def test_a_photo_taken_away_is_said(widget, searcher, monkeypatch):
    monkeypatch.setattr("sfhelpers.search.searcher.open_image", Mock(side_effect=FileNotFoundError("it is gone.")))
    searcher._photo.cache_clear()
    stroke(widget.pad, MORE)
    assert "it is gone." in widget.words.value and len(widget.pad.drawing.strokes) == 2


def test_a_gallery_of_one_photo_works(tiny_backbone, heads, tmp_path):
    photo(tmp_path / "only.png")
    widget = SketchSearch(Searcher(Gallery.from_folder(tmp_path, tiny_backbone), tiny_backbone, heads))
    assert widget.found.order.tolist() == [0] and widget.controls["place"].disabled
    assert "no class folders" in widget.words.value and "only.png" in widget.words.value


def test_it_starts_with_a_preset_of_the_gallery_and_displays_the_two_that_it_has(searcher):
    widget = SketchSearch(searcher)
    first, second = (name for name in PRESETS if name in ("cat", "fish"))
    assert widget.pad.drawing == PRESETS[first] and widget.found is not None
    assert f" 9 photos; shown: {first} finds " in widget.still()[1] and f", {second} finds " in widget.still()[1]


def test_a_match_is_drawn_where_it_is(searcher):
    found = searcher.search(Drawing(strokes=(LINE,)))
    one = replace(found.matches[0], sketch=(0.5, 0.5), photo=(0.25, 0.5))
    pages = [search_sheet([Answer(replace(found, matches=some), [found.picture], ["cat"], 0)]) for some in ((), (one,))]
    pixels = [np.asarray(Image.open(io.BytesIO(page.figure.quick_png())), dtype=int) for page in pages]
    changed = np.abs(pixels[0] - pixels[1]).sum(2) > 60
    left, top, width, height = map(round, pages[0].sketches[0])
    assert changed[top + height // 2, left + width // 2 - 4]
    assert not changed[:top].any()
