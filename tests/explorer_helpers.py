"""Explorers of a tiny random backbone's features, for two test files."""

import numpy as np
import torch
from PIL import Image

from sfhelpers.pilot import FeatureMaps
from sfhelpers.tasks.heads import untrained_head


def pairs():
    """Two pairs of unlike kinds and sizes: noise that differs from image to image."""
    generator = np.random.default_rng(0)
    wide = Image.fromarray(generator.integers(0, 255, (40, 90, 3), dtype=np.uint8))
    tall = torch.from_numpy(generator.random((3, 60, 30), dtype=np.float32))
    return [(wide, generator.random((50, 50, 3))), (generator.integers(0, 255, (33, 33), dtype=np.uint8), tall)]


def maker(backbone):
    """A function that makes an explorer of the two pairs, all from the same feature maps with one untrained head."""
    head = untrained_head("fused", backbone)
    start = {"pairs": pairs(), "labels": ["cat 1", "a <b> 2"], "maps": FeatureMaps(backbone, {"fused": head})}
    return lambda kind, **changes: kind(**start | changes)


def picture(explorer):
    """The PNG that is shown."""
    return bytes(explorer.image.value)
