"""Widgets: one that draws and searches, a picture that can be clicked, and each of them without a front end."""

import base64
import html
import io
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from sfhelpers.drawing import PRESETS, Drawing, Stroke
from sfhelpers.plots.matches import search_sheet
from sfhelpers.search.gallery import Gallery
from sfhelpers.search.searcher import Searcher
from sfhelpers.widgets import base
from sfhelpers.widgets.search import EMPTY, SketchSearch
from tests.backbone_fixtures import photo, refused
from tests.test_sketchpad import draw
from tools import clean

# One of each kind over the tiny random backbone: quick, and nothing in it knows what to answer.
SETUP = """
import numpy as np
import torch
from sfhelpers.backbones import load_backbone
from sfhelpers.pilot import FeatureMaps
from sfhelpers.tasks.heads import Head
from sfhelpers.search.gallery import Gallery
from sfhelpers.search.searcher import Searcher
from sfhelpers.widgets import FrequencyExplorer, MaskExplorer, PCAExplorer, SketchPad, SketchSearch

backbone = load_backbone(BACKBONE, device="cpu")
injected, told = {"fused": "up", "SD+CLIP concatenated": "none"}, (0.5, 0, backbone.weights_sha256, {})
heads = {method: Head(method, inject, *told).built(backbone) for method, inject in injected.items()}
noise = np.random.default_rng(0)
given = [(noise.random((40, 40, 3)), noise.random((40, 40, 3))) for _ in range(2)], ["cat 1", "cat 2"]
ramp = torch.linspace(0, 1, 64).expand(2, 64, 64)
"""
CELLS = {
    "masks": 'masks = MaskExplorer([ramp[0]] * 2, [ramp[0]] * 2, ramp, ramp > 0.5, ["cat 1", "cat 2"], 0.5)',
    "pca": "pca = PCAExplorer(*given, FeatureMaps(backbone, heads))",
    "frequency": "frequency = FrequencyExplorer(*given, FeatureMaps(backbone, heads))",
    "pad": "pad = SketchPad(256)",
    "search": "search = SketchSearch(Searcher(Gallery.from_folder(PHOTOS, backbone), backbone, heads))",
}


def setup(folder: Path, backbone: Path) -> str:
    """The code before the widgets'; the photos that it searches are written into `folder`."""
    for name in ("cat", "fish", "a <b> $x$"):
        for k in range(3):
            photo(folder / "photos" / name / f"{k}.png", len(name) + 10 * k, size=(40 + 20 * k, 40))
    return f"BACKBONE = {str(backbone)!r}\nPHOTOS = {str(folder / 'photos')!r}\n{SETUP.strip()}"


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_folder):
    """The code that makes one widget of each kind, and what it has made."""
    code = "\n".join([setup(tmp_path_factory.mktemp("photos"), tiny_folder), *CELLS.values()])
    namespace = {}
    exec(code, namespace)
    return code, namespace


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("masks", "MaskExplorer of 2 pairs; shown: cat 1, mask at 0.20, IoU 0.63; mask at 0.50, .*"),
        ("pca", "PCAExplorer of 2 pairs; shown: cat 1 by SD f2, SD f3, CLIP tokens, fused"),
        ("frequency", "FrequencyExplorer of 2 pairs; shown: cat 1 by SD f2, SD f3, CLIP tokens, fused"),
        ("search", "SketchSearch in 9 photos; shown: fish finds .* with cosine .*, cat finds .* with cosine .*"),
        ("pad", "SketchPad of 256 x 256 pixels, empty; shown: presets cup, fish, .*"),
    ],
)
def test_display_holds_a_live_view_a_text_and_a_small_still_picture_that_is_always_the_same(made, name, text):
    widget = made[1][name]
    assert name != "search" or widget.pad.drawing == PRESETS["fish"]  # the first of those that it has photos of
    data, _ = DisplayFormatter().format(widget)
    assert data[clean.WIDGET]["model_id"] == widget.model_id and re.fullmatch(f"<{text}>", data["text/plain"])
    png = base64.b64decode(data["image/png"])
    assert Image.open(io.BytesIO(png)).format == "PNG" and len(png) < 150_000
    if name == "pad":
        widget.preset("fish")
        assert widget.still()[1].startswith("<SketchPad of 256 x 256 pixels, ") and widget.still()[0].png() != png
    else:
        before = bytes(widget.image.value)
        widget.update(**{"masks": {"threshold": 0.9}, "search": {"place": 1}}.get(name, {"timestep": 7}))
        assert widget.image.value != before and widget.still()[0].png() == png


def test_every_widget_works_without_a_front_end_and_without_pyplot(made):
    shown = "shown = [widget._repr_mimebundle_() for widget in (search, pca, frequency, masks, pad)]"
    code = "\n".join([made[0], shown, "import sys", "assert 'matplotlib.pyplot' not in sys.modules"])
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("point", [(-0.1, 0.5), (float("nan"), 0), ("0.5", 0.5), (True, 0)])
def test_points_of_the_front_end_are_reported_and_none_beside_the_picture(point):
    found = []
    picture = base.Clickable(lambda x, y: found.append((x, y)))
    for _ in range(2):  # the same point twice is two questions
        picture._handle_custom_msg({"x": 0, "y": 0.75}, [])
    with refused(r"not in the picture: give two numbers from 0 to 1\."):
        picture.click(*point)
    assert found == [(0.0, 0.75)] * 2


@pytest.mark.parametrize("path", sorted(Path(base.__file__).parent.glob("*.[jc]s*")), ids=lambda path: path.name)
def test_the_front_end_is_our_own_and_asks_no_other_machine(path):
    assert not re.search(r"https?:|//cdn|@?import[ (]|url\(|fetch\(|eval\(|innerHTML", path.read_text(encoding="utf-8"))


LINE, MORE = Stroke([[20, 20], [300, 200]], 4), Stroke([[40, 300], [300, 310]], 4)


@pytest.fixture
def widget(made):
    found = SketchSearch(made[1]["search"].searcher)
    found.pad.drawing = Drawing(strokes=(LINE,))
    return found


def test_every_stroke_is_answered_anew_from_its_best_photo_and_a_click_beside_all_changes_nothing(widget):
    before, answered = widget.image.value, widget.found
    widget.update(place=2, points=[(0.5, 0.3)])
    draw(widget.pad, MORE.points.tolist())
    assert widget.image.value != before and Image.open(io.BytesIO(widget.image.value)).format == "PNG"
    found = widget.found
    assert found.matches == widget.searcher.search(Drawing(strokes=(LINE, MORE))).matches and len(found.matches) == 5
    assert found.photo == found.order[0] and widget.controls["place"].value == 0
    widget.image.click(0.999, 0.999)
    assert widget.found is found
    widget.pad.undo()
    assert np.array_equal(widget.found.scores, answered.scores)


def click(widget, box, u=0.5, v=0.5):
    """On a place in one of the sheet's boxes."""
    left, top, width, height = box
    widget.image.click(left + u * width, top + v * height)


def test_another_photo_is_looked_into_by_slider_click_and_code_and_named_as_its_folder_is(widget):
    order = widget.found.order.tolist()
    widget.controls["place"].value = 2
    assert widget.found.photo == order[2]
    click(widget, widget._boxes[2])
    assert widget.found.photo == order[1] and widget.controls["place"].value == 1
    for place in range(6):
        widget.update(place=place)
        assert widget.found.photo == order[place] and widget.controls["place"].value == place
        name = widget.searcher.gallery.records[widget.found.photo].category
        assert html.escape(name) in widget.words.value and "<b>" not in widget.words.value


def test_a_photo_of_several_things_is_named_by_all_and_the_sheet_by_what_the_drawing_is_taken_for(widget, monkeypatch):
    gallery, likely = widget.searcher.gallery, widget.found.categories[0][0]
    crowded = [
        replace(r, category="a hat", also=((likely, r.path),)) if k % 2 else r for k, r in enumerate(gallery.records)
    ]
    monkeypatch.setattr(gallery, "records", crowded)
    monkeypatch.setattr("sfhelpers.widgets.search.search_sheet", sheet := Mock(wraps=search_sheet))
    widget.update(place=1)
    captions = [caption for _, photos in sheet.call_args.args[0].values() for _, caption in photos]
    shown = [crowded[k] for k in widget.found.order[: len(captions)]]
    assert any(record.also for record in shown)
    for caption, record in zip(captions, shown, strict=True):
        assert caption.startswith((likely if record.also else record.category or record.path.name)[:13])
    for place, record in enumerate(shown):
        widget.update(place=place)
        assert not record.also or html.escape(f"a hat, {likely}, ") in widget.words.value


def test_points_are_chosen_by_clicks_and_given_back_by_none(widget):
    first, box = widget.found.matches, widget._boxes[0]
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
        ({"drawing": Drawing(strokes=(Stroke([[9, 9]], 4),))}, "the sketch is a single dot"),
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
    with refused("nothing is drawn: draw something"):
        _ = widget.pair
    widget.image.click(0.1, 0.1)
    widget.pad.undo()
    assert widget.pair == (widget.found.sketch, widget.found.picture) and widget.image.layout.display is None
    widget.pad.clear()
    draw(widget.pad, [[9, 9]])
    assert "single dot" in widget.words.value and len(widget.pad.drawing.strokes) == 1
    draw(widget.pad, LINE.points.tolist())
    assert "single dot" not in widget.words.value and widget.found is not None


def test_a_photo_taken_away_is_said(widget, monkeypatch):
    monkeypatch.setattr("sfhelpers.search.searcher.open_image", Mock(side_effect=FileNotFoundError("it is gone.")))
    widget.searcher._photo.cache_clear()
    draw(widget.pad, MORE.points.tolist())
    assert "it is gone." in widget.words.value and len(widget.pad.drawing.strokes) == 2


def test_a_gallery_of_one_photo_works(tiny_backbone, heads, tmp_path):
    photo(tmp_path / "only.png")
    widget = SketchSearch(Searcher(Gallery.from_folder(tmp_path, tiny_backbone), tiny_backbone, heads))
    assert widget.found.order.tolist() == [0] and widget.controls["place"].disabled
    assert "no class folders" in widget.words.value and "only.png" in widget.words.value


def test_a_match_is_drawn_where_it_is(widget):
    found, one = widget.found, replace(widget.found.matches[0], sketch=(0.5, 0.5), photo=(0.25, 0.5))
    pages = [search_sheet({"": (replace(found, matches=some), [(found.picture, "cat")])}) for some in ((), (one,))]
    pixels = [np.asarray(Image.open(io.BytesIO(page.png(live=True))), dtype=int) for page, _ in pages]
    changed = np.abs(pixels[0] - pixels[1]).sum(2) > 60
    high, wide = changed.shape
    left, top, width, height = np.multiply(pages[0][1][0], (wide, high, wide, high)).round().astype(int)
    assert changed[top + height // 2, left + width // 2 - 4]
    assert not changed[:top].any()
