"""What 04_segmentation says of the committed rows and of the default run that its file shows."""

import numpy as np

from sfhelpers import results
from sfhelpers.results import BETTER, NOT_TOLD, WORSE
from sfhelpers.tasks.segmentation import CHOSEN
from tests.claims import shown, told

ROWS = results.committed("04_segmentation")
SEEN, _, AGAINST_SEEN = told(ROWS, "seen categories", "foreground IoU", CHOSEN)
UNSEEN, _, AGAINST_UNSEEN = told(ROWS, "unseen categories", "foreground IoU", CHOSEN)
CRF = results.table(ROWS, "seen categories", "foreground IoU", "then dense CRF")
CONTROLS = ("fused (fixed random injection)", "fused (random UNet)")


def seconds(method):
    return np.mean(list({row.seed: row.seconds for row in ROWS if row.method == method and row.seconds}.values()))


def test_the_rows_are_of_three_seeds_and_five_epochs_and_tell_what_time_the_arms_take():
    trained = [row for row in ROWS if row.method in ("fused", "SD only", "CLIP only") and " - " not in row.metric]
    assert {row.seed for row in trained} == {0, 1, 2} and {row.epochs for row in trained} == {5}
    third = [seconds("late fusion") / seconds(method) for method in ("fused", "fused (random UNet)")]
    assert all(0.3 < share < 0.36 for share in third), "late fusion takes a third of the time"
    assert 2.5 < seconds("B-Finetuning") / seconds("fused") < 3.5, "and finetuning three times as long"


def test_fused_is_better_than_its_halves_and_the_controls_level_with_late_fusion_and_below_finetuning():
    seen, unseen = AGAINST_SEEN, AGAINST_UNSEEN
    assert {seen[other] for other in ("mean mask", "SD only", "CLIP only", *CONTROLS)} == {BETTER}
    assert seen["late fusion"] == unseen["late fusion"] == unseen["CLIP only"] == unseen["B-Finetuning"] == NOT_TOLD
    assert seen["B-Finetuning"] == WORSE and unseen["SD only"] == BETTER
    for table in (SEEN, UNSEEN):
        lead, spreads = table["fused"][0] - table["SD only"][0], table["fused"][1] + table["SD only"][1]
        assert lead > 4 * spreads, "above SD only by many spreads"
    clip, spread = SEEN["CLIP only"]
    for control in CONTROLS:
        assert SEEN[control][0] < clip + spread + SEEN[control][1], "controls are no better than CLIP alone"


def test_with_crf_fused_keeps_less_than_two_thirds_of_its_lead_and_late_fusion_passes_it_by_less_than_a_spread():
    after, before = (table["fused"][0] - table["CLIP only"][0] for table in (CRF, SEEN))
    assert 0 < after < before * 2 / 3
    assert 0 < CRF["late fusion"][0] - CRF["fused"][0] < CRF["fused"][1]
    gain = {method: CRF[method][0] - SEEN[method][0] for method in CRF}
    best = sorted(gain, key=gain.get)[:2]
    assert best == list(SEEN)[:2] == ["B-Finetuning", "fused"], "it adds least to the two arms that were best"


def test_in_the_default_run_the_sketch_decides():
    right, wrong = shown("04_segmentation", r"fused, seen: right ([\d.]+) - wrong ([\d.]+) =")
    assert right - wrong >= 0.3
