"""What 90_train_pocket says of the shipped models, from the committed rows, the shipped log and the models."""

import json
from itertools import pairwise
from statistics import fmean
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from sfhelpers import params, results, toyworld
from sfhelpers.backbones import load_backbone
from sfhelpers.pocket import contract, data
from tests.cells import run_cells

HERE, GALLERIES = "90_train_pocket", ("seen categories", "unseen categories")
ROWS = results.committed(HERE)
LOG = json.loads((params.ROOT / "data/pocket/training.json").read_text(encoding="utf-8"))
SAMPLES = [entry["samples"] for entry in LOG["denoiser"]]


def means(whose, gallery):
    """Measure -> its mean over the noise seeds."""
    return {name: fmean(values) for name, values in contract.of_rows(ROWS, whose, gallery).items()}


@pytest.mark.parametrize("gallery", GALLERIES)
def test_more_training_costs_points_and_does_not_help_everything(gallery):
    names = {"run": SimpleNamespace(curve=False), "folder": None, "entries": LOG["denoiser"], "results": results}
    names |= {"contract": contract, "galleries": GALLERIES, "plots": SimpleNamespace(curve=lambda *_: None)}
    found = run_cells(HERE, names, "curve")
    counts, lines = found["counts"], found["lines"]
    assert len(counts) == 5 and counts[-1] == SAMPLES[-1], "four copies and the shipped denoiser"
    whole = next(entry["samples"] for entry in LOG["denoiser"] if entry["side"] == 24)
    assert counts[2] < whole < counts[3], "the first three copies had seen nothing but crops"
    points, retrieved = (lines[f"{name}, {gallery}"][0] for name in ("PCK@5, SD", "mAP@all, SD"))
    assert max(points) == points[1] and counts[-1] > 2 * counts[1], "the second copy is best"
    assert points[-1] < min(points[:-1]) - 0.01, "the shipped one finds fewer than any copy before it"
    rising = [after > before + 0.03 for before, after in pairwise(retrieved)]
    assert rising == [gallery == "seen categories"] * 2 + [False] * 2, "rises on seen ones, and stops before the end"
    assert gallery == "seen categories" or retrieved[0] > max(retrieved[1:]) + 0.03, "on unseen ones the first is best"
    tables = [means(found["whose"][n], gallery) for n in counts]
    assert all(b["feedback"] > a["feedback"] + 0.003 for a, b in pairwise(tables)), "more of a token arrives"
    assert tables[-1]["foreground AUC, f3"] > tables[0]["foreground AUC, f3"] + 0.005, "things are found better"
    lost = [before - after for before, after in pairwise(points)]
    assert gallery == "unseen categories" or max(lost) == lost[-1], "seen ones lose most where whole pictures come"


def test_what_the_contract_gained_lost_and_still_lacks():
    before, seen, unseen = (
        {fact: yes for fact, (_, yes) in contract.table(contract.of_rows(ROWS, *where)).items()}
        for where in contract.COLUMNS.values()
    )
    assert [sum(table.values()) for table in (before, seen, unseen)] == [5, 6, 5]
    gained, lost = ([k for k in seen if (seen[k], before[k]) == way] for way in ((True, False), (False, True)))
    assert gained == ["SD matches better than CLIP", "a token that goes in changes later blocks"]
    assert lost == ["CLIP separates the foreground better than SD"]
    assert [k for k in seen if seen[k] != unseen[k]] == ["up-blocks go from coarse to fine"]
    assert [k for k in seen if not (seen[k] or before[k])] == list(contract.FACTS)[:2], "retrieves and recognises worse"


@pytest.mark.parametrize("gallery", GALLERIES)
def test_by_how_much(gallery):
    before, now = (means(whose, gallery) for whose in ("pocket of the earlier world", "pocket"))
    assert now["PCK@5, SD"] > 4 * before["PCK@5, SD"], "several times as many points"
    assert now["PCK@5, CLIP"] < before["PCK@5, CLIP"] / 10, "less than a tenth"
    assert now["foreground AUC, f3"] > now["foreground AUC, CLIP"] + 0.15, "by far"
    for name in ("mAP@all, SD", "Acc@1, SD"):
        assert now[name] > 1.3 * before[name], "much better than the earlier denoiser"
        assert now[name] < now[name.replace("SD", "CLIP")] - 0.1, "worse than CLIP"
    assert now["Acc@1, CLIP"] > 0.95, "the image tower tells unseen categories apart"
    assert gallery == "seen categories" or now["edges, f2"] > now["edges, f3"], "reads edges no worse"


def test_the_shipped_denoisers_loss_has_flattened_out_and_the_encoders_went_from_guessing_to_what_scenes_leave():
    losses, apart, sides = ([entry[key] for entry in LOG["denoiser"]] for key in ("loss", "align", "side"))
    assert abs(sum(losses[-12:-6]) - sum(losses[-6:])) / 6 < 0.005 and losses[-1] < 0.5 * losses[1]
    k = sides.index(24)
    assert fmean(losses[k : k + 3]) < fmean(losses[k - 3 : k]) - 0.02, "steps down where whole pictures begin"
    assert apart[k] > max(apart[k - 3 : k]) and fmean(apart[-6:]) < min(apart[:k]), "rises for a moment, then falls on"
    words = [entry["words"] for entry in LOG["encoder"]]
    assert abs(words[0] - 4.5) < 0.4 and words[-1] < 1 and [entry["step"] for entry in LOG["encoder"]][-1] == 110


def test_it_names_every_category_it_was_aligned_to_and_is_at_chance_for_the_nine_unseen_ones():
    names = {"run": SimpleNamespace(seed=0), "torch": torch, "F": F, "data": data, "toyworld": toyworld}
    names["shipped"] = load_backbone("pocket", "cpu")
    for (part, _), hits in run_cells(HERE, names, "zero-shot")["accuracy"].items():
        assert hits.mean() > 0.99 if part == "seen" else abs(hits.mean() - 1 / 9) < 0.1
