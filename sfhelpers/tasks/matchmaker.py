"""SD-PL: a frozen Stable Diffusion matches sketches and photos, through a learned frame and a learned text (poster).

Gradients reach the pixels, so of an image nothing but its pixels can be stored, and every step runs the whole model.
"""

from collections.abc import Callable, Collection, Mapping
from copy import copy, deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sfhelpers.backbones import Backbone
from sfhelpers.backbones.inputs import to_pixels
from sfhelpers.datasets import Dataset
from sfhelpers.datasets.splits import PROBLEMS, Level
from sfhelpers.fusion.extractor import UNET_BRANCHES, learned_type
from sfhelpers.fusion.modules import ChannelStatistics
from sfhelpers.tasks.arms import DIM, Companion
from sfhelpers.tasks.compare import Frozen
from sfhelpers.tasks.prepared import Prepared
from sfhelpers.tasks.retrieval import B_CLIP, CHANCE, Embedder, Retrieval, SketchRetriever

TIMESTEP, DRAWS = 273, 6
LEVELS: dict[Level, tuple[str, ...]] = {"category": ("f1", "f2"), "instance": ("f3", "f4")}
WIDTH = 1 / 8  # of the frame, in sides of the image: about Bahng et al.'s (2022); the poster gives none
PHOTO = "a photo of"
SD_PL, PLAIN = "SD-PL", "SD without prompts"
REAL, LINEAR, TUNED, TOWER = "SD, real text prompt", "B-Linear-Probing", "B-Fine-Tuning", "B-Triplet+VP (vision tower)"


class Framed(nn.Module):
    """Images in a learned frame to vectors: standardised maxima of a frozen model's maps, which a subclass computes.

    Args:
        side: px of the square that images are squeezed to, as the model looks at them.
        width: of the frame in these sides, 0 to 1/2; `frame` (3, n) is added to the n pixels near an edge, from zero.
        at_once: images computed together, and again in the backward pass (gradient checkpointing); 0: all, and once.
    """

    mode = "bilinear"  # of the squeezing

    def __init__(self, backbone: Backbone, seed: int, side: int, width: float, at_once: int):
        super().__init__()
        if not 0 <= width <= 0.5:
            raise ValueError(f"width is {width}: a frame takes 0 to 0.5 of an image's side.")
        if at_once < 0:
            raise ValueError(f"at_once is {at_once}: give how many images to compute together, or 0 for all.")
        self.backbone, self.seed, self.side, self.at_once = backbone, seed, side, at_once
        like, wide = backbone.diffusion.unet.conv_in.weight, round(width * side)
        if width and not wide:
            raise ValueError(f"width is {width}: of {side} px that is less than one, give {1 / side:.3f} or more.")
        edge = torch.ones(side, side, dtype=torch.bool, device=like.device)
        edge[wide : side - wide, wide : side - wide] = False
        self.register_buffer("edge", edge, persistent=False)
        zeros = like.new_zeros(3, int(edge.sum()), dtype=learned_type(like))
        self.frame = nn.Parameter(zeros, requires_grad=wide > 0)
        self.linear: nn.Module = nn.Identity()

    def look_at(self, dims: Mapping[str, int], linear: bool = False) -> None:
        """Make what belongs to the maps, name -> channels, that are used: their statistics, and a linear layer."""
        self.statistics = nn.ModuleDict({name: ChannelStatistics(dim) for name, dim in dims.items()})
        if linear:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                self.linear = nn.Linear(sum(dims.values()), DIM, bias=False)
        self.to(self.frame)

    @property
    def visual_prompt(self) -> Tensor:
        """What is added to every image, (3, side, side)."""
        return self.frame.new_zeros(3, self.side, self.side).masked_scatter(self.edge, self.frame)

    @torch.no_grad()
    def frozen(self, images: Tensor) -> Prepared:
        """All that can be stored of (B, 3, H, W) in [0, 1]: their pixels, as the model looks at them."""
        return {"pixels": to_pixels(images, self.side, self.mode, self.frame)}

    def maps(self, pixels: Tensor) -> dict[str, Tensor]:
        """Framed pixels (B, 3, side, side) to (B, C, h, w) of every name in `statistics`."""
        raise NotImplementedError

    def again(self, function: Callable[..., Any], *given: Tensor) -> Any:
        """What a function gives; with `at_once` nothing inside it is kept for the backward pass."""
        if self.at_once and torch.is_grad_enabled():
            return checkpoint(function, *given, use_reentrant=False)
        return function(*given)

    def maxima(self, pixels: Tensor) -> dict[str, Tensor]:
        """(B, 3, side, side) in [0, 1] to (B, C, 1, 1) of every name."""
        framed = pixels.to(self.frame) + self.visual_prompt
        parts = [self.maps(part) for part in framed.split(self.at_once or len(framed))]
        return {k: torch.cat([maps[k].amax(dim=(2, 3), keepdim=True) for maps in parts]) for k in self.statistics}

    def pooled(self, images: Tensor | Prepared) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], or what `frozen` made of them, to (B, d)."""
        prepared = images if isinstance(images, dict) else self.frozen(images)
        found = self.maxima(prepared["pixels"])
        return self.linear(torch.cat([self.statistics[k](x).flatten(1) for k, x in found.items()], dim=1))

    @torch.no_grad()
    def fit_statistics(self, prepared: Prepared) -> None:
        """Fix mean and spread of the maxima on these images, with the prompts as they stand."""
        for name, x in self.maxima(prepared["pixels"]).items():
            self.statistics[name].set(ChannelStatistics.moments(x))


class PromptedDiffusion(Framed):
    """SD-PL's vectors: of up-blocks of a frozen Stable Diffusion that reads the learned `text_prompt` (L, D).

    Args:
        text: the prompt whose embedding `text_prompt` starts from; "" is the null prompt. ValueError if it is too long.
        learn_text: whether it leaves it.
        levels: of UNET_BRANCHES, whose vectors are put side by side; () is those of LEVELS, by what a sketch asks for.
        timestep, draws: of the noise, the same for all images and steps; a map is the mean over its draws.
        linear, finetuned: the baselines with a linear layer behind the vectors, and with a UNet that learns itself.
    """

    def __init__(
        self, backbone: Backbone, seed: int = 0, width: float = WIDTH, text: str = "", learn_text: bool = True,
        levels: tuple[str, ...] = (), timestep: int = TIMESTEP, draws: int = DRAWS, linear: bool = False,
        finetuned: bool = False, at_once: int = 0,
    ):  # fmt: skip
        diffusion = backbone.diffusion
        diffusion.check_timestep(timestep)
        diffusion.check_draws(draws)
        if wrong := [level for level in levels if level not in UNET_BRANCHES]:
            raise ValueError(f"the UNet has no level {wrong[0]!r}: use some of {', '.join(UNET_BRANCHES)}.")
        super().__init__(backbone, seed, diffusion.size, width, at_once)
        self.asked, self.timestep, self.draws, self.with_linear = tuple(levels), timestep, draws, linear
        if finetuned:
            diffusion = copy(diffusion)
            self.unet = diffusion.unet = deepcopy(diffusion.unet).requires_grad_(True)
        self.diffusion = diffusion
        self.text_prompt = nn.Parameter(diffusion.text(text).to(self.frame, copy=True), requires_grad=learn_text)

    def choose(self, level: Level) -> None:
        """Look at the up-blocks for what a sketch asks for."""
        dims = dict(zip(UNET_BRANCHES, self.diffusion.block_dims, strict=True))
        self.look_at({name: dims[name] for name in self.asked or LEVELS[level]}, self.with_linear)

    def maps(self, pixels: Tensor) -> dict[str, Tensor]:
        latents = self.again(self.diffusion.encoded, pixels)
        noised = self.diffusion.with_noise(latents, self.text_prompt, self.timestep, self.seed, self.draws)
        others = noised["timestep"], noised["text"]
        drawn = [self.again(self.of_draw, noisy, *others) for noisy in noised["noisy"].unbind(1)]
        return {name: sum(maps) / self.draws for name, *maps in zip(self.statistics, *drawn, strict=True)}

    def of_draw(self, noisy: Tensor, timestep: Tensor, text: Tensor) -> list[Tensor]:
        """The maps of one noise draw, in the order of `statistics`."""
        places = [UNET_BRANCHES.index(name) for name in self.statistics]
        given = {"noisy": noisy[:, None], "timestep": timestep, "text": text}
        outputs = self.diffusion.through_hooks(given, until=max(places) + 1)
        return [outputs[place].to(self.frame) for place in places]


class FramedTower(Framed):
    """The same frame before the frozen image tower, whose embedding is the one map: a baseline without diffusion."""

    mode = "bicubic"

    def __init__(self, backbone: Backbone, seed: int = 0, width: float = WIDTH, at_once: int = 0):
        super().__init__(backbone, seed, backbone.vision.size, width, at_once)

    def choose(self, level: Level) -> None:
        blank = self.frame.new_zeros(1, 3, self.side, self.side)
        self.look_at({"embedding": self.backbone.vision.embed(blank).shape[1]})

    def maps(self, pixels: Tensor) -> dict[str, Tensor]:
        vision = self.backbone.vision
        given = vision.standardised(pixels).to(next(vision.model.parameters()).dtype)
        return {"embedding": self.again(vision.encoded, given).to(pixels)[:, :, None, None]}


NEITHER = {"width": 0, "learn_text": False}
ARMS: dict[str, tuple[dict[str, Any], float]] = {  # method -> unlike SD-PL's settings, and times its learning rate
    SD_PL: ({}, 1),
    PLAIN: (NEITHER, 1),
    REAL: (NEITHER | {"text": PHOTO}, 1),
    LINEAR: (NEITHER | {"linear": True}, 0.1),
    TUNED: (NEITHER | {"finetuned": True}, 0.01),
    TOWER: ({}, 1),
}
CORE = (SD_PL, PLAIN, REAL)


def arm_of(method: str, backbone: Backbone, seed: int, **settings: Any) -> Companion:
    """The arm of one of ARMS, or a variant of SD-PL by another name, with these settings of PromptedDiffusion."""
    own, pace = ARMS.get(method, ({}, 1))
    if method == TOWER:
        settings = {name: settings[name] for name in ("width", "at_once") if name in settings}
        return Companion(method, seed, backbone, settings, make=FramedTower)
    return Companion(method, seed, backbone, settings | own, make=PromptedDiffusion, pace=pace)


class Matchmaker(Retrieval):
    """Retrieval by prompts: its problems, galleries, loss and measures, with companions as arms.

    `classes` is how many of the training classes teach, always the same ones; 0 is all.
    """

    main = SD_PL

    def __init__(
        self, dataset: Dataset, epochs: int, learning_rate: float, batch_size: int,
        problems: Collection[str] = tuple(PROBLEMS), others: Mapping[str, Embedder] | None = None, classes: int = 0,
    ):  # fmt: skip
        super().__init__(dataset, epochs, learning_rate, batch_size, problems, others)
        self.baselines = (B_CLIP, *self.others, CHANCE)
        if classes:
            self.images += f", {classes} classes"
            for found in self.about.values():
                found.train = found.train.first(classes)

    def plain(self, backbone: Backbone, seed: int) -> Companion:
        return arm_of(PLAIN, backbone, seed)

    def problems(self, method: str) -> tuple[str, ...]:
        return tuple(self.about)

    def model(self, extractor: Framed, frozen: Frozen) -> SketchRetriever:
        extractor.choose(self.about[frozen["problem"]].level)
        return super().model(extractor, frozen)
