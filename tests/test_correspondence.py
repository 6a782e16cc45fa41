"""The matcher finds points finer than its grid and learns from eight a pair; its rows tell what was measured."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from sfhelpers import metrics, results, toyworld
from sfhelpers.datasets import Dataset, Record, psc6k, sketchy
from sfhelpers.datasets.psc6k import Annotated, KeypointPair
from sfhelpers.fusion import FusedExtractor
from sfhelpers.tasks import arms, warps
from sfhelpers.tasks import compare as protocol
from sfhelpers.tasks.correspondence import (
    DEFINITION,
    DEFINITIONS,
    HANDEDNESS,
    SAME_PIXEL,
    SIDES,
    Correspondence,
    RawFeatures,
    SketchMatcher,
    expected_position,
    mirrored,
    pairs_loss,
    predict_pairs,
    sample,
    score,
)
from sfhelpers.tasks.fit import Training
from sfhelpers.tasks.prepared import PreparedPairs, PreparedPoints, prepare_points
from tests.backbone_fixtures import one_sentence

METHODS = (*arms.METHODS, *Correspondence.baselines)
RUN = SimpleNamespace(
    notebook="03_correspondence", backbone="tiny", dataset="folder", split="x", seed=0, device="cpu", epochs=1
)
GRID = 12
COLOURS = torch.eye(3).repeat_interleave(2, 0) * torch.tensor([1.0, 0.4]).repeat(3)[:, None]  # six, told apart


class Learner(nn.Module):
    """Stands in for the fused extractor: two convolutions that learn."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.convs = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 12, 1))
        self.images = 0

    def frozen(self, images):
        return {"map": F.interpolate(images, size=(GRID, GRID))}

    def fit_statistics(self, prepared):
        pass

    def forward(self, prepared):
        self.images += len(prepared["map"])
        return self.convs(prepared["map"])


def bump(points, width=0.06):
    """(B, 2) in [0, 1] -> maps (B, J, GRID, GRID), a soft spot at each point; one channel a point."""
    centres = (torch.arange(GRID) + 0.5) / GRID
    x, y = ((centres - points[..., k, None]).square() for k in (0, 1))
    return torch.exp(-(x[..., None, :] + y[..., :, None]) / (2 * width**2)) + 1e-4


def dots(places):
    """(6, 2) places -> (3, GRID, GRID), a dot of each colour."""
    return torch.einsum("jhw,jc->chw", bump(places), COLOURS)


def world(n, seed, sketches=2):
    """n "photos" of six coloured dots, each with sketches: the same colours elsewhere, paler."""
    generator = torch.Generator().manual_seed(seed)
    places = 0.1 + 0.8 * torch.rand(n * (1 + sketches), 6, 2, generator=generator)
    maps = torch.stack([dots(p) for p in places]) + 0.02 * torch.randn(len(places), 3, GRID, GRID, generator=generator)
    records = [Record(Path(f"{k}.png"), "photo", "dots", str(k)) for k in range(n)]
    drawn = [Record(Path(f"{k}-{i}.png"), "sketch", "dots", str(k)) for k in range(n) for i in range(sketches)]
    pairs = torch.stack([torch.arange(n * sketches), torch.arange(n).repeat_interleave(sketches)], 1)
    images = PreparedPairs({"map": 0.7 * maps[n:]}, {"map": maps[:n]}, drawn, records, pairs, None)
    points = {"sketch": places[n:], "photo": places[:n].repeat_interleave(sketches, 0)}
    return PreparedPoints(images, points, torch.rand(n * sketches, 6, generator=generator) > 0.1)


def test_features_are_read_between_positions():
    ramp = ((torch.arange(GRID) + 0.5) / GRID).expand(1, 1, GRID, GRID)
    points = torch.tensor([[[0.3, 0.9], [0.515, 0.2]]])
    torch.testing.assert_close(sample(ramp, points)[0, :, 0], points[0, :, 0])  # x is the last axis
    torch.testing.assert_close(sample(ramp.mT, points)[0, :, 0], points[0, :, 1])


def test_a_peak_is_placed_more_finely_than_the_grid():
    points = 0.2 + 0.6 * torch.rand(1, 50, 2, generator=torch.Generator().manual_seed(0))
    error = (expected_position(bump(points).log()) - points).norm(dim=-1)
    assert error.max() < 0.1 / GRID


def test_the_window_keeps_a_second_peak_out_and_the_whole_map_does_not():
    here, there = torch.tensor([[[0.2, 0.3]]]), torch.tensor([[[0.85, 0.8]]])
    cosine = bump(here) + 0.9 * bump(there)
    target = torch.cat([cosine, (1 - cosine.square()).clamp(min=0).sqrt()], 1)  # of length 1, so this is the cosine
    source = torch.zeros(1, 2, GRID, GRID)
    source[:, 0] = 1
    found = {w: SketchMatcher(Learner(), window=w, temperature=0.1).locate(source, target, here) for w in (7, 23)}
    assert (found[7] - here).norm() < 0.5 / GRID
    assert (found[23] - here).norm() > 1.5 / GRID


def test_a_window_at_the_border_stays_inside_the_map():
    corner = torch.tensor([[[0.01, 0.99]]])
    target = torch.cat([bump(corner), 0.1 * torch.ones(1, 1, GRID, GRID)], 1)
    source = torch.tensor([1.0, 0.0])[None, :, None, None].expand(1, 2, GRID, GRID)
    place = SketchMatcher(Learner(), temperature=0.01).locate(source, target, corner)
    assert (place - corner).norm() < 1 / GRID


def test_an_even_window_is_refused():
    with pytest.raises(ValueError, match="window is 6") as error:
        SketchMatcher(Learner(), window=6)
    one_sentence(error)


def test_the_correlation_holds_the_asked_points_alone(monkeypatch):
    sizes = []
    kept = torch.einsum
    monkeypatch.setattr(torch, "einsum", lambda *a: sizes.append(kept(*a).numel()) or kept(*a))
    maps = torch.rand(2, 5, GRID, GRID)
    model = SketchMatcher(Learner())
    points = torch.rand(2, 8, 2)
    model.locate(maps, maps, points)
    model.loss(maps, maps, {"sketch": points, "photo": points}, torch.ones(2, 8, dtype=torch.bool))
    assert max(sizes) == 2 * 8 * GRID**2


def losses(model, data, hidden=0.0):
    points = {kind: torch.where(data.visible[..., None], value, hidden) for kind, value in data.points.items()}
    maps = [x["map"][data.images.pairs[:, k]] for k, x in enumerate((data.images.sketches, data.images.photos))]
    return model.loss(*maps, points, data.visible)


def test_hidden_points_change_no_loss_and_nothing_visible_gives_zero():
    data, model = world(4, 0), SketchMatcher(Learner())
    assert losses(model, data, 0.1) == losses(model, data, 0.9)
    assert losses(model, replace(data, visible=torch.zeros_like(data.visible))) == 0


def test_regularisers_act_in_training_alone():
    data = world(2, 0)
    model = SketchMatcher(Learner(), dropout=0.5, flow_noise=2.0)
    assert losses(model, data) != losses(model, data)
    model.eval()
    assert losses(model, data) == losses(model, data)


def trained(model, train, validation, epochs, seed=0):
    task = Correspondence(Annotated((), Dataset("", Path(), "", ()), "", ""), epochs, 1e-2, 8)
    frozen = {"train": train, "validation": validation}
    return Training(
        model, lambda m, i: task.loss(m, frozen, i), task.examples(frozen), lambda m: task.validate(m, frozen), epochs,
        1e-2, 8, seed,
    ).fit()  # fmt: skip


@pytest.fixture(scope="module")
def learned():
    model, train, validation = SketchMatcher(Learner()), world(40, 1), world(20, 2)
    return model, train, validation, trained(model, train, validation, 12)


def test_training_beats_the_same_pixel_and_the_start_clearly_in_both_directions(learned):
    model, _, validation, history = learned
    places = predict_pairs(model, validation)
    same = {direction: validation.points[source] for direction, (source, _) in SIDES.items()}
    found, trivial = (score(some, validation, 0.1).reshape(2, -1) for some in (places, same))  # a row a direction
    assert (np.nanmean(found, 1) > np.nanmean(trivial, 1) + 0.4).all()
    assert history.epochs[history.best_epoch]["validation"] > history.epochs[0]["validation"] + 0.1
    means = [np.nanmean(score(places, validation, alpha)) for alpha in (0.02, 0.04, 0.06, 0.08, 0.10)]
    assert history.epochs[history.best_epoch]["validation"] == pytest.approx(np.mean(means))
    assert not model.training


def test_a_photo_of_many_sketches_is_computed_once_a_step(learned):
    model, train, _, _ = learned
    model.extractor.images = 0
    pairs_loss(model, train, torch.tensor([0, 1, 2, 3]))
    assert model.extractor.images == 4 + 2


def pair_of(folder, size=(40, 40)):
    for name in ("p", "s"):
        Image.effect_noise(size, 90).convert("RGB").save(folder / f"{name}.png")
    points = np.full((8, 2), 64.0)
    points[3] = np.nan
    photo, sketch = (Record(folder / f"{name}.png", kind, "a", "p") for name, kind in (("p", "photo"), ("s", "sketch")))
    return KeypointPair(sketch, photo, points / 2, points, np.isfinite(points).all(1))


def test_points_are_prepared_as_shares_of_the_side_and_stay_with_their_images(tmp_path):
    data = prepare_points(Learner(), [pair_of(tmp_path)], size=40)
    assert data.points["photo"][0, 0].tolist() == [0.25, 0.25] and data.points["sketch"][0, 0].tolist() == [0.125] * 2
    assert data.visible[0].tolist() == [True] * 3 + [False] + [True] * 4
    assert torch.isfinite(data.points["photo"]).all()


def test_images_that_are_not_square_or_no_pair_are_refused(tmp_path):
    with pytest.raises(ValueError, match="60 x 40 px") as error:
        prepare_points(Learner(), [pair_of(tmp_path, (60, 40))], size=40)
    one_sentence(error)
    with pytest.raises(ValueError, match="no annotated pair") as error:
        prepare_points(Learner(), [], size=40)
    one_sentence(error)


def test_a_warped_image_shows_at_the_moved_point_what_the_image_showed():
    generator = torch.Generator().manual_seed(0)
    matrices = warps.random_similarities(6, generator)
    assert (torch.linalg.det(matrices[:, :, :2]) > 0).all(), "a mirror image would teach left for right"
    coarse = torch.rand(6, 3, 5, 5, generator=generator)
    images = F.interpolate(coarse, size=(80, 80), mode="bicubic")
    points = 0.35 + 0.3 * torch.rand(6, 20, 2, generator=generator)
    moved = warps.move(points, matrices)
    torch.testing.assert_close(sample(warps.warp(images, matrices), moved), sample(images, points), atol=0.03, rtol=0)
    assert (moved - points).norm(dim=2).mean() > 0.03


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    root = tmp_path_factory.mktemp("toy")
    toyworld.write_sketchy(root, photos=6, sketches=2, categories=("cat", "duck", toyworld.UNSEEN[0]))
    return Dataset("toy", root, "default", tuple(sketchy.read(root, unseen=toyworld.UNSEEN)))


def compare(backbone, task, methods, seeds=(0,), **options):
    return protocol.compare(backbone, task, methods, seeds, log=lambda line: None, **options)


@pytest.fixture(scope="module")
def task(toy):
    return Correspondence(psc6k.load(toy), 1, 2e-3, 4)


@pytest.fixture(scope="module")
def compared(tiny_backbone, task):
    """Every method with seed 0: the trials by method, and what is frozen."""
    trials, frozen = compare(tiny_backbone, task, METHODS)
    return {trial.method: trial for trial in trials}, frozen


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_places_for_seen_and_unseen_categories_in_both_directions(compared, method):
    trials, frozen = compared
    assert trials[method].found.keys() == frozen.keys() - {"train", "validation"} == {"seen", "unseen"}
    for part, found in trials[method].found.items():
        for direction, (source, _) in SIDES.items():
            places, visible = found[direction], frozen[part].visible
            assert places.shape == (len(frozen[part]), 8, 2) and places[visible].std() > 0
            assert places[visible].min() >= 0 and places[visible].max() <= 1
            assert torch.equal(places, frozen[part].points[source]) == (method == SAME_PIXEL)
    assert (trials[method].history is None) == (method in Correspondence.baselines)


def test_raw_features_weigh_every_source_the_same(tiny_backbone, two_images):
    extractor = arms.extractor_for("SD+CLIP concatenated", tiny_backbone, 0)
    prepared = extractor.prepare(two_images)
    extractor.fit_statistics(prepared)
    found = RawFeatures(extractor, ("f2", "tokens"))(prepared)
    channels = extractor.features(prepared)["f2"].shape[1]
    lengths = [part.norm(dim=1) for part in (found[:, :channels], found[:, channels:])]
    for length in lengths:
        torch.testing.assert_close(length, torch.ones_like(length))


def test_a_checkpoint_of_a_model_with_other_settings_is_refused(tiny_backbone, compared, task, tmp_path, monkeypatch):
    def run(**settings):
        monkeypatch.setattr(task, "model", lambda extractor, _: SketchMatcher(extractor, **settings))
        return compare(tiny_backbone, task, ("CLIP only",), checkpoints=tmp_path)[0][0].history

    monkeypatch.setattr(task, "parts", compared[1])
    monkeypatch.setattr(task, "read", lambda extractor, part, size: part)
    assert run() == run()
    for name, value in {"contrastive": 0.5, "flow": 0.0, "dropout": 0.2, "flow_noise": 1.0}.items():
        with pytest.raises(ValueError, match=f"is of another training .*model {name} was ") as error:
            run(**{name: value})
        one_sentence(error)


def test_rows_hold_both_metrics_under_every_definition(compared, task, tmp_path):
    trials, frozen = compared
    results.write(protocol.rows(RUN, task, trials.values(), frozen, "aa"), tmp_path / "results.json")
    rows = results.read(tmp_path / "results.json")
    whole = [row for row in rows if not row.gallery.endswith("mirrored")]
    assert len(whole) == len(METHODS) * 2 * 2 * len(DEFINITIONS)
    assert {(row.dataset, row.split) for row in rows} == {("toy", "default")}
    for definition in DEFINITIONS:
        assert results.table(rows, "unseen categories", "PCK@10", definition).keys() == set(METHODS)
    data = frozen["seen"]
    row = next(r for r in rows if (r.method, r.gallery, r.metric, r.definition) ==
               ("fused", "seen categories", "PCK@5", "image side, <=, mean over pairs, sketch to photo"))  # fmt: skip
    by_hand = metrics.pck(
        trials["fused"].found["seen"]["s2p"] * 256, data.points["photo"] * 256, 0.05, 256, data.visible
    )
    assert (row.value, row.n) == (pytest.approx(by_hand.mean()), len(data))


def test_rows_tell_mirrored_pairs_from_the_others(compared, task):
    trials, frozen = compared
    rows = protocol.rows(RUN, task, [trials["fused"]], frozen, "aa")
    for part in ("seen", "unseen"):
        found = {r.gallery: r for r in rows if r.metric == "PCK@10" and r.definition == DEFINITION}
        apart = [found.get(f"{part} categories, {kind}") for kind in HANDEDNESS]
        counts = [2 * int((mirrored(frozen[part]) == k).sum()) for k in (False, True)]
        assert [row.n if row else 0 for row in apart] == counts
        mean = sum(row.value * row.n for row in apart if row) / sum(counts)
        assert mean == pytest.approx(found[f"{part} categories"].value)


def test_differences_are_told_paired_over_photos(compared, task):
    trials, frozen = compared
    rows = protocol.differences(RUN, task, trials.values(), frozen, "aa")
    assert {row.gallery for row in rows} == {"seen categories", "unseen categories"}
    found = results.differences(rows, "seen categories", "PCK@5")
    assert found.keys() == set(METHODS) - {"fused"} and len(rows) == 2 * 3 * len(found)
    own, other = (score(trials[m].found["seen"], frozen["seen"], 0.05) for m in ("fused", SAME_PIXEL))
    mean, low, high = found[SAME_PIXEL]
    assert mean == pytest.approx((own - other).mean()) and low <= mean <= high
    assert all("over photos" in row.definition for row in rows)
    tested = [m for m in task.measure(trials["fused"], frozen) if m.groups is not None]
    assert [len(np.unique(m.groups)) for m in tested] == [
        len(frozen[p].images.photo_records) for p in trials["fused"].found
    ]


def made_up(compared):
    """Test pairs, and predictions that are right."""
    data = compared[1]["seen"]
    return data, {d: data.points[k].clone() for d, (_, k) in SIDES.items()}


def test_definitions_differ_as_they_say(compared):
    data, _ = made_up(compared)
    data = replace(data, points={k: (p * 64).round() / 64 for k, p in data.points.items()})  # exact in binary
    places = {"s2p": data.points["photo"], "p2s": data.points["sketch"]}
    names = list(DEFINITIONS)
    assert all(score(places, data, 0.05, name).mean() == 1 for name in names)
    places["s2p"] = places["s2p"] + torch.tensor([0.0625, 0.0])  # all points on the threshold of 1/16
    by_name = {name: score(places, data, 0.0625, name).mean() for name in names}
    both, s2p, p2s, strict, points, box = by_name.values()
    assert (both, s2p, p2s) == (1, 1, 1) and strict == pytest.approx(0.5) and box < 1 and points == 1


def test_a_pair_whose_visible_points_coincide_has_no_box_and_is_left_out_by_the_box_alone(compared, task):
    data, places = made_up(compared)
    photo = data.points["photo"].clone()
    photo[0] = 0.25
    data = replace(data, points=data.points | {"photo": photo})
    (box,) = (name for name in DEFINITIONS if "box" in name)
    assert len(score(places, data, 0.05, box)) == 2 * len(data) - 1
    assert len(score(places, data, 0.05)) == 2 * len(data)
    none = replace(data, points={kind: torch.full_like(points, 0.25) for kind, points in data.points.items()})
    told = {found.definition for found in task.measure(protocol.Trial("x", 0, found={"seen": places}), {"seen": none})}
    assert told == set(DEFINITIONS) - {box}, "no row is a mean over nothing"


def test_a_mirrored_pair_is_known_by_its_points(compared):
    data, _ = made_up(compared)
    turn = torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    flip = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
    shape = torch.rand(len(data), 8, 2, generator=torch.Generator().manual_seed(0))
    for matrix, answer in ((turn, False), (turn @ flip, True)):
        moved = replace(data, points={"sketch": shape, "photo": 0.5 * shape @ matrix})
        assert (mirrored(replace(moved, visible=torch.ones_like(data.visible))) == answer).all()
    few = torch.arange(8).expand(len(data), 8) < 2  # through two points goes a mirror image of everything
    assert not mirrored(replace(moved, visible=few)).any()


def test_the_self_supervised_split_trains_without_keypoints(tiny_backbone, toy):
    annotated = psc6k.load(toy, "self-supervised")
    task = warps.Warps(annotated, 2, 2e-3, 4)
    trials, frozen = compare(tiny_backbone, task, ["fused", "B-SD", SAME_PIXEL])
    assert isinstance(frozen["train"], warps.WarpedPairs) and isinstance(frozen["validation"], warps.WarpedPairs)
    trained = {(r.category, r.instance) for r in frozen["train"].images.photo_records}
    tested = {(r.category, r.instance) for part in trials[0].found for r in frozen[part].images.photo_records}
    assert trained and not trained & tested
    blind = replace(annotated, pairs=tuple(
        replace(p, photo_points=np.full((8, 2), 9.0), sketch_points=np.full((8, 2), 9.0)) for p in annotated.pairs
    ))  # fmt: skip
    again, _ = compare(tiny_backbone, warps.Warps(blind, 2, 2e-3, 4), ["fused"])
    for before, after in zip(trials[0].model.parameters(), again[0].model.parameters(), strict=True):
        assert torch.equal(before, after)
    assert {row.split for row in protocol.rows(RUN, task, trials, frozen, "aa")} == {"self-supervised"}


def test_trained_with_the_real_extractor_the_loss_reaches_the_injection(tiny_backbone, toy):
    extractor = FusedExtractor(tiny_backbone, dim=12, grid=9, width=8)
    pairs = psc6k.load(toy).select("train", True)[:2]
    data = prepare_points(extractor, pairs, arms.reading_size(tiny_backbone))
    model = SketchMatcher(extractor)
    pairs_loss(model, data, torch.arange(len(data))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in extractor.injection.parameters() if p.ndim > 1)
    assert model.log_temperature.grad.abs() > 0 and model.log_contrast_temperature.grad.abs() > 0
