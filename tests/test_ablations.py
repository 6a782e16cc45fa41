"""Ablations change one thing each, share what is frozen, go on after a kill, and are told as they were measured."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sfhelpers import results
from sfhelpers.backbones import randomised
from sfhelpers.tasks import ablations, arms
from sfhelpers.tasks import ablations_report as report
from sfhelpers.tasks.ablations import FULL, VARIANTS, Variant
from sfhelpers.tasks.ablations_kept import Kept, Outcome
from tests.backbone_fixtures import one_sentence

RUN = SimpleNamespace(
    notebook="07_ablations", backbone="tiny", dataset="toy", split="default", seed=0, device="cpu", epochs=1
)


class Toy:
    """A task on two images: no training to speak of; it notes what is prepared and trained."""

    def __init__(self, name="toy"):
        self.prepared, self.trained = [], []
        self.images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
        self.task = arms.Task(name, "closeness", "a number", self.prepare, self.train, self.values, lambda parts: {})

    def prepare(self, extractor, **noise):
        self.prepared.append((extractor.inject, extractor.until, noise))
        return extractor.prepare(self.images, **noise)

    def train(self, arm, parts):
        self.trained.append((arm.method, arm.seed))
        model = nn.ModuleDict({"extractor": arm.extractor})
        return self.tested(arms.Trial(arm.method, arm.seed, model, None, arms.trainable(model), 1.0), parts)

    def tested(self, trial, parts):
        with torch.no_grad():
            trial.found = trial.model["extractor"](parts).mean((1, 2, 3)).numpy()
        return trial

    def values(self, trial, parts):
        return {"seen categories": np.append(trial.found, np.nan)}


def run(toy, backbone, variants, seeds=(0,), **options):
    return ablations.run(backbone, toy.task, variants, seeds, log=lambda line: None, **options)


def outcome(variant, seed, value, task="toy", seconds=1.0, **more):
    made = {"parameters": 7, "seconds": seconds, "preparing": 2.0, "weights": {"f1": 0.4, "f2": 0.6}} | more
    return Outcome(task, variant, {}, seed, "abc", {"seen categories": value}, {"seen categories": 5}, **made)


def told(*outcomes, task="toy"):
    return report.rows(RUN, SimpleNamespace(name=task, metric="closeness", definition="a number"), outcomes, "toy", "s")


def test_every_variant_but_full_changes_one_thing_and_all_can_be_built(tiny_backbone):
    names = [variant.name for variant in VARIANTS]
    assert len(set(names)) == len(names) and names[0] == FULL
    for variant in VARIANTS:
        assert len(variant.settings) + len(variant.noise) + bool(variant.encoder) <= 2 - (variant.group != "draws")
        assert (variant.name == FULL) == (not variant.settings and not variant.noise)
        assert variant.group in report.GROUPS
        assert ablations.extractor_for(variant, tiny_backbone, 0).aggregator.grid == 24


def test_every_variant_of_the_table_runs_and_shares_what_is_frozen(tiny_backbone):
    toy = Toy("correspondence")  # the task that every variant is for
    found = run(toy, tiny_backbone, VARIANTS)
    assert [o.variant for o in found] == [v.name for v in VARIANTS]
    kinds = [(inject, tuple(noise.items())) for inject, _, noise in toy.prepared]
    assert len(set(kinds)) == len(kinds)
    assert [k for k, noise in kinds if not noise] == ["up", "up+down", "none", "random"]
    assert ("up", 4, {}) in toy.prepared, "f4 decides how far the shared tensors reach"
    assert {t for _, _, noise in toy.prepared for t in noise.values()} == {5, 50, 400, 600, 800, 4, 16}


def test_sharing_does_not_change_what_is_found(tiny_backbone):
    together = {o.variant: o for o in run(Toy(), tiny_backbone, VARIANTS)}
    for name in ("kernel 3", "injected into f2 only", "no injection (SD only)", "injected afterwards (late fusion)"):
        (alone,) = run(Toy(), tiny_backbone, ablations.chosen([name]))
        assert together[name].values == pytest.approx(alone.values, abs=1e-6)


def test_seeds_and_tasks_of_a_variant_are_obeyed(tiny_backbone):
    toy = Toy()
    variants = (Variant(FULL, "parts"), Variant("once", "details", seeds=1), Variant("else", "parts", tasks=("other",)))
    run(toy, tiny_backbone, variants, seeds=(3, 4))
    assert toy.trained == [(FULL, 3), (FULL, 4), ("once", 3)]


def test_full_is_tested_again_with_each_branch_silenced(tiny_backbone):
    toy = Toy()
    full, other = run(toy, tiny_backbone, ablations.chosen([FULL, "kernel 3"]), retest=toy.tested)
    assert set(full.without) == {"f1", "f2", "f3"} and not other.without
    extractor = ablations.extractor_for(VARIANTS[0], tiny_backbone, 0)
    prepared = extractor.prepare(toy.images)
    with torch.no_grad():
        whole = extractor(prepared).mean().item()
        lost = 0.0
        for n, branch in enumerate(("f1", "f2", "f3")):
            with ablations.silenced(extractor, n):
                left = extractor(prepared).mean().item()
            assert full.without[branch]["seen categories"] == pytest.approx(left, abs=1e-6)
            lost += whole - left
        assert extractor(prepared).mean().item() == whole
    assert lost == pytest.approx(whole, abs=1e-5), "the map is the sum of its branches"


def test_silence_ends_with_an_error_too(tiny_backbone):
    extractor = ablations.extractor_for(VARIANTS[0], tiny_backbone, 0)
    with pytest.raises(RuntimeError, match="stop"), ablations.silenced(extractor, 0):
        raise RuntimeError("stop")
    assert not any(block._forward_hooks for block in extractor.aggregator.blocks)


def test_another_encoder_stands_for_the_backbones_own(tiny_backbone):
    other = replace(randomised(tiny_backbone), weights_sha256="other")
    variants = ablations.chosen([FULL], ["Other"])
    full, swapped = run(Toy(), tiny_backbone, variants, encoders={"Other": other})
    assert swapped.variant == "Other instead of CLIP" and swapped.weights_sha256 == "other"
    assert swapped.values != full.values


def test_a_query_that_cannot_be_scored_is_left_out_of_mean_and_n(tiny_backbone):
    (full,) = run(Toy(), tiny_backbone, ablations.chosen([FULL]))
    assert full.n == {"seen categories": 2} and np.isfinite(full.values["seen categories"])


def test_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="unknown variant kernel 4") as error:
        ablations.chosen(["kernel 4"])
    one_sentence(error)


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same(tiny_backbone, tmp_path):
    variants, path = (
        ablations.chosen([FULL, "w/o learnable weights", "no injection (SD only)"]),
        tmp_path / "ablations.json",
    )
    whole = run(Toy(), tiny_backbone, variants, seeds=(0, 1))

    class Killed(Toy):
        def train(self, arm, parts):
            if len(self.trained) == 3:
                raise KeyboardInterrupt
            return super().train(arm, parts)

    with pytest.raises(KeyboardInterrupt):
        run(Killed(), tiny_backbone, variants, seeds=(0, 1), kept=Kept(path, {"limit": 4}))
    toy = Toy()
    again = run(toy, tiny_backbone, variants, seeds=(0, 1), kept=Kept(path, {"limit": 4}))
    assert len(toy.trained) == 3 and len(toy.prepared) == 2
    assert [(o.variant, o.seed, o.values, o.weights) for o in again] == [
        (o.variant, o.seed, o.values, o.weights) for o in whole
    ]
    third = Toy()
    assert run(third, tiny_backbone, variants, seeds=(0, 1), kept=Kept(path, {"limit": 4})) == again
    assert not third.prepared


def test_a_variant_that_means_something_else_now_is_trained_again(tiny_backbone, tmp_path):
    kept = Kept(tmp_path / "ablations.json")
    toy = Toy()
    for kernel in (3, 5, 5):
        run(toy, tiny_backbone, [Variant("wide", "details", {"kernel": kernel})], kept=kept)
    assert len(toy.trained) == 2


def test_what_was_kept_of_other_images_is_trained_again(tiny_backbone, tmp_path):
    kept = Kept(tmp_path / "ablations.json")
    toy = Toy()
    for images in ("some", "others", "others"):
        toy.task = replace(toy.task, images=images)
        run(toy, tiny_backbone, [Variant("wide", "details", {"kernel": 3})], kept=kept)
    assert len(toy.trained) == 2


def test_what_was_kept_with_other_settings_is_refused(tmp_path):
    path = tmp_path / "ablations.json"
    Kept(path, {"limit": 4, "epochs": 3}).add(outcome(FULL, 0, 0.5))
    with pytest.raises(ValueError, match="made with another limit: start anew with -p resume False") as error:
        Kept(path, {"limit": 8, "epochs": 3})
    anew = Kept(path, {"limit": 8, "epochs": 3}, resume=False)
    assert not anew.outcomes and Kept(path, {"limit": 4, "epochs": 3}).outcomes, "a run that is refused loses nothing"
    anew.add(outcome(FULL, 1, 0.5))
    assert [kept.seed for kept in Kept(path, {"limit": 8, "epochs": 3}).outcomes] == [1]
    one_sentence(error)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"configuration": {}, "outcomes": [{"task": 1}]}'])
def test_a_broken_file_is_refused_and_left(tmp_path, content):
    path = tmp_path / "ablations.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="is not a file of ablations"):
        Kept(path)
    assert path.read_text() == content


def test_rows_give_back_means_spreads_seconds_and_parameters(tmp_path):
    rows = told(*(outcome(FULL, seed, 0.5 + 0.1 * seed, seconds=1.0 + seed) for seed in (0, 1, 2)))
    results.write(rows, tmp_path / "r.json")
    full = report.measured(results.read(tmp_path / "r.json"), "toy")[FULL]
    assert (full.value, full.spread) == (pytest.approx(0.6), pytest.approx(0.1))
    assert (full.n, full.seeds, full.seconds, full.preparing, full.parameters) == (5, 3, 2.0, 2.0, 7)


@pytest.mark.parametrize(
    ("value", "spread", "sign"), [(0.4, 0.01, -1), (0.49, 0.01, 0), (0.51, 0.01, 0), (0.6, 0.01, 1), (0.6, 0.2, 0)]
)
def test_a_difference_counts_beyond_both_spreads(value, spread, sign):
    def measured(value, spread):
        return report.Measured(value, spread, 5, 3, 1.0, 1.0, 7)

    assert report.beyond(measured(0.5, 0.01), measured(value, spread)) == sign
    assert report.beyond(measured(0.5, None), measured(value, None)) == 0
    assert report.beyond(measured(0.5, 0.01), measured(0.53, None)) == 1


def test_claims_are_judged_by_direction_and_spread():
    lines = []
    for variant, values in {FULL: (0.5, 0.52), "a": (0.3, 0.32), "b": (0.5, 0.51), "c": (0.8, 0.82)}.items():
        lines += [outcome(variant, seed, value) for seed, value in enumerate(values)]
    paper = {name: {"toy": (70.0, 50.0), "not run": (1.0, 2.0)} for name in ("a", "b", "c", "d")}
    found = report.judged(told(*lines), paper)
    assert [(name, verdict) for name, _, _, _, verdict in found] == [
        ("a", "shows here"), ("b", "not shown here"), ("c", "the other way here"),
    ]  # fmt: skip
    assert found[0][2] == pytest.approx(-2 / 7) and found[0][3] == pytest.approx(0.31 / 0.51 - 1)


def test_branches_tell_weights_and_what_silence_costs():
    without = {"f1": {"seen categories": 0.45}, "f2": {"seen categories": 0.1}}
    found = report.branches(told(outcome(FULL, 0, 0.5, without=without), outcome("kernel 3", 0, 0.9)), "toy")
    assert found == {"f1": (0.4, 0.0, pytest.approx(0.05)), "f2": (0.6, 0.0, pytest.approx(0.4))}


def test_timesteps_are_compared_at_the_same_seed_with_full_at_195():
    lines = [outcome(FULL, 0, 0.5), outcome(FULL, 1, 0.9), outcome("t = 5", 0, 0.3), outcome("t = 800", 0, 0.2)]
    found = report.timesteps(told(*lines), "toy")
    assert {t: m.value for t, m in found.items()} == {5: 0.3, 195: 0.5, 800: 0.2}
    assert report.timesteps(told(*lines[:2]), "toy") == {}


def test_the_table_is_drawn_with_what_is_there():
    rows = told(outcome(FULL, 0, 0.5), outcome("kernel 3", 0, 0.6, seconds=3.0))
    rows += told(outcome(FULL, 0, 0.5, task="else"), task="else")
    assert report.costs({t: report.measured(rows, t) for t in report.metrics(rows)})["kernel 3"] == 3.0
    texts = [text.get_text() for text in report.table(rows).axes[0].texts]
    assert {"kernel 3", "+0.100", "–", "3.0", "toy\ncloseness"} <= set(texts)
