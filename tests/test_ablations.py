"""Ablations change one thing each, share what is frozen, go on after a kill, and are told as they were measured."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from torch import nn

from sfhelpers import params, results, toyworld
from sfhelpers.backbones import encoders, randomised
from sfhelpers.backbones.loading import with_encoder
from sfhelpers.datasets import Dataset, first_sketches, sketchy
from sfhelpers.fusion import FusedExtractor
from sfhelpers.tasks import ablations
from sfhelpers.tasks.ablations import FULL, VARIANTS, Kept, Variant
from sfhelpers.tasks.compare import Measured, Task
from tests.backbone_fixtures import one_sentence

RUN = SimpleNamespace(
    notebook="07_ablations", backbone="tiny", dataset="toy", split="default", seed=0, device="cpu", epochs=0,
    learning_rate=2e-3, batch_size=8, limit=2,
)  # fmt: skip


class Head(nn.Module):
    def __init__(self, extractor):
        super().__init__()
        self.extractor, self.settings = extractor, {}


class Toy(Task):
    """A task on two images without any training; it notes what is prepared and for whom a model is made."""

    def __init__(self, name="toy", images="", stop=99):
        super().__init__({"test": None}, "toy", "s", images, 0, 1e-3, 2)
        self.name, self.prepared, self.made, self.stop = name, [], [], stop

    def read(self, extractor, part, size, **noise):
        self.prepared.append((extractor.inject, extractor.until, noise))
        return extractor.prepare(torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0)), **noise)

    def examples(self, frozen):
        return 2

    def model(self, extractor, frozen):
        if len(self.made) == self.stop:
            raise KeyboardInterrupt
        self.made.append(extractor)
        return Head(extractor)

    def validate(self, model, frozen):
        return 0.0

    @torch.no_grad()
    def predict(self, model, frozen):
        return model.extractor(frozen["test"]).mean((1, 2, 3)).numpy()

    def measure(self, trial, frozen):
        yield Measured("seen categories", "closeness", "a number", np.append(trial.found, np.nan), np.arange(3))
        yield Measured("seen categories", "another", "not tested", trial.found)


def measure(toy, backbone, variants, seeds=(0,), **options):
    return ablations.measure(RUN, toy, backbone, variants, seeds, log=lambda line: None, **options)


def values(rows, metric="closeness"):
    return {(row.method, row.seed): row.value for row in rows if row.metric == metric}


def row(variant, seed, value, metric="closeness", gallery="seen categories", task="toy", seconds=1.0):
    return results.row(
        RUN, task=task, method=variant, metric=metric, definition="d", value=value, n=5, gallery=gallery, seed=seed,
        seconds=seconds, weights_sha256="aa",
    )  # fmt: skip


def found(variant, seed, value, **more):
    return [row(variant, seed, value, **more), row(variant, seed, 7, ablations.PARAMETERS, "", **more)]


def test_every_variant_but_full_changes_one_thing_and_all_can_be_built(tiny_backbone):
    names = [variant.name for variant in VARIANTS]
    assert len(set(names)) == len(names) and names[0] == FULL
    for variant in VARIANTS:
        assert len(variant.settings) + len(variant.noise) + bool(variant.encoder) <= 2 - (variant.group != "draws")
        assert (variant.name == FULL) == (not variant.settings and not variant.noise)
        assert ablations.arm_of(variant, tiny_backbone, 0).extractor().aggregator.grid == 24


def test_every_variant_of_the_table_runs_and_shares_what_is_frozen(tiny_backbone):
    toy = Toy("correspondence")  # the task that every variant is for
    rows = measure(toy, tiny_backbone, VARIANTS)
    assert list(dict.fromkeys(r.method for r in rows)) == [v.name for v in VARIANTS]
    kinds = [(inject, tuple(noise.items())) for inject, _, noise in toy.prepared]
    assert len(set(kinds)) == len(kinds)
    assert {k for k, noise in kinds if not noise} == {"up", "up+down", "none", "random"}
    assert ("up", 4, {}) in toy.prepared, "f4 decides how far the shared tensors reach"
    assert {t for _, _, noise in toy.prepared for t in noise.values()} == {5, 50, 400, 600, 800, 4, 16}
    together = values(rows)
    for name in ("kernel 3", "injected into f2 only", "no injection (SD only)", "injected afterwards (late fusion)"):
        alone = values(measure(Toy(), tiny_backbone, ablations.chosen([name])))
        assert together[name, 0] == pytest.approx(alone[name, 0], abs=1e-6)


def test_seeds_and_tasks_of_a_variant_are_obeyed_and_unscored_queries_left_out(tiny_backbone):
    variants = (Variant(FULL, "parts"), Variant("once", "details", seeds=1), Variant("else", "parts", tasks=("other",)))
    rows = measure(Toy(), tiny_backbone, variants, seeds=(3, 4))
    assert list(values(rows)) == [(FULL, 3), (FULL, 4), ("once", 3)]
    assert {r.n for r in rows if r.metric == "closeness"} == {2}
    assert not [r for r in rows if r.metric == "another"], "only what is tested is told"


def test_full_is_tested_again_with_each_branch_silenced(tiny_backbone):
    toy = Toy()
    rows = measure(toy, tiny_backbone, ablations.chosen([FULL, "kernel 3"]))
    silent = {r.metric: r.value for r in rows if "without" in r.metric}
    assert {(r.method, r.metric) for r in rows if "without" in r.metric} == {
        (FULL, f"closeness without f{n}") for n in (1, 2, 3)
    }
    extractor = ablations.arm_of(VARIANTS[0], tiny_backbone, 0).extractor()
    model, frozen = Head(extractor), {"test": toy.read(extractor, None, 96)}
    lost, whole = 0.0, toy.predict(model, frozen).mean()
    for n, branch in enumerate(("f1", "f2", "f3")):
        with ablations.silenced(extractor, n):
            left = toy.predict(model, frozen).mean()
        assert silent[f"closeness without {branch}"] == pytest.approx(left, abs=1e-6)
        lost += whole - left
    assert toy.predict(model, frozen).mean() == whole
    assert lost == pytest.approx(whole, abs=1e-5), "the map is the sum of its branches"


def test_silence_ends_with_an_error_too(tiny_backbone):
    extractor = ablations.arm_of(VARIANTS[0], tiny_backbone, 0).extractor()
    with pytest.raises(RuntimeError, match="stop"), ablations.silenced(extractor, 0):
        raise RuntimeError("stop")
    assert not any(block._forward_hooks for block in extractor.aggregator.blocks)


def test_another_encoder_stands_for_the_backbones_own(tiny_backbone, two_images):
    other = replace(randomised(tiny_backbone), weights_sha256="other")
    rows = measure(Toy(), tiny_backbone, ablations.chosen([FULL], ["Other"]), encoders={"Other": other})
    swapped = [r for r in rows if r.method == "Other instead of CLIP"]
    assert {r.weights_sha256 for r in swapped} == {"other"}
    assert values(rows)[FULL, 0] != values(swapped)["Other instead of CLIP", 0]

    torch.manual_seed(0)
    encoder = encoders.Encoder("ImageNet", timm.create_model(encoders.ENCODERS["ImageNet"].model, num_classes=0), "abc")
    swapped = with_encoder(tiny_backbone, encoder)
    tokens = swapped.vision.tokens(two_images)
    assert tokens.shape[:2] == (2, swapped.vision.token_dim) and not tokens.requires_grad
    extractor = FusedExtractor(swapped, dim=12, grid=9, width=8)
    assert extractor.injection.convs[0].in_channels == swapped.vision.token_dim
    assert torch.equal(extractor.prepare(two_images)["tokens"], tokens)
    assert swapped.weights_sha256 not in (tiny_backbone.weights_sha256, "abc")


def test_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="unknown variant kernel 4") as error:
        ablations.chosen(["kernel 4"])
    one_sentence(error)


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same(tiny_backbone, tmp_path):
    variants = ablations.chosen([FULL, "w/o learnable weights", "no injection (SD only)"])
    path = tmp_path / "ablations.json"
    whole = measure(Toy(), tiny_backbone, variants, seeds=(0, 1))
    with pytest.raises(KeyboardInterrupt):
        measure(Toy(stop=3), tiny_backbone, variants, seeds=(0, 1), kept=Kept(path, {"limit": 4}))
    toy, third = Toy(), Toy()
    again = measure(toy, tiny_backbone, variants, seeds=(0, 1), kept=Kept(path, {"limit": 4}))
    assert len(toy.made) == 3 and len(toy.prepared) == 2
    told = [[(r.method, r.seed, r.metric, r.value) for r in rows] for rows in (again, whole)]
    assert told[0] == told[1]
    assert measure(third, tiny_backbone, variants, seeds=(0, 1), kept=Kept(path, {"limit": 4})) == again
    assert not third.prepared


def test_a_variant_or_images_that_mean_something_else_now_are_measured_again(tiny_backbone, tmp_path):
    kept, toys = Kept(tmp_path / "ablations.json"), []
    for kernel, images in ((3, ""), (5, ""), (5, ""), (5, "others"), (5, "others")):
        toys.append(Toy(images=images))
        measure(toys[-1], tiny_backbone, [Variant("wide", "details", {"kernel": kernel})], kept=kept)
    assert [len(toy.made) for toy in toys] == [1, 1, 0, 1, 0]


def test_what_was_kept_with_other_settings_is_refused(tmp_path):
    path = tmp_path / "ablations.json"
    Kept(path, {"limit": 4, "epochs": 3}).add("a", found(FULL, 0, 0.5))
    with pytest.raises(ValueError, match="made with another limit: start anew with -p resume False") as error:
        Kept(path, {"limit": 8, "epochs": 3})
    one_sentence(error)
    anew = Kept(path, {"limit": 8, "epochs": 3}, resume=False)
    assert not anew.rows and Kept(path, {"limit": 4, "epochs": 3}).rows, "a run that is refused loses nothing"
    anew.add("b", found(FULL, 1, 0.5))
    assert list(Kept(path, {"limit": 8, "epochs": 3}).rows) == ["b"]


EARLIER = '{"configuration": {}, "outcomes": [{"task": 1}]}'


@pytest.mark.parametrize("content", ["", "{", "[]", EARLIER, '{"configuration": {}, "rows": {"a": [{"task": 1}]}}'])
def test_a_broken_file_or_one_of_an_earlier_version_is_refused_and_left(tmp_path, content):
    path = tmp_path / "ablations.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="is not a file of ablations") as error:
        Kept(path)
    assert one_sentence(error) and path.read_text() == content


def test_rows_give_back_means_spreads_seconds_and_parameters_by_the_main_gallery():
    rows = [r for seed in (0, 1, 2) for r in found(FULL, seed, 0.5 + 0.1 * seed, seconds=1.0 + seed)]
    rows += [row(FULL, 0, 0.9, gallery="unseen categories")]
    full = ablations.measured(rows, "toy")[FULL]
    assert (full.value, full.spread) == (pytest.approx(0.6), pytest.approx(0.1))
    assert (full.n, full.seeds, full.seconds, full.preparing, full.parameters) == (5, 3, 2.0, 2.0, 7)
    assert ablations.metrics(rows) == {"toy": "closeness"}
    assert ablations.main_gallery([row(FULL, 0, 1, gallery="all", task="retrieval")], "retrieval") == "all"


@pytest.mark.parametrize(
    ("value", "spread", "sign"), [(0.4, 0.01, -1), (0.49, 0.01, 0), (0.51, 0.01, 0), (0.6, 0.01, 1), (0.6, 0.2, 0)]
)
def test_a_difference_counts_beyond_both_spreads(value, spread, sign):
    def one(value, spread):
        return ablations.Found(value, spread, 5, 3, 1.0, 1.0, 7)

    assert ablations.beyond(one(0.5, 0.01), one(value, spread)) == sign
    assert ablations.beyond(one(0.5, None), one(value, None)) == 0
    assert ablations.beyond(one(0.5, 0.01), one(0.53, None)) == 1


SEEN = tuple(name for name in toyworld.CATEGORIES if name not in toyworld.UNSEEN)[:4]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four seen and two unseen categories of six photos with a sketch each, masks and keypoints."""
    root = tmp_path_factory.mktemp("world")
    toyworld.write_sketchy(root, photos=6, sketches=1, categories=(*SEEN, *toyworld.UNSEEN[:2]))
    world = Dataset("world", root, "default", tuple(sketchy.read(root, unseen=toyworld.UNSEEN)))
    return first_sketches(world, 1)


@pytest.mark.parametrize("name", params.TASKS)
def test_a_task_is_measured_and_what_is_not_silenced_is_found_again(tiny_backbone, data, name, monkeypatch):
    task = ablations.task_for(name, RUN, data)
    with monkeypatch.context() as patch:
        patch.setattr(ablations, "silenced", lambda extractor, n: torch.no_grad())
        rows = measure(task, tiny_backbone, ablations.chosen([FULL, "w/o aggregation network"]))
    metric = ablations.metrics(rows)[name]
    whole = {r.gallery: r.value for r in rows if (r.method, r.metric) == (FULL, metric)}
    assert whole and all(0 <= value <= 1 for value in whole.values())
    for branch in ("f1", "f2", "f3"):
        again = {r.gallery: r.value for r in rows if r.metric == f"{metric} without {branch}"}
        assert again == whole
    sizes = [r.value for r in rows if r.metric == ablations.PARAMETERS]
    assert sizes[1] < sizes[0] and ablations.main_gallery(rows, name) in whole


def test_real_data_is_split_clip_style_for_want_of_unseen_classes(data, monkeypatch):
    monkeypatch.setattr(ablations, "Retrieval", lambda data, *settings, problems: problems)
    assert ablations.task_for("retrieval", RUN, data) == ("strict",)
    assert ablations.task_for("retrieval", RUN, data.select(seen=True)) == ("clip-style",)
