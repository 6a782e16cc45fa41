"""Archives of data sets: fetched where a licence allows it, resumed and checked, and unpacked whole or not at all."""

import base64
import hashlib
import http.client
import os
import shutil
import stat
import tarfile
import tempfile
import unicodedata
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Collection, Iterator
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from sfhelpers.datasets import published
from sfhelpers.files import make_folder, shown, writing

MOST = 200  # times its own size that an archive may unpack to; pictures and drawings have 1 to 20
MEMBERS = 2_000_000
CHUNK = 1 << 20


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Unpack a zip or tar into a folder, all or nothing; gives what is new at the top of it.

    ValueError, one sentence, for a member that would leave the folder (an absolute path, "..", a drive), is a link or
    device, or is named as another one but for case; for a bomb; for what is damaged, encrypted or no such archive.
    FileExistsError if something of a name is there already.
    """
    make_folder(folder)
    allowed, taken = min(MOST * archive.stat().st_size, shutil.disk_usage(folder).free), {}
    with tempfile.TemporaryDirectory(prefix=".sketchfusion-unpack-", dir=folder) as beside:
        try:
            for name, size, plain, content in _members(archive):
                allowed -= size
                if why := _refused(name, plain, allowed, taken):
                    raise ValueError(f"{shown(archive)} is not unpacked, since {shown(name)!r} {why}.")
                _write(Path(beside) / name, size, content)
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, LZMAError, RuntimeError, OSError) as error:
            if getattr(error, "errno", None):  # of the disk
                raise
            why = "is encrypted, cut or damaged, or packed in a way that is not known"
            raise ValueError(f"{shown(archive)} {why} ({error}): fetch it again, or unpack it by hand.") from error
        found = {path: folder / path.name for path in sorted(Path(beside).iterdir())}
        if there := [path for path in found.values() if path.exists()]:
            raise FileExistsError(f"{shown(there[0])} is there already: move it away, or name another folder.")
        for path, new in found.items():
            os.replace(path, new)
    return list(found.values())


def _members(archive: Path) -> Iterator[tuple[str, int, bool, BinaryIO | None]]:
    """Name, bytes, whether it is a plain file or folder, and a file's content."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                plain = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)
                yield info.filename, info.file_size, plain, None if info.is_dir() else file.open(info)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as file:
            for info in file:
                plain = info.isreg() or info.isdir()
                yield info.name, info.size, plain, file.extractfile(info) if info.isreg() else None
            while file.fileobj.read(CHUNK):  # its end, where a compressed one has its checksum
                pass
    else:
        remedy = "unpack it with 7z x" if archive.suffix.lower() == ".7z" else "check that it was fetched whole"
        raise ValueError(f"{shown(archive)} is no zip or tar archive: {remedy}.")


def _refused(name: str, plain: bool, allowed: int, taken: dict[str, str]) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or {"..", ""} & {*path.parts, name} or {*"\\\0"} & {*name} or ":" in path.parts[0]:
        return "would be written outside of its folder"
    if not plain:
        return "is a link or a device"
    key = unicodedata.normalize("NFC", str(path)).casefold()
    if taken.setdefault(key, name) != name or len(taken) > MEMBERS:
        return f"is named as {shown(taken[key])!r} is, or there are more than {MEMBERS:,} members"
    return "unpacks to more than the disk holds, or as a bomb does" if allowed < 0 else ""


def _write(path: Path, size: int, content: BinaryIO | None) -> None:
    with writing(path, "name another folder", size):
        (path if content is None else path.parent).mkdir(parents=True, exist_ok=True)
        if content is not None:
            with content, path.open("xb") as file:
                shutil.copyfileobj(content, file, CHUNK)
    if content is not None and path.stat().st_size != size:
        raise EOFError(f"{path.name} has {path.stat().st_size} of {size} bytes")


def addresses(name: str, categories: Collection[str] = ()) -> dict[str, str]:
    """File -> address of what may be fetched of a dataset; ValueError, with where to ask, where nothing may."""
    entry = published.DATASETS[name]
    if not (source := entry.get("download")):
        raise ValueError(f"{entry['title']} is not fetched: {published.where(entry)}")
    spelled = published.spellings(entry)
    wanted = [spelled.get(published.compared(category)) for category in categories] if "each" in source else ["all"]
    if not wanted or None in wanted:
        said = f"{len(categories)} categories of {entry['title']} are named, but not as any of its {len(spelled)}"
        raise ValueError(f"{said}: name some, as cat 'hot air balloon'.")
    files = [source["each"].format(category) for category in wanted] if "each" in source else source["files"]
    return {file: source["base"] + urllib.parse.quote(file) for file in files}


def fetch(address: str, path: Path) -> str:
    """Fetch a file, going on where an earlier call was cut; gives its sha256. OSError, one sentence, if it is not to be
    had or cut again; ValueError if its length, or the md5 that its server tells, is another."""
    part = path.with_name(f"{path.name}.part")
    start = max(0, part.stat().st_size - 1) if part.is_file() else 0  # of a whole one, too, something is left to send
    request = urllib.request.Request(address, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            total, told = _received(answer, part, start)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        if getattr(error, "code", 0) == 416:  # what is there is longer, so of another file
            part.unlink()
        raise OSError(f"{address} was not fetched whole ({error}): call again to go on.") from error
    hashes = []
    for kind in ("md5", "sha256"):
        with part.open("rb") as file:
            hashes.append(hashlib.file_digest(file, kind))
    if part.stat().st_size != total or (told and hashes[0].digest() != told):
        part.unlink()
        raise ValueError(f"{address} came with another length or checksum than its server tells: call again.")
    os.replace(part, path)
    return hashes[1].hexdigest()


def _received(answer: http.client.HTTPResponse, part: Path, start: int) -> tuple[int, bytes]:
    """Append what a server sends, or begin anew if it does not go on; the whole length, and the md5 that it tells."""
    span = answer.headers.get("Content-Range", "")
    resumed = answer.status == 206 and span.startswith(f"bytes {start}-")
    total = int(span.rpartition("/")[2] if resumed else answer.headers.get("Content-Length", 0))
    with writing(part, "name another folder", total), part.open("r+b" if resumed else "wb") as file:
        file.seek(start if resumed else 0)
        shutil.copyfileobj(answer, file, CHUNK)
    if (size := part.stat().st_size) < total:
        raise http.client.IncompleteRead(b"", total - size)
    hashes = ",".join(answer.headers.get_all("x-goog-hash", [])).replace(" ", "").split(",")
    told = next((text[4:] for text in hashes if text.startswith("md5=")), "")
    return total or size, base64.b64decode(told)
