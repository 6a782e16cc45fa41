"""What 03_correspondence says of the rows of its long run, and of the default run that its file shows."""

import re
from pathlib import Path

import nbformat
import pytest

from sfhelpers import results
from sfhelpers.tasks.arms import FINETUNING, RANDOM_UNET
from sfhelpers.tasks.correspondence import DEFINITION, HANDEDNESS, SAME_PIXEL, Correspondence

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "03_correspondence.ipynb"
ROWS = results.committed(NOTEBOOK.stem)
TABLE = {g: results.table(ROWS, g, "PCK@5", DEFINITION) for g in ("seen categories", "unseen categories")}
APART = {gallery: results.differences(ROWS, gallery, "PCK@5") for gallery in TABLE}
SAID = {g: {other: results.verdict(TABLE[g], APART[g], other) for other in APART[g]} for g in TABLE}
KINDS = [results.table(ROWS, f"seen categories, {kind}", "PCK@10", DEFINITION) for kind in HANDEDNESS]
both = pytest.mark.parametrize("gallery", TABLE)


def mean(method, gallery="seen categories"):
    return TABLE[gallery][method][0]


@both
def test_fused_is_far_above_sd_only_but_level_with_clip_only(gallery):
    assert SAID[gallery]["SD only"] == "better" and mean("fused", gallery) > mean("SD only", gallery) + 0.2
    assert SAID[gallery]["CLIP only"] == "not told apart"


@both
def test_late_fusion_is_level(gallery):
    assert SAID[gallery]["late fusion"] == "not told apart"


@both
def test_around_a_unet_that_was_never_trained_the_layers_find_less_than_a_point_fewer(gallery):
    difference, low, _ = APART[gallery][RANDOM_UNET]
    assert 0 < difference < 0.01 and low > 0, "the interval over photos leaves out zero"
    assert SAID[gallery][RANDOM_UNET] == "not told apart", "but another seed changes more than that"


@both
def test_finetuning_finds_more_than_any_frozen_arm(gallery):
    assert SAID[gallery][FINETUNING] == "worse" and next(iter(TABLE[gallery])) == FINETUNING


@both
def test_raw_features_side_by_side_find_less_than_half_of_what_they_find_behind_trained_layers(gallery):
    assert mean("B-SD+CLIP", gallery) < 0.5 * mean("SD+CLIP concatenated", gallery)
    assert mean("fused", gallery) > max(mean(method, gallery) for method in Correspondence.baselines)


def test_the_same_place_finds_a_tenth_of_the_points_and_clips_raw_tokens_two_thirds():
    assert mean(SAME_PIXEL) == pytest.approx(0.1, abs=0.01)
    assert mean("B-CLIP") == pytest.approx(2 / 3, abs=0.02)


def test_at_10_percent_pairs_that_face_the_same_way_are_at_a_ceiling_and_of_mirrored_ones_no_arm_finds_half():
    assert max(value for value, _ in KINDS[0].values()) > 0.95
    assert max(value for value, _ in KINDS[1].values()) < 0.5
    assert KINDS[0]["fused"][0] > KINDS[1]["fused"][0] + 0.1


def test_the_two_directions_differ_by_about_a_point_on_seen_categories_in_favour_of_photo_to_sketch():
    ways = [DEFINITION.replace("both directions", way) for way in ("sketch to photo", "photo to sketch")]
    for gallery, sign in (("seen categories", 1), ("unseen categories", -1)):
        there, back = (results.table(ROWS, gallery, "PCK@5", way)["fused"][0] for way in ways)
        assert 0 < sign * (back - there) < 0.02, (gallery, there, back)


@pytest.fixture(scope="module")
def printed():
    """All that the notebook's committed outputs print."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    return "\n".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_in_the_default_run_sd_only_and_fused_are_best_in_their_last_epoch_and_clip_only_one_earlier(printed):
    assert dict(re.findall(r"^(.+), seed 0: best epoch (\d) of 3$", printed, re.MULTILINE)) == {
        "fused": "3", "SD only": "3", "CLIP only": "2"
    }  # fmt: skip


def test_in_the_default_run_most_of_fuseds_wrong_points_lie_on_another_keypoint(printed):
    other, elsewhere = re.search(r"^fused .* another keypoint ([\d.]+)%, elsewhere ([\d.]+)%$", printed, re.M).groups()
    assert float(other) > float(elsewhere)


def test_in_the_default_run_the_base_moves_the_number_most_and_the_bound_hardly(printed):
    values = [float(x) for x in re.findall(r"^(0\.\d+) 0\.\d+ +\d+  ", printed, re.MULTILINE)]
    first, *_, strict, _, box = values
    assert len(values) == 6 and max(values, key=lambda value: abs(value - first)) == box and first - strict < 0.005


def test_in_the_default_run_training_on_eight_pairs_finds_more_of_their_points(printed):
    before, after = (
        float(x) for x in re.findall(r"^(?:before|after) training: PCK@5 ([\d.]+)$", printed, re.MULTILINE)
    )
    assert after > before + 0.2
