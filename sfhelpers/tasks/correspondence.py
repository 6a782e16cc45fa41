"""Sketch-photo correspondence (paper, Sec. 6.3): where in the photo is this point of the sketch, and the other way.

A point's feature is compared with every position of the other image's map. Training adds two losses: a contrastive
one, CLIP-style, which tells the corresponding patch from all others, and the end-point error of the flow that a
soft-argmax over the map predicts (Eq. 3). In use, the soft-argmax looks only around the best position.

How Sec. 6.3 is read here:
- "align the individual patches containing each of the paired keypoints": the positives of the contrastive loss are the
  patches of a keypoint in sketch and photo, its negatives all other patches of the other image; in both directions, as
  CLIP's. With the batch's other keypoints as negatives, the other reading, validation PCK was lower (.55 against .58).
- Eq. 3 prints the squared norm and M = 60, "the patch number", though the map has 3,600 patches and eight are
  annotated. Here, as in the released code, the mean over the annotated points of the norm, in positions of the map.
- The released code has the contrastive loss commented out, and regularises with dropout on the maps and noise on the
  true flow; both are settings of the model, at what was best on validation pairs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from sfhelpers import metrics
from sfhelpers.datasets import Dataset
from sfhelpers.datasets.psc6k import FRAME, KeypointPair
from sfhelpers.files import shown
from sfhelpers.images import image_size
from sfhelpers.tasks.fit import History, fit
from sfhelpers.tasks.prepared import Prepared, PreparedPairs, fit_statistics, prepare_pairs, take

SIDES = {"s2p": ("sketch", "photo"), "p2s": ("photo", "sketch")}  # direction -> where from, where to
ALPHAS = (0.02, 0.04, 0.06, 0.08, 0.10)  # over which the epoch is chosen


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
        self,
        extractor: nn.Module,
        window: int = 7,
        temperature: float = 0.05,
        contrastive: float = 1.0,
        flow: float = 1.0,
        dropout: float = 0.0,
        flow_noise: float = 0.0,
    ):
        super().__init__()
        if window < 1 or window % 2 == 0:
            raise ValueError(f"window is {window}: give an odd number of positions, such as 7.")
        self.settings = {
            "window": window, "temperature": temperature, "contrastive": contrastive, "flow": flow,
            "dropout": dropout, "flow_noise": flow_noise,
        }  # fmt: skip
        self.extractor = extractor
        device = next(extractor.parameters()).device
        start = torch.tensor(temperature, device=device).log()
        self.log_temperature = nn.Parameter(start.clone())
        self.log_contrast_temperature = nn.Parameter(start.clone())

    @property
    def temperature(self) -> Tensor:
        """Of the soft-argmax; the contrastive loss learns one of its own."""
        return self.log_temperature.exp()

    def forward(self, source: Tensor | Prepared, target: Tensor | Prepared, points: Tensor) -> Tensor:
        """Predicted places (B, J, 2) in [0, 1] in the targets, of `points` (B, J, 2) in [0, 1] of the sources.

        Args:
            source, target: images (B, 3, H, W) in [0, 1] or prepared tensors of B entries.
        """
        return self.locate(self.extractor(source), self.extractor(target), points)

    def locate(self, source_maps: Tensor, target_maps: Tensor, points: Tensor) -> Tensor:
        """As `forward`, from maps (B, d, g, g): window soft-argmax around the best position."""
        cosine = self._cosines(sample(source_maps, points), target_maps)
        best = cosine.flatten(2).argmax(-1)
        height, width = cosine.shape[-2:]
        rows, columns = (torch.arange(n, device=cosine.device) for n in (height, width))
        reach = self.settings["window"] // 2
        near = (rows[:, None] - (best // width)[..., None, None]).abs() <= reach
        near = near & ((columns - (best % width)[..., None, None]).abs() <= reach)
        return expected_position((cosine / self.temperature).masked_fill(~near, -torch.inf))

    def loss(self, sketch_maps: Tensor, photo_maps: Tensor, points: Mapping[str, Tensor], visible: Tensor) -> Tensor:
        """The training loss of B pairs, both directions.

        Args:
            sketch_maps, photo_maps: (B, d, g, g).
            points: "sketch" and "photo" -> (B, J, 2) in [0, 1]; hidden ones may hold anything finite.
            visible: (B, J) bool; a batch without any gives 0.
        """
        maps = {"sketch": sketch_maps, "photo": photo_maps}
        if self.training and self.settings["dropout"]:
            maps = {name: F.dropout2d(value, self.settings["dropout"]) for name, value in maps.items()}
        features = {name: sample(value, points[name]) for name, value in maps.items()}
        contrast, flow = [], []
        for source, target in SIDES.values():
            cosine = self._cosines(features[source], maps[target])
            contrast.append(self._contrast(cosine, points[target])[visible])
            flow.append(self._flow_error(cosine, points[target])[visible])
        count = max(1, 2 * int(visible.sum()))
        weights = self.settings["contrastive"], self.settings["flow"]
        return (weights[0] * torch.cat(contrast).sum() + weights[1] * torch.cat(flow).sum()) / count

    def _contrast(self, cosine: Tensor, truth: Tensor) -> Tensor:
        """(B, J) minus the log of the share that the true place has among all positions of the other image."""
        shares = (cosine / self.log_contrast_temperature.exp()).flatten(2).log_softmax(-1)
        maps = shares.unflatten(2, cosine.shape[2:])
        return -sample(maps.flatten(0, 1)[:, None], truth.flatten(0, 1)[:, None])[:, 0, 0].unflatten(0, truth.shape[:2])

    def _flow_error(self, cosine: Tensor, truth: Tensor) -> Tensor:
        """(B, J) distance, in positions, of the soft-argmax over the whole map from the truth."""
        side = cosine.shape[-1]
        noise = self.settings["flow_noise"] if self.training else 0
        wanted = side * truth + (noise * torch.randn_like(truth) if noise else 0)
        predicted = side * expected_position(cosine / self.temperature)
        return (predicted - wanted).square().sum(-1).add(1e-6).sqrt()  # the root has no gradient at zero

    @staticmethod
    def _cosines(features: Tensor, target_maps: Tensor) -> Tensor:
        """(B, J, d) and (B, d, g, g) -> (B, J, g, g): only the points asked, never all g^4 pairs of positions."""
        return torch.einsum("bjd,bdhw->bjhw", F.normalize(features, dim=2), F.normalize(target_maps, dim=1))


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """Features (B, J, d) of maps (B, d, h, w) at points (B, J, 2), x then y in [0, 1]: bilinear between positions."""
    return F.grid_sample(maps, 2 * points[:, :, None] - 1, padding_mode="border", align_corners=False)[..., 0].mT


def expected_position(logits: Tensor) -> Tensor:
    """Soft-argmax: (B, J, h, w) -> (B, J, 2), x then y in [0, 1], the mean position under the softmax of the logits."""
    height, width = logits.shape[-2:]
    share = logits.flatten(2).softmax(-1).unflatten(2, (height, width))
    x, y = ((torch.arange(n, device=logits.device) + 0.5) / n for n in (width, height))
    return torch.stack([(share.sum(2) * x).sum(-1), (share.sum(3) * y).sum(-1)], dim=-1)


@dataclass
class PreparedPoints:
    """Annotated pairs with everything frozen computed once an image.

    Attributes:
        images: the prepared sketches and photos and which of them are pairs.
        points: "sketch" and "photo" -> (N, J, 2) float32 in [0, 1] of the image's side, 0.5 where hidden.
        visible: (N, J) bool.
    """

    images: PreparedPairs
    points: dict[str, Tensor]
    visible: Tensor

    def __len__(self) -> int:
        return len(self.images)


def prepare_points(
    extractor: nn.Module, pairs: list[KeypointPair], size: int, batch_size: int = 32, **noise: Any
) -> PreparedPoints:
    """Read the images of annotated pairs and compute everything frozen; arguments as of `prepare_pairs`.

    Raises:
        ValueError: there is no pair, an image is broken or not square (its points would move).
    """
    if not pairs:
        raise ValueError("there is no annotated pair here: choose a split and a limit that leave some in every part.")
    records = list(dict.fromkeys([pair.photo for pair in pairs] + [pair.sketch for pair in pairs]))
    for record in records:
        width, height = image_size(record.path)
        if width != height:
            raise ValueError(f"{shown(record.path)} is {width} x {height} px: keypoints need a square rendering.")
    images = prepare_pairs(extractor, Dataset("", Path(), "", tuple(records)), size, batch_size=batch_size, **noise)
    by_sketch = {pair.sketch: pair for pair in pairs}
    ordered = [by_sketch[images.sketch_records[k]] for k in images.pairs[:, 0]]
    stacked = {
        "sketch": np.stack([pair.sketch_points for pair in ordered]),
        "photo": np.stack([pair.photo_points for pair in ordered]),
    }
    points = {k: torch.from_numpy(np.nan_to_num(v / FRAME, nan=0.5)).float() for k, v in stacked.items()}
    return PreparedPoints(images, points, torch.from_numpy(np.stack([pair.visible for pair in ordered])))


def train_matcher(
    model: SketchMatcher,
    train: PreparedPoints,
    validation: PreparedPoints,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    weight_decay: float = 1e-3,
    patience: int = 0,
    progress: str = "training",
    checkpoint: Path | None = None,
    configuration: Mapping[str, Any] | None = None,
) -> History:
    """Train on annotated pairs; an example is a photo with all its sketches, so that its map is computed once.

    The extractor's standardisation is first fixed on training images. The best epoch is the one with the highest mean
    PCK over validation pairs, both directions and 2, 4, ... 10 % of the side: PCK@5 alone moves in coarse steps.
    Arguments and errors beyond these as in `fit`; the model's settings are added to `configuration`.
    """
    fit_statistics(model.extractor, train.images)
    of_photo = train.images.pairs[:, 1]

    def loss(model: SketchMatcher, photos: Tensor) -> Tensor:
        chosen = torch.isin(of_photo, photos).nonzero()[:, 0]
        return pairs_loss(model, train, chosen)

    return fit(
        model, loss, len(train.images.photo_records), lambda m: validation_score(m, validation), epochs, learning_rate,
        batch_size, seed, weight_decay, patience, progress, checkpoint,
        {**(configuration or {}), "model": model.settings},
    )  # fmt: skip


def validation_score(model: SketchMatcher, data: PreparedPoints) -> float:
    """Mean PCK over pairs, both directions and ALPHAS."""
    places = predict_pairs(model, data, progress=None)
    return float(np.nanmean([scores(places, data, alpha) for alpha in ALPHAS]))


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
def predict_pairs(
    model: SketchMatcher, data: PreparedPoints, batch_size: int = 32, progress: str | None = "predicting"
) -> dict[str, Tensor]:
    """Direction -> predicted places (N, J, 2) in [0, 1], on the CPU, of all pairs; the model is put into eval mode.

    "s2p" goes from the sketch's points to the photo (the paper's problem statement), "p2s" the other way. Every image's
    map is computed once and kept, 4 * d * g**2 bytes each, 150 kB with pocket.
    """
    model.eval()
    device = model.log_temperature.device

    def compute(prepared: Prepared, n: int, what: str) -> Tensor:
        batches = tqdm(torch.arange(n).split(batch_size), what, leave=False, disable=progress is None)
        return torch.cat([model.extractor(take(prepared, batch, device)).cpu() for batch in batches])

    maps = {
        "sketch": compute(data.images.sketches, len(data.images.sketch_records), f"{progress}: sketches"),
        "photo": compute(data.images.photos, len(data.images.photo_records), f"{progress}: photos"),
    }
    found: dict[str, list[Tensor]] = {direction: [] for direction in SIDES}
    for batch in torch.arange(len(data)).split(batch_size):
        which = dict(zip(("sketch", "photo"), data.images.pairs[batch].unbind(1), strict=True))
        chosen = {kind: maps[kind][which[kind]].to(device) for kind in maps}
        for direction, (source, target) in SIDES.items():
            points = data.points[source][batch].to(device)
            found[direction].append(model.locate(chosen[source], chosen[target], points).cpu())
    return {direction: torch.cat(places) for direction, places in found.items()}


def scores(places: Mapping[str, Tensor], data: PreparedPoints, alpha: float, direction: str = "both") -> np.ndarray:
    """PCK of every directed pair, image side as base, `<=`; "both" gives all of "s2p", then all of "p2s".

    Args:
        places: from `predict_pairs`.

    Returns:
        (N,) or (2 N,) float64, NaN for a pair without a visible point.
    """
    chosen = SIDES if direction == "both" else (direction,)
    found = [
        metrics.pck(places[d] * FRAME, data.points[SIDES[d][1]] * FRAME, alpha, FRAME, data.visible) for d in chosen
    ]
    return np.concatenate(found)
