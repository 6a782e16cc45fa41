"""The extractor that 02_fused_extractor builds by hand, taken from the notebook's own cells, is the package's."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfhelpers.fusion import FusedExtractor
from tests.backbone_fixtures import one_step, small

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "02_fused_extractor.ipynb"
CELLS = nbformat.read(NOTEBOOK, as_version=4).cells
SOLUTION = re.compile(r"<details><summary>(Solution to \d+)</summary>\s*```python\n(.*?)```", re.DOTALL)


def tagged(*tags):
    """The sources of the code cells that bear one of the tags."""
    return [cell.source for cell in CELLS if set(tags) & set(cell.metadata.get("tags", []))]


def built_by_hand():
    """What the cells tagged handbuilt define, and nothing else of the notebook."""
    names = {"torch": torch, "F": F, "nn": nn}
    for source in tagged("handbuilt", "handbuilt-detached"):
        exec(source, names)
    return SimpleNamespace(**names)


def as_small(extractor, models, **options):
    """An extractor of the notebook with the sizes that `small` gives the package's."""
    return extractor(models, dim=12, grid=9, width=8, **options)


def awake(extractor, prepared):
    """The extractor with statistics and an injection that is not zero."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in extractor.injection.parameters():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    extractor.fit_statistics(prepared)
    return extractor


@pytest.mark.parametrize("seed", [0, 1])
def test_handbuilt_extractor_equals_the_package_in_features_and_gradients(tiny_backbone, two_images, seed):
    ours = small(tiny_backbone, seed=seed)
    prepared = ours.prepare(two_images)
    awake(ours, prepared)
    hand = as_small(built_by_hand().HandBuiltExtractor, tiny_backbone)
    assert not torch.allclose(hand(two_images), ours(prepared), atol=1e-2)
    hand.load_state_dict(ours.state_dict())
    maps = hand(two_images), ours(prepared)
    torch.testing.assert_close(*maps, atol=1e-6, rtol=0)
    target = torch.rand(maps[0].shape, generator=torch.Generator().manual_seed(seed))
    for result in maps:
        (result - target).square().sum().backward()  # a sum, so that no gradient is small against 1e-6
    package = dict(ours.named_parameters())
    assert package.keys() == dict(hand.named_parameters()).keys()
    for name, parameter in hand.named_parameters():
        assert package[name].grad.abs().max() > 1e-3, name
        torch.testing.assert_close(parameter.grad, package[name].grad, atol=1e-6, rtol=0, msg=name)


def test_handbuilt_features_before_aggregation_equal_the_package(tiny_backbone, two_images):
    ours = small(tiny_backbone)
    prepared = ours.prepare(two_images)
    awake(ours, prepared)
    hand = as_small(built_by_hand().HandBuiltExtractor, tiny_backbone)
    hand.load_state_dict(ours.state_dict())
    tokens, noised = tiny_backbone.vision.tokens(two_images), tiny_backbone.diffusion.noised(two_images)
    with torch.no_grad():
        for mine, theirs in zip(hand.features(noised, tokens), ours.features(prepared).values(), strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0)


def test_detached_injection_does_not_move_and_ours_does(tiny_backbone, two_images):
    ours = awake(small(tiny_backbone), small(tiny_backbone).prepare(two_images))
    names = built_by_hand()
    for extractor, moves in ((names.HandBuiltExtractor, True), (names.DetachedExtractor, False)):
        trained = as_small(extractor, tiny_backbone)
        trained.load_state_dict(ours.state_dict())
        start, optimiser = {name: value.clone() for name, value in trained.state_dict().items()}, None
        for _ in range(3):
            optimiser = one_step(trained, two_images, optimiser)
        for name, parameter in trained.named_parameters():
            if name.startswith("injection"):
                assert (parameter.grad is not None) == moves, name
                assert torch.equal(parameter, start[name]) != moves, name
            else:
                assert not torch.equal(parameter, start[name]), name


def test_a_hook_that_fails_leaves_the_unet_as_it_was(tiny_backbone, two_images):
    def fail(block, output):
        raise RuntimeError("no")

    run_unet, diffusion = built_by_hand().run_unet, tiny_backbone.diffusion
    with pytest.raises(RuntimeError, match="no"):
        run_unet(diffusion, diffusion.noised(two_images), fail)
    assert not any(block._forward_hooks for block in diffusion.unet.up_blocks)


def test_all_of_it_is_about_sixty_lines():
    lines = [line for source in tagged("handbuilt") for line in source.splitlines() if line.strip()]
    assert 40 < len(lines) <= 62
    assert len(tagged("handbuilt-detached")) == 1 and len(tagged("handbuilt-detached")[0].splitlines()) == 3


def definitions():
    """All functions, classes and imports of the notebook, without running what they are used for."""
    names: dict[str, object] = {}
    for cell in CELLS:
        if cell.cell_type == "code":
            kept = [
                node
                for node in ast.parse(cell.source).body
                if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom)
            ]
            exec(compile(ast.Module(kept, []), cell.id, "exec"), names)
    return names


SOLUTIONS = dict(match for cell in CELLS for match in SOLUTION.findall(cell.source))


@pytest.mark.parametrize("title", SOLUTIONS)
def test_solution_runs_and_its_asserts_hold(tiny_backbone, two_images, title, capsys):
    tokens = tiny_backbone.vision.tokens(two_images)
    names = definitions() | {"models": tiny_backbone, "images": two_images, "tokens": tokens, "side": 24}
    names |= {"run": SimpleNamespace(device="cpu", seed=0), "FusedExtractor": FusedExtractor}
    assert "assert " in SOLUTIONS[title]
    exec(SOLUTIONS[title], names)


def test_every_exercise_has_a_solution():
    (text,) = [cell.source for cell in CELLS if cell.id == "exercises"]
    exercises = re.findall(r"^(\d+)\. ", text.split("<details>")[0], re.MULTILINE)
    assert [f"Solution to {number}" for number in exercises] == list(SOLUTIONS)
