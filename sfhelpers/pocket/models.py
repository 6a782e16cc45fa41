"""The embedded models before they are trained, of the shipped ones' configurations, and the folder they end up in."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import open_clip
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_model
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sfhelpers.backbones import write_preset
from sfhelpers.backbones.encoders import Encoder
from sfhelpers.backbones.presets import POCKET_FOLDER as SHIPPED
from sfhelpers.pocket.data import LENGTH, SIZE, write_tokenizer

FACTOR = 4  # pixels a latent position, a side
CHANNELS = 8
TOWER = {"timm_model_name": "vit_hybrid_lite0", "timm_pool": "token", "timm_proj": "linear", "image_size": 160}
CARRIER = 100.0  # size of the constant channels that keep the last GroupNorm from rescaling each image


def patch_pca(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (48,), principal components (8, 48), spreads (8,) of 4 x 4 patches (channel, row, column) of images."""
    return _pca(F.unfold(images, FACTOR, stride=FACTOR).transpose(1, 2).reshape(-1, 3 * FACTOR**2), CHANNELS)


def _pca(values: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    pca = PCA(count, svd_solver="covariance_eigh").fit(values.double().numpy())
    mean, components = torch.from_numpy(pca.mean_), torch.from_numpy(pca.components_)
    components = components * components.sum(1, keepdim=True).sign()  # a sign that does not depend on the solver
    return mean.float(), components.float(), torch.from_numpy(pca.explained_variance_).sqrt().float()


def new_autoencoder(images: Tensor, seed: int = 0) -> AutoencoderKL:
    """An autoencoder whose encoder *is* the whitened patch PCA of `images`, (N, 3, H, W) in [-1, 1].

    A KL autoencoder trained from nothing on a small budget ends far below the closed-form linear solution, so the
    encoder's weights are written down: its convolutions cut the image into patches and project them, its residual
    branches are zero, and its last norm and SiLU are undone. The decoder is untrained and starts where `seed` says.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoencoderKL.from_config(AutoencoderKL.load_config(SHIPPED / "vae"))
    _write_encoder(model.encoder.requires_grad_(False), *patch_pca(images))
    return model.eval()


@torch.no_grad()
def _write_encoder(encoder: nn.Module, mean: Tensor, components: Tensor, spread: Tensor) -> None:
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.zero_()
            module.bias.zero_()
    first, second = (encoder.down_blocks[k].downsamplers[0].conv for k in (0, 1))
    colour, twelve, k = torch.arange(3), torch.arange(12), torch.arange(CHANNELS)
    encoder.conv_in.weight[colour, colour, 1, 1] = 1  # the image's colours pass
    first.weight[twelve, twelve // 4, twelve // 2 % 2, twelve % 2] = 1  # 2 x 2 pixels become 12 channels
    encoder.down_blocks[1].resnets[0].conv_shortcut.weight[twelve, twelve, 0, 0] = 1
    # 2 x 2 of those become components: (k, colour, coarse row, fine row, coarse column, fine column) in a patch.
    weight = components.reshape(CHANNELS, 3, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(CHANNELS, 12, 2, 2)
    offset = torch.stack([component @ mean for component in components]) / spread
    plus = k // 2 * 8 + k % 2 * 2  # two components, each with its negative, and two carriers in each group of eight
    for sign, channel in ((1.0, plus), (-1.0, plus + 1)):
        second.weight[channel, :12, :2, :2] = sign * weight / spread[:, None, None, None]
        second.bias[channel] = -sign * offset
        # GroupNorm divides by about CARRIER / 2; SiLU(x) - SiLU(-x) = x undoes the activation.
        encoder.conv_out.weight[k, channel, 1, 1] = sign * CARRIER / 2
    second.bias[4::8], second.bias[5::8] = CARRIER, -CARRIER
    encoder.conv_out.bias[CHANNELS:] = -20.0  # log-variance: the latent is the mean


def new_denoiser(tokenizer: CLIPTokenizer) -> nn.ModuleDict:
    """An untrained "unet" of SD 2.1's block types in its order, about 7 M parameters, and its "text" encoder."""
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    ids |= {"vocab_size": len(tokenizer), "max_position_embeddings": LENGTH}
    config = CLIPTextConfig.from_pretrained(SHIPPED / "text_encoder", **ids)
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(SHIPPED / "unet"))
    return nn.ModuleDict({"unet": unet, "text": CLIPTextModel(config)})


def new_clip(folder: Path, imagenet: Encoder | None = None) -> nn.Module:
    """An untrained CLIP, and its open_clip folder (config and tokenizer, no weights yet).

    Its image tower is a transformer on the trunk of EfficientNet-Lite0, which starts as `imagenet`'s, if one is given.
    """
    config = json.loads((SHIPPED / "vision" / "open_clip_config.json").read_text(encoding="utf-8"))
    own = config["model_cfg"]
    own["text_cfg"] |= {"vocab_size": len(write_tokenizer(folder)), "context_length": LENGTH}
    own["vision_cfg"] = TOWER
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    model = open_clip.model.CustomTextCLIP(own["embed_dim"], TOWER, own["text_cfg"])
    if imagenet:
        trunk, theirs = model.visual.trunk.patch_embed.backbone, imagenet.model.state_dict()
        trunk.load_state_dict({name: theirs[name] for name in trunk.state_dict()})
    return model


@torch.no_grad()
def start_as_pooling(clip: nn.Module, maps: Tensor) -> None:
    """Let the image tower of `new_clip` begin as what a convolutional one ends with: the mean over places.

    Tokens become the principal components of `maps` (N, 320, h, w), which the trunk makes of some pictures, spreads
    halfway evened; in the last block the class token looks everywhere nearly alike and takes what it finds as it is.
    """
    tower = clip.visual.trunk
    width, values = tower.embed_dim, maps.transpose(0, 1).flatten(1).T
    mean, components, spread = _pca(values, width)
    scaled = components / (spread[:, None] / spread[0]).sqrt()
    scaled /= ((values - mean) @ scaled.T).std()
    tower.patch_embed.proj.weight.copy_(scaled[..., None, None])
    tower.patch_embed.proj.bias.copy_(-scaled @ mean)
    last, head = tower.blocks[-1].attn, clip.visual.head.proj.weight
    last.qkv.weight[: 2 * width] *= 0.1
    for weight in (last.qkv.weight[2 * width :], last.proj.weight, head):
        weight.copy_(torch.eye(*weight.shape))


def write_folder(folder: Path, vae: AutoencoderKL, denoiser: nn.ModuleDict, clip: nn.Module, words: Path) -> Path:
    """Write a sealed backbone folder in half precision, as diffusers and open_clip do; `words` is from `new_clip`."""
    # Copies are halved, so that the models at hand stay as they are.
    for name, part in (("vae", vae), ("unet", denoiser["unet"])):
        # Keys with an underscore say where a config was read, which is nobody's business.
        half = type(part).from_config({key: value for key, value in part.config.items() if not key.startswith("_")})
        half.load_state_dict(part.state_dict())
        nn.Module.to(half, torch.float16)
        half.save_pretrained(folder / name)
    deepcopy(denoiser["text"]).half().save_pretrained(folder / "text_encoder")
    CLIPTokenizer.from_pretrained(words).save_pretrained(folder / "tokenizer")
    for source, name in ((SHIPPED / "scheduler", "scheduler"), (words, "vision")):
        shutil.copytree(source, folder / name, dirs_exist_ok=True)
    save_model(deepcopy(clip).half(), str(folder / "vision" / "open_clip_model.safetensors"))
    write_preset(folder, size=SIZE)
    return folder
