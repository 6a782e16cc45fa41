"""What 05_retrieval says of its committed rows and of the default run whose outputs it shows."""

import re

import pytest

from sfhelpers import kept, results
from sfhelpers.metrics import AP, Acc
from sfhelpers.results import BETTER, NOT_TOLD, PLATEAU, WORSE
from sfhelpers.tasks import heads
from sfhelpers.tasks.arms import CORE, SINGLE, ZEROED_UNET
from sfhelpers.tasks.retrieval import B_BOTH, B_CLIP, B_SD, CHANCE, EXPECTED, GENERALISED, SEEN, UNSEEN
from tests.cells import cells
from tests.claims import shown, told

ROWS = results.committed("05_retrieval")
STRICT = [row for row in ROWS if row.split == "strict"]
TRAINED = [row for row in ROWS if row.steps and row.method in CORE]
SHELF = B_CLIP, B_SD, B_BOTH


def spreads(split="strict", measure=AP(), gallery="all"):  # noqa: B008
    rows = [row for row in ROWS if row.split == split]
    return results.table(rows, gallery, measure.name, measure.definition)


def table(*of, **how):
    return {method: mean for method, (mean, _) in spreads(*of, **how).items()}


def each(split="strict"):
    """Method -> its rows of mAP@all, one a seed."""
    rows = [row for row in ROWS if (row.split, row.gallery, row.metric) == (split, "all", AP().name)]
    rows = [row for row in rows if row.definition.endswith(AP().definition)]
    return {method: [row for row in rows if row.method == method] for method in CORE}


def test_the_command_shown_made_the_rows_and_every_training_reached_its_second_plateau_before_the_cap():
    lines = [line for cell in cells("05_retrieval") for line in cell.source.splitlines() if " long.ipynb" in line]
    given = dict(re.findall(r" -p (\w+) (\w+)", *lines))
    assert {row.seed for row in TRAINED} == set(range(int(given["seeds"]))) and given["arms"] == "core"
    assert {row.method for row in ROWS} == {*CORE, *SHELF, CHANCE}
    assert {row.ended for row in TRAINED} == {PLATEAU} and {row.epochs for row in TRAINED} == {int(given["epochs"])}
    shipped = kept.from_signed(heads.HEADS / "retrieval" / "fused.safetensors", heads.KEY)[1]["training"]
    assert shipped["limit"] == int(given["limit"])


def test_validation_chose_the_lowest_rate_and_with_clip_one_of_the_first_epochs_or_the_start():
    trained = each()
    rates = {row.learning_rate for rows in trained.values() for row in rows}
    assert len(rates) == 1 and rates.pop() == pytest.approx(3e-4 / 3)
    steps = [row.steps for rows in trained.values() for row in rows]
    assert min(steps) >= 500 and steps.count(min(steps)) > len(steps) / 2, "most took the least number"
    best = [row.best_epoch for method in CORE if method != "SD only" for row in trained[method]]
    assert max(best) <= 5 and 0 < best.count(0) <= 3, "in a few the random start was kept"


def test_a_photo_in_six_is_right_and_chance_has_about_a_fifth_on_108_photos():
    (expected,) = [row.value for row in ROWS if row.metric == EXPECTED]
    assert expected == 1 / 108 and {row.n for row in STRICT if row.metric == AP().name} == {108}
    assert table()[CHANCE] == pytest.approx(0.2, abs=0.005)


def test_fused_is_worse_than_clip_only_and_the_zeroed_unet_and_better_than_sd_only():
    verdicts = told(STRICT, "all", "mAP@all", AP().definition)[2]
    assert verdicts == dict.fromkeys(("CLIP only", ZEROED_UNET, B_CLIP, B_BOTH), WORSE) | dict.fromkeys(
        ("SD only", B_SD, CHANCE), BETTER
    ), "it stands between its two halves: the opposite of the paper's claim"
    (zeroed, spread), (clip, other) = spreads()[ZEROED_UNET], spreads()["CLIP only"]
    assert abs(zeroed - clip) < spread + other, "the structure alone costs nothing that could be seen"


def test_no_seed_of_any_head_reaches_clip_off_the_shelf_and_nothing_beside_it_helps():
    means = table()
    assert means[B_CLIP] > 2.5 * means[CHANCE] and 1.5 * means[CHANCE] < means["fused"] < 2 * means[CHANCE]
    assert max(row.value for rows in each().values() for row in rows) < means[B_CLIP]
    assert means[B_BOTH] <= means[B_CLIP], "side by side with Stable Diffusion it ranks no better"


def test_the_unet_has_about_a_fifth_more_than_chance_and_a_head_on_it_no_more():
    means = table()
    assert means[B_SD] / means[CHANCE] == pytest.approx(1.2, abs=0.05) and means["SD only"] <= means[B_SD]


def test_on_classes_that_were_trained_on_the_heads_are_below_clip_off_the_shelf_too():
    columns = [("strict", "all"), ("clip-style", "all")]
    columns += [(split, gallery) for split in GENERALISED.values() for gallery in (UNSEEN, SEEN)]
    for split, gallery in columns:
        means = table(split, gallery=gallery)
        assert means[B_CLIP] > max(mean for method, mean in means.items() if method in CORE)
        assert means["CLIP only"] > means["fused"]
    assert max(row.n for row in ROWS if row.gallery == SEEN) < 30, "few sketches"


def test_of_the_rows_shown_clip_off_the_shelf_gains_most_from_classes_the_backbone_knows():
    gain = {method: table("clip-style")[method] - table()[method] for method in ("fused", "CLIP only", B_CLIP, CHANCE)}
    assert max(gain, key=gain.get) == B_CLIP and gain["fused"] < gain["CLIP only"]


def test_told_the_category_no_arm_finds_the_very_photo_more_often_than_chance():
    for k in (5, 10):
        within = table(measure=Acc(k), gallery="class")
        assert max(within, key=within.get) == CHANCE
    assert max(table(measure=Acc(1), gallery="class").values()) < 1.5 / 17, "nor first 1.5 times as often as expected"


def test_in_the_whole_gallery_clip_only_finds_it_above_expectation_and_nothing_is_told_apart_from_fused():
    found = table(measure=Acc(1))
    assert found["CLIP only"] > 4 / 108 and found["fused"] > 2 / 108
    verdicts = told(STRICT, "all", "Acc@1", Acc(1).definition)[2]
    assert verdicts == dict.fromkeys((*SINGLE, ZEROED_UNET, *SHELF, CHANCE), NOT_TOLD)


def test_definitions_are_apart_by_ceilings_and_by_found_more_than_methods_in_the_default_run():
    low, high = shown("05_retrieval", r"^mAP@4: ([\d.]+) to ([\d.]+)")
    low_share, high_share = shown("05_retrieval", r"^of their own ceilings: ([\d.]+) to ([\d.]+)")
    (methods,) = shown("05_retrieval", r"^for comparison, .* lie ([\d.]+) apart")
    assert high > 2 * low and methods < high_share - low_share < high - low
