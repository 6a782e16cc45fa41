"""How the embedded models are made, by 90's own cells: encoder, tokenizer, three trainings, one folder."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save
from torch import nn
from torch.nn import functional as F

from sfhelpers import toyworld
from sfhelpers.backbones.diffusion import DiffusionFeatures
from sfhelpers.backbones.sealed import WEIGHTS
from sfhelpers.pocket import data, models, training
from tests.backbone_fixtures import files, folder_sha256, load, refused
from tests.cells import run_cells

HERE = "90_train_pocket"
PARTS = ("fresh", "denoiser", "clip", "words")  # what the notebook writes a folder of
PAIR = torch.stack([data.picture(domain, "cat", 3, seed=0)[0] for domain in ("photo", "sketch")]) / 255
SCALE = {"decoder_steps": 6, "steps": 4, "cropped": 2, "batch_size": 2, "photos": 3, "scenes": 3, "sketches": 2}
SCALE |= {"encoder_steps": 12, "individuals": 3, "seed": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def images():
    return data.resized(torch.cat([data.pictures(kind, 0, 8)[0] for kind in ("photo", "scene", "sketch")]))


def cells_run(folder, images, *tags, **settings):
    """What the notebook's cells leave behind, at the size of a test, up to those with the last of the tags."""
    run = SCALE | {"alignment": 0.0, "imagenet": "", "output_dir": folder} | settings
    names = {"torch": torch, "nn": nn, "F": F, "data": data, "models": models, "toyworld": toyworld, "images": images}
    names |= {"load_file": load_file, "shipped": load("pocket"), "run": SimpleNamespace(**run)}
    return run_cells(HERE, names, "decoder", "denoiser-data", *tags)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, images, lite):
    pulled = {"alignment": 0.5, "imagenet": str(lite[1])}
    names = cells_run(tmp_path_factory.mktemp("run"), images, "denoiser", "encoder-data", **pulled)
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
    longest = "a photo of a purple wine glass left of an orange windmill with a left blade tip, a cat and"
    for words in (longest, *data.pictures("scene", 0, 9)[1], *data.pictures("sketch", 0, 3)[1]):
        pieces = tokenizer.tokenize(words)
        assert all(piece.endswith("</w>") for piece in pieces) and len(pieces) <= data.LENGTH - 2
    assert len(tokenizer) == 589 and tokenizer.model_max_length == data.LENGTH
    spelt = tokenizer("zyx").input_ids
    assert len(spelt) == 5 and tokenizer.unk_token_id not in spelt[:-1]
    assert tokenizer.bos_token_id != tokenizer.eos_token_id == len(tokenizer) - 1
    for name in ("vocab.json", "merges.txt"):  # the library's own order of ties is another's every time
        assert len({(tmp_path / str(k) / name).read_bytes() for k in range(5)}) == 1


def test_a_picture_comes_with_what_is_in_it_and_true_words_for_it():
    for kind, fewest, most in (("photo", 1, 1), ("scene", 2, 4), ("sketch", 1, 1)):
        drawn, words, things = data.pictures(kind, 20, 12)
        assert drawn.shape == (12, 3, 160, 160) and drawn.dtype == torch.uint8
        for said, shown, k in zip(words, things, range(20, 32), strict=True):
            assert fewest <= len(shown) <= most and shown[0] == toyworld.SEEN[k % 27]
            named = {name for name in toyworld.CATEGORIES if f" {name.replace('_', ' ')}" in said}
            assert named & set(shown) and set(shown) <= set(toyworld.SEEN) and said.startswith("a ")


def test_decoder_and_denoiser_learn_from_where_the_seed_says_and_the_encoder_does_not_move(trained, images):
    assert sum(trained.decoder_losses[-3:]) < sum(trained.decoder_losses[:3])
    again, other = models.new_autoencoder(images), models.new_autoencoder(images, seed=1)
    assert all(map(torch.equal, trained.fresh.encoder.parameters(), again.encoder.parameters()))
    assert not torch.equal(again.decoder.conv_in.weight, other.decoder.conv_in.weight)
    both = models.new_denoiser(trained.tokenizer), trained.denoiser
    pick, tokens, t, noise, _ = trained.batch_of(99, 24)
    batch = trained.latents[pick].float(), tokens, t, noise
    with torch.no_grad():
        start, end = (trained.noise_loss(model.eval(), *batch) for model in both)
    assert end < start and len(trained.training.losses) == trained.run.steps


def test_a_batch_hangs_on_the_steps_number_alone_and_its_crops_lie_in_the_picture(trained):
    for side in (16, 24):
        first, again, other = (trained.batch_of(step, side) for step in (3, 3, 4))
        assert all(map(torch.equal, first[:4], again[:4])) and first[4] == again[4]
        assert not torch.equal(first[3], other[3]) and first[3].shape == (2, 8, side, side)
        assert all(0 <= low <= 24 - side for low in first[4])


def test_the_pull_is_least_where_the_head_says_what_imagenet_says_at_the_same_place(trained):
    """Of a map whose two channels are the row and the column, read at a crop."""
    rows, columns = torch.meshgrid(torch.arange(10) + 0.5, torch.arange(10) + 0.5, indexing="ij")
    maps = torch.stack([rows, columns])[None] * 2.4  # in latents
    for (top, left), side in (((3, 8), 16), ((0, 0), 24)):
        points = torch.meshgrid(*(low + (torch.arange(7) + 0.5) * side / 7 for low in (top, left)), indexing="ij")
        trained.made["hidden"] = torch.stack(points)[None] if side < 24 else maps
        exact = trained.misalignment({"head": lambda hidden: hidden}, maps, (top, left), side)
        trained.made["hidden"] = trained.made["hidden"].flip(1)
        assert exact < 1e-3 < 0.02 < trained.misalignment({"head": lambda hidden: hidden}, maps, (top, left), side)


def test_the_alignment_reaches_the_unet_and_is_logged_and_zero_leaves_no_head(trained, tmp_path, images):
    assert all(0 < apart < 2 for _, apart in trained.training.losses) and "head" in trained.denoiser
    plain = cells_run(tmp_path, images, "denoiser")
    assert "head" not in plain["denoiser"] and [apart for _, apart in plain["training"].losses] == [0] * 4
    ours, theirs = (model["unet"].conv_in.weight for model in (trained.denoiser, plain["denoiser"]))
    assert not torch.equal(ours, theirs)


def test_the_encoder_learns_its_transformer_and_the_end_of_its_trunk_and_no_statistics_of_batches(trained):
    pixels = torch.cat([data.pictures(kind, 0, n)[0] for kind, n in (("photo", 3), ("scene", 3), ("sketch", 4))])
    asked = pixels / 127.5 - 1, trained.shares, trained.domains, trained.banks[0]
    start = models.new_clip(trained.words)
    start.load_state_dict(trained.before)
    with torch.no_grad():
        assert_close(trained.lower(asked[0].flip(-1)), trained.maps[1], share=0.01)
        first, last = (trained.alignment_loss(model.eval(), *asked) for model in (start, trained.clip))
    assert last < first - 0.5, "of few pictures, so that a dozen steps are enough"
    for key, value in trained.clip.state_dict().items():
        stage = key.partition("patch_embed.backbone.")[2]
        late = stage.startswith(("blocks.4", "blocks.5", "blocks.6")) and "running" not in key and "num_b" not in key
        if not key.endswith(("mask", "position_ids")):  # constants
            assert torch.equal(value, trained.before[key]) == bool(stage and not late), key
    assert torch.allclose(trained.shares.sum(1), torch.ones(10)) and (trained.shares[3:6] < 0.6).all()


def denoised(trained, folder, **settings):
    """The denoiser's cells from the start, in a folder."""
    names = {**vars(trained), "run": SimpleNamespace(**{**vars(trained.run), "output_dir": folder, **settings})}
    torch.manual_seed(0)
    fresh = models.new_denoiser(trained.tokenizer)
    fresh["head"] = nn.Sequential(nn.Conv2d(96, 256, 1), nn.SiLU(), nn.Conv2d(256, 112, 1))  # as the notebook does
    return run_cells(HERE, names | {"denoiser": fresh}, "denoiser")


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


def test_a_checkpoint_of_another_plan_or_world_and_a_loss_that_is_no_number_are_refused(trained, monkeypatch):
    state = [vars(trained)[name] for name in ("denoiser", "average", "optimiser", "schedule")]
    kept = files(trained.folder)
    with monkeypatch.context() as patch, refused(r"of another training \(toy world was \d+ and is 99\)"):
        patch.setattr(training, "VERSION", 99)
        training.Training(trained.folder, trained.plan, *state)
    with refused(r"of another training \(learning_rate was 0\.001 and is 0\.002\)"):
        training.Training(trained.folder, trained.plan | {"learning_rate": 2e-3}, *state)
    with refused(r"loss is nan at step 4: lower learning_rate \(0\.001\)", FloatingPointError):
        trained.training.keep(0.5, float("nan"))
    assert files(trained.folder) == kept, "nothing is lost"


def test_the_trunk_starts_from_imagenets_and_the_transformer_as_the_mean_over_what_it_finds(trained):
    torch.manual_seed(0)
    clip, theirs = models.new_clip(trained.words, trained.known).eval(), trained.known.model.state_dict()
    trunk = clip.visual.trunk.patch_embed.backbone
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in trunk.state_dict().items())
    clip.visual.trunk.patch_embed.backbone = nn.Identity()
    maps = torch.randn(40, 320, 10, 10) + 3 * torch.randn(40, 320, 1, 1)  # pictures differ in the mean over places

    def likeness():  # of the cosines between pictures, to those of the mean over places
        with torch.no_grad():
            found = (F.normalize(each, dim=-1) for each in (clip.encode_image(maps), maps.mean((2, 3))))
        return torch.corrcoef(torch.stack([(each @ each.T)[*torch.triu_indices(40, 40, 1)] for each in found]))[0, 1]

    random = likeness()
    models.start_as_pooling(clip, maps)
    assert likeness() > max(0.55, random + 0.2)


def test_samples_count_as_rightly_named_where_the_nearest_prompt_is_the_one_asked_for():
    said = torch.arange(27)
    said[:2] = 5
    images = said[:, None, None, None].expand(-1, 3, 4, 4)
    vision = SimpleNamespace(embed=lambda x: torch.eye(27)[x[:, 0, 0, 0].long()], embed_text=lambda _: torch.eye(27))
    names = {"torch": torch, "F": F, "data": data, "toyworld": toyworld, "vae": load("pocket").diffusion.vae}
    names |= {"pipe": lambda *_, **how: SimpleNamespace(images=images), "settings": {}}
    names |= {"run": SimpleNamespace(samples=2, seed=0), "shipped": SimpleNamespace(vision=vision, device="cpu")}
    assert run_cells(HERE, names, "samples")["painted"].tolist() == 2 * [0, 0, *[1] * 25]


def test_the_features_are_those_of_the_parts_within_half_precision(trained, backbone):
    half, parts = backbone.diffusion, (trained.denoiser["unet"], trained.denoiser["text"], trained.tokenizer)
    full = DiffusionFeatures(trained.fresh, *parts, half.scheduler, size=data.SIZE, timestep=195)
    with torch.no_grad():
        assert_close(half.latents(PAIR), full.latents(PAIR), share=0.01)
        for found, expected in zip(*(each.features(PAIR, prompt="a cat") for each in (half, full)), strict=True):
            assert_close(found, expected)
        assert_close(backbone.vision.embed(PAIR), trained.clip.encode_image(2 * PAIR - 1, normalize=True))
    assert (half.size, half.timestep, backbone.vision.size) == (96, 195, 160)
    assert full.unet.dtype == full.text_encoder.dtype == torch.float32, "only copies are halved"
    assert backbone.vision.tokens(PAIR).shape == (2, 144, 10, 10)
    assert len(half.text("a cat")) == half.tokenizer.model_max_length == data.LENGTH, "as diffusers' pipeline pads"


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
    monkeypatch.setattr(training, "KEEP_EVERY", 4)
    names = denoised(trained, tmp_path)
    found = {samples: names["folder"] / f"samples_{samples}.safetensors" for samples in (4, 8)}
    assert sorted(names["folder"].glob("samples_*")) == sorted(found.values()), "the first steps that reach a number"
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
    whole, other = load_file(found[8]), tmp_path / "other.safetensors"
    earlier = next(name for name in whole if "position_embedding" in name)  # of a pocket that read 16 tokens
    wrong = [{f"unet.conv_in.{name}": torch.zeros(3)} for name in ("extra", "bias")] + [{earlier: whole[earlier][:16]}]
    for content in (*(save(whole | damage) for damage in wrong), found[8].read_bytes()[:9000]):
        other.write_bytes(content)
        with refused(r"other\.safetensors is no snapshot"):
            at_snapshot(backbone, other, 100)
