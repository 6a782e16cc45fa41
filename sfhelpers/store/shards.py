"""One shard: a safetensors file that is never changed, whose name is the sha256 of its bytes."""

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sfhelpers.files import file_sha256, reading, shown, writing

KEY, ENDING = "sketchfusion store", ".safetensors"
NAMES = f"{'[0-9a-f]' * 64}{ENDING}"  # a pattern; no other file in the folder is ours
HALVES = (torch.float16, torch.bfloat16)
Block = dict[str, Any]  # of the index: `keys`, a row each; `dtypes` of the tensors as given; `made_by`; `error`


def damaged(path: Path) -> ValueError:
    remedy = f"python -m sfhelpers.store gc {shown(path.parent)} removes it, and its items are computed again"
    return ValueError(f"{shown(path)} is damaged, not as it was written: {remedy}.")


def is_whole(path: Path) -> bool:
    return f"{file_sha256(path)}{ENDING}" == path.name


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A shard, memory-mapped; FileNotFoundError if it is gone, ValueError if it cannot be read as one."""
    with reading(path):  # safetensors would tell no errno
        path.open("rb").close()
    known = SafetensorError, AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except known as error:
        raise damaged(path) from error


def blocks(path: Path) -> list[Block]:
    """A shard's index, from its metadata. Tensor `name` of block 2 is called "2.name"; errors as of `opened`."""
    with opened(path) as file:
        found = json.loads(file.metadata()[KEY])
        list(map(_check, found))
        return found


def _check(block: Block) -> None:
    if not (set(block) >= {"keys", "dtypes", "made_by", "error"} and all(isinstance(k, str) for k in block["keys"])):
        raise ValueError("no index")
    [getattr(torch, dtype) for dtype in block["dtypes"].values()]


def write(root: Path, tensors: dict[str, Tensor], index: list[Block]) -> str:
    """Add a shard to a folder, whole or not at all, while nobody else may: its name. OSError as of `writing`."""
    beside = root / "half"
    with writing(root, "make that folder writable", sum(tensor.nbytes for tensor in tensors.values())):
        beside.mkdir(exist_ok=True)
        try:
            _save(tensors, beside / "shard", {KEY: json.dumps(index, allow_nan=False)})
            (beside / "shard").chmod(0o666 & root.stat().st_mode)  # safetensors lets nobody else read it
            with (beside / "shard").open("rb+") as file:
                os.fsync(file.fileno())  # or a power cut could leave the name without the bytes
            name = f"{file_sha256(beside / 'shard')}{ENDING}"
            os.replace(beside / "shard", root / name)
            return name
        finally:
            for left in beside.iterdir():  # of a killed process, too
                left.unlink()


def _save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, str(error)) from error


def halved(name: str, tensor: Tensor, dtype: torch.dtype | None) -> tuple[Tensor, float]:
    """A tensor of floats in a half type, and its largest error in units of its largest value; others as they are."""
    if dtype is None or not tensor.is_floating_point() or not tensor.numel():
        return tensor, 0.0
    if dtype not in HALVES:
        raise ValueError(f"dtype {dtype} is no half precision: give torch.float16, torch.bfloat16 or None.")
    if not (half := tensor.to(dtype)).isfinite().all():
        said = f"{name} has values up to {tensor.abs().max():.3g}, which {dtype} cannot hold"
        raise ValueError(f"{said}: keep it in torch.bfloat16, or look for what is not finite in the weights.")
    largest = tensor.abs().max().clamp(min=torch.finfo(tensor.dtype).tiny)
    return half, float((tensor - half.to(tensor.dtype)).abs().max() / largest)
