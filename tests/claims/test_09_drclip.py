"""What 09_drclip says of its committed rows."""

import re

from sfhelpers import results
from sfhelpers.metrics import AP
from sfhelpers.results import BETTER, NOT_TOLD, PLATEAU, WORSE
from sfhelpers.tasks.drclip import ARMS, CHANCE, EIGHT, FULL, MAIN, MEETING, PLAIN, UNTOUCHED, VARIANTS
from sfhelpers.tasks.matchmaker import SD_PL
from sfhelpers.tasks.retrieval import AS_PUBLISHED, GENERALISED, RELEVANT, SEEN, UNSEEN
from tests.cells import cells
from tests.claims import told

ROWS = results.committed("09_drclip")
STRICT = [row for row in ROWS if row.split == "strict"]
RULE = RELEVANT + AP().definition


def each(method):
    """A method's rows of mAP@all on the strict split, one a seed."""
    return [row for row in STRICT if row.method == method and row.definition == RULE]


def means(split, gallery="all"):
    found = results.table([row for row in ROWS if row.split == split], gallery, AP().name, RULE)
    return {method: mean for method, (mean, _) in found.items()}


def test_the_command_shown_made_the_rows_and_every_training_reached_its_second_plateau_before_the_cap():
    (command,) = [line for cell in cells("09_drclip") for line in cell.source.splitlines() if " long.ipynb" in line]
    given = dict(re.findall(r" -p (\w+) (\w+)", command))
    assert {row.method for row in STRICT} == {*ARMS[given["arms"]], CHANCE}
    for method in {row.method for row in STRICT if row.steps}:
        seeds = set(range(int(given["seeds"]))) if method in (PLAIN, *EIGHT) else {0}
        assert {row.seed for row in each(method)} == seeds, method
    trained = [row for row in STRICT if row.steps]
    assert {row.ended for row in trained} == {PLATEAU} and min(row.steps for row in trained) >= 500
    assert {row.epochs for row in trained} == {int(given["epochs"])} and {row.learning_rate for row in trained} == {
        1e-4
    }


def test_forty_thousand_numbers_beat_clip_as_it_comes_by_five_hundredths_and_so_does_plain_tuning():
    table, apart, verdicts = told(STRICT, "all", "mAP@all", RULE)
    assert verdicts[UNTOUCHED] == BETTER and verdicts[PLAIN] == NOT_TOLD
    assert 0.04 < apart[UNTOUCHED].mean < 0.06 and 0 < apart[PLAIN].mean < 0.02
    assert table[PLAIN][0] - table[UNTOUCHED][0] > 10 * table[PLAIN][1]


def test_plain_tuning_does_not_overfit_its_best_epoch_comes_later():
    assert max(row.best_epoch for row in each(MAIN)) < min(row.best_epoch for row in each(PLAIN))


def test_on_new_classes_dr_clip_leads_and_on_known_ones_plain_tuning_does_in_two_tests_of_three():
    leads = {}
    for split in (*GENERALISED.values(), AS_PUBLISHED):
        unseen, seen = means(split, UNSEEN), means(split, SEEN)
        assert unseen[MAIN] > unseen[PLAIN] > unseen[UNTOUCHED]
        leads[split] = seen[PLAIN] - seen[MAIN]
    assert sum(lead > 0 for lead in leads.values()) == 2 and max(leads, key=leads.get) == AS_PUBLISHED


def test_dbq_does_it_all_and_what_the_other_losses_add_to_it_is_not_told_apart():
    table, _, verdicts = told(STRICT, "all", "mAP@all", RULE)
    untouched = table[UNTOUCHED][0]
    for name, used in ((name, VARIANTS[name].get("losses", FULL)) for name in EIGHT if name != UNTOUCHED):
        (mean, _), best = table[name], max(row.best_epoch for row in each(name))
        assert mean > untouched + 0.04 if "DBQ" in used else (abs(mean - untouched) < 0.005 and best <= 2), name
    assert 0.01 < table["DBQ alone"][0] - table[MAIN][0] < 0.015
    assert min(row.value for row in each("DBQ alone")) > max(row.value for row in each(MAIN)), "more than seeds differ"
    assert {verdicts[name] for name in ("DBQ alone", "without FSC", "without RP")} == {NOT_TOLD}


def test_at_the_meeting_the_papers_order_is_turned_round_on_both_galleries():
    for split in (MEETING, "not trained on"):
        found = results.table([row for row in ROWS if row.split == split], "all", AP().name, AP().definition)
        order = [name for name in found if name in (MAIN, PLAIN, UNTOUCHED, "fused", SD_PL)]
        assert order == [MAIN, PLAIN, UNTOUCHED, "fused", SD_PL]
    meeting = [row for row in ROWS if row.split == MEETING]
    verdicts = results.verdicts(meeting, "all", "mAP@all")
    assert verdicts[MAIN] == verdicts[UNTOUCHED] == WORSE and verdicts[SD_PL] == BETTER, "of fused"
    ended = [row for row in meeting if row.metric == AP().name and row.steps]
    assert {row.ended for row in ended} == {PLATEAU} and {row.seed for row in ended} == {0, 1, 2}


def test_dr_clip_is_ahead_of_plain_tuning_by_less_than_of_clip_as_it_comes_and_its_query_cheaper_than_fused():
    means = {method: mean for method, (mean, _) in results.table(STRICT, "all", AP().name, RULE).items()}
    assert 0 < means[MAIN] - means[PLAIN] < means[MAIN] - means[UNTOUCHED]
    costs = [row for row in ROWS if row.metric == "numbers that learn"]
    query = {name: min(row.seconds for row in costs if row.method == name) for name in (MAIN, "fused", SD_PL)}
    assert query["fused"] > 1.5 * max(query[MAIN], query[SD_PL])


def test_layer_norms_are_worth_two_hundredths_prompts_one_and_their_number_nothing():
    table, _, verdicts = told(STRICT, "all", "mAP@all", RULE)
    lower = {name: table[MAIN][0] - table[name][0] for name in ("without LayerNorms", "without prompts")}
    assert {name: round(value, 2) for name, value in lower.items()} == {
        "without LayerNorms": 0.02,
        "without prompts": 0.01,
    }
    assert all(abs(table[name][0] - table[MAIN][0]) < 0.005 for name in ("1 prompt", "8 prompts"))
    once = {name for name in VARIANTS if {row.seed for row in each(name)} == {0} and name != UNTOUCHED}
    assert {verdicts[name] for name in once} == {NOT_TOLD}, "after Holm's correction over all of them"


def test_neither_plain_loss_reaches_what_both_do_and_all_weights_are_no_better_than_a_hundredth_of_them():
    table = told(STRICT, "all", "mAP@all", RULE)[0]
    parts = "cross-entropy alone", "triplet alone", "plain tuning of all"
    assert max(table[name][0] for name in parts) < table[PLAIN][0]


def test_of_what_is_released_the_shared_teacher_alone_costs_something_and_the_test_sets_epoch_adds_to_the_number():
    table = told(STRICT, "all", "mAP@all", RULE)[0]
    off = {name.removeprefix("as released: "): table[name][0] - table[MAIN][0] for name in table if "released" in name}
    assert -0.015 < off.pop("shared teacher") < -0.01 and min(off.values()) > -0.005
    assert abs(table["as released: RP without gradient"][0] - each("without RP")[0].value) < 1e-4
    assert 0.005 < table["epoch chosen on the test set"][0] - table[MAIN][0] < 0.01
