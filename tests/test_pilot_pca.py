"""PCA maps: the same colours however the channels are turned, and only comparable within one basis."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA as Reference

from sfhelpers.pilot import fit_pca, pca_maps, project
from tests.backbone_fixtures import one_sentence


def made(count=4, channels=16, grid=12, seed=0, skewed=True):
    """(count, C, grid, grid): smooth maps whose channels have different spreads."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(count, channels, grid, grid, generator=generator)
    maps = maps.exp() if skewed else maps
    return maps * torch.linspace(3, 0.2, channels)[:, None, None]


def turned(maps, seed=0, channels=1):
    """The same maps after a random rotation of their channels (dimension `channels`)."""
    size = maps.shape[channels]
    q, _ = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(seed)).double())
    return torch.tensordot(maps.double().movedim(channels, -1), q, dims=1).movedim(-1, channels)


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
    maps += 0.01 * torch.randn(maps.shape, generator=torch.Generator().manual_seed(0))
    inside = project(fit_pca(maps), maps)[0, 0, 2:5, 3:6]
    assert inside.min() > 0 and fit_pca(maps).explained[0] > 0.99


def test_bases_come_in_order_and_colours_differ_between_them():
    pairs = made(6).unflatten(0, (3, 2))
    counts = {"image": 6, "pair": 3, "set": 1}
    maps = {}
    for basis, count in counts.items():
        maps[basis], bases = pca_maps(pairs, basis)
        assert len(bases) == count and maps[basis].shape == (3, 2, 12, 12, 3) and maps[basis].dtype == np.uint8
    single, _ = pca_maps(pairs[1:2], "pair")
    assert np.array_equal(maps["pair"][1:2], single), "a pair's basis must not see the other pairs"
    assert not np.array_equal(maps["image"], maps["pair"]) and not np.array_equal(maps["pair"], maps["set"])


def test_equal_features_get_equal_colours_within_a_pair():
    pairs = made(2).unflatten(0, (1, 2))
    pairs[0, 1] = pairs[0, 0].flip(2)
    colours, _ = pca_maps(pairs, "pair")
    assert np.array_equal(colours[0, 0], colours[0, 1][:, ::-1])


def test_a_map_that_never_varies_or_has_few_channels_is_grey_there():
    flat = torch.ones(2, 4, 5, 5).unflatten(0, (1, 2))
    colours, (pca,) = pca_maps(flat, "pair")
    assert (colours == 128).all() and not pca.explained.any()
    one, (pca,) = pca_maps(made(2, channels=1).unflatten(0, (1, 2)), "pair")
    assert len(np.unique(one[..., 0])) > 5 and (one[..., 1:] == 128).all()
    np.testing.assert_allclose(pca.explained, [1, 0, 0])


@pytest.mark.parametrize(
    "call",
    [
        lambda: pca_maps(made(2).unflatten(0, (1, 2)), "all"),
        lambda: pca_maps(made(3)[None], "pair"),
        lambda: pca_maps(made(2), "pair"),
        lambda: fit_pca(torch.zeros(3, 4, 4)),
        lambda: fit_pca(torch.full((1, 3, 4, 4), torch.inf)),
        lambda: project(fit_pca(made()), made(channels=9)),
    ],
)
def test_what_cannot_be_projected_is_refused_in_one_sentence(call):
    with pytest.raises(ValueError) as error:
        call()
    one_sentence(error)
