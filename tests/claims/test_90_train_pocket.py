"""What 90_train_pocket says of the shipped models, from the committed rows, the shipped log and the models."""

import json
from itertools import pairwise
from types import SimpleNamespace

import torch
from torch.nn import functional as F

from sfhelpers import params, results, toyworld
from sfhelpers.backbones import load_backbone
from sfhelpers.pocket import data
from tests.cells import run_cells

HERE = "90_train_pocket"


def test_the_unet_alone_gains_without_stopping_and_fused_most_is_there_before_any_denoising():
    names = {"run": SimpleNamespace(curve=False), "plots": SimpleNamespace(curve=lambda *_: None), "copies": {}}
    names |= {"params": params, "results": results, "CHOSEN": "threshold chosen on validation pairs, no CRF"}
    quality = run_cells(HERE, names, "curve")["quality"]  # (gallery, method) -> samples, rising -> foreground IoU
    for gallery in ("seen categories", "unseen categories"):
        alone, fused = (list(quality[gallery, method].values()) for method in ("SD only", "fused"))
        assert len(alone) > 3 and all(after - before > 0.01 for before, after in pairwise(alone))
        assert fused[0] > max(*alone, 0.9 * fused[-1])
        assert 0.01 < fused[-1] - fused[0] < 0.05, "the denoiser adds slowly"


def test_the_shipped_denoisers_loss_has_flattened_out_and_the_encoders_went_from_guessing_to_what_scenes_leave():
    log = json.loads((params.ROOT / "data/pocket/training.json").read_text(encoding="utf-8"))
    losses = [entry["loss"] for entry in log["denoiser"]]
    assert abs(sum(losses[-12:-6]) - sum(losses[-6:])) / 6 < 0.005 and losses[-1] < 0.5 * losses[1]
    words = [entry["words"] for entry in log["encoder"]]
    assert abs(words[0] - 4.5) < 0.4 and words[-1] < 1 and [entry["step"] for entry in log["encoder"]][-1] == 110


def test_it_names_every_category_it_was_aligned_to_and_is_at_chance_for_the_nine_unseen_ones():
    names = {"run": SimpleNamespace(seed=0), "torch": torch, "F": F, "data": data, "toyworld": toyworld}
    names["shipped"] = load_backbone("pocket", "cpu")
    for (part, _), hits in run_cells(HERE, names, "zero-shot")["accuracy"].items():
        assert hits.mean() > 0.99 if part == "seen" else abs(hits.mean() - 1 / 9) < 0.1
