"""What 04_segmentation says of the committed rows, a test a sentence, and of the default run that its file shows."""

import re

import numpy as np
import pytest

from sfhelpers import results
from sfhelpers.results import BETTER, NOT_TOLD, WORSE
from sfhelpers.tasks.segmentation import CHOSEN
from tests.cells import printed

ROWS = results.committed("04_segmentation")
IOU = "foreground IoU"
SEEN, UNSEEN = (results.table(ROWS, f"{name} categories", IOU, CHOSEN) for name in ("seen", "unseen"))
CRF = results.table(ROWS, "seen categories", IOU, "then dense CRF")
CONTROLS = ("fused (fixed random injection)", "fused (random UNet)")


def of(pattern):
    """The numbers that a pattern finds in what the default run printed."""
    return [float(number) for number in re.search(pattern, printed("04_segmentation")).groups()]


def seconds(method):
    return np.mean(list({row.seed: row.seconds for row in ROWS if row.method == method and row.seconds}.values()))


def test_the_rows_are_of_three_seeds_and_five_epochs():
    trained = [row for row in ROWS if row.method in ("fused", "SD only", "CLIP only") and " - " not in row.metric]
    assert {row.seed for row in trained} == {0, 1, 2} and {row.epochs for row in trained} == {5}


@pytest.mark.parametrize(
    ("other", "seen", "unseen"),
    [
        *((other, BETTER, None) for other in ("mean mask", *CONTROLS)),  # of unseen categories nothing is said
        ("SD only", BETTER, BETTER),
        ("CLIP only", BETTER, NOT_TOLD),
        ("late fusion", NOT_TOLD, NOT_TOLD),
        ("B-Finetuning", WORSE, NOT_TOLD),
    ],
)
def test_fused_is_better_than_its_halves_and_the_controls_level_with_late_fusion_and_below_finetuning(
    other, seen, unseen
):
    for gallery, table, said in (("seen categories", SEEN, seen), ("unseen categories", UNSEEN, unseen)):
        assert said in (None, results.verdict(table, results.differences(ROWS, gallery, IOU), other))


def test_fused_is_above_sd_only_by_many_spreads():
    for table in (SEEN, UNSEEN):
        assert table["fused"][0] - table["SD only"][0] > 4 * (table["fused"][1] + table["SD only"][1])


def test_late_fusion_takes_a_third_of_the_time_and_finetuning_three_times_as_long():
    assert all(0.3 < seconds("late fusion") / seconds(method) < 0.36 for method in ("fused", "fused (random UNet)"))
    assert 2.5 < seconds("B-Finetuning") / seconds("fused") < 3.5


def test_with_fixed_injection_or_an_untrained_unet_fused_is_no_better_than_clip_alone():
    clip, clip_spread = SEEN["CLIP only"]
    assert all(SEEN[control][0] < clip + clip_spread + SEEN[control][1] for control in CONTROLS)


def test_the_crf_adds_least_to_the_two_arms_that_were_best():
    gain = {method: CRF[method][0] - SEEN[method][0] for method in CRF}
    assert sorted(gain, key=gain.get)[:2] == list(SEEN)[:2] == ["B-Finetuning", "fused"]


def test_with_crf_fused_keeps_less_than_two_thirds_of_its_lead_and_late_fusion_passes_it_by_less_than_a_spread():
    after, before = (table["fused"][0] - table["CLIP only"][0] for table in (CRF, SEEN))
    assert 0 < after < before * 2 / 3
    assert 0 < CRF["late fusion"][0] - CRF["fused"][0] < CRF["fused"][1]


def test_asked_with_a_sketch_of_another_category_the_masks_lose_less_than_two_points():
    own, other = of(r"its own sketch (\.?[\d.]+), with one of another category ([\d.]+),")
    assert 0 < own - other < 0.02


def test_in_this_run_nothing_to_speak_of_is_left_of_the_lead_once_the_crf_has_sharpened_both():
    fused, clip = (of(rf"\n{method} +CRF off [\d.]+, on ([\d.]+)")[0] for method in ("fused", "CLIP only"))
    assert abs(fused - clip) < 0.005


def test_the_gallerys_mean_is_well_below_that_of_the_pairs_with_the_crf_too():
    assert of(r"foreground IoU ([\d.]+), n")[0] < of(r"fused +CRF off [\d.]+, on ([\d.]+)")[0] - 0.05
