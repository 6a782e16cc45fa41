"""How the power of feature maps spreads over frequencies, and what is left of the maps when some are taken away."""

import math
from collections.abc import Sequence

import ipywidgets
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Rectangle
from torch import Tensor

from sfhelpers import plots
from sfhelpers.pilot import FeatureMaps, Settings, band_pass, pca_maps, power, radial_profile, spectrum
from sfhelpers.plots.figure import BLUE, HAIR, INK, PALE, SKY, VERMILION
from sfhelpers.plots.grids import Picture
from sfhelpers.widgets.explorer import DEFAULT, SIDES, Explorer, State
from sfhelpers.widgets.sheet import Sheet

CELL, GAP, TOP, CAPTION = 134, 6, 22, 30  # pixels of the layout
PROFILE = (2 * (CELL + GAP) + 50, TOP, 2 * (CELL + GAP) - 54, CELL)  # left, top, width, height
NOTHING = 1e-9  # share of the power, below which what is left is rounding
INKS = dict(zip(SIDES, (VERMILION, BLUE), strict=True))
DASHES = dict(zip(SIDES, ((0, ()), (0, (5, 1.5))), strict=True))


class FrequencyExplorer(Explorer):
    """Spectra and radial profiles of sketch and photo, and the PCA maps of a band of their frequencies (paper, Fig. 1).

    Frequencies are counted in cycles per image, so that maps of different grids share an axis. A profile is the mean
    power at a frequency over the mean of all; the dotted lines show white noise and a field whose amplitude falls as
    1/f, and the dashed one where a grid of n positions ends, at n / 2 cycles.

    Args and Raises: as `Explorer`; `update` also takes `band`, the lowest and highest frequency kept.
    """

    def __init__(
        self, pairs: Sequence[tuple[Picture, Picture]], labels: Sequence[str], maps: FeatureMaps,
        settings: Settings = DEFAULT,
    ):  # fmt: skip
        self.top = _finest(maps)
        band = ipywidgets.FloatRangeSlider(
            value=(0.0, self.top), min=0, max=self.top, step=0.5, readout_format=".1f", description="keep cycles",
            continuous_update=False,
        )  # fmt: skip
        image = ipywidgets.Image(format="png")
        super().__init__(pairs, labels, maps, settings, image, {"band": (0.0, self.top)}, {"band": band})

    @property
    def band(self) -> tuple[float, float]:
        """The frequencies kept, in cycles per image; with the slider at its upper end, all above too."""
        return self._state["band"]

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
        left = _kept(maps, low, math.inf if high == self.top else high)
        shares = (_energy(left[index]) / _energy(maps[index]).clamp_min(1e-12)).tolist()
        pictures = self.pictures[self.labels.index(state["label"])]
        sheet = _sheet()
        _draw_spectra(sheet, maps[index], (low, high))
        for column, side in enumerate(SIDES):
            sheet.put(side, pictures[side], *_place(1, column))
        if min(shares) > NOTHING:
            colors, _ = pca_maps(left, state["basis"])
            for column, (side, color) in enumerate(zip(SIDES, colors[index], strict=True), 2):
                sheet.put(f"{side} left", color, *_place(1, column))
        axes = sheet.figure.add_axes(sheet.box(*PROFILE))
        _draw_profile(axes, maps[index], self.top)
        axes.axvspan(max(low, 0.01), high, color=SKY, alpha=0.2, linewidth=0, zorder=0)
        return sheet.png(), "<br>".join([_said((low, high), shares, maps.shape[-1]), *self._notes(state)])

    def still(self) -> tuple[plots.Figure, str]:
        """The first pair's spectra and radial profiles from a few sources."""
        views = self._still_views()
        wide, small = 800 // len(views), 70
        sheet, profiles = Sheet(wide * len(views), TOP + small + 234), []
        for number, (name, state) in enumerate(views.items()):
            maps, left = self._features(state)[0][0], number * wide + 46
            sheet.write(f"{name}, {maps.shape[-1]} × {maps.shape[-1]}", left, TOP / 2, ha="left", weight="bold")
            logs = spectrum(maps)
            for place, (side, values) in enumerate(zip(SIDES, logs, strict=True)):
                x = left + place * (small + GAP)
                sheet.put(f"{name} {side}", plots.color_map(values, logs.min(), logs.max()), x, TOP, small)
                sheet.write(side, x + small / 2, TOP + small + 9, size=8, color=PALE)
            profiles.append(sheet.figure.add_axes(sheet.box(left, TOP + small + 40, wide - 54, 150)))
            _draw_profile(profiles[-1], maps, self.top)
        bounds = [bound for axes in profiles for bound in axes.get_ylim()]
        for axes in profiles:
            axes.set_ylim(min(bounds), max(bounds))  # one scale, so that sources can be compared
        shown = f"spectra and radial profiles of {self.labels[0]}, {', '.join(views)}"
        return sheet.finished(), f"<FrequencyExplorer of {len(self.labels)} pairs; shown: {shown}>"


def _sheet() -> Sheet:
    """An empty sheet with its headings."""
    sheet = Sheet(4 * (CELL + GAP) + 4, 2 * (TOP + CELL) + CAPTION + 26)
    for column, side in enumerate(SIDES):
        for row, kind in enumerate((f"spectrum, {side}", side)):
            x, y, _ = _place(row, column)
            sheet.write(kind, x + CELL / 2, y - TOP / 2)
        x, y, _ = _place(1, column + 2)
        sheet.write(f"PCA map, {side}", x + CELL / 2, y - TOP / 2)
    return sheet


def _place(row: int, column: int) -> tuple[int, int, int]:
    return 2 + column * (CELL + GAP), TOP + row * (TOP + CELL + CAPTION), CELL


def _draw_spectra(sheet: Sheet, maps: Tensor, band: tuple[float, float]) -> None:
    """Log magnitude of sketch and photo on one scale, and the band's bounds as rings."""
    logs = spectrum(maps)
    grid = logs.shape[-1]
    low, high = logs.min(), logs.max()
    for column, side in enumerate(SIDES):
        left, top, _ = _place(0, column)
        sheet.put(f"{side} spectrum", plots.color_map(logs[column], low, high), left, top, CELL)
        frame = Rectangle((left, top), CELL, CELL, transform=sheet.axes.transData)
        for radius in band:
            centre = [start + (grid // 2 + 0.5) / grid * CELL for start in (left, top)]  # the zero frequency's pixel
            ring = Circle(centre, radius / grid * CELL, fill=False, edgecolor="white", linewidth=1.2)
            sheet.axes.add_patch(ring)
            ring.set_clip_path(frame)
    ramp = plots.color_map(np.linspace(low, high, 256)[None], low, high)
    sheet.ramp(ramp, (f"{low:.1f}", f"{high:.1f}"), _place(0, 0)[0], TOP + CELL + 5, CELL)
    sheet.write("log10 magnitude", _place(0, 1)[0], TOP + CELL + 9, size=8, color=PALE, ha="left")


def _draw_profile(axes: Axes, maps: Tensor, top: float) -> None:
    """Radial profiles of (2, C, h, w), sketch and photo, on logarithmic axes with the yardsticks."""
    grid = maps.shape[-1]
    spread = power(maps)
    frequencies, profiles = radial_profile(spread)
    shown = frequencies > 0
    for side, profile, whole in zip(SIDES, profiles, spread, strict=True):
        level = profile[shown] / max(whole.mean(), 1e-12)
        axes.plot(frequencies[shown], level, color=INKS[side], linestyle=DASHES[side], linewidth=1.8, label=side)
    yard, pink = radial_profile(_pink(grid))
    for level in (np.ones_like(yard), pink[0]):
        axes.plot(yard[yard > 0], level[yard > 0], color=PALE, linestyle=":", linewidth=1.3)
    axes.axvline(grid / 2, color=INK, linestyle=(0, (4, 3)), linewidth=1)
    low, high = np.log10(axes.dataLim.intervaly)
    axes.set(xscale="log", yscale="log", xlim=(0.8, top), ylim=(10 ** math.floor(low), 10 ** math.ceil(high)))
    small = {"size": 7.5, "color": PALE, "xycoords": "data", "textcoords": "offset points"}
    axes.annotate("white noise", (0.8, 1), (2, -8), **small)
    axes.annotate("1/f", (yard[-1], pink[0, -1]), (6, -3), **small)
    above = {**small, "color": INK, "xycoords": ("data", "axes fraction")}
    axes.annotate("limit", (grid / 2, 1), (2, -2), rotation=90, rotation_mode="anchor", ha="right", va="top", **above)
    _plain(axes, top)


def _plain(axes: Axes, top: float) -> None:
    ticks = [2**k for k in range(math.floor(math.log2(top)) + 1)]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.tick_params(labelsize=8, colors=PALE, length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(HAIR)
    axes.grid(True, color=HAIR, linewidth=0.6, alpha=0.7)
    axes.set_xlabel("cycles per image", fontsize=8.5, color=INK, labelpad=1)
    axes.set_ylabel("power over its mean", fontsize=8.5, color=INK, labelpad=1)
    style = {"fontsize": 8, "frameon": False, "labelcolor": INK, "ncols": 2, "handlelength": 1.9, "borderpad": 0}
    axes.legend(**style, loc="lower left", bbox_to_anchor=(-0.02, 1.0), columnspacing=0.8, handletextpad=0.5)


def _pink(grid: int) -> np.ndarray:
    """(1, grid, grid) centred power of a field whose amplitude falls as 1/f, of mean 1."""
    steps = np.arange(grid) - grid // 2
    squared = (steps[:, None] ** 2 + steps**2).astype(float)
    values = np.divide(1, squared, out=np.zeros_like(squared), where=squared > 0)
    return (values / values.mean())[None]


def _finest(maps: FeatureMaps) -> float:
    """The highest frequency of the finest grid, at its corner, in cycles per image."""
    diffusion = maps.backbone.diffusion
    grids = [diffusion.size // diffusion.factor, *(head.extractor.aggregator.grid for head in maps.heads.values())]
    return float(math.ceil(max(grids) / math.sqrt(2)))


def _kept(maps: Tensor, low: float, high: float) -> Tensor:
    """`band_pass` of (N, 2, C, h, w)."""
    return band_pass(maps.flatten(0, 1), low, high).unflatten(0, maps.shape[:2])


def _energy(maps: Tensor) -> Tensor:
    """(B, C, h, w) to (B,): the power around each channel's mean."""
    return (maps - maps.mean(dim=(2, 3), keepdim=True)).square().sum(dim=(1, 2, 3))


def _said(band: tuple[float, float], shares: Sequence[float], grid: int) -> str:
    kept = " and ".join(f"<b>{share:.0%}</b> of the {side}'s" for side, share in zip(SIDES, shares, strict=True))
    words = f"Kept: {band[0]:g} to {band[1]:g} cycles per image, {kept} power (the mean apart)."
    if min(shares) <= NOTHING:
        words += f" Nothing to colour: a grid of {grid} × {grid} has no frequency in this band."
    return words
