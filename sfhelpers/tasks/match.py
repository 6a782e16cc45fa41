"""Points of a sketch found in any photo, by a trained matcher: correspondence without a data set (paper, Sec. 6.3)."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

from sfhelpers.backbones import Backbone
from sfhelpers.drawing import Drawing
from sfhelpers.images import Square, as_seen, open_image
from sfhelpers.tasks.arms import reading_size
from sfhelpers.tasks.correspondence import sample
from sfhelpers.tasks.framing import Frame, Point, spread_points
from sfhelpers.tasks.heads import HEADS, Head, file_name, load_head
from sfhelpers.tasks.search import POINTS, Match, as_image


@torch.no_grad()
def match(
    sketch: str | Path | Image.Image | Drawing,
    photo: str | Path | Image.Image,
    backbone: Backbone,
    points: Sequence[Point] | None = None,
    head: str | Path | Head | None = None,
) -> tuple[Match, ...]:
    """Where in a photo are these points of a sketch?

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
    sketch = open_image(sketch) if isinstance(sketch, (str, Path)) else sketch
    photo = open_image(photo) if isinstance(photo, (str, Path)) else as_seen(photo)
    size, model = reading_size(backbone), head.model
    frame, square = Frame.of(as_image(sketch)), Square.of(*photo.size, size)
    points = spread_points(frame, POINTS) if points is None else [frame.inside(point) for point in points]
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
