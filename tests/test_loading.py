import json
import shutil
import socket
from copy import deepcopy
from dataclasses import replace

import open_clip
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from sfhelpers.backbones import (
    PRESETS,
    load_backbone,
    randomised,
    resolve_device,
    write_preset,
)
from sfhelpers.backbones.presets import WEIGHTS
from tests.backbone_fixtures import one_sentence, refused
from tests.tiny import folder_sha256, write_tiny

UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
VISION = "vision/open_clip_model.safetensors"


@pytest.fixture
def broken(tiny_folder, tmp_path):
    """A copy of the tiny folder, to be damaged."""
    return shutil.copytree(tiny_folder, tmp_path / "copy")


def test_the_same_code_loads_a_vit_with_quickgelu(tmp_path, two_images):
    vision = load_backbone(write_tiny(tmp_path, tower="vit", quick_gelu=True), device="cpu").vision
    assert (vision.size, vision.token_dim) == (32, 32)
    assert vision.tokens(two_images).shape == (2, 32, 4, 4)
    deepest, penultimate, first = (
        vision.model.visual.forward_intermediates(vision.pixels(two_images))["image_intermediates"][i]
        for i in (-1, -2, 0)
    )
    torch.testing.assert_close(vision.tokens(two_images), penultimate)
    assert not torch.allclose(penultimate, deepest) and not torch.allclose(penultimate, first)
    assert vision.embed(two_images).shape == (2, 24)


def test_the_same_code_loads_the_tower_of_pocket(tmp_path, two_images):
    tower = {"timm_model_name": "tf_efficientnet_lite0", "timm_model_pretrained": False, "image_size": 160}
    folder = write_tiny(tmp_path, tower=tower | {"timm_pool": "avg", "timm_proj": "linear"})
    vision = load_backbone(folder, device="cpu").vision
    assert vision.tokens(two_images).shape == (2, 112, 10, 10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_weights_stored_in_half_precision_load_in_the_dtype_asked_for(broken, two_images, dtype):
    for name in WEIGHTS:
        halves = {k: v.half() if v.is_floating_point() else v for k, v in load_file(broken / name).items()}
        save_file(halves, broken / name, metadata={"format": "pt"})
    write_preset(broken, size=96)
    backbone = load_backbone(broken, device="cpu", dtype=dtype)
    for feature in (*backbone.diffusion.features(two_images, draws=2), backbone.vision.tokens(two_images)):
        assert feature.dtype == dtype
        assert feature.isfinite().all()
    assert backbone.vision.embed_text(["a cat"]).dtype == dtype


def test_a_local_folder_is_read_without_any_network(tiny_folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert load_backbone(tiny_folder, device="cpu").device == torch.device("cpu")


def test_the_weights_hash_names_the_weights(tiny_folder, tiny_backbone, broken, tmp_path):
    assert tiny_backbone.weights_sha256 == folder_sha256(tiny_folder)
    assert load_backbone(broken, device="cpu").weights_sha256 == tiny_backbone.weights_sha256
    assert folder_sha256(write_tiny(tmp_path / "other", seed=1)) != tiny_backbone.weights_sha256


def test_a_preset_reads_a_local_diffusers_folder(broken, two_images):
    (broken / "preset.json").unlink()
    config = json.loads((broken / "vision/open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = True
    (broken / "vision/open_clip_config.json").write_text(json.dumps(config))
    backbone = load_backbone(f"sd21:{broken}", device="cpu")
    assert (backbone.diffusion.size, backbone.diffusion.timestep) == (480, 195)
    assert backbone.name == f"sd21:{broken}"
    with pytest.raises(FileNotFoundError, match=r"has no preset.json: .*pass sd21:"):
        load_backbone(broken, device="cpu")


def test_a_randomised_backbone_has_another_unet_and_another_hash(tiny_backbone, two_images):
    control = randomised(tiny_backbone, seed=0)
    assert control.weights_sha256 != tiny_backbone.weights_sha256 and "random UNet" in control.name
    ours, theirs, again = (
        b.diffusion.features(two_images)[2] for b in (control, tiny_backbone, randomised(tiny_backbone, seed=0))
    )
    assert ours.shape == theirs.shape and not torch.allclose(ours, theirs) and torch.equal(ours, again)
    assert torch.equal(control.diffusion.latents(two_images), tiny_backbone.diffusion.latents(two_images))
    assert not any(p.requires_grad for p in control.diffusion.unet.parameters())


def test_half_a_weights_file_is_refused(broken):
    content = (broken / UNET).read_bytes()
    (broken / UNET).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="truncated") as error:
        load_backbone(broken, device="cpu")
    assert UNET in one_sentence(error)


def test_weights_other_than_the_preset_describes_are_refused(broken):
    weights = load_file(broken / UNET)
    weights["conv_in.bias"] += 1
    save_file(weights, broken / UNET)
    with pytest.raises(ValueError, match="sha256 differs") as error:
        load_backbone(broken, device="cpu")
    assert UNET in one_sentence(error)


@pytest.mark.parametrize(
    ("file", "tensor"),
    [
        (UNET, "conv_in.weight"),
        ("vae/diffusion_pytorch_model.safetensors", "encoder.conv_in.weight"),
        (TEXT, "final_layer_norm.weight"),
        (VISION, "visual.head.proj.weight"),
    ],
)
@pytest.mark.parametrize("damage", ["another shape", "missing"])
def test_tensors_that_are_missing_or_of_another_shape_are_refused(broken, file, tensor, damage):
    weights = load_file(broken / file)
    key = next(name for name in weights if name.endswith(tensor))
    old = weights.pop(key)
    if damage == "another shape":
        weights[key] = torch.zeros(old.shape[0] + 1, *old.shape[1:])
    save_file(weights, broken / file, metadata={"format": "pt"})
    write_preset(broken, size=96)
    with pytest.raises(ValueError, match="does not load") as error:
        load_backbone(broken, device="cpu")
    assert file.split("/")[0] in one_sentence(error)


@pytest.mark.parametrize(
    "name", [*WEIGHTS, "vae/config.json", "scheduler/scheduler_config.json", "tokenizer", "tokenizer/tokenizer.json"]
)
def test_a_missing_piece_is_named(broken, name):
    piece = broken / name
    shutil.rmtree(piece) if piece.is_dir() else piece.unlink()
    with pytest.raises(FileNotFoundError, match="lacks") as error:
        load_backbone(broken, device="cpu")
    assert name in one_sentence(error)


def test_a_tokenizer_in_the_older_layout_loads_and_half_of_one_is_refused(broken, tiny_backbone):
    folder = broken / "tokenizer"
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in model["merges"]))
    (folder / "tokenizer.json").unlink()
    tokenizer = load_backbone(broken, device="cpu").diffusion.tokenizer
    assert tokenizer.get_vocab() == tiny_backbone.diffusion.tokenizer.get_vocab()
    (folder / "merges.txt").unlink()
    with refused(r"lacks tokenizer/tokenizer\.json", FileNotFoundError):
        load_backbone(broken, device="cpu")


def test_a_scheduler_that_states_no_betas_is_refused(broken):
    (broken / "scheduler/scheduler_config.json").write_text("{}")
    with refused(r"scheduler_config\.json does not state beta_start, beta_end"):
        load_backbone(broken, device="cpu")


def test_pieces_of_different_models_are_refused(broken, tmp_path):
    other = write_tiny(tmp_path / "other", seed=1)
    config = json.loads((other / "vae/config.json").read_text())
    assert config["latent_channels"] == 8
    AutoencoderKL(**{k: v for k, v in config.items() if k[0] != "_"} | {"latent_channels": 4}).save_pretrained(
        broken / "vae"
    )
    write_preset(broken, size=96)
    with refused("vae has 4 latent channels and unet 8"):
        load_backbone(broken, device="cpu")


def test_a_quickgelu_mismatch_is_an_error(broken):
    write_preset(broken, size=96, quick_gelu=True)
    with refused("QuickGELU"):
        load_backbone(broken, device="cpu")


def test_a_quickgelu_mismatch_with_a_tag_is_an_error_before_any_download(broken, monkeypatch):
    good = PRESETS["sd21"]
    assert open_clip.get_model_config(good.vision.model)["quick_gelu"]
    assert open_clip.get_pretrained_cfg(good.vision.model, good.vision.pretrained)["quick_gelu"]
    wrong = replace(good, vision=replace(good.vision, model="ViT-L-14-336"))
    monkeypatch.setitem(PRESETS, "wrong", wrong)
    (broken / "preset.json").unlink()
    shutil.rmtree(broken / "vision")
    with refused("QuickGELU is False in the model and True in its weights"):
        load_backbone(f"wrong:{broken}", device="cpu")


def test_copies_encode_prompts_anew(tiny_backbone):
    tiny_backbone.diffusion.text("")
    copied = deepcopy(tiny_backbone.diffusion)
    with torch.no_grad():
        next(copied.text_encoder.parameters()).mul_(-3)
    assert not torch.equal(copied.text(""), tiny_backbone.diffusion.text(""))


def test_a_broken_preset_file_is_refused(broken):
    for text in ("{", "{}", '{"diffusion": {"sise": 96}, "vision": {}}'):
        (broken / "preset.json").write_text(text)
        with refused("is not a preset"):
            load_backbone(broken, device="cpu")


def test_unknown_names_are_refused(tmp_path):
    with refused(r"unknown backbone 'pockett': use pocket, sd21"):
        load_backbone("pockett", device="cpu")
    with refused(r"tried .*nowhere \(no such folder\)", FileNotFoundError):
        load_backbone(f"sd21:{tmp_path / 'nowhere'}", device="cpu")


def test_without_a_hub_every_mirror_is_named(monkeypatch):
    def refuse(place, **options):
        raise ConnectionError(place)

    monkeypatch.setattr("sfhelpers.backbones.loading.snapshot_download", refuse)
    with pytest.raises(FileNotFoundError) as error:
        load_backbone("sd21", device="cpu")
    assert all(mirror in one_sentence(error) for mirror in PRESETS["sd21"].diffusion.ids)


def test_a_hub_id_is_read_from_where_the_hub_puts_it(monkeypatch, tiny_folder, tiny_backbone):
    asked = []
    monkeypatch.setattr(
        "sfhelpers.backbones.loading.snapshot_download", lambda place, **options: asked.append(place) or tiny_folder
    )
    backbone = load_backbone("sd21:somebody/a-mirror", device="cpu")
    assert asked == ["somebody/a-mirror"] and backbone.weights_sha256 == tiny_backbone.weights_sha256


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "tpu", "xla"])
def test_devices_that_are_not_there_are_refused(tiny_folder, device):
    with pytest.raises((ValueError, RuntimeError), match="device") as error:
        load_backbone(tiny_folder, device=device)
    assert device in one_sentence(error)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens where there is no GPU")
def test_cuda_without_a_gpu_is_refused():
    with refused("cuda", RuntimeError):
        resolve_device("cuda")
    assert resolve_device("auto").type in ("cpu", "mps")


def test_half_precision_is_refused(tiny_folder):
    with refused("float16"):
        load_backbone(tiny_folder, device="cpu", dtype=torch.float16)
