"""Agreement and separation on constructed maps, where the right answer is known."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from sfhelpers.pilot import foreground_auc, keypoint_agreement, linear_cka, similar_positions
from sfhelpers.pilot.agreement import chance_agreement, jackknife, oriented, same_place_agreement, sample
from tests.backbone_fixtures import one_sentence


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(size, seed=0):
    return torch.linalg.qr(drawn(size, size, seed=seed))[0]


def test_cka_of_a_representation_with_itself_is_1_whatever_its_rotation_scale_and_offset():
    a = drawn(30, 6)
    assert linear_cka(a, a) == pytest.approx(1, abs=1e-12)
    assert linear_cka(a, -7 * a @ rotation(6) + 100) == pytest.approx(1, abs=1e-9)
    assert linear_cka(a, drawn(30, 6) @ rotation(6) @ torch.diag(torch.tensor([9.0, 1, 1, 1, 1, 1]).double())) < 0.9


def test_cka_is_symmetric_and_unchanged_by_rotating_either_side():
    a, b = drawn(25, 4), torch.cat([drawn(25, 4)[:, :2], drawn(25, 3, seed=1)], dim=1)
    known = linear_cka(a, b)
    assert 0.1 < known < 0.9
    assert linear_cka(b, a) == pytest.approx(known, abs=1e-12)
    assert linear_cka(a @ rotation(4, 5), 3 * b @ rotation(5, 6) - 2) == pytest.approx(known, abs=1e-9)


def test_cka_of_a_shared_half_is_one_half():
    shared = drawn(2000, 20)
    a, b = (torch.cat([shared, drawn(2000, 20, seed=s)], dim=1) for s in (1, 2))
    assert linear_cka(a, b) == pytest.approx(0.5, abs=0.02)


def test_cka_of_unrelated_representations_is_zero_even_with_more_channels_than_items():
    values = [linear_cka(drawn(20, 200, seed=s), drawn(20, 200, seed=s + 100)) for s in range(40)]
    assert abs(np.mean(values)) < 0.02


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


def moved(grid=12, shift=3):
    """Random maps, the same moved right by some positions, and points with where they went."""
    a = drawn(2, 16, grid, grid).float()
    cells = torch.tensor([[1, 2], [4, 5], [8, 0], [11, 11]])  # x, y; the last leaves the image
    points = ((cells + 0.5) / grid).expand(2, 4, 2)
    return a, a.roll(shift, dims=3), points, points + torch.tensor([shift / grid, 0])


def test_keypoints_are_found_where_the_map_was_moved_and_nowhere_else():
    a, b, before, after = moved()
    visible = torch.tensor([[True, True, True, False]] * 2)
    assert keypoint_agreement(a, b, before, after, visible, grid=12).tolist() == [1, 1]
    assert keypoint_agreement(a, b, before, before, visible, grid=12).tolist() == [0, 0]
    assert keypoint_agreement(a, b, before, before, visible, radius=0.26, grid=12).tolist() == [1, 1]
    assert keypoint_agreement(a, 9 * b, before, after, visible, grid=12).tolist() == [1, 1], "a cosine knows no scale"


def test_points_that_are_not_visible_do_not_count_and_a_pair_without_any_has_no_value():
    a, b, before, after = moved()
    after = after.clone()
    after[0, :2] = 0
    visible = torch.tensor([[True, True, True, False], [False] * 4])
    found = keypoint_agreement(a, b, before, after, visible, grid=12)
    assert found[0] == pytest.approx(1 / 3) and np.isnan(found[1])


def test_a_coarse_map_brought_to_the_common_grid_still_finds_its_matches():
    a, b, *_ = moved(grid=6, shift=2)
    cells = torch.tensor([[0, 1], [2, 4]])
    points = ((cells + 0.5) / 6).expand(2, 2, 2)
    found = keypoint_agreement(a, b, points, points + torch.tensor([2 / 6, 0]), torch.ones(2, 2, dtype=torch.bool))
    assert (found == 1).all()


def test_trivial_baselines_are_what_they_say():
    points = torch.tensor([[[0.5, 0.5], [0.2, 0.2]]])
    other = torch.tensor([[[0.55, 0.55], [0.8, 0.2]]])
    visible = torch.ones(1, 2, dtype=torch.bool)
    assert same_place_agreement(points, other, visible).tolist() == [0.5]
    chance = chance_agreement(points, visible, radius=0.1, grid=200)
    assert chance[0] == pytest.approx(np.pi * 0.1**2, rel=0.01)
    corner = chance_agreement(torch.zeros(1, 1, 2), visible[:, :1], radius=0.1, grid=200)
    assert corner[0] == pytest.approx(np.pi * 0.1**2 / 4, rel=0.03)


def test_random_features_agree_as_often_as_chance():
    a, b = drawn(60, 8, 24, 24).float(), drawn(60, 8, 24, 24, seed=1).float()
    points = 0.2 + 0.6 * torch.rand(60, 20, 2, generator=torch.Generator().manual_seed(2))
    visible = torch.ones(60, 20, dtype=torch.bool)
    found = keypoint_agreement(a, b, points, points, visible).mean()
    assert found == pytest.approx(chance_agreement(points, visible).mean(), abs=0.02)


def test_auc_is_scikit_learns_ties_included():
    generator = torch.Generator().manual_seed(3)
    scores = torch.randint(0, 6, (4, 2, 9, 9), generator=generator).float()
    masks = torch.rand(4, 9, 9, generator=generator) < 0.3
    expected = [
        [roc_auc_score(m.flatten(), s.flatten()) for s in image] for image, m in zip(scores, masks, strict=True)
    ]
    np.testing.assert_allclose(foreground_auc(scores, masks), expected, atol=1e-12)


def test_auc_of_a_map_that_is_the_mask_is_1_also_from_a_coarse_grid():
    masks = torch.zeros(2, 48, 48, dtype=torch.bool)
    masks[:, 12:36, 12:36] = True
    scores = torch.nn.functional.avg_pool2d(masks.float()[:, None], 12)
    np.testing.assert_allclose(foreground_auc(torch.cat([scores, -scores], 1), masks), [[1, 0]] * 2, atol=0.02)
    empty = torch.zeros(2, 48, 48, dtype=torch.bool)
    assert np.isnan(foreground_auc(scores, empty)).all() and np.isnan(foreground_auc(scores, ~empty)).all()


def test_signs_are_learnt_from_the_other_images_only():
    assert oriented(np.array([[0.1], [0.2], [0.1]])).tolist() == pytest.approx([0.9, 0.8, 0.9])
    assert oriented(np.array([[0.9], [0.9], [0.2]])).tolist() == pytest.approx([0.9, 0.9, 0.2])
    found = oriented(np.array([[0.6, 0.1], [0.6, 0.1], [0.6, 0.2]]), best=True)
    assert found.tolist() == pytest.approx([0.9, 0.9, 0.8])
    missing = oriented(np.array([[0.2], [np.nan], [0.3]]))
    assert missing[[0, 2]].tolist() == pytest.approx([0.8, 0.7]) and np.isnan(missing[1])


def test_chance_stays_chance_when_signs_are_not_looked_up():
    auc = 0.5 + 0.1 * np.random.default_rng(0).standard_normal((500, 3))
    assert np.maximum(auc, 1 - auc).max(1).mean() > 0.6, "this is how one deceives oneself"
    assert abs(oriented(auc).mean() - 0.5) < 0.02 and abs(oriented(auc, best=True).mean() - 0.5) < 0.02


def test_the_jackknife_of_a_mean_over_groups_of_one_is_its_standard_error():
    values = np.random.default_rng(1).standard_normal(40)
    mean, error = jackknife(lambda which: values[which].mean(), [str(k) for k in range(40)])
    assert mean == pytest.approx(values.mean()) and error == pytest.approx(values.std(ddof=1) / np.sqrt(40))


def test_items_that_repeat_each_other_do_not_shrink_the_error():
    values = np.repeat(np.random.default_rng(2).standard_normal(10), 5)
    groups = np.repeat([str(k) for k in range(10)], 5)
    alone = jackknife(lambda which: values[::5][which].mean(), groups[::5])
    assert jackknife(lambda which: values[which].mean(), groups) == pytest.approx(alone)


@pytest.mark.parametrize(
    "call",
    [
        lambda: linear_cka(drawn(3, 2), drawn(3, 2)),
        lambda: linear_cka(drawn(5, 2), drawn(6, 2)),
        lambda: linear_cka(torch.ones(5, 2), drawn(5, 2)),
        lambda: similar_positions(drawn(3, 4, 4), (0.5, 1.2), drawn(3, 4, 4)),
        lambda: similar_positions(drawn(3, 4, 4), (0.5,), drawn(3, 4, 4)),
        lambda: similar_positions(drawn(3, 4, 4), (0.5, 0.5), drawn(2, 4, 4)),
        lambda: foreground_auc(drawn(2, 1, 4, 4), torch.ones(2, 4, 4)),
        lambda: foreground_auc(drawn(2, 1, 4, 4), torch.ones(3, 4, 4, dtype=torch.bool)),
        lambda: oriented(np.ones((1, 3))),
        lambda: jackknife(np.mean, ["cat", "cat"]),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(call):
    with pytest.raises(ValueError) as error:
        call()
    one_sentence(error)
