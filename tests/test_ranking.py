"""AP, P and Acc of rankings: against loops over items, scikit-learn and torchmetrics, and what is refused."""

import sys

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torchmetrics.functional.retrieval import retrieval_average_precision, retrieval_hit_rate, retrieval_precision

from sfhelpers import metrics
from tests.backbone_fixtures import one_sentence

# Relevance, k, then by hand AP@k over k, min, found, relevant and VOC-min, P@k, ZSE's P@k, AP@all, VOC@all.
WORKED_OUT = [
    ("101101", 3, (0.5556, 0.5556, 0.8333, 0.4167, 0.5556), 0.6667, 0.6667, 0.7708, 0.7917),
    ("01100", 3, (0.3889, 0.5833, 0.5833, 0.5833, 0.6667), 0.6667, 0.5000, 0.5833, 0.6667),
    ("00010", 3, (0, 0, 0, 0, 0), 0, 0, 0.2500, 0.2500),
    ("01001101", 6, (0.2333, 0.3500, 0.4667, 0.3500, 0.3750), 0.5000, 0.2500, 0.4750, 0.5000),
]
DENOMINATORS = ("k", "min", "found", "relevant")
CUTS = ("k", "gallery", "relevant")


def rankings_with_ties():
    """Scores of few values, relevance of every share, from 1 to 30 items each, at least one relevant."""
    generator = np.random.default_rng(5)
    for _ in range(1000):
        size = int(generator.integers(1, 31))
        relevant = generator.random(size) < generator.random()
        relevant[generator.integers(size)] = True
        yield generator.integers(1, generator.integers(2, 12), size=size).astype(float), relevant


def slow(ranking, n_relevant, k, interpolated=False):
    """AP@k over each denominator and P@k in each variant, counted item by item."""
    precisions = [sum(ranking[:i]) / i for i in range(1, min(k, len(ranking)) + 1)]
    if interpolated:
        precisions = [max(precisions[i:]) for i in range(len(precisions))]
    total = sum(p for p, r in zip(precisions, ranking, strict=False) if r)
    found = sum(ranking[:k])
    over = {"k": k, "min": min(k, n_relevant), "found": max(found, 1), "relevant": n_relevant}
    average = {name: total / divisor for name, divisor in over.items()}
    cut = min(k, n_relevant)
    return average, {"k": found / k, "gallery": found / min(k, len(ranking)), "relevant": sum(ranking[:cut]) / cut}


@pytest.mark.parametrize(("text", "k", "at_k", "p", "p_zse", "ap", "voc"), WORKED_OUT)
def test_values_worked_out_by_hand(text, k, at_k, p, p_zse, ap, voc):
    relevance, total = [int(item) for item in text], text.count("1")
    ours = [metrics.average_precision_at_k(relevance, total, k, name) for name in DENOMINATORS]
    ours += [metrics.average_precision_at_k(relevance, total, k, "min", interpolated=True)]
    ours += [metrics.precision_at_k(relevance, total, k), metrics.precision_at_k(relevance, total, k, "relevant")]
    ours += [metrics.average_precision(relevance), metrics.average_precision(relevance, interpolated=True)]
    assert ours == pytest.approx((*at_k, p, p_zse, ap, voc), abs=5e-5)


class TorchInFloat64:
    """torch for one module of torchmetrics, whose retrieval AP is in float32 whatever it is given."""

    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


def test_a_thousand_rankings_with_ties_agree_with_a_loop_over_items_scikit_learn_and_torchmetrics(monkeypatch):
    monkeypatch.setattr(sys.modules[retrieval_average_precision.__module__], "torch", TorchInFloat64())
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    for scores, relevant in rankings_with_ties():
        ranking = [r for _, r in sorted(zip(-scores, relevant, strict=True))]  # among equals the irrelevant first
        assert metrics.rank(scores, relevant).tolist() == ranking
        total, size = sum(ranking), len(ranking)
        for k in (1, 3, size, size + 4):
            average, precision = slow(ranking, total, k)
            envelope, _ = slow(ranking, total, k, interpolated=True)
            for name in DENOMINATORS:
                ours = [metrics.average_precision_at_k(ranking, total, k, name, flag) for flag in (False, True)]
                assert ours == pytest.approx([average[name], envelope[name]], abs=1e-9)
            for name, value in precision.items():
                assert metrics.precision_at_k(ranking, total, k, name) == pytest.approx(value, abs=1e-9)
            assert metrics.accuracy_at_k(scores, relevant, k) == float(any(ranking[:k]))
            if k <= size:
                places, right = torch.arange(size, 0, -1.0), torch.tensor(ranking)
                found = retrieval_average_precision(places, right, k).item()
                assert average["found"] == pytest.approx(found, abs=1e-9)
                assert precision["k"] == pytest.approx(retrieval_precision(places, right, k).item(), abs=1e-9)
                assert retrieval_hit_rate(places, right, k).item() == float(any(ranking[:k]))
        ours = metrics.average_precision(ranking)
        assert ours == pytest.approx(average_precision_score(ranking, -np.arange(size)), abs=1e-9)
        # scikit-learn's rule for ties is the milder one: equal scores share the precision after the last of them.
        assert ours <= average_precision_score(relevant, scores) + 1e-12


def test_a_batch_is_its_rankings_one_by_one_as_arrays_or_tensors():
    generator = np.random.default_rng(6)
    relevance = np.maximum(generator.random((50, 12)) < 0.4, np.eye(1, 12, dtype=bool))
    total = relevance.sum(1) + generator.integers(0, 5, size=50)
    variants = [(metrics.average_precision_at_k, name) for name in DENOMINATORS]
    for function, name in (*variants, *((metrics.precision_at_k, name) for name in CUTS)):
        batch = function(relevance, total, 5, name)
        assert batch.dtype == np.float64 and batch.shape == (50,)
        one = [function(relevance[i], int(total[i]), 5, name) for i in range(50)]
        assert all(isinstance(value, float) for value in one) and batch.tolist() == one
        np.testing.assert_array_equal(batch, function(torch.from_numpy(relevance), torch.from_numpy(total), 5, name))
        np.testing.assert_array_equal(function(relevance, 12, 5, name), function(relevance, [12] * 50, 5, name))
    scores = generator.integers(0, 4, size=(50, 12))
    np.testing.assert_array_equal(metrics.rank(scores, relevance), list(map(metrics.rank, scores, relevance)))


def test_a_query_without_a_relevant_item_has_no_value_and_no_queries_give_none():
    relevance = np.array([[1, 0, 0], [0, 0, 0]])
    found = [metrics.average_precision(relevance), metrics.accuracy_at_k([[3.0, 2, 1]] * 2, relevance, 1)]
    found += [metrics.average_precision_at_k(relevance, [1, 0], 2, name) for name in ("min", "found", "relevant")]
    found += [metrics.precision_at_k(relevance, [1, 0], 1, name) for name in CUTS]
    assert all(values[0] == 1 and np.isnan(values[1]) for values in found)
    none = np.zeros((0, 5), dtype=bool)
    assert metrics.average_precision_at_k(none, np.zeros(0, dtype=int), 3, interpolated=True).shape == (0,)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (metrics.average_precision, (np.zeros((3, 0)),), "empty"),
        (metrics.average_precision, ([0, 1, np.nan],), "0 and 1"),
        (metrics.average_precision, (np.zeros((2, 2, 2)),), "shape"),
        *((metrics.average_precision_at_k, ([1, 0], 1, k), "from 1") for k in (0, None, True)),
        (metrics.average_precision_at_k, ([1, 0], 1, 1, "mean"), "'found'"),
        (metrics.average_precision_at_k, ([[0, 1], [1, 1]], 1, 2), "n_relevant is 1 at query 1, whose ranking shows 2"),
        (metrics.average_precision_at_k, ([1, 1], 2.0, 2), "whole"),
        (metrics.average_precision_at_k, ([[1, 1]], [2, 2], 2), "n_relevant has shape"),
        (metrics.precision_at_k, ([1, 0], 2, 3), "fewer than k"),
        (metrics.precision_at_k, ([1, 0], 1, 1, "min"), "'gallery'"),
        (metrics.rank, ([1.0, np.nan], [1, 0]), "NaN"),
        (metrics.rank, (["a", "b"], [1, 0]), "numbers"),
        (metrics.rank, ([1.0, 2.0], [1, 0, 0]), "shape"),
        (metrics.rank, ([], []), "empty"),
        (metrics.accuracy_at_k, ([1.0, 2.0], [1, 0], 0), "from 1"),
        (metrics.AP, (None, "k"), "no k"),
    ],
)
def test_what_cannot_be_ranked_is_refused_in_one_sentence(function, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        function(*arguments)
    one_sentence(error)


def test_names_are_those_of_the_papers_and_definitions_tell_the_variants_apart():
    measures = [metrics.AP(), metrics.AP(200), metrics.P(200), metrics.Acc(1)]
    assert [measure.name for measure in measures] == ["mAP@all", "mAP@200", "P@200", "Acc@1"]
    variants = [metrics.AP(200, name, flag) for name in DENOMINATORS for flag in (False, True)]
    variants += [*(metrics.P(200, name) for name in CUTS), metrics.Acc(200)]
    assert len({variant.definition for variant in variants}) == len(variants)
