"""The extractor and its arms: what learns does so through frozen blocks, and an arm takes away what it says alone."""

from contextlib import ExitStack
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from sfhelpers import fusion
from sfhelpers.backbones import load_backbone, write_preset
from sfhelpers.fusion import ARMS
from sfhelpers.fusion.modules import FeatureAggregator, TokenInterpolation
from sfhelpers.tasks.arms import CORE, FINETUNING, METHODS, UP, ZEROED_UNET, arm_of, chosen, preparer
from sfhelpers.tasks.prepared import prepare_images
from tests.backbone_fixtures import load, of_size, one_step, refused, small

INJECTION = {"up": 6, "up+down": 14, "late": 6, "none": 0, "random": 6}  # -> how many tensors of weights


def test_misuse_is_refused_in_one_sentence(tiny_backbone, two_images):
    for options, said in (
        ({"inject": "upp"}, "unknown inject 'upp'"),
        ({"branches": ("f1+clip",)}, "unknown branch 'clip'"),
        ({"branches": ()}, "unknown branch"),
        ({"branches": ("tokens",)}, "no UNet branch"),
        ({"match": "linear"}, "unknown match 'linear'"),
        ({"start": "one"}, "unknown start 'one': use zero or random"),
        ({"kernel": 2}, "kernel is 2: give an odd number"),
        ({"kernel": 3, "match": "interpolation"}, "has no convolutions"),
        ({"inject": "random", "match": "interpolation"}, "has no convolutions"),
        ({"inject": "late", "branches": ("f3",), "inject_into": ("f1",)}, "inject_into names f1: choose from f3"),
        ({"inject": "none", "inject_into": ("f1",)}, "injects nothing"),
        ({"inject": "none", "kernel": 3}, "injects nothing"),
        ({"inject": "up", "start": "random", "zeroed": True}, "zeroed features need"),
        ({"inject": "late", "zeroed": True}, "zeroed features need"),
    ):
        with refused(said):
            fusion.FusedExtractor(tiny_backbone, **options)
    with refused("too few"):
        fusion.matched_width(tiny_backbone, UP, "up", 12, 10)
    not_prepared = small(tiny_backbone, "none").prepare(two_images), 'not prepared for inject="up"'
    images = ((some, "image") for some in (two_images * 255, two_images[0], two_images[:, :1]))
    for given, said in (*images, not_prepared):
        with refused(said):
            small(tiny_backbone)(given)


OPTIONS = [
    {"aggregate": False}, {"learn_weights": False}, {"match": "interpolation"}, {"match": "scaled interpolation"},
    {"kernel": 3}, {"kernel": 5}, {"inject_into": ("f1",)}, {"inject_into": ("f2",)}, {"inject_into": ("f3",)},
    {"inject_into": ("f1", "f3")}, {"branches": ("f1", "f2", "f3", "f4")}, {"branches": ("f1+f4", "tokens")},
    {"start": "random"},
]  # fmt: skip
CASES = [(inject, {}) for inject in INJECTION] + [("late", {"zeroed": True, "start": "random"})]
CASES += [(inject, options) for inject in ("up", "up+down", "late") for options in OPTIONS]


@pytest.mark.parametrize(("inject", "options"), CASES, ids=str)
def test_what_learns_gets_a_gradient_and_moves_and_nothing_else_does(tiny_backbone, two_images, inject, options):
    diffusion, extractor = tiny_backbone.diffusion, small(tiny_backbone, inject, **options).train()
    frozen = (diffusion.vae, diffusion.unet, diffusion.text_encoder, tiny_backbone.vision.model)
    before = [deepcopy(module.state_dict()) for module in frozen]
    prepared = extractor.prepare(two_images, draws=2)
    extractor.fit_statistics(prepared)
    assert extractor(prepared).shape == (2, 12, 9, 9)
    start, optimiser = deepcopy(extractor.state_dict()), one_step(extractor, prepared)
    named = dict(extractor.named_parameters())
    assert options or sum("injection" in name for name in named) == INJECTION[inject]
    assert any("blocks" in name for name in named) == ("aggregate" not in options)
    for name, parameter in named.items():
        fixed = (inject == "random" and "injection" in name) or ("learn_weights" in options and "weights" in name)
        assert parameter.requires_grad != fixed and torch.equal(parameter, start[name]) == fixed, name
        if not fixed:
            reached = parameter.grad != 0
            assert parameter.grad.isfinite().all() and (reached.any() if options else reached.all()), name
    one_step(extractor, prepared, optimiser)
    torch.testing.assert_close(extractor.prepare(two_images, draws=2), prepared, atol=0, rtol=0)
    for module, old in zip(frozen, before, strict=True):
        assert not module.training and all(p.grad is None and not p.requires_grad for p in module.parameters())
        assert all(torch.equal(value, old[name]) for name, value in module.state_dict().items())


def test_without_aggregation_branches_are_interpolated_along_channels_and_positions():
    aggregator = FeatureAggregator((4, 6), dim=8, width=3, grid=5, aggregate=False)
    branches = [torch.rand(2, 4, 3, 3), torch.rand(2, 6, 5, 5)]
    expected = [F.interpolate(x[:, None], size=(8, 5, 5), mode="trilinear")[:, 0] for x in branches]
    torch.testing.assert_close(aggregator(branches), sum(expected) / 2)


def test_interpolation_adds_the_tokens_as_they_are_or_at_the_block_s_spread():
    tokens, feature = 10 * torch.randn(2, 6, 4, 4), torch.randn(4, 9, 8, 8)
    wanted = F.interpolate(tokens[:, None], size=(9, 4, 4), mode="trilinear", align_corners=False)[:, 0]
    wanted = F.interpolate(wanted, size=8, mode="bilinear", align_corners=False).repeat_interleave(2, dim=0)
    before = feature.clone()
    plain, scaled = (TokenInterpolation(scaled=scaled)(0, feature, tokens) - feature for scaled in (False, True))
    torch.testing.assert_close(plain, wanted, atol=1e-4, rtol=1e-4)
    spread = [value.std((1, 2, 3), keepdim=True) for value in (feature, plain)]
    torch.testing.assert_close(scaled, plain * spread[0] / spread[1], atol=1e-3, rtol=1e-3)
    assert torch.equal(feature, before)


def test_a_wider_kernel_reads_the_tokens_beside_and_has_as_many_weights_more(tiny_backbone):
    plain = small(tiny_backbone).injection.convs
    for kernel in (1, 3, 5):
        injection = small(tiny_backbone, kernel=kernel).injection
        assert [c.weight.numel() for c in injection.convs] == [kernel * c.weight.numel() for c in plain]
        with torch.no_grad():
            injection.convs[0].weight.fill_(1.0)
        tokens = torch.zeros(1, 48, 4, 4)
        tokens[0, :, 1, 1] = 1
        added = injection(0, torch.zeros(1, 32, 4, 4), tokens)[0, 0].flatten()
        assert added.nonzero().flatten().tolist() == [k for k in range(16) if abs(k - 5) <= kernel // 2]


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


def test_finetuning_moves_copies_of_both_models_and_starts_as_the_concatenated_arm(tiny_backbone, two_images):
    tuned, frozen = (arm_of(method, tiny_backbone, 0) for method in (FINETUNING, "SD+CLIP concatenated"))
    extractor = tuned.extractor()
    with torch.no_grad():
        torch.testing.assert_close(extractor(two_images), frozen.extractor()(two_images), atol=1e-5, rtol=1e-5)
    modules = (extractor.unet, extractor.tower, tiny_backbone.diffusion.unet, tiny_backbone.vision.model.visual)
    before = [deepcopy([*module.parameters()]) for module in modules]
    assert extractor.train().training and not extractor.unet.training and not extractor.tower.training
    extractor.pooled(extractor.prepare(two_images)).square().sum().backward()
    torch.optim.SGD(extractor.parameters(), lr=0.1).step()
    same = [all(map(torch.equal, old, module.parameters())) for old, module in zip(before, modules, strict=True)]
    assert same == [False, False, True, True]


def test_the_zeroed_arm_has_late_fusion_s_layers_and_its_tokens_and_nothing_of_the_unet(tiny_backbone, two_images):
    late, zeroed = (arm_of(method, tiny_backbone, 3) for method in ("late fusion", ZEROED_UNET))
    assert zeroed.frozen_key == late.frozen_key and zeroed.settings["width"] == late.settings["width"]
    extractor, plain = zeroed.extractor(), late.extractor(start="random")
    assert all(map(torch.equal, extractor.parameters(), plain.parameters()))
    prepared = preparer([late, zeroed]).prepare(two_images)
    with torch.no_grad():
        found = extractor.features(prepared)
        for number, name in enumerate(("f1", "f2", "f3")):
            nothing = torch.zeros_like(prepared[name])
            assert torch.equal(found[name], extractor.injection(number, nothing, prepared["tokens"]))
            assert prepared[name].std() > 0 and found[name].std() > 0
    extractor(prepared).square().mean().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in extractor.parameters())


def test_an_arms_seed_decides_its_start_its_noise_and_what_it_shares_and_moves_no_other(tiny_backbone, two_images):
    state = torch.get_rng_state()
    for method in ("SD only", "fused", FINETUNING):
        arms = [arm_of(method, tiny_backbone, seed) for seed in (0, 0, 1)]
        assert arms[0].frozen_key == arms[1].frozen_key != arms[2].frozen_key
        first, same, other = (arm.extractor() for arm in arms)
        ours, theirs, told = first.prepare(two_images), other.prepare(two_images), other.prepare(two_images, seed=0)
        assert all(torch.equal(tensor, told[name]) for name, tensor in ours.items())
        noisier = {name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])}
        assert noisier and not noisier & {"tokens", "pixels", "text"}
        assert torch.equal(first(ours), same(ours)) and not torch.equal(first(ours), other(ours))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_setting_chooses_what_is_trained_and_keeps_all_that_is_not():
    frozen = {*METHODS} - {FINETUNING}
    for setting, trained in {"fused": {"fused"}, "core": CORE, "frozen": frozen, "all": METHODS}.items():
        assert set(chosen(setting, ("chance", *METHODS))) == {"chance", *trained}
        assert chosen(setting, METHODS[::-1]) == tuple(m for m in METHODS[::-1] if m in trained)


@pytest.mark.parametrize("inject", INJECTION)
def test_images_or_what_was_prepared_of_them_become_maps_of_dim_and_grid(tiny_backbone, two_images, inject):
    extractor = small(tiny_backbone, inject)
    for draws in (3, 1):
        whole = extractor(extractor.prepare(two_images, draws=draws))
        prepared = extractor.prepare(two_images, draws=draws, seed=0, batch_size=1)
        assert all(len(value) == 2 and not value.requires_grad for value in prepared.values())
        backwards = {key: value[[1, 0]] for key, value in prepared.items()}
        torch.testing.assert_close(extractor(backwards).flip(0), whole, atol=1e-5, rtol=1e-4)
    assert whole.shape == (2, 12, 9, 9) and torch.equal(extractor(two_images), whole)
    assert torch.equal(extractor.pooled(two_images), whole.flatten(2).max(dim=2).values)
    extractor = small(of_size(tiny_backbone, 100), inject)  # latents that are no multiple of eight
    odd = extractor(extractor.prepare(two_images, timestep=50))
    assert odd.shape == whole.shape and odd.isfinite().all() and not torch.allclose(odd, whole)


@pytest.mark.parametrize("inject", ["up", "up+down", "late", "random"])
def test_an_injection_starts_as_the_plain_unet_or_at_random_where_told_so(tiny_backbone, two_images, inject):
    plain, injected = small(tiny_backbone, "none"), small(tiny_backbone, inject)
    injected.aggregator.load_state_dict(plain.aggregator.state_dict())
    assert torch.allclose(injected(two_images), plain(two_images), atol=1e-5, rtol=1e-4) == (inject != "random")
    for name, parameter in small(tiny_backbone, start="random").injection.named_parameters():
        assert torch.equal(parameter, injected.injection.get_parameter(name)) == (inject == "random")
        assert parameter.requires_grad
    prepared = plain.prepare(two_images, seed=3)
    features = tiny_backbone.diffusion.features(two_images, blocks=(0, 1, 2), seed=3)
    assert list(prepared) == ["f1", "f2", "f3"] and all(map(torch.equal, prepared.values(), features))


def test_a_training_step_runs_nothing_that_is_frozen_and_clip_only_never_the_unet(tiny_backbone, two_images):
    extractor = small(tiny_backbone, "up")
    prepared = extractor.prepare(two_images)
    unet, ran = tiny_backbone.diffusion.unet, []
    parts = {"vae": tiny_backbone.diffusion.vae.encoder, "text": tiny_backbone.diffusion.text_encoder}
    parts |= {"clip": tiny_backbone.vision.model.visual.trunk.conv_stem, "conv_in": unet.conv_in, "mid": unet.mid_block}
    parts |= {f"up{i}": block for i, block in enumerate(unet.up_blocks)}
    with ExitStack() as hooks:
        for name, part in parts.items():
            hooks.enter_context(part.register_forward_hook(lambda m, a, o, name=name: ran.append(name)))
        one_step(extractor, prepared)
        assert list(small(tiny_backbone, **ARMS["CLIP only"]).prepare(two_images)) == ["tokens"]
    assert ran == ["up1", "up2", "clip"]


@pytest.mark.parametrize("inject", ["up", "none"])
def test_statistics_standardise_every_channel(tiny_backbone, inject):
    images = torch.rand(5, 3, 96, 96)
    extractor = small(tiny_backbone, inject, branches=("f1+tokens", "f3"))
    prepared = extractor.prepare(images)
    extractor.fit_statistics(prepared, batch_size=2)
    with torch.no_grad():
        features = extractor.features(prepared)
    assert set(features) == set(extractor.statistics) == {"f1", "tokens", "f3"}
    for name, feature in features.items():
        values = extractor.statistics[name](feature).transpose(0, 1).flatten(1)
        torch.testing.assert_close(values.mean(1), torch.zeros(len(values)), atol=1e-3, rtol=0)
        torch.testing.assert_close(values.std(1, correction=0), torch.ones(len(values)), atol=1e-3, rtol=0)


def test_large_images_go_through_few_at_a_time_and_one_by_one_through_the_autoencoder(unsealed, monkeypatch):
    write_preset(unsealed, size=288)
    backbone, ran = load(unsealed, dtype=torch.float64), {"vae": [], "unet": []}  # which knows no rounding to speak of
    assert [of_size(backbone, size).at_once for size in (96, 160, 336, 480, 512, 1536)] == [32, 32, 9, 4, 4, 1]
    monkeypatch.setattr("sfhelpers.backbones.loading.PIXELS", 2 * 288**2)
    extractor, images = small(backbone), torch.rand(3, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    parts = {"vae": backbone.diffusion.vae.encoder, "unet": backbone.diffusion.unet.conv_in}
    with ExitStack() as hooks:
        for name, part in parts.items():
            note = lambda module, given, output, name=name: ran[name].append(len(given[0]))  # noqa: E731
            hooks.enter_context(part.register_forward_hook(note))
        found = prepare_images(extractor, lambda some: images[list(some)], 3, None)
        torch.testing.assert_close(extractor.prepare(images), found, atol=0, rtol=0)
        assert ran == {"vae": [1] * 6, "unet": [2, 1] * 2}
        backbone.diffusion.vae.disable_slicing()
        torch.testing.assert_close(extractor.prepare(images, batch_size=3), found, atol=1e-6, rtol=0)
    assert ran == {"vae": [1] * 6 + [3], "unet": [2, 1] * 2 + [3]}


def test_double_precision_agrees_with_single(tiny_folder, tiny_backbone, two_images):
    double = load_backbone(tiny_folder, device="cpu", dtype=torch.float64)
    for inject in INJECTION:
        precise, usual = small(double, inject), small(tiny_backbone, inject)
        result = precise(two_images)
        assert result.dtype == torch.float64
        torch.testing.assert_close(usual(two_images).double(), result, atol=1e-3, rtol=1e-3)
    one_step(precise, precise.prepare(two_images))
