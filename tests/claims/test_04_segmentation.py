"""What 04_segmentation says of the committed rows, a test a sentence."""

import re
from pathlib import Path

import nbformat
import numpy as np
import pytest

from sfhelpers import results
from sfhelpers.results import BETTER, NOT_TOLD, WORSE
from sfhelpers.tasks.segmentation import CHOSEN

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "04_segmentation.ipynb"
ROWS = results.committed("04_segmentation")
IOU = "foreground IoU"
TABLE = {name: results.table(ROWS, f"{name} categories", IOU, CHOSEN) for name in ("seen", "unseen")}
CRF = results.table(ROWS, "seen categories", IOU, "then dense CRF")
CONTROLS = ("fused (fixed random injection)", "fused (random UNet)")


def verdict(part, other):
    return results.verdict(TABLE[part], results.differences(ROWS, f"{part} categories", IOU), other)


def seconds(method):
    return np.mean(list({row.seed: row.seconds for row in ROWS if row.method == method and row.seconds}.values()))


def test_the_rows_are_of_three_seeds_and_five_epochs():
    trained = [row for row in ROWS if row.method in ("fused", "SD only", "CLIP only") and " - " not in row.metric]
    assert {row.seed for row in trained} == {0, 1, 2} and {row.epochs for row in trained} == {5}


@pytest.mark.parametrize("other", ["CLIP only", "SD only", "mean mask", *CONTROLS])
def test_on_seen_categories_fused_is_better_than_its_halves_and_the_controls(other):
    assert verdict("seen", other) == BETTER


def test_fused_is_above_sd_only_by_many_spreads():
    for table in TABLE.values():
        assert table["fused"][0] - table["SD only"][0] > 4 * (table["fused"][1] + table["SD only"][1])


def test_on_unseen_categories_its_lead_over_clip_only_cannot_be_told_from_chance():
    assert (verdict("unseen", "CLIP only"), verdict("unseen", "SD only")) == (NOT_TOLD, BETTER)


@pytest.mark.parametrize("part", ["seen", "unseen"])
def test_late_fusion_is_level(part):
    assert verdict(part, "late fusion") == NOT_TOLD


def test_late_fusion_takes_a_third_of_the_time_and_finetuning_three_times_as_long():
    assert all(0.3 < seconds("late fusion") / seconds(method) < 0.36 for method in ("fused", "fused (random UNet)"))
    assert 2.5 < seconds("B-Finetuning") / seconds("fused") < 3.5


@pytest.mark.parametrize("control", CONTROLS)
def test_with_fixed_injection_or_an_untrained_unet_fused_is_no_better_than_clip_alone(control):
    (value, spread), (clip, clip_spread) = TABLE["seen"][control], TABLE["seen"]["CLIP only"]
    assert value < clip + clip_spread + spread


def test_finetuning_is_above_fused_on_seen_categories_and_level_on_unseen_ones():
    assert (verdict("seen", "B-Finetuning"), verdict("unseen", "B-Finetuning")) == (WORSE, NOT_TOLD)
    assert next(iter(TABLE["seen"])) == "B-Finetuning"


def test_the_crf_adds_least_to_the_two_arms_that_were_best():
    gain = {method: CRF[method][0] - TABLE["seen"][method][0] for method in CRF}
    assert sorted(gain, key=gain.get)[:2] == list(TABLE["seen"])[:2] == ["B-Finetuning", "fused"]


def test_with_crf_fused_keeps_less_than_two_thirds_of_its_lead_and_late_fusion_passes_it_by_less_than_a_spread():
    after, before = (table["fused"][0] - table["CLIP only"][0] for table in (CRF, TABLE["seen"]))
    assert 0 < after < before * 2 / 3
    assert 0 < CRF["late fusion"][0] - CRF["fused"][0] < CRF["fused"][1]


@pytest.fixture(scope="module")
def printed():
    """Everything that the committed notebook printed in its default run."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    return "".join(o.text for cell in cells for o in cell.get("outputs", []) if o.output_type == "stream")


def test_asked_with_a_sketch_of_another_category_the_masks_lose_less_than_two_points(printed):
    own, other = re.search(r"its own sketch (\.?[\d.]+), with one of another category ([\d.]+),", printed).groups()
    assert 0 < float(own) - float(other) < 0.02


def test_in_this_run_nothing_to_speak_of_is_left_of_the_lead_once_the_crf_has_sharpened_both(printed):
    found = dict(re.findall(r"(fused|CLIP only) +CRF off [\d.]+, on ([\d.]+)", printed))
    assert abs(float(found["fused"]) - float(found["CLIP only"])) < 0.005


def test_the_gallerys_mean_is_well_below_that_of_the_pairs_with_the_crf_too(printed):
    gallery, pairs = (
        float(re.search(pattern, printed)[1])
        for pattern in (r"foreground IoU ([\d.]+), n", r"fused +CRF off [\d.]+, on ([\d.]+)")
    )
    assert gallery < pairs - 0.05
