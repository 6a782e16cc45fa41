"""Figures show what they are given, fit a laptop, and have the same bytes on every run."""

import base64
import io

import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from matplotlib.text import Text
from PIL import Image

from sfhelpers import metrics, plots
from sfhelpers.pilot import power, radial_profile, spectrum
from sfhelpers.plots import classes, figure, matches
from sfhelpers.plots.charts import VERDICTS
from sfhelpers.plots.matches import Match

PHOTO = np.random.default_rng(0).random((48, 64, 3))
SKETCH = np.full((40, 40), 255, dtype=np.uint8)
MASK = np.zeros((48, 64), dtype=bool)
MASK[10:30, 20:50] = True
ARMS = {"fused": (0.62, 0.01), "SD only": (0.55, 0.02), "mean": (0.36, None)}
DIFFERENCES = {
    "seen": {"SD only": (0.04, 0.02, 0.06), "CLIP only": (0.01, -0.01, 0.03), "late fusion": (-0.02, -0.03, -0.01)},
    "unseen": {"SD only": (0.05, 0.03, 0.07), "same pixel": (0.7, 0.6, 0.8)},
}
TABLE = {"full": [("0.5", 0), ("1.0", 0)], "less": [("-0.2", -1), ("0.5", 0)], "more": [("+0.2", 7), ("2.0", 0)]}


def wave(grid, k):
    steps = (torch.arange(grid).double() + 0.5) / grid
    return torch.sin(2 * np.pi * k * steps).expand(1, 1, grid, grid)


def coloured_noise(grid, exponent, channels=256, seed=0):
    """(1, channels, grid, grid): random maps whose amplitude falls as 1 / f**exponent."""
    white = torch.randn(1, channels, grid, grid, generator=torch.Generator().manual_seed(seed)).double()
    frequencies = torch.fft.fftfreq(grid, 1 / grid)
    radius = torch.hypot(frequencies[:, None], frequencies).clamp(min=1)
    return torch.fft.ifft2(torch.fft.fft2(white) / radius**exponent).real.float()


def profiles(grid, count=12):
    return radial_profile(power(torch.cat([coloured_noise(grid, 0.7, 4, seed) for seed in range(count)])))


def maps(grid):
    tile = np.random.default_rng(0).random((grid, grid, 3))
    return {row: (tile, spectrum(coloured_noise(grid, 1, 3))[0]) for row in ("photo", "sketch")}


def reliability():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 60)
    return metrics.reliability(probabilities, np.arange(60) % 3)


POINTS = np.array([[0.2, 0.3], [0.6, 0.8]])
YARDSTICK = {"white noise": radial_profile(power(coloured_noise(24, 0)))}
PANELS = {"sketches": {"a": profiles(24), "b": profiles(10)}, "photos": {"a": profiles(24)}}
KINDS = {
    "grid": lambda: plots.grid([[PHOTO, SKETCH], [MASK, None]], ["one", "two\nlines"], ["photo", "a longer label"]),
    "mask_grid": lambda: plots.mask_grid([SKETCH], [PHOTO], [PHOTO[..., 0]], [MASK], [~MASK], ["cat"]),
    "mask_grid of no truth": lambda: plots.mask_grid([SKETCH], [PHOTO], [PHOTO[..., 0]], [MASK]),
    "captioned": lambda: classes.captioned([PHOTO] * 9, ["one\nline"] * 9),
    "curve": lambda: plots.curve(
        [1, 10, 100], {"a": ([0, 1, 2], [1, 1, 1]), "b": ([1, 1, 1], None)}, "x", "y", log_x=True
    ),
    "bars": lambda: plots.bars_with_spread({"seen": ARMS, "un": ARMS}, "IoU", {"seen": ("mean mask", 0.3)}, "fused"),
    "forest": lambda: plots.forest(DIFFERENCES, title="A title"),
    "heat_table": lambda: plots.heat_table(TABLE, ["a\nmetric", "cost"], "Title"),
    "matches": lambda: matches.matches(
        [Match(PHOTO, PHOTO, POINTS, POINTS, POINTS, POINTS[:, 0] > 0.5, "a"), Match(SKETCH, PHOTO, POINTS, POINTS)]
    ),
    "confusion": lambda: classes.confusion(np.eye(3), ["one", "two", "a long name"], "A title"),
    "reliability": lambda: classes.reliability_diagram({"as trained": reliability()}, "A title"),
    "scattered": lambda: classes.scattered(np.eye(3, 2), [PHOTO] * 3, [True, False, True], ["a", "a", "b"]),
    "maps_and_spectra": lambda: plots.maps_and_spectra({"SD f3, a long name": maps(24), "CLIP": maps(10)}, 12, "Title"),
    "spectra_row": lambda: plots.spectra_row({f"{n} windows,\nmean kept": spectrum(wave(24, 3))[0] for n in range(4)}),
    "radial_profiles": lambda: plots.radial_profiles(PANELS, YARDSTICK, 5, "A title"),
}  # fmt: skip


def pixels(figure):
    return np.asarray(Image.open(io.BytesIO(figure.png())).convert("RGB"))


@pytest.mark.parametrize("name", KINDS)
def test_a_figure_shows_itself_with_the_same_bytes_in_every_run_and_fits_a_laptop(name):
    figure = KINDS[name]()
    data, metadata = figure._repr_mimebundle_()
    assert data == KINDS[name]()._repr_mimebundle_()[0] and figure.png() == base64.b64decode(data["image/png"])
    image = Image.open(io.BytesIO(figure.png()))
    assert image.format == "PNG" and not image.text
    assert image.width / metadata["image/png"]["width"] in (1, 1.5, 2) and figure.get_figwidth() <= 8.5
    assert len(figure.png()) < 150_000
    edge = pixels(figure)
    for line in (edge[0], edge[-1], edge[:, 0], edge[:, -1]):
        assert line.min() > 200, "a text leaves the figure"


def test_notebook_display_does_not_need_pyplot_and_beats_its_backend():
    data, metadata = DisplayFormatter().format(plots.grid([[PHOTO]]))
    assert set(data) == {"image/png", "text/plain"} and metadata["image/png"]["width"] > 100


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


def test_grid_puts_images_where_they_belong():
    red, blue = np.zeros((20, 20, 3)), np.zeros((20, 20, 3))
    red[..., 0], blue[..., 2] = 1, 1
    shown = pixels(plots.grid([[red, blue], [None, red]], size=0.5))
    assert shown.shape == (2 * 50 + 5 + 4, 2 * 50 + 5 + 4, 3)
    middle = [tuple(shown[y, x]) for y in (27, 82) for x in (27, 82)]
    assert middle == [(255, 0, 0), (0, 0, 255), (255, 255, 255), (255, 0, 0)]


def test_overlay_outlines_the_mask_inside_it_and_fades_the_rest():
    shown = plots.overlay(np.full((48, 64, 3), 0.5), MASK, "#0072B2")
    assert shown.shape == (48, 64, 3) and shown.dtype == np.uint8
    outlined = (shown == (0, 114, 178)).all(axis=2)
    assert outlined[10, 20:50].all() and outlined[10:30, 20].all() and not outlined[~MASK].any()
    assert not outlined[15:25, 25:45].any()
    assert (shown[~MASK] == shown[0, 0]).all() and shown[0, 0].min() > 127


def test_overlay_of_an_empty_a_full_and_a_soft_mask_leaves_its_image_alone():
    before = PHOTO.copy()
    empty, full = (plots.overlay(PHOTO, np.full_like(MASK, value)) for value in (False, True))
    assert not np.array_equal(empty, full)
    assert (full[0] == full[0, 0]).all()  # the image's own edge is outlined
    soft = plots.overlay(PHOTO, torch.from_numpy(MASK * 0.9))
    assert (soft[10, 20] == full[0, 0]).all()
    assert np.array_equal(PHOTO, before)


@pytest.mark.parametrize("name", ["$_$", r"US$ \frac$", "a $ b"])
def test_names_of_the_users_with_dollar_signs_are_drawn_as_they_are(name):
    drawn = [
        plots.grid([[PHOTO]], [name], [name], title=name),
        matches.matches([Match(PHOTO, PHOTO, POINTS, POINTS, label=name)], title=name),
        plots.curve([0, 1], {name: ([0, 1], None)}, "x", "y", title=name, baselines={name: 0.5}),
        plots.bars_with_spread({name: {name: (0.5, 0.1)}}, "x", title=name, baselines={name: (name, 0.4)}),
        plots.forest({name: {name: (0.5, 0.1, 0.9)}}, title=name),
        plots.heat_table({name: [("1", 0)]}, [name], name),
        classes.confusion(np.eye(2), [name, "b"], name),
        classes.scattered(np.eye(2), [PHOTO] * 2, names=[name, "b"]),
        classes.captioned([PHOTO], [name]),
    ]
    for sheet in drawn:
        sheet.png()
        told = [text for text in sheet.findobj(Text) if text.get_text() in (name, name.replace("_", " "))]
        assert told and not any(text.get_parse_math() for text in told)
    assert figure.text_width(name, 9) > 0.5 * figure.text_width(name.replace("$", "S"), 9)


def marks(axes):
    """Marker and colour of each row's dot, from above; None where there is none on the axis."""
    dots = [line for line in axes.lines if len(line.get_xdata()) == 1]
    found = {line.get_ydata()[0]: (line.get_marker(), line.get_color()) for line in dots}
    return [found.get(y) for y in axes.get_yticks()]


def test_a_forest_says_better_worse_or_neither_by_colour_and_by_shape():
    better, neither, worse = ((VERDICTS[word][1], VERDICTS[word][0]) for word in ("better", "not told apart", "worse"))
    seen, unseen = plots.forest(DIFFERENCES).axes
    assert marks(seen) == [better, neither, worse, None]
    assert marks(unseen) == [better, None, None, None]  # two were not compared there, one lies beyond the axis
    judged, _ = plots.forest(DIFFERENCES, {"seen": {"SD only": "not told apart"}}).axes
    assert marks(judged)[0] == neither
    assert {"+0.050", "»", "+0.700"} <= {text.get_text() for text in unseen.texts}


def test_dots_near_the_highlighted_one_are_not_pressed_together_by_far_ones():
    near, far = {f"rival {n}": (0.8 + 0.01 * n, None) for n in range(5)}, {"chance": (0.03, None)}
    (axes,) = plots.bars_with_spread({"all": near | far}, "x", {"all": ("mean", 0.3)}, "rival 2").axes
    assert axes.get_xlim()[0] > 0.7 and marks(axes)[-1] is None
    assert {"«", "0.030", "« mean 0.30"} <= {text.get_text() for text in axes.texts}
    assert "beyond the axis" in axes.get_figure().get_supxlabel()
    (whole,) = plots.bars_with_spread({"all": near | far}, "x").axes
    assert whole.get_xlim()[0] < 0.03 and None not in marks(whole)


def test_in_a_table_worse_is_red_better_is_blue_and_black_stays_readable():
    drawn = KINDS["heat_table"]()
    drawn.png()
    shown = {text.get_text() for text in drawn.findobj(Text)}
    assert {"full", "less", "more", "0.5", "-0.2", "+0.2", "a\nmetric", "cost", "Title"} <= shown
    (mesh,) = drawn.axes[0].collections
    colors = mesh.get_facecolors()[:, :3].reshape(3, 2, 3)
    (full, _), (less, _), (more, _) = colors
    assert full == pytest.approx((1, 1, 1), abs=0.01)
    assert less[0] > less[2] + 0.2 and more[2] > more[0] + 0.2
    assert (colors @ (0.2126, 0.7152, 0.0722)).min() > 0.45


def test_a_name_stands_below_a_picture_of_its_own_and_covers_no_other_name():
    points = np.array([[0, 0], [1, 0], [9, 9], [9, 8], [9, 8.01]])  # the cats' middle is nowhere near a cat
    drawn = classes.scattered(points, [PHOTO] * 5, names=["cat", "cat", "dog", "dog", "cow"])
    places = {text.get_text(): text.get_position() for text in drawn.axes[0].texts}
    corners = [image.get_extent() for image in drawn.axes[0].images]
    for name, own in (("cat", corners[:2]), ("dog", corners[2:4]), ("cow", corners[4:])):
        x, y = places[name]
        assert any(left <= x <= right and 0 <= y - bottom < 15 for left, right, bottom, _ in own)
    assert np.abs(np.subtract(places["dog"], places["cow"])).max() >= 13


def test_a_reliability_diagram_says_how_many_sketches_a_bin_holds():
    table = reliability()
    above, below = classes.reliability_diagram({"as trained": table}).axes
    assert below.lines[0].get_ydata().sum() == 60
    assert np.array_equal(above.lines[1].get_ydata(), table.accuracy[table.count > 0])
    assert above.get_ylim()[1] > 1 and above.get_xlim()[1] > 1  # no mark is cut at the frame


@pytest.mark.parametrize("name", ["maps_and_spectra", "spectra_row", "radial_profiles"])
def test_frequency_axes_name_their_unit(name):
    assert any("cycles per image" in text.get_text() for text in KINDS[name]().findobj(Text))


@pytest.mark.parametrize("grid", [10, 24])
def test_a_wave_of_k_cycles_is_drawn_k_steps_beside_the_middle_for_any_grid(grid):
    found = spectrum(wave(grid, 3))[0]
    drawn = plots.maps_and_spectra({"": {"wave": (PHOTO, found)}}, 12).axes[0].images[1].get_array()
    step = drawn.shape[1] / 25  # of one cycle per image, from -12 to 12
    y, x = np.argwhere((drawn[..., 0] > 230) & (drawn[..., 2] < 100)).T  # yellow
    assert np.unique(np.round((x + 0.5) / step - 0.5 - 12, 0)).tolist() == [-3, 3]
    assert np.abs((y + 0.5) / step - 12.5).max() <= 0.5


def test_profiles_end_where_their_grid_does_and_keep_their_shape():
    lines = {line.get_label(): line.get_xydata() for line in KINDS["radial_profiles"]().axes[0].lines}
    assert lines["a"][-1, 0] == 12 and lines["b"][-1, 0] == 5 and lines["a"][0, 0] == 1
    frequencies, values = profiles(24)
    scaled = values / values[:, 1:6].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(lines["a"][:, 1], np.median(scaled, axis=0)[1:])
    assert frequencies[-1] == 12


def test_enlarged_maps_have_sharp_blocks():
    tile = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    big = plots.enlarged(tile, 9)
    assert big.shape == (8, 8, 3) and big.dtype == np.uint8
    assert (big[:4, :4] == tile[0, 0]).all() and (big[4:, 4:] == tile[1, 1]).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda: plots.picture(np.zeros((2, 4, 6, 3))),
        lambda: plots.overlay(PHOTO, MASK.T),
        lambda: plots.grid([]),
        lambda: plots.grid([[PHOTO]], row_labels=["one", "two"]),
        lambda: plots.grid([[PHOTO]], column_labels=[]),
        lambda: plots.mask_grid([SKETCH], [PHOTO] * 2, [PHOTO[..., 0]], [MASK]),
        lambda: matches.matches([]),
        lambda: classes.confusion(np.zeros((60, 60)), ["x"] * 60),
        lambda: classes.confusion(np.zeros((2, 2)), ["x"]),
        lambda: classes.scattered(np.zeros((2, 2)), []),
        lambda: classes.captioned([], []),
    ],
)
def test_wrong_shapes_and_counts_fail(call):
    with pytest.raises(ValueError):
        call()
