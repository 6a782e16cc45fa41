"""Writing the user's files: whole or not at all, and one sentence with the path when it is not possible."""

import errno
import os
import re
from unittest.mock import Mock

import pytest

from sfhelpers.files import make_folder, replace_file, writing
from tests.backbone_fixtures import refused


@pytest.mark.parametrize(
    ("write", "place", "kind", "words"),
    [
        (lambda path: replace_file(path, b"new"), "folder", IsADirectoryError, "Is a directory): name another file"),
        (lambda path: replace_file(path, b"new"), "file/in", NotADirectoryError, "Not a directory): name another file"),
        (lambda path: replace_file(path, b"new"), "none/in", FileNotFoundError, "directory): name another file"),
        (make_folder, "file", FileExistsError, "File exists): name another folder"),
    ],
)
def test_what_cannot_be_written_is_one_sentence_and_leaves_nothing(tmp_path, write, place, kind, words):
    make_folder(tmp_path / "folder" / "in")
    make_folder(tmp_path / "folder" / "in")
    (tmp_path / "file").write_text("kept")
    with refused(re.escape(f"{tmp_path / place} ") + f".*{re.escape(words)}", kind) as error:
        write(tmp_path / place)
    assert error.value.strerror
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "kept"


def test_a_full_disk_asks_for_room_and_an_interruption_too_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("earlier")
    monkeypatch.setattr(os, "replace", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    with refused(rf"{path} .*\(No space left on device\): make room for 2\.5 MB", OSError):
        replace_file(path, bytes(2_500_000))
    monkeypatch.setattr(os, "replace", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        replace_file(path, b"new")
    assert path.read_text() == "earlier" and list(tmp_path.iterdir()) == [path]


def test_an_error_is_said_by_the_innermost_place_with_its_reason_kept(tmp_path):
    said = rf"^{tmp_path} could not be written \(Permission denied\): look\.$"
    with refused(said, PermissionError), writing(tmp_path, "look"), writing(tmp_path / "in", "go on"):
        raise PermissionError(errno.EACCES, "Permission denied")
