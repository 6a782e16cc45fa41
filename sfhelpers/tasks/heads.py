"""Trained models of every task as files: safetensors with the configuration and the backbone that made them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sfhelpers.backbones import Backbone
from sfhelpers.files import make_folder, replace_file
from sfhelpers.fusion import ARMS, FusedExtractor
from sfhelpers.tasks.arms import DIM, extractor_for, file_stem
from sfhelpers.tasks.compare import Trial
from sfhelpers.tasks.resume import content_sha256

FORMAT = 2  # raise it when the same weights would mean another model, or the file would be read in another way
HEADS = Path(__file__).resolve().parents[2] / "data" / "heads"  # shipped: HEADS / task / file_name(method)
SHIPPED = HEADS / "segmentation"
KEY = "sketchfusion"
MODELS = {
    "correspondence": "SketchMatcher",
    "retrieval": "SketchRetriever",
    "recognition": "SketchRecogniser",
    "segmentation": "SketchSegmenter",
}
NOTEBOOKS = {
    "correspondence": "03_correspondence",
    "segmentation": "04_segmentation",
    "retrieval": "05_retrieval",
    "recognition": "06_recognition",
}


@dataclass(frozen=True)
class Head:
    """A trained model and where it comes from.

    Attributes:
        method: the arm, one of `fusion.ARMS`.
        inject: how the tokens enter the UNet.
        threshold: of segmentation, from which a probability is foreground, chosen on validation pairs; else None.
        seed: of its training.
        weights_sha256: of the backbone that it was trained on.
        training: what else it was trained with (dataset, split, limit, epochs, learning_rate).
        task: one of MODELS.
        settings: what the task's model is made with beside its extractor, in what JSON can hold.
        model: the model, in eval mode; None while it is only described.
    """

    method: str
    inject: str
    threshold: float | None
    seed: int
    weights_sha256: str
    training: dict[str, Any]
    dim: int = DIM
    format: int = FORMAT
    task: str = "segmentation"
    settings: dict[str, Any] = field(default_factory=dict)
    model: nn.Module | None = field(default=None, compare=False)

    @property
    def extractor(self) -> FusedExtractor:
        """The trained extractor inside the model."""
        return self.model.extractor


def untrained_head(method: str, backbone: Backbone, task: str = "segmentation", **settings: Any) -> Head:
    """A head of the right sizes that never learned anything: for tests and timings."""
    extractor = extractor_for(method, backbone, seed=0)
    model = _model(task)(extractor, **settings).eval().requires_grad_(False)
    return Head(
        method, extractor.inject, 0.5 if task == "segmentation" else None, 0, backbone.weights_sha256, {},
        task=task, settings=getattr(model, "settings", {}), model=model,
    )  # fmt: skip


def file_name(method: str) -> str:
    """The file of a method's head: "SD+CLIP concatenated" is kept as sd-clip-concatenated.safetensors."""
    return file_stem(method) + ".safetensors"


def save_heads(
    run: Any, trials: Sequence[Trial], weights_sha256: str, folder: Path, task: str = "segmentation"
) -> list[Path]:
    """Write the trained models of the run's first seed, each beside its place and then renamed.

    Args:
        run: from `params.check` of the notebook that trained them; with 0 epochs it trained none, and none is written.
        trials: from the task's `compare`; those without a model, or of no arm, are left out.
        folder: made if it is not there.
        task: one of MODELS. What the models were made with is read from their `settings`.

    Returns:
        The files written.

    Raises:
        OSError: one sentence, when they cannot be written.
    """
    if run.epochs == 0:
        return []
    make_folder(folder)
    training = {key: getattr(run, key) for key in ("dataset", "split", "limit", "epochs", "learning_rate")}
    written = []
    for trial in trials:
        if trial.model is None or trial.method not in ARMS or trial.seed != run.seed:
            continue
        found = getattr(trial, "found", trial)  # the trial itself until the old Trials are gone
        head = Head(
            trial.method, trial.model.extractor.inject, getattr(found, "threshold", None), trial.seed, weights_sha256,
            training, task=task, settings=getattr(trial.model, "settings", {}),
        )  # fmt: skip
        state = {key: value.cpu().contiguous() for key, value in trial.model.state_dict().items()}
        written.append(folder / file_name(trial.method))
        replace_file(written[-1], save(state, metadata={KEY: _signed(asdict(head), state)}))
    return written


def load_head(path: str | Path, backbone: Backbone, task: str | None = None) -> Head:
    """A trained model for this backbone, on its device.

    Args:
        path: a file that `save_heads` wrote.
        task: the task that is asked for, one of MODELS; None takes whatever is in the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: one sentence, for a file that is not such a checkpoint, is of another task, was trained on another
            backbone or by another version of the code, or does not fit its own description.
    """
    path, notebook = Path(path), NOTEBOOKS.get(task, "the notebook of its task")
    if not path.is_file():
        raise FileNotFoundError(f"no trained model at {path}: run {notebook}, which writes some into heads/.")
    head, state = _read(path, notebook)
    if task not in (None, head.task):
        raise ValueError(f"{path} is a trained model of {head.task}, not of {task}: pass one that {notebook} wrote.")
    notebook = NOTEBOOKS[head.task]
    if head.weights_sha256 != backbone.weights_sha256:
        raise ValueError(
            f"{path} was trained on a backbone with weights {head.weights_sha256[:12]}, but {backbone.name} has "
            f"{backbone.weights_sha256[:12]}: run {notebook} with -p backbone {backbone.name} -p arms frozen and "
            "use the heads/ folder it writes."
        )
    try:
        model = _model(head.task)(extractor_for(head.method, backbone, head.seed, head.inject), **head.settings)
        model.load_state_dict(state)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not fit the model it names: run {notebook} again.") from error
    return replace(head, model=model.eval().requires_grad_(False))


def load_heads(folder: str | Path, backbone: Backbone, task: str = "segmentation") -> dict[str, Head]:
    """All heads of a folder by method, in the order of `fusion.ARMS`; errors as `load_head`, or if there is none."""
    folder = Path(folder)
    found = {method: folder / file_name(method) for method in ARMS if (folder / file_name(method)).is_file()}
    if not found:
        raise FileNotFoundError(f"no trained models in {folder}: run {NOTEBOOKS[task]}, which writes some into heads/.")
    return {method: load_head(path, backbone, task) for method, path in found.items()}


def _read(path: Path, notebook: str) -> tuple[Head, dict[str, Tensor]]:
    """What a file says of itself, and its weights. Where it is not what it should be, `notebook` can write another."""
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {})[KEY]
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  not a dict
        described = json.loads(text)
        described.pop("sha256", None)  # the versions before had none
        head, whole = Head(**described), text == _signed(described, state)
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a whole trained model of this collection: run {notebook} again.") from error
    if head.format != FORMAT or head.task not in MODELS or head.method not in ARMS or head.dim != DIM:
        raise ValueError(f"{path} was written by another version of sfhelpers: run {notebook} again.")
    if not whole:
        raise ValueError(f"{path} is not a whole trained model of this collection: run {notebook} again.")
    return head, state


def _signed(described: dict[str, Any], state: dict[str, Tensor]) -> str:
    """A description of a head as text, with the sha256 of it and of the weights."""
    described = {key: value for key, value in described.items() if key != "model"}
    text = json.dumps(described, sort_keys=True, allow_nan=False)
    return json.dumps(described | {"sha256": content_sha256(state, text)}, sort_keys=True, allow_nan=False)


def _model(task: str) -> type[nn.Module]:
    """The class of a task's model, imported when it is needed: not every reader of one head needs all tasks."""
    return getattr(import_module(f"sfhelpers.tasks.{task}"), MODELS[task])
