"""What 05_retrieval says of its committed rows, one test a claim, and of the default run whose outputs it shows."""

import re

import pytest

from sfhelpers import results
from sfhelpers.metrics import AP, Acc
from sfhelpers.tasks.retrieval import B_CLIP, B_SD, CHANCE, EXPECTED, GENERALISED, SEEN
from tests.cells import printed

ROWS, PRINTED = results.committed("05_retrieval"), printed("05_retrieval")


def table(split="strict", measure=AP(), gallery="all"):  # noqa: B008
    rows = [row for row in ROWS if row.split == split]
    return {m: v for m, (v, _) in results.table(rows, gallery, measure.name, measure.definition).items()}


def verdict(other, metric="mAP@all"):
    rows = [row for row in ROWS if row.split == "strict"]
    spreads = results.table(rows, "all", metric, {"mAP@all": AP(), "Acc@1": Acc(1)}[metric].definition)
    return results.verdict(spreads, results.differences(ROWS, "all", metric), other)


def test_fused_has_more_than_six_times_what_chance_has_on_unseen_classes_and_more_than_clip_off_the_shelf():
    assert table()["fused"] > 6 * table()[CHANCE] and verdict(B_CLIP) == "better"


def test_other_photos_would_put_fused_above_clip_only_and_another_training_perhaps_not():
    assert results.differences(ROWS, "all", "mAP@all")["CLIP only"][1] > 0
    assert verdict("CLIP only") == "not told apart"


@pytest.mark.parametrize("other", ["fused (fixed random injection)", "late fusion", "fused (random UNet)"])
def test_how_the_two_are_joined_cannot_be_told_apart(other):
    assert verdict(other) == "not told apart"


def test_b_finetuning_is_below_clip_off_the_shelf_on_classes_it_was_trained_on_too():
    for values in (table(), table(GENERALISED["class"], gallery=SEEN)):
        assert values["B-Finetuning"] < values[B_CLIP]


def test_the_pooled_up_block_says_almost_nothing_of_the_category_and_a_head_on_the_unet_little():
    assert table()[B_SD] < 1.2 * table()[CHANCE]
    assert max(table()["SD only"], table()[B_SD]) < 0.6 * table()["CLIP only"]


def test_the_very_photo_is_found_ten_times_as_often_as_by_chance_and_not_more_often_than_by_clip_only():
    (expected,) = [row.value for row in ROWS if row.metric == EXPECTED]
    assert expected == 1 / 288 and table(measure=Acc(1))["fused"] >= 10 * expected
    assert verdict("CLIP only", "Acc@1") == "not told apart"


def test_told_the_category_no_arm_finds_the_very_photo_twice_as_often_as_chance():
    values = table(measure=Acc(1), gallery="class")
    assert max(values.values()) < 2 * values[CHANCE]


def test_clip_off_the_shelf_gains_most_from_classes_the_backbone_knows_and_is_ahead_of_every_head_there():
    laxer, strict = table("clip-style"), table()
    assert max(laxer, key=lambda method: laxer[method] - strict[method]) == B_CLIP
    assert laxer[B_CLIP] > max(laxer[method] for method in ("fused", "CLIP only", "SD only"))
    assert table(GENERALISED["class"], gallery=SEEN)[B_CLIP] > 0.95


def of(line):
    """The numbers of a line of the default run."""
    return [float(x) for x in re.findall(r"\d*\.\d+", re.search(rf"^{line}.*$", PRINTED, re.MULTILINE)[0])]


def test_default_run_fused_has_more_than_twice_what_chance_has_and_a_head_on_the_unet_alone_little_more():
    fused, sd, chance = (of(rf"{method} +mAP@all")[0] for method in ("fused", "SD only", "chance"))
    assert fused > 2 * chance and sd < 1.5 * chance


def test_default_run_definitions_are_apart_more_than_twofold_and_ceilings_are_most_of_it():
    (low, high), (low_share, high_share), (methods,) = of("mAP@3: "), of("of their own ceilings"), of("for comparison")
    assert high > 2 * low and high_share - low_share < (high - low) / 2
    assert high_share - low_share > methods
