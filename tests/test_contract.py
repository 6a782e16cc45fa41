"""The contract of the miniature: its measures on maps whose answers are known, and its table on a tiny pair."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sfhelpers.pilot import toy_pairs
from sfhelpers.pocket import contract


@pytest.fixture(scope="module")
def pairs():
    return toy_pairs(2, ["cat", "cup", "house"])


def test_maps_that_know_the_point_match_and_others_do_not(pairs):
    grid = contract.GRID
    columns, rows = (pairs.points.clamp(0, 0.999) * grid).long().unbind(-1)
    maps = F.one_hot(rows * grid + columns, grid**2).float().unflatten(3, (grid, grid))
    drawn = F.max_pool2d(maps[:, 0], 3, 1, 1)  # a point between two positions is near one of them
    knowing = torch.stack([drawn, maps[:, 1]], 1)
    assert contract.matching(knowing, pairs, 0.05) > 0.9 > 0.2 > contract.matching(torch.ones_like(maps), pairs, 0.05)
    assert contract.matching(knowing, pairs, 0.1, side=1, shift=1) > 0.9  # onto the next photo of the category


def test_probes_find_what_maps_hold(pairs):
    photos = pairs.images[:, 1]
    shown = F.adaptive_avg_pool2d(pairs.masks[:, None].float(), contract.GRID)
    noise = torch.randn(len(pairs), 2, contract.GRID, contract.GRID, generator=torch.Generator().manual_seed(0))
    assert contract.foreground(torch.cat([shown, noise], 1), pairs.masks) > 0.99
    assert 0.4 < contract.foreground(noise, pairs.masks) < 0.6
    assert contract.edges(noise, photos) < 0.05 < contract.edges(torch.cat([shown, noise], 1), photos)


def test_a_fact_holds_only_if_every_next_measure_is_clearly_smaller():
    found = {"a": [0.5, 0.6, 0.55], "b": [0.4, 0.5, 0.45], "c": [0.39, 0.51, 0.46]}
    assert contract.holds(("a", "b"), found) and not contract.holds(("b", "a"), found)
    assert not contract.holds(("a", "b", "c"), found)


def test_a_tiny_pair_gets_every_row(pairs, tiny_backbone, monkeypatch):
    monkeypatch.setattr(contract, "GRID", 6)
    monkeypatch.setattr(contract, "TIMESTEPS", (1, 195, 800))
    found = contract.measure(tiny_backbone, pairs, seeds=range(2))
    run = SimpleNamespace(notebook="90_train_pocket", seed=0, device="cpu")
    told = contract.rows(run, found, len(pairs), gallery="seen", backbone="tiny", weights_sha256="0")
    assert contract.of_rows(reversed(told), "tiny", "seen") == found and not contract.of_rows(told, "tiny", "unseen")
    assert contract.table(found).keys() == contract.FACTS.keys()
    assert np.isfinite(values := np.array(list(found.values()))).all() and values.shape[1] == 2
    assert found["PCK@5, CLIP"][0] == found["PCK@5, CLIP"][1]  # sees no noise
