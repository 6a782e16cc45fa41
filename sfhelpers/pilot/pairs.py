"""Sketch-photo pairs of the toy world for the pilot study, with exact ground truth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from tqdm.auto import tqdm

from sfhelpers.toyworld import CATEGORIES, DIFFICULTY, SIZE, render_scene, render_sketch
from sfhelpers.toyworld.categories import individual
from sfhelpers.toyworld.shapes import stream

PAIRS_SEED = 20_250_618  # these individuals are in no data set (seeds 0, 1, ...) and in no TRAINING_SEED's pictures


@dataclass
class ToyPairs:
    """N pairs, each a sketch and a photo of one individual, in poses of their own; the photo shows other things too."""

    images: Tensor  # (N, 2, 3, 160, 160) in [0, 1], sketch and photo
    points: Tensor  # (N, 2, 8, 2), the keypoints' x and y as shares of the image's side
    visible: Tensor  # (N, 2, 8) bool
    masks: Tensor  # (N, 160, 160) bool, all that is a thing in the photo and not ground, whichever was drawn
    silhouettes: Tensor  # (N, 160, 160) bool, what the sketch outlines, as a steady hand would have drawn it
    labels: list[str]  # N categories

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, which: Sequence[int]) -> "ToyPairs":
        index = [int(k) for k in which]
        return ToyPairs(*(v[index] if isinstance(v, Tensor) else [v[k] for k in index] for v in vars(self).values()))


def toy_pairs(per_category: int, categories: Sequence[str] = tuple(CATEGORIES)) -> ToyPairs:
    """Pairs of the toy world that no model here was trained on, so many of each category; 15 ms each."""
    plan = [(name, k) for name in categories for k in range(per_category)]
    if not plan or not set(categories) <= set(CATEGORIES):
        asked = f"{per_category} pairs of each of {', '.join(categories) or 'no category'}"
        raise ValueError(f"asked for {asked}: give one or more, of categories among {', '.join(CATEGORIES)}.")
    found = [_pair(*entry) for entry in tqdm(plan, desc="drawing pairs", leave=False, delay=1)]
    return ToyPairs(*(torch.stack(parts) for parts in zip(*found, strict=True)), [name for name, _ in plan])


def _pair(category: str, index: int) -> tuple[Tensor, ...]:
    photo, things = render_scene(category, index, PAIRS_SEED, DIFFICULTY)
    mask = np.logical_or.reduce([thing.mask for thing in things])
    sketch, in_sketch = render_sketch(category, index, 0, PAIRS_SEED, DIFFICULTY)
    colours = torch.from_numpy(np.stack([np.repeat(sketch[..., None], 3, axis=2), photo])).permute(0, 3, 1, 2)
    keypoints = torch.from_numpy(np.stack([in_sketch, things[0].keypoints])).float()
    silhouette = _silhouette(category, index, in_sketch[:, :2])
    return colours.float() / 255, keypoints[..., :2] / SIZE, keypoints[..., 2] > 0, torch.from_numpy(mask), silhouette


def _silhouette(category: str, index: int, keypoints: np.ndarray) -> Tensor:
    """(160, 160) bool: all parts of the individual, moved to where its keypoints lie in the sketch."""
    drawing = individual(category, stream("shape", PAIRS_SEED, category, index))
    own = np.array(list(drawing.keypoints.values()))
    # A pose is a similarity transform, so the keypoints' two places give it exactly.
    move = np.linalg.lstsq(np.column_stack([own, np.ones(len(own))]), keypoints, rcond=None)[0]
    scale = np.sqrt(np.abs(np.linalg.det(move[:2])))
    canvas = Image.new("1", (SIZE, SIZE))
    brush = ImageDraw.Draw(canvas)
    for part in drawing.parts:
        points = [tuple(p) for p in (part.outline @ move[:2] + move[2]).tolist()]
        if part.closed:
            brush.polygon(points, fill=1)
        else:
            brush.line(points, fill=1, width=max(1, round(part.thickness * scale)), joint="curve")
    return torch.from_numpy(np.array(canvas))
