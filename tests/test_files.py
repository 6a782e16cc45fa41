"""Writing the user's files: whole or not at all, and one sentence with the path when it is not possible."""

import errno
import os
import random
import re
import signal
import time
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
    assert error.value.errno
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


def test_any_name_that_the_disk_takes_can_be_written_and_the_mode_is_the_earlier_files_or_the_umasks(tmp_path):
    dice = random.Random(0)
    for number in range(60):
        name = "".join(dice.choices("aé香🦊$ ", k=255)).encode()[: dice.randint(1, 255)]  # may cut a letter in two
        path = tmp_path / f"{number}" / (os.fsdecode(name.strip()) or "x")
        path.parent.mkdir()
        mode, mask = dice.choice((None, 0o600, 0o640, 0o644, 0o666, 0o755)), dice.choice((0o000, 0o022, 0o027, 0o077))
        if mode is not None:
            (tmp_path / "outside").write_text("mine")
            (tmp_path / "outside").chmod(mode)
            path.symlink_to(tmp_path / "outside") if number % 2 else path.hardlink_to(tmp_path / "outside")
        before = os.umask(mask)
        try:
            replace_file(path, b"new")
        finally:
            os.umask(before)
        assert path.read_bytes() == b"new" and list(path.parent.iterdir()) == [path]
        assert path.lstat().st_mode == 0o100000 + (0o666 & ~mask if mode is None else mode)
        assert mode is None or (tmp_path / "outside").read_text() == "mine"


def stopped_before_renaming(path, number):
    """The number of a process that has written beside, and that this signal then stopped or ended."""
    if process := os.fork():
        os.waitid(os.P_PID, process, os.WEXITED | os.WSTOPPED | os.WNOWAIT)  # it stays a zombie
        return process
    os.replace = lambda *names: os.kill(os.getpid(), number)
    replace_file(path, b"half")
    os._exit(1)


def test_what_a_kill_left_half_written_is_removed_and_what_a_living_process_is_writing_is_not(tmp_path):
    killed = [stopped_before_renaming(tmp_path / name, signal.SIGKILL) for name in ("a", "b")]
    assert len(list(tmp_path.iterdir())) == 1  # the second removed what the first left
    living = stopped_before_renaming(tmp_path / "c", signal.SIGSTOP)
    (half,) = tmp_path.iterdir()
    try:
        others = [tmp_path / ".sketchfusion-notes", tmp_path / half.name.replace(half.name.split("-")[1], "abcdef")]
        for path in others:
            path.write_text("mine, or of another machine")
        replace_file(tmp_path / "d", b"new")
        assert {*tmp_path.iterdir()} == {half, tmp_path / "d", *others}
    finally:
        os.kill(living, signal.SIGKILL)
        for process in (*killed, living):
            os.waitpid(process, 0)
    os.utime(others[1], (0, time.time() - 2 * 86_400))
    replace_file(tmp_path / "d", b"new")
    assert {*tmp_path.iterdir()} == {tmp_path / "d", others[0]}
