"""What retrieval is compared with and nobody trains: off-the-shelf embeddings, and chance."""

import time
from collections.abc import Callable, Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from sfhelpers.backbones import Backbone
from sfhelpers.fusion import FusedExtractor
from sfhelpers.images import load_images
from sfhelpers.tasks import before as arms
from sfhelpers.tasks.prepared import embed_photos
from sfhelpers.tasks.retrieval_parts import Parts

B_CLIP, B_SD, B_BOTH, CHANCE = "B-CLIP", "B-SD", "B-SD+CLIP", "chance"
UNTRAINED = (B_CLIP, B_SD, B_BOTH, CHANCE)
Vectors = tuple[Tensor, Tensor]
Embedder = Callable[[Tensor], Tensor]  # images (B, 3, H, W) in [0, 1] to (B, d); `.size` in px if it wants more detail


def untrained(
    backbone: Backbone, parts: Parts, methods: Collection[str], others: Mapping[str, Embedder]
) -> dict[str, tuple[dict[str, Vectors], float]]:
    """Off-the-shelf embeddings, each image embedded once a method.

    Args:
        methods: of UNTRAINED; chance is left to `random_directions`.
        others: name to further embedders.

    Returns:
        Method -> (problem -> vectors of its pool, seconds).
    """
    made, extractor = dict(others), FusedExtractor(backbone, inject="none", branches=("f3",), width=1)
    if {B_CLIP, B_BOTH} & set(methods):
        made[B_CLIP] = backbone.vision.embed
    if {B_SD, B_BOTH} & set(methods):
        made[B_SD] = lambda images: extractor.features(extractor.prepare(images))["f3"].amax(dim=(2, 3))
    records = list(dict.fromkeys(r for pool in parts.pools.values() for r in pool.sketches + pool.photos))
    place = {record: k for k, record in enumerate(records)}
    vectors, seconds = {}, {}
    for name, embedder in made.items():
        started = time.perf_counter()
        size = max(arms.reading_size(backbone), getattr(embedder, "size", 0))
        vectors[name] = embed_photos([record.path for record in records], embedder, size)
        seconds[name] = time.perf_counter() - started

    def pooled(name: str, problem: str) -> Vectors:
        pool = parts.pools[problem]
        sketches, photos = (vectors[name][[place[r] for r in side]] for side in (pool.sketches, pool.photos))
        return sketches, photos

    found = {name: {problem: pooled(name, problem) for problem in parts.pools} for name in made}
    if B_SD in made:
        started = time.perf_counter()
        found[B_SD] = {p: standardised(extractor, parts, p, both) for p, both in found[B_SD].items()}
        seconds[B_SD] += time.perf_counter() - started
    if B_BOTH in methods:
        found[B_BOTH] = {p: _side_by_side(found[B_SD][p], found[B_CLIP][p]) for p in parts.pools}
        seconds[B_BOTH] = seconds[B_SD] + seconds[B_CLIP]
    asked = [name for name in (B_CLIP, B_SD, B_BOTH) if name in methods] + list(others)
    return {name: (found[name], seconds[name]) for name in asked}


def standardised(extractor: FusedExtractor, parts: Parts, problem: str, pooled: Vectors, images: int = 64) -> Vectors:
    """B-SD: the third up-block's maxima, by the channels' means and spreads of images this problem trains on.

    A spread is above 0, so the maximum of the standardised features is the standardised maximum.

    Args:
        extractor: of f3 alone; its statistics become those of the problem.
        pooled: (S, d) of the sketches and (P, d) of the photos, each channel's maximum over all positions.
        images: so many sketches and photos, spread over the training pairs, give the means and spreads.
    """
    train = parts.images.pairs_of(parts.splits[problem].train)
    few = train.pairs[torch.linspace(0, len(train) - 1, min(images, len(train))).round().long()]
    paths = [train.sketch_records[k].path for k in few[:, 0]] + [train.photo_records[k].path for k in few[:, 1]]
    extractor.fit_statistics(extractor.prepare(load_images(paths, arms.reading_size(extractor.backbone))))
    statistics = extractor.statistics["f3"].cpu()  # as the vectors are
    sketches, photos = (statistics(side[:, :, None, None])[:, :, 0, 0] for side in pooled)
    return sketches, photos


def _side_by_side(first: Vectors, second: Vectors) -> Vectors:
    """Two embeddings as one, each of length 1 before."""
    sketches, photos = (
        torch.cat([F.normalize(a, dim=1), F.normalize(b, dim=1)], dim=1) for a, b in zip(first, second, strict=True)
    )
    return sketches, photos


def random_directions(parts: Parts, seed: int) -> dict[str, Vectors]:
    """Problem -> random vectors of its pool: every ranking is as likely as any other."""
    dice = torch.Generator().manual_seed(seed)

    def drawn(number: int) -> Tensor:
        return torch.randn(number, arms.DIM, generator=dice)

    return {problem: (drawn(len(pool.sketches)), drawn(len(pool.photos))) for problem, pool in parts.pools.items()}
