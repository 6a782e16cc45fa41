"""A backbone of the real topology with tiny random weights, saved in the real folder format."""

import json

import open_clip
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sfhelpers.backbones.presets import combined_sha256, write_preset
from sfhelpers.backbones.sealed import WEIGHTS
from sfhelpers.files import file_sha256

TIMM = {"timm_model_name": "test_efficientnet", "timm_model_pretrained": False, "timm_pool": "avg"}
TOWERS = {
    "timm": TIMM | {"timm_proj": "linear", "image_size": 64},
    "vit": {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8},
}


def write_tiny(folder, seed=0, widths=(8, 16, 24, 32), tower="timm", size=96, quick_gelu=False):
    """Write a backbone that `load_backbone` reads; `tower` is one of TOWERS."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _write_diffusion(folder, widths, size)
        _write_vision(folder / "vision", TOWERS[tower], quick_gelu)
    write_preset(folder, size=size, quick_gelu=quick_gelu)
    return folder


def folder_sha256(folder):
    """The `weights_sha256` that `load_backbone(folder)` reports, without loading anything."""
    return combined_sha256({name: file_sha256(folder / name) for name in WEIGHTS})


def small_tokenizer():
    """A CLIPTokenizer of single letters and a few words; its end token has the highest id, as CLIP's has."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    entries, merges = [*letters, *(f"{letter}</w>" for letter in letters)], []
    for word in ("a", "photo", "sketch", "of", "cat", "car"):
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            merge = (pieces[0], pieces[1])
            merges += [merge] if merge not in merges else []
            pieces[:2] = ["".join(merge)]
            entries += pieces[:1] if pieces[0] not in entries else []
    vocabulary = {entry: i for i, entry in enumerate([*entries, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=16)


def _write_diffusion(folder, widths, size):
    tokenizer = small_tokenizer()
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    latents = {"latent_channels": 8, "scaling_factor": 0.5, "sample_size": size}
    AutoencoderKL(block_out_channels=(8, 8, 8), norm_num_groups=4, **blocks, **latents).save_pretrained(folder / "vae")
    blocks["down_block_types"] = (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D")
    blocks["up_block_types"] = ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3)
    heads = {"attention_head_dim": tuple(max(1, width // 32) for width in widths)}  # diffusers' old name for them
    sizes = {"sample_size": size // 4, "in_channels": 8, "out_channels": 8, "cross_attention_dim": 32}
    unet = {"block_out_channels": widths, "norm_num_groups": 8, "use_linear_projection": True, **blocks, **heads}
    UNet2DConditionModel(**unet, **sizes).save_pretrained(folder / "unet")
    text = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text |= {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "hidden_size": 32, "intermediate_size": 64}
    text |= {"num_hidden_layers": 1, "num_attention_heads": 2}
    CLIPTextModel(CLIPTextConfig(**text)).save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    DDIMScheduler(num_train_timesteps=1000, clip_sample=False, **betas).save_pretrained(folder / "scheduler")


def _write_vision(folder, tower, quick_gelu):
    tokenizer = small_tokenizer()
    tokenizer.save_pretrained(folder)
    # A name in hf_tokenizer_name makes open_clip read the tokenizer files of this same folder, whatever the name is.
    text = {"hf_tokenizer_name": "tokenizer", "context_length": 16, "vocab_size": len(tokenizer)}
    text |= {"width": 32, "heads": 2, "layers": 1, "pool_type": "argmax"}
    config = {"embed_dim": 24, "quick_gelu": quick_gelu, "vision_cfg": dict(tower), "text_cfg": text}
    statistics = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    written = json.dumps({"model_cfg": config, "preprocess_cfg": statistics}, indent=2)
    (folder / "open_clip_config.json").write_text(written + "\n", encoding="utf-8")
    weights = {key: value.contiguous() for key, value in open_clip.CLIP(**config).state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
