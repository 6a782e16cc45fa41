"""Retrieval metrics from embeddings, for galleries of any size: exact, in bounded memory, all metrics in one pass.

A metric needs the ranks of the relevant items, not the ranking: the rank of the j-th best relevant item is j plus the
number of irrelevant items that score as high or higher. So for a block of queries the similarities are computed, the
irrelevant ones sorted, and each relevant one looked up among them; sorting plain float32 rows is many times faster than
sorting them together with their indices, and no row of the whole matrix outlives its block. On the CPU each thread has
blocks of its own, so that none waits for another.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from sfhelpers.metrics.arrays import to_array
from sfhelpers.metrics.definitions import AP, Measure, P, Ranking

STANDARD = (AP(), AP(200), P(100), P(200))
# What the ranks of one relevant item take on their way to the metrics: about 15 arrays of 8 bytes.
RELEVANT_BYTES = 120
INDEX_BYTES = 8
MOST_DOUBLINGS = 120  # 2 ** 128 is infinite in float32


def evaluate_retrieval(
    queries: Any,
    gallery: Any,
    query_labels: Any,
    gallery_labels: Any,
    measures: Sequence[Measure] = STANDARD,
    query_classes: Any = None,
    gallery_classes: Any = None,
    megabytes: float = 128,
) -> dict[Measure, np.ndarray]:
    """Every query's value of every measure, ranking the gallery by cosine similarity.

    An item is relevant to a query if their labels are equal: give classes as labels for category-level retrieval,
    instances for fine-grained retrieval. Items of equal similarity stand against the query, the irrelevant ones first;
    items of equal embeddings always tie; a vector of zeros has similarity 0 to everything. L2-normalised Euclidean
    distance (SAKE) gives the same ranking.

    Args:
        queries: (Q, D) embeddings, not necessarily normalised; arrays, or tensors on any device.
        gallery: (N, D) embeddings. Computed on its device, in float64 if either is float64 and in float32 otherwise;
            similarities closer than the type resolves (about 1e-7) are ordered by rounding.
        query_labels: (Q,) numbers or strings.
        gallery_labels: (N,) of the same kind.
        measures: of `AP`, `P` and `Acc`.
        query_classes: (Q,), with `gallery_classes`: each query is ranked against the photos of its class only, the
            gallery "class" of Acc@k.
        gallery_classes: (N,).
        megabytes: what the blocks of queries may take that are worked on at a time, beside one normalised copy of the
            gallery; one query a thread is the least.

    Returns:
        For each measure (Q,) float64 in the order of the queries.

    Raises:
        ValueError: shapes or lengths do not fit, the gallery is empty, an embedding is not finite, or a query has no
            relevant item in its gallery.
    """
    if (query_classes is None) != (gallery_classes is None):
        raise ValueError("classes are given for one side only: give query_classes and gallery_classes, or neither.")
    queries, gallery = _embeddings(queries, gallery)
    queries, gallery = _brought_to_one(queries, "queries"), _brought_to_one(gallery, "gallery")
    items = _Items.of(query_labels, gallery_labels, query_classes, gallery_classes, len(queries), len(gallery))
    order = torch.from_numpy(items.order).to(gallery.device)
    gallery = gallery[order]
    copies = _copies(gallery)
    values = {measure: np.empty(len(queries)) for measure in measures}
    with _workers(gallery.device) as (pool, number):
        blocks = _blocks(gallery, len(copies[0]), items, megabytes / number)

        def work(worker: int) -> None:
            for rows, ranking in _rankings(queries, gallery, copies, items, blocks[worker::number]):
                for measure, column in values.items():
                    column[rows] = measure(ranking)

        list(pool.map(work, range(number)))
    return values


@dataclass(frozen=True)
class _Items:
    """Who is relevant to whom: the gallery sorted so that relevant items stand side by side.

    Args:
        order: (N,) the gallery's items in that order.
        start: (Q,) where the relevant items of each query begin in it.
        count: (Q,) how many they are.
        query_group: (Q,) class of each query; empty if the whole gallery competes.
        gallery_group: (N,) class of each item in that order; empty likewise.
        size: (Q,) items that compete.
    """

    order: np.ndarray
    start: np.ndarray
    count: np.ndarray
    query_group: np.ndarray
    gallery_group: np.ndarray
    size: np.ndarray

    @classmethod
    def of(
        cls, query_labels: Any, gallery_labels: Any, query_classes: Any, gallery_classes: Any, queries: int, photos: int
    ) -> "_Items":
        """Join labels, and classes where there are any, into numbers and find each query's relevant items."""
        wanted, found = _codes(query_labels, gallery_labels, queries, photos, "labels")
        query_group = gallery_group = np.empty(0, dtype=np.int64)
        size = np.full(queries, photos)
        if query_classes is not None:
            query_group, gallery_group = _codes(query_classes, gallery_classes, queries, photos, "classes")
            size = np.bincount(gallery_group, minlength=photos + queries)[query_group]
            span = photos + queries
            wanted, found = wanted * span + query_group, found * span + gallery_group
        order = np.argsort(found, kind="stable")
        gallery_group = gallery_group[order] if len(gallery_group) else gallery_group
        start, end = (np.searchsorted(found[order], wanted, side) for side in ("left", "right"))
        if (start == end).any():
            missing = np.flatnonzero(start == end)
            raise ValueError(
                f"{len(missing)} of {queries} queries have no relevant item in the gallery, the first is query "
                f"{missing[0]} with label {to_array(query_labels)[missing[0]]!s}: drop them, or complete the gallery."
            )
        return cls(order, start, end - start, query_group, gallery_group, size)


@contextmanager
def _workers(device: torch.device) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Threads to share the blocks, one a core on the CPU and each computing alone, and how many they are."""
    threads = torch.get_num_threads()
    number = threads if device.type == "cpu" else 1
    try:
        with (
            threadpool_limits(1, "blas"),
            ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(1,)) as pool,
        ):
            yield pool, number
    finally:
        torch.set_num_threads(threads)  # what a thread sets, threads to come would take over


def _blocks(gallery: Tensor, copies: int, items: _Items, megabytes: float) -> list[np.ndarray]:
    """The queries in parts of at most so many megabytes, queries of one label side by side."""
    # A GPU's sort makes indices beside the values, and needs room to work.
    item_bytes = gallery.itemsize + 1 + (0 if gallery.device.type == "cpu" else 3 * INDEX_BYTES)
    step = block_rows(len(gallery) + copies, int(items.count.max(initial=1)), item_bytes, megabytes)
    by_label = np.argsort(items.start, kind="stable")
    return [by_label[first : first + step] for first in range(0, len(by_label), step)]


def block_rows(gallery: int, relevant: int, item_bytes: int, megabytes: float) -> int:
    """How many queries a block may hold, at least one.

    Args:
        gallery: N, items of the gallery.
        relevant: the most relevant items that a query has.
        item_bytes: what one similarity takes.
        megabytes: what the block may take.
    """
    return max(1, int(megabytes * 1e6 / (gallery * item_bytes + relevant * RELEVANT_BYTES)))


def _copies(gallery: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that repeat an earlier row bit by bit, and the first such row of each.

    A product adds up its columns in one order in the middle of the matrix and in another at its edges, which depends on
    the library and on the processor: equal vectors alone do not make equal similarities.
    """
    digests = [blake2b(row + 0, digest_size=16).digest() for row in gallery.cpu().numpy()]  # -0 + 0 is 0
    first: dict[bytes, int] = {}
    owner = torch.tensor([first.setdefault(digest, row) for row, digest in enumerate(digests)])
    again = (owner != torch.arange(len(owner))).nonzero()[:, 0]
    return again.to(gallery.device), owner[again].to(gallery.device)


def _rankings(
    queries: Tensor, gallery: Tensor, copies: tuple[Tensor, Tensor], items: _Items, blocks: list[np.ndarray]
) -> Iterator[tuple[np.ndarray, Ranking]]:
    """The queries of each block and their ranking of the gallery, which is in the order of `items`.

    A query's own length does not change its ranking. The photos' are divided by last: embeddings of few values, such as
    codes of -1 and 1, have exact products, and photos of one length that tie go on to tie.
    """
    device = gallery.device
    lengths = torch.linalg.vector_norm(gallery, dim=1)
    lengths.masked_fill_(lengths == 0, 1)
    again, first = copies
    group = torch.from_numpy(items.gallery_group).to(device)
    # One buffer for all blocks: asking the system for fresh memory each time costs as much as sorting.
    buffer = torch.empty(max(map(len, blocks), default=0), len(gallery), dtype=gallery.dtype, device=device)
    for rows in blocks:
        scores = _product(queries[torch.from_numpy(rows).to(device)], gallery, buffer[: len(rows)])
        scores.div_(lengths)
        scores[:, again] = scores[:, first]
        if len(group):
            own = torch.from_numpy(items.query_group[rows]).to(device)
            scores.masked_fill_(own[:, None] != group, -torch.inf)
        ahead = _irrelevant_ahead(scores, items.start[rows], items.count[rows])
        place = np.arange(1.0, ahead.shape[1] + 1)
        positions = np.where(place <= items.count[rows, None], ahead + place, np.inf)
        yield rows, Ranking(positions, place, items.count[rows], items.size[rows])


def _product(queries: Tensor, gallery: Tensor, out: Tensor) -> Tensor:
    """(b, N) inner products; on the CPU by numpy, whose product is 1.5 times as fast as torch's on an AMD Zen 4."""
    if out.device.type != "cpu":
        return torch.mm(queries, gallery.T, out=out)
    np.matmul(queries.numpy(), gallery.numpy().T, out=out.numpy())
    return out


def _irrelevant_ahead(scores: Tensor, start: np.ndarray, count: np.ndarray) -> np.ndarray:
    """(b, M): for each query's relevant items, best first, the irrelevant ones that score as high or higher.

    `scores` (b, N) is overwritten. Where a query has fewer than M relevant items the rest of its row means nothing.
    """
    place = torch.arange(int(count.max()), device=scores.device)
    start, count = (torch.from_numpy(values).to(scores.device)[:, None] for values in (start, count))
    columns = start + place * (place < count)
    relevant = scores.gather(1, columns).masked_fill_(place >= count, -torch.inf)
    scores.scatter_(1, columns, -torch.inf)
    irrelevant, relevant = _sorted_rows(scores), _sorted_rows(relevant)
    behind = torch.searchsorted(irrelevant, relevant)
    return scores.shape[1] - behind.flip(1).cpu().numpy()


def _sorted_rows(values: Tensor) -> Tensor:
    """Ascending rows; in place on the CPU, where numpy sorts without indices and 20 times faster than torch."""
    if values.device.type != "cpu":
        return values.sort(dim=1).values
    values.numpy().sort(axis=1)
    return values


def _embeddings(queries: Any, gallery: Any) -> tuple[Tensor, Tensor]:
    """Both in one type and on the gallery's device; copied only where that asks for it."""
    pair = [x.detach() if isinstance(x, Tensor) else torch.from_numpy(np.array(x)) for x in (queries, gallery)]
    for values, name in zip(pair, ("queries", "gallery"), strict=True):
        if values.ndim != 2 or values.shape[1] == 0:
            raise ValueError(f"{name} have shape {tuple(values.shape)}: give (number, dimensions) embeddings.")
    if pair[0].shape[1] != pair[1].shape[1]:
        raise ValueError(
            f"queries have {pair[0].shape[1]} dimensions but the gallery {pair[1].shape[1]}: use one head."
        )
    if len(pair[1]) == 0:
        raise ValueError("the gallery is empty: there is nothing to rank.")
    dtype = torch.float64 if torch.float64 in (pair[0].dtype, pair[1].dtype) else torch.float32
    return pair[0].to(pair[1].device, dtype), pair[1].to(dtype)


def _brought_to_one(values: Tensor, name: str) -> Tensor:
    """Each row times a power of two that brings its largest value near 1: no digit is lost, no product runs over."""
    largest = values.abs().amax(dim=1, keepdim=True)
    finite = torch.isfinite(largest[:, 0])
    if not finite.all():
        row = int((~finite).nonzero()[0])
        raise ValueError(f"{name} hold NaN or infinity in row {row}: check what made the embeddings.")
    return torch.ldexp(values, -torch.frexp(largest).exponent.clamp(-MOST_DOUBLINGS, MOST_DOUBLINGS))


def _codes(queries: Any, gallery: Any, n_queries: int, n_gallery: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels of both sides as the same whole numbers, below Q + N."""
    queries, gallery = to_array(queries), to_array(gallery)
    if queries.shape != (n_queries,) or gallery.shape != (n_gallery,):
        raise ValueError(
            f"{name} have shapes {queries.shape} and {gallery.shape} for {n_queries} queries and {n_gallery} gallery "
            "items: give one for each."
        )
    if (queries.dtype.kind in "US") != (gallery.dtype.kind in "US"):
        raise ValueError(
            f"{name} are {queries.dtype} for the queries and {gallery.dtype} for the gallery: use one kind."
        )
    if any(side.dtype.kind == "f" and np.isnan(side).any() for side in (queries, gallery)):
        raise ValueError(f"{name} hold NaN: leave out what has no label.")
    if queries.dtype.kind != gallery.dtype.kind and {queries.dtype.kind, gallery.dtype.kind} == {"i", "u"}:
        queries, gallery = queries.astype(object), gallery.astype(object)  # both together would become floats
    codes = np.unique(np.concatenate([queries, gallery]), return_inverse=True)[1]
    return codes[:n_queries], codes[n_queries:]
