"""Checks a notebook's parameters before anything long starts, and prints what will run.

papermill injects whatever it is given: a misspelt name only earns a warning, `-p fast true` is the string "true",
`-p epochs ten` the string "ten". The second cell of every notebook therefore calls `check`, which turns each such slip
into one sentence. What each notebook takes stands in `table`.

Relative paths (`data_root`, `output_dir`, a backbone folder) are taken from the kernel's current folder: the folder
papermill was started in, and the notebook's own folder in JupyterLab and nbval. Absolute paths and `~` mean the same
everywhere. The default `output_dir` never depends on the current folder.
"""

import ast
import difflib
import math
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sfhelpers.params.table import DATASETS, NOTEBOOKS, PARAMETERS, TASKS, Notebook, Parameter

__all__ = ["BACKBONES", "DATASETS", "NOTEBOOKS", "ROOT", "Run", "TASKS", "check", "resolve_device"]
BACKBONES = ("pocket", "sd21")
KINDS = {  # what a value is called, and how another one is passed
    bool: ("True or False", "write -p {0} True or -p {0} False, with a capital letter"),
    int: ("a whole number", "pass for example -p {0} 3"),
    float: ("a number", "pass for example -p {0} 0.001"),
    str: ("text", "pass it with -r {0} VALUE, which keeps it text"),
    list: ("a list", 'pass it with -y "{0}: [1, 2]"'),
}
MEGABYTES = 50  # that a run may need at its output_dir
ROOT = Path(__file__).resolve().parents[2]


class Run(SimpleNamespace):
    """The checked values of one run: `notebook`, and every parameter by its name.

    `output_dir` is an existing Path, `device` resolved ("cpu", "cuda:0", "mps"), `data_root` an absolute Path or "",
    `backbone` a preset's name or a folder's absolute path.
    """

    @property
    def configuration(self) -> dict[str, Any]:
        """What decides the numbers of a training, for its checkpoint: all but where it runs and how much is run."""
        aside = ("output_dir", "device", "resume", "arms", "seeds")
        return {k: str(v) if isinstance(v, Path) else v for k, v in vars(self).items() if k not in aside}


def check(notebook: str, namespace: Mapping[str, Any]) -> Run:
    """Check a notebook's parameters, make its output folder, and print what will run.

    Args:
        notebook: one of NOTEBOOKS, e.g. "04_segmentation".
        namespace: the notebook's `globals()`.

    Raises:
        ValueError: a misspelt or missing parameter, a value out of range, an unknown choice.
        TypeError: a value of the wrong type.
        RuntimeError: a device that is not there.
        OSError: `data_root` is missing, `output_dir` is not writable or its disk is full.
    """
    if notebook not in NOTEBOOKS:
        raise ValueError(f"no notebook is called {notebook!r}: choose {_or(NOTEBOOKS)}, or declare its parameters.")
    declared = NOTEBOOKS[notebook]
    table = {name: (PARAMETERS | declared.own)[name] for name in declared.names}
    given = _given(namespace, table)
    for name in (name for name in given if name not in table):
        near = difflib.get_close_matches(name.casefold().strip("_"), table, n=1)
        hint = f"use {near[0]} if that was meant" if near else "leave it out"
        raise ValueError(f"{name!r} is not a parameter of {notebook}: {hint} (it has {', '.join(table)}).")
    if missing := [name for name in table if name not in given]:
        raise ValueError(f"the parameters cell of {notebook} does not set {', '.join(missing)}: run that cell first.")
    run = Run(notebook=notebook, **{name: _checked(name, given[name], table[name]) for name in table})
    run.backbone = _backbone(run.backbone)
    run.device = resolve_device(run.device)
    if "dataset" in table:
        run.data_root = _data_root(run.dataset, run.data_root, table["dataset"].choices)
    run.output_dir = _output_dir(run.output_dir, notebook)
    _print(run, table, declared)
    return run


def resolve_device(device: str) -> str:
    """Turn "auto", "cpu", "cuda", "cuda:N" or "mps" into the name of a device that is there.

    ValueError for another name, RuntimeError if the device is not there.
    """
    import torch  # seconds to import, and only this check needs it

    mps = torch.backends.mps.is_available()
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "mps" if mps else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (":" in device and not (kind == "cuda" and index.isdecimal())):
        raise ValueError(f"device {device!r} is unknown: choose auto, cpu, cuda, cuda:N or mps.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"device {device!r} asks for a CUDA GPU, but torch finds none here: use -p device cpu.")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise RuntimeError(f"device {device!r} is not there: torch finds {torch.cuda.device_count()}, counted from 0.")
    if kind == "mps" and not mps:
        raise RuntimeError("device 'mps' asks for an Apple GPU, but torch finds none here: use -p device cpu.")
    return f"cuda:{int(index or 0)}" if kind == "cuda" else device


def _given(namespace: Mapping[str, Any], table: Mapping[str, Parameter]) -> dict[str, Any]:
    """The parameters that are set, and plain public values that may be misspelt ones.

    In a kernel these are what the cells from the parameters to the check assign: on a second run of the check, what
    later cells assigned is no slip.
    """
    given = {name: value for name, value in namespace.items() if name in table or _may_be_slip(name, value, table)}
    history = namespace.get("In", [])
    cells = [_assigned(source) for source in history]
    # The parameters cell sets them all; half of them is enough where a slip of the user's has made it incomplete.
    starts = [i for i, names in enumerate(cells) if names >= table.keys()]
    starts = starts or [i for i, names in enumerate(cells) if 2 * len(names & table.keys()) > len(table)]
    if not starts:
        return given
    checks = (i for i, source in enumerate(history) if i >= starts[-1] and "params.check(" in source)
    typed = set().union(*cells[starts[-1] : next(checks, len(cells))])
    return {name: value for name, value in given.items() if name in typed}


def _may_be_slip(name: str, value: Any, table: Mapping[str, Parameter]) -> bool:
    """Whether a name may be a misspelt parameter: `epoch`, `EPOCHS`, `batchSize`, `_seed`; but not what IPython adds,
    which begins with an underscore or is no plain value, nor a table of constants in capitals."""
    if isinstance(value, bool | int | float | str | None):
        folded = [known.replace("_", "").casefold() for known in (name, *table)]
        return not name.startswith("_") or folded[0] in folded[1:]
    return isinstance(value, list | tuple | dict) and name.islower() and not name.startswith("_")


def _assigned(source: str) -> set[str]:
    """Names that a cell's source assigns at its top level (none if it is not plain Python)."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return set()
    targets = [target for node in body for target in getattr(node, "targets", [getattr(node, "target", None)])]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _checked(name: str, value: Any, parameter: Parameter) -> Any:
    """The value in the parameter's type; only a whole number for a float and a tuple for a list are converted."""
    if (parameter.type, type(value)) in ((float, int), (list, tuple)):
        value = parameter.type(value)
    if type(value) is not parameter.type:
        expected, advice = KINDS[parameter.type]
        shown = f"the {type(value).__name__} {value!r}".replace("the str ", "the text ")
        raise TypeError(f"{name} must be {expected}, but it is {shown}: {advice.format(name)}.")
    if parameter.choices and value not in parameter.choices:
        raise ValueError(f"{name} {value!r} is unknown: choose {_or(parameter.choices)}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, but it is {value}: pass for example -p {name} 0.001.")
    for bound, broken in (
        ("greater than 0", parameter.positive and value <= 0),
        (f"{parameter.low} or more", parameter.low is not None and value < parameter.low),
        (f"{parameter.high} or less", parameter.high is not None and value > parameter.high),
    ):
        if broken:
            raise ValueError(f"{name} must be {bound}, but it is {value}: pass another one with -p {name}.")
    return value


def _or(choices: Collection[Any]) -> str:
    *first, last = [str(choice) for choice in choices]
    return f"{', '.join(first)} or {last}" if first else last


def _backbone(backbone: str) -> str:
    if backbone.partition(":")[0] in BACKBONES:
        return backbone  # `sd21:<folder or hub id>` is looked up when it is loaded
    folder = Path(backbone).expanduser().resolve()
    if not backbone or not folder.is_dir():
        raise ValueError(f"backbone {backbone!r} is unknown: choose {_or([*BACKBONES, 'an existing folder'])}.")
    return str(folder)


def _data_root(dataset: str, data_root: str, choices: Collection[str]) -> Path | str:
    if dataset == "toy":
        if data_root:
            others = " or ".join(f"-p dataset {name}" for name in choices if name != dataset)
            raise ValueError(
                f"data_root is given but dataset 'toy' makes its own data: pass {others} with it, or none."
            )
        return ""
    if not data_root:
        raise ValueError(f"dataset {dataset!r} needs the folder it lies in: pass -p data_root FOLDER.")
    folder = Path(data_root).expanduser().resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"data_root {str(folder)!r} is not a folder: pass -p data_root FOLDER.")
    return folder


def _output_dir(output_dir: str, notebook: str) -> Path:
    base = ROOT if (ROOT / "pyproject.toml").exists() else Path.home() / "sketchfusion"
    folder = Path(output_dir).expanduser().resolve() if output_dir else base / "runs" / notebook
    name, remedy = f"output_dir {str(folder)!r}", "pass another one with -p output_dir."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise type(error)(f"{name} cannot be written to ({error.strerror}): {remedy}") from error
    if (free := shutil.disk_usage(folder).free / 1e6) < MEGABYTES:
        raise OSError(f"{name} has {free:.0f} MB free but this run needs {MEGABYTES} MB: make room or {remedy}")
    return folder


def _print(run: Run, table: Mapping[str, Parameter], declared: Notebook) -> None:
    print(run.notebook)
    for name, parameter in table.items():
        print(f"  {name:<14} {_shown(getattr(run, name)):<22} {parameter.help}")
    minutes, rest = divmod(round(declared.seconds(run)), 60)
    time = f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    print(f"  expected: about {time} on two CPU cores, {declared.gigabytes(run):.1f} GB of memory at the peak")


def _shown(value: Any) -> str:
    """A value as printed: paths below the repository or the home folder are shortened, so no machine's path is kept."""
    for base, sign in ((ROOT, ""), (Path.home(), "~/")):
        if isinstance(value, str | Path) and Path(value).is_relative_to(base):
            return sign + Path(value).relative_to(base).as_posix()
    return "-" if value == "" else str(value)
