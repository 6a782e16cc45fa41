"""What is frozen of images: computed where a store lacks it, then read from there, as one asks for it."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from sfhelpers.store.store import Store, item_key

SHARED = ("text", "temb", "timestep", "upsample_size")  # the same for all images: kept once
OF_TOKENS = ("weights_sha256", "sizes", "read", "dtype", "kept")  # all that changes them; the rest, of the UNet, is not
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
    read: Callable[[Sequence[int]], Tensor],
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
    made = made_by(extractor, size, dtype, **noise)
    arm = {**made, "arm": [type(extractor).__name__, extractor.inject, extractor.until, *extractor.sources]}
    one = item_key(arm)  # of no image but a grey one, it tells names and sizes, and what is the same for all
    if store.missing([one]):
        store.put([one], extractor.frozen(torch.full((1, 3, size, size), 0.5), **noise), arm)
    grey = store.get([one])
    groups = {"tokens": grey.keys() & {"tokens"}, "unet": grey.keys() - {*SHARED, "tokens"}}
    of = {"tokens": {name: made[name] for name in OF_TOKENS}, "unet": {**made, "tensors": sorted(groups["unet"])}}
    groups = {group: names for group, names in groups.items() if names}  # in this order, see below
    keys = {group: [item_key(of[group], image, flip) for image in images] for group in groups}

    def lacking() -> dict[str, int]:
        """By the first of its keys that is missing, the position of each image of which something is."""
        gone = set(store.missing([key for some in keys.values() for key in some]))
        firsts = (next((key for key in own if key in gone), "") for own in zip(*keys.values(), strict=True))
        return {key: at for at, key in enumerate(firsts) if key}

    todo = lacking()
    wide = {None: 8}.get(dtype, 2)
    each = sum(grey[name][0].numel() * min(wide, grey[name].itemsize) for some in groups.values() for name in some)
    store.check_room(len(todo) * each, len(todo))
    with tqdm(total=len(todo), desc=what, leave=False) as bar:
        while todo := lacking():
            bar.update(bar.total - len(todo) - bar.n)
            with store.claim(list(todo), extractor.backbone.at_once) as claimed:
                at = [todo[key] for key in claimed]
                found = extractor.frozen(read(at), **noise) if at else {}
                for group in reversed(groups if at else ()):  # so that the one claimed, the first, is there at last
                    tensors = {name: found[name] for name in groups[group]}
                    store.put([keys[group][k] for k in at], tensors, of[group], dtype)
            if not at:
                time.sleep(PAUSE)
    same = {name: grey[name].expand(len(images), *grey[name].shape[1:]) for name in grey.keys() & {*SHARED}}
    return same | {name: Column(store, keys[group], name) for group in groups for name in groups[group]}
