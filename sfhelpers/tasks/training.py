"""The loop inside `fit`: steps and epochs that can be kept in a checkpoint and gone on from."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object, reduce
from torch import Tensor, nn
from tqdm.auto import tqdm

from sfhelpers.tasks import resume

MAX_GRADIENT_NORM = 1.0


@dataclass
class History:
    """What happened in a training.

    Attributes:
        epochs: one dict an epoch with `epoch`, `loss` (mean over training examples), `validation`, `learning_rate`
            (at the epoch's first step) and `seconds` (training and validation). Epoch 0 is the model before training:
            its `loss` and `learning_rate` are None.
        best_epoch: the epoch whose weights the model now holds; 0 if training never beat the start.
    """

    epochs: list[dict[str, float | None]]
    best_epoch: int

    @property
    def seconds(self) -> float:
        """Of all epochs together, also of those before a training was stopped and resumed."""
        return sum(row["seconds"] for row in self.epochs)


@dataclass(frozen=True)
class Settings:
    """The arguments of `fit` that decide its numbers, named as there."""

    train: int
    epochs: int
    learning_rate: float
    batch_size: int
    seed: int
    weight_decay: float
    patience: int
    mixed_precision: str


@dataclass
class Position:
    """How far a training has come, in what JSON can hold.

    Attributes:
        epoch: that is being trained; 0 is the validation before training.
        batches: done in this epoch.
        loss: summed over the examples of these batches.
        learning_rate: at this epoch's first step.
        seconds: spent in this epoch.
        rows: `History.epochs` of the epochs before.
        best_epoch: of these.
        finished: there is no epoch to come.
    """

    epoch: int = 0
    batches: int = 0
    loss: float = 0.0
    learning_rate: float | None = None
    seconds: float = 0.0
    rows: list[dict[str, float | None]] = field(default_factory=list)
    best_epoch: int = 0
    finished: bool = False


class Loss(nn.Module):
    """The caller's loss as a module, so that what accelerate wraps around a module's forward takes in all of it."""

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module, Tensor], Tensor]):
        super().__init__()
        self.model, self.loss = model, loss
        self.indices = torch.empty(0, dtype=torch.int64)  # set, not passed: an argument would be moved to the GPU

    def forward(self) -> Tensor:
        """The mean loss of the examples at `indices`."""
        return self.loss(self.model, self.indices)


class Training:
    """One training: what it works on, where it stands and, if it is kept, the file.

    Args:
        model, loss, validate: as in `fit`.
        settings: at least one epoch and one example.
        accelerator: of this process.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[nn.Module, Tensor], Tensor],
        validate: Callable[[nn.Module], float],
        settings: Settings,
        accelerator: Accelerator,
    ):
        self.model, self.validate, self.settings, self.accelerator = model, validate, settings, accelerator
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.device = self.parameters[0].device
        self.loss = Loss(model, loss)
        self.mean_loss = accelerator.prepare_model(self.loss, device_placement=False)
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.steps = math.ceil(settings.train / settings.batch_size)  # an epoch
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, T_max=settings.epochs * self.steps)
        self.order = torch.Generator().manual_seed(settings.seed)
        self.position, self.best = Position(), {}
        self.checkpoint, self.checkpoint_steps = None, 0

    def keep(self, folder: str | Path, configuration: Mapping[str, Any], steps: int) -> None:
        """Keep the training in this folder, every so many steps, and go on from what is there; errors as `fit`.

        In a `resume.Fresh` folder it begins anew.
        """
        run = {"processes": self.accelerator.num_processes, "device": self.device.type}
        weights = self.model.state_dict(keep_vars=True).items()
        made_by = {
            "fit": asdict(self.settings) | run,
            "configuration": dict(configuration),
            "weights": {name: f"{w.dtype} {list(w.shape)}{' trained' * w.requires_grad}" for name, w in weights},
        }
        self.checkpoint, self.checkpoint_steps = resume.Checkpoint(folder, made_by), steps
        if self.accelerator.is_main_process:
            self.checkpoint.clean()
        if isinstance(folder, resume.Fresh):
            if self.accelerator.is_main_process:
                folder.begin()
        elif kept := self.checkpoint.read():
            self.load(*kept)

    def run(self, progress: str) -> History:
        """Train to the end from where it stands, with a progress bar on the main process."""
        if self.position.epoch == 0:
            self.end_epoch()
        done = (self.position.epoch - 1) * self.steps + self.position.batches
        total, hidden = self.settings.epochs * self.steps, not self.accelerator.is_main_process
        with tqdm(total=total, initial=done, desc=progress, leave=False, disable=hidden) as bar:
            while not self.position.finished:
                self.train_epoch(bar)
                row = self.end_epoch()
                bar.set_postfix(loss=f"{row['loss']:.4f}", validation=f"{row['validation']:.4f}")
        self.model.load_state_dict(self.best)
        self.model.eval()
        return History(self.position.rows, self.position.best_epoch)

    def train_epoch(self, bar: tqdm) -> None:
        """The batches of this epoch that are not done yet."""
        at, start = self.position, time.perf_counter() - self.position.seconds
        if at.batches == 0:
            at.learning_rate = self.schedule.get_last_lr()[0]
        self.mean_loss.train()
        batches = torch.randperm(self.settings.train, generator=self.order).split(self.settings.batch_size)
        for indices in batches[at.batches :]:
            at.loss += self.step(indices)
            at.batches += 1
            at.seconds = time.perf_counter() - start
            bar.update()
            if self.checkpoint_steps and at.batches % self.checkpoint_steps == 0:
                self.save()

    def step(self, indices: Tensor) -> float:
        """One step on one batch of all processes; returns its loss, summed over the examples."""
        processes = self.accelerator.num_processes
        share = indices.tensor_split(processes)[self.accelerator.process_index]
        # A process without a share must still take part: it computes one example, which weighs nothing.
        self.loss.indices = share if len(share) else indices[:1]
        self.optimiser.zero_grad(set_to_none=True)
        mean = self.mean_loss()
        self.accelerator.backward(mean * (len(share) * processes / len(indices)))
        norm = self.accelerator.clip_grad_norm_(self.parameters, MAX_GRADIENT_NORM).item()
        total = exchange(partial(reduce, reduction="sum"), mean.item() * len(share), self.accelerator)
        # Checked before the step, so that the weights at hand are still finite ones.
        if not (math.isfinite(total) and math.isfinite(norm)):
            rate = self.optimiser.param_groups[0]["lr"]
            raise FloatingPointError(
                f"training stopped in epoch {self.position.epoch} with loss {total / len(indices)} and gradient norm "
                f"{norm}: lower learning_rate (it was {rate:.2g}) or look for broken values in the training data."
            )
        self.optimiser.step()
        self.schedule.step()
        return total

    def end_epoch(self) -> dict[str, float | None]:
        """Validate, hold on to the weights if they are the best, write the checkpoint; returns the epoch's row."""
        at, settings, start = self.position, self.settings, time.perf_counter()
        value = validated(self.model, self.validate, at.epoch, self.accelerator)
        loss = at.loss / settings.train if at.epoch else None
        at.rows.append(row(at.epoch, loss, value, at.learning_rate, at.seconds + time.perf_counter() - start))
        if at.epoch == 0 or value > at.rows[at.best_epoch]["validation"]:
            at.best_epoch = at.epoch
            self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        out_of_patience = settings.patience and at.epoch - at.best_epoch >= settings.patience
        finished = at.epoch == settings.epochs or bool(out_of_patience)
        self.position = Position(at.epoch + 1, rows=at.rows, best_epoch=at.best_epoch, finished=finished)
        self.save()
        return at.rows[-1]

    def save(self) -> None:
        """Write the checkpoint, if one is kept; once the training is over, without what only training needs."""
        if self.checkpoint is None:
            return
        state = {"position": asdict(self.position), "schedule": self.schedule.state_dict()}
        state["random"] = gather_object([resume.random_state(self.device)])  # of every process
        if not self.accelerator.is_main_process:
            return
        tensors = {f"best/{name}": tensor for name, tensor in self.best.items()}
        if not self.position.finished:
            tensors |= {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
            for number, moments in self.optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser/{number}/{name}": tensor for name, tensor in moments.items()}
        self.checkpoint.write(tensors, state)

    def load(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Put everything to where `save` found it."""
        parts: dict[str, dict[str, Tensor]] = {"best": {}, "model": {}, "optimiser": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = tensor
        self.position, self.best = Position(**state["position"]), parts["best"]
        resume.set_random_state(state["random"][self.accelerator.process_index], self.device)
        if self.position.finished:
            return
        self.model.load_state_dict(parts["model"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimiser"].items():
            number, _, rest = name.partition("/")
            moments.setdefault(int(number), {})[rest] = tensor
        self.optimiser.load_state_dict({"state": moments, "param_groups": self.optimiser.state_dict()["param_groups"]})
        self.schedule.load_state_dict(state["schedule"])
        self.optimiser.param_groups[0]["lr"] = self.schedule.get_last_lr()[0]
        for _ in range(1, self.position.epoch):  # the order of the epochs before, so that this one's comes next
            torch.randperm(self.settings.train, generator=self.order)


@torch.no_grad()
def validated(model: nn.Module, validate: Callable[[nn.Module], float], epoch: int, accelerator: Accelerator) -> float:
    """The validation value of the main process, in all of them.

    Raises:
        FloatingPointError: it is NaN or infinite.
    """
    model.eval()
    value = float(validate(model)) if accelerator.is_main_process else 0.0
    value = exchange(broadcast, value, accelerator)
    if not math.isfinite(value):
        raise FloatingPointError(
            f"the validation value of epoch {epoch} is {value}: look for broken values in the validation data."
        )
    return value


def exchange(operation: Callable[[Tensor], Tensor], value: float, accelerator: Accelerator) -> float:
    """One number after accelerate's `reduce` or `broadcast` over the processes; alone, as it is."""
    if accelerator.num_processes == 1:
        return value
    return operation(torch.tensor(value, dtype=torch.float64, device=accelerator.device)).item()


def row(epoch: int, loss: float | None, validation: float, learning_rate: float | None, seconds: float) -> dict:
    """A row of `History.epochs`."""
    return dict(epoch=epoch, loss=loss, validation=validation, learning_rate=learning_rate, seconds=seconds)
