"""The parts that learn: injection and aggregation (SketchFusion, Sec. 5.1, Fig. 2)."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfhelpers.backbones.inputs import repeat_draws


class ClipInjection(nn.Module):
    """Adds CLIP patch tokens to UNet blocks through 1-D convolutions: f_n + C_n(f_v) (SketchFusion, Sec. 5.1).

    `token_dim` and `block_dims` are channels, `kernel` how many tokens in a row, an odd number, a convolution looks at.
    `zero`: training sets out from the plain UNet; at PyTorch's random start the tokens drown its far smaller features.
    """

    def __init__(self, token_dim: int, block_dims: tuple[int, ...], zero: bool = True, kernel: int = 1):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(token_dim, dim, kernel, padding=kernel // 2) for dim in block_dims)
        if zero:
            for parameter in self.parameters():
                nn.init.zeros_(parameter)

    def forward(self, block: int, feature: Tensor, tokens: Tensor) -> Tensor:
        """Inject tokens (B, token_dim, H, W) into a block's output (B * draws, C, h, w), an image's draws in a row."""
        given = tokens.to(self.convs[block].weight.dtype)  # which may be finer than that of the frozen models
        injected = self.convs[block](given.flatten(2)).unflatten(2, tokens.shape[2:])
        # Not in place, since the UNet may hold the feature as a skip.
        return feature + _fitting(injected, feature).to(feature.dtype)


class TokenInterpolation(nn.Module):
    """Adds CLIP patch tokens to UNet blocks without learning, their channels interpolated linearly (Sec. 7, [iii])."""

    def __init__(self, scaled: bool):
        super().__init__()
        self.scaled = scaled  # to the spread of a block's output: tokens may be ten times as large; the paper is silent

    def forward(self, block: int, feature: Tensor, tokens: Tensor) -> Tensor:
        injected = _fitting(to_channels(tokens, feature.shape[1]), feature)
        if self.scaled:
            mine, theirs = (x.std(dim=(1, 2, 3), keepdim=True) for x in (injected, feature))
            injected = injected * (theirs / mine.clamp(min=1e-6))
        return feature + injected


class BottleneckBlock(nn.Module):
    """A ResNet bottleneck: 1-3-1 convolutions and a projected shortcut."""

    def __init__(self, in_dim: int, dim: int, width: int):
        super().__init__()
        first, middle = _convolution(in_dim, width, 1), _convolution(width, width, 3)
        self.body = nn.Sequential(*first, nn.ReLU(), *middle, nn.ReLU(), *_convolution(width, dim, 1))
        self.shortcut = nn.Sequential(*_convolution(in_dim, dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        # No last ReLU: maps are compared by their cosine, which wants both signs.
        return self.shortcut(x) + self.body(x)


class FeatureAggregator(nn.Module):
    """Sums maps of `dims` channels, brought to `dim` at side `grid`, by learned weights (SketchFusion, Sec. 5.1)."""

    def __init__(
        self, dims: tuple[int, ...], dim: int, width: int, grid: int, aggregate: bool = True, learn_weights: bool = True
    ):
        super().__init__()
        self.dim, self.grid = dim, grid
        self.blocks = nn.ModuleList(BottleneckBlock(branch, dim, width) for branch in dims if aggregate)
        self.branch_weights = nn.Parameter(torch.zeros(len(dims)), requires_grad=learn_weights)

    def forward(self, branches: list[Tensor]) -> Tensor:
        """One (B, C_n, h_n, w_n) a branch to (B, dim, grid, grid)."""
        weights = self.branch_weights.softmax(dim=0)
        blocks = self.blocks or [partial(to_channels, dim=self.dim)] * len(branches)
        resized = (to_grid(branch, (self.grid, self.grid)) for branch in branches)
        return sum(weight * block(x) for weight, block, x in zip(weights, blocks, resized, strict=True))


class ChannelStatistics(nn.Module):
    """Standardises channels by mean and spread, fitted once: they differ by orders of magnitude, so few would rule."""

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    @staticmethod
    def moments(x: Tensor) -> Tensor:
        """Count, sum and sum of squares a channel of (B, C, h, w), (3, C) float64; those of batches add up."""
        x = x.detach().cpu().double()
        total, squares = x.sum((0, 2, 3)), x.square().sum((0, 2, 3))
        return torch.stack([torch.full_like(total, x.numel() / x.shape[1]), total, squares])

    def set(self, moments: Tensor) -> None:
        """Fix mean and spread from summed `moments`; a channel that never varies keeps the spread 1."""
        mean, squares = moments[1:] / moments[0]
        std = (squares - mean.square()).clamp(min=0).sqrt()
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-6, std, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean[:, None, None]) / self.std[:, None, None]


def _convolution(in_dim: int, dim: int, size: int) -> tuple[nn.Module, nn.Module]:
    # One group, so that any width will do: the arms' parameter counts are matched through the width.
    return nn.Conv2d(in_dim, dim, size, padding=size // 2, bias=False), nn.GroupNorm(1, dim)


def to_grid(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) to (B, C, *size), bilinear."""
    return x if tuple(x.shape[2:]) == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def to_channels(x: Tensor, dim: int) -> Tensor:
    """(B, C, h, w) to (B, dim, h, w), interpolated linearly along the channels, as if their order meant something."""
    along = x.flatten(2).transpose(1, 2)
    return F.interpolate(along, size=dim, mode="linear", align_corners=False).transpose(1, 2).unflatten(2, x.shape[2:])


def _fitting(injected: Tensor, feature: Tensor) -> Tensor:
    """(B, C, H, W) at the side of (B * draws, C, h, w) and as often."""
    return repeat_draws(to_grid(injected, tuple(feature.shape[2:])), len(feature) // len(injected))
