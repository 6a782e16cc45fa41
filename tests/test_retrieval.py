"""The triplet loss, its batches, and a retriever that learns what its level asks for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sfhelpers.datasets import Record
from sfhelpers.tasks import retrieval
from sfhelpers.tasks.prepared import PreparedPairs
from sfhelpers.tasks.retrieval import GROUP, SketchRetriever, retrieval_loss, train_retriever, triplets
from tests.backbone_fixtures import one_sentence, small

CATEGORIES, INSTANCES = 6, 5


class Linear(torch.nn.Module):
    """An extractor for made-up vectors; it counts the images that it is asked for."""

    def __init__(self, dim=12, out=6):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(dim, out, bias=False)
        self.statistics, self.computed = None, 0

    def pooled(self, prepared):
        self.computed += len(prepared["x"])
        return self.layer(prepared["x"])

    def fit_statistics(self, prepared):
        self.statistics = prepared["x"]


def made_up(categories=CATEGORIES, instances=INSTANCES, seed=0, first=0):
    """Pairs whose vectors hold their category in some dimensions, their instance in others, and their domain's mark."""
    dice = torch.Generator().manual_seed(seed)
    kind = torch.randn(categories, 4, generator=dice).repeat_interleave(instances, 0)
    own = torch.randn(categories * instances, 4, generator=dice)

    def side(mark):
        noise = 0.1 * torch.randn(len(own), 12, generator=dice)
        return {"x": torch.cat([kind, own, torch.full((len(own), 4), mark)], dim=1) + noise}

    names = [(f"c{first + c}", f"i{i}") for c in range(categories) for i in range(instances)]
    records = [[Record(Path(f"{d}{c}{i}"), d, c, i) for c, i in names] for d in ("sketch", "photo")]
    positions = torch.arange(len(own)).repeat(2, 1).T
    return PreparedPairs(side(2.0), side(-2.0), *records, pairs=positions, masks=None)


def train(model, level_data=None, epochs=6, **options):
    settings = {"learning_rate": 0.02, "batch_size": 16, "seed": 0} | options
    data, validation = level_data or (made_up(), made_up(seed=1, first=50))
    return train_retriever(model, data, validation, epochs, **settings)


def test_the_loss_is_the_papers_equation_over_all_triplets_of_the_batch():
    dice = torch.Generator().manual_seed(0)
    sketches, photos = (F.normalize(torch.randn(n, 5, generator=dice), dim=1) for n in (4, 6))
    right = torch.rand(4, 6, generator=dice) < 0.4
    expected = [
        max(0.0, 0.3 + float(1 - sketches[s] @ photos[p]) - float(1 - sketches[s] @ photos[n]))
        for s in range(4) for p in range(6) for n in range(6) if right[s, p] and not right[s, n]
    ]  # fmt: skip
    assert triplets(sketches, photos, right, ~right, 0.3).item() == pytest.approx(np.mean(expected), abs=1e-6)


def test_a_pair_that_is_closer_than_the_negative_by_the_margin_costs_nothing():
    sketch, photos = torch.tensor([[1.0, 0]]), torch.tensor([[1.0, 0], [0, 1]])
    right = torch.tensor([[True, False]])
    assert triplets(sketch, photos, right, ~right, 0.9) == 0
    assert triplets(sketch, photos, ~right, right, 0.9).item() == pytest.approx(1.9)  # the wrong way round


def test_a_batch_without_a_negative_costs_nothing_and_can_be_stepped():
    vectors = torch.eye(2, requires_grad=True)
    loss = triplets(vectors, vectors, torch.ones(2, 2).bool(), torch.zeros(2, 2).bool(), 0.3)
    loss.backward()
    assert loss == 0 and not vectors.grad.any()
    three_groups = made_up(3, instances=4), made_up(2, first=50)  # a step of two groups and one of one
    assert np.isfinite(train(SketchRetriever(Linear()), three_groups, epochs=1, batch_size=8).epochs[1]["loss"])


def test_hard_negatives_are_photos_of_the_same_category_and_the_weight_adds_the_categorys():
    vectors = [F.normalize(torch.randn(4, 5, generator=torch.Generator().manual_seed(k)), dim=1) for k in (0, 1)]
    same = torch.tensor([0, 0, 1, 1])[:, None] == torch.tensor([0, 0, 1, 1])
    own = torch.eye(4, dtype=torch.bool)
    hard = triplets(*vectors, own, same & ~own, 0.2)
    category = triplets(*vectors, same, ~same, 0.2)
    assert retrieval_loss(*vectors, same, own, "instance", 0.2, 0.0) == hard
    torch.testing.assert_close(retrieval_loss(*vectors, same, own, "instance", 0.2, 0.5), hard + 0.5 * category)
    assert retrieval_loss(*vectors, same, own, "category", 0.2, 1.0) == category


@pytest.mark.parametrize("level", ["category", "instance"])
def test_training_finds_what_the_level_asks_for_in_categories_it_never_saw(level):
    model = SketchRetriever(Linear(), level=level)
    history = train(model, epochs=12)
    values = [epoch["validation"] for epoch in history.epochs]
    assert history.best_epoch > 0 and max(values) > values[0] + 0.15


def test_every_image_of_a_step_is_computed_once_and_an_epoch_sees_each_pair_once_on_average():
    data, model = made_up(instances=8), SketchRetriever(Linear())
    taken = []
    original = retrieval._drawn
    try:
        retrieval._drawn = lambda *a: taken.append(original(*a)) or taken[-1]
        model.extractor.computed = 0
        train(model, (data, made_up(instances=2, first=50)), epochs=1)
    finally:
        retrieval._drawn = original
    assert all(len(step) == len(step.unique()) <= 16 for step in taken)
    assert len(taken) == -(-len(data) // 16)
    # twice 24 validation images, before and after the epoch
    assert model.extractor.computed == 2 * sum(map(len, taken)) + 2 * 24


def test_groups_are_drawn_anew_every_step_from_the_seed_and_the_step_alone():
    members = {7: torch.arange(20), 9: torch.arange(20, 26)}
    first = retrieval._drawn(members, [7, 9], 0, torch.tensor([0, 3]))
    assert torch.equal(first, retrieval._drawn(members, [7, 9], 0, torch.tensor([0, 3])))
    others = [retrieval._drawn(members, [7, 9], seed, torch.tensor(step)) for seed, step in ((1, [0, 3]), (0, [3, 0]))]
    assert not any(torch.equal(first, other) for other in others)
    assert len(first) == 2 * GROUP and (first < 20).sum() == GROUP


def test_the_standardisation_comes_from_training_pairs_alone():
    data = made_up()
    data.pairs = data.pairs[:10]
    model = SketchRetriever(Linear())
    train(model, (data, made_up(seed=1, first=50)), epochs=0)
    known = {tuple(row.tolist()) for side in (data.sketches, data.photos) for row in side["x"][:10]}
    assert {tuple(row.tolist()) for row in model.extractor.statistics} <= known


def test_a_training_that_goes_on_from_its_checkpoint_ends_as_one_that_was_left_alone(tmp_path):
    whole, stopped, resumed = (SketchRetriever(Linear()) for _ in range(3))
    train(whole, epochs=3)
    calls = []

    def stop(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*arguments)

    original, retrieval._drawn = retrieval._drawn, stop
    try:
        with pytest.raises(KeyboardInterrupt):
            train(stopped, epochs=3, checkpoint=tmp_path)
    finally:
        retrieval._drawn = original
    train(resumed, epochs=3, checkpoint=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize("changed", [{"margin": 0.2}, {"level": "instance"}, {"category_weight": 0.5}])
def test_a_checkpoint_of_a_model_with_other_settings_is_refused(tmp_path, changed):
    history = train(SketchRetriever(Linear()), epochs=1, checkpoint=tmp_path)
    assert train(SketchRetriever(Linear()), epochs=1, checkpoint=tmp_path) == history
    name = next(iter(changed))
    with pytest.raises(ValueError, match=f"is of another training .*model {name} was .* and is ") as error:
        train(SketchRetriever(Linear(), **changed), epochs=1, checkpoint=tmp_path)
    one_sentence(error)


def with_strangers(data, drop=True):
    """The pairs without the first two, and with the sketch of the second photo beside the first in their place."""
    stranger = torch.tensor([[1, 0]])
    return replace(data, pairs=torch.cat([data.pairs[2:], *([] if drop else [stranger])]))


def test_at_instance_level_the_photo_of_another_sketch_is_no_positive():
    """A photo without sketches is paired with a sketch of another one."""
    for level, alike in (("instance", True), ("category", False)):
        models = [SketchRetriever(Linear(), level=level) for _ in range(2)]
        for model, drop in zip(models, (True, False), strict=True):
            train(model, (with_strangers(made_up(), drop), made_up(seed=1, first=50)), epochs=2)
        first, second = (model.extractor.layer.weight for model in models)
        assert torch.equal(first, second) == alike


def test_at_instance_level_a_sketch_without_its_photo_asks_nothing_in_validation():
    validation = with_strangers(made_up(seed=1, first=50), drop=False)
    history = train(SketchRetriever(Linear(), level="instance"), (made_up(), validation), epochs=0)
    assert 0 < history.epochs[0]["validation"] < 1


def test_the_real_extractor_gives_unit_vectors_from_images_and_from_what_was_prepared(tiny_backbone, two_images):
    model = SketchRetriever(small(tiny_backbone)).eval()
    with torch.no_grad():
        found = model(two_images)
        torch.testing.assert_close(found, model(model.extractor.prepare(two_images)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(
        found, F.normalize(model.extractor(two_images).amax((2, 3)), dim=1), atol=1e-5, rtol=1e-4
    )


def test_the_settings_are_all_that_makes_the_model_beside_its_extractor():
    model = SketchRetriever(Linear(), margin=0.2, level="instance", category_weight=0.5)
    assert SketchRetriever(Linear(), **model.settings).settings == model.settings


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SketchRetriever(Linear(), margin=0.0), "margin is 0.0"),
        (lambda: SketchRetriever(Linear(), level="photo"), "level is 'photo'"),
        (lambda: SketchRetriever(Linear(), category_weight=-1.0), "category_weight is -1.0"),
        (lambda: train(SketchRetriever(Linear()), (made_up(1), made_up(2))), "one training category"),
        (
            lambda: train(SketchRetriever(Linear(), level="instance"), (made_up(3, instances=1), made_up(2))),
            "no training category has two photos.* or raise limit",
        ),
        (
            lambda: train(
                SketchRetriever(Linear(), level="instance"),
                (replace(made_up(), pairs=torch.tensor([[1, 0], [0, 1]])), made_up(2)),
            ),
            "none of 2 pairs.* or in Python",
        ),
        (lambda: train(SketchRetriever(Linear()), batch_size=7), "batch_size is 7"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_sentence(make, words):
    with pytest.raises(ValueError, match=words) as error:
        make()
    one_sentence(error)


def test_one_image_a_class_trains_at_category_level():
    history = train(SketchRetriever(Linear()), (made_up(8, instances=1), made_up(3, instances=1, first=50)), epochs=1)
    assert np.isfinite(history.epochs[1]["loss"])
