"""What 03_correspondence builds by hand, taken from the notebook's own cells, is the package's."""

import ast
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfhelpers import metrics
from sfhelpers.datasets import psc6k
from sfhelpers.plots.matches import Match
from sfhelpers.tasks import correspondence
from sfhelpers.tasks.compare import Trial
from sfhelpers.tasks.correspondence import SIDES, SketchMatcher, directed, predict_pairs
from tests.backbone_fixtures import assert_same_loss_and_gradients
from tests.test_correspondence import truth, world
from tests.test_segmentation import TinyExtractor

CELLS = nbformat.read(Path(__file__).parents[1] / "notebooks" / "03_correspondence.ipynb", as_version=4).cells
GIVEN = {"torch": torch, "F": F, "nn": nn, "np": np, "psc6k": psc6k, "SIDES": SIDES, "directed": directed}


def sources(tag):
    return [cell.source for cell in CELLS if tag in cell.metadata.get("tags", [])]


def by_hand(tag, **given):
    """The functions and classes that the cells with a tag define, where `given` is what the notebook has by then."""
    names = GIVEN | given
    tree = ast.parse("\n".join(sources(tag)))
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    exec(compile(tree, "notebook", "exec"), names)
    return SimpleNamespace(**names)


def maps_of(model, data):
    sketch, photo = data.images.pairs.unbind(1)
    images = {"sketch": (data.images.sketches, sketch), "photo": (data.images.photos, photo)}
    return {kind: model.extractor({"pixels": prepared["pixels"][i]}) for kind, (prepared, i) in images.items()}


@pytest.mark.parametrize("seed", [0, 1])
def test_loss_and_gradients_are_the_packages(seed):
    data, package = world(6, seed), SketchMatcher(TinyExtractor(seed))
    hand = by_hand("handbuilt").HandBuiltMatcher(TinyExtractor(seed + 7))
    hand.load_state_dict(package.state_dict())
    loss = sum(hand.losses(maps_of(hand, data), data.points, data.visible))
    assert_same_loss_and_gradients(hand, loss, package, package.loss(data, torch.arange(12)))


def test_places_and_score_are_the_packages():
    data, model, hand = world(6, 2), SketchMatcher(TinyExtractor()), by_hand("handbuilt")
    maps, places = maps_of(model, data), predict_pairs(model, data)
    for direction, (here, there) in SIDES.items():
        cosine = hand.correlation(maps[here], maps[there], data.points[here])
        found = hand.soft_argmax(hand.in_window(cosine) / model.log_temperature.exp()).detach()
        torch.testing.assert_close(found, places[direction], atol=1e-6, rtol=0)
    theirs = metrics.pck(places["s2p"], data.points["photo"], 0.1, 1, data.visible)
    np.testing.assert_allclose(hand.pck(places["s2p"], data.points["photo"], data.visible, 0.1), theirs, rtol=1e-6)


def test_ways_to_fail_are_counted():
    data, fates = world(3, 0), by_hand("analysis").fates
    data.points = {kind: torch.linspace(0.05, 0.95, 6)[:, None].expand(6, 6, 2) for kind in data.points}
    assert fates(truth(data), data, 0.05) == {"right": 1, "on another keypoint": 0, "elsewhere": 0}
    assert fates({d: p + 3 for d, p in truth(data).items()}, data, 0.05)["elsewhere"] == 1
    data.visible[:] = True
    assert fates({d: p.roll(1, 1) for d, p in truth(data).items()}, data, 0.05)["on another keypoint"] == 1


def turned(data, matrix):
    """The pairs, all points visible, with photos that are their sketches moved by a matrix."""
    moved = {"sketch": data.points["sketch"], "photo": 0.5 * data.points["sketch"] @ matrix}
    return replace(data, points=moved, visible=torch.ones_like(data.visible))


TURN, FLIP = torch.tensor([[0.8, -0.6], [0.6, 0.8]]), torch.tensor([[-1.0, 0.0], [0.0, 1.0]])


def test_a_mirrored_pair_is_known_by_its_points():
    data, mirrored = world(4, 0), by_hand("analysis").mirrored
    assert not mirrored(turned(data, TURN)).any() and mirrored(turned(data, TURN @ FLIP)).all()
    few = (torch.arange(6) < 2).expand_as(data.visible)  # through two points goes a mirror image of everything
    assert not mirrored(replace(turned(data, TURN @ FLIP), visible=few)).any()


def test_mirrored_pairs_are_measured_apart_from_the_others():
    mirrored, run = by_hand("analysis").mirrored, SimpleNamespace(split="default")
    given = {"mirrored": mirrored, "run": run, "replace": replace, "DEFINITION": correspondence.DEFINITION}
    kind = by_hand("breakdown", Correspondence=correspondence.Correspondence, **given).MirroredApart
    data = turned(world(4, 0), TURN)
    data.points["photo"][:2] = 0.5 * data.points["sketch"][:2] @ TURN @ FLIP
    places = {direction: places.roll(1, 1) for direction, places in truth(data).items()}
    for direction in places:
        places[direction][:2] = truth(data)[direction][:2]  # only those of mirrored pairs are right
    trial = Trial("fused", 0, found={"unseen": places})
    found = {m.gallery: m for m in kind.measure(object.__new__(kind), trial, {"unseen": data}) if m.metric == "PCK@5"}
    whole, *apart = (found[f"unseen categories{end}"] for end in ("", ", not mirrored", ", mirrored"))
    assert [len(m.values) for m in (whole, *apart)] == [16, 12, 4] and apart[1].values.mean() == 1
    assert apart[0].values.mean() < 0.5 and all(m.groups is None for m in apart)


def test_a_directed_pair_is_drawn_with_its_own_images_and_points():
    data = world(2, 0, sketches=1)
    matched = truth(data)
    matched["p2s"][1] = 3.0
    given = {"pairs": data, "matched": matched, "flipped": np.array([True, False]), "open_image": str, "Match": Match}
    first, last = (by_hand("analysis", **given).drawn(k, 0.05) for k in (0, 3))
    assert (first.source, first.target, last.source, last.target) == ("0-0.png", "0.png", "1.png", "1-0.png")
    shown = [int(data.visible[k].sum()) for k in (0, 1)]
    assert first.label == f"dots, mirrored: {shown[0]} of {shown[0]} within 5 %" and first.right.all()
    assert last.label == f"dots: 0 of {shown[1]} within 5 %" and not last.right.any()
    np.testing.assert_array_equal(first.points, data.points["sketch"][0][data.visible[0]])


def test_every_exercise_has_a_solution_and_its_code_runs(capsys):
    (text,) = [cell.source for cell in CELLS if cell.id == "exercises"]
    exercises = re.findall(r"^(\d+)\. ", text.split("<details>")[0], re.MULTILINE)
    assert exercises == re.findall(r"<summary>Solution to (\d+)</summary>", text) == ["1", "2", "3"]
    (source,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    model = SketchMatcher(TinyExtractor())
    names = {"first": {"fused": SimpleNamespace(model=model)}, "annotated": SimpleNamespace(select=lambda *_: None)}
    names |= {"models": None, "prepare_points": lambda *_: world(3, 0), "reading_size": lambda _: 0}
    exec(source, names | {"predict_pairs": predict_pairs, "score": correspondence.score})
    assert len(capsys.readouterr().out.splitlines()) == 3 and model.settings["window"] == 7
