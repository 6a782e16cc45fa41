"""Search by sketch: rank a gallery's photos, name the category, mark the object, and match points (paper, Sec. 6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sfhelpers.backbones import Backbone
from sfhelpers.fusion.modules import to_grid
from sfhelpers.images import Square, as_seen, open_image
from sfhelpers.search.framing import Frame, Point, Sketch
from sfhelpers.search.gallery import Gallery
from sfhelpers.tasks.arms import reading_size
from sfhelpers.tasks.correspondence import sample
from sfhelpers.tasks.heads import HEADS, Head, file_name, load_head
from sfhelpers.tasks.segmentation import upsample

MASKS, MATCHES = "fused", "SD+CLIP concatenated"
KEPT = 8  # sketches, and as many photos; with SD 2.1 each takes 16 MB by the tokens alone


@dataclass(frozen=True)
class Match:
    """A point of the sketch, the most similar position of the photo (both x, y in [0, 1]), and their cosine."""

    sketch: Point
    photo: Point
    score: float


@dataclass(frozen=True)
class Found:
    """What a sketch found."""

    sketch: Image.Image  # the query as it was asked
    order: np.ndarray  # (N,) positions in the gallery, best first
    scores: np.ndarray  # (N,) cosine of the embeddings, in that order
    categories: tuple[tuple[str, float], ...]  # name and probability, most probable first; see `Searcher.recognise`
    note: str  # why there are no categories, or ""
    photo: int  # the gallery position of the photo that was looked into
    picture: Image.Image  # that photo, small
    probability: np.ndarray  # (h, w) float32, of each pixel of `picture` to belong to what was sketched
    mask: np.ndarray  # (h, w) bool, the probability cut at the segmenter's threshold
    matches: tuple[Match, ...]  # one a point


class Searcher:
    """Asks a gallery with sketches. What was computed of the last few sketches and photos is kept.

    Ranking and naming compare whole-image embeddings; the mask is a trained segmenter's; the matches compare single
    positions of frozen feature maps, without anything trained for matching.

    Args:
        gallery: embedded by the same backbone's CLIP.
        backbone: from `load_backbone`.
        heads: from `load_heads`; "fused" marks the object, "SD+CLIP concatenated" knows how to standardise features.
        sources: the features that points are matched by, one or several of that head's ("f1", "f2", "f3", "tokens").
            With pocket the tokens alone do best on the toy world's keypoints; 00_start_here measures it.

    Raises:
        ValueError: the gallery is another backbone's or a head's, a head is missing, or a source is unknown.
    """

    def __init__(
        self, gallery: Gallery, backbone: Backbone, heads: Mapping[str, Head], sources: Sequence[str] = ("tokens",)
    ):
        if gallery.embedder.made_by["weights_sha256"] != backbone.weights_sha256:
            raise ValueError(f"the gallery was embedded by another backbone than {backbone.name}: make it anew.")
        if gallery.embedder.made_by["embed"] != "clip":
            raise ValueError("the gallery was embedded by a retrieval head, which names nothing: make it with 'clip'.")
        if missing := [name for name in (MASKS, MATCHES) if name not in heads]:
            raise ValueError(f"there is no trained model {missing[0]!r}: run 04_segmentation with -p arms frozen.")
        known = heads[MATCHES].extractor.sources
        if strange := [name for name in sources if name not in known] or ([] if sources else ["none"]):
            raise ValueError(f"there is no source {strange[0]!r} to match points by: use some of {', '.join(known)}.")
        self.gallery, self.backbone, self.heads, self.sources = gallery, backbone, dict(heads), tuple(sources)
        self.size = reading_size(backbone)
        self._sketch, self._photo = lru_cache(KEPT)(self._sketch), lru_cache(KEPT)(self._photo)

    @torch.no_grad()
    def search(self, sketch: Sketch, points: Sequence[Point] | None = None, place: int = 0) -> Found:
        """Rank all photos and look into one of them.

        Args:
            sketch: dark lines on light paper, anywhere in the image: it is framed by its ink first.
            points: of the sketch, x and y in [0, 1], to be found in the photo; None takes a few along the lines.
            place: which photo is looked into, 0 for the best.

        Raises:
            ValueError: the sketch has no line or is a single dot, a point is not near it, or there is no such place.
        """
        frame = Frame.of(sketch)
        points = frame.points(points)
        if not 0 <= place < len(self.gallery):
            raise ValueError(f"there is no place {place}: the gallery has {len(self.gallery)} photos, counted from 0.")
        embedding, query, sketch_map = self._sketch(frame)
        scores, order = (embedding @ self.gallery.embeddings.T)[0].sort(descending=True, stable=True)
        photo = int(order[place])
        square, fused, photo_map = self._photo(photo)
        picture, (categories, note) = self.gallery.picture(photo), self._categories(embedding)
        padded = upsample(self.heads[MASKS].model.correlate(query, fused).float(), self.size)[0].sigmoid()
        probability = Square.of(*picture.size, self.size).undo_map(padded)  # the photo's own padding, up to a pixel
        mask = probability >= self.heads[MASKS].threshold
        matches = tuple(_match(point, frame, square, sketch_map, photo_map) for point in points)
        ranked = order.numpy(), scores.numpy()
        return Found(frame.image, *ranked, categories, note, photo, picture, probability, mask, matches)

    @torch.no_grad()
    def match(self, sketch: Sketch, photo: Image.Image, points: Sequence[Point] | None = None) -> tuple[Match, ...]:
        """Find points of a sketch in any photo, in the gallery or not. Arguments and errors as `search`."""
        frame, photo = Frame.of(sketch), as_seen(photo)
        points, square = frame.points(points), Square.of(*photo.size, self.size)
        maps = self._map(frame.tensor(self.size)[None]), self._map(square.image(photo)[None])
        return tuple(_match(point, frame, square, *maps) for point in points)

    def recognise(self, embeddings: Tensor) -> Tensor:
        """(B, D) embeddings to (B, K) probabilities of the gallery's categories.

        It is CLIP's zero-shot rule with photos in place of prompts: a softmax over the cosines to every category's
        mean photo embedding, times the model's own logit scale. It answers "which of these K?", never "is it any of
        them?", and it sums to 1 for a scribble too. The scale was learned for telling captions apart, so the
        number is no measured frequency of being right: `check` gives that.
        """
        scale = self.backbone.vision.model.logit_scale.detach().exp().float().cpu()
        return (scale * embeddings @ self.gallery.prototypes.T).softmax(dim=1)

    def _categories(self, embedding: Tensor) -> tuple[tuple[tuple[str, float], ...], str]:
        names = self.gallery.categories
        if len(names) < 2:
            kind = f"a single class, {names[0]}" if names else "no class folders"
            return (), f"The gallery has {kind}, so there is no category to choose."
        probability, order = self.recognise(embedding)[0].sort(descending=True, stable=True)
        return tuple((names[k], p) for k, p in zip(order.tolist(), probability.tolist(), strict=True)), ""

    def _sketch(self, frame: Frame) -> tuple[Tensor, Tensor, Tensor]:
        """Embedding (1, D), pooled fused feature (1, d) and feature map (C, g, g)."""
        image = frame.tensor(self.size)[None]
        return self.gallery.embed([frame]), self.heads[MASKS].extractor.pooled(image), self._map(image)

    def _photo(self, index: int) -> tuple[Square, Tensor, Tensor]:
        """How the photo was padded, its fused map (1, d, g, g) and its feature map (C, g, g)."""
        opened = open_image(self.gallery.records[index].path)
        square = Square.of(*opened.size, self.size)
        image = square.image(opened)[None]
        return square, self.heads[MASKS].extractor(image), self._map(image)

    def _map(self, image: Tensor) -> Tensor:
        """(1, 3, H, W) to the standardised features of the sources, side by side and of unit length, (C, g, g)."""
        extractor = self.heads[MATCHES].extractor
        grid = (extractor.aggregator.grid, extractor.aggregator.grid)
        features = extractor.features(extractor.prepare(image))
        standardised = [extractor.statistics[name](features[name]) for name in self.sources]
        joined = torch.cat([to_grid(feature, grid) for feature in standardised], dim=1)
        return F.normalize(joined[0].float(), dim=0).cpu()


def _match(point: Point, frame: Frame, square: Square, sketch_map: Tensor, photo_map: Tensor) -> Match:
    """The position of the photo whose feature has the highest cosine with the sketch's at a point."""
    place = torch.tensor(frame.to_square(point)).to(sketch_map) * 2 - 1
    feature = F.grid_sample(sketch_map[None], place[None, None, None], align_corners=False)[0, :, 0, 0]
    grid = photo_map.shape[-1]
    centres = (torch.arange(grid) + 0.5) * square.size / grid
    rows = (centres > square.top) & (centres < square.top + square.inner_height)
    columns = (centres > square.left) & (centres < square.left + square.inner_width)
    cosine = torch.einsum("c,chw->hw", F.normalize(feature, dim=0), photo_map)
    cosine = cosine.masked_fill(~(rows[:, None] & columns), -2)  # padding is no place in the photo
    row, column = divmod(int(cosine.argmax()), grid)
    x, y = (float(centres[column]) - square.left) / square.inner_width, (float(centres[row]) - square.top)
    return Match(point, (x, y / square.inner_height), float(cosine[row, column]))


@torch.no_grad()
def match(
    sketch: Sketch,
    photo: str | Path | Image.Image,
    backbone: Backbone,
    points: Sequence[Point] | None = None,
    head: str | Path | Head | None = None,
) -> tuple[Match, ...]:
    """Where in a photo are these points of a sketch, by a trained matcher? (paper, Sec. 6.3)

    There is an answer for every point, also where the photo shows no such thing.

    Args:
        sketch: dark lines on light paper, a file, an image or a Drawing; it is framed by its ink first.
        photo: a file or an image.
        backbone: from `load_backbone`.
        points: x and y in [0, 1] of the sketch's width and height; None takes five far apart along the lines.
        head: a trained matcher of 03_correspondence, its file or what `load_head` gave; None is the one that comes
            with pocket.

    Returns:
        One `Match` a point, in order: the point, its place in the photo (x and y in [0, 1] of its width and height),
        and the cosine of the features at both.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the sketch has no line or is a single dot, a point is not near it, or what `load_head` refuses.
    """
    if not isinstance(head, Head):
        head = load_head(head or HEADS / "correspondence" / file_name("fused"), backbone, "correspondence")
    photo = open_image(photo) if isinstance(photo, str | Path) else as_seen(photo)
    size, model = reading_size(backbone), head.model
    frame, square = Frame.of(sketch), Square.of(*photo.size, size)
    points = frame.points(points)
    if not points:
        return ()
    maps = model.extractor(torch.stack([frame.tensor(size), square.image(photo)]))
    asked = torch.tensor([[frame.to_square(point) for point in points]]).to(maps)
    found = model.locate(maps[:1], maps[1:], asked)
    cosines = F.cosine_similarity(sample(maps[:1], asked), sample(maps[1:], found), dim=-1)[0]
    corner = torch.tensor([square.left, square.top]) / size
    extent = torch.tensor([square.inner_width, square.inner_height]) / size
    places = ((found[0].cpu() - corner) / extent).clamp(0, 1)  # the padding is no place in the photo
    matched = zip(points, places.tolist(), cosines.tolist(), strict=True)
    return tuple(Match(point, (x, y), score) for point, (x, y), score in matched)
