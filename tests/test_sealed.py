"""Nothing in a backbone's folder runs, and what is read is what was sealed: by place, not by example."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from sfhelpers.backbones import load_backbone
from sfhelpers.backbones.presets import read_preset
from sfhelpers.backbones.sealed import FIELDS, TOLD, VISION, WEIGHTS, files
from tests.backbone_fixtures import refused

CODE = "import pathlib; pathlib.Path(__file__).with_name('ran').touch()\nclass Foreign: pass\n"
CALLS = {"AutoTokenizer": ["foreign.Foreign", None], "AutoModel": "foreign.Foreign", "AutoConfig": "foreign.Foreign"}


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of the tiny folder that is not sealed, with code in each of its folders."""
    made = shutil.copytree(tiny_folder, tmp_path / "copy")
    change(made / "preset.json", lambda preset: preset.pop("sha256"))
    for part in {path.parent for path in made.glob("*/*")}:
        (part / "foreign.py").write_text(CODE)
    return made


def load(folder):
    return load_backbone(folder, device="cpu")


def change(path, how):
    """Change a JSON file in place, or make one."""
    content = json.loads(path.read_text()) if path.exists() else {}
    how(content)
    path.write_text(json.dumps(content))


def deepest(tree):
    """The innermost table of a config."""
    inside = [value for value in tree.values() if isinstance(value, dict)]
    return deepest(inside[-1]) if inside else tree


@pytest.mark.parametrize("field", [{"auto_map": CALLS}, {"trust_remote_code": True}, {"custom_pipelines": {"f": "x"}}])
@pytest.mark.parametrize("name", FIELDS)
def test_a_config_that_names_code_is_refused_at_any_depth(folder, name, field):
    for where in (lambda tree: tree, deepest):
        change(folder / name, lambda tree, where=where: where(tree).update(field))
        with refused("asks to run code"):
            load(folder)
    assert not list(folder.rglob("ran"))


def test_files_that_nobody_asked_for_are_not_read(folder, tiny_backbone):
    foreign = {"auto_map": CALLS, "model_type": "foreign"}
    for name in ("tokenizer", "vision", "scheduler", "."):
        change(folder / name / "config.json", lambda config: config.update(foreign))
    for name in ("generation_config.json", "added_tokens.json", "chat_template.jinja", "model_index.json"):
        (folder / "text_encoder" / name).write_text("{{ foreign }}")
    loaded = load(folder)
    assert loaded.weights_sha256 == tiny_backbone.weights_sha256 and not list(folder.rglob("ran"))
    assert torch.equal(loaded.vision.embed_text(["a cat"]), tiny_backbone.vision.embed_text(["a cat"]))


@pytest.mark.parametrize("name", ["tokenizer_class", "timm_model_name"])
@pytest.mark.parametrize(
    "other", ["foreign.Foreign", "hf-hub:somebody/model", "local-dir:.", "TransfoXLTokenizer", 3, [], {}]
)
def test_a_class_is_chosen_among_known_ones(folder, name, other):
    place = VISION if name == "timm_model_name" else f"vision/{TOLD[0]}"
    change(
        folder / place,
        lambda tree: (tree["model_cfg"]["vision_cfg"] if place == VISION else tree).update({name: other}),
    )
    with refused("names the"):
        load(folder)


def test_every_file_that_is_read_is_sealed(tiny_folder, tmp_path):
    sealed = read_preset(tiny_folder).sha256
    assert set(sealed) == set(files(tiny_folder)) > {*WEIGHTS, VISION, "tokenizer/tokenizer.json"}
    for name in sealed:
        made = shutil.copytree(tiny_folder, tmp_path / name.replace("/", " "))
        content = bytearray((made / name).read_bytes())
        content[-2] ^= 1
        (made / name).write_bytes(content)
        with refused(f"{name} is not what .*sha256 differs"):
            load(made)
        change(made / "preset.json", lambda preset, name=name: preset["sha256"].pop(name))
        with refused(f"{name} is not sealed"):
            load(made)
    (made / "tokenizer" / "vocab.json").write_text("{}")
    with refused("is not sealed"):
        load(made)


HASHES = [None, [], {}, {"unet/config.json": None}, {"unet/config.json": 3}, "x", {"unet/config.json": "0" * 63}]
WRONG = ["x", None, [], {}, 1.5, True]


@pytest.mark.parametrize("preset", [
    *({"sha256": seal} for seal in HASHES),
    *({"diffusion": {"size": value}} for value in WRONG),
    *({"diffusion": {"size": 96, "timestep": value}} for value in (*WRONG, -1, 1000)),
    *({"diffusion": {"size": 96, "ids": ["somebody/model"]}}, {"diffusion": []}, {"vision": 3}),
    *({"diffusion": {"sise": 96}}, {"diffusion": {"size": 0}}, {"diffusion": {"size": 98}}),
    *({"vision": {"layer": value}} for value in WRONG),
    *({"vision": {"quick_gelu": value}} for value in ("x", 1, [])),
], ids=str)  # fmt: skip
def test_a_preset_with_fields_of_the_wrong_type_is_refused(folder, preset):
    change(folder / "preset.json", lambda content: content.update(preset))
    with refused("is not (a preset|sealed)|has the timestep|does not suit"):
        load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "[" * 5000, "\ud800"])
@pytest.mark.parametrize("name", [*FIELDS, "preset.json", "tokenizer/tokenizer.json", "vision/tokenizer.json"])
def test_damaged_configs_and_vocabularies_are_refused_in_one_sentence(folder, name, text):
    (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    with refused("is not a preset" if name == "preset.json" else None):
        load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_no_numbers_are_refused_while_loading(folder, name, value):
    tensors = load_file(folder / name)
    tensors[max(tensors)].view(-1)[-1] = value
    save_file(tensors, folder / name, metadata={"format": "pt"})
    with refused("weights that are no numbers"):
        load(folder)


def test_a_preset_reads_a_local_folder_and_believes_its_vision_about_quickgelu(folder):
    (folder / "preset.json").unlink()
    outputs = []
    for quick in (False, True):
        change(folder / VISION, lambda config, quick=quick: config["model_cfg"].update(quick_gelu=quick))
        backbone = load(f"sd21:{folder}")
        outputs.append(backbone.vision.embed_text(["a cat"]))
        assert backbone.name == f"sd21:{folder}"
        assert (backbone.diffusion.size, backbone.diffusion.timestep) == (480, 195)
    assert not torch.equal(*outputs)
