"""What 06_recognition says of the committed rows."""

import pytest

from sfhelpers import results
from sfhelpers.results import BETTER, NOT_TOLD
from sfhelpers.tasks.arms import FINETUNING, RANDOM_UNET
from sfhelpers.tasks.recognition import CHANCE, GALLERY, PRIOR, PROBES, rule
from tests.claims import told

ROWS = results.committed("06_recognition")
TABLES = {shots: results.table(ROWS, GALLERY, "Acc@1", rule(shots)) for shots in (1, 3, 10)}
TABLE, APART, VERDICTS = told(ROWS, GALLERY, "Acc@1", rule(10))
MEAN = {method: mean for method, (mean, _) in TABLE.items()}


def test_fused_names_most_of_the_rest_far_more_than_sd_only_but_is_not_shown_to_help():
    assert MEAN["fused"] >= 0.75 and max(MEAN.values()) < 0.95, "no method is at its ceiling"
    assert VERDICTS["SD only"] == BETTER and MEAN["fused"] > MEAN["SD only"] + 0.2
    assert VERDICTS["CLIP only"] == NOT_TOLD and APART["CLIP only"][1] > 0 and MEAN["CLIP only"] > MEAN["SD only"]
    for table in TABLES.values():
        (fused, spread), (clip, other) = (table[method] for method in ("fused", "CLIP only"))
        assert 0 < fused - clip < spread + other, "its lead is smaller than both spreads with fewer drawings too"


def test_the_controls_are_level_with_fused_finetuning_comes_last_and_probes_of_sd_name_far_fewer_than_of_clip():
    for method in ("fused (fixed random injection)", "late fusion", RANDOM_UNET):
        assert APART[method][1] < 0 < APART[method][2], method
    assert list(MEAN)[-3] == FINETUNING and set(list(MEAN)[-2:]) == {CHANCE, PRIOR}, "last but for chance"
    assert MEAN["B-SD"] < MEAN["B-CLIP"] - 0.15
    assert 0 < MEAN["B-SD+CLIP"] - MEAN["B-CLIP"] < 0.05, "both together name little more than CLIP's"


@pytest.mark.parametrize("method", ["fused", "SD only", "CLIP only", *PROBES])
def test_more_drawings_of_a_category_are_better(method):
    assert TABLES[1][method][0] < TABLES[3][method][0] < TABLES[10][method][0]
