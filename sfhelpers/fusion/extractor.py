"""From images to one fused feature map, with every arm of the comparison as an argument."""

from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from sfhelpers.backbones import Backbone, check_images
from sfhelpers.backbones.diffusion import Inject
from sfhelpers.fusion.modules import ChannelStatistics, to_grid
from sfhelpers.fusion.plan import UNET_BRANCHES, Plan

# What FusedExtractor is given for each method of the tables; the random-UNet control is `backbones.randomised`.
ARMS: dict[str, dict[str, Any]] = {
    "fused": {"inject": "up"},
    "fused (fixed random injection)": {"inject": "random"},
    "late fusion": {"inject": "late"},
    "SD only": {"inject": "none"},
    "CLIP only": {"inject": "none", "branches": ("tokens",)},
    "SD+CLIP concatenated": {"inject": "none", "branches": ("f1+f2+f3+tokens",)},
}


class FusedExtractor(nn.Module):
    """Images to a (B, dim, grid, grid) map from frozen backbones, by what little is learned (SketchFusion, Sec. 5.1).

    Learned are the injection's 1-D convolutions, the aggregation's ResNet blocks and the branch weights. The backbone
    is frozen and not part of `parameters()` or `state_dict()`. The arguments from `inject_into` on take one part away
    or change it, as in the ablations of Sec. 7.

    Args:
        backbone: from `load_backbone`.
        dim: channels of the map.
        grid: side of the map, in positions (60 in the paper, 24 with pocket).
        inject: "up" adds the tokens to every up-block's output that is used, as the paper writes it; "up+down" to the
            down-blocks' as well; "random" is "up" with convolutions that stay at their random start, which is what
            the released code amounts to; "late" adds them after the UNet, without feedback; "none" does without.
        branches: what is aggregated, each "f1" to "f4", "tokens", or several joined by "+", which are concatenated.
        width: channels inside the ResNet blocks.
        seed: of all that is initialised here.
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

    Raises:
        ValueError: one sentence, for settings that are unknown or do not go together.
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
        inject_into: tuple[str, ...] = (),
        match: str = "convolution",
        kernel: int = 1,
        aggregate: bool = True,
        learn_weights: bool = True,
        start: str = "zero",
    ):
        super().__init__()
        self.backbone, self.inject, self.branches, self.start = backbone, inject, tuple(branches), start
        self.seed = seed
        plan = Plan(
            inject, self.branches, dim, width, grid, tuple(inject_into), match, kernel, aggregate, learn_weights, start
        )
        self.sources, self.injected, self.until = plan.sources, plan.injected, plan.until
        backbone.vision.token_dim  # noqa: B018  read once before the seed is set, since reading it runs the model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for name, part in plan.modules(backbone).items():
                self.add_module(name, part)
        like = backbone.diffusion.unet.conv_in.weight
        self.to(device=like.device, dtype=like.dtype)

    @torch.no_grad()
    def prepare(
        self,
        images: Tensor,
        draws: int = 1,
        noise_seed: int = 0,
        batch_size: int = 32,
        timestep: int | None = None,
        prompt: str = "",
        size: int | None = None,
    ) -> dict[str, Tensor]:
        """All that is frozen for this arm, so that a training step does not compute it again.

        Args:
            images: (B, 3, H, W) in [0, 1].
            draws: noise draws an image; the features are averaged over them.
            noise_seed: of the noise, which is the same for every image.
            batch_size: images that go through the backbones at a time.
            timestep, prompt, size: as in `DiffusionFeatures.features`.

        Returns:
            Batch-first tensors on the device of `images`; index all of them alike for a minibatch.
        """
        check_images(images)
        noise = {"timestep": timestep, "prompt": prompt, "seed": noise_seed, "draws": draws, "size": size}
        chunks = tqdm(images.split(batch_size), desc="frozen features", leave=False, delay=1)
        parts = [{k: v.to(images.device) for k, v in self._frozen(chunk, noise).items()} for chunk in chunks]
        return {key: torch.cat([part.pop(key) for part in parts]) for key in list(parts[0])}

    def forward(self, images: Tensor | dict[str, Tensor]) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], or what `prepare` made of them, to the (B, dim, grid, grid) map."""
        prepared = images if isinstance(images, dict) else self.prepare(images)
        features = {name: self.statistics[name](value) for name, value in self.features(prepared).items()}
        grid = (self.aggregator.grid, self.aggregator.grid)
        joined = (branch.split("+") for branch in self.branches)
        parts = ([features[name] for name in names] for names in joined)
        return self.aggregator(
            [p[0] if len(p) == 1 else torch.cat([to_grid(x, grid) for x in p], dim=1) for p in parts]
        )

    def pooled(self, images: Tensor | dict[str, Tensor]) -> Tensor:
        """The map's maximum over all positions, (B, dim)."""
        return self(images).amax(dim=(2, 3))

    @torch.no_grad()
    def fit_statistics(self, prepared: dict[str, Tensor], batch_size: int = 32) -> None:
        """Fix every source's channel mean and spread from these images, with the injection as it stands."""
        length = len(next(iter(prepared.values())))
        moments: dict[str, Tensor] = {}
        for start in tqdm(range(0, length, batch_size), desc="channel statistics", leave=False, delay=1):
            batch = {key: value[start : start + batch_size] for key, value in prepared.items()}
            for name, feature in self.features(batch).items():
                moments[name] = moments.get(name, 0) + ChannelStatistics.moments(feature)
        for name, total in moments.items():
            self.statistics[name].set(total)

    def _frozen(self, images: Tensor, noise: dict[str, Any]) -> dict[str, Tensor]:
        diffusion, frozen = self.backbone.diffusion, {}
        if self.inject != "none" or "tokens" in self.sources:
            frozen["tokens"] = self.backbone.vision.tokens(images)
        if self.inject == "up":
            return frozen | diffusion.prefix(images, **noise, until=self.until)
        if self.inject == "up+down":  # the first injection follows down-block 1: next to nothing is frozen
            return frozen | diffusion.noised(images, **noise)
        if self.until:
            inject = self._adding(frozen["tokens"]) if self.inject == "random" else None
            outputs = diffusion.through_hooks(diffusion.noised(images, **noise), inject, until=self.until)
            frozen |= dict(zip(UNET_BRANCHES, outputs, strict=False))
        wanted = (*self.sources, "tokens") if self.inject == "late" else self.sources
        return {name: feature for name, feature in frozen.items() if name in wanted}

    def features(self, prepared: dict[str, Tensor]) -> dict[str, Tensor]:
        """The single features that the branches are made of, each (B, C, h, w), with what was to be injected.

        Args:
            prepared: what `prepare` gave.

        Returns:
            "f1" to "f4" and "tokens", those of them that the branches name, neither standardised nor aggregated.
        """
        marker = {"up": "hidden", "up+down": "noisy"}.get(self.inject, self.sources[0])
        if marker not in prepared:
            raise ValueError(
                f'the tensors were not prepared for inject="{self.inject}", branches={self.branches}: '
                "use what prepare() of this extractor gives."
            )
        device = self.aggregator.branch_weights.device
        found = {key: value.to(device) for key, value in prepared.items()}
        diffusion = self.backbone.diffusion
        if self.inject == "up":
            outputs = diffusion.suffix(found, self._adding(found["tokens"]), self.until)
            found |= dict(zip(UNET_BRANCHES, outputs, strict=False))
        elif self.inject == "up+down":
            tokens = found["tokens"]
            outputs = diffusion.through_hooks(
                found, self._adding(tokens), lambda block, f: self.injection_down(block, f, tokens), self.until
            )
            found |= dict(zip(UNET_BRANCHES, outputs, strict=False))
        elif self.inject == "late":
            add = self._adding(found["tokens"])
            found |= {UNET_BRANCHES[n]: add(n, found[UNET_BRANCHES[n]]) for n in self.injected}
        return {name: found[name] for name in self.sources}

    def _adding(self, tokens: Tensor) -> Inject:
        def add(block: int, feature: Tensor) -> Tensor:
            if block not in self.injected:
                return feature
            return self.injection(self.injected.index(block), feature, tokens)

        return add
