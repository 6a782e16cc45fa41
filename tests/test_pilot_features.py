"""PCA maps, spectra, CKA and AUC of constructed maps, where the right answer is known."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA as Reference
from sklearn.metrics import roc_auc_score

from sfhelpers.pilot import (
    band_pass,
    cka,
    fit_pca,
    foreground_auc,
    kernel,
    pca_maps,
    power,
    project,
    radial_profile,
    sample,
    similar_positions,
    spectrum,
)  # fmt: skip
from tests.backbone_fixtures import one_sentence


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(count=4, channels=16, grid=12, skewed=True):
    """(count, C, grid, grid): maps whose channels have different spreads."""
    maps = drawn(count, channels, grid, grid).float()
    return (maps.exp() if skewed else maps) * torch.linspace(3, 0.2, channels)[:, None, None]


def turned(maps, seed=0, channels=1):
    """The same maps after a random rotation of their channels (dimension `channels`)."""
    rotation, _ = torch.linalg.qr(drawn(maps.shape[channels], maps.shape[channels], seed=seed))
    return torch.tensordot(maps.double().movedim(channels, -1), rotation, dims=1).movedim(-1, channels)


def wave(grid, k, angle=0.0, offset=0.0):
    """(1, 1, grid, grid): a sinusoid of k cycles per image, at an angle in radians, seen at the positions' centres."""
    steps = (torch.arange(grid).double() + 0.5) / grid
    along = steps * np.cos(angle) + steps[:, None] * np.sin(angle)
    return (torch.sin(2 * np.pi * k * along + 0.3) + offset)[None, None]


def test_components_and_shares_are_those_of_scikit_learn_up_to_sign():
    maps = made()
    rows = maps.permute(0, 2, 3, 1).flatten(0, 2).double().numpy()
    reference, found = Reference(3, svd_solver="full").fit(rows), fit_pca(maps)
    np.testing.assert_allclose(found.explained, reference.explained_variance_ratio_, rtol=1e-6)
    np.testing.assert_allclose(np.abs((found.components * reference.components_).sum(1)), 1, atol=1e-6)
    np.testing.assert_allclose(found.mean, reference.mean_, atol=1e-6)
    expected = np.abs(reference.transform(rows)).reshape(4, 12, 12, 3).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(np.abs(project(found, maps).numpy()), expected, atol=1e-4)


@pytest.mark.parametrize("basis", ["image", "pair", "set"])
@pytest.mark.parametrize("skewed", [True, False])
def test_a_pca_map_is_the_same_under_any_rotation_of_the_channel_space(basis, skewed):
    pairs = made(6, skewed=skewed).unflatten(0, (3, 2))
    expected, bases = pca_maps(pairs, basis)
    for seed in range(5):
        colours, others = pca_maps(turned(pairs, seed, channels=2), basis)
        assert np.abs(colours.astype(int) - expected).max() <= 1  # rounding
        np.testing.assert_allclose(others[0].explained, bases[0].explained, rtol=1e-6)


@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_scores_that_lean_to_neither_side_still_get_a_sign_of_their_own(flip):
    down = torch.linspace(-1, 1, 12)[:, None].expand(12, 12)
    maps = flip * torch.stack([down, 0.3 * down.T, 0.1 * down.T.flip(1) * down])[None]
    for seed in range(4):
        scores = project(fit_pca(turned(maps, seed)), turned(maps, seed))
        torch.testing.assert_close(scores[0, 0], down, atol=1e-4, rtol=0)
        torch.testing.assert_close(scores[0, 1], 0.3 * down.T, atol=1e-4, rtol=0)


def test_a_small_object_gets_high_scores_in_the_first_component():
    maps = torch.zeros(1, 5, 10, 10)
    maps[:, :, 2:5, 3:6] = torch.tensor([-3.0, 1, 0, -2, 0.5])[:, None, None]
    maps += 0.01 * drawn(*maps.shape).float()
    assert project(fit_pca(maps), maps)[0, 0, 2:5, 3:6].min() > 0 and fit_pca(maps).explained[0] > 0.99


def test_bases_come_in_order_and_colours_differ_between_them():
    pairs, maps = made(6).unflatten(0, (3, 2)), {}
    for basis, count in {"image": 6, "pair": 3, "set": 1}.items():
        maps[basis], bases = pca_maps(pairs, basis)
        assert len(bases) == count and maps[basis].shape == (3, 2, 12, 12, 3) and maps[basis].dtype == np.uint8
    single, _ = pca_maps(pairs[1:2], "pair")
    assert np.array_equal(maps["pair"][1:2], single), "a pair's basis must not see the other pairs"
    assert not np.array_equal(maps["image"], maps["pair"]) and not np.array_equal(maps["pair"], maps["set"])
    pairs[0, 1] = pairs[0, 0].flip(2)
    colours, _ = pca_maps(pairs, "pair")
    assert np.array_equal(colours[0, 0], colours[0, 1][:, ::-1]), "equal features, equal colours"


def test_a_map_that_never_varies_or_has_few_channels_is_grey_there():
    colours, (pca,) = pca_maps(torch.ones(1, 2, 4, 5, 5), "pair")
    assert (colours == 128).all() and not pca.explained.any()
    one, (pca,) = pca_maps(made(2, channels=1).unflatten(0, (1, 2)), "pair")
    assert len(np.unique(one[..., 0])) > 5 and (one[..., 1:] == 128).all()
    np.testing.assert_allclose(pca.explained, [1, 0, 0])


@pytest.mark.parametrize("grid", [12, 24, 60, 10])
@pytest.mark.parametrize("window", [True, False])
def test_a_sinusoid_of_k_cycles_peaks_at_k_on_every_grid(grid, window):
    for k in range(1, grid // 2):
        for angle in (0, np.pi / 2):
            frequencies, profile = radial_profile(power(wave(grid, k, angle, offset=50), window))
            rings = [(np.round(np.hypot(*np.mgrid[: 2 * grid, : 2 * grid] - grid)) == f).sum() for f in frequencies]
            assert frequencies[(profile[0] * rings).argmax()] == k


def test_the_power_at_a_frequency_is_the_same_on_every_grid():
    shares = [power(wave(grid, 2), window=False).sum() for grid in (12, 24, 60)]
    assert shares == pytest.approx([0.5] * 3, rel=1e-6)  # the mean square of a sinusoid
    profiles = [radial_profile(power(wave(grid, 2)))[1][0, 1:6] for grid in (12, 24, 60)]
    for other in profiles[1:]:
        np.testing.assert_allclose(profiles[0], other, atol=0.005 * max(profiles[0]))


def test_power_adds_up_to_the_mean_square_and_over_channels():
    maps = drawn(2, 5, 7, 9)
    found = power(maps, window=False, remove_mean=False)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), maps.square().sum(1).mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found, sum(power(maps[:, [c]], False, False) for c in range(5)), rtol=1e-5)


def test_removing_the_mean_leaves_nothing_of_a_constant_and_a_window_no_cross_of_a_ramp():
    flat = wave(24, 5) + 100
    kept, removed = power(flat, remove_mean=False)[0], power(flat)[0]
    assert kept[12, 12] > 0.4 * kept.sum() and removed[12, 12] < 1e-9 * removed.sum()
    assert removed[11:14, 11:14].sum() < 1e-6 * removed.sum(), "it must not leak into the neighbours either"
    ramp, far = torch.linspace(0, 1, 24).expand(1, 1, 24, 24), np.s_[0, 12, 18:]
    assert power(ramp, window=False)[far].mean() > 100 * power(ramp)[far].mean()


def test_the_spectrum_is_the_centred_logarithm_of_the_mean_magnitude():
    maps = drawn(1, 4, 6, 6)
    expected = np.log10(np.abs(np.fft.fftshift(np.fft.fft2(maps.numpy()), axes=(2, 3))).mean(axis=1) / 36)
    np.testing.assert_allclose(spectrum(maps, window=False, remove_mean=False), expected, rtol=1e-9)
    centred = spectrum(maps, window=False)[0]
    assert centred[3, 3] == np.delete(centred.ravel(), 3 * 6 + 3).min()
    np.testing.assert_allclose(np.delete(centred.ravel(), 21), np.delete(expected[0].ravel(), 21), rtol=1e-9)


def test_the_profile_is_the_mean_over_each_ring_and_ends_where_the_grid_does():
    frequencies, profile = radial_profile(np.round(np.hypot(*np.mgrid[-4:4, -4:4])[None]))
    assert frequencies.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(profile, frequencies[None])
    assert radial_profile(np.ones((2, 6, 10)))[1].shape == (2, 4), "the shorter side ends first"


@pytest.mark.parametrize("grid", [12, 24, 10, 7])
def test_low_and_high_band_add_up_to_the_whole_and_a_band_keeps_the_waves_inside_it(grid):
    maps = drawn(2, 3, grid, grid).float() + 4
    low, high = band_pass(maps, 0, 2.1), band_pass(maps, 2.2, float("inf"))
    close = partial(torch.testing.assert_close, atol=1e-5, rtol=0)
    close(low + high, maps)
    close(low.mean((2, 3)), maps.mean((2, 3)))
    close(high.mean((2, 3)), torch.zeros(2, 3))
    close(band_pass(low, 0, 2.1), low)
    close(band_pass(low, 2.2, 99), torch.zeros_like(low))
    waves = {k: wave(24, k).float() for k in (1, 4, 9)}
    close(band_pass(sum(waves.values()), 3, 9), waves[4] + waves[9])
    close(band_pass(waves[4] + 7, 0, 0), torch.full((1, 1, 24, 24), 7.0))


def test_cka_is_1_whatever_the_rotation_scale_and_offset_and_symmetric():
    a, b = drawn(30, 6), torch.cat([drawn(30, 6)[:, :2], drawn(30, 3, seed=1)], dim=1)
    assert cka(kernel(a), kernel(-7 * turned(a) + 100)) == pytest.approx(1, abs=1e-9)
    known = cka(kernel(a), kernel(b))
    assert 0.1 < known < 0.9 and cka(kernel(b), kernel(a)) == pytest.approx(known, abs=1e-12)
    assert cka(kernel(turned(a, 5)), kernel(3 * turned(b, 6) - 2)) == pytest.approx(known, abs=1e-9)


def test_cka_of_a_shared_half_is_one_half_and_of_unrelated_representations_zero():
    a, b = (torch.cat([drawn(2000, 20), drawn(2000, 20, seed=s)], dim=1) for s in (1, 2))
    assert cka(kernel(a), kernel(b)) == pytest.approx(0.5, abs=0.02)
    wide = [cka(kernel(drawn(20, 200, seed=s)), kernel(drawn(20, 200, seed=s + 100))) for s in range(40)]
    assert abs(np.mean(wide)) < 0.02, "even with more channels than items"


def test_sampling_reads_positions_at_their_centres_and_in_between():
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    points = torch.tensor([[[1 / 8, 1 / 8], [7 / 8, 1 / 8], [1 / 8, 3 / 8], [2 / 8, 1 / 8], [0, 0]]])
    torch.testing.assert_close(sample(maps, points)[0, :, 0], torch.tensor([0, 3, 4, 0.5, 0]))


def test_similar_positions_are_cosines_and_find_the_same_feature():
    a, b = drawn(8, 6, 6).float(), drawn(8, 5, 7, seed=1).float()
    b[:, 3, 2] = 5 * a[:, 1, 4]
    found = similar_positions(a, (4.5 / 6, 1.5 / 6), b)
    assert found.shape == (5, 7) and found.abs().max() <= 1 + 1e-6
    assert np.unravel_index(found.numpy().argmax(), (5, 7)) == (3, 2) and found.max() == pytest.approx(1, abs=1e-5)


def test_auc_is_scikit_learns_ties_included():
    generator = torch.Generator().manual_seed(3)
    scores = torch.randint(0, 6, (4, 2, 9, 9), generator=generator).float()
    masks = torch.rand(4, 9, 9, generator=generator) < 0.3
    expected = [[roc_auc_score(m.flatten(), s.flatten()) for s in one] for one, m in zip(scores, masks, strict=True)]
    np.testing.assert_allclose(foreground_auc(scores, masks), expected, atol=1e-12)


def test_auc_of_a_map_that_is_the_mask_is_1_also_from_a_coarse_grid():
    masks = torch.zeros(2, 48, 48, dtype=torch.bool)
    masks[:, 12:36, 12:36] = True
    scores = torch.nn.functional.avg_pool2d(masks.float()[:, None], 12)
    np.testing.assert_allclose(foreground_auc(torch.cat([scores, -scores], 1), masks), [[1, 0]] * 2, atol=0.02)
    empty = torch.zeros(2, 48, 48, dtype=torch.bool)
    assert np.isnan(foreground_auc(scores, empty)).all() and np.isnan(foreground_auc(scores, ~empty)).all()


REFUSED = {
    "basis": lambda: pca_maps(made(2).unflatten(0, (1, 2)), "all"),
    "three in a pair": lambda: pca_maps(made(3)[None], "pair"),
    "no pairs": lambda: pca_maps(made(2), "pair"),
    "one map": lambda: fit_pca(torch.zeros(3, 4, 4)),
    "infinite": lambda: fit_pca(torch.full((1, 3, 4, 4), torch.inf)),
    "other channels": lambda: project(fit_pca(made()), made(channels=9)),
    "no batch": lambda: power(torch.zeros(3, 4, 4)),
    "no channels": lambda: power(torch.zeros(1, 0, 4, 4)),
    "not a number": lambda: spectrum(torch.full((1, 1, 4, 4), torch.nan)),
    "a list": lambda: spectrum([1, 2]),
    "power of one": lambda: radial_profile(np.zeros((4, 4))),
    "band upside down": lambda: band_pass(torch.zeros(1, 1, 4, 4), 3, 2),
    "band below 0": lambda: band_pass(torch.zeros(1, 1, 4, 4), -1, 2),
    "band of one map": lambda: band_pass(torch.zeros(1, 4, 4), 0, 2),
    "nothing varies": lambda: cka(kernel(torch.ones(5, 2)), kernel(drawn(5, 2))),
    "point outside": lambda: similar_positions(drawn(3, 4, 4), (0.5, 1.2), drawn(3, 4, 4)),
    "half a point": lambda: similar_positions(drawn(3, 4, 4), (0.5,), drawn(3, 4, 4)),
    "unequal channels": lambda: similar_positions(drawn(3, 4, 4), (0.5, 0.5), drawn(2, 4, 4)),
    "masks of numbers": lambda: foreground_auc(drawn(2, 1, 4, 4), torch.ones(2, 4, 4)),
    "too many masks": lambda: foreground_auc(drawn(2, 1, 4, 4), torch.ones(3, 4, 4, dtype=torch.bool)),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_measured_is_refused_in_one_sentence(call):
    with pytest.raises(ValueError) as error:
        call()
    one_sentence(error)
