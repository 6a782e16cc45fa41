"""A backbone of the real topology with tiny random weights, a small gallery to be asked, what tests do with them."""

import json
import random
import shutil
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image, ImageDraw
from safetensors.torch import save_model
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sfhelpers.backbones import load_backbone
from sfhelpers.backbones.presets import POCKET_FOLDER, combined_sha256, read_preset, write_preset
from sfhelpers.backbones.sealed import files as read_files
from sfhelpers.backbones.sealed import parts_of
from sfhelpers.files import file_sha256
from sfhelpers.fusion import ARMS, FusedExtractor
from sfhelpers.search.gallery import Gallery
from sfhelpers.search.searcher import Searcher
from sfhelpers.tasks.arms import arm_of
from sfhelpers.tasks.compare import Trial
from sfhelpers.tasks.fit import Training
from sfhelpers.tasks.heads import Head, save_heads

load = partial(load_backbone, device="cpu")
AT_160 = {"timm_proj": "linear", "image_size": 160}
TOWERS = {
    "hybrid": {"timm_model_name": "vit_hybrid_lite0", "timm_pool": "token", **AT_160},  # pocket's, at its full size
    "earlier": {"timm_model_name": "tf_efficientnet_lite0", "timm_pool": "avg", **AT_160},  # pocket's of earlier worlds
    "timm": {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": "linear", "image_size": 64},
    "map": {"timm_model_name": "test_vit3", "timm_pool": "map", **AT_160},  # pooled by attention, as SigLIP
    "vit": {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8},
}


CODE = "import pathlib; pathlib.Path(__file__).with_name('ran').touch()\nclass Foreign: pass\n"


@pytest.fixture
def unsealed(tiny_folder, tmp_path):
    """A copy of the tiny folder that is not sealed, with code in each of its folders."""
    made = shutil.copytree(tiny_folder, tmp_path / "copy")
    change(made / "preset.json", lambda preset: preset.pop("sha256"))
    for part in {path.parent for path in made.glob("*/*")}:
        (part / "foreign.py").write_text(CODE)
    return made


def change(path, how):
    """Change a JSON file in place, or make one."""
    content = json.loads(path.read_text()) if path.exists() else {}
    how(content)
    path.write_text(json.dumps(content))


def untrained_head(method, backbone):
    return Head(method, ARMS[method]["inject"], 0.5, 0, backbone.weights_sha256, {}).built(backbone)


def of_size(backbone, size):
    """The backbone, its diffusion model given images of another size."""
    diffusion = copy(backbone.diffusion)
    diffusion.size = size
    return replace(backbone, diffusion=diffusion)


def folder_sha256(folder, preset=None):
    """The `weights_sha256` that `load_backbone(folder)` reports, without loading anything."""
    hashes = {name: file_sha256(path) for name, path in read_files(parts_of(folder)).items()}
    return combined_sha256(hashes | {"preset.json": (preset or read_preset(folder)).used})


def small_tokenizer():
    """A CLIPTokenizer of single letters and a few words; its end token has the highest id, as CLIP's has."""
    letters, merges = "abcdefghijklmnopqrstuvwxyz", {}
    for word in ("a", "photo", "sketch", "of", "cat", "car"):
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        merges |= {("".join(pieces[:k]), pieces[k]): "".join(pieces[: k + 1]) for k in range(1, len(pieces))}
    entries = [*letters, *(f"{letter}</w>" for letter in letters), *merges.values()]
    vocabulary = {entry: i for i, entry in enumerate([*entries, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=list(merges), model_max_length=16)


def write_tiny(folder, tower="timm", quick_gelu=False):
    """Write a backbone that `load_backbone` reads; `tower` is one of TOWERS."""
    tokenizer = small_tokenizer()
    for part in ("tokenizer", "vision"):
        tokenizer.save_pretrained(folder / part)
    shutil.copytree(POCKET_FOLDER / "scheduler", folder / "scheduler")
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    blocks |= {"latent_channels": 8, "scaling_factor": 0.5, "sample_size": 96}
    unet = UNet2DConditionModel.load_config(POCKET_FOLDER / "unet") | {"block_out_channels": (8, 16, 24, 32)}
    unet |= {"norm_num_groups": 8, "attention_head_dim": 1, "cross_attention_dim": 32}
    text = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text |= {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "hidden_size": 32, "intermediate_size": 64}
    text |= {"num_hidden_layers": 1, "num_attention_heads": 2}
    # A name in hf_tokenizer_name makes open_clip read the tokenizer files of this same folder, whatever the name is.
    words = {"hf_tokenizer_name": "tokenizer", "context_length": 16, "vocab_size": len(tokenizer)}
    words |= {"width": 32, "heads": 2, "layers": 1, "pool_type": "argmax"}
    clip = {"embed_dim": 24, "quick_gelu": quick_gelu, "vision_cfg": dict(TOWERS[tower]), "text_cfg": words}
    statistics = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    described = {"model_cfg": clip, "preprocess_cfg": statistics}
    (folder / "vision" / "open_clip_config.json").write_text(json.dumps(described))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoencoderKL(block_out_channels=(8, 8, 8), norm_num_groups=4, **blocks).save_pretrained(folder / "vae")
        UNet2DConditionModel.from_config(unet).save_pretrained(folder / "unet")
        CLIPTextModel(CLIPTextConfig(**text)).save_pretrained(folder / "text_encoder")
        save_model(open_clip.CLIP(**clip), str(folder / "vision" / "open_clip_model.safetensors"))
    write_preset(folder, size=96, quick_gelu=quick_gelu)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """The folder of a tiny random backbone; copy it before you change anything in it."""
    return write_tiny(tmp_path_factory.mktemp("backbone") / "tiny")


@pytest.fixture(scope="session")
def tiny_backbone(tiny_folder):
    """The loaded backbone, on the CPU: 96 px, up-blocks of 32, 24, 16, 8 channels, 48-channel tokens on a 4x4 grid."""
    return load(tiny_folder)


@pytest.fixture(scope="session")
def vit_backbone(tmp_path_factory):
    """A backbone whose image tower is open_clip's own transformer, 32 px, three blocks of width 32."""
    return load(write_tiny(tmp_path_factory.mktemp("vit") / "tiny", "vit"))


@pytest.fixture(scope="session")
def lite(tmp_path_factory):
    """EfficientNet-Lite0 and its file as the PyPI package has it: other names, the same order, the classifier last."""
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    path = tmp_path_factory.mktemp("lite") / "efficientnet-lite0-57934424.pth"
    torch.save({f"_their.{k}": tensor for k, tensor in enumerate(model.state_dict().values())}, path)
    return model, path


@pytest.fixture
def two_images():
    """(2, 3, 96, 96) in [0, 1]."""
    return torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))


WRONG = [None, True, -1, 1.5, 10**30, 10**400, "", "\0", "~nobody", "x" * 5000, "[" * 5000]  # whatever is asked for
WRONG += [[], [[]], [None], [["a"]], [["a", 1]], [[1, "a"]], {}, {"a": 1}]


def flipped(whole, most):
    """A safetensors file with one bit of its header turned, for each of the bits or for a sample of them."""
    bits = range(8 * (8 + int.from_bytes(whole[:8], "little")))
    for bit in random.Random(0).sample(bits, min(most, len(bits))):
        yield whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :]


@contextmanager
def refused(said=None, kind=ValueError):
    """What is done inside fails with one sentence that matches."""
    with pytest.raises(kind, match=said) as error:
        yield error
    message = str(error.value)
    assert "\n" not in message and message.endswith(".") and ". " not in message, message


def not_loaded(folder, said, kind=ValueError):
    with refused(said, kind):
        load(folder)


def files(folder):
    """Relative path -> content of everything in a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def small(backbone, inject="up", **options):
    return FusedExtractor(backbone, **{"dim": 12, "grid": 9, "width": 8, **options}, inject=inject)


def one_step(extractor, prepared, optimiser=None):
    """A training step; gives the optimiser for further ones."""
    optimiser = optimiser or torch.optim.AdamW(extractor.parameters(), lr=1e-2)
    optimiser.zero_grad()
    target = torch.rand(12, 9, 9, generator=torch.Generator().manual_seed(0)).to(extractor.aggregator.branch_weights)
    (extractor(prepared) - target).square().mean().backward()
    optimiser.step()
    return optimiser


def trained(task, extractor, frozen, epochs, learning_rate=1e-2, batch_size=16):
    """The model and its history, by the task's own steps."""
    model = task.model(extractor, frozen)
    loss, validate = lambda m, i: task.loss(m, frozen, i), lambda m: task.validate(m, frozen)
    return model, Training(model, loss, task.examples(frozen), validate, epochs, learning_rate, batch_size, 0).fit()


def assert_same_loss_and_gradients(ours, loss, theirs, package):
    """A model built by hand and the package's: equal losses, and equal gradients that are not zero, to 1e-6."""
    assert abs(loss - package) < 1e-6
    for value in (loss, package):
        value.backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert parameter.grad.abs().max() > 0, name
        torch.testing.assert_close(parameter.grad, expected[name].grad, atol=1e-6, rtol=0, msg=name)


RUN = SimpleNamespace(notebook="00_any", backbone="tiny", dataset="folder", split="parts", device="cpu", limit=4)
RUN.seed, RUN.epochs, RUN.learning_rate, RUN.batch_size = 0, 1, 2e-3, 8


def photo(path, seed=0, size=(40, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(path)
    return path


def sketch(scale=1.0, corner=(20, 30), side=160):
    """A flag on a pole: no symmetry."""
    image = Image.new("RGB", (side, side), "white")
    lines = np.array([(0, 100), (0, 0), (60, 10), (50, 40), (0, 40)]) * scale + corner
    ImageDraw.Draw(image).line([tuple(point) for point in lines], fill=(25, 25, 25), width=3)
    return image


def fake(sha256="f" * 64):
    """A backbone whose embedding is the mean colour; it notes how many photos it got at a time."""
    batches = []

    def embed(images):
        batches.append(len(images))
        return F.normalize(images.mean((2, 3)) + 1e-3, dim=1)

    parts = {"vision": SimpleNamespace(size=16, embed=embed), "diffusion": SimpleNamespace(size=16)}
    return SimpleNamespace(**parts, weights_sha256=sha256, name="fake", batches=batches)


def saved_head(kind, backbone, folder, task, seed=0):
    model = kind(arm_of("fused", backbone, seed).extractor())
    return save_heads(RUN, [Trial("fused", 0, model=model)], backbone.weights_sha256, folder, task)[0]


@pytest.fixture(scope="module")
def heads(tiny_backbone):
    """Untrained heads of the two arms that search needs."""
    return {method: untrained_head(method, tiny_backbone) for method in ("fused", "SD+CLIP concatenated")}


@pytest.fixture(scope="module")
def gallery(tiny_backbone, tmp_path_factory):
    """Three cats and two dogs, one of them wide."""
    root = tmp_path_factory.mktemp("gallery")
    for k in range(3):
        photo(root / "photo" / "cat" / f"{k}.png", k)
    photo(root / "photo" / "dog" / "0.png", 10, size=(80, 40))
    photo(root / "photo" / "dog" / "1.png", 11)
    return Gallery.from_folder(root, tiny_backbone)


@pytest.fixture(scope="module")
def searcher(gallery, tiny_backbone, heads):
    return Searcher(gallery, tiny_backbone, heads)
