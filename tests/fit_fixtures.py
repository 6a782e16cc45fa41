"""A small training that tests start in processes of their own, kill, and start again; as a module, for a launcher."""

import json
import os
import random
import resource
import signal
import sys
from pathlib import Path
from unittest import mock

import accelerate
import numpy as np
import torch
import torch._dynamo  # AdamW would load it, and accelerate the next, in every process anew, after the fork
import torch.distributed.tensor
from torch import nn

from sfhelpers import kept
from sfhelpers.files import replace_file
from sfhelpers.tasks import fit

INPUTS = torch.randn(100, 16, generator=torch.Generator().manual_seed(5))
TARGETS = INPUTS[:, :3].sin().sum(1, keepdim=True)
SETTINGS = dict(train=90, epochs=33, learning_rate=0.01, batch_size=8, seed=0)  # 396 steps


def network(dropout=0.2, width=64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, width), nn.Dropout(dropout), nn.ReLU(), nn.Linear(width, 1))


def plain_loss(model, indices):
    return (model(INPUTS[indices]) - TARGETS[indices]).square().mean()


def noisy_loss(model, indices):
    """Draws from every generator that a checkpoint keeps: torch's in the dropout, NumPy's and Python's here."""
    noise = np.random.standard_normal() * random.random()
    return plain_loss(model, indices) * (1 + 0.1 * abs(noise))


def validate(model):
    return -plain_loss(model, torch.arange(90, 100)).item()


def run(folder=None, model=None, loss=noisy_loss, validate=validate, noise=1, steps=100, configuration=None, **changes):
    """Train with the generators seeded by `noise`; all that an interruption must not change, in what JSON can hold."""
    model = model or network()
    torch.manual_seed(noise)
    np.random.seed(noise)
    random.seed(noise)
    with mock.patch.object(fit, "CHECKPOINT_STEPS", steps):
        training = fit.Training(model, loss, validate=validate, **(SETTINGS | changes))
        history = training.fit("again", folder, configuration)
    return {
        "epochs": [{key: value for key, value in row.items() if key != "seconds"} for row in history.epochs],
        "best_epoch": history.best_epoch,
        "steps": history.steps,
        "ended": history.ended,
        "weights": [parameter.flatten().tolist() for parameter in model.parameters()],
        "next draws": [torch.rand(()).item(), np.random.rand(), random.random()],
    }


never = mock.Mock(side_effect=AssertionError("a step or a validation was begun"))


def stopping(after):
    """The noisy loss, until so many steps are begun; then as if Ctrl-C was pressed."""
    steps = iter(range(after))

    def stopped(model, indices):
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return noisy_loss(model, indices)

    return stopped


def train_in_child(folder, out, begun):
    """`run`, its result written to `out`; every step adds a byte to the file `begun`."""
    torch.set_num_threads(1)

    def counted(model, indices):
        with open(begun, "ab") as file:
            file.write(b".")
        return noisy_loss(model, indices)

    replace_file(out, json.dumps(run(folder, loss=counted, steps=3)).encode())  # the kill may come here too


def fail_at_the_seventh(folder, moment, out):
    """`run` whose process is killed at this moment of writing the seventh checkpoint, or whose disk is full then."""
    torch.set_num_threads(1)
    written, make = [], os.open

    def die(*names):
        os.kill(os.getpid(), signal.SIGKILL)

    def failing(path, content):
        written.append(path)
        if len(written) < 7:
            return replace_file(path, content)
        half = len(content) // 2
        if moment == "half written":
            os.open = lambda *how: die(os.write(make(*how), content[:half]))
        if moment == "not yet renamed":
            os.replace = die
        if moment == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (half, resource.RLIM_INFINITY))
        replace_file(path, content)
        die()

    kept.replace_file = failing
    try:
        run(folder, steps=5)
    except OSError as error:
        out.write_text(str(error))


SHARED = dict(train=36, epochs=4, batch_size=7)  # shares of 4 and 3, and, in the last batch, of 1 and none


def in_two_processes(out: Path) -> None:
    """What each process of a launch finds, as `out`/<process>.json."""
    process = accelerate.PartialState(cpu=True).process_index
    counted = mock.Mock(wraps=validate)
    found = {"processes": accelerate.PartialState().num_processes, "curve": run_with_unused(counted)}
    found |= {"validations": counted.call_count, "alone": run(out / "alone", noise=process, **SHARED)}
    try:
        run(out / "stopped", loss=stopping(after=9), steps=2, noise=process, **SHARED)
    except KeyboardInterrupt:
        found["resumed"] = run(out / "stopped", steps=2, **SHARED)
    try:
        run(model=network(), loss=lambda model, indices: plain_loss(model, indices) / (process == 0), **SHARED)
    except FloatingPointError as error:
        found["broken on one"] = str(error)
    (out / f"{process}.json").write_text(json.dumps(found))


def run_with_unused(validate=validate, **changes):
    """A network beside a layer that the loss never calls."""
    return run(
        model=nn.ModuleList([network(dropout=0), nn.Linear(2, 2)]),
        loss=lambda model, indices: plain_loss(model[0], indices),
        validate=lambda model: validate(model[0]),
        **(SHARED | changes),
    )


if __name__ == "__main__":
    in_two_processes(Path(sys.argv[1]))
    torch.distributed.destroy_process_group()  # its threads may abort a process that ends before them
