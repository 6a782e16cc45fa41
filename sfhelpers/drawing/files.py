"""Drawing files as bytes, looked at before they are read."""

from pathlib import Path

MAX_BYTES = 5_000_000
SUFFIXES = (".svg", ".ndjson")


def kind(name: str) -> str:
    """The suffix that says how a file is written, in lower case. ValueError if it is none of `SUFFIXES`."""
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{name!r} ends in {suffix!r}: a drawing is kept as .svg or as .ndjson (Quick, Draw!).")
    return suffix


def read(path: str | Path) -> bytes:
    """A drawing file's content.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: wrong suffix, no ordinary file, empty, or larger than 5 MB (found before it is opened).
    """
    path = Path(path)
    kind(path.name)
    if not path.exists():
        raise FileNotFoundError(f"there is no drawing {str(path)!r}: check the path.")
    if not path.is_file():
        raise ValueError(f"{path.name!r} is no ordinary file: give the path of an .svg or .ndjson file.")
    check_bytes(path.stat().st_size, path.name)
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    check_bytes(len(content), path.name)  # it may have grown since
    return content


def check_bytes(number: int, name: str) -> None:
    """ValueError if a file of that many bytes is empty or too large to be a drawing."""
    if number == 0:
        raise ValueError(f"{name!r} is empty (0 bytes): choose another file.")
    if number > MAX_BYTES:
        largest = f"{MAX_BYTES / 1e6:.0f} MB"
        raise ValueError(f"{name!r} has {number / 1e6:,.1f} MB, more than {largest}: cut it down to one drawing.")


def text(content: bytes) -> str:
    """The content as text. ValueError if it is not UTF-8, the one encoding whose every character can be checked."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (byte {error.start:,}): save it again as UTF-8.") from None
