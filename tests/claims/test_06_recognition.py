"""What 06_recognition says of the committed rows, a test a sentence."""

import pytest

from sfhelpers import results
from sfhelpers.results import BETTER, NOT_TOLD
from sfhelpers.tasks.arms import FINETUNING, RANDOM_UNET
from sfhelpers.tasks.recognition import CHANCE, GALLERY, PRIOR, PROBES, rule

ROWS = results.committed("06_recognition")
TABLES = {shots: results.table(ROWS, GALLERY, "Acc@1", rule(shots)) for shots in (1, 3, 10)}
TABLE = TABLES[10]
TESTED = results.differences(ROWS, GALLERY, "Acc@1")
LEVEL = ("fused (fixed random injection)", "late fusion", RANDOM_UNET)


def lead(table, other):
    return table["fused"][0] - table[other][0]


def test_ten_drawings_a_category_are_enough_to_name_most_of_the_rest_and_no_method_is_at_its_ceiling():
    assert TABLE["fused"][0] >= 0.75 and max(value for value, _ in TABLE.values()) < 0.95


def test_fused_is_far_above_sd_only():
    assert results.verdict(TABLE, TESTED, "SD only") == BETTER and lead(TABLE, "SD only") > 0.2


def test_its_lead_over_clip_only_lies_above_zero_but_is_smaller_than_both_spreads_so_fusing_is_not_shown_to_help():
    assert TABLE["CLIP only"] > TABLE["SD only"] and results.verdict(TABLE, TESTED, "CLIP only") == NOT_TOLD
    assert TESTED["CLIP only"][1] > 0 and 0 < lead(TABLE, "CLIP only") < TABLE["fused"][1] + TABLE["CLIP only"][1]


@pytest.mark.parametrize("shots", [1, 3])
def test_with_fewer_drawings_its_lead_over_clip_only_is_smaller_than_both_spreads_too(shots):
    table = TABLES[shots]
    assert 0 < lead(table, "CLIP only") < table["fused"][1] + table["CLIP only"][1]


@pytest.mark.parametrize("method", LEVEL)
def test_fixed_injection_late_fusion_and_an_untrained_unet_are_level_with_fused(method):
    assert TESTED[method][1] < 0 < TESTED[method][2]


def test_finetuning_comes_last_but_for_chance():
    rest = [value for method, (value, _) in TABLE.items() if method not in (FINETUNING, CHANCE, PRIOR)]
    assert max(TABLE[CHANCE][0], TABLE[PRIOR][0]) < TABLE[FINETUNING][0] < min(rest)


@pytest.mark.parametrize("method", ["fused", "SD only", "CLIP only", *PROBES])
def test_more_drawings_of_a_category_are_better(method):
    assert TABLES[1][method][0] < TABLES[3][method][0] < TABLES[10][method][0]


def test_probes_of_sd_name_far_fewer_than_of_clip_and_both_together_little_more_than_clips():
    sd, clip, both = (TABLE[method][0] for method in ("B-SD", "B-CLIP", "B-SD+CLIP"))
    assert sd < clip - 0.15 and 0 < both - clip < 0.05
