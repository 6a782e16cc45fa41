"""What a comparison of retrieval arms is told as: result rows with the definition of every number, and the tests."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sfhelpers import results
from sfhelpers.datasets import Dataset, splits
from sfhelpers.metrics import AP, Acc, Measure, P, evaluate_retrieval
from sfhelpers.tasks import differences
from sfhelpers.tasks.prepared import embed_photos
from sfhelpers.tasks.retrieval_comparison import Parts, Trial, photo_groups, scores
from sfhelpers.tasks.retrieval_parts import PROBLEMS
from sfhelpers.tasks.retrieval_untrained import CHANCE, Embedder

COMMITTED = Path(__file__).resolve().parents[2] / "data" / "results" / "05_retrieval.json"
HEADLINE = AP()
CATEGORY = (
    AP(), AP(interpolated=True), AP(200, "k"), AP(200, "min"), AP(200, "min", True), AP(200, "found"),
    AP(200, "relevant"), P(100, "k"), P(100, "gallery"), P(100, "relevant"), P(200, "k"), P(200, "gallery"),
    P(200, "relevant"),
)  # fmt: skip
INSTANCE = (Acc(1), Acc(5), Acc(10))
GENERALISED = {"class": "strict, generalised by class", "sample": "strict, generalised by sample"}
EXPECTED = "Acc@1, expected"
UNSEEN, SEEN = "all, unseen queries", "all, seen queries"


def rows(
    run: Any, trials: Iterable[Trial], parts: Parts, weights_sha256: str, others: Mapping[str, Any] | None = None
) -> list[results.Row]:
    """One row a trial, problem, test, gallery and measure.

    `split` is the protocol; `gallery` is "all" or "class", and in the generalised tests also says whose queries. Beside
    the measured chance stands the one that a random ranking is expected to have, EXPECTED.

    Args:
        others: method -> its encoder, whose own weights go into its rows.
    """
    found = []
    for trial in trials:
        known = _made_by(trial.method, others, weights_sha256)
        for split, gallery, measure, values in measured(trial, parts):
            found.append(
                results.row(
                    run, task="retrieval", method=trial.method, metric=measure.name, definition=measure.definition,
                    value=values.mean(), n=len(values), gallery=gallery, split=split,
                    seed=trial.seed, dataset=parts.dataset, seconds=trial.seconds, **known,
                )
            )  # fmt: skip
    if "fine-grained" in parts.pools:
        found.append(
            results.row(
                run, task="retrieval", method=CHANCE, metric=EXPECTED, definition="1 / number of photos",
                value=chance(parts), n=len(parts.pools["fine-grained"].tests["zero-shot"][0]), gallery="all",
                split=PROBLEMS["fine-grained"][0], weights_sha256=weights_sha256, dataset=parts.dataset,
            )
        )  # fmt: skip
    return found


def measured(trial: Trial, parts: Parts) -> Iterator[tuple[str, str, Measure, np.ndarray]]:
    """(split, gallery, measure, a value a query) of everything that a trial was tested on."""
    for problem in trial.vectors:
        split, level = PROBLEMS[problem]
        measures = CATEGORY if level == "category" else INSTANCE
        for gallery in ("all",) if level == "category" else ("all", "class"):
            for measure, values in scores(trial, parts, problem, "zero-shot", measures, gallery).items():
                yield split, gallery, measure, values
        for test, (queries, _) in parts.pools[problem].tests.items():
            if test == "zero-shot":
                continue
            values, unseen = scores(trial, parts, problem, test)[HEADLINE], parts.pools[problem].unseen[queries]
            for gallery, chosen in (("all", slice(None)), (UNSEEN, unseen), (SEEN, ~unseen)):
                yield GENERALISED[test], gallery, HEADLINE, values[chosen]


def table(
    found: Iterable[results.Row], measure: Measure = HEADLINE, split: str = "strict", gallery: str = "all"
) -> dict[str, tuple[float, float | None]]:
    """Method -> (mean, spread over seeds) of one measure on one split, best first."""
    return results.table([row for row in found if row.split == split], gallery, measure.name, measure.definition)


def tests(run: Any, trials: Iterable[Trial], parts: Parts, weights_sha256: str) -> list[results.Row]:
    """The paired test of fused against every other method, photos resampled: strict mAP@all and fine-grained Acc@1."""
    found: list[results.Row] = []
    trials = list(trials)
    for problem, measure in (("strict", HEADLINE), ("fine-grained", Acc(1))):
        values: dict[str, list[np.ndarray]] = {}
        for trial in trials:
            if problem in trial.vectors:
                values.setdefault(trial.method, []).append(scores(trial, parts, problem, measures=(measure,))[measure])
        if "fused" in values:
            found += differences.against_all(
                run, values, photo_groups(parts, problem), "photos", task="retrieval", metric=measure.name,
                gallery="all", split=PROBLEMS[problem][0], weights_sha256=weights_sha256, dataset=parts.dataset,
            )  # fmt: skip
    return found


def chance(parts: Parts, problem: str = "fine-grained", gallery: str = "all", k: int = 1) -> float:
    """What a random ranking is expected to have: Acc@k of the fine-grained problem, or mAP@all (the prevalence).

    mAP@all of a random ranking lies a little above the prevalence, the more so the smaller the gallery.
    """
    pool = parts.pools[problem]
    queries, photos = pool.tests["zero-shot"]
    asked, offered = ([r.category for r in np.array(s, dtype=object)[p]] for s, p in
                      ((pool.sketches, queries), (pool.photos, photos)))  # fmt: skip
    same = np.array([offered.count(category) for category in asked])
    if PROBLEMS[problem][1] == "category":
        return float((same / len(offered)).mean())
    return float(np.minimum(1, k / (same if gallery == "class" else len(offered))).mean())


def definitions_at(trial: Trial, parts: Parts, k: int, problem: str = "strict") -> dict[str, float]:
    """One ranking under every definition of mAP@k and P@k: short name -> mean over queries."""
    named = {
        f"mAP@{k}, / {k}": AP(k, "k"), f"mAP@{k}, / min({k}, R)": AP(k, "min"),
        f"mAP@{k}, / min({k}, R), interpolated": AP(k, "min", True), f"mAP@{k}, / found": AP(k, "found"),
        f"mAP@{k}, / R": AP(k, "relevant"), f"P@{k}, / {k}": P(k), f"P@{k}, / min({k}, N)": P(k, "gallery"),
        f"P@{k}, cut at min({k}, R)": P(k, "relevant"), "mAP@all": AP(), "mAP@all, interpolated": AP(None, "min", True),
    }  # fmt: skip
    found = scores(trial, parts, problem, measures=tuple(named.values()))
    return {name: float(found[measure].mean()) for name, measure in named.items()}


def relevant(parts: Parts, problem: str = "strict") -> int:
    """R: the median number of right photos a query has."""
    pool = parts.pools[problem]
    names = [pool.photos[k].category for k in pool.tests["zero-shot"][1]]
    return int(np.median([names.count(pool.sketches[k].category) for k in pool.tests["zero-shot"][0]]))


def rank_folder(dataset: Dataset, embedders: Mapping[str, Embedder], size: int) -> dict[str, np.ndarray]:
    """Every sketch of a folder ranks all its photos; nothing of it is trained on.

    Args:
        dataset: all of it is used, one of each photo.
        embedders: name -> images to vectors.
        size: side in px at which images are read; an embedder with a larger `.size` gets that.

    Returns:
        Name -> (number of sketches,) AP@all, as in the order of `dataset.sketches`.
    """
    dataset = splits.without_duplicates(dataset)
    splits.require_relevant(dataset)
    sides, found = (dataset.sketches, dataset.photos), {}
    classes = [np.array([record.category for record in side]) for side in sides]
    for name, embedder in embedders.items():
        side = max(size, getattr(embedder, "size", 0))
        vectors = (embed_photos([record.path for record in images], embedder, side) for images in sides)
        found[name] = evaluate_retrieval(*vectors, *classes, (HEADLINE,))[HEADLINE]
    return found


def prevalence(dataset: Dataset) -> float:
    """The mean share of right photos, about what a random ranking has as mAP@all."""
    names = [photo.category for photo in dataset.photos]
    return float(np.mean([names.count(sketch.category) / len(names) for sketch in dataset.sketches]))


def folder_rows(
    run: Any, found: Mapping[str, np.ndarray], weights_sha256: str, others: Mapping[str, Any] | None = None
) -> list[results.Row]:
    """Rows of `rank_folder`."""
    made = []
    for name, values in found.items():
        known = _made_by(name, others, weights_sha256)
        made.append(
            results.row(
                run, task="retrieval", method=name, metric=HEADLINE.name, definition=HEADLINE.definition,
                value=values.mean(), n=len(values), gallery="all", split="not trained on", **known,
            )
        )  # fmt: skip
    return made


def _made_by(method: str, others: Mapping[str, Any] | None, weights_sha256: str) -> dict[str, str]:
    """The weights behind a row: the backbone's, or those of an encoder that has its own."""
    encoder = (others or {}).get(method)
    if encoder is None:
        return {"weights_sha256": weights_sha256}
    return {"weights_sha256": encoder.weights_sha256, "backbone": method}
