"""The training loop: a plain loop's steps, the best epoch's weights, and what is refused."""

import math

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from sfhelpers.tasks.fit import fit
from tests.backbone_fixtures import refused
from tests.fit_fixtures import never, scripted

INPUTS = torch.randn(50, 4, generator=torch.Generator().manual_seed(5))
TARGETS = INPUTS @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]])


def line():
    torch.manual_seed(0)
    return nn.Linear(4, 1)


def loss(model, indices):
    return (model(INPUTS[indices]) - TARGETS[indices]).square().mean()


def validate(model):
    return -loss(model, torch.arange(40, 50)).item()


def run(model, loss=loss, validate=validate, **changes):
    settings = dict(train=40, epochs=6, learning_rate=0.1, batch_size=16, seed=0) | changes
    return fit(model, loss, validate=validate, **settings)


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_training_lowers_the_loss_and_raises_the_validation_value():
    history = run(line(), epochs=12)
    assert history.epochs[-1]["loss"] < history.epochs[1]["loss"] / 2
    assert history.epochs[history.best_epoch]["validation"] > history.epochs[0]["validation"] / 2
    assert [row["epoch"] for row in history.epochs] == list(range(13))
    assert history.epochs[0]["loss"] is None and history.epochs[0]["learning_rate"] is None


def test_every_example_is_seen_once_an_epoch_in_an_order_that_comes_from_the_seed_alone():
    def orders(seed, noise):
        seen = []

        def watched(model, indices):
            torch.rand(noise)  # what a loss draws from the global generator must not move the order
            seen.append(indices)
            return loss(model, indices)

        run(line(), loss=watched, epochs=2, seed=seed)
        return torch.cat(seen)

    first = orders(seed=3, noise=1)
    assert sorted(first[:40].tolist()) == sorted(first[40:].tolist()) == list(range(40))
    assert first[:40].tolist() != first[40:].tolist()
    assert torch.equal(first, orders(seed=3, noise=7)) and not torch.equal(first, orders(seed=4, noise=1))


@pytest.mark.parametrize(
    ("values", "patience", "best", "rows"),
    [([0, 1, 5, 2, 3], 0, 2, 5), ([1, 0.5, 0.2, 0, 1], 0, 0, 5), ([0, 1, 0.5, 0.5], 2, 1, 4)],
)
def test_the_best_epoch_is_given_back_not_the_last_nor_all_epochs_run_if_patience_ends(values, patience, best, rows):
    model, states, following = line(), [], scripted(values)

    def watched(model):
        states.append(weights(model))
        return following(model)

    history = run(model, validate=watched, epochs=4, patience=patience)
    assert (history.best_epoch, len(history.epochs)) == (best, rows)
    assert torch.equal(weights(model), states[best]) and not torch.equal(states[best], states[-1])


def test_no_epochs_evaluate_only_and_frozen_parameters_stay():
    model = line().requires_grad_(False)
    before = weights(model)
    (row,) = run(model, epochs=0, train=0).epochs
    assert torch.equal(weights(model), before) and (row["epoch"], row["validation"]) == (0, validate(model))
    model.weight.requires_grad_(True)
    run(model)
    assert torch.equal(weights(model)[-1], before[-1]) and not torch.equal(weights(model), before)


def test_mode_is_train_in_the_loss_and_eval_without_gradients_in_validation():
    modes, model = [], line()

    def watched_loss(model, indices):
        modes.append(("train", model.training, torch.is_grad_enabled()))
        return loss(model, indices)

    def watched_validation(model):
        modes.append(("validate", model.training, torch.is_grad_enabled()))
        model.train()  # even a careless validation must not decide the next epoch's mode, nor the last one's
        return validate(model)

    run(model, loss=watched_loss, validate=watched_validation, epochs=2, batch_size=40)
    assert modes == [("validate", False, False), ("train", True, True)] * 2 + [("validate", False, False)]
    assert not model.training


def test_one_process_on_the_cpu_takes_the_steps_of_a_plain_loop_bit_by_bit():
    def noisy(model, indices):
        return loss(model, indices) * (1 + torch.rand(()))

    model, plain, norms = line(), line(), []
    torch.manual_seed(3)
    history = run(model, loss=noisy, validate=scripted(range(7)))  # each epoch better than before

    torch.manual_seed(3)
    optimiser = torch.optim.AdamW(plain.parameters(), lr=0.1, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=6 * 3)
    order = torch.Generator().manual_seed(0)
    for row in history.epochs[1:]:
        total = 0.0
        assert row["learning_rate"] == schedule.get_last_lr()[0]
        assert row["learning_rate"] == pytest.approx(0.1 * (1 + math.cos(math.pi * (row["epoch"] - 1) / 6)) / 2)
        for indices in torch.randperm(40, generator=order).split(16):
            optimiser.zero_grad()
            mean = noisy(plain, indices)
            mean.backward()
            norms.append(nn.utils.clip_grad_norm_(plain.parameters(), 1.0))
            optimiser.step()
            schedule.step()
            total += mean.item() * len(indices)
        assert row["loss"] == total / 40
    assert max(norms) > 3 and schedule.get_last_lr() == [pytest.approx(0)]
    assert torch.equal(weights(model), weights(plain))


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_broken_loss_or_validation_stops_in_one_sentence_and_leaves_finite_weights(broken):
    model = line()
    with refused("epoch 1.*learning_rate", FloatingPointError):
        run(model, loss=lambda model, indices: loss(model, indices) * broken)
    assert torch.isfinite(weights(model)).all()
    with refused("validation value of epoch 0", FloatingPointError):
        run(line(), validate=scripted([broken]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": -1}, "epochs is -1: give a whole number of 0 or more"),
        ({"epochs": 1.5}, "epochs"),
        ({"batch_size": 0}, "batch_size is 0: give a whole number of 1 or more"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"patience": -1}, "patience"),
        ({"train": 0}, "no training example"),
        ({"model": line().requires_grad_(False)}, "no trainable parameter"),
    ],
)
def test_values_out_of_range_are_refused_before_anything_runs(changes, message):
    with refused(message):
        run(**({"model": line(), "validate": never} | changes))


def test_what_a_launcher_or_another_use_of_accelerate_has_set_changes_no_number(monkeypatch):
    model, plain = line(), line()
    run(plain)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    AcceleratorState._reset_state(reset_partial_state=True)
    assert Accelerator(cpu=True).mixed_precision == "bf16"
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    run(model)
    assert torch.equal(weights(model), weights(plain))
