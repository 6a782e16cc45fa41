"""Retrieval metrics as definitions, AP, P and Acc@k, and the metrics of rankings that are at hand. Ties count against
the query: of equal scores the irrelevant stand first. Without a relevant item a value is NaN."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sfhelpers.metrics.arrays import flags, numbers, one_of, to_array, whole

__all__ = ["AP", "Acc", "Measure", "P", "accuracy_at_k", "average_precision", "average_precision_at_k"]
__all__ += ["precision_at_k", "rank"]
TIES = "ties against the query"


@dataclass(frozen=True)
class Measure:
    """One definition, for the first k ranks: its `name` in the papers' tables, its `definition` for a result row.

    From the ranks (Q, M) of Q queries' relevant items, from 1, best first, then inf, how many each has, and the
    gallery's size, it makes (Q,) float64 in [0, 1]; one query has no first axis.
    """

    k: int

    def __post_init__(self) -> None:
        whole(self.k)

    @property
    def name(self) -> str:
        return f"{type(self).__name__}@{self.k}"


class Acc(Measure):
    """Accuracy at k of one query (fine-grained): 1 if a relevant item is among the first k, else 0."""

    @property
    def definition(self) -> str:
        return f"share of queries with their paired photo among the first {self.k}; {TIES}"

    def __call__(self, ranks: np.ndarray, n_relevant: np.ndarray, n_gallery: np.ndarray | int) -> np.ndarray:
        return _divide((ranks <= self.k).any(-1), 1, n_relevant)


@dataclass(frozen=True)
class P(Measure):
    """Precision at k of one query; H(i) of the first i items are relevant, R in the whole gallery of N.

    Its denominators differ only where gallery or class is smaller than k: "k" is H(k)/k (ClipPrompt, Dr. CLIP),
    "gallery" H(k)/min(k, N) (SAKE, sem-pcyc), "relevant" H(c)/c with c = min(k, R) (ZSE).
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

    def __call__(self, ranks: np.ndarray, n_relevant: np.ndarray, n_gallery: np.ndarray | int) -> np.ndarray:
        among = {"k": self.k, "gallery": n_gallery, "relevant": n_relevant}[self.denominator]
        cut = np.asarray(np.minimum(self.k, among))  # for all three: nothing stands between min(k, gallery) and k
        return _divide((ranks <= cut[..., None]).sum(-1), cut, n_relevant)


@dataclass(frozen=True)
class AP(Measure):
    """Average precision of one query: S(k), the sum of H(i)/i over the relevant ranks i <= k, over a denominator.

    It is "k" (CVAE's code), "min", min(k, R) (SAKE and ZSE, both interpolated), "found", H(k) (sem-pcyc, ClipPrompt,
    Dr. CLIP, torchmetrics; 0 where nothing was found), or "relevant", R. For k None, the whole gallery, all are R.
    `interpolated` makes precision within the first k non-increasing from the right first (the VOC envelope).
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

    def __call__(self, ranks: np.ndarray, n_relevant: np.ndarray, n_gallery: np.ndarray | int) -> np.ndarray:
        k = self.k or np.finfo(np.float64).max
        within = ranks <= k
        precision = np.where(within, np.arange(1.0, within.shape[-1] + 1) / ranks, 0.0)
        if self.interpolated:
            precision = np.where(within, np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1], 0.0)
        over = {"k": k, "min": np.minimum(k, n_relevant), "found": within.sum(-1), "relevant": n_relevant}
        return _divide(precision.sum(-1), over[self.denominator if self.k else "relevant"], n_relevant)


def _divide(total: np.ndarray, divisor: np.ndarray | float, n_relevant: np.ndarray) -> np.ndarray:
    return np.where(n_relevant > 0, total.astype(np.float64), np.nan) / np.maximum(divisor, 1)


def rank(scores: Any, relevant: Any) -> np.ndarray:
    """The relevance, (N,) or (Q, N) bool, in the order of the scores, highest first, ties against the query."""
    scores = to_array(scores)
    relevant = flags(to_array(relevant, "relevant", 2, (scores.shape,)), "relevant")
    order = np.lexsort((relevant, -numbers(scores, "scores")), axis=-1)
    return np.take_along_axis(relevant, order, axis=-1)


def average_precision_at_k(
    relevance: Any, n_relevant: Any, k: int, denominator: str = "min", interpolated: bool = False
) -> np.ndarray | float:
    """AP@k under one of the definitions in use, see `AP`; its mean over queries is what papers call mAP@k.

    `relevance` is (K,) or (Q, K), bool or 0/1, best item first: at least the first k ranks, or the whole gallery;
    `n_relevant` is R, the relevant items in the whole gallery, one number, or one a query.
    """
    return _measured(AP(whole(k), denominator, interpolated), relevance, n_relevant)


def average_precision(relevance: Any, interpolated: bool = False) -> np.ndarray | float:
    """AP@all of rankings of the whole gallery; its mean is mAP@all."""
    return _measured(AP(None, "relevant", interpolated), relevance)


def precision_at_k(relevance: Any, n_relevant: Any, k: int, denominator: str = "k") -> np.ndarray | float:
    """P@k under one of the definitions in use, see `P`; all else as in `average_precision_at_k`."""
    return _measured(P(k, denominator), relevance, n_relevant)


def accuracy_at_k(scores: Any, relevant: Any, k: int) -> np.ndarray | float:
    """Acc@k of fine-grained retrieval: is the paired photo, of several the best, among the k first? See `rank`."""
    return _measured(Acc(k), rank(scores, relevant))


def _measured(measure: Measure, relevance: Any, n_relevant: Any = None) -> np.ndarray | float:
    relevance = flags(to_array(relevance, "relevance", 2), "relevance")
    shown, length = relevance.sum(-1), relevance.shape[-1]
    given = shown if n_relevant is None else to_array(n_relevant, "n_relevant", shapes=((), shown.shape))
    if given.dtype.kind not in "iu":
        raise ValueError(f"n_relevant holds {given.dtype}: give whole numbers.")
    given = np.broadcast_to(given, shown.shape)
    if len(bad := np.flatnonzero(given < shown)):
        told = f"{given.flat[bad[0]]} at query {bad[0]}, whose ranking shows {shown.flat[bad[0]]}"
        raise ValueError(f"n_relevant is {told}: count the gallery's.")
    if length < (measure.k or 0) and (given > shown).any():
        raise ValueError(f"a ranking has {length} items, fewer than k = {measure.k}, and lacks relevant ones: give k.")
    positions = np.sort(np.where(relevance, np.arange(1.0, length + 1), np.inf))
    return measure(positions, given, length)[()]
