"""Frozen features of a Stable Diffusion model, whole or as a stored prefix and a short suffix, by hooks on its UNet."""

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from sfhelpers.backbones.inputs import repeat_draws, to_pixels

Inject = Callable[[int, Tensor], Tensor]  # (block, its output (B * draws, C, h, w)) -> what goes on; not in place
_SKIPS = "res_hidden_states_tuple"  # diffusers' name for what an up-block is given of the down-blocks

SLICED = 256  # px, from which the autoencoder takes one image at a time: at 480 px each needs 0.6 GB

# Hooks hang on the model itself: two threads in it, a widget's stroke beside a running cell, would mix their features.
_RUNNING = threading.RLock()


class _Reached(Exception):
    """All that was wanted from the UNet is there; the rest of its forward would be thrown away."""


class DiffusionFeatures:
    """Up-block features f1..f4 of a Stable Diffusion model, frozen here (SketchFusion, Sec. 5.1).

    Images are (B, 3, H, W) floats in [0, 1] of any size, squeezed to `size` px. The noise comes from a seed on the CPU
    and is the same for all images and on every device; features are averaged over its draws after the UNet.
    """

    def __init__(
        self, vae: Module, unet: Module, text_encoder: Module, tokenizer: Any, scheduler: Any, size: int, timestep: int,
        clean: bool = False,
    ):  # fmt: skip
        self.vae, self.unet, self.text_encoder = (m.eval().requires_grad_(False) for m in (vae, unet, text_encoder))
        self.tokenizer, self.scheduler = tokenizer, scheduler
        self.size, self.timestep, self.clean = size, timestep, clean  # clean: no noise is added (CleanDIFT)
        self.down_dims = tuple(unet.config.block_out_channels)  # channels of the four down-blocks' outputs
        self.block_dims = self.down_dims[::-1]  # and of the up-blocks'
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)  # pixels a side for one latent
        if size < self.factor or size % self.factor:
            raise ValueError(f"size {size} does not suit the autoencoder: choose a multiple of {self.factor} pixels.")
        if size > SLICED:
            vae.enable_slicing()
        self.check_timestep(timestep)
        self._texts: dict[str, Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_texts": {}}  # a copy's text encoder may be given other weights

    @torch.no_grad()
    def latents(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to scaled latents (B, C, size / factor, size / factor): the mode, no sampling."""
        return self.encoded(to_pixels(images, self.size, "bilinear", self.vae.encoder.conv_in.weight))

    def encoded(self, pixels: Tensor) -> Tensor:
        """As `latents`, of pixels at `size` that may lie outside [0, 1], with gradients."""
        pixels = (pixels * 2 - 1).to(self.vae.encoder.conv_in.weight.dtype)  # what learns in them may be finer
        return self.vae.encode(pixels).latent_dist.mode() * self.vae.config.scaling_factor

    @torch.no_grad()
    def text(self, prompt: str = "") -> Tensor:
        """The prompt's (L, D) hidden states; encoded once and kept."""
        if prompt not in self._texts:
            self.check_prompt(prompt)
            length = self.text_encoder.config.max_position_embeddings
            ids = self.tokenizer(prompt, padding="max_length", max_length=length, return_tensors="pt")
            self._texts[prompt] = self.text_encoder(ids.input_ids.to(self.unet.device))[0][0]
        return self._texts[prompt]

    def check_prompt(self, prompt: str) -> None:
        if not isinstance(prompt, str):
            raise ValueError(f"the prompt is of type {type(prompt).__name__}: pass a text.")
        most = self.text_encoder.config.max_position_embeddings - 2  # without both ends
        if (tokens := len(self.tokenizer(prompt, verbose=False).input_ids) - 2) > most:
            raise ValueError(f"the prompt has {tokens} tokens, but the text encoder reads {most} at most: shorten it.")

    def check_timestep(self, timestep: int) -> None:
        last = self.scheduler.config.num_train_timesteps - 1
        if isinstance(timestep, bool) or not isinstance(timestep, int) or not 0 <= timestep <= last:
            raise ValueError(f"timestep {timestep!r} is not in the scheduler: choose a whole number from 0 to {last}.")

    def check_draws(self, draws: int) -> None:
        """ValueError for less than one."""
        if draws < 1:
            raise ValueError(f"draws is {draws}: average over at least one noise draw.")

    def untaught_words(self, prompt: str) -> list[str]:
        """The prompt's words that the tokenizer breaks into single letters: the text encoder was never taught them."""

        def is_spelt(word: str) -> bool:
            pieces = self.tokenizer.tokenize(word)
            parts = [part.split() for part in " ".join(pieces).split("</w>")]  # "it's" may be several to a tokenizer
            return self.tokenizer.unk_token in pieces or any(len(p) > 1 and min(map(len, p)) == 1 for p in parts)

        return [word for word in dict.fromkeys(word.strip(",.;:!?") for word in prompt.split()) if is_spelt(word)]

    @torch.no_grad()
    def noised(
        self, images: Tensor, timestep: int | None = None, prompt: str = "", seed: int = 0, draws: int = 1
    ) -> dict[str, Tensor]:
        """What the UNet is given, batch first: `noisy` (B, draws, C, h, w), `timestep` (B,), `text` (B, L, D)."""
        timestep = self.timestep if timestep is None else timestep
        self.check_timestep(timestep)
        self.check_draws(draws)
        return self.with_noise(self.latents(images), self.text(prompt), timestep, seed, draws)

    def with_noise(self, latents: Tensor, text: Tensor, timestep: int, seed: int, draws: int) -> dict[str, Tensor]:
        """As `noised`, of scaled latents and of any text (L, D), with gradients."""
        dice = torch.Generator().manual_seed(seed)
        noise = torch.stack([torch.randn(latents.shape[1:], generator=dice) for _ in range(draws)]).to(latents)
        batch = len(latents)  # and draw k of the noise does not depend on how many draws follow
        steps = torch.full((batch,), timestep, device=latents.device)
        repeated = repeat_draws(latents, draws), noise.repeat(batch, 1, 1, 1), repeat_draws(steps, draws)
        noisy = repeated[0] if self.clean else self.scheduler.add_noise(*repeated)
        noisy = noisy.unflatten(0, (batch, draws))
        return {"noisy": noisy, "timestep": steps, "text": text.expand(batch, *text.shape).clone()}

    @torch.no_grad()
    def features(self, images: Tensor, blocks: tuple[int, ...] = (0, 1, 2, 3), **noise: Any) -> list[Tensor]:
        """Outputs (B, C, h, w) of the up-blocks named in `blocks` (0 is f1); `noise` as of `noised`."""
        if not blocks or not set(blocks) <= set(range(len(self.block_dims))):
            raise ValueError(f"blocks {tuple(blocks)} are not up-blocks: choose from 0 to {len(self.block_dims) - 1}.")
        outputs = self.through_hooks(self.noised(images, **noise), until=max(blocks) + 1)
        return [outputs[block] for block in blocks]

    def through_hooks(
        self, noised: dict[str, Tensor], inject: Inject | None = None, inject_down: Inject | None = None, until: int = 3
    ) -> list[Tensor]:
        """f1..f_until, (B, C, h, w) each, by hooks on the running UNet, averaged over the draws; skips stay."""
        outputs: list[Tensor] = []

        def on_up(block: int, module: Module, args: Any, output: Tensor) -> Tensor:
            outputs.append(output if inject is None else inject(block, output))
            if block == until - 1:
                raise _Reached
            return outputs[-1]

        def on_down(block: int, module: Module, args: Any, output: tuple) -> tuple:
            return inject_down(block, output[0]), output[1]

        with _RUNNING, ExitStack() as hooks, suppress(_Reached):
            for n, block in enumerate(self.unet.up_blocks[:until]):
                hooks.enter_context(block.register_forward_hook(partial(on_up, n)))
            for n, block in enumerate(self.unet.down_blocks if inject_down else ()):
                hooks.enter_context(block.register_forward_hook(partial(on_down, n)))
            self.unet(*_arguments(noised, self.unet.conv_in.weight.dtype))
        return [_average(output, noised["noisy"].shape[:2]) for output in outputs]

    @torch.no_grad()
    def prefix(self, images: Tensor, until: int = 3, **noise: Any) -> dict[str, Tensor]:
        """All that is frozen before the first injection, behind up-block 1, batch first.

        `hidden` (B, draws, C, h, w), the raw f1; `skips<n>.<k>` (B, draws, C, h, w), what up-block n concatenates;
        `temb` (B, D); `text` (B, L, D); `upsample_size` (B, until, 2), zero where the UNet simply doubles.
        """
        noised = self.noised(images, **noise)
        batch = noised["noisy"].shape[:2]  # and draws
        sizes = torch.zeros(batch[0], until, 2, dtype=torch.long)
        kept = {"text": noised["text"], "upsample_size": sizes}

        def keep(n: int, module: Module, args: Any, given: dict[str, Any]) -> None:
            if n == 1:  # what it is given is what the first made
                kept["hidden"] = given["hidden_states"].unflatten(0, batch)
            if n < until:
                kept["temb"] = given["temb"].unflatten(0, batch)[:, 0].clone()
                kept.update({f"skips{n}.{k}": s.unflatten(0, batch) for k, s in enumerate(given[_SKIPS])})
                sizes[:, n] = torch.tensor(given["upsample_size"] or (0, 0))
            if n >= until - 1:
                raise _Reached

        with _RUNNING, ExitStack() as hooks, suppress(_Reached):
            for n, block in enumerate(self.unet.up_blocks[1:], start=1):
                hooks.enter_context(block.register_forward_pre_hook(partial(keep, n), with_kwargs=True))
            self.unet(*_arguments(noised, self.unet.conv_in.weight.dtype))
        return kept

    def suffix(self, prefix: dict[str, Tensor], inject: Inject | None = None, until: int = 3) -> list[Tensor]:
        """As `through_hooks`, from what `prefix` gave with at least this `until`: runs up-blocks 2 to `until` only."""
        batch = prefix["hidden"].shape[:2]  # and draws
        hidden, outputs = prefix["hidden"].flatten(0, 1), []
        for n, block in enumerate(self.unet.up_blocks[:until]):
            if n > 0:
                size = tuple(prefix["upsample_size"][0, n].tolist())
                call = {"upsample_size": size if all(size) else None, "temb": repeat_draws(prefix["temb"], batch[1])}
                call[_SKIPS] = tuple(prefix[f"skips{n}.{k}"].flatten(0, 1) for k in range(len(block.resnets)))
                if getattr(block, "has_cross_attention", False):
                    call["encoder_hidden_states"] = repeat_draws(prefix["text"], batch[1])
                with _RUNNING:
                    hidden = block(hidden_states=hidden, **call)
            if inject is not None:
                hidden = inject(n, hidden)
            outputs.append(hidden)
        return [_average(output, batch) for output in outputs]


def _arguments(noised: dict[str, Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The UNet's noisy latents, timesteps and text, from what `noised` gives: every draw is an image of its own."""
    steps, text = (repeat_draws(noised[key], noised["noisy"].shape[1]) for key in ("timestep", "text"))
    return noised["noisy"].flatten(0, 1).to(dtype), steps, text.to(dtype)


def _average(output: Tensor, batch_and_draws: tuple[int, int]) -> Tensor:
    output = output.unflatten(0, batch_and_draws)
    return output[:, 0] if output.shape[1] == 1 else output.mean(dim=1)
