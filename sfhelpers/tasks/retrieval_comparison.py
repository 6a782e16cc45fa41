"""The arms of the retrieval tables, trained and tested alike, and what stands beside them untrained."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sfhelpers import metrics
from sfhelpers.backbones import Backbone
from sfhelpers.datasets import Dataset, Record
from sfhelpers.datasets.contents import fingerprint
from sfhelpers.fusion import FusedExtractor
from sfhelpers.tasks import before as arms
from sfhelpers.tasks import retrieval
from sfhelpers.tasks.fit import History
from sfhelpers.tasks.retrieval import SketchRetriever
from sfhelpers.tasks.retrieval_parts import PROBLEMS, Parts, parts_of, prepare_images
from sfhelpers.tasks.retrieval_untrained import CHANCE, UNTRAINED, Embedder, Vectors, random_directions, untrained

METHODS = (*arms.METHODS, *UNTRAINED)
EVERY = tuple(PROBLEMS)
CLIP_STYLE = EVERY[2]
# Chosen on a backbone made for that, whose image tower had learned 18 of the 27 seen categories: asked for the other
# nine, heads that started so had a mean AP of .787 (from zero .737), and found the very photo twice as often.
START = "random"


@dataclass
class Trial(arms.Trial):
    """One method trained with one seed, once a problem; `model` and `history` are those of the first.

    Attributes:
        models, histories: by problem; empty for an untrained method.
        vectors: problem -> (S, d) of its sketches and (P, d) of its photos, both as in `Parts.pools`.
    """

    models: dict[str, SketchRetriever]
    histories: dict[str, History]
    vectors: dict[str, Vectors]


def compare(
    backbone: Backbone,
    dataset: Dataset,
    methods: Iterable[str],
    seeds: Iterable[int],
    epochs: int,
    learning_rate: float,
    batch_size: int,
    inject: str = "up",
    keep_models: bool = True,
    log: Callable[[str], None] = print,
    checkpoints: Path | None = None,
    configuration: dict[str, Any] | None = None,
    problems: Collection[str] = EVERY,
    others: Mapping[str, Embedder] | None = None,
) -> tuple[list[Trial], Parts]:
    """Train and test every method with every seed on every problem; see `arms.compare` for what is shared.

    Args:
        checkpoints: folder from which a comparison that was stopped goes on; None keeps nothing.
        configuration: what else made the trainings, as in `fit`.
        problems: of PROBLEMS.
        others: name -> embedder, further untrained rows, e.g. from `encoders.load_others`.

    Returns:
        The trials, method by method and the untrained last (one each, but chance once a seed), and the parts of the
        last arm.

    Raises:
        ValueError: an unknown method or problem, or no arm.
    """
    methods, seeds = tuple(methods), tuple(seeds)
    arms.check_methods(methods, UNTRAINED)
    made = task(dataset, epochs, learning_rate, batch_size, checkpoints, configuration, problems, keep_models)
    trained = [method for method in methods if method not in UNTRAINED]
    trials, parts = arms.compare(backbone, made, trained, seeds, inject, keep_models, log)
    for name, (vectors, seconds) in untrained(backbone, parts, methods, dict(others or {})).items():
        trials.append(Trial(name, seeds[0], None, None, 0, seconds, {}, {}, vectors))
    for seed in seeds if CHANCE in methods else ():
        trials.append(Trial(CHANCE, seed, None, None, 0, 0.0, {}, {}, random_directions(parts, seed)))
    return trials, parts


def task(
    dataset: Dataset,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    checkpoints: Path | None = None,
    configuration: dict[str, Any] | None = None,
    problems: Collection[str] = ("strict",),
    keep_models: bool = True,
) -> arms.Task:
    """Retrieval as the comparisons see it: mAP@all of the first problem. Arguments as in `compare`.

    The clip-style problem is for the CORE arms alone: it asks what a laxer split does to a number, not which arm wins.
    """
    first = next(iter(problems))
    images = fingerprint(dataset.records)

    def prepare(extractor: FusedExtractor, **settings: Any) -> Parts:
        side = arms.reading_size(extractor.backbone)
        return parts_of(dataset, lambda whole: prepare_images(extractor, whole, side, **settings), problems)

    def train(arm: arms.Arm, parts: Parts) -> Trial:
        kept = arm.kept(checkpoints, configuration, images)
        trial = _trial(arm, parts, epochs, learning_rate, batch_size, **kept)
        trial.models = trial.models if keep_models else {}
        return trial

    def values(trial: Trial, parts: Parts) -> dict[str, np.ndarray]:
        return {"unseen categories": scores(trial, parts, first)[metrics.AP()]}

    def groups(parts: Parts) -> dict[str, np.ndarray]:
        return {"unseen categories": photo_groups(parts, first)}

    return arms.Task("retrieval", "mAP@all", metrics.AP().definition, prepare, train, values, groups, START, images)


def scores(
    trial: Trial,
    parts: Parts,
    problem: str,
    test: str = "zero-shot",
    measures: Iterable[metrics.Measure] = (metrics.AP(),),
    gallery: str = "all",
) -> dict[metrics.Measure, np.ndarray]:
    """Every query's value of every measure.

    Args:
        problem: of PROBLEMS; "fine-grained" counts only the photo that a sketch was drawn from as right.
        test: "zero-shot", or "class" and "sample" for the generalised tests of "strict".
        gallery: "all" photos of the test, or those of the query's "class" only.
    """
    sides, vectors = asked(trial, parts, problem, test)
    classes = [np.array([record.category for record in side]) for side in sides]
    labels = [_instances(side) for side in sides] if PROBLEMS[problem][1] == "instance" else classes
    competing = classes if gallery == "class" else (None, None)
    return metrics.evaluate_retrieval(*vectors, *labels, tuple(measures), *competing)


def asked(trial: Trial, parts: Parts, problem: str, test: str = "zero-shot") -> tuple[tuple, Vectors]:
    """Records of a test's queries and gallery, and their vectors. Arguments as in `scores`."""
    pool, (sketches, photos) = parts.pools[problem], trial.vectors[problem]
    queries, gallery = pool.tests[test]
    records = [pool.sketches[k] for k in queries], [pool.photos[k] for k in gallery]
    return records, (sketches[queries], photos[gallery])


def photo_groups(parts: Parts, problem: str, test: str = "zero-shot") -> np.ndarray:
    """(Q,) for the paired test: the photo that each query was drawn from."""
    pool = parts.pools[problem]
    return _instances(pool.sketches[k] for k in pool.tests[test][0])


def _instances(records: Iterable[Record]) -> np.ndarray:
    return np.array([f"{record.category}/{record.instance}" for record in records])


def _trial(
    arm: arms.Arm, parts: Parts, epochs: int, learning_rate: float, batch_size: int,
    checkpoint: Path | None, configuration: dict[str, Any],
) -> Trial:  # fmt: skip
    models, histories, vectors, seconds = {}, {}, {}, 0.0
    chosen = [problem for problem in parts.splits if problem != CLIP_STYLE or arm.method in arms.CORE]
    for problem in chosen or parts.splits:
        found = parts.splits[problem]
        model = SketchRetriever(arm.again().extractor if models else arm.extractor, level=PROBLEMS[problem][1])
        folder = None if checkpoint is None else checkpoint / problem
        pairs_of = parts.images.pairs_of
        histories[problem] = retrieval.train_retriever(
            model, pairs_of(found.train), pairs_of(found.validation), epochs, arm.rate(learning_rate), batch_size,
            arm.seed, progress=f"{problem}: {arm.method}, seed {arm.seed}", checkpoint=folder,
            configuration=configuration | {"problem": problem},
        )  # fmt: skip
        models[problem] = model
        started = time.perf_counter()
        vectors[problem] = embedded(model, parts, problem)
        seconds += histories[problem].seconds + time.perf_counter() - started
    first = next(iter(models))
    return Trial(
        arm.method, arm.seed, models[first], histories[first], arms.trainable(models[first]),
        seconds, models, histories, vectors,
    )  # fmt: skip


def embedded(model: SketchRetriever, parts: Parts, problem: str) -> Vectors:
    """What a trained model makes of a problem's pool."""
    pool, images = parts.pools[problem], parts.images
    sketch_at, photo_at = images.places
    sketches = torch.tensor([sketch_at[record.path] for record in pool.sketches])
    photos = torch.tensor([photo_at[record.path] for record in pool.photos])
    return retrieval.embed(model, images.sketches, sketches), retrieval.embed(model, images.photos, photos)
