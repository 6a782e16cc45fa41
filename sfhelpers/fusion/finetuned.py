"""B-Finetuning: the paper's baseline that trains the whole UNet and the whole image tower (SketchFusion, Sec. 6)."""

from copy import copy, deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sfhelpers.backbones import Backbone
from sfhelpers.fusion.extractor import FusedExtractor
from sfhelpers.fusion.plan import UNET_BRANCHES


class FinetunedExtractor(FusedExtractor):
    """A FusedExtractor without injection whose UNet and image tower are copies of the backbone's and learn as well.

    Only the autoencoder stays frozen, so every training step runs both models forwards and backwards. Their normalising
    layers and dropout stay in eval mode: batches that are half sketches would spoil what they hold.

    Args:
        backbone: left as it is.
        settings: as of FusedExtractor, with `inject="none"` and branches that name f1 to f4 and tokens.
    """

    def __init__(self, backbone: Backbone, **settings: Any):
        diffusion, vision = copy(backbone.diffusion), copy(backbone.vision)
        diffusion.unet, vision.model = (deepcopy(m).requires_grad_(True) for m in (diffusion.unet, vision.model))
        super().__init__(replace(backbone, diffusion=diffusion, vision=vision), **settings)
        self.unet: nn.Module = diffusion.unet
        # A fifth faster on a CPU, whose depthwise convolutions like their channels last.
        self.tower: nn.Module = vision.model.visual.to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> "FinetunedExtractor":
        super().train(mode)
        self.unet.eval()
        self.tower.eval()
        return self

    def _frozen(self, images: Tensor, noise: dict[str, Any]) -> dict[str, Tensor]:
        return self.backbone.diffusion.noised(images, **noise) | {"pixels": self.backbone.vision.pixels(images)}

    def features(self, prepared: dict[str, Tensor]) -> dict[str, Tensor]:
        """As of FusedExtractor, from `noisy`, `timestep`, `text` and `pixels`."""
        device = self.aggregator.branch_weights.device
        found = {key: value.to(device) for key, value in prepared.items()}
        outputs = self.backbone.diffusion.through_hooks(found, until=self.until)
        features = dict(zip(UNET_BRANCHES, outputs, strict=False))
        features["tokens"] = self.backbone.vision.intermediate(
            found["pixels"].contiguous(memory_format=torch.channels_last)
        )
        return {name: features[name] for name in self.sources}
