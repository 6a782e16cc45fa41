"""Helpers behind the SketchFusion notebooks: fused Stable Diffusion and CLIP features for sketches."""

__version__ = "0.1.0"
