"""Figures show what they are given, fit a laptop, and have the same bytes on every run."""

import base64
import io

import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from matplotlib.text import Text
from PIL import Image

from sfhelpers import plots
from sfhelpers.plots.charts import VERDICTS
from sfhelpers.plots.figure import PALE
from sfhelpers.plots.grids import STYLES
from sfhelpers.plots.matches import Match, matches
from tests.backbone_fixtures import refused

NAME = r"US$ \frac$"  # a user may call things so
PHOTO = np.random.default_rng(0).random((48, 64, 3))
SKETCH = np.full((40, 40), 255, dtype=np.uint8)
MASK = np.zeros((48, 64), dtype=bool)
MASK[10:30, 20:50] = True
POINTS = np.array([[0.2, 0.3], [0.6, 0.8]])
ARMS = {"fused": (0.62, 0.01), NAME: (0.55, 0.02), "mean": (0.36, None)}
DIFFERENCES = {
    NAME: {NAME: (0.04, 0.02, 0.06), "CLIP only": (0.01, -0.01, 0.03), "late fusion": (-0.02, -0.03, -0.01)},
    "unseen": {NAME: (0.05, 0.03, 0.07), "same pixel": (0.7, -0.6, 2.0)},
}
JUDGED = {gallery: dict(zip(found, VERDICTS, strict=False)) for gallery, found in DIFFERENCES.items()}
TABLE = {NAME: [("0.5", 0), ("1.0", 0)], "less": [("-0.2", -1), ("0.5", 0)], "more": [("+0.2", 7), ("2.0", 0)]}
BOXES = {NAME: (60, 60, "its words", "data", PHOTO), "UNet": (250, 60, "4 × 9 × 9", "learned")}
CURVES = {NAME: ([0, 1], [1, 1]), "b": ([1, 1], None)}
BOTH = [PHOTO, PHOTO, POINTS, POINTS]
KINDS = {  # what is drawn, and how many times as fine as shown
    "grid": (lambda: plots.grid([[PHOTO, SKETCH], [MASK, None]], [NAME, "two\nlines"], [NAME, "a long \ud800"]), 1),
    "captions": (lambda: plots.grid([[PHOTO] * 3, [PHOTO]], captions=[["one\nline"] * 3, [NAME]], title="\ud800$"), 1),
    "mask_grid": (lambda: plots.mask_grid([SKETCH], [PHOTO], [PHOTO[..., 0]], [MASK], [~MASK], [NAME]), 1),
    "curve": (lambda: plots.curve([1, 3], CURVES, "x", "y", NAME, {NAME: 0}), 1.5),
    "bars": (lambda: plots.bars_with_spread({NAME: ARMS, "un": ARMS}, "IoU", {NAME: (NAME, 0.3)}, "fused", NAME), 1.5),
    "forest": (lambda: plots.forest(DIFFERENCES, JUDGED, NAME, NAME), 1.5),
    "heat_table": (lambda: plots.heat_table(TABLE, ["a\nmetric", NAME], NAME), 1.5),
    "matches": (lambda: matches([Match(*BOTH, POINTS, np.array([True, False]), NAME)]), 1),
    "matches, unscored": (lambda: matches([Match(SKETCH, *BOTH[1:])] * 3, title=NAME), 1),
    "scheme": (lambda: plots.scheme(BOXES, [(NAME, "UNet", "tokens")], 330, 130), 2),
}


def words(figure):
    figure.draw_without_rendering()
    return {text.get_text() for text in figure.findobj(Text)}


def pixels(figure):
    return np.asarray(Image.open(io.BytesIO(figure.png())).convert("RGB"))


@pytest.mark.parametrize("name", KINDS)
def test_a_figure_shows_itself_with_the_same_bytes_in_every_run_and_fits_a_laptop(name):
    draw, fine = KINDS[name]
    figure = draw()
    data, metadata = DisplayFormatter().format(figure)  # without pyplot and its backend
    assert set(data) == {"image/png", "text/plain"} and data == draw()._repr_mimebundle_()[0]
    png, shown = base64.b64decode(data["image/png"]), metadata["image/png"]["width"]
    image, edge = Image.open(io.BytesIO(png)), pixels(figure)
    assert image.format == "PNG" and not image.text and len(png) < 150_000
    assert image.width / shown == pytest.approx(fine, rel=0.01) and shown <= 850
    for line in (edge[0], edge[-1], edge[:, 0], edge[:, -1]):
        assert line.min() > 200, "a text leaves the figure"
    told = [text for text in figure.findobj(Text) if "$" in text.get_text() and text.get_visible()]
    assert told and not any(text.get_parse_math() for text in told), "names are drawn as they are"


def test_pictures_of_every_kind_come_out_as_rgb_bytes():
    red = np.zeros((4, 6, 3), dtype=np.uint8)
    red[..., 0] = 255
    tensor = torch.from_numpy(red).permute(2, 0, 1).float() / 255
    known = [(image, red) for image in (red, red / 255, tensor, tensor.requires_grad_(), Image.fromarray(red))]
    known += [(kind([[True, False]]), [[[255] * 3, [0] * 3]]) for kind in (np.array, torch.tensor)]
    known += [(np.array([[0, 90]], dtype=np.uint8), [[[0] * 3, [90] * 3]])]
    known += [(np.array([[0.3]]), plots.color_map(np.array([[3.0]]), 0, 10))]
    for image, expected in known:
        shown = plots.picture(image)
        assert shown.dtype == np.uint8 and np.array_equal(shown, expected)


def test_grid_puts_images_where_they_belong_and_shows_a_coarse_map_as_blocks():
    red, blue, white = (np.full((20, 20, 3), color) for color in ((1, 0, 0), (0, 0, 1), (1, 1, 1)))
    shown = pixels(plots.grid([[red, blue], [None, np.stack([red[:2, 0], blue[:2, 0]], 1)]], size=0.5))
    assert max(abs(size - 105 - 6) for size in shown.shape[:2]) <= 1  # and a narrow edge
    found = [tuple(shown[y, x]) for y, x in ((28, 28), (28, 83), (83, 28), (83, 79), (83, 88))]
    assert found == [(255, 0, 0), (0, 0, 255), (255, 255, 255), (255, 0, 0), (0, 0, 255)]
    paper = pixels(plots.grid([[white]], size=0.5))[..., 0] < 240
    assert all(line.sum() == 51 for line in (paper[3], paper[-3], paper[:, 3], paper[:, -3])), "an edge is cut off"


def test_overlay_outlines_the_mask_inside_it_and_fades_the_rest():
    shown = plots.overlay(np.full((48, 64, 3), 0.5), MASK, "#0072B2")
    assert shown.shape == (48, 64, 3) and shown.dtype == np.uint8
    outlined = (shown == (0, 114, 178)).all(axis=2)
    assert outlined[10, 20:50].all() and outlined[10:30, 20].all() and not outlined[~MASK].any()
    assert not outlined[15:25, 25:45].any()
    assert (shown[~MASK] == shown[0, 0]).all() and shown[0, 0].min() > 127
    full = plots.overlay(PHOTO, torch.ones(48, 64) * 0.9)
    assert (full[0] == full[0, 0]).all(), "the image's own edge is outlined too"


def marks(axes):
    """Marker and colour of each row's dot, from above; None where there is none on the axis."""
    dots = [line for line in axes.lines if len(line.get_xdata()) == 1]
    found = {line.get_ydata()[0]: (line.get_marker(), line.get_color()) for line in dots}
    return [found.get(y) for y in axes.get_yticks()]


def test_a_forest_says_better_worse_or_neither_by_colour_and_by_shape():
    better, neither, worse = ((">", plots.BLUE), ("o", PALE), ("<", plots.VERMILION))
    seen, unseen = plots.forest(DIFFERENCES, JUDGED, "x").axes
    assert marks(seen) == [better, neither, worse, None]
    assert marks(unseen) == [better, None, None, None]  # two were not compared there, one lies beyond the axis
    assert {"+0.050", "»", "+0.700"} <= words(unseen.figure)


def test_dots_near_the_highlighted_one_are_not_pressed_together_by_far_ones():
    near, far = {f"rival {n}": (0.8 + 0.01 * n, None) for n in range(5)}, {"chance": (0.03, None)}
    (axes,) = plots.bars_with_spread({"all": near | far}, "x", {"all": ("mean", 0.3)}, "rival 2").axes
    assert axes.get_xlim()[0] > 0.7 and marks(axes)[-1] is None
    assert {"«", "0.030", "« mean 0.30"} <= words(axes.figure)
    assert "beyond the axis" in axes.get_figure().get_supxlabel()
    (whole,) = plots.bars_with_spread({"all": near | far}, "x").axes
    assert whole.get_xlim()[0] < 0.03 and None not in marks(whole)


def test_in_a_table_worse_is_red_better_is_blue_and_black_stays_readable():
    drawn = KINDS["heat_table"][0]()
    assert {NAME, "less", "more", "0.5", "-0.2", "+0.2", "a\nmetric"} <= words(drawn)
    (mesh,) = drawn.axes[0].collections
    colors = mesh.get_facecolors()[:, :3].reshape(3, 2, 3)
    (full, _), (less, _), (more, _) = colors
    assert full == pytest.approx((1, 1, 1), abs=0.01)
    assert less[0] > less[2] + 0.2 and more[2] > more[0] + 0.2
    assert (colors @ (0.2126, 0.7152, 0.0722)).min() > 0.45


def test_a_wrong_match_is_told_from_a_right_one_by_colour_line_and_mark():
    right, wrong = (matches([Match(*BOTH[:2], *[POINTS[:1]] * 3, np.array([good]))]) for good in (True, False))
    for drawn, color, dashes, ends in ((right, plots.BLUE, "-", "oo"), (wrong, plots.VERMILION, "--", "oxs")):
        _, line, *found = drawn.axes[0].lines  # the first is the line's white edge
        assert (line.get_color(), line.get_linestyle()) == (color, dashes)
        assert "".join(mark.get_marker() for mark in found) == ends


def test_a_scheme_shows_what_is_learned_and_its_arrows_end_at_the_boxes():
    drawn = KINDS["scheme"][0]()
    assert {NAME, "its words", "UNet", "4 × 9 × 9"} <= words(drawn)
    (arrow,), boxes = drawn.axes[0].patches, [artist.patch for artist in drawn.axes[0].artists]
    assert [box.get_linewidth() for box in boxes] == [STYLES[kind]["linewidth"] for kind in ("data", "learned")]
    start, end = (box.get_window_extent() for box in boxes)
    between = arrow.get_window_extent()
    assert start.x1 - 2 <= between.x0 < between.x1 <= end.x0 + 2


def test_wrong_shapes_and_counts_fail():
    calls = [(plots.picture, np.zeros((2, 4, 6, 3))), (plots.overlay, PHOTO, MASK.T), (plots.grid, []), (matches, [])]
    calls += [(plots.grid, [[PHOTO]], *labels) for labels in ((["one", "two"],), (None, []))]
    for call, *given in calls:
        with refused():
            call(*given)
