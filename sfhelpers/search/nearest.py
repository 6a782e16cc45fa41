"""The nearest vectors of a gallery: exactly, in torch, or by FAISS's compressed index where there are millions."""

from typing import Any

import torch
from torch import Tensor

BLOCK = 128_000_000  # bytes of scores at a time; one query is the least
BUCKET = 8  # scores: the k best of all are in the k buckets whose best are best, so that few need be sorted
LARGE = 1_000_000  # vectors, from which a compressed index is worth what it misses
LISTS, LEARNED = 1024, 65_536  # of vectors that lie together; of vectors that these are found by


@torch.no_grad()
def nearest(queries: Tensor, gallery: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(Q, k) largest products of queries (Q, D) with the vectors of a gallery (N, D), and their places; k is N at most.

    Exact. With vectors of unit length the products are cosines. The gallery may be memory-mapped. Faster than FAISS's
    flat index, whose sorting takes longer than its products: `make bench` measures both.
    """
    rows = max(1, BLOCK // (gallery.itemsize * len(gallery)))
    room = gallery.new_empty(min(rows, len(queries)), len(gallery))  # fresh memory a block costs as much as products
    found = [_best(torch.mm(some, gallery.T, out=room[: len(some)]), k) for some in queries.split(rows)]
    scores, places = zip(*found, strict=True)
    return torch.cat(scores), torch.cat(places)


def _best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `scores.topk(k)`, of (B, N), but only what can be among the best is sorted."""
    number = scores.shape[1] // BUCKET
    if number <= k:
        return scores.topk(k, 1)
    even = number * BUCKET
    buckets = scores[:, :even].unflatten(1, (BUCKET, number)).amax(1).topk(k, 1).indices
    inside = (buckets[:, None] + number * torch.arange(BUCKET, device=scores.device)[:, None]).flatten(1)
    places = torch.cat([inside, torch.arange(even, scores.shape[1], device=scores.device).expand(len(inside), -1)], 1)
    values, order = scores.gather(1, places).topk(k, 1)
    return values, places.gather(1, order)


def faiss_index(vectors: Tensor) -> Any:
    """FAISS's index of (N, D) vectors on the CPU by inner product; `faiss.write_index` writes it for others.

    Exact below a million (`IndexFlatIP`). From there on IVF-PQ, about D / 8 bytes a vector instead of 4 D: it misses
    some, the fewer the more lists it looks into (`index.nprobe`).
    """
    import faiss  # here, since it brings a second OpenMP runtime, which not everybody shall need

    size = vectors.shape[1]
    if len(vectors) < LARGE:
        index = faiss.IndexFlatIP(size)
    else:
        index = faiss.index_factory(size, f"IVF{LISTS},PQ{max(1, size // 8)}", faiss.METRIC_INNER_PRODUCT)
        chosen = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))[:LEARNED]
        index.train(vectors[chosen].numpy())
    for some in vectors.split(LEARNED):
        index.add(some.numpy())
    return index
