"""Retrieval metrics, AP, P and Acc@k, from embeddings, exact, in bounded memory; ties count against the query."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from sfhelpers.metrics.arrays import one_of, to_array, whole

__all__ = ["AP", "Acc", "Measure", "P", "accuracy_at_k", "average_precision", "average_precision_at_k"]
__all__ += ["evaluate_retrieval", "precision_at_k"]
Sides = tuple[Any, Any]  # of the queries and of the gallery
MEGABYTES = 128  # what the blocks may take that are worked on at a time; one query a thread is the least
RELEVANT_BYTES = 120  # of one relevant item on its way to the metrics: about 15 arrays of 8 bytes
TIES = "ties against the query"


@dataclass(frozen=True)
class Measure:
    """One definition, for the first k ranks: its `name` in the papers' tables, its `definition` for a result row.

    From Q queries' ranks (Q, M) of relevant items, best first, then inf, their numbers and galleries' sizes: (Q,).
    """

    k: int

    def __post_init__(self) -> None:
        whole(self.k)

    @property
    def name(self) -> str:
        return f"{type(self).__name__}@{self.k}"


class Acc(Measure):
    """Accuracy at k (fine-grained): 1 if a relevant item is among the first k, else 0."""

    @property
    def definition(self) -> str:
        return f"share of queries with their paired photo among the first {self.k}; {TIES}"

    def __call__(self, ranks: np.ndarray, n_relevant: np.ndarray, n_gallery: np.ndarray) -> np.ndarray:
        return (ranks <= self.k).any(1).astype(np.float64)


@dataclass(frozen=True)
class P(Measure):
    """Precision at k, H(k)/k (ClipPrompt, Dr. CLIP); H(i) of the first i items are relevant, R in the gallery of N.

    Other denominators: "gallery", H(k)/min(k, N) (SAKE, sem-pcyc); "relevant", H(c)/c with c = min(k, R) (ZSE).
    """

    denominator: str = "k"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.denominator, ("k", "gallery", "relevant"), "denominator")

    @property
    def definition(self) -> str:
        over = {"k": f"{self.k}", "gallery": f"min({self.k}, gallery)", "relevant": f"min({self.k}, R relevant)"}
        first = over["relevant" if self.denominator == "relevant" else "k"]
        return f"relevant items in the first {first} / {over[self.denominator]}; {TIES}"

    def __call__(self, ranks: np.ndarray, n_relevant: np.ndarray, n_gallery: np.ndarray) -> np.ndarray:
        among = {"k": np.full_like(n_gallery, self.k), "gallery": n_gallery, "relevant": n_relevant}[self.denominator]
        cut = np.minimum(self.k, among)  # for all three: nothing stands between min(k, gallery) and k
        return (ranks <= cut[:, None]).sum(1) / cut


@dataclass(frozen=True)
class AP(Measure):
    """Average precision: S(k), the sum of H(i)/i over the relevant ranks i <= k, over a denominator.

    It is "k" (CVAE's code), "min", min(k, R) (SAKE and ZSE, both interpolated), "found", H(k) (sem-pcyc, ClipPrompt,
    Dr. CLIP, torchmetrics), or "relevant", R. For k None, the whole gallery, all are R. `interpolated` makes precision
    within the first k non-increasing from the right first (the VOC envelope).
    """

    k: int | None = None
    denominator: str = "min"
    interpolated: bool = False

    def __post_init__(self) -> None:
        one_of(self.denominator, ("k", "min", "found", "relevant"), "denominator")
        if self.k is not None:
            super().__post_init__()
        elif self.denominator == "k":
            raise ValueError("denominator is 'k' but there is no k: give one, or choose 'relevant'.")

    @property
    def name(self) -> str:
        return f"mAP@{self.k or 'all'}"

    @property
    def definition(self) -> str:
        among = f"in the first {self.k}" if self.k else "in the gallery"
        over = {"k": f"{self.k}", "min": f"min({self.k}, R relevant)", "found": "their number"}
        divisor = over.get(self.denominator if self.k else "relevant", "R relevant")
        envelope = ", precision interpolated (VOC envelope)" if self.interpolated else ""
        return f"sum of precisions at the relevant items {among} / {divisor}{envelope}; {TIES}"

    def __call__(self, ranks: np.ndarray, n_relevant: np.ndarray, n_gallery: np.ndarray) -> np.ndarray:
        k = self.k or np.finfo(np.float64).max
        within = ranks <= k
        precision = np.where(within, np.arange(1.0, ranks.shape[1] + 1) / ranks, 0.0)
        if self.interpolated:
            precision = np.where(within, np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1], 0.0)
        over = {"k": k, "min": np.minimum(k, n_relevant), "found": np.maximum(within.sum(1), 1), "relevant": n_relevant}
        return precision.sum(1) / over[self.denominator if self.k else "relevant"]


STANDARD = (AP(), AP(200), P(100), P(200))


def evaluate_retrieval(
    queries: Any,
    gallery: Any,
    query_labels: Any,
    gallery_labels: Any,
    measures: Sequence[Measure] = STANDARD,
    classes: Sides | None = None,
) -> dict[Measure, np.ndarray]:
    """(Q,) float64 values of every measure, each query's from ranking the gallery by cosine similarity.

    Items of equal embeddings always tie; a vector of zeros has similarity 0 to everything. ValueError for shapes that
    do not fit, embeddings that are not finite, and queries without an answer.

    Args:
        queries, gallery: (Q, D) and (N, D) embeddings of any length, in float32, or in float64 if either is.
        query_labels, gallery_labels: (Q,) and (N,) numbers or strings, equal where an item is relevant; or (N, K) of
            items with several, of which one must be equal. An item with fewer than K repeats one of its own.
        classes: likewise, of queries and gallery: each query is ranked against the items of its class only.
    """
    queries, gallery = _embeddings(queries, gallery)
    sizes = len(queries), len(gallery)
    items, start, count, groups = _relevant((query_labels, gallery_labels), classes, sizes)
    number = torch.get_num_threads()
    lengths = torch.linalg.vector_norm(torch.from_numpy(gallery), dim=1).numpy()
    lengths[lengths == 0] = 1
    again, first = _copies(gallery)
    bytes_a_query = (len(gallery) + len(again)) * (gallery.itemsize + 1) + count.max(initial=1) * RELEVANT_BYTES
    step = max(1, int(MEGABYTES / number * 1e6 / bytes_a_query))
    by_label = np.argsort(start, kind="stable")
    blocks = [by_label[begin : begin + step] for begin in range(0, len(by_label), step)]
    values = {measure: np.empty(len(queries)) for measure in measures}

    def work(worker: int) -> None:
        # One buffer for all blocks: asking the system for fresh memory each time costs as much as sorting.
        buffer = np.empty((min(step, len(queries)), len(gallery)), dtype=gallery.dtype)
        for rows in blocks[worker::number]:  # its own, so that no thread waits for another
            scores = np.matmul(queries[rows], gallery.T, out=buffer[: len(rows)])
            # Divided last: embeddings of few values, such as codes of -1 and 1, have exact products, and photos of one
            # length that tie go on to tie. A query's own length does not change its ranking.
            scores /= lengths
            scores[:, again] = scores[:, first]
            none = np.zeros((len(rows), 1), dtype=bool)
            others = (groups[0][rows, None, None] != groups[1]).all(2) if groups else none
            np.copyto(scores, -np.inf, where=others)
            place = np.arange(count[rows].max())
            real = place < count[rows, None]
            ahead = _irrelevant_ahead(scores, items[start[rows, None] + place * real], real)
            ranks = np.where(real, ahead + place + 1.0, np.inf)
            for measure, column in values.items():
                column[rows] = measure(ranks, count[rows], len(gallery) - others.sum(1))

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(number) as pool:
        list(pool.map(work, range(number)))
    return values


def _relevant(labels: Sides, classes: Sides | None, sizes: Sides) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple]:
    """Items label by label, where each query's relevant ones begin and how many they are, and both sides' classes."""
    wanted, found = _codes(labels, sizes, "labels")
    groups = () if classes is None else _codes(classes, sizes, "classes")
    if groups:
        most = 1 + max(groups[0].max(initial=0), groups[1].max())
        wanted = wanted * most + groups[0]
        found = (found[:, :, None] * most + groups[1][:, None]).reshape(sizes[1], -1)
    found, items = found.ravel(), np.arange(sizes[1]).repeat(found.shape[1])
    order = np.lexsort((items, found))
    found, items = found[order], items[order]
    new = np.append(True, (np.diff(found) != 0) | (np.diff(items) != 0))  # a label that an item repeats counts once
    found, items = found[new], items[new]
    start, end = (np.searchsorted(found, wanted, side) for side in ("left", "right"))
    if len(missing := np.flatnonzero(start == end)):
        which = f"query {missing[0]} with label {to_array(labels[0])[missing[0]]!s}"
        lacking = f"{len(missing)} of {sizes[0]} queries have no relevant item in the gallery, the first is {which}"
        raise ValueError(f"{lacking}: drop them, or complete the gallery.")
    return items, start, end - start, groups


def _copies(gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows that repeat an earlier row, and the first such row: products of equal vectors may differ in the last bit."""
    rows = (gallery + 0).view(f"V{gallery.itemsize * gallery.shape[1]}")[:, 0]  # -0 + 0 is 0
    _, first, same = np.unique(rows, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[same] != np.arange(len(rows)))
    return again, first[same][again]


def _irrelevant_ahead(scores: np.ndarray, columns: np.ndarray, real: np.ndarray) -> np.ndarray:
    """(b, M): the irrelevant items that score as high as a relevant one, best first; `scores` is overwritten."""
    relevant = np.where(real, np.take_along_axis(scores, columns, axis=1), -np.inf).astype(scores.dtype)
    np.put_along_axis(scores, columns, -np.inf, axis=1)
    scores.sort(axis=1)  # without indices: the relevant ones are looked up
    relevant.sort(axis=1)
    behind = [np.searchsorted(row, own) for row, own in zip(scores, relevant, strict=True)]
    return scores.shape[1] - np.array(behind)[:, ::-1]


def _embeddings(queries: Any, gallery: Any) -> list[np.ndarray]:
    """Both in one type, each row times a power of two that brings its largest value near 1: no product runs over."""
    queries, gallery = to_array(queries), to_array(gallery)
    if queries.ndim != 2 or queries.shape[1:] != gallery.shape[1:] or gallery.size == 0:
        shapes = f"queries have shape {queries.shape} and the gallery {gallery.shape}"
        raise ValueError(f"{shapes}: give (Q, D) and (N, D) embeddings of one head, and a gallery that is not empty.")
    dtype = np.float64 if np.float64 in (queries.dtype, gallery.dtype) else np.float32
    sides = [side.astype(dtype) for side in (queries, gallery)]
    for name, values in zip(("queries", "gallery"), sides, strict=True):
        if len(bad := np.flatnonzero(~np.isfinite(values).all(1))):
            raise ValueError(f"{name} hold NaN or infinity in row {bad[0]}: check what made the embeddings.")
    return [np.ldexp(values, -np.frexp(np.abs(values).max(1, keepdims=True))[1]) for values in sides]


def _codes(given: Sides, sizes: Sides, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels of both sides, (Q,) and (N, K), as the same whole numbers."""
    asked, shown = to_array(given[0], f"query {name}", shapes=((sizes[0],),)), to_array(given[1])
    several = shown.shape[1:] if shown.ndim == 2 and shown.size else ()
    sides = [asked, to_array(shown, f"gallery {name}", shapes=((sizes[1], *several),)).reshape(sizes[1], -1)]
    kinds = {side.dtype.kind for side in sides}
    if len({kind in "US" for kind in kinds}) > 1:
        raise ValueError(f"{name} are {sides[0].dtype} here and {sides[1].dtype} in the gallery: use one kind.")
    if any(side.dtype.kind == "f" and np.isnan(side).any() for side in sides):
        raise ValueError(f"{name} hold NaN: leave out what has no label.")
    if kinds == {"i", "u"}:
        sides = [side.astype(object) for side in sides]  # both together would become floats
    codes = np.unique(np.concatenate([side.ravel() for side in sides]), return_inverse=True)[1]
    return codes[: sizes[0]], codes[sizes[0] :].reshape(sides[1].shape)


def average_precision_at_k(
    relevance: Any, n_relevant: Any, k: int, denominator: str = "min", interpolated: bool = False
) -> np.ndarray | float:
    """AP@k, see `AP`, of one ranking (K,) or of each in (Q, K), 0 or 1, best item first; NaN without a relevant item.

    They hold the first k ranks or the whole gallery, of which `n_relevant` are relevant: a number, or one a query.
    """
    return _of_rankings(AP(whole(k), denominator, interpolated), relevance, n_relevant)


def average_precision(relevance: Any, interpolated: bool = False) -> np.ndarray | float:
    """AP@all of rankings of the whole gallery, as `average_precision_at_k`."""
    return _of_rankings(AP(None, "relevant", interpolated), relevance, np.sum(relevance, axis=-1))


def precision_at_k(relevance: Any, n_relevant: Any, k: int, denominator: str = "k") -> np.ndarray | float:
    """P@k, see `P`, as `average_precision_at_k`."""
    return _of_rankings(P(k, denominator), relevance, n_relevant)


def accuracy_at_k(scores: Any, relevant: Any, k: int) -> np.ndarray | float:
    """Acc@k, see `Acc`, of rankings by scores, (N,) or (Q, N), of items of which `relevant` says 1 or 0."""
    ranking = np.take_along_axis(to_array(relevant), np.lexsort((relevant, -to_array(scores)), axis=-1), axis=-1)
    return _of_rankings(Acc(k), ranking, ranking.sum(-1))


def _of_rankings(measure: Measure, relevance: Any, n_relevant: Any) -> np.ndarray | float:
    rankings = np.atleast_2d(to_array(relevance, "relevance", 2))
    shown, length = rankings.sum(1), rankings.shape[1]
    given = np.broadcast_to(to_array(n_relevant, "n_relevant", shapes=((), np.shape(relevance)[:-1])), shown.shape)
    if not np.isin(rankings, (0, 1)).all() or given.dtype.kind not in "iu" or (given < shown).any():
        raise ValueError("relevance is not 0 and 1, or n_relevant not whole and of what it shows or more: count anew.")
    if length < (measure.k or 0) and (given > shown).any():
        raise ValueError(f"a ranking has {length} items, fewer than k = {measure.k}, and lacks relevant ones: give k.")
    ranks = np.sort(np.where(rankings, np.arange(1.0, length + 1), np.inf))
    found = np.where(given > 0, measure(ranks, np.maximum(given, 1), np.full_like(given, length)), np.nan)
    return found if np.ndim(relevance) == 2 else found[0]
