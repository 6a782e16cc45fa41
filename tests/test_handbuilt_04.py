"""The head, loss, step and metric that 04 writes by hand, taken from its cells, are the package's."""

import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfhelpers import metrics
from sfhelpers.tasks import segmentation
from sfhelpers.tasks.prepared import PreparedPairs, take
from tests.backbone_fixtures import assert_same_loss_and_gradients, small

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "04_segmentation.ipynb"
CELLS = nbformat.read(NOTEBOOK, as_version=4).cells


@pytest.fixture(scope="module")
def hand():
    names = {"torch": torch, "F": F, "nn": nn}
    for cell in CELLS:
        if "handbuilt" in cell.metadata.get("tags", []):
            exec(cell.source, names)
    return SimpleNamespace(**names)


def test_loss_and_gradients_by_hand_are_those_of_the_package_and_a_step_lowers_the_loss(
    hand, tiny_backbone, two_images
):
    theirs, ours = segmentation.SketchSegmenter(small(tiny_backbone)), hand.Segmenter(small(tiny_backbone))
    prepared, records = theirs.extractor.prepare(two_images), [SimpleNamespace(mask=True)] * 2
    theirs.extractor.fit_statistics(prepared)
    ours.load_state_dict(theirs.state_dict())
    pairs, masks = (
        torch.tensor([[0, 1], [1, 0]]),
        torch.rand(2, 40, 40, generator=torch.Generator().manual_seed(0)) < 0.3,
    )
    data = PreparedPairs(prepared, prepared, records, records, pairs, masks)
    sketches, photos = (take(prepared, which) for which in pairs.T)
    loss = hand.cross_entropy(ours(sketches, photos), masks[pairs[:, 1]])
    package = segmentation.Segmentation.loss(None, theirs, {"train": data}, torch.arange(2))
    assert_same_loss_and_gradients(ours, loss, theirs, package)
    optimiser = torch.optim.AdamW(ours.parameters(), 2e-3)
    losses = [hand.step(ours, optimiser, prepared, prepared, masks) for _ in range(6)]
    assert losses[-1] < losses[0]


def test_iou_by_hand_is_the_metric_also_of_empty_masks(hand):
    predicted, true = torch.rand(2, 30, 6, 6, generator=torch.Generator().manual_seed(1)) < 0.4
    predicted[0] = true[0] = True
    predicted[1] = true[1] = False
    predicted[2] = False
    np.testing.assert_allclose(hand.foreground_iou(predicted, true), metrics.foreground_iou(predicted, true), atol=1e-6)


SOLUTIONS = dict(
    match
    for cell in CELLS
    for match in re.findall(r"<summary>(Solution to \d+)</summary>\s*```python\n(.*?)```", cell.source, re.DOTALL)
)


@pytest.mark.parametrize("title", SOLUTIONS)
def test_solution_runs_and_its_asserts_hold(title, capsys):
    dice = torch.Generator().manual_seed(0)
    masks = torch.rand(4, 160, 160, generator=dice) < 0.3
    records = [SimpleNamespace(category=name) for name in ("cat", "cat", "cup", "cup")]
    part = SimpleNamespace(pair_masks=masks, photo_records=records, pairs=torch.arange(4)[:, None].expand(-1, 2))
    names = {"torch": torch, "np": np, "metrics": metrics, "frozen": {"validation": part}, "test": part}
    names |= {"answers": torch.rand(2, 4, 160, 160, generator=dice), "true": {"seen": masks}}
    names["fused"] = SimpleNamespace(found=SimpleNamespace(threshold=0.5))
    assert "assert " in SOLUTIONS[title]
    exec(SOLUTIONS[title], names)
