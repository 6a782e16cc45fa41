"""What is frozen of images: computed where a store lacks it, then read from there, as one asks for it."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from sfhelpers.store.store import Store, item_key

SHARED = ("text", "temb", "timestep", "upsample_size")  # the same for all images: kept once
OF_TOKENS = ("weights_sha256", "sizes", "read", "dtype", "kept")  # all that changes them; the rest, of the UNet, is not
Read = Callable[[Sequence[int]], Tensor]
PAUSE = 0.2  # s, until one looks again whether others are done


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


def fill(
    store: Store,
    extractor: Any,
    images: Sequence[str],
    read: Read,
    size: int,
    flip: bool = False,
    dtype: torch.dtype | None = None,
    what: str = "filling the store",
    **noise: Any,
) -> dict[str, Tensor | Column]:
    """What `extractor.frozen` gives of n images, to be used as what `tasks.prepared.prepare_images` gives.

    Any number of processes may fill a store with the same images at once: each image is computed by one of them, and
    by another if that is killed. ValueError, with the numbers and before anything long starts, if the budget or the
    disk has no room; other errors as of `Store.put`.

    Args:
        images: n texts that tell one image from all others, as the sha256 of its file.
        read: some positions among them to their images (B, 3, size, size) in [0, 1].
        flip: whether `read` mirrors them.
        dtype: half precision in which floats are kept, as of `Store.put`.
        noise: of `extractor.frozen`.
    """
    grey = _grey(store, extractor, size, noise)
    made, own = made_by(extractor, size, dtype, **noise), sorted(grey.keys() - {*SHARED, "tokens"})
    groups = [Group(["tokens"], {name: made[name] for name in OF_TOKENS})] if "tokens" in grey else []
    groups += [Group(own, {**made, "tensors": own})] if own else []
    for group in groups:
        group.keys = [item_key(group.made_by, image, flip) for image in images]
    if todo := _lacking(store, groups):
        one = {name: grey[name][0] for group in groups for name in group.names}
        size = sum(
            x.numel() * (dtype.itemsize if dtype and x.is_floating_point() else x.itemsize) for x in one.values()
        )
        store.check_room(len(todo) * size, len(todo))
        _complete(store, extractor, groups, read, dtype, tqdm(total=len(todo), desc=what, leave=False), noise)
    same = {name: x.expand(len(images), *x.shape[1:]) for name, x in grey.items() if name in SHARED}
    return same | {name: Column(store, group.keys, name) for group in groups for name in group.names}


def _grey(store: Store, extractor: Any, size: int, noise: dict[str, Any]) -> dict[str, Tensor]:
    """What is frozen of one grey image: it tells names and sizes, and what is the same for all."""
    arm = [type(extractor).__name__, extractor.inject, extractor.until, *extractor.sources]
    made = {**made_by(extractor, size, None, **noise), "arm": arm}
    key = item_key(made)
    if store.missing([key]):
        store.put([key], extractor.frozen(torch.full((1, 3, size, size), 0.5), **noise), made)
    return store.get([key])


def _lacking(store: Store, groups: list[Group]) -> dict[str, int]:
    """By the first of its keys that is missing, the position of each image of which something is."""
    gone = set(store.missing([key for group in groups for key in group.keys]))
    own = enumerate(zip(*(group.keys for group in groups), strict=True))
    return {next(key for key in keys if key in gone): at for at, keys in own if not gone.isdisjoint(keys)}


def _complete(
    store: Store, extractor: Any, groups: list[Group], read: Read, dtype: torch.dtype | None, bar: tqdm, noise: dict
) -> None:
    while todo := _lacking(store, groups):
        bar.update(bar.total - len(todo) - bar.n)
        with store.claim(list(todo), extractor.backbone.at_once) as claimed:
            if at := [todo[key] for key in claimed]:
                found = extractor.frozen(read(at), **noise)
                for group in reversed(groups):  # so that what was claimed, the first, is there when all is
                    tensors = {name: found[name] for name in group.names}
                    store.put([group.keys[k] for k in at], tensors, group.made_by, dtype)
        if not at:
            time.sleep(PAUSE)
    bar.close()
