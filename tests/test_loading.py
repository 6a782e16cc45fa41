"""A backbone's folder: found by name, refused where its files are not what they say, nothing in it runs unsealed."""

import json
import os
import shutil
import socket
from functools import partial
from unittest.mock import Mock

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from sfhelpers.backbones import DIFFUSION, load_backbone, randomised, write_preset
from sfhelpers.backbones.presets import Preset, Vision, read_preset
from sfhelpers.backbones.sealed import FIELDS, TOLD, VISION, WEIGHTS, files, parts_of
from tests.backbone_fixtures import change, folder_sha256, load, not_loaded, refused

TEXT, UNET, VAE, CLIP = WEIGHTS


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_stored_in_half_precision_load_in_the_dtype_asked_for(two_images, dtype):
    backbone = load_backbone("pocket", device="cpu", dtype=dtype)
    found = *backbone.diffusion.features(two_images, draws=2), backbone.vision.embed_text(["a cat"])
    for feature in (*found, backbone.vision.tokens(two_images)):
        assert feature.dtype == dtype and feature.isfinite().all()


def test_half_precision_is_named_with_the_backbone_and_has_its_own_hash(tiny_folder, tiny_backbone):
    half, double = load(f"{tiny_folder}@bf16"), load_backbone(f"{tiny_folder}@bf16", "cpu", torch.float64)
    assert half.name == f"{tiny_folder}@bf16" and half.diffusion.unet.conv_in.weight.dtype == torch.bfloat16
    assert half.rounds and not tiny_backbone.rounds
    assert half.weights_sha256 != tiny_backbone.weights_sha256 == double.weights_sha256
    assert double.diffusion.unet.conv_in.weight.dtype == torch.float64  # what is asked for in words comes first
    not_loaded("pocket@fp16", r"unknown backbone 'pocket@fp16': use pocket, .*\.$")


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
    return lambda folder: cls.from_config(cls.load_config(folder / part) | changes).save_pretrained(folder / part)


def another_word(folder):
    change(folder / "tokenizer" / "tokenizer.json", lambda content: content["model"]["vocab"].update(word=351))


BESIDE = [other for name in WEIGHTS for other in (f"{name}.index.json", f"{name.split('/')[0]}/adapter_config.json")]
OTHER_FORMS = {  # what the UNet's weights are called instead -> the step that helps
    "diffusion_pytorch_model.bin": "lacks .*model.bin is pickled and may run code when opened: take",
    "adapter_config.json": "stands for other weights",
    "pytorch_lora_weights.safetensors": "lacks .*pytorch_lora_weights.safetensors is a LoRA: join it",
    "diffusion_pytorch_model.safetensors.index.json": "is no index of shards",
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
    "no tensor, open_clip": (partial(spoil, CLIP, "visual.head.proj.weight", None), "vision does not load"),
    **{f"no {name}": (without(name), f"lacks .*{name}") for name in (CLIP, "vae/config.json", "tokenizer")},
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


@pytest.mark.parametrize(
    ("width", "predicts", "whose"),
    [(768, "epsilon", "Stable Diffusion 1"), (1024, "epsilon", "Stable Diffusion 2 base"), (1024, "v_prediction", "")],
)
def test_another_model_s_unet_is_not_taken_for_that_of_the_preset(unsealed, width, predicts, whose):
    rebuilt(UNet2DConditionModel, "unet", cross_attention_dim=width)(unsealed)
    config = CLIPTextConfig.from_pretrained(unsealed / "text_encoder", hidden_size=width)
    CLIPTextModel(config).save_pretrained(unsealed / "text_encoder")
    change(unsealed / "scheduler/scheduler_config.json", lambda told: told.update(prediction_type=predicts))
    (unsealed / "preset.json").unlink()
    if whose:
        not_loaded(f"sd21:{unsealed}", f"unet is of {whose}, not of Stable Diffusion 2: name the preset")
    else:
        assert load(f"sd21:{unsealed}").diffusion.text().shape == (16, width)


def test_unknown_names_devices_and_types_are_refused(tmp_path):
    for name, options, said in (
        ("pockett", {}, "unknown backbone 'pockett': use pocket, sd14, "),
        (f"sd21:{tmp_path / 'nowhere'}", {}, r"tried .*nowhere \(no such folder\)"),
        ("pocket", {"dtype": torch.float16}, "float16"),
        *(("pocket", {"device": device}, device) for device in ("gpu", "cuda:99", "tpu", "xla")),
    ):
        with refused(said, (ValueError, RuntimeError, FileNotFoundError)):
            load_backbone(name, **{"device": "cpu"} | options)


def test_a_hub_id_is_read_from_where_the_hub_puts_it_and_every_mirror_that_fails_is_named(monkeypatch, tiny_folder):
    hub = Mock(side_effect=[tiny_folder, ConnectionError(), ConnectionError()])
    monkeypatch.setattr("sfhelpers.backbones.finding.snapshot_download", hub)
    assert load("sd21:somebody/a-mirror").weights_sha256 == folder_sha256(tiny_folder)
    mirrors = DIFFUSION["sd21"].ids
    not_loaded("sd21", ".*".join(mirrors), FileNotFoundError)
    assert [call.args[0] for call in hub.call_args_list] == ["somebody/a-mirror", *mirrors]


CALLS = {"AutoTokenizer": ["foreign.Foreign", None], "AutoModel": "foreign.Foreign", "AutoConfig": "foreign.Foreign"}
OTHERS = ["foreign.Foreign", "hf-hub:somebody/model", "local-dir:.", "TransfoXLTokenizer", 3, [], {}]
HASHES = [None, [], {}, {"unet/config.json": None}, {"unet/config.json": 3}, "x", {"unet/config.json": "0" * 63}]
WRONG = ["x", None, [], {}, 1.5, True]


def deepest(tree):
    inside = [value for value in tree.values() if isinstance(value, dict)]
    return deepest(inside[-1]) if inside else tree


@pytest.mark.parametrize("field", [{"auto_map": CALLS}, {"trust_remote_code": True}, {"custom_pipelines": {"f": "x"}}])
@pytest.mark.parametrize("name", FIELDS)
def test_a_config_that_names_code_is_refused_at_any_depth(unsealed, name, field):
    for where in (lambda tree: tree, deepest):
        change(unsealed / name, lambda tree, where=where: where(tree).update(field))
        not_loaded(unsealed, "asks to run code")
    assert not list(unsealed.rglob("ran"))


def test_files_that_nobody_asked_for_are_not_read(unsealed, tiny_backbone):
    foreign = {"auto_map": CALLS, "model_type": "foreign"}
    for name in ("tokenizer", "vision", "scheduler", "."):
        change(unsealed / name / "config.json", lambda config: config.update(foreign))
    for name in ("generation_config.json", "added_tokens.json", "chat_template.jinja", "model_index.json"):
        (unsealed / "text_encoder" / name).write_text("{{ foreign }}")
    loaded = load(unsealed)
    assert loaded.weights_sha256 == tiny_backbone.weights_sha256 and not list(unsealed.rglob("ran"))
    assert torch.equal(loaded.vision.embed_text(["a cat"]), tiny_backbone.vision.embed_text(["a cat"]))


@pytest.mark.parametrize(("name", "field"), [(VISION, "timm_model_name"), (f"vision/{TOLD[0]}", "tokenizer_class")])
@pytest.mark.parametrize("other", OTHERS)
def test_a_class_is_chosen_among_known_ones(unsealed, name, field, other):
    change(unsealed / name, lambda config: deepest(config).update({field: other}))
    not_loaded(unsealed, "names the")


def test_every_file_that_is_read_is_sealed(tiny_folder, tmp_path):
    sealed = read_preset(tiny_folder).sha256
    assert set(sealed) == set(files(parts_of(tiny_folder))) > {*WEIGHTS, VISION, "tokenizer/tokenizer.json"}
    for name in sealed:
        made = shutil.copytree(tiny_folder, tmp_path / name.replace("/", " "))
        content = bytearray((made / name).read_bytes())
        content[-2] ^= 1
        (made / name).write_bytes(content)
        not_loaded(made, f"{name} is not what .*sha256 differs")
        change(made / "preset.json", lambda preset, name=name: preset["sha256"].pop(name))
        not_loaded(made, f"{name} is not sealed")
    (made / "tokenizer" / "vocab.json").write_text("{}")
    not_loaded(made, "is not sealed")


CHANGES = {  # that a folder sealed anew loads with, each to other features
    VISION: lambda config: config["preprocess_cfg"].update(mean=[0.1, 0.1, 0.1]),
    "unet/config.json": lambda config: config.update(norm_eps=0.1),
    "tokenizer/tokenizer_config.json": lambda config: config.update(model_max_length=12),
}


def test_a_folder_that_is_changed_and_sealed_anew_has_another_hash(tiny_folder, tiny_backbone, tmp_path):
    hashes = {tiny_backbone.weights_sha256}
    for name, how in CHANGES.items():
        made = shutil.copytree(tiny_folder, tmp_path / name.replace("/", " "))
        change(made / name, how)
        write_preset(made, size=96)
        hashes.add(load(made).weights_sha256)
    write_preset(made, size=64)  # of the images
    assert len(hashes | {load(made).weights_sha256}) == 2 + len(CHANGES)


SPOILT = [  # fields that are known, with values that fail or give no numbers when they are first used
    *((VISION, "preprocess_cfg", {"mean": value}) for value in ([float("nan")] * 3, ["x"] * 3, [0.5], 3, {})),
    *((VISION, "preprocess_cfg", {"std": value}) for value in ([0, 0, 0], ["x"] * 3)),
    *(("unet/config.json", None, {"norm_eps": value}) for value in ("x", float("nan"), [])),
    ("vae/config.json", None, {"scaling_factor": "x"}),
    ("text_encoder/config.json", None, {"layer_norm_eps": "x"}),
    ("scheduler/scheduler_config.json", None, {"beta_end": float("nan")}),
]


@pytest.mark.parametrize(("name", "inside", "values"), SPOILT, ids=str)
def test_values_that_would_fail_at_the_first_image_fail_at_the_load(unsealed, name, inside, values):
    change(unsealed / name, lambda config: (config[inside] if inside else config).update(values))
    not_loaded(unsealed, "does not load")


@pytest.mark.parametrize("preset", [
    *({"sha256": seal} for seal in HASHES),
    *({"diffusion": {"size": value}} for value in WRONG),
    *({"diffusion": {"size": 96, "timestep": value}} for value in (*WRONG, -1, 1000)),
    *({"diffusion": {"size": 96, "ids": ["somebody/model"]}}, {"diffusion": []}, {"vision": 3}),
    *({"diffusion": {"sise": 96}}, {"diffusion": {"size": 0}}, {"diffusion": {"size": 98}}),
    *({"vision": {"layer": value}} for value in WRONG),
    *({"vision": {"quick_gelu": value}} for value in ("x", 1, [])),
], ids=str)  # fmt: skip
def test_a_preset_with_fields_of_the_wrong_type_is_refused(unsealed, preset):
    change(unsealed / "preset.json", lambda content: content.update(preset))
    not_loaded(unsealed, "is not (a preset|sealed)|is not in the scheduler|does not suit")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "[" * 5000, "\ud800"])
@pytest.mark.parametrize("name", [*FIELDS, "preset.json", "tokenizer/tokenizer.json", "vision/tokenizer.json"])
def test_damaged_configs_and_vocabularies_are_refused_in_one_sentence(unsealed, name, text):
    (unsealed / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    not_loaded(unsealed, "is not a preset" if name == "preset.json" else None)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_no_numbers_are_refused_while_loading(unsealed, name, value):
    tensors = load_file(unsealed / name)
    tensors[max(tensors)].view(-1)[-1] = value
    save_file(tensors, unsealed / name, metadata={"format": "pt"})
    not_loaded(unsealed, "weights that are no numbers")


def test_a_preset_reads_a_local_folder_alone_and_believes_its_vision_about_quickgelu(unsealed, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", None)  # to be called by nobody
    (unsealed / "preset.json").unlink()
    outputs = []
    for quick in (False, True):
        change(unsealed / VISION, lambda config, quick=quick: config["model_cfg"].update(quick_gelu=quick))
        backbone = load(f"sd21:{unsealed}")
        outputs.append(backbone.vision.embed_text(["a cat"]))
        assert backbone.name == f"sd21:{unsealed}" and backbone.device == torch.device("cpu")
        assert backbone.weights_sha256 == folder_sha256(unsealed, Preset(DIFFUSION["sd21"], Vision()))
        assert (backbone.diffusion.size, backbone.diffusion.timestep) == (480, 195)
    assert not torch.equal(*outputs)
