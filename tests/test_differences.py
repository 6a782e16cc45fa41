"""The paired test as rows: what is written is read back, and "better" needs both the spread and the interval."""

from types import SimpleNamespace

import numpy as np
import pytest

from sfhelpers import results
from sfhelpers.tasks import compare

RUN = SimpleNamespace(notebook="03", backbone="pocket", seed=0, epochs=1, device="cpu")


class Noisy(compare.Task):
    """Forty queries of twenty photos in two galleries; a trial's `found` is its lead."""

    name = "noise"

    def __init__(self):
        super().__init__({}, "toy", "default", "", 1, 1e-3, 8)

    def measure(self, trial, frozen):
        for gallery, noise in zip(("seen", "unseen"), np.random.default_rng(1).random((2, 40)), strict=True):
            yield compare.Measured(gallery, "AP", "d", noise + trial.found, np.arange(40) // 2)
            yield compare.Measured(gallery, "P@5", "not tested", noise)


def test_trials_are_compared_gallery_by_gallery_over_seeds_and_read_back():
    leads = {("fused", 0): 0.2, ("fused", 1): 0.4, ("SD only", 0): 0.0, ("SD only", 1): 0.1, ("CLIP only", 0): 0.6}
    trials = [compare.Trial(method, seed, found=lead) for (method, seed), lead in leads.items()]
    rows = compare.differences(RUN, Noisy(), trials, {}, "aa")
    expected = {"SD only": pytest.approx((0.25, 0.25, 0.25)), "CLIP only": pytest.approx((-0.3, -0.3, -0.3))}
    for gallery in ("seen", "unseen"):
        assert results.differences(rows, gallery, "AP") == expected
    assert results.differences(rows, "elsewhere", "AP") == results.differences(rows, "seen", "P@5") == {}
    assert {row.n for row in rows} == {20} and len(rows) == 2 * 2 * 3
    assert all("averaged over its seeds (fused 2, " in row.definition for row in rows)
    assert all(("CLIP only 1)" in row.definition) == (row.method == "CLIP only") for row in rows)
    assert not compare.differences(RUN, Noisy(), trials[2:], {}, "aa"), "without fused there is nothing to compare"


@pytest.mark.parametrize(
    ("lead", "spread", "half", "expected"),
    [(0.05, 0.01, 0.03, "better"), (0.05, 0.03, 0.03, "not told apart"), (0.05, 0.01, 0.06, "not told apart")],
)
def test_better_and_worse_need_the_spreads_and_the_interval_alike(lead, spread, half, expected):
    table = {"fused": (0.5 + lead, spread), "CLIP only": (0.5, spread)}
    assert results.verdict(table, {"CLIP only": (lead, lead - half, lead + half)}, "CLIP only") == expected
    turned = {"CLIP only": table["fused"], "fused": table["CLIP only"]}
    behind = results.verdict(turned, {"CLIP only": (-lead, -lead - half, -lead + half)}, "CLIP only")
    assert behind == {"better": "worse"}.get(expected, expected)
