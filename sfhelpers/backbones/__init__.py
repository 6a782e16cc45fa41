"""Frozen backbones: the only room that knows diffusers, open_clip and timm."""

from sfhelpers.backbones.diffusion import DiffusionFeatures
from sfhelpers.backbones.inputs import check_images
from sfhelpers.backbones.loading import Backbone, load_backbone, randomised, resolve_device
from sfhelpers.backbones.presets import PRESETS, Preset, write_preset
from sfhelpers.backbones.vision import VisionFeatures

__all__ = [
    "PRESETS",
    "Backbone",
    "DiffusionFeatures",
    "Preset",
    "VisionFeatures",
    "check_images",
    "load_backbone",
    "randomised",
    "resolve_device",
    "write_preset",
]
