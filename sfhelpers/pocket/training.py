"""The denoiser's training as files: a state from which it goes on, and copies of its weights along the way."""

import math
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

    Args:
        folder: of the checkpoint and of the copies, `samples_N.safetensors`.
        plan: what decides the numbers: steps, batch_size, learning_rate, seed, ...; ValueError for a checkpoint of
            another plan, or of another toy world.
        mean: the running mean of the model's weights, by name.

    `losses` has the step's two: of the predicted noise, and how far the features are from those they are pulled to.
    """

    def __init__(
        self, folder: Path, plan: Mapping[str, float], model: nn.Module, mean: Mapping[str, Tensor],
        optimiser: Optimizer, schedule: LRScheduler,
    ):  # fmt: skip
        self.folder, self.plan, self.losses = folder, plan, []
        self.checkpoint = Checkpoint(folder, {**plan, "toy world": VERSION})
        self.model, self.mean, self.optimiser, self.schedule = model, mean, optimiser, schedule
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
            kept = {name: tensor for name, tensor in self.mean.items() if not name.startswith("head.")}
            content = save({name: tensor.contiguous() for name, tensor in kept.items()})
            replace_file(self.folder / f"samples_{samples}.safetensors", content)
        if len(self.losses) % CHECKPOINT_EVERY == 0 or len(self.losses) == self.plan["steps"]:
            tensors = {f"model {name}": p for name, p in self.model.named_parameters()}
            tensors |= {f"mean {name}": tensor for name, tensor in self.mean.items()}
            for number, state in self.optimiser.state_dict()["state"].items():
                tensors |= {f"adam {number} {key}": value for key, value in state.items()}
            self.checkpoint.write(tensors, {"losses": self.losses, "rate": self.schedule.state_dict()})

    def _restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, object]) -> None:
        for name, p in self.model.named_parameters():
            p.data.copy_(tensors[f"model {name}"])
            self.mean[name].copy_(tensors[f"mean {name}"])
        adam: dict[int, dict[str, Tensor]] = {}
        for name in (name for name in tensors if name.startswith("adam ")):
            _, number, key = name.split()
            adam.setdefault(int(number), {})[key] = tensors[name]
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": adam})
        self.schedule.load_state_dict(state["rate"])
        self.optimiser.param_groups[0]["lr"] = self.schedule.get_last_lr()[0]
        self.losses = state["losses"]
