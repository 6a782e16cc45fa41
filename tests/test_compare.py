"""The arms of the segmentation table are trained and tested alike, and what is told of them is what was measured."""

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sfhelpers import metrics, results, toyworld
from sfhelpers.backbones import randomised
from sfhelpers.datasets import Dataset, first_sketches, load_dataset, sketchy
from sfhelpers.images import load_images
from sfhelpers.search import masks as galleries
from sfhelpers.tasks import arms, segmentation
from sfhelpers.tasks import compare as protocol
from sfhelpers.tasks.arms import RANDOM_UNET
from sfhelpers.tasks.fit import checkpoints
from sfhelpers.tasks.segmentation import MEAN_MASK, Segmentation
from tests.backbone_fixtures import one_sentence

METHODS = (*arms.METHODS, MEAN_MASK)
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
    task = Segmentation(dataset, options.pop("epochs", 1), 2e-3, 4)
    return protocol.compare(backbone, task, methods, seeds, **{"log": lambda line: None} | options)


@pytest.fixture(scope="module")
def compared(tiny_backbone, small):
    """Every method with seed 0: the trials by method, what is frozen, and the lines that were logged."""
    lines = []
    trials, frozen = compare(tiny_backbone, small, METHODS, log=lines.append)
    return {trial.method: trial for trial in trials}, frozen, lines


def alone(method, backbone, dataset, inject="up"):
    """A method's trial with seed 0, its frozen tensors computed for it and by its own extractor."""
    task, arm = Segmentation(dataset, 1, 2e-3, 4), arms.arm_of(method, backbone, 0, inject)
    return protocol._train(task, arm, "", task.prepare(arm.extractor()), None, None)


def assert_same(first, second):
    assert first.found.threshold == second.found.threshold
    for part, maps in first.found.probabilities.items():
        torch.testing.assert_close(maps, second.found.probabilities[part], atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_probabilities_for_seen_and_unseen_categories(compared, method):
    trials, frozen, _ = compared
    trial = trials[method]
    assert trial.found.probabilities.keys() == segmentation.tested(frozen).keys() == {"seen", "unseen"}
    for part, maps in trial.found.probabilities.items():
        assert maps.shape == (len(frozen[part]), 160, 160)
        assert maps.min() >= 0 and maps.max() <= 1 and maps.std() > 0
        assert all(np.isfinite(v).all() for v in segmentation.scores(trial, part, frozen[part].pair_masks).values())
    assert 0 < trial.found.threshold < 1
    if method == MEAN_MASK:
        assert trial.model is None and trial.history is None and trial.parameters == 0
    else:
        assert [entry["epoch"] for entry in trial.history.epochs] == [0, 1]


def test_training_never_sees_test_photos_or_unseen_categories(compared):
    _, frozen, _ = compared
    trained = {(r.category, r.instance) for data in (frozen["train"], frozen["validation"]) for r in data.photo_records}
    tested = {
        name: {(r.category, r.instance) for r in data.photo_records}
        for name, data in segmentation.tested(frozen).items()
    }
    assert not trained & (tested["seen"] | tested["unseen"])
    assert {category for category, _ in trained} <= set(CATEGORIES[:2])
    assert {category for category, _ in tested["unseen"]} == {CATEGORIES[2]}


@pytest.mark.parametrize("kind", ["toy", "folder"])
def test_no_test_image_is_seen_in_training(world, tmp_path, kind):
    """By the bytes of the files and by the pixels, photos and sketches alike."""
    if kind == "folder":
        toyworld.write_folder(tmp_path, photos=8, sketches=8, categories=CATEGORIES[:2])
    data = world if kind == "toy" else load_dataset("folder", tmp_path, "parts")
    parts = segmentation.parts_of(data)
    trained, validated, tested = (
        {content for part in some for record in part.records for content in contents(record.path)}
        for some in ([parts["train"]], [parts["validation"]], segmentation.tested(parts).values())
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
        segmentation.parts_of(data)
    one_sentence(error)


def test_photos_without_a_mask_are_left_out_with_a_warning_that_counts_them(world):
    bare = {next(p.path for p in world.select(part=part, seen=True).photos) for part in ("train", "test")}
    some = replace(world, records=tuple(replace(r, mask=None) if r.path in bare else r for r in world.records))
    with pytest.warns(UserWarning, match=r"^2 of \d+ photos have no mask.*cat/"):
        parts = segmentation.parts_of(some)
    whole = segmentation.parts_of(world)
    for name in ("train", "seen"):
        assert len(parts[name].photos) == len(whole[name].photos) - 1
        assert all(photo.mask for photo in parts[name].photos)
    assert all(parts[name] == whole[name] for name in ("validation", "unseen"))


@pytest.mark.filterwarnings("ignore:.*have no mask")
@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_part_without_any_mask_is_refused(world, part):
    none = replace(world, records=tuple(replace(r, mask=None) if r.part == part else r for r in world.records))
    with pytest.raises(ValueError, match=f"in its part '{part}' has a mask") as error:
        segmentation.parts_of(none)
    one_sentence(error)


def test_the_arms_learn_equally_many_parameters(compared):
    trials, _, _ = compared
    counts = {m: trial.parameters for m, trial in trials.items() if trial.model and m != arms.FINETUNING}
    assert len(counts) == len(METHODS) - 2
    assert max(counts.values()) <= 1.03 * min(counts.values()), counts


def test_a_line_is_logged_for_every_training(compared):
    _, _, lines = compared
    assert sorted(line.split(", seed 0")[0] for line in lines) == sorted(arms.METHODS)


@pytest.mark.parametrize("method", SHARING)
def test_arms_that_share_frozen_tensors_are_as_if_prepared_alone(compared, tiny_backbone, small, method):
    assert_same(compared[0][method], alone(method, tiny_backbone, small))


@pytest.mark.parametrize("inject", ["none", "late"])
def test_the_random_unet_never_shares_the_trained_ones_features(tiny_backbone, small, inject):
    trials, _ = compare(tiny_backbone, small, ["SD only", RANDOM_UNET], inject=inject)
    assert_same(trials[1], alone(RANDOM_UNET, randomised(tiny_backbone, seed=0), small, inject))
    assert not torch.allclose(trials[0].found.probabilities["seen"], trials[1].found.probabilities["seen"])


def test_the_seed_alone_decides(compared, tiny_backbone, small):
    methods = ("fused", "fused (fixed random injection)", "CLIP only")
    trials, frozen = compare(tiny_backbone, small, methods, seeds=(1, 0), keep_models=False)
    assert [(t.method, t.seed) for t in trials] == [(method, seed) for method in methods for seed in (1, 0)]
    assert all(trial.model is None for trial in trials)
    masks = frozen["seen"].pair_masks
    for other, again in zip(trials[::2], trials[1::2], strict=True):
        before = compared[0][again.method]
        assert torch.equal(before.found.probabilities["seen"], again.found.probabilities["seen"])
        assert not torch.equal(before.found.probabilities["seen"], other.found.probabilities["seen"])
        first, second = (segmentation.scores(t, "seen", masks) for t in (before, again))
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
    trials, frozen = compare(tiny_backbone, small.select(seen=True), ["CLIP only", MEAN_MASK], epochs=0)
    assert (
        segmentation.tested(frozen).keys()
        == trials[0].found.probabilities.keys()
        == trials[1].found.probabilities.keys()
        == {"seen"}
    )


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
    trials, frozen, _ = compared
    data, few = frozen["seen"], slice(0, 2)
    photos = load_images([data.photo_records[k].path for k in data.pairs[few, 1]], 160)

    def cut(threshold, maps):
        return replace(trials["fused"], found=segmentation.Masks(threshold, {"seen": maps}))

    sharp = segmentation.refined(cut(0.4, trials["fused"].found.probabilities["seen"][few]), "seen", photos)
    assert sharp.found.threshold == 0.5 and sharp.method == "fused" and sharp.found.probabilities.keys() == {"seen"}
    assert sharp.found.probabilities["seen"].shape == (2, 160, 160)
    flat = cut(0.3, torch.tensor([0.35, 0.25])[:, None, None].expand(2, 160, 160))
    above, below = segmentation.refined(flat, "seen", torch.full_like(photos, 0.5)).found.probabilities["seen"]
    assert (above > 0.5).all() and (below < 0.5).all(), "what was undecided, 0.3, must become 0.5"


def told(trials, frozen, small, of=protocol.rows):
    return of(RUN, Segmentation(small, 1, 2e-3, 4), trials, frozen, "aa")


def test_rows_hold_every_metric_of_both_galleries_with_its_threshold_rule(compared, small):
    trials, frozen, _ = compared
    rows = told([trials["fused"], trials[MEAN_MASK]], frozen, small)
    for method in ("fused", MEAN_MASK):
        for gallery in ("seen categories", "unseen categories"):
            some = [row for row in rows if (row.method, row.gallery) == (method, gallery)]
            chosen = {row.metric: row for row in some if row.definition.endswith(segmentation.CHOSEN)}
            assert chosen.keys() == segmentation.DEFINITIONS.keys()
            (paper,) = [row for row in some if row.definition.endswith("threshold 0.47 (paper), no CRF")]
            assert len(some) == len(chosen) + 1 and paper.metric == "foreground IoU"
            data = frozen[gallery.split()[0]]
            by_hand = (trials[method].found.probabilities[gallery.split()[0]] >= 0.47, data.pair_masks)
            assert paper.value == pytest.approx(metrics.foreground_iou(*by_hand).mean())
            assert all(row.definition.startswith(segmentation.DEFINITIONS[row.metric]) for row in some)
            assert all((row.n, row.seed, row.weights_sha256) == (len(data), 0, "aa") for row in some)


def test_rows_name_the_data_that_was_measured_and_not_the_photos_that_were_only_masked(compared, small):
    trials, frozen, _ = compared
    rows = told([trials["fused"]], frozen, small)
    assert {(row.dataset, row.split) for row in rows} == {("toy", "default")}, "RUN asks for a folder without masks"


def test_crf_rows_say_so(compared, small):
    trials, frozen, _ = compared
    maps = {"seen": trials["fused"].found.probabilities["seen"]}
    rows = told([replace(trials["fused"], found=segmentation.Masks(0.5, maps, segmentation.REFINED))], frozen, small)
    assert {row.metric for row in rows} == segmentation.DEFINITIONS.keys()
    assert {row.gallery for row in rows} == {"seen categories"}
    assert all(row.definition.endswith("then dense CRF") for row in rows)
    assert results.table(rows, "seen categories", "foreground IoU", segmentation.CHOSEN) == {}


def test_a_gallery_with_masks_is_one_row_over_photos():
    row = galleries.row(RUN, [0.2, 0.6], "aa")
    assert (row.value, row.n, row.dataset, row.gallery) == (pytest.approx(0.4), 2, "folder", "whole gallery")
    assert row.definition.startswith("mean over photos") and "CRF" in row.definition


def test_rows_go_through_results_and_back(compared, small, tmp_path):
    trials, frozen, _ = compared
    rows = told(trials.values(), frozen, small)
    results.write(rows, tmp_path / "results.json")
    table = results.table(results.read(tmp_path / "results.json"), "unseen categories", "mIoU", segmentation.CHOSEN)
    assert table.keys() == set(METHODS) and all(spread is None for _, spread in table.values())


@pytest.mark.parametrize("changed", ["images", "learning_rate", "split"])
def test_a_training_that_was_kept_is_gone_on_from_only_if_nothing_has_changed(tiny_backbone, small, tmp_path, changed):
    def run(**changes):
        task = Segmentation(small, 1, 2e-3, 4)
        task.images, task.learning_rate = (changes.get(k, getattr(task, k)) for k in ("images", "learning_rate"))
        made_by = {"split": changes.get("split", "default")}
        trials, _ = protocol.compare(
            tiny_backbone, task, ["CLIP only"], log=lambda line: None, checkpoints=tmp_path, configuration=made_by
        )
        return trials[0]

    assert_same(run(), run())
    other = {"images": "others", "learning_rate": 1e-3, "split": "parts"}
    with pytest.raises(ValueError, match=f"is of another training .*{changed} was ") as error:
        run(**{changed: other[changed]})
    one_sentence(error)


def test_the_paired_test_averages_over_seeds_first_and_resamples_photos(compared, small):
    trials, frozen, _ = compared
    rows = told([*trials.values(), replace(trials["fused"], seed=1)], frozen, small, protocol.differences)
    assert {row.metric for row in rows} == {"foreground IoU: fused - other"}
    assert all("over photos, each method's values averaged over its seeds (fused 2, " in row.definition for row in rows)
    for gallery, part in (("seen categories", "seen"), ("unseen categories", "unseen")):
        found = results.differences(rows, gallery, "foreground IoU")
        assert found.keys() == set(METHODS) - {"fused"}
        masks = frozen[part].pair_masks
        by_hand = [segmentation.scores(trials[m], part, masks)["foreground IoU"] for m in ("fused", "SD only")]
        assert found["SD only"][0] == pytest.approx(np.mean(by_hand[0] - by_hand[1]))
        assert all(low <= mean <= high for mean, low, high in found.values())


def test_in_a_folder_that_begins_anew_nothing_of_an_earlier_run_is_gone_on_from(tiny_backbone, small, tmp_path):
    def run(keep, **changes):
        kept = {"checkpoints": checkpoints(tmp_path, keep), "configuration": changes, "log": lambda line: None}
        return protocol.compare(tiny_backbone, Segmentation(small, 1, 2e-3, 4), ["CLIP only"], **kept)[0][0]

    first = run(False)
    assert_same(first, run(False, split="other"))
