"""Through the real models' folders and classes, reduced here and at full size by `make test-full`: what the libraries
say, one training step of each task, and the notebooks as they are."""

import resource

import open_clip
import pytest
import timm
import torch
import yaml
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

from sfhelpers import toyworld
from sfhelpers.backbones import DIFFUSION, VISION
from sfhelpers.backbones.presets import STANDARD
from sfhelpers.datasets import Dataset, psc6k, sketchy
from sfhelpers.datasets.sketches import Sketches
from sfhelpers.params import ROOT
from sfhelpers.tasks.arms import arm_of, reading_size
from sfhelpers.tasks.correspondence import Correspondence
from sfhelpers.tasks.recognition import Recognition
from sfhelpers.tasks.retrieval import Retrieval
from sfhelpers.tasks.segmentation import Segmentation
from tests.backbone_fixtures import load, of_size
from tests.real_formats import FULL, MADE_SHALLOW, NARROW, SHALLOW, write_diffusion, write_vision
from tools.notebooks import find, papermill

SLOW = pytest.mark.slow
HOW = pytest.mark.parametrize("how", [NARROW, pytest.param(FULL, marks=SLOW)], indirect=True)
# By Sketchy's split of 104 and 21 classes; four photos of each of the former fall into all three parts.
SEEN, UNSEEN = ("apple", "bottle", "bus", "duck"), ("cow", "giraffe")
MOST = 20  # GB at the peak at full size
CLIPS = torch.tensor((open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)).view(2, 1, 3, 1, 1)
IMAGENET = torch.tensor([(0.485, 0.456, 0.406), (0.229, 0.224, 0.225)]).view(2, 1, 3, 1, 1)
SMALL = yaml.safe_load((ROOT / "tests/nbval_parameters.yaml").read_text(encoding="utf-8"))
SMALL["01_pilot_study"] |= {"limit": 2, "timesteps": [195, 950], "draws": [1, 2], "few": 2}


@pytest.fixture(scope="module")
def how(request):
    return request.param


@pytest.fixture(scope="module")
def halves(how, tmp_path_factory):
    """The folders of SD 2.1 and of ViT-L/14 at 336 px."""
    root = tmp_path_factory.mktemp(how)
    return write_diffusion(root / "sd", full=how == FULL), write_vision(root / "clip", how=how)


@pytest.fixture(scope="module")
def backbone(halves):
    return load(f"sd21:{halves[0]}+{STANDARD}:{halves[1]}")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Four photos with a sketch each of some classes, in Sketchy's layout."""
    root = tmp_path_factory.mktemp("world")
    toyworld.write_sketchy(root, photos=4, sketches=1, categories=(*SEEN, *UNSEEN))
    return Dataset("sketchy", root, "default", tuple(sketchy.read(root, UNSEEN)))


def image(size):
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(size))


@torch.no_grad()
def plain_features(folder, images, timestep):
    """f1 to f4 by diffusers and hooks alone."""
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    latents = vae.encode(images * 2 - 1).latent_dist.mode() * vae.config.scaling_factor
    noise = torch.randn(latents.shape[1:], generator=torch.Generator().manual_seed(0))[None]
    scheduler = DDPMScheduler.from_pretrained(folder / "scheduler")
    noisy = scheduler.add_noise(latents, noise, torch.tensor([timestep]))
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    words = tokenizer("", padding="max_length", max_length=77, return_tensors="pt").input_ids
    text = CLIPTextModel.from_pretrained(folder / "text_encoder")(words).last_hidden_state
    unet, found = UNet2DConditionModel.from_pretrained(folder / "unet"), []
    for block in unet.up_blocks:
        block.register_forward_hook(lambda module, given, output: found.append(output))
    unet(noisy, timestep, text)
    return found


@torch.no_grad()
def seen_at(block, compute):
    """What a block gives while something is computed."""
    found = []
    with block.register_forward_hook(lambda module, given, output: found.append(output)):
        compute()
    return found[0]


@HOW
@pytest.mark.parametrize("size", [480, 512, 336])
def test_features_are_those_of_a_plain_unet_with_hooks(halves, backbone, size):
    diffusion = of_size(backbone, size).diffusion
    ours, plain = diffusion.features(image(size)), plain_features(halves[0], image(size), diffusion.timestep)
    assert [f.shape[1:] for f in ours] == [f.shape[1:] for f in plain] and len(ours) == 4
    assert ours[3].shape[2:] == (size // 8,) * 2
    for f, expected in zip(ours, plain, strict=True):
        torch.testing.assert_close(f, expected, atol=1e-5, rtol=1e-5)


@HOW
def test_tokens_are_those_of_open_clip(halves, backbone):
    model, vision = open_clip.create_model(f"local-dir:{halves[1]}").eval(), backbone.vision
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    pixels = (image(336) - mean) / std
    block = model.visual.transformer.resblocks[vision.layer]
    tokens = seen_at(block, lambda: model.encode_image(pixels))[:, 1:]  # behind the class token
    expected = tokens.transpose(1, 2).unflatten(2, (24, 24))
    torch.testing.assert_close(vision.tokens(image(336)), expected, atol=1e-5, rtol=1e-5)


def test_tokens_are_those_of_timm(tmp_path):
    """At full size always: it is a small one."""
    sd, half, folder = (
        write_diffusion(tmp_path / "sd"),
        VISION["dinov2-s14"],
        write_vision(tmp_path / "half", "dinov2-s14", FULL),
    )
    vision = load(f"sd21:{sd}+dinov2-s14:{folder}").vision
    model = timm.create_model(half.model, num_classes=0, dynamic_img_size=True).eval()
    model.load_state_dict(load_file(folder / half.file))
    tokens = seen_at(model.blocks[vision.layer], lambda: model((image(224) - IMAGENET[0]) / IMAGENET[1]))[:, 1:]
    expected = tokens.transpose(1, 2).unflatten(2, (16, 16))
    torch.testing.assert_close(vision.tokens(image(224)), expected, atol=1e-5, rtol=1e-5)


TASKS = {
    "segmentation": lambda data, *how: Segmentation(data, *how),
    "correspondence": lambda data, *how: Correspondence(psc6k.load(data), *how),
    "retrieval": lambda data, *how: Retrieval(data, *how, ("strict",)),
    "recognition": lambda data, *how: Recognition(
        Sketches(data.name, data.root, data.split, data.select(seen=True).sketches), *how, shots=1, limit=1
    ),
}


def once_each(compute, remembered):
    """What is frozen, of each image computed once for all tasks."""

    def frozen(images, **noise):
        keys = [image.numpy().tobytes() for image in images]
        for key, image in zip(keys, images.split(1), strict=True):
            if key not in remembered:
                remembered[key] = compute(image, **noise)
        return {name: torch.cat([remembered[key][name] for key in keys]) for name in remembered[keys[0]]}

    return frozen


@pytest.fixture(scope="module")
def remembered(how):
    return {}


@HOW
@pytest.mark.parametrize("name", TASKS)
def test_one_training_step_of_each_task(how, backbone, world, remembered, capsys, name):
    task, extractor = TASKS[name](world, 1, 2e-3, 8), arm_of("fused", backbone, 0).extractor()
    extractor.frozen = once_each(extractor.frozen, remembered)
    frozen = {part: task.read(extractor, some, reading_size(backbone)) for part, some in task.parts.items()}
    frozen = task.of_problem(frozen, "strict") if name == "retrieval" else frozen
    model = task.model(extractor, frozen)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    loss = task.loss(model, frozen, torch.arange(min(2, task.examples(frozen))))
    loss.backward()
    optimiser.step()
    assert loss.isfinite() and not all(map(torch.equal, before, model.parameters()))
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    with capsys.disabled():
        print(f"\n{how} {name}: {gigabytes:.1f} GB at the peak")
    assert gigabytes <= MOST


def run(number, target, **parameters):
    """A notebook by papermill, unedited, at the smallest settings."""
    (path,) = find([number])
    names = SMALL[path.stem] | {"device": "cpu", "output_dir": str(target / path.stem)} | parameters
    outcome = papermill(path, target / path.name, names, {"IPYTHONDIR": str(target / "ipython")})
    assert outcome.result == "ok", outcome
    assert (target / path.stem / "results.json").is_file()


def shallow(target):
    """Lets kernels build timm's image towers of two blocks, as the folders hold them."""
    startup = target / "ipython/profile_default/startup"
    startup.mkdir(parents=True)
    (startup / "shallow.py").write_text(MADE_SHALLOW)


@pytest.fixture(scope="module")
def composed(tmp_path_factory):
    """Two folders as one name, for images of 160 px, whose latents the UNet cannot halve evenly, as at 480."""
    root = tmp_path_factory.mktemp("composed")
    return f"{write_diffusion(root / 'sd', size=160)}+{STANDARD}:{write_vision(root / 'clip')}"


def test_a_notebook_takes_a_preset_with_the_folders_of_both_halves(tmp_path):
    sd, clip = write_diffusion(tmp_path / "sd"), write_vision(tmp_path / "clip")
    run("02", tmp_path, backbone=f"sd21:{sd}+{STANDARD}:{clip}", steps=1)


@SLOW
def test_every_notebook_takes_a_folder_of_the_real_format(composed, world, tmp_path):
    heads = {"heads": str(tmp_path / "04_segmentation/heads")}
    data = {"dataset": "sketchy", "data_root": str(world.root)}
    run("04", tmp_path, backbone=composed, arms="frozen", **data)  # first, since it writes the heads
    for number in ("00", "01", "02", "03", "05", "06", "07", "08", "09"):
        own = heads if number in ("00", "01") else data if number not in ("02", "06") else {}
        run(number, tmp_path, backbone=composed, **own)


PAIRS = [*((name, STANDARD) for name in DIFFUSION if name != "pocket"), *(("sd21", name) for name in VISION)]


@SLOW
@pytest.mark.parametrize(("first", "second"), [pytest.param(*pair, id="+".join(pair)) for pair in dict.fromkeys(PAIRS)])
def test_04_runs_on_every_preset(first, second, world, tmp_path):
    shallow(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", timm.create_model)  # set back behind this
        exec(MADE_SHALLOW, {})
        sd, other = write_diffusion(tmp_path / "sd", first), write_vision(tmp_path / "other", second, SHALLOW)
    name = f"{first}:{sd}+{second}:{other}"
    run("04", tmp_path, backbone=name, dataset="sketchy", data_root=str(world.root))
