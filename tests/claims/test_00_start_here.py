"""What 00 says of the default run, a test a sentence, on its committed rows and on what it printed."""

import pytest

from sfhelpers import results
from tests.cells import printed
from tests.claims import shown

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


def test_what_the_small_models_were_taught_they_know_and_what_not_they_call_by_a_wrong_name_three_times_in_four():
    seen, unseen = (value("category accuracy", "CLIP embedding", part) for part in (SEEN, UNSEEN))
    assert min(seen, value("P@1", "CLIP embedding", SEEN)) > 0.9, "nearly all first photos and names are right"
    assert unseen < 1 / 4
    first = value("P@1", "CLIP embedding", UNSEEN)
    assert first > unseen and first > 1 / 2, "the photos themselves do better, a right one first in more than half"


def test_the_probability_falls_with_the_names_but_is_not_the_share_of_right_answers():
    line = r", .*\n.*\n  category right ([\d.]+), chance [\d.]+, at a probability of ([\d.]+)$"
    (right, seen), (_, unseen) = (shown("00_start_here", f"^{part}{line}") for part in (SEEN, UNSEEN))
    assert unseen < seen / 2 and seen < 1 / 2 < 0.9 < right


def test_side_by_side_features_find_most_keypoints_and_clips_tokens_hardly_more_than_the_same_place():
    scores = {method: value("PCK@10", method) for method in ("tokens", "f1 + f2 + f3 + tokens", "f3", "same place")}
    together = scores.pop("f1 + f2 + f3 + tokens")
    assert max(scores.values()) * 3 < together < 1 / 2, "three times as many, and still most are missed"
    assert 0 < scores["tokens"] - scores["same place"] < 0.02
