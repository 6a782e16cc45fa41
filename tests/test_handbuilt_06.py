"""The head, loss, step and scores that 06 writes by hand, taken from its cells, are the package's."""

import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from torch import nn

from sfhelpers import metrics, toyworld
from sfhelpers.datasets.sketches import load_sketches
from sfhelpers.tasks import recognition
from sfhelpers.toyworld import quick
from tests.backbone_fixtures import assert_same_loss_and_gradients, small

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "06_recognition.ipynb"
CELLS = nbformat.read(NOTEBOOK, as_version=4).cells
FEW = tuple(sorted(("cup", "key", toyworld.UNSEEN[0])))
SOLUTIONS = [
    source
    for cell in CELLS
    for source in re.findall(r"<summary>Solution to \d+</summary>.*?```python\n(.*?)```", cell.source, re.DOTALL)
]


@pytest.fixture(scope="module")
def hand():
    names = {"torch": torch, "nn": nn}
    for cell in CELLS:
        if "handbuilt" in cell.metadata.get("tags", []):
            exec(cell.source, names)
    return SimpleNamespace(**names)


@pytest.fixture
def both(hand, tiny_backbone, two_images):
    """The notebook's model and the package's with the same weights, and two prepared pictures of two categories."""
    theirs = recognition.SketchRecogniser(small(tiny_backbone), ["cat", "cup", "key"], dim=12)
    prepared = theirs.extractor.prepare(two_images)
    theirs.extractor.fit_statistics(prepared)
    theirs.statistics.mean.copy_(torch.linspace(-1, 1, 12))  # a spread of two pictures would blow the gradients up
    theirs.statistics.std.copy_(torch.linspace(1, 3, 12))
    nn.init.normal_(theirs.head.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    ours = hand.Recogniser(small(tiny_backbone), 3, dim=12)
    ours.load_state_dict({name.removeprefix("statistics."): value for name, value in theirs.state_dict().items()})
    return ours, theirs, prepared, torch.tensor([2, 0])


def test_loss_and_gradients_by_hand_are_those_of_the_package(hand, both):
    ours, theirs, prepared, labels = both
    data = SimpleNamespace(prepared=prepared, labels=labels)
    loss = hand.cross_entropy(ours(prepared), labels)
    package = recognition.Recognition.loss(None, theirs, {"train": data}, torch.arange(2))
    assert_same_loss_and_gradients(ours, loss, theirs, package)


def test_a_step_by_hand_lowers_the_loss(hand, both):
    ours, _, prepared, labels = both
    optimiser = torch.optim.AdamW(ours.parameters(), 4e-3)
    losses = [hand.step(ours, optimiser, prepared, labels) for _ in range(5)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("ties", [False, True])
def test_scores_by_hand_are_the_metrics_ties_included(hand, ties):
    dice = torch.Generator().manual_seed(3)
    logits, labels = torch.randn(200, 7, generator=dice), torch.randint(7, (200,), generator=dice)
    logits = logits.round() if ties else logits
    for k in (1, 2, 5):
        np.testing.assert_array_equal(hand.accuracy_at(k, logits, labels), metrics.top_k_accuracy(logits, labels, k))
    sharp = (3 * logits + torch.rand(200, 7, generator=dice)).double().softmax(1)  # the most probable is never tied
    assert hand.calibration_error(sharp, labels) == pytest.approx(metrics.calibration_error(sharp, labels), abs=1e-6)


def test_the_method_is_about_forty_lines_with_one_backward():
    cells = [cell.source for cell in CELLS if "handbuilt" in cell.metadata.get("tags", [])]
    lines = [line for source in cells for line in source.splitlines() if line.strip()]
    assert 25 <= len(lines) <= 45 and "loss.backward()" in "\n".join(cells)


def test_the_solutions_run_one_after_the_other_and_their_asserts_hold(tiny_backbone, tmp_path, capsys):
    quick.write_quick(tmp_path, 6, difficulty=0.1, categories=FEW)
    drawn = load_sketches("quickdraw", tmp_path, "3/3")
    model = recognition.SketchRecogniser(small(tiny_backbone), FEW, dim=12).eval()
    test = recognition.prepare_sketches(model.extractor, drawn.select("test"), FEW, 64)
    scores = torch.randn(len(test), 3, generator=torch.Generator().manual_seed(0))
    names = {"np": np, "torch": torch, "metrics": metrics, "data": drawn, "test": test}
    names |= {"run": SimpleNamespace(device="cpu"), "fused": SimpleNamespace(logits=scores)}
    names["first"] = {"fused": SimpleNamespace(model=model)}
    assert len(SOLUTIONS) == 3 and all("assert " in source for source in SOLUTIONS)
    for source in SOLUTIONS:
        exec(source, names)
