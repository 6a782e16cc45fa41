"""Feature maps from every source: the same as computed by hand, once, within the budget, and from two threads."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest
import torch

from sfhelpers.fusion import ARMS
from sfhelpers.fusion.modules import to_grid
from sfhelpers.pilot import INJECTIONS, SOURCES, FeatureMaps, Settings
from sfhelpers.tasks.heads import untrained_head
from tests.backbone_fixtures import refused

CONCATENATED = "SD+CLIP concatenated"


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
    hook = tiny_backbone.diffusion.unet.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    yield seen
    hook.remove()


close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)


def test_plain_sources_are_the_backbones_own_features(tiny_backbone, maps, two_images):
    noise = {"timestep": 50, "prompt": "a photo", "seed": 3, "draws": 2}
    for source, expected in zip(SOURCES, tiny_backbone.diffusion.features(two_images, **noise), strict=False):
        close(maps(two_images, Settings(source, **noise)), expected)
    close(maps(two_images, Settings("CLIP tokens")), tiny_backbone.vision.tokens(two_images))


@pytest.mark.parametrize("injection", INJECTIONS)
def test_fused_maps_and_blocks_are_those_of_the_heads_own_extractor(maps, heads, two_images, injection):
    method = {"none": "SD only", "up": "fused", "late": "late fusion"}.get(injection, "fused (fixed random injection)")
    extractor = heads[method].extractor
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


def test_the_concatenated_map_is_standardised_and_ignores_the_injection(maps, heads, two_images):
    found, statistics = maps(two_images, Settings(CONCATENATED, "up")), heads[CONCATENATED].extractor.statistics
    assert torch.equal(found, maps(two_images, Settings(CONCATENATED)))
    parts = {"f1": "SD f1", "f2": "SD f2", "f3": "SD f3", "tokens": "CLIP tokens"}
    expected = [to_grid(statistics[name](maps(two_images, Settings(of))), (24, 24)) for name, of in parts.items()]
    close(found, torch.cat(expected, dim=1))


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


def test_the_cache_is_bounded_in_bytes_and_forgets_what_was_used_longest_ago(tiny_backbone, maps, passes, two_images):
    maps(two_images[:1], Settings())
    size = maps.kept_bytes
    assert size == 4 * sum(c * g * g for c, g in zip((32, 24, 16, 8), (6, 12, 24, 24), strict=True))
    small, none = (FeatureMaps(tiny_backbone, {}, n * size / 1e6, batch_size=4) for n in (2.5, 0))
    passes.clear()
    for seed in (0, 1, 0, 2, 0, 1):  # 1 is forgotten for 2, since 0 was used after it
        small(two_images[:1], Settings(seed=seed))
        assert small.kept_bytes <= 2.5 * size
    assert len(passes) == 4
    many = torch.cat([two_images, two_images.flip(3)])
    passes.clear()
    found = none(many, Settings(draws=2))
    assert passes == [4, 4] and none.kept_bytes == 0, "batches hold no more draws than asked"
    close(found, maps(many, Settings(draws=2)))


def test_threads_get_the_right_maps_and_share_the_work(tiny_backbone, heads, passes, two_images):
    """The UNet's hooks are global to the model, so one thread's features must not land in the other's."""
    settings = [Settings(s, i, seed=n) for n in range(3) for s in ("SD f1", "fused") for i in ("none", "up")]
    quiet, *busy = (FeatureMaps(tiny_backbone, heads) for _ in range(3))
    expected = [quiet(two_images, each) for each in settings]
    passes.clear()
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(maps, two_images, each) for each in settings for maps in (*busy, *busy)]
    assert len(passes) == 2 * 6
    for n, found in enumerate(asked):
        close(found.result(), expected[n // 4])


def test_words_that_were_never_taught_are_noted(maps):
    for silent in ({"prompt": "a photo of a cat"}, {"source": "CLIP tokens", "prompt": "a unicorn"}):
        assert maps.notes(Settings(**silent)) == ""
    note = maps.notes(Settings(prompt="a photo of a unicorn, or a zebra"))
    assert '"unicorn"' in note and '"zebra"' in note and '"photo"' not in note and note.endswith(".")
    assert "f4" in maps.notes(Settings("SD f4", "late"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("source", "SD f5"), ("injection", "down"), ("timestep", 1000), ("timestep", 1.5), ("timestep", True)]
    + [("prompt", "word " * 500), ("prompt", None), ("draws", 0), ("draws", 2.0), ("seed", 2**32)],
)
def test_settings_that_make_no_map_are_refused_in_one_sentence(maps, two_images, name, value):
    with refused():
        maps(two_images, replace(Settings("fused"), **{name: value}))


def test_images_heads_and_budgets_that_fit_nothing_are_refused_in_one_sentence(tiny_backbone, maps, heads, two_images):
    mixed, none = FeatureMaps(tiny_backbone, {"fused": heads["late fusion"]}), FeatureMaps(tiny_backbone, {})
    calls = [partial(mixed, two_images, Settings("fused", "up"))]
    calls += [partial(none, two_images, Settings(*where)) for where in (("fused",), ("SD f3", "up"), (CONCATENATED,))]
    calls += [partial(FeatureMaps, tiny_backbone, {}, **wrong) for wrong in ({"batch_size": 0}, {"megabytes": -1})]
    calls += [partial(maps, images, Settings()) for images in (two_images[0], two_images * 255, two_images[:0])]
    for call in calls:
        with refused():
            call()
