import subprocess
import sys

import pytest

from sfhelpers.fusion import (
    ARMS,
    FusedExtractor,
    matched_width,
    trainable_parameters,
)
from tests.backbone_fixtures import one_step, refused, small

ALL = ("up", "up+down", "late", "none", "random")


def test_every_arm_of_the_tables_trains_with_equal_parameters(tiny_backbone, two_images):
    usual = ("f1", "f2", "f3")
    target = trainable_parameters(tiny_backbone, usual, "up", dim=12, width=32)
    for method, settings in ARMS.items():
        branches = settings.get("branches", usual)
        width = matched_width(tiny_backbone, branches, settings["inject"], 12, target)
        extractor = FusedExtractor(tiny_backbone, dim=12, grid=9, width=width, **settings)
        learned = sum(p.numel() for p in extractor.parameters() if p.requires_grad)
        assert learned == trainable_parameters(tiny_backbone, branches, settings["inject"], 12, width)
        assert abs(learned / target - 1) < 0.02, method
        one_step(extractor, extractor.prepare(two_images))
    assert matched_width(tiny_backbone, usual, "up", 12, target) == 32
    with pytest.raises(ValueError, match="too few"):
        matched_width(tiny_backbone, usual, "up", 12, 10)


def test_clip_only_never_runs_the_unet(tiny_backbone, two_images):
    ran = []
    hook = tiny_backbone.diffusion.unet.register_forward_pre_hook(lambda m, a: ran.append(1))
    extractor = small(tiny_backbone, **ARMS["CLIP only"])
    assert list(extractor.prepare(two_images)) == ["tokens"]
    hook.remove()
    assert not ran


def test_branches_may_name_f4_and_sums(tiny_backbone, two_images):
    for inject in ALL:
        extractor = small(tiny_backbone, inject, branches=("f1+f4", "tokens"))
        assert [block.shortcut[0].in_channels for block in extractor.aggregator.blocks] == [32 + 8, 48]
        assert extractor(two_images).shape == (2, 12, 9, 9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"inject": "upp"}, "unknown inject 'upp'"),
        ({"branches": ("f5",)}, "unknown branch 'f5'"),
        ({"branches": ("f1+clip",)}, "unknown branch 'clip'"),
        ({"branches": ()}, "unknown branch"),
        ({"branches": ("tokens",)}, "no UNet branch"),
    ],
)
def test_misuse_is_refused_in_one_sentence(tiny_backbone, options, said):
    with refused(said):
        FusedExtractor(tiny_backbone, **options)


def test_images_and_tensors_that_do_not_fit_are_refused(tiny_backbone, two_images):
    extractor = small(tiny_backbone)
    for images in (two_images * 255, two_images[0], two_images[:, :1]):
        with pytest.raises(ValueError, match="image"):
            extractor(images)
    with pytest.raises(ValueError, match=r'not prepared for inject="up"'):
        extractor(small(tiny_backbone, "none").prepare(two_images))


def test_the_benchmark_prints_a_ratio(tiny_folder):
    command = [sys.executable, "-m", "tools.bench", "steps", "widgets", "--backbone", str(tiny_folder)]
    done = subprocess.run(
        [*command, "--device", "cpu", "--batch", "2", "--repeats", "1"], capture_output=True, text=True, check=True
    )
    assert "prefix stored" in done.stdout and "whole UNet" in done.stdout
    assert all(name in done.stdout for name in ("PCAExplorer", "FrequencyExplorer", "SketchPad", "SketchSearch"))
