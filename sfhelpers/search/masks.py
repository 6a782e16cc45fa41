"""Masks for everything in a gallery: what a trained segmenter makes of anybody's own photos (paper, Fig. 4)."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from sfhelpers import plots, results
from sfhelpers.datasets import Dataset, Record
from sfhelpers.files import make_folder, replace_file
from sfhelpers.images import Square, load_images, open_image, open_mask
from sfhelpers.metrics import foreground_iou
from sfhelpers.tasks.arms import reading_size
from sfhelpers.tasks.prepared import take
from sfhelpers.tasks.segmentation import DEFINITIONS, SketchSegmenter, refine_with_crf, upsample

CRF_SIDE = 240  # px; the CRF runs on the photo at this size, since its cost grows with the pixels
KEPT_SIDE = 160  # px, of the photos that are kept for pictures


@dataclass
class Masked:
    """A photo of the gallery and what was found in it."""

    record: Record  # the photo's
    photo: np.ndarray  # (H, W, 3) uint8 at its own size
    mask: np.ndarray  # (H, W) bool
    sketch: Path  # the first of its category's query sketches
    iou: float | None  # foreground IoU with the photo's own mask file, None without one


@torch.no_grad()
def segment_gallery(
    model: SketchSegmenter, dataset: Dataset, threshold: float, crf: bool = True, batch_size: int = 16
) -> Iterator[Masked]:
    """Mark the sketched concept in every photo, category by category.

    The query of a category is all of its sketches together: their pooled features, each of length 1, are averaged.

    Args:
        threshold: the probability from which a pixel is foreground.
        crf: refine each map by a dense CRF on the photo's own colours.

    Yields:
        One `Masked` a photo, in the order of `dataset.photos`.
    """
    model.eval()
    side = reading_size(model.extractor.backbone)
    with tqdm(total=len(dataset.photos), desc="masks", leave=False) as bar:
        for category in dataset.categories:
            chosen = dataset.select(categories=[category])
            query = _query(model, chosen.sketches, batch_size)
            for photos, prepared in _batches(model, chosen.photos, batch_size):
                logits = model.correlate(query.expand(len(photos), -1), model.extractor(prepared))
                for record, probability in zip(photos, upsample(logits, side).sigmoid().cpu(), strict=True):
                    yield _masked(record, probability, threshold, crf, chosen.sketches[0].path)
                    bar.update()


def write_gallery(masked: Iterator[Masked], output_dir: Path) -> dict[str, list[Masked]]:
    """Write a mask PNG and an overlay PNG for every photo and a contact sheet for every category.

    Files are `output_dir/masks/<category>/<photo>_mask.png`, `..._overlay.png` and `output_dir/masks/<category>.png`;
    each is written beside and then renamed.

    Returns:
        category -> its photos and masks, for pictures; photos are kept at 160 px.
    """
    folder, kept = output_dir / "masks", {}
    for item in masked:
        category, stem = item.record.category, item.record.path.stem
        make_folder(folder / category)
        replace_file(folder / category / f"{stem}_mask.png", _png(item.mask.astype(np.uint8) * 255))
        replace_file(folder / category / f"{stem}_overlay.png", _png(plots.overlay(item.photo, item.mask)))
        kept.setdefault(category, []).append(_small(item))
    for category, items in kept.items():
        photos, masks, title = [i.photo for i in items], [i.mask for i in items], f"{category}: {len(items)} photos"
        cells = [open_image(items[0].sketch), *map(plots.overlay, photos, masks)]
        rows = [cells[start : start + 10] for start in range(0, len(cells), 10)]
        sheet = plots.grid(rows, None, ["query"] + [""] * (len(rows[0]) - 1), 0.8, title)
        replace_file(folder / f"{category}.png", sheet.png())
    return kept


def row(run: Any, found: list[float], weights_sha256: str) -> results.Row:
    """The result row of a gallery whose photos came with masks; `found` is the foreground IoU of each."""
    of_photos = DEFINITIONS["foreground IoU"].replace("pairs", "photos")
    told = {"task": "segmentation", "method": "fused", "metric": "foreground IoU", "gallery": "whole gallery"}
    told["definition"] = f"{of_photos}; threshold from validation pairs, then CRF"
    return results.row(run, value=np.mean(found), n=len(found), weights_sha256=weights_sha256, **told)


def _batches(model: SketchSegmenter, records: Sequence[Record], batch_size: int) -> Iterator[tuple]:
    """A batch of records after the other, each with what is frozen of its images."""
    for start in range(0, len(records), batch_size):
        batch = records[start : start + batch_size]
        images = load_images([record.path for record in batch], reading_size(model.extractor.backbone))
        yield batch, take(model.extractor.prepare(images), torch.arange(len(batch)), model.centre.device)


def _query(model: SketchSegmenter, sketches: Sequence[Record], batch_size: int) -> Tensor:
    pooled = [model.extractor.pooled(prepared) for _, prepared in _batches(model, sketches, batch_size)]
    return F.normalize(torch.cat(pooled), dim=1).mean(0, keepdim=True)


def _masked(record: Record, probability: Tensor, threshold: float, crf: bool, sketch: Path) -> Masked:
    image = open_image(record.path)
    width, height = image.size
    scale = min(1.0, CRF_SIDE / max(width, height))
    small = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BOX)
    fitted = torch.from_numpy(Square.of(*small.size, len(probability)).undo_map(probability))
    cut = threshold
    if crf:
        pixels = torch.from_numpy(np.asarray(small, np.float32).transpose(2, 0, 1) / 255)
        fitted, cut = refine_with_crf(pixels, fitted, threshold=threshold), 0.5
    grown = F.interpolate(fitted[None, None], size=(height, width), mode="bilinear", align_corners=False)[0, 0]
    mask = grown.numpy() >= cut
    iou = None if record.mask is None else float(foreground_iou(mask[None], open_mask(record.mask)[None])[0])
    return Masked(record, np.asarray(image), mask, sketch, iou)


def _small(item: Masked) -> Masked:
    photo, mask = Image.fromarray(item.photo), Image.fromarray(item.mask)
    photo.thumbnail((KEPT_SIDE, KEPT_SIDE))
    return replace(item, photo=np.asarray(photo), mask=np.asarray(mask.resize(photo.size)))


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()
