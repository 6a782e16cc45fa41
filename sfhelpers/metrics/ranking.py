"""Retrieval metrics of rankings that are at hand: one (K,) or a batch (Q, K), no loop over queries.

A ranking is its relevance, best item first: 1 where an item is relevant, 0 where it is not. `rank` makes it out of
scores. Two conventions hold everywhere:

- Ties count against the query: among items of equal score the irrelevant ones stand first, so that a constant score
  earns nothing. (`average_precision_of_scores` also has scikit-learn's rule.)
- A query without a relevant item has the value NaN, since no method could do better or worse on it; `micro_mean` and
  `macro_mean` leave it out. (scikit-learn and torchmetrics give 0 there, SAKE and ZSE also leave it out.)

For galleries too big for a matrix of scores, see `evaluate_retrieval`.
"""

from typing import Any, Literal

import numpy as np

from sfhelpers.metrics.arrays import batched, flags, numbers, one_of, per_item, to_array, unbatched, whole
from sfhelpers.metrics.definitions import AP, Cut, Denominator, P, Ranking


def rank(scores: Any, relevant: Any) -> np.ndarray:
    """The relevance in the order of the scores, highest first, ties against the query.

    Args:
        scores: (N,) or (Q, N), higher is better; minus a distance, for instance.
        relevant: bool or 0/1 of the same shape.

    Returns:
        bool of the same shape, a ranking of the whole gallery.

    Raises:
        ValueError: shapes differ, the gallery is empty, a score is NaN, or `relevant` is not 0/1.
    """
    scores, relevant, single = _scored(scores, relevant)
    relevance = np.take_along_axis(relevant, np.lexsort((relevant, -scores), axis=-1), axis=1)
    return relevance[0] if single else relevance


def average_precision(relevance: Any, interpolated: bool = False) -> np.ndarray | float:
    """AP@all, S(N)/R; its mean over queries is mAP@all (sem-pcyc, doodle2search, Sketch_LVM).

    Args:
        relevance: (N,) or (Q, N), bool or 0/1, rankings of the whole gallery.
        interpolated: with the VOC envelope, as SAKE and ZSE print it; never below the plain value.

    Returns:
        A float, or (Q,) float64 in [0, 1]; NaN for a query without a relevant item.

    Raises:
        ValueError: the relevance is not 0/1, or the gallery is empty.
    """
    relevance, single = _relevance(relevance)
    return unbatched(AP(None, "relevant", interpolated)(_ranking(relevance, relevance.sum(1))), single)


def average_precision_at_k(
    relevance: Any, n_relevant: Any, k: int, denominator: Denominator = "min", interpolated: bool = False
) -> np.ndarray | float:
    """AP@k under one of the definitions in use; its mean over queries is what papers call mAP@k.

    Args:
        relevance: (K,) or (Q, K), bool or 0/1, at least the first k ranks; fewer only if that is the whole gallery.
        n_relevant: R, the relevant items in the whole gallery: one number, or one a query.
        k: how many ranks count.
        denominator: "k", "min", "found" or "relevant", see `AP`.
        interpolated: with the VOC envelope within the first k.

    Returns:
        A float, or (Q,) float64 in [0, 1]; NaN for a query without a relevant item.

    Raises:
        ValueError: as in `AP`; the relevance is not 0/1 or empty; `n_relevant` is below what the ranking shows, or the
            ranking is shorter than k and yet lacks relevant items.
    """
    measure = AP(whole(k), denominator, interpolated)
    relevance, single = _relevance(relevance)
    return unbatched(measure(_ranking(relevance, _n_relevant(relevance, n_relevant, k))), single)


def precision_at_k(relevance: Any, n_relevant: Any, k: int, denominator: Cut = "k") -> np.ndarray | float:
    """P@k under one of the three definitions in use.

    Args:
        relevance: (K,) or (Q, K), bool or 0/1, at least the first k ranks; fewer only if that is the whole gallery.
        n_relevant: R, the relevant items in the whole gallery: one number, or one a query.
        k: how many ranks count.
        denominator: "k", "gallery" or "relevant", see `P`.

    Returns:
        A float, or (Q,) float64 in [0, 1]; NaN for a query without a relevant item.

    Raises:
        ValueError: as in `average_precision_at_k`.
    """
    measure = P(whole(k), denominator)
    relevance, single = _relevance(relevance)
    return unbatched(measure(_ranking(relevance, _n_relevant(relevance, n_relevant, k))), single)


def accuracy_at_k(
    scores: Any,
    relevant: Any,
    k: int,
    gallery: Literal["all", "class"] = "all",
    query_classes: Any = None,
    gallery_classes: Any = None,
) -> np.ndarray | float:
    """Acc@k of fine-grained retrieval: is the paired photo among the k best?

    The SketchFusion paper's text (Sec. 6.1) has the photos of all test classes in the gallery; some published numbers
    look like galleries of one class, which is far easier, so a result must say which one it used.

    Args:
        scores: (N,) or (Q, N), higher is better.
        relevant: bool or 0/1 of the same shape, the paired photo; of several, copies of it, the best one counts.
        k: how many ranks count.
        gallery: "all": every photo competes; "class": only photos of the query's class.
        query_classes: one class, or (Q,); for gallery "class".
        gallery_classes: (N,) classes of the photos; for gallery "class".

    Returns:
        A float, or (Q,) float64, 1 or 0; a photo that is not paired and scores the same stands before the paired one.
        NaN where the gallery holds no paired photo.

    Raises:
        ValueError: shapes, NaN, k or `gallery` are wrong, or classes are missing or of two kinds.
    """
    one_of(gallery, ("all", "class"), "gallery")
    scores, relevant, single = _scored(scores, relevant)
    rivals = ~relevant
    if gallery == "class":
        if query_classes is None or gallery_classes is None:
            raise ValueError("gallery 'class' needs query_classes and gallery_classes: give both, or choose 'all'.")
        queries = per_item(query_classes, len(scores), "query_classes")
        photos = per_item(gallery_classes, scores.shape[1], "gallery_classes")
        if (queries.dtype.kind in "US") != (photos.dtype.kind in "US"):
            raise ValueError(
                f"classes are {queries.dtype} for the queries and {photos.dtype} for the gallery: use one kind."
            )
        same = queries[:, None] == photos
        rivals, relevant = rivals & same, relevant & same
    best = np.where(relevant, scores, -np.inf).max(1)
    ahead = (rivals & (scores >= best[:, None])).sum(1)
    return unbatched(np.where(relevant.any(1), ahead < whole(k), np.nan), single)


def average_precision_of_scores(
    scores: Any, relevant: Any, ties: Literal["against", "shared"] = "against"
) -> np.ndarray | float:
    """AP@all from scores.

    Args:
        scores: (N,) or (Q, N), higher is better.
        relevant: bool or 0/1 of the same shape.
        ties: "against": irrelevant items first, as `rank`; "shared": items of equal score share the precision after
            the last of them, as scikit-learn's `average_precision_score` (sem-pcyc, doodle2search). Never below
            "against", and equal to it without ties.

    Returns:
        A float, or (Q,) float64 in [0, 1]; NaN for a query without a relevant item.

    Raises:
        ValueError: as in `rank`, or `ties` is unknown.
    """
    one_of(ties, ("against", "shared"), "ties")
    if ties == "against":
        return average_precision(rank(scores, relevant))
    scores, relevant, single = _scored(scores, relevant)
    order = np.argsort(-scores, axis=1)
    scores, relevant = (np.take_along_axis(values, order, axis=1) for values in (scores, relevant))
    last = np.ones(scores.shape, dtype=bool)
    last[:, :-1] = scores[:, :-1] != scores[:, 1:]
    size = scores.shape[1]
    ends = np.minimum.accumulate(np.where(last, np.arange(size), size)[:, ::-1], axis=1)[:, ::-1]
    hits = np.take_along_axis(relevant.cumsum(1), ends, axis=1)
    positions = np.where(relevant, ends + 1.0, np.inf)
    return unbatched(AP()(Ranking(positions, hits, relevant.sum(1), size)), single)


def _scored(scores: Any, relevant: Any) -> tuple[np.ndarray, np.ndarray, bool]:
    """Scores (Q, N) float64, relevant (Q, N) bool, and whether it is one ranking."""
    if to_array(scores).shape != to_array(relevant).shape:
        raise ValueError(
            f"scores have shape {to_array(scores).shape} but relevant {to_array(relevant).shape}: give one for each."
        )
    scores, single = batched(scores, "scores")
    relevant, _ = _relevance(relevant, "relevant")
    return numbers(scores, "scores"), relevant, single


def _relevance(relevance: Any, name: str = "relevance") -> tuple[np.ndarray, bool]:
    """(Q, K) bool and whether it is one ranking; refuses an empty gallery."""
    relevance, single = batched(relevance, name)
    if relevance.shape[1] == 0:
        raise ValueError(f"{name} has no items: the gallery is empty, so there is nothing to rank.")
    return flags(relevance, name), single


def _n_relevant(relevance: np.ndarray, n_relevant: Any, k: int) -> np.ndarray:
    """R of each query, checked against the ranking."""
    given = per_item(n_relevant, len(relevance), "n_relevant")
    shown, length = relevance.sum(1), relevance.shape[1]
    if given.dtype.kind not in "iu":
        raise ValueError(f"n_relevant holds {given.dtype}: give whole numbers.")
    if (given < shown).any():
        q = int((given < shown).argmax())
        raise ValueError(f"n_relevant is {given[q]} at query {q}, whose ranking shows {shown[q]}: count the gallery's.")
    if length < k and (given > shown).any():
        raise ValueError(
            f"the ranking has {length} items, fewer than k = {k}, and lacks relevant ones: give the first {k} ranks."
        )
    return given


def _ranking(relevance: np.ndarray, n_relevant: np.ndarray) -> Ranking:
    """The ranks of the relevant items, left where they are in the row."""
    positions = np.where(relevance, np.arange(1.0, relevance.shape[1] + 1), np.inf)
    return Ranking(positions, relevance.cumsum(1), n_relevant, relevance.shape[1])
