"""The pilot study's pairs and numbers: exact ground truth, known answers, honest errors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from sfhelpers.datasets import load_dataset
from sfhelpers.fusion import ARMS
from sfhelpers.pilot import (
    FeatureMaps,
    Settings,
    baselines,
    compare,
    folder_pairs,
    measure,
    pair_maps,
    sweep,
    toy_pairs,
)
from sfhelpers.pilot.study import BRIEF, MEASURES
from sfhelpers.tasks.arms import extractor_for
from sfhelpers.tasks.heads import Head
from sfhelpers.tasks.segmentation import SketchSegmenter
from sfhelpers.toyworld import SEEN
from tests.backbone_fixtures import one_sentence


@pytest.fixture(scope="module")
def pairs():
    return toy_pairs(2, ("cat", "church", "cup", "windmill"))


@pytest.fixture(scope="module")
def maps(tiny_backbone):
    heads = {}
    for method in ARMS:
        extractor = extractor_for(method, tiny_backbone, 0).eval()
        model = SketchSegmenter(extractor)
        heads[method] = Head(method, extractor.inject, 0.5, 0, tiny_backbone.weights_sha256, {}, model=model)
    return FeatureMaps(tiny_backbone, heads)


def test_pairs_come_category_by_category_with_all_their_truth(pairs):
    assert len(pairs) == 8 and pairs.labels[:3] == ["cat", "cat", "church"]
    assert pairs.images.shape == (8, 2, 3, 160, 160) and pairs.images.min() >= 0 and pairs.images.max() <= 1
    assert pairs.keypoints.shape == (8, 2, 8, 3) and pairs.masks.shape == pairs.silhouettes.shape == (8, 160, 160)
    assert pairs.masks.dtype == pairs.silhouettes.dtype == torch.bool
    assert pairs.seen == [label in SEEN for label in pairs.labels] and len(set(pairs.seen)) == 2
    assert pairs.images[:, 0].median() > 0.95, "sketches are white paper"
    chosen = pairs[[2, 5]]
    assert chosen.labels == ["church", "cup"] and torch.equal(chosen.masks, pairs.masks[[2, 5]])
    assert pairs[1:3].labels == ["cat", "church"]


def test_pairs_are_the_same_every_time_and_others_with_another_seed(pairs):
    again = toy_pairs(1, ("church",))
    assert torch.equal(again.images[0], pairs.images[2])
    assert not torch.equal(toy_pairs(1, ("church",), seed=5).images, again.images)


def test_the_silhouette_is_what_the_sketch_outlines():
    """At difficulty 0 the hand is nearly steady: all ink lies in the silhouette or within a few pixels of it."""
    calm = toy_pairs(3, ("cat", "bottle", "sailboat", "giraffe"), difficulty=0.0)
    ink = calm.images[:, 0, 0] < 0.5
    near = F.max_pool2d(calm.silhouettes[:, None].float(), 11, 1, 5)[:, 0].bool()
    assert (ink & near).sum() / ink.sum() > 0.98
    share = calm.silhouettes.float().mean((1, 2))
    assert share.min() > 0.03 and share.max() < 0.7
    x, y = calm.keypoints[:, 0, :, :2].round().long().clamp(0, 159).unbind(-1)
    on_it = near[torch.arange(len(calm))[:, None], y, x]
    assert on_it[calm.visible[:, 0]].float().mean() > 0.95


@pytest.mark.parametrize("arguments", [(0,), (1, ()), (1, ("unicorn",))])
def test_pairs_that_do_not_exist_are_refused_in_one_sentence(arguments):
    with pytest.raises(ValueError) as error:
        toy_pairs(*arguments)
    one_sentence(error)


def test_pairs_of_a_folder_use_each_picture_once_and_are_squared(tmp_path):
    for category, counts in {"cat": (3, 2), "dog": (1, 4)}.items():
        for domain, count in zip(("photo", "sketch"), counts, strict=True):
            for k in range(count):
                path = tmp_path / domain / category / f"{k}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (20 + 9 * k, 30), (40 * k, 90, 200 if domain == "photo" else 0)).save(path)
    images, labels = folder_pairs(load_dataset("folder", tmp_path), 2, size=48)
    assert labels == ["cat", "cat", "dog"] and images.shape == (3, 2, 3, 48, 48)
    assert (images[:, 0, 2].amax((1, 2)) < 0.1).all() and (images[:, 1, 2].amax((1, 2)) > 0.7).all()
    assert folder_pairs(load_dataset("folder", tmp_path), 1)[1] == ["cat", "dog"]


def painted(pairs, grid=40, noise=0.0, channels=24):
    """(N, 2, C, grid, grid): a perfect source, whose features are smooth in where on the object a position lies."""
    steps = (torch.arange(grid) + 0.5) / grid
    where = torch.cartesian_prod(steps, steps).flip(1)
    generator = torch.Generator().manual_seed(0)
    found = []
    for points in pairs.points.flatten(0, 1):
        distance = (where[:, None] - points).norm(dim=2)
        features = torch.exp(-((distance / 0.12) ** 2))
        found.append(torch.cat([features, noise * torch.randn(grid**2, channels - 8, generator=generator)], 1).T)
    return torch.stack(found).view(len(pairs), 2, channels, grid, grid)


def test_a_source_that_marks_the_keypoints_agrees_everywhere(pairs):
    scores = measure(painted(pairs), pairs)
    assert set(scores) == set(MEASURES)
    assert scores["CKA"].value > 0.9 and scores["agreement"].value > 0.75
    for way in ("sketch to other photo", "photo to other photo", "sketch to other sketch"):
        assert scores[way].value > 0.65
    assert all(score.n == 8 and score.error >= 0 and score.spread is None for score in scores.values())


def test_a_shift_between_domains_spoils_the_cosine_and_is_undone_by_removing_offsets(pairs):
    shifted = painted(pairs)
    shifted[:, 0] += 6 * torch.randn(24, generator=torch.Generator().manual_seed(1))[:, None, None]
    scores = measure(shifted, pairs)
    assert scores["agreement"].value < 0.4 < 0.7 < scores["agreement, offsets removed"].value
    assert scores["CKA"].value > 0.9, "CKA centres by itself"


def test_noise_agrees_as_chance_does_and_separates_nothing(pairs):
    noise = torch.randn(8, 2, 24, 24, 24, generator=torch.Generator().manual_seed(3))
    scores, trivial = measure(noise, pairs), baselines(pairs)
    assert abs(scores["CKA"].value) < 0.15
    assert scores["agreement"].value == pytest.approx(trivial["agreement, chance"].value, abs=0.1)
    for side in ("sketch", "photo"):
        assert scores[f"object AUC, {side}"].value == pytest.approx(0.5, abs=0.05)


def test_maps_that_are_the_masks_separate_perfectly_and_wrong_masks_show_it(pairs):
    both = torch.stack([pairs.silhouettes, pairs.masks], dim=1).float()
    scores = measure(torch.stack([-both, 0.1 * both], dim=2), pairs)
    for side in ("sketch", "photo"):
        assert scores[f"object AUC, {side}"].value > 0.99
        assert scores[f"object AUC, {side}, wrong mask"].value < 0.9
    trivial = baselines(pairs)
    assert 0.5 < trivial["object AUC, photo, nearness to the middle"].value < 1
    assert trivial["agreement, same place"].value > trivial["agreement, chance"].value


def test_measures_that_cannot_be_taken_are_left_out(pairs):
    coarse = torch.randn(8, 2, 5, 6, 6, generator=torch.Generator().manual_seed(0))
    assert not [name for name in measure(coarse, pairs) if name.startswith("low-frequency")]
    single = pairs[::2]
    assert not [name for name in measure(coarse[::2], single) if "other" in name]
    assert list(measure(coarse, pairs, ("agreement",))) == ["agreement"]


def test_class_in_a_prompt_is_each_pairs_category(maps, pairs):
    some = pairs[[0, 2, 4]]
    settings = Settings("SD f2", prompt="a photo of [CLASS]")
    found = pair_maps(maps, some.images, ["cat", "car", "cat"], settings)
    for k, word in enumerate(["cat", "car", "cat"]):
        expected = maps(some.images[k], replace(settings, prompt=f"a photo of {word}"))
        torch.testing.assert_close(found[k], expected, atol=1e-5, rtol=0)
    assert pair_maps(maps, some.images, some.labels, Settings("SD f2")).shape == found.shape


def test_the_comparison_has_every_source_the_control_and_a_spread_over_seeds(maps, pairs):
    pairs = pairs[:4]
    table = compare(maps, pairs, seeds=(0, 1))
    assert {"SD f2", "SD f3", "CLIP tokens", "SD+CLIP concatenated", "fused", "random UNet f3"} <= set(table)
    first, second = (
        measure(maps(pairs.images.flatten(0, 1), Settings(seed=seed)).unflatten(0, (4, 2)), pairs)["agreement"].value
        for seed in (0, 1)
    )
    both = table["SD f3"]["agreement"]
    assert both.value == pytest.approx((first + second) / 2)
    assert both.spread == pytest.approx(np.std([first, second], ddof=1))
    assert table["CLIP tokens"]["agreement"].spread == pytest.approx(0, abs=1e-12), "no noise enters CLIP"
    assert table["random UNet f2"]["CKA"] != table["SD f2"]["CKA"]


def test_a_sweep_gives_each_value_its_table_and_contains_the_default(maps, pairs):
    found = sweep(maps, pairs, "timestep", [5, 195], sources=("SD f2", "SD f4"))
    assert list(found) == [5, 195] and list(found[5]) == ["SD f2", "SD f4"] and set(found[5]["SD f4"]) == set(BRIEF)
    expected = measure(pair_maps(maps, pairs.images, pairs.labels, Settings("SD f2")), pairs, BRIEF)
    assert found[195]["SD f2"] == expected and found[5]["SD f2"] != expected
