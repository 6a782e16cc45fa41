"""Is one method better than another? A paired bootstrap over the things that were asked (Efron and Tibshirani 1993)."""

from typing import Any

import numpy as np

from sfhelpers.metrics.arrays import to_array

__all__ = ["paired_bootstrap"]
DRAWS = 10_000


def paired_bootstrap(first: Any, second: Any, groups: Any = None) -> tuple[float, float, float, int]:
    """The mean of first - second, both ends of its 95 % percentile interval, and how many groups were resampled.

    Two methods' (n,) values of the same queries, of order 1, for example means of their AP over the seeds; `groups`
    (n,) labels queries that are drawn together, such as sketches of one photo; None: each for itself. ValueError for
    lengths that differ, one group, or values not finite.
    """
    first, second = (to_array(values).astype(np.float64) for values in (first, second))
    labels = np.arange(first.size) if groups is None else to_array(groups)
    if first.ndim != 1 or not first.shape == second.shape == labels.shape:
        shapes = f"{first.shape}, {second.shape} and {labels.shape}"
        raise ValueError(f"values and groups have shapes {shapes}: give one a query for both, and one for each.")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a value is not finite: leave out queries that cannot be answered, for both methods.")
    inverse = np.unique(labels, return_inverse=True)[1]
    sums, counts = np.bincount(inverse, first - second), np.bincount(inverse).astype(np.float64)
    n = len(counts)
    if n < 2:
        raise ValueError(f"there is only {n} group of queries: a bootstrap needs two or more.")
    rng, means = np.random.default_rng(0), np.empty(DRAWS)
    for part in np.split(means, range(1000, DRAWS, 1000)):
        weights = rng.multinomial(n, np.full(n, 1 / n), len(part))  # how often each group was drawn
        part[:] = (weights @ sums) / (weights @ counts)
    # Values are of order 1 and often means over three seeds: thirds that cancel out leave 1e-17, which is a tie.
    means[np.abs(means) < 1e-12] = 0
    low, high = np.quantile(means, (0.025, 0.975))
    return float((first - second).mean()), float(low), float(high), n
