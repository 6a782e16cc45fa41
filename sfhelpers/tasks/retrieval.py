"""Sketch-based image retrieval (paper, Sec. 6.1): a sketch ranks photos by the cosine of max-pooled features.

Category level: any photo of the sketch's category is right, and photos of other categories are the negatives of the
triplet loss (Eq. 1). Cross-category fine-grained: only the photo it was drawn from is right, and the negatives are
*hard*: other photos of the same category.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfhelpers import metrics
from sfhelpers.tasks.fit import History, fit
from sfhelpers.tasks.prepared import Prepared, PreparedPairs, take

Level = Literal["category", "instance"]
GROUP = 4  # pairs of one category that enter a step together
MARGIN = 0.1


class SketchRetriever(nn.Module):
    """Images to unit vectors: the extractor's map of standardised features, max-pooled over positions.

    Args:
        extractor: a FusedExtractor, or any module whose `pooled` maps images or their prepared tensors to (B, d) and
            which has `.prepare` and `.fit_statistics`.
        margin: of the triplet loss, in units of 1 - cosine, which runs from 0 to 2. The paper does not give it; of 0.05
            to 0.6 the validation classes of toy liked 0.1 and 0.15 best and 0.6 least, and 0.3, which is usual, less.
        level: what a photo must share with the sketch to be right, "category" or "instance".
        category_weight: of the category's triplets beside the hard ones of level "instance". With 0 the loss is the
            paper's as printed, which forgets the categories that the gallery is full of.

    Raises:
        ValueError: margin is not above 0, category_weight below it, or an unknown level.
    """

    def __init__(
        self, extractor: nn.Module, margin: float = MARGIN, level: Level = "category", category_weight: float = 1.0
    ):
        super().__init__()
        if not margin > 0:
            raise ValueError(f"margin is {margin}: give a number above 0, for example {MARGIN}.")
        if level not in get_args(Level):
            raise ValueError(f"level is {level!r}: use {' or '.join(get_args(Level))}.")
        if not category_weight >= 0:
            raise ValueError(f"category_weight is {category_weight}: give a number of 0 or more.")
        self.extractor = extractor
        self.settings: dict[str, Any] = {"margin": margin, "level": level, "category_weight": category_weight}

    def forward(self, images: Tensor | Prepared) -> Tensor:
        """(B, 3, H, W) in [0, 1], or what was prepared of them, to (B, d) of length 1."""
        return F.normalize(self.extractor.pooled(images), dim=1)


def triplets(sketches: Tensor, photos: Tensor, right: Tensor, wrong: Tensor, margin: float) -> Tensor:
    """Mean of max(0, margin + d(s, p) - d(s, n)) over all triplets of a batch, d = 1 - cosine (paper, Eq. 1).

    Args:
        sketches: (S, d) of length 1.
        photos: (P, d) of length 1.
        right, wrong: (S, P) bool, which photos are positives and negatives of which sketch.

    Returns:
        A scalar; 0 for a batch without a triplet, such as an epoch's last one if it holds one category alone.
    """
    distance = 1 - sketches @ photos.T
    chosen = right[:, :, None] & wrong[:, None, :]
    if not chosen.any():
        return 0 * distance.sum()
    return (margin + distance[:, :, None] - distance[:, None, :]).clamp(min=0)[chosen].mean()


def retrieval_loss(
    sketches: Tensor, photos: Tensor, same: Tensor, own: Tensor, level: Level, margin: float, category_weight: float
) -> Tensor:
    """The loss of a level from a batch's vectors.

    Args:
        sketches, photos: as in `triplets`.
        same, own: (S, P) bool, photos of the sketch's category, and the one that it was drawn from.
        level, margin, category_weight: as of `SketchRetriever`.
    """
    if level == "category":
        return triplets(sketches, photos, same, ~same, margin)
    hard = triplets(sketches, photos, own, same & ~own, margin)
    return hard + category_weight * triplets(sketches, photos, same, ~same, margin)


def train_retriever(
    model: SketchRetriever,
    train: PreparedPairs,
    validation: PreparedPairs,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    weight_decay: float = 1e-3,
    patience: int = 0,
    progress: str = "training",
    checkpoint: Path | None = None,
    configuration: Mapping[str, Any] | None = None,
) -> History:
    """Train with the triplet loss of the model's level; the best epoch has the highest mean AP on `validation`.

    An example of `fit` is a group of up to GROUP pairs of one category, so that a step has positives, negatives of
    other categories and negatives of the same category at once and computes no image twice: every triplet of a step
    is made of its own images. Which pairs make up a group is drawn from `seed` and the step's own groups: other ones
    every epoch, and the same ones again when a training goes on from a checkpoint. A category has one group for every
    GROUP pairs, so an epoch sees each pair once on average.

    Args:
        model: its extractor's standardisation is first fixed on training images.
        train: pairs of one category; for level "instance" those are left out whose sketch was not drawn from the photo.
        validation: of other categories than `train`; its sketches are ranked against its photos, for level "instance"
            those whose own photo is among them.
        batch_size: pairs a step, at least two groups.
        configuration: as in `fit`; the model's settings are added.

    Raises:
        ValueError: one training category; for level "instance" no pair whose sketch was drawn from its photo, or no
            category with two such photos; a small batch_size; or what `fit` refuses.
    """
    level = model.settings["level"]
    train = _own(train) if level == "instance" else train
    labels, photo_labels = (_categories(records) for records in (train.sketch_records, train.photo_records))
    members = _members(train, labels, level)
    if batch_size < 2 * GROUP:
        raise ValueError(f"batch_size is {batch_size}: give {2 * GROUP} pairs or more, so that a step has two groups.")
    slots = [category for category, pairs in members.items() for _ in range(-(-len(pairs) // GROUP))]
    device = next(model.parameters()).device
    _fit_statistics(model, train)

    def loss(model: SketchRetriever, indices: Tensor) -> Tensor:
        pairs = train.pairs[_drawn(members, [slots[i] for i in indices.tolist()], seed, indices)]
        sketch, photo = pairs[:, 0], pairs[:, 1].unique()
        same = (labels[sketch][:, None] == photo_labels[photo]).to(device)
        vectors = model(take(train.sketches, sketch, device)), model(take(train.photos, photo, device))
        return retrieval_loss(*vectors, same, (pairs[:, 1:] == photo).to(device), **model.settings)

    return fit(
        model, loss, len(slots), lambda model: _validate(model, validation), epochs, learning_rate,
        batch_size // GROUP, seed, weight_decay, patience, progress, checkpoint,
        {**(configuration or {}), "model": model.settings},
    )  # fmt: skip


@torch.no_grad()
def embed(model: nn.Module, prepared: Prepared, which: Tensor | None = None, batch_size: int = 64) -> Tensor:
    """(N, d) on the CPU of prepared images, all or those at `which` (N,); the model is put into eval mode."""
    model.eval()
    device = next(model.parameters()).device
    which = torch.arange(len(next(iter(prepared.values())))) if which is None else which
    return torch.cat([model(take(prepared, part, device)).cpu() for part in which.split(batch_size)])


def _validate(model: SketchRetriever, data: PreparedPairs) -> float:
    """Mean AP at the model's level, over the sketches of `data`'s pairs against its photos."""
    asking = _own(data) if model.settings["level"] == "instance" else data
    sketch, photo = asking.pairs[:, 0].unique(), data.pairs[:, 1].unique()
    records = [data.sketch_records[k] for k in sketch], [data.photo_records[k] for k in photo]
    names = ([(r.category if model.settings["level"] == "category" else f"{r.category}/{r.instance}") for r in side]
             for side in records)  # fmt: skip
    vectors = embed(model, data.sketches, sketch), embed(model, data.photos, photo)
    return float(metrics.evaluate_retrieval(*vectors, *names, (metrics.AP(),))[metrics.AP()].mean())


def _own(data: PreparedPairs) -> PreparedPairs:
    """The pairs whose sketch was drawn from the photo: one without sketches is paired with another photo's."""
    sides = (data.sketch_records, data.photo_records)
    sketches, photos = ([(record.category, record.instance) for record in side] for side in sides)
    drawn = torch.tensor([sketches[s] == photos[p] for s, p in data.pairs.tolist()], dtype=torch.bool)
    if not drawn.any():
        raise ValueError(
            f"none of {len(data)} pairs is of a sketch and the photo that it was drawn from: give some that are "
            '(named alike, as in Sketchy), or in Python make SketchRetriever(..., level="category").'
        )
    return replace(data, pairs=data.pairs[drawn])


def _categories(records: Sequence[Any]) -> Tensor:
    """(N,) whole numbers, equal where the categories are."""
    return torch.tensor([zlib.crc32(record.category.encode()) for record in records])


def _members(train: PreparedPairs, labels: Tensor, level: Level) -> dict[int, Tensor]:
    """Category to the positions of its pairs; for level "instance" only categories with two photos or more."""
    of_pair = labels[train.pairs[:, 0]]
    members = {category: (of_pair == category).nonzero()[:, 0] for category in of_pair.unique().tolist()}
    if len(members) < 2:
        raise ValueError("there is one training category, so no negative: give two or more.")
    if level == "instance":
        members = {k: pairs for k, pairs in members.items() if len(train.pairs[pairs, 1].unique()) > 1}
        if not members:
            raise ValueError(
                "no training category has two photos, so there is no hard negative: give more photos a category or "
                'raise limit, or in Python make SketchRetriever(..., level="category").'
            )
    return members


def _drawn(members: Mapping[int, Tensor], categories: Sequence[int], seed: int, indices: Tensor) -> Tensor:
    """Positions of the pairs of a step, each once."""
    dice = torch.Generator().manual_seed(zlib.crc32(indices.numpy().tobytes(), seed % 2**32))
    chosen = [members[c][torch.randperm(len(members[c]), generator=dice)[:GROUP]] for c in categories]
    return torch.cat(chosen).unique()


def _fit_statistics(model: SketchRetriever, train: PreparedPairs, images: int = 64) -> None:
    """Fix the standardisation on so many training sketches and photos; of `train` only those in its pairs count."""
    device = next(model.parameters()).device
    few = train.pairs[torch.linspace(0, len(train) - 1, min(images, len(train))).round().long()]
    sketches, photos = take(train.sketches, few[:, 0], device), take(train.photos, few[:, 1], device)
    model.extractor.fit_statistics({name: torch.cat([sketches[name], photos[name]]) for name in sketches})
