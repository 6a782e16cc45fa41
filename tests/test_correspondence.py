"""The matcher finds points to a fraction of a position, learns from eight points a pair, and both directions count."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from sfhelpers.datasets import Dataset, Record
from sfhelpers.datasets.psc6k import Annotated, KeypointPair
from sfhelpers.tasks import warps
from sfhelpers.tasks.correspondence import (
    SIDES,
    Correspondence,
    SketchMatcher,
    expected_position,
    pairs_loss,
    predict_pairs,
    sample,
    score,
)
from sfhelpers.tasks.fit import fit
from sfhelpers.tasks.prepared import PreparedPairs, PreparedPoints, prepare_points
from tests.backbone_fixtures import one_sentence

GRID = 12
COLOURS = torch.eye(3).repeat_interleave(2, 0) * torch.tensor([1.0, 0.4]).repeat(3)[:, None]  # six, told apart


class Learner(nn.Module):
    """Stands in for the fused extractor: two convolutions that learn."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.convs = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 12, 1))
        self.images = 0

    def prepare(self, images, batch_size=32):
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
    return fit(
        model, lambda m, i: task.loss(m, frozen, i), task.examples(frozen), lambda m: task.validate(m, frozen), epochs,
        1e-2, 8, seed,
    )  # fmt: skip


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
