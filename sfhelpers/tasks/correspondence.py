"""Sketch-photo correspondence (paper, Sec. 6.3): where in the photo is this point of the sketch, and the other way.

A point's feature is compared with every position of the other image's map. Training adds two losses: a contrastive
one, CLIP-style, which tells the corresponding patch from all others, and the end-point error of the flow that a
soft-argmax over the map predicts (Eq. 3). In use, the soft-argmax looks only around the best position.
"""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfhelpers import metrics
from sfhelpers.datasets.psc6k import FRAME, Annotated
from sfhelpers.fusion import FusedExtractor
from sfhelpers.fusion.modules import to_grid
from sfhelpers.tasks.compare import Frozen, Measured, Plain, Task, Trial
from sfhelpers.tasks.prepared import Prepared, PreparedPoints, compute, fit_statistics, prepare_points, take, tested

SIDES = {"s2p": ("sketch", "photo"), "p2s": ("photo", "sketch")}  # direction -> where from, where to
SAME_PIXEL = "same pixel"
# Off the shelf: the raw features, standardised, nothing trained.
RAW = {"B-CLIP": ("tokens",), "B-SD": ("f1", "f2", "f3"), "B-SD+CLIP": ("f1", "f2", "f3", "tokens")}
TEMPERATURES = (0.01, 0.02, 0.05, 0.1, 0.2)  # of the raw features' window soft-argmax; chosen on validation pairs
ALPHAS = (0.02, 0.04, 0.06, 0.08, 0.10)  # over which the epoch is chosen: PCK@5 alone moves in coarse steps
REPORTED = (0.05, 0.10)
DEFINITION = "image side, <=, mean over pairs, both directions"
# Definition in words -> direction, base, strict, per. The first is the one that tables and tests use.
DEFINITIONS = {
    DEFINITION: ("both", "image", False, "pair"),
    "image side, <=, mean over pairs, sketch to photo": ("s2p", "image", False, "pair"),
    "image side, <=, mean over pairs, photo to sketch": ("p2s", "image", False, "pair"),
    "image side, <, mean over pairs, both directions": ("both", "image", True, "pair"),
    "image side, <=, mean over points, both directions": ("both", "image", False, "point"),
    "side of the box of the target's keypoints, <=, mean over pairs, both directions": ("both", "box", False, "pair"),
}  # fmt: skip
HANDEDNESS = ("not mirrored", "mirrored")  # pairs whose sketch is not, or is, the mirror image of its photo
Places = Mapping[str, Tensor]  # direction -> (N, J, 2) predicted places in [0, 1] of the target


class SketchMatcher(nn.Module):
    """Finds the points of one image in another by the cosine of their features.

    Args:
        extractor: a FusedExtractor, or any module that maps images or their prepared tensors to a (B, d, g, g) map.
        window: side, in positions, of the soft-argmax around the best position (paper's code: 7); odd.
        temperature: start value of what the cosine is divided by, above 0; learned.
        contrastive, flow: weights of the two losses (paper: both 1).
        dropout: share of the maps' channels that training drops (released code: 0.5).
        flow_noise: standard deviation, in positions, of the noise added to the true flow (released code: 3 of 60).
    """

    def __init__(
        self, extractor: nn.Module, window: int = 7, temperature: float = 0.05, contrastive: float = 1.0,
        flow: float = 1.0, dropout: float = 0.0, flow_noise: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        if window < 1 or window % 2 == 0:
            raise ValueError(f"window is {window}: give an odd number of positions, such as 7.")
        self.settings = {
            "window": window, "temperature": temperature, "contrastive": contrastive, "flow": flow,
            "dropout": dropout, "flow_noise": flow_noise,
        }  # fmt: skip
        self.extractor = extractor
        start = torch.tensor(temperature, device=next(extractor.parameters()).device).log()
        self.log_temperature = nn.Parameter(start.clone())  # of the soft-argmax
        self.log_contrast_temperature = nn.Parameter(start.clone())

    def locate(self, source_maps: Tensor, target_maps: Tensor, points: Tensor) -> Tensor:
        """Where `points` (B, J, 2) of the sources are in the targets, x then y in [0, 1]: soft-argmax in a window.

        Args:
            source_maps, target_maps: (B, d, g, g), of the extractor.
        """
        cosine = cosines(sample(source_maps, points), target_maps)
        side, reach = cosine.shape[-1], self.settings["window"] // 2
        best, at = cosine.flatten(2).argmax(-1)[..., None, None], torch.arange(side, device=cosine.device)
        near = ((at[:, None] - best // side).abs() <= reach) & ((at - best % side).abs() <= reach)
        return expected_position((cosine / self.log_temperature.exp()).masked_fill(~near, -torch.inf))

    def loss(self, sketch_maps: Tensor, photo_maps: Tensor, points: Mapping[str, Tensor], visible: Tensor) -> Tensor:
        """The training loss of B pairs, both directions; hidden points may hold anything finite.

        Args:
            points: "sketch" and "photo" -> (B, J, 2) in [0, 1].
            visible: (B, J) bool; a batch without any gives 0.
        """
        maps = {"sketch": sketch_maps, "photo": photo_maps}
        if self.training and self.settings["dropout"]:
            maps = {name: F.dropout2d(value, self.settings["dropout"]) for name, value in maps.items()}
        features = {name: sample(value, points[name]) for name, value in maps.items()}
        contrast, flow = [], []
        for source, target in SIDES.values():
            cosine = cosines(features[source], maps[target])
            contrast.append(self._contrast(cosine, points[target])[visible])
            flow.append(self._flow_error(cosine, points[target])[visible])
        weights = self.settings["contrastive"], self.settings["flow"]
        both = weights[0] * torch.cat(contrast).sum() + weights[1] * torch.cat(flow).sum()
        return both / max(1, 2 * int(visible.sum()))

    def _contrast(self, cosine: Tensor, truth: Tensor) -> Tensor:
        """(B, J) minus the log of the share that the true place has among all positions of the other image."""
        shares = (cosine / self.log_contrast_temperature.exp()).flatten(2).log_softmax(-1)
        maps = shares.unflatten(2, cosine.shape[2:]).flatten(0, 1)[:, None]
        return -sample(maps, truth.flatten(0, 1)[:, None])[:, 0, 0].unflatten(0, truth.shape[:2])

    def _flow_error(self, cosine: Tensor, truth: Tensor) -> Tensor:
        """(B, J) distance, in positions, of the soft-argmax over the whole map from the truth."""
        side, noise = cosine.shape[-1], self.settings["flow_noise"] if self.training else 0
        wanted = side * truth + (noise * torch.randn_like(truth) if noise else 0)
        predicted = side * expected_position(cosine / self.log_temperature.exp())
        return (predicted - wanted).square().sum(-1).add(1e-6).sqrt()  # the root has no gradient at zero


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """Features (B, J, d) of maps (B, d, h, w) at points (B, J, 2), x then y in [0, 1]: bilinear between positions."""
    return F.grid_sample(maps, 2 * points[:, :, None] - 1, padding_mode="border", align_corners=False)[..., 0].mT


def cosines(features: Tensor, target_maps: Tensor) -> Tensor:
    """(B, J, d) and (B, d, g, g) -> (B, J, g, g): only the points asked, never all g^4 pairs of positions."""
    return torch.einsum("bjd,bdhw->bjhw", F.normalize(features, dim=2), F.normalize(target_maps, dim=1))


def expected_position(logits: Tensor) -> Tensor:
    """Soft-argmax: (B, J, h, w) -> (B, J, 2), x then y in [0, 1], the mean position under the softmax of the logits."""
    height, width = logits.shape[-2:]
    share = logits.flatten(2).softmax(-1).unflatten(2, (height, width))
    x, y = ((torch.arange(n, device=logits.device) + 0.5) / n for n in (width, height))
    return torch.stack([(share.sum(2) * x).sum(-1), (share.sum(3) * y).sum(-1)], dim=-1)


class Correspondence(Task):
    """Trained on annotated pairs of seen categories, tested on others of these and, if there are any, of unseen ones.

    A trial's `found` is part name ("seen", "unseen") -> Places.

    Args:
        annotated: from `psc6k.load`.
        epochs, learning_rate: as of `fit.Training`.
        batch_size: photos a step, each with all its sketches, so that its map is computed once.
    """

    name = "correspondence"
    baselines = (*RAW, SAME_PIXEL)
    read = staticmethod(prepare_points)

    def __init__(self, annotated: Annotated, epochs: int, learning_rate: float, batch_size: int):
        tests = {"seen": annotated.select("test", True), "unseen": annotated.select("test", False)}
        super().__init__(
            self.learned(annotated) | {name: pairs for name, pairs in tests.items() if pairs},
            annotated.dataset, annotated.split, annotated.fingerprint(), epochs, learning_rate, batch_size,
        )  # fmt: skip

    def learned(self, annotated: Annotated) -> dict[str, Any]:
        """The parts to train on and to choose the epoch by."""
        return {"train": annotated.select("train", True), "validation": annotated.select("val", True)}

    def model(self, extractor: nn.Module, frozen: Frozen) -> SketchMatcher:
        fit_statistics(extractor, frozen["train"].images)
        return SketchMatcher(extractor)

    def examples(self, frozen: Frozen) -> int:
        return len(frozen["train"].images.photo_records)

    def loss(self, model: SketchMatcher, frozen: Frozen, indices: Tensor) -> Tensor:
        """Both losses of all pairs of some photos."""
        of_photo = frozen["train"].images.pairs[:, 1]
        return pairs_loss(model, frozen["train"], torch.isin(of_photo, indices).nonzero()[:, 0])

    def validate(self, model: SketchMatcher, frozen: Frozen) -> float:
        """Mean PCK over pairs, both directions and ALPHAS."""
        data = frozen["validation"]
        places = predict_pairs(model, data, progress=None)
        return float(np.nanmean([score(places, data, alpha) for alpha in ALPHAS]))

    def predict(self, model: SketchMatcher, frozen: Frozen) -> dict[str, Places]:
        return {part: predict_pairs(model, data) for part, data in tested(frozen).items()}

    def untrained(self, method: str, seeds: Sequence[int], frozen: Frozen, plain: Plain) -> Iterator[Trial]:
        """The point itself, or the nearest of raw features, of which validation pairs choose only the temperature."""
        if method == SAME_PIXEL:
            parts = tested(frozen).items()
            same = {part: {d: data.points[source] for d, (source, _) in SIDES.items()} for part, data in parts}
            yield Trial(method, seeds[0], found=same)
            return
        extractor, frozen = plain()
        started = time.perf_counter()
        fit_statistics(extractor, frozen["train"].images)
        models = [SketchMatcher(RawFeatures(extractor, RAW[method]), temperature=t) for t in TEMPERATURES]
        found = self.predict(max(models, key=lambda model: self.validate(model, frozen)), frozen)
        yield Trial(method, seeds[0], seconds=time.perf_counter() - started, found=found)

    def measure(self, trial: Trial, frozen: Frozen) -> Iterator[Measured]:
        """Both metrics under every definition; under the first also of HANDEDNESS, and PCK@5 is tested."""
        for part, places in trial.found.items():
            data, gallery = frozen[part], f"{part} categories"
            turned = np.tile(mirrored(data), len(SIDES))
            photos = np.tile(data.images.pairs[:, 1].numpy(), len(SIDES))
            for alpha, definition in itertools.product(REPORTED, DEFINITIONS):
                values, metric = score(places, data, alpha, definition), f"PCK@{100 * alpha:.0f}"
                first = definition == DEFINITION
                if len(values):
                    groups = photos if first and alpha == REPORTED[0] else None
                    yield Measured(gallery, metric, definition, values, groups)
                for kind, which in zip(HANDEDNESS, (~turned, turned), strict=True):
                    if first and which.any():
                        yield Measured(f"{gallery}, {kind}", metric, definition, values[which])


class RawFeatures(nn.Module):
    """Frozen features of an extractor without injection as one map, each source standardised and of the same weight."""

    def __init__(self, extractor: FusedExtractor, sources: tuple[str, ...]):
        super().__init__()
        self.extractor, self.sources = extractor, sources

    def forward(self, prepared: Prepared) -> Tensor:
        found, side = self.extractor.features(prepared), self.extractor.aggregator.grid
        maps = [to_grid(self.extractor.statistics[name](found[name]), (side, side)) for name in self.sources]
        return torch.cat([F.normalize(value, dim=1) for value in maps], dim=1)


def pairs_loss(model: SketchMatcher, data: PreparedPoints, chosen: Tensor) -> Tensor:
    """The loss of some pairs (b,), every photo's map computed once."""
    device = model.log_temperature.device
    sketches, photos = data.images.pairs[chosen].unbind(1)
    different, which = photos.unique(return_inverse=True)
    sketch_maps = model.extractor(take(data.images.sketches, sketches, device))
    photo_maps = model.extractor(take(data.images.photos, different, device))[which.to(device)]
    points = {kind: value[chosen].to(device) for kind, value in data.points.items()}
    return model.loss(sketch_maps, photo_maps, points, data.visible[chosen].to(device))


@torch.no_grad()
def predict_pairs(model: SketchMatcher, data: PreparedPoints, progress: str | None = "predicting") -> Places:
    """Predicted places of all pairs, on the CPU, every image computed once; the model is put into eval mode.

    "s2p" goes from the sketch's points to the photo (the paper's problem statement), "p2s" the other way.
    """
    model.eval()
    device, images = model.log_temperature.device, data.images
    maps = {  # 4 * d * g**2 bytes an image, 150 kB with pocket
        "sketch": compute(model.extractor, images.sketches, device, 32, progress and f"{progress}: sketches"),
        "photo": compute(model.extractor, images.photos, device, 32, progress and f"{progress}: photos"),
    }
    found: dict[str, list[Tensor]] = {direction: [] for direction in SIDES}
    for batch in torch.arange(len(data)).split(32):
        which = dict(zip(maps, images.pairs[batch].unbind(1), strict=True))
        chosen = {kind: maps[kind][which[kind]].to(device) for kind in maps}
        for direction, (source, target) in SIDES.items():
            points = data.points[source][batch].to(device)
            found[direction].append(model.locate(chosen[source], chosen[target], points).cpu())
    return {direction: torch.cat(places) for direction, places in found.items()}


def directed(places: Places, data: PreparedPoints, direction: str = "both") -> tuple[np.ndarray, ...]:
    """Predicted points, true points (B, J, 2) in px of the 256 px frame and visible (B, J): all "s2p", then "p2s"."""
    chosen = SIDES if direction == "both" else (direction,)
    pred = np.concatenate([places[d].numpy() for d in chosen]) * FRAME
    true = np.concatenate([data.points[SIDES[d][1]].numpy() for d in chosen]) * FRAME
    return pred, true, np.concatenate([data.visible.numpy()] * len(chosen))


def score(places: Places, data: PreparedPoints, alpha: float, definition: str = DEFINITION) -> np.ndarray:
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


def mirrored(data: PreparedPoints) -> np.ndarray:
    """(N,) bool: does the affine map nearest to taking a sketch's visible points to its photo's turn left into right?

    Pairs with fewer than three visible points count as not mirrored.
    """
    found = np.zeros(len(data), dtype=bool)
    for k, visible in enumerate(data.visible.numpy()):
        if visible.sum() >= 3:
            here, there = (data.points[kind][k].numpy()[visible] for kind in ("sketch", "photo"))
            matrix = np.linalg.lstsq(here - here.mean(0), there - there.mean(0), rcond=None)[0]
            found[k] = np.linalg.det(matrix) < 0
    return found
