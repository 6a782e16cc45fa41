"""How the power of feature maps spreads over frequencies, and what is left of the maps when some are taken away."""

import math
from collections.abc import Sequence

import ipywidgets
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from torch import Tensor

from sfhelpers import plots
from sfhelpers.pilot import band_pass, pca_maps, power, radial_profile, spectrum
from sfhelpers.plots.charts import tidy
from sfhelpers.plots.figure import BLUE, DPI, INK, PALE, SKY, VERMILION
from sfhelpers.widgets.base import State, shown
from sfhelpers.widgets.explorer import SIDES, Explorer, panels, ramp, show

PANELS = [["spectrum sketch", "spectrum photo", "profile", "profile"], ["sketch", "photo", "sketch left", "photo left"]]
NOTHING = 1e-9  # share of the power, below which what is left is rounding
LINES = {"sketch": (VERMILION, "-"), "photo": (BLUE, (0, (5, 1.5)))}


class FrequencyExplorer(Explorer):
    """Spectra and radial profiles of sketch and photo, and the PCA maps of a band of their frequencies (paper, Fig. 1).

    Frequencies are counted in cycles per image, so that maps of different grids share an axis. A profile is the mean
    power at a frequency over the mean of all; the dotted lines show white noise and a field whose amplitude falls as
    1/f, and the dashed one where a grid of n positions ends, at n / 2 cycles.

    Arguments and errors as `Explorer`; `update` also takes `band`, the lowest and highest frequency kept.
    """

    band = shown("band")  # the frequencies kept, in cycles per image; at the slider's upper end, all above too

    def _own(self) -> tuple[ipywidgets.Image, State, dict]:
        diffusion, heads = self.maps.backbone.diffusion, self.maps.heads.values()
        finest = max(diffusion.size // diffusion.factor, *(head.extractor.aggregator.grid for head in heads), 0)
        self.top = float(math.ceil(finest / math.sqrt(2)))  # the highest frequency of that grid, at its corner
        words = {"description": "keep cycles", "readout_format": ".1f", "continuous_update": False}
        band = ipywidgets.FloatRangeSlider(min=0, max=self.top, step=0.5, **words)
        return ipywidgets.Image(format="png"), {"band": (0.0, self.top)}, {"band": band}

    def _checked(self, state: State) -> State:
        band = state["band"]
        numbers = isinstance(band, tuple | list) and len(band) == 2 and all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in band
        )  # fmt: skip
        if not numbers or not 0 <= band[0] <= band[1] <= self.top:
            raise ValueError(f"band is {band!r}: give (low, high) in cycles per image, from 0 to {self.top:g}.")
        return super()._checked({**state, "band": (float(band[0]), float(band[1]))})

    def _drawn(self, state: State) -> tuple[bytes, str]:
        maps, index = self._features(state)
        low, high = state["band"]
        kept = band_pass(maps.flatten(0, 1), low, math.inf if high == self.top else high).unflatten(0, maps.shape[:2])
        shares = (_energy(kept[index]) / _energy(maps[index]).clamp_min(1e-12)).tolist()
        grid = {"left": 0.005, "right": 0.995, "top": 0.935, "bottom": 0.01, "wspace": 0.05, "hspace": 0.38}
        figure, axes = panels(PANELS, 564, 372, **grid)
        _draw_spectra([axes[f"spectrum {side}"] for side in SIDES], maps[index], (low, high))
        if min(shares) > NOTHING:
            colors = pca_maps(kept, state["basis"])[0][index]
        else:
            colors = np.full((2, 1, 1, 3), 255, dtype=np.uint8)
        for side, color in zip(SIDES, colors, strict=True):
            show(axes[side], self.pictures[self.labels.index(state["label"])][side], side)
            show(axes[f"{side} left"], color, f"PCA map, {side}", interpolation="nearest")
        axes["profile"].set_axis_off()
        profile = axes["profile"].inset_axes((0.19, 0, 0.8, 1))
        _draw_profile(profile, maps[index], self.top)
        profile.axvspan(max(low, 0.01), high, color=SKY, alpha=0.2, linewidth=0, zorder=0)
        return figure.quick_png(), "<br>".join([_said((low, high), shares, maps.shape[-1]), *self._notes(state)])

    def still(self) -> tuple[plots.Figure, str]:
        views, profiles = self._still_views(), []
        figure = plots.Figure(figsize=(800 / DPI, 330 / DPI))
        for part, (name, state) in zip(figure.subfigures(1, len(views), squeeze=False)[0], views.items(), strict=True):
            maps = self._features(state)[0][0]
            part.suptitle(f"{name}, {maps.shape[-1]} × {maps.shape[-1]}", size=9, color=INK, weight="bold")
            grid = {"left": 0.24, "right": 0.97, "top": 0.91, "bottom": 0.12, "hspace": 0.4, "height_ratios": (2, 3)}
            axes = part.subplot_mosaic([list(SIDES), ["profile"] * 2], gridspec_kw=grid)
            logs = spectrum(maps)
            for side, values in zip(SIDES, logs, strict=True):
                colors = plots.color_map(values, logs.min(), logs.max())
                show(axes[side], colors, below=side, interpolation="nearest")
            _draw_profile(axes["profile"], maps, self.top)
            profiles.append(axes["profile"])
        bounds = [bound for axes in profiles for bound in axes.get_ylim()]
        for axes in profiles:
            axes.set_ylim(min(bounds), max(bounds))  # one scale, so that sources can be compared
        text = f"spectra and radial profiles of {self.labels[0]}, {', '.join(views)}"
        return figure, f"<FrequencyExplorer of {len(self.labels)} pairs; shown: {text}>"


def _draw_spectra(both: Sequence[Axes], maps: Tensor, band: tuple[float, float]) -> None:
    """Log magnitude of sketch and photo on one scale, and the band's bounds as rings."""
    logs = spectrum(maps)
    grid, low, high = logs.shape[-1], logs.min(), logs.max()
    centre = (grid // 2 + 0.5) / grid  # the zero frequency's pixel
    for axes, side, values in zip(both, SIDES, logs, strict=True):
        show(axes, plots.color_map(values, low, high), f"spectrum, {side}", interpolation="nearest")
        for radius in band:
            axes.add_patch(Circle((centre, centre), radius / grid, fill=False, edgecolor="white", linewidth=1.2))
    ramp(both[0], f"{low:.1f}", f"{high:.1f}")
    both[1].set_xlabel("log10 magnitude", loc="left")


def _draw_profile(axes: Axes, maps: Tensor, top: float) -> None:
    """Radial profiles of (2, C, h, w), sketch and photo, on logarithmic axes with the yardsticks."""
    grid = maps.shape[-1]
    spread = power(maps)
    frequencies, profiles = radial_profile(spread)
    above = frequencies > 0
    for (side, (color, dash)), profile, whole in zip(LINES.items(), profiles, spread, strict=True):
        level = profile[above] / max(whole.mean(), 1e-12)
        axes.plot(frequencies[above], level, color=color, linestyle=dash, linewidth=1.8, label=side)
    yard, pink = radial_profile(_pink(grid))
    for level in (np.ones_like(yard), pink[0]):
        axes.plot(yard[yard > 0], level[yard > 0], color=PALE, linestyle=":", linewidth=1.3)
    axes.axvline(grid / 2, color=INK, linestyle=(0, (4, 3)), linewidth=1)
    low, high = np.log10(axes.dataLim.intervaly)
    axes.set(xscale="log", yscale="log", xlim=(0.8, top), ylim=(10 ** math.floor(low), 10 ** math.ceil(high)))
    small = {"size": 7.5, "color": PALE, "textcoords": "offset points"}
    axes.annotate("white noise", (0.8, 1), (2, -8), **small)
    axes.annotate("1/f", (yard[-1], pink[0, -1]), (6, -3), **small)
    upright = {"rotation": 90, "rotation_mode": "anchor", "ha": "right", "va": "top"}
    axes.annotate("limit", (grid / 2, 1), (2, -2), xycoords=("data", "axes fraction"), **small, **upright)
    ticks = [2**k for k in range(math.floor(math.log2(top)) + 1)]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    tidy(axes, "cycles per image", "power over its mean")
    axes.xaxis.labelpad = axes.yaxis.labelpad = 1
    narrow = {"handlelength": 1.9, "columnspacing": 0.8, "handletextpad": 0.5, "borderpad": 0}
    axes.legend(fontsize=8, frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(-0.02, 0.98), **narrow)


def _pink(grid: int) -> np.ndarray:
    """(1, grid, grid) centred power of a field whose amplitude falls as 1/f, of mean 1."""
    steps = np.arange(grid) - grid // 2
    squared = (steps[:, None] ** 2 + steps**2).astype(float)
    values = np.divide(1, squared, out=np.zeros_like(squared), where=squared > 0)
    return (values / values.mean())[None]


def _energy(maps: Tensor) -> Tensor:
    """(B, C, h, w) to (B,): the power around each channel's mean."""
    return (maps - maps.mean(dim=(2, 3), keepdim=True)).square().sum(dim=(1, 2, 3))


def _said(band: tuple[float, float], shares: Sequence[float], grid: int) -> str:
    kept = " and ".join(f"<b>{share:.0%}</b> of the {side}'s" for side, share in zip(SIDES, shares, strict=True))
    words = f"Kept: {band[0]:g} to {band[1]:g} cycles per image, {kept} power (the mean apart)."
    if min(shares) <= NOTHING:
        words += f" Nothing to colour: a grid of {grid} × {grid} has no frequency in this band."
    return words
