"""Everybody's own photos get their masks: all of them, at their own size, and never half a file."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from sfhelpers import toyworld
from sfhelpers.datasets import load_dataset
from sfhelpers.images import open_image, open_mask
from sfhelpers.search import masks
from sfhelpers.tasks.segmentation import SketchSegmenter
from tests.backbone_fixtures import small

CATEGORIES = ("cat", "duck")


@pytest.fixture(scope="module")
def model(tiny_backbone):
    """An untrained segmenter; where it marks what does not matter here."""
    return SketchSegmenter(small(tiny_backbone))


@pytest.fixture
def own(tmp_path):
    """Two categories of three photos and two sketches a photo, no masks; one photo wide, one tall."""
    toyworld.write_folder(tmp_path / "own", photos=3, sketches=2, categories=CATEGORIES, masks=False)
    wide, tall, _ = sorted((tmp_path / "own" / "photo" / "cat").iterdir())
    Image.open(wide).resize((321, 90)).save(wide)
    Image.open(tall).resize((70, 255)).save(tall)
    return tmp_path / "own"


def write(model, root, out, **options):
    dataset = load_dataset("folder", root)
    return dataset, masks.write_gallery(masks.segment_gallery(model, dataset, 0.5, **options), out)


def files(folder):
    """Relative path -> content of everything in a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_complete(dataset, out):
    """One mask and one overlay a photo at its own size, one sheet a category, nothing else."""
    expected = {f"masks/{category}.png" for category in dataset.categories}
    for photo in dataset.photos:
        names = [f"masks/{photo.category}/{photo.path.stem}_{kind}.png" for kind in ("mask", "overlay")]
        expected |= set(names)
        mask, overlay = (Image.open(out / name) for name in names)
        size = open_image(photo.path).size
        assert mask.format == overlay.format == "PNG" and mask.size == overlay.size == size
        assert mask.mode == "L" and set(np.unique(np.asarray(mask))) <= {0, 255}
        assert overlay.mode == "RGB"
    assert files(out).keys() == expected
    for category in dataset.categories:
        assert np.asarray(Image.open(out / "masks" / f"{category}.png").convert("RGB")).std() > 5


@pytest.mark.parametrize("crf", [True, False])
def test_every_photo_gets_a_mask_and_an_overlay_of_its_own_size_and_every_category_a_sheet(model, own, tmp_path, crf):
    dataset, kept = write(model, own, tmp_path / "out", crf=crf)
    assert_complete(dataset, tmp_path / "out")
    assert {category: len(items) for category, items in kept.items()} == {"cat": 3, "duck": 3}
    for photo, item in zip(dataset.photos, [i for items in kept.values() for i in items], strict=True):
        assert item.record == photo and item.sketch.parent.name == photo.category
        assert max(item.photo.shape) <= 160 and item.photo.shape[:2] == item.mask.shape


def test_masks_are_given_in_the_photos_order_whatever_the_batches(model, own):
    dataset = load_dataset("folder", own)
    first, *others = (list(masks.segment_gallery(model, dataset, 0.5, crf=False, batch_size=b)) for b in (1, 2, 16))
    assert [item.mask.shape for item in first[:2]] == [(90, 321), (255, 70)]
    for run in (first, *others):
        assert [item.record for item in run] == list(dataset.photos)
        assert min((a.mask == b.mask).mean() for a, b in zip(run, first, strict=True)) > 0.999


def test_the_mask_is_the_probability_cut_at_the_threshold(model, own):
    dataset = load_dataset("folder", own).select(categories=["duck"])
    shares = []
    for threshold in (0.0, 0.3, 0.5, 0.7, 1.1):
        found = masks.segment_gallery(model, dataset, threshold, crf=False)
        shares.append(np.mean([item.mask.mean() for item in found]))
    assert shares[0] == 1 and shares[-1] == 0 and shares == sorted(shares, reverse=True)


def test_the_mask_lies_where_the_object_is_in_a_wide_photo(model, own, monkeypatch):
    dataset = load_dataset("folder", own).select(categories=["cat"])
    left = torch.full((9, 9), -20.0)
    left[:, :4] = 20.0
    monkeypatch.setattr(model, "correlate", lambda query, maps: left.expand(len(maps), 9, 9))
    wide, tall, _ = (item.mask for item in masks.segment_gallery(model, dataset, 0.5, crf=False))
    columns = wide.mean(0)
    assert (columns[:120] == 1).all() and (columns[160:] == 0).all()
    assert tall[:, :20].all() and not tall[:, 40:].any(), "the padding beside a tall photo is cut off"


def test_a_second_run_replaces_the_files(model, own, tmp_path):
    write(model, own, tmp_path / "out", crf=False)
    first = files(tmp_path / "out")
    for name in ("masks/cat.png", next(n for n in first if n.endswith("_mask.png"))):
        (tmp_path / "out" / name).write_bytes(b"old")
    (tmp_path / "out" / "mine.txt").write_text("mine")
    write(model, own, tmp_path / "out", crf=False)
    assert files(tmp_path / "out") == first | {"mine.txt": b"mine"}


def test_an_interrupted_run_leaves_the_earlier_files_whole(model, own, tmp_path):
    dataset, _ = write(model, own, tmp_path / "out", crf=False)
    before = files(tmp_path / "out")

    def cut():
        found = masks.segment_gallery(model, dataset, 0.2, crf=False)
        yield from (next(found), next(found))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        masks.write_gallery(cut(), tmp_path / "out")
    assert_complete(dataset, tmp_path / "out")
    after = files(tmp_path / "out")
    redone = {f"masks/cat/{photo.path.stem}_{kind}.png" for photo in dataset.photos[:2] for kind in ("mask", "overlay")}
    assert {name for name in after if after[name] != before[name]} <= redone


@pytest.mark.parametrize("written", ["_mask.png", "cat.png"])
def test_a_disk_that_fills_while_a_file_is_written_leaves_the_earlier_one(model, own, tmp_path, monkeypatch, written):
    write(model, own, tmp_path / "out", crf=False)
    before = files(tmp_path / "out")
    replace = os.replace

    def full(beside, path):
        if str(path).endswith(written):
            raise OSError(28, "No space left on device")
        replace(beside, path)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write(model, own, tmp_path / "out", crf=False)
    assert files(tmp_path / "out") == before


def test_masks_beside_the_photos_change_no_file_and_give_a_score_only_where_they_are(model, own, tmp_path):
    _, unscored = write(model, own, tmp_path / "without", crf=False)
    assert all(item.iou is None for items in unscored.values() for item in items)
    for photo in (own / "photo" / "cat").iterdir():
        (own / "mask" / "cat").mkdir(parents=True, exist_ok=True)
        Image.new("L", Image.open(photo).size, 255).save(own / "mask" / "cat" / f"{photo.stem}.png")
    dataset, kept = write(model, own, tmp_path / "with", crf=False)
    assert dataset.has_masks and files(tmp_path / "with") == files(tmp_path / "without")
    assert [item.iou for item in kept["duck"]] == [None] * 3
    found = [open_mask(tmp_path / f"with/masks/cat/{i.record.path.stem}_mask.png").mean() for i in kept["cat"]]
    assert [item.iou for item in kept["cat"]] == pytest.approx(found), "the whole photo is the truth here"


def test_names_that_are_not_ascii_keep_their_letters(model, own, tmp_path):
    photo = next((own / "photo" / "duck").iterdir())
    photo.rename(photo.with_name("Ente im Grünen 鸭 v1.2.jpg"))
    for domain in ("photo", "sketch"):
        (own / domain / "duck").rename(own / domain / "Éntchen St. 2")
    dataset, _ = write(model, own, tmp_path / "öut", crf=False)
    assert_complete(dataset, tmp_path / "öut")
    assert open_mask(tmp_path / "öut/masks/Éntchen St. 2/Ente im Grünen 鸭 v1.2_mask.png").shape == (160, 160)


@pytest.mark.parametrize("size", [(160, 160), (9, 1200), (1200, 8), (8, 8)])
def test_a_single_photo_of_any_shape_and_a_single_sketch_work(model, own, tmp_path, size):
    for path in [*(own / "photo" / "cat").iterdir(), *sorted((own / "sketch" / "cat").iterdir())[1:]]:
        path.unlink()
    Image.effect_noise(size, 80).convert("RGB").save(own / "photo" / "cat" / "odd.png")
    dataset, kept = write(model, own, tmp_path / "out")
    assert len(dataset.select(categories=["cat"]).records) == 2 and len(kept["cat"]) == 1
    assert_complete(dataset, tmp_path / "out")


def test_the_query_is_all_sketches_of_the_category_together(model, own):
    dataset = load_dataset("folder", own).select(categories=["cat"])
    parts = [masks._query(model, (sketch,), batch_size=16) for sketch in dataset.sketches]
    for size in (4, 16):
        whole = masks._query(model, dataset.sketches, batch_size=size)
        torch.testing.assert_close(whole, torch.cat(parts).mean(0, keepdim=True), atol=1e-5, rtol=0)
