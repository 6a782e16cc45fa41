"""What 03_correspondence says of the rows of its long run, and of the default run that its file shows."""

import re

import pytest

from sfhelpers import results
from sfhelpers.tasks.arms import FINETUNING, RANDOM_UNET
from sfhelpers.tasks.correspondence import DEFINITION, SAME_PIXEL, Correspondence
from tests.cells import printed

ROWS, PRINTED = results.committed("03_correspondence"), printed("03_correspondence")


@pytest.fixture(params=["seen", "unseen"])
def told(request):
    """Of one gallery: method -> mean PCK@5, method -> difference from fused and its interval, method -> verdict."""
    gallery = f"{request.param} categories"
    table, apart = results.table(ROWS, gallery, "PCK@5", DEFINITION), results.differences(ROWS, gallery, "PCK@5")
    said = {other: results.verdict(table, apart, other) for other in apart}
    return {method: mean for method, (mean, _) in table.items()}, apart, said


def test_fused_is_far_above_sd_only_but_level_with_clip_only_and_with_late_fusion(told):
    mean, _, said = told
    assert said["SD only"] == "better" and mean["fused"] > mean["SD only"] + 0.2
    assert said["CLIP only"] == said["late fusion"] == "not told apart"


def test_around_a_unet_that_was_never_trained_the_layers_find_less_than_a_point_fewer(told):
    _, apart, said = told
    difference, low, _ = apart[RANDOM_UNET]
    assert 0 < difference < 0.01 and low > 0, "the interval over photos leaves out zero"
    assert said[RANDOM_UNET] == "not told apart", "but another seed changes more than that"


def test_finetuning_finds_more_than_any_frozen_arm(told):
    mean, _, said = told
    assert said[FINETUNING] == "worse" and next(iter(mean)) == FINETUNING


def test_raw_features_side_by_side_find_less_than_half_of_what_they_find_behind_trained_layers(told):
    mean, _, _ = told
    assert mean["B-SD+CLIP"] < 0.5 * mean["SD+CLIP concatenated"]
    assert mean["fused"] > max(mean[method] for method in Correspondence.baselines)


def test_the_same_place_finds_a_tenth_of_the_points_and_clips_raw_tokens_two_thirds():
    mean = results.table(ROWS, "seen categories", "PCK@5", DEFINITION)
    assert mean[SAME_PIXEL][0] == pytest.approx(0.1, abs=0.01) and mean["B-CLIP"][0] == pytest.approx(2 / 3, abs=0.02)


def test_at_10_percent_pairs_that_face_the_same_way_are_at_a_ceiling_and_of_mirrored_ones_no_arm_finds_half():
    kinds = [f"seen categories, {kind}" for kind in ("not mirrored", "mirrored")]
    same, turned = (results.table(ROWS, kind, "PCK@10", DEFINITION) for kind in kinds)
    assert max(value for value, _ in same.values()) > 0.95 and max(value for value, _ in turned.values()) < 0.5
    assert same["fused"][0] > turned["fused"][0] + 0.1


@pytest.mark.parametrize(("gallery", "sign"), [("seen categories", 1), ("unseen categories", -1)])
def test_the_two_directions_differ_by_about_a_point_on_seen_categories_in_favour_of_photo_to_sketch(gallery, sign):
    ways = [DEFINITION.replace("both directions", way) for way in ("sketch to photo", "photo to sketch")]
    there, back = (results.table(ROWS, gallery, "PCK@5", way)["fused"][0] for way in ways)
    assert 0 < sign * (back - there) < 0.02


def test_in_the_default_run_sd_only_and_fused_are_best_in_their_last_epoch_and_clip_only_one_earlier():
    best = dict(re.findall(r"^(.+), seed 0: best epoch (\d) of 3$", PRINTED, re.MULTILINE))
    assert best == {"fused": "3", "SD only": "3", "CLIP only": "2"}


def test_in_the_default_run_most_of_fuseds_wrong_points_lie_on_another_keypoint():
    other, elsewhere = re.search(r"^fused .* another keypoint ([\d.]+)%, elsewhere ([\d.]+)%$", PRINTED, re.M).groups()
    assert float(other) > float(elsewhere)


def test_in_the_default_run_the_base_moves_the_number_most_and_the_bound_hardly():
    values = [float(x) for x in re.findall(r"^(0\.\d+) 0\.\d+ +\d+  ", PRINTED, re.MULTILINE)]
    first, *_, strict, _, box = values
    assert len(values) == 6 and max(values, key=lambda value: abs(value - first)) == box and first - strict < 0.005


def test_in_the_default_run_training_on_eight_pairs_finds_more_of_their_points():
    before, after = map(float, re.findall(r"^(?:before|after) training: PCK@5 ([\d.]+)$", PRINTED, re.MULTILINE))
    assert after > before + 0.2
