"""What 07_ablations says of the committed rows, a test a sentence; its own cells' functions judge them."""

import ast
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch

from sfhelpers import results
from sfhelpers.tasks import ablations

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "07_ablations.ipynb"
ROWS = results.committed("07_ablations")
TASKS = ("correspondence", "segmentation", "retrieval", "recognition")
FOUND = {task: ablations.measured(ROWS, task) for task in ablations.metrics(ROWS)}
SHOWS = {
    "w/o aggregation network": {"correspondence", "segmentation"},
    "w/o learnable weights": set(),
    "w/o 1-D convolutions": {"segmentation"},
    "w/o 1-D convolutions, tokens scaled": {"correspondence", "segmentation", "retrieval"},
}


@pytest.fixture(scope="module")
def cells():
    """The functions and tables of the notebook, with the committed rows in the place of a run's."""
    names = {"ablations": ablations, "told": ROWS, "by_task": FOUND, "metrics": ablations.metrics(ROWS), "torch": torch}
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            kept = [
                node
                for node in ast.parse(cell.source).body
                if isinstance(node, ast.FunctionDef)
                or (isinstance(node, ast.Assign) and ast.unparse(node).startswith(("TABLE_6", "columns =")))
            ]
            exec(compile(ast.Module(kept, []), cell.id, "exec"), names)
    return SimpleNamespace(**names)


def change(variant, task):
    return FOUND[task][variant].value / FOUND[task]["full"].value - 1


def test_the_committed_run_is_about_all_four_tasks_with_three_seeds():
    assert FOUND.keys() == set(TASKS) and {found["full"].seeds for found in FOUND.values()} == {3}


@pytest.mark.parametrize("variant", SHOWS)
def test_the_papers_drops_show_where_places_are_asked_for_and_of_scaled_tokens_in_retrieval_too(cells, variant):
    assert {task for task in TASKS if cells.judged(variant, task)[2] == "shows here"} == SHOWS[variant]


def test_no_claim_shows_the_other_way_round(cells):
    assert not [v for v in SHOWS for task in TASKS if cells.judged(v, task)[2] == "the other way here"]


def test_where_drops_show_they_are_smaller_and_only_retrievals_comes_near_the_papers(cells):
    drops = {(v, t): cells.judged(v, t)[:2] for v, tasks in SHOWS.items() for t in tasks}
    assert all(paper < ours < 0 for paper, ours in drops.values())
    near = {key for key, (paper, ours) in drops.items() if ours < 0.5 * paper}
    assert near == {("w/o 1-D convolutions, tokens scaled", "retrieval")}


def test_recognition_misses_none_of_them_and_the_learned_weights_are_missed_by_no_task():
    for task in TASKS:
        assert ablations.beyond(FOUND[task]["full"], FOUND[task]["w/o learnable weights"]) == 0
    assert all(ablations.beyond(FOUND["recognition"]["full"], FOUND["recognition"][v]) == 0 for v in SHOWS)


def test_trained_longer_all_three_gain_full_the_most_and_both_removals_are_behind_full():
    found, heart = FOUND["correspondence"], ("full", "w/o aggregation network", "w/o 1-D convolutions")
    long = {name: found[name + ablations.LONGER] for name in heart}
    gained = {name: more.value - found[name].value for name, more in long.items()}
    assert min(gained.values()) > 0 and max(gained, key=gained.get) == "full"
    assert all(ablations.beyond(long["full"], long[name]) == -1 for name in heart[1:])


def test_late_fusion_is_the_cheapest_that_loses_nothing_and_f4_added_the_dearest_and_best(cells):
    late = "injected afterwards (late fusion)"
    prices = {v.name: cells.cost(FOUND, v.name) for v in ablations.VARIANTS if v.name in FOUND["segmentation"]}
    gains = {name: sum(change(name, task) for task in TASKS) for name in prices}
    assert min((name for name in prices if gains[name] >= 0), key=prices.get) == late and prices[late] < 0.5
    assert max(prices, key=prices.get) == max(gains, key=gains.get) == "f4 added"
    assert ablations.beyond(FOUND["retrieval"]["full"], FOUND["retrieval"]["f4 added"]) == 1


@pytest.mark.parametrize(("task", "worse"), [("correspondence", (50,)), ("retrieval", (600, 800))])
def test_no_timestep_is_better_than_195_by_more_than_luck_and_these_lose(cells, task, worse):
    found, full = cells.sweep(task), FOUND[task]["full"]
    assert max(one.value for one in found.values()) - found[195].value <= 2 * full.spread
    assert all(ablations.beyond(full, found[t]) == -1 for t in worse)


def test_four_draws_give_a_point_and_sixteen_no_more():
    one, four, sixteen = (
        FOUND["correspondence"][name].value
        for name in ("injected afterwards (late fusion)", "late fusion, 4 draws", "late fusion, 16 draws")
    )
    assert 0.005 < four - one < 0.015 and sixteen <= four


def test_weights_stay_within_a_few_hundredths_of_a_third_while_silence_costs_five_times_more_of_one_than_another(cells):
    found = {task: cells.branches(task) for task in TASKS}
    assert all(abs(weight - 1 / 3) < 0.05 for parts in found.values() for weight, *_ in parts.values())
    for task in ("correspondence", "segmentation"):
        losses = [loss for *_, loss in found[task].values()]
        assert max(losses) > 5 * min(losses)


def test_on_half_of_the_tasks_the_heaviest_branch_is_not_the_dearest(cells):
    found = [cells.branches(task) for task in TASKS]
    assert sum(max(f, key=lambda b: f[b][0]) != max(f, key=lambda b: f[b][2]) for f in found) == 2
