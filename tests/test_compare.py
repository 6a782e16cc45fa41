"""Arms are trained and tested alike and told as they were measured: of segmentation, and of a task that is new here."""

import itertools
import re
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sfhelpers import metrics, results, toyworld
from sfhelpers.backbones import load_backbone, randomised
from sfhelpers.datasets import first_sketches, psc6k
from sfhelpers.datasets.sketches import load_sketches
from sfhelpers.fusion import FusedExtractor
from sfhelpers.images import load_images
from sfhelpers.kept import FILE
from sfhelpers.tasks import arms, segmentation
from sfhelpers.tasks import compare as protocol
from sfhelpers.tasks.arms import RANDOM_UNET
from sfhelpers.tasks.correspondence import Correspondence
from sfhelpers.tasks.prepared import take
from sfhelpers.tasks.recognition import Recognition
from sfhelpers.tasks.retrieval import Retrieval
from sfhelpers.tasks.segmentation import MEAN_MASK, Segmentation
from sfhelpers.tasks.warps import Warps
from sfhelpers.toyworld import quick
from tests.backbone_fixtures import RUN, files, refused

METHODS = (*arms.METHODS, MEAN_MASK)
CATEGORIES = ("cat", "duck", toyworld.UNSEEN[0])


@pytest.fixture(scope="module")
def small(toy):
    """Two seen categories with photos in every part and an unseen one."""
    return toy.select(categories=CATEGORIES)


def compare(backbone, dataset, methods, seeds=(0,), epochs=1, **options):
    return protocol.compare(backbone, Segmentation(dataset, epochs, 2e-3, 4), methods, seeds, **options)


@pytest.fixture(scope="module")
def compared(tiny_backbone, small):
    """Every method with seed 0: the trials by method, what is frozen, and the lines that were logged."""
    lines = []
    trials, frozen = compare(tiny_backbone, small, METHODS, log=lines.append)
    return {trial.method: trial for trial in trials}, frozen, lines


def assert_same(first, second):
    torch.testing.assert_close(first.found.logits, second.found.logits, atol=1e-5, rtol=0)


def assert_as_if_alone(trial, backbone, dataset, inject="up"):
    """As with frozen tensors that its own extractor computed, for it alone."""
    task, arm = Segmentation(dataset, 1, 2e-3, 4), arms.arm_of(trial.method, backbone, 0, inject)
    extractor, size = arm.extractor(), arms.reading_size(arm.backbone)
    frozen = {name: task.read(extractor, part, size) for name, part in task.parts.items()}
    assert_same(trial, protocol._best(task, arm, "", frozen, (1.0,), None, {}))


def test_every_method_gives_probabilities_for_seen_and_unseen_categories_and_logs_a_line(compared):
    trials, frozen, lines = compared
    assert tuple(trials) == METHODS and segmentation.tested(frozen).keys() == {"seen", "unseen"}
    for method, trial in trials.items():
        assert trial.found.logits.keys() == {"seen", "unseen"} and 0 < trial.found.threshold < 1
        for part in trial.found.logits:
            maps = trial.found.probabilities(part)
            assert maps.shape == (len(frozen[part]), 160, 160)
            assert maps.min() >= 0 and maps.max() <= 1 and maps.std() > 0, method
        curve = trial.history and [entry["epoch"] for entry in trial.history.epochs]
        assert curve == (None if method == MEAN_MASK else [0, 1])
    assert trials[MEAN_MASK].model is None and trials[MEAN_MASK].parameters == 0
    rates = {trials[method].history.epochs[1]["learning_rate"] for method in (arms.FINETUNING, "fused")}
    assert rates == {2e-3 * arms.FINETUNING_RATE, 2e-3}
    assert sorted(line.split(", seed 0")[0] for line in lines) == sorted(arms.METHODS)
    assert all(line.endswith(" of 1, cap") for line in lines)
    counts = [t.parameters for m, t in trials.items() if m not in (arms.FINETUNING, MEAN_MASK)]
    assert max(counts) <= 1.03 * min(counts)


def test_no_test_image_is_seen_in_training(small):
    """By the bytes of the files and by the pixels."""
    found, parts = {}, Segmentation(small, 1, 2e-3, 4).parts
    for name, part in parts.items():
        paths = [record.path for record in part.records]
        found[name] = {path.read_bytes() for path in paths} | {Image.open(path).tobytes() for path in paths}
        assert set(part.categories) <= ({CATEGORIES[2]} if name == "unseen" else {*CATEGORIES[:2]})
    assert all(found.values()) and len(set.union(*found.values())) == sum(map(len, found.values()))


def unmasked(dataset, which):
    return replace(dataset, records=tuple(replace(r, mask=None) if which(r) else r for r in dataset.records))


def test_photos_without_a_mask_are_left_out_with_a_warning_that_counts_them_unless_none_is_left(small):
    bare = {next(p.path for p in small.select(part=part, seen=True).photos) for part in ("train", "test")}
    with pytest.warns(UserWarning, match=r"^2 of \d+ photos have no mask.*cat/"):
        parts = Segmentation(unmasked(small, lambda record: record.path in bare), 1, 2e-3, 4).parts
    whole = Segmentation(small, 1, 2e-3, 4).parts
    for name, part in parts.items():
        assert len(part.photos) == len(whole[name].photos) - (name in ("train", "seen"))
        assert all(photo.mask for photo in part.photos)
    for part in ("train", "val", "test"):
        with refused(f"in its part '{part}' has a mask"):
            Segmentation(unmasked(small, lambda record, part=part: record.part == part), 1, 2e-3, 4)


@pytest.mark.parametrize("method", ["late fusion", "SD only", "CLIP only", arms.ZEROED_UNET])
def test_arms_that_share_frozen_tensors_are_as_if_prepared_alone(compared, tiny_backbone, small, method):
    assert_as_if_alone(compared[0][method], tiny_backbone, small)


@pytest.mark.parametrize("inject", ["none", "late"])
def test_the_random_unet_never_shares_the_trained_ones_features(tiny_backbone, small, inject):
    trials, _ = compare(tiny_backbone, small, ["SD only", RANDOM_UNET], inject=inject)
    assert_as_if_alone(trials[1], randomised(tiny_backbone, seed=0), small, inject)
    assert not torch.allclose(*(trial.found.probabilities("seen") for trial in trials))


def test_the_seed_alone_decides(compared, tiny_backbone, small):
    methods = ("fused", "fused (fixed random injection)", "CLIP only")
    trials, _ = compare(tiny_backbone, small, methods, seeds=(1, 0))
    assert [(t.method, t.seed) for t in trials] == [(method, seed) for method in methods for seed in (1, 0)]
    for other, again in zip(trials[::2], trials[1::2], strict=True):
        before = compared[0][again.method]
        assert torch.equal(before.found.probabilities("seen"), again.found.probabilities("seen"))
        assert before.found.threshold == again.found.threshold
        assert not torch.equal(before.found.probabilities("seen"), other.found.probabilities("seen"))


def test_methods_that_cannot_be_are_refused_before_anything_is_prepared(small):
    none = "name at least one"
    for methods, said in (([MEAN_MASK], none), ([], none), (["fused", "SD"], "unknown method 'SD'")):
        with refused(said):
            compare(None, small, methods)


def test_without_unseen_categories_only_seen_ones_are_tested(tiny_backbone, small):
    trials, frozen = compare(tiny_backbone, small.select(seen=True), ["CLIP only", MEAN_MASK], epochs=0)
    found = [segmentation.tested(frozen), *(trial.found.logits for trial in trials)]
    assert [set(parts) for parts in found] == [{"seen"}] * 3


def test_first_sketches_keeps_so_many_a_photo(small):
    second = [replace(sketch, path=sketch.path.with_stem(f"{sketch.instance}-2")) for sketch in small.sketches]
    more = replace(small, records=(*small.photos, *small.sketches, *second))
    alone = replace(small, records=tuple(replace(sketch, instance=sketch.path.stem) for sketch in more.sketches))
    assert first_sketches(alone, 1) == alone, "where sketches stand alone, all are taken"
    assert first_sketches(more, 2) == more and first_sketches(more, 1).records == (*small.photos, *small.sketches)


def test_rows_hold_every_metric_of_both_galleries_with_its_threshold_rule_and_photos_are_resampled(compared, small):
    (trials, frozen, _), task = compared, Segmentation(small, 1, 2e-3, 4)
    rows = protocol.rows(RUN, task, [trials["fused"], trials[MEAN_MASK]], frozen, "aa")
    assert {(row.dataset, row.split) for row in rows} == {("toy", "default")}, "RUN asks for a folder without masks"
    for method, part in itertools.product(("fused", MEAN_MASK), ("seen", "unseen")):
        some = [row for row in rows if (row.method, row.gallery) == (method, f"{part} categories")]
        chosen = {row.metric: row for row in some if row.definition.endswith(segmentation.CHOSEN)}
        controls = segmentation.CONTROLS if part == "seen" else ("right sketch", segmentation.ANY)
        assert chosen.keys() == {*segmentation.DEFINITIONS, *controls}, "of one category nothing else can be asked"
        (paper,) = [row for row in some if row.definition.endswith("threshold 0.47 (paper), no CRF")]
        assert len(some) == len(chosen) + 1 and paper.metric == "foreground IoU"
        asked = segmentation.questions(frozen[part], task.absent)
        there = replace(frozen[part], pairs=torch.cat([asked["own"], asked["other"]]))
        by_hand = (trials[method].found.probabilities(part, "own", "other") >= 0.47, there.pair_masks)
        assert paper.value == pytest.approx(metrics.foreground_iou(*by_hand).mean())
        for row in some:
            kind, definition = segmentation.CONTROLS.get(row.metric, ("", segmentation.DEFINITIONS.get(row.metric)))
            assert row.definition.startswith(definition) and (row.seed, row.weights_sha256) == (0, "aa")
            assert row.n == len(asked[kind] if kind else there)
    tested = protocol.differences(RUN, task, trials.values(), frozen, "aa")
    assert {row.metric for row in tested} == {"foreground IoU: fused - other"}
    assert {row.method for row in tested} == set(METHODS) - {"fused"}
    units = {(row.gallery, row.definition.split(":")[0]) for row in tested}
    over = "paired bootstrap over"
    assert units == {
        ("seen categories", f"{over} photos"),
        ("seen categories", f"{over} categories"),
        ("unseen categories", f"{over} photos"),
    }, "there is one unseen category"
    asked = frozen["seen"].groups
    assert [len(np.unique(asked[unit])) for unit in asked] == [len(frozen["seen"].photo_records), 2]
    assert {row.ended for row in tested} == {"cap"}
    assert {(r.steps > 0, r.learning_rate, r.ended) for r in rows} == {(True, 2e-3, "cap"), (False, 0.0, "")}
    maps = {"own": trials["fused"].found.logits["seen"]["own"]}
    refined = replace(trials["fused"], found=segmentation.Masks(0.5, {"seen": maps}, segmentation.REFINED))
    rows = protocol.rows(RUN, task, [refined], frozen, "aa")
    assert {row.metric for row in rows} == segmentation.DEFINITIONS.keys()
    assert {row.gallery for row in rows} == {"seen categories"}
    assert all(row.definition.endswith("then dense CRF") for row in rows)


def test_a_new_run_removes_earlier_trainings_alone_once_it_trains(tiny_backbone, small, tmp_path, monkeypatch):
    def run(resume, epochs=1, **changes):
        options = {"checkpoints": tmp_path, "resume": resume, "configuration": changes, "epochs": epochs}
        return compare(tiny_backbone, small, ["CLIP only"], **options)[0][0]

    first, foreign = run(False), ("mine.txt", "clip-only-seed0/notes.md", f"mine/{FILE}")
    for name in (*foreign, f"sd-only-seed1/strict/{FILE}"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    kept = files(tmp_path)
    run(False, epochs=0)
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="an image is broken"):
        patch.setattr(Segmentation, "read", Mock(side_effect=ValueError("an image is broken")))
        run(False)
    assert files(tmp_path) == kept
    with refused("is of another training .*split was not set and is 'other'"):
        run(True, split="other")
    assert_same(first, run(False, split="other"))
    assert files(tmp_path).keys() == {*foreign, f"clip-only-seed0/{FILE}"}


class Brightness(protocol.Task):
    """A task is added in one class: how bright a sketch is, told by the mean of its map; it notes what it read."""

    name, baselines, settings = "brightness", ("mean brightness",), {}

    def __init__(self, toy, epochs, learning_rate=1e-3, batch_size=4):
        parts = {name: toy.sketches[k:24:3] for k, name in enumerate(("train", "validation", "test"))}
        super().__init__(parts, "toy", "default", "", epochs, learning_rate, batch_size)
        self.seen = []  # injections and seeds

    def read(self, extractor, records, size, **noise):
        self.seen.append((extractor.inject, extractor.seed))
        images = load_images([record.path for record in records], size)
        return extractor.prepare(images, **noise) | {"bright": images.mean((1, 2, 3))}

    def model(self, extractor, frozen):
        extractor.fit_statistics(frozen["train"])
        model = nn.Module()
        model.extractor, model.settings = extractor, self.settings
        return model

    def examples(self, frozen):
        return len(frozen["train"]["bright"])

    def error(self, model, data):
        return (model.extractor(data).mean((1, 2, 3)) - data["bright"]).square().mean()

    def loss(self, model, frozen, indices):
        return self.error(model, take(frozen["train"], indices))

    def validate(self, model, frozen):
        return -self.error(model, frozen["validation"]).item()

    @torch.no_grad()
    def predict(self, model, frozen):
        return model.extractor(frozen["test"]).mean((1, 2, 3)).numpy()

    def untrained(self, method, seeds, frozen, extractor):
        yield protocol.Trial(method, seeds[0], found=frozen["train"]["bright"].mean().item())

    def measure(self, trial, frozen):
        closeness = 1 - np.abs(trial.found - frozen["test"]["bright"].numpy())
        for gallery, values in zip(("first", "second"), np.split(closeness, 2), strict=True):
            units = {"photos": np.arange(len(values)) // 2, "categories": np.arange(len(values)) % 2}
            yield protocol.Measured(gallery, "closeness", "1 - |error|", values, units)
            yield protocol.Measured(gallery, "square", "not tested", values**2)


def test_a_task_in_one_class_is_compared_told_and_tested(tiny_backbone, toy):
    task, methods = Brightness(toy, epochs=4, batch_size=2), ["fused", "SD only", "mean brightness"]
    trials, frozen = protocol.compare(tiny_backbone, task, methods, (0, 1))
    assert [trial.method for trial in trials] == ["fused", "fused", "SD only", "SD only", "mean brightness"]
    assert all(trial.history.best_epoch > 0 for trial in trials if trial.history)
    told = protocol.rows(RUN, task, trials, frozen, "aa") + protocol.differences(RUN, task, trials, frozen, "aa")
    assert {(row.task, row.n) for row in told} == {("brightness", 4), ("brightness", 2)}, "sketches, pairs of them"
    for gallery in ("first", "second"):
        table = results.table(told, gallery, "closeness")
        assert {*table} == {*methods}
        for unit in ("photos", "categories"):
            found = results.differences(told, gallery, "closeness", unit)
            assert {*found} == {*methods[1:]}
            for method, (mean, low, high, p) in found.items():
                assert low <= mean <= high and 0 < p <= 1
                assert mean == pytest.approx(table["fused"][0] - table[method][0], abs=1e-6)
        assert set(results.verdicts(told, gallery, "closeness").values()) <= {*results.VERDICTS}
    flat = {"test": {"bright": torch.ones(8)}}  # then queries do not differ, and seeds alone make the interval
    trials = [replace(trial, found=lead) for trial, lead in zip(trials, (0.8, 0.6, 0.5, 0.4, 0.9), strict=True)]
    told = protocol.differences(RUN, task, trials, flat, "aa")
    asked = [("first", "closeness"), ("second", "closeness"), ("third", "closeness"), ("first", "square")]
    found = [results.differences(told, *where) for where in asked]
    assert found[0] == found[1] and found[2:] == [{}, {}] and len(told) == 2 * 2 * 2 * 4
    assert found[0]["SD only"][:3] == pytest.approx((0.25, 0.1, 0.4)), "from .6 - .5 to .8 - .4"
    assert found[0]["mean brightness"][:3] == pytest.approx((-0.2, -0.3, -0.1))
    assert [p for *_, p in found[0].values()] == [pytest.approx(4 / 10_001)] * 2, "twice the least that there is"
    assert set(results.verdicts(told, "first", "closeness").values()) == {"better", "worse"}
    assert all("(fused 2, " in row.definition and "Holm for 2 methods" in row.definition for row in told)
    assert all(("mean brightness 1)" in row.definition) == (row.method == "mean brightness") for row in told)
    assert not protocol.differences(RUN, task, trials[2:], flat, "aa"), "without fused there is nothing to compare"


def test_the_rate_validation_likes_is_all_seeds_and_nothing_is_trained_twice(tiny_backbone, toy, tmp_path, monkeypatch):
    begun, kept_fit = [], protocol.Training.fit

    def fit(training, words, folder, made_by):
        begun.append((made_by["method"], made_by["seed"], training.learning_rate, folder))
        history = kept_fit(training, words, folder, made_by)
        liked = {"fused": 3e-3, "SD only": 1e-3 / 3}[made_by["method"]]
        history.epochs[history.best_epoch]["validation"] = -abs(training.learning_rate - liked)
        return history

    monkeypatch.setattr(protocol.Training, "fit", fit)
    task, lines = Brightness(toy, 2), []
    options = {"rates": 3, "checkpoints": tmp_path, "log": lines.append}
    trials, _ = protocol.compare(tiny_backbone, task, ["fused", "SD only"], (5, 6), **options)
    rates = [pytest.approx(rate) for rate in (1e-3, 1e-3 / 3, 3e-3)]
    assert [rate for method, seed, rate, _ in begun if seed == 5] == rates * 2
    assert {(method, rate) for method, seed, rate, _ in begun if seed == 6} == {("fused", 3e-3), ("SD only", 1e-3 / 3)}
    assert len({folder for *_, folder in begun}) == len(begun) == 8 == len(list(tmp_path.rglob(FILE)))
    assert [trial.history.learning_rate for trial in trials] == [rates[2]] * 2 + [rates[1]] * 2
    assert [list(trial.tried) for trial in trials] == [rates, rates[2:], rates, rates[1:2]]
    assert "at rate 0.003" in lines[0] and all(trial.tried[r] <= 0 for trial in trials for r in trial.tried)
    assert [len({*task.seen}), len(task.seen)] == [4, 4 * 3], "each kind and seed once, and every part of it"
    again, _ = protocol.compare(tiny_backbone, Brightness(toy, 2), ["fused", "SD only"], (5, 6), **options)
    for one, other in zip(trials, again, strict=True):
        assert np.array_equal(one.found, other.found) and one.tried == other.tried
    options["checkpoints"] = tmp_path / "none"
    assert protocol.compare(tiny_backbone, Brightness(toy, 0), ["fused"], **options)[0][0].tried.keys() == {1e-3}


def test_baselines_have_the_features_of_the_first_seed_s_noise(tiny_backbone, toy):
    asked = []

    class Asked(Brightness):
        def untrained(self, method, seeds, frozen, extractor):
            asked.append((seeds, frozen["test"], extractor))
            yield from super().untrained(method, seeds, frozen, extractor)

    for methods in (["SD only", "mean brightness"], ["fused", "mean brightness"]):
        trials, _ = protocol.compare(tiny_backbone, Asked(toy, 0), methods, (3, 4))
        assert [(trial.method, trial.seed) for trial in trials][2:] == [("mean brightness", 3)]
        (seeds, test, extractor), images = asked.pop(), load_images([r.path for r in toy.sketches[2:24:3]], 96)
        assert seeds == (3, 4) and extractor.seed == 3 and not asked
        torch.testing.assert_close(test["f3"], tiny_backbone.diffusion.features(images, (2,), seed=3)[0])


class Grey(nn.Module):
    """A module of another system: what is frozen of an image is its mean, and it learns an offset, or nothing."""

    def __init__(self, backbone, seed, learns=True):
        super().__init__()
        self.backbone, self.offset = backbone, nn.Parameter(torch.tensor(float(seed)), requires_grad=learns)

    def prepare(self, images):
        return {"grey": images.mean(1, keepdim=True)}

    def fit_statistics(self, prepared):
        self.seen = len(prepared["grey"])

    def forward(self, prepared):
        return prepared["grey"] + self.offset


class OfGrey(Brightness):
    main = "ours"

    def read(self, extractor, records, size):
        self.seen.append((type(extractor), size))
        images = load_images([record.path for record in records], size)
        return extractor.prepare(images) | {"bright": images.mean((1, 2, 3))}

    def plain(self, backbone, seed):
        return arms.Companion("plain", seed, backbone, {}, make=Grey)


def test_a_companion_brings_its_own_module_shares_what_is_frozen_and_without_parameters_is_only_measured(
    tiny_backbone, toy, tmp_path
):
    task, of = OfGrey(toy, epochs=2, learning_rate=0.1), {"ours": {}, "untouched": {"learns": False}}
    wanted = [arms.Companion(m, s, tiny_backbone, has, make=Grey, pace=0.5) for m, has in of.items() for s in (0, 1)]
    trials, frozen = protocol.compare(tiny_backbone, task, [*wanted, "mean brightness"], (0, 1), checkpoints=tmp_path)
    assert task.seen == [(Grey, 96)] * 3, "each part once, whatever the seed"
    assert [(t.method, t.seed, t.parameters) for t in trials[:4]] == [
        (a.method, a.seed, a.method == "ours") for a in wanted
    ]
    assert [(t.history.steps, t.history.ended) for t in trials[:4]] == [(4, "cap")] * 2 + [(0, "")] * 2
    assert trials[0].history.learning_rate == 0.05 and trials[3].model.extractor.offset == 1
    told = protocol.rows(RUN, task, trials, frozen, "aa") + protocol.differences(RUN, task, trials, frozen, "aa")
    assert {row.metric for row in told if "other" in row.metric} == {"closeness: ours - other"}
    assert {*results.differences(told, "first", "closeness")} == {"untouched", "mean brightness"}
    again = replace(wanted[0], settings={"learns": True})
    with refused("settings"):
        protocol.compare(tiny_backbone, OfGrey(toy, 2, 0.1), [again], checkpoints=tmp_path)


def task_of(name, toy, folder):
    """One of the tasks, with few images."""
    about, few = (1, 2e-3, 8), toy.select(categories=(*CATEGORIES, "fish", "bus", toyworld.UNSEEN[1]))
    if name == "recognition":
        quick.write_quick(folder, 20, difficulty=0.1, categories=CATEGORIES)
        return Recognition(load_sketches("quickdraw", folder, "10/10"), *about, 1, 1)
    if name == "retrieval":
        return Retrieval(few, *about, ("strict",))
    if name == "segmentation":
        return Segmentation(few, *about)
    if name == "warps":
        return Warps(psc6k.load(toy, "self-supervised"), *about)
    return Correspondence(psc6k.load(few), *about)


@pytest.mark.parametrize("name", ["segmentation", "correspondence", "warps", "retrieval", "recognition"])
def test_from_a_store_every_task_gets_its_numbers_and_computes_nothing_twice(
    tiny_backbone, toy, name, tmp_path, monkeypatch
):
    task, lines, sizes = task_of(name, toy, tmp_path), [], []
    methods = ("fused", "SD only", *task.baselines)
    counted, usual = FusedExtractor.frozen, protocol.compare(tiny_backbone, task, methods)

    def frozen(extractor, images, **noise):
        sizes.append(len(images))
        return counted(extractor, images, **noise)

    monkeypatch.setattr(FusedExtractor, "frozen", frozen)
    n = sum(map(task.images_in, task.parts.values()))
    for most in (2 * n, 0):  # in front of the injection and without one; and again
        trials, parts = protocol.compare(tiny_backbone, task, methods, store=str(tmp_path / "store"), log=lines.append)
        for expected, trial in zip(usual[0], trials, strict=True):
            for one, other in zip(task.measure(expected, usual[1]), task.measure(trial, parts), strict=True):
                np.testing.assert_allclose(other.values, one.values, atol=1e-6)
        computed = sum(size for size in sizes if size > 1)  # 1 is the grey image
        assert most / 4 < computed <= most or computed == most == 0
        sizes.clear()
    said = rf"what is frozen of {n} images at most takes 0.0\d GB of memory: kept in 0.0\d GB on disk"
    assert re.match(said, lines[0])


@pytest.mark.parametrize("task", ["segmentation", "correspondence", "retrieval", "recognition"])
def test_frozen_models_in_half_precision_go_through_every_task_and_what_learns_stays_in_single(
    tiny_folder, toy, task, tmp_path
):
    half, task = load_backbone(tiny_folder, "cpu", torch.bfloat16), task_of(task, toy, tmp_path)
    methods = ("fused", "late fusion", arms.FINETUNING, *task.baselines)
    trials, frozen = protocol.compare(half, task, methods)
    assert {t.method for t in trials} == {*methods}
    for trial in trials:
        assert all(np.isfinite(found.values).all() for found in task.measure(trial, frozen))
        assert trial.model is None or {p.dtype for p in trial.model.parameters()} == {torch.float32}
    assert {p.dtype for p in half.diffusion.unet.parameters()} == {torch.bfloat16}
