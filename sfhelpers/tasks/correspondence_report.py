"""What a comparison of correspondence arms is told as: result rows under every definition, matches, where it fails."""

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfhelpers import metrics, plots, results
from sfhelpers.datasets import Record
from sfhelpers.datasets.psc6k import FRAME, KeypointPair
from sfhelpers.images import load_images, open_image
from sfhelpers.plots.matches import Match, matches
from sfhelpers.tasks import differences
from sfhelpers.tasks.correspondence import SIDES, PreparedPoints, SketchMatcher
from sfhelpers.tasks.correspondence_comparison import DEFINITION, Parts, Trial, photo_groups

COMMITTED = Path(__file__).resolve().parents[2] / "data" / "results" / "03_correspondence.json"
# Definition in words -> direction, base, strict, per. The first is the one that tables and tests use.
DEFINITIONS = {
    DEFINITION: ("both", "image", False, "pair"),
    "image side, <=, mean over pairs, sketch to photo": ("s2p", "image", False, "pair"),
    "image side, <=, mean over pairs, photo to sketch": ("p2s", "image", False, "pair"),
    "image side, <, mean over pairs, both directions": ("both", "image", True, "pair"),
    "image side, <=, mean over points, both directions": ("both", "image", False, "point"),
    "side of the box of the target's keypoints, <=, mean over pairs, both directions": ("both", "box", False, "pair"),
}  # fmt: skip
ALPHAS = (0.05, 0.10)
# Pairs whose sketch is not, or is, the mirror image of its photo.
HANDEDNESS = ("not mirrored", "mirrored")


def directed(places: Mapping[str, Tensor], data: PreparedPoints, direction: str = "both") -> tuple[np.ndarray, ...]:
    """Predicted points, true points (B, J, 2) in pixels of a 256 px frame and visible (B, J) of the directed pairs."""
    chosen = SIDES if direction == "both" else (direction,)
    pred = np.concatenate([places[d].numpy() for d in chosen]) * FRAME
    true = np.concatenate([data.points[SIDES[d][1]].numpy() for d in chosen]) * FRAME
    return pred, true, np.concatenate([data.visible.numpy()] * len(chosen))


def score(places: Mapping[str, Tensor], data: PreparedPoints, alpha: float, definition: str = DEFINITION) -> np.ndarray:
    """PCK under one of DEFINITIONS, one value a directed pair or, "per point", a point.

    By the box, a pair with fewer than two visible places is left out, since it has none; points that coincide are one.
    """
    direction, base, strict, per = DEFINITIONS[definition]
    pred, true, visible = directed(places, data, direction)
    if base == "image":
        return np.asarray(metrics.pck(pred, true, alpha, FRAME, visible, strict, per))
    shown = visible[..., None]
    boxed = (np.where(shown, true, -np.inf).max(1) > np.where(shown, true, np.inf).min(1)).any(1)  # a side above 0
    pred, true, visible = pred[boxed], true[boxed], visible[boxed]
    return np.asarray(metrics.pck(pred, true, alpha, metrics.keypoint_box_side(true, visible), visible, strict, per))


def rows(run: Any, trials: Iterable[Trial], parts: Parts, weights_sha256: str) -> list[results.Row]:
    """One row a trial, part, alpha and definition; under the first definition also one each for HANDEDNESS."""
    found = []
    turned = {part: np.tile(mirrored(data), len(SIDES)) for part, data in parts.test.items()}
    for trial in trials:
        for part, data in parts.test.items():
            for alpha, definition in itertools.product(ALPHAS, DEFINITIONS):
                values = score(trial.places[part], data, alpha, definition)
                galleries = {f"{part} categories": values}
                if definition == DEFINITION:
                    galleries |= {
                        f"{part} categories, {name}": values[turned[part] == k] for k, name in enumerate(HANDEDNESS)
                    }
                found += [
                    results.row(
                        run, task="correspondence", method=trial.method, metric=f"PCK@{100 * alpha:.0f}",
                        definition=definition, value=some.mean(), n=len(some), weights_sha256=weights_sha256,
                        gallery=gallery, seconds=trial.seconds, seed=trial.seed, dataset=parts.dataset,
                        split=parts.split,
                    )
                    for gallery, some in galleries.items()
                    if len(some)
                ]  # fmt: skip
    return found


def difference_rows(run: Any, trials: Iterable[Trial], parts: Parts, weights_sha256: str) -> list[results.Row]:
    """PCK@5 of "fused" minus every other method, paired over photos; see `differences.against_all`."""
    trials = list(trials)
    found = []
    for part, data in parts.test.items():
        values: dict[str, list[np.ndarray]] = {}
        for trial in trials:
            values.setdefault(trial.method, []).append(score(trial.places[part], data, 0.05))
        found += differences.against_all(
            run, values, photo_groups(data), "photos", task="correspondence", metric="PCK@5",
            gallery=f"{part} categories", weights_sha256=weights_sha256, dataset=parts.dataset, split=parts.split,
        )  # fmt: skip
    return found


def by_category(trial: Trial, part: str, data: PreparedPoints, alpha: float = 0.05) -> dict[str, float]:
    """Category -> mean PCK over its pairs, both directions, worst first."""
    values = score(trial.places[part], data, alpha)
    names = np.tile([data.images.photo_records[k].category for k in data.images.pairs[:, 1]], len(SIDES))
    means = {str(name): float(values[names == name].mean()) for name in np.unique(names)}
    return dict(sorted(means.items(), key=lambda entry: entry[1]))


def by_keypoint(trial: Trial, part: str, data: PreparedPoints, alpha: float = 0.05) -> dict[tuple[str, int], float]:
    """(category, number of the point) -> share right, both directions, worst first; points never visible left out."""
    pred, true, visible = directed(trial.places[part], data)
    right = metrics.correct_keypoints(pred, true, alpha, FRAME, visible)
    names = np.tile([data.images.photo_records[k].category for k in data.images.pairs[:, 1]], len(SIDES))
    found = {
        (str(name), point): float(right[names == name, point].sum() / count)
        for name in np.unique(names)
        for point, count in enumerate(visible[names == name].sum(0))
        if count
    }
    return dict(sorted(found.items(), key=lambda entry: entry[1]))


def mirrored(data: PreparedPoints) -> np.ndarray:
    """(N,) bool: whether a pair's sketch is a mirror image of its photo, judged by the annotated points alone.

    The affine map that takes the sketch's visible points nearest to the photo's has a negative determinant then. Pairs
    with fewer than three visible points count as not mirrored.
    """
    found = np.zeros(len(data), dtype=bool)
    for k, visible in enumerate(data.visible.numpy()):
        if visible.sum() >= 3:
            here, there = (data.points[kind][k].numpy()[visible] for kind in ("sketch", "photo"))
            matrix = np.linalg.lstsq(here - here.mean(0), there - there.mean(0), rcond=None)[0]
            found[k] = np.linalg.det(matrix) < 0
    return found


def mistaken(places: Mapping[str, Tensor], data: PreparedPoints, alpha: float = 0.05) -> dict[str, float]:
    """How points end: shares "right", "on another keypoint" of the pair (within alpha of it) and "elsewhere"."""
    pred, true, visible = directed(places, data)
    right = metrics.correct_keypoints(pred, true, alpha, FRAME, visible)
    near = np.linalg.norm(pred[:, :, None] - true[:, None], axis=3) <= alpha * FRAME
    other = (near & visible[:, None]).any(2) & ~right & visible
    shares = {"right": right.sum(), "on another keypoint": other.sum()}
    shares["elsewhere"] = visible.sum() - sum(shares.values())
    return {name: float(count / visible.sum()) for name, count in shares.items()}


def by_error(places: Mapping[str, Tensor], data: PreparedPoints) -> list[int]:
    """The directed pairs, numbered as in `score`, by their points' mean distance from the truth, the worst first."""
    pred, true, visible = directed(places, data)
    distance = np.where(visible, np.linalg.norm(pred - true, axis=2), 0)
    return (-distance.sum(1) / np.maximum(visible.sum(1), 1)).argsort(kind="stable").tolist()


def one_each(order: Iterable[int], data: PreparedPoints) -> list[int]:
    """Of directed pairs in some order the first of every category, for pictures that do not repeat themselves."""
    first: dict[str, int] = {}
    for index in order:
        photo = data.images.pairs[index % len(data), 1]
        first.setdefault(data.images.photo_records[photo].category, index)
    return list(first.values())


def show_truth(pairs: Iterable[KeypointPair]) -> plots.Figure:
    """The true matches of annotated pairs, sketch to photo."""
    drawn = []
    for pair in pairs:
        here, there = (points[pair.visible] / FRAME for points in (pair.sketch_points, pair.photo_points))
        images = (open_image(pair.sketch.path), open_image(pair.photo.path))
        drawn.append(Match(*images, here, there, there, np.ones(len(here), dtype=bool), pair.photo.category))
    return matches(drawn, columns=3, size=1.25)


def ink_points(sketch: Image.Image, number: int = 6) -> np.ndarray:
    """(number, 2), x then y in [0, 1]: places on a sketch's strokes, far from each other; the same on every run.

    Raises:
        ValueError: nothing is drawn.
    """
    grey = np.asarray(sketch.convert("L").resize((FRAME, FRAME)), dtype=float)
    rows, columns = np.nonzero(grey < (grey.min() + np.median(grey)) / 2)
    if len(rows) == 0:
        raise ValueError("nothing is drawn on this sketch: choose another one.")
    places = (np.stack([columns, rows], 1) + 0.5) / FRAME
    chosen = [int(np.linalg.norm(places - places.mean(0), axis=1).argmax())]
    distance = np.full(len(places), np.inf)
    while len(chosen) < number:  # the place farthest from all chosen ones comes next
        distance = np.minimum(distance, np.linalg.norm(places - places[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return places[chosen]


def unscored(model: SketchMatcher, pairs: Iterable[tuple[Record, Record]], size: int, title: str = "") -> plots.Figure:
    """Matches of (sketch, photo) pairs that nobody has annotated: points on the strokes, sought in the photo."""
    drawn = []
    for sketch, photo in pairs:
        images = [load_images([record.path], size) for record in (sketch, photo)]
        points = ink_points(Image.fromarray(plots.picture(images[0][0])))
        device = model.log_temperature.device
        with torch.no_grad():
            places = model.eval()(*(i.to(device) for i in images), torch.from_numpy(points).float()[None].to(device))
        drawn.append(Match(images[0][0], images[1][0], points, places[0].cpu().numpy(), label=photo.category))
    return matches(drawn, title=title)


def show(
    places: Mapping[str, Tensor], data: PreparedPoints, which: Iterable[int], alpha: float = 0.10, title: str = ""
) -> plots.Figure:
    """Matches drawn of some directed pairs, numbered as in `score`: first all "s2p", then all "p2s"."""
    drawn = []
    for index in which:
        direction, k = list(SIDES)[index // len(data)], index % len(data)
        source, target = SIDES[direction]
        chosen = zip(("sketch", "photo"), data.images.pairs[k].tolist(), strict=True)
        records = {"sketch": data.images.sketch_records, "photo": data.images.photo_records}
        shown = {kind: records[kind][i] for kind, i in chosen}
        visible = data.visible[k].numpy()
        points = [x[k].numpy()[visible] for x in (data.points[source], places[direction], data.points[target])]
        right = metrics.correct_keypoints(points[1] * FRAME, points[2] * FRAME, alpha, FRAME)
        label = f"{shown['photo'].category}: {right.sum()} of {len(right)} within {100 * alpha:.0f} %"
        drawn.append(Match(open_image(shown[source].path), open_image(shown[target].path), *points, right, label))
    return matches(drawn, title=title)
