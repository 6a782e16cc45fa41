"""The matcher finds points finer than its grid and learns from eight a pair; its rows tell what was measured."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from sfhelpers import metrics, results
from sfhelpers.datasets import Record, psc6k
from sfhelpers.tasks import arms, correspondence, warps
from sfhelpers.tasks import compare as protocol
from sfhelpers.tasks.correspondence import DEFINITIONS, SAME_PIXEL, SIDES, Correspondence, SketchMatcher, sample, score
from sfhelpers.tasks.prepared import PreparedPairs, PreparedPoints, prepare_points
from tests.backbone_fixtures import RUN, refused, trained
from tests.test_segmentation import TinyExtractor

METHODS = (*arms.METHODS, *Correspondence.baselines)
GRID = 12
COLOURS = torch.eye(3).repeat_interleave(2, 0) * torch.tensor([1.0, 0.4]).repeat(3)[:, None]  # six, told apart


def bump(points, width=0.06):
    """(B, J, 2) in [0, 1] -> maps (B, J, GRID, GRID), a soft spot at each point; one channel a point."""
    centres = (torch.arange(GRID) + 0.5) / GRID
    x, y = ((centres - points[..., k, None]).square() for k in (0, 1))
    return torch.exp(-(x[..., None, :] + y[..., :, None]) / (2 * width**2)) + 1e-4


def world(n, seed, sketches=2):
    """n "photos" of six coloured dots, each with sketches: the same colours elsewhere, paler."""
    generator = torch.Generator().manual_seed(seed)
    places = 0.1 + 0.8 * torch.rand(n * (1 + sketches), 6, 2, generator=generator)
    noise = 0.02 * torch.randn(len(places), 3, GRID, GRID, generator=generator)
    maps = torch.einsum("bjhw,jc->bchw", bump(places), COLOURS) + noise
    records = [Record(Path(f"{k}.png"), "photo", "dots", str(k)) for k in range(n)]
    drawn = [Record(Path(f"{k}-{i}.png"), "sketch", "dots", str(k)) for k in range(n) for i in range(sketches)]
    pairs = torch.stack([torch.arange(n * sketches), torch.arange(n).repeat_interleave(sketches)], 1)
    images = PreparedPairs({"pixels": 0.7 * maps[n:]}, {"pixels": maps[:n]}, drawn, records, pairs, None)
    points = {"sketch": places[n:], "photo": places[:n].repeat_interleave(sketches, 0)}
    return PreparedPoints(images, points, torch.rand(n * sketches, 6, generator=generator) > 0.1)


def truth(data):
    return {direction: data.points[there].clone() for direction, (_, there) in SIDES.items()}


def test_features_are_read_between_positions_and_a_peak_is_placed_more_finely_than_the_grid():
    ramp = ((torch.arange(GRID) + 0.5) / GRID).expand(1, 1, GRID, GRID)
    points = torch.tensor([[[0.3, 0.9], [0.515, 0.2]]])
    torch.testing.assert_close(sample(ramp, points)[0, :, 0], points[0, :, 0])  # x is the last axis
    torch.testing.assert_close(sample(ramp.mT, points)[0, :, 0], points[0, :, 1])
    points = 0.2 + 0.6 * torch.rand(1, 50, 2, generator=torch.Generator().manual_seed(0))
    assert (correspondence.expected_position(bump(points).log()) - points).norm(dim=-1).max() < 0.1 / GRID


def test_the_window_keeps_a_second_peak_out_and_stays_inside_the_map_and_the_whole_map_does_not():
    def off(here, cosine, **settings):
        target = torch.cat([cosine, (1 - cosine.square()).clamp(min=0).sqrt()], 1)  # of length 1: this is the cosine
        source = torch.tensor([1.0, 0.0])[None, :, None, None].expand(1, 2, GRID, GRID)
        return (SketchMatcher(TinyExtractor(), **settings).locate(source, target, here) - here).norm() * GRID

    here, there, corner = (torch.tensor([[place]]) for place in ((0.2, 0.3), (0.85, 0.8), (0.01, 0.99)))
    two_peaks = bump(here) + 0.9 * bump(there)
    assert off(here, two_peaks, window=7, temperature=0.1) < 0.5
    assert off(here, two_peaks, window=23, temperature=0.1) > 1.5
    assert off(corner, bump(corner), temperature=0.01) < 1
    with refused("window is 6"):
        SketchMatcher(TinyExtractor(), window=6)


def test_hidden_points_change_no_loss_nothing_visible_gives_zero_and_only_the_asked_points_are_compared(monkeypatch):
    (data, model), sizes, kept = (world(4, 0), SketchMatcher(TinyExtractor())), [], torch.einsum
    monkeypatch.setattr(torch, "einsum", lambda *a: sizes.append(kept(*a).numel()) or kept(*a))

    def loss(hidden, visible):
        points = {kind: torch.where(visible[..., None], value, hidden) for kind, value in data.points.items()}
        return model.loss(replace(data, points=points, visible=visible), torch.arange(8))

    assert loss(0.1, data.visible) == loss(0.9, data.visible)
    assert loss(0.1, torch.zeros_like(data.visible)) == 0
    correspondence.predict_pairs(model, data)
    assert max(sizes) == 8 * 6 * GRID**2


def test_training_beats_the_same_pixel_and_the_start_clearly_in_both_directions():
    frozen = {"train": world(40, 1), "validation": world(20, 2)}
    model, history = trained(object.__new__(Correspondence), TinyExtractor(), frozen, epochs=12, batch_size=8)
    validation = frozen["validation"]
    places = correspondence.predict_pairs(model, validation)
    same = {direction: validation.points[source] for direction, (source, _) in SIDES.items()}
    found, trivial = (score(some, validation, 0.1).reshape(2, -1) for some in (places, same))  # a row a direction
    assert (np.nanmean(found, 1) > np.nanmean(trivial, 1) + 0.4).all()
    best = history.epochs[history.best_epoch]["validation"]
    assert best > history.epochs[0]["validation"] + 0.1
    means = [np.nanmean(score(places, validation, alpha)) for alpha in (0.02, 0.04, 0.06, 0.08, 0.10)]
    assert best == pytest.approx(np.mean(means)) and not model.training
    model.extractor.computed = 0
    model.loss(frozen["train"], torch.arange(4))
    assert model.extractor.computed == 4 + 2, "a photo of many sketches is computed once a step"


def pair_of(folder, size=(40, 40)):
    for name in ("p", "s"):
        Image.effect_noise(size, 90).convert("RGB").save(folder / f"{name}.png")
    points = np.full((8, 2), 64.0)
    points[3] = np.nan
    photo, sketch = (Record(folder / f"{name}.png", kind, "a", "p") for name, kind in (("p", "photo"), ("s", "sketch")))
    return psc6k.KeypointPair(sketch, photo, points / 2, points, np.isfinite(points).all(1))


def test_images_that_are_not_square_or_no_pair_are_refused(tmp_path):
    """Points of others are prepared as shares of the side and stay with their images."""
    data = prepare_points(TinyExtractor(), [pair_of(tmp_path)], size=40)
    assert data.points["photo"][0, 0].tolist() == [0.25, 0.25] and data.points["sketch"][0, 0].tolist() == [0.125] * 2
    assert data.visible[0].tolist() == [True] * 3 + [False] + [True] * 4
    assert torch.isfinite(data.points["photo"]).all()
    with refused("60 x 40 px"):
        prepare_points(TinyExtractor(), [pair_of(tmp_path, (60, 40))], size=40)
    with refused("no annotated pair"):
        prepare_points(TinyExtractor(), [], size=40)


def test_a_warped_image_shows_at_the_moved_point_what_the_image_showed():
    generator = torch.Generator().manual_seed(0)
    matrices = warps.random_similarities(6, generator)
    assert (torch.linalg.det(matrices[:, :, :2]) > 0).all(), "a mirror image would teach left for right"
    images = F.interpolate(torch.rand(6, 3, 5, 5, generator=generator), size=(80, 80), mode="bicubic")
    points = 0.35 + 0.3 * torch.rand(6, 20, 2, generator=generator)
    moved = warps.move(points, matrices)
    torch.testing.assert_close(sample(warps.warp(images, matrices), moved), sample(images, points), atol=0.03, rtol=0)
    assert (moved - points).norm(dim=2).mean() > 0.03


@pytest.fixture(scope="module")
def task(toy):
    return Correspondence(psc6k.load(toy), 1, 2e-3, 4)


@pytest.fixture(scope="module")
def compared(tiny_backbone, task):
    """Every method with seed 0: the trials by method, and what is frozen."""
    trials, frozen = protocol.compare(tiny_backbone, task, METHODS)
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


def test_raw_features_weigh_the_sources_as_their_shares_say(tiny_backbone, two_images):
    extractor = arms.arm_of("SD+CLIP concatenated", tiny_backbone, 0).extractor()
    prepared = extractor.prepare(two_images)
    extractor.fit_statistics(prepared)
    tokens = prepared["tokens"].shape[1]
    for share in (0.0, 0.3, 1.0):
        found = correspondence.RawFeatures(extractor, share)(prepared)
        shares = [part.square().sum(1) for part in (found[:, -tokens:], found[:, :-tokens]) if part.numel()]
        wanted = [1 - share, share] if 0 < share < 1 else [1.0]
        for part, weight in zip(shares if 0 < share < 1 else [found.square().sum(1)], wanted, strict=True):
            torch.testing.assert_close(part, torch.full_like(part, weight))


def test_rows_hold_both_metrics_under_every_definition_of_which_the_first_is_tested(compared, task):
    trials, frozen = compared
    rows = protocol.rows(RUN, task, trials.values(), frozen, "aa")
    assert len(rows) == len(METHODS) * 2 * 2 * len(DEFINITIONS)
    assert {(row.dataset, row.split) for row in rows} == {("toy", "default")}
    for definition in DEFINITIONS:
        assert results.table(rows, "unseen categories", "PCK@10", definition).keys() == set(METHODS)
    told = ("fused", "seen categories", "PCK@5", "image side, <=, mean over pairs, sketch to photo")
    (row,) = [row for row in rows if (row.method, row.gallery, row.metric, row.definition) == told]
    pred, data = trials["fused"].found["seen"]["s2p"] * 256, frozen["seen"]
    by_hand = metrics.pck(pred, data.points["photo"] * 256, 0.05, 256, data.visible)
    assert (row.value, row.n) == (pytest.approx(by_hand.mean()), len(data))
    found = [found for found in task.measure(trials["fused"], frozen) if found.groups is not None]
    asked = itertools.product(("seen", "unseen"), (5, 10))
    for (part, k), measured in zip(asked, found, strict=True):
        assert (measured.gallery, measured.metric) == (f"{part} categories", f"PCK@{k}")
        assert measured.definition == next(iter(DEFINITIONS))
        np.testing.assert_array_equal(measured.values, score(trials["fused"].found[part], frozen[part], k / 100))
        photos = frozen[part].images.photo_records
        assert len(set(measured.groups["photos"])) == len(photos)
        assert set(measured.groups["categories"]) == {photo.category for photo in photos}


def test_definitions_differ_as_they_say_and_a_pair_whose_points_coincide_has_no_box():
    data = world(8, 0)
    data = replace(data, points={k: (p * 64).round() / 64 for k, p in data.points.items()})  # exact in binary
    places = truth(data)
    assert all(score(places, data, 0.05, name).mean() == 1 for name in DEFINITIONS)
    places["s2p"] = places["s2p"] + torch.tensor([0.0625, 0.0])  # all points on the threshold of 1/16
    both, s2p, p2s, strict, points, box = (score(places, data, 0.0625, name).mean() for name in DEFINITIONS)
    assert (both, s2p, p2s, points) == (1, 1, 1, 1) and strict == pytest.approx(0.5) and box < 1
    pred, true, seen = correspondence.directed(places, data)
    sides = [np.ptp(points[shown], axis=0).max() for points, shown in zip(true, seen, strict=True)]
    by_hand = metrics.pck(pred, true, 0.09, sides, seen)
    np.testing.assert_array_equal(score(places, data, 0.09, list(DEFINITIONS)[-1]), by_hand)
    data, (box,) = world(3, 0), (name for name in DEFINITIONS if "box" in name)
    data.points["photo"][0] = 0.25
    assert [len(score(truth(data), data, 0.05, name)) for name in (box, next(iter(DEFINITIONS)))] == [11, 12]
    data.points = {kind: torch.full_like(points, 0.25) for kind, points in data.points.items()}
    trial = protocol.Trial("x", 0, found={"seen": truth(data)})
    told = {found.definition for found in Correspondence.measure(None, trial, {"seen": data})}
    assert told == set(DEFINITIONS) - {box}, "no row is a mean over nothing"


def test_the_self_supervised_split_trains_without_keypoints(tiny_backbone, toy):
    annotated = psc6k.load(toy, "self-supervised")
    task = warps.Warps(annotated, 2, 2e-3, 4)
    trials, frozen = protocol.compare(tiny_backbone, task, ["fused", "B-SD", SAME_PIXEL])
    parts = [frozen["train"].images, *(frozen[part].images for part in trials[0].found)]
    trained, *tested = ({(r.category, r.instance) for r in part.photo_records} for part in parts)
    assert trained and all(tested) and not trained & set.union(*tested)
    away = np.full((8, 2), 9.0)
    blind = replace(annotated, pairs=tuple(replace(p, photo_points=away, sketch_points=away) for p in annotated.pairs))
    again, _ = protocol.compare(tiny_backbone, warps.Warps(blind, 2, 2e-3, 4), ["fused"])
    assert all(map(torch.equal, trials[0].model.parameters(), again[0].model.parameters()))
    assert {row.split for row in protocol.rows(RUN, task, trials, frozen, "aa")} == {"self-supervised"}
