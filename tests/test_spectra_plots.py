"""Figures of spectra: same bytes, readable, every frequency where its axis says."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from sfhelpers import plots
from sfhelpers.pilot import coloured_noise, power, radial_profile, spectrum

RNG = np.random.default_rng(0)


def wave(grid, k):
    steps = (torch.arange(grid).double() + 0.5) / grid
    return torch.sin(2 * np.pi * k * steps).expand(1, 1, grid, grid)


def profiles(grid, count=12):
    maps = torch.cat([coloured_noise(grid, 0.7, 4, seed) for seed in range(count)])
    return radial_profile(power(maps))


def made():
    photo, tile = RNG.random((40, 40, 3)), (RNG.random((12, 12, 3)) * 255).astype(np.uint8)
    columns = {
        "input": {row: (photo, spectrum(coloured_noise(40, 1, 3))[0]) for row in ("photo", "sketch")},
        "SD f3, a longer name": {row: (tile, spectrum(coloured_noise(24, 1, 3))[0]) for row in ("photo", "sketch")},
        "CLIP": {row: (tile, spectrum(coloured_noise(10, 1, 3))[0]) for row in ("photo", "sketch")},
    }
    yard = {"white noise": radial_profile(power(coloured_noise(24, 0)))}
    return {
        "maps_and_spectra": plots.maps_and_spectra(columns, 12, "A title"),
        "spectra_row": plots.spectra_row(
            {f"{n} windows,\nmean kept": spectrum(wave(24, 3), remove_mean=False)[0] for n in range(4)}, "A title"
        ),
        "radial_profiles": plots.radial_profiles(
            {"sketches": {"a": profiles(24), "b": profiles(10)}, "photos": {"a": profiles(24)}}, yard, 5, "A title"
        ),
    }


NAMES = ("maps_and_spectra", "spectra_row", "radial_profiles")


@pytest.fixture(scope="module")
def figures():
    return made()


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_has_the_same_bytes_in_every_run_and_fits_a_laptop(figures, name):
    global RNG
    RNG = np.random.default_rng(0)
    first = made()[name].png()
    RNG = np.random.default_rng(0)
    assert made()[name].png() == first and len(first) < 150_000
    assert figures[name].get_figwidth() <= 8


@pytest.mark.parametrize("name", NAMES)
def test_no_text_leaves_the_figure(figures, name):
    edge = np.asarray(Image.open(io.BytesIO(figures[name].png())).convert("RGB"))
    for line in (edge[0], edge[-1], edge[:, 0], edge[:, -1]):
        assert line.min() > 200


@pytest.mark.parametrize("name", NAMES)
def test_frequency_axes_name_their_unit(figures, name):
    labels = [axes.get_xlabel() for axes in figures[name].axes]
    assert any("cycles per image" in label for label in labels)


@pytest.mark.parametrize("grid", [10, 24])
def test_a_wave_of_k_cycles_is_drawn_at_k_on_the_axis_of_any_grid(grid):
    figure = plots.spectra_row({"wave": spectrum(wave(grid, 3))[0]})
    image = figure.axes[0].images[0]
    left, right, bottom, top = image.get_extent()
    values = np.asarray(image.get_array())
    y, x = np.unravel_index(values.argmax(), values.shape)
    at = (left + (x + 0.5) * (right - left) / grid, top + (y + 0.5) * (bottom - top) / grid)
    assert abs(at[0]) == pytest.approx(3) and at[1] == pytest.approx(0)


def test_profiles_end_where_their_grid_does_and_keep_their_shape(figures):
    axes = figures["radial_profiles"].axes[0]
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert lines["a"][-1, 0] == 12 and lines["b"][-1, 0] == 5 and lines["a"][0, 0] == 1
    frequencies, values = profiles(24)
    scaled = values / values[:, 1:6].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(lines["a"][:, 1], np.median(scaled, axis=0)[1:])
    assert frequencies[-1] == 12


def test_enlarged_maps_have_sharp_blocks():
    tile = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    big = plots.enlarged(tile, 9)
    assert big.shape == (8, 8, 3) and big.dtype == np.uint8
    assert (big[:4, :4] == tile[0, 0]).all() and (big[4:, 4:] == tile[1, 1]).all()
