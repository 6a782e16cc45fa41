"""Frozen features of an open_clip model: patch tokens, image and text embeddings."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfhelpers.backbones.inputs import to_pixels


class VisionFeatures:
    """Patch tokens and embeddings of an open_clip model, frozen here, of (B, 3, H, W) floats in [0, 1] of any size."""

    def __init__(self, model: nn.Module, tokenizer: Any, layer: int = -2):
        self.model, self.tokenizer, self.layer = model.eval().requires_grad_(False), tokenizer, layer
        side = model.visual.image_size
        self.size = int(side if isinstance(side, int) else side[0])  # side in pixels of the images the model sees
        self.mean, self.std = model.visual.image_mean, model.visual.image_std
        self.token_dim = self.tokens(torch.zeros(1, 3, self.size, self.size)).shape[1]  # and no table of towers is kept

    @property
    def tower(self) -> nn.Module:
        """What makes tokens of pixels."""
        return self.model.visual

    @property
    def scale(self) -> Tensor:
        """By which cosines are multiplied before a softmax, on the CPU."""
        return self.model.logit_scale.detach().float().exp().cpu()

    @torch.no_grad()
    def tokens(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to the patch grid (B, token_dim, h, w); ValueError for images of another kind."""
        return self.intermediate(self.pixels(images))

    def intermediate(self, pixels: Tensor) -> Tensor:
        """What `pixels` gives to the patch grid (B, token_dim, h, w), with gradients where the model learns."""
        options = {"stop_early": True, "intermediates_only": True, "output_fmt": "NCHW"}
        try:
            result = self.model.visual.forward_intermediates(pixels, indices=[self.layer], **options)
        except AssertionError as error:  # how timm and open_clip report an index out of range
            raise ValueError(f"the vision model has no layer {self.layer}: choose another in the preset.") from error
        return result["image_intermediates"][0]

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to unit-length image embeddings (B, D)."""
        return F.normalize(self.encoded(self.pixels(images)), dim=1)

    def encoded(self, pixels: Tensor) -> Tensor:
        """What `pixels` gives to image embeddings (B, D), not yet of length 1, with gradients to what made them."""
        return self.model.encode_image(pixels)

    @torch.no_grad()
    def embed_text(self, texts: list[str]) -> Tensor:
        """N texts to unit-length embeddings (N, D) in the space of `embed`."""
        return self.model.encode_text(self.tokenizer(list(texts)).to(self.model.logit_scale.device), normalize=True)

    def pixels(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to what the model reads: (B, 3, size, size), standardised by its mean and std."""
        return self.standardised(to_pixels(images, self.size, "bicubic", next(self.model.parameters())))

    def standardised(self, pixels: Tensor) -> Tensor:
        """(B, 3, size, size) by the model's mean and std."""
        mean, std = (pixels.new_tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return (pixels - mean) / std
