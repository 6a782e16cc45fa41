"""The segmenter alone: its loss, threshold, CRF and predictions, on squares and on a tiny random backbone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from sfhelpers import metrics
from sfhelpers.datasets import Record, load_dataset
from sfhelpers.fusion import ARMS, FusedExtractor
from sfhelpers.images import load_images
from sfhelpers.tasks import segmentation
from sfhelpers.tasks.compare import Task, Trial
from sfhelpers.tasks.fit import Training
from sfhelpers.tasks.prepared import PreparedPairs, fit_statistics, prepare_pairs, take

SIDE = 24
COLOURS = ((0.9, 0.2, 0.2), (0.2, 0.8, 0.2), (0.2, 0.3, 0.9))


class TinyExtractor(nn.Module):
    """Stands in for the fused extractor: a frozen resize, then two convolutions that learn."""

    def __init__(self, seed=0, grid=8):
        super().__init__()
        torch.manual_seed(seed)
        self.grid = grid
        self.convs = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 1))
        self.register_buffer("mean", torch.zeros(3))
        self.prepared_images = 0

    def frozen(self, images, draws=1, seed=0):
        self.prepared_images += len(images)
        return {"pixels": F.interpolate(images, size=(self.grid, self.grid), mode="area")}

    def fit_statistics(self, prepared):
        self.mean.copy_(prepared["pixels"].mean((0, 2, 3)))

    def forward(self, x):
        pixels = x["pixels"] if isinstance(x, dict) else self.frozen(x)["pixels"]
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
        photo[:, window[0], window[1]] = torch.tensor(COLOURS[colour])[:, None, None]
        if colour == category:
            mask[window] = True
    sketch = torch.ones(3, SIDE, SIDE)
    sketch[:, 4:20, 4:20] = torch.tensor(COLOURS[category])[:, None, None]
    sketch[:, 7:17, 7:17] = 1
    return photo.clamp(0, 1), mask, sketch


def world(extractor, n, seed):
    """n photos with a mask and a sketch each, prepared, and every photo paired with two sketches of its category."""
    generator = torch.Generator().manual_seed(seed)
    photos, masks, sketches = (
        torch.stack(part) for part in zip(*(example(i % 3, generator) for i in range(n)), strict=True)
    )
    records = [Record(Path(f"{i}.png"), "photo", str(i % 3), str(i), mask=Path(f"{i}-mask.png")) for i in range(n)]
    pairs = torch.tensor([((i + shift) % n, i) for i in range(n) for shift in (0, 3)])
    return PreparedPairs(extractor.frozen(sketches), extractor.frozen(photos), records, records, pairs, masks)


class Prepared(segmentation.Segmentation):
    """The task over pairs that are prepared already."""

    def __init__(self):
        Task.__init__(self, {}, "squares", "default", "", 15, 1e-2, 16)


def train(extractor, frozen, epochs=15, seed=0, batch_size=16):
    task = Prepared()
    model = task.model(extractor, frozen)
    return model, Training(
        model, lambda m, i: task.loss(m, frozen, i), task.examples(frozen), lambda m: task.validate(m, frozen),
        epochs, 1e-2, batch_size, seed,
    ).fit()  # fmt: skip


def trained(seed, epochs=15):
    extractor = TinyExtractor(seed)
    frozen = {"train": world(extractor, 60, seed=1), "validation": world(extractor, 30, seed=2)}
    model, history = train(extractor, frozen, epochs, seed)
    return model, frozen["train"], frozen["validation"], history


@pytest.fixture(scope="module")
def learned():
    return trained(seed=0)


def best_iou(probabilities, masks):
    threshold = segmentation.choose_threshold(probabilities, masks)
    return metrics.foreground_iou(probabilities >= threshold, masks).mean()


def test_training_beats_the_mean_mask_clearly(learned):
    model, train, validation, history = learned
    frozen = {"train": train, "validation": validation, "seen": validation}
    (prior,) = Prepared().untrained(segmentation.MEAN_MASK, (0,), frozen, None)
    torch.testing.assert_close(prior.found.probabilities["seen"][3], train.pair_masks.float().mean(0))
    baseline = segmentation.scores(prior, "seen", validation.pair_masks)["foreground IoU"].mean()
    iou = best_iou(segmentation.predict_pairs(model, validation), validation.pair_masks)
    assert iou > baseline + 0.2
    assert iou == pytest.approx(history.epochs[history.best_epoch]["validation"])
    assert iou > history.epochs[0]["validation"] + 0.1


def test_it_is_the_sketch_that_decides_what_is_marked(learned):
    model, _, validation, _ = learned
    right = best_iou(segmentation.predict_pairs(model, validation), validation.pair_masks)
    pairs = validation.pairs.clone()
    pairs[:, 0] = (pairs[:, 0] + 1) % len(validation.sketch_records)
    wrong = best_iou(segmentation.predict_pairs(model, replace(validation, pairs=pairs)), validation.pair_masks)
    assert right > wrong + 0.2


def test_the_same_seed_gives_the_same_predictions_and_another_seed_others():
    runs = [trained(seed, epochs=2) for seed in (0, 0, 1)]
    first, again, other = (segmentation.predict_pairs(model, validation) for model, _, validation, _ in runs)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_temperature_and_offset_learn_and_the_temperature_stays_positive(learned):
    start, model = segmentation.SketchSegmenter(TinyExtractor()), learned[0]
    assert start.temperature.item() == pytest.approx(10) and start.offset.item() == pytest.approx(-2)
    assert model.temperature.item() != start.temperature.item() and model.offset.item() != start.offset.item()
    with torch.no_grad():
        start.log_temperature.fill_(-50)
    assert start.temperature > 0


def test_logits_are_temperature_times_cosine_plus_offset():
    model = segmentation.SketchSegmenter(TinyExtractor(), temperature=4.0, centre=0.5)
    sketch, photo = torch.rand(2, 3, SIDE, SIDE), torch.rand(2, 3, SIDE, SIDE)
    logits = model(sketch, photo)
    assert logits.shape == (2, 8, 8)
    feature, there = model.extractor.pooled(sketch)[1], model.extractor(photo)[1, :, 2, 5]
    cosine = feature @ there / (feature.norm() * there.norm())
    assert logits[1, 2, 5].item() == pytest.approx(4 * cosine.item() - 2, abs=1e-5)


def test_no_epochs_evaluate_the_untrained_model():
    _, _, _, history = trained(seed=0, epochs=0)
    assert [row["epoch"] for row in history.epochs] == [0]
    assert 0 < history.epochs[0]["validation"] < 1


def test_predictions_for_all_pairs_equal_those_of_one_batch_and_are_probabilities(learned):
    model, _, validation, _ = learned
    together = segmentation.predict_pairs(model, validation, batch_size=7)
    sketch, photo = validation.pairs[:5].unbind(1)
    logits = model(take(validation.sketches, sketch), take(validation.photos, photo))
    one_batch = segmentation.upsample(logits, SIDE).sigmoid().detach()
    assert together.shape == (60, SIDE, SIDE) and not together.requires_grad
    assert together.min() >= 0 and together.max() <= 1
    torch.testing.assert_close(together[:5], one_batch)


def test_every_metric_is_per_image_and_a_pixel_at_the_threshold_counts():
    probabilities = torch.tensor([[[0.47, 0.2]], [[0.9, 0.9]]])
    masks = torch.tensor([[[True, False]], [[True, False]]])
    trial = Trial("fused", 0, found=segmentation.Masks(segmentation.PAPER_THRESHOLD, {"seen": probabilities}))
    expected = {"foreground IoU": [1, 0.5], "mIoU": [1, 0.25], "pAcc": [1, 0.5], "pAcc (foreground)": [1, 1]}
    expected |= {"pAcc (class mean)": [1, 0.5], "dataset IoU": [2 / 3]}
    for metric, values in segmentation.scores(trial, "seen", masks).items():
        np.testing.assert_allclose(values, expected[metric], err_msg=metric)


def test_the_chosen_threshold_is_the_best_one_by_trying_all():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(12, 9, 9, generator=generator) < 0.3
    masks[0] = False
    probabilities = (0.35 * masks + 0.8 * torch.rand(12, 9, 9, generator=generator)).clamp(0, 1)
    candidates = [0.9, 0.1, 0.47, 0.3, 0.62]
    tried = [metrics.foreground_iou(probabilities >= c, masks).mean() for c in candidates]
    assert segmentation.choose_threshold(probabilities, masks, candidates) == candidates[int(np.argmax(tried))]
    scores = metrics.iou_by_threshold(probabilities, masks, candidates)
    np.testing.assert_allclose(scores.numpy(), tried)


def test_among_equal_thresholds_the_one_nearest_to_a_half_is_chosen():
    masks = torch.tensor([[[True, False]]])
    assert segmentation.choose_threshold(torch.tensor([[[1.0, 0.0]]]), masks) == 0.5
    assert segmentation.choose_threshold(torch.tensor([[[0.3, 0.1]]]), masks) == 0.3


def test_a_threshold_needs_maps_of_the_masks_size():
    with pytest.raises(ValueError, match="masks' side"):
        segmentation.choose_threshold(torch.zeros(2, 4, 4), torch.zeros(2, 8, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match="at least one"):
        segmentation.choose_threshold(torch.zeros(0, 4, 4), torch.zeros(0, 4, 4, dtype=torch.bool))


def test_training_without_masks_is_refused():
    with_masks = world(TinyExtractor(), 6, seed=1)
    records = [replace(record, mask=None) for record in with_masks.photo_records]
    without = replace(with_masks, masks=None, photo_records=records)
    for learned, chosen in ((without, with_masks), (with_masks, without)):
        with pytest.raises(ValueError, match="without a mask"):
            train(TinyExtractor(), {"train": learned, "validation": chosen}, epochs=1)
    assert segmentation.predict_pairs(segmentation.SketchSegmenter(TinyExtractor()), without).shape == (12, 160, 160)


def test_statistics_come_from_training_sketches_and_photos_alike():
    extractor = TinyExtractor()
    data = world(extractor, 9, seed=1)
    fit_statistics(extractor, data)
    both = torch.cat([data.sketches["pixels"], data.photos["pixels"]])
    torch.testing.assert_close(extractor.mean, both.mean((0, 2, 3)))


def write_folder(root, photos=3, masks=3, mask_size=(40, 30)):
    """`photos` photos of 40 x 30 px and two sketches in each of two categories, in the layout of anybody's own data."""
    generator = np.random.default_rng(0)
    for category in ("cat", "cup"):
        for kind, n in (("photo", photos), ("sketch", 2), ("mask", masks)):
            (root / kind / category).mkdir(parents=True, exist_ok=True)
            for i in range(n):
                if kind == "mask":
                    image = Image.new("L", mask_size)
                    image.paste(255, (10, 10, 20, 20))
                else:
                    image = Image.fromarray(generator.integers(0, 255, (30, 40, 3), dtype=np.uint8))
                image.save(root / kind / category / f"{i}.png")
    return root


def test_every_image_is_prepared_once_however_many_pairs_it_is_in(tmp_path):
    dataset = load_dataset("folder", write_folder(tmp_path))
    extractor = TinyExtractor()
    data = prepare_pairs(extractor, dataset, size=32, mask_side=20, batch_size=1)
    assert len(data) == len(data.pairs) == 6
    assert extractor.prepared_images == len(data.photo_records) + len(data.sketch_records)
    assert len(data.photo_records) == 6 and len(data.sketch_records) == 4
    assert data.photos["pixels"].shape == (6, 3, 8, 8)
    for sketch, photo in data.pairs.tolist():
        assert data.sketch_records[sketch].category == data.photo_records[photo].category
    assert data.pair_masks.shape == (6, 20, 20) and data.pair_masks.dtype == torch.bool
    # 40 x 30 px become 20 x 15 in the middle of the square, so the object lies at x 5-10 and y 7-12.
    assert data.masks[0, 7:12, 5:10].float().mean() > 0.7 and data.masks[0].sum() < 40


def test_prepared_values_belong_to_their_record(tmp_path):
    dataset = load_dataset("folder", write_folder(tmp_path))
    extractor = TinyExtractor()
    data = prepare_pairs(extractor, dataset, size=32, batch_size=1)
    for i, record in enumerate(data.photo_records):
        alone = extractor.frozen(load_images([record.path], 32))["pixels"][0]
        torch.testing.assert_close(data.photos["pixels"][i], alone)


def test_photos_without_masks_are_prepared_but_cannot_be_scored(tmp_path):
    nothing = load_dataset("folder", write_folder(tmp_path / "a", masks=0))
    data = prepare_pairs(TinyExtractor(), nothing, size=32)
    assert data.masks is None
    with pytest.raises(ValueError, match="6 of 6 pairs"):
        data.pair_masks  # noqa: B018
    some = load_dataset("folder", write_folder(tmp_path / "b", masks=2))
    data = prepare_pairs(TinyExtractor(), some, size=32)
    with pytest.raises(ValueError, match="2 of 6 pairs have photos without a mask"):
        data.pair_masks  # noqa: B018
    masked = prepare_pairs(TinyExtractor(), some.select(masked=True), size=32)
    assert len(data) == 6 and len(masked) == 4
    assert masked.pair_masks.flatten(1).any(1).all()


def test_a_part_without_pairs_is_named(tmp_path):
    dataset = load_dataset("folder", write_folder(tmp_path)).select(part="train")
    with pytest.raises(ValueError, match="no sketch-photo pair here: raise limit"):
        prepare_pairs(TinyExtractor(), dataset, size=32)


def test_the_crf_pulls_a_blurred_map_onto_the_edge_of_the_object():
    image = torch.full((3, 60, 80), 0.2)
    image[:, 15:45, 20:60] = torch.tensor([0.9, 0.5, 0.1])[:, None, None]
    mask = torch.zeros(60, 80, dtype=torch.bool)
    mask[15:45, 20:60] = True
    coarse = F.interpolate(mask[None, None].float(), size=(4, 5), mode="area")
    blurred = F.interpolate(coarse, size=(60, 80), mode="bilinear")[0, 0] * 0.8 + 0.1
    refined = segmentation.refine_with_crf(image, blurred)
    assert refined.shape == (60, 80) and refined.dtype == torch.float32
    assert refined.min() >= 0 and refined.max() <= 1
    before, after = (metrics.foreground_iou((m >= 0.5)[None], mask[None])[0] for m in (blurred, refined))
    assert after > 0.97 > before


def test_the_crf_takes_the_chosen_threshold_as_undecided():
    grey = torch.full((3, 20, 20), 0.5)
    faint = torch.full((20, 20), 0.3)
    assert (segmentation.refine_with_crf(grey, faint, threshold=0.2) > 0.5).all()
    assert (segmentation.refine_with_crf(grey, faint, threshold=0.5) < 0.5).all()


def test_the_crf_refuses_an_image_of_another_size():
    with pytest.raises(ValueError, match="same size"):
        segmentation.refine_with_crf(torch.zeros(3, 20, 20), torch.zeros(20, 21))
    with pytest.raises(ValueError, match="between 0 and 1"):
        segmentation.refine_with_crf(torch.zeros(3, 20, 20), torch.zeros(20, 20), threshold=0.0)


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """Six grey photos with a bright square on the left (cat) or a dark one on the right (cup), and their sketches."""
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for category, left, grey in (("cat", 8, 230), ("cup", 56, 30)):
        for kind in ("photo", "sketch", "mask"):
            (root / kind / category).mkdir(parents=True)
        for i in range(3):
            x, y = left + int(generator.integers(0, 8)), int(generator.integers(8, 50))
            box = (x, y, x + 32, y + 36)
            for kind, paper, ink in (("photo", 128, grey), ("sketch", 255, 0), ("mask", 0, 255)):
                image = Image.new("L", (96, 96), paper)
                image.paste(ink, box)
                image.save(root / kind / category / f"{i}.png")
    return load_dataset("folder", root)


def run(backbone, squares, epochs=6, **arm):
    extractor = FusedExtractor(backbone, dim=8, grid=12, width=4, **arm)
    data = segmentation.prepare_pairs(extractor, squares, size=96, mask_side=48, batch_size=4)
    start = {name: value.clone() for name, value in segmentation.SketchSegmenter(extractor).named_parameters()}
    model, history = train(extractor, {"train": data, "validation": data}, epochs, batch_size=3)
    return model, data, start, history


@pytest.mark.parametrize("method", ARMS)
def test_every_arm_trains_and_predicts(tiny_backbone, squares, method):
    model, data, start, history = run(tiny_backbone, squares, epochs=3, **ARMS[method])
    assert history.epochs[-1]["loss"] < history.epochs[1]["loss"]
    probabilities = segmentation.predict_pairs(model, data)
    assert probabilities.shape == (6, 48, 48)
    assert 0 <= probabilities.min() < probabilities.max() <= 1
    frozen = [name for name, value in model.named_parameters() if not value.requires_grad]
    assert bool(frozen) == (method == "fused (fixed random injection)")
    assert all(torch.equal(model.get_parameter(name), start[name]) for name in frozen)


def test_the_fused_segmenter_learns_and_leaves_the_backbone_alone(tiny_backbone, squares):
    frozen = {name: value.clone() for name, value in tiny_backbone.diffusion.unet.state_dict().items()}
    model, _, start, history = run(tiny_backbone, squares)
    assert history.best_epoch > 0
    assert history.epochs[history.best_epoch]["validation"] > history.epochs[0]["validation"] + 0.1
    injection = [name for name in start if "injection" in name]
    assert injection
    parameters = dict(model.named_parameters())
    assert all(not torch.equal(parameters[name], start[name]) for name in injection)
    assert all(torch.equal(value, frozen[name]) for name, value in tiny_backbone.diffusion.unet.state_dict().items())


def test_prepared_pairs_predict_as_the_images_themselves(tiny_backbone, squares):
    model, data, _, _ = run(tiny_backbone, squares, epochs=1)
    sketch, photo = data.pairs[:2].unbind(1)
    images = (
        load_images([records[i].path for i in at.tolist()], 96)
        for records, at in ((data.sketch_records, sketch), (data.photo_records, photo))
    )
    direct = segmentation.upsample(model(*images), 48).sigmoid().detach()
    torch.testing.assert_close(segmentation.predict_pairs(model, data)[:2], direct, atol=1e-4, rtol=0)
