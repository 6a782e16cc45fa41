"""The one way in which a file of the user's is written: whole, or not at all; what is in it, and how it is named."""

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def shown(path: str | Path) -> str:
    """The path as text that can be printed anywhere, even if its bytes are not valid UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def replace_file(path: Path, content: bytes) -> None:
    """Write beside, then rename, so that an interrupted run leaves the earlier file as it was; OSError as `writing`."""
    with writing(path, "name another file, in a folder that you may write to", len(content)):
        descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
            os.chmod(beside, 0o644)  # mkstemp's 0600 would hide the file from others
            os.replace(beside, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)
            raise


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, if they are not there; OSError as `writing`."""
    with writing(folder, "name another folder, or move away what is in its place"):
        folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def writing(place: Path, remedy: str, size: int = 0) -> Iterator[None]:
    """Turn an OSError inside into a sentence of its type, with the remedy or, on a full disk, the bytes needed."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = f"make room for {size / 1e6:.1f} MB on its disk" if size else "make room on its disk"
        said = type(error)(f"{shown(place)} could not be written ({error.strerror or error}): {remedy}.")
        said.strerror = error.strerror  # for callers with a sentence of their own; without errno it is not printed
        raise said from error
