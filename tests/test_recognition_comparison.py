"""The recognition table: every method on the same drawings, no drawing in two parts, and the rows and figures of it."""

import hashlib
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sfhelpers import metrics, results
from sfhelpers.datasets.sketches import load_sketches
from sfhelpers.plots import classes
from sfhelpers.tasks import arms
from sfhelpers.tasks import recognition_comparison as comparison
from sfhelpers.tasks import recognition_report as report
from sfhelpers.toyworld import quick
from tests.backbone_fixtures import one_sentence

FEW = ("airplane", "cup", "key")
METHODS = ("fused", "CLIP only", "B-CLIP", "B-SD", "class prior", "chance")
RUN = SimpleNamespace(
    notebook="06_recognition", backbone="tiny", dataset="toy", split="default", seed=0, device="cpu", epochs=1
)


@pytest.fixture(scope="module")
def sketches(tmp_path_factory):
    root = tmp_path_factory.mktemp("quick")
    quick.write_quick(root, 12, difficulty=0.2, categories=FEW)
    return load_sketches("quickdraw", root, "8/4")


@pytest.fixture(scope="module")
def compared(tiny_backbone, sketches):
    """Two seeds, 4 shots and 2 for the curve."""
    return comparison.compare(
        tiny_backbone, sketches, METHODS, (0, 1), 1, 1e-2, 8, shots=4, limit=3, fewer=(2,), log=lambda text: None
    )


def test_every_method_answers_the_same_drawings(compared):
    trials, parts = compared
    assert [(t.method, t.seed) for t in trials] == [
        ("fused", 0), ("fused", 1), ("CLIP only", 0), ("CLIP only", 1), ("B-CLIP", 0), ("B-SD", 0),
        ("class prior", 0), ("class prior", 1), ("chance", 0), ("chance", 1),
    ]  # fmt: skip
    assert len(parts.train) == 12 and len(parts.test) == 9 and len(parts.validation) == 6
    for trial in trials:
        assert trial.logits.shape == (9, 3) and trial.shots == 4
        assert torch.allclose(trial.probabilities().sum(1), torch.ones(9, dtype=torch.float64))
        assert (trial.probabilities(True).argmax(1) == trial.logits.argmax(1)).all()
    matched = {t.method: t.parameters for t in trials if t.history}
    assert abs(matched["fused"] - matched["CLIP only"]) < 0.1 * matched["fused"]


def test_every_head_starts_at_random_those_with_fewer_drawings_too(compared):
    fused = [trial for trial in compared[0] if trial.method == "fused"]
    assert len(fused) == 2 and len(fused[0].fewer) == 1
    assert {trial.model.extractor.start for trial in (*fused, *fused[0].fewer)} == {"random"}


def test_the_curve_is_of_fewer_drawings_with_every_seed(compared):
    trials, _ = compared
    assert {(t.method, t.seed) for t in trials if t.fewer} == {
        ("fused", 0), ("fused", 1), ("CLIP only", 0), ("CLIP only", 1), ("B-CLIP", 0), ("B-SD", 0),
    }  # fmt: skip
    assert all(one.shots == 2 and one.logits.shape == (9, 3) for t in trials for one in t.fewer)
    fused = next(t for t in trials if t.fewer)
    assert len(fused.fewer[0].history.epochs) == 1 + 2  # half the drawings, twice the epochs


def test_a_training_that_is_found_done_keeps_the_seconds_it_took(tiny_backbone, sketches, tmp_path):
    def train():
        return comparison.compare(
            tiny_backbone, sketches, ("CLIP only",), (0,), 2, 1e-2, 8, shots=4, limit=3, checkpoints=tmp_path,
            configuration={}, log=lambda text: None,
        )[0][0]  # fmt: skip

    before, again = train(), train()
    assert before.history.seconds > 0 and again.history.seconds == before.history.seconds <= again.seconds
    torch.testing.assert_close(again.logits, before.logits, atol=0, rtol=0)


def test_no_test_drawing_is_seen_in_training(tiny_backbone, sketches):
    """By the bytes of the lines, the pixels, and the tensors that training reads."""
    for shots, limit in ((4, 0), (0, 0), (1, 2)):
        chosen = comparison.parts_of(sketches, shots, limit)
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
    comparison.parts_of(apart, 2, 0)
    learned, tested = (apart.select(part=part, categories=["cup"]).items[0] for part in ("train", "test"))
    shutil.copy(learned.path, tested.path)
    with pytest.raises(ValueError, match="trained on and is the same file") as error:
        comparison.parts_of(load_sketches("folder", tmp_path), 0, 0)
    one_sentence(error)


def test_the_probes_are_the_same_whichever_arm_came_first(tiny_backbone, sketches, compared):
    alone, _ = comparison.compare(
        tiny_backbone, sketches, ("CLIP only", "B-SD"), (5,), 0, 1e-2, 8, shots=4, limit=3, log=lambda text: None
    )
    first = next(t for t in compared[0] if t.method == "B-SD")
    torch.testing.assert_close(alone[-1].logits, first.logits, atol=1e-2, rtol=0)


@pytest.mark.parametrize("method", [arms.RANDOM_UNET, arms.FINETUNING, "fused (fixed random injection)"])
def test_the_probes_are_of_the_backbone_that_was_given_whatever_arms_there_are(
    tiny_backbone, sketches, compared, method
):
    alone, _ = comparison.compare(
        tiny_backbone, sketches, (method, "B-SD"), (0,), 0, 1e-2, 8, shots=4, limit=3, log=lambda text: None
    )
    expected = next(t for t in compared[0] if t.method == "B-SD")
    torch.testing.assert_close(alone[-1].logits, expected.logits, atol=1e-2, rtol=0)


def test_misuse_is_refused_in_one_sentence(tiny_backbone, sketches):
    def attempt(data=sketches, methods=("fused",), **settings):
        with pytest.raises(ValueError) as error:
            comparison.compare(tiny_backbone, data, methods, (0,), 1, 1e-2, 8, **settings)
        return one_sentence(error)

    assert "unknown method" in attempt(methods=("fused", "magic"))
    assert "no arm" in attempt(methods=("B-SD", "chance"))
    assert "have fewer" in attempt(shots=7)
    assert "shots is -1" in attempt(shots=-1) and "limit is -1" in attempt(shots=1, limit=-1)
    assert "1 category" in attempt(sketches.select(categories=["cup"]), shots=1)
    some = [item for item in sketches.items if not (item.category == "cup" and item.part == "test")]
    assert "no test sketch of 'cup'" in attempt(type(sketches)("x", sketches.root, "", tuple(some)), shots=1)
    some = [item for item in sketches.items if item.part != "val"]
    assert "no validation sketch" in attempt(type(sketches)("x", sketches.root, "", tuple(some)), shots=1)


def test_rows_carry_their_definition_and_the_values_that_metrics_give(compared):
    trials, parts = compared
    rows = report.rows(RUN, trials, parts, "abc")
    table = results.table(rows, comparison.GALLERY, "Acc@1", report.rule(4))
    assert set(table) == set(METHODS) and table["fused"][1] is not None and table["B-CLIP"][1] is None
    own = [metrics.top_k_accuracy(t.logits, parts.test.labels).mean() for t in trials if t.method == "fused"]
    assert table["fused"][0] == pytest.approx(np.mean(own))
    assert {row.metric for row in rows} == set(report.DEFINITIONS) and all(row.n == 9 for row in rows)
    lines = report.shots_curve(rows, (2, 4), ("fused", "B-SD", "SD only"))
    assert set(lines) == {"fused", "B-SD"} and all(len(means) == 2 for means, _ in lines.values())
    tested = report.difference_rows(RUN, trials, parts, "abc")
    assert {row.method for row in tested} == set(METHODS) - {"fused"} and len(tested) == 3 * 5


def _trial(logits, temperature=1.0):
    return comparison.Trial("fused", 0, None, None, 0, 0.0, 4, logits, temperature)


def test_confused_pairs_count_both_directions(compared):
    data = compared[1].test
    logits = torch.nn.functional.one_hot(data.labels, 3).float()
    assert report.confused(_trial(logits), data) == []
    wrong = logits.clone()
    cups = (data.labels == 1).nonzero()[:2, 0]
    keys = (data.labels == 2).nonzero()[:1, 0]
    wrong[cups] = torch.tensor([0.0, 0.0, 1.0])
    wrong[keys] = torch.tensor([0.0, 1.0, 0.0])
    assert report.confused(_trial(wrong), data) == [("cup", "key", 3, 6)]
    scores = report.scores(_trial(20 * wrong), compared[1])
    assert scores["Acc@1"] == pytest.approx(6 / 9) and scores["calibration error"] == pytest.approx(3 / 9, abs=1e-3)


def test_every_figure_can_be_drawn(compared):
    trials, parts = compared
    fused = trials[0]
    figures = [
        report.confusion_figure(fused, parts.test, "title"),
        report.reliability_figure(fused, parts.test),
        report.worst(fused, parts.test, 4),
        report.neighbours(fused, parts.test, range(8)),
    ]
    figures += [report.examples(fused, parts.test, right=right, number=3) for right in (True, False)]
    assert all(figure.png()[:4] == b"\x89PNG" for figure in figures)
    assert [len(row) for row in report.pictures(parts.test.sketches, FEW, 2)] == [2, 2, 2]
    one = replace(parts.test.sketches, items=parts.test.sketches.items[:1])
    assert [row.count(None) for row in report.pictures(one, FEW, 2)] == [0, 1, 1]
    with pytest.raises(ValueError, match="give more sketches") as error:
        report.pictures(replace(one, items=()), FEW, 2)
    one_sentence(error)


def test_figures_refuse_what_does_not_fit():
    for call in (
        lambda: classes.confusion(np.zeros((60, 60)), ["x"] * 60),
        lambda: classes.confusion(np.zeros((2, 2)), ["x"]),
        lambda: classes.scattered(np.zeros((2, 2)), []),
        lambda: classes.captioned([], []),
    ):
        with pytest.raises(ValueError) as error:
            call()
        one_sentence(error)
