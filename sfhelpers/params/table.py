"""What each notebook takes: its parameters, what they may be, and the time and memory it is expected to need."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

DATASETS = ("toy", "sketchy", "folder")
EXTENDED = ("sketchy-extended", "tuberlin-extended", "quickdraw-extended")
FINE = ("shoev2", "chairv2", "fscoco")  # one class each, whose sketches are of their photos
INJECT = ("up", "up+down", "none", "late", "random")
SCENARIOS = ("cgsbir", "fgsbir", "cdsbir", "gzs")
TASKS = ("correspondence", "retrieval", "recognition", "segmentation")


@dataclass(frozen=True)
class Parameter:
    """What a parameter of a notebook, or each item of a list, may be; no `choices` are any."""

    type: type
    help: str
    choices: tuple = ()
    low: float = -math.inf
    high: float = 10**6  # which still may be


@dataclass(frozen=True)
class Notebook:
    """What one notebook takes, and its time and peak memory on two CPU cores, functions of the checked values."""

    names: tuple[str, ...]  # printed in this order
    seconds: Callable[[Any], float]
    gigabytes: Callable[[Any], float]
    fewest: Callable[[Any], int] = lambda run: 0  # photos, or pairs, a category, for all that is asked of them
    own: Mapping[str, Parameter] = field(default_factory=dict)  # what means something else here than in PARAMETERS


PARAMETERS = {
    "backbone": Parameter(str, "pretrained models: a preset or a folder"),
    "dataset": Parameter(str, "where the sketches and photos come from", choices=DATASETS),
    "data_root": Parameter(str, "the dataset's folder"),
    "split": Parameter(str, "which split of the dataset"),
    "limit": Parameter(int, "photos a category at most (0 = all)", low=0),
    "batch_size": Parameter(int, "images, or pairs of them, a step", low=1),
    "seed": Parameter(int, "fixes every random choice", low=0, high=2**31 - 1),  # more seeds are counted from it
    "device": Parameter(str, "where it computes"),
    "output_dir": Parameter(str, "where results are written"),
    "epochs": Parameter(int, "passes over the training part at most (0 = evaluate only)", low=0),
    "learning_rate": Parameter(float, "step size of the optimiser at first", low=1e-12, high=100),
    "rates": Parameter(int, "learning rates tried for an arm (3 = that, a third, 3 times)", low=1, high=3),
    "inject": Parameter(str, "how CLIP enters the UNet", choices=INJECT),
    "absent": Parameter(float, "share of questions for what is not there", low=0, high=1),
    "resume": Parameter(bool, "go on from the checkpoints of a run that was stopped"),
    "store": Parameter(str, "frozen features: auto, off (memory) or a folder"),
    "scenario": Parameter(str, "what is new", choices=SCENARIOS),
    "arms": Parameter(str, "which methods are trained", choices=("core", "frozen", "all")),
    "seeds": Parameter(int, "seeds an arm is trained with", low=1),
    "sketches": Parameter(int, "sketches a photo", low=1),
    "shots": Parameter(int, "sketches a category to learn from (0 = all)", low=0),
    "others": Parameter(str, "further image encoders, name=path"),
    "skip_broken": Parameter(bool, "leave out what cannot be read"),
    "heads": Parameter(str, "folder of trained segmenters"),
    "categories": Parameter(int, "of the toy world's 36", low=2),
    "timesteps": Parameter(list, "of the sweep", low=0),
    "draws": Parameter(list, "of the sweep", low=1, high=1024),
    "few": Parameter(int, "pairs in the sweep over draws", low=2),
    "noise_seeds": Parameter(int, "noise seeds", low=1),
    "pairs": Parameter(int, "pairs of a sketch and a photo", low=2, high=27),
    "steps": Parameter(int, "optimiser steps", low=1),
    "tasks": Parameter(str, "what the extractor is trained for", choices=("few", "all", *TASKS)),
    "variants": Parameter(str, "which ablations", choices=("few", "all")),
    "cropped": Parameter(int, "steps of them on crops", low=0),
    "photos": Parameter(int, "single things the denoiser learns from", low=1),
    "scenes": Parameter(int, "scenes the denoiser learns from", low=1),
    "alignment": Parameter(float, "of the denoiser to ImageNet's features", low=0, high=100),
    "decoder_steps": Parameter(int, "optimiser steps of the decoder", low=1),
    "samples": Parameter(int, "pictures drawn a seen category", low=1),
    "encoder_steps": Parameter(int, "optimiser steps of the encoder", low=1),
    "individuals": Parameter(int, "pictures a kind, of the encoder", low=1),
    "imagenet": Parameter(str, "weights file the image tower starts from"),
    "curve": Parameter(bool, "measure quality over training samples"),
}
SHARED = ("backbone", "dataset", "data_root", "split", "limit", "batch_size", "seed", "device", "output_dir")
TRAINING = (*SHARED, "epochs", "learning_rate", "rates", "inject", "resume")
STORED = (*TRAINING, "store")
TIMES = {"fused": 0.6, "core": 1, "frozen": 2.3, "all": 4.5}  # what arms take, of what the core ones do
SKETCH_TIMES = TIMES | {"frozen": 2.7, "all": 5.3}
ARMS = {"core": 1, "losses": 2, "all": 4.5}  # what arms of Dr. CLIP take
VARIANTS = {"few": 3, "all": 12}  # what variants are trained
TOY = 32  # photos of the toy world, where a limit of 0 takes all


def _epochs(run: Any) -> int:
    """Of all trainings of an arm; the first seed is trained at every rate."""
    return (run.seeds + run.rates - 1) * run.epochs


NOTEBOOKS = {  # seconds were measured on one core in 01 and 03 and on two in the rest; the zeroed UNet is reckoned in
    "00_start_here": Notebook(
        (*(name for name in SHARED if name != "split"), "heads", "skip_broken"), lambda run: 70, lambda run: 2.0
    ),
    "01_pilot_study": Notebook(
        (*SHARED, "categories", "few", "noise_seeds", "heads", "timesteps", "draws"),
        lambda run: (
            (10 + 0.045 * run.few * sum(run.draws))
            + run.limit * min(run.categories, 36) * (0.45 * run.noise_seeds + 0.12 * len(run.timesteps) + 0.25)
        ),
        lambda run: 1.6 + 0.012 * run.limit * run.categories,
        # the claims compare pairs of a category; those of the committed run are told of pocket with one noise seed
        lambda run: 1 + (run.noise_seeds > 1 or run.backbone != "pocket"),
        own={
            "dataset": Parameter(str, "whose pictures are shown", choices=(*DATASETS, *EXTENDED, *FINE)),
            "limit": Parameter(int, "pairs a category", low=1),
        },
    ),
    "02_fused_extractor": Notebook(
        ("backbone", "seed", "device", "output_dir", "pairs", "steps"),
        lambda run: 20 + run.pairs * (2.5 + 0.1 * run.steps),
        lambda run: 1.5,
    ),
    "03_correspondence": Notebook(
        (*STORED, "sketches", "arms", "seeds", "skip_broken"),
        lambda run: 50 + TIMES[run.arms] * (run.limit or TOY) * (1 + run.sketches) * (2.5 + 1.15 * _epochs(run)),
        lambda run: 2.3 + 0.02 * (run.limit or TOY) * (1 + run.sketches),
        lambda run: 3 if run.split == "60:40" else 4,
        own={
            "split": Parameter(str, "which protocol", choices=("default", "60:40", "self-supervised")),
            "batch_size": Parameter(int, "photos a step, with their sketches", low=1),
        },
    ),
    "04_segmentation": Notebook(
        (*STORED, "absent", "arms", "seeds", "skip_broken"),
        lambda run: 30 + TIMES[run.arms] * (run.limit or TOY) * (4.6 + 1.6 * _epochs(run)),
        lambda run: 2.1 + 0.035 * (run.limit or TOY),
        lambda run: 4,
    ),
    "05_retrieval": Notebook(
        (*STORED, "arms", "sketches", "seeds", "others", "skip_broken"),
        lambda run: 35 + TIMES[run.arms] * (run.limit or TOY) * (3.4 + run.sketches * (3.4 + 2.8 * _epochs(run))),
        lambda run: 2 + 0.06 * (run.limit or TOY) * (1 + run.sketches),
        lambda run: 3,
        own={
            "dataset": Parameter(str, "whose sketches and photos", choices=(*DATASETS, *EXTENDED)),
            "split": Parameter(str, "how the files are parted", choices=("default",)),
        },
    ),
    "06_recognition": Notebook(
        (*STORED, "arms", "seeds", "shots", "skip_broken"),
        lambda run: 25 + SKETCH_TIMES[run.arms] * (34 + 0.8 * (run.shots or 20) * _epochs(run)),
        lambda run: 1.5 + 0.012 * (run.shots + (run.limit or 15)),
        own={
            "dataset": Parameter(str, "whose sketches", choices=("toy", "quickdraw", "tuberlin", "folder")),
            "limit": Parameter(int, "test sketches a category at most (0 = all)", low=0),
            "arms": Parameter(str, "which methods are trained", choices=("fused", "core", "frozen", "all")),
        },
    ),
    "07_ablations": Notebook(
        (*(name for name in STORED if name != "inject"), "tasks", "variants", "seeds", "others"),
        lambda run: (
            25
            + ({"few": 2, "all": 4}.get(run.tasks, 1) * (run.limit or TOY) / 4)
            * ((5 if run.variants == "few" else 60) + VARIANTS[run.variants] * (run.seeds + 1.6 * _epochs(run)))
        ),
        lambda run: 1.7 + 0.06 * (run.limit or TOY),
        lambda run: 0 if run.tasks in ("retrieval", "recognition") else 4,
        own={"seeds": Parameter(int, "seeds a variant is trained with", low=1)},
    ),
    "08_matchmaker": Notebook(
        (
            *(name for name in TRAINING if name != "inject"),
            *("arms", "variants", "sketches", "seeds", "others", "skip_broken"),
            *("timestep", "draws", "levels", "width", "text", "at_once"),
        ),
        lambda run: (
            (60 + 0.2 * (1 + 4 * run.draws) * (run.limit or TOY) * (3 + 10 * run.sketches * _epochs(run)))
            * ({"core": 1, "all": 2.3}[run.arms] + {"none": 0, "few": 0.5, "all": 4}[run.variants])
        ),
        lambda run: 2 + 0.4 * run.draws + 0.02 * (run.limit or TOY) * (1 + run.sketches),
        lambda run: 3,
        own={
            "dataset": Parameter(str, "whose sketches and photos", choices=(*DATASETS, *EXTENDED)),
            "split": Parameter(str, "how the files are parted", choices=("default",)),
            "arms": Parameter(str, "which methods are trained", choices=("core", "all")),
            "variants": Parameter(str, "which ablations are trained", choices=("none", "few", "all")),
            "timestep": Parameter(int, "of the noise that is added", low=0),
            "draws": Parameter(int, "noise draws whose features are averaged", low=1, high=1024),
            "levels": Parameter(str, "up-blocks joined by + (empty: by what a sketch asks for)"),
            "width": Parameter(float, "of the learned frame, in sides of the image", low=0.01, high=0.5),
            "text": Parameter(str, "prompt that the learned text starts from"),
            "at_once": Parameter(int, "images computed together, again in the backward pass (0 = all, once)", low=0),
        },
    ),
    "09_drclip": Notebook(
        (
            *(name for name in TRAINING if name != "inject"),
            *("scenario", "arms", "sketches", "seeds", "meeting", "skip_broken"),
        ),
        lambda run: (
            (40 + (run.limit or TOY) * (1 + run.sketches))
            + (2.4 * ARMS[run.arms] + 10 * bool(run.meeting)) * (run.limit or TOY) * run.sketches * _epochs(run)
        ),
        lambda run: 1.6 + 0.01 * (run.limit or TOY) * (1 + run.sketches),
        lambda run: 3,
        own={
            "dataset": Parameter(str, "whose sketches and photos", choices=(*DATASETS[:2], *EXTENDED, *FINE)),
            "split": Parameter(str, "how the files are parted", choices=("default",)),
            "batch_size": Parameter(int, "quadruplets a step", low=1),
            "epochs": Parameter(int, "passes over the training part at most", low=1),
            "arms": Parameter(str, "which methods are trained", choices=tuple(ARMS)),
            "meeting": Parameter(str, "SketchFusion and SD-PL too: toy, or a folder to rank as well (empty: no)"),
        },
    ),
    "90_train_pocket": Notebook(
        (
            *("backbone", "batch_size", "seed", "device", "output_dir", "steps", "cropped", "photos", "scenes"),
            *("sketches", "alignment", "decoder_steps", "samples", "encoder_steps", "individuals", "imagenet", "curve"),
        ),
        lambda run: (
            (25 + 0.04 * (run.photos + run.scenes + run.sketches) + 0.06 * run.steps * run.batch_size)
            + (0.6 * run.decoder_steps + 20 * run.samples + 3 * run.encoder_steps)
            + (0.3 * run.individuals + 1200 * run.curve)
        ),
        lambda run: 4.2 + 4e-5 * (run.photos + run.scenes + run.sketches) + 2e-4 * run.individuals,
        own={"sketches": Parameter(int, "sketches the denoiser learns from", low=1)},
    ),
}
