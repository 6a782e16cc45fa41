"""Two processes that train together give the numbers of one; see `fit_fixtures.in_two_processes`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backbone_fixtures import refused
from tests.fit_fixtures import SHARED, run, run_with_unused


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


def test_two_processes_that_were_stopped_go_on_to_the_same_bits_and_one_process_does_not_go_on_from_theirs(found):
    assert all(process["resumed"] == process["alone"] for process in found[0])
    draws = [process["alone"]["next draws"] for process in found[0]]
    assert draws[0] != draws[1]  # each had a random generator of its own
    with refused("fit processes was 2 and is 1"):
        run(found[1] / "alone", **SHARED)


def test_a_loss_that_breaks_in_one_process_stops_both_with_the_same_sentence(found):
    first, second = (process["broken on one"] for process in found[0])
    assert first == second and "epoch 1" in first and "learning_rate" in first
