"""The arms of the retrieval tables are trained and tested alike, and what is told of them is what was measured."""

import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score
from torch import nn

from sfhelpers import results, toyworld
from sfhelpers.datasets import Dataset, load_dataset, sketchy, splits
from sfhelpers.fusion import FusedExtractor
from sfhelpers.images import load_images
from sfhelpers.metrics import AP, Acc, evaluate_retrieval
from sfhelpers.plots.rankings import embedding_map, marked, ranked_lists
from sfhelpers.tasks import arms, compare, retrieval
from sfhelpers.tasks.retrieval import (
    B_BOTH,
    B_CLIP,
    B_SD,
    CHANCE,
    GENERALISED,
    SEEN,
    UNSEEN,
    Retrieval,
    SketchRetriever,
)
from tests.backbone_fixtures import one_sentence

CATEGORIES = ("bus", "cat", "cup", "duck", "fish", *toyworld.UNSEEN[:3])
TRAINED = ("fused", "CLIP only", "late fusion")
PROBLEMS = ("strict", "fine-grained", "clip-style")
RUN = SimpleNamespace(
    notebook="05_retrieval", backbone="tiny", dataset="toy", split="default", seed=0, device="cpu", epochs=1
)  # fmt: skip


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


def table(rows, split="strict", gallery="all"):
    chosen = [row for row in rows if row.split == split]
    return results.table(chosen, gallery, "mAP@all", AP().definition)


def test_every_method_ranks_every_problem(compared):
    task, trials, _ = compared
    assert list(dict.fromkeys(m for m, _ in trials)) == [*TRAINED, B_CLIP, B_SD, B_BOTH, "colour", CHANCE]
    assert set(trials) == {(m, p) for m, _ in trials for p in PROBLEMS} - {("late fusion", "clip-style")}
    for (method, problem), trial in trials.items():
        about, found = task.about[problem], trial.found
        assert (len(found.sketches), len(found.photos)) == (len(about.sketches), len(about.photos))
        assert torch.isfinite(found.sketches).all() and found.sketches.std() > 0
        assert (trial.model is None) == (method not in TRAINED)


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


def test_the_vectors_are_those_of_the_images(compared):
    task, trial = compared[0], compared[1]["fused", "fine-grained"]
    images = load_images([record.path for record in task.about["fine-grained"].photos[:3]], 96)
    with torch.no_grad():
        torch.testing.assert_close(trial.found.photos[:3], trial.model.eval()(images), atol=1e-4, rtol=1e-3)


def test_map_of_all_is_scikit_learns(compared):
    task, trials, _ = compared
    (sketches, photos), (asking, offered) = task.asked(trials[B_CLIP, "strict"])
    found = task.scores(trials[B_CLIP, "strict"])[AP()]
    for sketch, vector, value in zip(sketches, asking, found, strict=True):
        right = [photo.category == sketch.category for photo in photos]
        assert value == pytest.approx(average_precision_score(right, (offered @ vector).numpy()), abs=1e-6)


def test_fine_grained_counts_the_drawn_photo_alone_and_the_gallery_class_is_easier(compared):
    task, trials, _ = compared
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


def test_b_sd_and_clip_stand_side_by_side_with_equal_weight(compared):
    both, sd, clip = (F.normalize(compared[1][name, "strict"].found.sketches, dim=1) for name in (B_BOTH, B_SD, B_CLIP))
    torch.testing.assert_close(both @ both.T, (sd @ sd.T + clip @ clip.T) / 2, atol=1e-5, rtol=1e-4)


def test_rows_carry_split_gallery_and_definition(rows):
    names = {(row.split, row.gallery, row.metric, row.definition, row.method) for row in rows}
    assert len(names) == len(rows)  # no two rows that only their value tells apart
    assert {row.split for row in rows if row.gallery == SEEN} == set(GENERALISED.values())
    assert len({row.definition for row in rows if row.metric == "mAP@200"}) == 5
    assert {row.gallery for row in rows if row.metric == "Acc@1"} == {"all", "class"}
    (expected,) = [row for row in rows if row.metric == "Acc@1, expected"]
    assert (expected.method, expected.value, expected.n) == (CHANCE, 1 / 18, 18), "three classes of six photos"
    colour = [row for row in rows if row.method == "colour"]
    assert {(row.backbone, row.weights_sha256) for row in colour} == {("colour", "f" * 64)}
    assert set(table(rows)) == {*TRAINED, B_CLIP, B_SD, B_BOTH, "colour", CHANCE}
    assert all(0 < value <= 1 for value, _ in table(rows).values())
    assert set(table(rows, "clip-style")) == set(table(rows)) - {"late fusion"}


@pytest.mark.parametrize("split", GENERALISED.values())
def test_seen_and_unseen_queries_of_a_generalised_test_make_up_its_mean(rows, split):
    whole, unseen, seen = (
        next(row for row in rows if (row.method, row.split, row.gallery) == ("fused", split, gallery))
        for gallery in ("all", UNSEEN, SEEN)
    )
    assert whole.n == unseen.n + seen.n and unseen.n == 18
    assert whole.value == pytest.approx((unseen.value * unseen.n + seen.value * seen.n) / whole.n)


def test_the_paired_test_compares_fused_with_every_other_method(compared, rows):
    task, trials, frozen = compared
    found = compare.differences(RUN, task, trials.values(), frozen, "a" * 64)
    assert {(r.metric, r.split) for r in found} == {
        ("mAP@all: fused - other", "strict"),
        ("Acc@1: fused - other", "strict"),
    }
    told = results.differences(found, "all", "mAP@all")
    assert set(told) == set(table(rows)) - {"fused"} and {row.n for row in found} == {18}
    assert told[B_CLIP][0] == pytest.approx(table(rows)["fused"][0] - table(rows)[B_CLIP][0])
    assert all("over photos" in row.definition for row in found)


def test_the_seed_alone_decides_and_models_need_not_be_kept(compared, tiny_backbone, world):
    task = Retrieval(world, 1, 2e-3, 8, problems=("clip-style",))
    (again,), frozen = compare.compare(tiny_backbone, task, ("CLIP only",), keep_models=False, log=lambda line: None)
    torch.testing.assert_close(again.found.sketches, compared[1]["CLIP only", "clip-style"].found.sketches)
    assert again.model is None and task.problems("late fusion") == ("clip-style",), "where there is no other problem"
    (tested,) = [found for found in task.measure(again, frozen) if found.groups is not None]
    assert (tested.metric, len(set(tested.groups))) == ("mAP@all", len(tested.values))  # arms are compared by it


def test_pictures_mark_right_and_wrong_by_more_than_colour():
    photo = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(0))
    right, wrong = (np.asarray(marked(photo, good).convert("L")) for good in (True, False))
    corner = slice(-40, -10)
    assert (np.abs(right[corner, corner].astype(int) - wrong[corner, corner]) > 60).mean() > 0.05
    rows = [[photo] * 3] * 2, [[True, False, True]] * 2
    assert ranked_lists([photo, photo], *rows, ["a", "b"]).png()
    assert ranked_lists([photo, photo], *rows, ["a", "b"], own=[photo, photo]).png()
    points = np.random.default_rng(0).normal(size=(12, 2))
    first, second = (embedding_map(points, ["cat", "$x$"] * 6, [True] * 6 + [False] * 6, "map").png() for _ in range(2))
    assert first == second


@pytest.fixture
def task(compared, world):
    """A task that prepares nothing but gives what the plain arms had."""
    task = Retrieval(world, 1, 2e-3, 8, problems=("strict", "fine-grained"))
    sides = {side: compared[2][side] for side in task.parts}
    task.read = lambda extractor, part, size: next(
        sides[side] for side, records in task.parts.items() if records is part
    )
    return task


def test_both_levels_of_every_arm_that_learns_an_injection_start_at_random(task, tiny_backbone):
    task.epochs = 0
    trials, _ = compare.compare(tiny_backbone, task, ("late fusion",), log=lambda line: None)
    assert [all(p.any() for p in trial.model.extractor.injection.parameters()) for trial in trials] == [True, True]


@pytest.mark.parametrize("changed", [{"margin": 0.2}, {"level": "instance"}, {"category_weight": 0.5}])
def test_a_checkpoint_of_a_model_with_other_settings_is_refused(task, tiny_backbone, tmp_path, changed, monkeypatch):
    def train():
        return compare.compare(tiny_backbone, task, ("CLIP only",), log=lambda line: None, checkpoints=tmp_path)[0]

    first = [trial.history for trial in train()]
    assert [trial.history for trial in train()] == first and (tmp_path / "clip-only-seed0" / "strict").is_dir()
    monkeypatch.setattr(task, "model", lambda extractor, frozen: SketchRetriever(extractor, **changed))
    with pytest.raises(
        ValueError, match=f"is of another training .*model {next(iter(changed))} was .* and is "
    ) as error:
        train()
    one_sentence(error)


@pytest.fixture
def notebook(compared, tiny_backbone, world):
    """The notebook's cells, and the names that they use once the arms are compared."""
    path = Path(__file__).parents[1] / "notebooks" / "05_retrieval.ipynb"
    names = {"task": compared[0], "first": compared[1], "models": tiny_backbone, "data": world, "B_CLIP": B_CLIP}
    names |= {"given": {"colour": Colour()}, "AP": AP, "Acc": Acc, "evaluate_retrieval": evaluate_retrieval, "nn": nn}
    names |= {"np": np, "splits": splits, "load_dataset": load_dataset, "reading_size": arms.reading_size}
    return nbformat.read(path, as_version=4).cells, names | {"retrieval": retrieval, "compare": compare.compare}


def test_a_folder_is_ranked_without_being_learned_from(notebook, tmp_path):
    toyworld.write_folder(tmp_path, photos=3, sketches=1, categories=("tree", "key"), masks=False)
    cells, names = notebook
    names["run"] = SimpleNamespace(dataset="folder", data_root=tmp_path, skip_broken=False)
    (source,) = [cell.source for cell in cells if "folder" in cell.metadata.get("tags", [])]
    exec(source, names)
    assert list(names["ranked"]) == [*TRAINED, B_CLIP, "colour"]
    assert all(values.shape == (6,) and (values > 0).all() for values in names["ranked"].values())


def test_the_exercises_solutions_run(notebook, capsys):
    cells, names = notebook
    names["run"] = SimpleNamespace(epochs=1, learning_rate=2e-3, batch_size=8, seed=0)
    (text,) = [cell.source for cell in cells if "Solution to 1" in cell.source]
    for solution in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(solution, names)
    printed = capsys.readouterr().out
    assert "hard alone class" in printed and len(printed.splitlines()) == 3 + 1 + 4
