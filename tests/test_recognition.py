"""Recognition: the head and its training, the baselines, no drawing in two parts, what is refused, and the rows."""

import hashlib
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sfhelpers import metrics, results
from sfhelpers.datasets.sketches import choose_shots, few_shot_parts, load_sketches
from sfhelpers.tasks import arms, compare, recognition
from sfhelpers.tasks.compare import Task, Trial
from sfhelpers.tasks.fit import fit
from sfhelpers.tasks.recognition import Recognition, SketchRecogniser
from sfhelpers.toyworld import quick
from tests.backbone_fixtures import one_sentence, small

FEW = ("airplane", "cup", "key")
METHODS = ("fused", "CLIP only", "B-CLIP", "B-SD", "class prior", "chance")
RUN = SimpleNamespace(notebook="06_recognition", backbone="tiny", seed=0, device="cpu", epochs=1)


@pytest.fixture(scope="module")
def sketches(tmp_path_factory):
    """20 quick drawings of three categories: 8 to train, 2 to validate and 10 to test each."""
    root = tmp_path_factory.mktemp("quick")
    quick.write_quick(root, 20, difficulty=0.1, categories=FEW)
    return load_sketches("quickdraw", root, "10/10")


@pytest.fixture(scope="module")
def prepared(tiny_backbone, sketches):
    """The three parts, prepared for `small(tiny_backbone)`."""
    extractor, parts = small(tiny_backbone), {"train": "train", "validation": "val", "test": "test"}
    return {
        name: recognition.prepare_sketches(extractor, sketches.select(part), FEW, 64) for name, part in parts.items()
    }


class Small(Recognition):
    """The task over drawings that are prepared already, for heads of 12 channels."""

    def __init__(self):
        Task.__init__(self, {}, "quick", "10/10", "", 8, 1e-2, 8)

    def model(self, extractor, frozen):
        model = SketchRecogniser(extractor, FEW, dim=12)
        model.fit_statistics(frozen["train"].prepared)
        return model


def train(backbone, frozen, epochs=8, seed=0):
    task = Small()
    model = task.model(small(backbone, seed=seed), frozen)
    return model, fit(
        model, lambda m, i: task.loss(m, frozen, i), task.examples(frozen), lambda m: task.validate(m, frozen),
        epochs, 1e-2, 8, seed,
    )  # fmt: skip


def logits(model, frozen):
    return Small().predict(model, frozen).logits


def test_training_learns_to_tell_categories_apart_and_moves_the_injection(tiny_backbone, prepared):
    model, history = train(tiny_backbone, prepared)
    losses = [entry["loss"] for entry in history.epochs[1:]]
    assert losses[0] > 0.9 and losses[-1] < 0.5 * losses[0], losses
    named = logits(model, {**prepared, "test": prepared["train"]}).argmax(1)
    assert (named == prepared["train"].labels).float().mean() > 0.8
    assert any(conv.weight.abs().max() > 0 for conv in model.extractor.injection.convs)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(tiny_backbone, prepared):
    first, again, other = (logits(train(tiny_backbone, prepared, 1, seed)[0], prepared) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.allclose(first, other)


def test_images_and_what_was_prepared_of_them_give_the_same_logits(tiny_backbone, sketches, prepared):
    model, _ = train(tiny_backbone, prepared, 1)
    images = sketches.select("test").images(range(4), 64)
    ready = {name: tensor[:4] for name, tensor in prepared["test"].prepared.items()}
    found = model(images)
    assert found.shape == (4, 3) and torch.allclose(found, model(ready), atol=1e-4)
    assert SketchRecogniser(small(tiny_backbone), **model.settings).categories == list(FEW)


def test_no_epochs_evaluate_the_untrained_model_which_prefers_nothing(tiny_backbone, prepared):
    model, history = train(tiny_backbone, prepared, epochs=0)
    assert history.best_epoch == 0 and logits(model, prepared).abs().max() == 0


def test_the_pooled_features_of_training_sketches_are_standardised(tiny_backbone, prepared):
    model = SketchRecogniser(small(tiny_backbone), FEW, dim=12)
    model.fit_statistics(prepared["train"].prepared)
    with torch.no_grad():
        pooled = model.pooled(prepared["train"].prepared)
    assert pooled.mean(0).abs().max() < 1e-4 and (pooled.std(0, correction=0) - 1).abs().max() < 1e-3


def test_labels_follow_the_sketches_and_fewer_are_among_more(prepared):
    data = prepared["test"]
    assert [data.categories[k] for k in data.labels] == [item.category for item in data.sketches.items]
    some = data.few(2)
    assert len(some) == 6 and sorted(some.labels.tolist()) == [0, 0, 1, 1, 2, 2]
    name, places = next(iter(data.prepared)), [data.sketches.items.index(item) for item in some.sketches.items]
    assert torch.equal(some.prepared[name], data.prepared[name][places])


@pytest.mark.parametrize("categories", [[], ["cat"], ["cat", "cat"]])
def test_one_category_none_or_one_twice_is_nothing_to_tell_apart(tiny_backbone, categories):
    with pytest.raises(ValueError) as error:
        SketchRecogniser(small(tiny_backbone), categories, dim=12)
    one_sentence(error)


def test_more_shots_than_there_are_and_strange_categories_are_refused(tiny_backbone, sketches):
    train = sketches.select("train")
    assert len(choose_shots(train, 8, FEW)) == 24
    for shots, categories in ((9, FEW), (1, (*FEW, "cow")), (0, (*FEW, "cow"))):
        with pytest.raises(ValueError) as error:
            choose_shots(train, shots, categories)
        assert "shots" in one_sentence(error)
    with pytest.raises(ValueError) as error:
        recognition.prepare_sketches(small(tiny_backbone), train, FEW[:2], 64)
    assert "'key'" in one_sentence(error)
    with pytest.raises(ValueError) as error:
        recognition.prepare_sketches(small(tiny_backbone), sketches.select("none"), FEW, 64)
    one_sentence(error)


def test_the_temperature_undoes_a_scale_and_changes_no_answer():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    for scale in (0.3, 1.0, 4.0):
        assert recognition.choose_temperature(logits * scale, labels) == pytest.approx(scale, rel=0.12)


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    root = tmp_path_factory.mktemp("quick")
    quick.write_quick(root, 12, difficulty=0.2, categories=FEW)
    return load_sketches("quickdraw", root, "8/4")


@pytest.fixture(scope="module")
def task(hasty):
    return Recognition(hasty, 1, 1e-2, 8, shots=4, limit=3, fewer=(2,))


@pytest.fixture(scope="module")
def compared(tiny_backbone, task):
    """Two seeds, 4 shots and 2 for the curve."""
    return compare.compare(tiny_backbone, task, METHODS, (0, 1), log=lambda text: None)


def test_every_method_answers_the_same_drawings_those_that_learn_features_or_probe_also_after_fewer(compared):
    trials, frozen = compared
    both = [("fused", 0), ("fused", 1), ("CLIP only", 0), ("CLIP only", 1), ("B-CLIP", 0), ("B-SD", 0)]
    once = [("class prior", 0), ("class prior", 1), ("chance", 0), ("chance", 1)]
    asked = [(*trial, problem) for trial in both for problem in ("", "2 shots")] + [(*trial, "") for trial in once]
    assert [(t.method, t.seed, t.problem) for t in trials] == asked
    assert [len(frozen[part]) for part in ("train", "validation", "test")] == [12, 6, 9]
    for found in (trial.found for trial in trials):
        assert found.logits.shape == (9, 3)
        assert torch.allclose(found.probabilities().sum(1), torch.ones(9, dtype=torch.float64))
        assert (found.probabilities(True).argmax(1) == found.logits.argmax(1)).all()
    matched = {t.method: t.parameters for t in trials if t.history}
    assert abs(matched["fused"] - matched["CLIP only"]) < 0.1 * matched["fused"]
    assert {t.model.extractor.start for t in trials if t.history} == {"random"}
    assert {(t.problem, len(t.history.epochs)) for t in trials if t.history} == {("", 2), ("2 shots", 3)}


def test_trivial_methods_do_what_they_are_called(task, compared):
    trials, frozen = compared
    prior, guess = (next(t.found.logits for t in trials if t.method == name) for name in ("class prior", "chance"))
    assert (prior.argmax(1) == 0).all(), "of equally many the first is ahead"
    many = {**frozen, "test": range(4000)}
    (chance,) = task.untrained("chance", (0,), many, None)
    assert (torch.bincount(chance.found.logits.argmax(1), minlength=3) / 4000 - 1 / 3).abs().max() < 0.03
    assert guess.shape == prior.shape == (9, 3)


@pytest.mark.parametrize("method", ["CLIP only", arms.RANDOM_UNET, arms.FINETUNING, "fused (fixed random injection)"])
def test_the_probes_are_of_the_backbone_that_was_given_whatever_arms_there_are(tiny_backbone, hasty, compared, method):
    zero = Recognition(hasty, 0, 1e-2, 8, shots=4, limit=3)
    alone, _ = compare.compare(tiny_backbone, zero, (method, "B-SD"), (5,), log=lambda text: None)
    expected = next(t for t in compared[0] if t.method == "B-SD")
    torch.testing.assert_close(alone[-1].found.logits, expected.found.logits, atol=1e-2, rtol=0)


def test_a_training_that_is_found_done_keeps_the_seconds_it_took(tiny_backbone, task, tmp_path):
    def train():
        kept = {"checkpoints": tmp_path, "log": lambda text: None}
        return compare.compare(tiny_backbone, task, ("CLIP only",), (0,), **kept)[0]

    for before, again in zip(train(), train(), strict=True):
        assert before.history.seconds > 0 and again.history.seconds == before.history.seconds <= again.seconds
        torch.testing.assert_close(again.found.logits, before.found.logits, atol=0, rtol=0)


def test_no_test_drawing_is_seen_in_training(sketches):
    """By the bytes of the lines, the pixels, and the tensors that training reads."""
    for shots, limit in ((4, 0), (0, 0), (1, 2)):
        chosen = few_shot_parts(sketches, shots, limit)
        seen = {name: set() for name in chosen}
        for name, part in chosen.items():
            for item, image in zip(part.items, part.images(range(len(part)), 48), strict=True):
                line = item.path.read_bytes()[item.offset : item.offset + item.length]
                seen[name] |= {hashlib.sha256(line).digest(), hashlib.sha256(image.numpy().tobytes()).digest()}
        assert not (seen["train"] | seen["validation"]) & seen["test"]
        assert not seen["train"] & seen["validation"]
        assert sum(map(len, seen.values())) == 2 * sum(map(len, chosen.values()))


def test_a_test_sketch_that_is_learned_from_under_another_name_is_refused(tmp_path):
    generator = np.random.default_rng(0)
    for number in range(28):
        path = tmp_path / ("sketch" if number < 24 else "photo") / ("cup", "key")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (40, 40), dtype=np.uint8)).save(path)
    apart = load_sketches("folder", tmp_path)
    few_shot_parts(apart, 2, 0)
    learned, tested = (apart.select(part=part, categories=["cup"]).items[0] for part in ("train", "test"))
    shutil.copy(learned.path, tested.path)
    with pytest.raises(ValueError, match="trained on and is the same file") as error:
        few_shot_parts(load_sketches("folder", tmp_path), 0, 0)
    one_sentence(error)


def test_misuse_is_refused_in_one_sentence(tiny_backbone, sketches):
    def attempt(data=sketches, methods=("fused",), **settings):
        with pytest.raises(ValueError) as error:
            compare.compare(tiny_backbone, Recognition(data, 1, 1e-2, 8, **settings), methods, (0,))
        return one_sentence(error)

    assert "unknown method" in attempt(methods=("fused", "magic"), shots=1)
    assert "no arm" in attempt(methods=("B-SD", "chance"), shots=1)
    assert "have fewer" in attempt(shots=9)
    assert "shots is -1" in attempt(shots=-1) and "limit is -1" in attempt(shots=1, limit=-1)
    assert "1 category" in attempt(sketches.select(categories=["cup"]), shots=1)
    some = [item for item in sketches.items if not (item.category == "cup" and item.part == "test")]
    assert "no test sketch of 'cup'" in attempt(type(sketches)("x", sketches.root, "", tuple(some)), shots=1)
    some = [item for item in sketches.items if item.part != "val"]
    assert "no validation sketch" in attempt(type(sketches)("x", sketches.root, "", tuple(some)), shots=1)


def test_rows_carry_their_definition_and_the_values_that_metrics_give(task, compared):
    trials, frozen = compared
    rows = compare.rows(RUN, task, trials, frozen, "abc")
    table = results.table(rows, recognition.GALLERY, "Acc@1", recognition.rule(4))
    assert set(table) == set(METHODS) and table["fused"][1] is not None and table["B-CLIP"][1] is None
    fused = [trial for trial in trials if trial.method == "fused" and not trial.problem]
    own = [metrics.top_k_accuracy(trial.found.logits, frozen["test"].labels).mean() for trial in fused]
    assert table["fused"][0] == pytest.approx(np.mean(own))
    assert {row.metric for row in rows} == set(recognition.DEFINITIONS) and all(row.n == 9 for row in rows)
    fewer = [row for row in rows if row.definition.endswith(recognition.rule(2))]
    assert {row.method for row in fewer} == set(METHODS[:4]) and {row.metric for row in fewer} == {"Acc@1"}
    tested = compare.differences(RUN, task, trials, frozen, "abc")
    assert {row.method for row in tested} == set(METHODS) - {"fused"} and len(tested) == 3 * 5
    assert all("over test sketches" in row.definition for row in tested)


def test_scores_are_those_of_the_answers(task, compared):
    data = compared[1]["test"]
    wrong = torch.nn.functional.one_hot(data.labels, 3).float()
    wrong[(data.labels == 1).nonzero()[:3, 0]] = torch.tensor([0.0, 0.0, 1.0])
    trial = Trial("fused", 0, found=recognition.Scores(20 * wrong))
    found = {one.metric: one.values.mean() for one in task.measure(trial, compared[1])}
    assert found["Acc@1"] == pytest.approx(6 / 9) and found["calibration error"] == pytest.approx(3 / 9, abs=1e-3)
