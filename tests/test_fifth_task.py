"""A task is added in one file: this one says how much ink a sketch holds, and goes through all that the others do."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sfhelpers import results, toyworld
from sfhelpers.datasets import sketchy
from sfhelpers.images import load_images
from sfhelpers.tasks.compare import Measured, Task, Trial, compare, differences, rows
from sfhelpers.tasks.prepared import prepare_images, reader, take

RUN = SimpleNamespace(notebook="11_ink", backbone="tiny", seed=0, device="cpu", epochs=2)


class InkHead(nn.Module):
    def __init__(self, extractor):
        super().__init__()
        self.extractor, self.settings, self.line = extractor, {}, nn.Linear(64, 1)

    def forward(self, prepared):
        return self.line(self.extractor.pooled(prepared))[:, 0]


def read(extractor, records, size, **noise):
    ink = 1 - load_images([record.path for record in records], 32).mean((1, 2, 3))
    return {"images": prepare_images(extractor, reader(records, size), len(records), "sketches", **noise), "ink": ink}


class Ink(Task):
    name, baselines, unit, read = "ink", ("mean ink",), "sketches", staticmethod(read)

    def model(self, extractor, frozen):
        extractor.fit_statistics(frozen["train"]["images"])
        return InkHead(extractor)

    def examples(self, frozen):
        return len(frozen["train"]["ink"])

    def loss(self, model, frozen, indices):
        train = frozen["train"]
        return (model(take(train["images"], indices)) - train["ink"][indices]).square().mean()

    def validate(self, model, frozen):
        return -(model(frozen["validation"]["images"]) - frozen["validation"]["ink"]).abs().mean().item()

    @torch.no_grad()
    def predict(self, model, frozen):
        return model.eval()(frozen["test"]["images"])

    def untrained(self, method, seeds, frozen, plain):
        mean = frozen["train"]["ink"].mean()
        yield Trial(method, seeds[0], found=mean.expand(len(frozen["test"]["ink"])))

    def measure(self, trial, frozen):
        error = (trial.found - frozen["test"]["ink"]).abs().numpy()
        yield Measured("all", "closeness", "1 - |error|, mean over sketches", 1 - error, np.arange(len(error)))


@pytest.fixture(scope="module")
def ink(tmp_path_factory):
    root = tmp_path_factory.mktemp("ink")
    toyworld.write_sketchy(root, photos=4, sketches=1, categories=("cat", "duck", "bus"))
    drawn = [record for record in sketchy.read(root) if record.domain == "sketch"]
    return Ink({"train": drawn[::3], "validation": drawn[1::3], "test": drawn[2::3]}, "toy", "default", "", 2, 1e-3, 2)


def test_a_task_in_one_file_is_compared_told_and_tested(tiny_backbone, ink, tmp_path):
    trials, frozen = compare(tiny_backbone, ink, ["fused", "SD only", "mean ink"], (0, 1), log=lambda line: None)
    assert [(t.method, t.seed) for t in trials] == [
        ("fused", 0),
        ("fused", 1),
        ("SD only", 0),
        ("SD only", 1),
        ("mean ink", 0),
    ]
    told = rows(RUN, ink, trials, frozen, "aa") + differences(RUN, ink, trials, frozen, "aa")
    results.write(told, tmp_path / "results.json")
    told = results.read(tmp_path / "results.json")
    table = results.table(told, "all", "closeness")
    assert table.keys() == {"fused", "SD only", "mean ink"} and table["fused"][1] is not None
    found = results.differences(told, "all", "closeness")
    assert found.keys() == {"SD only", "mean ink"} and all(low <= mean <= high for mean, low, high in found.values())
    assert results.verdict(table, found, "SD only") in results.VERDICTS
    assert {row.n for row in told} == {len(frozen["test"]["ink"])} and {row.task for row in told} == {"ink"}
    assert trials[1].history.best_epoch > 0
