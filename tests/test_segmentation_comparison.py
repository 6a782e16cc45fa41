"""The arms of the segmentation table are trained and tested alike, and what is told of them is what was measured."""

import hashlib
import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sfhelpers import results, toyworld
from sfhelpers.backbones import randomised
from sfhelpers.datasets import Dataset, first_sketches, load_dataset, sketchy
from sfhelpers.images import load_images
from sfhelpers.tasks import arms, segmentation
from sfhelpers.tasks import segmentation_comparison as comparison
from sfhelpers.tasks import segmentation_report as report
from sfhelpers.tasks.arms import RANDOM_UNET
from sfhelpers.tasks.segmentation_comparison import MEAN_MASK, METHODS
from tests.backbone_fixtures import one_sentence

CATEGORIES = ("cat", "duck", toyworld.UNSEEN[0])
SHARING = ("late fusion", "SD only", "CLIP only")
RUN = SimpleNamespace(
    notebook="04_segmentation", backbone="tiny", dataset="folder", split="parts", seed=0, device="cpu", epochs=1
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two seen categories with photos in every part and an unseen one, two sketches a photo, masks."""
    root = tmp_path_factory.mktemp("world")
    toyworld.write_sketchy(root, photos=6, sketches=2, categories=CATEGORIES)
    return Dataset("toy", root, "default", tuple(sketchy.read(root, unseen=toyworld.UNSEEN)))


@pytest.fixture(scope="module")
def small(world):
    return first_sketches(world, 1)


def compare(backbone, dataset, methods, seeds=(0,), **options):
    settings = {"epochs": 1, "learning_rate": 2e-3, "batch_size": 4, "log": lambda line: None}
    return comparison.compare(backbone, dataset, methods, seeds, **settings | options)


@pytest.fixture(scope="module")
def compared(tiny_backbone, small):
    """Every method with seed 0: the trials by method, the parts, and the lines that were logged."""
    lines = []
    trials, parts = compare(tiny_backbone, small, METHODS, log=lines.append)
    return {trial.method: trial for trial in trials}, parts, lines


def alone(method, backbone, dataset, inject="up"):
    """A method's trial with seed 0, its frozen tensors computed for it and by its own extractor."""
    extractor = arms.extractor_for(method, backbone, 0, inject)
    parts = comparison.parts_of(
        dataset, lambda part: segmentation.prepare_pairs(extractor, part, arms.reading_size(extractor.backbone))
    )
    return comparison._trial(arms.Arm(method, 0, extractor, backbone), parts, 1, 2e-3, 4, {})


def assert_same(first, second):
    assert first.threshold == second.threshold
    for part, maps in first.probabilities.items():
        torch.testing.assert_close(maps, second.probabilities[part], atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_probabilities_for_seen_and_unseen_categories(compared, method):
    trials, parts, _ = compared
    trial = trials[method]
    assert trial.probabilities.keys() == parts.test.keys() == {"seen", "unseen"}
    for part, maps in trial.probabilities.items():
        assert maps.shape == (len(parts.test[part]), 160, 160)
        assert maps.min() >= 0 and maps.max() <= 1 and maps.std() > 0
        assert all(np.isfinite(v).all() for v in comparison.scores(trial, part, parts.test[part].pair_masks).values())
    assert 0 < trial.threshold < 1
    if method == MEAN_MASK:
        assert trial.model is None and trial.history is None and trial.parameters == 0
    else:
        assert [entry["epoch"] for entry in trial.history.epochs] == [0, 1]


def test_training_never_sees_test_photos_or_unseen_categories(compared):
    _, parts, _ = compared
    trained = {(r.category, r.instance) for data in (parts.train, parts.validation) for r in data.photo_records}
    tested = {name: {(r.category, r.instance) for r in data.photo_records} for name, data in parts.test.items()}
    assert not trained & (tested["seen"] | tested["unseen"])
    assert {category for category, _ in trained} <= set(CATEGORIES[:2])
    assert {category for category, _ in tested["unseen"]} == {CATEGORIES[2]}


@pytest.mark.parametrize("kind", ["toy", "folder"])
def test_no_test_image_is_seen_in_training(world, tmp_path, kind):
    """By the bytes of the files and by the pixels, photos and sketches alike."""
    if kind == "folder":
        toyworld.write_folder(tmp_path, photos=8, sketches=8, categories=CATEGORIES[:2])
    data = world if kind == "toy" else load_dataset("folder", tmp_path, "parts")
    parts = comparison.parts_of(data, lambda part: part)
    trained, validated, tested = (
        {content for part in some for record in part.records for content in contents(record.path)}
        for some in ([parts.train], [parts.validation], parts.test.values())
    )
    assert trained and validated and tested and not (trained | validated) & tested and not trained & validated


def contents(path):
    return hashlib.sha256(path.read_bytes()).digest(), hashlib.sha256(np.asarray(Image.open(path)).tobytes()).digest()


def test_a_test_photo_that_is_trained_on_under_another_name_is_refused(tmp_path):
    toyworld.write_folder(tmp_path, photos=8, sketches=8, categories=CATEGORIES[:2], masks=False)
    data = load_dataset("folder", tmp_path, "parts")
    known, asked = (data.select(part=part).photos[0].path for part in ("train", "test"))
    asked.write_bytes(known.read_bytes())
    with pytest.raises(ValueError, match="is trained on and is the same file as the test image") as error:
        comparison.parts_of(data, lambda part: part)
    one_sentence(error)


def test_photos_without_a_mask_are_left_out_with_a_warning_that_counts_them(world):
    bare = {next(p.path for p in world.select(part=part, seen=True).photos) for part in ("train", "test")}
    some = replace(world, records=tuple(replace(r, mask=None) if r.path in bare else r for r in world.records))
    assert all(photo.mask for _, photo in report.example_pairs(some.select(part="test"), 9))
    with pytest.warns(UserWarning, match=r"^2 of \d+ photos have no mask.*cat/"):
        parts = comparison.parts_of(some, lambda part: part)
    whole = comparison.parts_of(world, lambda part: part)
    for found, full in ((parts.train, whole.train), (parts.test["seen"], whole.test["seen"])):
        assert len(found.photos) == len(full.photos) - 1 and all(photo.mask for photo in found.photos)
    assert parts.validation == whole.validation and parts.test["unseen"] == whole.test["unseen"]


@pytest.mark.filterwarnings("ignore:.*have no mask")
@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_part_without_any_mask_is_refused(world, part):
    none = replace(world, records=tuple(replace(r, mask=None) if r.part == part else r for r in world.records))
    with pytest.raises(ValueError, match=f"in its part '{part}' has a mask") as error:
        comparison.parts_of(none, lambda part: part)
    one_sentence(error)
    with pytest.raises(ValueError, match="to be shown has a mask") as error:
        report.example_pairs(none.select(part=part), 3)
    one_sentence(error)


def test_the_arms_learn_equally_many_parameters(compared):
    trials, _, _ = compared
    counts = {m: trial.parameters for m, trial in trials.items() if trial.model and m != arms.FINETUNING}
    assert len(counts) == len(METHODS) - 2
    assert max(counts.values()) <= 1.03 * min(counts.values()), counts


def test_a_line_is_logged_for_every_training(compared):
    _, _, lines = compared
    assert [line.split(", seed 0")[0] for line in lines] == [m for m in METHODS if m != MEAN_MASK]


@pytest.mark.parametrize("method", SHARING)
def test_arms_that_share_frozen_tensors_are_as_if_prepared_alone(compared, tiny_backbone, small, method):
    assert_same(compared[0][method], alone(method, tiny_backbone, small))


@pytest.mark.parametrize("inject", ["none", "late"])
def test_the_random_unet_never_shares_the_trained_ones_features(tiny_backbone, small, inject):
    trials, _ = compare(tiny_backbone, small, ["SD only", RANDOM_UNET], inject=inject)
    assert_same(trials[1], alone(RANDOM_UNET, randomised(tiny_backbone, seed=0), small, inject))
    assert not torch.allclose(trials[0].probabilities["seen"], trials[1].probabilities["seen"])


def test_the_seed_alone_decides(compared, tiny_backbone, small):
    methods = ("fused", "fused (fixed random injection)", "CLIP only")
    trials, parts = compare(tiny_backbone, small, methods, seeds=(1, 0), keep_models=False)
    assert [(t.method, t.seed) for t in trials] == [(method, seed) for method in methods for seed in (1, 0)]
    assert all(trial.model is None for trial in trials)
    masks = parts.test["seen"].pair_masks
    for other, again in zip(trials[::2], trials[1::2], strict=True):
        before = compared[0][again.method]
        assert torch.equal(before.probabilities["seen"], again.probabilities["seen"])
        assert not torch.equal(before.probabilities["seen"], other.probabilities["seen"])
        first, second = (comparison.scores(t, "seen", masks) for t in (before, again))
        assert all(np.array_equal(first[metric], second[metric]) for metric in first)


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ([MEAN_MASK], "name at least one"),
        ([], "name at least one"),
        (["fused", "SD"], "unknown method 'SD'"),
    ],
)
def test_methods_that_cannot_be_are_refused_before_anything_is_prepared(tiny_backbone, small, methods, said):
    with pytest.raises(ValueError, match=said) as error:
        compare(None, small, methods)
    one_sentence(error)


def test_without_unseen_categories_only_seen_ones_are_tested(tiny_backbone, small):
    trials, parts = compare(tiny_backbone, small.select(seen=True), ["CLIP only", MEAN_MASK], epochs=0)
    assert parts.test.keys() == trials[0].probabilities.keys() == trials[1].probabilities.keys() == {"seen"}


def test_first_sketches_keeps_so_many_a_photo(world):
    assert len(world.sketches) == 2 * len(world.photos)
    one = first_sketches(world, 1)
    assert one.photos == world.photos and len(one.sketches) == len(one.photos)
    assert {r.path.stem.rpartition("-")[2] for r in one.sketches} == {"1"}
    assert first_sketches(world, 2).records == world.records


def test_first_sketches_keeps_all_where_sketches_stand_alone(tmp_path):
    toyworld.write_folder(tmp_path, photos=2, sketches=2, categories=CATEGORIES[:1])
    own = load_dataset("folder", tmp_path)
    assert first_sketches(own, 1).records == own.records


def test_a_refined_map_keeps_its_shape_and_is_cut_at_a_half(compared):
    trials, parts, _ = compared
    data, few = parts.test["seen"], slice(0, 2)
    photos = load_images([data.photo_records[k].path for k in data.pairs[few, 1]], 160)
    trial = replace(trials["fused"], probabilities={"seen": trials["fused"].probabilities["seen"][few]})
    sharp = comparison.refined(trial, "seen", photos)
    assert sharp.threshold == 0.5 and sharp.method == "fused" and sharp.probabilities.keys() == {"seen"}
    assert sharp.probabilities["seen"].shape == (2, 160, 160)
    maps = torch.tensor([0.35, 0.25])[:, None, None].expand(2, 160, 160)
    flat = replace(trial, threshold=0.3, probabilities={"seen": maps})
    above, below = comparison.refined(flat, "seen", torch.full_like(photos, 0.5)).probabilities["seen"]
    assert (above > 0.5).all() and (below < 0.5).all(), "what was undecided, 0.3, must become 0.5"


def test_rows_hold_every_metric_of_both_galleries_with_its_threshold_rule(compared):
    trials, parts, _ = compared
    rows = report.rows(RUN, [trials["fused"], trials[MEAN_MASK]], parts, "aa")
    for method in ("fused", MEAN_MASK):
        for gallery in ("seen categories", "unseen categories"):
            some = [row for row in rows if (row.method, row.gallery) == (method, gallery)]
            chosen = {row.metric: row for row in some if row.definition.endswith(report.CHOSEN)}
            assert chosen.keys() == report.DEFINITIONS.keys()
            (paper,) = [row for row in some if row.definition.endswith("threshold 0.47 (paper), no CRF")]
            assert len(some) == len(chosen) + 1 and paper.metric == "foreground IoU"
            data = parts.test[gallery.split()[0]]
            by_hand = (trials[method].probabilities[gallery.split()[0]] >= 0.47, data.pair_masks)
            assert paper.value == pytest.approx(comparison.metrics.foreground_iou(*by_hand).mean())
            assert all(row.definition.startswith(report.DEFINITIONS[row.metric]) for row in some)
            assert all((row.n, row.seed, row.weights_sha256) == (len(data), 0, "aa") for row in some)


def test_rows_name_the_data_that_was_measured_and_not_the_photos_that_were_only_masked(compared):
    trials, parts, _ = compared
    rows = report.rows(RUN, [trials["fused"]], parts, "aa")
    assert {(row.dataset, row.split) for row in rows} == {("toy", "default")}, "RUN asks for a folder without masks"


def test_crf_rows_say_so(compared):
    trials, parts, _ = compared
    sharp = replace(trials["fused"], threshold=0.5, probabilities={"seen": trials["fused"].probabilities["seen"]})
    rows = report.crf_rows(RUN, [sharp], parts, "aa")
    assert {row.metric for row in rows} == report.DEFINITIONS.keys()
    assert {row.gallery for row in rows} == {"seen categories"}
    assert all(row.definition.endswith("then dense CRF") for row in rows)
    assert results.table(rows, "seen categories", "foreground IoU", report.CHOSEN) == {}


def test_a_gallery_with_masks_is_one_row_over_photos():
    row = report.gallery_row(RUN, [0.2, 0.6], "aa")
    assert (row.value, row.n, row.dataset, row.gallery) == (pytest.approx(0.4), 2, "folder", "whole gallery")
    assert row.definition.startswith("mean over photos") and "CRF" in row.definition


def test_rows_go_through_results_and_back(compared, tmp_path):
    trials, parts, _ = compared
    rows = report.rows(RUN, trials.values(), parts, "aa")
    results.write(rows, tmp_path / "results.json")
    table = results.table(results.read(tmp_path / "results.json"), "unseen categories", "mIoU", report.CHOSEN)
    assert table.keys() == set(METHODS) and all(spread is None for _, spread in table.values())


def test_the_table_has_mean_and_spread_over_seeds_best_first():
    def row(method, value, seed, gallery="seen categories", metric="mIoU", rule=report.CHOSEN):
        return results.row(
            RUN, task="segmentation", method=method, metric=metric, definition=f"d; {rule}", value=value, n=3,
            weights_sha256="aa", gallery=gallery, seed=seed,
        )  # fmt: skip

    rows = [row("a", v, s) for s, v in enumerate((0.2, 0.4, 0.6))] + [row("b", 0.9, 0)]
    rows += [row("a", 1, 0, "unseen categories"), row("a", 1, 0, metric="pAcc"), row("a", 1, 0, rule="other rule")]
    table = results.table(rows, "seen categories", "mIoU", report.CHOSEN)
    assert list(table) == ["b", "a"]
    assert table["b"] == (0.9, None)
    assert table["a"] == (pytest.approx(0.4), pytest.approx(0.2))
    assert results.table(rows, "seen categories", "mIoU", "other rule") == {"a": (1.0, None)}


def test_pairs_are_shown_as_a_figure(compared):
    trials, parts, _ = compared
    data, trial = parts.test["seen"], trials["fused"]
    photos = load_images([data.photo_records[k].path for k in data.pairs[:, 1]], 160)
    values = comparison.scores(trial, "seen", data.pair_masks)["foreground IoU"]
    figure = report.show_pairs(trial, data, photos, "seen", values.argsort()[::-1][:2], values)
    picture = Image.open(io.BytesIO(figure.png())).convert("RGB")
    assert min(picture.size) > 100 and np.asarray(picture).std() > 5


def test_example_pairs_are_of_as_many_categories(world):
    chosen = report.example_pairs(world, 2)
    assert [photo.category for _, photo in chosen] == [world.categories[0], world.categories[-1]]
    assert all(sketch.instance == photo.instance for sketch, photo in chosen)
    assert len(report.example_pairs(world, 9)) == 3
