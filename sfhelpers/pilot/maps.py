"""Feature maps of images from every source that the pilot study compares, each computed once."""

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from tqdm.auto import tqdm

from sfhelpers.backbones import Backbone, check_images
from sfhelpers.fusion import FusedExtractor
from sfhelpers.fusion.extractor import UNET_BRANCHES
from sfhelpers.tasks.heads import Head

PLAIN = {f"SD {block}": block for block in UNET_BRANCHES}
CONCATENATED = "SD+CLIP concatenated"
SOURCES = (*PLAIN, "CLIP tokens", CONCATENATED, "fused")
METHODS = {"none": "SD only", "up": "fused", "late": "late fusion", "random": "fused (fixed random injection)"}
INJECTIONS = tuple(METHODS)


@dataclass(frozen=True)
class Settings:
    """How a feature map is made; "SD f1" to "SD f4" are the UNet's up-blocks, the others as in SketchFusion, Sec. 5.1.

    "SD+CLIP concatenated" stacks f1, f2, f3 and CLIP's penultimate tokens, standardised, on one grid; "fused" is the
    aggregated map of a trained extractor. Injection "up" and "random" send the tokens through the trained or the fixed
    random convolutions into the UNet, "late" adds them behind it.
    """

    source: str = "SD f3"  # one of SOURCES
    injection: str = "none"  # one of INJECTIONS: what the UNet is given of CLIP, where the source depends on it
    timestep: int | None = None  # of the noise added before the UNet; None takes the backbone's own (195 in the paper)
    prompt: str = ""  # what the UNet is given ("a photo of [CLASS]" in the paper's Sec. 4)
    seed: int = 0  # of the noise, the same noise for every image
    draws: int = 1  # noise draws that the features are averaged over


class FeatureMaps:
    """Feature maps of images, each computed once, safe for two threads; those used longest ago are forgotten first.

    `heads` are trained segmenters by method, from `load_heads`; one that is missing matters only once it is asked for.
    At most so many `megabytes` are kept (10**6 bytes; an image's four blocks take 0.3 with pocket). `batch_size` is
    images times noise draws that go through the UNet at a time.
    """

    def __init__(self, backbone: Backbone, heads: Mapping[str, Head], megabytes: float = 200, batch_size: int = 16):
        if batch_size < 1 or megabytes < 0:
            raise ValueError(f"batch_size is {batch_size} and megabytes {megabytes}: give 1 or more and 0 or more.")
        self.backbone, self.heads = backbone, dict(heads)
        self.megabytes, self.batch_size = megabytes, batch_size
        self._lock = threading.Lock()
        self._kept: dict[tuple, tuple[Tensor, ...]] = {}  # what was used last stands last

    @torch.no_grad()
    def __call__(self, images: Tensor, settings: Settings) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, C, h, w), float32 on the CPU; refuses other images, and what `check` does."""
        check_images(images)
        self.check(settings)
        if settings.timestep is None:
            settings = replace(settings, timestep=self.backbone.diffusion.timestep)
        with self._lock:
            if settings.source == "CLIP tokens":
                return self._tokens(images)
            blocks = dict(zip(UNET_BRANCHES, self._blocks(images, settings), strict=True))
            if settings.source in PLAIN and settings.injection != "late":
                return blocks[PLAIN[settings.source]]
            kept, device = blocks | {"tokens": self._tokens(images)}, self.backbone.device
            parts = torch.arange(len(images)).split(self.batch_size)
            batches = ({name: feature[part].to(device) for name, feature in kept.items()} for part in parts)
            return torch.cat([self._joined(batch, settings).float().cpu() for batch in batches])

    def check(self, settings: Settings) -> None:
        """ValueError unless such maps can be made with this backbone and these heads."""
        for name, choices in (("source", SOURCES), ("injection", INJECTIONS)):
            if getattr(settings, name) not in choices:
                raise ValueError(f"there is no {name} {getattr(settings, name)!r}: choose from {', '.join(choices)}.")
        if settings.timestep is not None:
            self.backbone.diffusion.check_timestep(settings.timestep)
        self.backbone.diffusion.check_prompt(settings.prompt)
        for name, low, high in (("draws", 1, 1024), ("seed", 0, 2**32 - 1)):
            value = getattr(settings, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name} is {value!r}: give a whole number from {low} to {high}.")
        self._extractor(settings)

    def notes(self, settings: Settings) -> str:
        if settings.source == "CLIP tokens":
            return ""
        if unknown := self.backbone.diffusion.untaught_words(settings.prompt):
            words = ", ".join(f'"{word}"' for word in unknown)
            return f"The text encoder was never taught {words}, which it reads letter by letter."
        if settings.source == "SD f4" and settings.injection == "late":
            return "Late fusion adds nothing to f4: this is the plain UNet's."
        return ""

    def _extractor(self, settings: Settings) -> FusedExtractor | None:
        """Of the trained head that these settings need, None if they need none."""
        if settings.source == CONCATENATED:
            method, wanted = CONCATENATED, "none"
        elif settings.source == "fused" or (settings.source in PLAIN and settings.injection != "none"):
            method, wanted = METHODS[settings.injection], settings.injection
        else:
            return None
        if method not in self.heads:
            have = ", ".join(self.heads) or "none"
            raise ValueError(f'this needs the trained head "{method}" (there are: {have}): load it with load_heads.')
        extractor = self.heads[method].extractor
        if extractor.inject != wanted:
            trained = f'the head "{method}" was trained with inject="{extractor.inject}"'
            raise ValueError(f'{trained}, but "{wanted}" is needed: run 04_segmentation with -p inject {wanted}.')
        return extractor

    def _tokens(self, images: Tensor) -> Tensor:
        return self._each(images, ("tokens",), 1, lambda batch: (self.backbone.vision.tokens(batch),))[0]

    def _blocks(self, images: Tensor, settings: Settings) -> tuple[Tensor, ...]:
        """f1 to f4; those of late fusion and of the concatenated map are the plain UNet's."""
        inside = settings.injection in ("up", "random") and settings.source != CONCATENATED
        extractor = self._extractor(settings) if inside else None
        noise, diffusion = (settings.timestep, settings.prompt, settings.seed, settings.draws), self.backbone.diffusion

        def run(batch: Tensor) -> tuple[Tensor, ...]:
            inject = partial(extractor.add_tokens, self._tokens(batch).to(self.backbone.device)) if inside else None
            return tuple(diffusion.through_hooks(diffusion.noised(batch, *noise), inject, until=len(UNET_BRANCHES)))

        return self._each(images, (inside and settings.injection, *noise), settings.draws, run)

    def _joined(self, features: dict[str, Tensor], settings: Settings) -> Tensor:
        extractor = self._extractor(settings)
        if extractor.inject != "up":  # whose blocks are injected already
            features |= extractor.features(features)
        if settings.source in PLAIN:
            return features[PLAIN[settings.source]]
        stacked = extractor.stacked(features)
        return stacked[0] if settings.source == CONCATENATED else extractor.aggregator(stacked)

    def _each(self, images: Tensor, key: tuple, draws: int, run) -> tuple[Tensor, ...]:
        """What `run` makes of every image, computed for those only that are not kept; batch first."""
        pixels = images.detach().cpu().contiguous().numpy()
        keys = [(*key, image.shape, image.dtype, hashlib.sha256(image).digest()) for image in pixels]
        found = {k: self._kept.pop(k) for k in dict.fromkeys(keys) if k in self._kept}
        missing = list({k: i for i, k in enumerate(keys) if k not in found}.items())
        step = max(1, self.batch_size // draws)
        for start in tqdm(range(0, len(missing), step), desc="feature maps", leave=False, delay=1):
            some = missing[start : start + step]
            outputs = [output.float().cpu() for output in run(images[[i for _, i in some]])]
            found |= {k: tuple(output[n].clone() for output in outputs) for n, (k, _) in enumerate(some)}
        self._kept |= found
        while sum(tensor.nbytes for tensors in self._kept.values() for tensor in tensors) > self.megabytes * 1e6:
            del self._kept[next(iter(self._kept))]
        return tuple(torch.stack(parts) for parts in zip(*(found[k] for k in keys), strict=True))
