"""The arms of the tables and the ablations: each takes away what it says, learns as much, and nothing else moves."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from sfhelpers.fusion import (
    ARMS,
    FeatureAggregator,
    FusedExtractor,
    TokenInterpolation,
    matched_width,
    trainable_parameters,
)
from sfhelpers.tasks.arms import CORE, FINETUNING, FINETUNING_RATE, METHODS, arm_of, chosen, extractor_for
from tests.backbone_fixtures import one_step, refused, small

ALL = ("up", "up+down", "late", "none", "random")


def test_every_arm_of_the_tables_trains_with_equal_parameters(tiny_backbone, two_images):
    usual = ("f1", "f2", "f3")
    target = trainable_parameters(tiny_backbone, usual, "up", dim=12, width=32)
    for method, settings in ARMS.items():
        branches = settings.get("branches", usual)
        width = matched_width(tiny_backbone, branches, settings["inject"], 12, target)
        extractor = FusedExtractor(tiny_backbone, dim=12, grid=9, width=width, **settings)
        learned = sum(p.numel() for p in extractor.parameters() if p.requires_grad)
        assert learned == trainable_parameters(tiny_backbone, branches, settings["inject"], 12, width)
        assert abs(learned / target - 1) < 0.02, method
        one_step(extractor, extractor.prepare(two_images))
    assert matched_width(tiny_backbone, usual, "up", 12, target) == 32
    with pytest.raises(ValueError, match="too few"):
        matched_width(tiny_backbone, usual, "up", 12, 10)


def test_clip_only_never_runs_the_unet(tiny_backbone, two_images):
    ran = []
    hook = tiny_backbone.diffusion.unet.register_forward_pre_hook(lambda m, a: ran.append(1))
    extractor = small(tiny_backbone, **ARMS["CLIP only"])
    assert list(extractor.prepare(two_images)) == ["tokens"]
    hook.remove()
    assert not ran


def test_branches_may_name_f4_and_sums(tiny_backbone, two_images):
    for inject in ALL:
        extractor = small(tiny_backbone, inject, branches=("f1+f4", "tokens"))
        assert [block.shortcut[0].in_channels for block in extractor.aggregator.blocks] == [32 + 8, 48]
        assert extractor(two_images).shape == (2, 12, 9, 9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"inject": "upp"}, "unknown inject 'upp'"),
        ({"branches": ("f5",)}, "unknown branch 'f5'"),
        ({"branches": ("f1+clip",)}, "unknown branch 'clip'"),
        ({"branches": ()}, "unknown branch"),
        ({"branches": ("tokens",)}, "no UNet branch"),
        ({"match": "linear"}, "unknown match 'linear'"),
        ({"start": "one"}, "unknown start 'one': use zero or random"),
        ({"kernel": 2}, "kernel is 2: give an odd number"),
        ({"kernel": 0}, "kernel is 0: give an odd number"),
        ({"kernel": 3, "match": "interpolation"}, "has no convolutions"),
        ({"inject": "random", "match": "interpolation"}, "has no convolutions"),
        ({"inject_into": ("f4",)}, "inject_into names f4: choose from f1, f2, f3"),
        ({"inject_into": ("tokens",)}, "inject_into names tokens"),
        ({"inject": "late", "branches": ("f3",), "inject_into": ("f1",)}, "inject_into names f1: choose from f3"),
        ({"inject": "none", "inject_into": ("f1",)}, "injects nothing"),
        ({"inject": "none", "kernel": 3}, "injects nothing"),
    ],
)
def test_misuse_is_refused_in_one_sentence(tiny_backbone, options, said):
    with refused(said):
        FusedExtractor(tiny_backbone, **options)


def test_images_and_tensors_that_do_not_fit_are_refused(tiny_backbone, two_images):
    extractor = small(tiny_backbone)
    for images in (two_images * 255, two_images[0], two_images[:, :1]):
        with pytest.raises(ValueError, match="image"):
            extractor(images)
    with pytest.raises(ValueError, match=r'not prepared for inject="up"'):
        extractor(small(tiny_backbone, "none").prepare(two_images))


def test_the_benchmark_prints_a_ratio(tiny_folder):
    command = [sys.executable, "-m", "tools.bench", "steps", "widgets", "--backbone", str(tiny_folder)]
    done = subprocess.run(
        [*command, "--device", "cpu", "--batch", "2", "--repeats", "1"], capture_output=True, text=True, check=True
    )
    assert "prefix stored" in done.stdout and "whole UNet" in done.stdout
    assert all(name in done.stdout for name in ("PCAExplorer", "FrequencyExplorer", "SketchPad", "SketchSearch"))


OPTIONS = {
    "no aggregation": {"aggregate": False},
    "fixed weights": {"learn_weights": False},
    "interpolation": {"match": "interpolation"},
    "scaled interpolation": {"match": "scaled interpolation"},
    "kernel 3": {"kernel": 3},
    "kernel 5": {"kernel": 5},
    "into f1": {"inject_into": ("f1",)},
    "into f2": {"inject_into": ("f2",)},
    "into f3": {"inject_into": ("f3",)},
    "into f1 and f3": {"inject_into": ("f1", "f3")},
    "f4 added": {"branches": ("f1", "f2", "f3", "f4")},
    "random start": {"start": "random"},
}


def learned(extractor):
    return {name for name, parameter in extractor.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("inject", ["up", "up+down", "late"])
def test_every_option_gives_a_map_and_what_learns_gets_a_gradient(tiny_backbone, two_images, name, inject):
    extractor = small(tiny_backbone, inject, **OPTIONS[name])
    prepared = extractor.prepare(two_images, draws=2)
    extractor.fit_statistics(prepared)
    assert extractor(prepared).shape == (2, 12, 9, 9)
    one_step(extractor, prepared)
    for parameter, value in extractor.named_parameters():
        reached = value.grad is not None and bool((value.grad != 0).any())
        assert reached == value.requires_grad, parameter


def test_left_alone_the_options_change_neither_the_start_nor_the_names(tiny_backbone, two_images):
    usual = small(tiny_backbone)
    said = small(
        tiny_backbone, inject_into=("f1", "f2", "f3"), match="convolution", kernel=1, aggregate=True,
        learn_weights=True, start="zero",
    )  # fmt: skip
    assert list(usual.state_dict()) == list(said.state_dict())
    assert torch.equal(usual(two_images), said(two_images))


def test_a_random_start_is_that_of_the_fixed_injection_but_learns(tiny_backbone):
    learning, fixed, zero = (
        small(tiny_backbone, **settings).injection for settings in ({"start": "random"}, {"inject": "random"}, {})
    )
    for name, parameter in learning.named_parameters():
        assert torch.equal(parameter, fixed.get_parameter(name)) and parameter.any()
        assert parameter.requires_grad and not fixed.get_parameter(name).requires_grad
        assert not zero.get_parameter(name).any()


def test_without_aggregation_only_injection_and_branch_weights_learn(tiny_backbone):
    extractor = small(tiny_backbone, aggregate=False)
    assert {name.split(".")[0] for name in learned(extractor) - {"aggregator.branch_weights"}} == {"injection"}
    assert not learned(small(tiny_backbone, "none", aggregate=False)) - {"aggregator.branch_weights"}


def test_without_aggregation_branches_are_interpolated_along_channels_and_positions():
    aggregator = FeatureAggregator((4, 6), dim=8, width=3, grid=5, aggregate=False)
    branches = [torch.rand(2, 4, 3, 3), torch.rand(2, 6, 5, 5)]
    expected = [
        F.interpolate(x[:, None], size=(8, 5, 5), mode="trilinear", align_corners=False)[:, 0] for x in branches
    ]
    torch.testing.assert_close(aggregator(branches), sum(expected) / 2)


def test_fixed_weights_stay_equal(tiny_backbone, two_images):
    for fixed in (False, True):
        extractor = small(tiny_backbone, learn_weights=not fixed)
        prepared = extractor.prepare(two_images)
        one_step(extractor, prepared)
        weights = extractor.aggregator.branch_weights.softmax(dim=0)
        assert torch.allclose(weights, torch.full((3,), 1 / 3)) == fixed
    assert "aggregator.branch_weights" in extractor.state_dict()


def test_interpolation_adds_the_tokens_as_they_are_or_at_the_block_s_spread():
    tokens, feature = 10 * torch.randn(2, 6, 4, 4), torch.randn(4, 9, 8, 8)
    wanted = F.interpolate(tokens[:, None], size=(9, 4, 4), mode="trilinear", align_corners=False)[:, 0]
    wanted = F.interpolate(wanted, size=8, mode="bilinear", align_corners=False).repeat_interleave(2, dim=0)
    before = feature.clone()
    plain = TokenInterpolation(scaled=False)(0, feature, tokens) - feature
    torch.testing.assert_close(plain, wanted, atol=1e-4, rtol=1e-4)
    scaled = TokenInterpolation(scaled=True)(0, feature, tokens) - feature
    torch.testing.assert_close(scaled.std((1, 2, 3)), feature.std((1, 2, 3)), atol=1e-3, rtol=1e-3)
    for ours, raw in zip(scaled, plain, strict=True):
        torch.testing.assert_close(ours / ours.std(), raw / raw.std(), atol=1e-4, rtol=1e-4)
    assert torch.equal(feature, before)
    assert not list(TokenInterpolation(scaled=True).parameters())


def test_a_wider_kernel_reads_the_tokens_beside_and_has_as_many_weights_more(tiny_backbone):
    counts = {}
    for kernel in (1, 3, 5):
        injection = small(tiny_backbone, kernel=kernel).injection
        counts[kernel] = sum(conv.weight.numel() for conv in injection.convs)
        with torch.no_grad():
            injection.convs[0].weight.fill_(1.0)
        tokens = torch.zeros(1, 48, 4, 4)
        tokens[0, :, 1, 1] = 1
        added = injection(0, torch.zeros(1, 32, 4, 4), tokens)[0, 0].flatten()
        assert added.nonzero().flatten().tolist() == [k for k in range(16) if abs(k - 5) <= kernel // 2]
    assert counts[3] == 3 * counts[1] and counts[5] == 5 * counts[1]


@pytest.mark.parametrize("inject", ["up", "late"])
def test_tokens_reach_only_the_blocks_that_are_named(tiny_backbone, two_images, inject):
    plain = small(tiny_backbone, "none")
    chosen = small(tiny_backbone, inject, inject_into=("f2",))
    assert len(chosen.injection.convs) == 1
    before = plain.features(plain.prepare(two_images))
    with torch.no_grad():
        chosen.injection.convs[0].weight.add_(0.3)
        after = chosen.features(chosen.prepare(two_images))
    torch.testing.assert_close(after["f1"], before["f1"], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(after["f2"], before["f2"], atol=1e-2)
    assert torch.allclose(after["f3"], before["f3"], atol=1e-4) == (inject == "late")


def test_tensors_for_more_blocks_serve_an_extractor_of_fewer(tiny_backbone, two_images):
    more = small(tiny_backbone, branches=("f1", "f2", "f3", "f4")).prepare(two_images)
    extractor = small(tiny_backbone)
    torch.testing.assert_close(extractor(more), extractor(two_images), atol=1e-6, rtol=0)


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
