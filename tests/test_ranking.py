import sys

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torchmetrics.functional.classification import binary_average_precision
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_hit_rate,
    retrieval_precision,
)

from sfhelpers import metrics

# Relevance, k, then AP@k over k, min, found, relevant and VOC-min, P@k, ZSE's P@k, AP@all, VOC@all, by hand.
WORKED_OUT = [
    ("101101", 3, (0.5556, 0.5556, 0.8333, 0.4167, 0.5556), 0.6667, 0.6667, 0.7708, 0.7917),
    ("01100", 3, (0.3889, 0.5833, 0.5833, 0.5833, 0.6667), 0.6667, 0.5000, 0.5833, 0.6667),
    ("00010", 3, (0, 0, 0, 0, 0), 0, 0, 0.2500, 0.2500),
    ("01001101", 6, (0.2333, 0.3500, 0.4667, 0.3500, 0.3750), 0.5000, 0.2500, 0.4750, 0.5000),
]
DENOMINATORS = ("k", "min", "found", "relevant")


def rankings_with_ties(number=1000):
    """Scores of few values, relevance of every share, from 1 to 30 items each, at least one relevant."""
    generator = np.random.default_rng(5)
    for _ in range(number):
        size = int(generator.integers(1, 31))
        relevant = generator.random(size) < generator.random()
        relevant[generator.integers(size)] = True
        yield generator.integers(1, generator.integers(2, 12), size=size).astype(float), relevant


def against_the_query(scores, relevant):
    """The ranking as Python's sort makes it: by score, and among equals the irrelevant first."""
    return [r for _, r in sorted(zip(-scores, relevant, strict=True))]


def slow(ranking, n_relevant, k, interpolated=False):
    """AP@k over each denominator and P@k in each variant, counted item by item."""
    precisions = []
    for i in range(1, min(k, len(ranking)) + 1):
        precisions.append(sum(ranking[:i]) / i)
    if interpolated:
        precisions = [max(precisions[i:]) for i in range(len(precisions))]
    total = sum(p for p, r in zip(precisions, ranking, strict=False) if r)
    found = sum(ranking[:k])
    over = {"k": k, "min": min(k, n_relevant), "found": max(found, 1), "relevant": n_relevant}
    average = {name: total / divisor for name, divisor in over.items()}
    cut = min(k, n_relevant)
    return average, {"k": found / k, "gallery": found / min(k, len(ranking)), "relevant": sum(ranking[:cut]) / cut}


def voc_area(ranking, k):
    """The interpolated AP@k as VOC's own code computes it: the area under the padded envelope over recall."""
    top = np.array(ranking[:k], dtype=float)
    recall = np.cumsum(top) / min(k, sum(ranking))
    precision = np.cumsum(top) / np.arange(1, len(top) + 1)
    recall, precision = np.r_[0, recall, 1], np.r_[0, precision, 0]
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    change = np.flatnonzero(recall[1:] != recall[:-1])
    return float(((recall[change + 1] - recall[change]) * precision[change + 1]).sum())


@pytest.mark.parametrize(("text", "k", "at_k", "p", "p_zse", "ap", "voc"), WORKED_OUT)
def test_values_worked_out_by_hand(text, k, at_k, p, p_zse, ap, voc):
    relevance, total = [int(item) for item in text], text.count("1")
    ours = [metrics.average_precision_at_k(relevance, total, k, name) for name in DENOMINATORS]
    ours += [metrics.average_precision_at_k(relevance, total, k, "min", interpolated=True)]
    assert ours == pytest.approx(at_k, abs=5e-5)
    assert metrics.precision_at_k(relevance, total, k) == pytest.approx(p, abs=5e-5)
    assert metrics.precision_at_k(relevance, total, k, "relevant") == pytest.approx(p_zse, abs=5e-5)
    assert metrics.average_precision(relevance) == pytest.approx(ap, abs=5e-5)
    assert metrics.average_precision(relevance, interpolated=True) == pytest.approx(voc, abs=5e-5)


def test_a_thousand_rankings_with_ties_agree_with_a_loop_over_items():
    for scores, relevant in rankings_with_ties():
        ranking = against_the_query(scores, relevant)
        assert metrics.rank(scores, relevant).tolist() == ranking
        total, size = sum(ranking), len(ranking)
        for k in (1, 3, size, size + 4):
            average, precision = slow(ranking, total, k)
            envelope, _ = slow(ranking, total, k, interpolated=True)
            for name in DENOMINATORS:
                ours = metrics.average_precision_at_k(ranking, total, k, name)
                assert ours == pytest.approx(average[name], abs=1e-9)
                ours = metrics.average_precision_at_k(ranking, total, k, name, interpolated=True)
                assert ours == pytest.approx(envelope[name], abs=1e-9)
            assert envelope["min"] == pytest.approx(voc_area(ranking, k), abs=1e-9)
            for name, value in precision.items():
                assert metrics.precision_at_k(ranking, total, k, name) == pytest.approx(value, abs=1e-9)
            paired = metrics.accuracy_at_k(scores, relevant, k)
            assert paired == float(any(ranking[:k]))
        assert metrics.average_precision(ranking) == pytest.approx(slow(ranking, total, size)[0]["min"], abs=1e-9)


def test_a_thousand_rankings_with_ties_agree_with_scikit_learn():
    for scores, relevant in rankings_with_ties():
        shared = metrics.average_precision_of_scores(scores, relevant, ties="shared")
        assert shared == pytest.approx(average_precision_score(relevant, scores), abs=1e-9)
        against = metrics.average_precision_of_scores(scores, relevant)
        ranking = against_the_query(scores, relevant)
        assert against == pytest.approx(average_precision_score(ranking, -np.arange(len(ranking))), abs=1e-9)
        assert against <= shared + 1e-12


class TorchInFloat64:
    """torch for one module of torchmetrics, whose retrieval AP is in float32 whatever it is given."""

    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


def test_a_thousand_rankings_with_ties_agree_with_torchmetrics(monkeypatch):
    module = sys.modules[retrieval_average_precision.__module__]
    monkeypatch.setattr(module, "torch", TorchInFloat64())
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    before = torch.get_default_dtype()  # in which the curve of scores is computed
    for scores, relevant in rankings_with_ties():
        shared = metrics.average_precision_of_scores(scores, relevant, ties="shared")
        ranking = torch.tensor(against_the_query(scores, relevant))
        places = torch.arange(len(ranking), 0, -1.0)
        try:
            torch.set_default_dtype(torch.float64)
            theirs = binary_average_precision(torch.from_numpy(scores) / 20, torch.from_numpy(relevant).long())
        finally:
            torch.set_default_dtype(before)
        assert shared == pytest.approx(theirs.item(), abs=1e-9)
        total, size = int(ranking.sum()), len(ranking)
        for k in (1, 4, size):
            k = min(k, size)
            found = metrics.average_precision_at_k(ranking, total, k, "found")
            assert found == pytest.approx(retrieval_average_precision(places, ranking, k).item(), abs=1e-9)
            precision = metrics.precision_at_k(ranking, total, k)
            assert precision == pytest.approx(retrieval_precision(places, ranking, k).item(), abs=1e-9)
            assert metrics.accuracy_at_k(places, ranking, k) == retrieval_hit_rate(places, ranking, k).item()


def test_a_batch_is_its_rankings_one_by_one_as_arrays_or_tensors():
    generator = np.random.default_rng(6)
    relevance = generator.random((50, 12)) < 0.4
    relevance[:, 0] = True
    total = relevance.sum(1) + generator.integers(0, 5, size=50)
    for name in DENOMINATORS:
        batch = metrics.average_precision_at_k(relevance, total, 5, name)
        assert batch.dtype == np.float64 and batch.shape == (50,)
        one = [metrics.average_precision_at_k(relevance[i], int(total[i]), 5, name) for i in range(50)]
        assert all(isinstance(value, float) for value in one)
        np.testing.assert_array_equal(batch, one)
        tensors = (torch.from_numpy(relevance), torch.from_numpy(total))
        np.testing.assert_array_equal(batch, metrics.average_precision_at_k(*tensors, 5, name))
    scores = generator.integers(0, 4, size=(50, 12))
    for function in (metrics.rank, metrics.average_precision_of_scores):
        np.testing.assert_array_equal(
            function(scores, relevance), [function(s, r) for s, r in zip(scores, relevance, strict=True)]
        )
    shared = metrics.average_precision_of_scores(scores, relevance, ties="shared")
    assert shared[7] == metrics.average_precision_of_scores(scores[7], relevance[7], ties="shared")


def test_one_ranking_has_as_many_values_as_there_are_definitions():
    relevance = np.zeros(10_500, dtype=bool)
    relevance[np.random.default_rng(0).permutation(600)[:350]] = True
    relevance[-150:] = True
    values = [metrics.average_precision_at_k(relevance, 500, 200, name) for name in ("relevant", "min", "found")]
    assert values[0] < 0.2 < values[1] < 0.4 < 0.5 < values[2]


def test_precision_variants_differ_only_where_gallery_or_class_is_smaller_than_k():
    small = [1, 1, 0, 1]
    assert metrics.precision_at_k(small, 3, 10) == pytest.approx(0.3)
    assert metrics.precision_at_k(small, 3, 10, "gallery") == pytest.approx(3 / 4)
    assert metrics.precision_at_k(small, 3, 10, "relevant") == pytest.approx(2 / 3)
    assert {metrics.precision_at_k(small, 3, 2, name) for name in ("k", "gallery", "relevant")} == {1.0}


def test_a_constant_score_earns_the_worst_ranking():
    relevant = np.array([True, True, False, False])
    assert metrics.rank(np.zeros(4), relevant).tolist() == [False, False, True, True]
    assert metrics.average_precision_of_scores(np.zeros(4), relevant) == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert metrics.average_precision_of_scores(np.zeros(4), relevant, ties="shared") == pytest.approx(0.5)
    assert metrics.accuracy_at_k(np.zeros(4), relevant, 2) == 0
    assert metrics.accuracy_at_k(np.zeros(4), relevant, 3) == 1


def test_a_query_without_a_relevant_item_has_no_value():
    relevance = np.array([[1, 0, 0], [0, 0, 0]])
    scores = np.array([[3.0, 2, 1], [3, 2, 1]])
    for values in (
        metrics.average_precision(relevance),
        metrics.average_precision_of_scores(scores, relevance),
        metrics.average_precision_of_scores(scores, relevance, ties="shared"),
        metrics.accuracy_at_k(scores, relevance, 1),
        *(metrics.average_precision_at_k(relevance, [1, 0], 2, name) for name in ("min", "found", "relevant")),
        *(metrics.precision_at_k(relevance, [1, 0], 1, name) for name in ("k", "gallery", "relevant")),
    ):
        assert values[0] == 1 and np.isnan(values[1])


def test_no_queries_give_no_values():
    none = np.zeros((0, 5), dtype=bool)
    assert metrics.average_precision(none).shape == (0,)
    assert metrics.average_precision_at_k(none, np.zeros(0, dtype=int), 3, interpolated=True).shape == (0,)
    assert metrics.rank(np.zeros((0, 5)), none).shape == (0, 5)


class TestAccuracyAtK:
    scores = np.array([[0.9, 0.8, 0.7, 0.6], [0.9, 0.9, 0.1, 0.2]])
    paired = np.array([[0, 0, 1, 0], [0, 1, 0, 0]])
    photo_classes = np.array(["cow", "bat", "bat", "cow"])

    def test_every_photo_competes_in_the_gallery_all(self):
        assert metrics.accuracy_at_k(self.scores, self.paired, 2).tolist() == [0, 1]
        assert metrics.accuracy_at_k(self.scores, self.paired, 3).tolist() == [1, 1]

    def test_only_photos_of_the_querys_class_compete_in_the_gallery_class(self):
        classes = (np.array(["bat", "bat"]), self.photo_classes)
        assert metrics.accuracy_at_k(self.scores, self.paired, 1, "class", *classes).tolist() == [0, 1]
        assert metrics.accuracy_at_k(self.scores, self.paired, 2, "class", *classes).tolist() == [1, 1]
        assert metrics.accuracy_at_k(self.scores[1], self.paired[1], 1, "class", "bat", self.photo_classes) == 1

    def test_a_rival_with_the_same_score_stands_before_the_paired_photo(self):
        assert metrics.accuracy_at_k(self.scores[1], self.paired[1], 1) == 0

    def test_a_copy_of_the_paired_photo_is_no_rival(self):
        assert metrics.accuracy_at_k([0.5, 0.5, 0.1], [1, 1, 0], 1) == 1

    def test_the_paired_photo_of_another_class_is_not_in_the_gallery(self):
        classes = (np.array(["cow", "cow"]), self.photo_classes)
        assert np.isnan(metrics.accuracy_at_k(self.scores, self.paired, 1, "class", *classes)).all()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("class",), "query_classes"),
            (("class", "bat"), "gallery_classes"),
            (("none",), "'all'"),
            (("class", ["bat"] * 3, ["bat"] * 4), "query_classes"),
            (("class", "bat", ["bat"] * 3), "gallery_classes"),
            (("class", [0, 1], photo_classes), "use one kind"),
        ],
    )
    def test_classes_that_do_not_fit_are_refused(self, arguments, message):
        with pytest.raises(ValueError, match=message) as error:
            metrics.accuracy_at_k(self.scores, self.paired, 1, *arguments)
        assert one_sentence(error)


def one_sentence(error):
    text = str(error.value)
    return text.endswith(".") and "\n" not in text and ". " not in text


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.average_precision([]), "empty"),
        (lambda: metrics.average_precision(np.zeros((3, 0))), "empty"),
        (lambda: metrics.average_precision_at_k([], 0, 3), "empty"),
        (lambda: metrics.average_precision([0, 1, 2]), "0 and 1"),
        (lambda: metrics.average_precision([0, 1, np.nan]), "0 and 1"),
        (lambda: metrics.average_precision(np.zeros((2, 2, 2))), "shape"),
        (lambda: metrics.average_precision_at_k([1, 0], 1, 0), "from 1"),
        (lambda: metrics.average_precision_at_k([1, 0], 1, 1.5), "from 1"),
        (lambda: metrics.average_precision_at_k([1, 0], 1, None), "from 1"),
        (lambda: metrics.average_precision_at_k([1, 0], 1, True), "from 1"),
        (lambda: metrics.average_precision_at_k([1, 0], 1, 1, "mean"), "'found'"),
        (lambda: metrics.average_precision_at_k([1, 1], 1, 2), "n_relevant is 1"),
        (lambda: metrics.average_precision_at_k([1, 1], 2.0, 2), "whole"),
        (lambda: metrics.average_precision_at_k([[1, 1]], [2, 2], 2), "1 items"),
        (lambda: metrics.average_precision_at_k([1, 0], 2, 3), "fewer than k"),
        (lambda: metrics.precision_at_k([1, 0], 2, 3), "fewer than k"),
        (lambda: metrics.precision_at_k([1, 0], 1, 1, "min"), "'gallery'"),
        (lambda: metrics.rank([1.0, np.nan], [1, 0]), "NaN"),
        (lambda: metrics.rank(["a", "b"], [1, 0]), "numbers"),
        (lambda: metrics.rank([1.0, 2.0], [1, 0, 0]), "shape"),
        (lambda: metrics.rank([], []), "empty"),
        (lambda: metrics.accuracy_at_k([1.0, 2.0], [1, 0], 0), "from 1"),
        (lambda: metrics.average_precision_of_scores([1.0], [1], ties="best"), "'shared'"),
        (lambda: metrics.AP(denominator="k"), "no k"),
    ],
)
def test_what_cannot_be_ranked_is_refused_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert one_sentence(error)


def test_names_are_those_of_the_papers_and_definitions_tell_the_variants_apart():
    measures = [metrics.AP(), metrics.AP(200), metrics.P(200), metrics.Acc(1)]
    assert [measure.name for measure in measures] == ["mAP@all", "mAP@200", "P@200", "Acc@1"]
    variants = [metrics.AP(200, name, flag) for name in DENOMINATORS for flag in (False, True)]
    variants += [metrics.P(200, name) for name in ("k", "gallery", "relevant")]
    assert len({variant.definition for variant in variants}) == len(variants)
