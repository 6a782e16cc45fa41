"""The coloured table says what its cells hold, and draws the same bytes on every run."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from sfhelpers.plots import Cell, heat_table

GROUPS = {
    "one": {"full": [Cell("0.5", 0, True), Cell("1.0")], "less": [Cell("-0.2", -1), Cell("0.5")]},
    "two": {"more": [Cell("+0.2", 7), Cell("2.0")]},
}


def test_every_text_is_there_and_inside_the_figure():
    figure = heat_table(GROUPS, ["a\nmetric", "cost"], "Title", "below")
    (axes,) = figure.axes
    texts = {text.get_text() for text in axes.texts}
    assert {"full", "less", "more", "one", "two", "0.5", "-0.2", "+0.2", "a\nmetric", "cost", "Title", "below"} <= texts
    figure.canvas.draw()
    for text in axes.texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text.get_text()
    assert heat_table(GROUPS, ["a\nmetric", "cost"]).png() == heat_table(GROUPS, ["a\nmetric", "cost"]).png()


def test_worse_is_red_better_is_blue_and_black_stays_readable():
    (axes,) = heat_table(GROUPS, ["metric", "cost"]).axes
    colors = [np.array(to_rgb(patch.get_facecolor())) for patch in axes.patches if isinstance(patch, Rectangle)]
    full, _, less, _, more, _ = colors
    assert full == pytest.approx((1, 1, 1), abs=0.01)
    assert less[0] > less[2] + 0.2 and more[2] > more[0] + 0.2
    assert min(color @ (0.2126, 0.7152, 0.0722) for color in colors) > 0.45
