"""One extraction: which images, what of them, and a worker's share of the work."""

import csv
import hashlib
import io
import json
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfhelpers.backbones import Backbone, load_backbone
from sfhelpers.files import file_sha256, given, replace_file, shown
from sfhelpers.fusion import FusedExtractor
from sfhelpers.images import EXTENSIONS, READERS, load_images, problem
from sfhelpers.store import Filling, Store, precision
from sfhelpers.tasks.arms import UP, reading_size

WHAT = {
    "prefix": "all in front of the first injection and the patch tokens, as a training reads them",
    "latents": "noisy latents and patch tokens, from which a training runs the whole UNet",
    "tokens": "the image encoder's patch tokens, (C, h, w)",
    "pooled": "means over all positions of f1 to f3 and of the tokens, (C,) each",
    "embedding": "the image encoder's own embedding, (D,)",
}
KEPT = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Vectors(FusedExtractor):
    """As frozen features, one vector an image: its embedding, or what can be standardised a channel afterwards."""

    def __init__(self, backbone: Backbone, what: str, seed: int):
        super().__init__(backbone, inject="none", branches=("tokens",) if what == "embedding" else (*UP, "tokens"))
        self.what, self.seed = what, seed

    @torch.no_grad()
    def frozen(self, images: Tensor, latents: bool = False, **noise: Any) -> dict[str, Tensor]:
        if self.what == "embedding":
            return {"embedding": self.backbone.vision.embed(images)}
        return {f"mean {name}": x.mean((2, 3)) for name, x in super().frozen(images, **noise).items()}


@dataclass(frozen=True)
class Job:
    """What every worker is told."""

    root: Path
    out: Path
    images: tuple[tuple[str, str], ...]  # path below `root`, sha256 of the file
    backbone: str
    what: str = "prefix"  # of WHAT
    device: str = "auto"
    kept: str = "auto"  # of KEPT; "auto" is `store.precision`
    seed: int = 0
    batch: int = 0  # images at a time, 0 as many as the backbone takes
    budget: float = 100e9  # bytes

    def filling(self, device: str = "") -> Filling:
        """With the backbone loaded on the job's or another device; errors as of `load_backbone` and `Store`."""
        backbone = load_backbone(self.backbone, device or self.device)
        if self.what in ("prefix", "latents"):
            extractor = FusedExtractor(backbone, seed=self.seed)
        elif self.what == "tokens":
            extractor = FusedExtractor(backbone, inject="none", branches=("tokens",), seed=self.seed)
        else:
            extractor = Vectors(backbone, self.what, self.seed)
        dtype = precision(backbone) if self.kept == "auto" else KEPT[self.kept]
        noise = {"latents": True} if self.what == "latents" else {}
        digests = [digest for _, digest in self.images]
        return Filling(
            Store(self.out, self.budget), extractor, digests, reading_size(backbone), dtype=dtype, noise=noise
        )

    def reader(self, size: int, which: Sequence[int] | None = None) -> Callable[[Iterable[int]], Tensor]:
        """Positions among the images, or among those at `which`, to images at `size` px."""
        paths = [self.root / self.images[k][0] for k in (range(len(self.images)) if which is None else which)]
        return lambda some: load_images([paths[k] for k in some], size)


@dataclass
class Plan:
    """What is to be done."""

    keys: dict[str, list[str]]  # "tokens", or what was asked for -> under what each image is kept
    lacking: list[int]  # positions of the images that are not there yet, each file's bytes once
    each: int  # bytes that an image takes
    at_once: int  # images that are computed together
    seconds: float = 0.0  # that a batch took, 0 if none was tried


def planned(job: Job, tried: bool = False) -> Plan:
    """What the store lacks, and, if `tried`, how long a batch takes; errors as of `Job.filling`."""
    filling = job.filling()
    lacking = sorted(filling.lacking().values())
    keys = {"tokens" if group.names == ["tokens"] else job.what: group.keys for group in filling.groups}
    plan = Plan(keys, lacking, filling.each, job.batch or filling.extractor.backbone.at_once)
    if tried and lacking:
        some, read = lacking[: plan.at_once], job.reader(filling.size)
        filling.extractor.frozen(read(some[:1]), **filling.noise)  # whose first pass takes longer
        started = time.perf_counter()
        {name: x.cpu() for name, x in filling.extractor.frozen(read(some), **filling.noise).items()}
        plan.seconds = (time.perf_counter() - started) * plan.at_once / len(some)
    return plan


def find(folder: str) -> tuple[Path, tuple[tuple[str, str], ...]]:
    """The images in a folder and below it as `Job.images`, sorted; hidden ones are left out."""
    root = given(folder).absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {shown(root)}: give the one that holds the images.")
    below = (path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
    paths = sorted(path.as_posix() for path in below if not any(part[0] == "." for part in path.parts))
    if not paths:
        raise ValueError(
            f"no image is in {shown(root)} or below it: give a folder with some of {' '.join(EXTENSIONS)}."
        )
    with ThreadPoolExecutor(READERS) as readers:
        return root, tuple(zip(paths, readers.map(lambda path: file_sha256(root / path), paths), strict=True))


def broken(job: Job, plan: Plan) -> dict[int, str]:
    """Position of each image that is to be computed and cannot be -> what is wrong: none shall stop the work later."""
    with ThreadPoolExecutor(READERS) as readers:
        said = readers.map(lambda k: problem(job.root / job.images[k][0]), plan.lacking)
        return {k: f"{job.images[k][0]} {wrong}" for k, wrong in zip(plan.lacking, said, strict=True) if wrong}


def without(job: Job, plan: Plan, wrong: Collection[int]) -> tuple[Job, Plan]:
    """Job and plan but for some images, and for the same files under other names."""
    gone = {job.images[k][1] for k in wrong}
    stays = [k for k, (_, digest) in enumerate(job.images) if digest not in gone]
    place = {k: n for n, k in enumerate(stays)}
    keys = {name: [some[k] for k in stays] for name, some in plan.keys.items()}
    lacking = [place[k] for k in plan.lacking if k in place]
    return replace(job, images=tuple(job.images[k] for k in stays)), replace(plan, keys=keys, lacking=lacking)


def write_list(job: Job, plan: Plan) -> Path:
    """Beside the shards, a table of the images and of the keys under which `Store.get` finds what was extracted."""
    made = json.dumps([str(job.root), plan.keys[job.what if job.what in plan.keys else "tokens"]])
    path = job.out / f"{job.what}-{hashlib.sha256(made.encode()).hexdigest()[:8]}.csv"
    table = io.StringIO()
    lines = zip(*zip(*job.images, strict=True), *plan.keys.values(), strict=True)
    csv.writer(table, lineterminator="\n").writerows([("path", "sha256", *plan.keys), *lines])
    replace_file(path, table.getvalue().encode("utf-8", "surrogateescape"))
    return path
