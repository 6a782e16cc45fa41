import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from sfhelpers import metrics


def masks(seed, shape=(40, 6, 7)):
    """Random masks of every density, among them empty and full ones."""
    generator = np.random.default_rng(seed)
    density = generator.choice([0.0, 0.2, 0.5, 0.9, 1.0], size=(shape[0], 1, 1))
    return generator.random(shape) < density


PRED, TRUE = masks(1), masks(2)


def count(pred, true):
    """True positives, false positives, false negatives, true negatives of one image, pixel by pixel."""
    tp = fp = fn = tn = 0
    for p, t in zip(pred.ravel(), true.ravel(), strict=True):
        tp += p and t
        fp += p and not t
        fn += t and not p
        tn += not p and not t
    return int(tp), int(fp), int(fn), int(tn)


def share(part, whole):
    return part / whole if whole else 1.0


def test_every_metric_agrees_with_a_loop_over_pixels():
    for i in range(len(PRED)):
        tp, fp, fn, tn = count(PRED[i], TRUE[i])
        foreground, background = share(tp, tp + fp + fn), share(tn, tn + fp + fn)
        recalls = [right / all_of for right, all_of in ((tp, tp + fn), (tn, tn + fp)) if all_of]
        one = (PRED[i : i + 1], TRUE[i : i + 1])
        assert metrics.foreground_iou(*one)[0] == pytest.approx(foreground)
        assert metrics.two_class_iou(*one)[0] == pytest.approx((foreground + background) / 2)
        assert metrics.pixel_accuracy(*one)[0] == pytest.approx((tp + tn) / 42)
        assert metrics.pixel_accuracy(*one, kind="foreground")[0] == pytest.approx(share(tp, tp + fn))
        assert metrics.pixel_accuracy(*one, kind="class_mean")[0] == pytest.approx(np.mean(recalls))


def test_iou_agrees_with_sklearn():
    pred, true = masks(3), masks(4)
    ours = metrics.foreground_iou(pred, true)
    theirs = [jaccard_score(t.ravel(), p.ravel(), zero_division=1.0) for p, t in zip(pred, true, strict=True)]
    np.testing.assert_allclose(ours, theirs)
    assert metrics.dataset_iou(pred, true) == pytest.approx(jaccard_score(true.ravel(), pred.ravel()))


def test_values_worked_out_by_hand():
    true = np.array([[[1, 1, 0, 0]]], dtype=bool)
    pred = np.array([[[1, 0, 1, 0]]], dtype=bool)
    assert metrics.foreground_iou(pred, true)[0] == pytest.approx(1 / 3)
    assert metrics.two_class_iou(pred, true)[0] == pytest.approx(1 / 3)
    assert metrics.pixel_accuracy(pred, true)[0] == 0.5
    one_of_three = np.array([[[1, 0, 0, 0]]], dtype=bool)
    three = np.array([[[1, 1, 1, 0]]], dtype=bool)
    assert metrics.pixel_accuracy(one_of_three, three)[0] == 0.5
    assert metrics.pixel_accuracy(one_of_three, three, kind="foreground")[0] == pytest.approx(1 / 3)
    assert metrics.pixel_accuracy(one_of_three, three, kind="class_mean")[0] == pytest.approx((1 / 3 + 1) / 2)


def test_an_all_background_prediction_looks_good_only_in_plain_pixel_accuracy():
    true = np.zeros((1, 10, 10), dtype=bool)
    true[0, :3] = True
    nothing = np.zeros_like(true)
    assert metrics.pixel_accuracy(nothing, true)[0] == pytest.approx(0.7)
    assert metrics.pixel_accuracy(nothing, true, kind="class_mean")[0] == pytest.approx(0.5)
    assert metrics.pixel_accuracy(nothing, true, kind="foreground")[0] == 0
    assert metrics.foreground_iou(nothing, true)[0] == 0
    assert metrics.two_class_iou(nothing, true)[0] == pytest.approx(0.35)


def test_empty_masks_have_a_defined_value():
    empty, full = np.zeros((1, 3, 3), dtype=bool), np.ones((1, 3, 3), dtype=bool)
    for metric in (metrics.foreground_iou, metrics.two_class_iou, metrics.pixel_accuracy):
        assert metric(empty, empty)[0] == 1
        assert metric(full, full)[0] == 1
        assert metric(full, empty)[0] == 0
        assert metric(empty, full)[0] == 0
    for kind in ("foreground", "class_mean"):
        assert metrics.pixel_accuracy(empty, empty, kind=kind)[0] == 1
    assert metrics.pixel_accuracy(full, empty, kind="foreground")[0] == 1
    assert metrics.pixel_accuracy(full, empty, kind="class_mean")[0] == 0
    assert metrics.dataset_iou(empty, empty) == 1


@pytest.mark.filterwarnings("error")
def test_no_images_give_no_values():
    none = np.zeros((0, 3, 4), dtype=bool)
    for metric in (metrics.foreground_iou, metrics.two_class_iou, metrics.pixel_accuracy):
        assert metric(none, none).shape == (0,)
    for kind in ("foreground", "class_mean"):
        assert metrics.pixel_accuracy(none, none, kind=kind).shape == (0,)
    assert metrics.dataset_iou(none, none) == 1


def test_dataset_iou_weighs_images_by_their_area():
    true = np.zeros((2, 1, 10), dtype=bool)
    true[0, 0, :9] = True
    true[1, 0, :1] = True
    pred = true.copy()
    pred[1] = False
    assert metrics.foreground_iou(pred, true).mean() == 0.5
    assert metrics.dataset_iou(pred, true) == pytest.approx(0.9)


def test_tensors_and_arrays_give_the_same_float64_values():
    ours = metrics.two_class_iou(torch.from_numpy(PRED), torch.from_numpy(TRUE))
    assert ours.dtype == np.float64 and ours.shape == (40,)
    np.testing.assert_array_equal(ours, metrics.two_class_iou(PRED, TRUE))


@pytest.mark.parametrize(
    ("pred", "true", "message"),
    [
        (PRED, TRUE[:, :5], "shape"),
        (PRED[:1], TRUE, "shape"),
        (PRED[0], TRUE[0], r"\(B, H, W\)"),
        (PRED.astype(float), TRUE, "threshold"),
        (np.zeros((2, 0, 3), dtype=bool), np.zeros((2, 0, 3), dtype=bool), "pixel"),
    ],
)
def test_wrong_masks_are_refused_in_one_sentence(pred, true, message):
    for metric in (metrics.foreground_iou, metrics.two_class_iou, metrics.pixel_accuracy, metrics.dataset_iou):
        with pytest.raises(ValueError, match=message) as error:
            metric(pred, true)
        assert "\n" not in str(error.value)


def test_an_unknown_kind_of_accuracy_is_refused():
    with pytest.raises(ValueError, match="class_mean"):
        metrics.pixel_accuracy(PRED, TRUE, kind="mean")
