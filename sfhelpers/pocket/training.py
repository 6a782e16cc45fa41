"""The denoiser's training as files: a state from which it goes on, and copies of its weights along the way."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm.auto import tqdm

from sfhelpers.files import replace_file
from sfhelpers.kept import Checkpoint
from sfhelpers.toyworld.world import VERSION

CHECKPOINT_EVERY = 200  # optimiser steps
KEEP_EVERY = 32_000  # samples, after which a copy of the mean weights is kept


class Training:
    """What is kept of a training, so that one that was cut off goes on as if it had not been.

    `folder` takes the checkpoint and the copies, `samples_N.safetensors`; `plan` decides the numbers: steps,
    batch_size, learning_rate, seed, ...; `mean` is the running mean of the model's weights, by name. `losses` has two a
    step: of the noise, and of the features that are pulled. ValueError: a checkpoint of another plan or toy world.
    """

    def __init__(
        self, folder: Path, plan: Mapping[str, float], model: nn.Module, mean: Mapping[str, Tensor],
        optimiser: Optimizer, schedule: LRScheduler,
    ):  # fmt: skip
        self.folder, self.plan, self.losses = folder, plan, []
        self.model, self.mean, self.optimiser, self.schedule = model, mean, optimiser, schedule
        self.checkpoint = Checkpoint(folder, {**plan, "toy world": VERSION})
        if kept := self.checkpoint.read():
            self._restore(*kept)

    def left(self) -> Iterable[int]:
        """The steps that are still to be taken."""
        done, steps = len(self.losses), self.plan["steps"]
        return tqdm(range(done, steps), initial=done, total=steps, desc="denoiser", leave=False, mininterval=10)

    def keep(self, loss: float, apart: float = 0.0) -> None:
        """Note a step; write the state every CHECKPOINT_EVERY and at the end. FloatingPointError: loss is no number."""
        if not math.isfinite(loss + apart):
            ask = f"lower learning_rate ({self.plan['learning_rate']})"
            raise FloatingPointError(f"the denoiser's loss is {loss + apart} at step {len(self.losses)}: {ask}.")
        self.losses.append([loss, apart])
        samples = self.plan["batch_size"] * len(self.losses)
        if samples % KEEP_EVERY < self.plan["batch_size"]:
            kept = {name: mean.contiguous() for name, mean in self.mean.items() if not name.startswith("head.")}
            replace_file(self.folder / f"samples_{samples}.safetensors", save(kept))
        if len(self.losses) % CHECKPOINT_EVERY == 0 or len(self.losses) == self.plan["steps"]:
            adam = self.optimiser.state_dict()
            parts = {"model": self.model.state_dict(), "mean": self.mean}
            parts |= {f"adam {number}": moments for number, moments in adam["state"].items()}
            tensors = {f"{part} {name}": tensor for part, found in parts.items() for name, tensor in found.items()}
            state = {"losses": self.losses, "groups": adam["param_groups"], "rate": self.schedule.state_dict()}
            self.checkpoint.write(tensors, state)

    def _restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, object]) -> None:
        parts = defaultdict(dict)
        for name, tensor in tensors.items():
            part, _, own = name.rpartition(" ")
            parts[part][own] = tensor
        self.model.load_state_dict(parts["model"])
        for name, tensor in parts["mean"].items():
            self.mean[name].copy_(tensor)
        moments = {number: parts[f"adam {number}"] for number in range(len(self.mean))}
        self.optimiser.load_state_dict({"state": moments, "param_groups": state["groups"]})
        self.schedule.load_state_dict(state["rate"])
        self.losses = state["losses"]
