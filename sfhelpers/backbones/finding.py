"""From a backbone's name to the folders of its two halves: given, or in the hub's cache; nothing is downloaded."""

from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import snapshot_download

from sfhelpers.backbones.presets import DIFFUSION, PRESET_FILE, STANDARD, VISION, Preset, Vision, read_preset
from sfhelpers.backbones.sealed import files, parts_of, refusal
from sfhelpers.files import given, read_file
from sfhelpers.params import HALF


@dataclass(frozen=True)
class Found:
    preset: Preset
    parts: dict[str, Path]  # as `sealed.files` takes them: of a diffusion half, and "vision", or "encoder" for timm's
    unet: Path | None = None  # weights in the place of the UNet's own


def find(name: str) -> Found:
    """Where a backbone's files are, by its name or folder; ValueError or FileNotFoundError, one sentence."""
    first, second = halves(name)
    preset, folder = _diffusion(first)
    parts, unet = parts_of(folder, vision=False), _unet(preset, folder, first.partition(":")[0])
    files(parts, unet)  # what is wrong with it is said before a vision half is looked for
    if not second and ((folder / "vision").is_dir() or (folder / PRESET_FILE).is_file()):
        return Found(preset, parts | {"vision": folder / "vision"}, unet)
    settings, place = find_vision(second or STANDARD)
    return Found(replace(preset, vision=settings), parts | place, unet)


def halves(name: str) -> tuple[str, str]:
    """What stands before and behind the "+" of "sd21+clip-l14", "" where there is none; folders may have one, too."""
    name = name.removesuffix(HALF)
    before, _, source = name.partition(":")
    if given(name).exists() or (source and "+" not in before and given(source).exists()):
        return name, ""
    ends = [name[k + 1 :] for k, letter in enumerate(name) if letter == "+"]
    known = [end for end in ends if end.partition(":")[0] in VISION or (end and given(end).is_dir())]
    second = (known or ends[-1:] or [""])[0]
    return (name[: -len(second) - 1], second) if ends else (name, "")


def _diffusion(half: str) -> tuple[Preset, Path]:
    name, _, source = half.partition(":")
    folder = given(half)
    if name in DIFFUSION:
        folder = located((source,) if source else DIFFUSION[name].ids, name)
    elif folder.is_file():
        raise ValueError(refusal(folder))
    elif not folder.is_dir():
        raise ValueError(f"unknown backbone {half!r}: use {', '.join(DIFFUSION)} or a folder with preset.json.")
    elif not (folder / PRESET_FILE).is_file():
        raise FileNotFoundError(f"{folder} has no preset.json: for Stable Diffusion 2.1 weights, pass sd21:{folder}.")
    return (read_preset(folder) if (folder / PRESET_FILE).is_file() else Preset(DIFFUSION[name], Vision())), folder


def _unet(preset: Preset, folder: Path, half: str) -> Path | None:
    """The weights in the place of the UNet's own, which a plain model's folder does not have."""
    if not preset.diffusion.unet:
        return None
    place, name = preset.diffusion.unet
    own = [path for path in (folder / name, folder / "unet" / name) if path.is_file()]
    path = own[0] if own else located((place,), half) / name
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} lacks {name}: run python -m sfhelpers.backbones fetch {half}.")
    return path


def find_vision(half: str) -> tuple[Vision, dict[str, Path]]:
    """How a vision half is used, and where it is, as one of the parts; errors as of `find`."""
    name, _, source = half.partition(":")
    if name not in VISION:
        if (folder := given(half)).is_dir():
            return Vision(), {"vision": folder}
        raise ValueError(f"unknown vision half {half!r}: use {', '.join(VISION)}, or a folder in open_clip's format.")
    settings, file = VISION[name], bool(source) and given(source).is_file()
    place = given(source) if file and VISION[name].size else located((source,) if source else settings.ids, name)
    return settings, {"encoder" if settings.size else "vision": place}


def located(places: tuple[str, ...], name: str) -> Path:
    """The first of these local folders or hub ids that is here, a hub id's in the hub's cache."""
    tried = []
    for place in places:
        folder = given(place)
        if folder.is_file():
            raise ValueError(refusal(folder))
        if folder.is_dir():
            latest = folder / "refs" / "main"  # of the hub's cache, models--somebody--model
            return folder / "snapshots" / read_file(latest).decode().strip() if latest.is_file() else folder
        if folder.is_absolute() or place.count("/") != 1:
            tried.append(f"{place} (no such folder)")
            continue
        try:
            return Path(snapshot_download(place, local_files_only=True))
        except Exception:  # the hub's errors share no base class
            tried.append(f"{place} (not in the hub's cache)")
    remedy = f"run python -m sfhelpers.backbones fetch {name}, or pass {name}:<folder>"
    raise FileNotFoundError(f"no weights for {name!r} here, tried {', '.join(tried)}: {remedy}.")
