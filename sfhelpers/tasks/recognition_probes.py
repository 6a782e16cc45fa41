"""The baselines of recognition that learn no features: linear probes of the frozen ones, the class prior, and chance.

B-SD, B-CLIP and B-SD+CLIP (paper, Sec. 6): what the backbones give as they are, max-pooled, under a logistic
regression.
"""

from collections.abc import Callable

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from sfhelpers.tasks.prepared import take
from sfhelpers.tasks.recognition import PreparedSketches

PROBES = {"B-SD": ("f1", "f2", "f3"), "B-CLIP": ("tokens",), "B-SD+CLIP": ("f1", "f2", "f3", "tokens")}
PRIOR, CHANCE = "class prior", "chance"
TRIVIAL = (PRIOR, CHANCE)
PENALTIES = (0.001, 0.01, 0.1, 1.0)  # scikit-learn's C, the smaller the stronger


@torch.no_grad()
def frozen_features(extractor: nn.Module, data: PreparedSketches, batch_size: int = 64) -> dict[str, np.ndarray]:
    """Source ("f1", ..., "tokens") -> (N, C), max-pooled features of the untouched backbones.

    Args:
        extractor: a FusedExtractor that injects nothing and reads f1, f2, f3 and tokens, or one with inject="up",
            whose UNet is run once more without the injection.
    """
    diffusion = extractor.backbone.diffusion
    device = diffusion.unet.conv_in.weight.device
    found: dict[str, list[Tensor]] = {}
    for some in torch.arange(len(data)).split(batch_size):
        features = take(data.prepared, some, device)
        if extractor.inject == "up":
            features |= dict(zip(PROBES["B-SD"], diffusion.suffix(features, until=3), strict=True))
        for name in PROBES["B-SD+CLIP"]:
            found.setdefault(name, []).append(features[name].amax((2, 3)).float().cpu())
    return {name: torch.cat(parts).numpy() for name, parts in found.items()}


def has_all(extractor: nn.Module) -> bool:
    """Whether `frozen_features` can be read off what this extractor prepares."""
    return extractor.inject == "up" or (extractor.inject == "none" and {*PROBES["B-SD+CLIP"]} <= {*extractor.sources})


def probe(
    train: np.ndarray, labels: np.ndarray, validation: np.ndarray, validation_labels: np.ndarray
) -> Callable[[np.ndarray], Tensor]:
    """A logistic regression on standardised features, its C the one with the best validation log-likelihood.

    Args:
        train, validation: (N, D) and (V, D).
        labels, validation_labels: positions of the categories; each category is in `labels`.

    Returns:
        From (M, D) features to (M, C) logits.
    """
    best, chosen = -np.inf, None
    for penalty in PENALTIES:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=500))
        model.fit(train, labels)
        found = model.predict_log_proba(validation)[np.arange(len(validation)), validation_labels].mean()
        if found > best:
            best, chosen = found, model
    return lambda features: torch.from_numpy(chosen.predict_log_proba(features)).float()


def prior_logits(labels: Tensor, number: int, count: int) -> Tensor:
    """(count, number): how often each category was trained on, the first of equals ahead; never looks at a sketch."""
    share = torch.bincount(labels, minlength=number).double() + 1e-3
    first = torch.arange(number, dtype=torch.float64) * 1e-9
    return (share.log() - first).expand(count, number).clone()


def chance_logits(number: int, count: int, seed: int) -> Tensor:
    """(count, number) equal but for random noise that breaks the ties."""
    return torch.rand(count, number, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 1e-6
