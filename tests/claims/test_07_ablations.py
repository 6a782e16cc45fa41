"""What 07_ablations says of the committed rows; its own cells' functions judge them."""

import pytest
import torch

from sfhelpers import results
from tests.cells import defined
from tests.test_ablations import NAMES

ROWS = results.committed("07_ablations")
TASKS = ("correspondence", "segmentation", "retrieval", "recognition")
FOUND = {}
CELLS = defined("07_ablations", told=ROWS, by_task=FOUND, columns=TASKS, torch=torch, **NAMES)
FOUND |= {task: CELLS.measured(ROWS, task) for task in TASKS}
SHOWS = {
    "w/o aggregation network": {"correspondence", "segmentation"},
    "w/o learnable weights": set(),
    "w/o 1-D convolutions": {"segmentation"},
    "w/o 1-D convolutions, tokens scaled": {"correspondence", "segmentation", "retrieval"},
}


@pytest.mark.parametrize("variant", SHOWS)
def test_the_papers_drops_show_where_places_are_asked_for_and_of_scaled_tokens_in_retrieval_too(variant):
    told = {task: CELLS.judged(variant, task)[2] for task in TASKS}
    assert {task for task in TASKS if told[task] == "shows here"} == SHOWS[variant]
    assert "the other way here" not in told.values(), "no claim shows the other way round"


def test_where_drops_show_they_are_smaller_than_the_papers_and_recognition_misses_none_of_the_parts():
    assert FOUND.keys() == set(TASKS) and {found["full"].seeds for found in FOUND.values()} == {3}
    drops = {(v, t): CELLS.judged(v, t)[:2] for v, tasks in SHOWS.items() for t in tasks}
    assert all(paper < ours < 0 for paper, ours in drops.values())
    near = {key for key, (paper, ours) in drops.items() if ours < 0.5 * paper}
    assert near == {("w/o 1-D convolutions, tokens scaled", "retrieval")}, "only retrieval's comes near the paper's"
    for task in TASKS:
        assert CELLS.beyond(FOUND[task]["full"], FOUND[task]["w/o learnable weights"]) == 0, "no task misses these"
    assert all(CELLS.beyond(FOUND["recognition"]["full"], FOUND["recognition"][v]) == 0 for v in SHOWS)


def test_late_fusion_is_the_cheapest_that_loses_nothing_better_by_draws_and_f4_added_the_dearest_and_best():
    late = "injected afterwards (late fusion)"
    prices = {v.name: CELLS.cost(FOUND, v.name) for v in CELLS.VARIANTS if v.name in FOUND["segmentation"]}
    gains = {name: sum(found[name].value / found["full"].value - 1 for found in FOUND.values()) for name in prices}
    assert min((name for name in prices if gains[name] >= 0), key=prices.get) == late and prices[late] < 0.5
    assert max(prices, key=prices.get) == max(gains, key=gains.get) == "f4 added"
    assert CELLS.beyond(FOUND["retrieval"]["full"], FOUND["retrieval"]["f4 added"]) == 1
    draws = (late, "late fusion, 4 draws", "late fusion, 16 draws")
    one, four, sixteen = (FOUND["correspondence"][name].value for name in draws)
    assert 0.005 < four - one < 0.015 and sixteen <= four, "four draws give a point and sixteen no more"


@pytest.mark.parametrize(("task", "worse"), [("correspondence", (50,)), ("retrieval", (600, 800))])
def test_no_timestep_is_better_than_195_by_more_than_luck_and_these_lose(task, worse):
    found, full = CELLS.sweep(task), FOUND[task]["full"]
    assert max(one.value for one in found.values()) - found[195].value <= 2 * full.spread
    assert all(CELLS.beyond(full, found[t]) == -1 for t in worse)


def test_weights_stay_within_a_few_hundredths_of_a_third_while_silence_costs_five_times_more_of_one_than_another():
    found = {task: CELLS.branches(task) for task in TASKS}
    assert all(abs(weight - 1 / 3) < 0.05 for parts in found.values() for weight, *_ in parts.values())
    for task in ("correspondence", "segmentation"):
        losses = [loss for *_, loss in found[task].values()]
        assert max(losses) > 5 * min(losses)
    heaviest, dearest = ([max(f, key=lambda b: f[b][k]) for f in found.values()] for k in (0, 2))
    assert sum(a != b for a, b in zip(heaviest, dearest, strict=True)) == 2, "on half of the tasks another branch"
