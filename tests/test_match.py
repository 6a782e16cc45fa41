"""A trained matcher asked from Python: points land where they belong, in the photo's own proportions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import nn

from sfhelpers import match
from sfhelpers.tasks.arms import arm_of
from sfhelpers.tasks.correspondence import SketchMatcher
from sfhelpers.tasks.heads import Head, load_head
from tests.search_helpers import fake, photo, refused, saved_head, sketch

ENDS = [(20 / 160, 120 / 160), (80 / 160, 40 / 160)]  # of the sketch's lines


class Colours(nn.Module):
    """An extractor whose features are the colours, less the paper's."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        return F.adaptive_avg_pool2d(images, 16) - 0.99


@pytest.fixture
def colours():
    matcher = SketchMatcher(Colours(), window=1).eval()
    return Head("fused", "up", None, 0, "f" * 64, {}, task="correspondence", model=matcher)


@pytest.fixture
def head(tiny_backbone, tmp_path):
    model = SketchMatcher(arm_of("fused", tiny_backbone, seed=0).extractor())
    return saved_head(model, tiny_backbone, tmp_path, "correspondence")


def blots(size, red, blue):
    """White, with a red and a blue blot at these places in px."""
    image = Image.new("RGB", size, "white")
    for colour, (x, y) in (("red", red), ("blue", blue)):
        ImageDraw.Draw(image).ellipse((x - 12, y - 12, x + 12, y + 12), fill=colour)
    return image


@pytest.mark.parametrize("size", [(400, 200), (200, 400)])
def test_points_are_found_where_their_colour_is_in_photos_of_any_shape(colours, size):
    asked = blots((300, 300), (200, 100), (250, 180))
    places = [(0.75 * size[0], 0.8 * size[1]), (0.2 * size[0], 0.3 * size[1])]
    points = [(200 / 300, 100 / 300), (250 / 300, 180 / 300)]
    found = match(asked, blots(size, *places), fake(), points, colours)
    assert [m.sketch for m in found] == points and all(m.score > 0.8 for m in found)
    assert np.abs(np.array([m.photo for m in found]) * size - places).max() <= 400 / 16


def test_a_point_beyond_the_photo_is_put_onto_its_edge(colours):
    wide = Image.new("RGB", (400, 40), "white")
    assert all(0 <= value <= 1 for m in match(sketch(), wide, fake(), ENDS, colours) for value in m.photo)
    assert match(sketch(), wide, fake(), [], colours) == (), "no points have no matches"


def test_files_and_images_and_a_loaded_head_answer_alike(tiny_backbone, head, tmp_path, colours):
    sketch().save(tmp_path / "sketch.png")
    path = photo(tmp_path / "photo.png")
    found = match(tmp_path / "sketch.png", path, tiny_backbone, head=head)
    loaded = load_head(head, tiny_backbone)
    assert len(found) == 5 and found == match(sketch(), Image.open(path), tiny_backbone, head=loaded)
    grey = np.asarray(sketch().convert("L"))
    clear = Image.fromarray(np.dstack([np.zeros((*grey.shape, 3), np.uint8), 255 - grey]))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    for image in (clear, deep):
        image.save(tmp_path / "sketch.png")
        path = tmp_path / "sketch.png"
        assert match(image, image, fake(), ENDS, colours) == match(path, path, fake(), ENDS, colours)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"points": [(0.99, 0.01)]}, ValueError, "is not near the drawing"),
        ({"photo": "nowhere.jpg"}, FileNotFoundError, "there is no image nowhere.jpg"),
        ({"head": "nowhere.safetensors"}, FileNotFoundError, "run 03_correspondence"),
    ],
)
def test_what_cannot_be_matched_is_said_in_one_sentence(tiny_backbone, head, given, error, words):
    given = {"sketch": sketch(), "photo": sketch(), "head": head} | given
    assert words in refused(error, match, backbone=tiny_backbone, **given)
