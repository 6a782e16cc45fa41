"""From a name, a hub id or a local folder to a `Backbone`: find, verify, load."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import diffusers
import open_clip
import torch
import transformers
from open_clip.model import CLIPTextCfg
from open_clip.tokenizer import HFTokenizer

from sfhelpers import params
from sfhelpers.backbones import hybrid  # noqa: F401  timm knows its name from here on
from sfhelpers.backbones.diffusion import DiffusionFeatures
from sfhelpers.backbones.encoders import Encoder, built
from sfhelpers.backbones.finding import Found, find
from sfhelpers.backbones.presets import FAMILIES, PRESET_FILE, Vision, combined_sha256
from sfhelpers.backbones.sealed import ENCODER, check_finite, opened
from sfhelpers.backbones.vision import VisionFeatures

LOOKS = {"image_size", "patch_size", "timm_model_name", "timm_pool"}  # by which one image tower is told from another
PIXELS = 2**20  # that go through a backbone together


@dataclass(frozen=True)
class Backbone:
    """A frozen diffusion model and a frozen vision model; their name and sha256 go into result rows."""

    name: str
    diffusion: DiffusionFeatures
    vision: VisionFeatures
    weights_sha256: str  # of all that decides a feature: weights, configs, tokenizers, image size, timestep and layer
    device: torch.device

    @property
    def at_once(self) -> int:
        """Images that go through both models together: 32 where they are small, as pocket's, 4 at 480 px."""
        return max(1, min(32, PIXELS // max(self.diffusion.size, self.vision.size) ** 2))

    @property
    def rounds(self) -> bool:
        """Whether numbers are kept less exactly than in single precision: by a GPU's convolutions, or in bfloat16."""
        return self.device.type != "cpu" or self.diffusion.unet.dtype == torch.bfloat16


def load_backbone(name_or_folder: str | Path, device: str = "auto", dtype: torch.dtype | None = None) -> Backbone:
    """Load a backbone, frozen and in eval mode, from what is on this machine: nothing is downloaded.

    Args:
        name_or_folder: "pocket"; "sd21" or another name of `presets.DIFFUSION`, with a half of `presets.VISION` behind
            it as in "sd21+dinov3-b16" (else clip-l14-336); or a folder with a `preset.json`. Each half may say where
            it lies, "<name>:<folder or hub id>", as in "sd21:/models/sd+clip-l14:/models/clip"; what stands behind the
            last "+" may be a folder in open_clip's format. A `vision/` in the first half's folder is its vision half.
            `python -m sfhelpers.backbones fetch NAME` brings what is not here into the hub's cache.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        dtype: of weights and features; None: torch.bfloat16 if "@bf16" ends the name, as in "sd21@bf16" for a GPU, else
            torch.float32. float16 is refused, since SD 2.1 gives NaN in it.

    ValueError or FileNotFoundError, one sentence: for a name, device, folder or file that is not there; weights that
    are truncated, of another shape or model, or no numbers; a file that is not as the folder's preset seals it; a
    config that asks to run code; a UNet that needs more than a text and a time step.
    """
    name = str(name_or_folder)
    dtype = dtype or (torch.bfloat16 if name.endswith(params.HALF) else torch.float32)
    if dtype not in (torch.float32, torch.float64, torch.bfloat16):
        raise ValueError(f"dtype {dtype} is not supported: use torch.float32, or torch.bfloat16 on a GPU.")
    target, found = torch.device(params.resolve_device(device)), find(name)
    with opened(found.parts, found.preset.sha256, found.unet) as (clean, hashes):
        diffusion = _load_diffusion(found, clean, dtype)
        if "encoder" in found.parts:
            vision = _load_encoder(found, hashes[ENCODER], device=target, dtype=dtype)
        else:
            vision = _load_vision(found, clean, device=target, dtype=dtype)
    for model in (diffusion.vae, diffusion.unet, diffusion.text_encoder):
        model.to(target)
    _check_answers(found, diffusion, vision)
    hashes[PRESET_FILE] = found.preset.used + ", bfloat16" * (dtype is torch.bfloat16)
    return Backbone(name, diffusion, vision, combined_sha256(hashes), target)


def randomised(backbone: Backbone, seed: int = 0) -> Backbone:
    """The same backbone with a freshly initialised UNet: the control that shows what its training is worth."""
    diffusion, like = copy(backbone.diffusion), backbone.diffusion.unet.conv_in.weight
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = type(diffusion.unet).from_config(diffusion.unet.config)
    # not unet.to: diffusers warns there of a mixed precision that this model does not have
    torch.nn.Module.to(unet, device=like.device, dtype=like.dtype)
    diffusion.unet = unet.eval().requires_grad_(False)
    digest = combined_sha256({"base": backbone.weights_sha256, "random unet": str(seed)})
    return replace(backbone, name=f"{backbone.name} (random UNet)", diffusion=diffusion, weights_sha256=digest)


def with_encoder(backbone: Backbone, encoder: Encoder) -> Backbone:
    """The backbone with another encoder's tokens injected in the place of CLIP's (SketchFusion, Sec. 7, [iv])."""
    both = sha256(f"{backbone.weights_sha256} {encoder.weights_sha256}".encode()).hexdigest()
    return replace(backbone, name=f"{backbone.name} with {encoder.name}", vision=encoder, weights_sha256=both)


@contextmanager
def _reading(path: Path, clean: Path | None = None) -> Iterator[None]:
    """Turn what the libraries raise about one piece, which they read from `clean`, into one sentence."""
    try:
        yield
    except Exception as error:  # theirs share no base class
        said = " ".join(str(error).replace(str(clean), str(path.parent)).split()) or type(error).__name__
        reason = said.split(". ")[0][:300].rstrip(" .:")
        raise ValueError(f"{path} does not load ({reason}): its config and weights must belong together.") from error


def _pretrained(cls: Any, path: Path, clean: Path, **options: Any) -> Any:
    """`from_pretrained` that refuses weights with missing or misshapen tensors instead of filling them at random."""
    with _reading(path, clean):
        options |= {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
        model, report = cls.from_pretrained(clean / path.name, **options)
        mismatched = [key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]]
        if lacking := sorted([*report["missing_keys"], *mismatched]):
            raise ValueError(f"{len(lacking)} tensors are missing or of another shape, first {lacking[0]}")
    check_finite(model, path)
    return model


def _load_diffusion(found: Found, clean: Path, dtype: torch.dtype) -> DiffusionFeatures:
    folder, half = found.parts["unet"].parent, found.preset.diffusion
    vae = _pretrained(diffusers.AutoencoderKL, folder / "vae", clean, torch_dtype=dtype)
    unet = _pretrained(diffusers.UNet2DConditionModel, folder / "unet", clean, torch_dtype=dtype)
    bars = transformers.utils.logging
    with ExitStack() as after:
        if bars.is_progress_bar_enabled():
            bars.disable_progress_bar()  # transformers would leave one behind
            after.callback(bars.enable_progress_bar)
        # Mismatches are ignored by transformers only to be named by _pretrained, better than transformers does.
        options = {"dtype": dtype, "ignore_mismatched_sizes": True}
        text_encoder = _pretrained(transformers.CLIPTextModel, folder / "text_encoder", clean, **options)
    with _reading(folder / "tokenizer", clean):
        tokenizer = transformers.CLIPTokenizer.from_pretrained(clean / "tokenizer", local_files_only=True)
    with _reading(folder / "scheduler", clean):
        # Only add_noise is used, which rests on the betas alone: any Stable Diffusion scheduler's config states them.
        config = diffusers.DDIMScheduler.load_config(clean / "scheduler", local_files_only=True)
        betas = "beta_start", "beta_end", "beta_schedule", "num_train_timesteps"
        if lacking := [name for name in betas if name not in config]:  # another model's would be taken, in silence
            raise ValueError(f"scheduler_config.json does not state {', '.join(lacking)}")
        scheduler = diffusers.DDIMScheduler.from_config(config)
    words, used = text_encoder.config.vocab_size, max(tokenizer.get_vocab().values()) + 1
    for first, a, second, b, what in (
        ("vae", vae.config.latent_channels, "unet", unet.config.in_channels, "latent channels"),
        ("text_encoder", text_encoder.config.hidden_size, "unet", unet.config.cross_attention_dim, "text channels"),
        ("tokenizer", max(used, words), "text_encoder", words, "entries"),  # fewer may be used
    ):
        if a != b:
            raise ValueError(f"{folder}: {first} has {a} {what} and {second} {b}; take both from the same model.")
    asks = "class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim_type"
    if (asked := [name for name in asks if unet.config[name] is not None]) or len(unet.up_blocks) != 4:
        what = f"needs {', '.join(asked)}" if asked else f"has {len(unet.up_blocks)} up-blocks, not four"
        raise ValueError(f"{folder / 'unet'} {what}: take a UNet of Stable Diffusion 1 or 2 that needs a text alone.")
    told = FAMILIES.get((unet.config.cross_attention_dim, scheduler.config.prediction_type), half.family)
    if half.family not in ("", told):
        what = f"is of {told}, not of {half.family}"
        raise ValueError(f"{folder / 'unet'} {what}: name the preset that it belongs to, or give its own weights.")
    return DiffusionFeatures(vae, unet, text_encoder, tokenizer, scheduler, half.size, half.timestep, half.clean)


def _check_answers(found: Found, diffusion: DiffusionFeatures, vision: VisionFeatures) -> None:
    """ValueError unless all that is known of a small blank image and of a text are numbers: a config may hold none."""
    small, blank = copy(diffusion), torch.zeros(1, 3, 64, 64)
    small.size = 8 * diffusion.factor  # the least that the UNet halves three times
    asked = {"unet": lambda: small.features(blank), "encoder": lambda: [vision.embed(blank)]}
    asked["vision"] = lambda: [vision.embed(blank), vision.embed_text(["a"])]
    for part in asked.keys() & found.parts:
        with _reading(found.parts[part]):
            if not all(answer.isfinite().all() for answer in asked[part]()):
                raise ValueError("of a blank image it gives what are no numbers")


def _load_encoder(found: Found, digest: str, **where: Any) -> Encoder:
    half, place = found.preset.vision, found.parts["encoder"]
    path = place if place.is_file() else place / half.file
    return Encoder(half.model, half, built(half.model, half, path).to(**where), digest)


def _load_vision(found: Found, clean: Path, **where: Any) -> VisionFeatures:
    half, place, name = found.preset.vision, found.parts["vision"], f"local-dir:{clean / 'vision'}"
    with _reading(place, clean):
        config = open_clip.get_model_config(name)
        _check_model(config, half)
        model = open_clip.create_model(name, require_pretrained=True).to(**where)
        tokenizer = open_clip.get_tokenizer(name)
        words = config["text_cfg"].get("vocab_size", CLIPTextCfg.vocab_size)
        if isinstance(tokenizer, HFTokenizer) and max(tokenizer.tokenizer.get_vocab().values()) >= words:
            raise ValueError(f"its tokenizer has more entries than the {words} of its text_cfg")
    check_finite(model, place)
    with _reading(place, clean):
        return VisionFeatures(model, tokenizer, half.layer)


def _check_model(config: dict[str, Any], half: Vision) -> None:
    """ValueError if a folder's model is not the one that was named, or has the other activation: open_clip would only
    warn of it, and the features be wrong."""
    if half.quick_gelu not in (None, built_with := bool(config.get("quick_gelu", False))):
        said = f"QuickGELU is {built_with} in the model and {half.quick_gelu} in its weights"
        raise ValueError(f"{said}; choose the other one")
    named = open_clip.get_model_config(half.model) if half.model else {"vision_cfg": {}, "text_cfg": {}}
    for key in LOOKS & named["vision_cfg"].keys():
        if (value := config["vision_cfg"].get(key)) != (wanted := named["vision_cfg"][key]):
            raise ValueError(f"it is not {half.model}, its {key} is {value} and not {wanted}")
    own = "hf_tokenizer_name"  # without it open_clip would take CLIP's
    if named["text_cfg"].get(own) and not config["text_cfg"].get(own):
        raise ValueError(f"it is not {half.model}, its text_cfg names no tokenizer of its own ({own})")
