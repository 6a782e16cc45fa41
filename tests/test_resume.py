import json
import multiprocessing
import random
import signal

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from sfhelpers.tasks import kept as files
from sfhelpers.tasks.fit import checkpoints
from tests.backbone_fixtures import one_sentence
from tests.fit_fixtures import (
    SETTINGS,
    die_while_writing,
    fill_the_disk,
    network,
    noisy_loss,
    run,
    stopping,
    train_in_child,
    validate,
)

SHORT = dict(train=40, epochs=4, checkpoint_steps=2)  # 5 steps an epoch


@pytest.fixture(scope="module")
def children():
    """Processes that start from one which has loaded everything and computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.fit_fixtures"])
    return context


@pytest.fixture(scope="module")
def alone(children, tmp_path_factory):
    """The numbers of the training in a child that nothing stops."""
    folder = tmp_path_factory.mktemp("alone")
    process = children.Process(target=train_in_child, args=(None, folder / "out.json", folder / "steps"))
    process.start()
    process.join()
    return json.loads((folder / "out.json").read_text())


def never(model, indices):
    raise AssertionError("a step was taken")


def size(path):
    return path.stat().st_size if path.exists() else 0


def test_killed_at_ten_random_moments_it_ends_with_the_numbers_of_the_run_that_was_left_alone(
    children, alone, tmp_path
):
    moments, kills, starts, endings = random.Random(0), 0, 0, 0
    while kills < 10 or not (tmp_path / f"{endings}.json").exists():
        folder, out, steps = tmp_path / f"run{endings}", tmp_path / f"{endings}.json", tmp_path / f"steps{starts}"
        process = children.Process(target=train_in_child, args=(folder, out, steps))
        process.start()
        starts += 1
        wait, more = moments.randrange(12), moments.random() / 100
        while process.is_alive() and (kills >= 10 or size(steps) < wait):
            process.join(0.001)
        process.join(more)
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        if out.exists():  # on a machine so fast that it ended before the tenth, the next kills fall on another
            assert json.loads(out.read_text()) == alone
            assert [path.name for path in folder.iterdir()] == [files.FILE]
            endings += kills < 10
    assert kills == 10


@pytest.mark.parametrize("moment", ["half written", "not yet renamed", "just renamed"])
def test_killed_while_it_writes_a_checkpoint_it_goes_on_from_a_whole_one(children, tmp_path, moment):
    process = children.Process(target=die_while_writing, args=(tmp_path, moment, 7))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    left = [path for path in tmp_path.iterdir() if path.name != files.FILE]
    assert len(left) == (moment != "just renamed")
    steps = torch.zeros(())

    def counted(model, indices):
        steps.add_(1)
        return noisy_loss(model, indices)

    assert run(tmp_path, loss=counted) == run()
    done = 24 if moment == "just renamed" else 22  # 5 and 10 of every epoch's 12 steps, and its end
    assert steps == SETTINGS["epochs"] * 12 - done
    assert [path.name for path in tmp_path.iterdir()] == [files.FILE]


def test_a_full_disk_stops_in_one_sentence_and_leaves_the_earlier_checkpoint_whole(children, tmp_path):
    folder, out = tmp_path / "run", tmp_path / "error.txt"
    process = children.Process(target=fill_the_disk, args=(folder, out, 7))
    process.start()
    process.join()
    message = out.read_text()
    assert message.startswith(f"the checkpoint {folder / files.FILE} could not be written (File too large): make room")
    assert "\n" not in message and ". " not in message and message.endswith(".")
    assert [path.name for path in folder.iterdir()] == [files.FILE]
    assert run(folder) == run()


@pytest.mark.parametrize("steps", [100, 2])
@pytest.mark.parametrize("after", [0, 3, 5, 14])
def test_stopped_after_any_step_it_ends_with_the_same_numbers_and_the_same_random_generators(tmp_path, steps, after):
    settings = SHORT | dict(checkpoint_steps=steps)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, loss=stopping(after), **settings)
    assert run(tmp_path, noise=2, **settings) == run(**settings)


@pytest.mark.parametrize(("before", "after", "best"), [([0, 2], [1, 4, 3], 3), ([0, 5, 2], [1, 3], 1)])
def test_stopped_in_a_validation_it_validates_the_same_weights_again_and_keeps_the_best(tmp_path, before, after, best):
    def scripted(values):
        values = iter(values)
        return lambda model: next(values)

    with pytest.raises(StopIteration):
        run(tmp_path, validate=scripted(before), **SHORT)
    resumed = run(tmp_path, validate=scripted(after), **SHORT)
    assert resumed == run(validate=scripted(before + after), **SHORT)
    assert resumed["best_epoch"] == best


def test_stopped_early_by_patience_it_does_not_go_on_when_it_is_started_again(tmp_path):
    values = iter([0.0, 1.0, 0.5, 0.4])
    first = run(tmp_path, validate=lambda model: next(values), patience=2, **SHORT)
    assert len(first["epochs"]) == 4
    assert run(tmp_path, loss=never, validate=lambda model: next(values), patience=2, **SHORT) == first


def test_after_its_end_the_training_is_given_back_at_once_with_weights_and_random_generators(tmp_path):
    first = run(tmp_path, **SHORT)
    assert run(tmp_path, loss=never, validate=lambda model: next(iter(())), noise=2, **SHORT) == first


def test_keeping_a_checkpoint_changes_no_number(tmp_path):
    assert run(tmp_path, **SHORT) == run(**(SHORT | dict(checkpoint_steps=100)))


def test_the_folder_holds_one_file_of_four_times_the_weights_however_long_the_training(tmp_path):
    sizes = []

    def watched(model):
        sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
        return validate(model)

    model = network(width=5000)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    run(tmp_path, model=model, validate=watched, **(SHORT | dict(epochs=8)))
    assert [path.name for path in tmp_path.iterdir()] == [files.FILE]
    assert sizes[0] == 0 < max(sizes) < 4 * weights + 40_000
    assert (tmp_path / files.FILE).stat().st_size < weights + 40_000


CONFIGURATION = {"dataset": "toy", "weights_sha256": "a" * 64, "seeds": (0, 1), "arm": {"inject": "up", "width": 8}}


def kept(folder, **changes):
    """A training stopped half-way, or gone on from, with one thing changed."""
    return run(folder, **(SHORT | dict(configuration=CONFIGURATION) | changes))


@pytest.fixture
def stopped(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        kept(tmp_path, loss=stopping(7))
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"learning_rate": 0.02}, "fit learning_rate was 0.01 and is 0.02"),
        ({"seed": 3, "epochs": 5}, "fit epochs was 4 and is 5, fit seed was 0 and is 3"),
        ({"train": 41}, "fit train was 40 and is 41"),
        ({"configuration": CONFIGURATION | {"dataset": "own"}}, "configuration dataset was 'toy' and is 'own'"),
        (
            {"configuration": CONFIGURATION | {"weights_sha256": "b" * 64}},
            "configuration weights_sha256 was 'a{64}' and is 'b{64}'",
        ),
        (
            {"configuration": CONFIGURATION | {"arm": {"inject": "late", "width": 8}}},
            r"\(configuration arm inject was 'up'",
        ),
        ({"configuration": CONFIGURATION | {"limit": 4}}, "configuration limit was not set and is 4"),
        ({"configuration": None}, "configuration dataset was 'toy' and is not set"),
        ({"model": network(width=65)}, r"weights 0.bias was 'torch.float32 \[64\] trained' and is .*65"),
        ({"model": nn.Sequential(network())}, "weights 0.0.bias was not set"),
        ({"model": network().double()}, "weights 0.bias was 'torch.float32.* and is 'torch.float64"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_and_the_difference_is_named(stopped, changes, named):
    before = (stopped / files.FILE).read_bytes()
    with pytest.raises(ValueError, match=named) as error:
        kept(stopped, loss=never, **changes)
    assert_one_sentence(error, stopped)
    assert (stopped / files.FILE).read_bytes() == before


def test_a_checkpoint_with_other_frozen_parameters_is_refused(stopped):
    model = network()
    model[0].requires_grad_(False)
    with pytest.raises(ValueError, match=r"weights 0.bias was 'torch.float32 \[64\] trained' and is 'torch.float32 \["):
        kept(stopped, model=model, loss=never)


def test_a_checkpoint_of_another_version_of_the_code_is_refused(stopped, monkeypatch):
    monkeypatch.setattr(files, "FORMAT", files.FORMAT + 1)
    with pytest.raises(ValueError, match=rf"another version of sfhelpers \(format {files.FORMAT - 1}") as error:
        kept(stopped, loss=never)
    assert_one_sentence(error, stopped)


def test_the_interval_of_writing_and_the_words_of_the_bar_may_differ(stopped):
    assert kept(stopped, checkpoint_steps=4, progress="again") == kept(None)


def cut(content):
    return content[: len(content) * 2 // 3]


def flipped(content):
    return content[:-100] + bytes([content[-100] ^ 1]) + content[-99:]


def zeroed(content):
    return content[:-4096] + bytes(4096)


def relabelled(content):
    return content.replace(b'\\"best_epoch\\": 1', b'\\"best_epoch\\": 0')


@pytest.mark.parametrize("damage", [cut, flipped, zeroed, relabelled, lambda content: b"", lambda content: b"GIF89a"])
def test_a_broken_checkpoint_is_refused_in_one_sentence(stopped, damage):
    path = stopped / files.FILE
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert path.read_bytes() != content
    with pytest.raises(ValueError, match="is not a whole checkpoint: delete it") as error:
        kept(stopped, loss=never)
    assert_one_sentence(error, stopped)
    path.unlink()
    assert kept(stopped) == kept(None)


def test_other_weights_under_the_name_of_a_checkpoint_are_refused(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / files.FILE)
    with pytest.raises(ValueError, match="is not a whole checkpoint"):
        kept(tmp_path, loss=never)


def test_a_checkpoint_opens_as_plain_safetensors_and_names_what_made_it(stopped):
    path = stopped / files.FILE
    best = {name.removeprefix("best/") for name in load_file(path) if name.startswith("best/")}
    assert best == set(network().state_dict())
    with safe_open(path, framework="pt") as file:
        made_by = json.loads(file.metadata()[files.KEY])["made_by"]
    assert made_by["configuration"] == CONFIGURATION | {"seeds": [0, 1]}
    assert made_by["fit"]["learning_rate"] == SETTINGS["learning_rate"]


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, torch.zeros(2)])
def test_a_configuration_that_json_cannot_hold_is_refused_before_anything_runs(tmp_path, value):
    with pytest.raises(ValueError, match="the configuration cannot be kept"):
        kept(tmp_path, validate=lambda model: never(model, None), configuration={"value": value})


def test_a_folder_that_cannot_be_made_or_a_file_that_cannot_be_read_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="no checkpoint can be kept in"):
        kept(tmp_path / "file", loss=never)
    (tmp_path / "run" / files.FILE).mkdir(parents=True)
    with pytest.raises(OSError, match="cannot be read"):
        kept(tmp_path / "run", loss=never)


def test_a_training_without_epochs_keeps_nothing(tmp_path):
    run(tmp_path / "run", epochs=0)
    assert not (tmp_path / "run").exists()


def assert_one_sentence(error, folder):
    message = str(error.value).replace(str(folder), "")
    assert "\n" not in message and ". " not in message and message.endswith(".")


def test_a_new_run_removes_the_trainings_of_an_earlier_one_when_it_trains_and_nothing_else(tmp_path):
    old = checkpoints(tmp_path, keep=True)
    for name in ("fused-seed0", "sd-only-seed1/strict"):
        run(old / name, **SHORT)
    foreign = [old / "mine.txt", old / "fused-seed0" / "notes.md", old / "mine" / files.FILE]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}

    folder = checkpoints(tmp_path, keep=False)
    with pytest.raises(ValueError, match="batch_size"):
        run(folder / "fused-seed0", **(SHORT | {"batch_size": 0}))
    run(folder / "fused-seed0", **(SHORT | {"epochs": 0}))
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before

    for name in ("clip-only-seed0/strict", "clip-only-seed0/style", "fused-seed0"):
        run(folder / name, learning_rate=0.02, **SHORT)
    made = {old / name / files.FILE for name in ("clip-only-seed0/strict", "clip-only-seed0/style", "fused-seed0")}
    assert {path for path in old.rglob("*") if path.is_file()} == made | set(foreign)
    again = checkpoints(tmp_path, keep=True)  # gone on from, it has no step left to train
    run(again / "fused-seed0", loss=stopping(0), learning_rate=0.02, **SHORT)


def test_a_file_or_a_link_in_the_place_of_the_checkpoints_is_refused_and_stays(tmp_path):
    (tmp_path / "disk").mkdir()
    place = tmp_path / "checkpoints"
    place.symlink_to(tmp_path / "disk")
    assert checkpoints(tmp_path, keep=True) == place
    with pytest.raises(FileExistsError, match="is a link, not a folder") as error:
        checkpoints(tmp_path, keep=False)
    one_sentence(error)
    place.unlink()
    place.write_text("mine")
    for keep in (True, False):
        with pytest.raises(FileExistsError, match="is a file, not a folder") as error:
            checkpoints(tmp_path, keep)
        one_sentence(error)
    assert place.read_text() == "mine" and (tmp_path / "disk").is_dir()
