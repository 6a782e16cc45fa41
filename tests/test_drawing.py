"""Drawings: what was drawn is what is seen, and what cannot be drawn is refused in one sentence."""

import numpy as np
import pytest

from sfhelpers.drawing import PRESETS, Drawing, Stroke
from sfhelpers.drawing.strokes import MAX_POINTS, MAX_STROKES
from sfhelpers.toyworld.categories import CATEGORIES, SEEN, UNSEEN


def stroke(*points, width=4.0):
    return Stroke(np.array(points, dtype=float), width)


def drawing():
    """A bent line, a line of another width, a dot."""
    strokes = (stroke((20, 30), (200.25, 40), (300, 333.5)), stroke((50, 300), (150, 300), width=9.5), stroke((60, 90)))
    return Drawing(384, strokes)


def grey(picture):
    return np.asarray(picture)[..., 0].astype(float)


def sentence(error):
    text = str(error.value)
    assert text.endswith(".") and ". " not in text and "\n" not in text
    return text


# The picture


def test_a_line_is_as_wide_dark_and_long_as_it_was_drawn_with_round_ends():
    values = grey(Drawing(100, (stroke((20, 50), (80, 50), width=6),)).to_image())
    ink = (255 - values) / (255 - 25)
    assert values.min() == 25 and values.max() == 255
    assert (
        abs(ink[:, 50].sum() - 6) < 0.2
        and abs((ink[:, 50] * (np.arange(100) + 0.5)).sum() / ink[:, 50].sum() - 50) < 0.1
    )
    assert abs(ink[49:51].sum() / 2 - 66) < 0.7  # 60 px and half a disc at each end
    assert ink[47, 17] < 0.1 < 0.9 < ink[50, 18]  # round, not square
    assert ink[47:53, 17:20].std() > 0.05  # with greys between ink and paper


def test_a_single_point_is_a_dot_of_the_pens_width():
    ink = (255 - grey(Drawing(100, (stroke((30, 70), width=10),)).to_image())) / 230
    assert abs(ink.sum() - np.pi * 25) < 3
    assert ink[70, 30] == 1 and not ink[:60].any()


def test_joints_are_round_so_that_a_sharp_turn_has_no_gap_and_no_spike():
    ink = (255 - grey(Drawing(100, (stroke((20, 80), (50, 20), (80, 80), width=10),)).to_image())) / 230
    assert ink[17, 50] > 0.9 and not ink[:14].any()


def test_a_picture_of_another_side_shows_the_same_drawing():
    large, small = drawing().to_image(768), drawing().to_image(192)
    assert (large.size, small.size, drawing().to_image().size) == ((768, 768), (192, 192), (384, 384))
    difference = np.abs(grey(large.reduce(4)) - grey(small))
    assert difference.mean() < 0.5 and grey(small).min() < 60


def test_ink_and_width_are_those_of_the_toy_worlds_sketches():
    shown = PRESETS["cup"].to_image(160)
    assert 25 <= grey(shown).min() < 60
    assert 1.4 <= PRESETS["cup"].strokes[0].width * 160 / 384 <= 2.6


# Numbers


def test_stroke3_sums_up_to_the_points_and_lifts_the_pen_after_each_stroke():
    rows = drawing().to_stroke3()
    points = np.concatenate([item.points for item in drawing().strokes])
    assert np.allclose(np.cumsum(rows[:, :2], axis=0), points)
    assert rows[:, 2].tolist() == [0, 0, 1, 0, 1, 1]
    assert Drawing(384).to_stroke3().shape == (0, 3)


def test_a_drawing_cannot_be_changed():
    mine, points = drawing(), np.ones((2, 2))
    kept = Stroke(points, 1)
    points[0] = 5
    assert kept.points[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        mine.strokes[0].points[0, 0] = 0
    with pytest.raises(AttributeError):
        mine.size = 256
    assert mine == drawing() and hash(mine) == hash(drawing()) and mine != mine.resized(256)


def test_resizing_scales_lines_and_widths_and_loses_nothing_at_the_edge():
    edge = Drawing(384, (stroke((384, 384)), stroke((384, 0), (384, 384)), stroke((10, 20), (30, 40), width=6)))
    back = edge.resized(256).resized(500).resized(384)
    assert [len(item.points) for item in back.strokes] == [1, 2, 2]
    for one, other in zip(edge.strokes, back.strokes, strict=True):
        assert np.allclose(one.points, other.points) and one.width == pytest.approx(other.width)
    assert edge.resized(256).strokes[2].width == pytest.approx(4)


def test_what_leaves_the_paper_is_cut_at_its_edge():
    out_and_in = stroke((50, 50), (150, 50), (150, 80), (50, 80))
    around = stroke((-50, 50), (50, 150))  # touches the corner of the paper's outside only
    through = stroke((-100, 10), (200, 10))
    cut = Drawing.clipped([out_and_in, around, through, stroke((120, 20)), stroke((20, 20))], 100)
    expected = [[[50, 50], [100, 50]], [[100, 80], [50, 80]], [[0, 10], [100, 10]], [[20, 20]]]
    assert [item.points.tolist() for item in cut.strokes] == expected
    seen = grey(Drawing.clipped([out_and_in], 100).to_image())
    assert seen[50, 97] < 60 and seen[65, 98] == 255  # no line along the edge


def test_what_is_larger_than_the_paper_can_be_fitted_with_a_margin():
    fitted = Drawing.fitted([stroke((-4000, 0), (4000, 1000)), stroke((0, 500))], 200)
    points = np.concatenate([item.points for item in fitted.strokes])
    assert points[:, 0].min() == pytest.approx(16) and points[:, 0].max() == pytest.approx(184)
    assert np.allclose(points[2], 100) and np.ptp(points[:, 1]) == pytest.approx(21)  # centred, not stretched


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Stroke([[1, 2, 3]], 1), "two numbers"),
        (lambda: Stroke([], 1), "two numbers"),
        (lambda: Stroke([["1", "2"]], 1), "two numbers"),
        (lambda: Stroke([[1, 2], [3]], 1), "two numbers"),
        (lambda: Stroke(None, 1), "two numbers"),
        (lambda: stroke((1, np.nan)), "not a finite number"),
        (lambda: stroke((1, np.inf)), "not a finite number"),
        (lambda: stroke((1, 1e8)), "beyond"),
        (lambda: stroke((1, 1), width=0), "width is 0"),
        (lambda: stroke((1, 1), width=np.nan), "width is nan"),
        (lambda: stroke((1, 1), width=True), "width is True"),
        (lambda: Drawing(5), "side is 5"),
        (lambda: Drawing(384.0), "side is 384.0"),
        (lambda: Drawing(384, ("line",)), "stroke 0 is a str"),
        (lambda: Drawing(100, (stroke((101, 3)),)), "stroke 0 leaves the 100 x 100 paper"),
        (lambda: Drawing(100, (stroke(*[(1, 1)] * (MAX_POINTS + 1)),)), "20,001 points, more than 20,000"),
        (lambda: Drawing(100, (stroke((1, 1)),) * (MAX_STROKES + 1)), "2,001 strokes, more than 2,000"),
        (lambda: Drawing.fitted([]), "no strokes to fit"),
        (lambda: drawing().to_image(5000), "side is 5000"),
        (lambda: drawing().to_file("svg", "two\nlines"), "cannot be written"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(make, words):
    with pytest.raises(ValueError, match=words) as caught:
        make()
    sentence(caught)


def test_an_empty_drawing_and_a_dot_are_told_apart_and_lines_pass():
    with pytest.raises(ValueError, match="drawing is empty") as empty:
        Drawing().require_ink()
    with pytest.raises(ValueError, match="single dot") as dot:
        Drawing(384, (stroke((100, 100)), stroke((101, 100), (100, 102)))).require_ink()
    assert sentence(empty) != sentence(dot)
    assert drawing().require_ink() == drawing()
    assert Drawing(384, (stroke((100, 100)), stroke((200, 100)))).require_ink()  # two dots are something to see


# Presets


def test_presets_are_drawings_of_seen_and_unseen_categories_that_survive_saving():
    assert set(PRESETS) <= set(CATEGORIES) and len(PRESETS) >= 6
    assert len(set(PRESETS) & set(SEEN)) >= 3 and len(set(PRESETS) & set(UNSEEN)) >= 3
    for name, preset in PRESETS.items():
        preset.require_ink()
        assert Drawing.parse(preset.to_file("svg", name).encode(), "preset.svg") == preset
        points = np.concatenate([item.points for item in preset.strokes])
        assert 0.5 < np.ptp(points, axis=0).max() / preset.size < 0.95
    pictures = {preset.to_image(32).tobytes() for preset in PRESETS.values()}
    assert len(pictures) == len(PRESETS)
