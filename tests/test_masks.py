"""Everybody's own photos get their masks: all of them, at their own size, and never half a file."""

import os
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from sfhelpers import toyworld
from sfhelpers.datasets import load_dataset
from sfhelpers.images import load_images, open_image, open_mask
from sfhelpers.search import masks
from sfhelpers.tasks.segmentation import SketchSegmenter
from tests.backbone_fixtures import files, small


@pytest.fixture(scope="module")
def model(tiny_backbone):
    """An untrained segmenter; where it marks what does not matter here."""
    return SketchSegmenter(small(tiny_backbone))


@pytest.fixture
def own(tmp_path):
    """Two categories of three photos and two sketches a photo, no masks; one photo wide, one tall; not all in ASCII."""
    root = tmp_path / "Größe 猫"
    toyworld.write_folder(root, photos=3, sketches=2, categories=("cat", "duck"), masks=False)
    photo = next((root / "photo" / "duck").iterdir())
    photo.rename(photo.with_name("Ente im Grünen 鸭 v1.2.jpg"))
    for domain in ("photo", "sketch"):
        (root / domain / "duck").rename(root / domain / "Éntchen St. 2")
    wide, tall, _ = sorted((root / "photo" / "cat").iterdir())
    Image.open(wide).resize((321, 90)).save(wide)
    Image.open(tall).resize((70, 255)).save(tall)
    return root


@pytest.fixture
def quick(monkeypatch):
    """Instead of the CRF the map itself, the threshold moved to a half."""
    monkeypatch.setattr(masks, "refine_with_crf", lambda pixels, fitted, threshold: fitted - threshold + 0.5)


def write(model, root, out, threshold=0.5):
    dataset = load_dataset("folder", root)
    kept = masks.write_gallery(model, dataset, threshold, out)
    return dataset, [item for items in kept.values() for item in items]


def assert_complete(dataset, out):
    """One mask and one overlay a photo at its own size, one sheet a category, nothing else."""
    expected = {f"masks/{category}.png" for category in dataset.categories}
    for photo in dataset.photos:
        names = [f"masks/{photo.category}/{photo.path.stem}_{kind}.png" for kind in ("mask", "overlay")]
        expected |= set(names)
        mask, overlay = (Image.open(out / name) for name in names)
        assert mask.format == overlay.format == "PNG" and mask.size == overlay.size == open_image(photo.path).size
        assert (mask.mode, overlay.mode) == ("L", "RGB") and set(np.unique(np.asarray(mask))) <= {0, 255}
    assert files(out).keys() == expected
    for category in dataset.categories:
        assert np.asarray(Image.open(out / "masks" / f"{category}.png").convert("RGB")).std() > 5


def test_every_photo_gets_its_files_under_its_own_letters_whatever_the_batches(model, own, tmp_path, monkeypatch):
    found = []
    for size in (1, 16):
        monkeypatch.setattr(masks, "BATCH", size)
        dataset, items = write(model, own, tmp_path / "öut")
        found.append([item.mask for item in items])
    assert_complete(dataset, tmp_path / "öut")
    assert (tmp_path / "öut/masks/Éntchen St. 2/Ente im Grünen 鸭 v1.2_mask.png").is_file()
    assert [item.record for item in items] == list(dataset.photos) and len(items) == 6
    assert all(max(item.photo.shape) <= 160 and item.photo.shape[:2] == item.mask.shape for item in items)
    assert min((one == other).mean() for one, other in zip(*found, strict=True)) > 0.999


def test_the_mask_is_the_probability_cut_at_the_threshold(quick, model, own, tmp_path):
    cuts = (0.0, 0.3, 0.5, 0.7, 1.1)
    shares = [np.mean([item.mask.mean() for item in write(model, own, tmp_path / "out", cut)[1]]) for cut in cuts]
    assert shares[0] == 1 and shares[-1] == 0 and shares == sorted(shares, reverse=True)


def test_all_sketches_ask_together_and_the_mask_lies_where_the_object_is(quick, model, own, tmp_path, monkeypatch):
    left, asked = torch.full((9, 9), -20.0), []
    left[:, :4] = 20.0
    monkeypatch.setattr(model, "correlate", lambda q, maps: asked.append(q[0]) or left.expand(1, len(maps), 9, 9))
    monkeypatch.setattr(masks, "BATCH", 4)
    dataset, _ = write(model, own, tmp_path / "out")
    names = [f"masks/cat/{photo.path.stem}_mask.png" for photo in dataset.photos[:2]]
    wide, tall = (open_mask(tmp_path / "out" / name) for name in names)
    assert wide[:, :120].all() and not wide[:, 160:].any()
    assert tall[:, :20].all() and not tall[:, 40:].any(), "the padding beside a tall photo is cut off"
    sketches = load_images([sketch.path for sketch in dataset.select(categories=["cat"]).sketches], 96)
    expected = F.normalize(model.extractor.pooled(sketches), dim=1).mean(0)
    torch.testing.assert_close(asked[0], expected.detach(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("last", "error", "new"),
    [("0_mask.png", OSError(28, "no room"), 0), ("2_mask.png", KeyboardInterrupt, 2), ("cat.png", OSError(28, ""), 3)],
)
def test_an_interrupted_run_leaves_the_earlier_files_whole(quick, model, own, tmp_path, monkeypatch, last, error, new):
    for k, photo in enumerate(sorted((own / "photo" / "cat").iterdir())):
        photo.rename(photo.with_stem(str(k)))
    dataset, _ = write(model, own, tmp_path / "out")
    before, replace = files(tmp_path / "out"), os.replace

    def stop(beside, path):
        if path.name == last:
            raise error
        replace(beside, path)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else OSError):
        write(model, own, tmp_path / "out", threshold=0.2)
    assert_complete(dataset, tmp_path / "out")
    changed = {name for name, content in files(tmp_path / "out").items() if before[name] != content}
    assert changed <= {f"masks/cat/{k}_{kind}.png" for k in range(new) for kind in ("mask", "overlay")}


def test_a_second_run_replaces_the_files_and_true_masks_change_none_but_give_a_score(quick, model, own, tmp_path):
    _, unscored = write(model, own, tmp_path / "out")
    assert all(item.iou is None for item in unscored)
    first = files(tmp_path / "out")
    for name in first:
        (tmp_path / "out" / name).write_bytes(b"old")
    (own / "mask" / "cat").mkdir(parents=True)
    for photo in (own / "photo" / "cat").iterdir():  # all of it is true
        Image.new("L", Image.open(photo).size, 255).save(own / "mask" / "cat" / f"{photo.stem}.png")
    _, items = write(model, own, tmp_path / "out")
    assert files(tmp_path / "out") == first
    found = [open_mask(tmp_path / f"out/masks/cat/{i.record.path.stem}_mask.png").mean() for i in items[:3]]
    assert [item.iou for item in items] == [*map(pytest.approx, found), None, None, None]


def test_classes_of_any_name_are_drawn_and_written_side_by_side(quick, model, own, tmp_path, capfd):
    names = [b"cat.png", b"a\xff\xfe", b"x\x1b[31m", b"two\nlines", rb"US$ \frac$", b"l" * 250, "\u202egnp".encode()]
    for name in names:
        for domain in ("photo", "sketch"):
            shutil.copytree(own / domain / "cat", own / domain / os.fsdecode(name))
    dataset, _ = write(model, own, tmp_path / "out")
    assert len(dataset.categories) == len(names) + 2 and all(name.isprintable() for name in dataset.categories)
    assert max(map(len, dataset.categories)) <= 60
    sheets = {path.name for path in (tmp_path / "out" / "masks").iterdir() if path.is_file()}
    assert sheets == {f"{name}.png" for name in dataset.categories} - {"cat.png"} | {"_cat.png"}
    said = capfd.readouterr().err
    assert "cat" in said and not any(mark in said for mark in ("\x1b[31", "\u202e", "two\n"))


@pytest.mark.parametrize("size", [(9, 1200), (1200, 8), (8, 8)])
def test_a_single_photo_of_any_shape_and_a_single_sketch_work(model, own, tmp_path, size):
    for path in [*(own / "photo" / "cat").iterdir(), *sorted((own / "sketch" / "cat").iterdir())[1:]]:
        path.unlink()
    Image.effect_noise(size, 80).convert("RGB").save(own / "photo" / "cat" / "odd.png")
    dataset, items = write(model, own, tmp_path / "out")
    assert len(dataset.select(categories=["cat"]).records) == 2 and len(items) == 4
    assert_complete(dataset, tmp_path / "out")
