"""The explorers of feature maps: live with a kernel, a picture without one, and never broken by a wrong word."""

import base64
import io
import subprocess
import sys
import threading

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from sfhelpers.notebooks import clean
from sfhelpers.pilot import FeatureMaps, Settings
from sfhelpers.widgets.frequency import FrequencyExplorer
from sfhelpers.widgets.pca import PCAExplorer
from tests.explorer_helpers import maker, picture

BOTH = pytest.mark.parametrize("kind", [PCAExplorer, FrequencyExplorer])


@pytest.fixture(scope="module")
def make(tiny_backbone):
    """Makes an explorer of two pairs."""
    return maker(tiny_backbone)


def still(explorer):
    data, _ = DisplayFormatter().format(explorer)
    return base64.b64decode(data["image/png"])


def counted(explorer, monkeypatch):
    """The states that the explorer draws from now on."""
    drawn, draw = [], explorer._drawn
    monkeypatch.setattr(explorer, "_drawn", lambda state: drawn.append(state) or draw(state))
    return drawn


@BOTH
def test_every_control_changes_the_picture(make, kind):
    explorer = make(kind)
    seen = [picture(explorer)]
    changes = {
        "label": "a <b> 2", "timestep": 700, "source": "SD f2", "injection": "up", "prompt": "a photo of [CLASS]",
        "seed": 3, "draws": 6, "basis": "set",
    }  # fmt: skip
    for name, value in changes.items():
        explorer.controls[name].value = value
        seen.append(picture(explorer))
        assert seen[-1] != seen[-2] or name in ("injection", "prompt"), name  # an untrained model hardly feels these
    assert all(Image.open(io.BytesIO(png)).format == "PNG" for png in seen)
    assert explorer.settings == Settings("SD f2", "up", 700, "a photo of [CLASS]", 3, 6)
    assert (explorer.label, explorer.basis) == ("a <b> 2", "set")
    assert all(control.description for control in explorer.controls.values())


@BOTH
def test_update_from_code_does_the_same_as_the_controls_and_draws_once(make, kind, monkeypatch):
    explorer, moved = make(kind), make(kind)
    moved.controls["timestep"].value, moved.controls["source"].value = 700, "SD f2"
    drawn = counted(explorer, monkeypatch)
    explorer.update(timestep=700, source="SD f2")
    assert len(drawn) == 1
    assert (explorer.controls["timestep"].value, explorer.controls["source"].value) == (700, "SD f2")
    assert (explorer.image.value, explorer.words.value) == (moved.image.value, moved.words.value)


WRONG = {
    "timestep": [5000, -1, 1.5, "late", True],
    "source": ["SD f9", "<i>", 3],
    "injection": ["sideways"],
    "prompt": ["word " * 500, 7],
    "seed": [-1, 2**40, "a", 0.5],
    "draws": [0, 7, True, "six"],
    "basis": ["everything", None],
    "label": ["<i>dog", 0],
    "tiemstep": [3],
}


@BOTH
def test_a_failing_update_says_so_in_one_sentence_and_changes_nothing(make, kind):
    explorer = make(kind)
    before, words, settings = picture(explorer), explorer._said, explorer.settings
    for name, value in [(name, value) for name, values in WRONG.items() for value in values]:
        explorer.update(**{name: value})
        sentence, _, rest = explorer.words.value.partition("</span>")
        assert "color" in sentence and sentence.endswith(".") and ". " not in sentence and "<i>" not in sentence, name
        assert words in rest and picture(explorer) == before and explorer.settings == settings
        assert all(control.value == explorer._state[name] for name, control in explorer.controls.items())
    explorer.controls["timestep"].value = 700
    assert picture(explorer) != before and "</span>" not in explorer.words.value


@BOTH
def test_a_failure_while_drawing_puts_the_control_back(make, kind, monkeypatch):
    explorer = make(kind)
    with monkeypatch.context() as patch:
        patch.setattr(explorer, "_drawn", lambda state: (_ for _ in ()).throw(ValueError("no picture today.")))
        explorer.controls["label"].value = "a <b> 2"
    assert explorer.controls["label"].value == explorer.label == "cat 1" and "no picture today." in explorer.words.value
    explorer.controls["label"].value = "a <b> 2"
    assert explorer.label == "a <b> 2"


@BOTH
def test_a_missing_head_is_said_where_it_is_asked_for(make, kind):
    explorer = make(kind)
    before = picture(explorer)
    explorer.controls["source"].value = "SD+CLIP concatenated"
    assert "</span>" in explorer.words.value and explorer.controls["source"].value == "SD f3"
    assert picture(explorer) == before


@BOTH
def test_changes_of_two_threads_are_drawn_one_after_the_other_and_the_newest_wins(make, kind, monkeypatch):
    explorer = make(kind)
    begun, go, drawn, draw = threading.Event(), threading.Event(), [], explorer._drawn

    def slow(state):
        drawn.append((state["timestep"], state["seed"]))
        begun.set()
        assert go.wait(30)
        return draw(state)

    monkeypatch.setattr(explorer, "_drawn", slow)
    threads = [threading.Thread(target=explorer.update, kwargs={"timestep": 100})]
    threads[0].start()
    assert begun.wait(30)
    for changes in ({"timestep": 200}, {"timestep": 5000}, {"seed": 4}, {"timestep": 300}):
        threads.append(threading.Thread(target=explorer.update, kwargs=changes))
        waiting = len(explorer._pending)
        threads[-1].start()
        while len(explorer._pending) == waiting:
            threads[-1].join(0.001)
    go.set()
    for thread in threads:
        thread.join(30)
    assert drawn == [(100, 0), (300, 4)]
    assert (explorer.settings.timestep, explorer.settings.seed) == (300, 4)
    assert (explorer.controls["timestep"].value, explorer.controls["seed"].value) == (300, 4)
    assert "timestep 5000" in explorer.words.value
    fresh = make(kind, settings=Settings(timestep=300, seed=4))
    assert explorer.image.value == fresh.image.value


@BOTH
def test_the_class_in_a_prompt_is_the_label_without_its_number(make, kind, monkeypatch):
    explorer = make(kind, labels=["wine_glass 12", "dog"])
    asked, features = [], explorer.maps
    monkeypatch.setattr(explorer, "maps", Listening(features, asked))
    explorer.update(prompt="a photo of [CLASS]")
    explorer.update(basis="set")
    prompts = ["a photo of wine glass", "a photo of wine glass", "a photo of dog"]
    assert [settings.prompt for settings in asked] == prompts and explorer.settings.prompt == "a photo of [CLASS]"


class Listening:
    """Feature maps that write down what they were asked for."""

    def __init__(self, maps, asked):
        self.maps, self.asked = maps, asked

    def __getattr__(self, name):
        return getattr(self.maps, name)

    def __call__(self, images, settings):
        self.asked.append(settings)
        return self.maps(images, settings)


@BOTH
def test_long_work_says_so_before_it_starts_and_not_after(make, kind, monkeypatch):
    explorer = make(kind)
    said = []
    explorer.words.observe(lambda change: said.append(change.new), "value")
    explorer.update(draws=6, basis="set")
    assert ["computing 6 noise draws, pair 1 of 2" in said[0], "computing 6 noise draws, pair 2 of 2" in said[1]]
    assert len(said) == 3 and "computing" not in said[2]


@BOTH
def test_words_the_text_encoder_was_not_taught_are_noted_while_the_picture_is_drawn(make, kind, monkeypatch):
    explorer = make(kind)
    before = picture(explorer)
    monkeypatch.setattr(explorer.maps, "notes", lambda settings: f"never heard of {settings.prompt}.")
    explorer.update(prompt="<i>zebras")
    assert "never heard of &lt;i&gt;zebras." in explorer.words.value
    assert explorer.settings.prompt == "<i>zebras" and picture(explorer) != before


@BOTH
def test_controls_that_a_source_does_not_depend_on_are_off(make, kind):
    explorer = make(kind)
    explorer.update(source="CLIP tokens")
    off = {name for name, control in explorer.controls.items() if control.disabled}
    assert off == {"injection", "timestep", "prompt", "seed", "draws"}
    before = picture(explorer)
    explorer.update(timestep=3, seed=5, prompt="cat")
    assert picture(explorer) == before
    explorer.update(source="SD f1")
    assert not any(control.disabled for control in explorer.controls.values())


@BOTH
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pairs": [], "labels": []}, "0 pairs and 0 labels"),
        ({"labels": ["cat"]}, "2 pairs and 1 labels"),
        ({"labels": ["cat", "cat"]}, "label 'cat' names 2 pairs"),
        ({"labels": ["cat", 3]}, "label 3 is of type int"),
        ({"pairs": [("a.png", "b.png")] * 2}, "the sketch of 'cat 1' is of type str"),
        ({"pairs": [(np.zeros((9, 9)), np.zeros(3))] * 2}, r"the photo of 'cat 1': an image of shape \(3,\)"),
        ({"pairs": [(np.zeros((9, 9)),)] * 2}, "pair 'cat 1' is not two images"),
        ({"pairs": ["ab", "cd"]}, "pair 'cat 1' is not two images"),
        ({"pairs": [(np.zeros((0, 4, 3)), np.zeros((9, 9)))] * 2}, "the sketch of 'cat 1' has the shape"),
        ({"settings": Settings(timestep=5000)}, "5000"),
        ({"settings": Settings(source="SD")}, "SD"),
        ({"settings": Settings(draws=0)}, "draws"),
        ({"settings": Settings(seed=-1)}, "seed is -1"),
    ],
)
def test_what_cannot_be_explored_is_refused_in_one_sentence(make, kind, changes, words):
    with pytest.raises(ValueError, match=words) as caught:
        make(kind, **changes)
    message = str(caught.value)
    assert message.endswith(".") and "\n" not in message and ". " not in message


@BOTH
def test_still_picture_has_the_same_bytes_always_and_is_small(make, kind):
    explorer = make(kind)
    first = still(explorer)
    explorer.update(label="a <b> 2", timestep=700, draws=6, basis="set")
    assert still(explorer) == first == still(make(kind))
    assert first != still(make(kind, settings=Settings(timestep=700)))
    assert len(first) < 150_000


@BOTH
def test_display_holds_a_live_view_a_picture_and_a_text_that_says_what_it_shows(make, kind, tiny_backbone):
    data, _ = DisplayFormatter().format(make(kind))
    assert data.keys() == {clean.WIDGET, "image/png", "text/plain"}
    assert all(word in data["text/plain"] for word in (kind.__name__, "2 pairs", "cat 1", "SD f2", "CLIP", "fused"))
    plain = make(kind, maps=FeatureMaps(tiny_backbone, {}))
    assert "fused" not in plain.still()[1]


def test_they_work_without_a_front_end_and_without_pyplot(tiny_folder):
    code = f"""
import sys, torch
from sfhelpers.backbones import load_backbone
from sfhelpers.pilot import FeatureMaps
from sfhelpers.widgets.frequency import FrequencyExplorer
from sfhelpers.widgets.pca import PCAExplorer
maps = FeatureMaps(load_backbone({str(tiny_folder)!r}, device="cpu"), {{}})
images = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
for kind in (PCAExplorer, FrequencyExplorer):
    explorer = kind([tuple(images)], ["cat"], maps)
    explorer.update(timestep=5000)
    explorer.update(timestep=300)
    assert explorer.controls["timestep"].value == 300
    assert explorer.still()[0].png()
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
