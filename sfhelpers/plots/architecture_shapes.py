"""The shapes of everything inside a fused extractor, read off the module as it runs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sfhelpers.fusion import FusedExtractor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Shapes:
    """What is drawn of a `FusedExtractor`; each shape is (channels, height, width) of one image.

    Attributes:
        inject, branches, injected: as the extractor has them; `injected` is empty without injection.
        run: how many up-blocks are computed.
        image, latent, tokens, output: of the VAE's and the UNet's input, of CLIP's tokens, of the map that comes out.
        down, mid, up: of the UNet's blocks' outputs.
        convs, down_convs, blocks: (channels in, channels out) of injection and aggregation, in order.
        weights: the branch weights after their softmax.
        learned: parameters that are trained, of the injection and of the aggregation.
    """

    inject: str
    branches: tuple[str, ...]
    injected: tuple[int, ...]
    run: int
    image: Shape
    latent: Shape
    tokens: Shape
    output: Shape
    down: tuple[Shape, ...]
    mid: Shape
    up: tuple[Shape, ...]
    convs: tuple[Shape, ...]
    down_convs: tuple[Shape, ...]
    blocks: tuple[Shape, ...]
    weights: tuple[float, ...]
    learned: tuple[int, int]


@torch.no_grad()
def read_shapes(extractor: FusedExtractor, images: Tensor) -> Shapes:
    """Run an extractor once and note the shape of everything on the way.

    Args:
        extractor: any arm, on any backbone.
        images: (B, 3, H, W) in [0, 1]; one is enough.
    """
    diffusion, aggregator = extractor.backbone.diffusion, extractor.aggregator
    injection, injection_down = (getattr(extractor, name, None) for name in ("injection", "injection_down"))
    learning = [part for part in (injection, injection_down) if part is not None]
    down, mid, up = _unet_shapes(extractor, images[:1])
    return Shapes(
        inject=extractor.inject,
        branches=extractor.branches,
        injected=extractor.injected if injection else (),
        run=extractor.until,
        image=(3, diffusion.size, diffusion.size),
        latent=_shape(diffusion.latents(images[:1])),
        tokens=_shape(extractor.backbone.vision.tokens(images[:1])),
        output=_shape(extractor(images[:1])),
        down=down,
        mid=mid,
        up=up,
        convs=_channels(injection.convs if injection else ()),
        down_convs=_channels(injection_down.convs if injection_down else ()),
        blocks=_channels(block.shortcut[0] for block in aggregator.blocks),
        weights=tuple(aggregator.branch_weights.softmax(dim=0).tolist()),
        learned=(sum(_count(part) for part in learning), _count(aggregator)),
    )


def _unet_shapes(extractor: FusedExtractor, images: Tensor) -> tuple[tuple[Shape, ...], Shape, tuple[Shape, ...]]:
    """Outputs of the UNet's down-blocks, mid block and up-blocks."""
    diffusion, shapes = extractor.backbone.diffusion, {}

    def note(name: int) -> Callable:
        def hook(module: nn.Module, args: object, output: Tensor | tuple[Tensor, ...]) -> None:
            shapes[name] = _shape(output if isinstance(output, Tensor) else output[0])

        return hook

    parts = [*diffusion.unet.down_blocks, diffusion.unet.mid_block]
    hooks = [part.register_forward_hook(note(number)) for number, part in enumerate(parts)]
    up = tuple(_shape(feature) for feature in diffusion.features(images))
    for hook in hooks:
        hook.remove()
    *down, mid = (shapes[number] for number in range(len(parts)))
    return tuple(down), mid, up


def _shape(batch: Tensor) -> Shape:
    return tuple(batch.shape[1:])


def _channels(convs: Iterable[nn.Module]) -> tuple[Shape, ...]:
    return tuple((conv.in_channels, conv.out_channels) for conv in convs)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
