"""Masks for everything in a gallery: what a trained segmenter makes of anybody's own photos (paper, Fig. 4)."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from sfhelpers import plots
from sfhelpers.datasets import Dataset, Record
from sfhelpers.files import check_own, make_folder, replace_file
from sfhelpers.images import Square, load_images, open_image, open_mask
from sfhelpers.metrics import foreground_iou
from sfhelpers.tasks.arms import reading_size
from sfhelpers.tasks.prepared import embed_photos
from sfhelpers.tasks.segmentation import SketchSegmenter, refine_with_crf, upsample

BATCH = 16  # images that are looked at together
CRF_SIDE = 240  # px; the CRF runs on the photo at this size, since its cost grows with the pixels


@dataclass
class Masked:
    """A photo of the gallery and what was found in it, small enough to keep for pictures."""

    record: Record
    photo: np.ndarray  # (h, w, 3) uint8
    mask: np.ndarray  # (h, w) bool
    iou: float | None  # foreground IoU with the photo's own mask file, at its own size; None without one


@torch.no_grad()
def write_gallery(
    model: SketchSegmenter, dataset: Dataset, threshold: float, output_dir: Path
) -> dict[str, list[Masked]]:
    """Write `output_dir/masks/<category>/<photo>_mask.png` and `_overlay.png`, and a contact sheet `<category>.png`.

    All sketches of a category ask together, by the mean of their features; a dense CRF refines every map. `threshold`
    is the probability from which a pixel is foreground. Gives category -> its photos and masks, at 160 px.
    """
    model.eval()
    size, device = reading_size(model.extractor.backbone), model.centre.device
    check_own(output_dir / "masks")
    kept: dict[str, list[Masked]] = {}
    names = {*dataset.categories}  # of folders and of sheets
    for category in dataset.categories:
        chosen, folder = dataset.select(categories=[category]), output_dir / "masks" / category
        make_folder(folder)
        pooled = embed_photos([sketch.path for sketch in chosen.sketches], model.extractor.pooled, size, BATCH)
        query = F.normalize(pooled, dim=1).mean(0, keepdim=True).to(device)
        found = kept[category] = []
        for start in tqdm(range(0, len(chosen.photos), BATCH), f"{category}: photos", leave=False):
            photos = chosen.photos[start : start + BATCH]
            maps = model.extractor(load_images([photo.path for photo in photos], size).to(device))
            probabilities = upsample(model.correlate(query, maps)[0], size).sigmoid().cpu()
            found += [_write(folder, *both, threshold) for both in zip(photos, probabilities, strict=True)]
        cells = [open_image(chosen.sketches[0].path), *(plots.overlay(item.photo, item.mask) for item in found)]
        rows = [cells[start : start + 10] for start in range(0, len(cells), 10)]
        labels, title = ["query"] + [""] * (len(rows[0]) - 1), f"{category}: {len(found)} photos"
        sheet = f"{category}.png"
        while sheet in names or folder.with_name(sheet).is_dir():
            sheet = f"_{sheet}"
        names.add(sheet)
        replace_file(folder.with_name(sheet), plots.grid(rows, None, labels, 0.8, title).png())
    return kept


def _write(folder: Path, record: Record, probability: Tensor, threshold: float) -> Masked:
    image = open_image(record.path)
    inner = Square.of(*image.size, min(CRF_SIDE, max(image.size))).inner
    small = image.resize(inner, Image.Resampling.BOX)
    fitted = torch.from_numpy(Square.of(*small.size, len(probability)).undo_map(probability))
    pixels = torch.from_numpy(np.asarray(small, np.float32).transpose(2, 0, 1) / 255)
    refined = refine_with_crf(pixels, fitted, threshold)[None, None]
    mask = F.interpolate(refined, size=image.size[::-1], mode="bilinear", align_corners=False)[0, 0].numpy() >= 0.5
    for kind, picture in (("mask", mask.astype(np.uint8) * 255), ("overlay", plots.overlay(image, mask))):
        Image.fromarray(picture).save(file := io.BytesIO(), format="PNG")
        replace_file(folder / f"{record.path.stem}_{kind}.png", file.getvalue())
    iou = None if record.mask is None else float(foreground_iou(mask[None], open_mask(record.mask)[None])[0])
    image.thumbnail((160, 160))
    return Masked(record, np.asarray(image), np.asarray(Image.fromarray(mask).resize(image.size)), iou)
