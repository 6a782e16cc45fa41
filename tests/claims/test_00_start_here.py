"""What 00 says of the default run, a test a sentence, on its committed rows and on what it printed."""

import pytest

from sfhelpers import results
from tests.cells import printed

ROWS, PRINTED = results.committed("00_start_here"), printed("00_start_here")
SEEN, UNSEEN = "seen categories", "unseen categories"


def value(metric, method, gallery="all categories"):
    (found,) = (row.value for row in ROWS if (row.metric, row.method, row.gallery) == (metric, method, gallery))
    return found


@pytest.mark.parametrize("part", [SEEN, UNSEEN])
@pytest.mark.parametrize("metric", ["P@1", "category accuracy"])
def test_what_the_notebook_printed_is_what_the_rows_say(metric, part):
    right, chance = (value(metric, method, part) for method in ("CLIP embedding", "chance"))
    words = {"P@1": "first photo right", "category accuracy": "category right"}[metric]
    after = PRINTED[PRINTED.index(part) :]
    assert after[after.index(words) :].startswith(f"{words} {right:.2f}, chance {chance:.2f}")


def test_what_the_small_models_were_taught_they_know_and_what_not_they_call_by_the_name_of_something_they_were():
    seen, unseen = (value("category accuracy", "CLIP embedding", part) for part in (SEEN, UNSEEN))
    assert seen > 0.9 and value("P@1", "CLIP embedding", SEEN) > 0.9 and round(unseen, 2) == 0.16
    assert "category right 0.16, chance 0.03, at a probability of 0.65" in PRINTED
    first = value("P@1", "CLIP embedding", UNSEEN)
    assert first > unseen, "the photos themselves do better"
    assert round(first, 2) == 0.43 and first > 2 * value("P@1", "chance", UNSEEN), "a right one first in 43 of 100"


def test_clips_tokens_find_most_keypoints_and_stable_diffusions_features_10_of_100_where_the_same_place_finds_31():
    scores = {method: value("PCK@10", method) for method in ("tokens", "f1 + f2 + f3 + tokens", "f3", "same place")}
    assert max(scores, key=scores.get) == "tokens"
    assert (round(scores["f3"], 2), round(scores["same place"], 2)) == (0.1, 0.31)
