"""The explorers of masks and of feature maps: live with a kernel, and never broken by a wrong word."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from sfhelpers.metrics import foreground_iou
from sfhelpers.pilot import FeatureMaps, Settings, band_pass
from sfhelpers.widgets import FrequencyExplorer, MaskExplorer, PCAExplorer
from sfhelpers.widgets.features import SIDES, _panels
from tests.backbone_fixtures import refused, untrained_head

ALL = pytest.mark.parametrize("kind", [MaskExplorer, PCAExplorer, FrequencyExplorer])
LABELS = ["cat 1", "a <b> 2"]
RISE = torch.linspace(0, 1, 32).expand(32, 32)
MASKS = torch.stack([RISE, RISE.T])  # one rises to the right, one downwards


@pytest.fixture(scope="module")
def make(tiny_backbone):
    """Makes an explorer of two masks, or of two pairs of unlike kinds and sizes and of maps with one untrained head."""
    generator = np.random.default_rng(0)
    wide = Image.fromarray(generator.integers(0, 255, (40, 90, 3), dtype=np.uint8))
    tall = torch.from_numpy(generator.random((3, 60, 30), dtype=np.float32))
    pairs = [(wide, generator.random((50, 50, 3))), (generator.integers(0, 255, (33, 33), dtype=np.uint8), tall)]
    maps = FeatureMaps(tiny_backbone, {"fused": untrained_head("fused", tiny_backbone)})
    photos, paper = list(generator.random((2, 32, 32, 3))), np.full((40, 40), 255, dtype=np.uint8)
    masks = {"sketches": [paper] * 2, "photos": photos, "probabilities": MASKS, "truths": MASKS > 0.5, "threshold": 0.5}
    start = {kind: {"pairs": pairs, "maps": maps} for kind in (PCAExplorer, FrequencyExplorer)} | {MaskExplorer: masks}
    return lambda kind, **changes: kind(**{"labels": LABELS} | start[kind] | changes)


FEATURES = {
    "label": LABELS[1], "timestep": 700, "source": "SD f2", "injection": "up", "prompt": "a photo of [CLASS]",
    "seed": 3, "draws": 6, "basis": "set",
}  # fmt: skip


@ALL
def test_every_control_changes_the_picture_and_update_from_code_does_the_same_but_draws_once(make, kind, monkeypatch):
    explorer, drawn = make(kind), []
    seen = [explorer.image.value]
    changes = {"threshold": 0.25, "label": LABELS[1]} if kind is MaskExplorer else FEATURES
    for name, value in changes.items():
        explorer.controls[name].value = value
        seen.append(explorer.image.value)
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
    "threshold": [1.5, True],
    "point": [("sketch", 2, 0.5), ("cat", 0, 0), ("photo", 0.5), 3, [[], 0, 0]],
    "band": [(5, 2), (0, 1000), (1,), 4, (float("nan"), 3)],
}


@ALL
def test_a_failing_update_says_so_in_one_sentence_and_changes_nothing(make, kind, monkeypatch):
    explorer = make(kind)
    before, words, state = explorer.image.value, explorer._said, explorer.state
    for name, value in [(name, value) for name, values in WRONG.items() for value in values]:
        explorer.update(**{name: value})
        sentence, _, rest = explorer.words.value.partition("</span>")
        assert "color" in sentence and sentence.endswith(".") and ". " not in sentence and "<i>" not in sentence, name
        assert name in sentence or "needs the trained head" in sentence
        assert words in rest and explorer.image.value == before and explorer.state == state
        assert all(control.value == state[name] for name, control in explorer.controls.items())
    monkeypatch.setattr(explorer, "_drawn", Mock(side_effect=ValueError("no picture today.")))
    explorer.controls["label"].value = LABELS[1]
    assert explorer.controls["label"].value == explorer.state["label"] == LABELS[0]
    assert "no picture today." in explorer.words.value
    monkeypatch.undo()
    explorer.controls["label"].value = LABELS[1]
    assert explorer.image.value != before and "</span>" not in explorer.words.value


def test_without_a_trained_head_its_source_is_refused_by_hand_too_and_left_out_of_the_still(make, tiny_backbone):
    explorer = make(PCAExplorer, maps=FeatureMaps(tiny_backbone, {}))
    explorer.controls["source"].value = "fused"
    assert "</span>" in explorer.words.value and explorer.controls["source"].value == "SD f3"
    assert explorer.still()[1].endswith("SD f2, SD f3, CLIP tokens>")


def test_the_threshold_slider_changes_the_iou_in_the_words(make):
    explorer = make(MaskExplorer)
    assert "Foreground IoU <b>1.00</b> at threshold 0.50." in explorer.words.value
    explorer.controls["threshold"].value = 0.25
    expected = foreground_iou(MASKS[:1] >= 0.25, MASKS[:1] > 0.5).item()
    assert expected < 0.9 and f"<b>{expected:.2f}</b> at threshold 0.25." in explorer.words.value


def test_a_change_that_comes_while_one_is_drawn_waits_and_is_drawn_too(make, monkeypatch):
    explorer, begun, go = make(PCAExplorer), threading.Event(), threading.Event()
    draw = explorer._drawn
    monkeypatch.setattr(explorer, "_drawn", lambda state: (begun.set(), go.wait(30), draw(state))[2])
    with ThreadPoolExecutor(2) as threads:
        threads.submit(explorer.update, timestep=100)
        assert begun.wait(30)
        second = threads.submit(setattr, explorer.controls["seed"], "value", 4)
        assert wait([second], 0.1).not_done
        go.set()
    assert (explorer.controls["timestep"].value, explorer.controls["seed"].value) == (100, 4)
    assert explorer.image.value == make(PCAExplorer, settings=Settings(timestep=100, seed=4)).image.value


@pytest.mark.parametrize("kind", [PCAExplorer, FrequencyExplorer])
def test_long_work_says_so_first_and_a_prompt_names_the_class_and_what_is_strange(make, kind, monkeypatch):
    explorer, said, asked, call = make(kind, labels=["wine_glass 12", "dog"]), [], [], FeatureMaps.__call__
    explorer.words.observe(lambda change: said.append(change.new), "value")
    monkeypatch.setattr(FeatureMaps, "__call__", lambda *given: asked.append(given[2].prompt) or call(*given))
    explorer.update(draws=6, basis="set", prompt="<i>a [CLASS]")
    assert asked == ["<i>a wine glass", "<i>a dog"] and explorer.state["prompt"] == "<i>a [CLASS]"
    assert ["noise draws: 6, pair 1 of 2" in said[0], "noise draws: 6, pair 2 of 2" in said[1]] == [True, True]
    assert len(said) == 3 and "computing" not in said[2]
    assert "never taught &quot;&lt;i&gt;a&quot;, &quot;wine&quot;, &quot;glass&quot;" in said[2]


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        (PCAExplorer, {"pairs": [], "labels": []}, "at least one"),
        (PCAExplorer, {"labels": ["cat"]}, r"\[1, 2\] labels"),
        (PCAExplorer, {"labels": ["cat", "cat"]}, "label 'cat' .* names 2 pairs"),
        (PCAExplorer, {"labels": ["cat", 3]}, "label 3 is no text"),
        (PCAExplorer, {"pairs": [("a.png", "b.png")] * 2}, "'cat 1' is not two images"),
        (PCAExplorer, {"pairs": [(np.zeros((9, 9)), np.zeros(3))] * 2}, r"not two images.* of shape \(3,\)"),
        (PCAExplorer, {"pairs": [3, None]}, "'cat 1' is not two images"),
        (PCAExplorer, {"pairs": [(np.zeros((0, 4, 3)), np.zeros((9, 9)))] * 2}, "'cat 1' is not two images"),
        (PCAExplorer, {"settings": Settings(timestep=5000)}, "5000"),
        (MaskExplorer, {"labels": ["cat 1"]}, "1, 2"),
        (MaskExplorer, {"threshold": float("nan")}, "threshold is nan"),
        (MaskExplorer, {"probabilities": torch.full((2, 32, 32), torch.nan)}, "outside 0 to 1"),
        (MaskExplorer, {"probabilities": torch.zeros(2, 8, 8)}, "alike"),
        (MaskExplorer, {"truths": torch.zeros(2, 32, 32)}, "not bool"),
        (MaskExplorer, {"photos": [np.zeros((8, 8, 3))] * 2}, "resize"),
        (MaskExplorer, {"sketches": [np.zeros(3)] * 2}, "cannot be shown"),
    ],
)
def test_what_cannot_be_explored_is_refused_in_one_sentence(make, kind, changes, words):
    with refused(words):
        make(kind, **changes)


def test_a_click_asks_for_the_positions_most_like_the_one_under_it(make):
    spots = np.random.default_rng(1).random((64, 64))
    explorer = make(PCAExplorer, pairs=[(spots, spots)], labels=["cat"])
    before = explorer.image.value
    grid = explorer._features(explorer.state)[0].shape[-1]
    x, y = ((int(share * grid) + 0.5) / grid for share in (0.3, 0.7))  # a position of the grid itself
    box = _panels()[1]["sketch map"].get_position()
    explorer.image.click(box.x0 + x * box.width, 1 - box.y1 + y * box.height)
    assert explorer.state["point"] == ("sketch", pytest.approx(x), pytest.approx(y))
    assert f"in the photo is ({x:.2f}, {y:.2f}), marked o, cosine <b>1.00</b>" in explorer.words.value  # equal images
    assert explorer.image.value != before
    explorer.image.click(0.001, 0.001)
    assert "between the pictures" in explorer.words.value and explorer.state["point"][0] == "sketch"


def test_the_band_slider_keeps_the_share_of_the_power_it_names(make):
    explorer = make(FrequencyExplorer)
    assert "<b>100%</b> of the sketch's and <b>100%</b> of the photo's" in explorer.words.value
    before = explorer.image.value
    explorer.controls["band"].value = (0, 3)
    assert explorer.state["band"] == (0.0, 3.0) and explorer.image.value != before
    found = explorer._features(explorer.state)[0][0]
    low = band_pass(found, 0, 3)
    for number, side in enumerate(SIDES):
        share = (low[number].var(dim=(1, 2)).sum() / found[number].var(dim=(1, 2)).sum()).item()
        assert 0.01 < share < 0.99 and f"<b>{share:.0%}</b> of the {side}'s" in explorer.words.value
    explorer.update(band=(0, 0))
    assert "<b>0%</b> of the sketch's" in explorer.words.value and "Nothing to colour" in explorer.words.value
    explorer.update(source="SD f1", band=(explorer.top - 0.5, explorer.top))
    assert "Nothing to colour" in explorer.words.value
