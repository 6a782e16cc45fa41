"""Trained models of every task as files: safetensors with the configuration and the backbone that made them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from os.path import isfile
from pathlib import Path
from typing import Any, get_type_hints

from torch import nn

from sfhelpers.backbones import Backbone
from sfhelpers.files import check_own, make_folder, replace_file, shown
from sfhelpers.fusion import ARMS, FusedExtractor
from sfhelpers.kept import from_signed, signed
from sfhelpers.tasks.arms import DIM, arm_of, file_name
from sfhelpers.tasks.compare import Trial, training_of

FORMAT = 3  # raise it when the same weights would mean another model, or the file would be read in another way
HEADS = Path(__file__).resolve().parents[2] / "data" / "heads"  # shipped: HEADS / task / file_name(method)
SHIPPED = HEADS / "segmentation"
KEY = "sketchfusion"
MODELS = {"correspondence": "SketchMatcher", "segmentation": "SketchSegmenter"}
MODELS |= {"retrieval": "SketchRetriever", "recognition": "SketchRecogniser"}
SETTINGS = {"window": int, "level": str, "categories": list}  # what they are; all other settings are numbers
NOTEBOOKS = {task: f"0{number}_{task}" for number, task in enumerate(MODELS, start=3)}


@dataclass(frozen=True)
class Head:
    method: str  # one of `fusion.ARMS`
    inject: str
    threshold: float | None  # of segmentation: from which a probability is foreground, chosen on validation pairs
    seed: int  # of its training, and so of the noise that it reads images under
    weights_sha256: str  # of the backbone that it was trained on
    training: dict  # what else it was trained with: dataset, split, limit, and what `compare.training_of` says
    dim: int = DIM
    format: int = FORMAT
    task: str = "segmentation"  # one of MODELS
    settings: dict = field(default_factory=dict)  # what the model is made with beside its extractor
    model: nn.Module | None = field(default=None, compare=False)  # in eval mode; None while it is only described

    def __post_init__(self) -> None:
        kinds = dict.fromkeys(self.settings, int | float) | SETTINGS | get_type_hints(Head)
        for name, value in (vars(self) | self.settings).items():
            if isinstance(value, bool) or not isinstance(value, kinds[name]):
                raise TypeError(f"{name} is {value!r}")
        if not all(isinstance(name, str) for name in self.settings.get("categories", ())):
            raise TypeError("a category is no text")
        if self.task == "segmentation" and not 0 <= self.threshold <= 1:
            raise ValueError(f"the threshold is {self.threshold}")

    @property
    def extractor(self) -> FusedExtractor:
        return self.model.extractor

    def built(self, backbone: Backbone) -> "Head":
        """This with the model it describes, in eval mode and untrained."""
        make = getattr(import_module(f"sfhelpers.tasks.{self.task}"), MODELS[self.task])  # when it is needed, not above
        model = make(arm_of(self.method, backbone, self.seed, self.inject).extractor(), **self.settings)
        return replace(self, model=model.eval().requires_grad_(False), settings=model.settings)


def save_heads(
    run: Any, trials: Sequence[Trial], weights_sha256: str, folder: Path, task: str = "segmentation"
) -> list[Path]:
    """Write what a task's `compare` trained with the run's first seed, if it did; OSError where it cannot."""
    if run.epochs == 0:
        return []
    make_folder(folder)
    check_own(folder)
    data, written = {key: getattr(run, key) for key in ("dataset", "split", "limit")}, []
    for trial in (t for t in trials if t.model is not None and t.method in ARMS and t.seed == run.seed):
        made = trial.model.extractor.inject, getattr(trial.found, "threshold", None), run.seed, weights_sha256
        head = Head(trial.method, *made, data | training_of(trial), task=task, settings=trial.model.settings)
        described = {name: value for name, value in asdict(head).items() if name != "model"}
        written.append(folder / file_name(trial.method))
        replace_file(written[-1], signed(trial.model.state_dict(), described, KEY))
    return written


def load_head(path: str | Path, backbone: Backbone, task: str | None = None) -> Head:
    """A head of `task` (None: any) for this backbone, on its device; FileNotFoundError, or ValueError for others."""
    told, notebook = shown(path), NOTEBOOKS.get(task, "the notebook of its task")
    if not isfile(path):
        raise FileNotFoundError(f"no trained model at {told}: run {notebook}, which writes some into heads/.")
    broken = ValueError(f"{told} is not a whole trained model of this collection: run {notebook} again.")
    try:
        state, described, whole = from_signed(Path(path), KEY)
        head = Head(**described)
    except (TypeError, ValueError) as error:
        raise broken from error
    if head.format != FORMAT or head.task not in MODELS or head.method not in ARMS or head.dim != DIM:
        raise ValueError(f"{told} was written by another version of sfhelpers: run {notebook} again.")
    if not whole or not all(tensor.isfinite().all() for tensor in state.values()):
        raise broken
    if task not in (None, head.task):
        raise ValueError(f"{told} is a trained model of {head.task}, not of {task}: pass one that {notebook} wrote.")
    if (theirs := head.weights_sha256) != backbone.weights_sha256:
        what = f"a backbone with weights {theirs[:12]}, but {backbone.name} has {backbone.weights_sha256[:12]}"
        remedy = f"run {NOTEBOOKS[head.task]} with -p backbone {backbone.name} -p arms frozen and use its heads/ folder"
        raise ValueError(f"{told} was trained on {what}: {remedy}.")
    try:
        head = head.built(backbone)
        head.model.load_state_dict(state)
    except (OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{told} does not fit the model it names: run {NOTEBOOKS[head.task]} again.") from error
    return head


def load_heads(folder: str | Path, backbone: Backbone, task: str = "segmentation") -> dict[str, Head]:
    """All heads of a folder by method, in the order of `fusion.ARMS`; errors as `load_head`, or if there is none."""
    paths = {method: Path(folder) / file_name(method) for method in ARMS}
    found = {method: load_head(path, backbone, task) for method, path in paths.items() if path.is_file()}
    if not found:
        where = f"{shown(folder)}: run {NOTEBOOKS[task]}, which writes some into heads/"
        raise FileNotFoundError(f"no trained models in {where}.")
    return found
