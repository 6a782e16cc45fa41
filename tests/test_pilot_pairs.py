"""The pilot study's pairs have exact ground truth."""

import pytest
import torch
import torch.nn.functional as F

from sfhelpers.pilot import toy_pairs
from tests.backbone_fixtures import one_sentence


@pytest.fixture(scope="module")
def pairs():
    return toy_pairs(2, ("cat", "church", "cup", "windmill"))


def test_pairs_come_category_by_category_with_all_their_truth(pairs):
    assert len(pairs) == 8 and pairs.labels[:3] == ["cat", "cat", "church"]
    assert pairs.images.shape == (8, 2, 3, 160, 160) and pairs.images.min() >= 0 and pairs.images.max() <= 1
    assert pairs.points.shape == (8, 2, 8, 2) and pairs.masks.shape == pairs.silhouettes.shape == (8, 160, 160)
    assert pairs.visible.dtype == pairs.masks.dtype == pairs.silhouettes.dtype == torch.bool
    assert pairs.images[:, 0].median() > 0.95, "sketches are white paper"
    chosen = pairs[[2, 5]]
    assert chosen.labels == ["church", "cup"] and torch.equal(chosen.masks, pairs.masks[[2, 5]])
    assert torch.equal(toy_pairs(1, ("church",)).images[0], pairs.images[2]), "the same every time"


def test_the_silhouette_is_what_the_sketch_outlines(monkeypatch):
    """At difficulty 0 the hand is nearly steady: all ink lies in the silhouette or within a few pixels of it."""
    monkeypatch.setattr("sfhelpers.pilot.pairs.DIFFICULTY", 0.0)
    calm = toy_pairs(3, ("cat", "bottle", "sailboat", "giraffe"))
    ink = calm.images[:, 0, 0] < 0.5
    near = F.max_pool2d(calm.silhouettes[:, None].float(), 11, 1, 5)[:, 0].bool()
    assert (ink & near).sum() / ink.sum() > 0.98
    share = calm.silhouettes.float().mean((1, 2))
    assert share.min() > 0.03 and share.max() < 0.7
    x, y = (calm.points[:, 0] * 160).round().long().clamp(0, 159).unbind(-1)
    on_it = near[torch.arange(len(calm))[:, None], y, x]
    assert on_it[calm.visible[:, 0]].float().mean() > 0.95


@pytest.mark.parametrize("arguments", [(0,), (1, ()), (1, ("unicorn",))])
def test_pairs_that_do_not_exist_are_refused_in_one_sentence(arguments):
    with pytest.raises(ValueError) as error:
        toy_pairs(*arguments)
    one_sentence(error)
