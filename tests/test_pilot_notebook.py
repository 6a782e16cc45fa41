"""What 01_pilot_study writes by hand, taken from its own cells, measures what it says; its pairs have exact truth."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

from sfhelpers import pilot, results
from sfhelpers.backbones import load_backbone
from sfhelpers.datasets import load_dataset
from sfhelpers.images import load_images
from sfhelpers.pilot import FeatureMaps, Settings, toy_pairs
from sfhelpers.toyworld import CATEGORIES
from tests.backbone_fixtures import RUN, photo
from tests.cells import run_cells, solutions
from tests.test_pilot_maps import drawn, made, wave

HERE, SIDES = "01_pilot_study", ("sketch", "photo")
NAMES = {"np": np, "pilot": pilot, "results": results, "__name__": __name__}  # dataclasses look their module up
HAND = SimpleNamespace(**run_cells(HERE, NAMES, "handbuilt", "claims"))
Score, DEFINITIONS = HAND.Score, HAND.definitions


@pytest.fixture(scope="module")
def pairs():
    return toy_pairs(2, ("cat", "church", "cup", "windmill"))


def test_pairs_come_category_by_category_with_all_their_truth(pairs):
    assert len(pairs) == 8 and pairs.labels[:3] == ["cat", "cat", "church"]
    assert pairs.images.shape == (8, 2, 3, 160, 160) and pairs.images.min() >= 0 and pairs.images.max() <= 1
    assert pairs.points.shape == (8, 2, 8, 2) and pairs.masks.shape == pairs.silhouettes.shape == (8, 160, 160)
    assert pairs.images[:, 0].median() > 0.95, "sketches are white paper"
    chosen = pairs[[2, 5]]
    assert chosen.labels == ["church", "cup"] and torch.equal(chosen.masks, pairs.masks[[2, 5]])
    assert torch.equal(toy_pairs(1, ("church",)).images[0], pairs.images[2]), "the same every time"


def test_the_silhouette_is_what_the_sketch_outlines(monkeypatch):
    """At difficulty 0 the hand is nearly steady: all ink lies in the silhouette or within a few pixels of it."""
    monkeypatch.setattr("sfhelpers.pilot.pairs.DIFFICULTY", 0.0)
    calm = toy_pairs(3, ("cat", "bottle", "sailboat", "giraffe"))
    ink = calm.images[:, 0, 0] < 0.5
    near = F.max_pool2d(calm.silhouettes[:, None].float(), 11, 1, 5)[:, 0].bool()
    assert (ink & near).sum() / ink.sum() > 0.98
    x, y = (calm.points[:, 0] * 160).round().long().clamp(0, 159).unbind(-1)
    on_it = near[torch.arange(len(calm))[:, None], y, x]
    assert on_it[calm.visible[:, 0]].float().mean() > 0.95


def test_pca_colours_are_the_packages():
    (colours,), _ = pilot.pca_maps(made(2)[None], "pair")
    assert np.abs(255 * HAND.pca_map(made(2)).numpy() - colours).max() < 0.5 + 1e-3  # rounding


def test_removing_the_mean_leaves_nothing_of_a_constant_and_a_window_no_cross_of_a_ramp():
    flat, ramp = wave(24, 5)[0] + 100, torch.linspace(0, 1, 24).expand(1, 24, 24)
    kept, removed = HAND.power(flat, remove_mean=False), HAND.power(flat)
    assert kept[12, 12] > 0.4 * kept.sum() and removed[12, 12] < 1e-9 * removed.sum()
    assert removed[11:14, 11:14].sum() < 1e-6 * removed.sum(), "it must not leak into the neighbours either"
    assert HAND.power(ramp, window=False)[12, 18:].mean() > 100 * HAND.power(ramp)[12, 18:].mean()


def test_cka_is_1_whatever_the_rotation_scale_and_offset_and_0_for_unrelated_features():
    a, (rotation, _) = drawn(30, 6), torch.linalg.qr(drawn(6, 6).double())
    assert HAND.cka(HAND.kernel(a), HAND.kernel(100 - 7 * a.double() @ rotation)) == pytest.approx(1, abs=1e-9)
    wide = [[HAND.kernel(drawn(20, 200, seed=s + start)) for start in (0, 100)] for s in range(40)]
    assert abs(np.mean([HAND.cka(*each) for each in wide])) < 0.02, "even with more channels than items"


def test_auc_is_scikit_learns_ties_included_also_from_a_coarse_grid():
    scores, masks = drawn(4, 2, 9, 9).mul(2).round(), drawn(4, 9, 9, seed=1) > 0.5
    expected = [[roc_auc_score(m.flatten(), s.flatten()) for s in one] for one, m in zip(scores, masks, strict=True)]
    np.testing.assert_allclose(HAND.aucs(scores, masks), expected, atol=1e-12)
    masks = torch.zeros(2, 48, 48, dtype=torch.bool)
    assert np.isnan(HAND.aucs(scores[:2], masks)).all() and np.isnan(HAND.aucs(scores[:2], ~masks)).all()
    masks[:, 12:36, 12:36] = True
    coarse = F.avg_pool2d(masks.float()[:, None], 12)
    np.testing.assert_allclose(HAND.aucs(torch.cat([coarse, -coarse], 1), masks), [[1, 0]] * 2, atol=0.02)


def test_the_low_frequency_share_is_that_of_the_powers_and_with_one_limit_does_not_depend_on_the_grid():
    for grid in (12, 24, 60):
        waves = 1e3 + wave(grid, 1) + 2 * wave(grid, 4).mT
        found = HAND.power(waves[0], window=False)[None].numpy()
        shares = [HAND.low_share(found, *bounds)[0] for bounds in ((2, np.inf), (2, 3), (4, np.inf))]
        assert shares == pytest.approx([0.2, 1, 1], abs=1e-6)
    of = {grid: pilot.power(HAND.coloured_noise(grid, 0, 2000)[None]) for grid in (10, 12, 24, 60)}
    assert np.ptp([HAND.low_share(found) for found in of.values()]) < 0.01
    assert HAND.low_share(of[10], band=np.inf) > 3 * HAND.low_share(of[24], band=np.inf)
    for exponent in (0, 1):  # noise falls as it is told
        noise = HAND.coloured_noise(24, exponent, 1000)
        frequencies, (profile,) = pilot.radial_profile(pilot.power(noise[None]))
        slope = np.polyfit(np.log(frequencies[3:12]), np.log(profile[3:12]), 1)[0]
        assert slope / 2 == pytest.approx(-exponent, abs=0.08) and abs(noise.mean((1, 2))).max() < 1e-6


def test_signs_are_learnt_from_the_other_images_only_and_chance_stays_chance():
    assert HAND.honest(np.array([[0.1], [0.2], [0.1]])).tolist() == pytest.approx([0.9, 0.8, 0.9])
    best = HAND.honest(np.array([[0.6, 0.1], [0.6, 0.1], [0.6, 0.2]]), best=True)
    assert best.tolist() == pytest.approx([0.9, 0.9, 0.8])
    missing = HAND.honest(np.array([[0.2], [np.nan], [0.3]]))
    assert missing[[0, 2]].tolist() == pytest.approx([0.8, 0.7]) and np.isnan(missing[1])
    auc = 0.5 + 0.1 * np.random.default_rng(0).standard_normal((500, 3))
    assert np.maximum(auc, 1 - auc).max(1).mean() > 0.6, "this is how one deceives oneself"
    assert all(abs(HAND.honest(auc, best).mean() - 0.5) < 0.02 for best in (False, True))


def test_the_jackknife_is_a_standard_error_that_items_which_repeat_each_other_do_not_shrink():
    values, groups = np.random.default_rng(1).standard_normal(40), [str(k) for k in range(40)]
    mean, error = HAND.jackknife(lambda which: values[which].mean(), groups)
    assert mean == pytest.approx(values.mean()) and error == pytest.approx(values.std(ddof=1) / np.sqrt(40))
    many = np.repeat(values, 5)
    assert HAND.jackknife(lambda which: many[which].mean(), np.repeat(groups, 5)) == pytest.approx((mean, error))


def test_keypoints_are_found_where_the_map_was_moved_and_nowhere_else():
    grid, shift, a = 24, 6, drawn(2, 16, 24, 24)
    points = ((torch.tensor([[1, 2], [2, 5], [0, 0], [grid - 1, 3]]) + 0.5) / grid).expand(2, 4, 2)
    after = points + torch.tensor([shift / grid, 0])  # the last one leaves the image
    seen = torch.tensor([[True, True, True, False], [False] * 4])
    found = HAND.matched(a, points, 9 * a.roll(shift, dims=3), after, seen)  # a cosine knows no scale
    assert found[0] == 1 and np.isnan(found[1]), "a pair without a visible one has no value"
    assert HAND.matched(a, points, a.roll(shift, dims=3), points, seen)[0] == 0


def test_trivial_baselines_are_what_they_say_and_random_features_agree_as_often_as_chance(pairs):
    trivial, inside = HAND.scored(HAND.baselines(pairs), pairs), 0.3 + 0.4 * pairs.points
    assert HAND.baselines(replace(pairs, points=inside))["agreement, chance"] == pytest.approx(np.pi / 100, rel=0.1)
    assert trivial["agreement, same place"].value > trivial["agreement, chance"].value
    assert 0.5 < trivial["object AUC, photo, nearness to the middle"].value < 1
    numbers = HAND.scored(HAND.main_numbers(drawn(8, 2, 24, 24, 24), pairs), pairs)
    assert abs(numbers["CKA"].value) < 0.15
    assert numbers["agreement"].value == pytest.approx(trivial["agreement, chance"].value, abs=0.1)
    assert all(numbers[f"object AUC, {side}"].value == pytest.approx(0.5, abs=0.05) for side in SIDES)


def test_a_source_that_marks_the_keypoints_agrees_everywhere_and_a_shift_between_domains_is_undone(pairs):
    def measured():
        return HAND.scored(HAND.main_numbers(source, pairs) | HAND.matching_numbers(source, pairs, 2), pairs)

    steps = (torch.arange(40) + 0.5) / 40  # features are smooth in where on the object a position lies
    distance = (torch.cartesian_prod(steps, steps).flip(1) - pairs.points[..., None, :]).norm(dim=4)
    size = pairs.points.std(dim=2).mean(2)[..., None, None]  # of the individual, in each picture
    near = torch.exp(-((distance / (0.5 * size)) ** 2)).unflatten(3, (40, 40))
    source = torch.cat([near, torch.zeros(8, 2, 16, 40, 40)], dim=2)
    found = measured()
    assert set(found) | set(HAND.auc_numbers(source, pairs)) | set(HAND.baselines(pairs)) == set(DEFINITIONS)
    assert found["CKA"].value > 0.9 and found["agreement"].value > 0.75
    assert all(found[name].value > 0.65 for name in found if " to other " in name)
    assert all(score.n == 8 and score.error >= 0 and score.spread is None for score in found.values())
    source[:, 0] += 6 * drawn(24, seed=1)[:, None, None]
    found = measured()
    assert found["agreement"].value < 0.4 < 0.7 < found["agreement, offsets removed"].value
    assert found["CKA"].value > 0.9, "CKA centres by itself"


def test_maps_that_are_the_masks_separate_perfectly_and_wrong_masks_show_it(pairs):
    both = torch.stack([pairs.silhouettes, pairs.masks], dim=1).float()
    both = torch.stack([-both, 0.1 * both], dim=2)
    found = HAND.scored(HAND.main_numbers(both, pairs) | HAND.auc_numbers(both, pairs), pairs)
    for side in SIDES:
        assert found[f"object AUC, {side}"].value > 0.99 and found[f"object AUC, {side}, wrong mask"].value < 0.9


def test_without_skips_every_up_block_gets_zeros_and_the_backbone_stays_as_it_was(tiny_backbone, two_images):
    before, seen = tiny_backbone.diffusion.features(two_images), []
    bare = HAND.without_skips(tiny_backbone).diffusion
    for block in bare.unet.up_blocks:
        block.resnets[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    after = bare.features(two_images)
    for given, dim in zip(seen, bare.block_dims, strict=True):
        skips = given[:, -dim:]  # concatenated behind what comes from below
        assert given.shape[1] > dim and not skips.any() and given[:, :-dim].any()
    assert not any(torch.allclose(a, b) for a, b in zip(before, after, strict=True))
    assert all(map(torch.equal, before, tiny_backbone.diffusion.features(two_images)))


def test_what_cannot_be_measured_is_left_out(pairs):
    coarse, single = drawn(8, 2, 5, 6, 6), pairs[range(0, 8, 2)]
    assert set(HAND.main_numbers(coarse, pairs)) == {"CKA", "agreement", *(f"object AUC, {side}" for side in SIDES)}
    assert list(HAND.matching_numbers(coarse[::2], single, 1)) == ["agreement, offsets removed"]
    assert HAND.mean(np.full(8, np.nan), pairs) is None and HAND.mean(np.ones(2), pairs[range(2)]) is None


def test_comparing_takes_the_mean_over_noise_seeds_of_every_source(tiny_backbone, pairs):
    maps, some = FeatureMaps(tiny_backbone, {}), pairs[range(4)]
    plan = {name: Settings(name) for name in ("SD f3", "CLIP tokens")}
    table, *alone = (HAND.compare(plan, some, HAND.main_numbers, seeds, maps) for seeds in ((0, 1), (0,), (1,)))
    found, first, second = (each["SD f3"]["CKA"] for each in (table, *alone))
    assert found.value == pytest.approx((first.value + second.value) / 2) and first != second and found.n == 4
    assert found.error == pytest.approx((first.error + second.error) / 2) and first.spread is None
    assert found.spread == pytest.approx(abs(first.value - second.value) / 2**0.5)
    assert table["CLIP tokens"]["agreement"].spread == pytest.approx(0, abs=1e-12), "no noise enters CLIP"


def test_rows_and_back_lose_nothing():
    table = {source: {name: Score(0.5, 0.01, 50, 0.002) for name in DEFINITIONS} for source in ("SD f1", "fused")}
    tables = {"timestep 5": table, 'prompt "a [CLASS]"': {"fused": {"CKA": Score(0.7, 0.1, 9)}}}
    found = HAND.rows_of(RUN, tables, "abc")
    assert HAND.tables_of(found) == tables and str(Score(0.3, 0.02, 9)) == "0.300 ± 0.020"
    assert {row.dataset for row in found} == {"toy"}, "whatever pictures were shown, the toy world was measured"
    committed = results.committed(HERE)
    again = HAND.rows_of(RUN, HAND.tables_of(committed), "abc")
    told = [{(r.gallery, r.method, r.metric, r.definition, r.value) for r in rows} for rows in (committed, again)]
    assert told[0] == told[1]


def test_own_pairs_are_squared_and_class_in_a_prompt_is_each_pairs_category(tiny_backbone, tmp_path):
    counts = {"photo/cat": 3, "sketch/cat": 2, "photo/dog": 1, "sketch/dog": 4}
    for number, (folder, count) in enumerate(counts.items()):
        for k in range(count):
            photo(tmp_path / folder / f"{k}.png", 10 * number + k, size=(20 + 9 * k, 30))
    images, labels = HAND.own_pairs(load_dataset("folder", tmp_path), 2, size=64)
    paths = [tmp_path / kind / f"{place}.png" for place in ("cat/0", "cat/1", "dog/0") for kind in SIDES]
    assert labels == ["cat", "cat", "dog"] and torch.equal(images.flatten(0, 1), load_images(paths, 64))
    maps, settings = FeatureMaps(tiny_backbone, {}), Settings("SD f2", prompt="a photo of [CLASS]")
    found = HAND.pair_maps(maps, images, labels, settings)
    for k, label in enumerate(labels):
        own = maps(images[k], replace(settings, prompt=f"a photo of {label}"))
        torch.testing.assert_close(found[k], own, atol=1e-5, rtol=1e-5)


def test_every_exercise_has_a_solution_whose_asserts_hold():
    names = [list(CATEGORIES)[k] for k in np.linspace(0, 35, 12).round().astype(int)]  # as by default
    given = {"truth": toy_pairs(2, names), "maps": FeatureMaps(load_backbone("pocket", device="cpu"), {})}
    assert len(solutions(HERE)) == 3
    for source in solutions(HERE).values():
        assert "assert " in source
        exec(source, vars(HAND) | given | {"Settings": Settings})
