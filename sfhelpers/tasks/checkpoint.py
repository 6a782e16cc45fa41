"""Trained segmenters as files: safetensors with the configuration and the backbone that made them."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from sfhelpers.backbones import Backbone
from sfhelpers.files import replace_file
from sfhelpers.fusion import ARMS, FusedExtractor
from sfhelpers.tasks.arms import DIM, extractor_for, file_stem
from sfhelpers.tasks.segmentation import SketchSegmenter
from sfhelpers.tasks.segmentation_comparison import Trial

FORMAT = 1  # raise it when the same weights would mean another model
SHIPPED = Path(__file__).resolve().parents[2] / "data" / "heads" / "segmentation"
KEY = "sketchfusion"


@dataclass(frozen=True)
class Head:
    """A trained segmenter and where it comes from.

    Attributes:
        method: the arm, one of `fusion.ARMS`.
        inject: how the tokens enter the UNet.
        model: the segmenter, in eval mode; None while it is only described.
        threshold: from which a probability is foreground, chosen on validation pairs.
        seed: of its training.
        weights_sha256: of the backbone that it was trained on.
        training: what else it was trained with (dataset, split, limit, epochs, learning_rate).
    """

    method: str
    inject: str
    threshold: float
    seed: int
    weights_sha256: str
    training: dict[str, Any]
    dim: int = DIM
    format: int = FORMAT
    model: SketchSegmenter | None = field(default=None, compare=False)

    @property
    def extractor(self) -> FusedExtractor:
        """The trained extractor inside the segmenter."""
        return self.model.extractor


def untrained_head(method: str, backbone: Backbone) -> Head:
    """A head of the right sizes that never learned anything: for tests and timings."""
    model = SketchSegmenter(extractor_for(method, backbone, seed=0)).eval().requires_grad_(False)
    return Head(method, model.extractor.inject, 0.5, 0, backbone.weights_sha256, {}, model=model)


def file_name(method: str) -> str:
    """The file of a method's head: "SD+CLIP concatenated" is kept as sd-clip-concatenated.safetensors."""
    return file_stem(method) + ".safetensors"


def save_heads(run: Any, trials: list[Trial], weights_sha256: str, folder: Path) -> list[Path]:
    """Write the trained models of the run's first seed, each beside its place and then renamed.

    Args:
        run: from `params.check` of the notebook that trained them.
        trials: from `segmentation_comparison.compare`; those without a model, or of no arm, are left out.

    Returns:
        The files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    training = {key: getattr(run, key) for key in ("dataset", "split", "limit", "epochs", "learning_rate")}
    written = []
    for trial in trials:
        if trial.model is None or trial.method not in ARMS or trial.seed != run.seed:
            continue
        inject = trial.model.extractor.inject
        head = Head(trial.method, inject, trial.threshold, trial.seed, weights_sha256, training)
        described = {key: value for key, value in asdict(head).items() if key != "model"}
        state = {key: value.contiguous() for key, value in trial.model.state_dict().items()}
        written.append(folder / file_name(trial.method))
        replace_file(written[-1], save(state, metadata={KEY: json.dumps(described, sort_keys=True)}))
    return written


def load_head(path: str | Path, backbone: Backbone) -> Head:
    """A trained segmenter for this backbone, on its device.

    Raises:
        FileNotFoundError: no such file.
        ValueError: one sentence, for a file that is not such a checkpoint, was trained on another backbone or by
            another version of the code, or does not fit its own description.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no trained model at {path}: run 04_segmentation, which writes some into heads/.")
    try:
        with safe_open(path, framework="pt") as file:
            described = json.loads((file.metadata() or {})[KEY])
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  not a dict
        head = Head(**described)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a trained segmenter of this collection: run 04_segmentation again.") from error
    if head.format != FORMAT or head.method not in ARMS or head.dim != DIM:
        raise ValueError(f"{path} was written by another version of sfhelpers: run 04_segmentation again.")
    if head.weights_sha256 != backbone.weights_sha256:
        raise ValueError(
            f"{path} was trained on a backbone with weights {head.weights_sha256[:12]}, but {backbone.name} has "
            f"{backbone.weights_sha256[:12]}: run 04_segmentation with -p backbone {backbone.name} -p arms all and "
            "use the heads/ folder it writes."
        )
    model = SketchSegmenter(extractor_for(head.method, backbone, head.seed, head.inject))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the model it names: run 04_segmentation again.") from error
    return replace(head, model=model.eval().requires_grad_(False))


def load_heads(folder: str | Path, backbone: Backbone) -> dict[str, Head]:
    """All heads of a folder by method, in the order of `fusion.ARMS`; errors as `load_head`, or if there is none."""
    folder = Path(folder)
    found = {method: folder / file_name(method) for method in ARMS if (folder / file_name(method)).is_file()}
    if not found:
        raise FileNotFoundError(f"no trained models in {folder}: run 04_segmentation, which writes some into heads/.")
    return {method: load_head(path, backbone) for method, path in found.items()}
