"""Feature maps as colours, and the positions that are most like a chosen one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from sfhelpers import plots
from sfhelpers.pilot import PCA, FeatureMaps, Settings, pca_maps, similar_positions
from sfhelpers.plots.figure import PALE
from sfhelpers.plots.grids import Picture
from sfhelpers.widgets.clickable import Clickable
from sfhelpers.widgets.explorer import DEFAULT, SIDES, Explorer, State
from sfhelpers.widgets.sheet import Sheet

CELL, LEFT, TOP, CAPTION, GAP = 176, 22, 22, 20, 6  # pixels of the layout
CENTRE = ("sketch", 0.5, 0.5)


class PCAExplorer(Explorer):
    """Sketch and photo beside their PCA maps; click a point to see where the features are most like those at it.

    A PCA map shows the first three principal components of the features as red, green and blue (paper, Fig. 1). Its
    colours can only be compared within one basis: within one image, the pair, or the whole set. The cosine maps
    compare the feature at the marked point with every position of both images.

    Args and Raises: as `Explorer`; the picture can be clicked anywhere, and `update` also takes `point`.
    """

    def __init__(
        self, pairs: Sequence[tuple[Picture, Picture]], labels: Sequence[str], maps: FeatureMaps,
        settings: Settings = DEFAULT,
    ):  # fmt: skip
        image = Clickable(label="Sketch and photo, their PCA maps, and the cosine to the marked point")
        image.on_click(self._clicked)
        super().__init__(pairs, labels, maps, settings, image, {"point": CENTRE}, {})

    @property
    def point(self) -> tuple[str, float, float]:
        """The marked point: "sketch" or "photo", and x and y in it from 0 to 1."""
        return self._state["point"]

    def _clicked(self, x: float, y: float) -> None:
        name, *place = _sheet().find(x, y) or ("",)
        self.update(point=(name.split()[0], *place) if name else None)

    def _checked(self, state: State) -> State:
        point = state["point"]
        if point is None:
            raise ValueError("that point lies between the pictures: choose one inside a picture.")
        if not (isinstance(point, tuple | list) and len(point) == 3 and point[0] in SIDES and _inside(point[1:])):
            raise ValueError(f'point is {point!r}: give ("sketch" or "photo", x, y) with x and y from 0 to 1.')
        return super()._checked({**state, "point": tuple(point)})

    def _drawn(self, state: State) -> tuple[bytes, str]:
        maps, index = self._features(state)
        colors, bases = pca_maps(maps, state["basis"])
        pictures = self.pictures[self.labels.index(state["label"])]
        own = bases if state["basis"] == "image" else bases * 2  # one for the sketch, one for the photo
        sheet = _sheet()
        for row, side in enumerate(SIDES):
            sheet.put(f"{side} picture", pictures[side], *_place(row, 0))
            sheet.put(f"{side} map", colors[index, row], *_place(row, 1))
            x, y, _ = _place(row, 1)
            height, width = colors.shape[2:4]
            caption = f"{height} × {width}, {sum(own[row].explained):.0%} explained"
            sheet.write(caption, x + CELL / 2, y + CELL + 11, size=8, color=PALE)
        words = [_said(state["basis"], own), *_similar(sheet, maps[index], state["point"]), *self._notes(state)]
        return sheet.png(), "<br>".join(words)

    def still(self) -> tuple[plots.Figure, str]:
        """The first pair's PCA maps from a few sources, a basis fitted on the pair for each."""
        columns: dict[str, Any] = {self.labels[0]: [self.pictures[0][side] for side in SIDES]}
        for name, state in self._still_views().items():
            colors, (basis,) = pca_maps(self._features(state)[0], "pair")
            columns[f"{name}, {sum(basis.explained):.0%} explained"] = [_enlarged(color) for color in colors[0]]
        rows = list(zip(*columns.values(), strict=True))
        text = f"<PCAExplorer of {len(self.labels)} pairs; shown: PCA maps of {', '.join(columns)}>"
        return plots.grid(rows, list(SIDES), list(columns), size=1.3), text


def _sheet() -> Sheet:
    """An empty sheet with its headings, and the places of the pictures to come."""
    sheet = Sheet(LEFT + 3 * CELL + 2 * GAP + 2, TOP + 2 * (CELL + CAPTION) + 24)
    for column, heading in enumerate(("picture", "PCA map", "cosine to the marked point")):
        sheet.write(heading, _place(0, column)[0] + CELL / 2, TOP / 2)
    for row, side in enumerate(SIDES):
        sheet.write(side, LEFT / 2 - 1, _place(row, 0)[1] + CELL / 2, rotation=90)
        for column, kind in enumerate(("picture", "map", "cosine")):
            sheet.places[f"{side} {kind}"] = _place(row, column)
    return sheet


def _place(row: int, column: int) -> tuple[int, int, int]:
    return LEFT + column * (CELL + GAP), TOP + row * (CELL + CAPTION), CELL


def _similar(sheet: Sheet, maps: Tensor, point: tuple[str, float, float]) -> list[str]:
    """Draw the cosine maps and the marks; what they say in words. `maps` (2, C, h, w)."""
    asked, x, y = point
    chosen = SIDES.index(asked)
    cosines = [similar_positions(maps[chosen], (x, y), feature).numpy() for feature in maps]
    best = cosines[1 - chosen]
    low, high = best.min(), best.max()  # of the other image, since the marked one reaches 1 at the mark itself
    for row, side in enumerate(SIDES):
        sheet.put(f"{side} cosine", plots.color_map(cosines[row], low, high), *_place(row, 2))
    row, column = np.unravel_index(best.argmax(), best.shape)
    found = ((column + 0.5) / best.shape[1], (row + 0.5) / best.shape[0])
    for kind in ("picture", "map", "cosine"):
        sheet.mark(f"{asked} {kind}", x, y, "+")
        sheet.mark(f"{SIDES[1 - chosen]} {kind}", *found, "o")
    left, top, _ = _place(1, 2)
    ramp = plots.color_map(np.linspace(low, high, 256)[None], low, high)
    sheet.ramp(ramp, (f"{low:.2f} or less", f"{high:.2f} or more"), left, top + CELL + 6, CELL)
    marked = f"Marked + in the {asked} at ({x:.2f}, {y:.2f})"
    return [
        f"{marked}: most similar in the {SIDES[1 - chosen]} is ({found[0]:.2f}, {found[1]:.2f}), marked o, "
        f"cosine <b>{high:.2f}</b>. Click another point to ask again."
    ]


def _inside(values: Sequence[Any]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v <= 1 for v in values)


def _said(basis: str, own: list[PCA]) -> str:
    if basis == "image":
        parts = (f"{_percent(pca)} of the {side}'s variance" for pca, side in zip(own, SIDES, strict=True))
        return f"Red, green and blue explain {' and '.join(parts)}: each image has colours of its own."
    of = {"pair": "the pair's", "set": "all pairs'"}[basis]
    return f"Red, green and blue explain {_percent(own[0])} of {of} variance: equal colours, equal features."


def _percent(pca: PCA) -> str:
    return "{:.0f}, {:.0f} and {:.0f}%".format(*(100 * share for share in pca.explained))


def _enlarged(pixels: np.ndarray) -> np.ndarray:
    """Each position as a block of its own, since `plots` would blur a map that it enlarges."""
    return np.kron(pixels, np.ones((1 + 130 // len(pixels),) * 2 + (1,), dtype=np.uint8))
