"""The arms of the correspondence table are trained and tested alike, and what is told of them is what was measured."""

import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from sfhelpers import metrics, results, toyworld
from sfhelpers.datasets import Dataset, psc6k, sketchy
from sfhelpers.fusion import FusedExtractor
from sfhelpers.plots.matches import Match, matches
from sfhelpers.tasks import arms, correspondence, differences
from sfhelpers.tasks import correspondence_comparison as comparison
from sfhelpers.tasks import correspondence_report as report
from sfhelpers.tasks import correspondence_unlabelled as unlabelled
from sfhelpers.tasks.correspondence_comparison import METHODS, RAW, SAME_PIXEL, TRIVIAL, RawFeatures
from sfhelpers.toyworld import keypoint_names
from tests.backbone_fixtures import one_sentence

CATEGORIES = ("cat", "duck", toyworld.UNSEEN[0])
RUN = SimpleNamespace(
    notebook="03_correspondence", backbone="tiny", dataset="folder", split="x", seed=0, device="cpu", epochs=1
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    toyworld.write_sketchy(root, photos=6, sketches=2, categories=CATEGORIES)
    return Dataset("toy", root, "default", tuple(sketchy.read(root, unseen=toyworld.UNSEEN)))


def compare(backbone, annotated, methods, seeds=(0,), **options):
    settings = {"epochs": 1, "learning_rate": 2e-3, "batch_size": 4, "log": lambda line: None}
    return comparison.compare(backbone, annotated, methods, seeds, **settings | options)


@pytest.fixture(scope="module")
def compared(tiny_backbone, world):
    """Every method with seed 0: the trials by method, and the parts."""
    trials, parts = compare(tiny_backbone, psc6k.load(world), METHODS)
    return {trial.method: trial for trial in trials}, parts


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_places_for_seen_and_unseen_categories_in_both_directions(compared, method):
    trials, parts = compared
    trial = trials[method]
    assert trial.places.keys() == parts.test.keys() == {"seen", "unseen"}
    for part, data in parts.test.items():
        for direction in ("s2p", "p2s"):
            places = trial.places[part][direction]
            assert places.shape == (len(data), 8, 2) and places[data.visible].std() > 0
            assert places[data.visible].min() >= 0 and places[data.visible].max() <= 1
    assert (trial.history is None) == (method in TRIVIAL)


def test_the_same_pixel_is_the_point_itself(compared):
    trials, parts = compared
    for part, data in parts.test.items():
        assert torch.equal(trials[SAME_PIXEL].places[part]["s2p"], data.points["sketch"])
        assert torch.equal(trials[SAME_PIXEL].places[part]["p2s"], data.points["photo"])


def test_the_arms_learn_equally_many_parameters(compared):
    counts = {m: t.parameters for m, t in compared[0].items() if t.history and m != arms.FINETUNING}
    assert len(counts) == len(arms.METHODS) - 1
    assert max(counts.values()) <= 1.03 * min(counts.values()), counts


def test_the_seed_alone_decides(compared, tiny_backbone, world):
    trials, _ = compare(tiny_backbone, psc6k.load(world), ("fused", "CLIP only"), seeds=(1, 0), keep_models=False)
    for other, again in zip(trials[::2], trials[1::2], strict=True):
        before = compared[0][again.method].places["seen"]["s2p"]
        assert again.model is None and torch.equal(before, again.places["seen"]["s2p"])
        assert not torch.equal(before, other.places["seen"]["s2p"])


def test_raw_features_weigh_every_source_the_same(tiny_backbone, two_images):
    extractor = arms.extractor_for("SD+CLIP concatenated", tiny_backbone, 0)
    prepared = extractor.prepare(two_images)
    extractor.fit_statistics(prepared)
    found = RawFeatures(extractor, ("f2", "tokens"))(prepared)
    channels = extractor.features(prepared)["f2"].shape[1]
    lengths = [part.norm(dim=1) for part in (found[:, :channels], found[:, channels:])]
    for length in lengths:
        torch.testing.assert_close(length, torch.ones_like(length))


@pytest.mark.parametrize(
    ("methods", "said"),
    [([SAME_PIXEL], "name at least one"), (["fused", "SD"], "unknown method 'SD'"), ([*RAW], "name at least one")],
)
def test_methods_that_cannot_be_are_refused_before_anything_is_prepared(methods, said):
    with pytest.raises(ValueError, match=said) as error:
        compare(None, None, methods)
    one_sentence(error)


def test_the_task_gives_a_value_and_a_photo_for_every_directed_pair(compared, world):
    trials, parts = compared
    task = comparison.task(psc6k.load(world), 1, 2e-3, 4)
    values, groups = task.values(trials["fused"], parts), task.groups(parts)
    for gallery, data in (("seen categories", parts.test["seen"]), ("unseen categories", parts.test["unseen"])):
        assert len(values[gallery]) == len(groups[gallery]) == 2 * len(data)
        assert len(np.unique(groups[gallery])) == len(data.images.photo_records)
        np.testing.assert_array_equal(
            values[gallery], report.score(trials["fused"].places[gallery.split()[0]], data, 0.05)
        )


def test_rows_hold_both_metrics_under_every_definition(compared, tmp_path):
    trials, parts = compared
    results.write(report.rows(RUN, trials.values(), parts, "aa"), tmp_path / "results.json")
    rows = results.read(tmp_path / "results.json")
    whole = [row for row in rows if not row.gallery.endswith("mirrored")]
    assert len(whole) == len(METHODS) * 2 * 2 * len(report.DEFINITIONS)
    assert {(row.dataset, row.split) for row in rows} == {("toy", "default")}
    for definition in report.DEFINITIONS:
        assert results.table(rows, "unseen categories", "PCK@10", definition).keys() == set(METHODS)
    data = parts.test["seen"]
    row = next(r for r in rows if (r.method, r.gallery, r.metric, r.definition) ==
               ("fused", "seen categories", "PCK@5", "image side, <=, mean over pairs, sketch to photo"))  # fmt: skip
    by_hand = metrics.pck(
        trials["fused"].places["seen"]["s2p"] * 256, data.points["photo"] * 256, 0.05, 256, data.visible
    )
    assert (row.value, row.n) == (pytest.approx(by_hand.mean()), len(data))


def test_rows_tell_mirrored_pairs_from_the_others(compared):
    trials, parts = compared
    rows = report.rows(RUN, [trials["fused"]], parts, "aa")
    for part, data in parts.test.items():
        found = {r.gallery: r for r in rows if r.metric == "PCK@10" and r.definition == comparison.DEFINITION}
        apart = [found.get(f"{part} categories, {kind}") for kind in report.HANDEDNESS]
        counts = [2 * int((report.mirrored(data) == k).sum()) for k in (False, True)]
        assert [row.n if row else 0 for row in apart] == counts
        mean = sum(row.value * row.n for row in apart if row) / sum(counts)
        assert mean == pytest.approx(found[f"{part} categories"].value)


def made_up(compared):
    """Test pairs, and predictions that are right, on the next keypoint, or far from all."""
    data = compared[1].test["seen"]
    places = {d: data.points[k].clone() for d, k in (("s2p", "photo"), ("p2s", "sketch"))}
    return data, places


def test_definitions_differ_as_they_say(compared):
    data, _ = made_up(compared)
    data = replace(data, points={k: (p * 64).round() / 64 for k, p in data.points.items()})  # exact in binary
    places = {"s2p": data.points["photo"], "p2s": data.points["sketch"]}
    names = list(report.DEFINITIONS)
    assert all(report.score(places, data, 0.05, name).mean() == 1 for name in names)
    places["s2p"] = places["s2p"] + torch.tensor([0.0625, 0.0])  # all points on the threshold of 1/16
    by_name = {name: report.score(places, data, 0.0625, name).mean() for name in names}
    both, s2p, p2s, strict, points, box = by_name.values()
    assert (both, s2p, p2s) == (1, 1, 1) and strict == pytest.approx(0.5) and box < 1 and points == 1


def test_a_pair_whose_visible_points_coincide_has_no_box_and_is_left_out_by_the_box_alone(compared):
    data, places = made_up(compared)
    photo = data.points["photo"].clone()
    photo[0] = 0.25
    data = replace(data, points=data.points | {"photo": photo})
    (box,) = (name for name in report.DEFINITIONS if "box" in name)
    assert len(report.score(places, data, 0.05, box)) == 2 * len(data) - 1
    assert len(report.score(places, data, 0.05)) == 2 * len(data)


def test_ways_to_fail_are_counted(compared):
    data, places = made_up(compared)
    assert report.mistaken(places, data) == {"right": 1, "on another keypoint": 0, "elsewhere": 0}
    away = {d: torch.full_like(p, 3.0) for d, p in places.items()}
    assert report.mistaken(away, data)["elsewhere"] == 1
    whole = replace(data, visible=torch.ones_like(data.visible))
    apart = torch.linspace(0.05, 0.95, 8)[:, None].expand(8, 2).expand(len(data), 8, 2)
    whole.points = {"sketch": apart, "photo": apart}
    rolled = {d: apart.roll(1, 1) for d in places}
    assert report.mistaken(rolled, whole)["on another keypoint"] == 1


def test_a_mirrored_pair_is_known_by_its_points(compared):
    data, _ = made_up(compared)
    turn = torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    flip = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
    shape = torch.rand(len(data), 8, 2, generator=torch.Generator().manual_seed(0))
    for matrix, answer in ((turn, False), (turn @ flip, True)):
        moved = replace(data, points={"sketch": shape, "photo": 0.5 * shape @ matrix})
        assert (report.mirrored(replace(moved, visible=torch.ones_like(data.visible))) == answer).all()


def test_categories_come_worst_first(compared):
    data, places = made_up(compared)
    bad = torch.tensor([data.images.photo_records[k].category == "duck" for k in data.images.pairs[:, 1]])
    places["p2s"][bad] = 3.0
    assert list(report.by_category(comparison.Trial("x", 0, None, None, 0, 0, {"seen": places}), "seen", data)) == [
        "duck",
        "cat",
    ]


def colours(figure):
    picture = np.asarray(Image.open(io.BytesIO(figure.quick_png())).convert("RGB")).reshape(-1, 3).astype(int)
    return {name: (np.abs(picture - rgb).max(1) < 12).any() for name, rgb in
            {"blue": (0, 114, 178), "vermilion": (213, 94, 0)}.items()}  # fmt: skip


def test_pairs_come_worst_first_by_their_visible_points_and_once_a_category(compared):
    data, _ = made_up(compared)
    data = replace(data, visible=data.visible.clone())
    true = {d: data.points[there].clone() for d, (_, there) in correspondence.SIDES.items()}
    order = report.by_error(true, data)
    assert order == list(range(2 * len(data)))  # none is wrong, and ties keep their order
    last = len(data) - 1
    true["p2s"][last][data.visible[last]] += 0.1
    data.visible[0, 0] = False
    true["s2p"][0, 0] += 0.5  # hidden, so it counts for nothing
    order = report.by_error(true, data)
    assert order[0] == 2 * len(data) - 1 and order[1:] == list(range(2 * len(data) - 1))
    kinds = [data.images.photo_records[k].category for k in data.images.pairs[:, 1]] * 2
    chosen = report.one_each(order, data)
    assert chosen[0] == order[0] and sorted(kinds[k] for k in chosen) == sorted(set(kinds))


def test_matches_are_drawn_right_and_wrong_in_colours_of_their_own(compared):
    data, places = made_up(compared)
    assert colours(report.show(places, data, [0, len(data)])) == {"blue": True, "vermilion": False}
    places["s2p"][0] = 0.0
    assert colours(report.show(places, data, [0, len(data)])) == {"blue": True, "vermilion": True}
    white = np.full((20, 20, 3), 255, np.uint8)
    nobody_knows = Match(white, white, np.full((2, 2), 0.5), np.full((2, 2), 0.2))
    assert colours(matches([nobody_knows])) == {"blue": False, "vermilion": False}
    with pytest.raises(ValueError, match="no pair to show") as error:
        matches([])
    one_sentence(error)


def test_a_warped_image_shows_at_the_moved_point_what_the_image_showed():
    generator = torch.Generator().manual_seed(0)
    matrices = unlabelled.random_similarities(6, generator)
    assert (torch.linalg.det(matrices[:, :, :2]) > 0).all(), "a mirror image would teach left for right"
    coarse = torch.rand(6, 3, 5, 5, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=(80, 80), mode="bicubic")
    points = 0.35 + 0.3 * torch.rand(6, 20, 2, generator=generator)
    moved = unlabelled.move(points, matrices)
    before = correspondence.sample(images, points)
    after = correspondence.sample(unlabelled.warp(images, matrices), moved)
    torch.testing.assert_close(after, before, atol=0.03, rtol=0)
    assert (moved - points).norm(dim=2).mean() > 0.03


def test_the_self_supervised_split_trains_without_keypoints(tiny_backbone, world, monkeypatch):
    annotated = psc6k.load(world, "self-supervised")
    trials, parts = compare(tiny_backbone, annotated, ["fused", "B-SD", SAME_PIXEL], epochs=2)
    assert isinstance(parts.train, unlabelled.WarpedPairs) and parts.split == "self-supervised"
    trained = {(r.category, r.instance) for r in parts.train.images.photo_records}
    tested = {(r.category, r.instance) for data in parts.test.values() for r in data.images.photo_records}
    assert trained and not trained & tested
    blind = replace(annotated, pairs=tuple(
        replace(p, photo_points=np.full((8, 2), 9.0), sketch_points=np.full((8, 2), 9.0)) for p in annotated.pairs
    ))  # fmt: skip
    again, _ = compare(tiny_backbone, blind, ["fused"], epochs=2)
    for before, after in zip(trials[0].model.parameters(), again[0].model.parameters(), strict=True):
        assert torch.equal(before, after)
    assert {row.split for row in report.rows(RUN, trials, parts, "aa")} == {"self-supervised"}


def test_trained_with_the_real_extractor_the_loss_reaches_the_injection(tiny_backbone, world):
    extractor = FusedExtractor(tiny_backbone, dim=12, grid=9, width=8)
    pairs = psc6k.load(world).select("train", True)[:2]
    data = correspondence.prepare_points(extractor, pairs, arms.reading_size(tiny_backbone))
    model = correspondence.SketchMatcher(extractor)
    correspondence.pairs_loss(model, data, torch.arange(len(data))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in extractor.injection.parameters() if p.ndim > 1)
    assert model.log_temperature.grad.abs() > 0 and model.log_contrast_temperature.grad.abs() > 0


def test_differences_are_told_paired_over_photos(compared):
    trials, parts = compared
    rows = report.difference_rows(RUN, trials.values(), parts, "aa")
    found = differences.read(rows, "seen categories", "PCK@5")
    assert found.keys() == set(METHODS) - {"fused"}
    own, other = (report.score(trials[m].places["seen"], parts.test["seen"], 0.05) for m in ("fused", SAME_PIXEL))
    mean, low, high = found[SAME_PIXEL]
    assert mean == pytest.approx((own - other).mean()) and low <= mean <= high
    assert all("over photos" in row.definition for row in rows)


def test_points_are_told_apart_by_name(compared):
    data, places = made_up(compared)
    ducks = torch.tensor([data.images.photo_records[k].category == "duck" for k in data.images.pairs[:, 1]])
    for kind in places:
        places[kind][ducks, 4] = 3.0
    trial = comparison.Trial("x", 0, None, None, 0, 0, {"seen": places})
    found = report.by_keypoint(trial, "seen", data)
    assert next(iter(found)) == ("duck", 4) and list(found.values()) == [0.0] + [1.0] * (len(found) - 1)
    assert keypoint_names("duck")[4] == "chest" and len(set(keypoint_names("cat"))) == 8


def test_points_on_a_drawing_lie_on_its_strokes_and_apart():
    sketch = Image.new("L", (90, 90), 255)
    ImageDraw.Draw(sketch).line([(10, 45), (80, 45)], fill=20, width=3)
    points = report.ink_points(sketch, 4)
    assert (np.abs(points[:, 1] - 0.5) < 0.04).all() and sorted(points[:, 0])[0] < 0.15 and points[:, 0].max() > 0.85
    assert min(np.abs(points[i] - points[j]).max() for i in range(4) for j in range(i)) > 0.15
    with pytest.raises(ValueError, match="nothing is drawn") as error:
        report.ink_points(Image.new("L", (90, 90), 255))
    one_sentence(error)


def test_pairs_that_nobody_annotated_are_drawn_without_right_or_wrong(compared, world):
    model = compared[0]["fused"].model
    pair = next((s, p) for s in world.sketches for p in world.photos if s.instance == p.instance)
    assert colours(report.unscored(model, [pair], 96)) == {"blue": False, "vermilion": False}
    assert colours(report.show_truth(psc6k.load(world).pairs[:1]))["blue"]
