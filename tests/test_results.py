"""Result rows: complete, written whole or not at all, traceable to the shipped weights; "better" by both tests."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sfhelpers import results
from tests.backbone_fixtures import folder_sha256, refused
from tests.search_helpers import RUN

ROOT = Path(__file__).parents[1]


def make(method="fused", value=0.5, **changes):
    given = {"metric": "foreground IoU", "definition": "mean over pairs of |A∩B| / |A∪B|", "n": 10} | changes
    return results.row(RUN, task="segmentation", method=method, value=value, weights_sha256="aa", **given)


def test_what_is_written_is_read_back_in_an_order_of_its_own_with_the_fields_every_notebook_reads(tmp_path):
    rows = [make("CLIP only", torch.tensor(0.5), seconds=1.26), make("SD only", np.float32(0.25), spread=0.01), make()]
    results.write(rows, tmp_path / "new" / "a.json")
    results.write(rows[::-1], tmp_path / "b.json")
    assert results.read(tmp_path / "new" / "a.json") == rows
    assert rows[0].value == 0.5 and rows[0].seconds == 1.3
    assert (tmp_path / "new" / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    wanted = "notebook task method backbone weights_sha256 dataset split gallery metric definition value n seed epochs "
    wanted += "steps best_epoch learning_rate ended seconds device versions spread"
    assert set(json.loads((tmp_path / "b.json").read_text())[0]) == set(wanted.split())
    assert (make().steps, make().best_epoch, make().learning_rate, make().ended) == (0, 0, 0.0, "")
    assert {"python", "torch", "diffusers"} <= make().versions.keys()


@pytest.mark.parametrize(
    "changes",
    [{"value": float("nan")}, {"spread": float("inf")}, {"n": 0}, {"definition": ""}, {"method": ""}, {"ended": "x"}],
)
def test_a_row_that_says_nothing_is_refused(changes):
    with refused("the row"):
        replace(make(), **changes)


def test_a_broken_or_missing_file_gives_one_sentence(tmp_path):
    path = tmp_path / "results.json"
    with refused("run the notebook", FileNotFoundError):
        results.read(path)
    broken = {"[{": "holds no result rows", "{}": "no list", '[{"value": 1}]': "missing .* 'notebook', "}
    earlier = {name: value for name, value in asdict(make()).items() if name not in ("steps", "ended")}
    broken[json.dumps([earlier])] = "missing 2 .* 'steps' and 'ended'.*: delete it and run its notebook again"
    for text, words in broken.items():
        path.write_text(text)
        with refused(words):
            results.read(path)


def test_committed_results_were_measured_with_the_shipped_weights():
    shipped = folder_sha256(ROOT / "data" / "pocket")
    for file in sorted((ROOT / "data" / "results").glob("*.json")):
        rows = results.read(file)
        assert rows, f"{file} holds no rows"
        others = {row.weights_sha256 for row in rows if row.backbone == "pocket"} - {shipped}
        assert not others, f"{file} is stale: measure it again"


def paired(method, ended, **units):
    """Rows of the paired tests of "fused" against a method, unit -> (mean, corrected p)."""
    for unit, (mean, p) in units.items():
        for end, value in zip(results.ENDS, (mean, mean - 0.1, mean + 0.1, p), strict=True):
            rule = f"paired bootstrap over {unit}: drawn 10,000 times; {end}"
            yield make(method, value, metric="IoU: fused - other", definition=rule, gallery="seen", ended=ended)


@pytest.mark.parametrize(
    ("photos", "categories", "ended", "expected"),
    [
        ((0.1, 0.01), (0.1, 0.04), "plateau", "better"),
        ((0.1, 0.01), (0.1, 0.06), "plateau", "not told apart"),
        ((0.1, 0.06), (0.1, 0.01), "plateau", "not told apart"),
        ((-0.1, 0.01), (-0.1, 0.01), "cap", "worse"),
        ((0.1, 0.01), (0.1, 0.06), "cap", "not trained to the end"),
        ((0.1, 0.01), (0.1, 0.06), "", "not trained to the end"),
        ((0.1, 0.01), None, "plateau", "not told apart"),
    ],
)
def test_better_and_worse_need_both_tests_and_not_told_apart_trainings_that_ended(photos, categories, ended, expected):
    units = {"photos": photos} | ({"categories": categories} if categories else {})
    rows = [*paired("CLIP only", ended, **units), *paired("SD only", "plateau", photos=(0.2, 0), categories=(0.2, 0))]
    found = results.verdicts([make(), *rows], "seen", "IoU")
    assert found == {"CLIP only": expected, "SD only": "better"} and expected in results.VERDICTS
    assert results.verdicts(rows, "unseen", "IoU") == results.verdicts(rows, "seen", "mIoU") == {}
    told = results.differences(rows, "seen", "IoU", "photos")
    assert told["CLIP only"] == (photos[0], photos[0] - 0.1, photos[0] + 0.1, photos[1])
    assert ("CLIP only" in results.differences(rows, "seen", "IoU")) == (categories is not None)
