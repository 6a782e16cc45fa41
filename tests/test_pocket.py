"""How the embedded models are made: closed-form encoder, tokenizer, prompt bank, a training that resumes exactly."""

import json

import open_clip
import pytest
import torch
from torch.nn import functional as F
from transformers import CLIPTokenizer

from sfhelpers.pocket import autoencoder, data, denoiser, encoder, text
from sfhelpers.toyworld import SEEN, UNSEEN, render_photo


@pytest.fixture(scope="module")
def images():
    return data.resized(torch.cat([data.pictures(d, 0, 12)[0] for d in ("photo", "sketch")]), 96)


def test_training_pictures_show_seen_categories_only_and_none_of_a_data_set():
    pictures, categories = data.pictures("photo", 0, 2 * len(SEEN))
    assert set(categories) == set(SEEN) and not set(categories) & set(UNSEEN)
    for k in (0, 5):
        theirs = torch.from_numpy(render_photo(categories[k], k, 0, 0.5)[0]).permute(2, 0, 1)
        assert not torch.equal(pictures[k], theirs)


def test_the_autoencoders_encoder_is_the_whitened_patch_pca(images):
    model = autoencoder.build(images)
    mean, components, spread = autoencoder.patch_pca(images)
    patches = F.unfold(images, 4, stride=4).transpose(1, 2)
    expected = ((patches - mean) @ components.T / spread).transpose(1, 2).reshape(len(images), 8, 24, 24)
    with torch.no_grad():
        latents = model.encode(images).latent_dist.mode()
    assert (latents - expected).abs().max() < 0.05, "the carriers leave an error of about a hundredth of a spread"
    assert torch.allclose(latents.std((0, 2, 3)), torch.ones(8), atol=0.02)


def test_the_decoder_learns_and_the_encoder_does_not_move(images):
    model = autoencoder.build(images)
    before = model.encoder.conv_out.weight.clone()
    losses = autoencoder.train_decoder(model, images, steps=12, batch_size=4)
    assert sum(losses[-3:]) < sum(losses[:3])
    assert torch.equal(before, model.encoder.conv_out.weight)


def test_two_decoders_of_one_seed_are_one(images):
    first, again, other = (autoencoder.build(images, seed).decoder.conv_in.weight for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_tokenizer_knows_its_words_and_spells_the_others(tmp_path):
    text.write_tokenizer(tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    known = tokenizer.convert_ids_to_tokens(tokenizer(text.prompt("wine_glass", "photo")).input_ids)
    assert known[1:-1] == ["a</w>", "photo</w>", "of</w>", "a</w>", "wine</w>", "glass</w>"]
    spelt = tokenizer("zyx").input_ids
    assert len(spelt) == 5 and tokenizer.unk_token_id not in spelt[:-1]
    assert tokenizer.bos_token_id != tokenizer.eos_token_id == len(tokenizer) - 1


def test_every_learning_of_the_tokenizer_gives_the_same_ids(tmp_path):
    found = []
    for k in range(5):  # the library's own order of ties is another's every time
        text.write_tokenizer(tmp_path / str(k))
        found.append([(tmp_path / str(k) / name).read_bytes() for name in ("vocab.json", "merges.txt")])
    assert all(each == found[0] for each in found)


def _denoiser(tmp_path):
    text.write_tokenizer(tmp_path / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    torch.manual_seed(0)
    return denoiser.Denoiser(denoiser.new_unet(), denoiser.new_text_encoder(tokenizer)), tokenizer


def test_a_run_cut_off_and_resumed_ends_where_an_unbroken_one_does(tmp_path, images, monkeypatch):
    model, tokenizer = _denoiser(tmp_path)
    pool = denoiser.latent_pool(autoencoder.build(images), tokenizer, photos=4, sketches=2)
    unbroken = denoiser.train(model, pool, tmp_path / "a", steps=4, batch_size=2, log=lambda line: None)

    checkpoint = denoiser._checkpoint

    def cut(folder, plan, step, *rest):
        checkpoint(folder, plan, step, *rest)
        raise KeyboardInterrupt

    first, _ = _denoiser(tmp_path)
    monkeypatch.setattr(denoiser, "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(denoiser, "_checkpoint", cut)
    with pytest.raises(KeyboardInterrupt):
        denoiser.train(first, pool, tmp_path / "b", steps=4, batch_size=2, log=lambda line: None)
    monkeypatch.setattr(denoiser, "_checkpoint", checkpoint)
    second, _ = _denoiser(tmp_path)
    resumed = denoiser.train(second, pool, tmp_path / "b", steps=4, batch_size=2, log=lambda line: None)
    assert resumed[-1]["samples"] == unbroken[-1]["samples"] == 8
    for (name, p), q in zip(model.named_parameters(), second.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6), name


def test_a_checkpoint_of_another_plan_is_refused(tmp_path, images):
    model, tokenizer = _denoiser(tmp_path)
    pool = denoiser.latent_pool(autoencoder.build(images), tokenizer, photos=2, sketches=1)
    denoiser.train(model, pool, tmp_path, steps=1, batch_size=2, log=lambda line: None)
    with pytest.raises(ValueError, match="another plan"):
        denoiser.train(model, pool, tmp_path, steps=2, batch_size=2, log=lambda line: None)


def test_the_embedded_clip_trains_saves_and_is_read_back_by_open_clip(tmp_path):
    encoder.new_folder(tmp_path)
    torch.manual_seed(0)
    model = encoder.new_model(tmp_path)
    losses = encoder.train(model, tmp_path, steps=2, individuals=4, batch_size=4)
    assert len(losses) == 2 and all(torch.isfinite(torch.tensor(losses)))
    encoder.save(model, tmp_path)
    read, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    x = torch.rand(2, 3, 160, 160) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(read.eval().encode_image(x), model.encode_image(x), atol=0.05)
    config = json.loads((tmp_path / "open_clip_config.json").read_text(encoding="utf-8"))
    assert config["preprocess_cfg"]["mean"] == [0.5, 0.5, 0.5]
