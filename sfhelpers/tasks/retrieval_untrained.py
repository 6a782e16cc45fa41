"""What retrieval is compared with and nobody trains: off-the-shelf embeddings, and chance."""

import time
from collections.abc import Callable, Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from sfhelpers.backbones import Backbone
from sfhelpers.fusion import FusedExtractor
from sfhelpers.images import load_images
from sfhelpers.tasks import arms
from sfhelpers.tasks.pairs import PreparedPairs
from sfhelpers.tasks.photos import embed_photos
from sfhelpers.tasks.retrieval_parts import Parts, Pool

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
    made = dict(others)
    if {B_CLIP, B_BOTH} & set(methods):
        made[B_CLIP] = backbone.vision.embed
    if {B_SD, B_BOTH} & set(methods):
        made[B_SD] = pooled_f3(backbone, parts.images.pairs_of(next(iter(parts.splits.values())).train))
    records = list(dict.fromkeys(r for pool in parts.pools.values() for r in pool.sketches + pool.photos))
    place = {record: k for k, record in enumerate(records)}
    vectors, seconds = {}, {}
    for name, embedder in made.items():
        started = time.perf_counter()
        size = max(arms.reading_size(backbone), getattr(embedder, "size", 0))
        vectors[name] = embed_photos([record.path for record in records], embedder, size)
        seconds[name] = time.perf_counter() - started
    if B_BOTH in methods:
        vectors[B_BOTH] = torch.cat([F.normalize(vectors[name], dim=1) for name in (B_SD, B_CLIP)], dim=1)
        seconds[B_BOTH] = seconds[B_SD] + seconds[B_CLIP]

    def pooled(name: str, pool: Pool) -> Vectors:
        sketches, photos = (vectors[name][[place[r] for r in side]] for side in (pool.sketches, pool.photos))
        return sketches, photos

    asked = [name for name in (B_CLIP, B_SD, B_BOTH) if name in methods] + list(others)
    return {name: ({p: pooled(name, pool) for p, pool in parts.pools.items()}, seconds[name]) for name in asked}


def pooled_f3(backbone: Backbone, train: PreparedPairs, images: int = 64) -> Embedder:
    """B-SD: the third up-block's features, standardised a channel and max-pooled; nothing is learned.

    Args:
        train: its sketches and photos, so many of each, give the channels' means and spreads.
    """
    extractor = FusedExtractor(backbone, inject="none", branches=("f3",), width=1)
    few = train.pairs[torch.linspace(0, len(train) - 1, min(images, len(train))).round().long()]
    paths = [train.sketch_records[k].path for k in few[:, 0]] + [train.photo_records[k].path for k in few[:, 1]]
    extractor.fit_statistics(extractor.prepare(load_images(paths, arms.reading_size(backbone))))

    def embedder(batch: Tensor) -> Tensor:
        return extractor.statistics["f3"](extractor.features(extractor.prepare(batch))["f3"]).amax(dim=(2, 3))

    return embedder


def random_directions(parts: Parts, seed: int) -> dict[str, Vectors]:
    """Problem -> random vectors of its pool: every ranking is as likely as any other."""
    dice = torch.Generator().manual_seed(seed)

    def drawn(number: int) -> Tensor:
        return torch.randn(number, arms.DIM, generator=dice)

    return {problem: (drawn(len(pool.sketches)), drawn(len(pool.photos))) for problem, pool in parts.pools.items()}
