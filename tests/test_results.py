"""Result rows: complete, written whole or not at all, and traceable to the shipped weights."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sfhelpers import results
from tests.backbone_fixtures import one_sentence
from tests.tiny import folder_sha256

ROOT = Path(__file__).parents[1]
RUN = SimpleNamespace(
    notebook="04_segmentation", backbone="pocket", dataset="toy", split="default", seed=0, epochs=3, device="cpu"
)


def make(method="fused", value=0.5, **changes):
    given = {"metric": "foreground IoU", "definition": "mean over pairs of |A∩B| / |A∪B|", "n": 10}
    return results.row(RUN, task="segmentation", method=method, value=value, weights_sha256="aa", **given, **changes)


def test_what_is_written_is_read_back_in_an_order_of_its_own_with_the_fields_every_notebook_reads(tmp_path):
    rows = [make("CLIP only", torch.tensor(0.5), seconds=1.26), make("SD only", np.float32(0.25), spread=0.01), make()]
    results.write(rows, tmp_path / "new" / "a.json")
    results.write(rows[::-1], tmp_path / "b.json")
    assert results.read(tmp_path / "new" / "a.json") == rows
    assert rows[0].value == 0.5 and rows[0].seconds == 1.3
    assert (tmp_path / "new" / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    wanted = "notebook task method backbone weights_sha256 dataset split gallery metric definition value n seed epochs "
    wanted += "seconds device versions spread"
    assert set(json.loads((tmp_path / "b.json").read_text())[0]) == set(wanted.split())
    assert {"python", "torch", "diffusers"} <= make().versions.keys()


@pytest.mark.parametrize(
    "changes", [{"value": float("nan")}, {"spread": float("inf")}, {"n": 0}, {"definition": ""}, {"method": ""}]
)
def test_a_row_that_says_nothing_is_refused(changes):
    with pytest.raises(ValueError, match="the row"):
        replace(make(), **changes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[{", "holds no result rows"),
        ("{}", "no list"),
        ('[{"value": 1}]', "missing .* 'notebook', "),
        (None, "run the notebook"),
    ],
)
def test_a_broken_or_missing_file_gives_one_sentence(tmp_path, text, words):
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=words) as error:
        results.read(tmp_path / "results.json")
    one_sentence(error)


def test_committed_results_were_measured_with_the_shipped_weights():
    shipped = folder_sha256(ROOT / "data" / "pocket")
    for file in sorted((ROOT / "data" / "results").glob("*.json")):
        rows = results.read(file)
        assert rows, f"{file} holds no rows"
        others = {row.weights_sha256 for row in rows if row.backbone == "pocket"} - {shipped}
        assert not others, f"{file} is stale: measure it again"
