"""What 03_correspondence builds by hand, taken from the notebook's own cells, is the package's."""

import ast
import re
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
from sfhelpers.tasks.correspondence import SIDES, SketchMatcher, directed, pairs_loss, predict_pairs, score
from tests.backbone_fixtures import small
from tests.test_correspondence import Learner, world

CELLS = nbformat.read(Path(__file__).parents[1] / "notebooks" / "03_correspondence.ipynb", as_version=4).cells
GIVEN = {"torch": torch, "F": F, "nn": nn, "np": np, "psc6k": psc6k, "SIDES": SIDES, "directed": directed}


def defined(tag):
    """The functions and classes of the cells that bear a tag."""
    sources = [cell.source for cell in CELLS if tag in cell.metadata.get("tags", [])]
    return [
        (node, ast.get_source_segment(source, node))
        for source in sources
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]


def by_hand(tag, **given):
    """What these cells define, where `given` is what the notebook has by then."""
    names = GIVEN | given
    exec(compile(ast.Module([node for node, _ in defined(tag)], []), "notebook", "exec"), names)
    return SimpleNamespace(**names)


def maps_of(model, data):
    sketch, photo = data.images.pairs.unbind(1)
    images = {"sketch": (data.images.sketches, sketch), "photo": (data.images.photos, photo)}
    return {kind: model.extractor({k: v[i] for k, v in prepared.items()}) for kind, (prepared, i) in images.items()}


@pytest.mark.parametrize("seed", [0, 1])
def test_loss_and_gradients_are_the_packages(seed):
    data, package = world(6, seed), SketchMatcher(Learner(seed))
    hand = by_hand("handbuilt").HandBuiltMatcher(Learner(seed + 7))
    hand.load_state_dict(package.state_dict())
    losses = (
        sum(hand.losses(maps_of(hand, data), data.points, data.visible)),
        pairs_loss(package, data, torch.arange(12)),
    )
    torch.testing.assert_close(*losses, atol=1e-6, rtol=1e-6)
    gradients = [torch.autograd.grad(x, list(m.parameters())) for x, m in zip(losses, (hand, package), strict=True)]
    assert all(gradient.abs().max() > 1e-3 for gradient in gradients[0])
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-6)


def test_the_hand_built_model_stands_on_the_fused_extractor_and_learns(tiny_backbone, two_images):
    hand = by_hand("handbuilt").HandBuiltMatcher(small(tiny_backbone))
    prepared = hand.extractor.prepare(two_images)
    hand.extractor.fit_statistics(prepared)
    points, visible = (
        torch.rand(1, 8, 2, generator=torch.Generator().manual_seed(0)),
        torch.ones(1, 8, dtype=torch.bool),
    )
    optimiser, seen = torch.optim.AdamW(hand.parameters(), 1e-2), []
    for _ in range(5):
        sketch, photo = hand.extractor(prepared).split(1)
        losses = hand.losses({"sketch": sketch, "photo": photo}, {"sketch": points, "photo": points}, visible)
        optimiser.zero_grad()
        sum(losses).backward()
        optimiser.step()
        seen.append(sum(losses).item())
    assert seen[-1] < seen[0]


def test_places_and_score_are_the_packages():
    data, model, hand = world(6, 2), SketchMatcher(Learner()), by_hand("handbuilt")
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
    true = {direction: data.points[there] for direction, (_, there) in SIDES.items()}
    assert fates(true, data, 0.05) == {"right": 1, "on another keypoint": 0, "elsewhere": 0}
    assert fates({d: p + 3 for d, p in true.items()}, data, 0.05)["elsewhere"] == 1
    data.visible[:] = True
    assert fates({d: p.roll(1, 1) for d, p in true.items()}, data, 0.05)["on another keypoint"] == 1


def test_a_directed_pair_is_drawn_with_its_own_images_and_points():
    data = world(2, 0, sketches=1)
    matched = {direction: data.points[there].clone() for direction, (_, there) in SIDES.items()}
    matched["p2s"][1] = 3.0
    given = {"pairs": data, "matched": matched, "flipped": np.array([True, False]), "open_image": str, "Match": Match}
    first, last = (by_hand("analysis", **given).drawn(k, 0.05) for k in (0, 3))
    assert (first.source, first.target, last.source, last.target) == ("0-0.png", "0.png", "1.png", "1-0.png")
    shown = [int(data.visible[k].sum()) for k in (0, 1)]
    assert first.label == f"dots, mirrored: {shown[0]} of {shown[0]} within 5 %" and first.right.all()
    assert last.label == f"dots: 0 of {shown[1]} within 5 %" and not last.right.any()
    np.testing.assert_array_equal(first.points, data.points["sketch"][0][data.visible[0]])


def test_all_of_it_is_about_forty_lines_in_short_cells():
    lines = [line for _, text in defined("handbuilt") for line in text.splitlines() if line.strip()]
    assert 35 < len(lines) <= 46
    code = [
        cell.source for cell in CELLS if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", [])
    ]
    assert max(sum(bool(line.strip()) for line in source.splitlines()) for source in code) <= 15
    assert sum(".backward()" in source for source in code) == 1


def test_every_exercise_has_a_solution_and_its_code_runs(capsys):
    (text,) = [cell.source for cell in CELLS if cell.id == "exercises"]
    exercises = re.findall(r"^(\d+)\. ", text.split("<details>")[0], re.MULTILINE)
    assert exercises == re.findall(r"<summary>Solution to (\d+)</summary>", text) == ["1", "2", "3"]
    (source,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    model = SketchMatcher(Learner())
    names = {"first": {"fused": SimpleNamespace(model=model)}, "annotated": SimpleNamespace(select=lambda *_: None)}
    names |= {"models": None, "prepare_points": lambda *_: world(3, 0), "reading_size": lambda _: 0}
    exec(source, names | {"predict_pairs": predict_pairs, "score": score})
    assert len(capsys.readouterr().out.splitlines()) == 3 and model.settings["window"] == 7
