"""Recognition: the head and its training, the baselines, no drawing in two parts, what is refused, and the rows."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sfhelpers import metrics, results, toyworld
from sfhelpers.datasets.sketches import Sketches, few_shot_parts, load_sketches
from sfhelpers.tasks import arms, compare, recognition
from sfhelpers.tasks.compare import Trial
from sfhelpers.tasks.recognition import Recognition, SketchRecogniser
from sfhelpers.toyworld import quick
from tests.backbone_fixtures import RUN, refused, small
from tests.cells import handbuilt, solutions

FEW = ("airplane", "cup", "key")
METHODS = ("fused", "CLIP only", "B-CLIP", "B-SD", "class prior", "chance")


@pytest.fixture(scope="module")
def sketches(tmp_path_factory):
    """20 quick drawings of three categories: 8 to train, 2 to validate and 10 to test each."""
    root = tmp_path_factory.mktemp("quick")
    quick.write_quick(root, 20, difficulty=0.1, categories=FEW)
    return load_sketches("quickdraw", root, "10/10")


@pytest.fixture(scope="module")
def task(sketches):
    return Recognition(sketches, 1, 1e-2, 8, shots=4, limit=3)


@pytest.fixture(scope="module")
def compared(tiny_backbone, task):
    """Two seeds, 4 shots."""
    return compare.compare(tiny_backbone, task, METHODS, (0, 1))


def test_training_learns_to_tell_categories_apart_and_moves_the_injection(tiny_backbone, sketches):
    task = Recognition(sketches, 8, 1e-2, 8, shots=0)
    (trial,), frozen = compare.compare(tiny_backbone, task, ("fused",))
    losses = [entry["loss"] for entry in trial.history.epochs[1:]]
    assert losses[0] > 0.9 and losses[-1] < 0.5 * losses[0], losses
    named = task.predict(trial.model, frozen | {"test": frozen["train"]}).logits.argmax(1)
    assert (named == frozen["train"]["labels"]).float().mean() > 0.8
    fresh = arms.arm_of("fused", tiny_backbone, 0).extractor("random").injection
    assert not any(map(torch.equal, trial.model.extractor.injection.parameters(), fresh.parameters()))


def test_untrained_it_prefers_nothing_and_standardises_images_and_what_was_prepared_alike(tiny_backbone, sketches):
    extractor, test = small(tiny_backbone), sketches.select("test")
    model = SketchRecogniser(extractor, FEW, dim=12).eval()
    prepared = recognition.prepare_sketches(extractor, test, FEW, 64)
    model.fit_statistics(prepared)
    with torch.no_grad():
        assert model(prepared).abs().max() == 0
        pooled = model.pooled(prepared)
        assert pooled.mean(0).abs().max() < 1e-4 and (pooled.std(0, correction=0) - 1).abs().max() < 1e-3
        nn.init.normal_(model.head.weight)
        found, ready = model(test.images(range(4), 64)), model({name: part[:4] for name, part in prepared.items()})
    assert found.shape == (4, 3) and torch.allclose(found, ready, atol=1e-4)


def test_the_temperature_undoes_a_scale():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    for scale in (0.3, 1.0, 4.0):
        assert recognition.choose_temperature(logits * scale, labels) == pytest.approx(scale, rel=0.12)


def test_every_method_answers_the_same_drawings(task, compared):
    trials, frozen = compared
    both = [("fused", 0), ("fused", 1), ("CLIP only", 0), ("CLIP only", 1), ("B-CLIP", 0), ("B-SD", 0)]
    once = [("class prior", 0), ("class prior", 1), ("chance", 0), ("chance", 1)]
    assert [(t.method, t.seed) for t in trials] == both + once
    assert [len(frozen[part]["labels"]) for part in ("train", "validation", "test")] == [12, 6, 9]
    for part, data in frozen.items():
        assert [FEW[k] for k in data["labels"]] == [item.category for item in task.parts[part].records]
    for found in (trial.found for trial in trials):
        assert found.logits.shape == (9, 3)
        assert torch.allclose(found.probabilities().sum(1), torch.ones(9, dtype=torch.float64))
        assert (found.probabilities(True).argmax(1) == found.logits.argmax(1)).all()
    matched = {t.method: t.parameters for t in trials if t.history}
    assert abs(matched["fused"] - matched["CLIP only"]) < 0.1 * matched["fused"]
    assert {t.model.extractor.start for t in trials if t.history} == {"random"}
    prior = next(t.found.logits for t in trials if t.method == "class prior")
    assert (prior.argmax(1) == 0).all(), "of equally many the first is ahead"
    (chance,) = task.untrained("chance", (0,), frozen | {"test": {"labels": range(4000)}}, None)
    assert (torch.bincount(chance.found.logits.argmax(1), minlength=3) / 4000 - 1 / 3).abs().max() < 0.03


@pytest.mark.parametrize("method", [arms.RANDOM_UNET, arms.FINETUNING, "fused (fixed random injection)"])
def test_the_probes_are_of_the_backbone_that_was_given_whatever_arm_is_there(tiny_backbone, sketches, compared, method):
    zero = Recognition(sketches, 0, 1e-2, 8, shots=4, limit=3)
    alone, _ = compare.compare(tiny_backbone, zero, (method, "B-SD"), (0,))
    expected = next(t for t in compared[0] if t.method == "B-SD")
    torch.testing.assert_close(alone[-1].found.logits, expected.found.logits, atol=1e-2, rtol=0)


def test_no_test_drawing_is_seen_in_training(sketches):
    """By the bytes of the lines and by the pixels."""
    for shots, limit in ((4, 0), (0, 0), (1, 2)):
        chosen = few_shot_parts(sketches, shots, limit)
        seen = {name: set() for name in chosen}
        for name, part in chosen.items():
            for item, image in zip(part.records, part.images(range(len(part)), 48), strict=True):
                line = item.path.read_bytes()[item.offset : item.offset + item.length]
                seen[name] |= {hashlib.sha256(line).digest(), hashlib.sha256(image.numpy().tobytes()).digest()}
        assert len(set.union(*seen.values())) == sum(map(len, seen.values())) == 2 * sum(map(len, chosen.values()))


def test_misuse_is_refused_in_one_sentence(tiny_backbone, sketches):
    def without(part, *categories):
        kept = [item for item in sketches.records if item.part != part or item.category not in categories]
        return Sketches("x", sketches.root, "", tuple(kept))

    extractor = small(tiny_backbone)
    for categories in ([], ["cat"], ["cat", "cat"]):
        with refused():
            SketchRecogniser(extractor, categories, dim=12)
    for some, said in ((sketches, "'key'"), (sketches.select("none"), "no sketch")):
        with refused(said):
            recognition.prepare_sketches(extractor, some, FEW[:2], 64)
    for said, data, settings in (
        ("have fewer", sketches, {"shots": 9}),
        ("shots is -1", sketches, {"shots": -1}),
        ("limit is -1", sketches, {"limit": -1}),
        ("shots", without("train", FEW[0]), {}),
        ("shots", without("train", FEW[0]), {"shots": 0}),
        ("1 category", sketches.select(categories=["cup"]), {}),
        ("no test sketch of 'cup'", without("test", "cup"), {}),
        ("no validation sketch", without("val", *FEW), {}),
    ):
        with refused(said):
            Recognition(data, 1, 1e-2, 8, **{"shots": 1} | settings)


def test_rows_carry_their_definition_and_the_values_that_metrics_give(task, compared):
    trials, frozen = compared
    rows = compare.rows(RUN, task, trials, frozen, "abc")
    table = results.table(rows, recognition.GALLERY, "Acc@1", recognition.rule(4))
    assert set(table) == set(METHODS) and table["fused"][1] is not None and table["B-CLIP"][1] is None
    fused = [trial for trial in trials if trial.method == "fused"]
    own = [metrics.top_k_accuracy(trial.found.logits, frozen["test"]["labels"]).mean() for trial in fused]
    assert table["fused"][0] == pytest.approx(np.mean(own))
    assert {row.metric for row in rows} == set(recognition.DEFINITIONS) and all(row.n == 9 for row in rows)
    tested = compare.differences(RUN, task, trials, frozen, "abc")
    assert {row.method for row in tested} == set(METHODS) - {"fused"} and len(tested) == 4 * 5 * 2
    assert {row.definition.split(":")[0].split("over ")[1] for row in tested} == {"test sketches", "categories"}
    labels = frozen["test"]["labels"]
    answers = nn.functional.one_hot(labels, 3).float()
    answers[(labels == 1).nonzero()[:3, 0]] = torch.tensor([0.0, 0.0, 1.0])
    found = task.measure(Trial("fused", 0, found=recognition.Scores(20 * answers)), frozen)
    values = {one.metric: one.values.mean() for one in found}
    assert values["Acc@1"] == pytest.approx(6 / 9) and values["calibration error"] == pytest.approx(3 / 9, abs=1e-3)


@pytest.mark.parametrize("ties", [False, True])
def test_scores_by_hand_are_the_metrics_ties_included(ties):
    hand, dice = handbuilt("06_recognition", torch=torch, nn=nn), torch.Generator().manual_seed(3)
    logits, labels = torch.randn(200, 7, generator=dice), torch.randint(7, (200,), generator=dice)
    logits = logits.round() if ties else logits
    for k in (1, 2, 5):
        np.testing.assert_array_equal(hand.accuracy_at(k, logits, labels), metrics.top_k_accuracy(logits, labels, k))
    sharp = (3 * logits + torch.rand(200, 7, generator=dice)).double().softmax(1)  # the most probable is never tied
    assert hand.calibration_error(sharp, labels) == pytest.approx(metrics.calibration_error(sharp, labels), abs=1e-6)


def test_the_exercises_solutions_run_one_after_the_other_and_their_asserts_hold(tiny_backbone, tmp_path):
    few = tuple(sorted(("cup", "key", toyworld.UNSEEN[0])))
    quick.write_quick(tmp_path, 6, difficulty=0.1, categories=few)
    drawn = load_sketches("quickdraw", tmp_path, "3/3")
    model, test = SketchRecogniser(small(tiny_backbone), few, dim=12).eval(), drawn.select("test")
    scores = torch.randn(len(test), 3, generator=torch.Generator().manual_seed(0))
    names = {"np": np, "torch": torch, "metrics": metrics, "data": drawn, "test": test, "run": RUN}
    names |= {"fused": SimpleNamespace(logits=scores), "first": {"fused": SimpleNamespace(model=model)}}
    names |= {"true": recognition.prepare_sketches(model.extractor, test, few, 64)["labels"]}
    for source in solutions("06_recognition").values():
        assert "assert " in source
        exec(source, names)
