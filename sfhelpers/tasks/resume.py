"""A training as one file, from which a training that was stopped at any moment goes on as if it had not been.

The file is safetensors with JSON in its metadata; nothing is pickled. It is written beside its place and then renamed,
so that the folder holds one whole file at any moment, also when the process is killed or the disk is full.
"""

import hashlib
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sfhelpers.files import replace_file

FORMAT = 1  # raise it when `fit` would go on from the same file with other numbers, or could not read it
FILE = "training.safetensors"
KEY = "sketchfusion training"
NAMED_DIFFERENCES = 4  # that an error names; the rest it counts


class Fresh(type(Path())):  # Path itself can be subclassed from Python 3.12 on
    """A folder of many trainings that begins anew: no training inside goes on from what an earlier run kept there.

    Nothing is removed before a training begins, so that a run that is refused leaves all as it was. The folders that
    are made from it with `/` belong to it.
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


class Checkpoint:
    """The one file of a folder in which a training is kept.

    Args:
        folder: made if it is not there; one training a folder.
        made_by: what decides the training's numbers, by name, in what JSON can hold. A file that was made by something
            else is refused.

    Raises:
        ValueError: something in `made_by` cannot be written as JSON.
        OSError: the folder cannot be made.
    """

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
        """Put this in the place of what was kept before.

        Args:
            tensors: any, by name.
            state: all else, in what JSON can hold; floats come back as the same floats.

        Raises:
            OSError: one sentence, when it cannot be written, for example on a full disk; the earlier file is whole.
        """
        own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}  # none shared
        text = json.dumps({"format": FORMAT, "made_by": self.made_by, "state": state}, allow_nan=False)
        content = save(own, metadata={KEY: text, "sha256": content_sha256(own, text)})
        try:
            replace_file(self.path, content)
        except OSError as error:
            raise OSError(
                f"the checkpoint {self.path} could not be written ({error.strerror}): make room for "
                f"{len(content) / 1e6:.1f} MB and start again, which goes on from the checkpoint before this one."
            ) from error

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What `write` was given last, on the CPU, or None if nothing is kept yet.

        Raises:
            ValueError: one sentence, for a file that is broken, was written by another version of this code, or was
                made by something else, naming what differs.
            OSError: it cannot be read.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  not a dict
            text = metadata[KEY]
            kept = json.loads(text)
            whole = metadata["sha256"] == content_sha256(tensors, text)
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(self._broken()) from error
        except OSError as error:
            raise OSError(f"the checkpoint {self.path} cannot be read ({error}): give another folder.") from error
        if not whole:
            raise ValueError(self._broken())
        if kept["format"] != FORMAT:
            raise ValueError(
                f"the checkpoint {self.path} was written by another version of sfhelpers (format {kept['format']}, "
                f"this one writes {FORMAT}): delete it, which starts the training anew, or give another folder."
            )
        if found := _differences(kept["made_by"], self.made_by):
            more = f", and {len(found) - NAMED_DIFFERENCES} more" if len(found) > NAMED_DIFFERENCES else ""
            raise ValueError(
                f"the checkpoint {self.path} is of another training ({', '.join(found[:NAMED_DIFFERENCES])}{more}): "
                "give another folder, or delete it, which starts the training anew."
            )
        return tensors, kept["state"]

    def _broken(self) -> str:
        return f"{self.path} is not a whole checkpoint: delete it, which starts the training anew."


def random_state(device: torch.device) -> dict[str, Any]:
    """Where the process's random generators stand (torch on the CPU and on `device`, NumPy, Python), for JSON."""
    kind, words, *rest = np.random.get_state()
    return {
        "torch": pack(torch.get_rng_state()),
        "cuda": pack(torch.cuda.get_rng_state(device)) if device.type == "cuda" else None,
        "numpy": [kind, words.tolist(), *rest],
        "python": random.getstate(),
    }


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Put the generators back to where `random_state` found them."""
    torch.set_rng_state(unpack(state["torch"]))
    if device.type == "cuda":
        torch.cuda.set_rng_state(unpack(state["cuda"]), device)
    kind, words, *rest = state["numpy"]
    np.random.set_state((kind, np.array(words, dtype=np.uint32), *rest))
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))


def pack(state: Tensor) -> str:
    """A generator's state, (N,) uint8, as text."""
    return bytes(state.numpy()).hex()


def unpack(text: str) -> Tensor:
    """The state that `pack` was given."""
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)


def content_sha256(tensors: Mapping[str, Tensor], text: str) -> str:
    """Of tensors on the CPU and what is said of them: blocks that a disk lost read as zeros, unseen otherwise."""
    digest = hashlib.sha256(text.encode("utf-8"))
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _differences(kept: Mapping[str, Any], now: Mapping[str, Any], inside: str = "") -> list[str]:
    """In words, every value that differs between two `made_by`."""
    found = []
    for name in sorted(kept.keys() | now.keys()):
        old, new = ([side[name]] if name in side else [] for side in (kept, now))
        if all(isinstance(value, dict) for value in (*old, *new)):
            found += _differences(*(side[0] if side else {} for side in (old, new)), f"{inside}{name} ")
        elif old != new:
            before, after = (_shortened(repr(*side)) if side else "not set" for side in (old, new))
            found.append(f"{inside}{name} was {before} and is {after}")
    return found


def _shortened(text: str, length: int = 80) -> str:
    return text if len(text) <= length else f"{text[:length]}..."
