"""The arms that every task compares, trained and tested alike: same images, epochs, grid and number of parameters."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from sfhelpers.backbones import Backbone, randomised
from sfhelpers.fusion import ARMS, FinetunedExtractor, FusedExtractor, matched_width, trainable_parameters
from sfhelpers.tasks.fit import History

RANDOM_UNET = "fused (random UNet)"
FINETUNING = "B-Finetuning"
CORE = ("fused", "SD only", "CLIP only")
METHODS = (*ARMS, RANDOM_UNET, FINETUNING)
SINGLE = ("SD only", "CLIP only")  # what fusing has to beat
DIM, WIDTH = 64, 32  # of the map and of the fused arm's ResNet blocks; the other arms' widths are matched to it
# Weights that were trained before are spoilt at the rate at which new ones learn.
FINETUNING_RATE = 0.1
PLAIN = "plain"  # the frozen tensors of every arm whose UNet is the backbone's own and gets no injection


@dataclass(frozen=True)
class Arm:
    """One method and one seed, not yet trained.

    Attributes:
        method, seed: which.
        extractor: untrained.
        backbone: what the extractor stands on (for the random UNet not the one that was given).
    """

    method: str
    seed: int
    extractor: FusedExtractor
    backbone: Backbone

    def again(self) -> "Arm":
        """The same arm once more, as it was before training."""
        made = extractor_for(self.method, self.backbone, self.seed, self.extractor.inject, self.extractor.start)
        return replace(self, extractor=made)

    def rate(self, learning_rate: float) -> float:
        """The arm's learning rate when the others learn at `learning_rate`."""
        return learning_rate * (FINETUNING_RATE if self.method == FINETUNING else 1)

    def checkpoint(self, folder: Path | None) -> Path | None:
        """The folder of this arm's training inside the folder of all, or None if nothing is kept."""
        return None if folder is None else folder / f"{file_stem(self.method)}-seed{self.seed}"

    def kept(self, folder: Path | None, more: Mapping[str, Any] | None, images: str) -> dict[str, Any]:
        """`checkpoint` and `configuration` as a task's training takes them: where it is kept, and what made it.

        Args:
            more: what made it beside the arm itself.
            images: as in `Task`.
        """
        made_by = dict(more or {}) | {
            "method": self.method, "seed": self.seed, "inject": self.extractor.inject, "start": self.extractor.start,
            "branches": list(self.extractor.branches), "weights_sha256": self.backbone.weights_sha256,
            "images": images,
        }  # fmt: skip
        return {"checkpoint": self.checkpoint(folder), "configuration": made_by}


@dataclass
class Trial:
    """One method trained with one seed; a task adds what it predicted.

    Attributes:
        method, seed: which.
        model: the trained model, None for a trivial method.
        history: of the training, None for a trivial method.
        parameters: how many it learned.
        seconds: training and prediction; what is frozen not included.
    """

    method: str
    seed: int
    model: nn.Module | None
    history: History | None
    parameters: int
    seconds: float


@dataclass(frozen=True)
class Task:
    """A task as the comparisons see it.

    Attributes:
        name: e.g. "correspondence".
        metric, definition: the one number that arms are compared by, e.g. "PCK@5", and how it is computed.
        prepare: everything frozen for an extractor; keywords (timestep, draws, prompt) go to its own `prepare`.
        train: trains an arm's extractor on them, tests it, gives a Trial.
        values: (trial, parts) -> gallery ("seen categories", "unseen categories") -> (n,) the metric a query.
        groups: parts -> gallery -> (n,) labels of the queries that belong together, for the paired test.
        start: of the injection, as in `FusedExtractor`; chosen on validation data.
        images: the `contents.fingerprint` of its data: what was kept of other images is not gone on from.
    """

    name: str
    metric: str
    definition: str
    prepare: Callable[..., Any]
    train: Callable[[Arm, Any], Trial]
    values: Callable[[Trial, Any], dict[str, np.ndarray]]
    groups: Callable[[Any], dict[str, np.ndarray]]
    start: str = "zero"
    images: str = ""


def reading_size(backbone: Backbone) -> int:
    """Side in px at which images are read: the larger of what the two models look at."""
    return max(backbone.diffusion.size, backbone.vision.size)


def extractor_for(
    method: str, backbone: Backbone, seed: int, inject: str = "up", start: str = "zero"
) -> FusedExtractor:
    """The extractor of a method's arm, its width matched to the parameters of the fused arm.

    Args:
        method: one of METHODS.
        inject: of the arm called "fused".
        start: of the injection, in every arm that learns one.
    """
    settings: dict[str, Any] = dict(ARMS.get(method, {}))
    if method in ("fused", RANDOM_UNET):
        settings["inject"] = inject
    if method == FINETUNING:
        settings = dict(ARMS["SD+CLIP concatenated"])
    settings.setdefault("branches", ("f1", "f2", "f3"))
    target = trainable_parameters(backbone, ("f1", "f2", "f3"), "up", DIM, WIDTH)
    width = matched_width(backbone, settings["branches"], settings["inject"], DIM, target)
    grid = backbone.diffusion.size // backbone.diffusion.factor  # the third up-block's own: 24, or 60 with SD 2.1
    make = FinetunedExtractor if method == FINETUNING else FusedExtractor
    return make(backbone, dim=DIM, grid=grid, width=width, seed=seed, start=start, **settings)


def compare(
    backbone: Backbone,
    task: Task,
    methods: Iterable[str],
    seeds: Iterable[int],
    inject: str = "up",
    keep_models: bool = True,
    log: Callable[[str], None] = print,
) -> tuple[list[Any], Any]:
    """Train and test every method with every seed.

    What is frozen is computed once a kind of arm and shared by its seeds; the arms without injection share one. One
    kind at a time is kept in memory.

    Args:
        task: what is learned.
        methods: of METHODS; the order is kept.
        inject: of the arm called "fused".
        keep_models: whether the trials keep what was trained; 1 MB each, but B-Finetuning 50 MB.

    Returns:
        The trials, method by method, and what was prepared for the last one.

    Raises:
        ValueError: an unknown method, or none.
    """
    methods, seeds = tuple(methods), tuple(seeds)
    check_methods(methods)
    trials: list[Trial] = []
    parts, prepared = None, ""
    for method, seed in ((method, seed) for method in methods for seed in seeds):
        used = randomised(backbone, seed=0) if method == RANDOM_UNET else backbone
        extractor = extractor_for(method, used, seed, inject, task.start)
        key = _frozen_key(method, extractor, seed)
        if key != prepared:
            parts, prepared = None, key  # let go first
            parts = task.prepare(extractor_for("SD+CLIP concatenated", used, seed) if key == PLAIN else extractor)
        trial = task.train(Arm(method, seed, extractor, used), parts)
        if trial.history is not None:
            log(f"{method}, seed {seed}: best epoch {trial.history.best_epoch} of {len(trial.history.epochs) - 1}")
        if not keep_models:
            trial.model = None
        trials.append(trial)
    return trials, parts


def chosen(setting: str, methods: Iterable[str]) -> tuple[str, ...]:
    """Those of a task's methods that a notebook's setting `arms` asks for, and all that are not trained.

    Args:
        setting: "fused" for that arm alone, "core" for CORE, "frozen" for all that leave the backbones as they are,
            "all" for B-Finetuning too, whose steps cost several times as much.
        methods: of the task, in the order of its table.
    """
    trained = {"fused": ("fused",), "core": CORE, "frozen": (*ARMS, RANDOM_UNET), "all": METHODS}[setting]
    return tuple(method for method in methods if method in trained or method not in METHODS)


def check_methods(methods: Collection[str], others: Collection[str] = ()) -> None:
    """ValueError, one sentence, unless there is a method and each is one of METHODS or of `others`."""
    known = (*METHODS, *others)
    for method in methods:
        if method not in known:
            raise ValueError(f"unknown method {method!r}: use some of {', '.join(known)}.")
    if not any(method in METHODS for method in methods):
        raise ValueError(f"no arm to train: name at least one of {', '.join(METHODS)}.")


def trainable(model: nn.Module) -> int:
    """How many parameters a model learns."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def file_stem(method: str) -> str:
    """A method's name for files: "SD+CLIP concatenated" becomes sd-clip-concatenated."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in method.lower()).split())


def _frozen_key(method: str, extractor: FusedExtractor, seed: int) -> str:
    """What an arm's frozen tensors depend on: arms with the same key can share them."""
    if method in (RANDOM_UNET, FINETUNING):
        return method
    if extractor.inject in ("none", "late"):
        return PLAIN
    return f"{method} {seed}" if extractor.inject == "random" else method
