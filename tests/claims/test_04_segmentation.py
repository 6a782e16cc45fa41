"""What 04_segmentation says of the committed rows and of the default run that its file shows."""

import re

import pytest

from sfhelpers import kept, results
from sfhelpers.backbones import load_backbone
from sfhelpers.datasets import first_sketches, load_dataset
from sfhelpers.results import BETTER, NOT_TOLD, PLATEAU
from sfhelpers.tasks import heads
from sfhelpers.tasks.arms import CORE, SINGLE, ZEROED_UNET, reading_size
from sfhelpers.tasks.segmentation import CHOSEN, MEAN_MASK, PAPER, Segmentation
from tests.cells import cells
from tests.claims import shown

ROWS = results.committed("04_segmentation")
GALLERIES = SEEN, UNSEEN = "seen categories", "unseen categories"
TRAINED = [row for row in ROWS if row.method in CORE and row.steps]


def table(gallery=SEEN, metric="foreground IoU", rule=CHOSEN):
    return results.table(ROWS, gallery, metric, rule)


def means(*of):
    return {method: mean for method, (mean, _) in table(*of).items()}


def test_the_command_shown_made_the_rows_and_every_training_reached_its_second_plateau_before_the_cap():
    lines = [line for cell in cells("04_segmentation") for line in cell.source.splitlines() if " long.ipynb" in line]
    given = dict(re.findall(r" -p (\w+) (\w+)", *lines))
    assert {row.seed for row in TRAINED} == set(range(int(given["seeds"]))) and given["arms"] == "core"
    assert {row.method for row in ROWS} == {*CORE, MEAN_MASK}
    assert {row.ended for row in TRAINED} == {PLATEAU} and {row.epochs for row in TRAINED} == {int(given["epochs"])}
    assert min(row.steps for row in TRAINED) >= 500
    shipped = kept.from_signed(heads.HEADS / "segmentation" / "fused.safetensors", heads.KEY)[1]["training"]
    assert shipped["limit"] == int(given["limit"])


def test_validation_chose_for_fused_a_third_of_the_others_rate():
    rates = {method: {row.learning_rate for row in TRAINED if row.method == method} for method in CORE}
    (own,), (other,) = rates.pop("fused"), set().union(*rates.values())
    assert own == pytest.approx(other / 3)


def test_the_mean_mask_marks_nothing_which_scores_the_share_absent_of_all_questions():
    assert means(SEEN, "not there")[MEAN_MASK] == 1 and means()[MEAN_MASK] == 0
    there, absent = (next(r.n for r in ROWS if (r.gallery, r.metric) == (SEEN, m)) for m in ("pAcc", "not there"))
    assert absent / (there + absent) == pytest.approx(0.25, abs=0.005)


@pytest.mark.parametrize(("gallery", "share"), [(SEEN, 1 / 10), (UNSEEN, 1 / 5)])
def test_the_sketch_decides_in_every_arm_and_none_marks_whatever_stands_out(gallery, share):
    right, wrong, any_ = (means(gallery, kind) for kind in ("right sketch", "wrong sketch", "whatever stands out"))
    for arm in CORE:
        assert wrong[arm] < share * right[arm] and any_[arm] < 0.002


def test_of_what_is_not_there_sd_only_marks_more_often_than_fused_and_clip_only_seldom():
    empty, marked = means(SEEN, "not there"), means(SEEN, "not there, marked")
    assert 1 - empty["SD only"] > 1 / 3 and 1 - empty["fused"] < 1 / 5
    assert 1 - empty["CLIP only"] == pytest.approx(1 / 20, abs=0.01)
    assert max(marked.values()) < 0.01


def test_on_seen_categories_fused_is_better_than_clip_and_than_a_zeroed_unet_and_not_told_apart_from_sd_only():
    said, mean = results.verdicts(ROWS, SEEN, "foreground IoU"), means()
    assert said == {"SD only": NOT_TOLD, "CLIP only": BETTER, ZEROED_UNET: BETTER, MEAN_MASK: BETTER}
    assert mean["fused"] / mean["CLIP only"] == pytest.approx(2, abs=0.1), "about twice its IoU"
    for unit in ("photos", "categories"):
        lead = results.differences(ROWS, SEEN, "foreground IoU", unit)["SD only"]
        assert 0.02 < lead.mean < 0.03 and lead.low < 0 < lead.high
    first = results.table([row for row in ROWS if row.seed == 0], SEEN, "foreground IoU", CHOSEN)
    assert first["SD only"] > first["fused"], "with seed 0 alone the other way round"


def test_the_zeroed_unet_is_no_further_from_clip_only_than_their_spreads_together():
    (zeroed, spread), (clip, other) = table()[ZEROED_UNET], table()["CLIP only"]
    assert abs(zeroed - clip) < spread + other


def test_on_unseen_categories_fused_is_not_told_apart_from_any_trained_arm_and_has_a_fifth_of_its_iou():
    said, mean = results.verdicts(ROWS, UNSEEN, "foreground IoU"), means(UNSEEN)
    assert said == dict.fromkeys((*SINGLE, ZEROED_UNET), NOT_TOLD) | {MEAN_MASK: BETTER}
    assert mean["fused"] / means()["fused"] == pytest.approx(1 / 5, abs=0.02)
    assert max(mean.values()) - min(mean[arm] for arm in CORE) < 0.03 and mean[MEAN_MASK] == 0


def test_on_the_validation_photos_no_other_head_with_both_backbones_is_behind_fused_by_a_hundredth_and_sd_only_by_5():
    backbone = load_backbone("pocket", "cpu")
    shipped = heads.load_heads(heads.SHIPPED, backbone)
    data = load_dataset("toy", limit=shipped["fused"].training["limit"])
    task, value = Segmentation(first_sketches(data, 1), epochs=0, learning_rate=1, batch_size=8), {}
    for method in set(shipped) - {"CLIP only"}:
        head = shipped[method]
        frozen = {"validation": task.read(head.extractor, task.parts["validation"], reading_size(backbone))}
        value[method] = task.validate(head.model, frozen)
    fused, behind = value.pop("fused"), value.pop("SD only")
    assert len(value) == 3 and min(value.values()) > fused - 0.01
    assert fused - behind == pytest.approx(0.05, abs=0.01), "five hundredths"


def test_a_step_of_fused_takes_more_than_twice_as_long_as_one_of_any_other_arm():
    taken = {(row.method, row.seed): (row.seconds, row.steps) for row in TRAINED}
    of = {arm: [both for (method, _), both in taken.items() if method == arm] for arm in CORE}
    step = {arm: sum(seconds for seconds, _ in some) / sum(steps for _, steps in some) for arm, some in of.items()}
    assert step.pop("fused") > 2 * max(step.values())


@pytest.mark.parametrize("gallery", GALLERIES)
def test_the_papers_cut_finds_less_of_what_is_there_than_the_chosen_one_for_every_trained_arm(gallery):
    fixed, chosen = means(gallery, "foreground IoU", PAPER), means(gallery)
    assert all(fixed[arm] < chosen[arm] for arm in CORE)


def test_the_crf_adds_to_every_arm_and_least_to_sd_only_so_that_the_lead_of_fused_over_it_grows():
    after, before = means(SEEN, "foreground IoU", "then dense CRF"), means()
    gain = {arm: after[arm] - before[arm] for arm in CORE}
    assert 0 < gain["SD only"] == min(gain.values()) and gain["fused"] > gain["SD only"]
    assert abs(gain["fused"] - gain["CLIP only"]) < 0.01, "the lead over CLIP only stays"


def test_in_the_default_run_most_masks_of_an_iou_of_zero_are_empty():
    missed, empty = shown("04_segmentation", r"^(\d+) of \d+ questions have IoU 0, (\d+) of them by an empty mask$")
    assert empty > missed / 2


def test_in_the_default_run_fused_finds_nearly_twice_as_much_of_unseen_categories_as_in_the_long_one():
    (short,) = shown("04_segmentation", r"^unseen categories, .*\n  fused +IoU ([\d.]+)")
    assert short / means(UNSEEN)["fused"] == pytest.approx(1.9, abs=0.1)


def test_in_the_default_run_the_papers_cut_gets_fused_more_and_the_crf_takes_from_sd_only():
    chosen, fixed = shown("04_segmentation", r"^fused +chosen [\d.]+: ([\d.]+)   paper [\d.]+: ([\d.]+)$")
    off, on = shown("04_segmentation", r"^SD only +CRF off ([\d.]+), on ([\d.]+),")
    assert fixed > chosen and on < off
