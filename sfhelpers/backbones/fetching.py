"""Weights from a hub into its cache: whole and as it describes them, or not at all; what was cut is gone on from."""

from collections.abc import Iterator, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import build_hf_headers

from sfhelpers.backbones.finding import halves
from sfhelpers.backbones.presets import DIFFUSION, STANDARD, VISION
from sfhelpers.backbones.sealed import ALL_WORDS, FIELDS, PARTS, STEMS, TOLD, forms, shards
from sfhelpers.files import file_sha256, given, make_folder, writing


def fetch(name: str, endpoint: str | None = None) -> None:
    """Bring both halves of a backbone, or the one that is named, into the hub's cache; local folders stay as they are.

    ValueError for a name that there is not, or a file that is not as the hub describes it; ConnectionError where no hub
    gives it, or it was cut; OSError where it cannot be written: each in one sentence.
    """
    first, second = halves(name)
    alone = first.partition(":")[0] in VISION or first == "pocket"
    for half in filter(None, (first, second or ("" if alone else STANDARD))):
        known, _, source = half.partition(":")
        if given(half).is_dir():
            continue
        if (settings := (DIFFUSION | VISION).get(known)) is None:
            raise ValueError(f"there is no half {known!r}: choose from {', '.join(DIFFUSION | VISION)}.")
        places, unet = (source,) if source else settings.ids, getattr(settings, "unet", ())
        parts = PARTS if known in DIFFUSION else ("encoder",) if settings.size else ("vision",)
        if not given(places[0]).exists():
            _from_hub(places, parts, unet, endpoint)
        if unet:
            _from_hub(unet[:1], (), unet, endpoint)


def _from_hub(places: Sequence[str], parts: Sequence[str], unet: Sequence[str], endpoint: str | None) -> None:
    """These parts, or the one file that `unet` names, from the first hub id that there is."""
    tried = []
    for place in places:
        try:
            info = HfApi(endpoint).model_info(place, files_metadata=True)
        except Exception as error:  # the hub's errors share no base class
            tried.append(f"{place} ({type(error).__name__})")
            continue
        cache = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=place, repo_type="model")
        make_folder(cache / "refs")
        listed = {file.rfilename: file for file in info.siblings}
        for file in _wanted(listed, parts, unet, cache / "snapshots" / info.sha):
            url = hf_hub_url(place, file, revision=info.sha, endpoint=endpoint)
            _bring(url, cache / "snapshots" / info.sha / file, listed[file])
        with writing(cache, "make it writable"):
            (cache / "refs" / "main").write_text(info.sha)  # by which libraries find the snapshot
        return
    remedy = "connect, unset HF_HUB_OFFLINE, or name a mirror behind a colon"
    raise ConnectionError(f"no hub gives {', '.join(tried)}: {remedy}.")


def _wanted(listed: dict[str, Any], parts: Sequence[str], unet: Sequence[str], folder: Path) -> Iterator[str]:
    """What is read of some parts, of the files that a hub lists; shards once their index is in `folder`."""
    for part in parts:
        start = f"{part}/" if part in PARTS else ""
        names = [Path(name).name for name in FIELDS if name.startswith(f"{part}/")]
        names += [*ALL_WORDS, *TOLD] if part in ("tokenizer", "vision") else []
        kept = part in STEMS and not (part == "unet" and unet)
        names += [name for name in forms(STEMS[part]) if start + name in listed][:1] if kept else []
        for name in (start + name for name in dict.fromkeys(names) if start + name in listed):
            yield name
            if ".index." in name:
                yield from (start + shard for shard in shards(folder / name) if start + shard in listed)
    yield from (name for name in unet[1:] if not parts and name in listed)


def _bring(url: str, path: Path, told: Any) -> None:
    """One file, unless it is there; `told` is what the hub says of it."""
    part = path.with_name(f"{path.name}.part")
    if path.exists():
        return
    make_folder(path.parent)
    with writing(path, "give its disk room, or set HF_HOME to another place", told.size or 0):
        try:
            with part.open("ab") as file:
                http_get(url, file, resume_size=file.tell(), expected_size=told.size, headers=build_hf_headers())
        except OSError as error:
            if error.errno is not None:
                raise
            raise _cut(path, error) from error
        except Exception as error:  # nor do these share a base class
            raise _cut(path, error) from error
    content = b"" if told.lfs else part.read_bytes()
    digest = file_sha256(part) if told.lfs else sha1(b"blob %d\0" % len(content) + content).hexdigest()
    if digest != (told.lfs.sha256 if told.lfs else told.blob_id):
        part.unlink()
        raise ValueError(f"{url} came with other bytes than the hub describes (hash differs): fetch it again.")
    part.replace(path)


def _cut(path: Path, error: Exception) -> ConnectionError:
    return ConnectionError(f"{path.name} was cut off ({type(error).__name__}): run this again, it goes on from there.")
