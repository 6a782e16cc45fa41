"""The mask explorer, the picture that can be clicked, and every widget without a front end."""

import base64
import io
import re
import subprocess
import sys

import nbformat
import numpy as np
import pytest
import torch
import traitlets
from IPython.core.formatters import DisplayFormatter
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from sfhelpers.metrics import foreground_iou
from sfhelpers.widgets import MaskExplorer
from sfhelpers.widgets.clickable import Clickable
from tests.search_helpers import photo
from tools import clean, notebooks

SIDE = 32
MAKE = f"""
import torch
from sfhelpers.widgets import MaskExplorer
maps = torch.linspace(0, 1, {SIDE}).expand(2, {SIDE}, {SIDE})
explorer = MaskExplorer([maps[0]] * 2, [maps[0]] * 2, maps, maps > 0.5, ["cat 1", "cat 2"], 0.5)
"""


def arguments(**changes):
    """Two pairs: the first has a map that rises to the right, the second one that rises downwards."""
    rise = torch.linspace(0, 1, SIDE).expand(SIDE, SIDE)
    maps = torch.stack([rise, rise.T])
    photos = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    found = {
        "sketches": [np.full((40, 40), 255, dtype=np.uint8)] * 2,
        "photos": list(photos),
        "probabilities": maps,
        "truths": maps > 0.5,
        "labels": ["cat 1", "a <b>"],
        "threshold": 0.5,
    }
    return found | changes


def still(explorer):
    return base64.b64decode(explorer._repr_mimebundle_()[0]["image/png"])


def test_pair_and_threshold_change_the_picture_and_the_words_by_hand_as_from_code():
    explorer = MaskExplorer(**arguments())
    seen = {explorer.image.value}
    assert "Foreground IoU <b>1.00</b> at threshold 0.50." in explorer.words.value
    explorer.controls["threshold"].value = 0.25
    seen.add(explorer.image.value)
    cut = arguments()
    expected = foreground_iou(cut["probabilities"][:1] >= 0.25, cut["truths"][:1]).item()
    assert expected < 0.9 and f"<b>{expected:.2f}</b> at threshold 0.25." in explorer.words.value
    explorer.controls["label"].value = "a <b>"
    seen.add(explorer.image.value)
    assert len(seen) == 3 and all(Image.open(io.BytesIO(png)).format == "PNG" for png in seen)
    assert (explorer.label, explorer.threshold) == ("a <b>", 0.25)
    updated = MaskExplorer(**arguments())
    updated.update(label="a <b>", threshold=0.25)
    assert [control.value for control in updated.controls.values()] == ["a <b>", 0.25]
    assert (updated.image.value, updated.words.value) == (explorer.image.value, explorer.words.value)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"label": "<i>dog"}, "there is no pair &#x27;&lt;i&gt;dog&#x27;"), ({"threshold": 1.5}, "the threshold is 1.5")],
)
def test_a_failing_update_says_so_and_leaves_the_widget_usable(wrong, words):
    explorer = MaskExplorer(**arguments())
    before = explorer.image.value
    explorer.update(**wrong)
    assert words in explorer.words.value
    assert explorer.image.value == before
    assert (explorer.label, explorer.threshold) == ("cat 1", 0.5)
    assert [control.value for control in explorer.controls.values()] == ["cat 1", 0.5]
    explorer.controls["threshold"].value = 0.25
    assert explorer.image.value != before and "at threshold 0.25" in explorer.words.value


def test_display_holds_a_live_view_a_fixed_text_and_a_still_picture_of_the_same_bytes_always():
    explorer = MaskExplorer(**arguments())
    first = still(explorer)
    explorer.update(label="a <b>", threshold=0.9)
    assert still(explorer) == first == still(MaskExplorer(**arguments())) and len(first) < 60_000
    assert first != still(MaskExplorer(**arguments(threshold=0.6)))
    explorer = MaskExplorer(**arguments(threshold=0.2))  # one of the still picture's own: drawn once
    data, _ = DisplayFormatter().format(explorer)
    assert data.keys() == {clean.WIDGET, "image/png", "text/plain"}
    assert data[clean.WIDGET]["model_id"] == explorer.model_id
    text = "<MaskExplorer of 2 pairs; shown: cat 1, mask at 0.20, IoU 0.64; mask at 0.80, IoU 0.44>"
    assert data["text/plain"] == text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ["cat 1"]}, "2 sketches, 2 photos, 2 probabilities, 2 truths and 1 labels"),
        ({"photos": []}, "0 photos"),
        ({"labels": ["cat", "cat"]}, "label 'cat' names 2 pairs"),
        ({"threshold": 0.0}, "threshold is 0.0"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"probabilities": torch.full((2, SIDE, SIDE), torch.nan)}, "outside 0 to 1"),
        ({"probabilities": torch.full((2, SIDE, SIDE), 3.0)}, "outside 0 to 1"),
        ({"probabilities": torch.zeros(2, 8, 8)}, "resize"),
        ({"truths": torch.zeros(2, SIDE, SIDE)}, "not bool"),
        ({"photos": [np.zeros((8, 8, 3))] * 2}, "a photo and its truth differ"),
        ({"sketches": [np.zeros(3)] * 2}, "cannot be shown"),
        ({name: value[:0] for name, value in arguments().items() if name != "threshold"}, "at least one"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_sentence(changes, words):
    with pytest.raises(ValueError, match=words) as caught:
        MaskExplorer(**arguments(**changes))
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_the_still_picture_survives_cleaning_and_the_notebook_can_be_committed(tmp_path):
    parameters = new_code_cell("seed = 0", metadata={"tags": ["parameters"]}, id="parameters")
    cells = [parameters, new_code_cell(MAKE + "explorer", id="explorer")]
    path = tmp_path / "01_tiny.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": clean.KERNEL}), path)
    assert notebooks.papermill(path, tmp_path / "out.ipynb", {}, {}).result == "ok"
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert clean.WIDGET in executed.cells[1].outputs[0].data
    path.write_text(clean.text_of(clean.stamped(executed)), encoding="utf-8")
    assert clean.problems(path) == []
    (output,) = nbformat.read(path, as_version=4).cells[1].outputs
    assert output.data.keys() == {"image/png", "text/plain"}
    namespace = {}
    exec(MAKE, namespace)
    assert base64.b64decode(output.data["image/png"]) == still(namespace["explorer"])


HEADLESS = """
import sys, torch
from sfhelpers.backbones import load_backbone
from sfhelpers.drawing import PRESETS
from sfhelpers.pilot import FeatureMaps
from sfhelpers.tasks import heads as trained
from sfhelpers.search.gallery import Gallery
from sfhelpers.search.searcher import Searcher
from sfhelpers.widgets import FrequencyExplorer, MaskExplorer, PCAExplorer, SketchPad, SketchSearch
models = load_backbone("pocket", "cpu")
heads = trained.load_heads(trained.SHIPPED, models)
search = SketchSearch(Searcher(Gallery.from_folder(sys.argv[1], models), models, heads))
for name in PRESETS:
    search.pad.preset(name)
    assert len(search.found.order) == 2, search.words.value
images = tuple(torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0)))
explorers = [kind([images], ["cat"], FeatureMaps(models, {})) for kind in (PCAExplorer, FrequencyExplorer)]
for explorer in explorers:
    explorer.update(timestep=5000)
    explorer.update(timestep=300)
    assert explorer.controls["timestep"].value == 300
maps = torch.linspace(0, 1, 32).expand(1, 32, 32)
masks = MaskExplorer([maps[0]], [maps[0]], maps, maps > 0.5, ["cat"], 0.5)
masks.update(threshold=0.3)
pad = SketchPad()
pad.preset("fish"); pad.clear(); pad.undo()
assert pad.to_image().size == (384, 384) and len(pad.to_stroke3()) == pad.drawing.points
for widget in (search, *explorers, masks, pad):
    assert widget._repr_mimebundle_()[0]["image/png"]
assert "matplotlib.pyplot" not in sys.modules
"""


def test_every_widget_works_without_a_front_end_and_without_pyplot(tmp_path):
    for name in ("cup", "fish"):
        photo(tmp_path / name / "0.png", len(name))
    subprocess.run([sys.executable, "-c", HEADLESS, str(tmp_path)], check=True)


# The picture that reports the points chosen in it


def png(color):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(file, format="PNG")
    return file.getvalue()


def test_a_message_of_the_front_end_reaches_every_callback_and_no_point_beside_the_picture_does():
    picture, first, second = Clickable(), [], []
    for points in (first, second):
        picture.on_click(lambda x, y, points=points: points.append((x, y)))
    picture._handle_custom_msg({"x": 0, "y": 0.75}, [])
    picture._handle_custom_msg({"x": 0, "y": 0.75}, [])  # the same point twice is two questions
    for point in [(-0.1, 0.5), (0.5, 1.01), (float("nan"), 0), ("0.5", 0.5), (None, 0), (True, 0)]:
        with pytest.raises(ValueError, match=r"not in the picture: give two numbers from 0 to 1\.$"):
            picture.click(*point)
    assert first == second == [(0.0, 0.75)] * 2


def test_picture_and_label_go_to_the_front_end_and_only_bytes_are_a_picture():
    picture = Clickable(value=png("red"), label="a red square")
    state = picture.get_state()
    assert (state["value"], state["label"]) == (png("red"), "a red square")
    picture.value = png("blue")
    assert picture.get_state("value")["value"] == png("blue") != png("red")
    with pytest.raises(traitlets.TraitError):
        picture.value = "red"


def test_its_front_end_is_our_own_reachable_by_keyboard_and_asks_nobody():
    code = str(Clickable()._esm)
    assert not re.search(r"https?:|import[ (]|fetch\(|eval\(|innerHTML", code)
    for need in ("tabIndex = 0", "aria-label", "data-lm-suppress-shortcuts", "ArrowLeft", "Enter", "image.alt"):
        assert need in code
