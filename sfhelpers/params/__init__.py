"""Checks a notebook's parameters before anything long starts; relative paths are taken from the kernel's folder."""

import difflib
import math
import os
import re
import reprlib
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sfhelpers.files import check_own, given, shown, writing
from sfhelpers.params.table import DATASETS, NOTEBOOKS, PARAMETERS, TASKS, Notebook, Parameter

__all__ = ["BACKBONES", "DATASETS", "NOTEBOOKS", "ROOT", "Run", "TASKS", "check", "data_folder", "resolve_device"]
BACKBONES = ("pocket", "sd14", "sd15", "sd21", "sd21-base", "cleandift-sd15", "cleandift-sd21")
HALF = "@bf16"  # behind a backbone's name: both models in bfloat16
KINDS = {  # what a value is called, and how another one is passed
    bool: ("True or False", "write -p {0} True or -p {0} False, with a capital letter"),
    int: ("a whole number", "pass for example -p {0} 3"),
    float: ("a number", "pass for example -p {0} 0.001"),
    str: ("text", "pass it with -r {0} VALUE, which keeps it text"),
    list: ("a list of whole numbers", 'pass it with -y "{0}: [1, 2]"'),
}
OUTPUTS = ("checkpoints", "heads", "masks", "pocket", "tokenizer", "vision")  # folders that notebooks write
STORES = ("auto", "off")  # or a folder
MEGABYTES = 50  # that a run may need at its output_dir
ROOT = Path(__file__).resolve().parents[2]


class Run(SimpleNamespace):
    """A run's checked values by parameter, and `notebook`: `output_dir` is an existing Path, `device` resolved ("cpu",
    "cuda:0", "mps"), `data_root` an absolute Path or "", `backbone` a preset's name or a folder's absolute path."""

    @property
    def configuration(self) -> dict[str, Any]:
        """What decides the numbers of a training, for its checkpoint: all but where it runs and how much is run."""
        aside = ("output_dir", "device", "store", "resume", "arms", "seeds", "rates", "variants", "meeting")
        return {k: str(v) if isinstance(v, Path) else v for k, v in vars(self).items() if k not in aside}


def check(notebook: str, namespace: Mapping[str, Any]) -> Run:
    """Check a notebook's parameters in its `globals()`, make its output folder, and print what will run.

    ValueError: one is misspelt, missing or out of range; TypeError; RuntimeError: no such device; OSError: no folder.
    """
    if notebook not in NOTEBOOKS:
        raise ValueError(f"no notebook is called {notebook!r}: choose {_or(NOTEBOOKS)}, or declare its parameters.")
    declared = NOTEBOOKS[notebook]
    table = {name: (PARAMETERS | declared.own)[name] for name in declared.names}
    for name in _slips(namespace, table):
        near = difflib.get_close_matches(name.casefold().strip("_"), table, n=1)
        hint = f"use {near[0]} if that was meant" if near else "leave it out"
        raise ValueError(f"{name!r} is not a parameter of {notebook}: {hint} (it has {', '.join(table)}).")
    if missing := [name for name in table if name not in namespace]:
        raise ValueError(f"the parameters cell of {notebook} does not set {', '.join(missing)}: run that cell first.")
    run = Run(notebook=notebook, **{name: _checked(name, namespace[name], table[name]) for name in table})
    if 0 < getattr(run, "limit", 0) < (fewest := declared.fewest(run)):
        said = f"limit {run.limit} leaves too few photos of a category for what {notebook} asks"
        raise ValueError(f"{said}: pass -p limit {fewest} or more{', or 0 for all' * (table['limit'].low == 0)}.")
    if getattr(run, "alignment", 0) and not run.imagenet:
        said = f"alignment {run.alignment:g} pulls towards ImageNet's features, which are not here"
        raise ValueError(f"{said}: pass -p imagenet FILE, or -p alignment 0.")
    run.backbone = _backbone(run.backbone)
    run.device = resolve_device(run.device)
    if "dataset" in table:
        folder = data_folder(run.dataset, run.data_root)
        run.data_root = folder.resolve() if folder else ""
    given(getattr(run, "heads", ""))
    if getattr(run, "store", "off") not in STORES:
        run.store = str(given(run.store).resolve())
    run.output_dir = _output_dir(run.output_dir, notebook)
    _print(run, table, declared)
    return run


def resolve_device(device: str) -> str:
    """The device meant by "auto", "cpu", "cuda", "cuda:N" or "mps"; ValueError for others, RuntimeError if absent.

    Of processes that accelerate or torchrun launched, each takes its own GPU for "auto" and "cuda".
    """
    import torch  # seconds to import, and only this check needs it

    there = {"cpu": 1, "cuda": torch.cuda.is_available() and torch.cuda.device_count()}
    there["mps"] = torch.backends.mps.is_available()
    if device == "auto":
        device = next(kind for kind in ("cuda", "mps", "cpu") if there[kind])
    kind, colon, index = device.partition(":")
    if kind not in there or (colon and not (kind == "cuda" and index.isdecimal())):
        raise ValueError(f"device {device!r} is unknown: choose auto, cpu, cuda, cuda:N or mps.")
    if not there[kind]:
        raise RuntimeError(f"device {device!r} asks for a GPU, but torch finds none here: use -p device cpu.")
    device = f"cuda:{int(index or os.environ.get('LOCAL_RANK', 0))}" if kind == "cuda" else device
    if int(device.partition(":")[2] or 0) >= there[kind]:
        raise RuntimeError(f"device {device!r} is not there: torch finds {there[kind]}, counted from 0.")
    return device


def data_folder(dataset: str, root: str | Path) -> Path | None:
    """The folder given for a dataset, None for "toy" and its kind; an error of one sentence if there is none."""
    if dataset.startswith("toy") and str(root):
        remedy = "leave it out, or say with -p dataset what lies there"
        raise ValueError(f"dataset {dataset!r} takes no data_root: {remedy}.")
    if dataset.startswith("toy"):
        return None
    if not str(root):
        raise ValueError(f"dataset {dataset!r} needs to know where your files are: pass -p data_root FOLDER.")
    if not (folder := given(root)).exists():
        raise FileNotFoundError(f"data_root {shown(folder)} does not exist: check -p data_root.")
    if not folder.is_dir():
        raise NotADirectoryError(f"data_root {shown(folder)} is a file, not a folder: pass the one that holds yours.")
    return folder


def _slips(namespace: Mapping[str, Any], table: Mapping[str, Parameter]) -> list[str]:
    """Plain values that may be misspelt parameters; a kernel's only up to the check, which may run again after it."""
    history = namespace.get("In", [])
    cells = [set(re.findall(r"^(\w+) *(?::[^=\n]+)?=(?!=)", source, re.MULTILINE)) for source in history]
    # The parameters cell sets them all; half of them is enough, since a slip may have made it incomplete.
    starts = [i for i, names in enumerate(cells) if 2 * len(names & table.keys()) > len(table)]
    if starts:
        checks = (i for i, source in enumerate(history) if i >= starts[-1] and "params.check(" in source)
        typed = set().union(*cells[starts[-1] : next(checks, len(cells))])
        namespace = {name: value for name, value in namespace.items() if name in typed}
    return [name for name, value in namespace.items() if name not in table and _may_be_slip(name, value, table)]


def _may_be_slip(name: str, value: Any, table: Mapping[str, Parameter]) -> bool:
    if isinstance(value, bool | int | float | str | None):
        folded = [known.replace("_", "").casefold() for known in (name, *table)]
        return not name.startswith("_") or folded[0] in folded[1:]
    return isinstance(value, list | tuple | dict) and name.islower() and not name.startswith("_")


def _checked(name: str, value: Any, parameter: Parameter) -> Any:
    """The value in the parameter's type; only a whole number for a float and a tuple for a list are converted."""
    kind, (expected, advice) = parameter.type, KINDS[parameter.type]
    numbers = value if kind is list and isinstance(value, list | tuple) else [value] * (kind in (int, float))
    fits = type(value) is kind or (kind, type(value)) in ((float, int), (list, tuple))
    try:
        told = " ".join(reprlib.repr(value).split())
    except ValueError:  # Python writes no number of over 4,300 digits
        told = "of too many digits"
    if not fits or (kind is list and not (numbers and all(type(number) is int for number in numbers))):
        shown = f"the {type(value).__name__} {told}".replace("the str ", "the text ")
        raise TypeError(f"{name} must be {expected}, but it is {shown}: {advice.format(name)}.")
    if parameter.choices and value not in parameter.choices:
        raise ValueError(f"{name} {value!r} is unknown: choose {_or(parameter.choices)}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, but it is {value}: pass for example -p {name} 0.001.")
    if beyond := [number for number in numbers if not parameter.low <= number <= parameter.high]:
        bound = f"{parameter.low} or more" if beyond[0] < parameter.low else f"{parameter.high} or less"
        raise ValueError(f"{name} must be {bound}, but it is {told}: pass another one with -p {name}.")
    return kind(value)


def _or(choices: Collection[Any]) -> str:
    *first, last = [str(choice) for choice in choices]
    return f"{', '.join(first)} or {last}" if first else last


def _backbone(backbone: str) -> str:
    if re.split("[:+@]", backbone)[0] in BACKBONES:
        return backbone  # what stands behind the name is looked up when it is loaded
    name, half = re.fullmatch(f"(.*?)({HALF})?", backbone, re.DOTALL).groups("")
    first, plus, vision = name.rpartition("+")
    for folder, rest in ((name, half), (first, plus + vision + half)):
        if folder and given(folder).is_dir():
            return f"{given(folder).resolve()}{rest}"
    raise ValueError(f"backbone {backbone!r} is unknown: choose {_or([*BACKBONES, 'an existing folder'])}.")


def runs() -> Path:
    """The folder of what runs write that name no other."""
    return (ROOT if (ROOT / "pyproject.toml").exists() else given("~/sketchfusion")) / "runs"


def _output_dir(output_dir: str, notebook: str) -> Path:
    folder = given(output_dir).resolve() if output_dir else runs() / notebook
    remedy = "pass another one with -p output_dir"
    with writing(folder, remedy):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        (folder / ("x/" * 300)).exists()  # an error if paths in it would be too long
    for path in (*(folder / name for name in OUTPUTS), *folder.glob("denoiser_*")):
        check_own(path)
    if (folder / "results.json").is_dir():
        raise IsADirectoryError(f"{shown(folder / 'results.json')} is a folder, not a file: move it away, or {remedy}.")
    if (free := shutil.disk_usage(folder).free / 1e6) < MEGABYTES:
        raise OSError(f"{folder} has {free:.0f} MB free but this run needs {MEGABYTES} MB: make room or {remedy}.")
    return folder


def _print(run: Run, table: Mapping[str, Parameter], declared: Notebook) -> None:
    print(run.notebook)
    for name, parameter in table.items():
        print(f"  {name:<14} {shown(_shown(getattr(run, name))):<22} {parameter.help}")
    minutes, rest = divmod(round(declared.seconds(run)), 60)
    time = f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    other = getattr(run, "backbone", "pocket") != "pocket"
    beside = " with pocket; no time and memory were measured with this backbone" if other else ""
    print(f"  expected: about {time} on two CPU cores, {declared.gigabytes(run):.1f} GB of memory at the peak{beside}")


def _shown(value: Any) -> str:
    """A value as printed: paths below the repository or the home folder are shortened, so no machine's path is kept."""
    for base, sign in ((ROOT, ""), (os.path.expanduser("~"), "~/")):
        if isinstance(value, str | Path) and Path(value).is_relative_to(base):
            return sign + Path(value).relative_to(base).as_posix()
    return "-" if value == "" else str(value)
