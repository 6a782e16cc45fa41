"""The picture that can be clicked, and every widget without a front end."""

import base64
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from sfhelpers.widgets import base
from sfhelpers.widgets.base import Clickable
from tests import live
from tests.backbone_fixtures import refused
from tools import clean


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
