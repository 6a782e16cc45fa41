"""The extractor that 02_fused_extractor builds by hand, taken from the notebook's own cells, is the package's."""

import ast
import re
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfhelpers.fusion import FusedExtractor
from tests.backbone_fixtures import small
from tests.cells import cells, run_cells, solutions, tagged

HERE = "02_fused_extractor"
SOLUTIONS = solutions(HERE)


@pytest.fixture(scope="module")
def hand():
    """What the cells tagged handbuilt define, and nothing else of the notebook."""
    return SimpleNamespace(**run_cells(HERE, {"torch": torch, "F": F, "nn": nn}, "handbuilt", "handbuilt-detached"))


@pytest.mark.parametrize("seed", [0, 1])
def test_handbuilt_extractor_equals_the_package_in_features_and_gradients(hand, tiny_backbone, two_images, seed):
    ours = small(tiny_backbone, seed=seed)
    for parameter in ours.injection.parameters():
        nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(5))
    prepared = ours.prepare(two_images)
    ours.fit_statistics(prepared)
    mine = hand.HandBuiltExtractor(tiny_backbone, dim=12, grid=9, width=8)  # as `small` gives the package's
    assert not torch.allclose(mine(two_images), ours(prepared), atol=1e-2)
    mine.load_state_dict(ours.state_dict())
    tokens, noised = tiny_backbone.vision.tokens(two_images), tiny_backbone.diffusion.noised(two_images)
    for feature, theirs in zip(mine.features(noised, tokens), ours.features(prepared).values(), strict=True):
        torch.testing.assert_close(feature, theirs, atol=1e-6, rtol=0)
    maps = mine(two_images), ours(prepared)
    torch.testing.assert_close(*maps, atol=1e-6, rtol=0)
    target = torch.rand(maps[0].shape, generator=torch.Generator().manual_seed(seed))
    for result in maps:
        (result - target).square().sum().backward()  # a sum, so that no gradient is small against 1e-6
    package = dict(ours.named_parameters())
    assert package.keys() == dict(mine.named_parameters()).keys()
    for name, parameter in mine.named_parameters():
        assert package[name].grad.abs().max() > 1e-3, name
        torch.testing.assert_close(parameter.grad, package[name].grad, atol=1e-6, rtol=0, msg=name)


def test_a_hook_that_fails_leaves_the_unet_as_it_was(hand, tiny_backbone, two_images):
    def fail(block, output):
        raise RuntimeError("no")

    diffusion = tiny_backbone.diffusion
    with pytest.raises(RuntimeError, match="no"):
        hand.run_unet(diffusion, diffusion.noised(two_images), fail)
    assert not any(block._forward_hooks for block in diffusion.unet.up_blocks)


def test_all_of_it_is_about_sixty_lines():
    lines = [line for source in tagged(HERE, "handbuilt") for line in source.splitlines() if line.strip()]
    assert 40 < len(lines) <= 62
    (detached,) = tagged(HERE, "handbuilt-detached")
    assert len(detached.splitlines()) == 3


def definitions():
    """All functions, classes and imports of the notebook, without running what they are used for."""
    kinds, names = ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom, {}
    for cell in (cell for cell in cells(HERE) if cell.cell_type == "code"):
        kept = [node for node in ast.parse(cell.source).body if isinstance(node, kinds)]
        exec(compile(ast.Module(kept, []), cell.id, "exec"), names)
    return names


@pytest.mark.parametrize("title", SOLUTIONS)
def test_solution_runs_and_its_asserts_hold(tiny_backbone, two_images, title, capsys):
    tokens = tiny_backbone.vision.tokens(two_images)
    names = definitions() | {"models": tiny_backbone, "images": two_images, "tokens": tokens, "side": 24}
    names |= {"run": SimpleNamespace(device="cpu", seed=0), "FusedExtractor": FusedExtractor}
    assert "assert " in SOLUTIONS[title]
    exec(SOLUTIONS[title], names)


def test_every_exercise_has_a_solution():
    (text,) = [cell.source for cell in cells(HERE) if cell.id == "exercises"]
    exercises = re.findall(r"^(\d+)\. ", text.split("<details>")[0], re.MULTILINE)
    assert [f"Solution to {number}" for number in exercises] == list(SOLUTIONS)
