"""What is read of a model's folder: known files and known fields of them, as its seal says, and nothing that runs."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import diffusers
import timm
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from safetensors import SafetensorError, safe_open
from torch import nn

from sfhelpers.files import file_sha256, read_file

STEMS = {  # part of a folder -> how its weights are called, in all their forms
    "text_encoder": "model",
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "vision": "open_clip_model",
    "encoder": "model",  # timm's, in the place of open_clip's
}
*WEIGHTS, ENCODER = (f"{part}/{stem}.safetensors" for part, stem in STEMS.items())
PARTS = ("text_encoder", "unet", "vae", "scheduler", "tokenizer")  # of a diffusion half
VISION = "vision/open_clip_config.json"
WORDS = (("tokenizer.json",), ("vocab.json", "merges.txt"))  # of a tokenizer: either holds all words
TOLD = ("tokenizer_config.json", "special_tokens_map.json")  # of a tokenizer, where they are there
ALL_WORDS = [name for names in WORDS for name in names]
TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast", "GemmaTokenizer", "GemmaTokenizerFast", "PreTrainedTokenizerFast")
RUNS = {"auto_map", "trust_remote_code", "custom_pipelines"}  # fields by which a config names code


def _named(*names: str) -> dict[str, None]:
    return dict.fromkeys(" ".join(names).split())


_ENDS = "bos_token eos_token unk_token pad_token"
_TOKENS = _named("tokenizer_class model_max_length add_prefix_space errors do_lower_case", _ENDS)
_TEXT = {name: None for name in signature(CLIPTextCfg).parameters if not name.startswith("hf_model")}
FIELDS: dict[str, Mapping[str, Any]] = {  # file -> the fields of it that are read, each with those inside it
    "text_encoder/config.json": _named(
        "vocab_size hidden_size intermediate_size projection_dim num_hidden_layers num_attention_heads hidden_act "
        "max_position_embeddings layer_norm_eps attention_dropout initializer_range initializer_factor pad_token_id "
        "bos_token_id eos_token_id model_type"
    ),
    "unet/config.json": _named(*signature(diffusers.UNet2DConditionModel).parameters),
    "vae/config.json": _named(*signature(diffusers.AutoencoderKL).parameters),
    "scheduler/scheduler_config.json": _named(*signature(diffusers.DDIMScheduler).parameters),
    VISION: {
        "model_cfg": {
            **_named("embed_dim quick_gelu custom_text init_logit_scale init_logit_bias"),
            "vision_cfg": _named(*signature(CLIPVisionCfg).parameters),
            "text_cfg": _TEXT | {"tokenizer_kwargs": _named("clean strip_sep_token")},
        },
        "preprocess_cfg": _named("size mode mean std interpolation resize_mode fill_color"),
    },
    **{f"{part}/{name}": _TOKENS for part in ("tokenizer", "vision") for name in TOLD},
}
INDEX = {"metadata": _named("total_size"), "weight_map": None}  # of shards


def parts_of(folder: Path, vision: bool = True) -> dict[str, Path]:
    """Where the parts of a folder are, with its `vision/` or without."""
    return {part: folder / part for part in (*PARTS, *["vision"] * vision)}


def files(parts: Mapping[str, Path], unet: Path | None = None) -> dict[str, Path]:
    """Name -> file of all that is read of some parts, `unet` in the place of the UNet's own weights; FileNotFoundError
    if one is missing, ValueError for other kinds of weights."""
    found: dict[str, Path] = {}
    for part, place in parts.items():
        root = place.parent if place.name == part else place
        if (root / "text_encoder_2").exists():
            raise ValueError(f"{root} is SDXL, which needs two texts and a size: take Stable Diffusion 1 or 2.")
        needed = [name for name in FIELDS if name.startswith(f"{part}/") and Path(name).name not in TOLD]
        own = {name: place / Path(name).name for name in needed}
        own |= _weights(part, place, unet if part == "unet" else None)
        missing = [name for name, path in own.items() if not path.is_file()]
        # Without them the tokenizer would be made of its three special words, in silence.
        if part == "tokenizer" and not any(all((place / name).is_file() for name in words) for words in WORDS):
            missing.append("tokenizer/tokenizer.json (or vocab.json and merges.txt)")
        if missing:
            names = [name.removeprefix(f"{part}/") if root == place else name for name in missing]
            raise FileNotFoundError(f"{root} lacks {', '.join(names)}: {_remedy(root, place)}.")
        optional = [*ALL_WORDS, *TOLD] if part in ("tokenizer", "vision") else []
        found |= own | {f"{part}/{name}": place / name for name in optional if (place / name).is_file()}
    return found


def forms(stem: str) -> tuple[str, ...]:
    """How a part's weights may be called, in order: whole or the index of their shards, and both in half precision."""
    whole = f"{stem}.safetensors"
    return whole, f"{whole}.index.json", f"{stem}.fp16.safetensors", f"{whole}.index.fp16.json"


def shards(index: Path) -> list[str]:
    """The files that an index of shards names; ValueError for one that is no such index, or names files elsewhere."""
    try:
        names = sorted(set(json.loads(read_file(index))["weight_map"].values()))
        if not names or any(Path(name).name != name or not name.endswith(".safetensors") for name in names):
            raise ValueError("a shard is no file beside it")
        return names
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{index} is no index of shards ({type(error).__name__}): download it again.") from error


def _weights(part: str, place: Path, other: Path | None) -> dict[str, Path]:
    """A part's weights, in whatever form they are there, under the name by which libraries look for them."""
    if part not in STEMS:
        return {}
    whole, index, *_ = forms(STEMS[part])
    if other or place.is_file():
        return {f"{part}/{whole}": other or place}
    preferred = ["adapter_config.json", *["*.index.json"] * (place / whole).is_file()]  # by a library, or over them
    for beside in (path for name in preferred for path in place.glob(name)):
        raise ValueError(f"{beside} stands for other weights than those that are read: move it out of the folder.")
    there = [name for name in forms(STEMS[part]) if (place / name).is_file()]
    if there and ".index." in there[0]:
        names = {name: place / name for name in shards(place / there[0])}
        return {f"{part}/{name}": path for name, path in ({index: place / there[0]} | names).items()}
    return {f"{part}/{whole}": place / (there or [whole])[0]}


PICKLED = "is pickled and may run code when opened: take the model's safetensors, or convert it where nothing is lost"
ADAPTED = "is a LoRA: join it with its model by diffusers' fuse_lora and save_pretrained, then give that folder"
SINGLE = "is one file: read it once with diffusers' from_single_file and save_pretrained, then give that folder"


def refusal(path: Path) -> str:
    """Why a file cannot stand for a folder, and what can be done."""
    if path.suffix != ".safetensors":
        return f"{path} {PICKLED}."
    try:
        with safe_open(path, framework="pt") as weights:
            lora = any("lora" in name for name in weights.keys())  # noqa: SIM118  it is no dict
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is truncated or no safetensors file: download it again.") from error
    return f"{path} {ADAPTED if lora else SINGLE}."


def _remedy(root: Path, place: Path) -> str:
    """What helps where something is missing of a part at `place`."""
    for pattern, said in (
        ("adapter_config.json", ADAPTED),
        ("*lora*.safetensors", ADAPTED),
        *((pattern, PICKLED) for pattern in ("*.bin", "*.ckpt", "*.pt", "*.pth")),
        ("*.safetensors", SINGLE),
    ):
        found = sorted([*place.glob(pattern), *(root.glob(pattern) if root != place else ())])
        if found and (said != SINGLE or found[0].parent == root != place):
            return f"{found[0].name} {said}"
    return "copy or download the folder again"


@contextmanager
def opened(
    parts: Mapping[str, Path], seal: Mapping[str, str] | None, unet: Path | None = None
) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder that holds what is read of some parts alone, since libraries look for more, and every file's sha256."""
    found, root = files(parts, unet), parts["unet"].parent  # a vision half of another folder is not under its seal
    inside = tuple(f"{part}/" for part, place in parts.items() if place.parent == root)
    sealed = {name: value for name, value in (seal or {}).items() if name.startswith(inside)}
    if seal is not None and (differ := sorted({name for name in found if name.startswith(inside)} ^ sealed.keys())):
        state = "is not sealed" if differ[0] in found else "is sealed and not there"
        raise ValueError(f"{root / differ[0]} {state}: restore the folder, or seal it again with write_preset.")
    with TemporaryDirectory() as made:
        taken = ((name, path, Path(made) / name) for name, path in found.items())
        yield Path(made), {name: _bring(path, to, name, sealed.get(name)) for name, path, to in taken}


def _bring(path: Path, to: Path, name: str, sealed: str | None) -> str:
    to.parent.mkdir(exist_ok=True)
    content = None if name.endswith(".safetensors") else read_file(path)
    found = file_sha256(path) if content is None else sha256(content).hexdigest()
    if content is None:
        try:
            with safe_open(path, framework="pt"):
                to.symlink_to(path.resolve())
        except SafetensorError as error:
            raise ValueError(f"{path} is truncated or no safetensors file: download it again.") from error
    if sealed not in (None, found):
        raise ValueError(f"{path} is not what its preset describes (sha256 differs): restore or seal it.")
    fields = INDEX if name.endswith(".index.json") else FIELDS.get(name)
    if fields:
        keys: set[str] = set()  # at any depth
        try:
            read = json.loads(content, object_hook=lambda table: keys.update(table) or table)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is no JSON ({type(error).__name__}): restore it.") from error
        if asked := ", ".join(sorted(RUNS & keys)):
            raise ValueError(f"{path} asks to run code ({asked}): nothing of a folder is run here.")
        content = json.dumps(_known(read, fields, path)).encode()
    if content is not None:
        to.write_bytes(content)
    return found


def _known(tree: Any, names: Mapping[str, Any] | None, path: Path) -> Any:
    """The fields that are known; those that choose a class choose among known ones."""
    if names is None:
        return tree
    if not isinstance(tree, dict):
        raise ValueError(f"{path} holds {str(tree)[:40]!r} where a table of settings belongs: restore it.")
    model, tokenizer = (tree.get(key) for key in ("timm_model_name", "tokenizer_class"))
    if model is not None and not (isinstance(model, str) and timm.is_model(model)):
        raise ValueError(f"{path} names the timm model {str(model)[:40]!r}, which there is not: restore it.")
    if tokenizer is not None and tokenizer not in TOKENIZERS:
        choices = ", ".join(TOKENIZERS)
        raise ValueError(f"{path} names the tokenizer {str(tokenizer)[:40]!r}: only {choices} are read.")
    return {key: _known(value, names[key], path) for key, value in tree.items() if key in names}


def check_finite(model: nn.Module, path: Path) -> None:
    """ValueError if a weight is NaN or infinite: every feature would be, or in silence some."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{path} has weights that are no numbers, first in {name}: download it again.")
