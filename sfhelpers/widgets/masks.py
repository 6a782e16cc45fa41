"""Masks under a moving threshold."""

from collections.abc import Sequence

import ipywidgets
import torch
from torch import Tensor

from sfhelpers import plots
from sfhelpers.metrics import foreground_iou
from sfhelpers.plots.grids import Picture
from sfhelpers.widgets.base import ROW, Live, State, check_labels, shown

LOW, HIGH = 0.01, 0.99
STILL = (0.2, 0.8)  # thresholds of the still picture, beside the one given


class MaskExplorer(Live, ipywidgets.HBox):
    """A menu of sketch-photo pairs and a threshold slider beside query, photo, correlation map, mask and truth.

    `update` takes `label` and `threshold`.

    Args:
        sketches: N images of any kind that `plots` takes, as are the photos, of side x side pixels.
        probabilities: (N, side, side) in [0, 1]; a pixel is foreground at the threshold or above.
        truths: (N, side, side) bool.
        labels: N different names, as the menu shows them.
        threshold: where the slider starts, 0.01 to 0.99.

    Raises a ValueError if they differ in number or size, a label comes twice, or a value is out of range.
    """

    label, threshold = shown("label"), shown("threshold")

    def __init__(
        self, sketches: Sequence[Picture], photos: Sequence[Picture], probabilities: Tensor, truths: Tensor,
        labels: Sequence[str], threshold: float,
    ):  # fmt: skip
        self.sketches, self.photos = ([plots.picture(image) for image in images] for images in (sketches, photos))
        self.probabilities, self.truths = (torch.as_tensor(maps).detach().cpu() for maps in (probabilities, truths))
        self.labels, self.start = list(labels), _in_range(threshold)
        self._check()
        slider = {"min": LOW, "max": HIGH, "step": 0.01, "continuous_update": False}
        controls = {
            "label": ipywidgets.Dropdown(options=self.labels, description="pair"),
            "threshold": ipywidgets.FloatSlider(description="threshold", **slider),
        }
        self._begin({"label": self.labels[0], "threshold": self.start}, controls)
        self.image = ipywidgets.Image(format="png")
        column = ipywidgets.VBox([*controls.values(), self.words], layout={"flex": "0 0 310px"})
        super().__init__([column, self.image], layout=ROW)
        self._show(self._state)
        self._settle([])

    def _check(self) -> None:
        columns = (self.sketches, self.photos, self.probabilities, self.truths, self.labels)
        counts = [len(column) for column in columns]
        if len(set(counts)) > 1 or not counts[0]:
            found = "{} sketches, {} photos, {} probabilities, {} truths and {} labels".format(*counts)
            raise ValueError(f"MaskExplorer got {found}: pass as many of each, at least one.")
        check_labels(self.labels)
        foreground_iou(self.probabilities >= self.start, self.truths)  # raises if shapes or types do not fit
        if not ((self.probabilities >= 0) & (self.probabilities <= 1)).all():
            raise ValueError("a probability lies outside 0 to 1: pass the sigmoid of the logits.")
        if any(photo.shape[:2] != self.truths.shape[1:] for photo in self.photos):
            raise ValueError("a photo and its truth differ in height or width: resize one of them.")

    def _checked(self, state: State) -> State:
        label = state["label"]
        if label not in self.labels:
            raise ValueError(f"there is no pair {label!r}: choose one from the menu, such as {self.labels[0]!r}.")
        return {"label": label, "threshold": _in_range(state["threshold"])}

    def _drawn(self, state: State) -> tuple[bytes, str]:
        k, threshold = self.labels.index(state["label"]), state["threshold"]
        mask, truth = self.probabilities[k] >= threshold, self.truths[k]
        images = (self.sketches[k], self.photos[k], self.probabilities[k], mask, truth)
        shares = f"The mask covers {mask.float().mean():.0%} of the photo, the truth {truth.float().mean():.0%}."
        words = f"Foreground IoU <b>{_iou(mask, truth):.2f}</b> at threshold {threshold:.2f}.<br>{shares}"
        return plots.mask_grid(*([image] for image in images), size=1.3).png(), words

    def still(self) -> tuple[plots.Figure, str]:
        photo, map_, truth = self.photos[0], self.probabilities[0], self.truths[0]
        cuts = sorted({*STILL, self.start})
        heads = [f"mask at {cut:.2f}, IoU {_iou(map_ >= cut, truth):.2f}" for cut in cuts]
        row = [self.sketches[0], photo, map_.float(), *(plots.overlay(photo, map_ >= cut) for cut in cuts)]
        row.append(plots.overlay(photo, truth, plots.BLUE))
        columns = ["query", "photo", "correlation from 0 to 1", *heads, "truth"]
        text = f"<MaskExplorer of {len(self.labels)} pairs; shown: {self.labels[0]}, {'; '.join(heads)}>"
        return plots.grid([row], [self.labels[0]], columns), text


def _iou(mask: Tensor, truth: Tensor) -> float:
    return foreground_iou(mask[None], truth[None]).item()


def _in_range(threshold: float) -> float:
    if not LOW <= threshold <= HIGH:
        raise ValueError(f"the threshold is {threshold}: give a number from {LOW} to {HIGH}.")
    return float(threshold)
