"""The paired test as rows: what is written is read back, and "better" needs both the spread and the interval."""

from types import SimpleNamespace

import numpy as np
import pytest

from sfhelpers.tasks import differences
from sfhelpers.tasks.arms import Task, Trial

RUN = SimpleNamespace(notebook="03", backbone="pocket", seed=0, epochs=1, device="cpu", dataset="toy", split="default")
ROW = {"task": "t", "metric": "AP", "gallery": "unseen", "weights_sha256": "aa"}


def test_rows_are_read_back():
    rng = np.random.default_rng(0)
    base = rng.random(60)
    values = {"fused": [base + 0.1, base + 0.2], "CLIP only": [base], "SD only": [base + 0.3] * 2}
    rows = differences.against_all(RUN, values, np.arange(60), "queries", **ROW)
    assert len(rows) == 6 and all(
        row.n == 60 and "averaged over its seeds (fused 2, " in row.definition for row in rows
    )
    found = differences.read(rows, "unseen", "AP")
    assert found["CLIP only"] == pytest.approx((0.15, 0.15, 0.15))
    assert found["SD only"][2] < 0
    assert all(("CLIP only 1)" in row.definition) == (row.method == "CLIP only") for row in rows)
    assert differences.read(rows, "seen", "AP") == {}


def test_trials_are_compared_gallery_by_gallery():
    rng = np.random.default_rng(1)
    noise = rng.random((2, 40))
    lead = {("fused", 0): 0.2, ("fused", 1): 0.4, ("SD only", 0): 0.0, ("SD only", 1): 0.1}
    trials = [Trial(method, seed, None, None, 0, 0.0) for method, seed in lead]

    def values(trial, parts):
        return {name: noise[k] + lead[trial.method, trial.seed] for k, name in enumerate(("seen", "unseen"))}

    task = Task("t", "AP", "d", None, None, values, lambda parts: dict.fromkeys(("seen", "unseen"), np.arange(40) // 2))
    rows = differences.of_trials(RUN, task, trials, None, "photos", weights_sha256="aa")
    for gallery in ("seen", "unseen"):
        assert differences.read(rows, gallery, "AP") == {"SD only": pytest.approx((0.25, 0.25, 0.25))}
    assert {row.n for row in rows} == {20}


@pytest.mark.parametrize(
    ("lead", "spread", "half", "expected"),
    [(0.05, 0.01, 0.03, "better"), (0.05, 0.03, 0.03, "not told apart"), (0.05, 0.01, 0.06, "not told apart")],
)
def test_better_and_worse_need_the_spreads_and_the_interval_alike(lead, spread, half, expected):
    table = {"fused": (0.5 + lead, spread), "CLIP only": (0.5, spread), "SD only": (0.3, spread)}
    found = {"CLIP only": (lead, lead - half, lead + half)}
    assert differences.best_single(table) == "CLIP only"
    assert differences.verdict(table, found, "CLIP only") == expected
    assert differences.beats(table, found, "CLIP only") is (expected == "better")
    assert differences.sentence(table, found, "CLIP only").endswith(f": {expected}")
    turned = {"CLIP only": table["fused"], "fused": table["CLIP only"]}
    behind = differences.verdict(turned, {"CLIP only": (-lead, -lead - half, -lead + half)}, "CLIP only")
    assert behind == {"better": "worse"}.get(expected, expected)
