"""What image files hold: whether one stands on two sides, and one fingerprint of all."""

from collections.abc import Iterable
from hashlib import sha256

from tqdm.auto import tqdm

from sfhelpers.datasets.quickdraw import Doodle
from sfhelpers.datasets.records import Record
from sfhelpers.files import file_sha256


def check_apart(train: Iterable[Record], test: Iterable[Record]) -> None:
    """ValueError if an image file stands on both sides, under whatever name."""
    known = {file_sha256(record.path): record for record in train}
    for record in test:
        if (other := known.get(file_sha256(record.path))) is not None:
            raise ValueError(
                f"{other.category}/{other.path.name} is trained on and is the same file as the test image "
                f"{record.category}/{record.path.name}: remove one of them."
            )


def fingerprint(items: Iterable[Record | Doodle], more: Iterable[bytes] = ()) -> str:
    """The beginning of a sha256 that changes with any image, mask, part or order, and not with the folder.

    Records count by what their files hold, drawings by their keys; `more` is what belongs to them, e.g. keypoints.
    """
    digest = sha256()
    for item in tqdm(list(items), "fingerprint of the images", leave=False, delay=2):
        held = item.key if isinstance(item, Doodle) else file_sha256(item.path)
        mask = file_sha256(item.mask) if isinstance(item, Record) and item.mask else ""
        line = f"{item.category}/{item.path.name} {item.part} {held} {mask}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))  # names need not be valid UTF-8
    for piece in more:
        digest.update(piece)
    return digest.hexdigest()[:16]  # 64 bits tell accidents apart, and can be read in an error
