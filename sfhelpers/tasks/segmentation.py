"""Sketch-based segmentation (paper, Sec. 6.4): given a sketch, mark the pixels of the sketched concept in a photo."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pydensecrf.densecrf as densecrf
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfhelpers import metrics
from sfhelpers.datasets import Dataset
from sfhelpers.datasets.records import check_apart, fingerprint, listed
from sfhelpers.tasks.compare import Frozen, Measured, Task, Trial
from sfhelpers.tasks.prepared import Prepared, PreparedPairs, compute, fit_statistics, prepare_pairs, take, tested

PAPER_THRESHOLD = 0.47
THRESHOLDS = tuple(step / 100 for step in range(1, 100))
MEAN_MASK = "mean mask"
DEFINITIONS = {
    "foreground IoU": "mean over pairs of |P and T| / |P or T|, both empty = 1",
    "mIoU": "mean over pairs of the mean of foreground and background IoU",
    "pAcc": "mean over pairs of right pixels / all pixels",
    "pAcc (foreground)": "mean over pairs of right foreground pixels / true foreground pixels",
    "pAcc (class mean)": "mean over pairs of the mean over both classes of right / true pixels",
    "dataset IoU": "sum of intersections / sum of unions over all pairs",
}
CHOSEN = "threshold chosen on validation pairs, no CRF"
PAPER = f"threshold {PAPER_THRESHOLD} (paper), no CRF"
REFINED = "threshold chosen on validation pairs, then dense CRF"
scores = metrics.mask_scores  # every metric of DEFINITIONS


class SketchSegmenter(nn.Module):
    """logits = temperature * (cosine(max-pooled sketch feature, photo map) - centre), at the extractor's grid.

    Start values: `temperature` above 0, `centre` a cosine, that of an undecided pixel; an untrained FusedExtractor
    gives about 0.1. `extractor` may be any module with its `forward` and `pooled`.
    """

    def __init__(self, extractor: nn.Module, temperature: float = 10.0, centre: float = 0.2):
        super().__init__()
        self.extractor = extractor
        self.settings = {"temperature": temperature, "centre": centre}
        device = next(extractor.parameters()).device
        # In units of the cosine: Adam moves by about the learning rate a step, and an offset in logits had far to go.
        self.log_temperature = nn.Parameter(torch.tensor(temperature, device=device).log())
        self.centre = nn.Parameter(torch.tensor(centre, device=device))

    def forward(self, sketch: Tensor | Prepared, photo: Tensor | Prepared) -> Tensor:
        """Logits (B, g, g) of B sketch-photo pairs, from images (B, 3, H, W) in [0, 1] or from what was prepared."""
        return self.correlate(self.extractor.pooled(sketch), self.extractor(photo))

    def correlate(self, sketch_features: Tensor, photo_maps: Tensor) -> Tensor:
        """(B, d) and (B, d, g, g) -> logits (B, g, g)."""
        cosine = torch.einsum("bd,bdhw->bhw", F.normalize(sketch_features, dim=1), F.normalize(photo_maps, dim=1))
        return self.log_temperature.exp() * cosine - self.log_temperature.exp() * self.centre


@dataclass
class Masks:
    """What a trial predicted."""

    threshold: float  # from which a pixel is foreground; chosen on the validation pairs
    probabilities: dict[str, Tensor]  # tested part ("seen", "unseen") -> (N, side, side) in [0, 1], on the CPU
    rule: str = CHOSEN  # how the masks are cut, as definitions say it


class Segmentation(Task):
    """Trained on seen categories, tested on other photos of these and, if there are any, on unseen ones.

    Photos without a mask are left out, with a warning that counts them. ValueError if an image file is trained on and
    tested with, under whatever name, or no photo of a part has a mask. The rest is as of `fit.Training`.
    """

    name = "segmentation"
    baselines = (MEAN_MASK,)
    read = staticmethod(prepare_pairs)

    def __init__(self, dataset: Dataset, epochs: int, learning_rate: float, batch_size: int):
        learned = {"train": dataset.select("train", seen=True), "validation": dataset.select("val", seen=True)}
        asked = {"seen": dataset.select("test", seen=True), "unseen": dataset.select("test", seen=False)}
        check_apart(*([record for part in parts.values() for record in part.records] for parts in (learned, asked)))
        for name, part in zip(("train", "val", "test"), (*learned.values(), dataset.select("test")), strict=True):
            if (number := len(part.photos)) and not part.select(masked=True).photos:
                said = f"none of the {number} photos of dataset {dataset.name} in its part {name!r} has a mask"
                raise ValueError(f"{said}: add mask/<class>/<photo>.png for more photos, or raise limit (0 takes all).")
        photos = [photo for part in (learned | asked).values() for photo in part.photos]
        if bare := [f"{photo.category}/{photo.path.name}" for photo in photos if photo.mask is None]:
            count = f"{len(bare)} of {len(photos)} photos have no mask and are left out of the comparison"
            warnings.warn(f"{count}: {listed(bare)}.", stacklevel=2)
        asked = {k: part for k, part in asked.items() if part.select(masked=True).photos} or {"seen": asked["seen"]}
        parts = {name: part.select(masked=True) for name, part in (learned | asked).items()}
        about = dataset.name, dataset.split, fingerprint(dataset.records)
        super().__init__(parts, *about, epochs, learning_rate, batch_size)

    def model(self, extractor: nn.Module, frozen: Frozen) -> SketchSegmenter:
        fit_statistics(extractor, frozen["train"])
        return SketchSegmenter(extractor)

    def loss(self, model: SketchSegmenter, frozen: Frozen, indices: Tensor) -> Tensor:
        """Binary cross-entropy at the masks' resolution (paper, Eq. 4)."""
        train, device = frozen["train"], model.centre.device
        sketch, photo = train.pairs[indices].unbind(1)
        logits = model(take(train.sketches, sketch, device), take(train.photos, photo, device))
        masks = train.pair_masks[indices].to(device, logits.dtype)
        return F.binary_cross_entropy_with_logits(upsample(logits, masks.shape[-1]), masks)

    def validate(self, model: SketchSegmenter, frozen: Frozen) -> float:
        """Mean foreground IoU of the validation pairs, each epoch at its own best threshold: the offset still moves."""
        data = frozen["validation"]
        return metrics.iou_by_threshold(predict_pairs(model, data), data.pair_masks, THRESHOLDS).max().item()

    def predict(self, model: SketchSegmenter, frozen: Frozen) -> Masks:
        cut = choose_threshold(predict_pairs(model, frozen["validation"]), frozen["validation"].pair_masks)
        return Masks(cut, {part: predict_pairs(model, data) for part, data in tested(frozen).items()})

    def untrained(self, method: str, seeds: Sequence[int], frozen: Frozen, extractor: nn.Module) -> Iterator[Trial]:
        """The share of training masks at each pixel, as probabilities: it never looks at a photo."""
        mean = frozen["train"].pair_masks.float().mean(0)
        maps = {part: mean.expand(len(data), *mean.shape) for part, data in frozen.items()}
        cut = choose_threshold(maps["validation"], frozen["validation"].pair_masks)
        for seed in seeds:
            yield Trial(method, seed, found=Masks(cut, tested(maps)))

    def measure(self, trial: Trial, frozen: Frozen) -> Iterator[Measured]:
        """Every metric at the chosen threshold, and foreground IoU at the paper's."""
        unrefined = trial.found.rule == CHOSEN
        for part, maps in trial.found.probabilities.items():
            data, of = frozen[part], partial(Measured, f"{part} categories")
            for metric, values in scores(maps >= trial.found.threshold, data.pair_masks).items():
                groups = data.groups if unrefined and metric == "foreground IoU" else None
                yield of(metric, f"{DEFINITIONS[metric]}; {trial.found.rule}", values, groups, len(data))
            if unrefined:
                values = metrics.foreground_iou(maps >= PAPER_THRESHOLD, data.pair_masks)
                yield of("foreground IoU", f"{DEFINITIONS['foreground IoU']}; {PAPER}", values)


@torch.no_grad()
def predict_pairs(model: SketchSegmenter, data: PreparedPairs, batch_size: int = 64) -> Tensor:
    """Probabilities (N, side, side) in [0, 1], on the CPU, of all pairs, every image computed once, in eval mode."""
    model.eval()
    side, device = 160 if data.masks is None else data.masks.shape[-1], model.centre.device
    features = compute(model.extractor.pooled, data.sketches, batch_size, "predicting: sketches")
    maps = compute(model.extractor, data.photos, batch_size, "predicting: photos")
    probabilities = torch.empty(len(data), side, side)
    for batch in torch.arange(len(data)).split(batch_size):
        sketch, photo = data.pairs[batch].unbind(1)
        logits = model.correlate(features[sketch].to(device), maps[photo].to(device))
        probabilities[batch] = upsample(logits, side).sigmoid().cpu()
    return probabilities


def choose_threshold(probabilities: Tensor, masks: Tensor) -> float:
    """The one of THRESHOLDS with the best mean foreground IoU, of equals the nearest to 0.5, of validation pairs."""
    found = metrics.iou_by_threshold(probabilities, masks, THRESHOLDS).tolist()
    return max(zip(found, THRESHOLDS, strict=True), key=lambda pair: (pair[0], -abs(pair[1] - 0.5)))[1]


def refine_with_crf(image: Tensor, probability: Tensor, threshold: float = 0.5) -> Tensor:
    """Refine one map with a fully connected CRF (Kraehenbuehl and Koltun 2011), so that it follows the photo's edges.

    An image (3, H, W) and a probability (H, W), both in [0, 1], give (H, W) float32 in [0, 1], on the CPU. What was
    undecided, the `threshold`, becomes 0.5. ValueError if they differ in size, or the threshold is not in (0, 1).
    """
    if image.shape[0] != 3 or image.shape[1:] != probability.shape:
        found = f"not {tuple(image.shape)} and {tuple(probability.shape)}"
        raise ValueError(f"the image and its probability must be (3, H, W) and (H, W) of the same size, {found}.")
    if not 0 < threshold < 1:
        raise ValueError(f"threshold is {threshold}: give a number between 0 and 1.")
    height, width = probability.shape
    logit = probability.detach().cpu().double().logit(1e-5) - torch.tensor(threshold).double().logit()
    energy = torch.stack([F.softplus(logit), F.softplus(-logit)]).flatten(1)
    pixels = (image.detach().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    side = max(height, width)  # widths in space are shares of it, so that they serve every image size

    crf = densecrf.DenseCRF2D(width, height, 2)
    crf.setUnaryEnergy(np.ascontiguousarray(energy.numpy(), dtype=np.float32))
    crf.addPairwiseGaussian(sxy=0.02 * side, compat=3.0)  # removes specks, whatever the colours
    crf.addPairwiseBilateral(sxy=0.15 * side, srgb=13.0, rgbim=pixels, compat=5.0)  # joins near pixels of like colour
    return torch.from_numpy(np.array(crf.inference(5))[1].reshape(height, width).copy())


def upsample(maps: Tensor, side: int) -> Tensor:
    """(N, g, g) -> (N, side, side), bilinear."""
    return F.interpolate(maps[:, None], size=(side, side), mode="bilinear", align_corners=False)[:, 0]
