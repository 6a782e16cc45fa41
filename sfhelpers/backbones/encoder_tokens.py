"""Another image encoder in CLIP's place: its patch tokens are injected instead (SketchFusion, Sec. 7, [iv])."""

import hashlib
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from sfhelpers.backbones.encoders import Encoder
from sfhelpers.backbones.inputs import to_pixels
from sfhelpers.backbones.loading import Backbone


class EncoderTokens:
    """As much of `VisionFeatures` as the injection needs, from an `Encoder`.

    Args:
        encoder: from `load_encoder`.
        layer: which layer gives the tokens, counted from the end; -2 as of CLIP.

    Attributes:
        size: side in px of the images that the model sees.
    """

    def __init__(self, encoder: Encoder, layer: int = -2):
        self.model, self.kind, self.size, self.layer = encoder.model, encoder.kind, encoder.size, layer

    @cached_property
    def token_dim(self) -> int:
        """Channels of the tokens, read off one pass."""
        return self.tokens(torch.zeros(1, 3, self.size, self.size)).shape[1]

    @torch.no_grad()
    def tokens(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to the grid (B, token_dim, h, w)."""
        pixels = to_pixels(images, self.size, "bicubic", next(self.model.parameters()))
        mean, std = (pixels.new_tensor(values).view(1, 3, 1, 1) for values in (self.kind.mean, self.kind.std))
        pixels = (pixels - mean) / std
        return self.model.forward_intermediates(pixels, indices=[self.layer], intermediates_only=True)[0]


def with_encoder(backbone: Backbone, encoder: Encoder) -> Backbone:
    """The backbone with the encoder's tokens in the place of CLIP's; it has no text and no embedding of its own."""
    both = hashlib.sha256(f"{backbone.weights_sha256} {encoder.weights_sha256}".encode()).hexdigest()
    return replace(
        backbone, name=f"{backbone.name} with {encoder.name}", vision=EncoderTokens(encoder), weights_sha256=both
    )
