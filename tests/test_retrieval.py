"""Retrieval: its loss and batches, what it may learn from, the arms of its tables, and what is told of them."""

import zlib
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
from sfhelpers.datasets import Dataset, Record, load_dataset, splits
from sfhelpers.datasets.splits import GROUP, PROBLEMS, Groups, problems_of, served
from sfhelpers.fusion import FusedExtractor
from sfhelpers.images import load_images
from sfhelpers.metrics import AP, Acc, evaluate_retrieval
from sfhelpers.tasks import arms, compare, retrieval
from sfhelpers.tasks.prepared import take
from sfhelpers.tasks.retrieval import B_BOTH, B_CLIP, B_SD, CHANCE, Retrieval, SketchRetriever
from tests.backbone_fixtures import RUN, assert_same_loss_and_gradients, refused, small, trained
from tests.cells import handbuilt, solutions, tagged

TRAINED = ("fused", "CLIP only", "late fusion")


class Linear(nn.Module):
    """An extractor for made-up vectors; it counts the images that it is asked for."""

    seed, fit_statistics = 0, staticmethod(len)  # these vectors need none

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.computed = nn.Linear(12, 6, bias=False), 0

    def pooled(self, prepared):
        self.computed += len(prepared["x"])
        return self.layer(prepared["x"])


def made_up(folder, seen=20, instances=5, named=""):
    """A photo and its sketch of every instance, files that are no images; three seen classes choose the epoch."""
    records = []
    for domain, k, i in product(("photo", "sketch"), range(seen + 2), range(instances)):
        path, name = folder / f"{domain}-{k}-{i}", f"{named}i{i}" if domain == "sketch" else f"i{i}"
        path.write_text(path.name)
        records.append(Record(path, domain, f"c{k}", name, part="train", seen=k < seen))
    return Dataset("made up", folder, "default", tuple(records))


def vectors(task):
    """Vectors that hold their category in some dimensions, their instance in others, and their domain's mark."""

    def drawn(*names):
        dice = torch.Generator().manual_seed(zlib.crc32("/".join(names).encode()))
        return torch.randn(4, generator=dice)

    def vector(item):
        mark = torch.full((4,), 2.0 if item.domain == "sketch" else -2.0)
        return torch.cat([drawn(item.category), drawn(item.category, item.instance), mark])

    return {side: {"x": torch.stack([vector(item) for item in items])} for side, items in task.parts.items()}


def train(dataset, problem="strict", epochs=6, batch_size=16):
    """The trained model and its history, by the task's own steps."""
    task = Retrieval(dataset, epochs, 0.02, batch_size, (problem,))
    frozen = task.of_problem(vectors(task), problem)
    return trained(task, Linear(), frozen, epochs, task.learning_rate, task.batch_size)


def test_loss_and_gradients_are_those_by_hand_and_nothing_without_a_triplet(tiny_backbone, tmp_path):
    hand, dice = handbuilt("05_retrieval", torch=torch, nn=nn), torch.Generator().manual_seed(0)
    theirs = SketchRetriever(small(tiny_backbone), margin=1.0, level="instance")
    prepared, ours = theirs.extractor.prepare(torch.rand(8, 3, 96, 96, generator=dice)), small(tiny_backbone)
    theirs.extractor.fit_statistics(prepared)
    ours = hand.Retriever(ours)
    ours.load_state_dict(theirs.state_dict())
    sides = [take(prepared, torch.arange(8)[k::2]) for k in (0, 1)]
    own, same = torch.eye(4).bool(), torch.eye(2).bool().repeat(2, 2)  # two categories, two photos of each
    loss = hand.very_photo_loss(*map(ours, sides), own, same, margin=1.0)
    package = retrieval.retrieval_loss(*map(theirs, sides), same, own, **theirs.settings)
    assert_same_loss_and_gradients(ours, loss, theirs, package)
    vectors = [theirs(side) for side in sides]
    category = hand.triplet_loss(*vectors, same, ~same, 0.3)
    assert abs(retrieval.retrieval_loss(*vectors, same, own, "category", 0.3, 1.0) - category) < 1e-6
    ones = torch.eye(2, requires_grad=True)
    retrieval.triplets(ones, ones, torch.ones(2, 2).bool(), torch.zeros(2, 2).bool(), 0.3).backward()
    assert not ones.grad.any()
    some = made_up(tmp_path, 4, instances=4), made_up(tmp_path, instances=1)  # steps of two groups and of one; no other
    assert all(np.isfinite(train(data, epochs=1, batch_size=8)[1].epochs[1]["loss"]) for data in some)


@pytest.mark.parametrize("problem", ["strict", "fine-grained"])
def test_training_finds_what_the_level_asks_for_and_computes_every_image_of_a_step_once(problem, tmp_path, monkeypatch):
    taken, draw = [], Groups.draw
    monkeypatch.setattr(Groups, "draw", lambda *given: taken.append(draw(*given)) or taken[-1])
    model, history = train(made_up(tmp_path), problem, epochs=12)
    values = [epoch["validation"] for epoch in history.epochs]
    assert history.best_epoch > 0 and max(values) > values[0] + 0.15, "in categories it never saw"
    assert all(len(step) == len(step.unique(dim=0)) <= 16 for step in taken)
    assert model.extractor.computed == 2 * sum(map(len, taken)) + 13 * 2 * 3 * 5  # validation before and after an epoch


def test_a_photo_is_relevant_for_every_thing_in_it_in_training_in_validation_and_in_the_test(tmp_path, monkeypatch):
    plain = made_up(tmp_path)
    also = {"c0": "c1", "c3": "c2", "c20": "c21", "c21": "c20"}  # what every second photo of them shows as well
    crowded = [
        replace(r, also=((also[r.category], r.path),)) if r.category in also and r.instance in ("i1", "i3") else r
        for r in plain.photos
    ]
    task = Retrieval(replace(plain, records=(*crowded, *plain.sketches)), 1, 0.02, 16, ("strict",))
    frozen, given = task.of_problem(vectors(task), "strict"), []
    monkeypatch.setattr(retrieval, "retrieval_loss", lambda s, p, same, *others, **how: given.append(same) or s.sum())
    model, steps = task.model(Linear(), frozen), torch.arange(task.examples(frozen)).split(4)
    for step in steps:
        task.loss(model, frozen, step)
        found = frozen["train"].draw(step, 0)
        sketches, photos = [plain.sketches[k] for k in found[:, 0]], [crowded[k] for k in found[:, 1].unique()]
        assert given[-1].tolist() == [[sketch.category in photo.things for photo in photos] for sketch in sketches]
    trial = compare.Trial("any", 0, "strict", model, found=task.predict(model, frozen))
    (asking, offered), (s, p) = task.asked(trial)
    for sketch, scores, value in zip(asking, (s @ p.T).detach().numpy(), task.scores(trial)[AP()], strict=True):
        right = [sketch.category in photo.things for photo in offered]
        assert sum(right) == 7 and value == pytest.approx(average_precision_score(right, scores), abs=1e-6)
    assert all(retrieval.RELEVANT in row.definition for row in task.measure(trial, {}) if "AP" in row.metric)


def test_groups_are_drawn_anew_every_step_from_the_seed_and_the_step_alone():
    groups = Groups(torch.arange(26).repeat(2, 1).T, torch.tensor([7] * 20 + [9] * 6), "category")
    assert groups.slots == [7] * 5 + [9] * 2, "an epoch sees each pair once on average"
    first = groups.draw(torch.tensor([0, 5]), 0)
    assert torch.equal(first, groups.draw(torch.tensor([0, 5]), 0))
    others = [groups.draw(torch.tensor(step), seed) for seed, step in ((1, [0, 5]), (0, [5, 0]))]
    assert not any(torch.equal(first, other) for other in others)
    assert len(first) == 2 * GROUP and (first[:, 0] < 20).sum() == GROUP


def test_a_sketch_asks_for_single_photos_only_where_its_own_is_there(tmp_path):
    dataset = made_up(tmp_path)
    bare = {k for k in dataset.sketches if k.instance == "i0"}
    found = problems_of(replace(dataset, records=tuple(r for r in dataset.records if r not in bare)))
    strict, single = found["strict"], found["fine-grained"]
    assert (len(strict.train.pairs), len(single.train.pairs)) == (17 * 5, 17 * 4)
    assert [len(side) for side in strict.validation] == [3 * 4, 3 * 5] == [len(side) for side in single.validation]
    assert not {k for k in single.train.pairs[:, 1].tolist() if dataset.photos[k].instance == "i0"}
    assert served(dataset) == tuple(PROBLEMS)
    with pytest.warns(UserWarning, match="none is asked for the very photo: fine-grained is left out.$"):
        assert served(made_up(tmp_path, named="other ")) == ("strict", "clip-style")


def test_what_cannot_be_trained_is_refused_in_one_sentence(tmp_path):
    for words, make in {
        "margin is 0.0": lambda: SketchRetriever(Linear(), margin=0.0),
        "level is 'photo'": lambda: SketchRetriever(Linear(), level="photo"),
        "category_weight is -1.0": lambda: SketchRetriever(Linear(), category_weight=-1.0),
        "one training category": lambda: Groups(torch.zeros(2, 2), torch.zeros(2), "category"),
        "no training category has two photos.* or raise": lambda: problems_of(made_up(tmp_path, instances=1)),
        "none of .* pairs.* or in Python": lambda: problems_of(made_up(tmp_path, named="other ")),
        "unknown problem 'loose'": lambda: problems_of(made_up(tmp_path), ("loose",)),
        "batch_size is 7": lambda: Retrieval(made_up(tmp_path), 1, 0.02, 7),
    }.items():
        with refused(words):
            make()


def colour(images):
    """An encoder that knows the mean colour alone."""
    return images.mean((2, 3))


colour.size, colour.weights_sha256 = 0, "f" * 64


@pytest.fixture(scope="module")
def compared(tiny_backbone, toy):
    """The task, its trials by method and problem, and what was frozen of the last arm."""
    task = Retrieval(toy, 1, 2e-3, 8, others={"colour": colour})
    trials, frozen = compare.compare(tiny_backbone, task, (*TRAINED, *task.baselines))
    return task, {(trial.method, trial.problem): trial for trial in trials}, frozen


def test_every_method_ranks_every_problem_arms_learn_from_a_random_start_and_chance_has_seeds(compared):
    task, trials, _ = compared
    assert list(dict.fromkeys(m for m, _ in trials)) == [*TRAINED, B_CLIP, B_SD, B_BOTH, "colour", CHANCE]
    assert set(trials) == {(m, p) for m, _ in trials for p in PROBLEMS} - {("late fusion", "clip-style")}
    for (method, problem), trial in trials.items():
        about, found = task.about[problem], trial.found
        assert (len(found.sketches), len(found.photos)) == (len(about.sketches), len(about.photos))
        assert found.sketches.std() > 0
        assert (trial.model is None) == (method not in TRAINED)
        assert trial.model is None or trial.model.extractor.start == "random"
    (asking, offered), _ = task.asked(trials[CHANCE, "strict"])
    prevalence = np.mean([sketch.category in photo.things for sketch in asking for photo in offered])
    assert abs(task.scores(trials[CHANCE, "strict"])[AP()].mean() - prevalence) < 0.2
    again = list(task.untrained(CHANCE, (0, 1), {}, None))
    assert [(t.seed, t.problem) for t in again] == [(seed, problem) for seed in (0, 1) for problem in PROBLEMS]
    first, *_, other = (t.found.sketches for t in again if t.problem == "strict")
    assert torch.equal(first, trials[CHANCE, "strict"].found.sketches) and not torch.equal(first, other)
    assert [t.found.expected for t in again] == [False, True, False, False, False, False]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_b_sd_knows_the_channels_of_nothing_but_what_its_problem_trains_on(problem, compared, toy, tiny_backbone):
    """The strict split trains on what the clip-style one tests: each has means and spreads of its own."""
    task, trials, _ = compared
    about, side = task.about[problem], arms.reading_size(tiny_backbone)
    blocks = trials[B_SD, problem].tried
    chosen = max(blocks, key=blocks.get)
    assert list(blocks) == ["f1", "f2", "f3"]
    extractor = FusedExtractor(tiny_backbone, inject="none", branches=(chosen,), width=1)
    sketches, photos = about.train.pairs.T
    known = [*(toy.sketches[k].path for k in sketches), *(toy.photos[k].path for k in photos)]
    assert len(known) <= 128, "so all of them are used"
    extractor.fit_statistics(extractor.prepare(load_images(known, side)))
    features = extractor.features(extractor.prepare(load_images([r.path for r in about.photos], side)))[chosen]
    expected = extractor.statistics[chosen](features).amax(dim=(2, 3))
    torch.testing.assert_close(trials[B_SD, problem].found.photos, expected, rtol=1e-4, atol=1e-4)
    both, sd, clip = (F.normalize(trials[name, problem].found.photos, dim=1) for name in (B_BOTH, B_SD, B_CLIP))
    tried = trials[B_BOTH, problem].tried
    share = max(tried, key=lambda share: (tried[share], -abs(share - 0.5)))
    torch.testing.assert_close(both @ both.T, share * sd @ sd.T + (1 - share) * clip @ clip.T, atol=1e-5, rtol=1e-4)
    assert list(tried) == [k / 10 for k in range(11)] and not trials[B_CLIP, problem].tried


@pytest.mark.parametrize("problem", PROBLEMS)
def test_no_image_or_class_of_a_test_is_trained_on_in_any_problem(problem, compared, toy):
    about = compared[0].about[problem]
    sides = zip((toy.sketches, toy.photos), about.train.pairs.T, about.validation, strict=True)
    learned = {side[k].path for side, train, validation in sides for k in (*train, *validation)}
    tested = {record.path.read_bytes() for record in about.sketches + about.photos}
    assert learned and not {path.read_bytes() for path in learned} & tested
    classes = {about.photos[k].category for k in about.tests["zero-shot"][1]}
    assert len(classes) == 3 and not classes & {path.parent.name for path in learned}
    assert problem == "clip-style" or classes == set(toyworld.UNSEEN[:3])


def test_acc_counts_the_drawn_photo_alone_and_is_easier_in_the_gallery_class(compared):
    task, trials, _ = compared
    trial = trials["fused", "fine-grained"]
    every, own = (task.scores(trial, (Acc(1), Acc(5)), gallery=gallery) for gallery in ("all", "class"))
    assert all((own[acc] >= every[acc]).all() for acc in own)
    (sketches, photos), (asking, offered) = task.asked(trial)
    best = [photos[k] for k in (asking @ offered.T).argmax(dim=1)]
    first = [(s.category, s.instance) == (p.category, p.instance) for s, p in zip(sketches, best, strict=True)]
    assert every[Acc(1)].tolist() == first
    with torch.no_grad():  # the vectors are those of the images
        vectors = trial.model.eval()(load_images([photo.path for photo in photos[:3]], 96))
    torch.testing.assert_close(offered[:3], vectors, atol=1e-4, rtol=1e-3)


def test_rows_carry_split_gallery_and_definition_and_fused_is_tested_against_every_other_method(compared, toy):
    task, trials, frozen = compared
    rows = compare.rows(RUN, task, trials.values(), frozen, "a" * 64)
    names = {(row.split, row.gallery, row.metric, row.definition, row.method) for row in rows}
    assert len(names) == len(rows)  # no two rows that only their value tells apart
    assert {row.gallery for row in rows if row.metric == "Acc@1"} == {"all", "class"}
    (expected,) = [row for row in rows if row.metric == "Acc@1, expected"]
    assert (expected.method, expected.value, expected.n) == (CHANCE, 1 / 18, 18), "three classes of six photos"
    assert {(r.backbone, r.weights_sha256) for r in rows if r.method == "colour"} == {("colour", "f" * 64)}
    whole = {row.method: row for row in rows if (row.split, row.gallery, row.metric) == ("strict", "all", "mAP@all")}
    assert all(0 < row.value <= 1 for row in whole.values()) and whole.keys() == {method for method, _ in trials}
    for split in retrieval.GENERALISED.values():  # seen and unseen queries make up the mean
        told = {row.gallery: row for row in rows if (row.method, row.split) == ("fused", split)}
        whole, unseen, seen = (told[gallery] for gallery in ("all", retrieval.UNSEEN, retrieval.SEEN))
        assert whole.n == unseen.n + seen.n and unseen.n == 18
        assert whole.value == pytest.approx((unseen.value * unseen.n + seen.value * seen.n) / whole.n)
    found = compare.differences(RUN, task, trials.values(), frozen, "a" * 64)
    assert {row.metric for row in found} == {f"{metric}: fused - other" for metric in ("mAP@all", "Acc@1")}
    assert {(row.split, row.n) for row in found} == {("strict", 18), ("strict", 3)}, "photos, and categories"
    assert set(results.differences(found, "all", "mAP@all")) == {method for method, _ in trials} - {"fused"}
    alone = Retrieval(toy, 1, 2e-3, 8, problems=("clip-style",))  # then it is for all arms, which are compared by it
    assert alone.problems("late fusion") == ("clip-style",)
    told = alone.measure(trials["CLIP only", "clip-style"], {})
    assert [found.metric for found in told if found.groups is not None] == ["mAP@all"]


def test_average_precision_and_acc_by_hand_are_the_packages_where_scores_tie_too():
    hand, dice = handbuilt("05_retrieval", torch=torch, nn=nn), torch.Generator().manual_seed(0)
    queries, gallery = torch.randn(12, 3, generator=dice).double(), torch.randn(20, 3, generator=dice).double()
    gallery, labels, kinds = gallery.repeat(2, 1), np.arange(12) % 3, np.arange(40) % 3  # every photo twice
    found = evaluate_retrieval(queries, gallery, labels, kinds, (AP(), Acc(1), Acc(5)))
    scores = (F.normalize(queries, dim=1) @ F.normalize(gallery, dim=1).T).round(decimals=12)
    for k, row in enumerate(zip(scores, torch.from_numpy(labels[:, None] == kinds), strict=True)):
        assert hand.average_precision(*row) == pytest.approx(found[AP()][k], abs=1e-12)
        assert [hand.found_within(n, *row) for n in (1, 5)] == [found[Acc(1)][k], found[Acc(5)][k]]


def test_a_folder_is_ranked_untrained_and_the_exercises_run(compared, tiny_backbone, toy, tmp_path, capsys):
    names = {"task": compared[0], "first": compared[1], "models": tiny_backbone, "data": toy, "run": RUN, "np": np}
    names |= {"given": {"colour": colour}, "splits": splits, "load_dataset": load_dataset, "retrieval": retrieval}
    names |= vars(retrieval) | {"compare": compare.compare, "Acc": Acc, "AP": AP}
    for solution in solutions("05_retrieval").values():
        exec(solution, names)
    printed = capsys.readouterr().out
    assert "hard alone class" in printed and len(printed.splitlines()) == 3 + 1 + 4
    toyworld.write_folder(tmp_path, photos=3, sketches=1, categories=("tree", "key"), masks=False)
    names["run"] = SimpleNamespace(dataset="folder", data_root=tmp_path, skip_broken=False)
    exec("\n".join(tagged("05_retrieval", "folder")), names)
    assert list(names["ranked"]) == [*TRAINED, B_CLIP, "colour"]
    assert all(values.shape == (6,) and (values > 0).all() for values in names["ranked"].values())
