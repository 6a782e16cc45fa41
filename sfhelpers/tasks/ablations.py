"""What each part of the extractor is worth: it is left out or changed, everything else kept (SketchFusion, Sec. 7)."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from sfhelpers.backbones import Backbone
from sfhelpers.fusion import FusedExtractor
from sfhelpers.tasks.ablations_kept import Kept, Outcome
from sfhelpers.tasks.before import DIM, WIDTH, Arm, Task, Trial

FULL = "full"
UP = ("f1", "f2", "f3")
TIMESTEPS = (5, 50, 195, 400, 600, 800)
# Predictions of a trained model on the test parts, as the values of `Task.values`; it must not train.
Retest = Callable[[Trial, Any], Trial]


@dataclass(frozen=True)
class Variant:
    """The full extractor with one thing changed.

    Attributes:
        name: as in the tables.
        group: "parts" (the paper's Table 6), "injection", "details", "timestep", "draws" or "encoder".
        settings: of FusedExtractor, where they differ from the full one's.
        noise: of its `prepare`: timestep, draws, prompt.
        encoder: name of the image encoder that stands for the backbone's own; "" keeps that.
        tasks: names of the tasks it is measured on; () is all.
        seeds: the most seeds it is trained with; 0 is all.
    """

    name: str
    group: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    noise: Mapping[str, Any] = field(default_factory=dict)
    encoder: str = ""
    tasks: tuple[str, ...] = ()
    seeds: int = 0


def _table() -> tuple[Variant, ...]:
    parts = (
        Variant(FULL, "parts"),
        Variant("w/o aggregation network", "parts", {"aggregate": False}),
        Variant("w/o learnable weights", "parts", {"learn_weights": False}),
        Variant("w/o 1-D convolutions", "parts", {"match": "interpolation"}),
        Variant("w/o 1-D convolutions, tokens scaled", "parts", {"match": "scaled interpolation"}),
    )
    injection = (
        Variant("injected into down-blocks too", "injection", {"inject": "up+down"}, seeds=1),
        Variant("injected afterwards (late fusion)", "injection", {"inject": "late"}),
        Variant("injection fixed at random", "injection", {"inject": "random"}),
        Variant("no injection (SD only)", "injection", {"inject": "none"}),
    )
    details = (
        Variant("kernel 3", "details", {"kernel": 3}, seeds=1),
        Variant("kernel 5", "details", {"kernel": 5}, seeds=1),
        *(Variant(f"injected into {name} only", "details", {"inject_into": (name,)}, seeds=1) for name in UP),
        Variant("f4 added", "details", {"branches": (*UP, "f4")}, seeds=1),
    )
    where = ("correspondence", "retrieval")  # as in the paper's Fig. 5; one seed, since each needs tensors of its own
    timesteps = (
        Variant(f"t = {t}", "timestep", noise={"timestep": t}, tasks=where, seeds=1) for t in TIMESTEPS if t != 195
    )
    # Late fusion averages over the draws once and for all; inside the UNet every step would cost all of them.
    draws = (
        Variant(f"late fusion, {n} draws", "draws", {"inject": "late"}, {"draws": n}, tasks=where[:1], seeds=1)
        for n in (4, 16)
    )
    return (*parts, *injection, *details, *timesteps, *draws)


VARIANTS = _table()


def chosen(names: Iterable[str] | None = None, encoders: Iterable[str] = ()) -> tuple[Variant, ...]:
    """The variants of these names, in the order of VARIANTS, with one more for every other image encoder.

    Args:
        names: None takes all.
        encoders: names of image encoders that are put in the place of the backbone's.

    Raises:
        ValueError: an unknown name.
    """
    known = {variant.name: variant for variant in VARIANTS}
    wanted = list(known) if names is None else list(names)
    wrong = [name for name in wanted if name not in known]
    if wrong:
        raise ValueError(f"unknown variant {', '.join(wrong)}: use some of {', '.join(known)}.")
    swapped = (Variant(f"{name} instead of CLIP", "encoder", encoder=name) for name in encoders)
    return (*(known[name] for name in known if name in wanted), *swapped)


def extractor_for(variant: Variant, backbone: Backbone, seed: int, start: str = "zero") -> FusedExtractor:
    """The variant's extractor; one thing is changed, so widths are not matched to equal numbers of parameters.

    Args:
        start: of the injection, as the task wants it.
    """
    grid = backbone.diffusion.size // backbone.diffusion.factor
    settings = {"branches": UP, "inject": "up"} | dict(variant.settings)
    return FusedExtractor(backbone, dim=DIM, grid=grid, width=WIDTH, seed=seed, start=start, **settings)


def run(
    backbone: Backbone,
    task: Task,
    variants: Iterable[Variant],
    seeds: Iterable[int],
    retest: Retest | None = None,
    encoders: Mapping[str, Backbone] | None = None,
    kept: Kept | None = None,
    log: Callable[[str], None] = print,
) -> list[Outcome]:
    """Train and test every variant that belongs to this task with every seed.

    Variants that need the same frozen tensors share them; one kind is in memory at a time.

    Args:
        retest: (trial, parts) -> the trial with new predictions of its trained model; with it the full extractor is
            also tested with one branch silenced at a time.
        encoders: name -> the backbone with that image encoder, for the variants that name one.
        kept: what an earlier run found, which is not computed again; new outcomes are added as they come.

    Returns:
        Outcomes, variant by variant.
    """
    seeds, kept = tuple(seeds), kept or Kept()
    here = [v for v in variants if not v.tasks or task.name in v.tasks]
    wanted = [(v, seed) for v in here for seed in seeds[: v.seeds or len(seeds)]]
    missing: dict[str, list[tuple[Variant, int]]] = {}
    for variant, seed in wanted:
        if kept.find(task.name, _described(task, variant), seed) is None:
            missing.setdefault(_frozen_key(variant, seed), []).append((variant, seed))
    for group in missing.values():
        used = (encoders or {})[group[0][0].encoder] if group[0][0].encoder else backbone
        _run_group(task, group, used, retest, kept, log)
    return [kept.find(task.name, _described(task, variant), seed) for variant, seed in wanted]


def _run_group(
    task: Task,
    group: list[tuple[Variant, int]],
    backbone: Backbone,
    retest: Retest | None,
    kept: Kept,
    log: Callable[[str], None],
) -> None:
    """Variants and seeds that share their frozen tensors; these are let go at the end."""
    started = time.perf_counter()
    parts = task.prepare(_preparer(group, backbone), **group[0][0].noise)
    preparing = time.perf_counter() - started
    for variant, seed in group:
        outcome = _outcome(task, variant, seed, backbone, parts, retest, preparing)
        kept.add(outcome)
        log(f"{task.name}: {variant.name}, seed {seed}: {outcome.seconds:.0f} s")


@contextmanager
def silenced(extractor: FusedExtractor, branch: int) -> Iterator[None]:
    """The extractor with one branch's contribution to the sum set to zero."""
    block = extractor.aggregator.blocks[branch]
    hook = block.register_forward_hook(lambda module, args, output: torch.zeros_like(output))
    try:
        yield
    finally:
        hook.remove()


def _outcome(
    task: Task, variant: Variant, seed: int, backbone: Backbone, parts: Any, retest: Retest | None, preparing: float
) -> Outcome:
    extractor = extractor_for(variant, backbone, seed, task.start)
    trial = task.train(Arm(variant.name, seed, extractor, backbone), parts)
    values = task.values(trial, parts)
    weights = extractor.aggregator.branch_weights.softmax(dim=0).tolist()
    without = {}
    if retest is not None and variant.name == FULL:
        for n, branch in enumerate(extractor.branches):
            with silenced(extractor, n):
                without[branch] = _means(task.values(retest(trial, parts), parts))
    return Outcome(
        task=task.name,
        variant=variant.name,
        described=_described(task, variant),
        seed=seed,
        weights_sha256=backbone.weights_sha256,
        values=_means(values),
        n={gallery: int(np.isfinite(found).sum()) for gallery, found in values.items()},
        parameters=trial.parameters,
        seconds=trial.seconds,
        preparing=preparing,
        weights=dict(zip(extractor.branches, weights, strict=True)),
        without=without,
    )


def _means(values: Mapping[str, Any]) -> dict[str, float]:
    # A query that cannot be scored, such as a pair without a visible keypoint, is NaN.
    return {gallery: float(np.nanmean(found)) for gallery, found in values.items()}


def _described(task: Task, variant: Variant) -> dict[str, Any]:
    """All that makes the variant on this task and its images, as JSON holds it."""
    settings = {"start": task.start} | dict(variant.settings)
    made = {"settings": settings, "noise": dict(variant.noise), "encoder": variant.encoder, "images": task.images}
    return json.loads(json.dumps(made))


def _frozen_key(variant: Variant, seed: int) -> str:
    """What the variant's frozen tensors depend on, beside how many up-blocks are run."""
    inject = variant.settings.get("inject", "up")
    kind = {"late": "plain", "none": "plain", "random": f"random {seed}"}.get(inject, inject)
    return f"{kind}, {sorted(variant.noise.items())}, {variant.encoder}"


def _preparer(group: list[tuple[Variant, int]], backbone: Backbone) -> FusedExtractor:
    """An extractor whose `prepare` gives what every variant of the group needs."""
    extractors = [extractor_for(variant, backbone, seed) for variant, seed in group]
    most = max(extractors, key=lambda extractor: extractor.until)
    if most.inject not in ("none", "late"):
        return most
    names = tuple(dict.fromkeys(name for extractor in extractors for name in (*extractor.sources, "tokens")))
    return extractor_for(replace(group[0][0], settings={"inject": "none", "branches": names}), backbone, 0)
