"""The explorers of feature maps: live with a kernel, a picture without one, and never broken by a wrong word."""

import io
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from sfhelpers.pilot import FeatureMaps, Settings, band_pass
from sfhelpers.tasks.heads import untrained_head
from sfhelpers.widgets import FrequencyExplorer, PCAExplorer
from sfhelpers.widgets.explorer import SIDES
from sfhelpers.widgets.pca import _panels
from tests.backbone_fixtures import refused

BOTH = pytest.mark.parametrize("kind", [PCAExplorer, FrequencyExplorer])


@pytest.fixture(scope="module")
def make(tiny_backbone):
    """Makes an explorer of two pairs of unlike kinds and sizes, all from the same maps with one untrained head."""
    generator = np.random.default_rng(0)
    wide = Image.fromarray(generator.integers(0, 255, (40, 90, 3), dtype=np.uint8))
    tall = torch.from_numpy(generator.random((3, 60, 30), dtype=np.float32))
    pairs = [(wide, generator.random((50, 50, 3))), (generator.integers(0, 255, (33, 33), dtype=np.uint8), tall)]
    maps = FeatureMaps(tiny_backbone, {"fused": untrained_head("fused", tiny_backbone)})
    start = {"pairs": pairs, "labels": ["cat 1", "a <b> 2"], "maps": maps}
    return lambda kind, **changes: kind(**start | changes)


def picture(explorer):
    """The PNG that is shown."""
    return bytes(explorer.image.value)


@BOTH
def test_every_control_changes_the_picture_and_update_from_code_does_the_same_but_draws_once(make, kind, monkeypatch):
    explorer, drawn = make(kind), []
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
    assert explorer.state | changes == explorer.state
    assert all(control.description for control in explorer.controls.values())
    updated = make(kind)
    draw = updated._drawn
    monkeypatch.setattr(updated, "_drawn", lambda state: drawn.append(state) or draw(state))
    updated.update(**changes)
    assert len(drawn) == 1 and all(updated.controls[name].value == value for name, value in changes.items())
    assert (updated.image.value, updated.words.value) == (explorer.image.value, explorer.words.value)


WRONG = {
    "timestep": [5000, "late", True],
    "source": ["SD f9", "<i>", "SD+CLIP concatenated"],  # the last one's head is missing
    "prompt": ["word " * 500, 7],
    "seed": [-1, 0.5],
    "draws": [0, "six"],
    "basis": ["everything", None],
    "label": ["<i>dog", 0],
    "tiemstep": [3],
}


@BOTH
def test_a_failing_update_says_so_in_one_sentence_and_changes_nothing(make, kind, monkeypatch):
    explorer = make(kind)
    before, words, state = picture(explorer), explorer._said, explorer.state
    for name, value in [(name, value) for name, values in WRONG.items() for value in values]:
        explorer.update(**{name: value})
        sentence, _, rest = explorer.words.value.partition("</span>")
        assert "color" in sentence and sentence.endswith(".") and ". " not in sentence and "<i>" not in sentence, name
        assert words in rest and picture(explorer) == before and explorer.state == state
        assert all(control.value == state[name] for name, control in explorer.controls.items())
    explorer.controls["source"].value = "SD+CLIP concatenated"  # by hand as from code
    assert "</span>" in explorer.words.value and explorer.controls["source"].value == "SD f3"
    monkeypatch.setattr(explorer, "_picture", lambda *given: (_ for _ in ()).throw(ValueError("no picture today.")))
    explorer.controls["label"].value = "a <b> 2"
    assert explorer.controls["label"].value == explorer.state["label"] == "cat 1"
    assert "no picture today." in explorer.words.value
    monkeypatch.undo()
    explorer.controls["timestep"].value = 700
    assert picture(explorer) != before and "</span>" not in explorer.words.value


def test_a_change_that_comes_while_one_is_drawn_waits_and_is_drawn_too(make, monkeypatch):
    explorer, begun, go = make(PCAExplorer), threading.Event(), threading.Event()
    draw = explorer._drawn
    monkeypatch.setattr(explorer, "_drawn", lambda state: (begun.set(), go.wait(30), draw(state))[2])
    first = threading.Thread(target=explorer.update, kwargs={"timestep": 100})
    second = threading.Thread(target=setattr, args=(explorer.controls["seed"], "value", 4))
    first.start()
    assert begun.wait(30)
    second.start()
    second.join(0.1)
    assert second.is_alive()
    go.set()
    first.join(30)
    second.join(30)
    assert (explorer.controls["timestep"].value, explorer.controls["seed"].value) == (100, 4)
    assert explorer.image.value == make(PCAExplorer, settings=Settings(timestep=100, seed=4)).image.value


@BOTH
def test_long_work_says_so_first_and_a_prompt_names_the_class_and_what_is_strange(make, kind, monkeypatch):
    explorer, said, asked, call = make(kind, labels=["wine_glass 12", "dog"]), [], [], FeatureMaps.__call__
    explorer.words.observe(lambda change: said.append(change.new), "value")
    monkeypatch.setattr(explorer.maps, "notes", lambda settings: f"never heard of {settings.prompt}.")
    monkeypatch.setattr(FeatureMaps, "__call__", lambda *given: asked.append(given[2].prompt) or call(*given))
    explorer.update(draws=6, basis="set", prompt="<i>a [CLASS]")
    assert asked == ["<i>a wine glass", "<i>a dog"] and explorer.state["prompt"] == "<i>a [CLASS]"
    assert ["noise draws: 6, pair 1 of 2" in said[0], "noise draws: 6, pair 2 of 2" in said[1]] == [True, True]
    assert len(said) == 3 and "computing" not in said[2] and "never heard of &lt;i&gt;a wine glass." in said[2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pairs": [], "labels": []}, "at least one"),
        ({"labels": ["cat"]}, r"\[1, 2\] labels"),
        ({"labels": ["cat", "cat"]}, "label 'cat' .* names 2 pairs"),
        ({"labels": ["cat", 3]}, "label 3 is no text"),
        ({"pairs": [("a.png", "b.png")] * 2}, "'cat 1' is not two images"),
        ({"pairs": [(np.zeros((9, 9)), np.zeros(3))] * 2}, r"'cat 1' is not two images.* of shape \(3,\)"),
        ({"pairs": [3, None]}, "'cat 1' is not two images"),
        ({"pairs": [(np.zeros((0, 4, 3)), np.zeros((9, 9)))] * 2}, "'cat 1' is not two images"),
        ({"settings": Settings(timestep=5000)}, "5000"),
        ({"settings": Settings(draws=0)}, "draws"),
    ],
)
def test_what_cannot_be_explored_is_refused_in_one_sentence(make, changes, words):
    with refused(words):
        make(PCAExplorer, **changes)


def test_without_a_trained_head_the_still_picture_does_without_it(make, tiny_backbone):
    assert make(PCAExplorer, maps=FeatureMaps(tiny_backbone, {})).still()[1].endswith("SD f2, SD f3, CLIP tokens>")


def test_a_click_asks_for_the_positions_most_like_the_one_under_it(make):
    spots = np.random.default_rng(1).random((64, 64))
    explorer = make(PCAExplorer, pairs=[(spots, spots)], labels=["cat"])
    before = picture(explorer)
    grid = explorer._features(explorer.state)[0].shape[-1]
    x, y = ((int(share * grid) + 0.5) / grid for share in (0.3, 0.7))  # a position of the grid itself
    box = _panels()[1]["sketch map"].get_position()
    explorer.image.click(box.x0 + x * box.width, 1 - box.y1 + y * box.height)
    assert explorer.state["point"] == ("sketch", pytest.approx(x), pytest.approx(y))
    assert f"in the photo is ({x:.2f}, {y:.2f}), marked o, cosine <b>1.00</b>" in explorer.words.value  # equal images
    assert picture(explorer) != before
    explorer.image.click(0.001, 0.001)
    assert "between the pictures" in explorer.words.value and explorer.state["point"][0] == "sketch"


@pytest.mark.parametrize(
    ("kind", "name", "wrong"),
    [
        (PCAExplorer, "point", [("sketch", 2, 0.5), ("cat", 0, 0), ("photo", 0.5), 3, [[], 0, 0]]),
        (FrequencyExplorer, "band", [(5, 2), (0, 1000), (1,), 4, (float("nan"), 3)]),
    ],
)
def test_a_wrong_point_and_a_wrong_band_are_refused(make, kind, name, wrong):
    explorer = make(kind)
    state = explorer.state
    for value in wrong:
        explorer.update(**{name: value})
        assert f"{name} is" in explorer.words.value and explorer.state == state


def test_the_band_slider_keeps_the_share_of_the_power_it_names(make):
    explorer = make(FrequencyExplorer)
    assert "<b>100%</b> of the sketch's and <b>100%</b> of the photo's" in explorer.words.value
    before = picture(explorer)
    explorer.controls["band"].value = (0, 3)
    assert explorer.state["band"] == (0.0, 3.0) and picture(explorer) != before
    found = explorer._features(explorer.state)[0][0]
    low = band_pass(found, 0, 3)
    for number, side in enumerate(SIDES):
        share = (low[number].var(dim=(1, 2)).sum() / found[number].var(dim=(1, 2)).sum()).item()
        assert 0.01 < share < 0.99 and f"<b>{share:.0%}</b> of the {side}'s" in explorer.words.value
    explorer.update(band=(0, 0))
    assert "<b>0%</b> of the sketch's" in explorer.words.value and "Nothing to colour" in explorer.words.value
    explorer.update(source="SD f1", band=(explorer.top - 0.5, explorer.top))
    assert "Nothing to colour" in explorer.words.value
