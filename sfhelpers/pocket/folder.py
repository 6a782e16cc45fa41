"""The finished models as one folder that `load_backbone` reads: diffusers and open_clip formats, half precision."""

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer

from sfhelpers.backbones import write_preset
from sfhelpers.pocket import denoiser
from sfhelpers.pocket.denoiser import Denoiser


def write_folder(
    folder: Path, vae: AutoencoderKL, model: Denoiser, tokenizer_folder: Path, vision_folder: Path
) -> Path:
    """Write a backbone folder and seal it with the sha256 of its weights.

    Args:
        folder: made if need be; files of the same names in it are replaced.
        tokenizer_folder: from `text.write_tokenizer`.
        vision_folder: an open_clip folder with weights, from `encoder.save`.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Copies are halved, so that the models at hand stay as they are.
    for name, part in (("vae", vae), ("unet", model.unet)):
        # Keys with an underscore say where a config was read, which is nobody's business.
        config = {key: value for key, value in part.config.items() if not key.startswith("_")}
        half = type(part).from_config(config)
        half.load_state_dict(part.state_dict())
        torch.nn.Module.to(half, torch.float16)
        half.save_pretrained(folder / name)
    text = type(model.text)(model.text.config)
    text.load_state_dict(model.text.state_dict())
    text.to(torch.float16).save_pretrained(folder / "text_encoder")
    denoiser.new_scheduler().save_pretrained(folder / "scheduler")
    CLIPTokenizer.from_pretrained(tokenizer_folder).save_pretrained(folder / "tokenizer")
    shutil.copytree(vision_folder, folder / "vision", dirs_exist_ok=True)
    write_preset(folder, size=denoiser.SIZE)
    return folder
