"""Nothing in a backbone's folder runs, and what is read is what was sealed: by place, not by example."""

import shutil
import socket

import pytest
import torch
from safetensors.torch import load_file, save_file

from sfhelpers.backbones.presets import PRESETS, read_preset, write_preset
from sfhelpers.backbones.sealed import FIELDS, TOLD, VISION, WEIGHTS, files
from tests.backbone_fixtures import change, folder_sha256, load, not_loaded

CALLS = {"AutoTokenizer": ["foreign.Foreign", None], "AutoModel": "foreign.Foreign", "AutoConfig": "foreign.Foreign"}
OTHERS = ["foreign.Foreign", "hf-hub:somebody/model", "local-dir:.", "TransfoXLTokenizer", 3, [], {}]
HASHES = [None, [], {}, {"unet/config.json": None}, {"unet/config.json": 3}, "x", {"unet/config.json": "0" * 63}]
WRONG = ["x", None, [], {}, 1.5, True]


def deepest(tree):
    """The innermost table of a config."""
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
    assert set(sealed) == set(files(tiny_folder)) > {*WEIGHTS, VISION, "tokenizer/tokenizer.json"}
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
        assert backbone.weights_sha256 == folder_sha256(unsealed, PRESETS["sd21"])
        assert (backbone.diffusion.size, backbone.diffusion.timestep) == (480, 195)
    assert not torch.equal(*outputs)
