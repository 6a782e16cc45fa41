"""AP, P and Acc from embeddings: as loops over whole rankings and other packages give them."""

from functools import partial
from itertools import accumulate

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score
from torchmetrics.functional.retrieval import retrieval_average_precision

from sfhelpers import metrics
from sfhelpers.metrics import AP, Acc, P, evaluate_retrieval, retrieval
from tests.backbone_fixtures import refused
from tools.bench.measuring import peak_megabytes

# Relevance, k, then by hand AP@k over k, min, found, relevant and VOC-min, P@k, ZSE's P@k, AP@all, VOC@all.
WORKED_OUT = [
    ("101101", 3, (0.5556, 0.5556, 0.8333, 0.4167, 0.5556, 0.6667, 0.6667, 0.7708, 0.7917)),
    ("01100", 3, (0.3889, 0.5833, 0.5833, 0.5833, 0.6667, 0.6667, 0.5000, 0.5833, 0.6667)),
    ("00010", 3, (0, 0, 0, 0, 0, 0, 0, 0.2500, 0.2500)),
    ("01001101", 6, (0.2333, 0.3500, 0.4667, 0.3500, 0.3750, 0.5000, 0.2500, 0.4750, 0.5000)),
]
DENOMINATORS = ("k", "min", "found", "relevant")
CUTS = ("k", "gallery", "relevant")
KS = (1, 3, 7, 500)
MEASURES = (
    *(AP(), AP(interpolated=True), *map(Acc, KS)),
    *(AP(k, name, flag) for k in KS for name in DENOMINATORS for flag in (False, True)),
    *(P(k, name) for k in KS for name in CUTS),
)


def in_blocks_of(megabytes, *problem):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "MEGABYTES", megabytes)
        return evaluate_retrieval(*problem)


def circle(places):
    """(N, 2) embeddings whose cosine with (1, 0) falls with their places, from 0 to 100."""
    return np.stack([np.cos(places / 40), np.sin(places / 40)], axis=1)


def rankings_with_ties():
    """Scores of few values, relevance of every share, from 1 to 30 items each, at least one relevant."""
    generator = np.random.default_rng(5)
    for _ in range(1000):
        size = int(generator.integers(1, 31))
        relevant = generator.random(size) < generator.random()
        relevant[generator.integers(size)] = True
        yield generator.integers(1, generator.integers(2, 12), size=size).astype(float), relevant


def ranked(scores, relevant):
    """Relevance, best first, among equals the irrelevant first."""
    return [int(right) for _, right in sorted(zip(-scores, relevant, strict=True))]


def by_loop(measure, ranking):
    """The value of a measure, counted item by item."""
    k, total = measure.k or len(ranking), sum(ranking)
    if isinstance(measure, Acc):
        return any(ranking[:k])
    if isinstance(measure, P):
        cut = {"k": k, "gallery": min(k, len(ranking)), "relevant": min(k, total)}[measure.denominator]
        return sum(ranking[:cut]) / cut
    precisions = [found / i for i, found in enumerate(accumulate(ranking[:k]), 1)]
    if measure.interpolated:
        precisions = [*accumulate(precisions[::-1], max)][::-1]
    over = {"k": k, "min": min(k, total), "found": max(sum(ranking[:k]), 1), "relevant": total}
    summed = sum(p for p, right in zip(precisions, ranking, strict=False) if right)
    return summed / over[measure.denominator if measure.k else "relevant"]


def test_rankings_at_hand_are_measured_alone_in_a_batch_and_as_tensors_and_what_does_not_fit_is_refused():
    relevance = np.random.default_rng(6).random((60, 12)) < 0.4
    relevance[0] = False
    total = relevance.sum(1)
    for k in (1, 5, 12, 20):
        asked = {AP(k, n, flag): partial(metrics.average_precision_at_k, k=k, denominator=n, interpolated=flag)
                 for n in DENOMINATORS for flag in (False, True)}  # fmt: skip
        asked |= {P(k, name): partial(metrics.precision_at_k, k=k, denominator=name) for name in CUTS}
        for measure, ask in asked.items():
            batch = ask(relevance, total)
            assert np.isnan(batch[0]) and isinstance(ask(relevance[1], total[1]), float)
            assert batch[1:].tolist() == pytest.approx(
                [by_loop(measure, row.astype(int).tolist()) for row in relevance[1:]]
            )
            assert np.array_equal(batch, ask(torch.tensor(relevance), torch.tensor(total)), equal_nan=True)
    assert metrics.average_precision([0, 1, 1]) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert [metrics.accuracy_at_k([2.0, 2, 1], [1, 0, 0], k) for k in (1, 2)] == [0, 1]  # a tie counts against it
    for wrong, said in ((([1, 0], 1, 0), "from 1"), (([1, 1], 1, 2), "count anew"), (([1, 0], 2, 3), "fewer than k")):
        with refused(said):
            metrics.average_precision_at_k(*wrong)


@pytest.mark.parametrize(("text", "k", "values"), WORKED_OUT)
def test_values_worked_out_by_hand(text, k, values):
    measures = [*(AP(k, name) for name in DENOMINATORS), AP(k, interpolated=True), P(k), P(k, "relevant"), AP()]
    measures.append(AP(interpolated=True))
    found = evaluate_retrieval(np.eye(1, 2), circle(np.arange(len(text))), ["1"], list(text), measures)
    assert [found[measure].item() for measure in measures] == pytest.approx(values, abs=5e-5)


def test_a_thousand_rankings_with_ties_agree_with_a_loop_over_items_scikit_learn_and_torchmetrics():
    scores, relevant = zip(*rankings_with_ties(), strict=True)
    query, galleries = np.arange(1000), np.repeat(np.arange(1000), [*map(len, scores)])
    sides = np.tile([1.0, 0.0], (1000, 1)), circle(12 - np.concatenate(scores))
    found = in_blocks_of(1, *sides, query < 1000, np.concatenate(relevant), MEASURES, (query, galleries))
    for i, ranking in enumerate(map(ranked, scores, relevant)):
        values = {measure: column[i] for measure, column in found.items()}
        expected = [by_loop(measure, ranking) for measure in MEASURES]
        np.testing.assert_allclose(list(values.values()), expected, atol=1e-9)
        places, right = torch.arange(len(ranking), 0, -1.0), torch.tensor(ranking)
        for k in (k for k in KS if k <= len(ranking)):
            theirs = retrieval_average_precision(places, right, k).item()
            assert values[AP(k, "found")] == pytest.approx(theirs, abs=1e-6)  # theirs is in float32
        assert values[AP()] == pytest.approx(average_precision_score(ranking, places), abs=1e-9)
        # scikit-learn's rule for ties is the milder one: equal scores share the precision after the last of them.
        assert values[AP()] <= average_precision_score(relevant[i], scores[i]) + 1e-12


def test_names_are_those_of_the_papers_and_definitions_tell_the_variants_apart():
    assert [measure.name for measure in (AP(), AP(200), P(200), Acc(1))] == ["mAP@all", "mAP@200", "P@200", "Acc@1"]
    assert len({measure.definition for measure in MEASURES}) == len(MEASURES)


def signs(number, seed, dimensions=16):
    """Embeddings of +1 and -1: their cosines are few, so that most tie, and exact in any order of adding."""
    return np.random.default_rng(seed).choice([-1.0, 1.0], size=(number, dimensions)).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("dimensions", "scale"), [(16, 1.0), (48, 2.0**-100), (48, 3.0), (48, 2.0**100)])
@pytest.mark.parametrize("megabytes", [1e-6, 0.03, 64])
def test_codes_of_any_length_tie_in_blocks_as_their_whole_products_do(megabytes, dimensions, scale, dtype):
    """At 48 dimensions the length of a code is no power of two: divided first, its values would be rounded."""
    queries, photos, generator = signs(43, 1, dimensions), signs(131, 2, dimensions), np.random.default_rng(7)
    kinds, labels = (generator.geometric(0.5, size).clip(max=5) for size in (43, 131))  # classes of any size
    found = in_blocks_of(megabytes, dtype(scale) * queries, dtype(scale) * photos, kinds, labels, MEASURES)
    for i, ranking in enumerate(map(ranked, queries @ photos.T, kinds[:, None] == labels)):
        expected = [by_loop(measure, ranking) for measure in MEASURES]
        np.testing.assert_allclose([found[measure][i] for measure in MEASURES], expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_are_scikit_learns_and_do_not_depend_on_the_blocks_the_threads_or_the_order_of_the_gallery(dtype):
    generator = torch.Generator().manual_seed(0)
    queries, photos = (torch.randn(size, 33, generator=generator, dtype=dtype) for size in (70, 200))
    query_labels, photo_labels = torch.arange(70) % 6, torch.arange(200) % 6
    whole = evaluate_retrieval(queries, photos, query_labels, photo_labels, MEASURES)
    scores = (queries.double() @ F.normalize(photos.double(), dim=1).T).numpy()
    theirs = map(average_precision_score, query_labels[:, None] == photo_labels, scores)
    np.testing.assert_allclose(whole[AP()], list(theirs), atol=1e-9)
    shuffled, before = torch.randperm(200, generator=generator), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        again = in_blocks_of(1e-6, queries, photos[shuffled], query_labels, photo_labels[shuffled], MEASURES)
    finally:
        torch.set_num_threads(before)
    alone = evaluate_retrieval(queries[:1], photos, query_labels[:1], photo_labels, MEASURES)
    np.testing.assert_equal([again, alone], [whole, {measure: values[:1] for measure, values in whole.items()}])


def test_an_item_of_several_labels_is_relevant_for_each_and_in_each_of_its_classes():
    queries, photos, dice = signs(40, 1), signs(90, 2), np.random.default_rng(3)
    asked, shown = dice.integers(6, size=40), dice.integers(6, size=(90, 3))
    kind, kinds = dice.integers(2, size=40), dice.integers(2, size=(90, 2))
    right, there = (
        np.array([[q in own for own in has] for q in wants]) for wants, has in ((asked, shown), (kind, kinds))
    )
    whole = in_blocks_of(1e-6, queries, photos, asked, shown, MEASURES)
    parted = in_blocks_of(1e-6, queries, photos, asked, shown, MEASURES, (kind, kinds))
    for i, scores in enumerate(queries @ photos.T):
        expected = [by_loop(measure, ranked(scores, right[i])) for measure in MEASURES]
        np.testing.assert_allclose([whole[measure][i] for measure in MEASURES], expected, atol=1e-12)
        own = there[i]
        expected = [by_loop(measure, ranked(scores[own], right[i][own])) for measure in MEASURES]
        np.testing.assert_allclose([parted[measure][i] for measure in MEASURES], expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("photos", [5, 127, 750])
@pytest.mark.parametrize("queries", [1, 17])
def test_copies_of_a_photo_under_another_label_stand_before_it(queries, photos, dtype):
    """These are sizes at which products of equal vectors differ, by MKL or by some kernel of OpenBLAS."""
    generator, wanted = torch.Generator().manual_seed(1), torch.arange(queries) % photos
    gallery = torch.randn(photos, 77, generator=generator, dtype=dtype)
    sketches = gallery[wanted] + 0.01 * torch.randn(queries, 77, generator=generator)
    gallery[:, 0], sketches[:, 0] = 0.0, -0.0
    copies = gallery.flip(0)
    copies[:, 0] = -0.0
    labels, twice = torch.cat([torch.arange(photos), torch.full((photos,), -1)]), torch.cat([gallery, copies])
    for order in (torch.arange(2 * photos), torch.arange(2 * photos).flip(0)):
        found = evaluate_retrieval(sketches, twice[order], wanted, labels[order], (Acc(1), Acc(2)))
        assert [found[Acc(k)].tolist() for k in (1, 2)] == [[0] * queries, [1] * queries]


def test_copies_of_the_paired_photo_are_no_rivals_and_vectors_of_zeros_are_like_nothing():
    photos = np.random.default_rng(2).standard_normal((30, 8)).astype(np.float32)
    found = evaluate_retrieval(photos, np.tile(photos, (2, 1)), np.arange(30), np.arange(60) % 30, (Acc(1), AP()))
    assert all((values == 1).all() for values in found.values())
    photos = np.array([[1, 0], [0, 1], [0, 0], [-1, 0]], dtype=np.float32)
    queries = np.array([[0, 0], [5, 0], [1e-3, 0]], dtype=np.float32)
    assert evaluate_retrieval(queries, photos, [0, 2, 0], np.arange(4))[AP()].tolist() == [1 / 4, 1 / 3, 1]


def test_large_labels_of_two_kinds_of_integers_stay_apart_and_no_queries_give_no_values():
    labels = np.array([2**60, 2**60 + 1]), np.array([2**60 + 1, 2**60], dtype=np.uint64)
    assert evaluate_retrieval(np.eye(2), np.eye(2), *labels)[AP()].tolist() == [0.5, 0.5]
    values = evaluate_retrieval(np.zeros((0, 4)), np.ones((3, 4)), np.zeros(0, dtype=int), [1, 2, 3])
    assert all(column.shape == (0,) for column in values.values())


def test_half_precision_integers_and_read_only_arrays_are_taken_and_left_as_they_were():
    photos, labels = signs(40, 5), np.arange(40) % 3
    expected, frozen = evaluate_retrieval(photos, photos, labels, labels)[AP()], 3 * photos
    frozen.flags.writeable = False
    tensor = torch.from_numpy(3 * photos).requires_grad_()
    for given in (frozen, tensor, torch.from_numpy(photos).bfloat16(), photos.astype(np.int64), photos.tolist()):
        np.testing.assert_array_equal(evaluate_retrieval(given, given, labels, labels)[AP()], expected)
    assert torch.equal(tensor, torch.from_numpy(3 * photos))


def test_memory_follows_the_block_and_not_the_whole_matrix():
    queries, photos = (np.random.default_rng(seed).standard_normal((8000, 8), dtype=np.float32) for seed in (0, 1))
    problem = queries, photos, np.arange(8000) % 40, np.arange(8000) % 40
    grown = [peak_megabytes(lambda size=size: in_blocks_of(size, *problem), 0.001)[2] for size in (16, 2000)]
    assert grown[0] < 80 and grown[1] > 200  # the whole matrix has 256 MB, and the meter sees it


ONE, TWO, EMPTY = (np.ones(shape, dtype=np.float32) for shape in ((1, 2), (2, 2), (1, 0)))


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        *((P, (k,), "k is .*: give a whole number from 1") for k in (0, None, True)),
        *((measure, (0,), "from 1") for measure in (AP, Acc)),
        (AP, (1, "mean"), "choose 'k' or 'min' or 'found' or 'relevant'"),
        (AP, (None, "k"), "no k"),
        (P, (1, "min"), "'gallery'"),
        (evaluate_retrieval, (ONE, np.zeros((0, 2)), ["cow"], []), "empty"),
        (evaluate_retrieval, (TWO, TWO, ["bat", "cow"], ["bat", "bat"]), "query 1 with label cow"),
        (evaluate_retrieval, (ONE, np.ones((2, 3)), ["cow"], ["cow", "bat"]), "of one head"),
        (evaluate_retrieval, (ONE[0], TWO, ["cow"], ["cow", "bat"]), "shape"),
        (evaluate_retrieval, (EMPTY, EMPTY, ["cow"], ["cow", "bat"]), "shape"),
        (evaluate_retrieval, (ONE, TWO, ["cow"], ["cow"]), "gallery labels has shape"),
        (evaluate_retrieval, (ONE, TWO, ["1"], [1, 2]), "one kind"),
        (evaluate_retrieval, (ONE, TWO, [1.0], [1.0, np.nan]), "labels hold NaN"),
        (evaluate_retrieval, (ONE * np.nan, TWO, ["cow"], ["cow", "bat"]), "queries hold NaN.*row 0"),
        (evaluate_retrieval, (ONE, TWO * [[1], [np.inf]], ["cow"], ["cow", "bat"]), "gallery hold NaN.*row 1"),
        (evaluate_retrieval, (ONE, TWO, [0], [0, 1], (), (["cow"], ["cow"])), "gallery classes has shape"),
        (evaluate_retrieval, (ONE, TWO, [0], [0, 1], (), (["cow"], ["bat", "cow"])), "no relevant item"),
    ],
)
def test_what_cannot_be_ranked_is_refused_in_one_sentence(function, arguments, message):
    with refused(message):
        function(*arguments)
