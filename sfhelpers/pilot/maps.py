"""Feature maps of images from every source that the pilot study compares, each computed once."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm.auto import tqdm

from sfhelpers.backbones import Backbone, check_images
from sfhelpers.backbones.diffusion import Inject
from sfhelpers.fusion import FusedExtractor
from sfhelpers.fusion.modules import to_grid
from sfhelpers.tasks.heads import Head

BLOCKS = ("f1", "f2", "f3", "f4")
SOURCES = (*(f"SD {block}" for block in BLOCKS), "CLIP tokens", "SD+CLIP concatenated", "fused")
INJECTIONS = ("none", "up", "late", "random")
CONCATENATED = "SD+CLIP concatenated"
METHODS = {"none": "SD only", "up": "fused", "late": "late fusion", "random": "fused (fixed random injection)"}


@dataclass(frozen=True)
class Settings:
    """How a feature map is made.

    Args:
        source: one of `SOURCES`. "SD f1" to "SD f4" are the outputs of the UNet's up-blocks, "CLIP tokens" those of
            CLIP's penultimate layer; "SD+CLIP concatenated" stacks f1, f2, f3 and the tokens, standardised, on one
            grid; "fused" is the aggregated map of a trained extractor (SketchFusion, Sec. 5.1).
        injection: what the UNet is given of CLIP. "none": nothing; "up", "random": the tokens pass through the
            trained or the fixed random convolutions into the up-blocks 1 to 3; "late": they are added behind the
            UNet. It is ignored where the source does not depend on it.
        timestep: of the noise added before the UNet; None takes the backbone's own (195 in the paper).
        prompt: the text the UNet is given ("a photo of [CLASS]" in the paper's Sec. 4).
        seed: of the noise, the same noise for every image.
        draws: noise draws that the features are averaged over.
    """

    source: str = "SD f3"
    injection: str = "none"
    timestep: int | None = None
    prompt: str = ""
    seed: int = 0
    draws: int = 1


class FeatureMaps:
    """Feature maps of images, each computed once, kept within a byte budget, safe for two threads.

    One pass through the UNet gives all four blocks, so they are kept together, image by image; of what does not fit
    the budget, the images used longest ago are forgotten.

    Args:
        backbone: from `load_backbone`.
        heads: trained segmenters by method, from `load_heads`; one that is missing matters only once it is asked for.
        megabytes: at most so much is kept (10**6 bytes each); an image's four blocks take 0.3 MB with pocket.
        batch_size: images times noise draws that go through the UNet at a time.

    Attributes:
        kept_bytes: how much is kept now.
    """

    def __init__(
        self, backbone: Backbone, heads: Mapping[str, Head], megabytes: float = 200, batch_size: int = 16
    ):  # fmt: skip
        if batch_size < 1 or megabytes < 0:
            raise ValueError(f"batch_size is {batch_size} and megabytes {megabytes}: give 1 or more and 0 or more.")
        self.backbone, self.heads = backbone, dict(heads)
        self.megabytes, self.batch_size = megabytes, batch_size
        self.kept_bytes = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple, tuple[Tensor, ...]] = OrderedDict()

    @torch.no_grad()
    def __call__(self, images: Tensor, settings: Settings) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, C, h, w), float32 on the CPU.

        Raises:
            ValueError: images of another shape or range, or what `check` refuses.
        """
        check_images(images)
        self.check(settings)
        timestep = self.backbone.diffusion.timestep if settings.timestep is None else settings.timestep
        settings = replace(settings, timestep=timestep)
        with self._lock:
            if settings.source == "CLIP tokens":
                return self._tokens(images)
            if settings.source in (CONCATENATED, "fused"):
                return self._joined(images, settings)
            return self._block(images, settings)

    def check(self, settings: Settings) -> None:
        """Raise a ValueError of one sentence unless such maps can be made.

        Refused are an unknown source or injection, a timestep outside the scheduler, a prompt that is too long, a
        seed or a number of draws out of range, and a source whose head is missing or was trained otherwise.
        """
        for name, choices in (("source", SOURCES), ("injection", INJECTIONS)):
            if getattr(settings, name) not in choices:
                raise ValueError(f"there is no {name} {getattr(settings, name)!r}: choose from {', '.join(choices)}.")
        diffusion = self.backbone.diffusion
        if settings.timestep is not None:
            diffusion.check_timestep(settings.timestep)
        diffusion.check_prompt(settings.prompt)
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
        unknown = self.backbone.diffusion.untaught_words(settings.prompt)
        if unknown:
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
        wanted = {name: key for key, name in METHODS.items()}.get(method, "none")
        if extractor.inject != wanted:
            raise ValueError(
                f'the head "{method}" was trained with inject="{extractor.inject}", but "{wanted}" is needed: '
                f"run 04_segmentation with -p inject {wanted}."
            )
        return extractor

    def _tokens(self, images: Tensor) -> Tensor:
        return self._each(images, ("tokens",), 1, lambda batch: (self.backbone.vision.tokens(batch),))[0]

    def _blocks(self, images: Tensor, settings: Settings) -> tuple[Tensor, ...]:
        """f1 to f4; those of late fusion are the plain UNet's, since it changes nothing inside."""
        inside = settings.injection if settings.injection in ("up", "random") else "none"
        noise = (settings.timestep, settings.prompt, settings.seed, settings.draws)

        def run(batch: Tensor) -> tuple[Tensor, ...]:
            inject = None if inside == "none" else self._injecting(METHODS[inside], batch)
            diffusion = self.backbone.diffusion
            return tuple(diffusion.through_hooks(diffusion.noised(batch, *noise), inject, until=len(BLOCKS)))

        return self._each(images, (inside, *noise), settings.draws, run)

    def _injecting(self, method: str, images: Tensor) -> Inject:
        """The same additions as inside the head's own extractor."""
        extractor = self._head(method)
        tokens = self._tokens(images).to(self.backbone.device)

        def inject(block: int, feature: Tensor) -> Tensor:
            if block not in extractor.injected:
                return feature
            return extractor.injection(extractor.injected.index(block), feature, tokens)

        return inject

    def _block(self, images: Tensor, settings: Settings) -> Tensor:
        block = SOURCES.index(settings.source)
        feature = self._blocks(images, settings)[block]
        if settings.injection != "late" or block not in self._head(METHODS["late"]).injected:
            return feature
        extractor = self._head(METHODS["late"])
        here = (part.to(self.backbone.device) for part in (feature, self._tokens(images)))
        return extractor.injection(extractor.injected.index(block), *here).float().cpu()

    def _joined(self, images: Tensor, settings: Settings) -> Tensor:
        """The concatenated or the aggregated map, from the blocks and tokens that are kept."""
        if settings.source == CONCATENATED:
            settings = replace(settings, injection="none")
        extractor = self._head(_method(settings))
        blocks, tokens = self._blocks(images, settings), self._tokens(images)
        made = []
        for part in torch.arange(len(images)).split(self.batch_size):
            features = dict(zip(BLOCKS, (block[part].to(self.backbone.device) for block in blocks), strict=True))
            features["tokens"] = tokens[part].to(self.backbone.device)
            join = _concatenated if settings.source == CONCATENATED else _aggregated
            made.append(join(extractor, features).float().cpu())
        return torch.cat(made)

    def _each(self, images: Tensor, key: tuple, draws: int, run) -> tuple[Tensor, ...]:
        """What `run` makes of every image, computed for those only that are not kept; batch first."""
        keys = [(*key, _digest(image)) for image in images]
        found = {k: self._kept[k] for k in keys if k in self._kept}
        missing = list({k: i for i, k in enumerate(keys) if k not in found}.items())
        step = max(1, self.batch_size // draws)
        starts = range(0, len(missing), step)
        for start in tqdm(starts, desc="feature maps", leave=False, delay=1):
            some = missing[start : start + step]
            outputs = [output.float().cpu() for output in run(images[[i for _, i in some]])]
            for n, (k, _) in enumerate(some):
                found[k] = tuple(output[n].clone() for output in outputs)
        self._keep(found)
        return tuple(torch.stack(parts) for parts in zip(*(found[k] for k in keys), strict=True))

    def _keep(self, found: dict[tuple, tuple[Tensor, ...]]) -> None:
        for key, tensors in found.items():
            if key not in self._kept:
                self._kept[key] = tensors
                self.kept_bytes += _bytes(tensors)
            self._kept.move_to_end(key)
        while self.kept_bytes > self.megabytes * 1e6:
            self.kept_bytes -= _bytes(self._kept.popitem(last=False)[1])


def _method(settings: Settings) -> str:
    """The head that these settings need, "" for none."""
    if settings.source in (CONCATENATED, "CLIP tokens"):
        return CONCATENATED if settings.source == CONCATENATED else ""
    return METHODS[settings.injection] if settings.source == "fused" or settings.injection != "none" else ""


def _concatenated(extractor: FusedExtractor, features: dict[str, Tensor]) -> Tensor:
    grid = (extractor.aggregator.grid,) * 2
    standardised = (extractor.statistics[name](features[name]) for name in extractor.sources)
    return torch.cat([to_grid(feature, grid) for feature in standardised], dim=1)


def _aggregated(extractor: FusedExtractor, features: dict[str, Tensor]) -> Tensor:
    if extractor.inject != "up":  # then its `features` takes blocks as they are, and late fusion adds the tokens
        return extractor(features)
    # The blocks hold the injected tokens already; its own forward would run the UNet once more.
    return extractor.aggregator([extractor.statistics[name](features[name]) for name in extractor.branches])


def _digest(image: Tensor) -> str:
    pixels = image.detach().cpu().contiguous()
    return hashlib.sha256(f"{pixels.dtype}{tuple(pixels.shape)}".encode() + pixels.numpy().tobytes()).hexdigest()


def _bytes(tensors: tuple[Tensor, ...]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
