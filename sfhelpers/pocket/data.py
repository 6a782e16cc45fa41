"""Training pictures for the embedded models: individuals of the seen categories that no data set ever contains."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from sfhelpers.toyworld import SEEN, render_photo, render_sketch

# The data sets that notebooks train and test on are drawn from seeds 0, 1, 2, ...; these are drawn from this one,
# so that no picture is ever in both. Nothing is drawn of the nine unseen categories, not even in the background.
TRAINING_SEED = 20_250_321


def pictures(domain: str, start: int, count: int, difficulty: float = 0.5) -> tuple[Tensor, list[str]]:
    """Render training pictures number `start` to `start + count`.

    Args:
        domain: "photo" or "sketch".

    Returns:
        (count, 3, 160, 160) uint8 and the category of each.
    """
    images, categories = [], []
    for k in tqdm(range(start, start + count), desc=f"rendering {domain}s", leave=False):
        categories.append(SEEN[k % len(SEEN)])
        images.append(picture(domain, categories[-1], k, TRAINING_SEED, difficulty))
    return torch.stack(images), categories


def picture(domain: str, category: str, index: int, seed: int, difficulty: float = 0.5) -> Tensor:
    """One picture, (3, 160, 160) uint8; `domain` is "photo" or "sketch" (the individual's first)."""
    if domain == "photo":
        pixels = render_photo(category, index, seed, difficulty)[0]
    else:
        pixels = np.repeat(render_sketch(category, index, 0, seed, difficulty)[0][..., None], 3, axis=2)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def resized(images: Tensor, size: int, batch_size: int = 256) -> Tensor:
    """(N, 3, H, W) uint8 to (N, 3, size, size) float in [-1, 1], averaged over pixels where it shrinks."""
    parts = [
        F.interpolate(part.float() / 127.5 - 1, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
        for part in images.split(batch_size)
    ]
    return torch.cat(parts)
