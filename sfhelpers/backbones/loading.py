"""From a name, a hub id or a local folder to a `Backbone`: find, verify, load."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import diffusers
import open_clip
import torch
import transformers
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

from sfhelpers import params
from sfhelpers.backbones.diffusion import DiffusionFeatures
from sfhelpers.backbones.encoders import Encoder
from sfhelpers.backbones.presets import PRESET_FILE, PRESETS, WEIGHTS, Preset, Vision, combined_sha256, read_preset
from sfhelpers.backbones.vision import VisionFeatures
from sfhelpers.files import file_sha256

CONFIGS = ("text_encoder/config.json", "unet/config.json", "vae/config.json", "scheduler/scheduler_config.json")
TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))  # either holds all words


@dataclass(frozen=True)
class Backbone:
    """A frozen diffusion model and a frozen vision model; their name and sha256 go into result rows."""

    name: str
    diffusion: DiffusionFeatures
    vision: VisionFeatures
    weights_sha256: str
    device: torch.device


def load_backbone(name_or_folder: str | Path, device: str = "auto", dtype: torch.dtype = torch.float32) -> Backbone:
    """Load a backbone, frozen and in eval mode.

    Args:
        name_or_folder: a preset ("pocket", "sd21"); a folder with a `preset.json`; or "<preset>:<where>", the preset's
            settings with the diffusion weights of a local diffusers folder or of another hub id
            ("sd21:/models/stable-diffusion-2-1"). A `vision/` in the folder is used in place of a download.
            A local folder is read without any network.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        dtype: of weights and features; float16 is refused since SD 2.1 gives NaN in it, bfloat16 works on GPUs.

    Raises:
        ValueError, FileNotFoundError: one sentence, for a name, device, folder, file or hub that is not there, or
            weights that are truncated, of another shape, or whose sha256 differs from the folder's preset.
    """
    if dtype not in (torch.float32, torch.float64, torch.bfloat16):
        raise ValueError(f"dtype {dtype} is not supported: use torch.float32, or torch.bfloat16 on a GPU.")
    target = torch.device(params.resolve_device(device))
    preset, folder = _find(str(name_or_folder))
    local_vision = (folder / "vision").is_dir() or not preset.vision.model
    hashes = _verify(folder, preset, local_vision)
    diffusion = _load_diffusion(folder, preset, target, dtype)
    vision, file = _load_vision(folder / "vision" if local_vision else None, preset.vision, target, dtype)
    hashes.setdefault(WEIGHTS[-1], file_sha256(file))
    return Backbone(str(name_or_folder), diffusion, vision, combined_sha256(hashes), target)


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


def _find(name_or_folder: str) -> tuple[Preset, Path]:
    name, _, source = name_or_folder.partition(":")
    folder = Path(name_or_folder).expanduser()
    if name in PRESETS:
        folder = _locate((source,) if source else PRESETS[name].diffusion.ids, name)
    elif not folder.is_dir():
        raise ValueError(f"unknown backbone {name_or_folder!r}: use {', '.join(PRESETS)} or a folder with preset.json.")
    elif not (folder / PRESET_FILE).is_file():
        raise FileNotFoundError(f"{folder} has no preset.json: for Stable Diffusion 2.1 weights, pass sd21:{folder}.")
    return (read_preset(folder) if (folder / PRESET_FILE).is_file() else PRESETS[name]), folder


def _locate(places: tuple[str, ...], name: str) -> Path:
    failures = []
    for place in places:
        folder = Path(place).expanduser()
        if folder.is_dir():
            return folder
        if folder.is_absolute() or place.count("/") != 1:
            failures.append(f"{place} (no such folder)")
            continue
        try:
            return Path(snapshot_download(place, allow_patterns=[*CONFIGS, *WEIGHTS[:3], "tokenizer/*"]))
        except Exception as error:  # the hub's errors share no base class: each mirror that fails is named below
            failures.append(f"{place} ({type(error).__name__})")
    raise FileNotFoundError(f"no weights for {name!r}, tried {', '.join(failures)}: pass {name}:<folder or hub id>.")


def _verify(folder: Path, preset: Preset, local_vision: bool) -> dict[str, str]:
    """The weights' hashes, once every file is there and whole, and as the preset says."""
    weights = WEIGHTS if local_vision else WEIGHTS[:-1]
    configs = [*CONFIGS, *(["vision/open_clip_config.json"] if local_vision else [])]
    missing = [name for name in (*configs, *weights) if not (folder / name).is_file()]
    # Without them the tokenizer would be made of its three special words, in silence.
    if not any(all((folder / "tokenizer" / name).is_file() for name in names) for names in TOKENIZERS):
        missing.append("tokenizer/tokenizer.json (or vocab.json and merges.txt)")
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}: copy or download the folder again.")
    hashes = {}
    for name in weights:
        try:
            with safe_open(folder / name, framework="pt"):
                hashes[name] = file_sha256(folder / name)
        except SafetensorError as error:
            raise ValueError(f"{folder / name} is truncated or no safetensors file: download it again.") from error
        if preset.sha256 is not None and preset.sha256.get(name) != hashes[name]:
            raise ValueError(f"{folder / name} is not what its preset describes (sha256 differs): restore or seal it.")
    return hashes


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what the libraries raise about one piece into one sentence."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        reason = said.split(". ")[0][:300].rstrip(" .:")
        raise ValueError(f"{path} does not load ({reason}): its config and weights must belong together.") from error


def _pretrained(cls: Any, path: Path, **options: Any) -> Any:
    """`from_pretrained` that refuses weights with missing or misshapen tensors instead of filling them at random."""
    with _reading(path):
        options |= {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
        model, report = cls.from_pretrained(path, **options)
        mismatched = [key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]]
        if lacking := sorted([*report["missing_keys"], *mismatched]):
            raise ValueError(f"{len(lacking)} tensors are missing or of another shape, first {lacking[0]}")
    return model


def _load_diffusion(folder: Path, preset: Preset, device: torch.device, dtype: torch.dtype) -> DiffusionFeatures:
    vae = _pretrained(diffusers.AutoencoderKL, folder / "vae", torch_dtype=dtype)
    unet = _pretrained(diffusers.UNet2DConditionModel, folder / "unet", torch_dtype=dtype)
    bars = transformers.utils.logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()  # transformers would leave one behind
    try:  # mismatches are ignored by transformers only to be named by _pretrained, better than transformers does
        options = {"dtype": dtype, "ignore_mismatched_sizes": True}
        text_encoder = _pretrained(transformers.CLIPTextModel, folder / "text_encoder", **options)
    finally:
        if shown:
            bars.enable_progress_bar()
    with _reading(folder / "tokenizer"):
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    with _reading(folder / "scheduler"):
        # Only add_noise is used, which rests on the betas alone: any Stable Diffusion scheduler's config states them.
        config = diffusers.DDIMScheduler.load_config(folder / "scheduler", local_files_only=True)
        betas = "beta_start", "beta_end", "beta_schedule", "num_train_timesteps"
        if lacking := [name for name in betas if name not in config]:  # another model's would be taken, in silence
            raise ValueError(f"scheduler_config.json does not state {', '.join(lacking)}")
        scheduler = diffusers.DDIMScheduler.from_config(config)
    words = text_encoder.config.vocab_size
    for first, a, second, b, what in (
        ("vae", vae.config.latent_channels, "unet", unet.config.in_channels, "latent channels"),
        ("text_encoder", text_encoder.config.hidden_size, "unet", unet.config.cross_attention_dim, "text channels"),
        ("tokenizer", max(len(tokenizer), words), "text_encoder", words, "entries"),  # fewer may be used
    ):
        if a != b:
            raise ValueError(f"{folder}: {first} has {a} {what} and {second} {b}; take both from the same model.")
    models = (model.to(device) for model in (vae, unet, text_encoder))
    return DiffusionFeatures(*models, tokenizer, scheduler, preset.diffusion.size, preset.diffusion.timestep)


def _load_vision(
    folder: Path | None, preset: Vision, device: torch.device, dtype: torch.dtype
) -> tuple[VisionFeatures, Path]:
    """The model, and the file of its weights: in the folder or, where that is None, fetched by open_clip."""
    name, tag = (f"local-dir:{folder}", None) if folder else (preset.model, preset.pretrained)
    cached = {} if folder else open_clip.get_pretrained_cfg(name, tag)
    with _reading(folder or Path(name)):  # open_clip only warns of a mismatch here, and the features are then wrong
        built = bool(open_clip.get_model_config(name).get("quick_gelu", False))
        trained = {preset.quick_gelu, *([] if folder else [bool(cached.get("quick_gelu", False))])}
        if trained != {built}:
            raise ValueError(f"QuickGELU is {built} in the model and {not built} in its weights; choose the other one")
    try:
        file = folder / Path(WEIGHTS[-1]).name if folder else Path(open_clip.download_pretrained(cached))
    except Exception as error:  # as in _locate: no common base class
        ask = "connect once to fetch them, or add open_clip's folder as vision/"
        raise FileNotFoundError(f"no weights for the vision model {name} ({tag}): {ask}.") from error
    with _reading(folder or Path(name)):
        model = open_clip.create_model(name, pretrained=tag, require_pretrained=True).to(dtype).to(device)
        return VisionFeatures(model, open_clip.get_tokenizer(name), preset.layer), file
