"""Retrieval: its loss and batches, what it may learn from, the arms of its tables, and what is told of them."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score
from torch import nn

from sfhelpers import results, toyworld
from sfhelpers.datasets import Dataset, Record, load_dataset, sketchy, splits
from sfhelpers.datasets.problems import GROUP, Groups, problems_of
from sfhelpers.fusion import FusedExtractor
from sfhelpers.images import load_images
from sfhelpers.metrics import AP, Acc, evaluate_retrieval
from sfhelpers.tasks import arms, compare, retrieval
from sfhelpers.tasks.fit import Training
from sfhelpers.tasks.retrieval import B_BOTH, B_CLIP, B_SD, CHANCE, SEEN, UNSEEN, Retrieval, SketchRetriever
from tests.backbone_fixtures import refused
from tests.cells import handbuilt, solutions, tagged

CATEGORIES = ("bus", "cat", "cup", "duck", "fish", *toyworld.UNSEEN[:3])
TRAINED = ("fused", "CLIP only", "late fusion")
PROBLEMS = ("strict", "fine-grained", "clip-style")
RUN = SimpleNamespace(
    notebook="05_retrieval", backbone="tiny", dataset="toy", split="default", seed=0, device="cpu", epochs=1,
    learning_rate=2e-3, batch_size=8,
)  # fmt: skip


class Linear(nn.Module):
    """An extractor for made-up vectors; it counts the images that it is asked for."""

    seed = 0

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.computed = nn.Linear(12, 6, bias=False), 0

    def pooled(self, prepared):
        self.computed += len(prepared["x"])
        return self.layer(prepared["x"])

    def fit_statistics(self, prepared):
        """Nothing: these vectors need none."""


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
    history = Training(
        model, lambda model, indices: task.loss(model, frozen, indices), task.examples(frozen),
        lambda model: task.validate(model, frozen), epochs, 0.02, task.batch_size, 0,
    ).fit()  # fmt: skip
    return model, history


def test_the_loss_is_the_papers_equation_over_all_triplets_of_the_batch():
    dice = torch.Generator().manual_seed(0)
    sketches, photos = (F.normalize(torch.randn(n, 5, generator=dice), dim=1) for n in (4, 6))
    right = torch.rand(4, 6, generator=dice) < 0.4
    expected = [
        max(0.0, 0.3 + float(1 - sketches[s] @ photos[p]) - float(1 - sketches[s] @ photos[n]))
        for s in range(4) for p in range(6) for n in range(6) if right[s, p] and not right[s, n]
    ]  # fmt: skip
    category = retrieval.triplets(sketches, photos, right, ~right, 0.3)
    assert category.item() == pytest.approx(np.mean(expected), abs=1e-6)
    own = right & (torch.rand(4, 6, generator=dice) < 0.6)  # hard negatives are other photos of the category
    hard = retrieval.triplets(sketches, photos, own, right & ~own, 0.3)
    assert retrieval.retrieval_loss(sketches, photos, right, own, "category", 0.3, 1.0) == category
    whole = retrieval.retrieval_loss(sketches, photos, right, own, "instance", 0.3, 0.5)
    assert whole == hard + 0.5 * category != category


def test_a_batch_without_a_negative_costs_nothing_and_can_be_stepped(tmp_path):
    ones = torch.eye(2, requires_grad=True)
    retrieval.triplets(ones, ones, torch.ones(2, 2).bool(), torch.zeros(2, 2).bool(), 0.3).backward()
    assert not ones.grad.any()
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
    groups = Groups(torch.arange(26).repeat(2, 1).T, torch.tensor([7] * 20 + [9] * 6), "category")
    assert groups.slots == [7] * 5 + [9] * 2 and len(groups) == 7
    first = groups.draw(torch.tensor([0, 5]), 0)
    assert torch.equal(first, groups.draw(torch.tensor([0, 5]), 0))
    others = [groups.draw(torch.tensor(step), seed) for seed, step in ((1, [0, 5]), (0, [5, 0]))]
    assert not any(torch.equal(first, other) for other in others)
    assert len(first) == 2 * GROUP and (first[:, 0] < 20).sum() == GROUP


def test_a_sketch_asks_for_single_photos_only_where_its_own_is_there(tmp_path):
    """A photo without sketches is paired with a sketch of another one, which serves categories alone."""
    dataset = made_up(tmp_path)
    bare = {k for k in dataset.sketches if k.instance == "i0"}
    found = problems_of(replace(dataset, records=tuple(r for r in dataset.records if r not in bare)))
    strict, single = found["strict"], found["fine-grained"]
    assert (len(strict.train.pairs), len(single.train.pairs)) == (17 * 5, 17 * 4)
    assert [len(side) for side in strict.validation] == [3 * 4, 3 * 5] == [len(side) for side in single.validation]
    strangers = {r.path for r in dataset.photos if r.instance == "i0"}
    assert not strangers & {dataset.photos[k].path for k in single.train.pairs[:, 1]}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: SketchRetriever(Linear(), margin=0.0), "margin is 0.0"),
        (lambda folder: SketchRetriever(Linear(), level="photo"), "level is 'photo'"),
        (lambda folder: SketchRetriever(Linear(), category_weight=-1.0), "category_weight is -1.0"),
        (lambda folder: Groups(torch.zeros(2, 2), torch.zeros(2), "category"), "one training category"),
        (lambda folder: problems_of(made_up(folder, instances=1)), "no training category has two photos.* or raise"),
        (lambda folder: problems_of(made_up(folder, named="other ")), "none of .* pairs.* or in Python"),
        (lambda folder: problems_of(made_up(folder), ("loose",)), "unknown problem 'loose'"),
        (lambda folder: Retrieval(made_up(folder), 1, 0.02, 7), "batch_size is 7"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_sentence(make, words, tmp_path):
    with refused(words):
        make(tmp_path)


def test_one_image_a_class_trains_at_category_level(tmp_path):
    assert np.isfinite(train(made_up(tmp_path, instances=1), epochs=1)[1].epochs[1]["loss"])


class Colour:
    """An encoder that knows the mean colour alone."""

    size, weights_sha256 = 0, "f" * 64

    def __call__(self, images):
        return images.mean((2, 3))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Five seen and three unseen classes of six photos with a sketch each."""
    root = tmp_path_factory.mktemp("world")
    toyworld.write_sketchy(root, photos=6, sketches=1, categories=CATEGORIES)
    return Dataset("toy", root, "default", tuple(sketchy.read(root, unseen=toyworld.UNSEEN)))


@pytest.fixture(scope="module")
def compared(tiny_backbone, world):
    """The task, its trials by method and problem, and what was frozen of the last arm."""
    task = Retrieval(world, 1, 2e-3, 8, others={"colour": Colour()})
    trials, frozen = compare.compare(tiny_backbone, task, (*TRAINED, *task.baselines), log=lambda line: None)
    return task, {(trial.method, trial.problem): trial for trial in trials}, frozen


@pytest.fixture(scope="module")
def rows(compared):
    task, trials, frozen = compared
    return compare.rows(RUN, task, trials.values(), frozen, "a" * 64)


def table(rows, split="strict"):
    return results.table([row for row in rows if row.split == split], "all", "mAP@all", AP().definition)


def test_every_method_ranks_every_problem_and_learns_from_a_random_start(compared):
    task, trials, _ = compared
    assert list(dict.fromkeys(m for m, _ in trials)) == [*TRAINED, B_CLIP, B_SD, B_BOTH, "colour", CHANCE]
    assert set(trials) == {(m, p) for m, _ in trials for p in PROBLEMS} - {("late fusion", "clip-style")}
    for (method, problem), trial in trials.items():
        about, found = task.about[problem], trial.found
        assert (len(found.sketches), len(found.photos)) == (len(about.sketches), len(about.photos))
        assert torch.isfinite(found.sketches).all() and found.sketches.std() > 0
        assert (trial.model is None) == (method not in TRAINED)
        assert trial.model is None or trial.model.extractor.start == "random"


@pytest.mark.parametrize("problem", PROBLEMS)
def test_b_sd_knows_the_channels_of_nothing_but_what_its_problem_trains_on(problem, compared, world, tiny_backbone):
    """The strict split trains on what the clip-style one tests: each has means and spreads of its own."""
    task, trials, _ = compared
    about, side = task.about[problem], arms.reading_size(tiny_backbone)
    extractor = FusedExtractor(tiny_backbone, inject="none", branches=("f3",), width=1)
    known = [records[k].path for records, which in zip((world.sketches, world.photos), about.train.pairs.T, strict=True)
             for k in which]  # fmt: skip
    assert len(known) <= 128 and not set(known) & {record.path for record in about.sketches + about.photos}
    extractor.fit_statistics(extractor.prepare(load_images(known, side)))
    features = extractor.features(extractor.prepare(load_images([r.path for r in about.photos], side)))["f3"]
    expected = extractor.statistics["f3"](features).amax(dim=(2, 3))
    torch.testing.assert_close(trials[B_SD, problem].found.photos, expected, rtol=1e-4, atol=1e-4)
    both, sd, clip = (F.normalize(trials[name, problem].found.photos, dim=1) for name in (B_BOTH, B_SD, B_CLIP))
    torch.testing.assert_close(both @ both.T, (sd @ sd.T + clip @ clip.T) / 2, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_no_image_or_class_of_a_test_is_trained_on_in_any_problem(problem, compared, world):
    about = compared[0].about[problem]
    sides = zip((world.sketches, world.photos), about.train.pairs.T, about.validation, strict=True)
    learned = {side[k].path for side, train, validation in sides for k in (*train, *validation)}
    tested = {r.path for r in (*about.sketches, *about.photos)}
    assert learned and tested
    assert not {path.read_bytes() for path in learned} & {path.read_bytes() for path in tested}
    classes = {about.photos[k].category for k in about.tests["zero-shot"][1]}
    assert len(classes) == 3 and not classes & {path.parent.name for path in learned}
    assert problem == "clip-style" or classes == set(toyworld.UNSEEN[:3])


def test_the_vectors_are_those_of_the_images_and_have_length_one(compared):
    task, trial = compared[0], compared[1]["fused", "fine-grained"]
    images = load_images([record.path for record in task.about["fine-grained"].photos[:3]], 96)
    with torch.no_grad():
        torch.testing.assert_close(trial.found.photos[:3], trial.model.eval()(images), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(trial.found.photos.norm(dim=1), torch.ones(len(trial.found.photos)))


def test_map_counts_the_category_and_acc_the_drawn_photo_alone_with_an_easier_gallery_class(compared):
    task, trials, _ = compared
    (sketches, photos), (asking, offered) = task.asked(trials[B_CLIP, "strict"])
    for sketch, vector, value in zip(sketches, asking, task.scores(trials[B_CLIP, "strict"])[AP()], strict=True):
        right = [photo.category == sketch.category for photo in photos]
        assert value == pytest.approx(average_precision_score(right, (offered @ vector).numpy()), abs=1e-6)
    trial = trials["fused", "fine-grained"]
    every, own = (task.scores(trial, (Acc(1), Acc(5)), gallery=gallery) for gallery in ("all", "class"))
    assert (own[Acc(1)] >= every[Acc(1)]).all() and (own[Acc(5)] >= every[Acc(5)]).all()
    (sketches, photos), (asking, offered) = task.asked(trial)
    best = [photos[k] for k in (asking @ offered.T).argmax(dim=1)]
    first = [(s.category, s.instance) == (p.category, p.instance) for s, p in zip(sketches, best, strict=True)]
    assert every[Acc(1)].tolist() == first


def test_chance_is_near_the_prevalence_and_another_with_another_seed(compared):
    task, trials, _ = compared
    assert abs(task.scores(trials[CHANCE, "strict"])[AP()].mean() - 1 / 3) < 0.2
    again = list(task.untrained(CHANCE, (0, 1), {}, None))
    assert [(t.seed, t.problem) for t in again] == [(seed, problem) for seed in (0, 1) for problem in PROBLEMS]
    first, *_, other = (t.found.sketches for t in again if t.problem == "strict")
    assert torch.equal(first, trials[CHANCE, "strict"].found.sketches) and not torch.equal(first, other)
    assert [t.found.expected for t in again] == [False, True, False, False, False, False]


def test_rows_carry_split_gallery_and_definition(rows):
    names = {(row.split, row.gallery, row.metric, row.definition, row.method) for row in rows}
    assert len(names) == len(rows)  # no two rows that only their value tells apart
    assert len({row.definition for row in rows if row.metric == "mAP@200"}) == 5
    assert {row.gallery for row in rows if row.metric == "Acc@1"} == {"all", "class"}
    (expected,) = [row for row in rows if row.metric == "Acc@1, expected"]
    assert (expected.method, expected.value, expected.n) == (CHANCE, 1 / 18, 18), "three classes of six photos"
    colour = [row for row in rows if row.method == "colour"]
    assert {(row.backbone, row.weights_sha256) for row in colour} == {("colour", "f" * 64)}
    assert set(table(rows)) == {*TRAINED, B_CLIP, B_SD, B_BOTH, "colour", CHANCE}
    assert all(0 < value <= 1 for value, _ in table(rows).values())
    assert set(table(rows, "clip-style")) == set(table(rows)) - {"late fusion"}
    for split in retrieval.GENERALISED.values():  # seen and unseen queries make up the mean
        told = {row.gallery: row for row in rows if (row.method, row.split) == ("fused", split)}
        whole, unseen, seen = told["all"], told[UNSEEN], told[SEEN]
        assert whole.n == unseen.n + seen.n and unseen.n == 18
        assert whole.value == pytest.approx((unseen.value * unseen.n + seen.value * seen.n) / whole.n)


def test_the_paired_test_compares_fused_with_every_other_method(compared, rows):
    task, trials, frozen = compared
    found = compare.differences(RUN, task, trials.values(), frozen, "a" * 64)
    of = {(r.metric, r.split) for r in found}
    assert of == {(f"{metric}: fused - other", "strict") for metric in ("mAP@all", "Acc@1")}
    told = results.differences(found, "all", "mAP@all")
    assert set(told) == set(table(rows)) - {"fused"} and {row.n for row in found} == {18}
    assert told[B_CLIP][0] == pytest.approx(table(rows)["fused"][0] - table(rows)[B_CLIP][0])
    assert all("over photos" in row.definition for row in found)


def test_one_problem_alone_gives_the_same_vectors_and_is_what_arms_are_compared_by(compared, tiny_backbone, world):
    task = Retrieval(world, 1, 2e-3, 8, problems=("clip-style",))
    (again,), frozen = compare.compare(tiny_backbone, task, ("CLIP only",), log=lambda line: None)
    torch.testing.assert_close(again.found.sketches, compared[1]["CLIP only", "clip-style"].found.sketches)
    assert task.problems("late fusion") == ("clip-style",), "where there is no other problem"
    (tested,) = [found for found in task.measure(again, frozen) if found.groups is not None]
    assert (tested.metric, len(set(tested.groups))) == ("mAP@all", len(tested.values))


def test_average_precision_and_acc_by_hand_are_the_packages_where_scores_tie_too():
    hand, dice = handbuilt("05_retrieval", torch=torch, nn=nn), torch.Generator().manual_seed(0)
    queries, gallery = (torch.randn(n, 3, generator=dice).double() for n in (12, 20))
    gallery = gallery.repeat(2, 1)  # every photo once more, under another label
    labels, kinds = np.arange(12) % 3, np.arange(40) % 3
    found = evaluate_retrieval(queries, gallery, labels, kinds, (AP(), Acc(1), Acc(5)))
    scores = (F.normalize(queries, dim=1) @ F.normalize(gallery, dim=1).T).round(decimals=12)
    assert any(len(row.unique()) < len(row) for row in scores)
    for k, row in enumerate(zip(scores, torch.from_numpy(labels[:, None] == kinds), strict=True)):
        assert hand.average_precision(*row) == pytest.approx(found[AP()][k], abs=1e-12)
        assert [hand.found_within(n, *row) for n in (1, 5)] == [found[Acc(1)][k], found[Acc(5)][k]]


@pytest.fixture
def names(compared, tiny_backbone, world):
    """What the notebook's cells use once the arms are compared."""
    names = {"task": compared[0], "first": compared[1], "models": tiny_backbone, "data": world, "B_CLIP": B_CLIP}
    names |= {"given": {"colour": Colour()}, "AP": AP, "Acc": Acc, "evaluate_retrieval": evaluate_retrieval, "nn": nn}
    names |= {"np": np, "splits": splits, "load_dataset": load_dataset, "reading_size": arms.reading_size}
    return names | {"retrieval": retrieval, "compare": compare.compare, "run": RUN}


def test_a_folder_is_ranked_without_being_learned_from(names, tmp_path):
    toyworld.write_folder(tmp_path, photos=3, sketches=1, categories=("tree", "key"), masks=False)
    names["run"] = SimpleNamespace(dataset="folder", data_root=tmp_path, skip_broken=False)
    exec("\n".join(tagged("05_retrieval", "folder")), names)
    assert list(names["ranked"]) == [*TRAINED, B_CLIP, "colour"]
    assert all(values.shape == (6,) and (values > 0).all() for values in names["ranked"].values())


def test_the_exercises_solutions_run(names, capsys):
    for solution in solutions("05_retrieval"):
        exec(solution, names)
    printed = capsys.readouterr().out
    assert "hard alone class" in printed and len(printed.splitlines()) == 3 + 1 + 4
