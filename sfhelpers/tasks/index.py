"""An index of photos that sketches ask: FAISS, exact, one file, opened again without embedding anything anew."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sfhelpers.backbones import Backbone
from sfhelpers.datasets.records import listed
from sfhelpers.drawing import Drawing
from sfhelpers.files import make_folder, replace_file, shown
from sfhelpers.fusion import ARMS
from sfhelpers.images import open_image
from sfhelpers.tasks.arms import reading_size
from sfhelpers.tasks.framing import Frame
from sfhelpers.tasks.heads import HEADS, file_name, load_head
from sfhelpers.tasks.photos import Gallery, embed_photos, usable_photos
from sfhelpers.tasks.search import as_image

FLAT = b"IxFI"  # how FAISS marks an IndexFlatIP; its readers of other kinds trust the bytes they get
FORMAT = 1  # raise it when the same file would be read, or its photos embedded, in another way
KEY = "sketchfusion index"


@dataclass(frozen=True)
class Embedder:
    """What turns sketches and photos into the vectors of an index. Make one with `Embedder.of`.

    Attributes:
        function: (B, 3, size, size) in [0, 1] to (B, D) of unit length.
        size: px.
        made_by: which `embed`, and the sha256 of all weights in it; vectors of equal `made_by` can be compared.
    """

    function: Callable[[Tensor], Tensor]
    size: int
    made_by: dict[str, str]

    @classmethod
    def of(cls, embed: str | Path, backbone: Backbone) -> "Embedder":
        """The embedding "clip", or that of a trained retrieval head; see `PhotoIndex.from_folder`."""
        made_by = {"embed": str(embed), "weights_sha256": backbone.weights_sha256, "head_sha256": ""}
        if embed == "clip":
            return cls(backbone.vision.embed, reading_size(backbone), made_by)
        path = HEADS / "retrieval" / file_name(embed) if embed in ARMS else Path(embed)
        model = load_head(path, backbone, "retrieval").model
        made_by["head_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        return cls(model, reading_size(backbone), made_by)


class PhotoIndex:
    """Photos in a FAISS index. Make one with `from_folder` or `from_gallery`, or open one with `load`.

    Attributes:
        root: the folder that the photos are in.
        names: N paths under it, with `/`.
        faiss: `IndexFlatIP` of N unit vectors in that order: exact search by cosine. `faiss.write_index` writes it
            for other programs.
        embedder: what made the vectors.
    """

    def __init__(self, root: Path, names: Sequence[str], index: faiss.IndexFlatIP, embedder: Embedder):
        self.root, self.names, self.faiss, self.embedder = root, tuple(names), index, embedder

    def __len__(self) -> int:
        return len(self.names)

    @property
    def paths(self) -> list[Path]:
        """The N photos."""
        return [self.root / name for name in self.names]

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        backbone: Backbone,
        embed: str | Path = "clip",
        batch_size: int = 32,
        skip_broken: bool = False,
    ) -> "PhotoIndex":
        """Embed a folder's photos, laid out in any way that `Gallery.from_folder` reads; errors as there.

        Args:
            embed: "clip" for the image tower's own embedding, nothing trained; "fused" (or another arm) for the
                retrieval head that comes with pocket; or the file of a head that 05_retrieval wrote. Errors as
                `load_head`.
            batch_size: photos in memory at a time.
            skip_broken: leave photos out that cannot be read, with a warning, instead of an error.
        """
        embedder, root = Embedder.of(embed, backbone), _absolute(folder)
        paths = [record.path for record in usable_photos(root, skip_broken=skip_broken)]
        return cls(root, _names(paths, root), _flat(_vectors(paths, embedder, batch_size)), embedder)

    @classmethod
    def from_gallery(cls, gallery: Gallery, backbone: Backbone) -> "PhotoIndex":
        """The photos of a gallery, with the embeddings that it has; ValueError if another backbone made them."""
        if gallery.weights_sha256 != backbone.weights_sha256:
            raise ValueError(f"the gallery was embedded by another backbone than {backbone.name}: make it anew.")
        paths = [_absolute(record.path) for record in gallery.records]
        root = Path(os.path.commonpath([path.parent for path in paths]))
        return cls(root, _names(paths, root), _flat(gallery.embeddings.numpy()), Embedder.of("clip", backbone))

    @torch.no_grad()
    def ask(self, sketch: str | Path | Image.Image | Drawing, k: int = 10) -> list[tuple[Path, float]]:
        """The k photos nearest to a sketch (all, if there are fewer) and their cosines, nearest first.

        Args:
            sketch: dark lines on light paper, anywhere in the image: it is framed by its ink first.

        Raises:
            ValueError: k is no whole number of 1 or more, the sketch has no line, is a single dot or no image, or its
                embedding is not finite.
            FileNotFoundError: there is no such file.
        """
        if not isinstance(k, Integral) or k < 1:
            raise ValueError(f"k is {k!r}: ask for a whole number of photos, 1 or more.")
        image = open_image(sketch) if isinstance(sketch, (str, Path)) else sketch
        asked = Frame.of(as_image(image)).tensor(self.embedder.size)[None]
        vector = _finite(self.embedder.function(asked).float().cpu().numpy(), "the sketch")
        scores, places = self.faiss.search(np.ascontiguousarray(vector), min(int(k), len(self)))
        return [(self.root / self.names[n], float(score)) for n, score in zip(places[0], scores[0], strict=True)]

    def save(self, path: str | Path) -> Path:
        """Write the index as one file, whole or not at all; nothing in it is pickled.

        It is safetensors: the tensor "faiss" holds the bytes of `faiss.serialize_index`, the metadata the photos'
        names, their folder and what embedded them.

        Raises:
            OSError: one sentence, when it cannot be written or a file that is no index is in its place; an earlier
                file stays as it was.
        """
        path, content = Path(path).expanduser(), faiss.serialize_index(self.faiss)
        described = {
            "format": FORMAT, "root": str(self.root), "names": self.names, "made_by": self.embedder.made_by,
            "sha256": hashlib.sha256(content).hexdigest(),
        }  # fmt: skip
        whole = save({"faiss": torch.from_numpy(content)}, metadata={KEY: json.dumps(described)})
        if path.is_file() and not _is_index(path):
            raise FileExistsError(f"{shown(path)} is a file but no index: name another place, or delete it first.")
        make_folder(path.parent)
        replace_file(path, whole)
        return path

    @classmethod
    def load(
        cls,
        path: str | Path,
        backbone: Backbone,
        root: str | Path | None = None,
        refresh: bool = False,
        skip_broken: bool = False,
    ) -> "PhotoIndex":
        """Open what `save` wrote.

        Args:
            backbone: the one that embedded the photos.
            root: the folder that the photos are in now; None if it is where it was.
            refresh: embed the photos that were added to the folder since and forget those that are gone. A photo that
                was replaced under its old name is not noticed.
            skip_broken: as in `from_folder`, for the photos that were added.

        Raises:
            FileNotFoundError: there is no such file, or photos are no longer where they were.
            ValueError: one sentence, for a file that is no such index or not whole, was written by another version
                of the code, or was embedded by another backbone or head.
        """
        path = Path(path).expanduser()
        described, vectors = _read(path)
        embedder = _same_embedder(path, described["made_by"], backbone)
        index = cls(_absolute(root or described["root"]), described["names"], vectors, embedder)
        if refresh:
            return index._refreshed(skip_broken)
        if gone := [name for name in index.names if not (index.root / name).is_file()]:
            raise FileNotFoundError(
                f"{len(gone)} of the {len(index)} photos of {shown(path)} are not under {shown(index.root)} any more "
                f"({shown(listed(gone))}): pass root=, the folder they are in now, or refresh=True to forget them."
            )
        return index

    def _refreshed(self, skip_broken: bool) -> "PhotoIndex":
        kept = [n for n, name in enumerate(self.names) if (self.root / name).is_file()]
        known = set(self.names)
        found = [record.path for record in usable_photos(self.root, skip_broken=skip_broken)]
        new = [path for path, name in zip(found, _names(found, self.root), strict=True) if name not in known]
        vectors = self.faiss.reconstruct_n(0, len(self))[kept]
        if new:
            vectors = np.concatenate([vectors, _vectors(new, self.embedder)])
        names = [self.names[n] for n in kept] + _names(new, self.root)
        return PhotoIndex(self.root, names, _flat(vectors), self.embedder)


def _absolute(path: str | Path) -> Path:
    return Path(path).expanduser().absolute()


def _names(paths: Sequence[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


@torch.no_grad()
def _vectors(paths: Sequence[Path], embedder: Embedder, batch_size: int = 32) -> np.ndarray:
    return embed_photos(paths, embedder.function, embedder.size, batch_size).numpy()


def _flat(vectors: np.ndarray) -> faiss.IndexFlatIP:
    """An index of (N, D) vectors; ValueError, one sentence, if one of them is not finite."""
    index = faiss.IndexFlatIP(_finite(vectors, "the photos").shape[1])
    index.add(np.ascontiguousarray(vectors, dtype=np.float32))
    return index


def _finite(vectors: np.ndarray, of: str) -> np.ndarray:
    """The vectors; FAISS would find no place for one that is not finite, and give -1."""
    if broken := int((~np.isfinite(vectors)).any(1).sum()):
        raise ValueError(
            f"{broken} of {len(vectors)} embeddings of {of} are not finite: look for broken values in the weights of "
            "the backbone and of the head, or load the backbone in float32."
        )
    return vectors


def _is_index(path: Path) -> bool:
    """Whether a file says that it is an index, of whatever version."""
    try:
        with safe_open(path, framework="np") as file:
            return KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def _read(path: Path) -> tuple[dict[str, Any], faiss.IndexFlatIP]:
    """What an index file says of itself, and the index."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no index {shown(path)}: make one by PhotoIndex.from_folder and its save.")
    try:
        with safe_open(path, framework="np") as file:
            described, content = json.loads((file.metadata() or {})[KEY]), file.get_tensor("faiss")
        version, sha256 = described["format"], described["sha256"]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{shown(path)} is not a whole index of photos: make it anew.") from error
    if version != FORMAT:
        raise ValueError(f"{shown(path)} was written by another version of sfhelpers: make the index anew.")
    if content[:4].tobytes() != FLAT or hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{shown(path)} is not a whole index of photos: make it anew.")
    return described, faiss.deserialize_index(content)


def _same_embedder(path: Path, made_by: dict[str, str], backbone: Backbone) -> Embedder:
    """What embeds as the index's photos were embedded."""
    if made_by["weights_sha256"] != backbone.weights_sha256:
        raise ValueError(
            f"{shown(path)} was embedded by a backbone with weights {made_by['weights_sha256'][:12]}, but "
            f"{backbone.name} has {backbone.weights_sha256[:12]}: load the backbone that it was made with, or make "
            "the index anew."
        )
    embedder = Embedder.of(made_by["embed"], backbone)
    if embedder.made_by != made_by:
        raise ValueError(f"{shown(path)} was embedded by another retrieval head than there is now: make it anew.")
    return embedder
