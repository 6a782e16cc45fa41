"""The one training loop of the collection."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

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
) -> History:
    """Train a model's trainable parameters; leave it in eval mode with the weights of its best epoch by validation.

    AdamW with gradients clipped to norm 1 and a cosine rate that reaches zero exactly at the last step of the last
    epoch. The order of the examples comes from `seed` alone. Only training and validation examples are seen here.

    Args:
        model: anything; parameters without `requires_grad` are left alone.
        loss: (model, indices (b,) int64) -> scalar tensor, the mean loss of these training examples.
        train: number of training examples; `indices` run from 0 to train - 1, each once an epoch.
        validate: model -> float, higher is better; called before training and after every epoch, without gradients.
        epochs: passes over the training examples; 0 only evaluates.
        learning_rate: of the first step.
        batch_size: examples a step; the last step of an epoch may have fewer.
        seed: of the order of the examples.
        weight_decay: AdamW's.
        patience: stop after so many epochs without a better validation value; 0 never stops early.
        progress: words in front of the progress bar.

    Returns:
        History of epoch 0 and every epoch run.

    Raises:
        ValueError: an argument out of range, no training examples, or nothing to train.
        FloatingPointError: loss, gradient or validation value became NaN or infinite.
    """
    _check(model, train, epochs, learning_rate, batch_size, weight_decay, patience)
    start = time.perf_counter()
    value = _validate(model, validate, epoch=0)
    rows = [_row(0, None, value, None, start)]
    best_epoch, best_value, best_state = 0, value, _copy_state(model)
    if epochs == 0:
        model.eval()
        return History(rows, best_epoch)

    optimiser = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=learning_rate, weight_decay=weight_decay
    )
    steps = epochs * math.ceil(train / batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps)
    order = torch.Generator().manual_seed(seed)
    with tqdm(total=steps, desc=progress, leave=False) as bar:
        for epoch in range(1, epochs + 1):
            start, rate = time.perf_counter(), schedule.get_last_lr()[0]
            batches = torch.randperm(train, generator=order).split(batch_size)
            mean_loss = _train_epoch(model, loss, batches, optimiser, schedule, epoch, bar)
            value = _validate(model, validate, epoch)
            rows.append(_row(epoch, mean_loss, value, rate, start))
            bar.set_postfix(loss=f"{mean_loss:.4f}", validation=f"{value:.4f}")
            if value > best_value:
                best_epoch, best_value, best_state = epoch, value, _copy_state(model)
            if patience and epoch - best_epoch >= patience:
                break
    model.load_state_dict(best_state)
    model.eval()
    return History(rows, best_epoch)


def _train_epoch(model, loss, batches, optimiser, schedule, epoch: int, bar: tqdm) -> float:
    """One pass over the batches of indices; the mean loss over examples."""
    model.train()
    total = 0.0
    parameters = optimiser.param_groups[0]["params"]
    for indices in batches:
        optimiser.zero_grad(set_to_none=True)
        batch_loss = loss(model, indices)
        batch_loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
        # Checked before the step, so that the weights at hand are still finite ones.
        if not (torch.isfinite(batch_loss) and torch.isfinite(norm)):
            rate = optimiser.param_groups[0]["lr"]
            raise FloatingPointError(
                f"training stopped in epoch {epoch} with loss {batch_loss.item()} and gradient norm {norm.item()}: "
                f"lower learning_rate (it was {rate:.2g}) or look for broken values in the training data."
            )
        optimiser.step()
        schedule.step()
        total += batch_loss.item() * len(indices)
        bar.update()
    return total / sum(len(indices) for indices in batches)


@torch.no_grad()
def _validate(model: nn.Module, validate: Callable[[nn.Module], float], epoch: int) -> float:
    model.eval()
    value = float(validate(model))
    if not math.isfinite(value):
        raise FloatingPointError(
            f"the validation value of epoch {epoch} is {value}: look for broken values in the validation data."
        )
    return value


def _row(epoch: int, loss: float | None, validation: float, learning_rate: float | None, start: float) -> dict:
    seconds = time.perf_counter() - start
    return dict(epoch=epoch, loss=loss, validation=validation, learning_rate=learning_rate, seconds=seconds)


def _copy_state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _check(model, train, epochs, learning_rate, batch_size, weight_decay, patience) -> None:
    for name, value, least in (("epochs", epochs, 0), ("batch_size", batch_size, 1), ("patience", patience, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} is {value!r}: give a whole number of {least} or more.")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate is {learning_rate}: give a number above 0, for example 1e-3.")
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise ValueError(f"weight_decay is {weight_decay}: give a number of 0 or more.")
    if epochs and train < 1:
        raise ValueError(
            "there is no training example: give a dataset with a train part, or epochs=0 to evaluate only."
        )
    if epochs and not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("the model has no trainable parameter: nothing can be trained; use epochs=0 to evaluate only.")
