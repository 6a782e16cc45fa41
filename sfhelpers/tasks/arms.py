"""The rows of every table: which extractor an arm stands for, alike in grid and in the number of learned parameters."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from sfhelpers.backbones import Backbone, randomised
from sfhelpers.fusion import ARMS, FinetunedExtractor, FusedExtractor, matched_width, trainable_parameters

RANDOM_UNET = "fused (random UNet)"
ZEROED_UNET = "fused (zeroed UNet)"  # late fusion's structure without anything of Stable Diffusion
FINETUNING = "B-Finetuning"
METHODS = (*ARMS, ZEROED_UNET, RANDOM_UNET, FINETUNING)
SINGLE = ("SD only", "CLIP only")  # what fusing has to beat
CORE = ("fused", *SINGLE, ZEROED_UNET)
UP = ("f1", "f2", "f3")
DIM, WIDTH = 64, 32  # of the map and of the fused arm's ResNet blocks; the other arms' widths are matched to it
FINETUNING_RATE = 0.1  # of the others' rate: weights that were trained before are spoilt at that of new ones


@dataclass(frozen=True)
class Arm:
    """One row of a table with one seed, not yet trained."""

    method: str
    seed: int  # of the start, of the order of the examples, and of the noise
    backbone: Backbone
    settings: Mapping[str, Any]  # of FusedExtractor, but for dim, grid and seed
    noise: Mapping[str, Any] = field(default_factory=dict)  # of its `frozen`: timestep, draws, prompt
    finetuned: bool = False  # whether both backbones learn too

    def extractor(self, start: str = "zero") -> FusedExtractor:
        """A new, untrained extractor."""
        grid = self.backbone.diffusion.size // self.backbone.diffusion.factor  # the third up-block's own
        make = FinetunedExtractor if self.finetuned else FusedExtractor
        return make(self.backbone, dim=DIM, grid=grid, seed=self.seed, **{"start": start, **self.settings})

    @property
    def pace(self) -> float:  # times the task's learning rate
        return FINETUNING_RATE if self.finetuned else 1

    def made_by(self, extractor: FusedExtractor) -> dict[str, Any]:
        """What a checkpoint says of the arm."""
        told = {"method": self.method, "seed": self.seed, "inject": extractor.inject, "start": extractor.start}
        told |= {"branches": list(extractor.branches), "weights_sha256": self.backbone.weights_sha256}
        # A variant is what its settings are.
        return told if self.method in METHODS else told | {"settings": {**self.settings}, "noise": {**self.noise}}

    @property
    def frozen_key(self) -> tuple:
        """What the arm's frozen tensors depend on: arms with equal keys share them, "plain" without an injection."""
        inject = self.settings["inject"]
        kind = "finetuned" if self.finetuned else "plain" if inject in ("none", "late") else inject
        return id(self.backbone), kind, self.seed, *sorted(self.noise.items())


@dataclass(frozen=True)
class Companion(Arm):
    """One row of another system, whose module `make` builds of a backbone, a seed and `settings`."""

    make: Callable[..., nn.Module] = FusedExtractor
    pace: float = 1.0

    def extractor(self, start: str = "") -> nn.Module:
        return self.make(self.backbone, seed=self.seed, **self.settings)

    def made_by(self, extractor: nn.Module) -> dict[str, Any]:
        told = {"method": self.method, "seed": self.seed, "weights_sha256": self.backbone.weights_sha256}
        return told | {"settings": {**self.settings}, "noise": {**self.noise}}

    @property
    def frozen_key(self) -> tuple:
        """Companions of one `make` share what is frozen, whatever the seed: it must hold no noise."""
        return id(self.backbone), self.make.__qualname__, *sorted(self.noise.items())


def arms_for(methods: Sequence[str], seeds: Sequence[int], backbone: Backbone, inject: str, others: tuple) -> list[Arm]:
    """An arm for every one of METHODS and every seed; ValueError for a method neither of these nor of `others`."""
    if unknown := [method for method in methods if method not in (*METHODS, *others)]:
        raise ValueError(f"unknown method {unknown[0]!r}: use some of {', '.join((*METHODS, *others))}.")
    used = {method: backbone for method in methods if method in METHODS}
    if not used:
        raise ValueError(f"no arm to train: name at least one of {', '.join(METHODS)}.")
    if RANDOM_UNET in used:
        used[RANDOM_UNET] = randomised(backbone, seed=0)
    return [arm_of(method, model, seed, inject) for method, model in used.items() for seed in seeds]


def arm_of(method: str, backbone: Backbone, seed: int, inject: str = "up") -> Arm:
    """The arm of one of METHODS, its width matched to the parameters of the fused arm, whose injection is `inject`."""
    known = {FINETUNING: "SD+CLIP concatenated", ZEROED_UNET: "late fusion"}.get(method, method)
    settings = {"branches": UP, **({"inject": inject} if method in ("fused", RANDOM_UNET) else ARMS[known])}
    settings |= {"zeroed": True, "start": "random"} if method == ZEROED_UNET else {}
    target = trainable_parameters(backbone, UP, "up", DIM, WIDTH)
    settings["width"] = matched_width(backbone, settings["branches"], settings["inject"], DIM, target)
    return Arm(method, seed, backbone, settings, finetuned=method == FINETUNING)


def preparer(group: Sequence[Arm]) -> FusedExtractor:
    """An extractor whose `frozen` gives what every arm of a group with one `frozen_key` needs."""
    if group[0].finetuned or isinstance(group[0], Companion):
        return group[0].extractor()
    extractors = [arm.extractor() for arm in group]
    if "plain" not in group[0].frozen_key:
        return max(extractors, key=lambda extractor: extractor.until)
    names = dict.fromkeys(name for extractor in extractors for name in (*UP, *extractor.sources, "tokens"))
    return replace(group[0], settings={"inject": "none", "branches": tuple(names), "width": 1}).extractor()


def chosen(setting: str, methods: Iterable[str]) -> tuple[str, ...]:
    """Those of a task's methods that a notebook's setting `arms` asks for, and all that are not trained."""
    trained = {"fused": ("fused",), "core": CORE, "frozen": METHODS[:-1], "all": METHODS}[setting]
    return tuple(method for method in methods if method in trained or method not in METHODS)


def reading_size(backbone: Backbone) -> int:
    """Side in px at which images are read: the larger of what the two models look at."""
    return max(backbone.diffusion.size, backbone.vision.size)


def file_name(method: str, end: str = ".safetensors") -> str:
    """The file of a method's head: "SD+CLIP concatenated" is kept as sd-clip-concatenated.safetensors."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in method.lower()).split()) + end
