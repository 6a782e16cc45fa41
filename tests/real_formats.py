"""Folders in the formats of the real models, of the libraries' own classes: random weights, at full size or reduced."""

import json

import open_clip
import timm
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file, save_model
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sfhelpers.backbones import DIFFUSION, VISION
from sfhelpers.backbones.presets import STANDARD
from tests.backbone_fixtures import small_tokenizer

ONE, TWO = "Stable Diffusion 1", "Stable Diffusion 2"
UNETS = {  # Stable Diffusion 1's is diffusers' default but for the text
    ONE: {"cross_attention_dim": 768, "sample_size": 64},
    TWO: {"attention_head_dim": (5, 10, 20, 20), "cross_attention_dim": 1024, "use_linear_projection": True},
}
TEXTS = {
    ONE: {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    TWO: {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16},
}
BLOCKS = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
VAE = BLOCKS | {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "scaling_factor": 0.18215}
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
THIN = {"block_out_channels": (32, 32, 32, 64), "layers_per_block": 1, "norm_num_groups": 16}
DEPTH = 2  # blocks of a reduced image tower
SIZES = FULL, SHALLOW, NARROW = "full", "shallow", "narrow"  # shallow: towers of real width


def clip_tokenizer():
    """Stable Diffusion's 49,408 words, of open_clip's copy."""
    known = open_clip.tokenizer.SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    words = {names.get(word, word): number for word, number in known.encoder.items()}
    return CLIPTokenizer(vocab=words, merges=[*known.bpe_ranks], model_max_length=77)


def write_diffusion(folder, preset="sd21", full=False, size=0):
    """A diffusers pipeline folder without a vision half, as the hub holds it for a preset of `DIFFUSION`; a `size` in
    px makes it a backbone by its own name, for small images."""
    half = DIFFUSION[preset]
    kind = ONE if half.family == ONE else TWO
    unet, vae, text = UNETS[kind], VAE, TEXTS[kind]
    if not full:  # the channels of the text stay: they tell the families apart
        heads = {"attention_head_dim": (1, 1, 1, 2)} if kind == TWO else {}
        unet, vae = unet | THIN | heads, vae | {"block_out_channels": (4, 8, 8, 8), "norm_num_groups": 4}
        text = text | {"intermediate_size": 64, "num_hidden_layers": 1}
    tokenizer = clip_tokenizer() if full else small_tokenizer()
    tokenizer.save_pretrained(folder / "tokenizer")
    predicts = "v_prediction" if half.family == TWO else "epsilon"
    DDIMScheduler(**BETAS, prediction_type=predicts).save_pretrained(folder / "scheduler")
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = CLIPTextConfig(**text, **ends, vocab_size=len(tokenizer), max_position_embeddings=77)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = UNet2DConditionModel(**unet)
        made.save_pretrained(folder / "unet")
        if half.unet:  # CleanDIFT's weights, beside the pipeline that they are tuned from
            save_file(made.state_dict(), folder / half.unet[1])
        del made
        AutoencoderKL(**vae).save_pretrained(folder / "vae")
        CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    if size:
        used = {"diffusion": {"size": size}, "vision": {"layer": -2, "quick_gelu": True}}
        (folder / "preset.json").write_text(json.dumps(used))
    return folder


def clip_config(preset, how):
    """Of an open_clip half, by its own name; a timm tower in it is made shallow where it is built."""
    config = open_clip.get_model_config(VISION[preset].model)
    if "timm_model_name" not in config["vision_cfg"]:
        config["vision_cfg"] |= {"layers": DEPTH} if how != FULL else {}
        config["text_cfg"] |= {"layers": 1} if how != FULL else {}
    elif how != FULL:
        config["text_cfg"] |= {"layers": 1, "context_length": 16, "vocab_size": len(small_tokenizer())}
    if how == NARROW:
        config["embed_dim"] = 32
        config["vision_cfg"] |= {"width": 64, "head_width": 32}
        config["text_cfg"] |= {"width": 32, "heads": 2}
    return config


def write_vision(folder, preset=STANDARD, how=NARROW):
    """A vision half as the hub holds it: an open_clip folder with its tokenizer, or a folder with timm's weights."""
    half = VISION[preset]
    folder.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if half.size:
            options = {"dynamic_img_size": True, "num_classes": 0, **dict(half.options)}
            options |= {"depth": DEPTH} if how != FULL else {}
            save_file(timm.create_model(half.model, **options).state_dict(), folder / half.file)
            return folder
        config = clip_config(preset, how)
        if "hf_tokenizer_name" in config["text_cfg"]:
            small_tokenizer().save_pretrained(folder)
        kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
        save_model(kind(**config), str(folder / "open_clip_model.safetensors"))
    config = clip_config(preset, how)
    statistics = open_clip.get_pretrained_cfg(half.model, open_clip.list_pretrained_tags_by_model(half.model)[0])
    statistics = {name: statistics[name] for name in ("mean", "std")}
    described = {"model_cfg": config, "preprocess_cfg": statistics}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    return folder


MADE_SHALLOW = f"""
import timm

make, shallow = timm.create_model, {{"depth": {DEPTH}}}
timm.create_model = lambda name, **given: make(name, **(shallow if name.startswith("vit_") else {{}}), **given)
"""
