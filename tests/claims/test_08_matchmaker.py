"""What 08_matchmaker says of its committed rows."""

import re

from sfhelpers import results
from sfhelpers.metrics import AP
from sfhelpers.results import NOT_TOLD, PLATEAU, WORSE
from sfhelpers.tasks.matchmaker import PLAIN, REAL, SD_PL
from sfhelpers.tasks.retrieval import B_CLIP, CHANCE
from tests.cells import cells
from tests.claims import told

ROWS = results.committed("08_matchmaker")
STRICT = [row for row in ROWS if row.split == "strict"]
TRAINED = [row for row in ROWS if row.steps]


def each(method, measure=AP()):  # noqa: B008
    """A method's rows on the strict split, one a seed."""
    rows = [row for row in STRICT if (row.method, row.gallery, row.metric) == (method, "all", measure.name)]
    return [row for row in rows if row.definition.endswith(measure.definition)]


def test_the_command_shown_made_the_rows_and_every_training_reached_its_second_plateau_before_the_cap():
    (command,) = [line for cell in cells("08_matchmaker") for line in cell.source.splitlines() if " long.ipynb" in line]
    given = dict(re.findall(r" -p (\w+) (\w+)", command))
    assert {row.seed for row in each(SD_PL)} == set(range(int(given["seeds"])))
    assert {row.method for row in ROWS} == {SD_PL, PLAIN, REAL, B_CLIP, CHANCE}, "and no variant"
    assert {row.method for row in TRAINED} == {SD_PL} and {row.ended for row in TRAINED} == {PLATEAU}
    assert {row.epochs for row in TRAINED} == {int(given["epochs"])} and min(row.steps for row in TRAINED) >= 500
    assert {row.learning_rate for row in TRAINED} == {1e-3} and given["rates"] == "2"


def test_prompts_change_nothing_that_is_told_apart_and_one_seed_kept_the_model_as_it_came():
    _, apart, verdicts = told(STRICT, "all", "mAP@all", AP().definition)
    assert verdicts == dict.fromkeys((PLAIN, REAL, CHANCE), NOT_TOLD) | {B_CLIP: WORSE}
    assert abs(apart[PLAIN].mean) < 0.01, "a hundredth at most"
    assert [row.best_epoch for row in each(SD_PL)].count(0) == 1


def test_without_prompts_it_ranks_a_little_better_than_chance_and_clip_more_than_twice_as_well():
    means = {method: mean for method, (mean, _) in told(STRICT, "all", AP().name, AP().definition)[0].items()}
    assert means[CHANCE] < means[PLAIN] < 1.2 * means[CHANCE] and means[B_CLIP] > 2 * means[PLAIN]
