"""What is frozen of images: computed where a store lacks it, then read from there, as one asks for it."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from sfhelpers.store.store import Store, item_key

SHARED = ("text", "temb", "timestep", "upsample_size")  # the same for all images: kept once
OF_TOKENS = ("weights_sha256", "sizes", "read", "dtype", "kept")  # all that changes them; the rest, of the UNet, is not
Read = Callable[[Sequence[int]], Tensor]
PAUSE = 0.2  # s, until one looks again whether others are done
WINDOW = 1000  # images that are looked at before a batch is claimed
FULL_SIZE = 256  # px; above it an image takes megabytes, and half precision is the default


@dataclass(frozen=True)
class Column:
    """One tensor of all items: len() and `column[indices]` as of a tensor on the CPU, read from the store."""

    store: Store
    keys: list[str]
    name: str
    device = torch.device("cpu")

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, indices: Tensor | slice) -> Tensor:
        rows = range(len(self))[indices] if isinstance(indices, slice) else indices.tolist()
        return self.store.get([self.keys[row] for row in rows], [self.name])[self.name]


@dataclass
class Group:
    """Tensors of an image that are kept under one key."""

    names: list[str]
    made_by: dict[str, Any]
    keys: list[str] = field(default_factory=list)  # of all images


def made_by(extractor: Any, read: int, dtype: torch.dtype | None, **noise: Any) -> dict[str, Any]:
    """All but the image that changes what `FusedExtractor.frozen` gives, of images read at `read` px."""
    diffusion, vision = extractor.backbone.diffusion, extractor.backbone.vision
    injected = {}  # only random injections come before what is frozen
    if extractor.inject == "random":
        injected = {name: tensor.cpu() for name, tensor in extractor.injection.state_dict().items()}
    digest = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in injected.values())).hexdigest()
    return {
        "weights_sha256": extractor.backbone.weights_sha256,  # of weights, configs and the preset
        "sizes": [diffusion.size, vision.size],
        "read": read,
        "dtype": str(diffusion.unet.conv_in.weight.dtype),
        "kept": str(dtype),
        "timestep": diffusion.timestep,
        "prompt": "",
        "seed": extractor.seed,
        "draws": 1,
        "injected": [*extractor.injected, digest] if injected else [],
        **{name: value for name, value in noise.items() if value is not None},
    }


@dataclass
class Filling:
    """What is frozen of n images, in a store: what it lacks of them, what that takes, and how it gets there."""

    store: Store
    extractor: Any
    images: Sequence[str]  # n texts that tell one image from all others, as the sha256 of its file
    size: int  # px, at which they are read
    flip: bool = False  # whether they are mirrored
    dtype: torch.dtype | None = None  # half precision in which floats are kept, as of `Store.put`
    noise: dict[str, Any] = field(default_factory=dict)  # of `extractor.frozen`

    @cached_property
    def grey(self) -> dict[str, Tensor]:
        """What is frozen of one grey image: it tells names and sizes, and what is the same for all."""
        extractor = self.extractor
        arm = [type(extractor).__name__, extractor.inject, extractor.until, *extractor.sources]
        made = {**made_by(extractor, self.size, None, **self.noise), "arm": arm}
        key = item_key(made)
        if self.store.missing([key]):
            self.store.put([key], extractor.frozen(grey_image(self.size), **self.noise), made)
        return self.store.get([key])

    @cached_property
    def groups(self) -> list[Group]:
        made = made_by(self.extractor, self.size, self.dtype, **self.noise)
        own = sorted(self.grey.keys() - {*SHARED, "tokens"})
        found = [Group(["tokens"], {name: made[name] for name in OF_TOKENS})] if "tokens" in self.grey else []
        found += [Group(own, {**made, "tensors": own})] if own else []
        for group in found:
            group.keys = [item_key(group.made_by, image, self.flip) for image in self.images]
        return found

    @property
    def each(self) -> int:
        """Bytes that an image takes."""
        return kept_bytes({name: self.grey[name] for group in self.groups for name in group.names}, self.dtype)

    def lacking(self) -> dict[str, int]:
        """By the first of its keys that is missing, the position of each image of which something is."""
        gone = set(self.store.missing([key for group in self.groups for key in group.keys]))
        own = enumerate(zip(*(group.keys for group in self.groups), strict=True))
        return {next(key for key in keys if key in gone): at for at, keys in own if not gone.isdisjoint(keys)}

    def complete(self, read: Read, what: str | None = None, batch: int = 0) -> None:
        """Until the store lacks nothing: compute what nobody else does, `batch` (0: the backbone's) images at a time;
        `what` stands before the progress bar, None shows none."""
        bar = tqdm(total=len(self.lacking()), desc=what, leave=False, disable=what is None)
        while todo := self.lacking():  # again, since others may have kept a part of an image alone
            while todo:
                some = list(islice(todo, WINDOW))
                with self.store.claim(some, batch or self.extractor.backbone.at_once) as claimed:
                    if claimed:
                        self._put([todo[key] for key in claimed], read)
                if not claimed:
                    time.sleep(PAUSE)
                waiting = set(self.store.missing(some))
                for key in some:  # what others are at goes to the end
                    at = todo.pop(key)
                    todo |= {key: at} if key in waiting else {}
                bar.update(max(0, bar.total - len(todo) - bar.n))
        bar.close()

    def _put(self, at: list[int], read: Read) -> None:
        found = self.extractor.frozen(read(at), **self.noise)
        for group in reversed(self.groups):  # so that what was claimed, the first, is there when all is
            tensors = {name: found[name] for name in group.names}
            self.store.put([group.keys[k] for k in at], tensors, group.made_by, self.dtype)

    def columns(self) -> dict[str, Tensor | Column]:
        """Everything by name, of all images, in their order."""
        n = len(self.images)
        same = {name: x.expand(n, *x.shape[1:]) for name, x in self.grey.items() if name in SHARED}
        return same | {name: Column(self.store, group.keys, name) for group in self.groups for name in group.names}


def fill(
    store: Store, extractor: Any, images: Sequence[str], read: Read, size: int, flip: bool = False,
    dtype: torch.dtype | None = None, what: str | None = "filling the store", **noise: Any,
) -> dict[str, Tensor | Column]:  # fmt: skip
    """What `extractor.frozen` gives of n images, to be used as what `tasks.prepared.prepare_images` gives.

    Any number of processes may fill a store with the same images at once: each image is computed by one of them, and
    by another if that is killed. ValueError, with the numbers and before anything long starts, if the budget or the
    disk has no room; other errors as of `Store.put`. Arguments as of `Filling` and `Filling.complete`.

    Args:
        read: some positions among the images to these (B, 3, size, size) in [0, 1].
    """
    filling = Filling(store, extractor, images, size, flip, dtype, noise)
    if todo := filling.lacking():
        store.check_room(len(todo) * filling.each, len(todo))
        filling.complete(read, what)
    return filling.columns()


def joined(first: Tensor | Column, second: Tensor | Column) -> Tensor | Column:
    """What is frozen of some images, and then of others."""
    if isinstance(first, Column):
        return replace(first, keys=first.keys + second.keys)
    if first.stride(0) == 0:  # the same for all
        return first[:1].expand(len(first) + len(second), *first.shape[1:])
    return torch.cat([first, second])


def grey_image(size: int) -> Tensor:
    """(1, 3, size, size)"""
    return torch.full((1, 3, size, size), 0.5)


def kept_bytes(tensors: dict[str, Tensor], dtype: torch.dtype | None) -> int:
    """Bytes of some tensors, their floats in `dtype`."""
    return sum(x.numel() * (dtype if dtype and x.is_floating_point() else x.dtype).itemsize for x in tensors.values())


def precision(backbone: Any) -> torch.dtype | None:
    """In which floats are kept by default: float16 at full size, and as they are computed where they are small."""
    return torch.float16 if backbone.diffusion.size > FULL_SIZE else None
