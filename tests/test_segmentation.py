"""The segmenter alone: its loss, threshold, CRF and predictions, on coloured squares."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfhelpers import metrics, toyworld
from sfhelpers.datasets import Record, load_dataset
from sfhelpers.images import load_images, open_mask
from sfhelpers.tasks import segmentation
from sfhelpers.tasks.fit import Training
from sfhelpers.tasks.prepared import PreparedPairs, prepare_pairs, take
from tests.backbone_fixtures import refused

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
    """A grey photo with a square of the category's colour and one of another; a sketch drawn in that colour."""
    photo = torch.full((3, SIDE, SIDE), 0.5) + 0.05 * torch.randn(3, SIDE, SIDE, generator=generator)
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    other = (category + 1 + torch.randint(2, (), generator=generator).item()) % 3
    left = torch.randperm(2, generator=generator) * 12
    for colour, x in zip((category, other), left.tolist(), strict=True):
        y, dx, size = (torch.randint(high, (), generator=generator).item() for high in (14, 3, 3))
        window = (slice(y, y + 7 + size), slice(x + dx, x + dx + 7 + size))
        photo[:, *window] = torch.tensor(COLOURS[colour])[:, None, None]
        mask[window] |= colour == category
    sketch = torch.ones(3, SIDE, SIDE)
    sketch[:, 4:20, 4:20] = torch.tensor(COLOURS[category])[:, None, None]
    sketch[:, 7:17, 7:17] = 1
    return photo.clamp(0, 1), mask, sketch


def world(extractor, n, seed):
    """n photos with a mask and a sketch each, prepared, and every photo paired with two sketches of its category."""
    generator = torch.Generator().manual_seed(seed)
    photos, masks, sketches = map(torch.stack, zip(*(example(i % 3, generator) for i in range(n)), strict=True))
    records = [Record(Path(f"{i}.png"), "photo", str(i % 3), str(i), mask=Path(f"{i}-mask.png")) for i in range(n)]
    pairs = torch.tensor([((i + shift) % n, i) for i in range(n) for shift in (0, 3)])
    return PreparedPairs(extractor.frozen(sketches), extractor.frozen(photos), records, records, pairs, masks)


TASK = object.__new__(segmentation.Segmentation)  # over pairs that are prepared already


def train(extractor, frozen, epochs=15):
    model = TASK.model(extractor, frozen)
    loss, validate = lambda m, i: TASK.loss(m, frozen, i), lambda m: TASK.validate(m, frozen)
    return model, Training(model, loss, TASK.examples(frozen), validate, epochs, 1e-2, 16, seed=0).fit()


@pytest.fixture(scope="module")
def learned():
    """A trained model, what is frozen, and the training's history."""
    extractor = TinyExtractor()
    frozen = {"train": world(extractor, 60, seed=1), "validation": world(extractor, 30, seed=2)}
    model, history = train(extractor, frozen)
    return model, frozen, history


def best_iou(model, data):
    found = segmentation.predict_pairs(model, data)
    return metrics.foreground_iou(
        found >= segmentation.choose_threshold(found, data.pair_masks), data.pair_masks
    ).mean()


def test_training_beats_the_mean_mask_clearly(learned):
    model, frozen, history = learned
    data = frozen["validation"]
    (prior,) = TASK.untrained(segmentation.MEAN_MASK, (0,), frozen | {"seen": data}, None)
    mean = prior.found.probabilities["seen"]
    torch.testing.assert_close(mean[3], frozen["train"].pair_masks.float().mean(0))
    iou, baseline = best_iou(model, data), metrics.foreground_iou(mean >= prior.found.threshold, data.pair_masks).mean()
    assert iou > baseline + 0.2
    assert iou == pytest.approx(history.epochs[history.best_epoch]["validation"])
    assert iou > history.epochs[0]["validation"] + 0.1
    start = dict(segmentation.SketchSegmenter(TinyExtractor()).named_parameters())
    assert all(not torch.equal(value, start[name]) for name, value in model.named_parameters())
    both = torch.cat([frozen["train"].sketches["pixels"], frozen["train"].photos["pixels"]])
    torch.testing.assert_close(model.extractor.mean, both.mean((0, 2, 3)))  # all of them, since they are but 60


def test_it_is_the_sketch_that_decides_what_is_marked(learned):
    model, data = learned[0], learned[1]["validation"]
    pairs = data.pairs.clone()
    pairs[:, 0] = (pairs[:, 0] + 1) % len(data.sketch_records)
    assert best_iou(model, data) > best_iou(model, replace(data, pairs=pairs)) + 0.2


def test_logits_are_temperature_times_cosine_less_centre_and_no_temperature_is_below_zero():
    model = segmentation.SketchSegmenter(TinyExtractor(), temperature=4.0, centre=0.5)
    sketch, photo = torch.rand(2, 3, SIDE, SIDE), torch.rand(2, 3, SIDE, SIDE)
    logits = model(sketch, photo)
    assert logits.shape == (2, 8, 8)
    cosine = F.cosine_similarity(model.extractor.pooled(sketch)[1], model.extractor(photo)[1, :, 2, 5], dim=0)
    assert logits[1, 2, 5].item() == pytest.approx(4 * cosine.item() - 2, abs=1e-5)
    nn.init.constant_(model.log_temperature, -50)
    assert (model(sketch, photo) - 1e-9 < 0).all() and model.log_temperature.exp() > 0


def test_no_epochs_evaluate_the_untrained_model():
    data = world(TinyExtractor(), 6, seed=1)
    (only,) = train(TinyExtractor(), {"train": data, "validation": data}, epochs=0)[1].epochs
    assert only["epoch"] == 0 and 0 < only["validation"] < 1


def test_predictions_for_all_pairs_equal_those_of_one_batch_and_are_probabilities(learned):
    model, data = learned[0], learned[1]["validation"]
    together = segmentation.predict_pairs(model, data, batch_size=7)
    sketch, photo = data.pairs[:5].unbind(1)
    logits = model(take(data.sketches, sketch), take(data.photos, photo))
    assert together.shape == (60, SIDE, SIDE) and not together.requires_grad
    assert together.min() >= 0 and together.max() <= 1
    torch.testing.assert_close(together[:5], segmentation.upsample(logits, SIDE).sigmoid().detach())


def test_every_metric_is_per_image():
    pred, masks = torch.tensor([[[True, False]], [[True, True]]]), torch.tensor([[[True, False]], [[True, False]]])
    expected = {"foreground IoU": [1, 0.5], "mIoU": [1, 0.25], "pAcc": [1, 0.5], "pAcc (foreground)": [1, 1]}
    expected |= {"pAcc (class mean)": [1, 0.5], "dataset IoU": [2 / 3]}
    found = segmentation.scores(pred, masks)
    assert found.keys() == segmentation.DEFINITIONS.keys()
    for metric, values in found.items():
        np.testing.assert_allclose(values, expected[metric], err_msg=metric)


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


def test_training_without_masks_is_refused():
    with_masks = world(TinyExtractor(), 6, seed=1)
    records = [replace(record, mask=None) for record in with_masks.photo_records]
    without = replace(with_masks, masks=None, photo_records=records)
    for learned, chosen in ((without, with_masks), (with_masks, without)):
        with refused("without a mask"):
            train(TinyExtractor(), {"train": learned, "validation": chosen}, epochs=1)
    assert segmentation.predict_pairs(segmentation.SketchSegmenter(TinyExtractor()), without).shape == (12, 160, 160)


def folder(root, masks=3):
    """Three photos, one sketch and some masks in each of two categories, as anybody's own data lie."""
    toyworld.write_folder(root, photos=3, sketches=1, categories=("cat", "duck"))
    for kind, kept in (("sketch", 1), ("mask", masks)):
        for category in (root / kind).iterdir():
            for path in sorted(category.iterdir())[kept:]:
                path.unlink()
    return load_dataset("folder", root)


def test_every_image_is_prepared_once_however_many_pairs_it_is_in(tmp_path):
    extractor = TinyExtractor()
    data = prepare_pairs(extractor, folder(tmp_path), size=32)
    assert len(data) == len(data.pairs) == 6
    assert (len(data.photo_records), len(data.sketch_records), extractor.prepared) == (6, 2, 8)
    for sketch, photo in data.pairs.tolist():
        assert data.sketch_records[sketch].category == data.photo_records[photo].category
    for record, pixels in zip(data.photo_records, data.photos["pixels"], strict=True):
        torch.testing.assert_close(pixels, extractor.frozen(load_images([record.path], 32))["pixels"][0])
    assert data.pair_masks.shape == (6, 160, 160) and data.pair_masks.dtype == torch.bool
    with refused("no sketch-photo pair here: raise limit"):
        prepare_pairs(extractor, folder(tmp_path).select(part="train"), size=32)
    shares = [open_mask(record.mask).mean() for record in data.photo_records]
    np.testing.assert_allclose(data.masks.float().mean((1, 2)), shares, atol=0.03)


@pytest.mark.parametrize(("masks", "said"), [(0, "6 of 6 pairs"), (2, "2 of 6 pairs have photos without a mask")])
def test_photos_without_masks_are_prepared_but_cannot_be_scored(tmp_path, masks, said):
    data = prepare_pairs(TinyExtractor(), folder(tmp_path, masks), size=32)
    with refused(said):
        data.pair_masks  # noqa: B018
    assert len(data) == 6 and (data.masks is None) == (masks == 0)


def test_the_crf_pulls_a_blurred_map_onto_the_edge_of_the_object():
    mask = torch.zeros(60, 80, dtype=torch.bool)
    mask[15:45, 20:60] = True
    image = torch.where(mask, torch.tensor([0.9, 0.5, 0.1])[:, None, None], 0.2)
    coarse = F.interpolate(mask[None, None].float(), size=(4, 5), mode="area")
    blurred = F.interpolate(coarse, size=(60, 80), mode="bilinear")[0, 0] * 0.8 + 0.1
    refined = segmentation.refine_with_crf(image, blurred)
    assert refined.dtype == torch.float32 and refined.min() >= 0 and refined.max() <= 1
    before, after = (metrics.foreground_iou((m >= 0.5)[None], mask[None])[0] for m in (blurred, refined))
    assert after > 0.97 > before


def test_the_crf_takes_the_chosen_threshold_as_undecided_and_refuses_what_it_cannot_use():
    grey, faint = torch.full((3, 20, 20), 0.5), torch.full((20, 20), 0.3)
    assert (segmentation.refine_with_crf(grey, faint, threshold=0.2) > 0.5).all()
    assert (segmentation.refine_with_crf(grey, faint, threshold=0.5) < 0.5).all()
    with refused("same size"):
        segmentation.refine_with_crf(grey, torch.zeros(20, 21))
    with refused("between 0 and 1"):
        segmentation.refine_with_crf(grey, faint, threshold=0.0)
