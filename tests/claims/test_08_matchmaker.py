"""What 08_matchmaker says of its committed rows."""

import re

from sfhelpers import results
from sfhelpers.metrics import AP, Acc
from sfhelpers.results import NOT_TOLD, PLATEAU, WORSE
from sfhelpers.tasks.matchmaker import ARMS, LINEAR, PLAIN, REAL, SD_PL, TOWER, TUNED
from sfhelpers.tasks.retrieval import B_CLIP, CHANCE
from tests.cells import cells
from tests.claims import told

ROWS = results.committed("08_matchmaker")
STRICT = [row for row in ROWS if row.split == "strict"]
TRAINED = [row for row in ROWS if row.steps]
ALONE = ("visual prompt only", "text prompt only")


def each(method, measure=AP()):  # noqa: B008
    """A method's rows on the strict split, one a seed."""
    rows = [row for row in STRICT if (row.method, row.gallery, row.metric) == (method, "all", measure.name)]
    return [row for row in rows if row.definition.endswith(measure.definition)]


def means(rows, gallery="all", measure=AP()):  # noqa: B008
    found = results.table(rows, gallery, measure.name, measure.definition)
    return {method: mean for method, (mean, _) in found.items()}


def test_the_command_shown_made_the_rows_and_every_training_reached_its_second_plateau_before_the_cap():
    (command,) = [line for cell in cells("08_matchmaker") for line in cell.source.splitlines() if " long.ipynb" in line]
    given = dict(re.findall(r" -p (\w+) (\w+)", command))
    assert {row.seed for row in each(SD_PL)} == {row.seed for row in each(PLAIN)} == set(range(int(given["seeds"])))
    assert {row.seed for row in ROWS if row.method not in (SD_PL, PLAIN, B_CLIP, CHANCE)} == {0}
    assert (given["arms"], given["variants"]) == ("all", "few")
    assert {row.method for row in ROWS} == {*ARMS, B_CLIP, CHANCE, *ALONE}
    assert {row.ended for row in TRAINED} == {PLATEAU} and min(row.steps for row in TRAINED) >= 500
    assert {row.epochs for row in TRAINED} == {int(given["epochs"])} and given["rates"] == "2"
    assert {row.learning_rate for row in TRAINED if row.method == SD_PL} == {1e-3}


def test_prompts_change_nothing_that_is_told_apart_and_one_seed_kept_the_model_as_it_came():
    _, apart, verdicts = told(STRICT, "all", "mAP@all", AP().definition)
    same = (PLAIN, REAL, LINEAR, TUNED, CHANCE)
    assert verdicts == dict.fromkeys(same, NOT_TOLD) | {B_CLIP: WORSE, TOWER: WORSE}
    assert abs(apart[PLAIN].mean) < 0.01, "a hundredth at most"
    assert [row.best_epoch for row in each(SD_PL)].count(0) == 1


def test_learned_weights_help_little_and_the_same_frame_before_clips_tower_much():
    found = means(STRICT)
    assert abs(found[LINEAR] - found[SD_PL]) < 0.005 and 0.02 < found[TUNED] - found[SD_PL] < 0.025
    assert found[TOWER] > 2 * found[SD_PL] and 0.05 < found[TOWER] - found[B_CLIP] < 0.06


def test_neither_prompt_alone_nor_classes_that_the_backbone_knows_change_that():
    assert all(abs(means(STRICT)[name] - means(STRICT)[PLAIN]) < 0.01 for name in ALONE)
    known = means([row for row in ROWS if row.split == "clip-style"])
    assert abs(known[SD_PL] - known[PLAIN]) < 0.005


def test_in_its_class_nobody_finds_the_very_photo_and_over_all_photos_clip_has_it_among_ten_more_often():
    systems = (SD_PL, PLAIN, REAL, B_CLIP)
    first, ten = means(STRICT, "class", Acc(1)), means(STRICT, "all", Acc(10))
    assert all(first[method] < first[CHANCE] for method in systems)
    assert ten[B_CLIP] > 3 * max(ten[method] for method in systems[:3])


def test_without_prompts_it_ranks_a_little_better_than_chance_and_clip_more_than_twice_as_well():
    found = means(STRICT)
    assert found[CHANCE] < found[PLAIN] < 1.2 * found[CHANCE] and found[B_CLIP] > 2 * found[PLAIN]
