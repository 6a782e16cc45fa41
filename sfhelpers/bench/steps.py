"""What storing the frozen prefix saves in a training step, as a ratio in one run; and how fast pictures are drawn."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from sfhelpers.backbones import Backbone
from sfhelpers.fusion import FusedExtractor
from sfhelpers.toyworld import DIFFICULTY, SEEN, render_photo, render_sketch


def from_prefix(extractor: FusedExtractor, prepared: dict[str, Tensor]) -> Tensor:
    """The map from what was stored: only the blocks behind the first injection run."""
    return extractor(prepared)


def from_images(extractor: FusedExtractor, images: Tensor, draws: int) -> Tensor:
    """The map as by plain hooks: autoencoder, CLIP and the whole UNet in every step, nothing stored."""
    diffusion, vision = extractor.backbone.diffusion, extractor.backbone.vision
    tokens = vision.tokens(images)
    noised = diffusion.noised(images, draws=draws)

    def inject(block: int, feature: Tensor) -> Tensor:
        return extractor.injection(block, feature, tokens) if block < 3 else feature

    outputs = diffusion.through_hooks(noised, inject, until=4)
    return extractor.aggregator([extractor.statistics[f"f{n + 1}"](f) for n, f in enumerate(outputs[:3])])


def step_seconds(extractor: FusedExtractor, forwards: list[Callable[[], Tensor]], repeats: int) -> list[float]:
    """Median seconds of a training step (forward, backward, AdamW) for each forward, taken in turn."""
    optimiser = torch.optim.AdamW(extractor.parameters(), lr=1e-4)
    synchronise = torch.cuda.synchronize if extractor.backbone.device.type == "cuda" else (lambda: None)
    times: list[list[float]] = [[] for _ in forwards]
    for _ in range(repeats + 1):
        for forward, taken in zip(forwards, times, strict=True):
            synchronise()
            start = time.perf_counter()
            optimiser.zero_grad()
            forward().square().mean().backward()
            optimiser.step()
            synchronise()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken[1:]) for taken in times]  # the first round warms up


def steps(backbone: Backbone, batch: int, repeats: int, draws: int) -> str:
    """Run the comparison and put it into words."""
    extractor = FusedExtractor(backbone)
    size = backbone.diffusion.size
    images = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(backbone.device)
    start = time.perf_counter()
    prepared = extractor.prepare(images, draws=draws)
    once = time.perf_counter() - start
    stored = sum(value.nbytes for value in prepared.values()) / batch / 1e6
    forwards = [lambda: from_prefix(extractor, prepared), lambda: from_images(extractor, images, draws)]
    gap = (forwards[0]() - forwards[1]()).abs().max().item()
    quick, plain = step_seconds(extractor, forwards, repeats)
    return "\n".join(
        [
            f"One training step: {backbone.name} on {backbone.device}, {batch} images of {size} px, draws={draws}",
            f"  {'':34}{'ms a step':>10}{'ratio':>8}",
            f"  {'prefix stored, suffix run':34}{quick * 1e3:10.1f}{1:8.2f}",
            f"  {'hooks over VAE, CLIP, whole UNet':34}{plain * 1e3:10.1f}{plain / quick:8.2f}",
            f"  storing it, once: {once / batch * 1e3:.1f} ms and {stored:.2f} MB an image; maps differ by {gap:.0e}",
        ]
    )


def drawing(pictures: int = 100) -> str:
    """How fast the toy world is drawn, in one process."""
    lines = []
    for domain, draw in (("photos", render_photo), ("sketches", lambda c, k, s, d: render_sketch(c, k, 0, s, d))):
        start = time.perf_counter()
        for k in range(pictures):
            draw(SEEN[k % len(SEEN)], k, 0, DIFFICULTY)
        lines.append(f"  {pictures / (time.perf_counter() - start):.0f} {domain} a second")
    return "\n".join(["Drawing the toy world, one process", *lines])
