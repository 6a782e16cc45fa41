"""Sketch recognition (paper, Sec. 6.2): say which of the known categories a sketch shows.

The sketch's max-pooled feature through one linear layer, trained with cross-entropy; its baselines, linear probes of
frozen features; and a temperature that makes the probabilities mean what they say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from sfhelpers.datasets.sketches import Sketches
from sfhelpers.fusion.modules import ChannelStatistics
from sfhelpers.tasks.arms import DIM
from sfhelpers.tasks.fit import History, fit
from sfhelpers.tasks.prepared import Prepared, take

TEMPERATURES = tuple(np.geomspace(0.1, 10, 81).tolist())


class SketchRecogniser(nn.Module):
    """logits = W * max-pooled sketch feature + b.

    Args:
        extractor: a FusedExtractor, or any module with `.pooled` (images or their prepared tensors -> (B, d)).
        categories: their names, two or more; their order is that of the logits.
        dim: channels of the extractor's map.

    Attributes:
        settings: the arguments beside the extractor, as JSON can hold them.

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
        pooled = torch.cat(
            [
                self.extractor.pooled(take(prepared, some))
                for some in torch.arange(len(next(iter(prepared.values())))).split(32)
            ]
        )
        self.statistics.set(ChannelStatistics.moments(pooled[..., None, None]))


@dataclass
class PreparedSketches:
    """Sketches with everything frozen computed.

    Attributes:
        prepared: what `extractor.prepare` gave, first dimension one entry a sketch, on the CPU.
        labels: (N,) int64, positions in `categories`.
        sketches: the sketches themselves, in the same order.
        categories: all that a sketch can be taken for.
    """

    prepared: Prepared
    labels: Tensor
    sketches: Sketches
    categories: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def few(self, number: int) -> list[int]:
        """Positions of `number` sketches a category, as `Sketches.few` chooses them."""
        kept = set(self.sketches.few(number).items)
        return [k for k, item in enumerate(self.sketches.items) if item in kept]

    def at(self, which: Sequence[int]) -> "PreparedSketches":
        """Those at some positions."""
        chosen = torch.as_tensor(np.asarray(which), dtype=torch.int64)
        items = tuple(self.sketches.items[k] for k in chosen)
        return replace(
            self, prepared=take(self.prepared, chosen), labels=self.labels[chosen],
            sketches=replace(self.sketches, items=items),
        )  # fmt: skip


def check_categories(categories: Sequence[str]) -> None:
    """ValueError, one sentence, unless there are two categories or more and none twice."""
    if len(categories) < 2:
        named = ", ".join(categories) or "none"
        raise ValueError(f"there is nothing to tell apart with {len(categories)} category ({named}): give two or more.")
    if len(set(categories)) < len(categories):
        twice = next(name for name in categories if list(categories).count(name) > 1)
        raise ValueError(f"the category {twice!r} is named twice: name each once.")


def choose_shots(sketches: Sketches, shots: int, categories: Sequence[str]) -> Sketches:
    """`shots` sketches of each category, fewer always among more.

    Args:
        sketches: of the train part.
        shots: 0 takes all, of however many each category has.
        categories: that each must have so many, and at least one.

    Raises:
        ValueError: a category has fewer sketches than that.
    """
    counts = {name: len(sketches.select(categories=[name])) for name in categories}
    short = {name: count for name, count in counts.items() if count < max(shots, 1)}
    if short:
        name, count = min(short.items(), key=lambda entry: entry[1])
        raise ValueError(
            f"{shots or 'all'} shots a category are asked for, but {len(short)} of {len(counts)} categories have fewer "
            f"sketches to train on ({name!r} has {count}): ask for fewer shots, or split by numbers, as in 20/5."
        )
    return sketches.few(shots)


def prepare_sketches(
    extractor: nn.Module,
    sketches: Sketches,
    categories: Sequence[str],
    size: int,
    batch_size: int = 32,
    **noise: Any,
) -> PreparedSketches:
    """Read sketches and compute everything frozen, once each; pictures are in memory a batch at a time.

    Args:
        extractor: has `.prepare(images, batch_size=...)`.
        categories: all that a sketch can be taken for.
        size: side in px at which the sketches are read.
        batch_size: images at a time.
        noise: draws, noise_seed, timestep, prompt: passed on to `extractor.prepare`.

    Raises:
        ValueError: there is no sketch, or one of a category that is not among `categories`.
    """
    strange = sorted(set(sketches.categories) - set(categories))
    if strange or not len(sketches):
        what = f"sketches of {strange[0]!r}, which is not among the categories" if strange else "no sketch"
        raise ValueError(f"{sketches.name} gives {what}: choose parts that hold the same categories.")
    prepared: Prepared = {}
    for start in tqdm(range(0, len(sketches), batch_size), "preparing sketches", leave=False):
        images = sketches.images(range(start, min(start + batch_size, len(sketches))), size)
        for name, tensor in extractor.prepare(images, batch_size=batch_size, **noise).items():
            if start == 0:
                prepared[name] = torch.empty(len(sketches), *tensor.shape[1:], dtype=tensor.dtype)
            prepared[name][start : start + len(images)] = tensor.detach().cpu()
    labels = torch.tensor([list(categories).index(item.category) for item in sketches.items])
    return PreparedSketches(prepared, labels, sketches, tuple(categories))


def train_recogniser(
    model: SketchRecogniser,
    train: PreparedSketches,
    validation: PreparedSketches,
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
    """Train with cross-entropy (paper, Sec. 6.2).

    The extractor's standardisation is first fixed on training sketches. The best epoch is the one with the highest
    mean log-probability of the right category on the validation sketches: of so few sketches, accuracy has too few
    steps to choose by. Arguments and errors beyond these as in `fit`.
    """
    device = model.head.weight.device
    some = torch.linspace(0, len(train) - 1, min(128, len(train))).round().long()
    model.fit_statistics(take(train.prepared, some, device))

    def loss(model: SketchRecogniser, indices: Tensor) -> Tensor:
        return F.cross_entropy(model(take(train.prepared, indices, device)), train.labels[indices].to(device))

    def validate(model: SketchRecogniser) -> float:
        return -F.cross_entropy(predict_sketches(model, validation), validation.labels).item()

    return fit(
        model, loss, len(train), validate, epochs, learning_rate, batch_size, seed, weight_decay, patience, progress,
        checkpoint, {**(configuration or {}), "model": model.settings},
    )  # fmt: skip


@torch.no_grad()
def predict(model: SketchRecogniser, sketch: Tensor | Prepared) -> Tensor:
    """Probabilities (B, C) on the CPU, rows that sum to 1, of one batch; the model is put into eval mode."""
    model.eval()
    return model(sketch).softmax(1).cpu()


@torch.no_grad()
def pooled_sketches(model: SketchRecogniser, data: PreparedSketches, batch_size: int = 64) -> Tensor:
    """The standardised pooled features (N, dim) on the CPU of all sketches; the model is put into eval mode."""
    model.eval()
    device = model.head.weight.device
    batches = torch.arange(len(data)).split(batch_size)
    return torch.cat([model.pooled(take(data.prepared, some, device)).cpu() for some in batches])


@torch.no_grad()
def predict_sketches(model: SketchRecogniser, data: PreparedSketches) -> Tensor:
    """Logits (N, C) on the CPU of all sketches; the model is put into eval mode."""
    return model.head(pooled_sketches(model, data).to(model.head.weight.device)).cpu()


def choose_temperature(logits: Tensor, labels: Tensor, candidates: Sequence[float] = TEMPERATURES) -> float:
    """The temperature at which softmax(logits / temperature) makes the right labels likeliest (Guo et al. 2017).

    Above 1 the model was too sure of itself. Give it the validation part, never the test part.
    """
    losses = [F.cross_entropy(logits.double() / temperature, labels).item() for temperature in candidates]
    return float(candidates[int(np.argmin(losses))])
