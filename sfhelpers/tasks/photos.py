"""A gallery that can be searched: any folder of photos, each embedded once and opened again only to be shown."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from sfhelpers.backbones import Backbone
from sfhelpers.datasets import Dataset, Record, records, sketchy
from sfhelpers.files import shown
from sfhelpers.images import EXTENSIONS, load_images, open_image
from sfhelpers.tasks.arms import reading_size

THUMBNAIL = 240  # px, the longer side of the pictures that are shown
PICTURES_MEGABYTES = 20


class Kept:
    """The results used last, within a byte budget; safe for two threads.

    Args:
        megabytes: of all results together; the newest is kept even if it alone is larger.
    """

    def __init__(self, megabytes: float):
        self.megabytes = megabytes
        self._entries: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """What is kept now."""
        return sum(size for _, size in self._entries.values())

    def get(self, key: Any, make: Callable[[], tuple[Any, int]]) -> Any:
        """The result kept under `key`, or what `make` gives: the result and how many bytes it takes."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key][0]
        made = make()  # outside the lock: others need not wait for it
        with self._lock:
            self._entries[key] = made
            self._entries.move_to_end(key)
            while len(self._entries) > 1 and self.bytes > self.megabytes * 1e6:
                self._entries.popitem(last=False)
        return made[0]


class Gallery:
    """Photos that can be searched. Make one with `from_folder` or `from_dataset`.

    What is kept does not grow with the photos' size: a record and an embedding each, and a few small pictures.

    Attributes:
        records: N records, in the order of category and file name; `category` is "" for a photo in no class folder.
        embeddings: (N, D) float32 of unit length, on the CPU (SketchFusion's CLIP branch: `vision.embed`).
        weights_sha256: of the backbone that embedded them.
        categories: K different names, sorted.
        labels: (N,) int64, positions in `categories`, -1 for a photo in no class folder.
    """

    def __init__(self, records: Sequence[Record], embeddings: Tensor, weights_sha256: str):
        self.records, self.embeddings, self.weights_sha256 = tuple(records), embeddings, weights_sha256
        self.categories = tuple(sorted({record.category for record in self.records} - {""}))
        position = {name: k for k, name in enumerate(self.categories)} | {"": -1}
        self.labels = torch.tensor([position[record.category] for record in self.records])
        self._pictures = Kept(PICTURES_MEGABYTES)

    def __len__(self) -> int:
        return len(self.records)

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        backbone: Backbone,
        limit: int = 0,
        batch_size: int = 32,
        seed: int = 0,
        skip_broken: bool = False,
    ) -> "Gallery":
        """Embed the photos of a folder laid out as `photo/<class>/*`, `<class>/*`, Sketchy, or with no classes: `*`.

        Args:
            limit: at most so many photos a class; 0 takes all.
            batch_size: photos in memory at a time.
            seed: chooses the photos if `limit` leaves some out.
            skip_broken: leave photos out that cannot be read, with a warning, instead of an error.

        Raises:
            FileNotFoundError, NotADirectoryError: there is no such folder.
            ValueError: it holds no photo, or broken ones.
        """
        return cls.from_records(usable_photos(folder, limit, seed, skip_broken), backbone, batch_size)

    @classmethod
    def from_dataset(
        cls, dataset: Dataset, backbone: Backbone, limit: int = 0, batch_size: int = 32, seed: int = 0
    ) -> "Gallery":
        """Embed the photos of a dataset, or of a part of it; ValueError if it has none. Arguments as `from_folder`."""
        if not dataset.photos:
            raise ValueError(f"dataset {dataset.name} has no photo here: select a part or a category that has some.")
        return cls.from_records(records.limited(list(dataset.photos), limit, seed), backbone, batch_size)

    @classmethod
    def from_records(cls, photos: Sequence[Record], backbone: Backbone, batch_size: int = 32) -> "Gallery":
        """Embed these photos, a batch at a time, with a progress bar."""
        paths = [record.path for record in photos]
        embeddings = embed_photos(paths, backbone.vision.embed, reading_size(backbone), batch_size)
        return cls(photos, embeddings, backbone.weights_sha256)

    @cached_property
    def prototypes(self) -> Tensor:
        """(K, D), every category's mean embedding, of unit length."""
        names = range(len(self.categories))
        means = [self.embeddings[self.labels == k].mean(0) for k in names]
        return F.normalize(torch.stack(means), dim=1) if means else self.embeddings[:0]

    def picture(self, index: int) -> Image.Image:
        """A photo at 240 px at most; the few used last are kept. Errors as `images.open_image`."""

        def make() -> tuple[Image.Image, int]:
            image = open_image(self.records[index].path)
            image.thumbnail((THUMBNAIL, THUMBNAIL))
            return image, 3 * image.width * image.height

        return self._pictures.get(index, make)


def usable_photos(folder: str | Path, limit: int = 0, seed: int = 0, skip_broken: bool = False) -> list[Record]:
    """Records of a folder's photos, each of which opens. Arguments and errors as `Gallery.from_folder`."""
    root = Path(folder).expanduser()
    if not root.exists():
        raise FileNotFoundError(f"there is no folder {shown(root)}: pass the folder that holds your photos.")
    if not root.is_dir():
        raise NotADirectoryError(f"{shown(root)} is a file: pass the folder that holds your photos.")
    found = find_images(root, "photo")
    if not found:
        raise ValueError(
            f"no photo found under {shown(root)}: expected photo/<class>/*, <class>/* or the photos themselves "
            f"with one of {' '.join(EXTENSIONS)} (found: {records.contents(root)})."
        )
    usable = records.without_broken(records.limited(found, limit, seed), root, skip_broken)
    if not usable:
        raise ValueError(f"no usable photo is left under {shown(root)}: replace the broken files.")
    return usable


@torch.no_grad()
def embed_photos(paths: Sequence[Path], embed: Callable[[Tensor], Tensor], size: int, batch_size: int = 32) -> Tensor:
    """Embed photos, a batch at a time, with a progress bar that says how many and how long.

    Args:
        paths: N of them, 1 or more.
        embed: (B, 3, size, size) in [0, 1] to (B, D).
        size: px, the side at which they are read.

    Returns:
        (N, D) float32 on the CPU.

    Raises:
        ValueError: batch_size is below 1, or what `load_images` refuses.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: give how many photos to read at a time, 1 or more.")
    parts = []
    with tqdm(total=len(paths), desc=f"embedding {len(paths):,} photos", leave=False) as bar:
        for start in range(0, len(paths), batch_size):
            batch = paths[start : start + batch_size]
            parts.append(embed(load_images(batch, size)).float().cpu())
            bar.update(len(batch))
    return torch.cat(parts)


def find_images(root: Path, domain: str) -> list[Record]:
    """Records of a folder's photos or sketches, by category and name; empty if there are none.

    Looked for are, in this order, Sketchy's `256x256/<domain>/tx_000100000000/<class>/*`, then `<domain>/<class>/*`
    and `<domain>/*`, and, for photos alone, `<class>/*` and `*` in the folder itself.

    Args:
        domain: "photo" or "sketch".
    """
    places = [root / "256x256" / domain / sketchy.RENDERING, root / domain / sketchy.RENDERING, root / domain]
    for place in [*places, *([root] if domain == "photo" else [])]:
        if not place.is_dir():
            continue
        files = {"": _loose(place)} | records.image_files(place)
        found = [Record(path, domain, name, path.stem) for name, paths in sorted(files.items()) for path in paths]
        if found:
            return found
    return []


def _loose(folder: Path) -> list[Path]:
    """Images in the folder itself, in no class."""
    files = (path for path in sorted(folder.iterdir()) if path.suffix.lower() in EXTENSIONS and path.is_file())
    return [path for path in files if not path.name.startswith(".")]
