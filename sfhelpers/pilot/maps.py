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
from sfhelpers.backbones.diffusion import Inject
from sfhelpers.fusion import FusedExtractor
from sfhelpers.fusion.modules import to_grid
from sfhelpers.tasks.heads import Head

BLOCKS = ("f1", "f2", "f3", "f4")
CONCATENATED = "SD+CLIP concatenated"
SOURCES = (*(f"SD {block}" for block in BLOCKS), "CLIP tokens", CONCATENATED, "fused")
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
            return (self._block if settings.source in SOURCES[:4] else self._joined)(images, settings)

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
        if method := _method(settings):
            self._head(method)

    def notes(self, settings: Settings) -> str:
        """What one should know about these settings: "", or one sentence."""
        if settings.source == "CLIP tokens":
            return ""
        if unknown := self.backbone.diffusion.untaught_words(settings.prompt):
            words = ", ".join(f'"{word}"' for word in unknown)
            return f"The text encoder was never taught {words}, which it reads letter by letter."
        if settings.source == "SD f4" and settings.injection == "late":
            return "Late fusion adds nothing to f4: this is the plain UNet's."
        return ""

    def _head(self, method: str) -> FusedExtractor:
        if method not in self.heads:
            have = ", ".join(self.heads) or "none"
            raise ValueError(f'this needs the trained head "{method}" (there are: {have}): load it with load_heads.')
        extractor = self.heads[method].extractor
        wanted = next((key for key, name in METHODS.items() if name == method), "none")
        if extractor.inject != wanted:
            trained = f'the head "{method}" was trained with inject="{extractor.inject}"'
            raise ValueError(f'{trained}, but "{wanted}" is needed: run 04_segmentation with -p inject {wanted}.')
        return extractor

    def _tokens(self, images: Tensor) -> Tensor:
        return self._each(images, ("tokens",), 1, lambda batch: (self.backbone.vision.tokens(batch),))[0]

    def _blocks(self, images: Tensor, settings: Settings) -> tuple[Tensor, ...]:
        """f1 to f4; those of late fusion are the plain UNet's, since it changes nothing inside."""
        inside = settings.injection if settings.injection in ("up", "random") else "none"
        noise, diffusion = (settings.timestep, settings.prompt, settings.seed, settings.draws), self.backbone.diffusion

        def run(batch: Tensor) -> tuple[Tensor, ...]:
            inject = None if inside == "none" else self._injecting(METHODS[inside], batch)
            return tuple(diffusion.through_hooks(diffusion.noised(batch, *noise), inject, until=len(BLOCKS)))

        return self._each(images, (inside, *noise), settings.draws, run)

    def _injecting(self, method: str, images: Tensor) -> Inject:
        """The same additions as inside the head's own extractor."""
        return partial(self._head(method).add_tokens, self._tokens(images).to(self.backbone.device))

    def _block(self, images: Tensor, settings: Settings) -> Tensor:
        block = SOURCES.index(settings.source)
        feature = self._blocks(images, settings)[block]
        if settings.injection != "late":
            return feature
        return self._injecting(METHODS["late"], images)(block, feature.to(self.backbone.device)).float().cpu()

    def _joined(self, images: Tensor, settings: Settings) -> Tensor:
        if settings.source == CONCATENATED:
            settings = replace(settings, injection="none")
        extractor, made = self._head(_method(settings)), []
        kept = dict(zip((*BLOCKS, "tokens"), (*self._blocks(images, settings), self._tokens(images)), strict=True))
        for part in torch.arange(len(images)).split(self.batch_size):
            features = {name: feature[part].to(self.backbone.device) for name, feature in kept.items()}
            standard = {name: extractor.statistics[name](features[name]) for name in extractor.sources}
            if settings.source == CONCATENATED:
                joined = torch.cat([to_grid(one, (extractor.aggregator.grid,) * 2) for one in standard.values()], dim=1)
            elif extractor.inject == "up":  # its blocks are injected already; its own forward would run the UNet again
                joined = extractor.aggregator([standard[name] for name in extractor.branches])
            else:
                joined = extractor(features)
            made.append(joined.float().cpu())
        return torch.cat(made)

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


def _method(settings: Settings) -> str:
    """The head that these settings need, "" for none."""
    if settings.source == CONCATENATED:
        return CONCATENATED
    joined = settings.source == "fused" or (settings.source in SOURCES[:4] and settings.injection != "none")
    return METHODS[settings.injection] if joined else ""
