"""Writing the user's files: whole or not at all, and one sentence with the path when it is not possible."""

import errno
import os
from unittest.mock import Mock

import pytest

from sfhelpers.files import make_folder, replace_file, writing
from tests.backbone_fixtures import one_sentence


def refused(place, kind, call, *arguments):
    with pytest.raises(kind) as error:
        call(*arguments)
    assert str(place) in one_sentence(error) and error.value.strerror
    return str(error.value)


def test_what_cannot_be_written_is_one_sentence_and_leaves_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    for path, kind, words in (
        (tmp_path / "folder", IsADirectoryError, "(Is a directory): name another file"),
        (tmp_path / "file" / "in", NotADirectoryError, "(Not a directory): name another file"),
        (tmp_path / "none" / "in", FileNotFoundError, "(No such file or directory): name another file"),
    ):
        assert words in refused(path, kind, replace_file, path, b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "kept"


def test_a_full_disk_asks_for_room_and_an_interruption_too_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("earlier")
    monkeypatch.setattr(os, "replace", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    said = refused(path, OSError, replace_file, path, bytes(2_500_000))
    assert "(No space left on device): make room for 2.5 MB" in said
    monkeypatch.setattr(os, "replace", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        replace_file(path, b"new")
    assert path.read_text() == "earlier" and list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_place_of_a_file_is_one_sentence(tmp_path):
    file = tmp_path / "heads"
    file.write_text("")
    assert "(File exists): name another folder" in refused(file, FileExistsError, make_folder, file)
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")


def test_an_error_is_said_by_the_innermost_place_with_its_reason_kept(tmp_path):
    with pytest.raises(PermissionError) as error, writing(tmp_path, "look"), writing(tmp_path / "in", "go on"):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert one_sentence(error) == f"{tmp_path} could not be written (Permission denied): look."
