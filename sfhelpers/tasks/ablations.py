"""What each part of the extractor is worth: arms with one thing left out or changed (SketchFusion, Sec. 7)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle

from sfhelpers import results
from sfhelpers.backbones import Backbone
from sfhelpers.fusion import FusedExtractor
from sfhelpers.tasks.arms import UP, WIDTH, Arm, arm_of
from sfhelpers.tasks.compare import Frozen, Task, Trial, compare, training_of

FULL = "full"
MAIN = {"retrieval": "unseen categories"}  # task -> what its gallery is called beside those of the other tasks
PARAMETERS, OPERATIONS = "learned parameters", "operations of a step"
WEIGHT, WITHOUT = "branch weight ", " without "
SILENCED = "; the trained model with this branch's output set to zero"


@dataclass(frozen=True)
class Variant:
    """The full extractor with one thing changed."""

    name: str
    group: str  # "parts" (the paper's Table 6), "injection", "details", "timestep", "rivals", "draws" or "encoder"
    settings: Mapping[str, Any] = field(default_factory=dict)  # of FusedExtractor, unlike the full one's
    noise: Mapping[str, Any] = field(default_factory=dict)  # of its `prepare`: timestep, draws, prompt
    backbone: Backbone | None = None  # that stands for the others', e.g. with another image encoder
    tasks: tuple[str, ...] = ()  # that it is measured on; () is all
    seeds: int = 0  # the most that it is trained with; 0 is all
    like: str = ""  # one of arms.METHODS, whose settings it has instead, and with them as many learned parameters

    def arm(self, backbone: Backbone, seed: int) -> Arm:
        """One thing is changed, so widths are not matched to equal numbers of parameters."""
        if self.like:
            rival = arm_of(self.like, backbone, seed)
            return replace(rival, method=self.name, noise={**rival.noise, **self.noise})
        settings = {"branches": UP, "inject": "up", "width": WIDTH, **self.settings}
        return Arm(self.name, seed, self.backbone or backbone, settings, self.noise)


def measure(
    run: Any, task: Task, backbone: Backbone, variants: Iterable[Variant], seeds: Iterable[int], **kept: Any
) -> list[results.Row]:
    """Train and test this task's variants with every seed; `kept` is rates, checkpoints, resume, configuration."""
    seeds, found = tuple(seeds), {}
    asked = [variant for variant in variants if not variant.tasks or task.name in variant.tasks]
    arms = [variant.arm(backbone, seed) for variant in asked for seed in seeds[: variant.seeds or len(seeds)]]

    def tell(arm: Arm, trials: list[Trial], frozen: Frozen) -> None:
        found[arm.method, arm.seed] = list(_rows(run, task, arm, trials[0], frozen))

    compare(backbone, task, arms, log=lambda line: print(f"{task.name}: {line}"), after=tell, **kept)
    return [row for arm in arms for row in found[arm.method, arm.seed]]


def _rows(run: Any, task: Task, arm: Arm, trial: Trial, frozen: Frozen) -> Iterator[results.Row]:
    about = training_of(trial) | {"method": arm.method, "seed": arm.seed, "dataset": task.dataset, "split": task.split}
    row = partial(results.row, run, task=task.name, weights_sha256=arm.backbone.weights_sha256, **about)
    yield row(metric=PARAMETERS, definition="that got gradients", value=trial.parameters, n=1)
    extractor, seen = trial.model.extractor, task.of_problem(frozen, trial.problem)
    weights = extractor.aggregator.branch_weights.softmax(dim=0).tolist()
    for name, weight in zip(extractor.branches, weights, strict=True):
        yield row(metric=WEIGHT + name, definition="softmax over branches", value=weight, n=1)
    yield from _values(row, task, trial, frozen)
    for number, name in enumerate(extractor.branches if arm.method == FULL else ()):
        with silenced(extractor, number):
            again = task.predict(trial.model, seen)
        yield from _values(row, task, replace(trial, found=again, seconds=0.0), frozen, name)
    told = f"floating-point, of a training step of {run.batch_size}, forwards and backwards, as PyTorch counts them"
    yield row(metric=OPERATIONS, definition=told, value=operations(task, trial.model, seen), n=1)


def operations(task: Task, model: nn.Module, frozen: Frozen) -> int:
    """Floating-point operations of one training step, which no machine makes slower or faster."""
    with FlopCounterMode(display=False) as counted, torch.enable_grad():
        task.loss(model, frozen, torch.arange(min(task.batch_size, task.examples(frozen)))).backward()
    model.zero_grad(set_to_none=True)
    return counted.get_total_flops()


def _values(row: partial, task: Task, trial: Trial, frozen: Frozen, silent: str = "") -> Iterator[results.Row]:
    """The metric that the task is tested by, a row a gallery; a query that cannot be scored (NaN) is left out."""
    tested = [found for found in task.measure(trial, frozen) if found.groups is not None]
    name, rule = (WITHOUT + silent, SILENCED) if silent else ("", "")
    for found in (found for found in tested if found.metric == tested[0].metric):
        values = {"value": np.nanmean(found.values), "n": np.isfinite(found.values).sum(), "seconds": trial.seconds}
        about = {"gallery": MAIN.get(task.name, found.gallery), "definition": found.definition + rule}
        yield row(metric=found.metric + name, **about, **values)


def silenced(extractor: FusedExtractor, branch: int) -> RemovableHandle:
    """A context in which one branch adds nothing to the map."""
    block = extractor.aggregator.blocks[branch]
    return block.register_forward_hook(lambda module, args, output: torch.zeros_like(output))
