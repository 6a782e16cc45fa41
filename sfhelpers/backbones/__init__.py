"""Frozen backbones: the only room that knows diffusers, open_clip and timm."""

from sfhelpers.backbones.inputs import check_images
from sfhelpers.backbones.loading import Backbone, load_backbone, randomised
from sfhelpers.backbones.presets import DIFFUSION, VISION, write_preset
