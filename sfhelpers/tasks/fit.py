"""The one training loop of the collection, on Hugging Face accelerate."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin
from torch import Tensor, nn

from sfhelpers.files import shown
from sfhelpers.tasks.resume import Fresh
from sfhelpers.tasks.training import History, Settings, Training, row, validated

__all__ = ["Fresh", "History", "checkpoints", "fit"]

LAUNCHES = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)


def fit(
    model: nn.Module,
    loss: Callable[[nn.Module, Tensor], Tensor],
    train: int,
    validate: Callable[[nn.Module], float],
    epochs: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    weight_decay: float = 1e-3,
    patience: int = 0,
    progress: str = "training",
    checkpoint: str | Path | None = None,
    configuration: Mapping[str, Any] | None = None,
    checkpoint_steps: int = 100,
    mixed_precision: str = "no",
) -> History:
    """Train a model's trainable parameters; leave it in eval mode with the weights of its best epoch by validation.

    AdamW with gradients clipped to norm 1 and a cosine rate that reaches zero exactly at the last step of the last
    epoch. The order of the examples comes from `seed` alone. Only training and validation examples are seen here.

    Stopped and started again: with `checkpoint`, whatever stopped it, the same call goes on from the file in that
    folder and ends with the numbers of a training that nothing stopped: the same bits wherever two such trainings give
    the same bits, as on one CPU with one number of threads. After its end the call returns them at once. The random
    generators of torch, NumPy and Python are kept with it; a generator of the caller's own that outlives one call of
    `loss` is not.

    Many processes: start the script by `torchrun --nproc_per_node N` or `accelerate launch --multi_gpu
    --num_processes N`, which both give CPU processes where the model is on the CPU (`accelerate launch --cpu` gives
    one). Each builds the same model and data and calls `fit`. Every batch of the one global order is cut into N
    shares. A process weighs the mean loss of its share by N times the share's part of the batch, and
    DistributedDataParallel takes the mean of the gradients over the processes: together the gradient of the mean over
    the batch, also where a batch does not divide by N. If the loss is a mean over single examples, the curve is that
    of one process up to rounding; a loss that compares the examples of a batch sees only its share. Validation runs on
    the main process and its value is sent to the others: computed by each it could differ in the last digit, and they
    would keep different epochs.

    Args:
        model: anything; parameters without `requires_grad` are left alone. It stays on its device.
        loss: (model, indices (b,) int64 on the CPU) -> scalar tensor, the mean loss of these training examples.
        train: number of training examples; `indices` run from 0 to train - 1, each once an epoch.
        validate: model -> float, higher is better; called before training and after every epoch, without gradients
            and in full precision.
        epochs: passes over the training examples; 0 only evaluates.
        learning_rate: of the first step.
        batch_size: examples a step, of all processes together; the last step of an epoch may have fewer.
        seed: of the order of the examples.
        weight_decay: AdamW's.
        patience: stop after so many epochs without a better validation value; 0 never stops early.
        progress: words in front of the progress bar.
        checkpoint: folder of the one file from which the training can go on, about four times the size of the weights;
            one training a folder. None keeps nothing.
        configuration: all that makes this training beside the arguments here (dataset, backbone and the sha256 of its
            weights, seeds), as JSON can hold it; a checkpoint that was made with another is refused.
        checkpoint_steps: write the checkpoint after so many steps of an epoch, beside after every epoch; 0 does not.
        mixed_precision: "no", or "bf16", on a GPU only.

    Returns:
        History of epoch 0 and every epoch run.

    Raises:
        ValueError: an argument out of range, no training examples, nothing to train, or a checkpoint that is broken or
            of another training, configuration or version of the code.
        FloatingPointError: loss, gradient or validation value became NaN or infinite.
        OSError: the checkpoint cannot be read, or cannot be written (then the earlier one is whole).
    """
    settings = Settings(train, epochs, learning_rate, batch_size, seed, weight_decay, patience, mixed_precision)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    _check(model, settings, checkpoint_steps, device)
    accelerator = _accelerator(device, mixed_precision)
    if epochs == 0:
        start = time.perf_counter()
        value = validated(model, validate, 0, accelerator)
        model.eval()
        return History([row(0, None, value, None, time.perf_counter() - start)], best_epoch=0)
    training = Training(model, loss, validate, settings, accelerator)
    if checkpoint is not None:
        training.keep(checkpoint, configuration or {}, checkpoint_steps)
    return training.run(progress)


def checkpoints(output_dir: Path, keep: bool) -> Path:
    """The folder of a notebook's checkpoints; its first training removes those of earlier runs unless they are kept.

    Args:
        keep: the notebook's `resume`.

    Raises:
        FileExistsError: one sentence, if a file has its name, or a link, through which nothing shall be removed.
    """
    folder = Path(output_dir) / "checkpoints"
    if (folder.exists() and not folder.is_dir()) or (folder.is_symlink() and not keep):
        raise FileExistsError(
            f"{shown(folder)} is a {'link' if folder.is_symlink() else 'file'}, not a folder to keep checkpoints in: "
            "move it away, or pass another -p output_dir."
        )
    return folder if keep else Fresh(folder)


def _accelerator(device: torch.device, mixed_precision: str) -> Accelerator:
    """accelerate's view of this process, for a model that is on `device`."""
    # accelerate holds one state a process, but the training before may have been on another device.
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=mixed_precision,
        # Said here, since a launcher's environment would be obeyed otherwise.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        # An arm may have parameters that a loss does not use; a plain loop leaves them alone, and so does this.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if accelerator.distributed_type not in LAUNCHES:
        raise ValueError(f"fit does not know {accelerator.distributed_type.value}: launch it with plain processes.")
    if accelerator.distributed_type == DistributedType.MULTI_GPU and accelerator.device != device:
        raise ValueError(
            f"the model is on {device} but this process trains on {accelerator.device}: "
            "put it on accelerate.PartialState().device."
        )
    return accelerator


def _check(model: nn.Module, settings: Settings, checkpoint_steps: int, device: torch.device) -> None:
    least = {"epochs": 0, "batch_size": 1, "patience": 0, "checkpoint_steps": 0}
    given = vars(settings) | {"checkpoint_steps": checkpoint_steps}
    for name, value in ((name, given[name]) for name in least):
        if not isinstance(value, int) or isinstance(value, bool) or value < least[name]:
            raise ValueError(f"{name} is {value!r}: give a whole number of {least[name]} or more.")
    if not (math.isfinite(settings.learning_rate) and settings.learning_rate > 0):
        raise ValueError(f"learning_rate is {settings.learning_rate}: give a number above 0, for example 1e-3.")
    if not (math.isfinite(settings.weight_decay) and settings.weight_decay >= 0):
        raise ValueError(f"weight_decay is {settings.weight_decay}: give a number of 0 or more.")
    if settings.mixed_precision not in ("no", "bf16"):
        raise ValueError(f'mixed_precision is {settings.mixed_precision!r}: use "no" or "bf16".')
    if settings.mixed_precision == "bf16" and device.type != "cuda":
        raise ValueError(f'mixed_precision is "bf16" but the model is on {device}: use "no", bf16 is for a GPU.')
    if settings.epochs and settings.train < 1:
        raise ValueError(
            "there is no training example: give a dataset with a train part, or epochs=0 to evaluate only."
        )
    if settings.epochs and not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("the model has no trainable parameter: nothing can be trained; use epochs=0 to evaluate only.")
