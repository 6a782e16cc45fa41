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
    batches = {(r.task, int(re.search(r"step of (\d+)", r.definition)[1])) for r in ROWS if r.metric == "operations of a step"}
    assert dict(batches) == dict.fromkeys(PLACES, int(given["batch_size"])) | dict.fromkeys(POOLED, 8)
    assert len(batches) == len(TASKS)


def test_raw_tokens_are_half_a_fifth_and_as_large_as_what_they_are_added_to():
    *blocks, tokens = shown("07_ablations", r"^f1 ([\d.]+), f2 ([\d.]+), f3 ([\d.]+), tokens ([\d.]+)")
    assert [tokens / block for block in blocks] == pytest.approx([1 / 2, 1 / 5, 1], abs=0.15)
