"""The extractor learns through frozen blocks what is injected and aggregated, and nothing else moves."""

from contextlib import ExitStack

import pytest
import torch

from sfhelpers.backbones import load_backbone
from tests.backbone_fixtures import one_step, small

INJECTION = {"up": 6, "up+down": 14, "late": 6, "none": 0, "random": 6}  # -> how many tensors of weights


def snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


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
    odd = extractor(extractor.prepare(two_images, size=100, timestep=50))  # latents that are no multiple of eight
    assert odd.shape == whole.shape and odd.isfinite().all() and not torch.allclose(odd, whole)


@pytest.mark.parametrize("inject", INJECTION)
def test_what_learns_gets_a_gradient_and_moves_and_nothing_else_does(tiny_backbone, two_images, inject):
    diffusion = tiny_backbone.diffusion
    frozen = (diffusion.vae, diffusion.unet, diffusion.text_encoder, tiny_backbone.vision.model)
    before, extractor = [snapshot(module) for module in frozen], small(tiny_backbone, inject).train()
    prepared = extractor.prepare(two_images, draws=2)
    extractor.fit_statistics(prepared)
    start, optimiser = snapshot(extractor), one_step(extractor, prepared)
    assert sum("injection" in name for name, _ in extractor.named_parameters()) == INJECTION[inject]
    for name, parameter in extractor.named_parameters():
        fixed = inject == "random" and "injection" in name
        assert parameter.requires_grad != fixed and torch.equal(parameter, start[name]) == fixed, name
        assert fixed or (parameter.grad.isfinite().all() and (parameter.grad != 0).all()), name
    one_step(extractor, prepared, optimiser)
    again = extractor.prepare(two_images, draws=2)
    assert all(torch.equal(again[key], prepared[key]) for key in prepared)
    for module, old in zip(frozen, before, strict=True):
        assert not module.training and all(p.grad is None and not p.requires_grad for p in module.parameters())
        assert all(torch.equal(value, old[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("inject", ["up", "up+down", "late", "random"])
def test_an_injection_starts_as_the_plain_unet_and_the_fixed_one_does_not(tiny_backbone, two_images, inject):
    plain, injected = small(tiny_backbone, "none"), small(tiny_backbone, inject)
    injected.aggregator.load_state_dict(plain.aggregator.state_dict())
    assert torch.allclose(injected(two_images), plain(two_images), atol=1e-5, rtol=1e-4) == (inject != "random")


def test_without_injection_the_features_are_those_of_the_plain_unet(tiny_backbone, two_images):
    prepared = small(tiny_backbone, "none").prepare(two_images, size=60)
    plain = tiny_backbone.diffusion.features(two_images, blocks=(0, 1, 2), size=60)
    assert list(prepared) == ["f1", "f2", "f3"] and all(map(torch.equal, prepared.values(), plain))


def test_a_training_step_runs_nothing_that_is_frozen(tiny_backbone, two_images):
    extractor = small(tiny_backbone, "up")
    prepared = extractor.prepare(two_images)
    unet, ran = tiny_backbone.diffusion.unet, []
    parts = {"vae": tiny_backbone.diffusion.vae.encoder, "text": tiny_backbone.diffusion.text_encoder}
    parts |= {"clip": tiny_backbone.vision.model.visual.trunk, "conv_in": unet.conv_in, "mid": unet.mid_block}
    parts |= {f"up{i}": block for i, block in enumerate(unet.up_blocks)}
    with ExitStack() as hooks:
        for name, part in parts.items():
            hooks.enter_context(part.register_forward_hook(lambda m, a, o, name=name: ran.append(name)))
        one_step(extractor, prepared)
    assert ran == ["up1", "up2"]


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


def test_the_state_holds_what_learns_and_the_statistics_and_restores_the_map(tiny_backbone, two_images):
    extractor, other = small(tiny_backbone), small(tiny_backbone, seed=7)
    prepared = extractor.prepare(two_images)
    extractor.fit_statistics(prepared)
    one_step(extractor, prepared)
    other.load_state_dict(state := extractor.state_dict())
    assert {name for name in state if "statistics" not in name} == {name for name, _ in extractor.named_parameters()}
    assert torch.equal(other(prepared), extractor(prepared))


def test_seed_and_noise_seed_decide_and_the_global_generator_is_left_alone(tiny_backbone, two_images):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, same, other = (small(tiny_backbone, seed=s) for s in (3, 3, 4))
    prepared = first.prepare(two_images, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first(prepared), same(prepared)) and not torch.equal(first(prepared), other(prepared))
    noisier = first.prepare(two_images, seed=1)
    assert torch.equal(noisier["tokens"], prepared["tokens"])
    assert not torch.equal(noisier["hidden"], prepared["hidden"])


def test_double_precision_agrees_with_single(tiny_folder, tiny_backbone, two_images):
    double = load_backbone(tiny_folder, device="cpu", dtype=torch.float64)
    for inject in INJECTION:
        precise, usual = small(double, inject), small(tiny_backbone, inject)
        result = precise(two_images)
        assert result.dtype == torch.float64
        torch.testing.assert_close(usual(two_images).double(), result, atol=1e-3, rtol=1e-3)
    one_step(precise, precise.prepare(two_images))
