"""The recipe of the network that stands in for DINO: it learns, does not collapse, and the encoders read it."""

import pytest
import torch
from safetensors import safe_open

from sfhelpers.backbones.encoders import load_encoder
from sfhelpers.pocket import selfsupervised
from sfhelpers.pocket.data import pictures


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(selfsupervised, "PICTURES", {"photo": 3, "sketch": 3})
    monkeypatch.setattr(selfsupervised, "BATCH", 4)


def test_views_are_pictures_and_differ():
    images, _, _ = pictures("photo", 0, 2)
    dice = torch.Generator().manual_seed(0)
    one, other = (selfsupervised.views(images, dice) for _ in range(2))
    assert one.shape == (2, 3, selfsupervised.SIDE, selfsupervised.SIDE)
    assert one.min() >= 0 and one.max() <= 1 and not torch.allclose(one, other)


def test_what_it_writes_is_read_as_an_encoder_and_says_how_it_ended(small, tmp_path):
    selfsupervised.main(str(tmp_path / "model.safetensors"), "2")
    encoder = load_encoder("Self-supervised", tmp_path)
    assert encoder.tokens(torch.rand(2, 3, 64, 64)).shape[1] == encoder.token_dim
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        told = file.metadata()
    assert told["steps"] == "2" and 0 < float(told["loss"]) < 4 and float(told["spread"]) > 0.01
