"""What is kept of a training: one safetensors file with signed JSON in its metadata, nothing pickled.

It is written beside its place and then renamed: the folder holds one whole file at any moment, also when the process
is killed or the disk is full.
"""

import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sfhelpers.files import replace_file, shown

FORMAT = 2  # raise it when `fit` would go on from the same checkpoint with other numbers, or could not read it
FILE, KEY = "training.safetensors", "sketchfusion training"
NAMED_DIFFERENCES = 4  # that an error names; the rest it counts


def signed(tensors: Mapping[str, Tensor], described: Mapping[str, Any], key: str) -> bytes:
    """A safetensors file whose metadata hold, under `key`, this description and the sha256 of it and of the tensors."""
    own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}  # none shared
    return save(own, metadata={key: _signature(own, described)})


def from_signed(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any], bool]:
    """Tensors, description, and whether they are as `signed` was given them; ValueError for a file of another kind."""
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {})[key]
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  not a dict
        described = json.loads(text)
        described.pop("sha256", None)  # earlier versions had none
        return tensors, described, text == _signature(tensors, described)
    except (SafetensorError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds nothing under {key!r}.") from error


def _signature(tensors: Mapping[str, Tensor], described: Mapping[str, Any]) -> str:
    """The description as text, with the sha256: blocks that a disk lost read as zeros, unseen otherwise."""
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, allow_nan=False).encode("utf-8"))
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy())
    return json.dumps({**described, "sha256": digest.hexdigest()}, sort_keys=True, allow_nan=False)


class Fresh(type(Path())):  # Path itself can be subclassed from Python 3.12 on
    """A folder of many trainings, and those made from it with `/`, in which none goes on from what an earlier run kept.

    Nothing is removed before a training begins, so that a run that is refused leaves all as it was.
    """

    top: "Fresh | None" = None
    begun = False

    def __truediv__(self, name: str) -> "Fresh":
        inside = super().__truediv__(name)
        inside.top = self.top or self
        return inside

    def begin(self) -> None:
        """Remove the trainings of earlier runs, once: gone on from with this run's, they would be of another run."""
        top = self.top or self
        for old in () if top.begun else Path(top).glob(f"*-seed*/**/{FILE}"):
            old.unlink(missing_ok=True)
        top.begun = True


def checkpoints(output_dir: Path, keep: bool) -> Path:
    """The folder of a notebook's checkpoints; its first training removes those of earlier runs unless they are kept.

    FileExistsError if a file has its name, or a link, through which nothing shall be removed.
    """
    folder = Path(output_dir) / "checkpoints"
    if (folder.exists() and not folder.is_dir()) or (folder.is_symlink() and not keep):
        raise FileExistsError(
            f"{shown(folder)} is a {'link' if folder.is_symlink() else 'file'}, not a folder to keep checkpoints in: "
            "move it away, or pass another -p output_dir."
        )
    return folder if keep else Fresh(folder)


@dataclass
class Position:
    """How far a training has come, in what JSON can hold."""

    epoch: int = 0  # that is being trained; 0 is the validation before training
    batches: int = 0  # done in this epoch
    loss: float = 0.0  # summed over the examples of these batches
    learning_rate: float | None = None  # at this epoch's first step
    seconds: float = 0.0  # spent in this epoch
    rows: list[dict[str, float | None]] = field(default_factory=list)  # `History.epochs` of the epochs before
    best_epoch: int = 0  # of these
    finished: bool = False


class Checkpoint:
    """The one file of a folder in which a training is kept; one that something else than `made_by` made is refused."""

    def __init__(self, folder: str | Path, made_by: Mapping[str, Any]):
        self.path = Path(folder) / FILE
        try:
            self.made_by = json.loads(json.dumps(made_by, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the configuration cannot be kept with the checkpoint ({error}): give texts, finite numbers, "
                "and lists and dicts of them."
            ) from error
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"no checkpoint can be kept in {folder} ({error.strerror}): give another folder.") from error

    def clean(self) -> None:
        """Remove what a process that was killed while it wrote has left beside the file."""
        for left in self.path.parent.glob(f".{FILE}.*"):
            left.unlink(missing_ok=True)

    def write(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Put this in the place of what was kept before."""
        content = signed(tensors, {"format": FORMAT, "made_by": self.made_by, "state": state}, KEY)
        try:
            replace_file(self.path, content)
        except OSError as error:
            raise OSError(
                f"the checkpoint {self.path} could not be written ({error.strerror}): make room for "
                f"{len(content) / 1e6:.1f} MB and start again, which goes on from the checkpoint before this one."
            ) from error

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What `write` was given last, or None if nothing is kept yet."""
        if not self.path.exists():
            return None
        broken = ValueError(f"{self.path} is not a whole checkpoint: delete it, which starts the training anew.")
        try:
            tensors, kept, whole = from_signed(self.path, KEY)
        except ValueError as error:
            raise broken from error
        except OSError as error:
            raise OSError(f"the checkpoint {self.path} cannot be read ({error}): give another folder.") from error
        if (version := kept.get("format", FORMAT)) != FORMAT:
            raise ValueError(
                f"the checkpoint {self.path} was written by another version of sfhelpers (format {version}, "
                f"this one writes {FORMAT}): delete it, which starts the training anew, or give another folder."
            )
        if not whole:
            raise broken
        if found := _differences(kept["made_by"], self.made_by):
            more = f", and {len(found) - NAMED_DIFFERENCES} more" if len(found) > NAMED_DIFFERENCES else ""
            raise ValueError(
                f"the checkpoint {self.path} is of another training ({', '.join(found[:NAMED_DIFFERENCES])}{more}): "
                "give another folder, or delete it, which starts the training anew."
            )
        return tensors, kept["state"]


def _differences(kept: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In words, every value that differs between two `made_by`."""
    old, new = _flat(kept), _flat(now)
    differ = [name for name in sorted(old.keys() | new.keys()) if old.get(name, ...) != new.get(name, ...)]
    return [f"{name} was {_told(old, name)} and is {_told(new, name)}" for name in differ]


def _flat(tree: Mapping[str, Any], inside: str = "") -> dict[str, Any]:
    """{"fit": {"seed": 0}} as {"fit seed": 0}."""
    flat = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{inside}{name} ") if isinstance(value, dict) else {f"{inside}{name}": value}
    return flat


def _told(values: Mapping[str, Any], name: str, length: int = 80) -> str:
    text = repr(values[name]) if name in values else "not set"
    return text if len(text) <= length else f"{text[:length]}..."


def random_state(device: torch.device) -> dict[str, Any]:
    """Where torch's generators (the CPU's and that of `device`), NumPy's and Python's stand, for JSON."""
    states = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
    kind, words, *rest = np.random.get_state()
    return {
        "torch": [bytes(state.numpy()).hex() for state in states],
        "numpy": [kind, words.tolist(), *rest],
        "python": random.getstate(),
    }


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    cpu, *gpu = (torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8) for text in state["torch"])
    torch.set_rng_state(cpu)
    for one in gpu:
        torch.cuda.set_rng_state(one, device)
    np.random.set_state(tuple(state["numpy"]))
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
