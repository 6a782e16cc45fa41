"""Feature maps as colours, and the positions that are most like a chosen one."""

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from sfhelpers import plots
from sfhelpers.pilot.features import pca_maps, similar_positions
from sfhelpers.plots.figure import DPI, INK, VERMILION
from sfhelpers.widgets.base import Clickable, State, within
from sfhelpers.widgets.explorer import SIDES, Explorer, ramp, show

KINDS = {"picture": "picture", "map": "PCA, {}", "cosine": "cosine to the marked point"}


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
        given = isinstance(point, tuple | list) and len(point) == 3 and point[0] in SIDES
        if not given or not all(within(value, 0, 1) for value in point[1:]):
            raise ValueError(f'point is {point!r}: give ("sketch" or "photo", x, y) with x and y from 0 to 1.')
        return super()._checked({**state, "point": tuple(point)})

    def _picture(self, state: State, maps: Tensor, chosen: int) -> tuple[plots.Figure, list[str]]:
        colors, bases = pca_maps(maps, state["basis"])
        own = bases if state["basis"] == "image" else bases * 2  # one for the sketch, one for the photo
        figure, axes = _panels()
        pictures = self.pictures[self.labels.index(state["label"])]
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
    cosines = [similar_positions(maps[SIDES.index(asked)], (x, y), one).numpy() for one in maps]
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
