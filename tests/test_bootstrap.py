"""The paired bootstrap: what it must say of equal, better and noisy methods, and of queries that belong together."""

from math import comb

import numpy as np
import pytest

from sfhelpers.metrics import paired_bootstrap


def test_a_method_is_not_better_than_itself_and_a_constant_lead_is_certain():
    values = np.random.default_rng(0).random(50)
    found = paired_bootstrap(values, values)
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)
    found = paired_bootstrap(values + 0.1, values)
    assert (found.mean, found.low, found.p) == (pytest.approx(0.1), pytest.approx(0.1), pytest.approx(1 / 10_000))


def test_the_interval_is_near_the_normal_one_and_copies_of_a_query_add_no_certainty_when_grouped():
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.3, 1, 400), rng.normal(0, 1, 400)
    found, half = paired_bootstrap(first, second), 1.96 * (first - second).std(ddof=1) / 20
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=0.02)
    copies = np.repeat(first, 5), np.repeat(second, 5)
    grouped, loose = paired_bootstrap(*copies, groups=np.repeat(np.arange(400), 5)), paired_bootstrap(*copies)
    assert (grouped.low, grouped.high, grouped.n) == (pytest.approx(found.low), pytest.approx(found.high), 400)
    assert loose.high - loose.low < 0.6 * (found.high - found.low)


def test_a_resample_in_which_thirds_cancel_out_is_a_tie():  # 1 - 2/3 and 1/3 - 2/3 add up to 6e-17, not to 0
    found = paired_bootstrap([1] * 5 + [1 / 3], [2 / 3] * 6)
    draws = [comb(6, k) * (1 / 6) ** k * (5 / 6) ** (6 - k) for k in range(3, 7)]  # k copies of the one that lost
    assert found.low == 0 and found.p == pytest.approx(2 * sum(draws), abs=0.015)


@pytest.mark.parametrize(
    ("first", "second", "groups", "said"),
    [
        ([1, 2], [1, 2, 3], None, "one a query for both"),
        ([1, np.nan], [1, 2], None, "not finite"),
        ([1, 2], [1, 2], [0], "one for each"),
        ([1, 2], [1, 2], [0, 0], "two or more"),
    ],
)
def test_what_cannot_be_compared_is_refused(first, second, groups, said):
    with pytest.raises(ValueError, match=said):
        paired_bootstrap(np.array(first, float), np.array(second, float), groups)
