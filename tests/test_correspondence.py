"""The matcher finds points to a fraction of a position, learns from eight points a pair, and both directions count."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from sfhelpers import metrics
from sfhelpers.datasets import Record
from sfhelpers.datasets.psc6k import KeypointPair
from sfhelpers.tasks import correspondence
from sfhelpers.tasks import correspondence_unlabelled as unlabelled
from sfhelpers.tasks.correspondence import PreparedPoints, SketchMatcher, expected_position, sample
from sfhelpers.tasks.correspondence_unlabelled import WarpedPairs
from sfhelpers.tasks.prepared import PreparedPairs
from tests.backbone_fixtures import one_sentence

GRID = 12
COLOURS = torch.eye(3).repeat_interleave(2, 0) * torch.tensor([1.0, 0.4]).repeat(3)[:, None]  # six, told apart


class Identity(nn.Module):
    """The "map" of what was prepared is that itself."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, prepared):
        return self.scale * prepared["map"]


class Learner(nn.Module):
    """Stands in for the fused extractor: two convolutions that learn."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.convs = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 12, 1))
        self.images = 0

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
    found = {w: SketchMatcher(Identity(), window=w, temperature=0.1).locate(source, target, here) for w in (7, 23)}
    assert (found[7] - here).norm() < 0.5 / GRID
    assert (found[23] - here).norm() > 1.5 / GRID


def test_a_window_at_the_border_stays_inside_the_map():
    corner = torch.tensor([[[0.01, 0.99]]])
    target = torch.cat([bump(corner), 0.1 * torch.ones(1, 1, GRID, GRID)], 1)
    source = torch.tensor([1.0, 0.0])[None, :, None, None].expand(1, 2, GRID, GRID)
    place = SketchMatcher(Identity(), temperature=0.01).locate(source, target, corner)
    assert (place - corner).norm() < 1 / GRID


def test_an_even_window_is_refused():
    with pytest.raises(ValueError, match="window is 6") as error:
        SketchMatcher(Identity(), window=6)
    one_sentence(error)


def test_the_correlation_holds_the_asked_points_alone(monkeypatch):
    sizes = []
    kept = torch.einsum
    monkeypatch.setattr(torch, "einsum", lambda *a: sizes.append(kept(*a).numel()) or kept(*a))
    maps = torch.rand(2, 5, GRID, GRID)
    model = SketchMatcher(Identity())
    points = torch.rand(2, 8, 2)
    model.locate(maps, maps, points)
    model.loss(maps, maps, {"sketch": points, "photo": points}, torch.ones(2, 8, dtype=torch.bool))
    assert max(sizes) == 2 * 8 * GRID**2


def losses(model, data, hidden=0.0):
    points = {kind: torch.where(data.visible[..., None], value, hidden) for kind, value in data.points.items()}
    maps = [x["map"][data.images.pairs[:, k]] for k, x in enumerate((data.images.sketches, data.images.photos))]
    return model.loss(*maps, points, data.visible)


def test_hidden_points_change_no_loss_and_nothing_visible_gives_zero():
    data, model = world(4, 0), SketchMatcher(Identity())
    assert losses(model, data, 0.1) == losses(model, data, 0.9)
    assert losses(model, replace(data, visible=torch.zeros_like(data.visible))) == 0


def test_both_losses_are_what_the_docstring_says():
    data = world(3, 1, sketches=1)
    maps = [x["map"] for x in (data.images.sketches, data.images.photos)]
    contrast, errors = [], []
    for source, target, k in ((0, 1, "photo"), (1, 0, "sketch")):
        other = ("sketch", "photo")[source]
        for b, j in data.visible.nonzero().tolist():
            f = sample(maps[source][b : b + 1], data.points[other][b : b + 1, j : j + 1])
            logits = F.cosine_similarity(f[0, 0][:, None, None], maps[target][b], dim=0) / 0.05
            place = expected_position(logits[None, None])[0, 0]
            errors.append((GRID * (place - data.points[k][b, j])).norm())
            share = logits.flatten().softmax(0).unflatten(0, (GRID, GRID)).log()
            contrast.append(-sample(share[None, None], data.points[k][b : b + 1, j : j + 1]).squeeze())
    clip = losses(SketchMatcher(Identity(), flow=0), data)
    torch.testing.assert_close(clip, torch.stack(contrast).mean(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        losses(SketchMatcher(Identity(), contrastive=0), data), torch.stack(errors).mean(), atol=1e-4, rtol=1e-4
    )


def test_regularisers_act_in_training_alone():
    data = world(2, 0)
    model = SketchMatcher(Identity(), dropout=0.5, flow_noise=2.0)
    assert losses(model, data) != losses(model, data)
    model.eval()
    assert losses(model, data) == losses(model, data)


@pytest.fixture(scope="module")
def learned():
    model = SketchMatcher(Learner())
    train, validation = world(40, 1), world(20, 2)
    history = correspondence.train_matcher(model, train, validation, 12, 1e-2, 8, seed=0)
    return model, train, validation, history


def test_training_beats_the_same_pixel_and_the_start_clearly_in_both_directions(learned):
    model, _, validation, history = learned
    places = correspondence.predict_pairs(model, validation)
    for direction, source in (("s2p", "sketch"), ("p2s", "photo")):
        found = np.nanmean(correspondence.scores(places, validation, 0.1, direction))
        same = {direction: validation.points[source]}
        trivial = np.nanmean(correspondence.scores(same, validation, 0.1, direction))
        assert found > trivial + 0.4, (direction, found, trivial)
    assert history.epochs[history.best_epoch]["validation"] > history.epochs[0]["validation"] + 0.1
    assert history.epochs[history.best_epoch]["validation"] == pytest.approx(
        correspondence.validation_score(model, validation)
    )
    assert not model.training


def test_predictions_are_those_of_the_forward_pass(learned):
    model, _, validation, _ = learned
    places = correspondence.predict_pairs(model, validation, batch_size=7)
    sketch, photo = validation.images.pairs[:5].unbind(1)
    images = [
        {"map": p["map"][k]} for p, k in ((validation.images.sketches, sketch), (validation.images.photos, photo))
    ]
    with torch.no_grad():
        there = model(*images, validation.points["sketch"][:5])
        back = model(*images[::-1], validation.points["photo"][:5])
    torch.testing.assert_close(there, places["s2p"][:5], atol=1e-5, rtol=0)
    torch.testing.assert_close(back, places["p2s"][:5], atol=1e-5, rtol=0)


def test_a_photo_of_many_sketches_is_computed_once_a_step(learned):
    model, train, _, _ = learned
    model.extractor.images = 0
    correspondence.pairs_loss(model, train, torch.tensor([0, 1, 2, 3]))
    assert model.extractor.images == 4 + 2


def test_the_same_seed_gives_the_same_predictions_and_another_seed_others():
    def run(seed):
        model = SketchMatcher(Learner(), dropout=0.2, flow_noise=0.5)
        correspondence.train_matcher(model, world(6, 1), world(3, 2), 2, 1e-2, 4, seed=seed)
        return correspondence.predict_pairs(model, world(3, 3))["s2p"]

    torch.manual_seed(5)
    first, again, other = run(0), run(0), run(1)
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("changed", [{"contrastive": 0.5}, {"flow": 0.0}, {"dropout": 0.2}, {"flow_noise": 1.0}])
def test_a_checkpoint_of_a_model_with_other_settings_is_refused(tmp_path, changed):
    def warped(n, seed):  # any annotated pairs will do in the place of warps, one an image
        return WarpedPairs(world(n, seed).images, world(2 * n, seed + 1))

    for train_matcher, data in ((correspondence.train_matcher, world), (unlabelled.train_matcher, warped)):

        def run(train=train_matcher, data=data, **settings):
            model = SketchMatcher(Learner(), **settings)
            return train(model, data(4, 1), data(2, 5), 1, 1e-2, 4, 0, checkpoint=tmp_path / train.__module__)

        assert run() == run()
        with pytest.raises(ValueError, match=f"is of another training .*model {next(iter(changed))} was ") as error:
            run(**changed)
        one_sentence(error)


def test_pooled_directions_are_the_mean_of_the_two(learned):
    model, _, validation, _ = learned
    places = correspondence.predict_pairs(model, validation)
    both, one, other = (correspondence.scores(places, validation, 0.05, d) for d in ("both", "s2p", "p2s"))
    assert len(both) == 2 * len(one) and np.array_equal(both, np.concatenate([one, other]), equal_nan=True)
    by_hand = metrics.pck(places["s2p"] * 256, validation.points["photo"] * 256, 0.05, 256, validation.visible)
    assert np.array_equal(one, by_hand, equal_nan=True)


def pair_of(folder, size=(40, 40)):
    for name in ("p", "s"):
        Image.effect_noise(size, 90).convert("RGB").save(folder / f"{name}.png")
    points = np.full((8, 2), 64.0)
    points[3] = np.nan
    photo, sketch = (Record(folder / f"{name}.png", kind, "a", "p") for name, kind in (("p", "photo"), ("s", "sketch")))
    return KeypointPair(sketch, photo, points / 2, points, np.isfinite(points).all(1))


class Preparing(Identity):
    def prepare(self, images, batch_size=32):
        return {"map": F.interpolate(images, size=(GRID, GRID))}


def test_points_are_prepared_as_shares_of_the_side_and_stay_with_their_images(tmp_path):
    data = correspondence.prepare_points(Preparing(), [pair_of(tmp_path)], size=40)
    assert data.points["photo"][0, 0].tolist() == [0.25, 0.25] and data.points["sketch"][0, 0].tolist() == [0.125] * 2
    assert data.visible[0].tolist() == [True] * 3 + [False] + [True] * 4
    assert torch.isfinite(data.points["photo"]).all()


def test_images_that_are_not_square_or_no_pair_are_refused(tmp_path):
    with pytest.raises(ValueError, match="60 x 40 px") as error:
        correspondence.prepare_points(Preparing(), [pair_of(tmp_path, (60, 40))], size=40)
    one_sentence(error)
    with pytest.raises(ValueError, match="no annotated pair") as error:
        correspondence.prepare_points(Preparing(), [], size=40)
    one_sentence(error)
