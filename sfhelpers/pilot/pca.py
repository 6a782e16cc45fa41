"""PCA maps: the first three principal components of a feature map as red, green and blue (SketchFusion, Fig. 1)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BASES = ("image", "pair", "set")
ENDS = (0.01, 0.99)  # quantiles of the scores that become 0 and 255, so that few extremes do not rule the colours
CLEAR = 0.05  # an odd statistic nearer to zero than this does not decide a sign


@dataclass(frozen=True)
class PCA:
    """Three principal components of features with C channels.

    Attributes:
        mean: (C,), taken off before projecting.
        components: (3, C), unit length, largest variance first; a row of zeros where there is no third direction.
        explained: (3,), their shares of the total variance; zeros where nothing varies.
        low, high: (3,), the scores that become 0 and 255.
    """

    mean: np.ndarray
    components: np.ndarray
    explained: np.ndarray
    low: np.ndarray
    high: np.ndarray


def fit_pca(maps: Tensor) -> PCA:
    """Principal components over all positions of all maps (B, C, h, w).

    A component's sign is arbitrary. It is fixed by what its scores look like and not by its loadings, so that the
    result is the same under any rotation of the channel space: the scores lean to the right (positive third moment);
    where they lean to neither side, they rise downwards, else to the right, else towards the centre of the image.
    Components of equal variance can be mixed freely, and no rule makes them stable.

    Raises:
        ValueError: not a (B, C, h, w) tensor, or values that are not finite.
    """
    check_maps(maps)
    mean = maps.double().mean(dim=(0, 2, 3))
    covariance = sum(_outer(_centred(part, mean)) for part in maps) / (len(maps) * maps[0, 0].numel())
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1).T
    number = min(3, int((values > 1e-12 * values[0].clamp(min=1e-30)).sum()))
    components = torch.zeros(3, len(mean), dtype=torch.float64)
    components[:number] = vectors[:number]
    scores = torch.stack([(components @ _centred(part, mean)).unflatten(1, part.shape[1:]) for part in maps])
    signs = torch.tensor([_sign(scores[:, k]) for k in range(3)], dtype=torch.float64)
    flat = (scores * signs[:, None, None]).transpose(0, 1).flatten(1).numpy()
    low, high = np.quantile(flat, ENDS, axis=1)
    explained = np.zeros(3)
    explained[:number] = (values[:number] / values.sum()).numpy()
    return PCA(mean.numpy(), (components * signs[:, None]).numpy(), explained, low, high)


def project(pca: PCA, maps: Tensor) -> Tensor:
    """Scores (B, 3, h, w), float32, of maps (B, C, h, w)."""
    check_maps(maps)
    if maps.shape[1] != len(pca.mean):
        raise ValueError(f"the maps have {maps.shape[1]} channels but the PCA {len(pca.mean)}: fit it on such maps.")
    mean, components = torch.from_numpy(pca.mean), torch.from_numpy(pca.components)
    return torch.stack([(components @ _centred(part, mean)).unflatten(1, part.shape[1:]) for part in maps]).float()


def pca_maps(pairs: Tensor, basis: str) -> tuple[np.ndarray, list[PCA]]:
    """PCA maps of sketch-photo pairs; colours can be compared only where one basis was used.

    Args:
        pairs: (N, 2, C, h, w), sketch and photo.
        basis: fitted on each "image" alone, on each "pair", or on the whole "set".

    Returns:
        (N, 2, h, w, 3) uint8, and the 2N (sketch and photo in turn), N or 1 bases.
    """
    if basis not in BASES:
        raise ValueError(f"there is no basis {basis!r}: choose from {', '.join(BASES)}.")
    if pairs.ndim != 5 or pairs.shape[1] != 2:
        raise ValueError(f"the pairs have the shape {tuple(pairs.shape)}: pass (N, 2, C, h, w), sketch and photo.")
    flat = pairs.flatten(0, 1)
    groups = flat.split({"image": 1, "pair": 2, "set": len(flat)}[basis])
    bases = [fit_pca(group) for group in groups]
    colours = [_colours(pca, group) for pca, group in zip(bases, groups, strict=True)]
    return np.concatenate(colours).reshape(len(pairs), 2, *pairs.shape[3:], 3), bases


def check_maps(maps: Tensor) -> None:
    """Raise a ValueError of one sentence unless `maps` is a finite (B, C, h, w) tensor that is not empty."""
    if not isinstance(maps, Tensor) or maps.ndim != 4 or 0 in maps.shape:
        shape = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise ValueError(f"the feature maps are {shape}: pass a (B, C, h, w) tensor, a single map as map[None].")
    if not torch.isfinite(maps).all():
        raise ValueError("the feature maps hold values that are not finite: check the model that made them.")


def _centred(part: Tensor, mean: Tensor) -> Tensor:
    """(C, h, w) to (C, h * w), float64, an image at a time so that a large set is never held twice."""
    return part.flatten(1).double() - mean[:, None]


def _outer(rows: Tensor) -> Tensor:
    return rows @ rows.T


def _sign(scores: Tensor) -> float:
    """1 or -1 for a component's scores (B, h, w); see `fit_pca`."""
    spread = scores.square().mean().sqrt()
    if spread == 0:
        return 1.0
    scores = scores / spread
    height, width = scores.shape[1:]
    down = torch.linspace(-1, 1, height, dtype=torch.float64)[:, None].expand(height, width)
    right = torch.linspace(-1, 1, width, dtype=torch.float64).expand(height, width)
    inwards = -(down.square() + right.square())
    statistics = [scores.pow(3).mean(), *((scores * rise).mean() for rise in (down, right, inwards))]
    decided = next((s for s in statistics if s.abs() > CLEAR), max(statistics, key=abs))
    return -1.0 if decided < 0 else 1.0


def _colours(pca: PCA, maps: Tensor) -> np.ndarray:
    """(B, h, w, 3) uint8; a component that never varies is grey."""
    scores = project(pca, maps).double().permute(0, 2, 3, 1).numpy()
    spread = pca.high - pca.low
    share = np.where(spread > 0, (scores - pca.low) / np.where(spread > 0, spread, 1), 0.5)
    return np.round(255 * share.clip(0, 1)).astype(np.uint8)
