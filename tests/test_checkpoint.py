"""Trained segmenters on disk: the same masks after reading, and one sentence for everything that does not belong."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from sfhelpers.backbones import load_backbone, randomised
from sfhelpers.backbones.presets import POCKET_FOLDER, folder_sha256
from sfhelpers.fusion import ARMS
from sfhelpers.tasks import checkpoint
from sfhelpers.tasks.arms import extractor_for
from sfhelpers.tasks.segmentation import SketchSegmenter
from sfhelpers.tasks.segmentation_comparison import MEAN_MASK, Trial
from tests.backbone_fixtures import one_sentence

RUN = SimpleNamespace(dataset="toy", split="default", limit=4, epochs=1, learning_rate=1e-3, seed=0)


def trial(backbone, method="fused", seed=0):
    model = SketchSegmenter(extractor_for(method, backbone, seed))
    with torch.no_grad():  # as if trained: away from what the seed alone would give
        for parameter in model.parameters():
            parameter.add_(0.01)
    return Trial(method, seed, model, None, 0, 0.0, 0.4, {})


@pytest.fixture
def saved(tiny_backbone, tmp_path):
    """The path of a fused head, and the model in it."""
    made = trial(tiny_backbone)
    (path,) = checkpoint.save_heads(RUN, [made], tiny_backbone.weights_sha256, tmp_path)
    return path, made.model.eval()


@pytest.mark.parametrize("method", ARMS)
def test_a_head_read_back_gives_the_same_logits(tiny_backbone, two_images, tmp_path, method):
    made = trial(tiny_backbone, method)
    (path,) = checkpoint.save_heads(RUN, [made], tiny_backbone.weights_sha256, tmp_path)
    head = checkpoint.load_head(path, tiny_backbone)
    assert (head.method, head.threshold, head.seed, head.training["limit"]) == (method, 0.4, 0, 4)
    with torch.no_grad():
        assert torch.equal(head.model(two_images, two_images), made.model.eval()(two_images, two_images))
    assert not any(parameter.requires_grad for parameter in head.model.parameters())


def test_only_models_of_the_first_seed_and_of_an_arm_are_kept(tiny_backbone, tmp_path):
    trials = [trial(tiny_backbone), trial(tiny_backbone, seed=1), replace(trial(tiny_backbone), method=MEAN_MASK)]
    trials.append(replace(trial(tiny_backbone, "late fusion"), model=None))
    written = checkpoint.save_heads(RUN, trials, tiny_backbone.weights_sha256, tmp_path)
    assert [path.name for path in written] == ["fused.safetensors"]


def test_heads_of_a_folder_come_by_method_in_the_order_of_the_arms(tiny_backbone, tmp_path):
    trials = [trial(tiny_backbone, method) for method in ("SD+CLIP concatenated", "fused")]
    checkpoint.save_heads(RUN, trials, tiny_backbone.weights_sha256, tmp_path)
    assert list(checkpoint.load_heads(tmp_path, tiny_backbone)) == ["fused", "SD+CLIP concatenated"]


def test_a_missing_file_and_an_empty_folder_are_said(tiny_backbone, tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        checkpoint.load_head(tmp_path / "fused.safetensors", tiny_backbone)
    assert "run 04_segmentation" in one_sentence(error)
    with pytest.raises(FileNotFoundError) as error:
        checkpoint.load_heads(tmp_path, tiny_backbone)
    assert "no trained models" in one_sentence(error)


def test_a_head_of_another_backbone_is_refused(saved, tiny_backbone):
    with pytest.raises(ValueError) as error:
        checkpoint.load_head(saved[0], randomised(tiny_backbone))
    assert "was trained on a backbone with weights" in one_sentence(error)


def described(path):
    """The description a head's file carries."""
    head = path.read_bytes()
    length = int.from_bytes(head[:8], "little")
    return json.loads(json.loads(head[8 : 8 + length])["__metadata__"]["sketchfusion"])


@pytest.mark.parametrize("change", [{"format": 99}, {"method": "B-DINO"}, {"dim": 7}])
def test_a_head_of_another_version_is_refused(saved, tiny_backbone, change):
    path, _ = saved
    text = json.dumps(described(path) | change)
    save_file(load_file(path), path, metadata={"sketchfusion": text})
    with pytest.raises(ValueError) as error:
        checkpoint.load_head(path, tiny_backbone)
    assert "another version of sfhelpers" in one_sentence(error)


def test_a_head_that_lacks_a_weight_is_refused(saved, tiny_backbone):
    path, _ = saved
    weights, text = load_file(path), json.dumps(described(path))
    weights.pop("centre")
    save_file(weights, path, metadata={"sketchfusion": text})
    with pytest.raises(ValueError) as error:
        checkpoint.load_head(path, tiny_backbone)
    assert "does not fit the model it names" in one_sentence(error)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x04\x95pickled"])
def test_a_file_of_another_kind_is_refused(tiny_backbone, tmp_path, content):
    path = tmp_path / "fused.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        checkpoint.load_head(path, tiny_backbone)
    assert "is not a trained segmenter of this collection" in one_sentence(error)


def test_a_truncated_head_and_one_without_a_description_are_refused(saved, tiny_backbone):
    path, _ = saved
    save_file(load_file(path), path)
    with pytest.raises(ValueError, match="is not a trained segmenter"):
        checkpoint.load_head(path, tiny_backbone)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is not a trained segmenter"):
        checkpoint.load_head(path, tiny_backbone)


def test_the_shipped_heads_belong_to_the_shipped_backbone():
    backbone = load_backbone("pocket", "cpu")
    assert backbone.weights_sha256 == folder_sha256(POCKET_FOLDER)
    heads = checkpoint.load_heads(checkpoint.SHIPPED, backbone)
    assert list(heads) == list(ARMS)
    assert sum(path.stat().st_size for path in checkpoint.SHIPPED.iterdir()) < 6e6
    trainings = [head.training for head in heads.values()]
    assert all(training == trainings[0] for training in trainings) and all(0 < h.threshold < 1 for h in heads.values())
