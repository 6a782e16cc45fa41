"""The embedded denoiser: a small UNet of SD 2.1's topology and its text encoder, trained to predict noise."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sfhelpers.files import replace_file
from sfhelpers.pocket.data import pictures, resized
from sfhelpers.pocket.text import LENGTH, prompt

SIZE = 96  # pixels the UNet's latents are made from, a side
CHECKPOINT_EVERY = 200  # optimiser steps
WIDTH = 128  # of the text encoder and so of the cross-attention


def new_unet(latent_channels: int = 8) -> UNet2DConditionModel:
    """An untrained UNet: SD 2.1's block types in its order, about 7 M parameters."""
    return UNet2DConditionModel(
        sample_size=SIZE // 4, in_channels=latent_channels, out_channels=latent_channels, layers_per_block=2,
        block_out_channels=(32, 64, 96, 128), norm_num_groups=16, attention_head_dim=(1, 2, 3, 4),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=WIDTH, use_linear_projection=True,
    )  # fmt: skip


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained two-layer CLIP text model for a tokenizer."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=LENGTH, projection_dim=WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def new_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule: 1,000 steps, scaled linear, noise prediction."""
    return DDIMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type="epsilon",
    )  # fmt: skip


@dataclass(frozen=True)
class LatentPool:
    """Training latents (N, C, h, w) and prompt token ids (N, LENGTH), plus the ids of the null prompt (LENGTH,)."""

    latents: Tensor
    tokens: Tensor
    null: Tensor


@torch.no_grad()
def latent_pool(vae: AutoencoderKL, tokenizer: CLIPTokenizer, photos: int, sketches: int) -> LatentPool:
    """Render pictures of the seen categories and encode them; 12,000 photos and 4,000 sketches take about 4 minutes."""
    latents, prompts = [], []
    for domain, count in (("photo", photos), ("sketch", sketches)):
        for start in range(0, count, 500):
            images, categories = pictures(domain, start, min(500, count - start))
            for part in resized(images, SIZE).split(50):
                latents.append(vae.encode(part).latent_dist.mode() * vae.config.scaling_factor)
            prompts += [prompt(c, domain, k % 3) for k, c in enumerate(categories)]

    def ids(texts: list[str]) -> Tensor:
        return tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt").input_ids

    return LatentPool(torch.cat(latents), ids(prompts), ids([""])[0])


class Denoiser(nn.Module):
    """UNet and text encoder as one trainable thing, with the running mean of its weights that is kept in the end."""

    def __init__(self, unet: UNet2DConditionModel, text: CLIPTextModel):
        super().__init__()
        self.unet, self.text = unet, text

    def loss(self, pool: LatentPool, scheduler: DDIMScheduler, batch_size: int, dice: torch.Generator) -> Tensor:
        """Mean squared error of the predicted noise for a random batch; 3 prompts in 10 are the null prompt."""
        device = self.unet.device
        pick = torch.randint(len(pool.latents), (batch_size,), generator=dice)
        tokens = torch.where(torch.rand(batch_size, 1, generator=dice) < 0.3, pool.null, pool.tokens[pick])
        # Low and middle timesteps, where features are taken (t = 195), are drawn more often.
        timesteps = (1000 * torch.rand(batch_size, generator=dice) ** 1.5).long()
        noise = torch.randn(pool.latents[pick].shape, generator=dice)
        noisy = scheduler.add_noise(pool.latents[pick], noise, timesteps)
        context = self.text(tokens.to(device)).last_hidden_state
        predicted = self.unet(noisy.to(device), timesteps.to(device), context).sample
        return F.mse_loss(predicted, noise.to(device))


def train(
    model: Denoiser,
    pool: LatentPool,
    folder: Path,
    steps: int,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    seed: int = 0,
    keep_at: tuple[int, ...] = (),
    log: Callable[[str], None] = print,
) -> list[dict[str, float]]:
    """Train the denoiser, resuming from `folder` if a checkpoint of the same plan is there.

    Args:
        steps: optimiser steps in all (samples = steps * batch_size); the cosine schedule is that long.
        keep_at: numbers of samples at which a copy of the averaged weights is kept (`samples_N.safetensors`).

    Returns:
        The log: every 50 steps the samples so far, mean loss and seconds. `model` ends with the averaged weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scheduler, dice = new_scheduler(), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _rate(steps))
    mean = {name: p.detach().clone() for name, p in model.named_parameters()}
    plan = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    done, history = _resume(folder, plan, model, mean, optimiser, schedule, dice)
    model.train()
    started, running = time.time() - (history[-1]["seconds"] if history else 0.0), []
    for step in tqdm(range(done, steps), initial=done, total=steps, desc="denoiser", leave=False, mininterval=10):
        loss = model.loss(pool, scheduler, batch_size, dice)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the denoiser's loss is {loss.item()} at step {step}: lower learning_rate ({learning_rate})."
            )
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        _average(mean, model, step)
        running.append(loss.item())
        samples = (step + 1) * batch_size
        if (step + 1) % 50 == 0 or step + 1 == steps:
            history.append({"samples": samples, "loss": sum(running) / len(running), "seconds": time.time() - started})
            log(f"{samples} samples: loss {history[-1]['loss']:.4f}")
            running = []
        if any(samples - batch_size < k <= samples for k in keep_at):
            _write(mean, folder / f"samples_{samples}.safetensors")
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
            _checkpoint(folder, plan, step + 1, model, mean, optimiser, schedule, dice, history)
    model.load_state_dict({**model.state_dict(), **mean})
    model.eval()
    return history


def _rate(steps: int) -> Callable[[int], float]:
    """The learning rate's factor at a step: a short linear rise, then a cosine down to 2 %."""
    warm = max(1, min(100, steps // 10))
    return lambda s: min(1, (s + 1) / warm) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * s / max(steps, 1))))


def _average(mean: dict[str, Tensor], model: Denoiser, step: int) -> None:
    """Move the running mean of the weights; its memory grows to 1,000 steps."""
    decay = min(0.999, (step + 1) / (step + 10))
    for name, p in model.named_parameters():
        mean[name].lerp_(p.detach(), 1 - decay)


def _write(tensors: dict[str, Tensor], path: Path) -> None:
    replace_file(path, save({k: v.contiguous() for k, v in tensors.items()}))


def _checkpoint(folder: Path, plan: dict, step: int, model, mean, optimiser, schedule, dice, history) -> None:
    tensors = {f"model.{k}": v for k, v in model.named_parameters()}
    tensors |= {f"mean.{k}": v for k, v in mean.items()}
    for (name, _), state in zip(model.named_parameters(), optimiser.state_dict()["state"].values(), strict=True):
        tensors |= {f"adam.{name}.{k}": v for k, v in state.items()}
    tensors["dice"] = dice.get_state()
    tensors["progress"] = torch.tensor([step])
    _write({k: v.detach().clone() for k, v in tensors.items()}, folder / "checkpoint.safetensors")
    replace_file(folder / "progress.json", json.dumps({"plan": plan, "history": history}, indent=1).encode())


def _resume(folder: Path, plan: dict, model, mean, optimiser, schedule, dice) -> tuple[int, list[dict[str, float]]]:
    if not (folder / "progress.json").exists():
        return 0, []
    saved = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    if saved["plan"] != plan:
        raise ValueError(
            f"{folder} holds a checkpoint of another plan ({saved['plan']}): take another folder or these settings."
        )
    tensors = load_file(folder / "checkpoint.safetensors")
    step = int(tensors["progress"])
    state = optimiser.state_dict()
    for k, (name, p) in enumerate(model.named_parameters()):
        p.data.copy_(tensors[f"model.{name}"])
        mean[name].copy_(tensors[f"mean.{name}"])
        prefix = f"adam.{name}."
        state["state"][k] = {key[len(prefix) :]: v for key, v in tensors.items() if key.startswith(prefix)}
    optimiser.load_state_dict(state)
    schedule.last_epoch = step - 1
    optimiser._opt_called = True  # the schedule warns otherwise, though the steps were taken before the cut
    schedule.step()
    dice.set_state(tensors["dice"])
    return step, [entry for entry in saved["history"] if entry["samples"] <= step * plan["batch_size"]]
