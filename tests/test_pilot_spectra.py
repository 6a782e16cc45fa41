"""Spectra on known signals: what goes in must come out, at the right frequency, on every grid."""

import numpy as np
import pytest
import torch

from sfhelpers.pilot import band_pass, low_frequency_share, power, radial_profile, spectrum
from sfhelpers.pilot.spectra import coloured_noise
from tests.backbone_fixtures import one_sentence


def wave(grid, k, angle=0.0, phase=0.3, offset=0.0):
    """(1, 1, grid, grid): a sinusoid of k cycles per image, at an angle in radians, seen at the positions' centres."""
    steps = (torch.arange(grid).double() + 0.5) / grid
    along = steps * np.cos(angle) + steps[:, None] * np.sin(angle)
    return (torch.sin(2 * np.pi * k * along + phase) + offset)[None, None]


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
    np.testing.assert_allclose(profiles[0], profiles[1], atol=0.005 * max(profiles[0]))
    np.testing.assert_allclose(profiles[1], profiles[2], atol=0.005 * max(profiles[0]))


@pytest.mark.parametrize("grid", [12, 24, 60])
@pytest.mark.parametrize("window", [True, False])
def test_white_noise_is_flat(grid, window):
    frequencies, profile = radial_profile(power(coloured_noise(grid, 0, channels=1000), window))
    beyond = profile[0][frequencies > 1]  # at 1 the mean's removal takes a part with it, under the window
    assert beyond.max() / beyond.min() < 1.1
    assert beyond.mean() == pytest.approx(1000 / grid**2, rel=0.05), "the window must not change the level"


@pytest.mark.parametrize("grid", [24, 60])
def test_amplitude_that_falls_as_1_over_f_comes_out_as_1_over_f(grid):
    frequencies, profile = radial_profile(power(coloured_noise(grid, 1, channels=1000)))
    shown = (frequencies >= 3) & (frequencies < grid / 2)
    slope = np.polyfit(np.log(frequencies[shown]), np.log(profile[0][shown]), 1)[0]
    assert slope / 2 == pytest.approx(-1, abs=0.08)


def test_power_adds_up_to_the_mean_square_and_over_channels():
    maps = torch.randn(2, 5, 7, 9, generator=torch.Generator().manual_seed(0))
    found = power(maps, window=False, remove_mean=False)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), maps.square().sum(1).mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found, sum(power(maps[:, [c]], False, False) for c in range(5)), rtol=1e-5)


def test_without_its_mean_removed_a_constant_rules_the_spectrum_and_with_it_nothing_is_left():
    flat = wave(24, 5) + 100
    kept, removed = power(flat, remove_mean=False)[0], power(flat)[0]
    assert kept[12, 12] > 0.4 * kept.sum() and removed[12, 12] < 1e-9 * removed.sum()
    assert removed[11:14, 11:14].sum() < 1e-6 * removed.sum(), "it must not leak into the neighbours either"


def test_without_a_window_a_ramp_shows_a_cross_and_with_it_not():
    ramp = torch.linspace(0, 1, 24).expand(1, 1, 24, 24)
    far = np.s_[0, 12, 18:]
    assert power(ramp, window=False)[far].mean() > 100 * power(ramp)[far].mean()


def test_the_spectrum_is_the_centred_logarithm_of_the_mean_magnitude():
    maps = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(1)).double()
    expected = np.log10(np.abs(np.fft.fftshift(np.fft.fft2(maps.numpy()), axes=(2, 3))).mean(axis=1) / 36)
    np.testing.assert_allclose(spectrum(maps, window=False, remove_mean=False), expected, rtol=1e-9)
    centred = spectrum(maps, window=False)[0]
    assert centred[3, 3] == np.delete(centred.ravel(), 3 * 6 + 3).min()
    np.testing.assert_allclose(np.delete(centred.ravel(), 21), np.delete(expected[0].ravel(), 21), rtol=1e-9)


def test_the_profile_is_the_mean_over_each_ring_and_ends_where_the_grid_does():
    values = np.hypot(*np.mgrid[-4:4, -4:4])[None]
    frequencies, profile = radial_profile(np.round(values))
    assert frequencies.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(profile, frequencies[None])
    assert radial_profile(np.ones((2, 6, 10)))[1].shape == (2, 4), "the shorter side ends first"


@pytest.mark.parametrize("grid", [12, 24, 60])
def test_the_low_frequency_share_of_two_waves_is_that_of_their_powers(grid):
    both = wave(grid, 1) + 2 * wave(grid, 4, angle=np.pi / 2)
    assert low_frequency_share(both, 2, window=False) == pytest.approx(0.2, abs=1e-9)
    assert low_frequency_share(both, 2, limit=3, window=False) == pytest.approx(1, abs=1e-9)
    assert low_frequency_share(both, 4, window=False) == pytest.approx(1, abs=1e-9)
    assert low_frequency_share(both + 1e3, 2, window=False) == pytest.approx(0.2, abs=1e-6)


def test_with_one_limit_the_share_of_white_noise_does_not_depend_on_the_grid():
    shares = [low_frequency_share(coloured_noise(grid, 0, 2000), 2, limit=5)[0] for grid in (10, 12, 24, 60)]
    without = [low_frequency_share(coloured_noise(grid, 0, 2000), 2)[0] for grid in (10, 24)]
    assert max(shares) - min(shares) < 0.01 and without[0] > 3 * without[1]


def test_a_map_that_never_varies_has_no_share():
    found = low_frequency_share(torch.cat([torch.ones(1, 1, 8, 8), wave(8, 1).float()]), 2)
    assert np.isnan(found[0]) and found[1] > 0.9


@pytest.mark.parametrize("grid", [12, 24, 10, 7])
def test_low_and_high_band_add_up_to_the_whole(grid):
    maps = torch.randn(2, 3, grid, grid, generator=torch.Generator().manual_seed(2)) + 4
    low, high = band_pass(maps, 0, 2.1), band_pass(maps, 2.2, float("inf"))
    torch.testing.assert_close(low + high, maps, atol=1e-5, rtol=0)
    torch.testing.assert_close(low.mean((2, 3)), maps.mean((2, 3)), atol=1e-5, rtol=0)
    torch.testing.assert_close(high.mean((2, 3)), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(band_pass(low, 0, 2.1), low, atol=1e-5, rtol=0)
    assert band_pass(low, 2.2, 99).abs().max() < 1e-5


def test_a_band_keeps_the_waves_inside_it():
    waves = {k: wave(24, k).float() for k in (1, 4, 9)}
    kept = band_pass(sum(waves.values()), 3, 9)
    torch.testing.assert_close(kept, waves[4] + waves[9], atol=1e-5, rtol=0)
    torch.testing.assert_close(band_pass(waves[4] + 7, 0, 0), torch.full((1, 1, 24, 24), 7.0), atol=1e-5, rtol=0)


def test_coloured_noise_is_deterministic_and_has_no_mean():
    assert torch.equal(coloured_noise(8, 1, 3), coloured_noise(8, 1, 3))
    assert coloured_noise(8, 0, 3).mean((2, 3)).abs().max() < 1e-6


@pytest.mark.parametrize(
    "call",
    [
        lambda: power(torch.zeros(3, 4, 4)),
        lambda: power(torch.zeros(1, 0, 4, 4)),
        lambda: spectrum(torch.full((1, 1, 4, 4), torch.nan)),
        lambda: spectrum([1, 2]),
        lambda: radial_profile(np.zeros((4, 4))),
        lambda: low_frequency_share(torch.zeros(1, 1, 4, 4), 0),
        lambda: low_frequency_share(torch.zeros(1, 1, 4, 4), 3, limit=2),
        lambda: band_pass(torch.zeros(1, 1, 4, 4), 3, 2),
        lambda: band_pass(torch.zeros(1, 1, 4, 4), -1, 2),
        lambda: band_pass(torch.zeros(1, 4, 4), 0, 2),
    ],
)
def test_what_has_no_spectrum_is_refused_in_one_sentence(call):
    with pytest.raises(ValueError) as error:
        call()
    one_sentence(error)
