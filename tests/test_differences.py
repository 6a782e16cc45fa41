"""The paired test as rows: what is written is read back, and "better" needs both the spread and the interval."""

from types import SimpleNamespace

import numpy as np
import pytest

from sfhelpers.tasks import differences

RUN = SimpleNamespace(notebook="03", backbone="pocket", seed=0, epochs=1, device="cpu", dataset="toy", split="default")
ROW = {"task": "t", "metric": "AP", "gallery": "unseen", "weights_sha256": "aa"}


def test_rows_are_read_back():
    rng = np.random.default_rng(0)
    base = rng.random(60)
    values = {"fused": [base + 0.1, base + 0.2], "CLIP only": [base, base], "SD only": [base + 0.3] * 2}
    rows = differences.against_all(RUN, values, np.arange(60), "queries", **ROW)
    assert len(rows) == 6 and all(row.n == 60 and "averaged over 2 seeds" in row.definition for row in rows)
    found = differences.read(rows, "unseen", "AP")
    assert found["CLIP only"] == pytest.approx((0.15, 0.15, 0.15))
    assert found["SD only"][2] < 0
    assert differences.read(rows, "seen", "AP") == {}


@pytest.mark.parametrize(
    ("lead", "spread", "low", "expected"),
    [(0.05, 0.01, 0.02, True), (0.05, 0.03, 0.02, False), (0.05, 0.01, -0.01, False)],
)
def test_better_needs_the_spread_and_the_interval(lead, spread, low, expected):
    table = {"fused": (0.5 + lead, spread), "CLIP only": (0.5, spread), "SD only": (0.3, spread)}
    found = {"CLIP only": (lead, low, 0.1)}
    assert differences.best_single(table) == "CLIP only"
    assert differences.beats(table, found, "CLIP only") is expected
    assert ("not shown" in differences.sentence(table, found, "CLIP only")) is not expected
