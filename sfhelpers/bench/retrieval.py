"""How fast `evaluate_retrieval` is, and in how much memory, against a loop over queries with scikit-learn.

    python -m sfhelpers.bench.retrieval

The sizes are those of the Sketchy 21 classes: 12,694 sketches, 10,453 photos. Times depend on the machine, so nothing
here is asserted.
"""

import statistics
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import psutil
import torch
from sklearn.metrics import average_precision_score

from sfhelpers.metrics import STANDARD, evaluate_retrieval

QUERIES, GALLERY, DIMENSIONS, CLASSES = 12_694, 10_453, 512, 21
Result = TypeVar("Result")


def peak_megabytes(function: Callable[[], Result], seconds: float = 0.01) -> tuple[Result, float, float]:
    """Run a function and watch the memory of this process meanwhile.

    Args:
        function: what to run.
        seconds: between two looks.

    Returns:
        What it returned, the process's peak resident memory in MB, and by how much that is more than before.
    """
    process, done = psutil.Process(), threading.Event()
    seen = [process.memory_info().rss]

    def watch() -> None:
        while not done.wait(seconds):
            seen.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        result = function()
        seen.append(process.memory_info().rss)
    finally:
        done.set()
        watcher.join()
    return result, max(seen) / 1e6, (max(seen) - seen[0]) / 1e6


def embeddings(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(number, 512) float32 around the centres of 21 classes, noisy enough for an mAP@all of about .5; and labels."""
    centres = np.random.default_rng(0).standard_normal((CLASSES, DIMENSIONS), dtype=np.float32)
    generator = np.random.default_rng(seed)
    labels = generator.integers(CLASSES, size=number)
    noise = generator.standard_normal((number, DIMENSIONS), dtype=np.float32)
    return 0.3 * centres[labels] + noise, labels


def loop_with_scikit_learn(
    queries: np.ndarray, gallery: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray
) -> np.ndarray:
    """(4, Q) mAP@all, mAP@200, P@100, P@200 of normalised embeddings, one query after the other."""
    columns = []
    for query, label in zip(queries, query_labels, strict=True):
        scores, relevant = gallery @ query, gallery_labels == label
        best = np.argsort(-scores)[:200]
        first = relevant[best]
        among = average_precision_score(first, scores[best]) if first.any() else 0.0  # over what was found
        at_k = among * first.sum() / min(200, relevant.sum())
        columns.append([average_precision_score(relevant, scores), at_k, first[:100].mean(), first.mean()])
    return np.array(columns).T


def metrics_table(rounds: int = 5, sample: int = 100) -> str:
    """Time both on the same embeddings, in turn, and put it into words.

    Args:
        rounds: how often; the median of each counts.
        sample: queries given to the loop in each round, other ones each time; its time is scaled to all of them.
    """
    (queries, query_labels), (gallery, gallery_labels) = embeddings(QUERIES, 1), embeddings(GALLERY, 2)
    unit_queries, unit_gallery = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, gallery))
    evaluate_retrieval(queries[:500], gallery, query_labels[:500], gallery_labels)  # warms up
    ours, loops, memory, gaps = [], [], [], []
    for some in np.random.default_rng(3).permutation(QUERIES)[: rounds * sample].reshape(rounds, sample):
        start = time.perf_counter()
        values, *peak = peak_megabytes(lambda: evaluate_retrieval(queries, gallery, query_labels, gallery_labels))
        middle = time.perf_counter()
        theirs = loop_with_scikit_learn(unit_queries[some], unit_gallery, query_labels[some], gallery_labels)
        loops.append((time.perf_counter() - middle) * QUERIES / sample)
        ours.append(middle - start)
        memory.append(peak)
        gaps.append([np.abs(values[m][some] - other).max() for m, other in zip(STANDARD, theirs, strict=True)])
    quick, plain = statistics.median(ours), statistics.median(loops)
    most, more = np.max(memory, axis=0)
    rows = [
        f"  {m.name:10}{values[m].mean():.4f}   scikit-learn's differ by {gap:.0e} at most"
        for m, gap in zip(STANDARD, np.max(gaps, axis=0), strict=True)
    ]
    return "\n".join(
        [
            f"Retrieval metrics: {QUERIES:,} queries x {GALLERY:,} gallery x {DIMENSIONS} dimensions in float32, "
            f"threads: {torch.get_num_threads()}, medians of {rounds} rounds",
            f"  {'':48}{'seconds':>9}{'ratio':>8}",
            f"  {'evaluate_retrieval, all queries':48}{quick:9.2f}{1:8.1f}",
            f"  {f'scikit-learn, query by query, scaled from {sample}':48}{plain:9.2f}{plain / quick:8.1f}",
            f"  memory of the process: {most:.0f} MB at most, {more:.0f} MB of it taken while evaluating",
            *rows,
        ]
    )


if __name__ == "__main__":
    print(metrics_table())
