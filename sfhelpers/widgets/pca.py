"""Feature maps as colours, and the positions that are most like a chosen one."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from sfhelpers import plots
from sfhelpers.pilot import PCA, pca_maps, similar_positions
from sfhelpers.plots.figure import INK, VERMILION
from sfhelpers.widgets.base import State, shown
from sfhelpers.widgets.clickable import Clickable
from sfhelpers.widgets.explorer import SIDES, Explorer, panels, ramp, show

KINDS = ("picture", "map", "cosine")
HEADS = ("picture", "PCA map", "cosine to the marked point")


class PCAExplorer(Explorer):
    """Sketch and photo beside their PCA maps; click a point to see where the features are most like those at it.

    A PCA map shows the first three principal components of the features as red, green and blue (paper, Fig. 1). Its
    colours can only be compared within one basis: one image, the pair, or the whole set.

    Arguments and errors as `Explorer`; `update` also takes `point`.
    """

    point = shown("point")  # "sketch" or "photo", and x and y in it from 0 to 1

    def _own(self) -> tuple[Clickable, State, dict]:
        image = Clickable(label="Sketch and photo, their PCA maps, and the cosine to the marked point")
        image.on_click(self._clicked)
        return image, {"point": ("sketch", 0.5, 0.5)}, {}

    def _clicked(self, x: float, y: float) -> None:
        for name, axes in _empty()[1].items():
            box = axes.get_position()
            place = (float((x - box.x0) / box.width), float((box.y1 - 1 + y) / box.height))
            if min(place) >= 0 and max(place) <= 1:
                return self.update(point=(name.split()[0], *place))
        self.update(point=None)

    def _checked(self, state: State) -> State:
        point = state["point"]
        if point is None:
            raise ValueError("that point lies between the pictures: choose one inside a picture.")
        given = isinstance(point, tuple | list) and len(point) == 3 and point[0] in SIDES
        if not given or not all(_is_share(value) for value in point[1:]):
            raise ValueError(f'point is {point!r}: give ("sketch" or "photo", x, y) with x and y from 0 to 1.')
        return super()._checked({**state, "point": tuple(point)})

    def _drawn(self, state: State) -> tuple[bytes, str]:
        maps, index = self._features(state)
        colors, bases = pca_maps(maps, state["basis"])
        pictures = self.pictures[self.labels.index(state["label"])]
        own = bases if state["basis"] == "image" else bases * 2  # one for the sketch, one for the photo
        figure, axes = _empty()
        for row, side in enumerate(SIDES):
            heads = HEADS if row == 0 else ("", "")
            show(axes[f"{side} picture"], pictures[side], heads[0])
            axes[f"{side} picture"].set_ylabel(side, size=9, color=INK)
            caption = "{} × {}, {:.0%} explained".format(*colors.shape[2:4], sum(own[row].explained))
            show(axes[f"{side} map"], colors[index, row], heads[1], caption, interpolation="nearest")
        words = [_said(state["basis"], own), _similar(axes, maps[index], state["point"]), *self._notes(state)]
        return figure.quick_png(), "<br>".join(words)

    def still(self) -> tuple[plots.Figure, str]:
        columns: dict[str, Any] = {self.labels[0]: [self.pictures[0][side] for side in SIDES]}
        for name, state in self._still_views().items():
            colors, (basis,) = pca_maps(self._features(state)[0], "pair")
            columns[f"{name}, {sum(basis.explained):.0%} explained"] = [plots.enlarged(color) for color in colors[0]]
        rows = list(zip(*columns.values(), strict=True))
        text = f"<PCAExplorer of {len(self.labels)} pairs; shown: PCA maps of {', '.join(columns)}>"
        return plots.grid(rows, list(SIDES), list(columns), size=1.3), text


def _empty() -> tuple[plots.Figure, dict[str, Axes]]:
    rows = [[f"{side} {kind}" for kind in KINDS] for side in SIDES]
    return panels(rows, 564, 438, left=0.04, right=0.995, top=0.95, bottom=0.1, wspace=0.04, hspace=0.13)


def _similar(axes: dict[str, Axes], maps: Tensor, point: tuple[str, float, float]) -> str:
    """Draw the cosine maps and the marks of `maps` (2, C, h, w); what they say in words."""
    asked, x, y = point
    chosen = SIDES.index(asked)
    other = SIDES[1 - chosen]
    cosines = [similar_positions(maps[chosen], (x, y), feature).numpy() for feature in maps]
    best = cosines[1 - chosen]
    low, high = best.min(), best.max()  # of the other image, since the marked one reaches 1 at the mark itself
    for side, head, cosine in zip(SIDES, (HEADS[2], ""), cosines, strict=True):
        show(axes[f"{side} cosine"], plots.color_map(cosine, low, high), head, interpolation="nearest")
    row, column = np.unravel_index(best.argmax(), best.shape)
    found = ((column + 0.5) / best.shape[1], (row + 0.5) / best.shape[0])
    for kind in KINDS:
        _mark(axes[f"{asked} {kind}"], x, y, "+")
        _mark(axes[f"{other} {kind}"], *found, "o")
    ramp(axes["photo cosine"], f"{low:.2f} or less", f"{high:.2f} or more")
    return (
        f"Marked + in the {asked} at ({x:.2f}, {y:.2f}): most similar in the {other} is "
        f"({found[0]:.2f}, {found[1]:.2f}), marked o, cosine <b>{high:.2f}</b>. Click another point to ask again."
    )


def _mark(axes: Axes, x: float, y: float, shape: str) -> None:
    """Edged in white, to be seen on any ground."""
    for color, width in (("white", 4.5), (VERMILION, 2)):
        edge = {"markersize": 12, "markerfacecolor": "none", "markeredgecolor": color, "markeredgewidth": width}
        axes.plot([x], [y], shape, clip_on=False, **edge)


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _said(basis: str, own: list[PCA]) -> str:
    shares = ["{:.0f}, {:.0f} and {:.0f}%".format(*(100 * share for share in pca.explained)) for pca in own]
    if basis == "image":
        parts = (f"{share} of the {side}'s variance" for share, side in zip(shares, SIDES, strict=True))
        return f"Red, green and blue explain {' and '.join(parts)}: each image has colours of its own."
    of = {"pair": "the pair's", "set": "all pairs'"}[basis]
    return f"Red, green and blue explain {shares[0]} of {of} variance: equal colours, equal features."
