"""Retrieval from embeddings: as whole rankings give it, for any blocks and order, with ties against the query."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from sfhelpers.metrics import AP, Acc, P, evaluate_retrieval, rank, retrieval
from tests.backbone_fixtures import one_sentence
from tools.bench import peak_megabytes

MEASURES = (
    *(AP(), AP(interpolated=True), Acc(1), Acc(5)),
    *(AP(7, name, flag) for name in ("k", "min", "found", "relevant") for flag in (False, True)),
    *(P(k, name) for k in (7, 500) for name in ("k", "gallery", "relevant")),
)


def signs(number, seed, dimensions=16):
    """Embeddings of +1 and -1: their cosines are few, so that most tie, and exact in any order of adding."""
    return np.random.default_rng(seed).choice([-1.0, 1.0], size=(number, dimensions)).astype(np.float32)


def labelled(queries=83, photos=131):
    """Labels of classes of very different size, each in the gallery."""
    generator = np.random.default_rng(7)
    names = np.array(["bat", "cow", "door", "pear", "saw"])
    drawn = [names[generator.choice(5, size=size, p=[0.5, 0.25, 0.15, 0.07, 0.03])] for size in (queries, photos)]
    drawn[1][:5] = names
    return drawn


def in_blocks_of(megabytes, *problem):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "MEGABYTES", megabytes)
        return evaluate_retrieval(*problem)


def assert_as_one_by_one(found, queries, gallery, query_labels, gallery_labels, competing=None):
    """Every measure from the ranking of the whole gallery, or of the competing part of it, query by query."""
    for i, (query, label) in enumerate(zip(queries, query_labels, strict=True)):
        among = slice(None) if competing is None else competing[i]
        ranking = rank(gallery[among] @ query, gallery_labels[among] == label)
        expected = [measure(np.flatnonzero(ranking) + 1.0, ranking.sum(), len(ranking)) for measure in MEASURES]
        np.testing.assert_allclose([found[measure][i] for measure in MEASURES], expected, atol=1e-12)


@pytest.mark.parametrize("megabytes", [1e-6, 0.03])
def test_blocks_give_what_whole_rankings_give_also_where_most_items_tie_in_the_gallery_or_a_class_of_it(megabytes):
    sides, classes = (signs(83, 1), signs(131, 2)), labelled()
    assert_as_one_by_one(in_blocks_of(megabytes, *sides, *classes, MEASURES), *sides, *classes)
    generator, instances = np.random.default_rng(0), np.arange(131) // 2  # in twos, the second may be of another class
    paired = np.array([generator.choice(np.flatnonzero(classes[1] == name)) for name in classes[0]])
    ours = in_blocks_of(megabytes, *sides, instances[paired], instances, MEASURES, *classes)
    assert_as_one_by_one(ours, *sides, instances[paired], instances, classes[0][:, None] == classes[1])


def test_random_embeddings_in_float64_agree_with_scikit_learn():
    generator = np.random.default_rng(8)
    queries, photos = generator.standard_normal((60, 24)), generator.standard_normal((400, 24))
    query_labels, photo_labels = generator.integers(4, size=60), np.arange(400) % 4
    scores = queries @ (photos / np.linalg.norm(photos, axis=1, keepdims=True)).T
    theirs = [
        average_precision_score(photo_labels == label, row) for label, row in zip(query_labels, scores, strict=True)
    ]
    ours = evaluate_retrieval(queries, photos, query_labels, photo_labels)[AP()]
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_values_do_not_depend_on_the_blocks_the_threads_or_the_order_of_the_gallery():
    generator = torch.Generator().manual_seed(0)
    queries, photos = torch.randn(70, 33, generator=generator), torch.randn(200, 33, generator=generator)
    query_labels, photo_labels = torch.arange(70) % 6, torch.arange(200) % 6
    whole = evaluate_retrieval(queries, photos, query_labels, photo_labels, MEASURES)
    shuffled, before = torch.randperm(200, generator=generator), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        again = in_blocks_of(1e-6, queries, photos[shuffled], query_labels, photo_labels[shuffled], MEASURES)
    finally:
        torch.set_num_threads(before)
    alone = evaluate_retrieval(queries[:1], photos, query_labels[:1], photo_labels, MEASURES)
    for measure in MEASURES:
        np.testing.assert_array_equal(whole[measure], again[measure])
        np.testing.assert_array_equal(whole[measure][:1], alone[measure])


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [2.0**-100, 3.0, 2.0**100])
def test_codes_of_any_length_tie_as_their_whole_products_do(dtype, scale):
    """At 48 dimensions the length of a code is no power of two: divided first, its values would be rounded."""
    queries, photos, labels = signs(30, 9, 48), signs(400, 10, 48), (np.arange(30) % 4, np.arange(400) % 4)
    ours = evaluate_retrieval(dtype(scale) * queries, dtype(scale) * photos, *labels, MEASURES)
    assert_as_one_by_one(ours, queries, photos, *labels)


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


ONE, TWO = np.ones((1, 2), dtype=np.float32), np.ones((2, 2), dtype=np.float32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ONE, np.zeros((0, 2)), ["cow"], []), "empty"),
        ((TWO, TWO, ["bat", "cow"], ["bat", "bat"]), "query 1 with label cow"),
        ((ONE, np.ones((2, 3)), ["cow"], ["cow", "bat"]), "of one head"),
        ((ONE[0], TWO, ["cow"], ["cow", "bat"]), "shape"),
        ((np.zeros((1, 0)), np.zeros((2, 0)), ["cow"], ["cow", "bat"]), "shape"),
        ((ONE, TWO, ["cow"], ["cow"]), "gallery labels has shape"),
        ((ONE, TWO, ["1"], [1, 2]), "one kind"),
        ((ONE, TWO, [1.0], [1.0, np.nan]), "labels hold NaN"),
        ((ONE * np.nan, TWO, ["cow"], ["cow", "bat"]), "queries hold NaN.*row 0"),
        ((ONE, TWO * [[1], [np.inf]], ["cow"], ["cow", "bat"]), "gallery hold NaN.*row 1"),
        ((ONE, TWO, [0], [0, 1], (), ["cow"]), "one side"),
        ((ONE, TWO, [0], [0, 1], (), ["cow"], ["cow"]), "gallery classes has shape"),
        ((ONE, TWO, [0], [0, 1], (), ["cow"], ["bat", "cow"]), "no relevant item"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        evaluate_retrieval(*arguments)
    one_sentence(error)
