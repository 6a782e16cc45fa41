"""What 00 counts by hand, taken from its cells: right answers beside chance, and keypoints that are found."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sfhelpers import plots
from sfhelpers.images import Square
from sfhelpers.search.framing import Frame
from tests.cells import run_cells
from tests.search_helpers import sketch

RED, BLUE = torch.eye(3)[0], torch.eye(3)[2]


@pytest.fixture(scope="module")
def names(searcher, heads):
    """What the cells tagged handbuilt define, asking untrained models."""
    names = {"plots": plots, "Square": Square, "trained": heads, "search": SimpleNamespace(searcher=searcher)}
    return run_cells("00_start_here", names, "handbuilt")


def test_right_answers_and_chance_are_counted(names, searcher, tmp_path, monkeypatch):
    monkeypatch.setitem(names, "embedded", lambda gallery, sketches: torch.stack([RED, RED, BLUE]))
    sketches = [SimpleNamespace(category=name) for name in ("cat", "dog", "dog")]
    gallery = SimpleNamespace(embeddings=torch.stack([RED, RED, RED, BLUE]), labels=torch.tensor([0, 0, 0, 1]))
    gallery.categories = ("cat", "dog")
    asking = SimpleNamespace(gallery=gallery, recognise=lambda embeddings: (9 * embeddings[:, [0, 2]]).softmax(1))
    answers, likely = names["ask"](asking, sketches)
    assert [key[0] for key in answers] == ["P@1"] * 2 + ["category accuracy"] * 2 and (likely > 0.5).all()
    right, chance, named, blind = (values.tolist() for values in answers.values())
    assert right == named == [True, False, True] and chance == [0.75, 0.25, 0.25] and set(blind) == {0.5}
    monkeypatch.undo()
    sketch().save(tmp_path / "a.png")
    asked = names["embedded"](searcher.gallery, [SimpleNamespace(path=tmp_path / "a.png")] * 33)
    assert torch.allclose(asked, searcher.gallery.embed([Frame.of(sketch())]).expand(33, -1), atol=1e-6)


def test_a_match_counts_when_it_is_near_enough(names):
    flag = torch.from_numpy(np.asarray(sketch()) / 255).permute(2, 0, 1).float()
    points = torch.tensor([[(20, 130), (80, 40), (20, 30)]]).expand(2, -1, -1) / 160
    pairs = SimpleNamespace(images=torch.stack([flag, flag])[None], points=points[None].clone())
    pairs.visible = torch.tensor([[[True, True, False], [True, True, True]]])
    assert names["pck"](pairs, ("tokens",), radius=0.15).tolist() == [True, True]
    there = names["nearest"](*[names["feature_map"](flag, ("f3", "tokens"))] * 2, points[0])
    assert (there - points[0]).abs().max() < 0.15, "a place is most like itself"
    pairs.points[0, 1] = 1 - points[0]
    assert not names["pck"](pairs, ("tokens",), radius=0.05).any()
