"""A training that was stopped, killed or short of disk goes on to the same numbers; what is not its own is refused."""

import json
import multiprocessing
import os
import random
import signal
from functools import partial
from unittest.mock import Mock

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from sfhelpers import kept
from tests import fit_fixtures as fixtures
from tests.backbone_fixtures import refused
from tests.fit_fixtures import network, never, run, stopping

CONFIGURATION = {"dataset": "toy", "weights_sha256": "a" * 64, "seeds": (0, 1), "arm": {"inject": "up", "width": 8}}
short = partial(run, train=40, epochs=4, steps=2, configuration=CONFIGURATION)  # 5 steps an epoch


@pytest.fixture(scope="module")
def child():
    """Starts a process from one which has loaded everything and computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.fit_fixtures"])

    def start(target, *args):
        process = context.Process(target=target, args=args)
        process.start()
        return process

    return start


@pytest.fixture
def stopped(tmp_path):
    """The folder of a training that was stopped half-way, after seven steps."""
    with pytest.raises(KeyboardInterrupt):
        short(tmp_path, loss=stopping(7))
    return tmp_path


def test_killed_at_ten_random_moments_it_ends_with_the_numbers_of_the_run_that_was_left_alone(child, tmp_path):
    child(fixtures.train_in_child, None, tmp_path / "alone.json", tmp_path / "begun").join()
    alone = json.loads((tmp_path / "alone.json").read_text())
    moments, kills, starts, endings = random.Random(0), 0, 0, 0
    while kills < 10 or not (tmp_path / f"{endings}.json").exists():
        folder, out, begun = tmp_path / f"run{endings}", tmp_path / f"{endings}.json", tmp_path / f"begun{starts}"
        process = child(fixtures.train_in_child, folder, out, begun)
        starts += 1
        wait, more = moments.randrange(12), moments.random() / 100
        while process.is_alive() and (kills >= 10 or (begun.stat().st_size if begun.exists() else 0) < wait):
            process.join(0.001)
        process.join(more)
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        if out.exists():  # on a machine so fast that it ended before the tenth, the next kills fall on another
            assert json.loads(out.read_text()) == alone
            assert os.listdir(folder) == [kept.FILE]
            endings += kills < 10
    assert kills == 10


@pytest.mark.parametrize("moment", ["half written", "not yet renamed", "just renamed", "full"])
def test_killed_or_short_of_disk_while_it_writes_a_checkpoint_it_goes_on_from_a_whole_one(child, tmp_path, moment):
    folder, out = tmp_path / "run", tmp_path / "error.txt"
    process = child(fixtures.fail_at_the_seventh, folder, moment, out)
    process.join()
    assert process.exitcode == (0 if moment == "full" else -signal.SIGKILL)
    if moment == "full":
        message = out.read_text()
        assert message.startswith(f"{folder / kept.FILE} could not be written (File too large): ")
        assert "\n" not in message and ". " not in message and message.endswith(".")
    assert len(set(os.listdir(folder)) - {kept.FILE}) == (moment in ("half written", "not yet renamed"))
    counted = Mock(wraps=fixtures.noisy_loss)
    assert run(folder, loss=counted) == run()
    done = 24 if moment == "just renamed" else 22  # 5 and 10 of every epoch's 12 steps, and its end
    assert counted.call_count == fixtures.SETTINGS["epochs"] * 12 - done
    assert os.listdir(folder) == [kept.FILE]


@pytest.mark.parametrize(("before", "after", "best"), [([0, 2], [1, 4, 3], 3), ([0, 5, 2], [1, 3], 1)])
def test_stopped_in_a_validation_it_validates_the_same_weights_again_and_keeps_the_best(tmp_path, before, after, best):
    with pytest.raises(StopIteration):
        short(tmp_path, validate=Mock(side_effect=before))
    resumed = short(tmp_path, validate=Mock(side_effect=after))
    assert resumed == short(validate=Mock(side_effect=before + after)) and resumed["best_epoch"] == best


@pytest.mark.parametrize("steps", [100, 2])
@pytest.mark.parametrize("after", [0, 5, 7, 19, 22, 38])
def test_stopped_anywhere_it_goes_on_to_the_same_falls_end_and_random_generators(tmp_path, monkeypatch, after, steps):
    monkeypatch.setattr(fixtures.fit, "PATIENCE", 3)
    monkeypatch.setattr(fixtures.fit, "LEAST_STEPS", 0)

    def until_plateau(folder=None, **changes):
        return short(folder, epochs=99, validate=lambda model: -abs(float(model[0].weight.std()) - 0.15), **changes)

    alone = until_plateau()
    rates = {row["learning_rate"] for row in alone["epochs"]}
    assert alone["ended"] == "plateau" and len(rates) == 3 and alone["steps"] > 38, "later than the last stop"
    with pytest.raises(KeyboardInterrupt):
        until_plateau(tmp_path, loss=stopping(after), steps=steps)
    ended = until_plateau(tmp_path, noise=2, steps=4)
    assert ended == alone == until_plateau(tmp_path, loss=never, noise=3), "then it is given back"


def test_the_folder_holds_one_file_of_four_times_the_weights_however_long_the_training(tmp_path):
    sizes, model = [], network(width=5000)

    def watched(model):
        sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
        return fixtures.validate(model)

    weights = sum(parameter.nbytes for parameter in model.parameters())
    short(tmp_path, model=model, validate=watched, epochs=8)
    assert os.listdir(tmp_path) == [kept.FILE] and sizes[0] == 0 < max(sizes) < 4 * weights + 40_000
    assert (tmp_path / kept.FILE).stat().st_size < weights + 40_000


def test_a_checkpoint_is_safetensors_that_name_what_made_it_and_another_training_is_refused_by_what_differs(stopped):
    with safe_open(stopped / kept.FILE, framework="pt") as file:
        best = {name.removeprefix("best/") for name in file.keys() if name.startswith("best/")}  # noqa: SIM118
        made_by = json.loads(file.metadata()[kept.KEY])["made_by"]
    assert best == set(network().state_dict())
    assert made_by["configuration"] == CONFIGURATION | {"seeds": [0, 1]}
    assert made_by["fit"]["learning_rate"] == fixtures.SETTINGS["learning_rate"]
    before, partly_frozen = (stopped / kept.FILE).read_bytes(), network()
    partly_frozen[0].requires_grad_(False)
    other, late = CONFIGURATION | {"weights_sha256": "b" * 100}, CONFIGURATION | {"arm": {"inject": "late", "width": 8}}
    for named, changes in {
        "fit learning_rate was 0.01 and is 0.02": {"learning_rate": 0.02},
        "fit epochs was 4 and is 5, fit seed was 0 and is 3": {"seed": 3, "epochs": 5},
        "fit train was 40 and is 41": {"train": 41},
        r"weights_sha256 was 'a{64}' and is 'b{79}\.\.\.": {"configuration": other},
        r"arm inject was 'up' and is 'late'\)": {"configuration": late},
        "configuration limit was not set and is 4": {"configuration": CONFIGURATION | {"limit": 4}},
        "configuration dataset was 'toy' and is not set": {"configuration": None},
        r"weights 0.bias was 'torch.float32 \[64\] trained' and is .*65": {"model": network(width=65)},
        "weights 0.0.bias was not set .*, and 4 more": {"model": nn.Sequential(network())},
        "weights 0.bias was 'torch.float32.* and is 'torch.float64": {"model": network().double()},
        r"weights 0.bias was 'torch.float32 \[64\] trained' and is 'torch.float32 \[": {"model": partly_frozen},
    }.items():
        with refused(rf"is of another training \(.*{named}"):
            short(stopped, loss=never, **changes)
        assert (stopped / kept.FILE).read_bytes() == before


def test_a_broken_checkpoint_or_one_of_another_version_is_refused_in_one_sentence(stopped, monkeypatch):
    with monkeypatch.context() as patch, refused(rf"another version of sfhelpers \(format {kept.FORMAT}"):
        patch.setattr(kept, "FORMAT", kept.FORMAT + 1)
        short(stopped, loss=never)
    path = stopped / kept.FILE
    content = path.read_bytes()
    for damaged in (
        content[: len(content) * 2 // 3],
        content[:-100] + bytes([content[-100] ^ 1]) + content[-99:],
        content[:-4096] + bytes(4096),
        content.replace(b'\\"batches\\": 2', b'\\"batches\\": 1'),
        b"",
        save({"weight": torch.zeros(2)}),
    ):
        path.write_bytes(damaged)
        assert damaged != content
        with refused("is not a whole checkpoint: delete it"):
            short(stopped, loss=never)
    path.unlink()
    assert short(stopped) == short()


def test_a_configuration_that_json_cannot_hold_and_a_place_that_cannot_be_used_are_one_sentence(tmp_path):
    for value in (float("nan"), {1, 2}, torch.zeros(2)):
        with refused("the configuration cannot be kept"):
            short(tmp_path, validate=never, configuration={"value": value})
    (tmp_path / "file").write_text("")
    with refused("file could not be written", OSError):
        short(tmp_path / "file", loss=never)
    (tmp_path / "run" / kept.FILE).mkdir(parents=True)
    with refused("cannot be read", OSError):
        short(tmp_path / "run", loss=never)
