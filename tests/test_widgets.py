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
    maps, photos = torch.stack([rise, rise.T]), np.random.default_rng(0).random((2, SIDE, SIDE, 3))
    found = {"sketches": [np.full((40, 40), 255, dtype=np.uint8)] * 2, "photos": list(photos), "probabilities": maps}
    return found | {"truths": maps > 0.5, "labels": ["cat 1", "a <b>"], "threshold": 0.5} | changes


def test_pair_and_threshold_change_the_picture_and_the_words_by_hand_as_from_code():
    explorer = MaskExplorer(**arguments())
    seen, given = {explorer.image.value}, arguments()
    assert "Foreground IoU <b>1.00</b> at threshold 0.50." in explorer.words.value
    explorer.controls["threshold"].value = 0.25
    seen.add(explorer.image.value)
    expected = foreground_iou(given["probabilities"][:1] >= 0.25, given["truths"][:1]).item()
    assert expected < 0.9 and f"<b>{expected:.2f}</b> at threshold 0.25." in explorer.words.value
    explorer.controls["label"].value = "a <b>"
    seen.add(explorer.image.value)
    assert len(seen) == 3 and all(Image.open(io.BytesIO(png)).format == "PNG" for png in seen)
    assert explorer.state == {"label": "a <b>", "threshold": 0.25}
    explorer.update(label="cat 1", threshold=0.5)
    assert [control.value for control in explorer.controls.values()] == ["cat 1", 0.5]
    before, state = explorer.image.value, explorer.state
    for wrong, words in (({"label": "<i>dog"}, "&#x27;&lt;i&gt;dog"), ({"threshold": 1.5}, "threshold is 1.5")):
        explorer.update(**wrong)
        assert words in explorer.words.value and explorer.state == state and explorer.image.value == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ["cat 1"]}, "1, 2"),
        ({"photos": []}, "0, 2"),
        ({"labels": ["cat", "cat"]}, "label 'cat' .* names 2 pairs"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"probabilities": torch.full((2, SIDE, SIDE), torch.nan)}, "outside 0 to 1"),
        ({"probabilities": torch.zeros(2, 8, 8)}, "alike"),
        ({"truths": torch.zeros(2, SIDE, SIDE)}, "not bool"),
        ({"photos": [np.zeros((8, 8, 3))] * 2}, "resize"),
        ({"sketches": [np.zeros(3)] * 2}, "cannot be shown"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_sentence(changes, words):
    with refused(words):
        MaskExplorer(**arguments(**changes))


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_folder):
    """The code that makes one widget of each kind, and what it has made."""
    code = "\n".join([live.setup(tmp_path_factory.mktemp("photos"), tiny_folder), *live.CELLS.values()])
    namespace = {}
    exec(code, namespace)
    return code, namespace


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("masks", "MaskExplorer of 2 pairs; shown: cat 1, mask at 0.20, IoU 0.63; mask at 0.50, .*"),
        ("pca", "PCAExplorer of 2 pairs; shown: cat 1 by SD f2, SD f3, CLIP tokens, fused"),
        ("frequency", "FrequencyExplorer of 2 pairs; shown: cat 1 by SD f2, SD f3, CLIP tokens, fused"),
        ("search", "SketchSearch in 4 photos; shown: cat finds .* with cosine .*"),
        ("pad", "SketchPad of 256 x 256 pixels, empty; shown: presets cup, fish, .*"),
    ],
)
def test_display_holds_a_live_view_a_text_and_a_small_still_picture_that_is_always_the_same(made, name, text):
    widget = made[1][name]
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
    picture = Clickable(lambda x, y: found.append((x, y)))
    for _ in range(2):  # the same point twice is two questions
        picture._handle_custom_msg({"x": 0, "y": 0.75}, [])
    with refused(r"not in the picture: give two numbers from 0 to 1\."):
        picture.click(*point)
    assert found == [(0.0, 0.75)] * 2


@pytest.mark.parametrize("path", sorted(Path(base.__file__).parent.glob("*.[jc]s*")), ids=lambda path: path.name)
def test_the_front_end_is_our_own_and_asks_no_other_machine(path):
    assert not re.search(r"https?:|//cdn|@?import[ (]|url\(|fetch\(|eval\(|innerHTML", path.read_text(encoding="utf-8"))
