"""The segmenter over the real extractor, on a tiny random backbone."""

import numpy as np
import pytest
import torch
from PIL import Image

from sfhelpers.datasets import load_dataset
from sfhelpers.fusion import ARMS, FusedExtractor
from sfhelpers.images import load_images
from sfhelpers.tasks import segmentation


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
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


def run(backbone, dataset, epochs=6, **arm):
    extractor = FusedExtractor(backbone, dim=8, grid=12, width=4, **arm)
    data = segmentation.prepare_pairs(extractor, dataset, size=96, mask_side=48, batch_size=4)
    model = segmentation.SketchSegmenter(extractor)
    start = {name: value.clone() for name, value in model.named_parameters()}
    history = segmentation.train_segmenter(model, data, data, epochs=epochs, learning_rate=1e-2, batch_size=3, seed=0)
    return model, data, start, history


@pytest.mark.parametrize("method", ARMS)
def test_every_arm_trains_and_predicts(tiny_backbone, dataset, method):
    model, data, start, history = run(tiny_backbone, dataset, epochs=3, **ARMS[method])
    assert history.epochs[-1]["loss"] < history.epochs[1]["loss"]
    probabilities = segmentation.predict_pairs(model, data)
    assert probabilities.shape == (6, 48, 48)
    assert 0 <= probabilities.min() < probabilities.max() <= 1
    frozen = [name for name, value in model.named_parameters() if not value.requires_grad]
    assert bool(frozen) == (method == "fused (fixed random injection)")
    assert all(torch.equal(model.get_parameter(name), start[name]) for name in frozen)


def test_the_fused_segmenter_learns_and_leaves_the_backbone_alone(tiny_backbone, dataset):
    frozen = {name: value.clone() for name, value in tiny_backbone.diffusion.unet.state_dict().items()}
    model, _, start, history = run(tiny_backbone, dataset)
    assert history.best_epoch > 0
    assert history.epochs[history.best_epoch]["validation"] > history.epochs[0]["validation"] + 0.1
    injection = [name for name in start if "injection" in name]
    assert injection
    parameters = dict(model.named_parameters())
    assert all(not torch.equal(parameters[name], start[name]) for name in injection)
    assert all(torch.equal(value, frozen[name]) for name, value in tiny_backbone.diffusion.unet.state_dict().items())


def test_prepared_pairs_predict_as_the_images_themselves(tiny_backbone, dataset):
    model, data, _, _ = run(tiny_backbone, dataset, epochs=1)
    sketch, photo = data.pairs[:2].unbind(1)
    images = (
        load_images([records[i].path for i in at.tolist()], 96)
        for records, at in ((data.sketch_records, sketch), (data.photo_records, photo))
    )
    direct = segmentation.predict(model, *images, side=48)
    torch.testing.assert_close(segmentation.predict_pairs(model, data)[:2], direct, atol=1e-4, rtol=0)
