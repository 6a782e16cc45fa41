import numpy as np
import pytest
import sklearn.metrics
import torch
from torchmetrics.functional.classification import (
    binary_jaccard_index,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
)

from sfhelpers import metrics


def recognised(seed=0, number=1000, classes=7, tied=False):
    """Probabilities that are right more often than by chance, and labels; of few values where ties are wanted."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=number)
    logits = generator.standard_normal((number, classes)) + 1.5 * np.eye(classes)[labels]
    if tied:
        return np.round(logits), labels
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True), labels


@pytest.mark.parametrize("k", [1, 2, 5, 7, 9])
def test_top_k_accuracy_agrees_with_scikit_learn_without_ties_and_with_a_loop_over_ties(k):
    scores, labels = recognised()
    ours = metrics.top_k_accuracy(scores, labels, k)
    if k < 7:
        theirs = sklearn.metrics.top_k_accuracy_score(labels, scores, k=k)
        assert ours.mean() == pytest.approx(theirs, abs=1e-9)
    else:
        assert ours.all()
    scores, labels = recognised(tied=True)
    ours = metrics.top_k_accuracy(scores, labels, k)
    for row, label, value in zip(scores, labels, ours, strict=True):
        ahead = sum(1 for c in range(7) if c != label and row[c] >= row[label])
        assert value == (ahead < k)


def test_equal_scores_for_all_classes_earn_nothing():
    assert metrics.top_k_accuracy(np.zeros((3, 4)), [0, 1, 2], k=3).tolist() == [0, 0, 0]
    assert metrics.top_k_accuracy(np.zeros(4), 0, k=4) == 1


def test_one_item_a_batch_and_tensors_give_the_same_values():
    scores, labels = recognised()
    batch = metrics.top_k_accuracy(scores, labels, 2)
    np.testing.assert_array_equal(metrics.top_k_accuracy(torch.from_numpy(scores), torch.from_numpy(labels), 2), batch)
    one = metrics.top_k_accuracy(scores[3], labels[3], 2)
    assert isinstance(one, float) and one == batch[3]


def test_the_confusion_matrix_is_that_of_scikit_learn_and_torchmetrics():
    scores, labels = recognised()
    predicted = scores.argmax(1)
    ours = metrics.confusion_matrix(predicted, labels, 9)
    np.testing.assert_array_equal(ours, sklearn.metrics.confusion_matrix(labels, predicted, labels=range(9)))
    theirs = multiclass_confusion_matrix(torch.from_numpy(predicted), torch.from_numpy(labels), num_classes=9)
    np.testing.assert_array_equal(ours, theirs.numpy())
    assert ours[8].sum() == 0 and ours.sum() == 1000
    assert metrics.confusion_matrix([1], [0], 2).tolist() == [[0, 1], [0, 0]]


def test_class_means_weigh_classes_alike_and_leave_out_items_without_a_value():
    values, labels = [1, 0, 0.5, np.nan, np.nan], ["cow", "cow", "bat", "bat", "saw"]
    classes, means = metrics.class_means(values, labels)
    assert classes.tolist() == ["bat", "cow", "saw"]
    np.testing.assert_array_equal(means, [0.5, 0.5, np.nan])
    assert metrics.micro_mean(values) == 0.5
    assert metrics.macro_mean([1, 1, 1, 0], [0, 0, 0, 1]) == 0.5
    assert metrics.micro_mean([1, 1, 1, 0]) == 0.75


def test_macro_accuracy_is_scikit_learns_balanced_accuracy():
    scores, labels = recognised(number=200)
    right = metrics.top_k_accuracy(scores, labels)
    theirs = sklearn.metrics.balanced_accuracy_score(labels, scores.argmax(1))
    assert metrics.macro_mean(right, labels) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_agrees_with_torchmetrics_and_a_loop_over_items(bins, monkeypatch):
    probabilities, labels = recognised()
    sharper = probabilities[:500] ** 4  # too sure of itself, as the other half is too unsure
    probabilities[:500] = sharper / sharper.sum(1, keepdims=True)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # torchmetrics makes everything float32 by it
    ours = metrics.calibration_error(probabilities, labels, bins)
    theirs = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), num_classes=7, n_bins=bins
    )
    assert ours == pytest.approx(theirs.item(), abs=1e-9)
    slow = 0.0
    for b in range(bins):
        inside = [i for i, row in enumerate(probabilities) if b / bins < row.max() <= (b + 1) / bins]
        gap = sum(probabilities[i].max() - (probabilities[i].argmax() == labels[i]) for i in inside)
        slow += abs(gap) / len(labels)
    assert ours == pytest.approx(slow, abs=1e-9)


def test_calibration_error_worked_out_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [1.0, 0.0]])
    table = metrics.reliability(probabilities, [0, 1, 0, 0], bins=5)
    assert table.count.tolist() == [0, 0, 1, 0, 3]
    assert table.accuracy[[2, 4]] == pytest.approx([1, 2 / 3])
    assert table.confidence[[2, 4]] == pytest.approx([0.6, 2.8 / 3])
    assert np.isnan(table.accuracy[[0, 1, 3]]).all()
    expected = (0.4 + 3 * (2.8 / 3 - 2 / 3)) / 4
    assert metrics.calibration_error(probabilities, [0, 1, 0, 0], bins=5) == pytest.approx(expected)
    assert metrics.calibration_error(np.eye(3), [0, 1, 2]) == 0


def test_iou_agrees_with_torchmetrics():
    generator = np.random.default_rng(9)
    pred, true = generator.random((2, 200, 5, 6)) < generator.random((2, 200, 1, 1))
    ours = metrics.foreground_iou(pred, true)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)  # in which torchmetrics divides
        theirs = [
            binary_jaccard_index(torch.from_numpy(p).long(), torch.from_numpy(t).long()).item()
            for p, t in zip(pred, true, strict=True)
        ]
    finally:
        torch.set_default_dtype(before)
    something = (pred | true).any((1, 2))  # torchmetrics calls two empty masks 0, which is 1 here
    np.testing.assert_allclose(ours[something], np.array(theirs)[something], atol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.top_k_accuracy([[0.1, np.nan]], [0]), "NaN"),
        (lambda: metrics.top_k_accuracy([[0.1, 0.2]], [2]), "classes 0 to 1"),
        (lambda: metrics.top_k_accuracy([[0.1, 0.2]], [-1]), "classes 0 to 1"),
        (lambda: metrics.top_k_accuracy([[0.1, 0.2]], [0.5]), "classes 0 to 1"),
        (lambda: metrics.top_k_accuracy([[0.1, 0.2]], 0), "labels have shape"),
        (lambda: metrics.top_k_accuracy([[0.1, 0.2]], [0, 1]), "labels have shape"),
        (lambda: metrics.top_k_accuracy(np.zeros((2, 0)), [0, 0]), "no classes"),
        (lambda: metrics.top_k_accuracy([[0.1, 0.2]], [0], 0), "from 1"),
        (lambda: metrics.confusion_matrix([0, 1], [0], 2), "shape"),
        (lambda: metrics.confusion_matrix([0, 2], [0, 1], 2), "predicted hold"),
        (lambda: metrics.confusion_matrix([0, 1], [0, 5], 2), "labels hold"),
        (lambda: metrics.confusion_matrix([], [], 0), "n_classes is 0"),
        (lambda: metrics.class_means([1.0], ["a", "b"]), "shape"),
        (lambda: metrics.micro_mean([np.nan, np.nan]), "none of 2"),
        (lambda: metrics.micro_mean([]), "none of 0"),
        (lambda: metrics.calibration_error([[3.0, -1.0]], [0]), "softmax"),
        (lambda: metrics.calibration_error([[0.5, 0.2]], [0]), "softmax"),
        (lambda: metrics.calibration_error([0.5, 0.5], 0), "many items"),
        (lambda: metrics.calibration_error(np.zeros((0, 2)), np.zeros(0, dtype=int)), "many items"),
        (lambda: metrics.calibration_error([[0.5, 0.5]], [0], bins=0), "bins is 0"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    text = str(error.value)
    assert text.endswith(".") and "\n" not in text and ". " not in text
