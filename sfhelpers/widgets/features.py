"""The explorers: of feature maps as colours or by their frequencies, and of masks under a moving threshold."""

import math
from collections.abc import Sequence

import ipywidgets
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from torch import Tensor

from sfhelpers import plots
from sfhelpers.metrics import foreground_iou
from sfhelpers.pilot import band_pass, pca_maps, power, radial_profile, spectrum
from sfhelpers.plots.charts import tidy
from sfhelpers.plots.figure import BLUE, DPI, INK, PALE, SKY, VERMILION
from sfhelpers.plots.grids import Picture
from sfhelpers.tasks.correspondence import sample
from sfhelpers.widgets.base import Clickable, Live, State, check_labels, within
from sfhelpers.widgets.explorer import SIDES, Explorer, ramp, show

KINDS = {"picture": "picture", "map": "PCA, {}", "cosine": "cosine to the marked point"}
PANELS = [["spectrum sketch", "spectrum photo", "profile", "profile"], ["sketch", "photo", "sketch left", "photo left"]]
NOTHING = 1e-9  # share of the power, below which what is left is rounding
LOW, HIGH = 0.01, 0.99  # of a threshold
STILL = (0.2, 0.8)  # thresholds of the still picture, beside the one given
LINES = ((VERMILION, "-"), (BLUE, (0, (5, 1.5))))  # of the sketch, of the photo


class PCAExplorer(Explorer):
    """Sketch and photo beside their PCA maps; click a point to see where the features are most like those at it.

    A PCA map shows the first three principal components of the features as red, green and blue (paper, Fig. 1). Its
    colours can only be compared within one basis: one image, the pair, or the whole set. `update` takes what the
    controls are called, and `point`: "sketch" or "photo", and x and y in it from 0 to 1.
    """

    def _own(self) -> tuple[Clickable, State, dict]:
        words = "Sketch and photo, their PCA maps, and the cosine to the marked point"
        return Clickable(self._clicked, label=words), {"point": ("sketch", 0.5, 0.5)}, {}

    def _clicked(self, x: float, y: float) -> None:
        figure, panels = _panels()
        for name, axes in panels.items():
            u, v = (figure.transFigure - axes.transAxes).transform((x, 1 - y)).tolist()
            if 0 <= u <= 1 and 0 <= v <= 1:
                return self.update(point=(name.split()[0], u, 1 - v))
        self.update(point=None)

    def _checked(self, state: State) -> State:
        point = state["point"]
        if point is None:
            raise ValueError("that point lies between the pictures: choose one inside a picture.")
        match point:
            case ["sketch" | "photo", x, y] if within(x, 0, 1) and within(y, 0, 1):
                return super()._checked({**state, "point": tuple(point)})
        raise ValueError(f'point is {point!r}: give ("sketch" or "photo", x, y) with x and y from 0 to 1.')

    def _picture(self, state: State, pictures: list, maps: Tensor, chosen: int) -> tuple[plots.Figure, list[str]]:
        colors, bases = pca_maps(maps, state["basis"])
        own = bases if state["basis"] == "image" else bases * 2  # one for the sketch, one for the photo
        figure, axes = _panels()
        for side, picture, color, explained in zip(SIDES, pictures, colors[chosen], own, strict=True):
            caption = "{} × {}, {:.0%} explained".format(*color.shape[:2], sum(explained))
            show(axes[f"{side} picture"], picture).axes.set_ylabel(side, size=9, color=INK)
            show(axes[f"{side} map"], color, below=caption)
        similar = _similar(axes, maps[chosen], state["point"])
        for kind, head in KINDS.items():
            axes[f"sketch {kind}"].set_title(head.format(state["source"]), size=9, color=INK, pad=5)
        shares = ["{:.0f}, {:.0f} and {:.0f}%".format(*(100 * each)) for each in own]
        words = {
            "image": f"{shares[0]} of the sketch's and {shares[1]} of the photo's variance: colours of their own.",
            "pair": f"{shares[0]} of the pair's variance: equal colours, equal features.",
            "set": f"{shares[0]} of all pairs' variance: equal colours, equal features.",
        }
        return figure, [f"Red, green and blue explain {words[state['basis']]}", similar]


def _panels() -> tuple[plots.Figure, dict[str, Axes]]:
    figure = plots.Figure(figsize=(564 / DPI, 438 / DPI))
    space = {"left": 0.04, "right": 0.995, "top": 0.95, "bottom": 0.1, "wspace": 0.04, "hspace": 0.13}
    return figure, figure.subplot_mosaic([[f"{side} {kind}" for kind in KINDS] for side in SIDES], gridspec_kw=space)


def _similar(axes: dict[str, Axes], maps: Tensor, point: tuple[str, float, float]) -> str:
    """Draw the cosine maps and the marks of `maps` (2, C, h, w); what they say in words."""
    asked, x, y = point
    other = SIDES[asked == SIDES[0]]
    feature = sample(maps[SIDES.index(asked)][None], torch.tensor([[[x, y]]], dtype=torch.float32))[0, 0, :, None, None]
    cosines = [F.cosine_similarity(one, feature, dim=0).numpy() for one in maps]
    best = cosines[SIDES.index(other)]
    scale = {"vmin": best.min(), "vmax": best.max()}  # of the other image, since the marked one reaches 1 at the mark
    shown = [show(axes[f"{side} cosine"], cosine, **scale) for side, cosine in zip(SIDES, cosines, strict=True)]
    ramp(shown[1], extend="both")
    row, column = np.unravel_index(best.argmax(), best.shape)
    found = ((column + 0.5) / best.shape[1], (row + 0.5) / best.shape[0])
    for kind in KINDS:
        for name, place, shape in ((asked, (x, y), "+"), (other, found, "o")):
            edge = {"markersize": 12, "markerfacecolor": "none", "clip_on": False}
            for color, width in (("white", 4.5), (VERMILION, 2)):  # edged in white, to be seen on any ground
                axes[f"{name} {kind}"].plot(*place, shape, markeredgecolor=color, markeredgewidth=width, **edge)
    return (
        f"Marked + in the {asked} at ({x:.2f}, {y:.2f}): most similar in the {other} is "
        f"({found[0]:.2f}, {found[1]:.2f}), marked o, cosine <b>{best.max():.2f}</b>. Click another point to ask again."
    )


class FrequencyExplorer(Explorer):
    """Spectra and radial profiles of sketch and photo, and the PCA maps of a band of their frequencies (paper, Fig. 1).

    A profile is the mean power at a frequency, in cycles per image, over the mean of all; dotted lines show white noise
    and a field whose amplitude falls as 1/f, the dashed one where a grid of n positions ends, at n / 2 cycles. `update`
    takes what the controls are called, among them `band`, the lowest and highest frequency kept; at `top`, all above.
    """

    def _own(self) -> tuple[ipywidgets.Image, State, dict]:
        diffusion, heads = self.maps.backbone.diffusion, self.maps.heads.values()
        finest = max(diffusion.size // diffusion.factor, *(head.extractor.aggregator.grid for head in heads), 0)
        self.top = float(math.ceil(finest / math.sqrt(2)))  # the highest frequency of that grid, at its corner
        words = {"description": "keep cycles", "readout_format": ".1f", "continuous_update": False}
        band = ipywidgets.FloatRangeSlider(min=0, max=self.top, step=0.5, **words)
        return ipywidgets.Image(format="png"), {"band": (0.0, self.top)}, {"band": band}

    def _checked(self, state: State) -> State:
        match band := state["band"]:
            case [low, high] if within(low, 0, self.top) and within(high, low, self.top):
                return super()._checked({**state, "band": (float(low), float(high))})
        raise ValueError(f"band is {band!r}: give (low, high) in cycles per image, from 0 to {self.top:g}.")

    def _picture(self, state: State, pictures: list, maps: Tensor, chosen: int) -> tuple[plots.Figure, list[str]]:
        low, high = state["band"]
        kept = band_pass(maps.flatten(0, 1), low, math.inf if high == self.top else high).unflatten(0, maps.shape[:2])
        energy, left = (part[chosen].var(dim=(2, 3), correction=0).sum(dim=1) for part in (maps, kept))
        shares = (left / energy.clamp_min(1e-12)).tolist()
        said = " and ".join(f"<b>{share:.0%}</b> of the {side}'s" for share, side in zip(shares, SIDES, strict=True))
        words = [f"Kept: {low:g} to {high:g} cycles per image, {said} power (the mean apart)."]
        if min(shares) <= NOTHING:
            words.append(f"Nothing to colour: a grid of {maps.shape[-1]} × {maps.shape[-1]} has none in this band.")
        colors = pca_maps(kept, state["basis"])[0][chosen] if min(shares) > NOTHING else np.full((2, 1, 1, 3), 255)
        figure = plots.Figure(figsize=(564 / DPI, 372 / DPI))
        space = {"left": 0.005, "right": 0.995, "top": 0.935, "bottom": 0.01, "wspace": 0.05, "hspace": 0.38}
        axes = figure.subplot_mosaic(PANELS, gridspec_kw=space)
        logs, grid = spectrum(maps[chosen]), maps.shape[-1]
        for side, picture, color, log in zip(SIDES, pictures, colors, logs, strict=True):
            show(axes[side], picture, side)
            show(axes[f"{side} left"], color, f"PCA map, {side}")
            log_axes = axes[f"spectrum {side}"]
            shown = show(log_axes, log, vmin=logs.min(), vmax=logs.max())
            for radius in (low / grid, high / grid):  # around the zero frequency's pixel
                ring = {"fill": False, "edgecolor": "white", "linewidth": 1.2}
                log_axes.add_patch(Circle([(grid // 2 + 0.5) / grid] * 2, radius, **ring))
        ramp(shown)
        axes["spectrum sketch"].set_xlabel("log10 magnitude", loc="right")
        axes["spectrum sketch"].set_title(f"spectra, {state['source']}", loc="left", size=9, color=INK, pad=5)
        axes["profile"].set_axis_off()
        profile = axes["profile"].inset_axes((0.19, 0, 0.8, 1))
        _draw_profile(profile, maps[chosen], self.top)
        profile.axvspan(max(low, 0.01), high, color=SKY, alpha=0.2, linewidth=0, zorder=0)
        return figure, words


def _draw_profile(axes: Axes, maps: Tensor, top: float) -> None:
    """Radial profiles of (2, C, h, w), sketch and photo, on logarithmic axes with the yardsticks."""
    grid, spread = maps.shape[-1], power(maps)
    frequencies, profiles = radial_profile(spread)
    for side, (color, dash), profile, whole in zip(SIDES, LINES, profiles, spread, strict=True):
        level = profile[1:] / max(whole.mean(), 1e-12)
        axes.plot(frequencies[1:], level, color=color, linestyle=dash, linewidth=1.8, label=side)
    squared = np.add.outer(*[np.fft.fftfreq(grid, 1 / grid) ** 2] * 2)
    pink = squared.size / (1 / squared[squared > 0]).sum() / frequencies[1:] ** 2  # over its mean, too
    axes.plot(frequencies[1:], np.stack([np.ones_like(pink), pink], axis=1), color=PALE, linestyle=":", linewidth=1.3)
    axes.axvline(grid / 2, color=INK, linestyle=(0, (4, 3)), linewidth=1)
    axes.set(xscale="log", yscale="log", xlim=(0.8, top), ylim=(1e-3, 1e3))  # one scale: sources can be compared
    small = {"size": 7.5, "color": PALE}
    axes.text(0.8, 0.9, " white noise", va="top", **small)
    axes.text(frequencies[-1], pink[-1], "  1/f", va="center", **small)
    axes.text(grid / 2, 800, "limit", rotation=90, va="top", ha="right", **small)
    ticks = 2 ** np.arange(math.floor(math.log2(top)) + 1)
    axes.set_xticks(ticks, ticks.astype(str))
    axes.minorticks_off()
    tidy(axes, "cycles per image", "power over its mean")
    axes.xaxis.labelpad = axes.yaxis.labelpad = 1
    axes.legend(fontsize=8, frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(-0.02, 0.96), borderpad=0)


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
