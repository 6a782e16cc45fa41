"""The drawn architecture says what the module is, for every arm and every backbone."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from sfhelpers.backbones import load_backbone, write_tiny
from sfhelpers.fusion import ARMS, FusedExtractor
from sfhelpers.plots.architecture import Shapes, architecture, layout, read_shapes
from sfhelpers.plots.figure import DPI, text_width
from tests.backbone_fixtures import small


@pytest.fixture(scope="module")
def other_backbone(tmp_path_factory):
    """Other widths, another image tower and another image size than `tiny_backbone`."""
    folder = write_tiny(tmp_path_factory.mktemp("other") / "other", widths=(16, 8, 24, 40), tower="vit", size=128)
    return load_backbone(folder, device="cpu")


def box(plan, name):
    (found,) = [box for box in plan.boxes if box.name == name]
    return found


def arrows(plan, kind):
    return [(line.source, line.target) for line in plan.lines if line.kind == kind]


def test_shapes_are_those_of_the_tensors_on_the_way(tiny_backbone, two_images):
    extractor = small(tiny_backbone)
    shapes = read_shapes(extractor, two_images)
    features = tiny_backbone.diffusion.features(two_images)
    assert shapes.up == tuple(tuple(feature.shape[1:]) for feature in features)
    assert shapes.tokens == tuple(tiny_backbone.vision.tokens(two_images).shape[1:])
    assert shapes.output == tuple(extractor(two_images).shape[1:])
    assert shapes.latent == tuple(tiny_backbone.diffusion.latents(two_images).shape[1:])
    assert [shape[0] for shape in shapes.down] == list(tiny_backbone.diffusion.down_dims)
    assert shapes.down[-1] == shapes.mid
    counts = [sum(p.numel() for p in part.parameters()) for part in (extractor.injection, extractor.aggregator)]
    assert shapes.learned == tuple(counts)


def test_reading_the_shapes_leaves_no_hook_behind(tiny_backbone, two_images):
    read_shapes(small(tiny_backbone), two_images)
    unet = tiny_backbone.diffusion.unet
    assert not any(block._forward_hooks for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks))


@pytest.mark.parametrize("backbone", ["tiny_backbone", "other_backbone"])
def test_boxes_bear_the_shapes_of_their_backbone(backbone, two_images, request):
    backbone = request.getfixturevalue(backbone)
    plan = layout(read_shapes(small(backbone), two_images))
    for n, feature in enumerate(backbone.diffusion.features(two_images)):
        assert box(plan, f"up-block {n + 1}").detail == " × ".join(map(str, feature.shape[1:]))
    tokens, dims = backbone.vision.tokens(two_images), backbone.diffusion.block_dims
    assert box(plan, "CLIP").detail == " × ".join(map(str, tokens.shape[1:]))
    assert box(plan, "map").detail == "12 × 9 × 9"
    assert [box(plan, f"C{n}").detail for n in "₁₂₃"] == [f"{tokens.shape[1]} → {dim}" for dim in dims[:3]]
    assert [box(plan, f"A{n}").detail for n in "₁₂₃"] == [f"{dim} → 12" for dim in dims[:3]]


@pytest.mark.parametrize(
    "inject, convolutions, style",
    [("none", "", ""), ("up", "C₁C₂C₃", "learned"), ("random", "C₁C₂C₃", "frozen"), ("late", "C₁C₂C₃", "learned"),
     ("up+down", "C₁C₂C₃D₁D₂D₃D₄", "learned")],
)  # fmt: skip
def test_injection_is_drawn_as_it_is(tiny_backbone, two_images, inject, convolutions, style):
    plan = layout(read_shapes(small(tiny_backbone, inject), two_images))
    drawn = [box for box in plan.boxes if box.name[0] in "CD" and box.name[1:].strip("₁₂₃₄") == ""]
    assert "".join(box.name for box in drawn) == convolutions
    assert {box.style for box in drawn} <= {style}
    assert sum(sign == "+" for _, _, sign in plan.circles) == len(drawn)
    from_clip = [target for source, target in arrows(plan, "tokens") if source == "CLIP"]
    assert from_clip == [box.name for box in drawn]
    assert box(plan, "CLIP").style == ("not run" if inject == "none" else "frozen")


@pytest.mark.parametrize("inject, feedback", [("up", True), ("random", True), ("late", False), ("none", False)])
def test_feedback_is_drawn_where_there_is_some(tiny_backbone, two_images, inject, feedback):
    plan = layout(read_shapes(small(tiny_backbone, inject), two_images))
    sums = {(x, y) for x, y, sign in plan.circles if sign == "+"}
    (step,) = [line for line in plan.lines if (line.source, line.target) == ("up-block 1", "up-block 2")]
    left_from_a_sum = any(abs(step.points[0][0] - x) < 0.01 and 0 < step.points[0][1] - y < 0.1 for x, y in sums)
    assert left_from_a_sum == feedback


@pytest.mark.parametrize("method", ARMS)
def test_every_arm_aggregates_what_its_branches_say(tiny_backbone, two_images, method):
    extractor = FusedExtractor(tiny_backbone, dim=12, grid=9, width=8, **ARMS[method])
    shapes = read_shapes(extractor, two_images)
    plan = layout(shapes)
    sources = {f"f{n}": f"up-block {n}" for n in range(1, 5)} | {"tokens": "CLIP"}
    expected = [
        (sources[name], f"A{'₁₂₃₄₅'[n]}") for n, branch in enumerate(extractor.branches) for name in branch.split("+")
    ]
    drawn = [(line.source, line.target) for line in plan.lines if line.target.startswith("A")]
    assert drawn == expected
    run = {box.name for box in plan.boxes if box.name.startswith("up-block") and box.style == "frozen"}
    assert run == {f"up-block {n + 1}" for n in range(extractor.until)}
    assert box(plan, "VAE, noise").style == ("frozen" if extractor.until else "not run")


def test_branch_weights_are_those_of_the_module(tiny_backbone, two_images):
    extractor = small(tiny_backbone)
    with torch.no_grad():
        extractor.aggregator.branch_weights.copy_(torch.tensor([1.0, 2.0, 0.5]))
    words = [text for _, _, text in layout(read_shapes(extractor, two_images)).words if text.startswith("×")]
    assert words == ["× 0.23", "× 0.63", "× 0.14"]


CROWDED = {"branches": ("f1", "f2", "f3", "f4", "tokens", "f1+f3")}


@pytest.mark.parametrize("options", [*ARMS.values(), {"inject": "up+down"}, CROWDED], ids=str)
def test_no_two_boxes_overlap(tiny_backbone, two_images, options):
    shapes = read_shapes(FusedExtractor(tiny_backbone, dim=12, grid=9, width=8, **options), two_images)
    boxes = layout(shapes).boxes
    for index, one in enumerate(boxes):
        for two in boxes[index + 1 :]:
            apart = abs(one.x - two.x) >= (one.width + two.width) / 2
            assert apart or abs(one.y - two.y) >= (one.height + two.height) / 2, (one.name, two.name)


@pytest.mark.parametrize("options", [{"inject": "up+down"}, CROWDED], ids=str)
def test_nothing_leaves_the_figure_and_its_bytes_are_the_same(tiny_backbone, two_images, options):
    shapes = read_shapes(FusedExtractor(tiny_backbone, dim=12, grid=9, width=8, **options), two_images)
    drawn = architecture(shapes, "A title").png()
    pixels = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB"))
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert edge.min() > 200
    assert drawn == architecture(shapes, "A title").png() and len(drawn) < 150_000


def stable_diffusion_shapes():
    """Those of Stable Diffusion 2.1 at 480 and ViT-L/14 at 336 pixels (SketchFusion, Sec. 5.1)."""
    return Shapes(
        inject="up+down", branches=("f1", "f2", "f3"), injected=(0, 1, 2), run=3, image=(3, 480, 480),
        latent=(4, 60, 60), tokens=(1024, 24, 24), output=(64, 60, 60),
        down=((320, 30, 30), (640, 15, 15), (1280, 8, 8), (1280, 8, 8)), mid=(1280, 8, 8),
        up=((1280, 15, 15), (1280, 30, 30), (640, 60, 60), (320, 60, 60)),
        convs=((1024, 1280), (1024, 1280), (1024, 640)),
        down_convs=((1024, 320), (1024, 640), (1024, 1280), (1024, 1280)),
        blocks=((1280, 64), (1280, 64), (640, 64)), weights=(1 / 3,) * 3, learned=(7_000_000, 300_000),
    )  # fmt: skip


def test_no_text_is_wider_than_its_box_with_the_sizes_of_stable_diffusion():
    for found in layout(stable_diffusion_shapes()).boxes:
        assert max(text_width(found.name, 8.6), text_width(found.detail, 7.5)) / DPI < found.width, found
