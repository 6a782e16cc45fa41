"""Masks under a moving threshold."""

from collections.abc import Sequence

import ipywidgets
import torch
from torch import Tensor

from sfhelpers import plots
from sfhelpers.metrics import foreground_iou
from sfhelpers.plots.grids import Picture
from sfhelpers.widgets.base import Live, State, check_labels, within

LOW, HIGH = 0.01, 0.99
STILL = (0.2, 0.8)  # thresholds of the still picture, beside the one given


class MaskExplorer(Live):
    """A menu of sketch-photo pairs and a threshold slider beside query, photo, correlation map, mask and truth.

    `sketches` and `photos` are N images of any kind that `plots` takes, the photos of side x side pixels; `labels` are
    N different names. `probabilities` (N, side, side) in [0, 1] are foreground at the threshold, 0.01 to 0.99, or
    above; `truths` are bool. ValueError if they do not fit together. `update` takes `label` and `threshold`.
    """

    def __init__(
        self, sketches: Sequence[Picture], photos: Sequence[Picture], probabilities: Tensor, truths: Tensor,
        labels: Sequence[str], threshold: float,
    ):  # fmt: skip
        pictures = ([plots.picture(image) for image in images] for images in (sketches, photos))
        probabilities, truths = (torch.as_tensor(maps).detach().cpu() for maps in (probabilities, truths))
        self.columns, self.labels = (*pictures, probabilities, truths), list(labels)
        check_labels(self.labels, *self.columns)
        foreground_iou(probabilities >= 0.5, truths)  # raises if shapes or types do not fit
        if not ((probabilities >= 0) & (probabilities <= 1)).all():
            raise ValueError("a probability lies outside 0 to 1: pass the sigmoid of the logits.")
        slider = {"min": LOW, "max": HIGH, "step": 0.01, "continuous_update": False}
        controls = {
            "label": ipywidgets.Dropdown(options=self.labels, description="pair"),
            "threshold": ipywidgets.FloatSlider(description="threshold", **slider),
        }
        state = {"label": self.labels[0], "threshold": threshold}
        super().__init__(ipywidgets.Image(format="png"), state, controls)

    def _checked(self, state: State) -> State:
        if not within(state["threshold"], LOW, HIGH):
            raise ValueError(f"the threshold is {state['threshold']!r}: give a number from {LOW} to {HIGH}.")
        return state

    def _drawn(self, state: State) -> tuple[plots.Figure, str]:
        figure, (iou,) = self._rows(state["label"], [state["threshold"]])
        return figure, f"Foreground IoU <b>{iou:.2f}</b> at threshold {state['threshold']:.2f}."

    def _rows(self, label: str, thresholds: Sequence[float]) -> tuple[plots.Figure, list[float]]:
        """A row a threshold, and each one's IoU."""
        k = self.labels.index(label)
        sketches, photos, maps, truths = ([column[k]] * len(thresholds) for column in self.columns)
        masks = torch.stack([maps[0] >= threshold for threshold in thresholds])
        ious = foreground_iou(masks, torch.stack(truths)).tolist()
        heads = [f"at {cut:.2f},\nIoU {iou:.2f}" for cut, iou in zip(thresholds, ious, strict=True)]
        return plots.mask_grid(sketches, photos, maps, masks, truths, heads, size=1.3), ious

    def still(self) -> tuple[plots.Figure, str]:
        cuts = sorted({*STILL, self._start["threshold"]})
        figure, ious = self._rows(self.labels[0], cuts)
        told = "; ".join(f"mask at {cut:.2f}, IoU {iou:.2f}" for cut, iou in zip(cuts, ious, strict=True))
        return figure, f"<MaskExplorer of {len(self.labels)} pairs; shown: {self.labels[0]}, {told}>"
