"""Sketch-based segmentation (paper, Sec. 6.4): given a sketch, mark the pixels of the sketched concept in a photo.

The correlation of the max-pooled sketch feature with every position of the photo's map, through a sigmoid with a
learned temperature and offset, is trained with binary cross-entropy (Eq. 4), cut at a threshold, and may be refined by
a dense CRF.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydensecrf.densecrf as densecrf
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from sfhelpers import metrics
from sfhelpers.tasks.fit import History, fit
from sfhelpers.tasks.pairs import Prepared, PreparedPairs, fit_statistics, prepare_pairs, take

__all__ = [
    "PAPER_THRESHOLD",
    "THRESHOLDS",
    "PreparedPairs",
    "SketchSegmenter",
    "choose_threshold",
    "evaluate",
    "mean_mask",
    "predict",
    "predict_pairs",
    "prepare_pairs",
    "refine_batch",
    "refine_with_crf",
    "take",
    "train_segmenter",
]

PAPER_THRESHOLD = 0.47
THRESHOLDS = tuple(step / 100 for step in range(1, 100))


class SketchSegmenter(nn.Module):
    """logits = temperature * cosine(max-pooled sketch feature, photo map) + offset, at the extractor's grid.

    Args:
        extractor: a FusedExtractor, or any module that maps images or their prepared tensors to a (B, d, g, g) map
            and has `.pooled` (-> (B, d)) and `.prepare`.
        temperature: start value, above 0.
        centre: start value of the cosine at which a pixel is undecided; offset = -temperature * centre. An untrained
            extractor gives cosines of about 0.1, so the default starts near the usual share of foreground.

    Attributes:
        settings: the arguments beside the extractor, as JSON can hold them.
    """

    def __init__(self, extractor: nn.Module, temperature: float = 10.0, centre: float = 0.2):
        super().__init__()
        self.extractor = extractor
        self.settings = {"temperature": temperature, "centre": centre}
        device = next(extractor.parameters()).device
        # The log keeps the temperature positive. The offset is learned in units of the cosine, since Adam moves every
        # parameter by about the learning rate a step and an offset in logits has a far longer way to go.
        self.log_temperature = nn.Parameter(torch.tensor(temperature, device=device).log())
        self.centre = nn.Parameter(torch.tensor(centre, device=device))

    @property
    def temperature(self) -> Tensor:
        return self.log_temperature.exp()

    @property
    def offset(self) -> Tensor:
        return -self.temperature * self.centre

    def forward(self, sketch: Tensor | Prepared, photo: Tensor | Prepared) -> Tensor:
        """Logits (B, g, g) of B sketch-photo pairs, from images (B, 3, H, W) in [0, 1] or from what was prepared."""
        return self.correlate(self.extractor.pooled(sketch), self.extractor(photo))

    def correlate(self, sketch_features: Tensor, photo_maps: Tensor) -> Tensor:
        """(B, d) and (B, d, g, g) -> logits (B, g, g)."""
        cosine = torch.einsum("bd,bdhw->bhw", F.normalize(sketch_features, dim=1), F.normalize(photo_maps, dim=1))
        return self.temperature * cosine + self.offset


def train_segmenter(
    model: SketchSegmenter,
    train: PreparedPairs,
    validation: PreparedPairs,
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
    """Train on matching pairs with binary cross-entropy at the masks' resolution (paper, Eq. 4).

    The extractor's standardisation is first fixed on training images. The best epoch is the one with the highest mean
    foreground IoU on the validation pairs, each epoch at its own best threshold, since the offset still moves.
    Arguments and errors beyond these as in `fit`; the model's settings are added to `configuration`.
    """
    train_masks, validation_masks = train.pair_masks, validation.pair_masks
    device = model.centre.device
    fit_statistics(model.extractor, train)

    def loss(model: SketchSegmenter, indices: Tensor) -> Tensor:
        sketch, photo = train.pairs[indices].unbind(1)
        logits = model(take(train.sketches, sketch, device), take(train.photos, photo, device))
        return F.binary_cross_entropy_with_logits(
            _upsample(logits, train_masks.shape[-1]), train_masks[indices].to(device, logits.dtype)
        )

    def validate(model: SketchSegmenter) -> float:
        scores = _iou_by_threshold(predict_pairs(model, validation, progress=None), validation_masks, THRESHOLDS)
        return scores.max().item()

    return fit(
        model, loss, len(train), validate, epochs, learning_rate, batch_size, seed, weight_decay, patience, progress,
        checkpoint, {**(configuration or {}), "model": model.settings},
    )  # fmt: skip


@torch.no_grad()
def predict(model: SketchSegmenter, sketch: Tensor | Prepared, photo: Tensor | Prepared, side: int = 160) -> Tensor:
    """Probabilities (B, side, side) in [0, 1], on the CPU, of one batch of pairs; the model is put into eval mode.

    Args:
        sketch, photo: images (B, 3, H, W) in [0, 1] or prepared tensors of B entries, on the model's device.
        side: of the map, in px of the square image.
    """
    model.eval()
    return _upsample(model(sketch, photo), side).sigmoid().cpu()


@torch.no_grad()
def predict_pairs(
    model: SketchSegmenter,
    data: PreparedPairs,
    side: int = 0,
    batch_size: int = 64,
    progress: str | None = "predicting",
) -> Tensor:
    """Probabilities (N, side, side) in [0, 1] of all pairs, equal to `predict` but with every image computed once.

    Args:
        side: of the maps; 0 takes the masks' side, or 160 px where there are no masks.
        progress: words in front of the progress bar; None shows none.

    Memory: 4 * N * side**2 bytes, 100 kB a pair at 160 px, and the photo maps (4 * d * g**2 bytes a photo).
    """
    model.eval()
    side = side or (160 if data.masks is None else data.masks.shape[-1])
    device = model.centre.device

    def compute(function, prepared: Prepared, n: int, what: str) -> Tensor:
        batches = tqdm(torch.arange(n).split(batch_size), what, leave=False, disable=progress is None)
        return torch.cat([function(take(prepared, batch, device)).cpu() for batch in batches])

    features = compute(model.extractor.pooled, data.sketches, len(data.sketch_records), f"{progress}: sketches")
    maps = compute(model.extractor, data.photos, len(data.photo_records), f"{progress}: photos")
    probabilities = torch.empty(len(data), side, side)
    for batch in torch.arange(len(data)).split(batch_size):
        sketch, photo = data.pairs[batch].unbind(1)
        logits = model.correlate(features[sketch].to(device), maps[photo].to(device))
        probabilities[batch] = _upsample(logits, side).sigmoid().cpu()
    return probabilities


def evaluate(probabilities: Tensor, masks: Tensor, threshold: float) -> dict[str, np.ndarray]:
    """Every metric of `sfhelpers.metrics`, image by image.

    Args:
        probabilities: (N, side, side) in [0, 1]; a pixel is foreground at `threshold` or above.
        masks: (N, side, side) bool.

    Returns:
        metric name -> (N,) float64: "foreground IoU", "mIoU" (two-class), "pAcc", "pAcc (foreground)",
        "pAcc (class mean)".
    """
    pred = probabilities >= threshold
    return {
        "foreground IoU": metrics.foreground_iou(pred, masks),
        "mIoU": metrics.two_class_iou(pred, masks),
        "pAcc": metrics.pixel_accuracy(pred, masks, kind="all"),
        "pAcc (foreground)": metrics.pixel_accuracy(pred, masks, kind="foreground"),
        "pAcc (class mean)": metrics.pixel_accuracy(pred, masks, kind="class_mean"),
    }


def choose_threshold(probabilities: Tensor, masks: Tensor, candidates: Sequence[float] = THRESHOLDS) -> float:
    """The candidate with the highest mean foreground IoU; give it the validation part, never the test part.

    Among equals the one nearest to 0.5. Arguments as in `evaluate`.
    """
    scores = _iou_by_threshold(probabilities, masks, candidates).tolist()
    return max(zip(scores, candidates, strict=True), key=lambda pair: (pair[0], -abs(pair[1] - 0.5)))[1]


def refine_with_crf(
    image: Tensor,
    probability: Tensor,
    iterations: int = 5,
    threshold: float = 0.5,
    smooth_width: float = 0.02,
    smooth_weight: float = 3.0,
    position_width: float = 0.15,
    colour_width: float = 13.0,
    colour_weight: float = 5.0,
) -> Tensor:
    """Refine one map with a fully connected CRF (Kraehenbuehl and Koltun 2011), so that it follows the photo's edges.

    Widths in space are shares of the image's longer side, so that the same settings serve every image size.

    Args:
        image: (3, H, W) in [0, 1].
        probability: (H, W) in [0, 1].
        iterations: of mean-field inference.
        threshold: the probability that counts as undecided; it becomes 0.5 in the result, which is cut there.
        smooth_width, smooth_weight: of the kernel that removes specks, whatever the colours.
        position_width, colour_width, colour_weight: of the kernel that joins near pixels of like colour; the width in
            colour is in levels of 0 to 255.

    Returns:
        (H, W) float32 in [0, 1], on the CPU.

    Raises:
        ValueError: image and probability differ in size, or the threshold is not between 0 and 1.
    """
    if image.shape[0] != 3 or image.shape[1:] != probability.shape:
        raise ValueError(
            f"the image has shape {tuple(image.shape)} but the probability {tuple(probability.shape)}: "
            "give (3, H, W) and (H, W) of the same size."
        )
    if not 0 < threshold < 1:
        raise ValueError(f"threshold is {threshold}: give a number between 0 and 1.")
    height, width = probability.shape
    clipped = probability.detach().cpu().double().clamp(1e-5, 1 - 1e-5)
    logit = clipped.logit() - torch.tensor(threshold).double().logit()
    energy = torch.stack([F.softplus(logit), F.softplus(-logit)]).flatten(1)
    pixels = (image.detach().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    side = max(height, width)

    crf = densecrf.DenseCRF2D(width, height, 2)
    crf.setUnaryEnergy(np.ascontiguousarray(energy.numpy(), dtype=np.float32))
    crf.addPairwiseGaussian(sxy=smooth_width * side, compat=smooth_weight)
    crf.addPairwiseBilateral(sxy=position_width * side, srgb=colour_width, rgbim=pixels, compat=colour_weight)
    return torch.from_numpy(np.array(crf.inference(iterations))[1].reshape(height, width).copy())


def refine_batch(images: Tensor, probabilities: Tensor, **settings) -> Tensor:
    """`refine_with_crf` of N images (N, 3, H, W) and maps (N, H, W), with a progress bar; about 0.1 s an image."""
    both = zip(images, probabilities, strict=True)
    bar = tqdm(both, "dense CRF", total=len(images), leave=False)
    return torch.stack([refine_with_crf(image, probability, **settings) for image, probability in bar])


def mean_mask(masks: Tensor) -> Tensor:
    """The trivial baseline: (N, side, side) bool training masks -> (side, side), the share of masks at each pixel.

    It never looks at a photo. Expand it to (N, side, side) and treat it as probabilities, threshold included.
    """
    if len(masks) == 0:
        raise ValueError("there is no training mask to average: give a dataset with a train part.")
    return masks.float().mean(0)


def _upsample(maps: Tensor, side: int) -> Tensor:
    return F.interpolate(maps[:, None], size=(side, side), mode="bilinear", align_corners=False)[:, 0]


def _iou_by_threshold(probabilities: Tensor, masks: Tensor, candidates: Sequence[float]) -> Tensor:
    """Mean foreground IoU at every candidate, (len(candidates),) float64, in one pass over the pixels.

    Each pixel is counted under the number of candidates it reaches; summed from the top, these counts are the sizes
    of prediction and intersection at each threshold.
    """
    if probabilities.shape != masks.shape or len(masks) == 0:
        raise ValueError(
            f"probabilities have shape {tuple(probabilities.shape)} but masks {tuple(masks.shape)}: "
            "give at least one map, at the masks' side."
        )
    ordered = torch.tensor(sorted(candidates), dtype=probabilities.dtype)
    bins = len(ordered) + 1
    total = torch.zeros(len(ordered), dtype=torch.float64)
    for probability, mask in zip(probabilities, masks, strict=True):
        reached = torch.bucketize(probability.flatten(), ordered, right=True)
        counts = torch.bincount(reached + bins * mask.flatten(), minlength=2 * bins).view(2, bins).double()
        outside, inside = counts.flip(1).cumsum(1).flip(1)[:, 1:]
        union = outside + mask.sum()
        total += torch.where(union > 0, inside / union, 1.0)
    by_value = dict(zip(sorted(candidates), total / len(masks), strict=True))
    return torch.stack([by_value[candidate] for candidate in candidates])
