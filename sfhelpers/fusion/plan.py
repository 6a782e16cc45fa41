"""What a fused extractor is made of, checked before anything is allocated."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from sfhelpers.backbones import Backbone
from sfhelpers.fusion.modules import ChannelStatistics, ClipInjection, FeatureAggregator, TokenInterpolation
from sfhelpers.params.table import INJECT

MATCH = ("convolution", "interpolation", "scaled interpolation")  # of channels: learned, linear, to a block's spread
START = ("zero", "random")  # of what learns: as the plain UNet; or as PyTorch and the released code do
UNET_BRANCHES = ("f1", "f2", "f3", "f4")


@dataclass
class Plan:
    """The settings of a `FusedExtractor`, which explains the first five, and what follows from them."""

    inject: str
    branches: tuple[str, ...]
    dim: int
    width: int
    grid: int = 1
    inject_into: tuple[str, ...] = ()  # up-blocks whose output gets the tokens, e.g. ("f2",); () is all that are run
    match: str = "convolution"  # of MATCH
    kernel: int = 1  # of the 1-D convolutions, odd; tokens are read row by row, so a neighbour may be a row's end
    aggregate: bool = True  # False: no ResNet blocks, each branch is interpolated to (dim, grid, grid), channels too
    learn_weights: bool = True  # False keeps the branch weights equal
    start: str = "zero"  # of START
    zeroed: bool = False  # True: all UNet features are set to zero, which leaves late injection the tokens alone

    def __post_init__(self) -> None:
        for name, choices in (("inject", INJECT), ("match", MATCH), ("start", START)):
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"unknown {name} {value!r}: use {', '.join(choices[:-1])} or {choices[-1]}.")
        known = (*UNET_BRANCHES, "tokens")
        self.sources = tuple(dict.fromkeys("+".join(self.branches).split("+")))  # the features that branches name
        if wrong := [name for name in self.sources if name not in known]:
            said = ", ".join(wrong) or self.branches
            raise ValueError(f"unknown branch {said!r}: use {', '.join(known)}, or sums such as f1+f2.")
        if self.inject != "none" and self.sources == ("tokens",):
            raise ValueError(f'inject="{self.inject}" has no UNet branch to inject into: add f1, f2 or f3.')
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}: give an odd number, so that every token keeps its place.")
        if self.match != "convolution" and (self.kernel != 1 or self.inject == "random"):
            raise ValueError(f'match="{self.match}" has no convolutions: leave out kernel and inject="random".')
        if self.zeroed and (self.inject, self.start) != ("late", "random"):  # from zero nothing would get a gradient
            raise ValueError('zeroed features need inject="late" and start="random": pass both, or leave zeroed out.')
        if self.inject == "none" and (self.inject_into or self.match != "convolution" or self.kernel != 1):
            raise ValueError('inject="none" injects nothing: leave out inject_into, match and kernel.')
        used = [n for n, name in enumerate(UNET_BRANCHES) if name in self.sources]
        self.until = max(used, default=-1) + 1  # how many up-blocks are run
        # All of them may be injected into, or, afterwards, those whose output is used.
        may = {UNET_BRANCHES[n]: n for n in (used if self.inject == "late" else range(self.until))}
        if wrong := [name for name in self.inject_into if name not in may]:
            raise ValueError(f"inject_into names {', '.join(wrong)}: choose from {', '.join(may)}.")
        chosen = self.inject_into or may if self.inject != "none" else ()
        self.injected = tuple(n for name, n in may.items() if name in chosen)  # up-blocks, counted from 0

    def modules(self, backbone: Backbone) -> dict[str, nn.Module]:
        token_dim, block_dims = backbone.vision.token_dim, backbone.diffusion.block_dims
        dims = dict(zip(UNET_BRANCHES, block_dims, strict=True), tokens=token_dim)
        branch_dims = tuple(sum(dims[name] for name in branch.split("+")) for branch in self.branches)
        aggregator = FeatureAggregator(branch_dims, self.dim, self.width, self.grid, self.aggregate, self.learn_weights)
        statistics = nn.ModuleDict({name: ChannelStatistics(dims[name]) for name in self.sources})
        parts: dict[str, nn.Module] = {"statistics": statistics, "aggregator": aggregator}
        injected = {"injection": [block_dims[n] for n in self.injected], "injection_down": backbone.diffusion.down_dims}
        learned = self.inject != "random"
        for name in {"none": (), "up+down": injected}.get(self.inject, ("injection",)):
            if self.match == "convolution":
                zero = learned and self.start == "zero"
                parts[name] = ClipInjection(token_dim, injected[name], zero, self.kernel).requires_grad_(learned)
            else:
                parts[name] = TokenInterpolation(scaled=self.match.startswith("scaled"))
        return parts


def trainable_parameters(backbone: Backbone, branches: tuple[str, ...], inject: str, dim: int, width: int) -> int:
    """How many parameters such a `FusedExtractor` learns, without allocating any."""
    with torch.device("meta"):
        parts = Plan(inject, tuple(branches), dim, width).modules(backbone)
    return sum(p.numel() for part in parts.values() for p in part.parameters() if p.requires_grad)


def matched_width(backbone: Backbone, branches: tuple[str, ...], inject: str, dim: int, target_parameters: int) -> int:
    """The width at which an arm learns about `target_parameters`; ValueError when even width 1 has more."""
    count = cache(lambda width: trainable_parameters(backbone, branches, inject, dim, width))
    if count(1) > target_parameters:
        raise ValueError(f"{target_parameters} parameters are too few for branches {branches}: raise the target.")
    wider = bisect_right(range(2**16), target_parameters, lo=1, key=count)  # the first that has more
    return min(wider - 1, wider, key=lambda width: abs(count(width) - target_parameters))
