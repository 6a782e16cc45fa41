"""Sketch recognition (paper, Sec. 6.2): say which of the known categories a sketch shows.

The sketch's max-pooled feature through one linear layer, trained with cross-entropy; its baselines, linear probes of
frozen features; and a temperature that makes the probabilities mean what they say.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
from sfhelpers.datasets.sketches import VALIDATION, Sketches, check_categories, few_shot_parts
from sfhelpers.fusion.modules import ChannelStatistics
from sfhelpers.tasks.arms import CORE, DIM
from sfhelpers.tasks.compare import Frozen, Measured, Plain, Task, Trial
from sfhelpers.tasks.prepared import Prepared, prepare_images, take

TEMPERATURES = tuple(np.geomspace(0.1, 10, 81).tolist())
# Off the shelf (paper, Sec. 6): the frozen features, max-pooled, under a logistic regression.
PROBES = {"B-SD": ("f1", "f2", "f3"), "B-CLIP": ("tokens",), "B-SD+CLIP": ("f1", "f2", "f3", "tokens")}
PENALTIES = (0.001, 0.01, 0.1, 1.0)  # scikit-learn's C, the smaller the stronger
PRIOR, CHANCE = "class prior", "chance"
GALLERY = "all categories"
MOST_EPOCHS = 4  # with fewer shots an epoch is shorter: so many times as many are run at the most
BINS = 15
DEFINITIONS = {
    "Acc@1": "share of sketches whose category has the highest score, ties against it (micro)",
    "Acc@5": "share of sketches whose category is among the five highest scores, ties against it (micro)",
    "Acc@1 (class mean)": "mean over categories of the share of sketches with the highest score for their own",
    "calibration error": f"ECE: mean gap of confidence and accuracy in {BINS} equal bins, weighted by sketches",
    "calibration error (temperature)": f"ECE in {BINS} bins after temperature scaling chosen on validation sketches",
}


class SketchRecogniser(nn.Module):
    """logits = W * max-pooled sketch feature + b.

    Args:
        extractor: a FusedExtractor, or any module with `.pooled` (images or their prepared tensors -> (B, d)).
        categories: their names, two or more; their order is that of the logits.
        dim: channels of the extractor's map.

    Raises:
        ValueError: fewer than two categories, or one twice.
    """

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

    @property
    def categories(self) -> list[str]:
        return self.settings["categories"]

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
        batches = torch.arange(len(next(iter(prepared.values())))).split(32)
        pooled = torch.cat([self.extractor.pooled(take(prepared, some)) for some in batches])
        self.statistics.set(ChannelStatistics.moments(pooled[..., None, None]))


@dataclass
class PreparedSketches:
    """N sketches with everything frozen computed; `labels` (N,) are positions in `categories`."""

    prepared: Prepared
    labels: Tensor
    sketches: Sketches
    categories: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def few(self, number: int) -> "PreparedSketches":
        """`number` sketches a category, as `Sketches.few` chooses them."""
        kept = self.sketches.few(number)
        chosen = torch.tensor([k for k, item in enumerate(self.sketches.items) if item in set(kept.items)])
        return replace(self, prepared=take(self.prepared, chosen), labels=self.labels[chosen], sketches=kept)


def prepare_sketches(
    extractor: nn.Module, sketches: Sketches, categories: Sequence[str], size: int, **noise: Any
) -> PreparedSketches:
    """Read sketches at `size` px and compute everything frozen, once each; `categories` are all they can be taken for.

    Raises:
        ValueError: there is no sketch, or one of a category that is not among `categories`.
    """
    strange = sorted(set(sketches.categories) - set(categories))
    if strange or not len(sketches):
        what = f"sketches of {strange[0]!r}, which is not among the categories" if strange else "no sketch"
        raise ValueError(f"{sketches.name} gives {what}: choose parts that hold the same categories.")
    prepared = prepare_images(
        extractor, lambda some: sketches.images(some, size), len(sketches), "preparing sketches", **noise
    )
    labels = torch.tensor([list(categories).index(item.category) for item in sketches.items])
    return PreparedSketches(prepared, labels, sketches, tuple(categories))


@dataclass
class Scores:
    """What a trial predicted.

    Attributes:
        logits: (N, C) of the test sketches.
        temperature: by which logits are divided for calibrated probabilities; chosen on the validation sketches.
        features: (N, dim) standardised pooled features of the test sketches, None where none are learned.
    """

    logits: Tensor
    temperature: float = 1.0
    features: Tensor | None = None

    def probabilities(self, calibrated: bool = False) -> Tensor:
        """(N, C) float64, rows that sum to 1."""
        return (self.logits.double() / (self.temperature if calibrated else 1)).softmax(1)


class Recognition(Task):
    """All arms learn from the same sketches, so the spread over seeds is that of the training.

    Args:
        sketches: with their parts; categories without one of the parts are an error.
        epochs, learning_rate, batch_size: as in `fit`.
        shots: sketches a category to learn from; 0 takes all of the train part.
        limit: test sketches a category at most; 0 takes all.
        fewer: other numbers of shots, below `shots`, that fused, its halves and the probes learn from as well.

    Raises:
        ValueError: fewer than two categories, more shots than there are or fewer than none, likewise the limit, a
            category without a test sketch, or an image file that is learned from and tested with under two names.
    """

    name = "recognition"
    baselines = (*PROBES, PRIOR, CHANCE)
    unit = "test sketches"
    start = "random"  # validation log-loss of three heads that started so .40, from zero .55 (10 shots, 5 epochs)

    def __init__(
        self, sketches: Sketches, epochs: int, learning_rate: float, batch_size: int, shots: int = 10, limit: int = 0,
        fewer: Sequence[int] = (),
    ):  # fmt: skip
        parts = few_shot_parts(sketches, shots, limit)
        images = fingerprint(item for part in parts.values() for item in part.items)
        super().__init__(parts, sketches.name, sketches.split, images, epochs, learning_rate, batch_size)
        self.categories, self.shots, self.fewer = sketches.categories, shots, tuple(fewer)

    def read(self, extractor: nn.Module, part: Sketches, size: int, **noise: Any) -> PreparedSketches:
        return prepare_sketches(extractor, part, self.categories, size, **noise)

    def problems(self, method: str) -> tuple[str, ...]:
        return ("", *(f"{number} shots" for number in self.fewer)) if method in (*CORE, *PROBES) else ("",)

    def of_problem(self, frozen: Frozen, problem: str) -> Frozen:
        """The same test, fewer sketches to learn from and to choose by."""
        if not problem:
            return frozen
        shots = self.shots_of(problem)
        few = {"train": frozen["train"].few(shots), "validation": frozen["validation"].few(min(shots, VALIDATION))}
        return {**frozen, **few}

    def shots_of(self, problem: str) -> int:
        return int(problem.split()[0]) if problem else self.shots

    def epochs_of(self, frozen: Frozen) -> int:
        """With fewer sketches more epochs, for about as many steps."""
        return self.epochs * min(MOST_EPOCHS, round(len(self.parts["train"]) / len(frozen["train"])))

    def model(self, extractor: nn.Module, frozen: Frozen) -> SketchRecogniser:
        model, train = SketchRecogniser(extractor, self.categories, DIM), frozen["train"]
        some = torch.linspace(0, len(train) - 1, min(128, len(train))).round().long()
        model.fit_statistics(take(train.prepared, some, model.head.weight.device))
        return model

    def loss(self, model: SketchRecogniser, frozen: Frozen, indices: Tensor) -> Tensor:
        """Cross-entropy (paper, Sec. 6.2)."""
        train, device = frozen["train"], model.head.weight.device
        return F.cross_entropy(model(take(train.prepared, indices, device)), train.labels[indices].to(device))

    def validate(self, model: SketchRecogniser, frozen: Frozen) -> float:
        """Mean log-probability of the right category: of so few sketches, accuracy has too few steps to choose by."""
        features = pooled_sketches(model, frozen["validation"])
        return -F.cross_entropy(_logits(model, features), frozen["validation"].labels).item()

    def predict(self, model: SketchRecogniser, frozen: Frozen) -> Scores:
        validation, test = (pooled_sketches(model, frozen[part]) for part in ("validation", "test"))
        temperature = choose_temperature(_logits(model, validation), frozen["validation"].labels)
        return Scores(_logits(model, test), temperature, test)

    def untrained(self, method: str, seeds: Sequence[int], frozen: Frozen, plain: Plain) -> Iterator[Trial]:
        train, count = frozen["train"], len(frozen["test"])
        if method == PRIOR:  # never looks at a sketch; of equally many the first is ahead
            share = torch.bincount(train.labels, minlength=len(self.categories)).double() + 1e-3
            prior = share.log() - torch.arange(len(share), dtype=torch.float64) * 1e-9
        for seed in seeds[:1] if method in PROBES else seeds:
            for problem in self.problems(method):
                if method in PROBES:  # a linear probe has no seed: it is fitted to its one optimum
                    yield _probe(method, seed, problem, self.of_problem(plain()[1], problem))
                elif method == PRIOR:
                    yield Trial(method, seed, found=Scores(prior.expand(count, -1).clone()))
                else:
                    dice = torch.Generator().manual_seed(seed)
                    logits = torch.rand(count, len(self.categories), generator=dice, dtype=torch.float64) * 1e-6
                    yield Trial(method, seed, found=Scores(logits))

    def measure(self, trial: Trial, frozen: Frozen) -> Iterator[Measured]:
        """Everything in DEFINITIONS; of fewer shots Acc@1 alone."""
        labels, found = frozen["test"].labels.numpy(), trial.found
        right, shots = metrics.top_k_accuracy(found.logits, labels), self.shots_of(trial.problem)
        values = {
            "Acc@1": right,
            "Acc@5": metrics.top_k_accuracy(found.logits, labels, 5),
            "Acc@1 (class mean)": metrics.macro_mean(right, labels),
            "calibration error": metrics.calibration_error(found.probabilities(), labels, BINS),
            "calibration error (temperature)": metrics.calibration_error(found.probabilities(True), labels, BINS),
        }
        for metric in ("Acc@1",) if trial.problem else values:
            groups = np.arange(len(labels)) if metric == "Acc@1" and not trial.problem else None
            definition = f"{DEFINITIONS[metric]}{rule(shots)}"
            yield Measured(GALLERY, metric, definition, np.asarray(values[metric]), groups, len(labels))


def rule(shots: int) -> str:
    """How a definition ends that says from how much was learned."""
    return f"; {shots} shots a category" if shots else "; all training sketches"


@torch.no_grad()
def pooled_sketches(model: SketchRecogniser, data: PreparedSketches, batch_size: int = 64) -> Tensor:
    """The standardised pooled features (N, dim) on the CPU of all sketches; the model is put into eval mode."""
    model.eval()
    device = model.head.weight.device
    batches = torch.arange(len(data)).split(batch_size)
    return torch.cat([model.pooled(take(data.prepared, some, device)).cpu() for some in batches])


def _logits(model: SketchRecogniser, features: Tensor) -> Tensor:
    with torch.no_grad():
        return model.head(features.to(model.head.weight.device)).cpu()


def _probe(method: str, seed: int, problem: str, plain: Frozen) -> Trial:
    """A logistic regression on standardised features, its C the one with the best validation log-likelihood."""
    started = time.perf_counter()
    features = {
        part: torch.cat([data.prepared[name].amax((2, 3)).float() for name in PROBES[method]], dim=1).numpy()
        for part, data in plain.items()
    }
    labels, chosen = plain["validation"].labels, None
    best = -np.inf
    for penalty in PENALTIES:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=500))
        model.fit(features["train"], plain["train"].labels.numpy())
        found = model.predict_log_proba(features["validation"])[np.arange(len(labels)), labels].mean()
        best, chosen = (found, model) if found > best else (best, chosen)
    validation, test = (torch.from_numpy(chosen.predict_log_proba(features[p])).float() for p in ("validation", "test"))
    parameters = len(plain["train"].categories) * (features["train"].shape[1] + 1)
    scores = Scores(test, choose_temperature(validation, labels))
    return Trial(method, seed, problem, None, None, parameters, time.perf_counter() - started, found=scores)


def choose_temperature(logits: Tensor, labels: Tensor, candidates: Sequence[float] = TEMPERATURES) -> float:
    """The temperature at which softmax(logits / temperature) makes the right labels likeliest (Guo et al. 2017).

    Above 1 the model was too sure of itself. Give it the validation part, never the test part.
    """
    losses = [F.cross_entropy(logits.double() / temperature, labels).item() for temperature in candidates]
    return float(candidates[int(np.argmin(losses))])
