"""Trained models of every task as files: safetensors with the configuration and the backbone that made them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from sfhelpers.backbones import Backbone
from sfhelpers.files import make_folder, replace_file
from sfhelpers.fusion import ARMS, FusedExtractor
from sfhelpers.kept import from_signed, signed
from sfhelpers.tasks.arms import DIM, extractor_for, file_stem
from sfhelpers.tasks.compare import Trial

FORMAT = 2  # raise it when the same weights would mean another model, or the file would be read in another way
HEADS = Path(__file__).resolve().parents[2] / "data" / "heads"  # shipped: HEADS / task / file_name(method)
SHIPPED = HEADS / "segmentation"
KEY = "sketchfusion"
MODELS = {
    "correspondence": "SketchMatcher",
    "segmentation": "SketchSegmenter",
    "retrieval": "SketchRetriever",
    "recognition": "SketchRecogniser",
}
NOTEBOOKS = {task: f"0{number}_{task}" for number, task in enumerate(MODELS, start=3)}


@dataclass(frozen=True)
class Head:
    """A trained model and where it comes from."""

    method: str  # the arm, one of `fusion.ARMS`
    inject: str  # how the tokens enter the UNet
    threshold: float | None  # of segmentation: from which a probability is foreground, chosen on validation pairs
    seed: int  # of its training
    weights_sha256: str  # of the backbone that it was trained on
    training: dict[str, Any]  # what else it was trained with (dataset, split, limit, epochs, learning_rate)
    dim: int = DIM
    format: int = FORMAT
    task: str = "segmentation"  # one of MODELS
    settings: dict[str, Any] = field(default_factory=dict)  # what the model is made with beside its extractor
    model: nn.Module | None = field(default=None, compare=False)  # in eval mode; None while it is only described

    @property
    def extractor(self) -> FusedExtractor:
        """The trained extractor inside the model."""
        return self.model.extractor

    def built(self, backbone: Backbone) -> "Head":
        """This with the model it describes, in eval mode and untrained."""
        make = getattr(import_module(f"sfhelpers.tasks.{self.task}"), MODELS[self.task])  # when it is needed, not above
        model = make(extractor_for(self.method, backbone, self.seed, self.inject), **self.settings)
        return replace(self, model=model.eval().requires_grad_(False), settings=model.settings)


def untrained_head(method: str, backbone: Backbone) -> Head:
    """A segmenter of the right sizes that never learned anything: for tests and timings."""
    return Head(method, ARMS[method]["inject"], 0.5, 0, backbone.weights_sha256, {}).built(backbone)


def file_name(method: str) -> str:
    """The file of a method's head: "SD+CLIP concatenated" is kept as sd-clip-concatenated.safetensors."""
    return file_stem(method) + ".safetensors"


def save_heads(
    run: Any, trials: Sequence[Trial], weights_sha256: str, folder: Path, task: str = "segmentation"
) -> list[Path]:
    """Write the trained models of the run's first seed, and return their files; a run with 0 epochs trained none.

    Args:
        run: from `params.check` of the notebook that trained them.
        trials: from the task's `compare`; those without a model, or of no arm, are left out.
        folder: made if it is not there; OSError, one sentence, when it or a file cannot be written.
    """
    if run.epochs == 0:
        return []
    make_folder(folder)
    training = {key: getattr(run, key) for key in ("dataset", "split", "limit", "epochs", "learning_rate")}
    written = []
    for trial in (t for t in trials if t.model is not None and t.method in ARMS and t.seed == run.seed):
        inject, threshold = trial.model.extractor.inject, getattr(trial.found, "threshold", None)
        about = {"task": task, "settings": trial.model.settings}
        head = Head(trial.method, inject, threshold, run.seed, weights_sha256, training, **about)
        described = {name: value for name, value in asdict(head).items() if name != "model"}
        written.append(folder / file_name(trial.method))
        replace_file(written[-1], signed(trial.model.state_dict(), described, KEY))
    return written


def load_head(path: str | Path, backbone: Backbone, task: str | None = None) -> Head:
    """A trained model that `save_heads` wrote, for this backbone, on its device.

    Args:
        task: the task that is asked for, one of MODELS; None takes whatever is in the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no such head or not whole, of another task, another backbone or another version of the code.
    """
    path, notebook = Path(path), NOTEBOOKS.get(task, "the notebook of its task")
    if not path.is_file():
        raise FileNotFoundError(f"no trained model at {path}: run {notebook}, which writes some into heads/.")
    broken = ValueError(f"{path} is not a whole trained model of this collection: run {notebook} again.")
    try:
        state, described, whole = from_signed(path, KEY)
        head = Head(**described)
    except (TypeError, ValueError) as error:
        raise broken from error
    if head.format != FORMAT or head.task not in MODELS or head.method not in ARMS or head.dim != DIM:
        raise ValueError(f"{path} was written by another version of sfhelpers: run {notebook} again.")
    if not whole:
        raise broken
    if task not in (None, head.task):
        raise ValueError(f"{path} is a trained model of {head.task}, not of {task}: pass one that {notebook} wrote.")
    notebook = NOTEBOOKS[head.task]
    if head.weights_sha256 != backbone.weights_sha256:
        theirs, ours = head.weights_sha256[:12], backbone.weights_sha256[:12]
        raise ValueError(
            f"{path} was trained on a backbone with weights {theirs}, but {backbone.name} has {ours}: run {notebook} "
            f"with -p backbone {backbone.name} -p arms frozen and use the heads/ folder it writes."
        )
    try:
        head = head.built(backbone)
        head.model.load_state_dict(state)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not fit the model it names: run {notebook} again.") from error
    return head


def load_heads(folder: str | Path, backbone: Backbone, task: str = "segmentation") -> dict[str, Head]:
    """All heads of a folder by method, in the order of `fusion.ARMS`; errors as `load_head`, or if there is none."""
    folder = Path(folder)
    found = {method: folder / file_name(method) for method in ARMS if (folder / file_name(method)).is_file()}
    if not found:
        raise FileNotFoundError(f"no trained models in {folder}: run {NOTEBOOKS[task]}, which writes some into heads/.")
    return {method: load_head(path, backbone, task) for method, path in found.items()}
