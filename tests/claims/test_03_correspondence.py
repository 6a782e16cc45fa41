"""What 03_correspondence says of the rows of its long run, and of the default run that its file shows."""

import re

import pytest

from sfhelpers import results
from sfhelpers.results import BETTER, NOT_TOLD, WORSE
from sfhelpers.tasks.arms import FINETUNING, RANDOM_UNET
from sfhelpers.tasks.correspondence import DEFINITION, SAME_PIXEL, Correspondence
from tests.cells import printed
from tests.claims import shown, told

ROWS, PRINTED = results.committed("03_correspondence"), printed("03_correspondence")


def means(gallery, metric="PCK@5", definition=DEFINITION):
    return {method: mean for method, (mean, _) in results.table(ROWS, gallery, metric, definition).items()}


@pytest.mark.parametrize("gallery", ["seen categories", "unseen categories"])
def test_fused_beside_the_other_arms(gallery):
    mean, (_, apart, said) = means(gallery), told(ROWS, gallery, "PCK@5", DEFINITION)
    assert said["SD only"] == BETTER and mean["fused"] > mean["SD only"] + 0.2, "far above SD only"
    assert said["CLIP only"] == said["late fusion"] == NOT_TOLD, "level with CLIP only and with late fusion"
    difference, low, _ = apart[RANDOM_UNET]
    assert 0 < difference < 0.01 and low > 0, "around an untrained UNet less than a point fewer, and surely fewer"
    assert said[RANDOM_UNET] == NOT_TOLD, "but another seed changes more than that"
    assert said[FINETUNING] == WORSE and next(iter(mean)) == FINETUNING, "finetuning finds more than any frozen arm"
    assert mean["B-SD+CLIP"] < 0.5 * mean["SD+CLIP concatenated"], "raw, less than half of behind trained layers"
    assert mean["fused"] > max(mean[method] for method in Correspondence.baselines)


def test_what_is_found_by_the_same_place_by_clips_raw_tokens_and_of_pairs_that_are_mirrored_or_not():
    mean = means("seen categories")
    assert mean[SAME_PIXEL] == pytest.approx(0.1, abs=0.01), "the same place finds a tenth of the points"
    assert mean["B-CLIP"] == pytest.approx(2 / 3, abs=0.02), "and CLIP's raw tokens two thirds"
    same, turned = (means(f"seen categories, {kind}", "PCK@10") for kind in ("not mirrored", "mirrored"))
    assert max(same.values()) > 0.95, "at 10 % pairs that face the same way are at a ceiling"
    assert max(turned.values()) < 0.5 and same["fused"] > turned["fused"] + 0.1, "of mirrored ones no arm finds half"


def test_the_two_directions_differ_by_about_a_point_on_seen_categories_in_favour_of_photo_to_sketch():
    ways = [DEFINITION.replace("both directions", way) for way in ("sketch to photo", "photo to sketch")]
    for gallery, sign in (("seen categories", 1), ("unseen categories", -1)):
        there, back = (means(gallery, definition=way)["fused"] for way in ways)
        assert 0 < sign * (back - there) < 0.02, gallery


def test_the_default_run():
    best = dict(re.findall(r"^(.+), seed 0: best epoch (\d) of 3$", PRINTED, re.MULTILINE))
    assert best == {"fused": "3", "SD only": "3", "CLIP only": "2"}, "CLIP only is best one epoch before the last"
    other, elsewhere = shown("03_correspondence", r"^fused .* another keypoint ([\d.]+)%, elsewhere ([\d.]+)%$")
    assert other > elsewhere, "most of fused's wrong points lie on another keypoint"
    values = [float(x) for x in re.findall(r"^(0\.\d+) 0\.\d+ +\d+  ", PRINTED, re.MULTILINE)]
    first, *_, strict, _, box = values
    assert len(values) == 6 and max(values, key=lambda v: abs(v - first)) == box, "the base moves the number most"
    assert first - strict < 0.005, "and the bound hardly"
    before, after = map(float, re.findall(r"^(?:before|after) training: PCK@5 ([\d.]+)$", PRINTED, re.MULTILINE))
    assert after > before + 0.2, "training on eight pairs finds more of their points"
