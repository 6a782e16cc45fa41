"""A backbone is found by name, hub id or folder, and refused in one sentence where its files are not what they say."""

import json
import os
import shutil
from dataclasses import replace
from functools import partial
from unittest.mock import Mock

import open_clip
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from sfhelpers.backbones import PRESETS, load_backbone, randomised, write_preset
from sfhelpers.backbones.sealed import WEIGHTS
from tests.backbone_fixtures import change, folder_sha256, load, not_loaded, refused

TEXT, UNET, VAE, VISION = WEIGHTS


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_stored_in_half_precision_load_in_the_dtype_asked_for(two_images, dtype):
    backbone = load_backbone("pocket", device="cpu", dtype=dtype)
    found = *backbone.diffusion.features(two_images, draws=2), backbone.vision.embed_text(["a cat"])
    for feature in (*found, backbone.vision.tokens(two_images)):
        assert feature.dtype == dtype and feature.isfinite().all()


def test_a_randomised_backbone_has_another_unet_and_another_hash(tiny_backbone, two_images):
    control = randomised(tiny_backbone, seed=0)
    assert control.weights_sha256 != tiny_backbone.weights_sha256 and "random UNet" in control.name
    backbones = control, tiny_backbone, randomised(tiny_backbone, seed=0)
    ours, theirs, again = (backbone.diffusion.features(two_images)[2] for backbone in backbones)
    assert ours.shape == theirs.shape and not torch.allclose(ours, theirs) and torch.equal(ours, again)
    assert torch.equal(control.diffusion.latents(two_images), tiny_backbone.diffusion.latents(two_images))
    assert not any(p.requires_grad for p in control.diffusion.unet.parameters())


def test_a_tokenizer_in_the_older_layout_loads_and_half_of_one_is_refused(unsealed, tiny_backbone):
    folder = unsealed / "tokenizer"
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in model["merges"]))
    (folder / "tokenizer.json").unlink()
    assert load(unsealed).diffusion.tokenizer.get_vocab() == tiny_backbone.diffusion.tokenizer.get_vocab()
    (folder / "merges.txt").unlink()
    not_loaded(unsealed, r"lacks tokenizer/tokenizer\.json", FileNotFoundError)


def put(name, text):
    return lambda folder: (folder / name).write_text(text)


def without(name):
    return lambda folder: shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()


def spoil(file, tensor, shape, folder):
    """Take a tensor out of a file or, if a shape is given, put zeros of that shape in its place."""
    tensors = load_file(folder / file)
    del tensors[tensor]
    new = {} if shape is None else {tensor: torch.zeros(shape)}
    save_file(tensors | new, folder / file, metadata={"format": "pt"})


def rebuilt(cls, part, **changes):
    """Make a model anew with another config."""
    return lambda folder: cls.from_config(cls.load_config(folder / part) | changes).save_pretrained(folder / part)


def another_word(folder):
    change(folder / "tokenizer" / "tokenizer.json", lambda content: content["model"]["vocab"].update(word=351))


BESIDE = [other for name in WEIGHTS for other in (f"{name}.index.json", f"{name.split('/')[0]}/adapter_config.json")]
OTHER_FORMS = {  # what the UNet's weights are called instead -> the step that helps
    "diffusion_pytorch_model.fp16.safetensors": "rename diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin": "load diffusion_pytorch_model.bin with its library",
    "diffusion_pytorch_model.safetensors.index.json": "save it again as one file",
    "notes.txt": "copy or download the folder again",
}
NEEDS = [  # more than a text and a time step
    {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 64},
    *({"num_class_embeds": 10}, {"addition_embed_type": "text"}),
    {"encoder_hid_dim_type": "text_proj", "encoder_hid_dim": 32},
]
MISFITS = {  # what was done to a folder -> how, and what is said
    "half a file": (lambda folder: os.truncate(folder / UNET, 9000), f"{UNET} is truncated"),
    "no tensor, diffusers": (partial(spoil, VAE, "encoder.conv_in.weight", None), "vae does not load"),
    "another shape, diffusers": (partial(spoil, UNET, "conv_in.weight", (3, 1)), "unet does not load"),
    "another shape, transformers": (partial(spoil, TEXT, "final_layer_norm.weight", 3), "text_encoder does not load"),
    "no tensor, open_clip": (partial(spoil, VISION, "visual.head.proj.weight", None), "vision does not load"),
    **{f"no {name}": (without(name), f"lacks .*{name}") for name in (VISION, "vae/config.json", "tokenizer")},
    "a scheduler without betas": (put("scheduler/scheduler_config.json", "{}"), "does not state beta_start, beta_end"),
    **{name: (put(name, "{}"), "stands for other weights") for name in BESIDE},
    **{f: (lambda folder, f=f: (folder / UNET).rename(folder / "unet" / f), said) for f, said in OTHER_FORMS.items()},
    **{str(asked): (rebuilt(UNet2DConditionModel, "unet", **asked), "unet needs") for asked in NEEDS},
    "pieces of two models": (rebuilt(AutoencoderKL, "vae", latent_channels=4), "vae has 4 latent channels and unet 8"),
    "another tokenizer": (another_word, r"tokenizer has \d+ entries and text_encoder \d+"),
    "another QuickGELU": (lambda folder: write_preset(folder, size=96, quick_gelu=True), "QuickGELU is False"),
    "no such layer": (
        lambda folder: change(folder / "preset.json", lambda told: told["vision"].update(layer=9)),
        "layer 9",
    ),
    "no preset": (without("preset.json"), "has no preset.json: .*pass sd21:"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_folder_that_is_cut_or_does_not_fit_together_is_refused(unsealed, misfit):
    damage, said = MISFITS[misfit]
    damage(unsealed)
    not_loaded(unsealed, said, (ValueError, FileNotFoundError))


def test_a_quickgelu_mismatch_with_a_tag_is_an_error_before_any_download(unsealed, monkeypatch):
    good = PRESETS["sd21"]
    assert open_clip.get_model_config(good.model)["quick_gelu"]
    assert open_clip.get_pretrained_cfg(good.model, good.pretrained)["quick_gelu"]
    monkeypatch.setitem(PRESETS, "wrong", replace(good, model="ViT-L-14-336"))
    (unsealed / "preset.json").unlink()
    shutil.rmtree(unsealed / "vision")
    not_loaded(f"wrong:{unsealed}", "QuickGELU is False in the model and True in its weights")


def test_unknown_names_devices_and_types_are_refused(tmp_path):
    for name, options, said in (
        ("pockett", {}, "unknown backbone 'pockett': use pocket, sd21"),
        (f"sd21:{tmp_path / 'nowhere'}", {}, r"tried .*nowhere \(no such folder\)"),
        ("pocket", {"dtype": torch.float16}, "float16"),
        *(("pocket", {"device": device}, device) for device in ("gpu", "cuda:99", "tpu", "xla")),
    ):
        with refused(said, (ValueError, RuntimeError, FileNotFoundError)):
            load_backbone(name, **{"device": "cpu"} | options)


def test_a_hub_id_is_read_from_where_the_hub_puts_it_and_every_mirror_that_fails_is_named(monkeypatch, tiny_folder):
    hub = Mock(side_effect=[tiny_folder, ConnectionError(), ConnectionError()])
    monkeypatch.setattr("sfhelpers.backbones.loading.snapshot_download", hub)
    assert load("sd21:somebody/a-mirror").weights_sha256 == folder_sha256(tiny_folder)
    mirrors = PRESETS["sd21"].ids
    not_loaded("sd21", ".*".join(mirrors), FileNotFoundError)
    assert [call.args[0] for call in hub.call_args_list] == ["somebody/a-mirror", *mirrors]
