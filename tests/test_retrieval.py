"""The triplet loss, its batches, and a retriever that learns what its level asks for."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sfhelpers import toyworld
from sfhelpers.datasets import Dataset, Record, load_dataset
from sfhelpers.datasets.problems import GROUP, Groups, problems_of
from sfhelpers.tasks.fit import fit
from sfhelpers.tasks.retrieval import Retrieval, SketchRetriever, retrieval_loss, triplets
from tests.backbone_fixtures import one_sentence, small


class Linear(torch.nn.Module):
    """An extractor for made-up vectors; it counts the images that it is asked for."""

    seed = 0

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


def made_up(folder, seen=20, instances=5, named=""):
    """A photo and its sketch of every instance, files that are no images; three seen classes choose the epoch."""
    records = []
    for domain, prefix in (("photo", ""), ("sketch", named)):
        for category, instance in product(range(seen + 2), range(instances)):
            path = folder / f"{domain}-{category}-{instance}"
            path.write_text(path.name)
            known = {"part": "train", "seen": category < seen}
            records.append(Record(path, domain, f"c{category}", f"{prefix}i{instance}", **known))
    return Dataset("made up", folder, "default", tuple(records))


def vectors(task):
    """Vectors that hold their category in some dimensions, their instance in others, and their domain's mark."""
    drawn, dice, found = {}, torch.Generator().manual_seed(0), {}
    for side, mark in (("sketches", 2.0), ("photos", -2.0)):
        rows = []
        for item in task.parts[side]:
            for key in (item.category, (item.category, item.instance)):
                drawn.setdefault(key, torch.randn(4, generator=dice))
            own = drawn[item.category, item.instance]
            rows.append(torch.cat([drawn[item.category], own, torch.full((4,), mark)]))
        found[side] = {"x": torch.stack(rows) + 0.1 * torch.randn(len(rows), 12, generator=dice)}
    return found


def train(dataset, problem="strict", epochs=6, batch_size=16):
    """The trained model and its history, by the task's own steps."""
    task = Retrieval(dataset, epochs, 0.02, batch_size, (problem,))
    frozen = task.of_problem(vectors(task), problem)
    model = task.model(Linear(), frozen)
    history = fit(
        model, lambda model, indices: task.loss(model, frozen, indices), task.examples(frozen),
        lambda model: task.validate(model, frozen), epochs, 0.02, task.batch_size, 0,
    )  # fmt: skip
    return model, history


def test_the_loss_is_the_papers_equation_over_all_triplets_of_the_batch():
    dice = torch.Generator().manual_seed(0)
    sketches, photos = (F.normalize(torch.randn(n, 5, generator=dice), dim=1) for n in (4, 6))
    right = torch.rand(4, 6, generator=dice) < 0.4
    expected = [
        max(0.0, 0.3 + float(1 - sketches[s] @ photos[p]) - float(1 - sketches[s] @ photos[n]))
        for s in range(4) for p in range(6) for n in range(6) if right[s, p] and not right[s, n]
    ]  # fmt: skip
    category = triplets(sketches, photos, right, ~right, 0.3)
    assert category.item() == pytest.approx(np.mean(expected), abs=1e-6)
    own = right & (torch.rand(4, 6, generator=dice) < 0.6)  # hard negatives are other photos of the category
    hard = triplets(sketches, photos, own, right & ~own, 0.3)
    assert retrieval_loss(sketches, photos, right, own, "category", 0.3, 1.0) == category
    assert retrieval_loss(sketches, photos, right, own, "instance", 0.3, 0.5) == hard + 0.5 * category != category


def test_a_batch_without_a_negative_costs_nothing_and_can_be_stepped(tmp_path):
    ones = torch.eye(2, requires_grad=True)
    loss = triplets(ones, ones, torch.ones(2, 2).bool(), torch.zeros(2, 2).bool(), 0.3)
    loss.backward()
    assert loss == 0 and not ones.grad.any()
    _, history = train(made_up(tmp_path, 4, instances=4), epochs=1, batch_size=8)  # steps of two groups and of one
    assert np.isfinite(history.epochs[1]["loss"])


@pytest.mark.parametrize("problem", ["strict", "fine-grained"])
def test_training_finds_what_the_level_asks_for_in_categories_it_never_saw(problem, tmp_path):
    _, history = train(made_up(tmp_path), problem, epochs=12)
    values = [epoch["validation"] for epoch in history.epochs]
    assert history.best_epoch > 0 and max(values) > values[0] + 0.15


def test_every_image_of_a_step_is_computed_once_and_an_epoch_sees_each_pair_once_on_average(tmp_path, monkeypatch):
    taken, draw = [], Groups.draw
    monkeypatch.setattr(Groups, "draw", lambda *given: taken.append(draw(*given)) or taken[-1])
    model, _ = train(made_up(tmp_path, instances=8), epochs=1)
    assert all(len(step) == len(step.unique(dim=0)) <= 16 for step in taken)
    assert len(taken) == -(-17 * 8 // 16)
    # twice 2 * 24 validation images, before and after the epoch
    assert model.extractor.computed == 2 * sum(map(len, taken)) + 2 * 48


def test_groups_are_drawn_anew_every_step_from_the_seed_and_the_step_alone():
    pairs = torch.arange(26).repeat(2, 1).T
    groups = Groups.of(pairs, torch.tensor([7] * 20 + [9] * 6), "category")
    assert groups.slots == [7] * 5 + [9] * 2 and len(groups) == 7
    first = groups.draw(torch.tensor([0, 5]), 0)
    assert torch.equal(first, groups.draw(torch.tensor([0, 5]), 0))
    others = [groups.draw(torch.tensor(step), seed) for seed, step in ((1, [0, 5]), (0, [5, 0]))]
    assert not any(torch.equal(first, other) for other in others)
    assert len(first) == 2 * GROUP and (first[:, 0] < 20).sum() == GROUP


def test_the_standardisation_comes_from_training_pairs_alone(tmp_path):
    model, _ = train(dataset := made_up(tmp_path), epochs=0)
    task = Retrieval(dataset, 1, 0.02, 16, ("strict",))
    learned, images = task.about["strict"].train.pairs, vectors(task)
    known = {
        tuple(x.tolist()) for side, k in zip(images, (0, 1), strict=True) for x in images[side]["x"][learned[:, k]]
    }
    found = {tuple(row.tolist()) for row in model.extractor.statistics}
    assert found <= known and len(model.extractor.statistics) == 2 * 64


def test_a_sketch_asks_for_single_photos_only_where_its_own_is_there(tmp_path):
    """A photo without sketches is paired with a sketch of another one, which serves categories alone."""
    dataset = made_up(tmp_path)
    bare = {k for k in dataset.sketches if k.instance == "i0"}
    found, _ = problems_of(replace(dataset, records=tuple(r for r in dataset.records if r not in bare)))
    strict, single = found["strict"], found["fine-grained"]
    assert (len(strict.train.pairs), len(single.train.pairs)) == (17 * 5, 17 * 4)
    assert [len(side) for side in strict.validation] == [3 * 4, 3 * 5] == [len(side) for side in single.validation]
    strangers = {r.path for r in dataset.photos if r.instance == "i0"}
    assert not strangers & {dataset.photos[k].path for k in single.train.pairs[:, 1]}


def test_the_real_extractor_gives_unit_vectors_from_images_and_from_what_was_prepared(tiny_backbone, two_images):
    model = SketchRetriever(small(tiny_backbone)).eval()
    with torch.no_grad():
        found, again = model(two_images), model(model.extractor.prepare(two_images))
        pooled = model.extractor(two_images).amax((2, 3))
    torch.testing.assert_close(found, again, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(found, F.normalize(pooled, dim=1), atol=1e-5, rtol=1e-4)


def test_the_settings_are_all_that_makes_the_model_beside_its_extractor():
    model = SketchRetriever(Linear(), margin=0.2, level="instance", category_weight=0.5)
    assert SketchRetriever(Linear(), **model.settings).settings == model.settings


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: SketchRetriever(Linear(), margin=0.0), "margin is 0.0"),
        (lambda folder: SketchRetriever(Linear(), level="photo"), "level is 'photo'"),
        (lambda folder: SketchRetriever(Linear(), category_weight=-1.0), "category_weight is -1.0"),
        (lambda folder: Groups.of(torch.zeros(2, 2), torch.zeros(2), "category"), "one training category"),
        (lambda folder: problems_of(made_up(folder, instances=1)), "no training category has two photos.* or raise"),
        (lambda folder: problems_of(made_up(folder, named="other ")), "none of .* pairs.* or in Python"),
        (lambda folder: problems_of(made_up(folder), ("loose",)), "unknown problem 'loose'"),
        (lambda folder: Retrieval(made_up(folder), 1, 0.02, 7), "batch_size is 7"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_sentence(make, words, tmp_path):
    with pytest.raises(ValueError, match=words) as error:
        make(tmp_path)
    one_sentence(error)


def test_one_image_a_class_trains_at_category_level(tmp_path):
    assert np.isfinite(train(made_up(tmp_path, instances=1), epochs=1)[1].epochs[1]["loss"])


def test_a_folder_that_was_parted_pairs_no_training_sketch_with_a_test_photo(tmp_path, monkeypatch):
    monkeypatch.setattr("sfhelpers.datasets.problems.NUMBER", 2)
    names = ("bus", "cat", "cup", "duck", "fish", toyworld.UNSEEN[0])
    toyworld.write_folder(tmp_path, photos=16, sketches=1, categories=names, masks=False)
    data = load_dataset("folder", tmp_path, "parts")
    pool = problems_of(data, ("clip-style",))[0]["clip-style"]
    pairs = pool.train.pairs
    learned = {data.sketches[k] for k in pairs[:, 0]} | {data.photos[k] for k in pairs[:, 1]}
    assert all(r.part != "test" for r in learned) and not learned & {*pool.sketches, *pool.photos}
