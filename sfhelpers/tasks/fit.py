"""The one training loop of the collection, on Hugging Face accelerate; a training that was stopped can go on."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin, broadcast, gather_object
from torch import Tensor, nn
from tqdm.auto import tqdm

from sfhelpers.kept import Checkpoint, random_state, set_random_state

MAX_GRADIENT_NORM, WEIGHT_DECAY = 1.0, 1e-3
PLATEAUS, FALL = 2, 0.1  # the training ends with so many plateaus of the validation; by this the rate falls at each
PATIENCE, LEAST_STEPS = 5, 500  # epochs without a rise that make a plateau; no plateau ends it before these steps
CHECKPOINT_STEPS = 100  # the checkpoint is written after so many steps of an epoch, beside after every epoch
LAUNCHES = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)


@dataclass
class History:
    """What happened in a training; epoch 0 is the model before it, without a loss and a learning rate."""

    epochs: list[dict[str, float | None]]  # epoch, loss (mean), validation, learning_rate, seconds
    best_epoch: int  # whose weights the model now holds; 0 if training never beat the start
    steps: int = 0  # of the optimiser
    ended: str = ""  # "plateau": the validation no longer rose; "cap": it might have; "" without a training
    learning_rate: float = 0.0  # of the first step, 0 without a training

    @property
    def best(self) -> float:  # the best epoch's validation
        return self.epochs[self.best_epoch]["validation"]


@dataclass
class Position:
    """How far a training has come, in what JSON can hold."""

    epoch: int = 0  # that is being trained; 0 is the validation before training
    batches: int = 0  # done in this epoch
    loss: float = 0.0  # summed over the examples of these batches
    learning_rate: float | None = None  # of this epoch
    seconds: float = 0.0  # spent in this epoch
    rows: list[dict[str, float | None]] = field(default_factory=list)  # `History.epochs` of the epochs before
    best_epoch: int = 0  # of these


@dataclass
class Training:
    """One training of what a model can learn; `fit` runs it.

    AdamW with gradients clipped to norm 1; at each plateau of the validation the rate falls by FALL, and with PLATEAUS
    of them the training ends. From a checkpoint it goes on to the bits of a training that nothing stopped, on one CPU
    with one number of threads; a generator of the caller's own that outlives one call of `loss` is not kept.

    Many processes (`torchrun --nproc_per_node N`, or `accelerate launch --multi_gpu --num_processes N`, on CPUs too)
    learn from their share of every batch, with the curve of one up to rounding if the loss is a mean over single
    examples. It must use the same parameters in every batch. ValueError: an argument out of range, nothing to train.
    """

    model: nn.Module
    loss: Callable[[nn.Module, Tensor], Tensor]  # (model, indices (b,) int64 on the CPU) -> their mean loss
    train: int  # number of training examples, whose indices come each once an epoch
    validate: Callable[[nn.Module], float]  # higher is better; without gradients, before training and after every epoch
    epochs: int  # at most; 0 only evaluates
    learning_rate: float  # of the first step
    batch_size: int  # examples a step, of all processes together; the last step of an epoch may have fewer
    seed: int  # of the order of the examples, which comes from nothing else

    def __post_init__(self):
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        for name, least in {"epochs": 0, "batch_size": 1}.items():
            if type(value := getattr(self, name)) is not int or value < least:
                raise ValueError(f"{name} is {value!r}: give a whole number of {least} or more.")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate is {self.learning_rate}: give a number above 0, for example 1e-3.")
        if self.epochs and self.train < 1:
            raise ValueError("there is no training example: give a dataset with a train part, or epochs=0 to evaluate.")
        if self.epochs and not self.parameters:
            raise ValueError("the model has no trainable parameter: train one that has, or use epochs=0 to evaluate.")
        self.device = next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))
        self.accelerator = _accelerator(self.device)
        self.steps = math.ceil(self.train / self.batch_size)  # an epoch
        self.order = torch.Generator().manual_seed(self.seed)
        self.position, self.best, self.checkpoint, self.plateaus = Position(), {}, None, 0
        if self.epochs:
            broadcast(list(self.model.state_dict().values()))  # every process sets out from the main one's weights
            self.optimiser = torch.optim.AdamW(self.groups(), lr=self.learning_rate, weight_decay=WEIGHT_DECAY)
            plain = {"threshold": 0.0, "threshold_mode": "abs", "eps": 0.0}  # any rise counts, and so does any rate
            about = {"mode": "max", "factor": FALL, "patience": PATIENCE - 1, **plain}  # torch counts one more
            self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimiser, **about)

    def fit(self, progress: str = "training", checkpoint: Path | None = None, configuration: Any = None) -> History:
        """Train to the end and leave the model in eval mode with the weights of its best epoch by validation.

        `checkpoint` is the folder of the file to go on from, `configuration` all else that makes this training, for
        JSON. ValueError: the file is broken or another training's; OSError; FloatingPointError: a value became NaN.
        """
        if checkpoint is not None and self.epochs:
            self.keep(checkpoint, configuration or {})
        if self.position.epoch == 0:
            self.end_epoch()
        done = (self.position.epoch - 1) * self.steps + self.position.batches
        about = {"total": self.epochs * self.steps, "initial": done, "desc": progress, "leave": False}
        with tqdm(**about, disable=not self.accelerator.is_main_process) as bar:
            while self.going:
                self.train_epoch(bar)
                row = self.end_epoch()
                bar.set_postfix(loss=f"{row['loss']:.4f}", validation=f"{row['validation']:.4f}")
        self.model.load_state_dict(self.best)
        self.model.eval()
        rows, best = self.position.rows, self.position.best_epoch
        if not self.epochs:
            return History(rows, best)
        ended = "plateau" if self.settled else "cap"
        return History(rows, best, (len(rows) - 1) * self.steps, ended, self.learning_rate)

    def groups(self) -> list[dict[str, Any]]:
        """Parameters by rate: a model's `rates` is how a parameter's name starts -> times the learning rate."""
        faster, found = getattr(self.model, "rates", {}), {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                times = next((times for start, times in faster.items() if name.startswith(start)), 1)
                found.setdefault(times, []).append(parameter)
        return [{"params": some, "lr": self.learning_rate * times} for times, some in sorted(found.items())]

    @property
    def settled(self) -> bool:
        return self.plateaus >= PLATEAUS and (len(self.position.rows) - 1) * self.steps >= LEAST_STEPS

    @property
    def going(self) -> bool:
        return self.position.epoch <= self.epochs and not self.settled

    def train_epoch(self, bar: tqdm) -> None:
        at, start = self.position, time.perf_counter() - self.position.seconds
        if at.batches == 0:
            at.learning_rate = self.optimiser.param_groups[0]["lr"]
        self.model.train()
        for indices in torch.randperm(self.train, generator=self.order).split(self.batch_size)[at.batches :]:
            at.loss += self.step(indices)
            at.batches += 1
            at.seconds = time.perf_counter() - start
            bar.update()
            if at.batches % CHECKPOINT_STEPS == 0:
                self.save()

    def step(self, indices: Tensor) -> float:
        """One step on one batch of all processes; returns its loss, summed over the examples."""
        processes = self.accelerator.num_processes
        share = indices.tensor_split(processes)[self.accelerator.process_index]
        self.optimiser.zero_grad(set_to_none=True)
        # A process without a share must still take part: it computes one example, which weighs nothing.
        mean = self.loss(self.model, share if len(share) else indices[:1])
        self.accelerator.backward(mean * (len(share) / len(indices)))
        for parameter in self.parameters:
            if processes > 1 and parameter.grad is not None:  # one that the loss does not use is left alone
                parameter.grad = self.accelerator.reduce(parameter.grad, "sum")
        norm = self.accelerator.clip_grad_norm_(self.parameters, MAX_GRADIENT_NORM).item()
        total = sum(gather_object([mean.item() * len(share)]))
        # Checked before the step, so that the weights at hand are still finite ones.
        if not (math.isfinite(total) and math.isfinite(norm)):
            where = f"in epoch {self.position.epoch} (loss {total / len(indices)}, gradient norm {norm})"
            remedy = f"lower learning_rate (it was {self.position.learning_rate:.2g})"
            raise FloatingPointError(f"training stopped {where}: {remedy} or look for broken values in the data.")
        self.optimiser.step()
        return total

    def end_epoch(self) -> dict[str, float | None]:
        """Validate, hold on to the weights if they are the best, write the checkpoint; returns the epoch's row."""
        at, start = self.position, time.perf_counter()
        self.model.eval()
        with torch.no_grad():
            value = float(self.validate(self.model)) if self.accelerator.is_main_process else 0.0
        value = gather_object([value])[0]  # the main process's: of each its own, they might keep different epochs
        if not math.isfinite(value):
            raise FloatingPointError(f"the validation value of epoch {at.epoch} is {value}: look for broken values.")
        row = {"epoch": at.epoch, "loss": at.loss / self.train if at.epoch else None, "validation": value}
        row |= {"learning_rate": at.learning_rate, "seconds": at.seconds + time.perf_counter() - start}
        at.rows.append(row)
        if at.epoch == 0 or value > at.rows[at.best_epoch]["validation"]:
            at.best_epoch = at.epoch
            self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self.position = Position(at.epoch + 1, rows=at.rows, best_epoch=at.best_epoch)
        self.judge(value)
        self.save()
        return row

    def judge(self, value: float) -> None:
        """Lower the rate if the validation has not risen for long enough."""
        if self.epochs:
            before = self.optimiser.param_groups[0]["lr"]
            self.schedule.step(value)
            self.plateaus += self.optimiser.param_groups[0]["lr"] != before

    def keep(self, folder: Path, configuration: Mapping[str, Any]) -> None:
        """Keep the training in this folder, and go on from where `save` left it there."""
        fit = {name: getattr(self, name) for name in ("train", "epochs", "learning_rate", "batch_size", "seed")}
        fit |= {"processes": self.accelerator.num_processes, "device": self.device.type, "weight_decay": WEIGHT_DECAY}
        named = self.model.state_dict(keep_vars=True).items()
        weights = {name: f"{w.dtype} {list(w.shape)}{' trained' * w.requires_grad}" for name, w in named}
        self.checkpoint = Checkpoint(folder, {"fit": fit, "configuration": dict(configuration), "weights": weights})
        if not (kept := self.checkpoint.read()):
            return
        tensors, state = kept

        def part(start: str) -> dict[str, Tensor]:
            return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}

        self.position, self.best = Position(**state["position"]), part("best/")
        set_random_state(state["random"][self.accelerator.process_index], self.device)
        for row in self.position.rows:
            self.judge(row["validation"])
        if self.going:
            self.model.load_state_dict(part("model/"))
            moments = {number: part(f"optimiser/{number}/") for number in range(len(self.parameters))}
            self.optimiser.load_state_dict({"state": moments, "param_groups": state["groups"]})
            for _ in range(1, self.position.epoch):  # the order of the epochs before, so that this one's comes next
                torch.randperm(self.train, generator=self.order)

    def save(self) -> None:
        """Write the checkpoint, if one is kept; once the training is over, without what only training needs."""
        if self.checkpoint is None:
            return
        optimiser = self.optimiser.state_dict()
        state = {"position": asdict(self.position), "groups": optimiser["param_groups"]}
        state |= {"random": gather_object([random_state(self.device)])}
        if not self.accelerator.is_main_process:
            return
        tensors = {f"best/{name}": tensor for name, tensor in self.best.items()}
        if self.going:
            tensors |= {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
            for number, moments in optimiser["state"].items():
                tensors |= {f"optimiser/{number}/{name}": tensor for name, tensor in moments.items()}
        self.checkpoint.write(tensors, state)


def _accelerator(device: torch.device) -> Accelerator:
    # accelerate holds one state a process, but the training before may have been on another device.
    AcceleratorState._reset_state(reset_partial_state=True)
    # Precision and accumulation are said here, since a launcher's environment would be obeyed otherwise.
    every = GradientAccumulationPlugin(num_steps=1)
    made = Accelerator(cpu=device.type == "cpu", mixed_precision="no", gradient_accumulation_plugin=every)
    kind = made.distributed_type
    if kind not in LAUNCHES or (kind == DistributedType.MULTI_GPU and made.device != device):
        said = f"fit cannot train a model on {device} by {kind.value} on {made.device}"
        raise ValueError(f"{said}: launch plain processes, with the model on accelerate.PartialState().device.")
    return made
