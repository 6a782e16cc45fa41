"""Sketch recognition (paper, Sec. 6.2): say which of the known categories a sketch shows, and how surely."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from sfhelpers import metrics
from sfhelpers.datasets.records import fingerprint
from sfhelpers.datasets.sketches import Sketches, check_categories, few_shot_parts
from sfhelpers.fusion import FusedExtractor
from sfhelpers.fusion.modules import ChannelStatistics
from sfhelpers.tasks.arms import DIM
from sfhelpers.tasks.compare import Frozen, Measured, Task, Trial, best_share
from sfhelpers.tasks.prepared import Prepared, compute, digests, prepare_images, take

TEMPERATURES = tuple(np.geomspace(0.1, 10, 81).tolist())
PROBES = {"B-SD": ("f1", "f2", "f3"), "B-CLIP": ("tokens",), "B-SD+CLIP": ()}  # the last is a mean of the others'
PENALTIES = (0.001, 0.01, 0.1, 1.0)  # scikit-learn's C, the smaller the stronger
PRIOR, CHANCE = "class prior", "chance"
GALLERY = "all categories"
BINS = 15
DEFINITIONS = {
    "Acc@1": "share of sketches whose category has the highest score, ties against it (micro)",
    "Acc@5": "share of sketches whose category is among the five highest scores, ties against it (micro)",
    "Acc@1 (class mean)": "mean over categories of the share of sketches with the highest score for their own",
    "calibration error": f"ECE: mean gap of confidence and accuracy in {BINS} equal bins, weighted by sketches",
    "calibration error (temperature)": f"ECE in {BINS} bins after temperature scaling chosen on validation sketches",
}


class SketchRecogniser(nn.Module):
    """logits = W * max-pooled feature (B, dim) + b, in the categories' order; ValueError if under two, or one twice."""

    def __init__(self, extractor: nn.Module, categories: Sequence[str], dim: int = DIM):
        super().__init__()
        check_categories(categories)
        self.extractor = extractor
        self.settings = {"categories": list(categories), "dim": dim}
        first = next(extractor.parameters())
        # The maximum over many positions is much alike in all sketches; what differs is a small part of it.
        self.statistics = ChannelStatistics(dim).to(first)
        self.head = nn.Linear(dim, len(categories), device=first.device, dtype=first.dtype)
        for parameter in self.head.parameters():  # no category is likelier before anything was seen
            nn.init.zeros_(parameter)

    def forward(self, sketch: Tensor | Prepared) -> Tensor:
        """Logits (B, C) of B sketches, from images (B, 3, H, W) in [0, 1] or from what was prepared."""
        return self.head(self.pooled(sketch))

    def pooled(self, sketch: Tensor | Prepared) -> Tensor:
        """The standardised feature of B sketches, (B, dim)."""
        return self.statistics(self.extractor.pooled(sketch)[..., None, None])[..., 0, 0]

    @torch.no_grad()
    def fit_statistics(self, prepared: Prepared) -> None:
        """Fix the standardisation of every source and of the pooled feature on some training sketches."""
        self.extractor.fit_statistics(prepared)
        pooled = compute(self.extractor.pooled, prepared, 32, None)
        self.statistics.set(ChannelStatistics.moments(pooled[..., None, None]))


def prepare_sketches(
    extractor: nn.Module, sketches: Sketches, categories: Sequence[str], size: int, **noise: Any
) -> Prepared:
    """Everything frozen of sketches read at `size` px, and "labels", places in `categories`; ValueError without one."""
    strange = sorted(set(sketches.categories) - set(categories))
    if strange or not len(sketches):
        what = f"sketches of {strange[0]!r}, which is not among the categories" if strange else "no sketch"
        raise ValueError(f"{sketches.name} gives {what}: choose parts that hold the same categories.")
    labels = torch.tensor([list(categories).index(item.category) for item in sketches.records])
    read = partial(sketches.images, side=size)
    about = len(sketches), "preparing sketches", digests(sketches.records), size
    return prepare_images(extractor, read, *about, **noise) | {"labels": labels}


@dataclass
class Scores:
    """What a trial predicted of N test sketches."""

    logits: Tensor  # (N, C)
    temperature: float = 1.0  # by which they are divided for calibrated probabilities
    features: Tensor | None = None  # (N, dim) standardised and pooled, None where none are learned

    def probabilities(self, calibrated: bool = False) -> Tensor:
        """(N, C) float64, rows that sum to 1."""
        return (self.logits.double() / (self.temperature if calibrated else 1)).softmax(1)


class Recognition(Task):
    """All arms learn from the same sketches, so the spread over seeds is that of the training.

    `shots` are sketches a category to learn from, `limit` those to test at most, 0 takes all; ValueError as of
    `few_shot_parts`.
    """

    name = "recognition"
    baselines = (*PROBES, PRIOR, CHANCE)
    start = "random"  # validation log-loss of three heads that started so .40, from zero .55 (10 shots, 5 epochs)

    def __init__(
        self, sketches: Sketches, epochs: int, learning_rate: float, batch_size: int, shots: int = 10, limit: int = 0
    ):
        parts = few_shot_parts(sketches, shots, limit)
        images = fingerprint(item for part in parts.values() for item in part.records)
        super().__init__(parts, sketches.name, sketches.split, images, epochs, learning_rate, batch_size)
        self.categories, self.shots = sketches.categories, shots

    def read(self, extractor: nn.Module, part: Sketches, size: int, **noise: Any) -> Prepared:
        return prepare_sketches(extractor, part, self.categories, size, **noise)

    def examples(self, frozen: Frozen) -> int:
        return len(frozen["train"]["labels"])

    def model(self, extractor: nn.Module, frozen: Frozen) -> SketchRecogniser:
        model, number = SketchRecogniser(extractor, self.categories, DIM), self.examples(frozen)
        some = torch.linspace(0, number - 1, min(128, number)).round().long()
        model.fit_statistics(take(frozen["train"], some, model.head.weight.device))
        return model

    def loss(self, model: SketchRecogniser, frozen: Frozen, indices: Tensor) -> Tensor:
        """Cross-entropy (paper, Sec. 6.2)."""
        batch = take(frozen["train"], indices, model.head.weight.device)
        return F.cross_entropy(model(batch), batch["labels"])

    def validate(self, model: SketchRecogniser, frozen: Frozen) -> float:
        """Mean log-probability of the right category: of so few sketches, accuracy has too few steps to choose by."""
        return -F.cross_entropy(_scored(model, frozen["validation"])[0], frozen["validation"]["labels"]).item()

    def predict(self, model: SketchRecogniser, frozen: Frozen) -> Scores:
        temperature = choose_temperature(_scored(model, frozen["validation"])[0], frozen["validation"]["labels"])
        logits, features = _scored(model, frozen["test"])
        return Scores(logits, temperature, features)

    def untrained(self, method: str, seeds: Sequence[int], frozen: Frozen, plain: FusedExtractor) -> Iterator[Trial]:
        if method in PROBES:  # a linear probe has no seed: it is fitted to its one optimum
            yield _probe(method, seeds[0], frozen)
            return
        shape = len(frozen["test"]["labels"]), len(self.categories)
        share = torch.bincount(frozen["train"]["labels"], minlength=shape[1]).double() + 1e-3
        prior = share.log() - torch.arange(shape[1], dtype=torch.float64) * 1e-9  # of equally many the first is ahead
        for seed in seeds:
            guess = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 1e-6
            yield Trial(method, seed, found=Scores(prior.expand(shape) if method == PRIOR else guess))

    def measure(self, trial: Trial, frozen: Frozen) -> Iterator[Measured]:
        """Everything in DEFINITIONS."""
        labels, found = frozen["test"]["labels"].numpy(), trial.found
        units = {"test sketches": np.arange(len(labels)), "categories": labels}
        right, five = (metrics.top_k_accuracy(found.logits, labels, k) for k in (1, 5))
        gaps = (metrics.calibration_error(found.probabilities(scaled), labels, BINS) for scaled in (False, True))
        values = dict(zip(DEFINITIONS, (right, five, metrics.macro_mean(right, labels), *gaps), strict=True))
        for metric, value in values.items():
            groups, definition = units if metric == "Acc@1" else None, f"{DEFINITIONS[metric]}{rule(self.shots)}"
            yield Measured(GALLERY, metric, definition, np.asarray(value), groups, len(labels))


def rule(shots: int) -> str:
    """How a definition ends that says from how much was learned."""
    return f"; {shots} shots a category" if shots else "; all training sketches"


@torch.no_grad()
def _scored(model: SketchRecogniser, data: Prepared) -> tuple[Tensor, Tensor]:
    """Logits (N, C) and standardised pooled features (N, dim) of all sketches, on the CPU."""
    features = compute(model.eval().pooled, data, 64, None)
    return model.head(features.to(model.head.weight)).cpu(), features


def _probe(method: str, seed: int, plain: Frozen) -> Trial:
    """Logistic regressions on max-pooled features (paper, Sec. 6); of both the mean log-probability by SD's share."""
    started, labels = time.perf_counter(), {part: data["labels"] for part, data in plain.items()}
    singles = [name for name in ("B-SD", "B-CLIP") if method in (name, "B-SD+CLIP")]
    fitted, parameters = zip(*(_regression(PROBES[name], plain) for name in singles), strict=True)

    def joined(part: str, share: float) -> Tensor:
        return share * fitted[0][part] + (1 - share) * fitted[-1][part]

    share, tried = 1.0, {}
    if len(fitted) > 1:
        share, tried = best_share(lambda s: -F.cross_entropy(joined("validation", s), labels["validation"]).item())
    validation, test = (joined(part, share) for part in ("validation", "test"))
    scores = Scores(test, choose_temperature(validation, labels["validation"]))
    return Trial(method, seed, "", None, None, tried, sum(parameters), time.perf_counter() - started, found=scores)


def _regression(sources: Sequence[str], plain: Frozen) -> tuple[dict[str, Tensor], int]:
    """Part -> log-probabilities (N, C) at the C with the best validation log-likelihood, and how much was learned."""
    labels = {part: data["labels"].numpy() for part, data in plain.items()}
    pooled = {part: [_maxima(data, name) for name in sources] for part, data in plain.items()}
    features = {part: torch.cat(found, dim=1).numpy() for part, found in pooled.items()}
    makers = [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=500)) for c in PENALTIES]
    made = [maker.fit(features["train"], labels["train"]) for maker in makers]
    right = np.arange(len(labels["validation"])), labels["validation"]
    best = max(made, key=lambda model: model.predict_log_proba(features["validation"])[right].mean())
    told = {part: torch.from_numpy(best.predict_log_proba(features[part])).float() for part in ("validation", "test")}
    return told, told["test"].shape[1] * (features["train"].shape[1] + 1)


def _maxima(data: Prepared, name: str) -> Tensor:
    """(N, C)"""
    return compute(lambda some: some[name].amax((2, 3)).float(), {name: data[name]}, 64, None)


def choose_temperature(logits: Tensor, labels: Tensor) -> float:
    """That at which softmax(logits / temperature) makes validation labels likeliest (Guo et al. 2017)."""
    return min(TEMPERATURES, key=lambda temperature: F.cross_entropy(logits.double() / temperature, labels).item())
