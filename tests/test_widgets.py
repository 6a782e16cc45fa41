"""The mask explorer, the picture that can be clicked, and every widget without a front end."""

import base64
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from sfhelpers.metrics import foreground_iou
from sfhelpers.widgets import MaskExplorer, base
from sfhelpers.widgets.base import Clickable
from tests import live
from tests.backbone_fixtures import refused
from tools import clean

SIDE = 32


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
    assert (explorer.state["label"], explorer.state["threshold"]) == ("a <b>", 0.25)
    updated = MaskExplorer(**arguments())
    updated.update(label="a <b>", threshold=0.25)
    assert [control.value for control in updated.controls.values()] == ["a <b>", 0.25]
    assert (updated.image.value, updated.words.value) == (explorer.image.value, explorer.words.value)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"label": "<i>dog"}, "label is &#x27;&lt;i&gt;dog&#x27;"), ({"threshold": 1.5}, "the threshold is 1.5")],
)
def test_a_failing_update_says_so_and_leaves_the_widget_usable(wrong, words):
    explorer = MaskExplorer(**arguments())
    before = explorer.image.value
    explorer.update(**wrong)
    assert words in explorer.words.value and explorer.image.value == before
    assert [control.value for control in explorer.controls.values()] == ["cat 1", 0.5] == list(explorer.state.values())
    explorer.controls["threshold"].value = 0.25
    assert explorer.image.value != before and "at threshold 0.25" in explorer.words.value


def test_display_holds_a_live_view_a_fixed_text_and_a_still_picture_of_the_same_bytes_always():
    explorer = MaskExplorer(**arguments(threshold=0.2))  # one of the still picture's own: drawn once
    data, _ = DisplayFormatter().format(explorer)
    explorer.update(label="a <b>", threshold=0.9)
    assert base64.b64decode(data["image/png"]) == still(explorer) != still(MaskExplorer(**arguments()))
    assert data.keys() == {clean.WIDGET, "image/png", "text/plain"} and len(still(explorer)) < 150_000
    assert data[clean.WIDGET]["model_id"] == explorer.model_id
    text = "<MaskExplorer of 2 pairs; shown: cat 1, mask at 0.20, IoU 0.64; mask at 0.80, IoU 0.44>"
    assert data["text/plain"] == text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ["cat 1"]}, "1, 2"),
        ({"photos": []}, "0, 2"),
        ({"labels": ["cat", "cat"]}, "label 'cat' names 2 pairs"),
        ({"threshold": 0.0}, "threshold is 0.0"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"probabilities": torch.full((2, SIDE, SIDE), torch.nan)}, "outside 0 to 1"),
        ({"probabilities": torch.full((2, SIDE, SIDE), 3.0)}, "outside 0 to 1"),
        ({"probabilities": torch.zeros(2, 8, 8)}, "resize"),
        ({"truths": torch.zeros(2, SIDE, SIDE)}, "not bool"),
        ({"photos": [np.zeros((8, 8, 3))] * 2}, "resize"),
        ({"sketches": [np.zeros(3)] * 2}, "cannot be shown"),
        ({name: value[:0] for name, value in arguments().items() if name != "threshold"}, "at least one"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_sentence(changes, words):
    with refused(words):
        MaskExplorer(**arguments(**changes))


HEADLESS = """
import sys
for name in ("cup", "wine_glass"):
    search.pad.preset(name)
    assert len(search.found.order) == 4, search.words.value
for explorer in (pca, frequency):
    explorer.update(timestep=5000)
    explorer.update(timestep=300)
    assert explorer.controls["timestep"].value == 300
masks.update(threshold=0.3)
pad.preset("fish")
pad.clear()
pad.undo()
assert pad.to_image().size == (256, 256) and len(pad.to_stroke3()) == pad.drawing.points
for widget in (search, pca, frequency, masks, pad):
    assert widget._repr_mimebundle_()[0]["image/png"]
assert "matplotlib.pyplot" not in sys.modules
"""


def test_every_widget_works_without_a_front_end_and_without_pyplot(tmp_path, tiny_folder):
    code = "\n".join([live.setup(tmp_path, tiny_folder), *live.CELLS.values(), HEADLESS])
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("point", [(-0.1, 0.5), (0.5, 1.01), (float("nan"), 0), ("0.5", 0.5), (None, 0), (True, 0)])
def test_points_of_the_front_end_are_reported_and_none_beside_the_picture(point):
    found = []
    picture = Clickable(lambda x, y: found.append((x, y)))
    for _ in range(2):  # the same point twice is two questions
        picture._handle_custom_msg({"x": 0, "y": 0.75}, [])
    with refused(r"not in the picture: give two numbers from 0 to 1\."):
        picture.click(*point)
    assert found == [(0.0, 0.75)] * 2


@pytest.mark.parametrize("path", sorted(Path(base.__file__).parent.glob("*.[jc]s*")), ids=lambda path: path.name)
def test_the_front_end_is_our_own_and_asks_no_other_machine(path):
    assert not re.search(r"https?:|//cdn|@?import[ (]|url\(|fetch\(|eval\(|innerHTML", path.read_text(encoding="utf-8"))
