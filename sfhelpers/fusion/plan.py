"""What a fused extractor is made of, checked before anything is allocated."""

from dataclasses import dataclass

import torch
from torch import nn

from sfhelpers.backbones import Backbone
from sfhelpers.fusion.modules import ChannelStatistics, ClipInjection, FeatureAggregator, TokenInterpolation

INJECT = ("up", "up+down", "none", "late", "random")
MATCH = ("convolution", "interpolation", "scaled interpolation")
START = ("zero", "random")
UNET_BRANCHES = ("f1", "f2", "f3", "f4")


@dataclass(frozen=True)
class Plan:
    """The settings of a `FusedExtractor`, which explains the first ones, and what follows from them.

    Args:
        inject_into: up-blocks whose output gets the tokens, e.g. ("f2",); () is all that are run.
        match: how the tokens' channels become a block's: "convolution" learns it; "interpolation" is linear along the
            channels and learns nothing, the tokens added as large as they are; "scaled interpolation" first brings
            them to the spread of the block's output, image by image.
        kernel: of the 1-D convolutions, odd; the tokens are read row by row, so a neighbour may be a row's end.
        aggregate: False does without the ResNet blocks: every branch is interpolated linearly to (dim, grid, grid),
            along its channels as over the positions, and learns nothing but its weight.
        learn_weights: False keeps the branch weights equal.
        start: of the convolutions that are learned: "zero", the plain UNet, which the tokens enter as far as they help;
            or "random", as PyTorch has it and the released code, where the tokens rule from the first step on.
    """

    inject: str
    branches: tuple[str, ...]
    dim: int
    width: int
    grid: int = 1
    inject_into: tuple[str, ...] = ()
    match: str = "convolution"
    kernel: int = 1
    aggregate: bool = True
    learn_weights: bool = True
    start: str = "zero"

    def __post_init__(self) -> None:
        if self.inject not in INJECT:
            raise ValueError(f"unknown inject {self.inject!r}: use one of {', '.join(INJECT)}.")
        known = (*UNET_BRANCHES, "tokens")
        wrong = [name for name in self.sources if name not in known]
        if wrong or not self.sources:
            raise ValueError(
                f"unknown branch {', '.join(wrong) or self.branches!r}: use {', '.join(known)}, or sums such as f1+f2."
            )
        if self.inject != "none" and self.sources == ("tokens",):
            raise ValueError(
                f'inject="{self.inject}" has no UNet branch to inject into: add f1, f2 or f3, or use inject="none".'
            )
        if self.match not in MATCH:
            raise ValueError(f"unknown match {self.match!r}: use one of {', '.join(MATCH)}.")
        if self.start not in START:
            raise ValueError(f"unknown start {self.start!r}: use {' or '.join(START)}.")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}: give an odd number, so that every token keeps its place.")
        if self.match != "convolution" and (self.kernel != 1 or self.inject == "random"):
            raise ValueError(
                f'match="{self.match}" has no convolutions: leave out kernel and inject="random", which are about them.'
            )
        if self.inject == "none" and (self.inject_into or self.match != "convolution" or self.kernel != 1):
            raise ValueError('inject="none" injects nothing: leave out inject_into, match and kernel.')
        open_to = [UNET_BRANCHES[n] for n in self._may_be_injected]
        if wrong := [name for name in self.inject_into if name not in open_to]:
            raise ValueError(f"inject_into names {', '.join(wrong)}: choose from {', '.join(open_to)}.")

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for branch in self.branches for name in branch.split("+")))

    @property
    def until(self) -> int:
        return max((n + 1 for n, name in enumerate(UNET_BRANCHES) if name in self.sources), default=0)

    @property
    def _may_be_injected(self) -> tuple[int, ...]:
        """All up-blocks that are run, or, afterwards, only those whose output is used."""
        used = tuple(n for n, name in enumerate(UNET_BRANCHES) if name in self.sources)
        return used if self.inject == "late" else tuple(range(self.until))

    @property
    def injected(self) -> tuple[int, ...]:
        chosen = self.inject_into or UNET_BRANCHES if self.inject != "none" else ()
        return tuple(n for n in self._may_be_injected if UNET_BRANCHES[n] in chosen)

    def modules(self, backbone: Backbone) -> dict[str, nn.Module]:
        token_dim, block_dims = backbone.vision.token_dim, backbone.diffusion.block_dims
        dims = dict(zip(UNET_BRANCHES, block_dims, strict=True), tokens=token_dim)
        branch_dims = tuple(sum(dims[name] for name in branch.split("+")) for branch in self.branches)
        aggregator = FeatureAggregator(branch_dims, self.dim, self.width, self.grid, self.aggregate, self.learn_weights)
        parts: dict[str, nn.Module] = {
            "statistics": nn.ModuleDict({name: ChannelStatistics(dims[name]) for name in self.sources}),
            "aggregator": aggregator,
        }
        if self.inject != "none":
            parts["injection"] = self._injection(token_dim, tuple(block_dims[n] for n in self.injected))
        if self.inject == "up+down":
            parts["injection_down"] = self._injection(token_dim, backbone.diffusion.down_dims)
        return parts

    def _injection(self, token_dim: int, block_dims: tuple[int, ...]) -> nn.Module:
        if self.match != "convolution":
            return TokenInterpolation(scaled=self.match.startswith("scaled"))
        fixed = self.inject == "random"
        zero = self.start == "zero" and not fixed
        return ClipInjection(token_dim, block_dims, zero, self.kernel).requires_grad_(not fixed)


def trainable_parameters(backbone: Backbone, branches: tuple[str, ...], inject: str, dim: int, width: int) -> int:
    """How many parameters such a `FusedExtractor` learns, without allocating any."""
    backbone.vision.token_dim  # noqa: B018  reading it runs the model, which the meta device would keep from running
    with torch.device("meta"):
        parts = Plan(inject, tuple(branches), dim, width).modules(backbone)
    return sum(p.numel() for part in parts.values() for p in part.parameters() if p.requires_grad)


def matched_width(backbone: Backbone, branches: tuple[str, ...], inject: str, dim: int, target_parameters: int) -> int:
    """The width at which an arm learns about `target_parameters`, so that arms differ in what they see, not in size.

    Raises:
        ValueError: when even width 1 has more parameters.
    """

    def excess(width: int) -> int:
        return trainable_parameters(backbone, branches, inject, dim, width) - target_parameters

    if excess(1) > 0:
        raise ValueError(f"{target_parameters} parameters are too few for branches {branches}: raise the target.")
    low, high = 1, 2
    while excess(high) <= 0:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if excess(middle) <= 0 else (low, middle)
    return low if -excess(low) <= excess(high) else high
