"""Recognition: the model, its training, what is refused, and the temperature that mends its probabilities."""

import numpy as np
import pytest
import torch
from torch import nn

from sfhelpers.datasets.sketches import load_sketches
from sfhelpers.tasks import recognition
from sfhelpers.tasks import recognition_probes as probes
from sfhelpers.tasks.recognition import SketchRecogniser
from sfhelpers.toyworld import quick
from tests.backbone_fixtures import one_sentence, small

FEW = ("airplane", "cup", "key")


@pytest.fixture(scope="module")
def sketches(tmp_path_factory):
    """20 quick drawings of three categories: 8 to train, 2 to validate and 10 to test each."""
    root = tmp_path_factory.mktemp("quick")
    quick.write_quick(root, 20, difficulty=0.1, categories=FEW)
    return load_sketches("quickdraw", root, "10/10")


@pytest.fixture(scope="module")
def prepared(tiny_backbone, sketches):
    """The three parts, prepared for `small(tiny_backbone)`."""
    extractor = small(tiny_backbone)
    return {
        part: recognition.prepare_sketches(extractor, sketches.select(part), FEW, 64)
        for part in ("train", "val", "test")
    }


def train(tiny_backbone, prepared, epochs=8, seed=0, **more):
    model = SketchRecogniser(small(tiny_backbone, seed=seed), FEW, dim=12)
    history = recognition.train_recogniser(
        model, prepared["train"], prepared["val"], epochs, 1e-2, 8, seed, progress="test", **more
    )
    return model, history


def test_training_learns_to_tell_categories_apart_and_moves_the_injection(tiny_backbone, prepared):
    model, history = train(tiny_backbone, prepared)
    losses = [entry["loss"] for entry in history.epochs[1:]]
    assert losses[0] > 0.9 and losses[-1] < 0.5 * losses[0], losses
    logits = recognition.predict_sketches(model, prepared["train"])
    assert (logits.argmax(1) == prepared["train"].labels).float().mean() > 0.8
    assert any(conv.weight.abs().max() > 0 for conv in model.extractor.injection.convs)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(tiny_backbone, prepared):
    first, again, other = (
        recognition.predict_sketches(train(tiny_backbone, prepared, 1, seed)[0], prepared["test"]) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.allclose(first, other)


def test_images_and_what_was_prepared_of_them_give_the_same_probabilities(tiny_backbone, sketches, prepared):
    model, _ = train(tiny_backbone, prepared, 1)
    images = sketches.select("test").images(range(4), 64)
    found = recognition.predict(model, images)
    assert found.shape == (4, 3) and torch.allclose(found.sum(1), torch.ones(4))
    ready = {name: tensor[:4] for name, tensor in prepared["test"].prepared.items()}
    assert torch.allclose(found, recognition.predict(model, ready), atol=1e-5)
    settings = model.settings
    assert SketchRecogniser(small(tiny_backbone), **settings).categories == list(FEW)


def test_a_checkpoint_of_a_model_with_other_settings_is_refused(tiny_backbone, prepared, tmp_path):
    """The order of the categories is that of the logits, and no size tells one order from another."""

    def run(categories):
        model = SketchRecogniser(small(tiny_backbone), categories, dim=12)
        return recognition.train_recogniser(
            model, prepared["train"], prepared["val"], 1, 1e-2, 8, 0, checkpoint=tmp_path
        )

    assert run(FEW) == run(FEW)
    with pytest.raises(ValueError, match=r"is of another training .*model categories was ") as error:
        run(FEW[::-1])
    one_sentence(error)


def test_no_epochs_evaluate_the_untrained_model_which_prefers_nothing(tiny_backbone, prepared):
    model, history = train(tiny_backbone, prepared, epochs=0)
    assert history.best_epoch == 0
    assert recognition.predict_sketches(model, prepared["test"]).abs().max() == 0


def test_the_pooled_features_of_training_sketches_are_standardised(tiny_backbone, prepared):
    model = SketchRecogniser(small(tiny_backbone), FEW, dim=12)
    model.fit_statistics(prepared["train"].prepared)
    with torch.no_grad():
        pooled = model.pooled(prepared["train"].prepared)
    assert pooled.mean(0).abs().max() < 1e-4 and (pooled.std(0, correction=0) - 1).abs().max() < 1e-3


def test_labels_follow_the_sketches(prepared):
    data = prepared["test"]
    assert [data.categories[k] for k in data.labels] == [item.category for item in data.sketches.items]
    some = data.at(data.few(2))
    assert len(some) == 6 and sorted(some.labels.tolist()) == [0, 0, 1, 1, 2, 2]
    name = next(iter(data.prepared))
    assert torch.equal(some.prepared[name], data.prepared[name][data.few(2)])


@pytest.mark.parametrize("categories", [[], ["cat"], ["cat", "cat"]])
def test_one_category_none_or_one_twice_is_nothing_to_tell_apart(tiny_backbone, categories):
    with pytest.raises(ValueError) as error:
        SketchRecogniser(small(tiny_backbone), categories, dim=12)
    one_sentence(error)


def test_more_shots_than_there_are_and_strange_categories_are_refused(tiny_backbone, sketches):
    train = sketches.select("train")
    assert len(recognition.choose_shots(train, 8, FEW)) == 24
    for shots, categories in ((9, FEW), (1, (*FEW, "cow")), (0, (*FEW, "cow"))):
        with pytest.raises(ValueError) as error:
            recognition.choose_shots(train, shots, categories)
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


def test_probes_and_trivial_methods_do_what_they_are_called():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = np.eye(3)[labels] * 4 + rng.normal(0, 1, (60, 3))
    logits = probes.probe(features[:30], labels[:30], features[30:45], labels[30:45])(features[45:])
    assert logits.shape == (15, 3) and (logits.argmax(1).numpy() == labels[45:]).mean() > 0.9
    assert torch.allclose(logits.exp().sum(1), torch.ones(15), atol=1e-5)
    prior = probes.prior_logits(torch.tensor([0, 2, 2, 1, 1]), 4, 6)
    assert prior.shape == (6, 4) and (prior.argmax(1) == 1).all() and prior[0, 3] < prior[0, 0]
    guesses = probes.chance_logits(4, 4000, seed=0).argmax(1)
    assert (torch.bincount(guesses, minlength=4) / 4000 - 0.25).abs().max() < 0.03


def test_the_probes_features_are_those_of_the_untouched_backbones(tiny_backbone, sketches):
    """From an arm with injection, however it is trained, as from one without."""
    few = sketches.few(2)
    found = []
    for settings in ({"inject": "none", "branches": ("f1+f2+f3+tokens",)}, {"inject": "up"}):
        extractor = small(tiny_backbone, **settings)
        assert probes.has_all(extractor)
        if settings["inject"] == "up":
            for conv in extractor.injection.convs:
                nn.init.normal_(conv.weight)
        found.append(probes.frozen_features(extractor, recognition.prepare_sketches(extractor, few, FEW, 64)))
    for name in ("f1", "f2", "f3", "tokens"):
        assert found[0][name].shape == (6, found[1][name].shape[1])
        np.testing.assert_allclose(found[0][name], found[1][name], atol=2e-4)
    assert not probes.has_all(small(tiny_backbone, inject="late"))
