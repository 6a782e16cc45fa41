"""A vision transformer on a convolutional stem, registered with timm so that open_clip builds it from its config."""

from functools import partial
from typing import Any

import timm
from timm.layers import HybridEmbed
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer

default_cfgs = generate_default_cfgs({"vit_hybrid_lite0": {"input_size": (3, 160, 160), "classifier": "head"}})


@register_model
def vit_hybrid_lite0(pretrained: bool = False, **options: Any) -> VisionTransformer:
    """Class token, patch tokens of stride 16 from EfficientNet-Lite0's trunk, four blocks of width 144, for 160 px."""
    trunk = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(4,), output_stride=16)
    sizes = {"img_size": 160, "patch_size": 1, "embed_dim": 144, "depth": 4, "num_heads": 4}
    built = {"embed_layer": partial(HybridEmbed, backbone=trunk), **sizes, **options}
    return build_model_with_cfg(VisionTransformer, "vit_hybrid_lite0", pretrained, **built)
