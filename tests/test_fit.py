"""The training loop: a plain loop's steps, its end, the best epoch's weights, what is refused, two processes as one."""

import json
import math
import subprocess
import sys
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from unittest import mock
from unittest.mock import Mock

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from sfhelpers.tasks import fit
from tests.backbone_fixtures import refused
from tests.fit_fixtures import SHARED, network, never, plain_loss, run, run_with_unused, validate

fitted = partial(run, loss=plain_loss, train=40, epochs=6, batch_size=16)
line = partial(network, dropout=0)


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize(("values", "best"), [([0, 1, 5, 2, 3], 2), ([1, 0.5, 0.2, 0, 1], 0), ([0, 1, 0.5, 1, 0], 1)])
def test_the_best_epoch_is_given_back_not_the_last(values, best):
    model, states, following = line(), [], iter(values)
    found = fitted(model=model, validate=lambda m: states.append(weights(m)) or next(following), epochs=4)
    assert (found["best_epoch"], len(found["epochs"])) == (best, 5)
    assert torch.equal(weights(model), states[best]) and not torch.equal(states[best], states[-1])


def test_no_epochs_evaluate_only_and_frozen_parameters_stay():
    model = line().requires_grad_(False)
    before = weights(model)
    (row,) = fitted(model=model, epochs=0, train=0)["epochs"]
    assert row == {"epoch": 0, "loss": None, "validation": validate(model), "learning_rate": None}
    assert torch.equal(weights(model), before)
    model[0].requires_grad_(True)
    fitted(model=model, validate=Mock(side_effect=range(7)))
    assert torch.equal(weights(model[3]), before[-65:]) and not torch.equal(weights(model), before)


def test_mode_is_train_in_the_loss_and_eval_without_gradients_in_validation():
    modes, model = [], line()

    def watched(model, indices):
        modes.append(("train", model.training, torch.is_grad_enabled()))
        return plain_loss(model, indices)

    def watched_validation(model):
        modes.append(("validate", model.training, torch.is_grad_enabled()))
        model.train()  # even a careless validation must not decide the next epoch's mode, nor the last one's
        return validate(model)

    fitted(model=model, loss=watched, validate=watched_validation, epochs=2, batch_size=40)
    assert modes == [("validate", False, False), ("train", True, True)] * 2 + [("validate", False, False)]
    assert not model.training


def test_one_process_on_the_cpu_takes_the_steps_of_a_plain_loop_bit_by_bit():
    def noisy(model, indices):
        return plain_loss(model, indices) * (1 + torch.rand(()))

    model, plain, norms = line(), line(), []
    rising = Mock(side_effect=range(7))  # so that the last epoch is the best
    rows = fitted(model=model, loss=noisy, validate=rising, noise=3, seed=5)["epochs"]
    torch.manual_seed(3)
    optimiser = torch.optim.AdamW(plain.parameters(), lr=0.01, weight_decay=1e-3)
    order = torch.Generator().manual_seed(5)  # what a loss draws from the global generator does not move it
    for row in rows[1:]:
        total = 0.0
        assert row["learning_rate"] == 0.01
        for indices in torch.randperm(40, generator=order).split(16):
            optimiser.zero_grad()
            mean = noisy(plain, indices)
            mean.backward()
            norms.append(nn.utils.clip_grad_norm_(plain.parameters(), 1.0))
            optimiser.step()
            total += mean.item() * len(indices)
        assert row["loss"] == total / 40
    assert max(norms) > 2
    assert torch.equal(weights(model), weights(plain))


def plateaued(values, epochs=99, least=0, **changes):
    """Of a training whose validation gives these values, then the last of them for ever; three epochs are a plateau."""
    following = chain(values, repeat(values[-1]))
    with mock.patch.multiple(fit, PATIENCE=3, LEAST_STEPS=least):
        return fitted(validate=lambda model: next(following), epochs=epochs, **changes)


def test_at_each_plateau_the_rate_falls_and_the_second_ends_the_training():
    found = plateaued([0, 1, 1, 0.5, 2, 2.001])  # any rise counts: it is not three epochs from the first 1 to the 2
    rates = [row["learning_rate"] for row in found["epochs"][1:]]
    assert rates == pytest.approx([0.01] * 8 + [0.001] * 3) and found["ended"] == "plateau"
    assert (found["best_epoch"], found["steps"]) == (5, 11 * 3)
    later = plateaued([0] * 4 + [1])  # at the lower rate it rises again
    assert [row["learning_rate"] for row in later["epochs"][1:5]] == pytest.approx([0.01] * 3 + [0.001])
    assert (later["best_epoch"], len(later["epochs"]) - 1, later["ended"]) == (4, 4 + 3, "plateau")
    assert plateaued([0] * 9, learning_rate=1e-9)["steps"] == 6 * 3, "however small the rate"


@pytest.mark.parametrize(("epochs", "ended"), [(5, "cap"), (6, "plateau"), (0, "")])
def test_the_last_epoch_that_may_be_ends_it_too_and_says_so(epochs, ended):
    found = plateaued([0], epochs)
    assert (found["ended"], found["steps"], len(found["epochs"])) == (ended, 3 * epochs, 1 + epochs)


def test_plateaus_do_not_end_it_before_so_many_steps():
    found = plateaued([0], least=28)
    assert (found["steps"], found["ended"]) == (10 * 3, "plateau"), "10 epochs of 3 steps are the first of 28 steps"
    assert found["epochs"][-1]["learning_rate"] == pytest.approx(1e-5), "meanwhile the rate falls on"


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_broken_loss_or_validation_stops_in_one_sentence_and_leaves_finite_weights(broken):
    model = line()
    with refused("epoch 1.*learning_rate", FloatingPointError):
        fitted(model=model, loss=lambda model, indices: plain_loss(model, indices) * broken)
    assert torch.isfinite(weights(model)).all()
    with refused("validation value of epoch 0", FloatingPointError):
        fitted(validate=Mock(side_effect=[broken]))


def test_values_out_of_range_are_refused_before_anything_runs():
    for message, changes in {
        "epochs is -1: give a whole number of 0 or more": {"epochs": -1},
        "batch_size is 1.5: give a whole number of 1 or more": {"batch_size": 1.5},
        "learning_rate is nan": {"learning_rate": math.nan},
        "learning_rate is 0.0": {"learning_rate": 0.0},
        "no training example": {"train": 0},
        "no trainable parameter": {"model": line().requires_grad_(False)},
    }.items():
        with refused(message):
            fitted(validate=never, **changes)


def test_what_a_launcher_or_another_use_of_accelerate_has_set_changes_no_number(monkeypatch):
    plain = fitted()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    AcceleratorState._reset_state(reset_partial_state=True)
    assert Accelerator(cpu=True).mixed_precision == "bf16"
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert fitted() == plain


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of two CPU processes found, and the folder."""
    out = tmp_path_factory.mktemp("processes")
    plain = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", *plain]
    command += ["-m", "tests.fit_fixtures", str(out)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads((out / f"{process}.json").read_text()) for process in (0, 1)], out


def numbers(result):
    """Losses, validation values and weights of a result of `run`, one after the other."""
    curve = [value for row in result["epochs"] for value in (row["loss"] or 0, row["validation"])]
    return curve + [weight for part in result["weights"] for weight in part]


def test_two_processes_give_the_loss_curve_of_one_and_both_its_numbers_though_only_the_main_one_validates(found):
    alone, start = run_with_unused(), run_with_unused(epochs=0)
    first, second = found[0]
    assert first["processes"] == second["processes"] == 2
    assert numbers(first["curve"]) == pytest.approx(numbers(alone), rel=0, abs=1e-4)
    assert first["curve"] | {"next draws": 0} == second["curve"] | {"next draws": 0}
    assert (first["validations"], second["validations"]) == (SHARED["epochs"] + 1, 0)
    kept, moved = slice(-2, None), slice(-2)  # what the loss does not use is left alone, by many processes too
    assert first["curve"]["weights"][kept] == start["weights"][kept] == alone["weights"][kept]
    assert alone["weights"][moved] != start["weights"][moved]


def test_two_processes_stop_with_one_sentence_and_go_on_to_the_same_bits_as_one_process_does_not_from_theirs(found):
    first, second = (process["broken on one"] for process in found[0])
    assert first == second and "epoch 1" in first and "learning_rate" in first
    assert all(process["resumed"] == process["alone"] for process in found[0])
    draws = [process["alone"]["next draws"] for process in found[0]]
    assert draws[0] != draws[1]  # each had a random generator of its own
    with refused("fit processes was 2 and is 1"):
        run(found[1] / "alone", **SHARED)
