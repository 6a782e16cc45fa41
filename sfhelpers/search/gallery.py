"""Photos that sketches ask: any folder, embedded once, kept in one file, each opened again only to be shown."""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from os.path import isfile
from pathlib import Path, PurePosixPath
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sfhelpers.backbones import Backbone
from sfhelpers.datasets import Dataset, Record, records, sketchy
from sfhelpers.files import file_sha256, given, make_folder, replace_file, shown
from sfhelpers.fusion import ARMS
from sfhelpers.images import EXTENSIONS, open_image
from sfhelpers.kept import from_signed, signed
from sfhelpers.metrics.arrays import whole
from sfhelpers.search.framing import Frame, Place, Sketch
from sfhelpers.search.nearest import nearest
from sfhelpers.tasks.arms import reading_size
from sfhelpers.tasks.heads import HEADS, file_name, load_head
from sfhelpers.tasks.prepared import embed_photos

THUMBNAIL = 240  # px, the longer side of the pictures that are shown
PICTURES = 100  # of them are kept, 17 MB at most
FORMAT = 2  # raise it when the same file would be read, or its photos embedded, in another way
KEY = "sketchfusion index"


class Gallery:
    """Photos that can be searched. Make one with `from_folder` or `from_dataset`, or open one with `load`.

    What is kept does not grow with the photos' size: `records` and `embeddings` ((N, D) float32 of unit length, on the
    CPU), in the order of category and file name, the sorted `categories`, each photo's position in these as `labels`
    (-1 and the category "" for a photo in no class folder), `made_by`, what embedded them, and a few small pictures.
    """

    def __init__(self, root: Place, backbone: Backbone, embed: Place = "clip"):
        self.root, self.size = given(root).absolute(), reading_size(backbone)
        self.made_by = {"embed": str(embed), "weights_sha256": backbone.weights_sha256, "head_sha256": ""}
        self.embedder = backbone.vision.embed
        if embed != "clip":
            path = HEADS / "retrieval" / file_name(embed) if embed in ARMS else Path(embed)
            self.embedder = load_head(path, backbone, "retrieval").model
            self.made_by["head_sha256"] = file_sha256(path)
        self.picture = lru_cache(PICTURES)(self.picture)

    def _with(self, photos: list[Record], known: dict[Path, Tensor], batch_size: int = 32) -> "Gallery":
        """This gallery of these photos; those whose embeddings are not known yet are embedded."""
        if new := [record.path for record in photos if record.path not in known]:
            known = known | dict(zip(new, embed_photos(new, self.embedder, self.size, batch_size), strict=True))
        self.records = tuple(photos)
        self.embeddings = _finite(torch.stack([known[record.path] for record in photos]), "the photos")
        self.categories = tuple(sorted({record.category for record in photos} - {""}))
        self.labels = torch.tensor([self.categories.index(r.category) if r.category else -1 for r in photos])
        return self

    def __len__(self) -> int:
        return len(self.records)

    @classmethod
    def from_folder(
        cls,
        folder: Place,
        backbone: Backbone,
        limit: int = 0,
        batch_size: int = 32,
        seed: int = 0,
        skip_broken: bool = False,
        embed: Place = "clip",
    ) -> "Gallery":
        """Embed the photos of a folder laid out as `photo/<class>/*`, `<class>/*`, Sketchy, or with no classes: `*`.

        FileNotFoundError or NotADirectoryError if there is no such folder; ValueError if it holds no photo, or broken
        ones, their embeddings are not finite, or as `load_head`.

        Args:
            limit: at most so many photos a class, chosen by `seed`; 0 takes all.
            skip_broken: leave photos out that cannot be read, with a warning, instead of an error.
            embed: "clip" for the image tower's own embedding; "fused" (or another arm) for the retrieval head that
                comes with pocket; or the file of a head that 05_retrieval wrote.
        """
        gallery = cls(folder, backbone, embed)
        return gallery._with(_usable_photos(gallery.root, limit, seed, skip_broken), {}, batch_size)

    @classmethod
    def from_dataset(
        cls, dataset: Dataset, backbone: Backbone, limit: int = 0, batch_size: int = 32, seed: int = 0
    ) -> "Gallery":
        """Embed the photos of a dataset, or of a part of it; ValueError if it has none. Arguments as `from_folder`."""
        if not dataset.photos:
            raise ValueError(f"dataset {dataset.name} has no photo here: select a part or a category that has some.")
        return cls(dataset.root, backbone)._with(records.limited(list(dataset.photos), limit, seed), {}, batch_size)

    @cached_property
    def prototypes(self) -> Tensor:
        """(K, D), every category's mean embedding, of unit length."""
        means = [self.embeddings[self.labels == k].mean(0) for k in range(len(self.categories))]
        return F.normalize(torch.stack(means), dim=1)

    @cached_property
    def faiss(self) -> Any:
        """FAISS's `IndexFlatIP` of the embeddings, for others: `faiss.write_index` writes it; `ask` does without."""
        import faiss  # here, since it brings a second OpenMP runtime, which not everybody shall need

        index = faiss.IndexFlatIP(self.embeddings.shape[1])
        index.add(self.embeddings.numpy())
        return index

    def picture(self, index: int) -> Image.Image:
        """A photo at 240 px at most; the few used last are kept. Errors as `images.open_image`."""
        image = open_image(self.records[index].path)
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        return image

    @torch.no_grad()
    def embed(self, frames: Sequence[Frame]) -> Tensor:
        """(B, D) embeddings of framed sketches, on the CPU, by what embedded the photos."""
        found = self.embedder(torch.stack([frame.tensor(self.size) for frame in frames])).float().cpu()
        if (ours := found.shape[1]) != (theirs := self.embeddings.shape[1]):
            raise ValueError(f"photos have embeddings of {theirs} numbers and sketches of {ours}: make the index anew.")
        return found

    def ask(self, sketch: Sketch, k: int = 10) -> list[tuple[Path, float]]:
        """The k photos nearest to a sketch (all, if there are fewer) and their cosines, nearest first.

        A sketch has dark lines on light paper, anywhere in the image: it is framed by its ink first. Errors as
        `Frame.of`; ValueError also if k is no whole number of 1 or more, or the embedding is not finite.
        """
        number = min(whole(k), len(self))
        vector = _finite(self.embed([Frame.of(sketch)]), "the sketch")
        scores, places = nearest(vector, self.embeddings, number)
        found = zip(places[0].tolist(), scores[0].tolist(), strict=True)
        return [(self.records[n].path, score) for n, score in found]

    def save(self, path: Place) -> Path:
        """Write one file, whole or not at all: safetensors with the embeddings; nothing is pickled. OSError if it
        cannot be written, or if what is in its place is no index; an earlier file stays as it was."""
        path = given(path)
        photos = [(r.path.expanduser().absolute().relative_to(self.root).as_posix(), r.category) for r in self.records]
        described = {"format": FORMAT, "root": str(self.root), "photos": photos, "made_by": self.made_by}
        content = signed({"embeddings": self.embeddings}, described, KEY)
        if path.is_file() and not from_signed(path, KEY)[1]:
            raise FileExistsError(f"{shown(path)} is a file but no index: name another place, or delete it first.")
        make_folder(path.parent)
        replace_file(path, content)
        return path

    @classmethod
    def load(
        cls, path: Place, backbone: Backbone, root: Place = "", refresh: bool = False, skip_broken: bool = False
    ) -> "Gallery":
        """Open what `save` wrote; nothing is embedded again. A record then knows its photo's path and category alone.

        FileNotFoundError if there is no such file, or photos are no longer where they were; ValueError if it is no such
        index or not whole, of another version of the code, backbone or head.

        Args:
            root: the folder that the photos are in now, if it is not where it was.
            refresh: embed the photos that were added to the folder since (`skip_broken` as in `from_folder`) and
                forget those that are gone. A photo that was replaced under its old name is not noticed.
        """
        path = given(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no index {shown(path)}: make one by Gallery.from_folder and its save.")
        tensors, described, unchanged = from_signed(path, KEY)
        if described and described.get("format") != FORMAT:
            raise ValueError(f"{shown(path)} was written by another version of sfhelpers: make the index anew.")
        if not unchanged or not _is_index(tensors, described):
            raise ValueError(f"{shown(path)} is not a whole index of photos: make it anew.")
        index = cls(root or described["root"], backbone, described["made_by"]["embed"])
        if index.made_by != described["made_by"]:
            other = f"another backbone or retrieval head than {backbone.name} has now"
            raise ValueError(f"{shown(path)} was embedded by {other}: load the one it was made with, or make it anew.")
        told = ((index.root / name, records.called(kind)) for name, kind in described["photos"])
        photos = [Record(path, "photo", kind, path.stem) for path, kind in told]
        known = {record.path: vector for record, vector in zip(photos, tensors["embeddings"], strict=True)}
        if refresh:
            photos = _usable_photos(index.root, skip_broken=skip_broken)
        elif gone := [r.path.relative_to(index.root).as_posix() for r in photos if not isfile(r.path)]:
            where = f"{len(gone)} of the {len(photos)} photos of {shown(path)} are not under {shown(index.root)}"
            remedy = "pass root=, the folder they are in now, or refresh=True to forget them"
            raise FileNotFoundError(f"{where} any more ({records.listed(gone)}): {remedy}.")
        return index._with(photos, known)


def find_images(root: Path, domain: str, skip_broken: bool = False) -> list[Record]:
    """Records of a folder's photos or sketches, by category and name, "" for none; empty if there are none.

    Looked for are, in this order, Sketchy's `256x256/<domain>/tx_000100000000/<class>/*`, then `<domain>/<class>/*`
    and `<domain>/*`, and, for photos alone, `<class>/*` and `*` in the folder itself.
    """
    places = [base / domain / sketchy.RENDERING for base in (sketchy.tree(root), root)] + [root / domain]
    for place in [*places, *([root] if domain == "photo" else [])]:
        files = sorted(records.image_files(place, skip_broken, loose=True).items())
        if found := [Record(path, domain, name, path.stem) for name, paths in files for path in paths]:
            return found
    return []


def _usable_photos(root: Path, limit: int = 0, seed: int = 0, skip_broken: bool = False) -> list[Record]:
    if not root.exists():
        raise FileNotFoundError(f"there is no folder {shown(root)}: pass the folder that holds your photos.")
    if not root.is_dir():
        raise NotADirectoryError(f"{shown(root)} is a file: pass the folder that holds your photos.")
    found = find_images(root, "photo", skip_broken)
    if not found:
        expected = f"photo/<class>/*, <class>/* or the photos themselves with one of {' '.join(EXTENSIONS)}"
        raise ValueError(f"no photo found under {shown(root)}: expected {expected} (found: {records.contents(root)}).")
    if usable := records.without_broken(records.limited(found, limit, seed), root, skip_broken):
        return usable
    raise ValueError(f"no usable photo is left under {shown(root)}: replace the broken files.")


def _finite(vectors: Tensor, of: str) -> Tensor:
    """The vectors; there is no place for one that is not finite."""
    if broken := int((~vectors.isfinite()).any(1).sum()):
        said = f"{broken} of {len(vectors)} embeddings of {of} are not finite"
        raise ValueError(f"{said}: look for broken weights in backbone and head, or load the backbone in float32.")
    return vectors


def _is_index(tensors: dict[str, Tensor], described: dict[str, Any]) -> bool:
    """Whether this is what `save` writes: photos below the root, each once, and a vector of unit length for each."""
    try:
        names, categories = zip(*described["photos"], strict=True)
        below = {str(PurePosixPath("/", name))[1:] for name in names if ".." not in name.split("/")}
        texts, vectors = (*categories, described["root"], described["made_by"]["embed"]), tensors["embeddings"]
        written = sorted(below) == sorted(names) and all(isinstance(text, str) for text in texts)
        fitting = (vectors.dtype, *vectors.shape[:-1]) == (torch.float32, len(names))
        unit = bool(((vectors.norm(dim=-1) - 1).abs() < 0.01).all())
        return written and fitting and unit and Path(described["root"]).is_absolute()
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        return False
