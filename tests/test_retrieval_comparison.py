"""The arms of the retrieval tables are trained and tested alike, and what is told of them is what was measured."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from sfhelpers import results, toyworld
from sfhelpers.datasets import Dataset, load_dataset, sketchy, splits
from sfhelpers.fusion import FusedExtractor
from sfhelpers.images import load_images
from sfhelpers.metrics import AP, Acc
from sfhelpers.tasks import arms, heads, retrieval
from sfhelpers.tasks import retrieval_comparison as comparison
from sfhelpers.tasks import retrieval_pictures as pictures
from sfhelpers.tasks import retrieval_report as report
from tests.backbone_fixtures import one_sentence

CATEGORIES = ("bus", "cat", "cup", "duck", "fish", *toyworld.UNSEEN[:3])
TRAINED = ("fused", "CLIP only", "late fusion")
RUN = SimpleNamespace(
    notebook="05_retrieval", backbone="tiny", dataset="toy", split="default", seed=0, device="cpu", epochs=1, limit=0,
    learning_rate=2e-3,
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


def compare(backbone, dataset, methods, seeds=(0,), **options):
    settings = {"epochs": 1, "learning_rate": 2e-3, "batch_size": 8, "log": lambda line: None}
    return comparison.compare(backbone, dataset, methods, seeds, **settings | options)


@pytest.fixture(scope="module")
def compared(tiny_backbone, world):
    trials, parts = compare(
        tiny_backbone, world, (*TRAINED, *comparison.UNTRAINED), others={"colour": Colour()}
    )  # fmt: skip
    return {trial.method: trial for trial in trials}, parts


@pytest.fixture(scope="module")
def rows(compared):
    trials, parts = compared
    return report.rows(RUN, trials.values(), parts, "a" * 64, {"colour": Colour()})


def test_every_method_ranks_every_problem(compared):
    trials, parts = compared
    assert list(trials) == [*TRAINED, *comparison.UNTRAINED[:3], "colour", comparison.CHANCE]
    for method, trial in trials.items():
        wanted = set(comparison.EVERY) if method != "late fusion" else {"strict", "fine-grained"}
        assert set(trial.vectors) == wanted
        for problem, (sketches, photos) in trial.vectors.items():
            pool = parts.pools[problem]
            assert len(sketches) == len(pool.sketches) and len(photos) == len(pool.photos)
            assert torch.isfinite(sketches).all() and sketches.std() > 0
        assert (trial.model is None) == (method not in TRAINED)


@pytest.mark.parametrize("problem", comparison.EVERY)
def test_b_sd_knows_the_channels_of_nothing_but_what_its_problem_trains_on(problem, compared, tiny_backbone):
    """The strict split trains on what the clip-style one tests: each has means and spreads of its own."""
    trials, parts = compared
    train, pool = parts.images.pairs_of(parts.splits[problem].train), parts.pools[problem]
    side = arms.reading_size(tiny_backbone)
    extractor = FusedExtractor(tiny_backbone, inject="none", branches=("f3",), width=1)
    known = [train.sketch_records[k].path for k in train.pairs[:, 0]]
    known += [train.photo_records[k].path for k in train.pairs[:, 1]]
    assert len(train) <= 64 and not set(known) & {record.path for record in pool.sketches + pool.photos}
    extractor.fit_statistics(extractor.prepare(load_images(known, side)))
    features = extractor.features(extractor.prepare(load_images([r.path for r in pool.photos], side)))["f3"]
    expected = extractor.statistics["f3"](features).amax(dim=(2, 3))
    torch.testing.assert_close(trials["B-SD"].vectors[problem][1], expected, rtol=1e-4, atol=1e-4)


def test_no_image_or_class_of_a_test_is_trained_on_in_any_problem(compared):
    _, parts = compared
    for problem, found in parts.splits.items():
        pairs = [parts.images.pairs_of(part) for part in (found.train, found.validation)]
        learned = {r.path for p in pairs for r in [p.sketch_records[k] for k in p.pairs[:, 0]]}
        learned |= {r.path for p in pairs for r in [p.photo_records[k] for k in p.pairs[:, 1]]}
        tested = {r.path for r in (*parts.pools[problem].sketches, *parts.pools[problem].photos)}
        assert learned and tested
        assert not {path.read_bytes() for path in learned} & {path.read_bytes() for path in tested}
        zero_shot = parts.pools[problem].tests["zero-shot"][1]
        classes = {parts.pools[problem].photos[k].category for k in zero_shot}
        assert classes == set(found.split.test) and not classes & {path.parent.name for path in learned}


def test_the_vectors_are_those_of_the_images(compared):
    trials, parts = compared
    trial, pool = trials["fused"], parts.pools["fine-grained"]
    images = load_images([record.path for record in pool.photos[:3]], 96)
    with torch.no_grad():
        again = trial.models["fine-grained"].eval()(images)
    torch.testing.assert_close(trial.vectors["fine-grained"][1][:3], again, atol=1e-4, rtol=1e-3)


def test_map_of_all_is_scikit_learns(compared):
    trials, parts = compared
    (sketches, photos), (asking, offered) = comparison.asked(trials["B-CLIP"], parts, "strict")
    found = comparison.scores(trials["B-CLIP"], parts, "strict")[AP()]
    for sketch, vector, value in zip(sketches, asking, found, strict=True):
        right = [photo.category == sketch.category for photo in photos]
        assert value == pytest.approx(average_precision_score(right, (offered @ vector).numpy()), abs=1e-6)


def test_fine_grained_counts_the_drawn_photo_alone_and_the_gallery_class_is_easier(compared):
    trials, parts = compared
    every, own = (
        comparison.scores(trials["fused"], parts, "fine-grained", measures=(Acc(1), Acc(5)), gallery=gallery)
        for gallery in ("all", "class")
    )
    assert (own[Acc(1)] >= every[Acc(1)]).all() and (own[Acc(5)] >= every[Acc(5)]).all()
    pool = parts.pools["fine-grained"]
    offered = [pool.photos[k] for k in pool.tests["zero-shot"][1]]
    assert report.chance(parts) == pytest.approx(1 / len(offered))
    assert report.chance(parts, gallery="class", k=3) == pytest.approx(3 / 6)
    assert report.chance(parts, "strict") == pytest.approx(1 / 3)


def test_chance_is_near_the_prevalence_and_another_with_another_seed(compared):
    trials, parts = compared
    values = comparison.scores(trials[comparison.CHANCE], parts, "strict")[AP()]
    assert abs(values.mean() - report.chance(parts, "strict")) < 0.2
    again = comparison.random_directions(parts, 1)["strict"][0]
    assert not torch.equal(again, trials[comparison.CHANCE].vectors["strict"][0])


def test_b_sd_and_clip_stand_side_by_side_with_equal_weight(compared):
    trials, _ = compared
    both, sd, clip = (trials[name].vectors["strict"][0] for name in ("B-SD+CLIP", "B-SD", "B-CLIP"))
    similarity = [torch.nn.functional.normalize(v, dim=1) for v in (both, sd, clip)]
    cosine, first, second = (v @ v.T for v in similarity)
    torch.testing.assert_close(cosine, (first + second) / 2, atol=1e-5, rtol=1e-4)


def test_rows_carry_split_gallery_and_definition(rows):
    names = {(row.split, row.gallery, row.metric, row.definition, row.method) for row in rows}
    assert len(names) == len(rows)  # no two rows that only their value tells apart
    generalised = {row.split for row in rows if row.gallery == report.SEEN}
    assert generalised == set(report.GENERALISED.values())
    assert len({row.definition for row in rows if row.metric == "mAP@200"}) == 5
    assert {row.gallery for row in rows if row.metric == "Acc@1"} == {"all", "class"}
    (expected,) = [row for row in rows if row.metric == report.EXPECTED]
    assert (expected.method, expected.value) == ("chance", pytest.approx(1 / 18)), "three classes of six photos"
    colour = [row for row in rows if row.method == "colour"]
    assert {(row.backbone, row.weights_sha256) for row in colour} == {("colour", "f" * 64)}
    table = report.table(rows)
    assert set(table) == {*TRAINED, *comparison.UNTRAINED, "colour"} and all(0 < v[0] <= 1 for v in table.values())
    assert set(report.table(rows, split="clip-style")) == set(table) - {"late fusion"}


def test_seen_and_unseen_queries_of_a_generalised_test_make_up_its_mean(rows):
    for split in report.GENERALISED.values():
        whole, unseen, seen = (
            next(row for row in rows if (row.method, row.split, row.gallery) == ("fused", split, gallery))
            for gallery in ("all", report.UNSEEN, report.SEEN)
        )
        assert whole.n == unseen.n + seen.n and unseen.n == 18
        assert whole.value == pytest.approx((unseen.value * unseen.n + seen.value * seen.n) / whole.n)


def test_the_paired_test_compares_fused_with_every_other_method(compared):
    trials, parts = compared
    found = report.tests(RUN, trials.values(), parts, "a" * 64)
    others = {row.method for row in found if row.metric == "mAP@all: fused - other"}
    assert others == set(trials) - {"fused"} and {row.metric.split(":")[0] for row in found} == {"mAP@all", "Acc@1"}
    values = {m: comparison.scores(t, parts, "strict")[AP()].mean() for m, t in trials.items()}
    mean = next(r for r in found if r.method == "B-CLIP" and r.metric[0] == "m" and r.definition.endswith("; mean"))
    assert mean.value == pytest.approx(values["fused"] - values["B-CLIP"]) and mean.n == 18


def test_one_ranking_has_the_denominators_order(compared):
    trials, parts = compared
    found = report.definitions_at(trials["fused"], parts, 3)
    assert report.relevant(parts) == 6
    assert found["mAP@3, / R"] <= found["mAP@3, / min(3, R)"] <= found["mAP@3, / found"]
    assert found["mAP@3, / 3"] == pytest.approx(2 * found["mAP@3, / R"])


def test_the_seed_alone_decides_and_models_need_not_be_kept(compared, tiny_backbone, world):
    again, _ = compare(tiny_backbone, world, ("CLIP only",), keep_models=False, problems=("strict",))
    torch.testing.assert_close(again[0].vectors["strict"][0], compared[0]["CLIP only"].vectors["strict"][0])
    assert again[0].model is None and not again[0].models


def test_the_task_tells_the_headline_number_and_groups_by_photo(compared, tiny_backbone, world):
    task = comparison.task(world, 1, 2e-3, 8)
    trials, parts = arms.compare(tiny_backbone, task, ("CLIP only",), (0,), log=lambda line: None)
    values, groups = task.values(trials[0], parts), task.groups(parts)
    assert values.keys() == groups.keys() == {"unseen categories"}
    assert len(values["unseen categories"]) == len(groups["unseen categories"]) == 18
    assert len(set(groups["unseen categories"])) == 18 and task.metric == "mAP@all"
    expected = comparison.scores(compared[0]["CLIP only"], compared[1], "strict")[AP()]
    np.testing.assert_allclose(values["unseen categories"], expected, atol=1e-6)


def test_both_levels_of_every_arm_that_learns_an_injection_start_at_random(tiny_backbone, world, monkeypatch):
    starts = []

    def train(model, *args, **settings):
        starts.append(all(bool(p.any()) for p in model.extractor.injection.parameters()))
        return untouched(model, *args, **settings)

    untouched = retrieval.train_retriever
    monkeypatch.setattr(retrieval, "train_retriever", train)
    compare(tiny_backbone, world, ("fused", "late fusion"), problems=("strict", "fine-grained"))
    assert starts == [True] * 4


def test_a_head_is_kept_and_read_back(compared, tiny_backbone, tmp_path):
    trials, _ = compared
    files = heads.save_heads(RUN, trials.values(), tiny_backbone.weights_sha256, tmp_path, task="retrieval")
    assert len(files) == len(TRAINED)
    head = heads.load_head(tmp_path / "clip-only.safetensors", tiny_backbone, "retrieval")
    assert head.model.settings == trials["CLIP only"].model.settings
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(head.model(images), trials["CLIP only"].model.eval()(images))


def test_a_folder_is_ranked_without_being_learned_from(tmp_path, compared):
    toyworld.write_folder(tmp_path, photos=3, sketches=1, categories=("tree", "key"), masks=False)
    shown = load_dataset("folder", tmp_path)
    found = report.rank_folder(shown, {"fused": compared[0]["fused"].model.eval(), "colour": Colour()}, 96)
    assert {name: values.shape for name, values in found.items()} == {"fused": (6,), "colour": (6,)}
    assert report.prevalence(shown) == 0.5
    rows = report.folder_rows(RUN, found, "a" * 64, {"colour": Colour()})
    assert [(r.method, r.split, r.backbone, r.n) for r in rows] == [
        ("fused", "not trained on", "tiny", 6), ("colour", "not trained on", "colour", 6),
    ]  # fmt: skip
    results.write(rows, tmp_path / "rows.json")


def test_pictures_mark_right_and_wrong_by_more_than_colour(compared):
    trials, parts = compared
    photo = pictures.open_image(parts.pools["strict"].photos[0].path)
    right, wrong = (np.asarray(pictures.marked(photo, good).convert("L")) for good in (True, False))
    corner = slice(-40, -10)
    assert (np.abs(right[corner, corner].astype(int) - wrong[corner, corner]) > 60).mean() > 0.05
    ap = comparison.scores(trials["fused"], parts, "strict")[AP()]
    assert pictures.ranked_lists(trials["fused"], parts, "strict", [0, 5], ap, "AP", shown=4).png()
    assert pictures.ranked_lists(trials["fused"], parts, "fine-grained", [0], ap, "1/rank", shown=4).png()
    first, second = (pictures.embedding_map(trials["fused"], parts).png() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"methods": ("fusion",)}, "unknown method 'fusion'"),
        ({"methods": (comparison.CHANCE,)}, "no arm to train"),
        ({"methods": ("CLIP only",), "problems": ("loose",)}, "unknown problem 'loose'"),
    ],
)
def test_misuse_is_refused_in_one_sentence(tiny_backbone, world, options, words):
    with pytest.raises(ValueError, match=words) as error:
        compare(tiny_backbone, world, **options)
    one_sentence(error)


def test_a_folder_that_was_parted_pairs_no_training_sketch_with_a_test_photo(tiny_backbone, tmp_path):
    toyworld.write_folder(tmp_path, photos=16, sketches=1, categories=CATEGORIES[:6], masks=False)
    data = load_dataset("folder", tmp_path, "parts")
    extractor = arms.extractor_for("CLIP only", tiny_backbone, 0)
    split = splits.clip_style(data, number=2)
    images = comparison.prepare_images(extractor, data, 96)
    found = splits.apply(data, split)
    pairs = images.pairs_of(found.train)
    assert {images.photo_records[k] for k in pairs.pairs[:, 1]} <= set(found.train.photos)
    assert {images.sketch_records[k] for k in pairs.pairs[:, 0]} <= set(found.train.sketches)
