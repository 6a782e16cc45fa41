"""A task is added in one file: this one says how much paper a sketch leaves; it goes through all the others do."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from sfhelpers import results
from sfhelpers.images import load_images
from sfhelpers.tasks.compare import Measured, Task, Trial, compare, differences, rows
from sfhelpers.tasks.prepared import prepare_images, reader, take

RUN = SimpleNamespace(notebook="11_paper", backbone="tiny", seed=0, device="cpu", epochs=4)


class PaperHead(nn.Module):
    def __init__(self, extractor):
        super().__init__()
        self.extractor, self.settings, self.line = extractor, {}, nn.Linear(64, 1)
        for parameter in self.line.parameters():  # the start says 0 of what is about 0.9: any machine's training helps
            nn.init.zeros_(parameter)

    def forward(self, prepared):
        return self.line(self.extractor.pooled(prepared))[:, 0]


def read(extractor, records, size, **noise):
    images = prepare_images(extractor, reader(records, size), len(records), "sketches", **noise)
    return {"images": images, "paper": load_images([record.path for record in records], 32).mean((1, 2, 3))}


class Paper(Task):
    name, baselines, unit, read = "paper", ("mean paper",), "sketches", staticmethod(read)

    def model(self, extractor, frozen):
        extractor.fit_statistics(frozen["train"]["images"])
        return PaperHead(extractor)

    def examples(self, frozen):
        return len(frozen["train"]["paper"])

    def loss(self, model, frozen, indices):
        train = frozen["train"]
        return (model(take(train["images"], indices)) - train["paper"][indices]).square().mean()

    def validate(self, model, frozen):
        return -(model(frozen["validation"]["images"]) - frozen["validation"]["paper"]).abs().mean().item()

    @torch.no_grad()
    def predict(self, model, frozen):
        return model.eval()(frozen["test"]["images"])

    def untrained(self, method, seeds, frozen, plain):
        mean = frozen["train"]["paper"].mean()
        yield Trial(method, seeds[0], found=mean.expand(len(frozen["test"]["paper"])))

    def measure(self, trial, frozen):
        error = (trial.found - frozen["test"]["paper"]).abs().numpy()
        yield Measured("all", "closeness", "1 - |error|, mean over sketches", 1 - error, np.arange(len(error)))


def test_a_task_in_one_file_is_compared_told_and_tested(tiny_backbone, toy, tmp_path):
    parts = {name: list(toy.sketches[k:12:3]) for k, name in enumerate(("train", "validation", "test"))}
    paper = Paper(parts, "toy", "default", "", epochs=4, learning_rate=1e-3, batch_size=2)
    trials, frozen = compare(tiny_backbone, paper, ["fused", "SD only", "mean paper"], (0, 1), log=lambda line: None)
    trained = [(method, seed) for method in ("fused", "SD only") for seed in (0, 1)]
    assert [(trial.method, trial.seed) for trial in trials] == [*trained, ("mean paper", 0)]
    told = rows(RUN, paper, trials, frozen, "aa") + differences(RUN, paper, trials, frozen, "aa")
    results.write(told, tmp_path / "results.json")
    told = results.read(tmp_path / "results.json")
    table = results.table(told, "all", "closeness")
    assert table.keys() == {"fused", "SD only", "mean paper"} and table["fused"][1] is not None
    found = results.differences(told, "all", "closeness")
    assert found.keys() == {"SD only", "mean paper"} and all(low <= mean <= high for mean, low, high in found.values())
    assert results.verdict(table, found, "SD only") in results.VERDICTS
    assert {row.n for row in told} == {len(frozen["test"]["paper"])} and {row.task for row in told} == {"paper"}
    assert all(trial.history.best_epoch > 0 for trial in trials if trial.history)
