"""What 07_ablations says of the committed rows; its own cells' functions judge them."""

import re

import pytest
import torch

from sfhelpers import results
from sfhelpers.results import PLATEAU
from tests.cells import cells, defined
from tests.claims import shown
from tests.test_ablations import NAMES

ROWS = results.committed("07_ablations")
PLACES, POOLED = ("correspondence", "segmentation"), ("retrieval", "recognition")
TASKS = (*PLACES, *POOLED)
FOUND = {}
CELLS = defined("07_ablations", told=ROWS, by_task=FOUND, columns=TASKS, torch=torch, **NAMES)
FOUND |= {task: CELLS.measured(ROWS, task) for task in TASKS}
LATE = "injected afterwards (late fusion)"


def beyond(task, name, than="full"):
    return CELLS.beyond(FOUND[task][than], FOUND[task][name])


def gain(task, name):
    return FOUND[task][name].value / FOUND[task]["full"].value - 1


def test_the_command_shown_made_the_rows_and_every_training_reached_its_second_plateau_before_the_cap():
    (command,) = [line for cell in cells("07_ablations") for line in cell.source.splitlines() if " long.ipynb" in line]
    given = dict(re.findall(r" -p (\w+) (\w+)", command))
    trained = [row for row in ROWS if row.steps]
    assert {row.task for row in trained} == set(TASKS) and {row.ended for row in trained} == {PLATEAU}
    assert {row.epochs for row in trained} == {int(given["epochs"])} and min(row.steps for row in trained) >= 500
    assert {found["full"].seeds for found in FOUND.values()} == {int(given["seeds"])}
    batches = {
        (r.task, int(re.search(r"step of (\d+)", r.definition)[1])) for r in ROWS if r.metric == "operations of a step"
    }
    assert dict(batches) == dict.fromkeys(PLACES, int(given["batch_size"])) | dict.fromkeys(POOLED, 8)
    assert len(batches) == len(TASKS)


def test_raw_tokens_are_half_a_fifth_and_as_large_as_what_they_are_added_to():
    *blocks, tokens = shown("07_ablations", r"^f1 ([\d.]+), f2 ([\d.]+), f3 ([\d.]+), tokens ([\d.]+)")
    assert [tokens / block for block in blocks] == pytest.approx([1 / 2, 1 / 5, 1], abs=0.15)


SHOWS = {
    "w/o aggregation network": {"segmentation"},
    "w/o learnable weights": set(),
    "w/o 1-D convolutions": set(),
    "w/o 1-D convolutions, tokens scaled": {"correspondence", "segmentation"},
}


@pytest.mark.parametrize("variant", SHOWS)
def test_three_of_the_papers_sixteen_drops_show_all_of_them_where_places_are_asked_for(variant):
    told = {task: CELLS.judged(variant, task)[2] for task in TASKS}
    assert {task for task in TASKS if told[task] == "shows here"} == SHOWS[variant]
    assert "the other way here" not in told.values(), "no claim shows the other way round"


def test_segmentation_loses_a_sixth_without_the_network_and_a_tenth_or_less_goes_with_tokens_brought_to_size():
    assert gain("segmentation", "w/o aggregation network") == pytest.approx(-1 / 6, abs=0.01)
    assert all(-0.12 < gain(task, "w/o 1-D convolutions, tokens scaled") < -0.05 for task in PLACES)


def test_injection_is_worth_a_tenth_on_segmentation_and_late_fusion_is_level_with_it_on_both():
    assert gain("segmentation", "no injection (SD only)") == pytest.approx(-0.1, abs=0.01)
    assert (
        beyond("segmentation", "no injection (SD only)") == -1
        and beyond("correspondence", "no injection (SD only)") == 0
    )
    assert all(beyond(task, LATE) == 0 and abs(gain(task, LATE)) < 0.025 for task in PLACES)
    assert all(beyond(task, "injection fixed at random") == 0 for task in PLACES)


def test_on_correspondence_50_is_level_with_195_and_an_eighth_goes_at_400_and_nearly_three_quarters_at_800():
    assert beyond("correspondence", "t = 50") == 0
    assert (
        gain("correspondence", "t = 400") == pytest.approx(-1 / 8, abs=0.01)
        and beyond("correspondence", "t = 400") == -1
    )
    assert -0.75 < gain("correspondence", "t = 800") < -0.7 and beyond("correspondence", "t = 800") == -1
    ahead = {t: beyond("correspondence", f"t = {t}", f"SD only, t = {t}") for t in (50, 400, 800)}
    assert ahead == {50: 0, 400: 0, 800: 1} and beyond("correspondence", "full", "SD only") == 0
    assert all(
        CELLS.beyond(FOUND["correspondence"]["CLIP only"], one) == 1 for one in CELLS.sweep("correspondence").values()
    )


def test_on_retrieval_no_timestep_is_told_apart_and_clip_only_is_level_while_sd_only_is_far_behind():
    found = FOUND["retrieval"]
    assert set(CELLS.sweep("retrieval")) == {50, 195, 800}
    assert all(beyond("retrieval", name) == 0 for name in ("t = 50", "t = 800", "CLIP only"))
    assert all(beyond("retrieval", name) == -1 for name in ("SD only", "SD only, t = 50", "SD only, t = 800"))
    assert found["SD only"].value < 0.75 * found["full"].value


def test_other_encoders_cost_retrieval_a_third_or_nearly_half_and_imagenets_gives_correspondence_a_fifth():
    imagenet, unlabelled = ("ImageNet instead of CLIP", "Self-supervised instead of CLIP")
    assert gain("retrieval", imagenet) == pytest.approx(-0.37, abs=0.02) and gain("retrieval", unlabelled) < -0.45
    assert gain("segmentation", unlabelled) == pytest.approx(-0.19, abs=0.01)
    assert gain("correspondence", imagenet) == pytest.approx(1 / 5, abs=0.02)
    assert -0.08 < gain("recognition", imagenet) < -0.03 and beyond("recognition", imagenet) == -1
    assert beyond("correspondence", imagenet) == 1 and beyond("retrieval", imagenet) == -1


def test_late_fusion_takes_a_quarter_of_the_operations_and_loses_nothing_and_without_convolutions_a_step_costs_half():
    assert CELLS.cost(FOUND, LATE) < 0.26
    for name in ("w/o 1-D convolutions", "w/o 1-D convolutions, tokens scaled"):
        assert CELLS.cost(FOUND, name) == pytest.approx(0.5, abs=0.06)


def test_four_draws_give_less_than_the_spread_and_sixteen_four_points_which_is_more():
    one, four, sixteen = (
        FOUND["correspondence"][name] for name in (LATE, "late fusion, 4 draws", "late fusion, 16 draws")
    )
    assert 0 < four.value - one.value < one.spread < sixteen.value - one.value == pytest.approx(0.04, abs=0.005)


def test_weights_follow_what_matters_where_they_move_and_equal_ones_do_as_well():
    found = {task: CELLS.branches(task) for task in TASKS}
    weight, lost = ({t: {b: parts[b][k] for b in parts} for t, parts in found.items()} for k in (0, 2))
    assert (
        weight["correspondence"]["f2"] == pytest.approx(0.47, abs=0.03)
        and lost["correspondence"]["f2"] > 0.8 * FOUND["correspondence"]["full"].value
    )
    assert all(abs(w - 1 / 3) < 0.06 for task in TASKS[1:] for w in weight[task].values())
    assert all(max(lost[task].values()) > 5 * min(lost[task].values()) for task in TASKS)
    heaviest, dearest = ([max(found[task], key=which[task].get) for task in TASKS] for which in (weight, lost))
    assert sum(a == b for a, b in zip(heaviest, dearest, strict=True)) == 3
    assert all(beyond(task, "w/o learnable weights") == 0 for task in TASKS)
