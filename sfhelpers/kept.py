"""What is kept of a training: one safetensors file with signed JSON in its metadata, at any moment a whole one."""

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sfhelpers.files import check_own, make_folder, reading, replace_file

FORMAT = 5  # raise it when `fit` would go on from the same checkpoint with other numbers, or could not read it
FILE, KEY = "training.safetensors", "sketchfusion training"
NAMED_DIFFERENCES = 4  # that an error names; the rest it counts


def signed(tensors: Mapping[str, Tensor], described: Mapping[str, Any], key: str) -> bytes:
    """A safetensors file whose metadata hold, under `key`, a description and the sha256 of it and of the tensors."""
    own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}  # none shared
    return save(own, metadata={key: _signature(own, described)})


def from_signed(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any], bool]:
    """Tensors, description, and whether they are as `signed` was given them; nothing of a file of another kind."""
    with reading(path):  # safetensors would tell no errno
        path.open("rb").close()
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {})[key]
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  not a dict
        described = json.loads(text)
        described.pop("sha256", None)  # earlier versions had none
        return tensors, described, text == _signature(tensors, described)
    except (SafetensorError, AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError):
        return {}, {}, False


def _signature(tensors: Mapping[str, Tensor], described: Mapping[str, Any]) -> str:
    """The description as text, with the sha256: blocks that a disk lost read as zeros, unseen otherwise."""
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, allow_nan=False).encode("utf-8"))
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy())
    return json.dumps({**described, "sha256": digest.hexdigest()}, sort_keys=True, allow_nan=False)


def remove_trainings(folder: Path) -> None:
    """Remove the trainings of earlier runs: gone on from with this run's, they would be of another run."""
    check_own(folder)
    for old in folder.glob(f"*-seed*/**/{FILE}"):
        old.unlink(missing_ok=True)


class Checkpoint:
    """The one file of a folder in which a training is kept; one that something else than `made_by` made is refused."""

    def __init__(self, folder: str | Path, made_by: Mapping[str, Any]):
        self.path = Path(folder) / FILE
        try:
            self.made_by = json.loads(json.dumps(made_by, allow_nan=False))
        except (TypeError, ValueError) as error:
            said = f"the configuration cannot be kept with the checkpoint ({error})"
            raise ValueError(f"{said}: give texts, finite numbers, and lists and dicts of them.") from error
        make_folder(self.path.parent)

    def write(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        replace_file(self.path, signed(tensors, {"format": FORMAT, "made_by": self.made_by, "state": state}, KEY))

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What `write` was given last, or None if nothing is kept yet."""
        if not self.path.exists():
            return None
        tensors, kept, whole = from_signed(self.path, KEY)
        remedy = "give another folder, or delete it, which starts the training anew"
        if (version := kept.get("format", FORMAT)) != FORMAT:
            which = f"another version of sfhelpers (format {version}, this one writes {FORMAT})"
            raise ValueError(f"the checkpoint {self.path} was written by {which}: {remedy}.")
        if not whole:
            raise ValueError(f"{self.path} is not a whole checkpoint: delete it, which starts the training anew.")
        old, new = dict(_flat(kept["made_by"])), dict(_flat(self.made_by))
        if differ := [name for name in sorted(old | new) if old.get(name, ...) != new.get(name, ...)]:
            told = (f"{name} was {_short(old, name)} and is {_short(new, name)}" for name in differ[:NAMED_DIFFERENCES])
            more = f", and {len(differ) - NAMED_DIFFERENCES} more" if len(differ) > NAMED_DIFFERENCES else ""
            which = f"another training ({', '.join(told)}{more})"
            raise ValueError(f"the checkpoint {self.path} is of {which}: {remedy}.")
        return tensors, kept["state"]


def _short(values: Mapping[str, Any], name: str) -> str:
    text = repr(values[name]) if name in values else "not set"
    return text if len(text) <= 80 else f"{text[:80]}..."


def _flat(tree: Mapping[str, Any], inside: str = "") -> Iterator[tuple[str, Any]]:
    """{"fit": {"seed": 0}} as ("fit seed", 0)."""
    for name, value in tree.items():
        yield from _flat(value, f"{inside}{name} ") if isinstance(value, dict) else [(f"{inside}{name}", value)]


def random_state(device: torch.device) -> dict[str, Any]:
    """Where torch's generators (the CPU's and that of `device`), NumPy's and Python's stand, for JSON."""
    states = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
    kind, words, *rest = np.random.get_state()
    hexed = [bytes(state.numpy()).hex() for state in states]
    return {"torch": hexed, "numpy": [kind, words.tolist(), *rest], "python": random.getstate()}


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    cpu, *gpu = (torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8) for text in state["torch"])
    torch.set_rng_state(cpu)
    for one in gpu:
        torch.cuda.set_rng_state(one, device)
    np.random.set_state(tuple(state["numpy"]))
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
