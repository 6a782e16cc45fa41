"""Metrics of keypoints, masks and classes against loops, scikit-learn and torchmetrics; and the paired bootstrap."""

import math

import numpy as np
import pytest
import sklearn.metrics
import torch
from scipy.stats import ttest_rel
from torchmetrics.functional.classification import multiclass_calibration_error

from sfhelpers import metrics
from tests.backbone_fixtures import refused


def points(seed):
    """Points on a coarse grid, so that many errors lie exactly on a threshold, some outside the image, some hidden."""
    generator = np.random.default_rng(seed)
    true = generator.integers(0, 64, size=(60, 8, 2)) * 4.0
    pred = true + generator.integers(-6, 7, size=true.shape) * 4.0
    visible = generator.random((60, 8)) < 0.7
    visible[0] = False
    return pred, true, visible


@pytest.mark.parametrize(("strict", "filler"), [(False, None), (True, np.nan), (False, -1e9)])
def test_pck_agrees_with_a_loop_over_points_whatever_hidden_ones_are(strict, filler):
    pred, true, visible = points(1)
    base = np.random.default_rng(2).choice([80.0, 100.0, 120.0], size=60) if filler else 200.0  # one a pair, or for all
    per_point, per_pair = [], []
    for i, limit in enumerate(0.1 * np.broadcast_to(base, 60)):
        errors = [math.dist(p, t) for p, t, seen in zip(pred[i], true[i], visible[i], strict=True) if seen]
        found = [e < limit or (e == limit and not strict) for e in errors]
        per_point += found
        per_pair.append(sum(found) / len(found) if found else math.nan)
    if filler is not None:
        pred[~visible], true[~visible] = filler, -filler
    ours = metrics.pck(pred, true, 0.1, base, visible, strict)
    np.testing.assert_allclose(ours, per_pair, atol=1e-9)
    assert np.isnan(ours[0]) and not np.isnan(ours[1:]).any()
    np.testing.assert_array_equal(metrics.pck(pred, true, 0.1, base, visible, strict, per="point"), per_point)


def masks(seed):
    """Random masks of every density, among them empty and full ones."""
    generator = np.random.default_rng(seed)
    density = generator.choice([0.0, 0.2, 0.5, 0.9, 1.0], size=(40, 1, 1))
    return generator.random((40, 6, 7)) < density


PRED, TRUE = masks(1), masks(2)


def test_every_metric_of_masks_agrees_with_scikit_learn():
    found = metrics.mask_scores(PRED, TRUE)
    theirs = sklearn.metrics.jaccard_score(TRUE.ravel(), PRED.ravel())
    assert found.pop("dataset IoU") == [pytest.approx(theirs)], "images weigh by their area"
    np.testing.assert_array_equal(found["foreground IoU"], metrics.foreground_iou(PRED, TRUE))
    for i, (pred, true) in enumerate(zip(PRED, TRUE, strict=True)):
        flat = true.ravel(), pred.ravel()
        overlaps = [sklearn.metrics.jaccard_score(*flat, pos_label=label, zero_division=1.0) for label in (True, False)]
        recall = sklearn.metrics.recall_score(*flat, labels=[True, False], average=None, zero_division=1.0)
        present = [recall[k] for k, there in enumerate((true.any(), not true.all())) if there]
        expected = {"foreground IoU": overlaps[0], "mIoU": np.mean(overlaps), "pAcc": (pred == true).mean()}
        expected |= {"pAcc (foreground)": recall[0], "pAcc (class mean)": np.mean(present)}
        assert {metric: values[i] for metric, values in found.items()} == pytest.approx(expected)


@pytest.mark.filterwarnings("error")
def test_empty_masks_and_no_images_have_a_defined_value():
    pred, true = (np.array(values, dtype=bool).reshape(4, 1, 1) for values in ([0, 1, 1, 0], [0, 1, 0, 1]))
    found = metrics.mask_scores(pred, true)
    assert found.pop("dataset IoU") == [1 / 3] and found.pop("pAcc (foreground)").tolist() == [1, 1, 1, 0]
    assert [values.tolist() for values in found.values()] == [[1, 1, 0, 0]] * 4
    none, empty = (metrics.mask_scores(pred[:n], true[:n]) for n in (0, 1))
    assert none.pop("dataset IoU") == empty["dataset IoU"] == [1]
    assert {values.shape for values in none.values()} == {(0,)}


def recognised(number=1000):
    """Probabilities that are right more often than by chance, and labels."""
    generator = np.random.default_rng(0)
    labels = generator.integers(7, size=number)
    odds = np.exp(generator.standard_normal((number, 7)) + 1.5 * np.eye(7)[labels])
    return odds / odds.sum(1, keepdims=True), labels


@pytest.mark.parametrize("k", [1, 5, 9])
def test_top_k_accuracy_agrees_with_scikit_learn_without_ties_and_with_a_loop_over_ties(k):
    scores, labels = recognised()
    theirs = sklearn.metrics.top_k_accuracy_score(labels, scores, k=k) if k < 7 else 1
    assert metrics.top_k_accuracy(scores, labels, k).mean() == pytest.approx(theirs, abs=1e-9)
    scores = np.round(np.log(scores))
    for row, label, value in zip(scores, labels, metrics.top_k_accuracy(scores, labels, k), strict=True):
        ahead = sum(1 for c in range(7) if c != label and row[c] >= row[label])
        assert value == (ahead < k)


def test_tensors_one_item_and_a_batch_give_the_same_float64_values():
    pred, true, visible = points(4)
    for metric, items, one_too in (
        (lambda p, t, v: metrics.pck(p, t, 0.1, 256, v), (pred, true, visible), True),
        (lambda scores, labels: metrics.top_k_accuracy(scores, labels, 2), recognised(), True),
        (metrics.foreground_iou, (PRED, TRUE), False),
    ):
        batch = metric(*items)
        assert batch.dtype == np.float64 and batch.shape == (len(items[0]),)
        np.testing.assert_array_equal(metric(*map(torch.from_numpy, items)), batch)
        assert not one_too or (isinstance(one := metric(*(values[5] for values in items)), float) and one == batch[5])
    assert metrics.pck(np.zeros((0, 8, 2)), np.zeros((0, 8, 2)), 0.1, 256).shape == (0,)


def test_confusions_have_a_row_a_true_class_and_macro_accuracy_is_scikit_learns_balanced_accuracy():
    assert metrics.confusion_matrix(torch.tensor([1, 1]), torch.tensor([0, 1]), 2).tolist() == [[0, 1], [0, 1]]
    scores, labels = recognised(number=200)
    theirs = sklearn.metrics.balanced_accuracy_score(labels, scores.argmax(1))
    assert metrics.macro_mean(metrics.top_k_accuracy(scores, labels), labels) == pytest.approx(theirs, abs=1e-9)
    assert metrics.macro_mean([1, 1, 1, 0], ["cow", "cow", "cow", "bat"]) == 0.5


@pytest.mark.parametrize("bins", [1, 15])
def test_calibration_error_agrees_with_torchmetrics_and_reliability_with_what_is_worked_out_by_hand(bins, monkeypatch):
    probabilities, labels = recognised()
    sharper = probabilities[:500] ** 4  # too sure of itself, as the other half is too unsure
    probabilities[:500] = sharper / sharper.sum(1, keepdims=True)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # torchmetrics makes everything float32 by it
    ours = metrics.calibration_error(probabilities, labels, bins)
    theirs = multiclass_calibration_error(*map(torch.from_numpy, (probabilities, labels)), num_classes=7, n_bins=bins)
    assert ours == pytest.approx(theirs.item(), abs=1e-9)
    table = metrics.reliability(np.array([[0.9, 0.1], [0.9, 0.1], [0.8, 0.2], [1.0, 0.0]]), [0, 1, 0, 0], bins=5)
    assert table.count.tolist() == [0, 0, 0, 1, 3] and np.isnan(table.accuracy[:3]).all()
    assert table.accuracy[3:] == pytest.approx([1, 2 / 3]) and table.confidence[3:] == pytest.approx([0.8, 2.8 / 3])


def test_a_lead_is_nothing_over_oneself_certain_if_constant_and_else_near_normal_and_copies_add_no_certainty():
    values = np.random.default_rng(0).random(50)
    assert metrics.paired_bootstrap(values, values) == (0, 0, 0, 1, 50)
    always = metrics.paired_bootstrap(values + 0.1, values)
    assert always == (*[pytest.approx(0.1)] * 3, pytest.approx(2 / 10_001), 50)
    assert metrics.paired_bootstrap(values - 0.1, values).p == always.p
    assert metrics.paired_bootstrap([1] * 5 + [1 / 3], [2 / 3] * 6).low == 0, "1/3 and -1/3 add up to 6e-17, a tie"
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.3, 1, 400), rng.normal(0, 1, 400)
    found, half = metrics.paired_bootstrap(first, second), 1.96 * (first - second).std(ddof=1) / 20
    assert found[1:3] == pytest.approx((found.mean - half, found.mean + half), abs=0.02)
    weak = metrics.paired_bootstrap(first, second + 0.28)
    assert 0.05 < weak.p < 1 and weak.low < 0 and weak.p == pytest.approx(ttest_rel(first, second + 0.28)[1], abs=0.05)
    copies = np.repeat(first, 5), np.repeat(second, 5)
    grouped, loose = (metrics.paired_bootstrap(*copies, groups) for groups in (np.arange(2000) // 5, None))
    assert grouped[1:] == (pytest.approx(found.low), pytest.approx(found.high), found.p, 400)
    assert loose.high - loose.low < 0.6 * (found.high - found.low)


def test_seeds_are_drawn_too_each_method_s_for_itself_as_a_resample_of_everything_would():
    rng = np.random.default_rng(0)
    first, second, groups = rng.normal(0.2, 1, (3, 12)), rng.normal(0, 1, (2, 12)), np.arange(12) % 4
    means = []
    for _ in range(4000):
        ours, theirs = first[rng.integers(3, size=3)].mean(0), second[rng.integers(2, size=2)].mean(0)
        drawn = np.concatenate([np.flatnonzero(groups == k) for k in rng.integers(4, size=4)])
        means.append((ours - theirs)[drawn].mean())
    found = metrics.paired_bootstrap(first, second, groups)
    assert found[:3] == pytest.approx((first.mean() - second.mean(), *np.quantile(means, (0.025, 0.975))), abs=0.04)
    assert found.p == pytest.approx(2 * min((np.array(means) <= 0).mean(), (np.array(means) >= 0).mean()), abs=0.04)
    averaged = metrics.paired_bootstrap(first.mean(0), second.mean(0), groups)
    assert averaged.high - averaged.low < found.high - found.low, "that other trainings differ is no longer left out"


def test_p_is_corrected_step_by_step_and_by_as_many_tests_as_there_are():
    found = metrics.holm([0.02, 0.9, 0.01, 0.03, 0.8])
    assert found == pytest.approx([4 * 0.02, 1, 5 * 0.01, 3 * 0.03, 1])  # the largest two: 2 * .8, and at least that
    assert metrics.holm([0.04, 0.039]) == pytest.approx([0.078, 0.078]), "none is below one that was smaller"
    assert metrics.holm([0.03]) == [0.03]


ONE, NAN = np.zeros((1, 8, 2)), np.full((1, 8, 2), np.nan)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (metrics.pck, (ONE, ONE[:, :5], 0.1, 256), r"\(B, J, 2\)"),
        (metrics.pck, (np.zeros((1, 0, 2)), np.zeros((1, 0, 2)), 0.1, 256), "empty"),
        (metrics.pck, (np.zeros(2), np.zeros(2), 0.1, 256), "shape"),
        (metrics.pck, (ONE, NAN, 0.1, 256), "true point 0 of pair 0"),
        *((metrics.pck, (ONE, ONE, alpha, base), "above 0") for alpha, base in ((0.1, -1), (np.nan, 9))),
        (metrics.pck, (ONE, ONE, 0.1, [256, 256]), "base has shape"),
        (metrics.pck, (ONE, ONE, 0.1, 256, np.ones((1, 7))), "visible"),
        (metrics.pck, (ONE, ONE, 0.1, 256, np.full((1, 8), 2)), "0 and 1"),
        (metrics.pck, (ONE, ONE, 0.1, 256, None, False, "image"), "'point'"),
        (metrics.foreground_iou, (PRED, TRUE[:, :5]), "shape"),
        (metrics.mask_scores, (PRED[0], TRUE[0]), r"\(B, H, W\)"),
        (metrics.foreground_iou, (PRED.astype(float), TRUE), "threshold"),
        (metrics.foreground_iou, (np.zeros((2, 0, 3), dtype=bool), np.zeros((2, 0, 3), dtype=bool)), "pixel"),
        (metrics.iou_by_threshold, (torch.ones(1, 2, 2), torch.ones(1, 3, 3), [0.5]), "shape"),
        (metrics.top_k_accuracy, ([[0.1, np.nan]], [0]), "NaN"),
        (metrics.top_k_accuracy, ([["a", "b"]], [0]), "holds <U1: give numbers"),
        *((metrics.top_k_accuracy, ([[0.1, 0.2]], [label]), "classes 0 to 1") for label in (2, -1, 0.5)),
        (metrics.top_k_accuracy, ([[0.1, 0.2]], 0), "labels has shape"),
        (metrics.top_k_accuracy, (np.zeros((2, 0)), [0, 0]), "empty"),
        (metrics.top_k_accuracy, ([[0.1, 0.2]], [0], 0), "from 1"),
        (metrics.macro_mean, ([], []), "one or more"),
        (metrics.macro_mean, ([np.nan], [0]), "NaN"),
        *((metrics.calibration_error, ([row], [0]), "softmax") for row in ([3.0, -1.0], [0.5, 0.2])),
        (metrics.calibration_error, (np.zeros((0, 2)), np.zeros(0, dtype=int)), "many items"),
        (metrics.calibration_error, ([[0.5, 0.5]], [0], 0), "bins is 0"),
        (metrics.paired_bootstrap, ([1, 2], [1, 2, 3]), "one a query for both"),
        (metrics.paired_bootstrap, ([1, np.nan], [1, 2]), "not finite"),
        (metrics.paired_bootstrap, ([1, 2], [1, 2], [0]), "one for each"),
        (metrics.paired_bootstrap, ([1, 2], [1, 2], [0, 0]), "two or more"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_sentence(function, arguments, message):
    with refused(message):
        function(*arguments)
