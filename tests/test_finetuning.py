"""B-Finetuning moves its own copies of the backbone, and nothing else."""

import pytest
import torch

from sfhelpers.tasks.arms import CORE, FINETUNING, FINETUNING_RATE, METHODS, arm_of, chosen, extractor_for


def test_a_step_moves_unet_and_tower_but_not_the_backbone(tiny_backbone, two_images):
    extractor = extractor_for(FINETUNING, tiny_backbone, seed=0)
    shared = (tiny_backbone.diffusion.unet, tiny_backbone.vision.model.visual)
    before = [[p.clone() for p in module.parameters()] for module in (extractor.unet, extractor.tower, *shared)]
    optimiser = torch.optim.SGD(extractor.parameters(), lr=0.1)
    extractor.train()
    extractor.pooled(extractor.prepare(two_images)).square().sum().backward()
    optimiser.step()
    moved = [
        any(not torch.equal(old, new) for old, new in zip(kept, module.parameters(), strict=True))
        for kept, module in zip(before, (extractor.unet, extractor.tower, *shared), strict=True)
    ]
    assert moved == [True, True, False, False]


def test_untrained_it_equals_the_concatenated_arm(tiny_backbone, two_images):
    tuned, frozen = (extractor_for(m, tiny_backbone, seed=0) for m in (FINETUNING, "SD+CLIP concatenated"))
    with torch.no_grad():
        torch.testing.assert_close(tuned(two_images), frozen(two_images), atol=1e-5, rtol=1e-5)


def test_normalising_layers_stay_in_eval_mode(tiny_backbone):
    extractor = extractor_for(FINETUNING, tiny_backbone, seed=0).train()
    assert extractor.training and not extractor.unet.training and not extractor.tower.training


def test_it_learns_at_a_tenth_of_the_rate(tiny_backbone):
    arms = [arm_of(m, tiny_backbone, 0) for m in (FINETUNING, "fused")]
    assert [arm.rate(2e-3) for arm in arms] == [2e-3 * FINETUNING_RATE, 2e-3]


@pytest.mark.parametrize(
    ("setting", "trained"),
    [
        ("fused", ("fused",)),
        ("core", CORE),
        ("frozen", tuple(method for method in METHODS if method != FINETUNING)),
        ("all", METHODS),
    ],
)
def test_a_setting_chooses_what_is_trained_and_keeps_all_that_is_not(setting, trained):
    assert set(chosen(setting, ("chance", *METHODS))) == {"chance", *trained}
    assert chosen(setting, METHODS[::-1]) == tuple(m for m in METHODS[::-1] if m in trained)
