"""Is the denoiser trained enough? Segmentation quality over the samples it has seen."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from sfhelpers import results
from sfhelpers.backbones import Backbone
from sfhelpers.datasets import Dataset
from sfhelpers.tasks import segmentation_comparison as comparison
from sfhelpers.tasks import segmentation_report as report

METHODS = ("fused", "SD only")


def snapshots(folder: Path) -> dict[int, Path]:
    """Samples seen -> file of averaged weights, as `denoiser.train(keep_at=...)` kept them, fewest first."""
    files = {int(path.stem.removeprefix("samples_")): path for path in folder.glob("samples_*.safetensors")}
    return dict(sorted(files.items()))


def at_snapshot(backbone: Backbone, path: Path, samples: int) -> Backbone:
    """The backbone with the denoiser of a snapshot in place of its own; all else is shared.

    Raises:
        ValueError: the file does not hold exactly the parameters of this backbone's UNet and text encoder.
    """
    tensors = load_file(path)
    diffusion = deepcopy(backbone.diffusion)
    for prefix, module in (("unet.", diffusion.unet), ("text.", diffusion.text_encoder)):
        own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        wanted = {name: p.shape for name, p in module.named_parameters()}
        if {name: tensor.shape for name, tensor in own.items()} != wanted:
            raise ValueError(f"{path} is no snapshot of this backbone's denoiser: train it anew with this backbone.")
        module.load_state_dict({**module.state_dict(), **own})
    digest = sha256(f"{backbone.weights_sha256} {sha256(path.read_bytes()).hexdigest()}".encode()).hexdigest()
    return replace(backbone, name=f"pocket at {samples} samples", diffusion=diffusion, weights_sha256=digest)


def quality(run: Any, backbone: Backbone, dataset: Dataset, folder: Path, epochs: int = 6) -> list[results.Row]:
    """Train and test the segmentation arms that use the UNet on every snapshot of a folder.

    A snapshot's rows are written to `curve_<samples>.json` in the folder and read back from there the next time.

    Args:
        run: what `params.check` returned.
    """
    found = []
    for samples, path in snapshots(folder).items():
        written = folder / f"curve_{samples}.json"
        if not written.exists():
            used = at_snapshot(backbone, path, samples)
            trials, parts = comparison.compare(used, dataset, METHODS, [run.seed], epochs, 2e-3, 16, keep_models=False)
            rows = report.rows(run, trials, parts, used.weights_sha256)
            results.write(
                [replace(row, backbone=used.name, dataset=dataset.name, epochs=epochs) for row in rows], written
            )
        found += results.read(written)
    return found


def series(rows: Iterable[results.Row], gallery: str, metric: str = "foreground IoU") -> dict[str, dict[int, float]]:
    """Method -> {samples: mean over seeds} at the chosen threshold, samples rising."""
    by_samples: dict[int, list[results.Row]] = {}
    for row in rows:
        by_samples.setdefault(int(row.backbone.split()[2]), []).append(row)
    found: dict[str, dict[int, float]] = {}
    for samples, some in sorted(by_samples.items()):
        for method, (mean, _) in sorted(results.table(some, gallery, metric, report.CHOSEN).items()):
            found.setdefault(method, {})[samples] = mean
    return found
