"""Each slip in a notebook's parameters gives one sentence before anything starts."""

import os
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from sfhelpers import params
from tests.backbone_fixtures import refused
from tests.cells import run_cells

NAME = "04_segmentation"
CHECK = "run = params.check(...)"


def values(tmp_path, notebook=NAME, **changes):
    """What a notebook's parameters cell sets, but for the device and the place."""
    namespace = run_cells(notebook, {}, "parameters")
    del namespace["__builtins__"]
    return namespace | {"device": "cpu", "output_dir": str(tmp_path / "out")} | changes


def as_cell(values):
    return "\n".join(f"{name} = {value!r}" for name, value in values.items())


def said(namespace, kind=ValueError, notebook=NAME):
    """The sentence with which the check refuses these values."""
    with refused(kind=kind) as error:
        params.check(notebook, namespace)
    return str(error.value)


@pytest.mark.parametrize("notebook", params.NOTEBOOKS)
def test_every_notebook_sets_what_is_declared_for_it_and_refuses_what_is_out_of_reach(notebook, tmp_path, capsys):
    namespace = run_cells(notebook, {}, "parameters") | {"output_dir": str(tmp_path)}
    run = params.check(notebook, namespace)
    assert set(vars(run)) - {"notebook"} == set(namespace) - {"__builtins__"}
    assert "expected: about" in capsys.readouterr().out
    beyond = {int: (2**31, 10**26, -(10**26), 9**5000), float: (1e300, -1e300, 9**5000, 5e-324)}
    beyond[list] = ([], [1.5], ["1"], [True], [None], [[9**5000]], [1, -1], [10**26], [1, "a\nb"], {}, {1}, "[1]", None)
    for name, value in namespace.items():
        for wrong in beyond.get(type(value), ()):
            if wrong == 5e-324 and name in ("absent", "alignment"):  # which may be as small as you like
                continue
            told = said(namespace | {name: wrong}, (TypeError, ValueError), notebook)
            assert told.startswith(f"{name} must be ")


def test_good_values_come_back_resolved_and_are_printed_with_time_and_memory(tmp_path, capsys):
    run = params.check(NAME, values(tmp_path, epochs=0, learning_rate=1))
    assert (run.notebook, run.epochs, run.device, run.data_root) == (NAME, 0, "cpu", "")
    assert type(run.learning_rate) is float
    assert run.output_dir == tmp_path / "out" and list(run.output_dir.iterdir()) == []
    (own := tmp_path / "Größe 猫").mkdir()
    given = {"backbone": str(tmp_path), "dataset": "folder", "data_root": str(own), "output_dir": f"{own}/Ergebnis é"}
    run = params.check(NAME, values(tmp_path, **given))
    assert (run.backbone, run.data_root, run.output_dir) == (str(tmp_path), own, own / "Ergebnis é")
    for half in ("sd15+siglip2-b16-512", "sd21:/a folder+clip-l14:/b", "cleandift-sd21", "pocket@bf16"):
        assert params.check(NAME, values(tmp_path, backbone=half)).backbone == half
    for rest in ("+dino-s8", "@bf16", "+dino-s8@bf16"):
        assert params.check(NAME, values(tmp_path, backbone=f"{tmp_path}{rest}")).backbone == f"{tmp_path}{rest}"
    params.check(NAME, values(tmp_path, epochs=3))
    printed = capsys.readouterr().out
    assert "epochs         3" in printed and "about 2 min 04 s" in printed and "2.5 GB" in printed


def test_a_store_is_a_word_or_a_folder_and_changes_no_training(tmp_path):
    runs = [params.check(NAME, values(tmp_path, store=store)) for store in ("auto", "off", f"{tmp_path}/a/../b")]
    assert [run.store for run in runs] == ["auto", "off", str(tmp_path / "b")]
    assert runs[0].configuration == runs[1].configuration == runs[2].configuration


def test_what_ipython_adds_and_tables_in_capitals_are_no_parameters(tmp_path):
    ipython = {"In": [""], "Out": {}, "_": "", "__": 3, "_i": "x = 1", "_i1": "x = 1", "_1": 5, "_ih": [""], "_dh": []}
    ipython |= {"__session__": "a.ipynb", "__vsc_ipynb_file__": "a.ipynb", "get_ipython": print, "exit": object()}
    params.check(NAME, values(tmp_path, os=os, TABLE={"a": 1}, SPLIT={"a": 1}, EPOCHS=[1, 2]) | ipython)


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        *((name, 20, "epochs") for name in ("epoch", "EPOCHS", "_epochs")),
        *(("batchSize", 4, "batch_size"), ("learning_Rate", 0.1, "learning_rate"), ("Split", None, "split")),
    ],
)
def test_a_misspelt_parameter_is_named_with_its_neighbour(tmp_path, name, value, meant):
    message = said(values(tmp_path) | {name: value})
    assert f"{name!r} is not a parameter of {NAME}: use {meant} if" in message
    history = ["", as_cell(dict.fromkeys(values(tmp_path), 0)), f"{name} = 1", "params.check("]
    assert repr(name) in said(values(tmp_path, In=history) | {name: value})


def test_a_notebook_or_parameter_that_is_not_there_or_that_was_not_set_is_named(tmp_path):
    assert "no notebook is called '04': choose 00_start_here, " in said({}, notebook="04")
    namespace = values(tmp_path)
    other = values(tmp_path, "03_correspondence")
    assert "'inject' is not" in said(other | {"tasks": "few", "variants": "few"}, notebook="07_ablations")
    asked = values(tmp_path, "09_drclip", scenario="gzz")
    assert "choose cgsbir, fgsbir, cdsbir or gzs" in said(asked, notebook="09_drclip")
    del namespace["seed"]
    assert "does not set seed" in said(namespace)


@pytest.mark.parametrize(
    ("name", "value", "error", "words"),
    [
        ("epochs", "ten", TypeError, "epochs must be a whole number, but it is the text 'ten'"),
        ("epochs", True, TypeError, "a whole number, but it is the bool True"),
        ("learning_rate", "1e-4", TypeError, "a number, but it is the text '1e-4'"),
        ("skip_broken", "true", TypeError, "write -p skip_broken True"),
        ("split", 5, TypeError, "pass it with -r split VALUE"),
        ("backbone", None, TypeError, "must be text"),
        ("epochs", -1, ValueError, "epochs must be 0 or more, but it is -1"),
        *(("limit", few, ValueError, "pass -p limit 4 or more, or 0 for all") for few in (1, 3)),
        ("learning_rate", 0.0, ValueError, "1e-12 or more"),
        *(("learning_rate", float(value), ValueError, "a finite number") for value in ("nan", "inf")),
        ("dataset", "skechy", ValueError, "choose toy, sketchy or folder"),
        ("inject", "upp", ValueError, "choose up, up+down, none, late or random"),
        ("arms", "fused", ValueError, "choose core, frozen or all"),
        *(
            ("backbone", value, ValueError, "cleandift-sd21 or an existing folder")
            for value in ("sd16", "", "+clip-l14")
        ),
        *(("device", value, ValueError, "choose auto, cpu, cuda, cuda:N or mps") for value in ("gpu", "cpu:1")),
        ("dataset", "folder", ValueError, "pass -p data_root FOLDER"),
        ("data_root", "any", ValueError, "takes no data_root: leave it out"),
    ],
)
def test_a_value_that_cannot_be_is_refused_and_says_what_to_pass(tmp_path, name, value, error, words):
    assert words in said(values(tmp_path) | {name: value}, error)
    assert not (tmp_path / "out").exists()


def test_few_photos_are_refused_only_where_a_part_would_have_none(tmp_path):
    for split, fewest in (("default", 4), ("self-supervised", 4), ("60:40", 3)):
        given = values(tmp_path, "03_correspondence", split=split)
        assert f"limit {fewest} or more" in said(given | {"limit": fewest - 1}, notebook="03_correspondence")
        params.check("03_correspondence", given | {"limit": fewest})
    given, notebook = values(tmp_path, "01_pilot_study", backbone=str(tmp_path)), "01_pilot_study"
    assert said(given | {"limit": 1}, notebook=notebook).endswith("limit 2 or more.")
    params.check(notebook, given | {"limit": 1, "backbone": "pocket"})


def test_a_device_that_is_not_there_is_refused_and_a_gpu_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for device in ("cuda", "mps"):
        assert "finds none here" in said(values(tmp_path, device=device), RuntimeError)
    assert params.resolve_device("auto") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert params.resolve_device("auto") == params.resolve_device("cuda") == "cuda:0"
    assert params.resolve_device("cuda:1") == "cuda:1"
    assert "finds 2" in said(values(tmp_path, device="cuda:2"), RuntimeError)
    monkeypatch.setenv("LOCAL_RANK", "1")  # of a launched process, which takes its own
    assert [params.resolve_device(device) for device in ("auto", "cuda", "cuda:0")] == ["cuda:1", "cuda:1", "cuda:0"]
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert "'cuda:2' is not there: torch finds 2" in said(values(tmp_path, device="cuda"), RuntimeError)


def test_data_root_must_be_there_and_fit_the_dataset(tmp_path):
    missing = values(tmp_path, dataset="sketchy", data_root=str(tmp_path / "nowhere"))
    assert "nowhere" in said(missing, FileNotFoundError)
    own = values(tmp_path, "06_recognition", data_root=str(tmp_path))
    assert "say with -p dataset what lies there" in said(own, notebook="06_recognition")


def test_output_dir_must_be_writable_with_room_and_its_files_stay(tmp_path, monkeypatch):
    (tmp_path / "out").write_text("mine")
    for folder in (tmp_path / "out", tmp_path / "out" / "below"):
        assert "could not be written" in said(values(tmp_path, output_dir=str(folder)), OSError)
    assert (tmp_path / "out").read_text() == "mine"
    free = values(tmp_path, output_dir=str(tmp_path / "free"))
    monkeypatch.setattr(params.shutil, "disk_usage", lambda _: SimpleNamespace(free=3e6))
    assert "3 MB free but this run needs 50 MB" in said(free, OSError)
    monkeypatch.setattr(params.tempfile, "TemporaryFile", Mock(side_effect=PermissionError(13, "Permission denied")))
    assert "(Permission denied): pass another one with -p output_dir." in said(free, PermissionError)


def test_the_default_output_dir_lies_in_the_checkout_and_a_relative_one_where_one_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(params, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert params.check(NAME, values(tmp_path, output_dir="")).output_dir == tmp_path / "runs" / NAME
    printed = capsys.readouterr().out
    assert f"runs/{NAME}" in printed and str(tmp_path) not in printed
    assert params.check(NAME, values(tmp_path, output_dir="here")).output_dir == tmp_path / "elsewhere" / "here"


def test_in_a_kernel_only_what_stands_between_parameters_and_check_counts_also_what_papermill_injects(tmp_path):
    namespace, slip, later = values(tmp_path), {"epoch": 20}, {"epoch": 2, "score": 0.5}
    plain, wrong = as_cell(namespace), as_cell(namespace | slip)
    params.check(NAME, namespace | later | {"In": ["", plain, CHECK, as_cell(later), CHECK]})  # run again
    for history in (["", wrong, CHECK], ["", plain, "# Parameters\nepoch = 20\n", CHECK]):
        assert "'epoch'" in said(namespace | slip | {"In": history})
    params.check(NAME, namespace | slip | {"In": ["", wrong, CHECK, plain, CHECK]})  # mended
    most = as_cell({name: namespace[name] for name in list(namespace)[:-2]})  # injected, nearly all of them
    params.check(NAME, namespace | {"In": ["%magic, no Python", plain, most, CHECK]})
