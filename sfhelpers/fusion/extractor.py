"""From images to one fused feature map, with every arm of the comparison as an argument."""

from bisect import bisect_right
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from sfhelpers.backbones import Backbone, check_images
from sfhelpers.fusion.modules import ChannelStatistics, ClipInjection, FeatureAggregator, TokenInterpolation, to_grid
from sfhelpers.params.table import INJECT

MATCH = ("convolution", "interpolation", "scaled interpolation")  # of channels: learned, linear, to a block's spread
START = ("zero", "random")  # of what learns: as the plain UNet; or as PyTorch and the released code do
UNET_BRANCHES = ("f1", "f2", "f3", "f4")
ARMS: dict[str, dict[str, Any]] = {  # what FusedExtractor is given for each method of the tables
    "fused": {"inject": "up"},
    "fused (fixed random injection)": {"inject": "random"},
    "late fusion": {"inject": "late"},
    "SD only": {"inject": "none"},
    "CLIP only": {"inject": "none", "branches": ("tokens",)},
    "SD+CLIP concatenated": {"inject": "none", "branches": ("f1+f2+f3+tokens",)},
}


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


class FusedExtractor(nn.Module):
    """Images to a (B, dim, grid, grid) map from frozen backbones, by what little is learned (SketchFusion, Sec. 5.1).

    The backbone, from `load_backbone`, is not part of `parameters()` or `state_dict()`.

    Args:
        dim, grid: channels and side of the map (60 x 60 in the paper, 24 x 24 with pocket).
        inject: "up" adds the tokens to every up-block's output that is used (the paper); "up+down" to the down-blocks'
            as well; "random" is "up" with convolutions that stay at their random start (what the released code does);
            "late" adds them after the UNet, without feedback; "none" does without.
        branches: what is aggregated, each "f1" to "f4", "tokens", or several joined by "+", which are concatenated.
        width, seed: channels inside the ResNet blocks; of what is initialised here, and of the noise of the images.
        changes: as in the ablations of Sec. 7, all explained in `Plan`; ValueError where they cannot be.
    """

    def __init__(
        self,
        backbone: Backbone,
        dim: int = 64,
        grid: int = 24,
        inject: str = "up",
        branches: tuple[str, ...] = ("f1", "f2", "f3"),
        width: int = 32,
        seed: int = 0,
        **changes: Any,
    ):
        super().__init__()
        plan = Plan(inject, tuple(branches), dim, width, grid, **changes)
        self.backbone, self.seed = backbone, seed
        self.inject, self.branches, self.start, self.zeroed = inject, plan.branches, plan.start, plan.zeroed
        self.sources, self.injected, self.until = plan.sources, plan.injected, plan.until
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for name, part in plan.modules(backbone).items():
                self.add_module(name, part)
        like = backbone.diffusion.unet.conv_in.weight
        self.to(like.device, learned_type(like))

    @torch.no_grad()
    def frozen(self, images: Tensor, latents: bool = False, **noise: Any) -> dict[str, Tensor]:
        """All that is frozen for this arm of (B, 3, H, W) in [0, 1], batch first; `noise` is of `noised`.

        `latents` of inject="up" leaves the UNet's frozen part to `features`: less to keep (1.2 for 6.1 MB an image of
        SD 2.1 in half precision), more to compute.
        """
        diffusion, found, noise = self.backbone.diffusion, {}, {"seed": self.seed, **noise}
        if self.inject != "none" or "tokens" in self.sources:
            found["tokens"] = self.backbone.vision.tokens(images)
        if self.inject == "up" and not latents:
            return found | diffusion.prefix(images, **noise, until=self.until)
        if self.inject in ("up", "up+down"):  # where the first injection follows down-block 1, hardly more is frozen
            return found | diffusion.noised(images, **noise)
        if self.until:
            inject = partial(self.add_tokens, found["tokens"]) if self.inject == "random" else None
            found |= _named(diffusion.through_hooks(diffusion.noised(images, **noise), inject, until=self.until))
        wanted = (*self.sources, "tokens") if self.inject == "late" else self.sources
        return {name: feature for name, feature in found.items() if name in wanted}

    def prepare(self, images: Tensor, batch_size: int = 0, **noise: Any) -> dict[str, Tensor]:
        """What `frozen` gives of any number of images, `batch_size` (0: the backbone's) at a time, on their device."""
        check_images(images)
        chunks = tqdm(images.split(batch_size or self.backbone.at_once), desc="frozen features", leave=False, delay=1)
        parts = [{k: v.to(images.device) for k, v in self.frozen(chunk, **noise).items()} for chunk in chunks]
        return {key: torch.cat([part.pop(key) for part in parts]) for key in list(parts[0])}

    def features(self, prepared: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sources that the branches name, "f1" to "tokens", with what was to be injected: (B, C, h, w) each."""
        asked = {"up": {"hidden", "noisy"}, "up+down": {"noisy"}}.get(self.inject, {self.sources[0]})
        if not asked & prepared.keys():
            raise ValueError(f'the tensors were not prepared for inject="{self.inject}": use its own prepare().')
        found, diffusion = self._moved(prepared), self.backbone.diffusion
        if self.zeroed:
            found |= {name: torch.zeros_like(found[name]) for name in self.sources if name != "tokens"}
        add = partial(self.add_tokens, found.get("tokens"))
        if self.inject == "up":
            run = diffusion.suffix if "hidden" in found else diffusion.through_hooks
            found |= _named(run(found, add, until=self.until))
        elif self.inject == "up+down":
            add_down = partial(self.injection_down, tokens=found["tokens"])
            found |= _named(diffusion.through_hooks(found, add, add_down, self.until))
        elif self.inject == "late":
            found |= {UNET_BRANCHES[n]: add(n, found[UNET_BRANCHES[n]]) for n in self.injected}
        return {name: found[name].to(self.aggregator.branch_weights) for name in self.sources}

    def forward(self, images: Tensor | dict[str, Tensor]) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], or what `prepare` made of them, to the (B, dim, grid, grid) map."""
        prepared = images if isinstance(images, dict) else self.prepare(images)
        return self.aggregator(self.stacked(self.features(prepared)))

    def stacked(self, features: dict[str, Tensor]) -> list[Tensor]:
        """What `features` gives, standardised and on one grid: (B, C, grid, grid) a branch."""
        side = (self.aggregator.grid,) * 2
        grids = {name: to_grid(self.statistics[name](features[name]), side) for name in self.sources}
        return [torch.cat([grids[name] for name in branch.split("+")], dim=1) for branch in self.branches]

    def pooled(self, images: Tensor | dict[str, Tensor]) -> Tensor:
        """The map's maximum over all positions, (B, dim)."""
        return self(images).amax(dim=(2, 3))

    @torch.no_grad()
    def fit_statistics(self, prepared: dict[str, Tensor], batch_size: int = 0) -> None:
        """Fix every source's channel mean and spread from these images, with the injection as it stands."""
        moments: dict[str, Tensor] = {}
        batch_size = batch_size or self.backbone.at_once
        starts = range(0, len(next(iter(prepared.values()))), batch_size)
        for start in tqdm(starts, desc="channel statistics", leave=False, delay=1):
            batch = {key: value[start : start + batch_size] for key, value in prepared.items()}
            for name, feature in self.features(batch).items():
                moments[name] = moments.get(name, 0) + ChannelStatistics.moments(feature)
        for name, total in moments.items():
            self.statistics[name].set(total)

    def add_tokens(self, tokens: Tensor, block: int, feature: Tensor) -> Tensor:
        """An up-block's output (B, C, h, w) with the tokens injected, or as it is where none are."""
        return self.injection(self.injected.index(block), feature, tokens) if block in self.injected else feature

    def _moved(self, prepared: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key: value.to(self.aggregator.branch_weights.device) for key, value in prepared.items()}


class FinetunedExtractor(FusedExtractor):
    """B-Finetuning, the paper's baseline that trains copies of the UNet and the image tower (SketchFusion, Sec. 6)."""

    def __init__(self, backbone: Backbone, **settings: Any):  # of FusedExtractor, with inject="none"
        diffusion, vision = copy(backbone.diffusion), copy(backbone.vision)
        single, models = learned_type(diffusion.unet.conv_in.weight), (diffusion.unet, vision.model)
        diffusion.unet, vision.model = (nn.Module.to(deepcopy(m), single).requires_grad_(True) for m in models)
        super().__init__(replace(backbone, diffusion=diffusion, vision=vision), **settings)
        self.unet: nn.Module = diffusion.unet
        # A fifth faster on a CPU, whose depthwise convolutions like their channels last.
        self.tower: nn.Module = vision.tower.to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> "FinetunedExtractor":
        super().train(mode)
        # Batches of half sketches would spoil the normalising layers of both.
        self.unet.eval()
        self.tower.eval()
        return self

    @torch.no_grad()
    def frozen(self, images: Tensor, latents: bool = False, **noise: Any) -> dict[str, Tensor]:
        pixels = self.backbone.vision.pixels(images)
        return self.backbone.diffusion.noised(images, **{"seed": self.seed, **noise}) | {"pixels": pixels}

    def features(self, prepared: dict[str, Tensor]) -> dict[str, Tensor]:
        found = self._moved(prepared)
        features = _named(self.backbone.diffusion.through_hooks(found, until=self.until))
        pixels = found["pixels"].contiguous(memory_format=torch.channels_last)
        features["tokens"] = self.backbone.vision.intermediate(pixels)
        return {name: features[name] for name in self.sources}


def learned_type(frozen: Tensor) -> torch.dtype:
    """Of what learns beside a frozen weight: single precision at least, whatever half type the weight has."""
    return torch.promote_types(frozen.dtype, torch.float32)


def _named(outputs: list[Tensor]) -> dict[str, Tensor]:
    return dict(zip(UNET_BRANCHES, outputs, strict=False))


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
