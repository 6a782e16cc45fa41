"""The one way in which a file of the user's is written: whole, or not at all; what is in it, and how it is named."""

import contextlib
import errno
import hashlib
import os
import platform
import secrets
import time
import unicodedata
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import psutil

HERE = hashlib.sha256(platform.node().encode()).hexdigest()[:6]  # this machine


def shown(path: str | Path) -> str:
    """A path or name as text that can be printed anywhere: what is no UTF-8, or moves the cursor, is escaped."""
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else ascii(c)[1:-1] for c in str(path))


def file_sha256(path: Path) -> str:
    with reading(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_file(path: Path) -> bytes:
    with reading(path):
        return path.read_bytes()


def replace_file(path: Path, content: bytes) -> None:
    """Write beside, then rename, so that a run cut short leaves the earlier file; mode kept; OSError as `writing`."""
    with writing(path, "name another file, in a folder that you may write to", len(content)):
        path = given(path)
        remove_left(path.parent)
        mode = path.stat().st_mode & 0o777 if path.is_file() else 0
        beside = path.with_name(f".sketchfusion-{HERE}-{os.getpid()}-{secrets.token_hex(4)}")  # short, whatever its own
        try:
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if mode else 0o666), "wb") as file:
                file.write(content)
            if mode:
                os.chmod(beside, mode)
            os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def remove_left(folder: Path) -> None:
    """Remove what killed processes were writing beside, which may be of another machine after a day alone."""
    for path in folder.glob(f".sketchfusion-{'[0-9a-f]' * 6}-*-{'[0-9a-f]' * 8}"):
        maker, alive = path.name[14:-9], (p for p in psutil.process_iter(["status"]) if p.info["status"] != "zombie")
        with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
            ended = maker.startswith(HERE) and maker not in {f"{HERE}-{process.pid}" for process in alive}
            if ended or time.time() - path.lstat().st_mtime > 86_400:
                path.unlink()


def make_folder(folder: Path) -> None:
    with writing(folder, "name another folder, or move away what is in its place"):
        folder.mkdir(parents=True, exist_ok=True)


def check_own(folder: Path) -> None:
    """FileExistsError if a folder that a run writes into is something else, or holds a link, which may lead outside."""
    for path in chain([folder], folder.rglob("*")):  # which follows no link
        kind = "link" if path.is_symlink() else "file" if path == folder and path.exists() and not path.is_dir() else ""
        if kind or (path.suffix == ".safetensors" and path.is_dir()):
            said = f"{shown(path)} is a {kind or 'folder'}, and not of the run's own making"
            raise FileExistsError(f"{said}: move it away, or pass another -p output_dir.")


def given(path: str | Path) -> Path:
    """A path as a person writes it, with `~` for the home folder; one sentence if no file could ever be found there."""
    try:
        with reading(Path(path)):
            place = Path(path).expanduser()
            place.resolve().is_dir()
            return place
    except (RuntimeError, ValueError) as error:  # no home folder, a loop of links, a NUL
        remedy = "set HOME, or give another one" if str(path)[:1] == "~" else "give another one"
        raise ValueError(f"{str(path)[:80]!r} is no path ({str(error).rstrip('.')}): {remedy}.") from error


@contextlib.contextmanager
def writing(place: Path, remedy: str, size: int = 0, what: str = "could not be written") -> Iterator[None]:
    """Turn an OSError inside into a sentence of its type and errno, with the remedy or, on a full disk, the bytes."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = f"make room for {size / 1e6:.1f} MB on its disk" if size else "make room on its disk"
        if error.errno is None:  # a sentence of our own
            raise
        said = type(error)(f"{shown(place)} {what} ({os.strerror(error.errno)}): {remedy}.")
        said.errno = error.errno  # without strerror beside it, it is not printed
        raise said from error


@contextlib.contextmanager
def reading(place: Path) -> Iterator[None]:
    """As `writing`, for what reads `place`."""
    with writing(place, "check the path, make it readable, or take it away", what="cannot be read"):
        if place.exists() and not (place.is_file() or place.is_dir()):  # a pipe would have us wait
            raise OSError(errno.EINVAL, "")
        yield
