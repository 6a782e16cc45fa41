"""Sketch-photo pairs with everything frozen computed once an image, as every training on pairs needs them."""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from sfhelpers import params
from sfhelpers.datasets import Dataset, Record, pairs
from sfhelpers.datasets.psc6k import FRAME, KeypointPair
from sfhelpers.files import shown
from sfhelpers.images import Square, image_size, load_images, open_mask
from sfhelpers.store import SHARED, Store, fill, grey_image, kept_bytes, precision

Prepared = dict[str, Tensor]
MASK_SIDE = 160  # px
MOST = 0.6  # of the memory that is free, which what is frozen may take
WHOLE_DISK = 2**60  # bytes: in a folder that is named, there is no other bound
LONG = 600.0  # s, from which on it is said beforehand what it takes to compute


@dataclass
class PreparedPairs:
    """Sketch-photo pairs over prepared images: every image is kept once, however many pairs it is in."""

    sketches: Prepared  # what `extractor.frozen` gave, first dimension one entry an image, on the CPU
    photos: Prepared
    sketch_records: list[Record]  # of those images, in the same order
    photo_records: list[Record]
    pairs: Tensor  # (N, 2) int64, positions in `sketches` and `photos`
    masks: Tensor | None  # (M, side, side) bool, of all things with one, photo by photo, own things first; None: M is 0

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Of all sketches and of all things in the photos, sorted."""
        drawn = {record.category for record in self.sketch_records}
        return tuple(sorted(drawn.union(*(photo.things for photo in self.photo_records))))

    @cached_property
    def mask_at(self) -> Tensor:
        """(photos, categories) int64: where in `masks` a category's thing is, -1 where the photo shows none."""
        places = torch.full((len(self.photo_records), len(self.categories)), -1)
        found = [(k, name) for k, photo in enumerate(self.photo_records) for name in photo.masks]
        for number, (photo, name) in enumerate(found):
            places[photo, self.categories.index(name)] = number
        return places

    @cached_property
    def category_at(self) -> Tensor:
        """(sketches,) int64, positions of their categories in `categories`."""
        return torch.tensor([self.categories.index(record.category) for record in self.sketch_records])

    @property
    def groups(self) -> dict[str, np.ndarray]:
        """What paired tests draw together: pairs of one photo, and of the category of one sketch."""
        sketches, photos = self.pairs.numpy().T
        return {"photos": photos, "categories": np.array([self.sketch_records[k].category for k in sketches])}

    @property
    def pair_masks(self) -> Tensor:
        """(N, side, side) bool, the mask of every sketch's category in its photo; errors as of `masks_of`."""
        return self.masks_of(self.category_at[self.pairs[:, 0]], self.pairs[:, 1])

    def own_masks(self, photos: Tensor) -> Tensor:
        """(n, side, side) bool, the masks of what these photos (n,) are filed under; errors as of `masks_of`."""
        own = [self.categories.index(self.photo_records[photo].category) for photo in photos.tolist()]
        return self.masks_of(torch.tensor(own, dtype=torch.long), photos)

    def masks_of(self, categories: Tensor, photos: Tensor) -> Tensor:
        """(..., side, side) bool, each category's mask in a photo, empty where it is not; ValueError without any."""
        if missing := sum(not self.photo_records[photo].masks for photo in photos.tolist()):
            what = f"{missing} of {len(photos)} pairs have photos without a mask and cannot be trained on or scored"
            raise ValueError(f"{what}: add their mask files, or take .select(masked=True) of the dataset first.")
        at = self.mask_at[photos, categories]
        return self.masks[at] & (at >= 0)[..., None, None]


def prepare_pairs(extractor: nn.Module, dataset: Dataset, size: int, **noise: Any) -> PreparedPairs:
    """Read pairs (matching instance, else category) and masks, compute what is frozen; ValueError without a pair.

    `noise` is of `prepare_images`: with a `store` in it, what is frozen is kept there, and read batch by batch.
    """
    if not (found := pairs(dataset)):
        remedy = "raise limit (0 takes all) if it leaves too few photos, or choose a part or split that has both"
        raise ValueError(f"dataset {dataset.name} has no sketch-photo pair here: {remedy}.")
    sketches, photos = (list(dict.fromkeys(side)) for side in zip(*found, strict=True))
    files = [path for photo in photos for path in photo.masks.values()]
    masks = torch.zeros(len(files), MASK_SIDE, MASK_SIDE, dtype=torch.bool) if files else None
    for k, path in enumerate(tqdm(files, "reading masks", leave=False)):
        mask = open_mask(path)
        masks[k] = Square.of(mask.shape[1], mask.shape[0], MASK_SIDE).mask(mask)
    sides = (sketches, "preparing sketches"), (photos, "preparing photos")
    frozen = [
        prepare_images(extractor, reader(some, size), len(some), what, digests(some), size, **noise)
        for some, what in sides
    ]
    position = {record: k for some in (sketches, photos) for k, record in enumerate(some)}
    positions = torch.tensor([[position[record] for record in pair] for pair in found])
    return PreparedPairs(*frozen, sketches, photos, positions, masks)


@dataclass
class PreparedPoints:
    """Annotated pairs with everything frozen computed once an image."""

    images: PreparedPairs  # the prepared sketches and photos, and which of them are pairs
    points: dict[str, Tensor]  # "sketch" and "photo" -> (N, J, 2) float32 in [0, 1] of the image's side, 0.5 if hidden
    visible: Tensor  # (N, J) bool

    def __len__(self) -> int:
        return len(self.images)


def prepare_points(extractor: nn.Module, pairs: list[KeypointPair], size: int, **noise: Any) -> PreparedPoints:
    """As `prepare_pairs`, of annotated pairs; ValueError also for an image that is not square: points would move."""
    if not pairs:
        raise ValueError("there is no annotated pair here: choose a split and a limit that leave some in every part.")
    records = list(dict.fromkeys([pair.photo for pair in pairs] + [pair.sketch for pair in pairs]))
    for record in records:
        width, height = image_size(record.path)
        if width != height:
            raise ValueError(f"{shown(record.path)} is {width} x {height} px: keypoints need a square rendering.")
    images = prepare_pairs(extractor, Dataset("", Path(), "", tuple(records)), size, **noise)
    by_sketch = {pair.sketch: pair for pair in pairs}
    ordered = [by_sketch[images.sketch_records[k]] for k in images.pairs[:, 0]]
    both = {"sketch": [pair.sketch_points for pair in ordered], "photo": [pair.photo_points for pair in ordered]}
    points = {k: torch.from_numpy(np.nan_to_num(np.stack(v) / FRAME, nan=0.5)).float() for k, v in both.items()}
    return PreparedPoints(images, points, torch.from_numpy(np.stack([pair.visible for pair in ordered])))


def take(prepared: Prepared, indices: Tensor, device: torch.device | str | None = None) -> Prepared:
    """The entries of prepared tensors at `indices` (b,), moved to `device` if one is given."""
    return {name: tensor[indices.to(tensor.device)].to(device) for name, tensor in prepared.items()}


def compute(function: Callable[[Prepared], Tensor], prepared: Prepared, batch_size: int, what: str) -> Tensor:
    """A function of all prepared images, on the CPU; `what` stands before the progress bar."""
    batches = torch.arange(len(next(iter(prepared.values())))).split(batch_size)
    return torch.cat([function(take(prepared, batch)).cpu() for batch in tqdm(batches, what, leave=False)])


def tested(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The parts that are neither trained on nor chosen by."""
    return {name: part for name, part in parts.items() if name not in ("train", "validation")}


def fit_statistics(extractor: nn.Module, train: PreparedPairs) -> None:
    """Fix the extractor's standardisation on at most 64 training sketches and as many photos, evenly spaced."""
    sides = (train.sketches, len(train.sketch_records)), (train.photos, len(train.photo_records))
    few = [take(side, torch.linspace(0, n - 1, min(64, n)).round().long()) for side, n in sides]
    extractor.fit_statistics({name: torch.cat([side[name] for side in few]) for name in few[0]})


def reader(records: list[Record], size: int) -> Callable[[Iterable[int]], Tensor]:
    """Positions among records to their images at `size` px, as `prepare_images` reads them."""
    return lambda some: load_images([records[k].path for k in some], size)


def digests(records: Iterable[Any]) -> Iterator[str]:
    """By which a store knows images: hashed only where one is asked for."""
    return (record.digest for record in records)


def prepare_images(
    extractor: nn.Module, read: Callable[[Sequence[int]], Tensor], n: int, what: str, names: Iterable[str] = (),
    size: int = 0, store: Store | None = None, **noise: Any,
) -> Prepared:  # fmt: skip
    """Everything frozen of `n` images; `read` gives those at some positions, so that never all are in memory.

    With a `store`, it is kept there by the images' `names`, read at `size` px, and `noise` is of `store.fill`.
    """
    if store:
        return fill(store, extractor, list(names), read, size, what=what, **noise)
    prepared: Prepared = {}
    batch = extractor.backbone.at_once
    for start in tqdm(range(0, n, batch), what, leave=False):
        images = read(range(start, min(start + batch, n)))
        for name, tensor in extractor.frozen(images, **noise).items():
            if start == 0:
                shape, once = (n, *tensor.shape[1:]), name == "text"  # the one large tensor that is the same for all
                prepared[name] = tensor[:1].cpu().expand(shape) if once else torch.empty(shape, dtype=tensor.dtype)
            if name != "text":
                prepared[name][start : start + len(images)] = tensor.cpu()
    return prepared


def keeping(where: str, extractor: nn.Module, size: int, n: int, **noise: Any) -> tuple[dict[str, Any], str]:
    """How what is frozen of n images at most is kept, for `prepare_images`, and what is to be said of it beforehand.

    `where` is "off", in memory; "auto", in memory, or on disk where it takes more than MOST of what is free or where
    processes were launched together, which then share it; or a store's folder. On disk, latents are kept where all in
    front of the injection has no room. ValueError, with the numbers, where nothing has.
    """
    grey, seconds = _tried(extractor, size, **noise)
    need, free = n * kept_bytes(_own(grey), None), MOST * psutil.virtual_memory().available
    said = f"what is frozen of {n:,} images at most takes {need / 1e9:,.2f} GB of memory"
    long = f"; by one image it takes about {n * seconds / 60:,.0f} min in all" if n * seconds > LONG else ""
    if where == "off" and need > free:
        remedy = "pass -p store auto, which keeps it on disk, or a smaller limit"
        raise ValueError(f"{said}, and {free / 1e9:,.2f} GB are to spare: {remedy}.")
    alone = int(os.environ.get("WORLD_SIZE", 1)) == 1
    if where == "off" or (where == "auto" and alone and need <= free):
        return {}, f"{said}{long}" if long else ""
    store = Store(params.runs() / "store") if where == "auto" else Store(where, WHOLE_DISK)
    dtype = precision(extractor.backbone)
    room = min(store.budget, sum(store.sizes().values()) + shutil.disk_usage(store.root).free)
    for tier in [{}, {"latents": True}][: 1 + ("hidden" in grey)]:
        found = extractor.frozen(grey_image(size), **noise, **tier) if tier else grey
        disk = n * kept_bytes(_own(found), dtype)
        if disk <= room:
            told = f"kept in {disk / 1e9:,.2f} GB on disk in {shown(store.root)}{' as latents' * bool(tier)}"
            return {"store": store, "dtype": dtype, **tier}, f"{said}: {told}, computed once for all runs{long}"
    told = f"{disk / 1e9:,.2f} GB on disk, and the store {shown(store.root)} has room for {room / 1e9:,.2f}"
    raise ValueError(f"{said} or {told}: pass -p store FOLDER on a larger disk, or a smaller limit.")


def _own(prepared: Prepared) -> Prepared:
    """What is not the same for all images, which is kept once."""
    return {name: tensor for name, tensor in prepared.items() if name not in SHARED}


def _tried(extractor: nn.Module, size: int, **noise: Any) -> tuple[Prepared, float]:
    """What is frozen of a grey image, and in how many seconds."""
    for _ in range(2):
        start = time.perf_counter()
        grey = {name: tensor.cpu() for name, tensor in extractor.frozen(grey_image(size), **noise).items()}
        if (seconds := time.perf_counter() - start) > 1:  # a first pass of a small model takes longer than others
            break
    return grey, seconds


@torch.no_grad()
def embed_photos(paths: Sequence[Path], embed: Callable[[Tensor], Tensor], size: int, batch_size: int = 32) -> Tensor:
    """Embeddings (N, D) float32 on the CPU of image files, read at `size` px; `embed`: (B, 3, size, size) to (B, D)."""
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: give how many photos to read at a time, 1 or more.")
    starts = tqdm(range(0, len(paths), batch_size), f"embedding {len(paths):,} images", leave=False)
    return torch.cat([embed(load_images(paths[k : k + batch_size], size)).float().cpu() for k in starts])
