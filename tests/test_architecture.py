"""The drawn architecture says what the module is, on every backbone."""

import io

import numpy as np
import pytest
import torch
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from sfhelpers.backbones import load_backbone
from sfhelpers.fusion import FusedExtractor
from sfhelpers.plots.schemes import architecture
from tests.backbone_fixtures import small
from tests.tiny import write_tiny


@pytest.fixture(scope="module")
def other_backbone(tmp_path_factory):
    """Other widths, another image tower and another image size than `tiny_backbone`."""
    folder = write_tiny(tmp_path_factory.mktemp("other") / "other", widths=(16, 8, 24, 40), tower="vit", size=128)
    return load_backbone(folder, device="cpu")


def read(figure):
    """Every box's name -> (its second line, the width of its edge, its line style); and all words."""
    (axes,) = figure.axes
    texts = [(text.get_text(), text.get_position()) for text in axes.texts]
    boxes = {}
    for patch in axes.patches:
        if isinstance(patch, FancyBboxPatch):
            (x0, y0), (x1, y1) = patch.get_bbox().get_points()
            name, detail = (text for text, (x, y) in texts if x0 < x < x1 and y0 < y < y1)
            boxes[name] = (detail, patch.get_linewidth(), patch.get_linestyle())
    return boxes, [text for text, _ in texts]


def by(tensor):
    return " × ".join(map(str, tensor.shape[1:]))


@pytest.mark.parametrize("backbone", ["tiny_backbone", "other_backbone"])
def test_boxes_bear_the_shapes_of_the_tensors_on_the_way(backbone, two_images, request):
    backbone = request.getfixturevalue(backbone)
    extractor = small(backbone)
    boxes, _ = read(architecture(extractor, two_images))
    features, tokens = backbone.diffusion.features(two_images), backbone.vision.tokens(two_images)
    assert [boxes[f"up-block {n}"][0] for n in (1, 2, 3, 4)] == [by(feature) for feature in features]
    assert [boxes[f"down-block {n}"][0].split(" ")[0] for n in (1, 2, 3, 4)] == [
        str(dim) for dim in backbone.diffusion.down_dims
    ]
    assert boxes["mid block"][0] == boxes["down-block 4"][0]
    assert boxes["CLIP"][0] == by(tokens) and boxes["VAE, noise"][0] == by(backbone.diffusion.latents(two_images))
    assert boxes["map"][0] == by(extractor(two_images)) == "12 × 9 × 9"
    dims = backbone.diffusion.block_dims[:3]
    assert [boxes[f"C{n}"][0] for n in "₁₂₃"] == [f"{tokens.shape[1]} → {dim}" for dim in dims]
    assert [boxes[f"A{n}"][0] for n in "₁₂₃"] == [f"{dim} → 12" for dim in dims]
    assert boxes["up-block 4"][2] == "--" and boxes["up-block 3"][2] != "--"  # the last one is not run


@pytest.mark.parametrize("inject, learned", [("up", True), ("random", False)])
def test_what_is_learned_is_drawn_so_and_counted(tiny_backbone, two_images, inject, learned):
    extractor = small(tiny_backbone, inject)
    with torch.no_grad():
        extractor.aggregator.branch_weights.copy_(torch.tensor([1.0, 2.0, 0.5]))
    drawn = architecture(extractor, two_images)
    boxes, words = read(drawn)
    assert {boxes[f"C{n}"][1] > 1 for n in "₁₂₃"} == {learned} and all(boxes[f"A{n}"][1] > 1 for n in "₁₂₃")
    assert [word for word in words if word.startswith("×")] == ["× 0.23", "× 0.63", "× 0.14"]
    parts = extractor.injection, extractor.aggregator
    counts = [sum(p.numel() for p in part.parameters() if p.requires_grad) for part in parts]
    (legend,) = [text.get_text() for text in drawn.axes[0].get_legend().texts if "learned" in text.get_text()]
    assert legend == "learned: injection C {:,}, aggregation A {:,} parameters".format(*counts)


OTHERS = [{"inject": "late"}, {"inject": "none"}, {"inject": "up+down"}, {"branches": ("f1", "f3")}]


@pytest.mark.parametrize("options", OTHERS, ids=str)
def test_what_the_drawing_could_only_draw_wrong_is_refused(tiny_backbone, two_images, options):
    with pytest.raises(ValueError, match="cannot be drawn"):
        architecture(FusedExtractor(tiny_backbone, dim=12, grid=9, width=8, **options), two_images)


def test_drawing_leaves_no_hook_behind_nothing_leaves_the_figure_and_its_bytes_are_the_same(tiny_backbone, two_images):
    drawn = architecture(small(tiny_backbone), two_images, "A title").png()
    unet = tiny_backbone.diffusion.unet
    assert not any(block._forward_hooks for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks))
    pixels = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB"))
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert edge.min() > 200
    assert drawn == architecture(small(tiny_backbone), two_images, "A title").png() and len(drawn) < 150_000
