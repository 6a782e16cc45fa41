"""The ground: what is tracked, what is installed, and that the lists agree."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from importlib.util import find_spec

import nbformat
import pytest
import yaml

from sfhelpers import backbones, datasets, params
from sfhelpers.datasets import sketches
from tests.cells import cells
from tools import clean
from tools.notebooks import find

ROOT = params.ROOT
TOP = {"notebooks", "sfhelpers", "tools", "data", "tests", "environment.yml", "README.md"}
TOP |= {"pyproject.toml", "constraints.txt", "Makefile", "LICENSE", "CITATION.cff"}
TOP |= {".ci", ".gitignore", ".pre-commit-config.yaml"}
NOT_IMPORTED = {
    "import-linter": "make test calls lint-imports",
    "ipykernel": "runs the notebooks",
    "jupyterlab": "make lab",
    "nbval": "make test",
    "papermill": "tools.notebooks starts it as a process",
    "pytest-xdist": "make test",
    "ruff": "make test",
    "timm": "open_clip builds image towers with it",
    "torchvision": "open_clip imports it",
}
MACHINE = re.compile(r"(?<![\w.~}])/(?:root|work|home/\w+|Users/\w+)/")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEPENDENCIES = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]


def name_of(requirement):
    return re.match(r"[\w-]+", requirement).group().lower().replace("_", "-")


def test_every_dependency_is_used_and_every_import_declared():
    files = [path for folder in ("sfhelpers", "tools", "tests") for path in ROOT.glob(f"{folder}/**/*.py")]
    sources = [path.read_text(encoding="utf-8") for path in files]
    sources += [cell.source for path in find([]) for cell in cells(path.stem) if cell.cell_type == "code"]
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0}
    names = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"sfhelpers", "tools", "tests"}
    installed = packages_distributions()
    used = {name_of(package) for name in names for package in installed.get(name, [name])}
    declared = {name_of(line) for line in DEPENDENCIES}
    extra = {name_of(line) for line in PROJECT["optional-dependencies"]["ray"]}  # not installed for the tests
    assert used - declared == extra, "imported but not declared"
    assert declared - used - NOT_IMPORTED.keys() == set(), "declared but never used"


def test_what_is_tracked_was_agreed_on_is_small_and_names_no_path_of_somebodys_machine():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = [ROOT / name for name in done.stdout.split("\0") if name]
    assert {path.relative_to(ROOT).parts[0] for path in tracked} == TOP
    assert {path for path in tracked if path.suffix == ".ipynb"} == set(find([])), "notebooks are numbered"
    assert sum(path.stat().st_size for path in tracked) <= 80e6, "the checkout stays small"
    for path in (path for path in tracked if path.suffix not in (".safetensors", ".png", ".jpg")):
        found = MACHINE.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{path.relative_to(ROOT)} names {found.group()}"
    pocket = [path for path in tracked if path.is_relative_to(ROOT / "data" / "pocket")]
    assert 0 < sum(path.stat().st_size for path in pocket if path.suffix == ".safetensors") <= 25e6
    assert {path.suffix for path in pocket} <= {".safetensors", ".json", ".txt", ".md"}


def test_conda_and_pip_install_the_same_packages_and_constraints_pin_each():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert sorted(pip) == sorted([*DEPENDENCIES, "-e ."])
    assert f"python{PROJECT['requires-python']}" in environment["dependencies"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins), "no path or address"
    assert {name_of(line) for line in DEPENDENCIES} <= {name_of(pin) for pin in pins}


def test_parameters_know_the_presets_and_datasets_that_there_are():
    assert set(params.BACKBONES) == set(backbones.DIFFUSION)
    taken = {name: (params.table.PARAMETERS | declared.own)["dataset"] for name, declared in params.NOTEBOOKS.items()}
    assert set(taken.pop("06_recognition").choices) == set(sketches.NAMES)
    assert {choice for parameter in taken.values() for choice in parameter.choices} <= set(datasets.SPLITS)
    assert all(find_spec(f"sfhelpers.tasks.{name}") for name in params.TASKS)


@pytest.mark.parametrize("path", find([]), ids=lambda path: path.stem)
def test_a_committed_notebook_is_clean_and_not_stale_and_every_exercise_has_a_solution(path):
    (text,) = [cell.source for cell in cells(path.stem) if "Solution to 1<" in cell.source]
    exercises = re.findall(r"^(\d+)\. ", text.split("<details>")[0], re.MULTILINE)
    assert exercises and exercises == re.findall(r"<summary>Solution to (\d+)</summary>", text)
    assert clean.problems(path) == []


def test_small_values_for_nbval_are_parameters_of_their_notebook_and_all_notebooks_share_some():
    overrides = yaml.safe_load((ROOT / "tests" / "nbval_parameters.yaml").read_text(encoding="utf-8"))
    for path in find([]):
        names = clean.declared(nbformat.read(path, as_version=4))
        assert {"seed", "device", "output_dir"} <= names, f"{path.stem} lacks a shared parameter"
        assert overrides.pop(path.stem, {}).keys() <= names, f"of {path.stem}"
    assert overrides == {}, "there are no such notebooks"


def test_the_map_in_the_first_notebook_names_every_notebook_in_its_own_words():
    """Of its first cell: `# NN · Title: ...`, and what follows the bold words."""
    (text,) = [cell.source for cell in cells("00_start_here") if "## The map" in cell.source]
    rows = [line for line in text.splitlines() if re.match(r"\| \[\d\d · ", line)]
    for path, row in zip(find([]), rows, strict=True):
        first, said = cells(path.stem)[0].source, {}
        title = re.match(rf"# {path.name[:2]} · ([^:\n]+)", first)[1]
        for word in ("Question", "Time and memory", "Paper"):
            found = re.search(rf"^\*\*{word}\.\*\* (.+?)(?=\n\s*\n|\n\*\*|\Z)", first, re.M | re.S)
            assert found, f"the first cell of {path.name} has no line **{word}.** with text behind it"
            said[word] = " ".join(found[1].split())
        assert said["Question"].endswith("?")
        assert row == f"| [{path.name[:2]} · {title}]({path.name}) | {said['Question']} | {said['Paper']} |"
    assert len({row[:6] for row in rows}) == len(rows), "two notebooks have the same number"
