"""What 03_correspondence builds by hand, taken from the notebook's own cells, is the package's."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sfhelpers import metrics
from sfhelpers.datasets import psc6k
from sfhelpers.plots.matches import Match
from sfhelpers.tasks import correspondence
from sfhelpers.tasks.compare import Trial
from sfhelpers.tasks.correspondence import SIDES, SketchMatcher, predict_pairs
from tests.backbone_fixtures import assert_same_loss_and_gradients
from tests.cells import defined, solutions
from tests.test_correspondence import truth, world
from tests.test_segmentation import TinyExtractor


def by_hand(**given):
    given |= {"psc6k": psc6k, "replace": replace, "run": SimpleNamespace(split="default"), "Match": Match}
    return defined("03_correspondence", **vars(correspondence) | given)


HAND = by_hand()


def maps_of(model, data):
    sketch, photo = data.images.pairs.unbind(1)
    images = {"sketch": (data.images.sketches, sketch), "photo": (data.images.photos, photo)}
    return {kind: model.extractor({"pixels": prepared["pixels"][i]}) for kind, (prepared, i) in images.items()}


@pytest.mark.parametrize("seed", [0, 1])
def test_loss_and_gradients_are_the_packages(seed):
    data, package = world(6, seed), SketchMatcher(TinyExtractor(seed))
    ours = HAND.HandBuiltMatcher(TinyExtractor(seed + 7))
    ours.load_state_dict(package.state_dict())
    loss = sum(ours.losses(maps_of(ours, data), data.points, data.visible))
    assert_same_loss_and_gradients(ours, loss, package, package.loss(data, torch.arange(12)))


def test_places_and_score_are_the_packages():
    data, model = world(6, 2), SketchMatcher(TinyExtractor())
    maps, places = maps_of(model, data), predict_pairs(model, data)
    for direction, (here, there) in SIDES.items():
        cosine = HAND.correlation(maps[here], maps[there], data.points[here])
        found = HAND.soft_argmax(HAND.in_window(cosine) / model.log_temperature.exp()).detach()
        torch.testing.assert_close(found, places[direction], atol=1e-6, rtol=0)
    theirs = metrics.pck(places["s2p"], data.points["photo"], 0.1, 1, data.visible)
    np.testing.assert_allclose(HAND.pck(places["s2p"], data.points["photo"], data.visible, 0.1), theirs, rtol=1e-6)


def test_ways_to_fail_are_counted():
    data = world(3, 0)
    data.points = {kind: torch.linspace(0.05, 0.95, 6)[:, None].expand(6, 6, 2) for kind in data.points}
    assert HAND.fates(truth(data), data, 0.05) == {"right": 1, "on another keypoint": 0, "elsewhere": 0}
    assert HAND.fates({d: p + 3 for d, p in truth(data).items()}, data, 0.05)["elsewhere"] == 1
    data.visible[:] = True
    assert HAND.fates({d: p.roll(1, 1) for d, p in truth(data).items()}, data, 0.05)["on another keypoint"] == 1


def test_mirrored_pairs_are_known_by_three_points_and_measured_apart():
    turn, flip = torch.tensor([[0.8, -0.6], [0.6, 0.8]]), torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
    data = world(4, 0)
    moved = {"sketch": data.points["sketch"], "photo": 0.5 * data.points["sketch"] @ turn}
    moved["photo"][:2] = moved["photo"][:2] @ flip
    data = replace(data, points=moved, visible=torch.ones_like(data.visible))
    assert HAND.mirrored(data).tolist() == [True] * 2 + [False] * 6
    few = (torch.arange(6) < 2).expand_as(data.visible)  # through two points goes a mirror image of everything
    assert not HAND.mirrored(replace(data, visible=few)).any()
    places = {direction: places.roll(1, 1) for direction, places in truth(data).items()}
    for direction in places:
        places[direction][:2] = truth(data)[direction][:2]  # only those of mirrored pairs are right
    measured = HAND.MirroredApart.measure(
        object.__new__(HAND.MirroredApart), Trial("fused", 0, found={"unseen": places}), {"unseen": data}
    )
    found = {m.gallery: m for m in measured if m.metric == "PCK@5"}
    whole, *apart = (found[f"unseen categories{end}"] for end in ("", ", not mirrored", ", mirrored"))
    assert [len(m.values) for m in (whole, *apart)] == [16, 12, 4] and apart[1].values.mean() == 1
    assert apart[0].values.mean() < 0.5 and all(m.groups is None for m in apart)


def test_a_directed_pair_is_drawn_with_its_own_images_and_points():
    data = world(2, 0, sketches=1)
    matched = truth(data)
    matched["p2s"][1] = 3.0
    hand = by_hand(pairs=data, matched=matched, flipped=np.array([True, False]), open_image=str)
    first, last = (hand.drawn(k, 0.05) for k in (0, 3))
    assert (first.source, first.target, last.source, last.target) == ("0-0.png", "0.png", "1.png", "1-0.png")
    shown = [int(data.visible[k].sum()) for k in (0, 1)]
    assert first.label == f"dots, mirrored: {shown[0]} of {shown[0]} within 5 %" and first.right.all()
    assert last.label == f"dots: 0 of {shown[1]} within 5 %" and not last.right.any()
    np.testing.assert_array_equal(first.points, data.points["sketch"][0][data.visible[0]])


def test_the_exercises_code_runs(capsys):
    (source,), model = solutions("03_correspondence").values(), SketchMatcher(TinyExtractor())
    names = {"first": {"fused": SimpleNamespace(model=model)}, "annotated": SimpleNamespace(select=lambda *_: None)}
    names |= {"models": None, "prepare_points": lambda *_: world(3, 0), "reading_size": lambda _: 0}
    exec(source, names | {"predict_pairs": predict_pairs, "score": correspondence.score})
    assert len(capsys.readouterr().out.splitlines()) == 3 and model.settings["window"] == 7
