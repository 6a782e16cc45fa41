"""Retrieval metrics as definitions: AP, P and Acc@k, each computed from the ranks of the relevant items alone.

For one query, let R be the number of relevant items in the gallery, N the gallery's size, H(i) the relevant items among
the first i, P(i) = H(i)/i and S(k) the sum of P(i) over the relevant ranks i <= k. "mAP@200" is S(200) over one of four
denominators, with or without the VOC envelope, depending on the paper (`AP`); "P@200" is one of three (`P`). Choosing
another definition moves a result by more than changing the method does: one ranking has .075 or .454.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from sfhelpers.metrics.arrays import one_of, whole

Denominator = Literal["k", "min", "found", "relevant"]
Cut = Literal["k", "gallery", "relevant"]
TIES = "ties against the query"


@dataclass(frozen=True)
class Ranking:
    """Where the relevant items of Q queries stand.

    Args:
        positions: (Q, M) float64, the ranks of the relevant items from 1, ascending in each row; inf where there is
            none, anywhere in the row.
        hits: (Q, M) or (M,), the number of relevant items up to that rank.
        n_relevant: (Q,) relevant items in the whole gallery.
        n_gallery: (Q,) or a number, items that were ranked.
    """

    positions: np.ndarray
    hits: np.ndarray
    n_relevant: np.ndarray
    n_gallery: np.ndarray | int


@dataclass(frozen=True)
class AP:
    """Average precision of one query; its mean over queries is mAP@all or mAP@k.

    Args:
        k: how many ranks count; None: the whole gallery.
        denominator: what S(k) is divided by. With the whole gallery all but "k" are R.
            "k": k (the authors' code of CVAE);
            "min": min(k, R) (SAKE and ZSE, both with `interpolated=True`);
            "found": H(k), 0 where nothing was found (sem-pcyc, ClipPrompt, Dr. CLIP, torchmetrics >= 1.0);
            "relevant": R, the textbook's AP cut at k.
        interpolated: precision made non-increasing from the right first (the VOC envelope), within the first k.

    Raises:
        ValueError: k is no whole number from 1, or the denominator is unknown, or it is "k" without a k.
    """

    k: int | None = None
    denominator: Denominator = "min"
    interpolated: bool = False

    def __post_init__(self) -> None:
        one_of(self.denominator, get_args(Denominator), "denominator")
        if self.k is not None:
            whole(self.k)
        elif self.denominator == "k":
            raise ValueError("denominator is 'k' but there is no k: give one, or choose 'relevant'.")

    @property
    def name(self) -> str:
        """As in the papers' tables, e.g. "mAP@200"; it does not say which definition."""
        return f"mAP@{self.k or 'all'}"

    @property
    def definition(self) -> str:
        """The definition in words, for a result row."""
        among = f"in the first {self.k}" if self.k else "in the gallery"
        over = {
            "k": f"{self.k}",
            "min": f"min({self.k}, R relevant)",
            "found": "their number",
            "relevant": "R relevant",
        }
        envelope = ", precision interpolated (VOC envelope)" if self.interpolated else ""
        divisor = over[self.denominator if self.k else "relevant"]
        return f"sum of precisions at the relevant items {among} / {divisor}{envelope}; {TIES}"

    def __call__(self, ranking: Ranking) -> np.ndarray:
        """(Q,) values in [0, 1]; NaN for a query without a relevant item."""
        within = ranking.positions <= (self.k or np.finfo(np.float64).max)
        precision = np.where(within, ranking.hits / ranking.positions, 0.0)
        if self.interpolated:
            envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            precision = np.where(within, envelope, 0.0)
        return _divide(precision.sum(1), self._divisor(within, ranking.n_relevant), ranking.n_relevant)

    def _divisor(self, within: np.ndarray, n_relevant: np.ndarray) -> np.ndarray | int:
        if self.k is None or self.denominator == "relevant":
            return n_relevant
        if self.denominator == "found":
            return within.sum(1)
        return self.k if self.denominator == "k" else np.minimum(self.k, n_relevant)


@dataclass(frozen=True)
class P:
    """Precision at k of one query.

    Args:
        k: how many ranks count.
        denominator: the three differ only where the gallery or the query's class is smaller than k.
            "k": H(k)/k (ClipPrompt, Dr. CLIP);
            "gallery": H(k)/min(k, N) (SAKE, sem-pcyc);
            "relevant": H(c)/c with the cut c = min(k, R) (ZSE), so that a perfect ranking has 1.

    Raises:
        ValueError: k is no whole number from 1, or the denominator is unknown.
    """

    k: int
    denominator: Cut = "k"

    def __post_init__(self) -> None:
        whole(self.k)
        one_of(self.denominator, get_args(Cut), "denominator")

    @property
    def name(self) -> str:
        """As in the papers' tables, e.g. "P@200"."""
        return f"P@{self.k}"

    @property
    def definition(self) -> str:
        """The definition in words, for a result row."""
        cut = {"k": f"{self.k}", "gallery": f"min({self.k}, gallery)", "relevant": f"min({self.k}, R relevant)"}
        first = cut["relevant"] if self.denominator == "relevant" else f"{self.k}"
        return f"relevant items in the first {first} / {cut[self.denominator]}; {TIES}"

    def __call__(self, ranking: Ranking) -> np.ndarray:
        """(Q,) values in [0, 1]; NaN for a query without a relevant item."""
        among = {"k": self.k, "gallery": ranking.n_gallery, "relevant": ranking.n_relevant}[self.denominator]
        divisor = np.broadcast_to(np.minimum(self.k, among), ranking.n_relevant.shape)
        # Nothing stands between min(k, gallery) and k, so that only "relevant" cuts elsewhere than at k.
        cut = divisor[:, None] if self.denominator == "relevant" else self.k
        return _divide((ranking.positions <= cut).sum(1), divisor, ranking.n_relevant)


@dataclass(frozen=True)
class Acc:
    """Accuracy at k of one query (fine-grained): 1 if a relevant item is among the first k, else 0.

    Args:
        k: how many ranks count.

    Raises:
        ValueError: k is no whole number from 1.
    """

    k: int

    def __post_init__(self) -> None:
        whole(self.k)

    @property
    def name(self) -> str:
        """As in the papers' tables, e.g. "Acc@1"."""
        return f"Acc@{self.k}"

    @property
    def definition(self) -> str:
        """The definition in words, for a result row."""
        return f"share of queries with their paired photo among the first {self.k}; {TIES}"

    def __call__(self, ranking: Ranking) -> np.ndarray:
        """(Q,) 0 or 1; NaN for a query without a relevant item."""
        return _divide((ranking.positions <= self.k).any(1), 1, ranking.n_relevant)


Measure = AP | P | Acc


def _divide(total: np.ndarray, divisor: np.ndarray | int, n_relevant: np.ndarray) -> np.ndarray:
    """total / divisor, 0 where nothing was found, NaN where there was nothing to find."""
    values = np.where(n_relevant > 0, total.astype(np.float64), np.nan)
    return values / np.maximum(divisor, 1)
