"""Feature maps are what one computes by hand, each once; what is measured in constructed ones is what one knows."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch.nn import functional as F

from sfhelpers import pilot, results
from sfhelpers.fusion import ARMS
from sfhelpers.fusion.modules import to_grid
from sfhelpers.pilot import toy_pairs
from sfhelpers.pilot.maps import CONCATENATED, INJECTIONS, METHODS, SOURCES, FeatureMaps, Settings
from sfhelpers.pocket import contract
from tests.backbone_fixtures import refused, untrained_head

close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def heads(tiny_backbone):
    """A head for every arm; injections that start from zero are moved away from it, else they would not show."""
    found = {method: untrained_head(method, tiny_backbone) for method in ARMS}
    for seed, extractor in enumerate(head.extractor for head in found.values()):
        for parameter in extractor.injection.parameters() if extractor.inject in ("up", "late") else ():
            torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(seed))
        for name, statistics in extractor.statistics.items():
            statistics.mean.fill_(0.1 * len(name))
    return found


@pytest.fixture
def maps(tiny_backbone, heads):
    return FeatureMaps(tiny_backbone, heads)


@pytest.fixture
def passes(tiny_backbone):
    """How many images and noise draws went through the UNet, pass by pass."""
    seen = []
    with tiny_backbone.diffusion.unet.register_forward_pre_hook(lambda module, args: seen.append(len(args[0]))):
        yield seen


def test_plain_sources_are_the_backbones_own_and_joined_ones_standardised(tiny_backbone, maps, heads, two_images):
    noise = {"timestep": 50, "prompt": "a photo", "seed": 3, "draws": 2}
    plain = [maps(two_images, Settings(source, **noise)) for source in SOURCES[:5]]
    blocks, tokens = tiny_backbone.diffusion.features(two_images, **noise), tiny_backbone.vision.tokens(two_images)
    for found, expected in zip(plain, [*blocks, tokens], strict=True):
        close(found, expected)
    joined, statistics = maps(two_images, Settings(CONCATENATED, **noise)), heads[CONCATENATED].extractor.statistics
    assert torch.equal(joined, maps(two_images, Settings(CONCATENATED, "up", **noise)))
    parts = zip(("f1", "f2", "f3", "tokens"), plain[:3] + plain[4:], strict=True)
    close(joined, torch.cat([to_grid(statistics[name](part), (24, 24)) for name, part in parts], dim=1))


@pytest.mark.parametrize("injection", INJECTIONS)
def test_fused_maps_and_blocks_are_those_of_the_heads_own_extractor(maps, heads, two_images, injection):
    extractor = heads[METHODS[injection]].extractor
    prepared = extractor.prepare(two_images, seed=4, timestep=100, prompt="a cat")
    settings = Settings("fused", injection, timestep=100, prompt="a cat", seed=4)
    close(maps(two_images, settings), extractor(prepared))
    for name, feature in extractor.features(prepared).items():
        close(maps(two_images, replace(settings, source=f"SD {name}")), feature)


@pytest.mark.parametrize("source", SOURCES[:4])
def test_every_injection_changes_every_block_but_late_fusion_f4_and_no_caller_spoils_it(maps, two_images, source):
    plain, up, late, random = (maps(two_images, Settings(source, injection)) for injection in INJECTIONS)
    assert (up - plain).abs().max() > 1e-3 and (random - up).abs().max() > 1e-3
    assert torch.equal(late, plain) if source == "SD f4" else (late - plain).abs().max() > 1e-3
    expected = up.clone()
    up.zero_()
    assert torch.equal(maps(two_images, Settings(source, "up")), expected)


def test_an_image_goes_through_once_for_all_blocks_and_anew_for_what_changes_them(maps, passes, two_images):
    for source in SOURCES[:4]:
        maps(two_images, Settings(source))
    maps(two_images.flip(0), Settings())
    assert passes == [2]
    found = maps(torch.cat([two_images, two_images.flip(3), two_images]), Settings("SD f1"))
    assert passes == [2, 2] and torch.equal(found[:2], found[4:]), "only the images that are new, and each once"
    for where in (("fused", "none"), (CONCATENATED, "none"), ("fused", "late"), ("SD f3", "late")):
        maps(two_images, Settings(*where))
    assert passes == [2, 2], "late fusion and aggregation use the blocks that are kept"
    changes = ({"timestep": 5}, {"prompt": "a cat"}, {"seed": 1}, {"draws": 2}, {"injection": "up"})
    found = [maps(two_images, Settings(**each)) for each in ({}, *changes, {"injection": "random"})]
    assert len(passes) == 8
    assert all((a - b).abs().max() > 1e-6 for n, a in enumerate(found) for b in found[:n])
    maps(two_images, Settings("fused", "up", timestep=195))  # the default, by name
    assert len(passes) == 8
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(maps, two_images, Settings("fused", "up", seed=seed)) for seed in (2, 3, 3, 2)]
    assert len(passes) == 10, "threads wait for each other's work"
    for seed, found in zip((2, 3, 3, 2), asked, strict=True):
        assert torch.equal(found.result(), maps(two_images, Settings("fused", "up", seed=seed)))


def test_the_cache_is_bounded_in_bytes_and_forgets_what_was_used_longest_ago(tiny_backbone, maps, passes, two_images):
    def kept_bytes(maps):
        return sum(tensor.nbytes for tensors in maps._kept.values() for tensor in tensors)

    maps(two_images[:1], Settings())
    size = kept_bytes(maps)
    assert size == 4 * sum(c * g * g for c, g in zip((32, 24, 16, 8), (6, 12, 24, 24), strict=True))
    small, none = (FeatureMaps(tiny_backbone, {}, n * size / 1e6, batch_size=4) for n in (2.5, 0))
    passes.clear()
    for seed in (0, 1, 0, 2, 0, 1):  # 1 is forgotten for 2, since 0 was used after it
        small(two_images[:1], Settings(seed=seed))
        assert kept_bytes(small) <= 2.5 * size
    assert len(passes) == 4
    many = torch.cat([two_images, two_images.flip(3)])
    passes.clear()
    found = none(many, Settings(draws=2))
    assert passes == [4, 4] and kept_bytes(none) == 0, "batches hold no more draws than asked"
    close(found, maps(many, Settings(draws=2)))


def test_what_a_setting_does_not_do_is_noted(maps):
    for silent in ({"prompt": "a photo of a cat"}, {"source": "CLIP tokens", "prompt": "a unicorn"}):
        assert maps.notes(Settings(**silent)) == ""
    assert "f4" in maps.notes(Settings("SD f4", "late"))


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(count=4, channels=16, grid=12, skewed=True):
    """(count, C, grid, grid): maps whose channels have different spreads."""
    maps = drawn(count, channels, grid, grid)
    return (maps.exp() if skewed else maps) * torch.linspace(3, 0.2, channels)[:, None, None]


def turned(maps, seed):
    rotation, _ = torch.linalg.qr(drawn(maps.shape[1], maps.shape[1], seed=seed).double())
    return torch.einsum("bchw,cd->bdhw", maps.double(), rotation)


def wave(grid, k):
    """(1, 1, grid, grid): a sinusoid of k cycles per image to the right, seen at the positions' centres."""
    steps = (torch.arange(grid).double() + 0.5) / grid
    return torch.sin(2 * np.pi * k * steps + 0.3).expand(1, 1, grid, grid)


def test_components_and_shares_are_those_of_scikit_learn_up_to_sign():
    maps = made()
    rows = maps.permute(0, 2, 3, 1).flatten(0, 2).double().numpy()
    reference, (scores, shares) = PCA(3, svd_solver="full").fit(rows), pilot.principal_components(maps)
    np.testing.assert_allclose(shares, reference.explained_variance_ratio_, rtol=1e-6)
    expected = np.abs(reference.transform(rows)).reshape(4, 12, 12, 3).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(np.abs(scores.numpy()), expected, atol=1e-4)


@pytest.mark.parametrize("skewed", [True, False])
def test_a_pca_map_is_the_same_under_any_rotation_of_the_channel_space(skewed):
    pairs = made(6, skewed=skewed).unflatten(0, (3, 2))
    for basis in pilot.BASES:
        expected, bases = pilot.pca_maps(pairs, basis)
        for seed in range(5):
            colours, others = pilot.pca_maps(turned(pairs.flatten(0, 1), seed).unflatten(0, (3, 2)), basis)
            assert np.abs(colours.astype(int) - expected).max() <= 1  # rounding
            np.testing.assert_allclose(others[0], bases[0], rtol=1e-6)


@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_scores_that_lean_to_neither_side_still_get_a_sign_of_their_own(flip):
    down = torch.linspace(-1, 1, 12)[:, None].expand(12, 12)
    maps = flip * torch.stack([down, 0.3 * down.T, 0.1 * down.T.flip(1) * down])[None]
    for seed in range(4):
        scores, _ = pilot.principal_components(turned(maps, seed))
        torch.testing.assert_close(scores[0, :2], torch.stack([down, 0.3 * down.T]), atol=1e-4, rtol=0)


def test_a_basis_sees_its_own_maps_alone_and_equal_features_have_equal_colours():
    pairs, maps = made(6).unflatten(0, (3, 2)), {}
    pairs[0, 1] = pairs[0, 0].flip(2)
    for basis, count in {"image": 6, "pair": 3, "set": 1}.items():
        maps[basis], bases = pilot.pca_maps(pairs, basis)
        assert len(bases) == count and maps[basis].shape == (3, 2, 12, 12, 3) and maps[basis].dtype == np.uint8
    assert np.array_equal(maps["pair"][1:2], pilot.pca_maps(pairs[1:2], "pair")[0])
    assert np.array_equal(maps["pair"][0, 0], maps["pair"][0, 1][:, ::-1])
    assert not np.array_equal(maps["image"], maps["pair"]) and not np.array_equal(maps["pair"], maps["set"])


def test_a_map_that_never_varies_or_has_few_channels_is_grey_there():
    colours, (shares,) = pilot.pca_maps(torch.ones(1, 2, 4, 5, 5), "pair")
    assert (colours == 128).all() and not shares.any()
    one, (shares,) = pilot.pca_maps(made(2, channels=1).unflatten(0, (1, 2)), "pair")
    assert len(np.unique(one[..., 0])) > 5 and (one[..., 1:] == 128).all()
    np.testing.assert_allclose(shares, [1, 0, 0])


@pytest.mark.parametrize("grid", [12, 24, 60, 10])
def test_a_sinusoid_of_k_cycles_peaks_at_k_on_every_grid(grid):
    for k in range(1, grid // 2):
        for turned_wave in (wave(grid, k), wave(grid, k).mT):
            frequencies, profile = pilot.radial_profile(pilot.power(turned_wave + 50))
            rings = [(np.round(np.hypot(*np.mgrid[: 2 * grid, : 2 * grid] - grid)) == f).sum() for f in frequencies]
            assert frequencies[(profile[0] * rings).argmax()] == k


def test_the_spectrum_is_the_logarithm_of_the_mean_magnitude_and_its_middle_the_lowest_value():
    maps = drawn(1, 1, 6, 6).double()
    one, both = (pilot.spectrum(maps * torch.tensor(scales)[:, None, None]).ravel() for scales in ([1.0], [1.0, 3.0]))
    away = np.arange(36) != 3 * 6 + 3
    np.testing.assert_allclose(one[away], np.log10(pilot.power(maps).ravel()[away]) / 2, rtol=1e-9)
    np.testing.assert_allclose(both, one + np.log10(2), atol=1e-9)
    assert one[~away] == one[away].min()
    assert pilot.radial_profile(np.ones((2, 6, 10)))[1].shape == (2, 4), "the shorter side ends first"


@pytest.mark.parametrize("grid", [12, 24, 10, 7])
def test_low_and_high_band_add_up_to_the_whole_and_a_band_keeps_the_waves_inside_it(grid):
    maps = drawn(2, 3, grid, grid) + 4
    low, high = pilot.band_pass(maps, 0, 2.1), pilot.band_pass(maps, 2.2, float("inf"))
    close(low + high, maps)
    close(low.mean((2, 3)), maps.mean((2, 3)))
    close(pilot.band_pass(low, 2.2, 99), torch.zeros_like(low))
    waves = {k: wave(24, k).float() for k in (1, 4, 9)}
    close(pilot.band_pass(sum(waves.values()), 3, 9), waves[4] + waves[9])
    close(pilot.band_pass(waves[4] + 7, 0, 0), torch.full((1, 1, 24, 24), 7.0))


def test_what_makes_no_map_or_cannot_be_measured_is_refused_in_one_sentence(tiny_backbone, maps, heads, two_images):
    mixed, none = FeatureMaps(tiny_backbone, {"fused": heads["late fusion"]}), FeatureMaps(tiny_backbone, {})
    wrong = [("source", "SD f5"), ("injection", "down"), ("timestep", 1000), ("draws", 2.0), ("seed", 2**32)]
    calls = [(maps, two_images, Settings(**{name: value})) for name, value in [*wrong, ("prompt", None)]]
    calls += [(none, two_images, Settings(*where)) for where in (("fused",), ("SD f3", "up"), (CONCATENATED,))]
    calls += [(maps, images, Settings()) for images in (two_images[0], two_images * 255, two_images[:0])]
    calls += [(FeatureMaps, tiny_backbone, {}, *sizes) for sizes in ((200, 0), (-1,))]
    calls += [(pilot.toy_pairs, *asked) for asked in ((0,), (1, ()), (1, ("unicorn",)))]
    calls += [(pilot.pca_maps, made(2).unflatten(0, (1, 2)), "all"), (pilot.pca_maps, made(3)[None], "pair")]
    calls += [(pilot.principal_components, torch.full((1, 3, 4, 4), torch.inf)), (pilot.spectrum, [1, 2])]
    calls += [(pilot.radial_profile, np.zeros((4, 4))), (mixed, two_images, Settings("fused", "up"))]
    for call, *given in calls:
        with refused():
            call(*given)


@pytest.fixture(scope="module")
def pairs():
    return toy_pairs(2, ["cat", "cup", "house"])


def test_maps_that_know_the_point_match_and_others_do_not(pairs):
    grid = contract.GRID
    columns, rows = (pairs.points.clamp(0, 0.999) * grid).long().unbind(-1)
    maps = F.one_hot(rows * grid + columns, grid**2).float().unflatten(3, (grid, grid))
    drawn = F.max_pool2d(maps[:, 0], 3, 1, 1)  # a point between two positions is near one of them
    knowing = torch.stack([drawn, maps[:, 1]], 1)
    assert contract.matching(knowing, pairs, 0.05) > 0.9 > 0.2 > contract.matching(torch.ones_like(maps), pairs, 0.05)
    assert contract.matching(knowing, pairs, 0.1, side=1, shift=1) > 0.9  # onto the next photo of the category


def test_probes_find_what_maps_hold(pairs):
    photos = pairs.images[:, 1]
    shown = F.adaptive_avg_pool2d(pairs.masks[:, None].float(), contract.GRID)
    noise = torch.randn(len(pairs), 2, contract.GRID, contract.GRID, generator=torch.Generator().manual_seed(0))
    assert contract.foreground(torch.cat([shown, noise], 1), pairs.masks) > 0.99
    assert 0.4 < contract.foreground(noise, pairs.masks) < 0.6
    assert contract.edges(noise, photos) < 0.05 < contract.edges(torch.cat([shown, noise], 1), photos)


def test_a_fact_holds_only_if_every_next_measure_is_clearly_smaller():
    found = {"a": [0.5, 0.6, 0.55], "b": [0.4, 0.5, 0.45], "c": [0.39, 0.51, 0.46]}
    assert contract.holds(("a", "b"), found) and not contract.holds(("b", "a"), found)
    assert not contract.holds(("a", "b", "c"), found)


def test_a_tiny_pair_gets_every_row(pairs, tiny_backbone, monkeypatch):
    monkeypatch.setattr(contract, "GRID", 6)
    monkeypatch.setattr(contract, "TIMESTEPS", (1, 195, 800))
    found = contract.measure(tiny_backbone, pairs, seeds=range(2))
    run = SimpleNamespace(notebook="90_train_pocket", seed=0, device="cpu")
    told = contract.rows(run, found, len(pairs), gallery="seen", backbone="tiny", weights_sha256="0")
    assert contract.of_rows(reversed(told), "tiny", "seen") == found and not contract.of_rows(told, "tiny", "unseen")
    assert contract.table(found).keys() == contract.FACTS.keys()
    assert np.isfinite(values := np.array(list(found.values()))).all() and values.shape[1] == 2
    assert found["PCK@5, CLIP"][0] == found["PCK@5, CLIP"][1]  # sees no noise


def test_the_table_tells_of_each_fact_what_the_rows_say_and_refuses_rows_of_no_whole_run():
    told = results.committed("90_train_pocket")
    shown = contract.markdown(told).splitlines()[2:11]
    assert [line.split(" | ")[0] for line in shown] == [f"| {fact}" for fact in contract.FACTS]
    for column, where in enumerate(contract.COLUMNS.values(), 2):
        for line, (said, yes) in zip(shown, contract.table(contract.of_rows(told, *where)).values(), strict=True):
            assert line.strip("| ").split(" | ")[column] == f"**{'holds' if yes else 'does not'}**: {said}"
    first = next(k for k, row in enumerate(told) if row.backbone == "pocket")
    rest = told[:first] + told[first + 1 :]
    for wrong in ([], rest, [*told, told[first]], [*rest, replace(told[first], n=3)]):
        with refused("lacks rows or mixes runs"):
            contract.markdown(wrong)
