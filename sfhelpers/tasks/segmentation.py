"""Sketch-based segmentation (paper, Sec. 6.4): a sketch asks a photo that shows several things for one of them."""

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pydensecrf.densecrf as densecrf
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfhelpers import metrics
from sfhelpers.datasets import Dataset
from sfhelpers.datasets.records import check_apart, fingerprint, fraction, listed
from sfhelpers.tasks.compare import Frozen, Measured, Task, Trial
from sfhelpers.tasks.prepared import MASK_SIDE, PreparedPairs, compute, fit_statistics, prepare_pairs, take, tested

PAPER_THRESHOLD = 0.47
THRESHOLDS = tuple(step / 100 for step in range(1, 100))
MEAN_MASK = "mean mask"
OWN, OTHER, ABSENT, WRONG, ANY = "own", "other", "absent", "wrong sketch", "whatever stands out"  # kinds of questions
DEFINITIONS = {
    "foreground IoU": "mean over questions of |P and T| / |P or T|, both empty = 1",
    "mIoU": "mean over questions of the mean of foreground and background IoU",
    "pAcc": "mean over questions of right pixels / all pixels",
    "pAcc (foreground)": "mean over questions of right foreground pixels / true foreground pixels",
    "pAcc (class mean)": "mean over questions of the mean over both classes of right / true pixels",
    "dataset IoU": "sum of intersections / sum of unions over all questions",
}
THERE = "questions for every thing in a photo of which there are sketches, none for what is not there"
OWN_IOU = "mean over photos of the foreground IoU with the own thing's mask, asked with"
CONTROLS = {  # metric -> kind of questions and definition
    "right sketch": (OWN, f"{OWN_IOU} the own sketch"),
    WRONG: (WRONG, f"{OWN_IOU} a sketch of what is not in the photo"),
    ANY: (ANY, f"{OWN_IOU} the mean feature of all training sketches"),
    "not there": (ABSENT, "share of the questions for what is not in the photo that are answered with an empty mask"),
    "not there, marked": (ABSENT, "share of the photo that is marked, mean over questions for what is not in it"),
}
CHOSEN = "threshold chosen on validation questions, no CRF"
PAPER = f"threshold {PAPER_THRESHOLD} (paper), no CRF"
REFINED = "threshold chosen on validation questions, then dense CRF"


class SketchSegmenter(nn.Module):
    """logits = temperature * (cosine(max-pooled sketch feature, photo map) - centre), at the extractor's grid.

    Start values: `temperature` above 0, `centre` a cosine, that of an undecided pixel (untrained about 0.1).
    """

    def __init__(self, extractor: nn.Module, temperature: float = 10.0, centre: float = 0.2):
        super().__init__()
        self.extractor = extractor
        self.settings = {"temperature": temperature, "centre": centre}
        device = next(extractor.parameters()).device
        # In units of the cosine: Adam moves by about the learning rate a step, and an offset in logits had far to go.
        self.log_temperature = nn.Parameter(torch.tensor(temperature, device=device).log())
        self.centre = nn.Parameter(torch.tensor(centre, device=device))

    def forward(self, sketch: Tensor | dict, photo: Tensor | dict) -> Tensor:
        """Logits (S, P, g, g) of every sketch asking every photo, of images in [0, 1] or of what was prepared."""
        return self.correlate(self.extractor.pooled(sketch), self.extractor(photo))

    def correlate(self, sketch_features: Tensor, photo_maps: Tensor) -> Tensor:
        """(S, d) and (P, d, g, g) -> logits (S, P, g, g)."""
        cosine = torch.einsum("sd,pdhw->sphw", F.normalize(sketch_features, dim=1), F.normalize(photo_maps, dim=1))
        return self.log_temperature.exp() * cosine - self.log_temperature.exp() * self.centre


@dataclass
class Masks:
    """What a trial predicted."""

    threshold: float  # from which a pixel is foreground; chosen on the validation questions
    logits: dict[str, dict[str, Tensor]]  # tested part ("seen", "unseen") -> kind of questions -> (n, g, g), on the CPU
    rule: str = CHOSEN  # how the masks are cut, as definitions say it

    def probabilities(self, part: str, *kinds: str) -> Tensor:
        """(N, side, side) in [0, 1] of these kinds of questions, by default of the part's own pairs."""
        return upsample(torch.cat([self.logits[part][kind] for kind in kinds or (OWN,)]), MASK_SIDE).sigmoid()


class Segmentation(Task):
    """Trained on seen categories, tested on other photos of these and, if there are any, on unseen ones.

    `absent`, 0 to 1, is the share of questions for what a photo does not show, by weight in the loss, by number in
    validation and test: use 0 where masks do not tell of all that is there. Photos without a mask are left out, with a
    warning. ValueError if an image file is trained on and tested with, or no photo of a part has a mask.
    """

    name = "segmentation"
    baselines = (MEAN_MASK,)
    read = staticmethod(prepare_pairs)

    def __init__(self, dataset: Dataset, epochs: int, learning_rate: float, batch_size: int, absent: float = 0.25):
        if not 0 <= absent <= 1:
            raise ValueError(f"absent is {absent}: give the share of questions for what is not there, 0 to 1.")
        self.absent = absent
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
        """Binary cross-entropy (paper, Eq. 4) of every sketch of the batch asking every photo, what is there apart."""
        train, device = frozen["train"], model.centre.device
        sketch, photo = train.pairs[indices].unbind(1)
        logits = model(take(train.sketches, sketch, device), take(train.photos, photo, device))
        masks = train.masks_of(train.category_at[sketch][:, None], photo)
        there = masks.flatten(2).any(2)
        # Being linear in the target, against the foreground's share of a position it is the mean over its pixels.
        shares = F.interpolate(masks.to(device, logits.dtype), size=logits.shape[2:], mode="area")
        each = F.binary_cross_entropy_with_logits(logits, shares, reduction="none").mean((2, 3))
        weighed = ((1 - self.absent, there), (self.absent, ~there))
        return sum(weight * each[which].mean() for weight, which in weighed if which.any())

    def counted(self, data: PreparedPairs) -> PreparedPairs:
        """A part's questions, as its pairs, by which epoch and threshold are chosen."""
        asked = questions(data, self.absent)
        return replace(data, pairs=torch.cat([asked[kind] for kind in (OWN, OTHER, ABSENT)]))

    def validate(self, model: SketchSegmenter, frozen: Frozen) -> float:
        """Mean foreground IoU of the validation questions, each epoch at its own best threshold: the offset moves."""
        data = self.counted(frozen["validation"])
        return metrics.iou_by_threshold(predict_pairs(model, data), data.pair_masks, THRESHOLDS).max().item()

    def predict(self, model: SketchSegmenter, frozen: Frozen) -> Masks:
        data = self.counted(frozen["validation"])
        cut = choose_threshold(predict_pairs(model, data), data.pair_masks)
        with torch.no_grad():
            pooled = compute(model.extractor.pooled, frozen["train"].sketches, 64, "predicting: training sketches")
        mean = F.normalize(pooled, dim=1).mean(0)
        parts = tested(frozen).items()
        return Masks(cut, {part: answer(model, data, questions(data, self.absent), mean) for part, data in parts})

    def untrained(self, method: str, seeds: Sequence[int], frozen: Frozen, extractor: nn.Module) -> Iterator[Trial]:
        """The share of training masks at each pixel, as probabilities: it never looks at a photo or a sketch."""
        mean, data = frozen["train"].pair_masks.float().mean(0), self.counted(frozen["validation"])
        cut = choose_threshold(mean.expand(len(data), *mean.shape), data.pair_masks)
        logits = {
            part: {kind: mean.logit(1e-6).expand(len(asked), *mean.shape) for kind, asked in found.items()}
            for part, found in ((part, questions(data, self.absent)) for part, data in tested(frozen).items())
        }
        for seed in seeds:
            yield Trial(method, seed, found=Masks(cut, logits))

    def measure(self, trial: Trial, frozen: Frozen) -> Iterator[Measured]:
        """Every metric at the chosen threshold, foreground IoU at the paper's, and what the sketch decides."""
        found = trial.found
        for part, answered in found.logits.items():
            data, of = frozen[part], partial(Measured, f"{part} categories")
            asked = questions(data, self.absent)
            there = [kind for kind in (OWN, OTHER) if kind in answered]
            pairs, maps = torch.cat([asked[kind] for kind in there]), found.probabilities(part, *there)
            counted, told = replace(data, pairs=pairs), f"{THERE}; {found.rule}"
            true = counted.pair_masks
            for metric, values in metrics.mask_scores(maps >= found.threshold, true).items():
                groups = counted.groups if (metric, found.rule) == ("foreground IoU", CHOSEN) else None
                yield of(metric, f"{DEFINITIONS[metric]}; {told}", values, groups, len(pairs))
            if found.rule == CHOSEN:
                values = metrics.foreground_iou(maps >= PAPER_THRESHOLD, true)
                yield of("foreground IoU", f"{DEFINITIONS['foreground IoU']}; {THERE}; {PAPER}", values)
                yield from self._controls(of, found, part, data, asked)

    def _controls(self, of: partial, found: Masks, part: str, data: PreparedPairs, asked: dict) -> Iterator[Measured]:
        for metric, (kind, definition) in CONTROLS.items():
            if not len(asked[kind]):
                continue
            marked = found.probabilities(part, kind) >= found.threshold
            if kind == ABSENT:
                share = marked.flatten(1).double().mean(1).numpy()
                values = share if metric.endswith("marked") else (share == 0).astype(float)
            else:
                values = metrics.foreground_iou(marked, data.own_masks(asked[kind][:, 1]))
            yield of(metric, f"{definition}; {found.rule}", values)


def questions(data: PreparedPairs, absent: float) -> dict[str, Tensor]:
    """Which sketch asks which photo, (n, 2) positions a kind, the same on every run.

    OWN are the pairs. OTHER asks a photo for each further thing of which there are sketches, with one of them. ABSENT
    are, at the share `absent` of these three if there are so many, for what a photo does not show, the photos in turn;
    WRONG is the first of them of each photo. ANY are the pairs again, asked by what comes after the last sketch.
    """
    drawn, other, missed = defaultdict(list), [], []
    for k, sketch in enumerate(data.sketch_records):
        drawn[sketch.category].append(k)
    for k, photo in enumerate(data.photo_records):
        dice = {name: fraction(f"{photo.category}/{photo.path.name} {name}") for name in drawn}
        chosen = {name: drawn[name][int(dice[name] * len(drawn[name]))] for name in drawn}
        other += [(chosen[name], k) for name in photo.masks if name in drawn and name != photo.category]
        lacking = sorted(drawn.keys() - set(photo.things), key=dice.get)
        missed += [(turn, dice[name], chosen[name], k) for turn, name in enumerate(lacking)]
    there, missed = len(data.pairs) + len(other), sorted(missed)
    number = round(there * absent / (1 - absent)) if absent < 1 else len(missed)
    found = {OTHER: other, ABSENT: [place[2:] for place in missed[:number]]}
    found[WRONG] = [place[2:] for place in missed if place[0] == 0]
    found = {kind: torch.tensor(places, dtype=torch.long).reshape(-1, 2) for kind, places in found.items()}
    anyone = torch.full((len(data.pairs),), len(data.sketch_records))
    return {OWN: data.pairs, **found, ANY: torch.stack([anyone, data.pairs[:, 1]], 1)}


@torch.no_grad()
def answer(model: SketchSegmenter, data: PreparedPairs, asked: dict[str, Tensor], *more: Tensor) -> dict[str, Tensor]:
    """Logits (n, g, g) on the CPU of the (n, 2) questions of every kind; `more` features (d,) follow the sketches'."""
    model.eval()
    features = compute(model.extractor.pooled, data.sketches, 64, "predicting: sketches").to(model.centre.device)
    features = torch.cat([features, *(feature[None].to(features) for feature in more)])
    maps = compute(model.extractor, data.photos, 64, "predicting: photos")
    found = {kind: torch.empty(len(pairs), *maps.shape[2:]) for kind, pairs in asked.items()}
    for photo in range(len(maps)):
        here = {kind: pairs[:, 1] == photo for kind, pairs in asked.items()}
        wanted = torch.cat([asked[kind][which, 0] for kind, which in here.items()])
        logits = model.correlate(features[wanted], maps[photo, None].to(features))[:, 0].cpu()
        for (kind, which), told in zip(here.items(), logits.split([w.sum() for w in here.values()]), strict=True):
            found[kind][which] = told
    return found


def predict_pairs(model: SketchSegmenter, data: PreparedPairs) -> Tensor:
    """Probabilities (N, side, side) in [0, 1] of all pairs, on the CPU, each image computed once, in eval mode."""
    return upsample(answer(model, data, {OWN: data.pairs})[OWN], MASK_SIDE).sigmoid()


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
