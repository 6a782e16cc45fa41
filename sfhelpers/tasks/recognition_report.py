"""What a comparison of recognition arms is told as: result rows, confusions, worst drawings, embeddings."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.manifold import TSNE
from torch import Tensor

from sfhelpers import metrics, plots, results
from sfhelpers.datasets.records import listed
from sfhelpers.datasets.sketches import Sketches
from sfhelpers.plots import classes
from sfhelpers.tasks import differences
from sfhelpers.tasks.recognition import PreparedSketches
from sfhelpers.tasks.recognition_comparison import GALLERY, Parts, Trial

BINS = 15
DEFINITIONS = {
    "Acc@1": "share of sketches whose category has the highest score, ties against it (micro)",
    "Acc@5": "share of sketches whose category is among the five highest scores, ties against it (micro)",
    "Acc@1 (class mean)": "mean over categories of the share of sketches with the highest score for their own",
    "calibration error": f"ECE: mean gap of confidence and accuracy in {BINS} equal bins, weighted by sketches",
    "calibration error (temperature)": f"ECE in {BINS} bins after temperature scaling chosen on validation sketches",
}
COMMITTED = Path(__file__).resolve().parents[2] / "data" / "results" / "06_recognition.json"


def rule(shots: int) -> str:
    """How a definition ends that says from how much was learned."""
    return f"; {shots} shots a category" if shots else "; all training sketches"


def scores(trial: Trial, parts: Parts) -> dict[str, float]:
    """Every metric of a trial on the test sketches."""
    labels = parts.test.labels.numpy()
    right = metrics.top_k_accuracy(trial.logits, labels)
    return {
        "Acc@1": right.mean(),
        "Acc@5": metrics.top_k_accuracy(trial.logits, labels, 5).mean(),
        "Acc@1 (class mean)": metrics.macro_mean(right, labels),
        "calibration error": metrics.calibration_error(trial.probabilities(), labels, BINS),
        "calibration error (temperature)": metrics.calibration_error(trial.probabilities(True), labels, BINS),
    }


def rows(run: Any, trials: Iterable[Trial], parts: Parts, weights_sha256: str) -> list[results.Row]:
    """One row a trial and metric, Acc@1 also for fewer shots."""
    found = []
    for trial in trials:
        for one in (trial, *trial.fewer):
            values = scores(one, parts)
            for metric in values if one is trial else ("Acc@1",):
                found.append(_row(run, one, metric, values[metric], parts, weights_sha256))
    return found


def _row(run: Any, trial: Trial, metric: str, value: float, parts: Parts, weights_sha256: str) -> results.Row:
    return results.row(
        run, task="recognition", method=trial.method, metric=metric,
        definition=f"{DEFINITIONS[metric]}{rule(trial.shots)}", value=value, n=len(parts.test), gallery=GALLERY,
        weights_sha256=weights_sha256, seconds=trial.seconds, seed=trial.seed, dataset=parts.dataset, split=parts.split,
    )  # fmt: skip


def difference_rows(run: Any, trials: Sequence[Trial], parts: Parts, weights_sha256: str) -> list[results.Row]:
    """The paired test of fused against every other method, over test sketches."""
    values: dict[str, list[np.ndarray]] = {}
    for trial in trials:
        values.setdefault(trial.method, []).append(metrics.top_k_accuracy(trial.logits, parts.test.labels))
    return differences.against_all(
        run, values, np.arange(len(parts.test)), "test sketches", task="recognition", metric="Acc@1", gallery=GALLERY,
        weights_sha256=weights_sha256, dataset=parts.dataset, split=parts.split,
    )  # fmt: skip


def shots_curve(told: Iterable[results.Row], shots: Sequence[int], methods: Sequence[str]) -> dict[str, tuple]:
    """Method -> (means, spreads or None) of Acc@1 over numbers of shots, as `plots.curve` takes them."""
    told = list(told)
    tables = [results.table(told, GALLERY, "Acc@1", rule(number)) for number in shots]
    found = {}
    for method in methods:
        if all(method in table for table in tables):
            spreads = [table[method][1] for table in tables]
            found[method] = ([t[method][0] for t in tables], None if None in spreads else spreads)
    return found


def confused(trial: Trial, data: PreparedSketches, number: int = 6) -> list[tuple[str, str, int, int]]:
    """The pairs most often confused: two categories, how often one was taken for the other, and of how many."""
    matrix = _matrix(trial, data)
    both = np.triu(matrix + matrix.T, 1)
    order = np.argsort(-both, axis=None, kind="stable")[:number]
    pairs = zip(*np.unravel_index(order, both.shape), strict=True)
    counts = matrix.sum(1)
    return [
        (data.categories[a], data.categories[b], int(both[a, b]), int(counts[a] + counts[b]))
        for a, b in pairs
        if both[a, b]
    ]


def confusion_figure(trial: Trial, data: PreparedSketches, title: str = "") -> plots.Figure:
    """The confusion matrix; of more categories than there is room for, those that are confused most."""
    matrix = _matrix(trial, data)
    wrong = matrix + matrix.T
    np.fill_diagonal(wrong, 0)
    kept = np.sort(np.argsort(-wrong.sum(1), kind="stable")[: classes.MOST])
    return classes.confusion(matrix[np.ix_(kept, kept)], [data.categories[k] for k in kept], title)


def _matrix(trial: Trial, data: PreparedSketches) -> np.ndarray:
    return metrics.confusion_matrix(trial.logits.argmax(1), data.labels, len(data.categories))


def reliability_figure(trial: Trial, data: PreparedSketches, title: str = "") -> plots.Figure:
    """Accuracy over confidence, before and after temperature scaling."""
    tables = {
        "as trained": metrics.reliability(trial.probabilities(), data.labels, BINS),
        f"temperature {trial.temperature:.2f}": metrics.reliability(trial.probabilities(True), data.labels, BINS),
    }
    return classes.reliability_diagram(tables, title)


def worst(trial: Trial, data: PreparedSketches, number: int = 14) -> plots.Figure:
    """The sketches to whose own category the least probability was given."""
    probabilities = trial.probabilities()
    own = probabilities[torch.arange(len(data)), data.labels]
    return _captioned(trial, data, own.argsort()[:number].tolist())


def examples(trial: Trial, data: PreparedSketches, right: bool, number: int = 14) -> plots.Figure:
    """Evenly spaced test sketches that were recognised, or that were not; of all if there is no such."""
    found = np.flatnonzero((trial.logits.argmax(1) == data.labels).numpy() == right)
    found = found if len(found) else np.arange(len(data))
    chosen = found[np.linspace(0, len(found) - 1, min(number, len(found))).round().astype(int)]
    return _captioned(trial, data, chosen.tolist())


def _captioned(trial: Trial, data: PreparedSketches, which: list[int], columns: int = 7) -> plots.Figure:
    """Sketches with the category they have and the one they were given, rows of `columns`."""
    probabilities = trial.probabilities()
    cells, captions = [], []
    for k, image in zip(which, data.sketches.images(which, 160), strict=True):
        taken = int(probabilities[k].argmax())
        true = data.categories[data.labels[k]]
        said = f"{data.categories[taken]} {probabilities[k, taken]:.0%}"
        cells.append(image)
        captions.append(f"✓ {said}" if taken == data.labels[k] else f"{true}\n✗ {said}")
    return classes.captioned(cells, captions, columns)


def pictures(sketches: Sketches, categories: Sequence[str], number: int, side: int = 112) -> list[list[Tensor | None]]:
    """`number` sketches of each category, a row each; None fills a row up where a category has fewer than others.

    Raises:
        ValueError: there is no sketch of any of them.
    """
    rows = []
    for category in categories:
        some = sketches.select(categories=[category])
        rows.append(list(some.images(range(min(number, len(some))), side)))
    longest = max(map(len, rows), default=0)
    if not longest:
        raise ValueError(f"there is no sketch of {listed(categories)} here to show: give more sketches a category.")
    return [row + [None] * (longest - len(row)) for row in rows]


def neighbours(
    trial: Trial, data: PreparedSketches, which: Sequence[int], seed: int = 0, side: int = 68
) -> plots.Figure:
    """Test sketches where t-SNE puts their pooled features (van der Maaten and Hinton 2008), mistakes framed,
    each category named in the middle of its own.

    Args:
        trial: of a method that learns features.
        which: positions among the test sketches, five or more.
    """
    right = (trial.logits.argmax(1) == data.labels)[which].tolist()
    plane = TSNE(perplexity=min(15, (len(which) - 1) / 3), init="pca", random_state=seed)
    points = plane.fit_transform(trial.features[which].numpy())
    names = [data.sketches.items[k].category for k in which]
    return classes.scattered(points, list(data.sketches.images(which, side)), right, names=names)
