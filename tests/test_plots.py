import base64
import io

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from sfhelpers import plots
from sfhelpers.plots import classes, figure, matches
from sfhelpers.plots.charts import VERDICTS

RNG = np.random.default_rng(0)
PHOTO = RNG.random((48, 64, 3))
SKETCH = np.full((40, 40), 255, dtype=np.uint8)
MASK = np.zeros((48, 64), dtype=bool)
MASK[10:30, 20:50] = True
DIFFERENCES = {
    "seen": {"SD only": (0.04, 0.02, 0.06), "CLIP only": (0.01, -0.01, 0.03), "late fusion": (-0.02, -0.03, -0.01)},
    "unseen": {"SD only": (0.05, 0.03, 0.07), "same pixel": (0.7, 0.6, 0.8)},
}


def a_figure_of_each_kind():
    arms = {"fused": (0.62, 0.01), "SD only": (0.55, 0.02), "mean": (0.36, None)}
    return {
        "grid": plots.grid([[PHOTO, SKETCH], [MASK, None]], ["one", "two\nlines"], ["photo", "a longer label"]),
        "mask_grid": plots.mask_grid([SKETCH], [PHOTO], [PHOTO[..., 0]], [MASK], [~MASK], ["cat"]),
        "contact_sheet": plots.contact_sheet([PHOTO] * 12, [MASK] * 12, SKETCH, "cat"),
        "curve": plots.curve([1, 10, 100], {"a": ([0, 1, 2], [1, 1, 1]), "b": ([1, 1, 1], None)}, "x", "y", log_x=True),
        "bars": plots.bars_with_spread({"seen": arms, "unseen": arms}, "IoU", {"seen": ("mean mask", 0.3)}, "fused"),
        "forest": plots.forest(DIFFERENCES, title="A title"),
    }


def pixels(figure):
    return np.asarray(Image.open(io.BytesIO(figure.png())).convert("RGB"))


@pytest.mark.parametrize("name", ["grid", "mask_grid", "contact_sheet", "curve", "bars", "forest"])
def test_figure_shows_itself_with_the_same_bytes_in_every_run(name):
    data, metadata = a_figure_of_each_kind()[name]._repr_mimebundle_()
    again, _ = a_figure_of_each_kind()[name]._repr_mimebundle_()
    assert data == again
    image = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert image.format == "PNG" and not image.text
    assert image.width / metadata["image/png"]["width"] in (1, 2)
    assert len(base64.b64decode(data["image/png"])) < 150_000


@pytest.mark.parametrize("name", ["grid", "mask_grid", "contact_sheet", "curve", "bars", "forest"])
def test_no_text_leaves_the_figure(name):
    figure = a_figure_of_each_kind()[name]
    edge = pixels(figure)
    for line in (edge[0], edge[-1], edge[:, 0], edge[:, -1]):
        assert line.min() > 200


def test_notebook_display_does_not_need_pyplot_and_beats_its_backend():
    from IPython.core.formatters import DisplayFormatter

    figure = plots.grid([[PHOTO]])
    data, metadata = DisplayFormatter().format(figure)
    assert set(data) == {"image/png", "text/plain"} and metadata["image/png"]["width"] > 100


def test_save_writes_the_png(tmp_path):
    figure = plots.grid([[PHOTO]])
    figure.save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == figure.png()


def test_pictures_of_every_kind_come_out_as_rgb_bytes():
    red = np.zeros((4, 6, 3), dtype=np.uint8)
    red[..., 0] = 255
    tensor = torch.from_numpy(red).permute(2, 0, 1).float() / 255
    for image in (red, red / 255, tensor, tensor.requires_grad_(), Image.fromarray(red)):
        shown = plots.picture(image)
        assert shown.dtype == np.uint8 and np.array_equal(shown, red)
    assert np.array_equal(plots.picture(np.array([[0, 90]], dtype=np.uint8)), [[[0] * 3, [90] * 3]])
    assert np.array_equal(plots.picture(np.array([[True, False]])), [[[255] * 3, [0] * 3]])
    assert np.array_equal(plots.picture(torch.tensor([[True, False]])), [[[255] * 3, [0] * 3]])
    assert np.array_equal(plots.picture(np.array([[0.3]])), plots.color_map(np.array([[3.0]]), 0, 10))
    with pytest.raises(ValueError, match="cannot be shown"):
        plots.picture(np.zeros((2, 4, 6, 3)))


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


def test_overlay_of_an_empty_a_full_and_a_soft_mask():
    empty = plots.overlay(PHOTO, np.zeros_like(MASK))
    full = plots.overlay(PHOTO, np.ones_like(MASK))
    assert not np.array_equal(empty, full)
    assert (full[0] == full[0, 0]).all()  # the image's own edge is outlined
    soft = plots.overlay(PHOTO, torch.from_numpy(MASK * 0.9))
    assert (soft[10, 20] == full[0, 0]).all()


def test_overlay_does_not_change_its_image():
    before = PHOTO.copy()
    plots.overlay(PHOTO, MASK)
    assert np.array_equal(PHOTO, before)


@pytest.mark.parametrize("name", ["$_$", r"US$ \frac$", "a $ b"])
def test_names_of_the_users_with_dollar_signs_are_drawn_as_they_are(name):
    points = np.array([[0.5, 0.5]])
    drawn = [
        plots.grid([[PHOTO]], [name], [name], title=name),
        matches.matches([matches.Match(PHOTO, PHOTO, points, points, label=name)], title=name),
        plots.curve([0, 1], {name: ([0, 1], None)}, "x", "y", title=name, baselines={name: 0.5}),
        plots.bars_with_spread({name: {name: (0.5, 0.1)}}, "x", title=name, baselines={name: (name, 0.4)}),
        classes.confusion(np.eye(2), [name, "b"], name),
        classes.scattered(np.eye(2), [PHOTO] * 2, title=name, names=[name, "b"]),
        classes.captioned([PHOTO], [name]),
    ]
    for sheet in drawn:
        sheet.png()
        told = [text for text in sheet.findobj(Text) if text.get_text() in (name, name.replace("_", " "))]
        assert told and not any(text.get_parse_math() for text in told)
    assert figure.text_width(name, 9) > 0.5 * figure.text_width(name.replace("$", "S"), 9)


def marks(axes):
    """Marker and colour of each row's dot, from above; None where a dot lies beyond the axis."""
    dots = {
        line.get_ydata()[0]: (line.get_marker(), line.get_color()) for line in axes.lines if len(line.get_xdata()) == 1
    }
    return [dots.get(y) for y in axes.get_yticks()]


def test_a_forest_says_better_worse_or_neither_by_colour_and_by_shape():
    better, neither, worse = ((VERDICTS[word][1], VERDICTS[word][0]) for word in ("better", "not told apart", "worse"))
    seen, unseen = plots.forest(DIFFERENCES).axes
    assert marks(seen) == [better, neither, worse, None]
    assert marks(unseen) == [better, None, None, None]  # two were not compared there, one lies beyond the axis
    judged, _ = plots.forest(DIFFERENCES, {"seen": {"SD only": "not told apart"}}).axes
    assert marks(judged)[0] == neither
    texts = [text.get_text() for text in unseen.texts]
    assert {"+0.050", "»", "+0.700"} <= set(texts)


def test_dots_near_the_highlighted_one_are_not_pressed_together_by_far_ones():
    near, far = {f"rival {n}": (0.8 + 0.01 * n, None) for n in range(5)}, {"chance": (0.03, None)}
    (axes,) = plots.bars_with_spread({"all": near | far}, "x", {"all": ("mean", 0.3)}, "rival 2").axes
    assert axes.get_xlim()[0] > 0.7 and marks(axes)[-1] is None
    assert {"«", "0.030", "« mean 0.30"} <= {text.get_text() for text in axes.texts}
    assert "beyond the axis" in axes.get_figure().get_supxlabel()
    (whole,) = plots.bars_with_spread({"all": near | far}, "x").axes
    assert whole.get_xlim()[0] < 0.03 and None not in marks(whole)


@pytest.mark.parametrize(
    "call",
    [
        lambda: plots.overlay(PHOTO, MASK.T),
        lambda: plots.grid([]),
        lambda: plots.grid([[PHOTO]], row_labels=["one", "two"]),
        lambda: plots.grid([[PHOTO]], column_labels=[]),
        lambda: plots.mask_grid([SKETCH], [PHOTO] * 2, [PHOTO[..., 0]], [MASK]),
    ],
)
def test_wrong_shapes_and_counts_fail(call):
    with pytest.raises(ValueError):
        call()
