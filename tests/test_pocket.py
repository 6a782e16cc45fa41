"""How the embedded models are made, by 90's own cells: encoder, tokenizer, three trainings, one folder."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from sfhelpers import toyworld
from sfhelpers.backbones.diffusion import DiffusionFeatures
from sfhelpers.backbones.sealed import WEIGHTS
from sfhelpers.pocket import data, models, training
from tests.backbone_fixtures import folder_sha256, load, refused
from tests.cells import run_cells

HERE = "90_train_pocket"
PARTS = ("fresh", "denoiser", "clip", "words")  # what the notebook writes a folder of
PAIR = torch.stack([data.picture(domain, "cat", 3, seed=0) for domain in ("photo", "sketch")]) / 255


@pytest.fixture(scope="module")
def images():
    return data.resized(torch.cat([data.pictures(domain, 0, 12)[0] for domain in ("photo", "sketch")]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, images):
    """What the notebook's cells leave behind, at the size of a test."""
    run = {"seed": 0, "decoder_steps": 12, "steps": 4, "batch_size": 2, "photos": 4, "sketches": 2, "device": "cpu"}
    run |= {"encoder_steps": 6, "individuals": 4, "imagenet": "", "output_dir": tmp_path_factory.mktemp("run")}
    names = {"torch": torch, "nn": nn, "F": F, "data": data, "models": models, "toyworld": toyworld, "images": images}
    names |= {"load_file": load_file, "shipped": load("pocket")}
    names["run"] = SimpleNamespace(**run)
    run_cells(HERE, names, "decoder", "denoiser-data", "denoiser", "encoder-data")
    names["before"] = {key: value.clone() for key, value in names["clip"].state_dict().items()}
    return SimpleNamespace(**run_cells(HERE, names, "encoder"))


@pytest.fixture(scope="module")
def backbone(trained):
    return load(models.write_folder(trained.words.parent / "made", *(vars(trained)[part] for part in PARTS)))


def assert_close(found, expected, share=0.03):
    """Within a share of the expected tensor's spread, which is what rounding all weights to half precision costs."""
    torch.testing.assert_close(found, expected, rtol=0, atol=share * expected.abs().max().item(), check_dtype=False)


def test_the_autoencoders_encoder_is_the_whitened_patch_pca(images):
    model = models.new_autoencoder(images)
    mean, components, spread = models.patch_pca(images)
    patches = F.unfold(images, 4, stride=4).transpose(1, 2)
    expected = ((patches - mean) @ components.T / spread).transpose(1, 2).reshape(len(images), 8, 24, 24)
    with torch.no_grad():
        latents = model.encode(images).latent_dist.mode()
    assert (latents - expected).abs().max() < 0.05, "the carriers leave an error of about a hundredth of a spread"
    assert torch.allclose(latents.std((0, 2, 3)), torch.ones(8), atol=0.02)


def test_the_tokenizer_knows_its_words_spells_the_others_and_learns_the_same_ids_every_time(tmp_path):
    tokenizer, *_ = (data.write_tokenizer(tmp_path / str(k)) for k in range(5))
    known = tokenizer.convert_ids_to_tokens(tokenizer(data.prompt("wine_glass", "photo")).input_ids)
    assert known[1:-1] == ["a</w>", "photo</w>", "of</w>", "a</w>", "wine</w>", "glass</w>"]
    spelt = tokenizer("zyx").input_ids
    assert len(spelt) == 5 and tokenizer.unk_token_id not in spelt[:-1]
    assert tokenizer.bos_token_id != tokenizer.eos_token_id == len(tokenizer) - 1
    for name in ("vocab.json", "merges.txt"):  # the library's own order of ties is another's every time
        assert len({(tmp_path / str(k) / name).read_bytes() for k in range(5)}) == 1


def test_decoder_and_denoiser_learn_from_where_the_seed_says_and_the_encoder_does_not_move(trained, images):
    assert sum(trained.decoder_losses[-3:]) < sum(trained.decoder_losses[:3])
    again, other = models.new_autoencoder(images), models.new_autoencoder(images, seed=1)
    assert all(map(torch.equal, trained.fresh.encoder.parameters(), again.encoder.parameters()))
    assert not torch.equal(again.decoder.conv_in.weight, other.decoder.conv_in.weight)
    given = trained.latents, trained.prompts, trained.nothing, trained.scheduler, 32
    both = models.new_denoiser(trained.tokenizer), trained.denoiser
    start, end = (trained.noise_loss(model, *given, torch.Generator().manual_seed(9)) for model in both)
    assert end < start and len(trained.training.losses) == trained.run.steps


def test_the_encoder_learns_with_batch_norm_as_it_was(trained):
    assert trained.encoder_losses[-1] < 0.9 * trained.encoder_losses[0]
    for key, value in trained.clip.state_dict().items():
        assert torch.equal(value, trained.before[key]) == ("running_" in key or "num_batches" in key), key


def denoised(trained, folder, **settings):
    """The denoiser's cells from the start, in a folder."""
    names = {**vars(trained), "run": SimpleNamespace(**{**vars(trained.run), "output_dir": folder, **settings})}
    torch.manual_seed(0)
    return run_cells(HERE, names | {"denoiser": models.new_denoiser(trained.tokenizer)}, "denoiser")


def test_a_run_cut_off_and_resumed_ends_where_an_unbroken_one_does(trained, tmp_path, monkeypatch):
    def cut(self, tensors, state):
        write(self, tensors, state)
        raise KeyboardInterrupt

    unbroken, write = denoised(trained, tmp_path / "a"), training.Checkpoint.write
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training.Checkpoint, "write", cut)
        denoised(trained, tmp_path / "b")
    resumed = denoised(trained, tmp_path / "b")
    assert resumed["training"].losses == unbroken["training"].losses and len(resumed["training"].losses) == 4
    torch.testing.assert_close(unbroken["denoiser"].state_dict(), resumed["denoiser"].state_dict(), rtol=0, atol=0)


def test_a_checkpoint_of_another_plan_and_a_loss_that_is_no_number_are_refused(trained):
    state = [vars(trained)[name] for name in ("denoiser", "average", "optimiser", "schedule", "dice")]
    with refused(r"of another training \(learning_rate was 0\.001 and is 0\.002\)"):
        training.Training(trained.folder, trained.plan | {"learning_rate": 2e-3}, *state)
    with refused(r"loss is nan at step 4: lower learning_rate \(0\.001\)", FloatingPointError):
        trained.training.keep(float("nan"))


def test_the_trunk_starts_from_imagenet_weights_of_another_naming(tmp_path):
    trunk = models.new_clip(tmp_path / "a").visual.trunk.state_dict()
    theirs = {f"theirs {k}": tensor + 1 for k, tensor in enumerate(trunk.values())}
    torch.save(theirs | {"classifier.weight": torch.zeros(1), "classifier.bias": torch.zeros(1)}, tmp_path / "them.pth")
    ours = models.new_clip(tmp_path / "b", str(tmp_path / "them.pth")).visual.trunk.state_dict()
    assert all(torch.equal(ours[name], trunk[name] + 1) for name in trunk)


def test_the_features_are_those_of_the_parts_within_half_precision(trained, backbone):
    half, parts = backbone.diffusion, (trained.fresh, *trained.denoiser.values(), trained.tokenizer)
    full = DiffusionFeatures(*parts, half.scheduler, size=data.SIZE, timestep=195)
    with torch.no_grad():
        assert_close(half.latents(PAIR), full.latents(PAIR), share=0.01)
        for found, expected in zip(*(each.features(PAIR, prompt="a cat") for each in (half, full)), strict=True):
            assert_close(found, expected)
        assert_close(backbone.vision.embed(PAIR), trained.clip.encode_image(2 * PAIR - 1, normalize=True))
    assert (half.size, half.timestep, backbone.vision.size) == (96, 195, 160)
    assert full.unet.dtype == full.text_encoder.dtype == torch.float32, "only copies are halved"
    assert backbone.vision.tokens(PAIR).shape[-2:] == (10, 10)


def test_weights_are_kept_in_half_precision_and_sealed_and_written_anew_they_are_the_same(trained, backbone, caplog):
    folder = Path(backbone.name)
    for name in WEIGHTS:
        assert {t.dtype for t in load_file(folder / name).values() if t.is_floating_point()} == {torch.float16}
    assert sum(path.stat().st_size for path in folder.rglob("*.safetensors")) < 25e6
    before, preset = folder_sha256(folder), (folder / "preset.json").read_bytes()
    models.write_folder(folder, *(vars(trained)[part] for part in PARTS))
    assert folder_sha256(folder) == before and (folder / "preset.json").read_bytes() == preset
    assert caplog.records == [], "a notebook would show them as warnings"


def test_snapshots_hold_another_denoiser_and_other_files_are_refused(trained, backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "KEEP_AT", (2, 7))
    names = denoised(trained, tmp_path)
    found = {samples: names["folder"] / f"samples_{samples}.safetensors" for samples in (2, 8)}
    assert sorted(names["folder"].glob("samples_*")) == sorted(found.values()), "the first step that reaches a number"
    before = backbone.diffusion.features(PAIR)
    at_snapshot = run_cells(HERE, names, "snapshot")["at_snapshot"]
    early, last = (at_snapshot(backbone, path, samples) for samples, path in found.items())
    torch.testing.assert_close(last.diffusion.unet.state_dict(), names["denoiser"]["unet"].state_dict())
    assert_close(last.diffusion.features(PAIR)[2], before[2])
    assert not torch.allclose(early.diffusion.features(PAIR)[2], before[2], rtol=0.1)
    assert all(map(torch.equal, backbone.diffusion.features(PAIR), before)), "the backbone at hand is as it was"
    assert not torch.equal(early.diffusion.text(""), backbone.diffusion.text(""))
    assert len({backbone.weights_sha256, early.weights_sha256, last.weights_sha256}) == 3
    assert early.vision is backbone.vision and last.name == "pocket at 8 samples"
    for damage in ({"unet.conv_in.extra": torch.zeros(1)}, {"unet.conv_in.bias": torch.zeros(3)}):
        save_file(load_file(found[8]) | damage, tmp_path / "other.safetensors")
        with refused(r"other\.safetensors is no snapshot"):
            at_snapshot(backbone, tmp_path / "other.safetensors", 100)
