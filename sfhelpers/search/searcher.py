"""Search by sketch: rank a gallery's photos, name the category, mark the object, and match points (paper, Sec. 6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sfhelpers.backbones import Backbone
from sfhelpers.images import Square, as_seen, open_image
from sfhelpers.search.framing import Frame, Place, Point, Sketch
from sfhelpers.search.gallery import Gallery
from sfhelpers.tasks.arms import reading_size
from sfhelpers.tasks.correspondence import RawFeatures, SketchMatcher, sample
from sfhelpers.tasks.heads import HEADS, Head, file_name, load_head
from sfhelpers.tasks.segmentation import upsample

MASKS, MATCHES = "fused", "SD+CLIP concatenated"
KEPT = 4  # sketches, and as many photos; with SD 2.1 each takes 61 MB


@dataclass(frozen=True)
class Match:
    """A point of the sketch and the most similar place in the photo."""

    sketch: Point  # x and y in [0, 1] of the image's width and height
    photo: Point
    score: float  # the cosine of the features at both


@dataclass(frozen=True)
class Found:
    sketch: Image.Image
    order: np.ndarray  # (N,) positions in the gallery, best first
    scores: np.ndarray  # (N,) cosine of the embeddings, in that order
    categories: tuple[tuple[str, float], ...]  # name and probability, most probable first; see `Searcher.recognise`
    note: str  # why there are no categories, or ""
    photo: int  # the gallery position of the photo that was looked into
    picture: Image.Image  # that photo, small
    mask: np.ndarray  # (h, w) bool, what of it belongs to what was sketched
    matches: tuple[Match, ...]  # one a point


class Searcher:
    """Asks a gallery with sketches. What was computed of the last few sketches and photos is kept.

    Ranking and naming compare whole-image embeddings; the mask is a trained segmenter's; a point is matched to the
    position whose frozen features, of both models with equal weight, are nearest: in 00_start_here they find the most.
    ValueError for a gallery that another backbone or a head embedded, and if one of two heads (from `load_heads`) is
    missing: "fused" marks the object, "SD+CLIP concatenated" knows how to standardise features.
    """

    def __init__(self, gallery: Gallery, backbone: Backbone, heads: Mapping[str, Head]):
        if gallery.made_by["weights_sha256"] != backbone.weights_sha256:
            raise ValueError(f"the gallery was embedded by another backbone than {backbone.name}: make it anew.")
        if gallery.made_by["embed"] != "clip":
            raise ValueError("the gallery was embedded by a retrieval head, which names nothing: make it with 'clip'.")
        if missing := [name for name in (MASKS, MATCHES) if name not in heads]:
            raise ValueError(f"there is no trained model {missing[0]!r}: run 04_segmentation with -p arms frozen.")
        self.gallery, self.backbone, self.segmenter = gallery, backbone, heads[MASKS]
        self.matcher = SketchMatcher(RawFeatures(heads[MATCHES].extractor, share=0.5), window=1)
        self.size = reading_size(backbone)
        self._sketch, self._photo = lru_cache(KEPT)(self._sketch), lru_cache(KEPT)(self._photo)

    @torch.no_grad()
    def search(self, sketch: Sketch, points: Sequence[Point] | None = None, place: int = 0) -> Found:
        """Rank all photos and look into one of them, the one at `place`, 0 for the best.

        The sketch's points, x and y in [0, 1], are sought in that photo; None takes a few along the lines. Errors as
        `Frame.of`; ValueError also if a point is not near the lines, or there is no such place.
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
        padded = upsample(self.segmenter.model.correlate(query, fused)[0].float(), self.size)[0].sigmoid()
        # The picture's own padding is the photo's, up to a pixel.
        mask = Square.of(*picture.size, self.size).undo_map(padded) >= self.segmenter.threshold
        matches = _matches(self.matcher, frame, square, points, sketch_map, photo_map)
        return Found(frame.image, order.numpy(), scores.numpy(), categories, note, photo, picture, mask, matches)

    def recognise(self, embeddings: Tensor) -> Tensor:
        """(B, D) embeddings to (B, K) probabilities of the gallery's categories, which sum to 1 for a scribble too."""
        # CLIP's zero-shot rule with mean photo embeddings for prompts: a softmax over cosines times logit scale.
        return (self.backbone.vision.scale * embeddings @ self.gallery.prototypes.T).softmax(dim=1)

    def _categories(self, embedding: Tensor) -> tuple[tuple[tuple[str, float], ...], str]:
        if len(names := self.gallery.categories) < 2:
            kind = f"a single class, {names[0]}" if names else "no class folders"
            return (), f"The gallery has {kind}, so there is no category to choose."
        probability, order = self.recognise(embedding)[0].sort(descending=True, stable=True)
        return tuple((names[k], p) for k, p in zip(order.tolist(), probability.tolist(), strict=True)), ""

    def _sketch(self, frame: Frame) -> tuple[Tensor, Tensor, Tensor]:
        """Embedding (1, D), pooled fused feature (1, d) and frozen map (1, C, g, g)."""
        image = frame.tensor(self.size)[None]
        return self.gallery.embed([frame]), self.segmenter.extractor.pooled(image), self._frozen(image)

    def _photo(self, index: int) -> tuple[Square, Tensor, Tensor]:
        """How the photo was padded, its fused map (1, d, g, g) and its frozen map, which is 0 in the padding."""
        opened = open_image(self.gallery.records[index].path)
        square = Square.of(*opened.size, self.size)
        image = square.image(opened)[None]
        frozen, inside = self._frozen(image), square.mask(np.ones(opened.size[::-1], dtype=bool)).float()[None, None]
        inside = F.interpolate(inside.to(frozen), frozen.shape[2:], mode="nearest-exact")
        return square, self.segmenter.extractor(image), frozen * inside

    def _frozen(self, image: Tensor) -> Tensor:
        return self.matcher.extractor(self.matcher.extractor.extractor.prepare(image))


def _matches(
    matcher: SketchMatcher, frame: Frame, square: Square, points: list[Point], sketch_map: Tensor, photo_map: Tensor
) -> tuple[Match, ...]:
    """Where a framed sketch's points are in a photo fitted into a square, by their (1, d, g, g) maps."""
    asked = torch.tensor([[frame.to_square(point) for point in points]]).to(sketch_map)
    found = matcher.locate(sketch_map, photo_map, asked)
    cosines = F.cosine_similarity(sample(sketch_map, asked), sample(photo_map, found), dim=-1)[0]
    corner = torch.tensor(square.corner) / square.size
    extent = torch.tensor(square.inner) / square.size
    places = ((found[0].cpu() - corner) / extent).clamp(0, 1)  # the padding is no place in the photo
    return tuple(map(Match, points, map(tuple, places.tolist()), cosines.tolist()))


@torch.no_grad()
def match(
    sketch: Sketch,
    photo: Place | Image.Image,
    backbone: Backbone,
    points: Sequence[Point] | None = None,
    head: Place | Head | None = None,
) -> tuple[Match, ...]:
    """Where in a photo are these points of a sketch, by a trained matcher? (paper, Sec. 6.3)

    One `Match` a point, in order, also where the photo shows no such thing. FileNotFoundError if there is no such file;
    ValueError as `Frame.of` or `load_head`, or if a point is not near the lines.

    Args:
        sketch: dark lines on light paper, anywhere; it is framed by its ink first.
        points: x and y in [0, 1] of the sketch's width and height; None takes five far apart along the lines.
        head: a trained matcher of 03_correspondence, its file or what `load_head` gave; None is pocket's own.
    """
    if not isinstance(head, Head):
        head = load_head(head or HEADS / "correspondence" / file_name("fused"), backbone, "correspondence")
    photo = open_image(photo) if isinstance(photo, Place) else as_seen(photo)
    size, frame = reading_size(backbone), Frame.of(sketch)
    square, points = Square.of(*photo.size, size), frame.points(points)
    if not points:
        return ()
    maps = head.model.extractor(torch.stack([frame.tensor(size), square.image(photo)]))
    return _matches(head.model, frame, square, points, maps[:1], maps[1:])
