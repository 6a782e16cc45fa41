"""The arms of the correspondence table are trained and tested alike, and what is told of them is what was measured."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sfhelpers import metrics, results, toyworld
from sfhelpers.datasets import Dataset, psc6k, sketchy
from sfhelpers.fusion import FusedExtractor
from sfhelpers.tasks import arms
from sfhelpers.tasks import compare as protocol
from sfhelpers.tasks.correspondence import (
    DEFINITION,
    DEFINITIONS,
    HANDEDNESS,
    RAW,
    SAME_PIXEL,
    SIDES,
    Correspondence,
    RawFeatures,
    SketchMatcher,
    mirrored,
    pairs_loss,
    score,
)
from sfhelpers.tasks.prepared import prepare_points
from sfhelpers.tasks.warps import WarpedPairs, Warps
from tests.backbone_fixtures import one_sentence

METHODS = (*arms.METHODS, *Correspondence.baselines)
RUN = SimpleNamespace(
    notebook="03_correspondence", backbone="tiny", dataset="folder", split="x", seed=0, device="cpu", epochs=1
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    toyworld.write_sketchy(root, photos=6, sketches=2, categories=("cat", "duck", toyworld.UNSEEN[0]))
    return Dataset("toy", root, "default", tuple(sketchy.read(root, unseen=toyworld.UNSEEN)))


def compare(backbone, task, methods, seeds=(0,), **options):
    return protocol.compare(backbone, task, methods, seeds, log=lambda line: None, **options)


@pytest.fixture(scope="module")
def task(world):
    return Correspondence(psc6k.load(world), 1, 2e-3, 4)


@pytest.fixture(scope="module")
def compared(tiny_backbone, task):
    """Every method with seed 0: the trials by method, and what is frozen."""
    trials, frozen = compare(tiny_backbone, task, METHODS)
    return {trial.method: trial for trial in trials}, frozen


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_places_for_seen_and_unseen_categories_in_both_directions(compared, method):
    trials, frozen = compared
    assert trials[method].found.keys() == frozen.keys() - {"train", "validation"} == {"seen", "unseen"}
    for part, found in trials[method].found.items():
        for direction, (source, _) in SIDES.items():
            places, visible = found[direction], frozen[part].visible
            assert places.shape == (len(frozen[part]), 8, 2) and places[visible].std() > 0
            assert places[visible].min() >= 0 and places[visible].max() <= 1
            assert torch.equal(places, frozen[part].points[source]) == (method == SAME_PIXEL)
    assert (trials[method].history is None) == (method in Correspondence.baselines)


def test_the_seed_alone_decides(compared, tiny_backbone, task):
    trials, _ = compare(tiny_backbone, task, ("fused", "CLIP only"), seeds=(1, 0), keep_models=False)
    for other, again in zip(trials[::2], trials[1::2], strict=True):
        before = compared[0][again.method].found["seen"]["s2p"]
        assert again.model is None and torch.equal(before, again.found["seen"]["s2p"])
        assert not torch.equal(before, other.found["seen"]["s2p"])


def test_raw_features_weigh_every_source_the_same(tiny_backbone, two_images):
    extractor = arms.extractor_for("SD+CLIP concatenated", tiny_backbone, 0)
    prepared = extractor.prepare(two_images)
    extractor.fit_statistics(prepared)
    found = RawFeatures(extractor, ("f2", "tokens"))(prepared)
    channels = extractor.features(prepared)["f2"].shape[1]
    lengths = [part.norm(dim=1) for part in (found[:, :channels], found[:, channels:])]
    for length in lengths:
        torch.testing.assert_close(length, torch.ones_like(length))


@pytest.mark.parametrize(
    ("methods", "said"),
    [([SAME_PIXEL], "name at least one"), (["fused", "SD"], "unknown method 'SD'"), ([*RAW], "name at least one")],
)
def test_methods_that_cannot_be_are_refused_before_anything_is_prepared(task, methods, said):
    with pytest.raises(ValueError, match=said) as error:
        compare(None, task, methods)
    one_sentence(error)


def test_a_checkpoint_of_a_model_with_other_settings_is_refused(tiny_backbone, compared, task, tmp_path, monkeypatch):
    def run(**settings):
        monkeypatch.setattr(task, "model", lambda extractor, _: SketchMatcher(extractor, **settings))
        return compare(tiny_backbone, task, ("CLIP only",), checkpoints=tmp_path)[0][0].history

    monkeypatch.setattr(task, "prepare", lambda extractor: compared[1])
    assert run() == run()
    for name, value in {"contrastive": 0.5, "flow": 0.0, "dropout": 0.2, "flow_noise": 1.0}.items():
        with pytest.raises(ValueError, match=f"is of another training .*model {name} was ") as error:
            run(**{name: value})
        one_sentence(error)


def test_rows_hold_both_metrics_under_every_definition(compared, task, tmp_path):
    trials, frozen = compared
    results.write(protocol.rows(RUN, task, trials.values(), frozen, "aa"), tmp_path / "results.json")
    rows = results.read(tmp_path / "results.json")
    whole = [row for row in rows if not row.gallery.endswith("mirrored")]
    assert len(whole) == len(METHODS) * 2 * 2 * len(DEFINITIONS)
    assert {(row.dataset, row.split) for row in rows} == {("toy", "default")}
    for definition in DEFINITIONS:
        assert results.table(rows, "unseen categories", "PCK@10", definition).keys() == set(METHODS)
    data = frozen["seen"]
    row = next(r for r in rows if (r.method, r.gallery, r.metric, r.definition) ==
               ("fused", "seen categories", "PCK@5", "image side, <=, mean over pairs, sketch to photo"))  # fmt: skip
    by_hand = metrics.pck(
        trials["fused"].found["seen"]["s2p"] * 256, data.points["photo"] * 256, 0.05, 256, data.visible
    )
    assert (row.value, row.n) == (pytest.approx(by_hand.mean()), len(data))


def test_rows_tell_mirrored_pairs_from_the_others(compared, task):
    trials, frozen = compared
    rows = protocol.rows(RUN, task, [trials["fused"]], frozen, "aa")
    for part in ("seen", "unseen"):
        found = {r.gallery: r for r in rows if r.metric == "PCK@10" and r.definition == DEFINITION}
        apart = [found.get(f"{part} categories, {kind}") for kind in HANDEDNESS]
        counts = [2 * int((mirrored(frozen[part]) == k).sum()) for k in (False, True)]
        assert [row.n if row else 0 for row in apart] == counts
        mean = sum(row.value * row.n for row in apart if row) / sum(counts)
        assert mean == pytest.approx(found[f"{part} categories"].value)


def test_differences_are_told_paired_over_photos(compared, task):
    trials, frozen = compared
    rows = protocol.differences(RUN, task, trials.values(), frozen, "aa")
    assert {row.gallery for row in rows} == {"seen categories", "unseen categories"}
    found = results.differences(rows, "seen categories", "PCK@5")
    assert found.keys() == set(METHODS) - {"fused"} and len(rows) == 2 * 3 * len(found)
    own, other = (score(trials[m].found["seen"], frozen["seen"], 0.05) for m in ("fused", SAME_PIXEL))
    mean, low, high = found[SAME_PIXEL]
    assert mean == pytest.approx((own - other).mean()) and low <= mean <= high
    assert all("over photos" in row.definition for row in rows)
    tested = [m for m in task.measure(trials["fused"], frozen) if m.groups is not None]
    assert [len(np.unique(m.groups)) for m in tested] == [
        len(frozen[p].images.photo_records) for p in trials["fused"].found
    ]


def made_up(compared):
    """Test pairs, and predictions that are right."""
    data = compared[1]["seen"]
    return data, {d: data.points[k].clone() for d, (_, k) in SIDES.items()}


def test_definitions_differ_as_they_say(compared):
    data, _ = made_up(compared)
    data = replace(data, points={k: (p * 64).round() / 64 for k, p in data.points.items()})  # exact in binary
    places = {"s2p": data.points["photo"], "p2s": data.points["sketch"]}
    names = list(DEFINITIONS)
    assert all(score(places, data, 0.05, name).mean() == 1 for name in names)
    places["s2p"] = places["s2p"] + torch.tensor([0.0625, 0.0])  # all points on the threshold of 1/16
    by_name = {name: score(places, data, 0.0625, name).mean() for name in names}
    both, s2p, p2s, strict, points, box = by_name.values()
    assert (both, s2p, p2s) == (1, 1, 1) and strict == pytest.approx(0.5) and box < 1 and points == 1


def test_a_pair_whose_visible_points_coincide_has_no_box_and_is_left_out_by_the_box_alone(compared):
    data, places = made_up(compared)
    photo = data.points["photo"].clone()
    photo[0] = 0.25
    data = replace(data, points=data.points | {"photo": photo})
    (box,) = (name for name in DEFINITIONS if "box" in name)
    assert len(score(places, data, 0.05, box)) == 2 * len(data) - 1
    assert len(score(places, data, 0.05)) == 2 * len(data)


def test_a_mirrored_pair_is_known_by_its_points(compared):
    data, _ = made_up(compared)
    turn = torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    flip = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
    shape = torch.rand(len(data), 8, 2, generator=torch.Generator().manual_seed(0))
    for matrix, answer in ((turn, False), (turn @ flip, True)):
        moved = replace(data, points={"sketch": shape, "photo": 0.5 * shape @ matrix})
        assert (mirrored(replace(moved, visible=torch.ones_like(data.visible))) == answer).all()


def test_the_self_supervised_split_trains_without_keypoints(tiny_backbone, world):
    annotated = psc6k.load(world, "self-supervised")
    task = Warps(annotated, 2, 2e-3, 4)
    trials, frozen = compare(tiny_backbone, task, ["fused", "B-SD", SAME_PIXEL])
    assert isinstance(frozen["train"], WarpedPairs) and isinstance(frozen["validation"], WarpedPairs)
    trained = {(r.category, r.instance) for r in frozen["train"].images.photo_records}
    tested = {(r.category, r.instance) for part in trials[0].found for r in frozen[part].images.photo_records}
    assert trained and not trained & tested
    blind = replace(annotated, pairs=tuple(
        replace(p, photo_points=np.full((8, 2), 9.0), sketch_points=np.full((8, 2), 9.0)) for p in annotated.pairs
    ))  # fmt: skip
    again, _ = compare(tiny_backbone, Warps(blind, 2, 2e-3, 4), ["fused"])
    for before, after in zip(trials[0].model.parameters(), again[0].model.parameters(), strict=True):
        assert torch.equal(before, after)
    assert {row.split for row in protocol.rows(RUN, task, trials, frozen, "aa")} == {"self-supervised"}


def test_trained_with_the_real_extractor_the_loss_reaches_the_injection(tiny_backbone, world):
    extractor = FusedExtractor(tiny_backbone, dim=12, grid=9, width=8)
    pairs = psc6k.load(world).select("train", True)[:2]
    data = prepare_points(extractor, pairs, arms.reading_size(tiny_backbone))
    model = SketchMatcher(extractor)
    pairs_loss(model, data, torch.arange(len(data))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in extractor.injection.parameters() if p.ndim > 1)
    assert model.log_temperature.grad.abs() > 0 and model.log_contrast_temperature.grad.abs() > 0
