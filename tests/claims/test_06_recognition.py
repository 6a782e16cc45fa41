"""What 06_recognition says of the committed rows."""

import pytest

from sfhelpers import results
from sfhelpers.results import BETTER, NOT_TOLD, PLATEAU
from sfhelpers.tasks.arms import CORE, ZEROED_UNET
from sfhelpers.tasks.recognition import GALLERY, PROBES, rule
from tests.claims import shown, told

ROWS = results.committed("06_recognition")
TABLE, APART, VERDICTS = told(ROWS, GALLERY, "Acc@1", rule(10))
MEAN = {method: mean for method, (mean, _) in TABLE.items()}
RATE = 4e-3  # the notebook's


def test_all_ended_at_a_plateau_clip_only_at_the_notebooks_rate_and_the_others_at_a_third_of_it():
    trained = [row for row in ROWS if row.method in CORE and row.metric == "Acc@1"]
    assert len(trained) == 5 * len(CORE) and all(row.ended == PLATEAU and row.steps >= 500 for row in trained)
    assert all(row.best_epoch < 120 for row in trained), "none at the last epoch that was allowed"
    for row in trained:
        assert row.learning_rate == pytest.approx(RATE if row.method == "CLIP only" else RATE / 3)


def test_fused_names_nine_in_ten_and_is_better_than_sd_only_but_told_apart_from_neither_clip_nor_the_zeroed_unet():
    assert MEAN["fused"] >= 0.9
    assert max(CORE, key=MEAN.get) == "fused", "first of the trained arms"
    assert VERDICTS["SD only"] == BETTER
    for method in ("CLIP only", ZEROED_UNET):
        assert VERDICTS[method] == NOT_TOLD and APART[method].low < 0 < APART[method].mean, method


def test_probes_of_frozen_features_leave_little_to_fuse():
    fused, spread = TABLE["fused"]
    assert abs(fused - MEAN["B-CLIP"]) < spread and VERDICTS["B-CLIP"] == NOT_TOLD, "as many as fused"
    assert 0.05 < MEAN["B-CLIP"] - MEAN["B-SD"] < 0.075, "some six in a hundred more than on the UNet's own"
    assert 0.005 < MEAN["B-SD+CLIP"] - MEAN["B-CLIP"] < 0.015, "both about one in a hundred more than CLIP's"
    assert min(MEAN[method] for method in (*CORE, *PROBES)) > 0.8, "all are above eight in ten"


def test_in_the_default_run_the_temperature_takes_about_a_hundredth_off_an_error_that_is_small():
    before, after = shown("06_recognition", r"^  fused +Acc@1 .* ECE ([\d.]+)  ECE at T ([\d.]+)")
    assert 0.005 < before - after < 0.015 and before < 0.1
    same, drawings = shown("06_recognition", r"^cup and house: (\d+) of (\d+) taken for each other")
    assert same > drawings / 4, "look-alikes above all"
