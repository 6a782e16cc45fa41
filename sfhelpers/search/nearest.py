"""The nearest vectors of a gallery, exactly, in torch."""

import torch
from torch import Tensor

BLOCK = 128_000_000  # bytes of scores at a time; one query is the least
BUCKET = 8  # scores: the k best of all are in the k buckets whose best are best, so that few need be sorted


@torch.no_grad()
def nearest(queries: Tensor, gallery: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(Q, k) largest products of queries (Q, D) with the vectors of a gallery (N, D), and their places; k is N at most.

    Exact. With vectors of unit length the products are cosines. The gallery may be memory-mapped. `make bench` measures
    it beside FAISS's flat index, whose time depends on whether the BLAS that it brings knows the processor.
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
