"""What every backbone asks of the images it is given."""

import torch
import torch.nn.functional as F
from torch import Tensor


def check_images(images: Tensor) -> None:
    """Raise a ValueError unless `images` is a non-empty (B, 3, H, W) float tensor in [0, 1]."""
    if not isinstance(images, Tensor):
        raise ValueError(f"images are of type {type(images).__name__}: pass the tensor that load_images gives.")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ValueError(f"images have the shape {tuple(images.shape)}: pass (B, 3, H, W), one as picture[None].")
    if not images.is_floating_point():
        raise ValueError(f"images are of {images.dtype}: pass floats in [0, 1], for 8-bit pixels images / 255.")
    low, high = (float(value) for value in images.aminmax())
    if not (low >= 0 and high <= 1):  # written so that NaN fails too
        raise ValueError(f"images run from {low:.4g} to {high:.4g}: pass values in [0, 1], unscaled by any mean.")


def to_pixels(images: Tensor, size: int, mode: str, like: Tensor) -> Tensor:
    """Checked images squeezed to (B, 3, size, size), on the device and in the dtype of a weight of the model."""
    check_images(images)
    images = images.to(like.device)
    if images.shape[-2:] != (size, size):
        # Smoothed resizing knows no half types on the CPU, so they come last.
        images = images.to(torch.promote_types(images.dtype, torch.float32))
        images = F.interpolate(images, size=(size, size), mode=mode, align_corners=False, antialias=True).clamp(0, 1)
    return images.to(like.dtype)
