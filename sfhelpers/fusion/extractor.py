"""From images to one fused feature map, with every arm of the comparison as an argument."""

from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from sfhelpers.backbones import Backbone, check_images
from sfhelpers.backbones.diffusion import Inject
from sfhelpers.fusion.modules import ChannelStatistics, ClipInjection, FeatureAggregator, to_grid

INJECT = ("up", "up+down", "none", "late", "random")
UNET_BRANCHES = ("f1", "f2", "f3", "f4")

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
    is frozen and not part of `parameters()` or `state_dict()`.

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

    Raises:
        ValueError: one sentence, for an unknown `inject` or branch, or an injection without a UNet branch.
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
    ):
        super().__init__()
        self.backbone, self.inject, self.branches = backbone, inject, tuple(branches)
        self.sources = _sources(inject, self.branches)
        self.injected = _injected(inject, self.sources)
        self.until = max(self.injected, default=-1) + 1
        backbone.vision.token_dim  # noqa: B018  read once before the seed is set, since reading it runs the model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for name, part in _parts(backbone, inject, self.branches, dim, grid, width).items():
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
        return lambda block, feature: self.injection(self.injected.index(block), feature, tokens)


def _parts(
    backbone: Backbone, inject: str, branches: tuple[str, ...], dim: int, grid: int, width: int
) -> dict[str, nn.Module]:
    """All modules of a `FusedExtractor`, by name."""
    sources = _sources(inject, branches)
    token_dim, block_dims = backbone.vision.token_dim, backbone.diffusion.block_dims
    dims = dict(zip(UNET_BRANCHES, block_dims, strict=True), tokens=token_dim)
    branch_dims = tuple(sum(dims[name] for name in branch.split("+")) for branch in branches)
    parts: dict[str, nn.Module] = {
        "statistics": nn.ModuleDict({name: ChannelStatistics(dims[name]) for name in sources}),
        "aggregator": FeatureAggregator(branch_dims, dim, width, grid),
    }
    if inject != "none":
        injected = tuple(block_dims[n] for n in _injected(inject, sources))
        fixed = inject == "random"
        parts["injection"] = ClipInjection(token_dim, injected, zero=not fixed).requires_grad_(not fixed)
    if inject == "up+down":
        parts["injection_down"] = ClipInjection(token_dim, backbone.diffusion.down_dims)
    return parts


def trainable_parameters(backbone: Backbone, branches: tuple[str, ...], inject: str, dim: int, width: int) -> int:
    """How many parameters such a `FusedExtractor` learns, without allocating any."""
    backbone.vision.token_dim  # noqa: B018  reading it runs the model, which the meta device would keep from running
    with torch.device("meta"):
        parts = _parts(backbone, inject, tuple(branches), dim, 1, width)
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


def _sources(inject: str, branches: tuple[str, ...]) -> tuple[str, ...]:
    """The single features that the branches are made of, each once, in order."""
    if inject not in INJECT:
        raise ValueError(f"unknown inject {inject!r}: use one of {', '.join(INJECT)}.")
    names = tuple(dict.fromkeys(name for branch in branches for name in branch.split("+")))
    known = (*UNET_BRANCHES, "tokens")
    wrong = [name for name in names if name not in known]
    if wrong or not names:
        raise ValueError(
            f"unknown branch {', '.join(wrong) or branches!r}: use {', '.join(known)}, or sums such as f1+f2."
        )
    if inject != "none" and names == ("tokens",):
        raise ValueError(
            f'inject="{inject}" has no UNet branch to inject into: add f1, f2 or f3, or use inject="none".'
        )
    return names


def _injected(inject: str, sources: tuple[str, ...]) -> tuple[int, ...]:
    """Which up-blocks' outputs the tokens are added to: all that are run, or, afterwards, only those that are used."""
    used = tuple(n for n, name in enumerate(UNET_BRANCHES) if name in sources)
    return used if inject == "late" else tuple(range(max(used, default=-1) + 1))
