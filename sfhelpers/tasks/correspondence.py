"""Sketch-photo correspondence (paper, Sec. 6.3): where in the photo is this point of the sketch, and the other way."""

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
from sfhelpers.tasks.compare import Frozen, Measured, Task, Trial, best_share
from sfhelpers.tasks.prepared import Prepared, PreparedPoints, compute, fit_statistics, prepare_points, take, tested

SIDES = {"s2p": ("sketch", "photo"), "p2s": ("photo", "sketch")}  # direction -> where from, where to
SAME_PIXEL = "same pixel"
RAW = {"B-CLIP": 0.0, "B-SD": 1.0, "B-SD+CLIP": None}  # raw features -> SD's share; None: chosen on validation pairs
TEMPERATURES = (0.01, 0.02, 0.05, 0.1, 0.2)  # of the raw features' window soft-argmax; chosen on validation pairs
ALPHAS = (0.02, 0.04, 0.06, 0.08, 0.10)  # over which the epoch is chosen: PCK@5 alone moves in coarse steps
REPORTED = (0.05, 0.10)
DEFINITION = "image side, <=, mean over pairs, both directions"  # the one that tables and tests use
DEFINITIONS = {  # in words -> directions, base, strict, per
    DEFINITION: (SIDES, "image", False, "pair"),
    "image side, <=, mean over pairs, sketch to photo": (("s2p",), "image", False, "pair"),
    "image side, <=, mean over pairs, photo to sketch": (("p2s",), "image", False, "pair"),
    "image side, <, mean over pairs, both directions": (SIDES, "image", True, "pair"),
    "image side, <=, mean over points, both directions": (SIDES, "image", False, "point"),
    "side of the box of the target's keypoints, <=, mean over pairs, both directions": (SIDES, "box", False, "pair"),
}
Places = Mapping[str, Tensor]  # direction -> (N, J, 2) predicted places in [0, 1] of the target


class SketchMatcher(nn.Module):
    """Finds the points of one image in another by the cosine of their features, maps (B, d, g, g) of an extractor.

    `window` is the side of the soft-argmax (paper's code: 7), odd; `temperature`, above 0, divides the cosine at first.
    """

    def __init__(self, extractor: nn.Module, window: int = 7, temperature: float = 0.05):
        super().__init__()
        if not 0 < window < 10**6 or window % 2 == 0:
            raise ValueError(f"window is {window}: give an odd number of positions, such as 7.")
        self.settings = {"window": window, "temperature": temperature}
        self.extractor = extractor
        start = torch.tensor(temperature, device=next(extractor.parameters()).device).log()
        self.log_temperature = nn.Parameter(start.clone())  # of the soft-argmax
        self.log_contrast_temperature = nn.Parameter(start.clone())

    def locate(self, source_maps: Tensor, target_maps: Tensor, points: Tensor) -> Tensor:
        """Where `points` (B, J, 2) of the sources are in the targets, x then y in [0, 1]; maps (B, d, g, g)."""
        cosine = cosines(sample(source_maps, points), target_maps)
        side, reach = cosine.shape[-1], self.settings["window"] // 2
        best, at = cosine.flatten(2).argmax(-1)[..., None, None], torch.arange(side, device=cosine.device)
        near = ((at[:, None] - best // side).abs() <= reach) & ((at - best % side).abs() <= reach)
        return expected_position((cosine / self.log_temperature.exp()).masked_fill(~near, -torch.inf))

    def loss(self, data: PreparedPoints, chosen: Tensor) -> Tensor:
        """Contrastive loss and end-point error (Eq. 3) of pairs (b,), both ways, a photo once; 0 if all is hidden."""
        device = self.log_temperature.device
        sketches, photos = data.images.pairs[chosen].unbind(1)
        different, which = photos.unique(return_inverse=True)
        sketch_maps = self.extractor(take(data.images.sketches, sketches, device))
        photo_maps = self.extractor(take(data.images.photos, different, device))[which.to(device)]
        maps, visible = {"sketch": sketch_maps, "photo": photo_maps}, data.visible[chosen].to(device)
        points = {kind: value[chosen].to(device) for kind, value in data.points.items()}
        features = {kind: sample(value, points[kind]) for kind, value in maps.items()}
        contrast, flow = [], []
        for source, target in SIDES.values():
            cosine, truth = cosines(features[source], maps[target]), points[target]
            shares = (cosine / self.log_contrast_temperature.exp()).flatten(2).log_softmax(-1).view_as(cosine)
            at_truth = sample(shares.flatten(0, 1)[:, None], truth.flatten(0, 1)[:, None])
            contrast.append(-at_truth.view(visible.shape)[visible])
            side = cosine.shape[-1]  # the flow is counted in positions
            error = side * expected_position(cosine / self.log_temperature.exp()) - side * truth
            flow.append(error.square().sum(-1).add(1e-6).sqrt()[visible])  # the root has no gradient at zero
        return (torch.cat(contrast).sum() + torch.cat(flow).sum()) / max(1, 2 * int(visible.sum()))


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """Features (B, J, d) of maps (B, d, h, w) at points (B, J, 2), x then y in [0, 1]: bilinear between positions."""
    return F.grid_sample(maps, 2 * points[:, :, None] - 1, padding_mode="border", align_corners=False)[..., 0].mT


def cosines(features: Tensor, target_maps: Tensor) -> Tensor:
    """(B, J, d) and (B, d, g, g) -> (B, J, g, g): only the points asked, never all g^4 pairs of positions."""
    return torch.einsum("bjd,bdhw->bjhw", F.normalize(features, dim=2), F.normalize(target_maps, dim=1))


def expected_position(logits: Tensor) -> Tensor:
    """Soft-argmax: (B, J, g, g) -> (B, J, 2), x then y in [0, 1], the mean position under the softmax of the logits."""
    share, side = logits.flatten(2).softmax(-1).view_as(logits), logits.shape[-1]
    centres = (torch.arange(side, device=logits.device) + 0.5) / side
    return torch.stack([(share.sum(along) * centres).sum(-1) for along in (2, 3)], dim=-1)


class Correspondence(Task):
    """Trained on annotated pairs (`psc6k.load`) of seen categories, tested on others of these and of unseen ones.

    `batch_size` counts photos a step, each with all its sketches. A trial's `found` is part name -> Places.
    """

    name = "correspondence"
    baselines = (*RAW, SAME_PIXEL)
    read = staticmethod(prepare_points)

    def __init__(self, annotated: Annotated, epochs: int, learning_rate: float, batch_size: int):
        tests = {"seen": annotated.select("test", True), "unseen": annotated.select("test", False)}
        parts = self.learned(annotated) | {name: pairs for name, pairs in tests.items() if pairs}
        about = annotated.dataset, annotated.split, annotated.fingerprint()
        super().__init__(parts, *about, epochs, learning_rate, batch_size)

    def learned(self, annotated: Annotated) -> dict[str, Any]:
        """The parts to train on and to choose the epoch by."""
        return {"train": annotated.select("train", True), "validation": annotated.select("val", True)}

    def images_in(self, part: Any) -> int:  # two of a pair; or with a warp of each
        return 2 * super().images_in(part)

    def model(self, extractor: nn.Module, frozen: Frozen) -> SketchMatcher:
        fit_statistics(extractor, frozen["train"].images)
        return SketchMatcher(extractor)

    def examples(self, frozen: Frozen) -> int:
        return len(frozen["train"].images.photo_records)

    def loss(self, model: SketchMatcher, frozen: Frozen, indices: Tensor) -> Tensor:
        return model.loss(frozen["train"], torch.isin(frozen["train"].images.pairs[:, 1], indices).nonzero()[:, 0])

    def validate(self, model: SketchMatcher, frozen: Frozen) -> float:
        """Mean PCK over pairs, both directions and ALPHAS."""
        places = predict_pairs(model, frozen["validation"])
        return float(np.nanmean([score(places, frozen["validation"], alpha) for alpha in ALPHAS]))

    def predict(self, model: SketchMatcher, frozen: Frozen) -> dict[str, Places]:
        return {part: predict_pairs(model, data) for part, data in tested(frozen).items()}

    def untrained(self, method: str, seeds: Sequence[int], frozen: Frozen, plain: FusedExtractor) -> Iterator[Trial]:
        """The point itself, or the nearest of raw features: validation pairs choose a share and then a temperature."""
        if method == SAME_PIXEL:
            parts = tested(frozen).items()
            same = {part: {d: data.points[source] for d, (source, _) in SIDES.items()} for part, data in parts}
            yield Trial(method, seeds[0], found=same)
            return
        started = time.perf_counter()
        fit_statistics(plain, frozen["train"].images)

        def score(share: float, temperature: float = 0.05) -> float:
            return self.validate(SketchMatcher(RawFeatures(plain, share), temperature=temperature), frozen)

        share, tried = (RAW[method], {}) if RAW[method] is not None else best_share(score)
        temperature = max(TEMPERATURES, key=lambda temperature: score(share, temperature))
        found = self.predict(SketchMatcher(RawFeatures(plain, share), temperature=temperature), frozen)
        yield Trial(method, seeds[0], tried=tried, seconds=time.perf_counter() - started, found=found)

    def measure(self, trial: Trial, frozen: Frozen) -> Iterator[Measured]:
        """Both metrics under every definition; under the first they are tested."""
        for part, places in trial.found.items():
            data = frozen[part]
            both = {unit: np.tile(labels, 2) for unit, labels in data.images.groups.items()}  # directions
            for alpha, definition in itertools.product(REPORTED, DEFINITIONS):
                if len(values := score(places, data, alpha, definition)):
                    groups = both if definition == DEFINITION else None
                    yield Measured(f"{part} categories", f"PCK@{100 * alpha:.0f}", definition, values, groups)


class RawFeatures(nn.Module):
    """One map of frozen features, whose cosines are a mean of the sources': the up-blocks' together have a `share`."""

    def __init__(self, extractor: FusedExtractor, share: float):
        super().__init__()
        self.extractor = extractor
        weights = {"f1": share / 3, "f2": share / 3, "f3": share / 3, "tokens": 1 - share}
        self.weights = {name: weight for name, weight in weights.items() if weight}

    def forward(self, prepared: Prepared) -> Tensor:
        found, side = self.extractor.features(prepared), (self.extractor.aggregator.grid,) * 2
        maps = {name: to_grid(self.extractor.statistics[name](found[name]), side) for name in self.weights}
        return torch.cat([w**0.5 * F.normalize(maps[name], dim=1) for name, w in self.weights.items()], dim=1)


@torch.no_grad()
def predict_pairs(model: SketchMatcher, data: PreparedPoints) -> Places:
    """Predicted places of all pairs, both ways, on the CPU, every image computed once, in eval mode."""
    model.eval()
    device, prepared = model.log_temperature.device, {"sketch": data.images.sketches, "photo": data.images.photos}
    maps = {kind: compute(model.extractor, prepared[kind], 32, f"predicting: {kind}") for kind in prepared}
    found: dict[str, list[Tensor]] = {direction: [] for direction in SIDES}
    for batch in torch.arange(len(data)).split(32):
        images = zip(maps, data.images.pairs[batch].unbind(1), strict=True)
        chosen = {kind: maps[kind][which].to(device) for kind, which in images}
        for direction, (source, target) in SIDES.items():
            points = data.points[source][batch].to(device)
            found[direction].append(model.locate(chosen[source], chosen[target], points).cpu())
    return {direction: torch.cat(places) for direction, places in found.items()}


def directed(places: Places, data: PreparedPoints, directions: Sequence[str] = tuple(SIDES)) -> tuple[np.ndarray, ...]:
    """Predicted points, true points (B, J, 2) in px of the 256 px frame and visible (B, J): all "s2p", then "p2s"."""
    pred = np.concatenate([places[d].numpy() for d in directions]) * FRAME
    true = np.concatenate([data.points[SIDES[d][1]].numpy() for d in directions]) * FRAME
    return pred, true, np.concatenate([data.visible.numpy() for _ in directions])


def score(places: Places, data: PreparedPoints, alpha: float, definition: str = DEFINITION) -> np.ndarray:
    """PCK under one of DEFINITIONS, a value a directed pair or a point; a pair without a box is left out by the box."""
    directions, base, strict, per = DEFINITIONS[definition]
    pred, true, visible = directed(places, data, directions)
    size = FRAME
    if base == "box":
        low, high = (np.where(visible[..., None], true, far) for far in (np.inf, -np.inf))
        sides = np.subtract(high.max(1), low.min(1), dtype=np.float64).max(1)
        pred, true, visible, size = (values[sides > 0] for values in (pred, true, visible, sides))
    return np.asarray(metrics.pck(pred, true, alpha, size, visible, strict, per))
