"""What 05_retrieval builds by hand, taken from the notebook's own cells, is the package's."""

from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from torch import nn

from sfhelpers.metrics import AP, Acc, evaluate_retrieval
from sfhelpers.tasks.retrieval import SketchRetriever, retrieval_loss
from tests.backbone_fixtures import small

CELLS = nbformat.read(Path(__file__).parents[1] / "notebooks" / "05_retrieval.ipynb", as_version=4).cells
HANDBUILT = [cell.source for cell in CELLS if "handbuilt" in cell.metadata.get("tags", [])]
SAME = torch.tensor([0, 0, 1, 1])[:, None] == torch.tensor([0, 0, 1, 1])
OWN = torch.eye(4, dtype=torch.bool)


@pytest.fixture(scope="module")
def hand():
    names = {"torch": torch, "nn": nn}
    for source in HANDBUILT:
        exec(source, names)
    return SimpleNamespace(**names)


@pytest.fixture
def extractor(tiny_backbone):
    return small(tiny_backbone, start="random")


@pytest.fixture
def batch(extractor):
    """Four sketches and four photos, prepared."""
    dice = torch.Generator().manual_seed(0)
    return [extractor.prepare(torch.rand(4, 3, 96, 96, generator=dice)) for _ in range(2)]


@pytest.mark.parametrize("level", ["category", "instance"])
def test_vectors_loss_and_gradients_are_the_packages(hand, extractor, batch, level):
    model, package = hand.Retriever(extractor), SketchRetriever(extractor, margin=1.0, level=level)
    vectors = [model(side) for side in batch]
    loss = (hand.triplet_loss(*vectors, SAME, ~SAME, 1.0) if level == "category" else
            hand.very_photo_loss(*vectors, OWN, SAME, 1.0))  # fmt: skip
    theirs = retrieval_loss(*(package(side) for side in batch), SAME, OWN, **package.settings)
    assert loss.item() == pytest.approx(theirs.item(), abs=1e-6) and loss > 0
    learned = [p for p in extractor.parameters() if p.requires_grad]
    gradients = [torch.autograd.grad(found, learned, allow_unused=True) for found in (loss, theirs)]
    assert max(g.abs().max() for g in gradients[0] if g is not None) > 1e-4
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=0)


def test_a_step_lowers_the_loss_of_its_batch(hand, extractor, batch):
    model = hand.Retriever(extractor)
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    losses = [hand.step(model, optimiser, *batch, SAME) for _ in range(6)]
    assert losses[-1] < losses[0]


def test_average_precision_and_acc_are_the_packages_where_scores_tie_too(hand):
    dice = torch.Generator().manual_seed(0)
    queries, gallery = (torch.randn(n, 3, generator=dice).double() for n in (12, 20))
    gallery = gallery.repeat(2, 1)  # every photo once more, under another label
    labels, kinds = np.arange(12) % 3, np.arange(40) % 3
    found = evaluate_retrieval(queries, gallery, labels, kinds, (AP(), Acc(1), Acc(5)))
    queries, gallery = (nn.functional.normalize(side, dim=1) for side in (queries, gallery))
    scores = (queries @ gallery.T).round(decimals=12)
    assert any(len(row.unique()) < len(row) for row in scores)
    right = torch.from_numpy(labels[:, None] == kinds)
    for k, row in enumerate(zip(scores, right, strict=True)):
        assert hand.average_precision(*row) == pytest.approx(found[AP()][k], abs=1e-12)
        assert [hand.found_within(n, *row) for n in (1, 5)] == [found[Acc(1)][k], found[Acc(5)][k]]


def test_all_of_it_is_about_forty_lines_in_cells_of_fifteen():
    lines = [[line for line in source.splitlines() if line.strip()] for source in HANDBUILT]
    assert max(map(len, lines)) <= 15 and 25 < sum(map(len, lines)) <= 45
