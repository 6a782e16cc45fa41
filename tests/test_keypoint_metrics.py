import math

import numpy as np
import pytest
import torch

from sfhelpers import metrics


def points(seed, pairs=60, number=8):
    """Points on a coarse grid, so that many errors lie exactly on a threshold, some outside the image, some hidden."""
    generator = np.random.default_rng(seed)
    true = generator.integers(0, 64, size=(pairs, number, 2)) * 4.0
    pred = true + generator.integers(-6, 7, size=true.shape) * 4.0
    visible = generator.random((pairs, number)) < 0.7
    visible[0] = False
    return pred, true, visible


def right_or_wrong(pred, true, visible, limit, strict):
    """Point by point: True, False, or None for a hidden one."""
    found = []
    for p, t, seen in zip(pred, true, visible, strict=True):
        error = math.dist(p, t)
        found.append((error < limit if strict else error <= limit) if seen else None)
    return found


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("per_pair_base", [False, True])
def test_pck_agrees_with_a_loop_over_points(strict, per_pair_base):
    pred, true, visible = points(1)
    base = np.random.default_rng(2).choice([80.0, 100.0, 120.0], size=60) if per_pair_base else 200.0
    bases = np.broadcast_to(base, 60)
    per_point, per_pair = [], []
    for i in range(60):
        found = right_or_wrong(pred[i], true[i], visible[i], 0.1 * bases[i], strict)
        shown = [right for right in found if right is not None]
        per_point += shown
        per_pair.append(sum(shown) / len(shown) if shown else math.nan)
        drawn = metrics.correct_keypoints(pred[i], true[i], 0.1, bases[i], visible[i], strict)
        assert drawn.tolist() == [bool(right) for right in found]
    ours = metrics.pck(pred, true, 0.1, base, visible, strict)
    np.testing.assert_allclose(ours, per_pair, atol=1e-9)
    assert np.isnan(ours[0]) and not np.isnan(ours[1:]).any()
    np.testing.assert_array_equal(metrics.pck(pred, true, 0.1, base, visible, strict, per="point"), per_point)


def test_a_point_on_the_threshold_is_right_for_psc6k_and_wrong_for_sketchfusion():
    true = np.zeros((1, 4, 2))
    pred = np.array([[[12.8, 0], [0, 12.9], [9, 9], [10, 10]]])
    assert metrics.pck(pred, true, 0.05, 256)[0] == 0.5
    assert metrics.pck(pred, true, 0.05, 256, strict=True)[0] == 0.25
    assert metrics.pck(pred, true, 0.1, 256)[0] == 1


def test_pairs_and_points_weigh_differently_where_keypoints_are_hidden():
    true = np.zeros((2, 4, 2))
    pred = np.zeros((2, 4, 2))
    pred[1, 0] = 100
    visible = np.array([[1, 1, 1, 1], [1, 0, 0, 0]])
    assert metrics.pck(pred, true, 0.1, 256, visible).mean() == 0.5
    assert metrics.pck(pred, true, 0.1, 256, visible, per="point").mean() == pytest.approx(4 / 5)


def test_hidden_points_may_be_anything_and_any_number_of_points_will_do():
    pred, true, visible = points(3)
    expected = metrics.pck(pred, true, 0.1, 256, visible)
    for filler in (np.nan, np.inf, -1e9):
        p, t = pred.copy(), true.copy()
        p[~visible], t[~visible] = filler, filler
        np.testing.assert_array_equal(metrics.pck(p, t, 0.1, 256, visible), expected)
    assert metrics.pck(pred[:, :3], true[:, :3], 0.1, 256).shape == (60,)
    assert metrics.pck([[300.0, -20]], [[299.0, -20]], 0.05, 256) == 1


def test_tensors_one_pair_and_a_batch_give_the_same_values():
    pred, true, visible = points(4)
    batch = metrics.pck(pred, true, 0.1, 256, visible)
    assert batch.dtype == np.float64
    tensors = [torch.from_numpy(values) for values in (pred, true, visible)]
    np.testing.assert_array_equal(metrics.pck(*tensors[:2], 0.1, 256, tensors[2]), batch)
    one = metrics.pck(pred[5], true[5], 0.1, 256, visible[5])
    assert isinstance(one, float) and one == batch[5]
    assert metrics.pck(np.zeros((0, 8, 2)), np.zeros((0, 8, 2)), 0.1, 256).shape == (0,)


def test_the_box_is_the_longer_side_around_the_visible_points():
    true = np.array([[[10, 10], [30, 15], [500, 0]], [[0, 0], [4, 90], [2, 30]]], dtype=float)
    visible = np.array([[1, 1, 0], [1, 1, 1]])
    assert metrics.keypoint_box_side(true, visible).tolist() == [20, 90]
    assert metrics.keypoint_box_side(true[1]) == 90
    near = true + [8, 0]
    base = metrics.keypoint_box_side(true, visible)
    assert metrics.pck(near, true, 0.1, base, visible).tolist() == [0, 1]


def test_directions_are_chosen_or_pooled():
    values, directions = np.array([1, 0.5, 0]), np.array(["s2p", "p2s", "s2p"])
    assert metrics.select_direction(values, directions).tolist() == [1, 0.5, 0]
    assert metrics.select_direction(values, directions, "s2p").tolist() == [1, 0]
    assert metrics.select_direction(values, directions, "p2s").tolist() == [0.5]


ONE, PAIR = np.zeros((1, 8, 2)), np.zeros((8, 2))
NAN = np.full((1, 8, 2), np.nan)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.pck(ONE, ONE[:, :5], 0.1, 256), r"\(B, J, 2\)"),
        (lambda: metrics.pck(np.zeros((1, 8, 3)), np.zeros((1, 8, 3)), 0.1, 256), r"\(B, J, 2\)"),
        (lambda: metrics.pck(np.zeros((1, 0, 2)), np.zeros((1, 0, 2)), 0.1, 256), r"\(B, J, 2\)"),
        (lambda: metrics.pck(np.zeros(2), np.zeros(2), 0.1, 256), "shape"),
        (lambda: metrics.pck(NAN, ONE, 0.1, 256), "predicted point 0 of pair 0"),
        (lambda: metrics.pck(ONE, NAN, 0.1, 256), "true point 0 of pair 0"),
        (lambda: metrics.pck(ONE, ONE, 0, 256), "above 0"),
        (lambda: metrics.pck(ONE, ONE, 0.1, -1), "above 0"),
        (lambda: metrics.pck(ONE, ONE, np.nan, 256), "above 0"),
        (lambda: metrics.pck(ONE, ONE, 0.1, [256, 256]), "base"),
        (lambda: metrics.pck(ONE, ONE, 0.1, 256, np.ones((1, 7))), "visible"),
        (lambda: metrics.pck(ONE, ONE, 0.1, 256, np.full((1, 8), 2)), "0 and 1"),
        (lambda: metrics.pck(ONE, ONE, 0.1, 256, per="image"), "'point'"),
        (lambda: metrics.keypoint_box_side(PAIR), "pair 0"),
        (lambda: metrics.keypoint_box_side(PAIR, np.zeros(8)), "pair 0"),
        (lambda: metrics.select_direction([1.0], ["s2p"], "p2s"), "no pair"),
        (lambda: metrics.select_direction([1.0], ["st"]), "'st'"),
        (lambda: metrics.select_direction([1.0], ["s2p", "p2s"]), "one for each"),
        (lambda: metrics.select_direction([1.0], ["s2p"], "all"), "'both'"),
    ],
)
def test_wrong_keypoints_are_refused_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    text = str(error.value)
    assert text.endswith(".") and "\n" not in text and ". " not in text
