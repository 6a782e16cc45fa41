"""The segmenter alone, on coloured squares: loss, threshold, CRF, predictions, and what 04 writes of them by hand."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfhelpers import metrics, toyworld
from sfhelpers.datasets import Record, load_dataset
from sfhelpers.images import load_images, open_mask
from sfhelpers.tasks import segmentation
from sfhelpers.tasks.prepared import PreparedPairs, prepare_pairs, take
from tests.backbone_fixtures import assert_same_loss_and_gradients, refused, small, trained
from tests.cells import handbuilt, solutions

SIDE = 24
COLOURS = ((0.9, 0.2, 0.2), (0.2, 0.8, 0.2), (0.2, 0.3, 0.9))


class TinyExtractor(nn.Module):
    """Stands in for the fused extractor: a frozen resize, then two convolutions that learn; counts images."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.convs = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 12, 1))
        self.register_buffer("mean", torch.zeros(3))
        self.prepared = self.computed = 0
        self.backbone = SimpleNamespace(at_once=32)

    def frozen(self, images):
        self.prepared += len(images)
        return {"pixels": F.interpolate(images, size=(8, 8), mode="area")}

    def fit_statistics(self, prepared):
        self.mean.copy_(prepared["pixels"].mean((0, 2, 3)))

    def forward(self, x):
        pixels = (x if isinstance(x, dict) else self.frozen(x))["pixels"]
        self.computed += len(pixels)
        return self.convs(pixels - self.mean[:, None, None])

    def pooled(self, x):
        return self(x).amax((2, 3))


def example(category, generator):
    """A grey photo with a square of the category's colour and one of another, their masks, and a sketch drawn in it."""
    photo = torch.full((3, SIDE, SIDE), 0.5) + 0.05 * torch.randn(3, SIDE, SIDE, generator=generator)
    other = (category + 1 + torch.randint(2, (), generator=generator).item()) % 3
    left, masks = torch.randperm(2, generator=generator) * 12, {}
    for colour, x in zip((category, other), left.tolist(), strict=True):
        y, dx, size = (torch.randint(high, (), generator=generator).item() for high in (14, 3, 3))
        window = (slice(y, y + 7 + size), slice(x + dx, x + dx + 7 + size))
        photo[:, *window] = torch.tensor(COLOURS[colour])[:, None, None]
        masks[str(colour)] = torch.zeros(SIDE, SIDE)
        masks[str(colour)][window] = 1
    sketch = torch.ones(3, SIDE, SIDE)
    sketch[:, 4:20, 4:20] = torch.tensor(COLOURS[category])[:, None, None]
    sketch[:, 7:17, 7:17] = 1
    return photo.clamp(0, 1), masks, sketch


def record(k, category, *others, domain="photo"):
    also = tuple((name, Path(f"{name}-{k}.png")) for name in others)
    return Record(Path(f"{k}.png"), domain, category, str(k), Path(f"{k}-mask.png"), also=also)


def world(extractor, n, seed):
    """n photos of two things and a sketch each, prepared, and every photo paired with two sketches of its category."""
    generator = torch.Generator().manual_seed(seed)
    photos, masks, sketches = zip(*(example(i % 3, generator) for i in range(n)), strict=True)
    records = [record(k, *found) for k, found in enumerate(masks)]
    every = torch.stack([mask for found in masks for mask in found.values()])
    every = F.interpolate(every[:, None], size=160)[:, 0] > 0.5
    pairs = torch.tensor([((i + shift) % n, i) for i in range(n) for shift in (0, 3)])
    prepared = (extractor.frozen(torch.stack(images)) for images in (sketches, photos))
    drawn = [record(k, found.category, domain="sketch") for k, found in enumerate(records)]
    return PreparedPairs(*prepared, drawn, records, pairs, every)


def task(absent):
    """Over pairs that are prepared already."""
    made = object.__new__(segmentation.Segmentation)
    made.absent = absent
    return made


TASK = task(0.25)


@pytest.fixture(scope="module")
def learned():
    """A trained model, what is frozen, and the training's history."""
    extractor = TinyExtractor()
    frozen = {"train": world(extractor, 60, seed=1), "validation": world(extractor, 30, seed=2)}
    model, history = trained(TASK, extractor, frozen, epochs=15)
    return model, frozen, history


def best_iou(model, data):
    found = segmentation.predict_pairs(model, data)
    cut = segmentation.choose_threshold(found, data.pair_masks)
    return metrics.foreground_iou(found >= cut, data.pair_masks).mean()


def test_training_beats_the_mean_mask_clearly(learned):
    model, frozen, history = learned
    data = frozen["validation"]
    (prior,) = TASK.untrained(segmentation.MEAN_MASK, (0,), frozen | {"seen": data}, None)
    mean = prior.found.probabilities("seen")
    torch.testing.assert_close(mean[3], frozen["train"].pair_masks.float().mean(0), atol=2e-6, rtol=0)
    iou, baseline = best_iou(model, data), metrics.foreground_iou(mean >= prior.found.threshold, data.pair_masks).mean()
    assert iou > baseline + 0.2
    every = best_iou(model, TASK.counted(data))
    assert every == pytest.approx(history.epochs[history.best_epoch]["validation"])
    assert every > history.epochs[0]["validation"] + 0.1
    start = dict(segmentation.SketchSegmenter(TinyExtractor()).named_parameters())
    assert all(not torch.equal(value, start[name]) for name, value in model.named_parameters())
    both = torch.cat([frozen["train"].sketches["pixels"], frozen["train"].photos["pixels"]])
    torch.testing.assert_close(model.extractor.mean, both.mean((0, 2, 3)))  # all of them, since they are but 60
    pairs = data.pairs.clone()
    pairs[:, 0] = (pairs[:, 0] + 1) % len(data.sketch_records)
    found = segmentation.predict_pairs(model, replace(data, pairs=pairs)) >= 0.5
    wrong = metrics.foreground_iou(found, data.own_masks(data.pairs[:, 1])).mean()
    assert iou > wrong + 0.2, "it is the sketch that decides what is marked"


def test_loss_and_gradients_by_hand_are_those_of_the_package_and_a_step_lowers_the_loss(tiny_backbone, two_images):
    hand = handbuilt("04_segmentation", torch=torch, F=F, nn=nn)
    theirs, ours = segmentation.SketchSegmenter(small(tiny_backbone)), hand.Segmenter(small(tiny_backbone))
    prepared, dice = theirs.extractor.prepare(two_images), torch.Generator().manual_seed(0)
    theirs.extractor.fit_statistics(prepared)
    ours.load_state_dict(theirs.state_dict())
    records, masks = [record(0, "cat", "cup"), record(1, "duck", "cat")], torch.rand(4, 40, 40, generator=dice) < 0.3
    data = PreparedPairs(prepared, prepared, records, records, torch.tensor([[0, 0], [1, 1]]), masks)
    truth = hand.truth_of(data, torch.arange(2), torch.arange(2))
    assert torch.equal(truth[0, 1], masks[3]) and truth.any(3).any(2).tolist() == [[True, True], [False, True]]
    for share in (0, 1, 0.25):
        loss = hand.cross_entropy(ours(prepared, prepared), truth, share)
        package = task(share).loss(theirs, {"train": data}, torch.arange(2))
        assert abs(loss - package) < 1e-6
    assert_same_loss_and_gradients(ours, loss, theirs, package)
    alone = TASK.loss(theirs, {"train": data}, torch.arange(1))  # nobody asks for what is not there
    assert alone.isfinite() and alone > 0
    with refused("absent is 1.5: give the share"):
        segmentation.Segmentation(None, 1, 1e-3, 4, absent=1.5)
    optimiser = torch.optim.AdamW(ours.parameters(), 2e-3)
    losses = [hand.step(ours, optimiser, prepared, prepared, truth, 0.25) for _ in range(6)]
    assert losses[-1] < losses[0]
    predicted, true = torch.rand(2, 30, 6, 6, generator=dice) < 0.4
    predicted[:3] = true[:2] = False
    np.testing.assert_allclose(hand.foreground_iou(predicted, true), metrics.foreground_iou(predicted, true), atol=1e-6)


class Told(nn.Module):
    """An extractor whose maps (channels, 16, 16) are given, the same for any image at the same place."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x["maps"]

    def pooled(self, x):
        return x["maps"].amax((2, 3))


SHOWN = (("cat", "cup"), ("cup",), ("duck", "cat"), ("cat",))  # in each photo, its own thing first


def scenes(names=("cat", "cup", "duck"), salient=False):
    """Photos of squares, each category's own channel 1 where it is seen, or, `salient`, one channel for all of them."""
    records, masks = [record(k, *found) for k, found in enumerate(SHOWN)], []
    maps = {"sketches": torch.zeros(len(names), 4, 16, 16), "photos": torch.zeros(len(SHOWN), 4, 16, 16)}
    maps["photos"][:, 3] = 1  # the ground's
    for k, found in enumerate(SHOWN):
        for number, name in enumerate(found):
            window = slice(2 + k, 8 + k), slice(8 * number + 1, 8 * number + 6)
            maps["photos"][k, :, *window] = torch.eye(4)[0 if salient else names.index(name), :, None, None]
            masks.append(torch.zeros(16, 16, dtype=torch.bool))
            masks[-1][window] = True
    for k in range(len(names)):
        maps["sketches"][k, 0 if salient else k, 5, 5] = 1
    drawn = [record(k, name, domain="sketch") for k, name in enumerate(names)]
    pairs = torch.tensor([(names.index(found[0]), k) for k, found in enumerate(SHOWN)])
    sides = ({"maps": maps[side]} for side in ("sketches", "photos"))
    every = torch.stack(masks).repeat_interleave(10, 1).repeat_interleave(10, 2)
    return PreparedPairs(*sides, drawn, records, pairs, every)


def test_masks_of_other_things_are_found_and_are_empty_where_a_category_is_not_in_the_photo():
    data = scenes()
    assert data.categories == ("cat", "cup", "duck") and data.category_at.tolist() == [0, 1, 2]
    assert data.mask_at.tolist() == [[0, 1, -1], [-1, 2, -1], [4, -1, 3], [5, -1, -1]]
    assert torch.equal(data.pair_masks, data.masks[[0, 2, 3, 5]])
    assert torch.equal(data.own_masks(torch.tensor([2])), data.masks[3:4])
    asked = replace(data, pairs=torch.tensor([(1, 0), (0, 2), (2, 3)])).pair_masks
    assert torch.equal(asked[:2], data.masks[[1, 4]]) and not asked[2].any()


@pytest.mark.parametrize(("share", "number"), [(0, 0), (0.25, 2), (0.4, 4), (1, 6)])
def test_every_thing_is_asked_for_and_what_is_not_there_at_its_share_as_far_as_there_is_any(share, number):
    data = scenes()
    found = segmentation.questions(data, share)
    assert torch.equal(found[segmentation.OWN], data.pairs) and found[segmentation.OTHER].tolist() == [[1, 0], [0, 2]]
    assert found[segmentation.ANY].tolist() == [[3, k] for k in range(4)]
    absent, wrong = found[segmentation.ABSENT], found[segmentation.WRONG]
    assert len(absent) == number and sorted(wrong[:, 1].tolist()) == [0, 1, 2, 3], "one a photo, whatever the share"
    assert len({*map(tuple, absent.tolist())}) == number and len({*absent[:4, 1].tolist()}) == min(number, 4)
    assert not any(data.categories[sketch] in SHOWN[photo] for sketch, photo in absent.tolist() + wrong.tolist())
    again = segmentation.questions(scenes(), share)
    assert all(torch.equal(pairs, again[kind]) for kind, pairs in found.items())


@pytest.mark.parametrize(("salient", "expected"), [(False, (1, 0, 0, 1, 0)), (True, (0.75, 0.75, 0.75, 0, 0.18))])
def test_rows_tell_an_oracle_from_one_that_marks_whatever_stands_out(salient, expected):
    data = scenes(salient=salient)
    model = segmentation.SketchSegmenter(Told(), temperature=60.0, centre=0.75)
    frozen = dict.fromkeys(("train", "validation", "seen"), data)
    trial = SimpleNamespace(found=TASK.predict(model, frozen))
    found = {told.metric: told for told in TASK.measure(trial, frozen) if "paper" not in told.definition}
    values = [found[metric].values.mean() for metric in segmentation.CONTROLS]
    assert list(found)[-5:] == ["right sketch", "wrong sketch", "whatever stands out", "not there", "not there, marked"]
    np.testing.assert_allclose(values, expected, atol=0.2)  # a mask loses some of its rim
    assert [len(found[metric].values) for metric in ("foreground IoU", *segmentation.CONTROLS)] == [6, 4, 4, 4, 2, 2]
    assert found["foreground IoU"].groups["photos"].tolist() == [0, 1, 2, 3, 0, 2]
    assert "not in the photo" in found["not there"].definition
    assert "none for what is not there" in found["foreground IoU"].definition


@pytest.mark.parametrize("source", solutions("04_segmentation").values())
def test_a_solution_runs_and_its_asserts_hold(source, capsys):
    data = scenes()
    found = TASK.predict(segmentation.SketchSegmenter(Told()), dict.fromkeys(("train", "validation", "seen"), data))
    names = {"metrics": metrics, "segmentation": segmentation, "test": data, "fused": SimpleNamespace(found=found)}
    assert "assert " in source
    exec(source, names)
    assert len(capsys.readouterr().out.splitlines()) == len(SHOWN)


def test_predictions_are_those_of_one_batch(learned):
    model, data = learned[0], learned[1]["validation"]
    together = segmentation.predict_pairs(model, data)
    sketch, photo = data.pairs[:5].unbind(1)
    logits = model(take(data.sketches, sketch), take(data.photos, photo)).diagonal().movedim(-1, 0)
    assert together.shape == (60, 160, 160) and not together.requires_grad
    torch.testing.assert_close(together[:5], segmentation.upsample(logits, 160).sigmoid().detach())


def test_the_chosen_threshold_is_the_best_one_by_trying_all_and_among_equals_the_one_nearest_to_a_half():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(12, 9, 9, generator=generator) < 0.3
    masks[0] = False
    probabilities = (0.35 * masks + 0.8 * torch.rand(12, 9, 9, generator=generator)).clamp(0, 1)
    tried = [metrics.foreground_iou(probabilities >= cut, masks).mean() for cut in segmentation.THRESHOLDS]
    assert segmentation.choose_threshold(probabilities, masks) == segmentation.THRESHOLDS[int(np.argmax(tried))]
    np.testing.assert_allclose(metrics.iou_by_threshold(probabilities, masks, segmentation.THRESHOLDS), tried)
    masks = torch.tensor([[[True, False]]])
    assert segmentation.choose_threshold(torch.tensor([[[1.0, 0.0]]]), masks) == 0.5
    assert segmentation.choose_threshold(torch.tensor([[[0.3, 0.1]]]), masks) == 0.3
    with refused(r"shape \(1, 4, 4\) but masks"):
        segmentation.choose_threshold(torch.zeros(1, 4, 4), masks)


@pytest.fixture
def folder(tmp_path):
    """Three photos with masks and one sketch in each of two categories, as anybody's own data lie."""
    for photos, sketches in ((1, 1), (3, 0)):
        toyworld.write_folder(tmp_path, photos, sketches, categories=("cat", "duck"))
    return load_dataset("folder", tmp_path)


def test_every_image_is_prepared_once_however_many_pairs_it_is_in(folder):
    extractor = TinyExtractor()
    data = prepare_pairs(extractor, folder, size=32)
    assert (len(data), len(data.photo_records), len(data.sketch_records), extractor.prepared) == (6, 6, 2, 8)
    for sketch, photo in data.pairs.tolist():
        assert data.sketch_records[sketch].category == data.photo_records[photo].category
    for record, pixels in zip(data.photo_records, data.photos["pixels"], strict=True):
        torch.testing.assert_close(pixels, extractor.frozen(load_images([record.path], 32))["pixels"][0])
    assert data.pair_masks.shape == (6, 160, 160) and data.pair_masks.dtype == torch.bool
    with refused("no sketch-photo pair here: raise limit"):
        prepare_pairs(extractor, folder.select(part="train"), size=32)
    shares = [open_mask(file).mean() for record in data.photo_records for file in record.masks.values()]
    assert len(shares) > 6, "the other things' masks too"
    np.testing.assert_allclose(data.masks.float().mean((1, 2)), shares, atol=0.03)


@pytest.mark.parametrize("masks", [0, 2])
def test_photos_without_masks_are_prepared_and_answered_but_cannot_be_learned_from_or_scored(folder, masks):
    for photo in folder.photos:
        if int(photo.path.stem.rpartition("_")[2]) >= masks:
            for file in photo.masks.values():
                file.unlink()
    data, model = prepare_pairs(TinyExtractor(), load_dataset("folder", folder.root), size=32), TinyExtractor()
    for learned, chosen in ((data, data), (world(model, 6, seed=1), data)):
        with refused(r"\d of \d+ pairs have photos without a mask"):
            trained(TASK, model, {"train": learned, "validation": chosen}, epochs=1)
    with refused(f"{6 - 2 * masks} of 6 pairs"):
        TASK.loss(segmentation.SketchSegmenter(model), {"train": data}, torch.arange(6))
    assert len(data) == 6 and (data.masks is None) == (masks == 0)
    assert segmentation.predict_pairs(segmentation.SketchSegmenter(model), data).shape == (6, 160, 160)


def test_the_crf_pulls_a_blurred_map_onto_the_edge_and_takes_the_threshold_as_undecided():
    mask = torch.zeros(60, 80, dtype=torch.bool)
    mask[15:45, 20:60] = True
    image = torch.where(mask, torch.tensor([0.9, 0.5, 0.1])[:, None, None], 0.2)
    coarse = F.interpolate(mask[None, None].float(), size=(4, 5), mode="area")
    blurred = F.interpolate(coarse, size=(60, 80), mode="bilinear")[0, 0] * 0.8 + 0.1
    refined = segmentation.refine_with_crf(image, blurred)
    assert refined.dtype == torch.float32 and refined.min() >= 0 and refined.max() <= 1
    before, after = (metrics.foreground_iou((m >= 0.5)[None], mask[None])[0] for m in (blurred, refined))
    assert after > 0.97 > before
    grey, faint = torch.full((3, 20, 20), 0.5), torch.full((20, 20), 0.3)
    assert (segmentation.refine_with_crf(grey, faint, threshold=0.2) > 0.5).all()
    assert (segmentation.refine_with_crf(grey, faint, threshold=0.5) < 0.5).all()
    with refused("same size"):
        segmentation.refine_with_crf(grey, torch.zeros(20, 21))
    with refused("between 0 and 1"):
        segmentation.refine_with_crf(grey, faint, threshold=0.0)
