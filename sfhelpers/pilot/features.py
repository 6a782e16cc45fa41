"""What can be seen in feature maps (B, C, h, w): PCA maps and Fourier spectra, by frequencies in cycles per image."""

import math

import numpy as np
import torch
from torch import Tensor

BASES = ("image", "pair", "set")
ENDS = (0.01, 0.99)  # quantiles of the scores that become 0 and 255, so that few extremes do not rule the colours
CLEAR = 0.05  # an odd statistic nearer to zero than this does not decide a sign


def principal_components(maps: Tensor) -> tuple[Tensor, np.ndarray]:
    """Scores (B, 3, h, w), float32, of maps (B, C, h, w) on three components over all positions of all maps, and the
    components' shares (3,) of the variance, largest first; zeros where there is no third direction."""
    _check(maps)
    mean = maps.double().mean(dim=(0, 2, 3))
    centred = maps.flatten(2) - mean[:, None]  # in float64, as the mean is
    covariance = sum(rows @ rows.T for rows in centred) / (len(maps) * maps[0, 0].numel())
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1).T
    number = min(3, int((values > 1e-12 * values[0].clamp(min=1e-30)).sum()))
    components, shares = torch.zeros(3, len(mean), dtype=torch.float64), np.zeros(3)
    components[:number] = vectors[:number]
    shares[:number] = (values[:number] / values.sum()).numpy()
    scores = torch.stack([components @ rows for rows in centred]).unflatten(2, maps.shape[2:])
    signs = torch.stack([_sign(one) for one in scores.unbind(1)])
    return (scores * signs[:, None, None]).float(), shares


def pca_maps(pairs: Tensor, basis: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """PCA maps of sketch-photo pairs (N, 2, C, h, w); colours can be compared only where one basis was used.

    The basis is fitted on each "image" alone, on each "pair", or on the whole "set". Returns (N, 2, h, w, 3) uint8,
    grey where nothing varies, and the shares (3,) of the 2N (sketch and photo in turn), N or 1 bases.
    """
    if basis not in BASES:
        raise ValueError(f"there is no basis {basis!r}: choose from {', '.join(BASES)}.")
    if pairs.ndim != 5 or pairs.shape[1] != 2:
        raise ValueError(f"the pairs have the shape {tuple(pairs.shape)}: pass (N, 2, C, h, w), sketch and photo.")
    groups, colours, shares = pairs.flatten(0, 1).split({"image": 1, "pair": 2, "set": 2 * len(pairs)}[basis]), [], []
    for scores, explained in map(principal_components, groups):
        values = scores.double().permute(0, 2, 3, 1).numpy()
        low, high = np.quantile(values.reshape(-1, 3), ENDS, axis=0)
        colour = np.where(high > low, (values - low) / np.where(high > low, high - low, 1), 0.5)
        colours.append(np.round(255 * colour.clip(0, 1)).astype(np.uint8))
        shares.append(explained)
    return np.concatenate(colours).reshape(len(pairs), 2, *pairs.shape[3:], 3), shares


def spectrum(maps: Tensor) -> np.ndarray:
    """Log10 magnitude (B, h, w), averaged over the channels before the logarithm, zero frequency at [h // 2, w // 2].

    Maps are faded out towards their edges by a Hann window, else the jump from one edge to the other shows as a bright
    cross. Channels' means, which outshine all else, are taken off; zero frequency gets the lowest value of the rest.
    """
    magnitude = _fourier(maps).abs().mean(dim=1)
    zero = magnitude[:, maps.shape[2] // 2, maps.shape[3] // 2]
    zero[:] = torch.inf
    zero[:] = magnitude.amin(dim=(1, 2))
    return magnitude.clamp(min=1e-12).log10().numpy()


def power(maps: Tensor) -> np.ndarray:
    """Power (B, h, w), summed over the channels and centred, windowed and without means as in `spectrum`; the window
    leaves white noise its mean power."""
    return _fourier(maps).abs().square().sum(dim=1).numpy()


def radial_profile(power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (K,) 0, 1, ... up to half the shorter side, and the mean (B, K) of the power that rounds to each."""
    if power.ndim != 3 or 0 in power.shape:
        raise ValueError(f"the power has the shape {power.shape}: pass (B, h, w) as power() gives it.")
    rings = np.round(_radius(*power.shape[1:])).astype(int)
    frequencies = np.arange(min(power.shape[1:]) // 2 + 1)
    return frequencies.astype(float), np.stack([power[:, rings == k].mean(axis=1) for k in frequencies], axis=1)


def band_pass(maps: Tensor, low: float, high: float) -> Tensor:
    """What lies from `low` to `high` cycles per image, both included, of maps (B, C, h, w); the mean if `low` is 0."""
    _check(maps)
    radius = torch.from_numpy(np.fft.ifftshift(_radius(*maps.shape[2:])))
    kept = torch.fft.fft2(maps.double()) * ((radius >= low) & (radius <= high))
    return torch.fft.ifft2(kept).real.float()


def _check(maps: Tensor) -> None:
    if not isinstance(maps, Tensor) or maps.ndim != 4 or 0 in maps.shape:
        shape = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise ValueError(f"the feature maps are {shape}: pass a (B, C, h, w) tensor, a single map as map[None].")
    if not torch.isfinite(maps).all():
        raise ValueError("the feature maps hold values that are not finite: check the model that made them.")


def _sign(scores: Tensor) -> Tensor:
    """1 or -1, so that scores (B, h, w) lean to the right, or rise downwards, to the right or inwards: not by loadings,
    since those turn with the channel space."""
    scores = scores / scores.square().mean().sqrt().clamp(min=1e-300)
    down, right = (torch.linspace(-1, 1, size, dtype=torch.float64) for size in scores.shape[1:])
    inwards = -(down[:, None].square() + right.square())
    statistics = [scores.pow(3).mean(), *((scores * rise).mean() for rise in (down[:, None], right, inwards))]
    decided = next((s for s in statistics if s.abs() > CLEAR), max(statistics, key=abs))
    return torch.where(decided < 0, -1.0, 1.0).double()


def _fourier(maps: Tensor) -> Tensor:
    """Centred complex Fourier coefficients (B, C, h, w)."""
    _check(maps)
    values = maps.detach().cpu().double()
    # The window's zeros lie half a position outside the map, so that no position is thrown away.
    rows, columns = (torch.sin(math.pi * (torch.arange(n).double() + 0.5) / n).square() for n in values.shape[2:])
    weights = rows[:, None] * columns
    # The mean is taken under the window, or a constant would leak into the frequencies beside zero.
    values = values - (values * weights).sum(dim=(2, 3), keepdim=True) / weights.sum()
    weights = weights / weights.square().mean().sqrt()
    return torch.fft.fftshift(torch.fft.fft2(values * weights, norm="forward"), dim=(2, 3))


def _radius(height: int, width: int) -> np.ndarray:
    """(h, w) distance from the zero frequency, in cycles per image."""
    return np.hypot(np.arange(height)[:, None] - height // 2, np.arange(width) - width // 2)
