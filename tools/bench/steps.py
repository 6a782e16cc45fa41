"""What a training step takes by each way of getting at the frozen features, what it takes to keep them, what grows."""

from collections.abc import Callable
from copy import copy, deepcopy
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import open_clip
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from sfhelpers.backbones import Backbone, load_backbone
from sfhelpers.backbones.diffusion import DiffusionFeatures
from sfhelpers.backbones.vision import VisionFeatures
from sfhelpers.fusion import FusedExtractor
from sfhelpers.fusion.extractor import UNET_BRANCHES
from sfhelpers.store import Store, fill, kept_bytes
from sfhelpers.tasks.arms import arm_of, reading_size
from sfhelpers.tasks.prepared import prepare_images, take
from tools.bench.measuring import Rows, clock, compared, grown, on_a_line, rounds

FULL_SIZE = "full-size"  # a backbone of random weights
STORED, HOOKS, PASS = "prefix from the store", "plain hooks, one copy", "one plain pass"
COPIES = 32  # of each image, in the released code


def full_size(device: str) -> Backbone:
    """Random weights in the classes and at the sizes of Stable Diffusion 2.1 and of CLIP ViT-L/14 at 336 px."""
    pocket = load_backbone("pocket", device)
    attention = {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, **blocks)
    text = CLIPTextConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16)
    parts = (part.to(pocket.device) for part in (vae, UNet2DConditionModel(**attention), CLIPTextModel(text)))
    diffusion = DiffusionFeatures(*parts, pocket.diffusion.tokenizer, pocket.diffusion.scheduler, 480, 195)
    name = "ViT-L-14-336-quickgelu"
    vision = VisionFeatures(open_clip.create_model(name), open_clip.get_tokenizer(name))
    vision.model.to(pocket.device)
    return Backbone(FULL_SIZE, diffusion, vision, "", pocket.device)


def images_for(backbone: Backbone, number: int) -> Tensor:
    size = reading_size(backbone)
    return torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(0)).to(backbone.device)


def stepping(extractor: FusedExtractor, forward: Callable[[], Tensor]) -> Callable[[], None]:
    """One training step of an extractor, by an optimiser of its own."""
    optimiser = torch.optim.AdamW([p for p in extractor.parameters() if p.requires_grad], lr=1e-4)

    def step() -> None:
        optimiser.zero_grad()
        forward().square().mean().backward()
        optimiser.step()

    return step


def hooked(extractor: FusedExtractor, images: Tensor) -> Tensor:
    """The map as by plain hooks: autoencoder, CLIP and the whole UNet in every step, nothing stored."""
    diffusion, tokens = extractor.backbone.diffusion, extractor.backbone.vision.tokens(images)
    found = diffusion.through_hooks(diffusion.noised(images), partial(extractor.add_tokens, tokens), until=4)
    return _aggregated(extractor, found)


def released(extractor: FusedExtractor, images: Tensor, copies: int = COPIES) -> Tensor:
    """The map as the released code gets it, image by image: the text is encoded anew, noisy copies of the image go
    through autoencoder and UNet, tokens into down- and up-blocks, and no gradient beyond the aggregation."""
    maps = []
    for image in images.split(1):
        diffusion = copy(extractor.backbone.diffusion)  # one that has encoded no text yet
        with torch.no_grad():
            tokens = extractor.backbone.vision.tokens(image)
            latents = diffusion.latents(image.expand(copies, -1, -1, -1))[:1]
            noised = diffusion.with_noise(latents, diffusion.text(), diffusion.timestep, 0, copies)
            add = partial(extractor.add_tokens, tokens), partial(extractor.injection_down, tokens=tokens)
            found = diffusion.through_hooks(noised, *add, until=4)
        maps.append(_aggregated(extractor, found))
    return torch.cat(maps)


def _aggregated(extractor: FusedExtractor, found: list[Tensor]) -> Tensor:
    return extractor.aggregator(extractor.stacked(dict(zip(UNET_BRANCHES, found[:3], strict=False))))


def steps(backbone: Backbone, repeats: int, batch: int, folder: Path, copies: tuple[int, ...] = (COPIES,)) -> Rows:
    """Training steps, each of `batch` images; building the store beside one plain pass; what it keeps of an image.

    With fewer copies than the released recipe has, its time is read off a straight line through theirs. Of a single
    repeat nothing is warmed up first.
    """
    device, images, warm = backbone.device.type, images_for(backbone, max(batch, 2)), repeats > 1
    extractor, store = arm_of("fused", backbone, 0).extractor(), Store(folder)
    half = torch.float16 if backbone.name == FULL_SIZE else None
    size, kept, given = images.shape[-1], partial(fill, store, extractor), lambda some: images[list(some)]
    about, numbers = {"read": given, "size": size, "dtype": half, "what": None}, count()
    kept([], **about)  # what is the same for all images, once a store

    def named(number: int) -> list[str]:
        return [f"round {number}, image {k}" for k in range(len(images))]

    building = {
        PASS: partial(prepare_images, extractor, given, len(images), None),
        "filling the store": lambda: kept(named(next(numbers)), **about),
    }
    built = compared(rounds(building, repeats, device, warm), PASS, images=len(images), px=size)
    some = torch.arange(batch)
    prefix, latents = kept(named(0), **about), kept(named(0)[:batch], **about, latents=True)
    memory, recipe = take(prefix, some, backbone.device), extractor_as_released(extractor)
    ways = {
        STORED: stepping(extractor, lambda: extractor(take(prefix, some))),
        "prefix in memory": stepping(extractor, lambda: extractor(memory)),
        "latents from the store": stepping(extractor, lambda: extractor(take(latents, some))),
        HOOKS: stepping(extractor, lambda: hooked(extractor, images[:batch])),
    }
    recipes = {n: f"released recipe, {n} copies" for n in copies}
    ways |= {name: stepping(recipe, partial(released, recipe, images[:batch], n)) for n, name in recipes.items()}
    with torch.no_grad():
        gap = float((extractor(memory) - hooked(extractor, images[:batch])).abs().max())
    taken = rounds(ways, repeats, device, warm)
    if COPIES not in copies:
        by_round = zip(*(taken[name] for name in recipes.values()), strict=True)
        line = [on_a_line(dict(zip(copies, one, strict=True)), COPIES) for one in by_round]
        taken[f"released recipe, {COPIES} copies, by a line"] = line
    about = {"images": batch, "px": size}
    return [
        *built,
        *compared(taken, STORED, **about),
        {"what": "kept", "largest difference": gap, **_sizes(half, prefix, latents)},
    ]


def extractor_as_released(extractor: FusedExtractor) -> FusedExtractor:
    made = {"dim": extractor.aggregator.dim, "grid": extractor.aggregator.grid, "start": "random"}
    return FusedExtractor(extractor.backbone, inject="up+down", **made)


def _sizes(dtype: torch.dtype | None, *tiers: dict[str, Any]) -> dict[str, float]:
    """MB that an image takes on disk."""
    names = ("prefix and tokens", "latents and tokens")
    own = ({k: v[torch.arange(1)] for k, v in tier.items() if not isinstance(v, Tensor)} for tier in tiers)
    return {f"{name}, MB": kept_bytes(tier, dtype) / 1e6 for name, tier in zip(names, own, strict=True)}


def speed(backbone: Backbone, repeats: int, batch: int, compiled: bool = True) -> Rows:
    """What layouts, attention and compiling do to a plain pass and to a step from its prefix; draws in one batch."""
    images, device, extractor = images_for(backbone, batch), backbone.device.type, {}
    variants = {"as it is, with SDPA": lambda unet, vae: None, "attention without SDPA": _without_sdpa}
    variants |= {"channels last": _channels_last} | ({"torch.compile": _compiled} if compiled else {})
    passes, steps, first = {}, {}, clock(device)
    for name, changed in variants.items():
        diffusion = copy(backbone.diffusion)
        diffusion.unet, diffusion.vae = deepcopy(diffusion.unet), deepcopy(diffusion.vae)
        changed(diffusion.unet, diffusion.vae)
        extractor[name] = arm_of("fused", replace(backbone, diffusion=diffusion), 0).extractor()
        passes[f"plain pass, {name}"] = partial(extractor[name].frozen, images)
        prepared = extractor[name].frozen(images)
        steps[f"step, {name}"] = stepping(extractor[name], partial(extractor[name], prepared))
        first = clock(device)
        steps[f"step, {name}"]()
    waited = clock(device) - first  # the last was compiled
    result = [row for ways in (passes, steps) for row in compared(rounds(ways, repeats, device), next(iter(ways)))]
    if compiled:
        result[-1]["compiling, s"] = waited
    few, draws = images[:4], 8
    apart = {
        "8 draws of 4 images, one by one": lambda: [backbone.diffusion.features(few, seed=k) for k in range(draws)]
    }
    together = {"8 draws of 4 images, together": lambda: backbone.diffusion.features(few, draws=draws)}
    return result + compared(rounds(apart | together, repeats, device), next(iter(apart)))


def _without_sdpa(unet: Any, vae: Any) -> None:
    unet.set_attn_processor(AttnProcessor())
    vae.set_attn_processor(AttnProcessor())


def _channels_last(unet: Any, vae: Any) -> None:
    for model in (unet, vae):
        model.to(memory_format=torch.channels_last)


def _compiled(unet: Any, vae: Any) -> None:
    for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
        block.forward = torch.compile(block.forward)


def growth(backbone: Backbone, repeats: int, most: int = 32) -> Rows:
    """With which power of images, of their side and of the noise draws a plain pass grows."""
    extractor, images, device = (
        arm_of("fused", backbone, 0).extractor(),
        images_for(backbone, most),
        backbone.device.type,
    )
    sides = [backbone.diffusion.size * k // 2 for k in (1, 2, 3, 4)]
    ways = {("images", n): partial(extractor.frozen, images[:n]) for n in (most // 8, most // 4, most // 2, most)}
    for side in sides:
        diffusion = copy(backbone.diffusion)
        diffusion.size = side
        ways["px a side", side] = partial(diffusion.prefix, images[:4])
    ways |= {("noise draws", n): partial(backbone.diffusion.prefix, images[:4], draws=n) for n in (1, 2, 4, 8)}
    taken = {key: min(some).seconds for key, some in rounds(ways, repeats, device).items()}
    kinds = dict.fromkeys(kind for kind, _ in taken)
    return [grown(f"growth with {kind}", {n: s for (k, n), s in taken.items() if k == kind}) for kind in kinds]
