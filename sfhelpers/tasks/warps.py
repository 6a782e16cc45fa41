"""Correspondence without keypoint labels, PSC6K's "self-supervised" split (Lu et al., ICML 2023, by another model)."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfhelpers.datasets import Dataset
from sfhelpers.datasets.psc6k import Annotated
from sfhelpers.store import joined
from sfhelpers.tasks import prepared
from sfhelpers.tasks.compare import Frozen
from sfhelpers.tasks.correspondence import Correspondence, SketchMatcher
from sfhelpers.tasks.prepared import PreparedPairs, PreparedPoints, prepare_images, prepare_pairs, prepare_points, take

POINTS = 16  # an image and its warp
TURN, SCALE, SHIFT = 0.4, (0.7, 1.2), 0.12  # radians at most; range; share of the side at most


class WarpedPairs(NamedTuple):
    images: PreparedPairs  # sketch-photo pairs without keypoints
    teacher: PreparedPoints  # the same images (as "sketch"), a warp of each (as "photo"), their corresponding points


class Warps(Correspondence):
    """As `Correspondence`, but no keypoint is read to learn from: the epoch, too, is chosen on warps."""

    def learned(self, annotated: Annotated) -> dict[str, Dataset]:
        return {"train": annotated.unlabelled.select(part="train"), "validation": annotated.unlabelled.select("val")}

    @staticmethod
    def read(extractor: nn.Module, part: Any, size: int, **noise: Any) -> Any:
        """Annotated pairs to test with, else pairs and a warp of every image to learn from, the same on every run."""
        if not isinstance(part, Dataset):
            return prepare_points(extractor, part, size, **noise)
        images = prepare_pairs(extractor, part, size, **noise)
        records = images.sketch_records + images.photo_records
        n, read = len(records), prepared.reader(records, size)
        generator = torch.Generator().manual_seed(0)
        matrices = random_similarities(n, generator)
        inside = 0.1 + 0.8 * torch.rand(n, POINTS, 2, generator=generator)
        moved = move(inside, matrices)
        visible = ((moved > 0) & (moved < 1)).all(2)
        points = {"sketch": inside, "photo": torch.where(visible[..., None], moved, 0.5)}
        names = (f"{record.digest} {matrix.tolist()}" for record, matrix in zip(records, matrices, strict=True))
        about = "preparing warps", names, size
        warped = prepare_images(extractor, lambda k: warp(read(k), matrices[list(k)]), n, *about, **noise)
        both = {name: joined(images.sketches[name], images.photos[name]) for name in images.sketches}
        teacher = PreparedPairs(both, warped, records, records, torch.arange(n)[:, None].expand(-1, 2), None)
        return WarpedPairs(images, PreparedPoints(teacher, points, visible))

    def examples(self, frozen: Frozen) -> int:
        return len(frozen["train"].images)

    def loss(self, model: SketchMatcher, frozen: Frozen, indices: Tensor) -> Tensor:
        """That of the warps, and CLIP's of the pooled pairs: a photo that is there twice is no negative of itself."""
        (images, teacher), device = frozen["train"], model.log_temperature.device
        sketch, photo = images.pairs[indices].unbind(1)
        loss = model.loss(teacher, torch.cat([sketch, len(images.sketch_records) + photo]).unique())
        sides = take(images.sketches, sketch, device), take(images.photos, photo, device)
        sketches, photos = (F.normalize(model.extractor.pooled(side), dim=1) for side in sides)
        again = (photo[:, None] == photo) & ~torch.eye(len(photo), dtype=torch.bool)
        logits = sketches @ photos.T / model.log_contrast_temperature.exp()
        logits, truth = logits.masked_fill(again.to(device), -math.inf), torch.arange(len(photo), device=device)
        return loss + (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2

    def validate(self, model: SketchMatcher, frozen: Frozen) -> float:
        return super().validate(model, {"validation": frozen["validation"].teacher})


def random_similarities(number: int, generator: torch.Generator) -> Tensor:
    """(number, 2, 3) matrices that move points of [-1, 1]: turned, scaled, shifted, never mirrored."""
    turn, scale, x, y = torch.rand(4, number, generator=generator)
    angle, size = TURN * (2 * turn - 1), SCALE[0] + (SCALE[1] - SCALE[0]) * scale
    cos, sin = size * angle.cos(), size * angle.sin()
    right, down = (2 * SHIFT * (2 * share - 1) for share in (x, y))
    return torch.stack([cos, -sin, right, sin, cos, down], 1).view(number, 2, 3)


def move(points: Tensor, matrices: Tensor) -> Tensor:
    """Points (B, J, 2), x then y in [0, 1], moved by `matrices` (B, 2, 3)."""
    return (2 * points - 1) @ matrices[:, :, :2].mT / 2 + (matrices[:, None, :, 2] + 1) / 2


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Images (B, 3, H, W) moved as `matrices` (B, 2, 3) move points; what comes in from outside repeats the edge."""
    back = torch.linalg.inv(matrices[:, :, :2])
    inverse = torch.cat([back, -back @ matrices[:, :, 2:]], 2)  # grid_sample asks where each new pixel came from
    grid = F.affine_grid(inverse, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
