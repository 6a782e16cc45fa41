"""Search by sketch: the same answer wherever one draws, masks and matches where they belong; matches of a pair."""

from copy import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageChops, ImageDraw, ImageOps
from torch import nn

from sfhelpers import match
from sfhelpers.drawing import Drawing, Stroke
from sfhelpers.images import Square, load_images, problem
from sfhelpers.search.framing import Frame, spread_points
from sfhelpers.search.gallery import Gallery
from sfhelpers.search.searcher import Searcher
from sfhelpers.tasks.correspondence import SketchMatcher
from sfhelpers.tasks.heads import Head, load_head
from tests.backbone_fixtures import fake, photo, refused, saved_head, sketch


def test_the_frame_is_around_the_ink_faint_and_inverted_too_and_points_are_spread_along_it():
    frame = Frame.of(sketch())
    assert frame.to_square((50 / 160, 80 / 160)) == pytest.approx((0.5, 0.5), abs=0.02), "the middle of the ink"
    rows = torch.nonzero((frame.tensor(100).mean(0) < 0.5).any(1)).flatten()
    assert abs(int(rows[-1] - rows[0]) + 1 - 78) <= 2 and frame.tensor(100)[:, 0, 0].tolist() == [1, 1, 1]
    pixels = np.asarray(sketch(), dtype=np.float32)
    for changed in (255 - pixels, 255 - 0.2 * (255 - pixels)):
        assert np.array_equal(Frame.of(Image.fromarray(changed.astype(np.uint8))).ink, frame.ink)
    points = spread_points(frame, 5)
    assert points == frame.points(None) and len(points) == 5
    assert all(frame.ink[int(y * 160), int(x * 160)] for x, y in points)
    assert min(np.hypot(a[0] - b[0], a[1] - b[1]) for a in points for b in points if a is not b) > 0.15


@pytest.mark.parametrize("page", ["light", "dark", "clear"])
def test_a_thin_frame_a_dark_page_and_light_ink_on_none_ask_as_dark_lines_on_white(page):
    plain = sketch(2.2, (60, 75), 400)
    grey, expected = np.asarray(plain.convert("L")), Frame.of(plain)
    for seed in range(20):
        dice = np.random.default_rng(seed)
        white = Image.fromarray(255 - grey if page == "dark" else grey).convert("RGB")
        for width, turned in zip(dice.integers(0, 30, 4).tolist(), (0, 90, 180, 270), strict=True):
            white = white.rotate(turned)
            white.paste(tuple(dice.integers(0, 256, 3).tolist()), (0, 0, 400, width))
            white = white.rotate(-turned)
        ink = np.dstack([np.full((400, 400, 3), dice.integers(190, 256, 3), np.uint8), 255 - grey])
        found = Frame.of(Image.fromarray(ink) if page == "clear" else white)
        apart = np.subtract((found.left, found.top, found.side), (expected.left, expected.top, expected.side))
        assert np.abs(apart).max() < 3 and found.paper > (200, 200, 200), seed
        assert (found.tensor(100) - expected.tensor(100)).abs().mean() < 0.02, seed


@pytest.mark.parametrize("kind", ["plain", "double"])
def test_a_frame_within_the_page_is_seen_through_and_none_but_a_whole_one(tmp_path, kind):
    plain = sketch(2.2, (60, 75), 400)
    expected = Frame.of(plain)
    for seed in range(10):
        page, dice = Image.new("RGB", (400, 400), "white"), np.random.default_rng(seed)
        width, inset = dice.integers(1, 5), dice.integers(1, 12)
        for near in (inset, inset + 6)[: 1 + (kind == "double")]:
            box = (near, near, 399 - near, 399 - near)
            ImageDraw.Draw(page).rectangle(box, outline="black", width=width)
        found = Frame.of(ImageChops.darker(page, plain))
        assert np.array_equal(found.ink, expected.ink) and found.side == expected.side, seed
        for said in ("has no line", "is a single dot"):
            page.save(tmp_path / "page.png")
            assert problem(tmp_path / "page.png", "sketch") == said, "a frame is no drawing"
            page.putpixel((200, 180), (0, 0, 0))
        page.paste("white", (0, 0, 400, 200))  # a ground line and two posts
        assert Frame.of(ImageChops.darker(page, plain)).side > 1.2 * expected.side


def test_photos_are_ranked_by_cosine_and_named_by_the_softmax_over_mean_photos(searcher, tiny_backbone):
    found, gallery = searcher.search(sketch()), searcher.gallery
    assert sorted(found.order) == [0, 1, 2, 3, 4] and (np.diff(found.scores) <= 0).all() and found.note == ""
    paths, scores = zip(*gallery.ask(sketch(), k=99), strict=True)
    assert [gallery.records[n].path for n in found.order] == list(paths)
    assert np.allclose(scores, found.scores, atol=1e-6)
    asked = tiny_backbone.vision.embed(Frame.of(sketch()).tensor(searcher.size)[None])
    cosine = F.cosine_similarity(asked, gallery.embeddings)
    assert np.allclose(found.scores, cosine[torch.from_numpy(found.order.copy())], atol=1e-6)
    means = F.normalize(torch.stack([gallery.embeddings[:3].mean(0), gallery.embeddings[3:].mean(0)]), dim=1)
    expected = (tiny_backbone.vision.model.logit_scale.exp() * asked @ means.T).softmax(1)[0]
    assert dict(found.categories) == pytest.approx({"cat": float(expected[0]), "dog": float(expected[1])})


def test_the_same_drawing_small_and_in_a_corner_finds_the_same(searcher):
    found, moved = searcher.search(sketch()), searcher.search(sketch(1, (50, 40)))
    assert found.order.tolist() == moved.order.tolist() and np.allclose(found.scores, moved.scores, atol=1e-5)
    large, small = (Frame.of(image).tensor(96) for image in (sketch(), sketch(0.5, (100, 90))))
    difference = (large - small).abs().mean()
    assert difference < 0.1 and difference < 0.7 * (large - large.flip(2)).abs().mean()


def test_without_a_choice_there_is_no_category_but_all_else(tmp_path, tiny_backbone, heads):
    for place, words in (("a.png", "no class folders"), ("cat/b.png", "a single class, cat")):
        photo(tmp_path / place)
        found = Searcher(Gallery.from_folder(tmp_path, tiny_backbone), tiny_backbone, heads).search(sketch())
        assert found.categories == () and words in found.note
        assert found.mask.shape == (40, 40) and len(found.matches) == 5


def test_the_mask_is_the_segmenters_in_the_photos_own_proportions(searcher, heads):
    found = searcher.search(sketch(), place=searcher.search(sketch()).order.tolist().index(3))
    assert found.photo == 3 and found.picture.size == (80, 40) and found.mask.shape == (40, 80)
    square = load_images([searcher.gallery.records[3].path], searcher.size)
    logits = heads["fused"].model(Frame.of(sketch()).tensor(searcher.size)[None], square)
    probability = F.interpolate(logits, size=(searcher.size,) * 2, mode="bilinear", align_corners=False).sigmoid()[0, 0]
    expected = Square.of(80, 40, searcher.size).undo_map(probability)
    sure = np.abs(expected - heads["fused"].threshold) > 0.02
    assert sure.any() and np.array_equal(found.mask[sure], expected[sure] >= heads["fused"].threshold)


def test_a_point_matches_itself_in_its_own_picture_and_no_padding(tiny_backbone, heads, tmp_path):
    framed = Image.fromarray((Frame.of(sketch()).tensor(96).permute(1, 2, 0).numpy() * 255).astype(np.uint8))
    framed.save(tmp_path / "same.png")
    Image.new("RGB", (200, 20), "white").save(tmp_path / "wide.png")  # of nothing: padding would match it best
    searcher = Searcher(Gallery.from_folder(tmp_path, tiny_backbone), tiny_backbone, heads)
    places = {searcher.gallery.records[k].path.stem: n for n, k in enumerate(searcher.search(framed).order)}
    points = Frame.of(framed).points(None)[:4]
    same, wide = (searcher.search(framed, points, places[name]) for name in ("same", "wide"))
    assert [m.sketch for m in same.matches] == points
    for m in same.matches:
        assert m.score > 0.9 and np.hypot(*np.subtract(m.photo, m.sketch)) < 0.15
    rows = searcher._photo(wide.photo)[2][0].abs().sum(0).sum(1)
    assert all(0 <= value <= 1 for m in wide.matches for value in m.photo)
    assert rows[len(rows) // 2] > 0 and not rows[0] and not rows[-1]
    assert searcher.search(framed, points[::-1], places["same"]).matches == same.matches[::-1]


def test_what_was_computed_of_the_last_photos_is_kept(gallery, tiny_backbone, heads, monkeypatch):
    searcher = Searcher(gallery, tiny_backbone, heads)
    first = searcher.search(sketch())
    monkeypatch.setattr(searcher, "_frozen", None)  # whoever computed features again would fail
    assert searcher.search(sketch()).matches == first.matches
    assert searcher._sketch.cache_info().maxsize == searcher._photo.cache_info().maxsize == 4


@pytest.mark.parametrize(
    ("asked", "options", "words"),
    [
        (Drawing(), {}, "has no line"),
        (Drawing(strokes=(Stroke(np.array([[9.0, 9.0]]), 4.0),)), {}, "single dot"),
        (Image.new("RGB", (64, 64), "black"), {}, "has no line"),
        (np.zeros((8, 8, 3)), {}, "of type ndarray cannot be searched"),
        (sketch(), {"place": 5}, "there is no place 5"),
        *((sketch(), {"points": [p]}, "is not near the drawing") for p in ((0.99, 0.99), (1.2, 0.3), (np.nan, 0.3))),
        (sketch(), {"points": ["a point"]}, "is no pair of numbers"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_sentence(searcher, asked, options, words):
    with refused(words):
        searcher.search(asked, **options)


def test_what_does_not_belong_together_is_refused(gallery, tiny_backbone, heads):
    for told, value, by in (("weights_sha256", "e" * 64, "another backbone"), ("embed", "fused", "a retrieval head")):
        given = copy(gallery)
        given.made_by = gallery.made_by | {told: value}
        with refused(f"embedded by {by}"):
            Searcher(given, tiny_backbone, heads)
    with refused(r"no trained model 'SD\+CLIP concatenated'"):
        Searcher(gallery, tiny_backbone, {"fused": heads["fused"]})
    with refused("run 03_correspondence", FileNotFoundError):
        match(sketch(), sketch(), fake(), head="no.safetensors")


ENDS = [(20 / 160, 120 / 160), (80 / 160, 40 / 160)]  # of the sketch's lines


@pytest.fixture
def colours():
    """A matcher whose features are the colours, less the paper's."""
    less_paper = nn.BatchNorm2d(3)
    less_paper.running_mean.fill_(0.99)
    matcher = SketchMatcher(nn.Sequential(nn.AdaptiveAvgPool2d(16), less_paper), window=1).eval()
    return Head("fused", "up", None, 0, "f" * 64, {}, task="correspondence", model=matcher)


def blots(size, red, blue):
    """White, with a red and a blue blot at these places in px."""
    image = Image.new("RGB", size, "white")
    for colour, (x, y) in (("red", red), ("blue", blue)):
        ImageDraw.Draw(image).ellipse((x - 12, y - 12, x + 12, y + 12), fill=colour)
    return image


@pytest.mark.parametrize("size", [(400, 200), (200, 400)])
def test_points_are_found_where_their_colour_is_in_photos_of_any_shape_and_never_beyond(colours, size):
    asked = blots((300, 300), (200, 100), (250, 180))
    places = [(0.75 * size[0], 0.8 * size[1]), (0.2 * size[0], 0.3 * size[1])]
    points = [(200 / 300, 100 / 300), (250 / 300, 180 / 300)]
    found = match(asked, blots(size, *places), fake(), points, colours)
    assert [m.sketch for m in found] == points and all(m.score > 0.8 for m in found)
    assert np.abs(np.array([m.photo for m in found]) * size - places).max() <= 400 / 16
    plain = Image.new("RGB", (size[0], size[1] // 5), "white")
    assert all(0 <= value <= 1 for m in match(sketch(), plain, fake(), ENDS, colours) for value in m.photo)
    assert match(sketch(), plain, fake(), [], colours) == (), "no points have no matches"
    with refused("is not near the drawing"):
        match(sketch(), plain, fake(), [(0.99, 0.01)], colours)
    with refused("no image nowhere.jpg", FileNotFoundError):
        match(sketch(), "nowhere.jpg", fake(), head=colours)


def test_files_and_images_and_a_loaded_head_answer_alike(tiny_backbone, tmp_path, colours):
    sketch().save(tmp_path / "sketch.png")
    path = photo(tmp_path / "photo.png")
    head = saved_head(SketchMatcher, tiny_backbone, tmp_path, "correspondence")
    found = match(tmp_path / "sketch.png", path, tiny_backbone, head=head)
    loaded = load_head(head, tiny_backbone)
    assert len(found) == 5 and found == match(sketch(), Image.open(path), tiny_backbone, head=loaded)
    clear, path = Image.new("RGBA", (160, 160)), tmp_path / "sketch.png"
    clear.putalpha(ImageOps.invert(sketch().convert("L")))
    for image in (clear, Image.fromarray(np.asarray(sketch().convert("L"), np.uint16) * 257)):  # of 16 bits
        image.save(path)
        assert match(image, image, fake(), ENDS, colours) == match(path, path, fake(), ENDS, colours)
