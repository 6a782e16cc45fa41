"""How often search by sketch is right: asked with sketches whose answer is known, beside what chance gets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from sfhelpers import plots, results
from sfhelpers.datasets import Dataset, Record, first_sketches, records
from sfhelpers.files import shown
from sfhelpers.metrics import P, correct_keypoints, evaluate_retrieval, top_k_accuracy
from sfhelpers.search.framing import Frame
from sfhelpers.search.searcher import Searcher

DEFINITIONS = {
    "P@1": "share of sketches whose first photo is of their category; the drawn individual may be in the gallery",
    "category accuracy": "share of sketches whose most probable category, by the mean photo embedding, is their own",
    "PCK@10": "share of keypoints visible in both whose match in the photo is within 10% of its side of the keypoint",
}


@dataclass(frozen=True)
class Checked:
    """How a gallery answered sketches of known category; arrays of one entry a sketch."""

    seen: np.ndarray  # bool, whether the sketch's category was trained on
    first: np.ndarray  # bool, whether the first photo was right; ties are wrong
    category: np.ndarray  # bool, whether the most probable category was right; ties are wrong
    probability: np.ndarray  # float, of the most probable category
    chance_first: np.ndarray  # float, the share of photos that are of the sketch's category
    chance_category: np.ndarray  # float, 1 / number of categories


def questions(dataset: Dataset, limit: int = 0, seed: int = 0) -> list[Record]:
    """One sketch a photo, or all where sketches stand alone; at most `limit` a category (0: all), chosen by `seed`."""
    return records.limited(list(first_sketches(dataset, 1).sketches), limit, seed)


def check(searcher: Searcher, sketches: Sequence[Record], batch_size: int = 32) -> Checked:
    """Ask a gallery with sketches; ValueError if there is none, one has no line, or its category has no photo."""
    gallery = searcher.gallery
    if strange := sorted({record.category for record in sketches} - set(gallery.categories)):
        raise ValueError(
            f"the gallery has no photo of {strange[0]!r}, so its sketches have no right answer: leave out."
        )
    if not sketches:
        raise ValueError("there is no sketch to ask with: pass at least one record.")
    starts = tqdm(range(0, len(sketches), batch_size), desc="asking with sketches", leave=False)
    batches = ([_framed(record) for record in sketches[k : k + batch_size]] for k in starts)
    embeddings = torch.cat([gallery.embed(batch) for batch in batches])
    truth = torch.tensor([gallery.categories.index(record.category) for record in sketches])
    probabilities = searcher.recognise(embeddings)
    first = evaluate_retrieval(embeddings, gallery.embeddings, truth, gallery.labels, (P(1),))[P(1)]
    return Checked(
        seen=np.array([record.seen for record in sketches]),
        first=first == 1,
        category=top_k_accuracy(probabilities, truth) == 1,
        probability=probabilities.amax(1).numpy(),
        chance_first=(gallery.labels.bincount()[truth] / len(gallery.labels)).numpy(),
        chance_category=np.full(len(sketches), 1 / len(gallery.categories)),
    )


def check_matches(
    searcher: Searcher, images: Tensor, points: Tensor, visible: Tensor, radius: float = 0.1
) -> tuple[np.ndarray, np.ndarray]:
    """Ask where the keypoints of sketches lie in their photos.

    Args:
        images: (N, 2, 3, H, H) in [0, 1], sketch and photo; points (N, 2, K, 2), x and y in [0, 1] of either, are
            visible, (N, 2, K) bool, or not.
        radius: how far off a match may be, as a share of the side.

    Returns:
        (M,) bool, whether a keypoint that is visible in both is found (never, where the sketch has no ink near it),
        and (M,) bool, whether the same place in the photo would have been right.
    """
    right, same = [], []
    for pair, (start, goal), both in zip(tqdm(images, "matching", leave=False), points, visible.all(1), strict=True):
        sketch, photo = (Image.fromarray(plots.picture(image)) for image in pair)
        frame = Frame.of(sketch)
        asked = both & torch.tensor([frame.near(tuple(point)) for point in start.tolist()])
        found = start.clone()
        matches = searcher.match(sketch, photo, [tuple(point) for point in start[asked].tolist()])
        found[asked] = torch.tensor([match.photo for match in matches]).reshape(-1, 2)
        right.append(correct_keypoints(found, goal, radius, 1, asked)[both])  # what was not asked is not right
        same.append(correct_keypoints(start, goal, radius, 1, both)[both])
    return np.concatenate(right), np.concatenate(same)


def _framed(record: Record) -> Frame:
    try:
        return Frame.of(record.path)
    except ValueError as error:
        raise ValueError(f"{shown(record.path)} cannot ask: {error}") from error


def result_rows(
    run: Any, checked: Checked, parts: Mapping[str, np.ndarray], weights_sha256: str, **changes: Any
) -> list[results.Row]:
    """P@1 and category accuracy of parts of the sketches, each with its chance, as rows of a run.

    `parts` is name, such as "unseen categories", to (N,) bool, which sketches; empty ones are left out. `changes` are
    fields of the rows that differ from the run's, such as `dataset`.
    """
    measured = {
        ("CLIP embedding", "P@1"): checked.first,
        ("chance", "P@1"): checked.chance_first,
        ("CLIP embedding", "category accuracy"): checked.category,
        ("chance", "category accuracy"): checked.chance_category,
    }
    return [
        _row(run, *told, values[chosen], weights_sha256, gallery=part, **changes)
        for told, values in measured.items()
        for part, chosen in parts.items()
        if chosen.any()
    ]


def match_rows(run: Any, found: Mapping[str, np.ndarray], weights_sha256: str) -> list[results.Row]:
    """PCK@10 on the toy world's keypoints: `found` is a method to (M,) bool, which keypoints it got right."""
    told = {"gallery": "all categories", "dataset": "toy", "split": "default"}
    return [_row(run, method, "PCK@10", right, weights_sha256, **told) for method, right in found.items()]


def _row(run: Any, method: str, metric: str, values: np.ndarray, weights_sha256: str, **told: Any) -> results.Row:
    given = {"task": "search", "method": method, "metric": metric, "definition": DEFINITIONS[metric]} | told
    return results.row(run, value=values.mean(), n=len(values), weights_sha256=weights_sha256, **given)
