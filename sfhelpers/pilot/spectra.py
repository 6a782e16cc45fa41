"""Fourier spectra of feature maps, in cycles per image, so that maps of any grid share an axis (SketchFusion, Sec. 4).

Power is that of a Fourier series: at each frequency the squared magnitude of the mean over all positions, so that the
powers add up to the map's mean square, whatever the grid. A map of n positions a side holds n / 2 cycles per image.
"""

import math

import numpy as np
import torch
from torch import Tensor

from sfhelpers.pilot.pca import check_maps


def spectrum(maps: Tensor, window: bool = True, remove_mean: bool = True) -> np.ndarray:
    """Log10 magnitude, averaged over the channels before the logarithm.

    Args:
        maps: (B, C, h, w).
        window: fade out towards the edges by a Hann window. Fourier's picture repeats itself endlessly, and without
            it the jump from one edge to the other shows as a bright cross.
        remove_mean: take off every channel's mean, which says nothing about where things are and outshines all else.

    Returns:
        (B, h, w), the zero frequency at [h // 2, w // 2]. Where the mean was removed, nothing is left there, and it
        takes the lowest value of the rest, so that it does not stretch the colours.
    """
    magnitude = _fourier(maps, window, remove_mean).abs().mean(dim=1)
    height, width = maps.shape[2:]
    if remove_mean and height * width > 1:
        others = torch.ones(height, width, dtype=torch.bool)
        others[height // 2, width // 2] = False
        magnitude[:, height // 2, width // 2] = magnitude[:, others].amin(dim=1)
    return magnitude.clamp(min=1e-12).log10().numpy()


def power(maps: Tensor, window: bool = True, remove_mean: bool = True) -> np.ndarray:
    """Power, summed over the channels: (B, C, h, w) to (B, h, w), centred as in `spectrum`; arguments as there.

    The window is scaled so that the mean power of white noise is the same with it and without.
    """
    return _fourier(maps, window, remove_mean).abs().square().sum(dim=1).numpy()


def radial_profile(power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean power over all directions.

    Args:
        power: (B, h, w), centred.

    Returns:
        Frequencies (K,) 0, 1, ... in cycles per image up to the grid's limit, half its shorter side; and the mean
        power (B, K) of the frequencies that round to each.
    """
    if power.ndim != 3 or 0 in power.shape:
        raise ValueError(f"the power has the shape {power.shape}: pass (B, h, w) as power() gives it.")
    rings = np.round(_radius(*power.shape[1:])).astype(int)
    frequencies = np.arange(min(power.shape[1:]) // 2 + 1)
    means = [power[:, rings == k].mean(axis=1) for k in frequencies]
    return frequencies.astype(float), np.stack(means, axis=1)


def low_frequency_share(maps: Tensor, cut: float, limit: float = math.inf, window: bool = True) -> np.ndarray:
    """The share of the power at or below `cut` cycles per image, the channels' means apart.

    Args:
        maps: (B, C, h, w).
        cut: in cycles per image, above 0.
        limit: frequencies above it do not count at all. A coarse grid has no high frequencies to begin with, so give
            maps of different grids the same limit before you compare their shares.
        window: as in `spectrum`.

    Returns:
        (B,) from 0 to 1; NaN for a map that does not vary.
    """
    if not 0 < cut <= limit:
        raise ValueError(f"cut is {cut} and limit {limit} cycles per image: give a cut above 0 and no higher limit.")
    spread = power(maps, window, remove_mean=True)
    radius = _radius(*spread.shape[1:])
    low, whole = (spread[:, radius <= bound].sum(axis=1) for bound in (cut, limit))
    return np.divide(low, whole, out=np.full(len(low), np.nan), where=whole > 1e-20)


def band_pass(maps: Tensor, low: float, high: float) -> Tensor:
    """Keep what lies from `low` to `high` cycles per image, both included; the mean stays if `low` is 0.

    Args:
        maps: (B, C, h, w), taken to repeat itself at the edges, as Fourier's picture does.
        low, high: in cycles per image, 0 <= low <= high; `high` may be infinite.

    Returns:
        (B, C, h, w) float32.
    """
    check_maps(maps)
    if not 0 <= low <= high:
        raise ValueError(f"the band is {low} to {high} cycles per image: give 0 <= low <= high.")
    radius = torch.from_numpy(np.fft.ifftshift(_radius(*maps.shape[2:])))
    kept = torch.fft.fft2(maps.double()) * ((radius >= low) & (radius <= high))
    return torch.fft.ifft2(kept).real.float()


def coloured_noise(grid: int, exponent: float, channels: int = 256, seed: int = 0) -> Tensor:
    """Random maps (1, channels, grid, grid) to hold others against: their amplitude falls as 1 / f**exponent.

    0 is white noise, with as much of every frequency; 1 is the 1/f of natural photos (Field 1987).
    """
    generator = torch.Generator().manual_seed(seed)
    white = torch.fft.fft2(torch.randn(1, channels, grid, grid, generator=generator, dtype=torch.float64))
    radius = torch.from_numpy(np.fft.ifftshift(_radius(grid, grid)))
    radius[0, 0], white[..., 0, 0] = 1, 0  # no mean
    return torch.fft.ifft2(white / radius**exponent).real.float()


def _fourier(maps: Tensor, window: bool, remove_mean: bool) -> Tensor:
    """Centred complex Fourier coefficients (B, C, h, w)."""
    check_maps(maps)
    values = maps.detach().cpu().double()
    weights = _hann(*values.shape[2:]) if window else torch.ones(values.shape[2:], dtype=torch.float64)
    if remove_mean:  # the mean under the window, or a constant would leak into the frequencies beside zero
        values = values - (values * weights).sum(dim=(2, 3), keepdim=True) / weights.sum()
    weights = weights / weights.square().mean().sqrt()
    return torch.fft.fftshift(torch.fft.fft2(values * weights, norm="forward"), dim=(2, 3))


def _hann(height: int, width: int) -> Tensor:
    """A separable Hann window whose zeros lie half a position outside the map, so that no position is thrown away."""
    rows, columns = (torch.sin(math.pi * (torch.arange(n).double() + 0.5) / n).square() for n in (height, width))
    return rows[:, None] * columns


def _radius(height: int, width: int) -> np.ndarray:
    """(h, w) distance from the zero frequency, in cycles per image."""
    rows, columns = (np.arange(n) - n // 2 for n in (height, width))
    return np.hypot(rows[:, None], columns)
