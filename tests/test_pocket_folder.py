"""The trained models as a folder: read by `load_backbone`, sealed, and the same models but for half precision."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from sfhelpers.backbones import folder_sha256, load_backbone
from sfhelpers.backbones.diffusion import DiffusionFeatures
from sfhelpers.backbones.presets import WEIGHTS
from sfhelpers.files import file_sha256
from sfhelpers.pocket import autoencoder, curve, data, denoiser, encoder, text
from sfhelpers.pocket.denoiser import Denoiser
from sfhelpers.pocket.folder import write_folder
from sfhelpers.tasks import segmentation_report as report
from tests.backbone_fixtures import one_sentence
from tests.test_results import make


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The parts as a training leaves them, in full precision, and the folder written from them."""
    root = tmp_path_factory.mktemp("pocket")
    text.write_tokenizer(root / "tokenizer")
    tokenizer = denoiser.CLIPTokenizer.from_pretrained(root / "tokenizer")
    torch.manual_seed(0)
    model = Denoiser(denoiser.new_unet(), denoiser.new_text_encoder(tokenizer)).eval()
    pictures = torch.cat([data.pictures(domain, 0, 12)[0] for domain in ("photo", "sketch")])
    vae = autoencoder.build(data.resized(pictures, denoiser.SIZE)).eval()
    encoder.new_folder(root / "vision")
    vision = encoder.new_model(root / "vision").eval()
    encoder.save(vision, root / "vision")
    before = {name: p.clone() for name, p in model.named_parameters()}
    folder = write_folder(root / "made" / "pocket", vae, model, root / "tokenizer", root / "vision")
    assert all(torch.equal(p, before[name]) and p.dtype == torch.float32 for name, p in model.named_parameters())
    return folder, vae, model, tokenizer, vision


@pytest.fixture(scope="module")
def backbone(made):
    return load_backbone(made[0], device="cpu")


@pytest.fixture
def images():
    return torch.stack([data.picture(domain, "cat", 3, seed=0) for domain in ("photo", "sketch")]) / 255


def assert_close(found, expected, share=0.01):
    """Within a share of the expected tensor's spread, which is what rounding all weights to half precision costs."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < share * expected.abs().max(), (found - expected).abs().max()


def test_the_features_are_those_of_the_parts_within_half_precision(made, backbone, images):
    _, vae, model, tokenizer, vision = made
    parts = (vae, model.unet, model.text, tokenizer, denoiser.new_scheduler())
    full = DiffusionFeatures(*parts, size=denoiser.SIZE, timestep=195)
    with torch.no_grad():
        assert_close(backbone.diffusion.latents(images), full.latents(images))
        for prompt in ("", text.prompt("cat", "photo")):
            pairs = zip(
                backbone.diffusion.features(images, prompt=prompt), full.features(images, prompt=prompt), strict=True
            )
            for found, expected in pairs:
                assert_close(found, expected, share=0.03)
        assert_close(backbone.vision.embed(images), vision.encode_image(2 * images - 1, normalize=True), share=0.03)
    assert (backbone.diffusion.size, backbone.diffusion.timestep, backbone.vision.size) == (96, 195, 160)
    assert backbone.vision.tokens(images).shape[-2:] == (10, 10)


def test_weights_are_kept_in_half_precision_and_sealed(made, backbone):
    folder = made[0]
    preset = json.loads((folder / "preset.json").read_text(encoding="utf-8"))
    assert preset["sha256"] == {name: file_sha256(folder / name) for name in WEIGHTS}
    assert backbone.weights_sha256 == folder_sha256(folder)
    for name in WEIGHTS:
        assert {t.dtype for t in load_file(folder / name).values() if t.is_floating_point()} == {torch.float16}
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".part")]
    assert sum(path.stat().st_size for path in folder.rglob("*.safetensors")) < 25e6


def test_a_folder_that_was_changed_after_sealing_is_refused(made, tmp_path, caplog):
    _, vae, model, _, _ = made
    root = made[0].parents[1]
    folder = write_folder(tmp_path / "pocket", vae, model, root / "tokenizer", root / "vision")
    assert caplog.records == [], "a notebook would show them as warnings"
    weights = load_file(folder / WEIGHTS[1])
    weights["conv_in.bias"] += 1
    save_file(weights, folder / WEIGHTS[1], metadata={"format": "pt"})
    with pytest.raises(ValueError, match="sha256 differs") as error:
        load_backbone(folder, device="cpu")
    one_sentence(error)
    write_folder(folder, vae, model, root / "tokenizer", root / "vision")
    assert load_backbone(folder, device="cpu").weights_sha256 == folder_sha256(made[0]), "written anew, it loads again"


def keep(model, folder, samples, scale=1.0):
    """A snapshot as a training keeps it, its weights scaled."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: (p * scale).detach().contiguous() for name, p in model.named_parameters()}
    save_file(tensors, folder / f"samples_{samples}.safetensors")


def test_snapshots_come_in_the_order_of_their_samples(tmp_path):
    for name in ("samples_16000", "samples_800", "samples_3200", "checkpoint", "samples_900.safetensors.part"):
        (tmp_path / (name if name.endswith(".part") else f"{name}.safetensors")).touch()
    (tmp_path / "curve_800.json").touch()
    found = curve.snapshots(tmp_path)
    assert list(found) == [800, 3200, 16000]
    assert found[3200] == tmp_path / "samples_3200.safetensors"
    assert curve.snapshots(tmp_path / "nowhere") == {}


def test_training_keeps_snapshots_that_the_curve_finds(made, backbone, tmp_path):
    _, vae, _, tokenizer, _ = made
    torch.manual_seed(1)
    fresh = Denoiser(denoiser.new_unet(), denoiser.new_text_encoder(tokenizer))
    pool = denoiser.latent_pool(vae, tokenizer, photos=2, sketches=2)
    denoiser.train(fresh, pool, tmp_path, steps=3, batch_size=2, keep_at=(2, 6), log=lambda line: None)
    found = curve.snapshots(tmp_path)
    assert list(found) == [2, 6]
    last = curve.at_snapshot(backbone, found[6], 6)
    for name, tensor in fresh.unet.state_dict().items():
        torch.testing.assert_close(last.diffusion.unet.state_dict()[name], tensor)


def test_a_snapshot_changes_the_denoiser_alone_and_not_the_backbone_at_hand(made, backbone, images, tmp_path):
    keep(made[2], tmp_path, 100)
    keep(made[2], tmp_path, 200, scale=0.5)
    before = [f.clone() for f in backbone.diffusion.features(images)]
    weights = {name: tensor.clone() for name, tensor in backbone.diffusion.unet.state_dict().items()}
    same, other = (curve.at_snapshot(backbone, path, n) for n, path in curve.snapshots(tmp_path).items())
    for found, expected in zip(same.diffusion.features(images), before, strict=True):
        assert_close(found, expected, share=0.03)
    assert not torch.allclose(other.diffusion.features(images)[2], before[2], rtol=0.1)
    assert not torch.equal(other.diffusion.text(""), backbone.diffusion.text(""))
    assert torch.equal(other.diffusion.latents(images), backbone.diffusion.latents(images))
    assert other.vision is backbone.vision
    for found, expected in zip(backbone.diffusion.features(images), before, strict=True):
        assert torch.equal(found, expected)
    assert all(torch.equal(t, weights[name]) for name, t in backbone.diffusion.unet.state_dict().items())
    assert not any(p.requires_grad for p in other.diffusion.unet.parameters())
    assert len({backbone.weights_sha256, same.weights_sha256, other.weights_sha256}) == 3
    assert other.name == "pocket at 200 samples"


@pytest.mark.parametrize("damage", ["a tensor less", "a tensor more", "another shape", "no text encoder"])
def test_a_snapshot_of_another_model_is_refused(made, backbone, tmp_path, damage):
    keep(made[2], tmp_path, 100)
    path = tmp_path / "samples_100.safetensors"
    tensors = load_file(path)
    if damage == "a tensor less":
        tensors.pop("unet.conv_in.weight")
    elif damage == "a tensor more":
        tensors["unet.conv_in.extra"] = torch.zeros(1)
    elif damage == "another shape":
        tensors["unet.conv_in.bias"] = torch.zeros(3)
    else:
        tensors = {name: tensor for name, tensor in tensors.items() if name.startswith("unet.")}
    save_file(tensors, path)
    with pytest.raises(ValueError, match=r"samples_100\.safetensors") as error:
        curve.at_snapshot(backbone, path, 100)
    one_sentence(error)


def test_the_curve_is_read_from_rows_with_rising_samples():
    base = replace(make(gallery="seen categories"), definition=f"d; {report.CHOSEN}")
    rows = [
        replace(base, method=method, value=value, backbone=f"pocket at {samples} samples")
        for method, samples, value in (("fused", 16000, 0.7), ("SD only", 16000, 0.5), ("fused", 800, 0.6))
    ]
    found = curve.series(rows, "seen categories")
    assert found == {"fused": {800: 0.6, 16000: 0.7}, "SD only": {16000: 0.5}}
    assert list(found["fused"]) == [800, 16000]
    assert curve.series(rows, "unseen categories") == {}
