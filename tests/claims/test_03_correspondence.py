"""What 03_correspondence says of the rows of its long run, and of the default run that its file shows."""

import re

import pytest

from sfhelpers import kept, results
from sfhelpers.results import BETTER, CAP, NOT_TOLD, PLATEAU
from sfhelpers.tasks import heads
from sfhelpers.tasks.arms import CORE, SINGLE, ZEROED_UNET
from sfhelpers.tasks.correspondence import DEFINITION, DEFINITIONS, SAME_PIXEL
from tests.cells import cells, printed
from tests.claims import shown

NOTEBOOK = "03_correspondence"
ROWS = results.committed(NOTEBOOK)
STRICT, BOX = list(DEFINITIONS)[3], list(DEFINITIONS)[5]
GALLERIES, METRICS = ("seen categories", "unseen categories"), ("PCK@5", "PCK@10")


def means(gallery, metric="PCK@5", definition=DEFINITION):
    return {method: mean for method, (mean, _) in results.table(ROWS, gallery, metric, definition).items()}


def test_the_command_shown_made_the_rows_and_every_training_reached_its_second_plateau_before_the_cap():
    (command,) = [line for cell in cells(NOTEBOOK) for line in cell.source.splitlines() if " long.ipynb" in line]
    given = dict(re.findall(r" -p (\w+) (\w+)", command))
    trained = [row for row in ROWS if row.method in CORE and " - " not in row.metric]
    assert {row.seed for row in trained} == set(range(int(given["seeds"]))) and given["arms"] == "core"
    assert {row.ended for row in trained} == {PLATEAU} and {row.epochs for row in trained} == {int(given["epochs"])}
    assert min(row.steps for row in trained) >= 500
    shipped = kept.from_signed(heads.HEADS / "correspondence" / "fused.safetensors", heads.KEY)[1]["training"]
    assert shipped["limit"] == int(given["limit"])


@pytest.mark.parametrize("gallery", GALLERIES)
def test_fusing_helps_over_clip_by_far_and_over_stable_diffusion_at_ten_per_cent_on_seen_categories_alone(gallery):
    for metric in METRICS:
        mean, said = means(gallery, metric), results.verdicts(ROWS, gallery, metric)
        assert max(SINGLE, key=mean.get) == "SD only", "the better backbone"
        assert said["CLIP only"] == said[ZEROED_UNET] == BETTER
        assert said["SD only"] == (BETTER if (gallery, metric) == ("seen categories", "PCK@10") else NOT_TOLD)
    mean = means(gallery)
    assert mean["CLIP only"] < mean["fused"] / 6, "less than a sixth"
    assert 0 < mean[ZEROED_UNET] - mean["CLIP only"] < 0.01, "less than a point in a hundred more"


def test_at_ten_per_cent_on_seen_categories_the_lead_is_three_points_and_both_intervals_end_close_to_zero():
    for unit in ("photos", "categories"):
        lead = results.differences(ROWS, "seen categories", "PCK@10", unit)["SD only"]
        assert lead.mean == pytest.approx(0.03, abs=0.005) and 0 < lead.low < 0.005


@pytest.mark.parametrize("gallery", GALLERIES)
def test_raw_features_find_less_than_half_and_training_without_clip_closes_most_of_that_gap(gallery):
    mean = means(gallery)
    assert mean["B-SD+CLIP"] < mean["fused"] / 2
    assert mean["SD only"] - mean["B-SD+CLIP"] > 0.85 * (mean["fused"] - mean["B-SD+CLIP"])


@pytest.mark.parametrize("gallery", GALLERIES)
def test_the_same_place_finds_one_or_two_points_in_a_hundred_and_clips_raw_tokens_two_or_three(gallery):
    mean = means(gallery)
    assert round(100 * mean[SAME_PIXEL]) in (1, 2) and round(100 * mean["B-CLIP"]) in (2, 3)


@pytest.mark.parametrize("gallery", GALLERIES)
@pytest.mark.parametrize("metric", METRICS)
def test_fused_finds_more_than_sd_only_from_sketch_to_photo_and_not_from_photo_to_sketch(gallery, metric):
    there, back = (means(gallery, metric, way) for way in ("sketch to photo", "photo to sketch"))
    assert 0.03 < there["fused"] - there["SD only"] < 0.07, "three to seven points more"
    assert back["fused"] < back["SD only"], "none more"


@pytest.mark.parametrize("gallery", GALLERIES)
def test_by_the_box_half_as_many_points_are_right_and_the_bound_moves_nothing(gallery):
    image, strict, box = (means(gallery, definition=rule)["fused"] for rule in (DEFINITION, STRICT, BOX))
    assert box / image == pytest.approx(0.5, abs=0.03) and abs(image - strict) < 0.0005


def test_of_mirrored_pairs_little_more_than_half_as_many_points_are_found_by_raw_stable_diffusion_too():
    same, turned = (means(f"unseen categories, {kind}", "PCK@10") for kind in ("not mirrored", "mirrored"))
    for method in ("fused", "B-SD"):
        assert 0.5 < turned[method] / same[method] < 0.6


def test_fused_finds_eight_points_in_a_hundred_more_from_sketch_to_photo_on_seen_categories_and_one_on_unseen_ones():
    for gallery, points in zip(GALLERIES, (0.08, 0.01), strict=True):
        there, back = (means(gallery, definition=way)["fused"] for way in ("sketch to photo", "photo to sketch"))
        assert there - back == pytest.approx(points, abs=0.005)


def test_the_default_run_is_cut_short_and_most_of_what_it_gets_wrong_is_not_on_another_keypoint_nor_lost_to_a_coin():
    ended = re.findall(r"^(.+), seed 0: best epoch \d of 3, (\w+)$", printed(NOTEBOOK), re.MULTILINE)
    assert dict(ended) == dict.fromkeys(CORE, CAP)
    before, after = shown(NOTEBOOK, r"before training: PCK@5 ([\d.]+)\nafter training: PCK@5 ([\d.]+)")
    assert after > before, "training on eight pairs finds more of their points"
    (coin,) = shown(NOTEBOOK, r"a coin misses ([\d.]+)%")
    for method in ("fused", *SINGLE):
        right, other, elsewhere = shown(
            NOTEBOOK, rf"^{method} +right ([\d.]+)%, .*keypoint ([\d.]+)%, elsewhere ([\d.]+)%$"
        )
        assert elsewhere > other and coin < 1 < 20 < 100 - right


def test_a_third_of_the_wrong_points_of_the_arms_with_a_unet_lie_on_another_thing_and_half_as_many_of_clips():
    pattern = r"^{} +([\d.]+)% on another thing; other things cover ([\d.]+)%"
    (fused, cover), (alone, _), (clip, _) = (shown(NOTEBOOK, pattern.format(m)) for m in ("fused", *SINGLE))
    assert fused == pytest.approx(33, abs=4) and alone == pytest.approx(33, abs=4) and fused > 2 * cover < alone
    assert clip == pytest.approx(fused / 2, abs=2)
