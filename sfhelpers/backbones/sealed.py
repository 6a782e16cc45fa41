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

WEIGHTS = (
    "text_encoder/model.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "vision/open_clip_model.safetensors",
)
VISION = "vision/open_clip_config.json"
WORDS = (("tokenizer.json",), ("vocab.json", "merges.txt"))  # of a tokenizer: either holds all words
TOLD = ("tokenizer_config.json", "special_tokens_map.json")  # of a tokenizer, where they are there
ALL_WORDS = [name for names in WORDS for name in names]
TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast", "PreTrainedTokenizerFast")
RUNS = {"auto_map", "trust_remote_code", "custom_pipelines"}  # fields by which a config names code
PREFERRED = ("*.index.json", "adapter_config.json")  # what a library would read in the place of weights, or over them


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


def files(folder: Path, vision: bool = True) -> list[str]:
    """The files that are read of a folder, with its `vision/` or without; FileNotFoundError if one is missing."""
    needed = [*(name for name in FIELDS if Path(name).name not in TOLD), *WEIGHTS]
    missing = [name for name in needed if not (folder / name).is_file() and (vision or not name.startswith("vision/"))]
    # Without them the tokenizer would be made of its three special words, in silence.
    if not any(all((folder / "tokenizer" / name).is_file() for name in words) for words in WORDS):
        missing.append("tokenizer/tokenizer.json (or vocab.json and merges.txt)")
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}: {_remedy(folder, missing[0])}.")
    optional = [f"{part}/{name}" for part in ("tokenizer", "vision") for name in (*ALL_WORDS, *TOLD)]
    found = [name for name in (*needed, *optional) if (folder / name).is_file()]
    return [name for name in found if vision or not name.startswith("vision/")]


def _remedy(folder: Path, name: str) -> str:
    for pattern, remedy in (
        ("*.fp16.safetensors", "rename {} to that"),
        ("*.index.json", "load it with its library and save it again as one file, in the place of the shards of {}"),
        ("*.bin", "load {} with its library, if you trust it, and save it again as safetensors"),
    ):
        if found := sorted((folder / name).parent.glob(pattern)):
            return remedy.format(found[0].name)
    return "copy or download the folder again"


@contextmanager
def opened(folder: Path, seal: Mapping[str, str] | None, vision: bool) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder that holds what is read of `folder` alone, since libraries look for more, and every file's sha256."""
    found = files(folder, vision)
    for beside in (path for name in WEIGHTS for word in PREFERRED for path in (folder / name).parent.glob(word)):
        raise ValueError(f"{beside} stands for other weights than those that are read: move it out of the folder.")
    if seal is not None and (differ := sorted(set(found).symmetric_difference(seal))):
        state = "is not sealed" if differ[0] in found else "is sealed and not there"
        raise ValueError(f"{folder / differ[0]} {state}: restore the folder, or seal it again with write_preset.")
    sealed = seal or dict.fromkeys(found)
    with TemporaryDirectory() as made:
        yield Path(made), {name: _bring(folder / name, Path(made) / name, name, sealed[name]) for name in found}


def _bring(path: Path, to: Path, name: str, sealed: str | None) -> str:
    to.parent.mkdir(exist_ok=True)
    content = None if name in WEIGHTS else read_file(path)
    found = file_sha256(path) if content is None else sha256(content).hexdigest()
    if content is None:
        try:
            with safe_open(path, framework="pt"):
                to.symlink_to(path.resolve())
        except SafetensorError as error:
            raise ValueError(f"{path} is truncated or no safetensors file: download it again.") from error
    if sealed not in (None, found):
        raise ValueError(f"{path} is not what its preset describes (sha256 differs): restore or seal it.")
    if name in FIELDS:
        keys: set[str] = set()  # at any depth
        try:
            read = json.loads(content, object_hook=lambda table: keys.update(table) or table)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is no JSON ({type(error).__name__}): restore it.") from error
        if asked := ", ".join(sorted(RUNS & keys)):
            raise ValueError(f"{path} asks to run code ({asked}): nothing of a folder is run here.")
        content = json.dumps(_known(read, FIELDS[name], path)).encode()
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
