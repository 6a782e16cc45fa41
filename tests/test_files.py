"""Files: written whole or not at all; what the system says no to is one sentence, and the rest goes on."""

import errno
import os
import random
import re
import signal
import tempfile
import time
from contextlib import contextmanager, nullcontext
from itertools import product
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from sfhelpers import params, plots, results, toyworld
from sfhelpers.backbones import load_backbone
from sfhelpers.backbones.encoders import load_encoder
from sfhelpers.backbones.presets import read_preset
from sfhelpers.datasets import load_dataset
from sfhelpers.drawing import PRESETS, Drawing
from sfhelpers.files import file_sha256, make_folder, replace_file, writing
from sfhelpers.images import image_size, open_image, open_mask
from sfhelpers.kept import FILE, Checkpoint, remove_trainings
from sfhelpers.search.gallery import Gallery, find_images
from sfhelpers.tasks.heads import load_head
from tests.backbone_fixtures import fake, files, photo, refused
from tests.test_params import values
from tests.test_results import make as row


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


WRITERS = {  # a file's name -> what writes it
    "any": lambda path: replace_file(path, bytes(2_500_000)),
    "results.json": lambda path: results.write([row()], path),
    "figure.png": lambda path: plots.grid([[np.zeros((9, 9, 3))]]).savefig(str(path)),
    "an.index": lambda path: Gallery.from_folder(path.parent, fake()).save(path),
    "drawing.svg": PRESETS["cup"].save,
}


@pytest.mark.parametrize("step", ["chmod", "replace"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_asks_for_room_and_an_interruption_too_leaves_the_earlier_file(own, monkeypatch, name, step):
    write, path = WRITERS[name], own / name
    write(path)
    before = files(own)
    monkeypatch.setattr(os, step, Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    room = f"make room for {path.stat().st_size / 1e6:.1f} MB"
    with refused(rf"{path} could not be written \(No space left on device\): {room}", OSError):
        write(path)
    monkeypatch.setattr(os, step, Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write(path)
    assert files(own) == before


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


READERS = {  # a file's name -> what reads it
    "image.png": open_image, "size.png": image_size, "mask.png": open_mask, "drawing.svg": Drawing.load,
    "results.json": results.read, "preset.json": lambda path: read_preset(path.parent), "any": file_sha256,
    "head.safetensors": lambda path: load_head(path, None), "lite.pth": lambda path: load_encoder("ImageNet", path),
    FILE: lambda path: Checkpoint(path.parent, {}).read(), "an.index": lambda path: Gallery.load(path, None),
}  # fmt: skip


@pytest.fixture
def own():
    """A folder that every user may enter, of three classes of two photos and two sketches."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for place in product(("photo", "sketch"), ("cat", "dog", "owl"), ("a.png", "b.png")):
            photo(root.joinpath(*place))
        root.chmod(0o777)
        load_dataset("folder", root)  # nobody may load the modules that open them
        yield root


@contextmanager
def nobody():
    """Without root's right to read everything."""
    me = os.geteuid()
    os.seteuid(me or 65534)
    try:
        yield
    finally:
        os.seteuid(me)


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_may_not_be_read_keeps_its_errno_and_what_is_no_file_is_not_waited_for(own, name):
    (own / name).write_text("content")
    (own / name).chmod(0)
    with nobody(), refused(rf"{own / name} cannot be read \(Permission denied\): .*readable", PermissionError) as error:
        READERS[name](own / name)
    assert error.value.errno == 13
    for number, make in enumerate((os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path))):
        os.replace(own / name, own / f"{number}")
        make(own / name)
        with nobody(), refused(str(own / name), (ValueError, OSError)):
            READERS[name](own / name)


@pytest.mark.parametrize("mode", [0o000, 0o444])
@pytest.mark.parametrize("domain", ["photo", "sketch", "mask"])
def test_a_class_that_may_not_be_read_is_named_and_does_not_stop_the_others(own, domain, mode):
    closed = photo(own / domain / "cat" / "a.png").parent
    closed.chmod(mode)
    (own / "sketch" / "dog" / "a.png").chmod(0)
    os.mkfifo(own / "photo" / "dog" / "pipe.png")
    named = r"cat cannot be read \(Permission denied\)"
    with nobody(), refused(rf"{own / domain} .*{named}.*make them readable.*skip_broken=True"):
        load_dataset("folder", own)
    with nobody(), pytest.warns(UserWarning, match=named) as told:
        found = load_dataset("folder", own, skip_broken=True)
    said = " ".join(str(warning.message) for warning in told)
    assert "dog/pipe.png" in said and "sketch/dog/a.png cannot be read (Permission denied)" in said
    assert found.categories == (("cat", "dog", "owl") if domain == "mask" else ("dog", "owl"))
    closed.rename(own / "photo" / "lost+found")
    with nobody(), pytest.warns(UserWarning, match=r"lost\+found cannot be read"):
        assert len(find_images(own, "photo", skip_broken=True)) == (4 if domain == "photo" else 6)


def test_a_folder_of_closed_classes_and_a_closed_root_are_told(own):
    (own / "photo").chmod(0o444)
    with nobody(), pytest.warns(UserWarning), refused(f"no photos under {own}.*: cat, dog, owl"):
        load_dataset("folder", own, skip_broken=True)
    own.chmod(0o444)
    with nobody(), refused("cannot be read", PermissionError):
        load_dataset("sketchy", own)


GIVEN = {
    "written": lambda path, folder: replace_file(Path(path), b""),
    "data_root": lambda path, folder: params.check("04_segmentation", values(folder, dataset="folder", data_root=path)),
    "output_dir": lambda path, folder: params.check("04_segmentation", values(folder, output_dir=path)),
    "backbone": lambda path, folder: params.check("04_segmentation", values(folder, backbone=path)),
    "dataset": lambda path, folder: load_dataset("folder", path),
    "loaded": lambda path, folder: load_backbone(path),
    "drawing": lambda path, folder: Drawing.load(path),
    "index": lambda path, folder: Gallery.load(path, None),
}


@pytest.mark.parametrize("path", ["loop", "x" * 300, "x/" * 3000, "a\0b", "~nobody-of-that-name/x"], ids=range(5))
@pytest.mark.parametrize("how", GIVEN)
def test_a_path_that_cannot_be_is_one_sentence_wherever_it_is_given(tmp_path, monkeypatch, how, path):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    with refused(kind=(ValueError, OSError)) as error:
        GIVEN[how](path, tmp_path)
    assert "\0" not in str(error.value) and not Path("~").exists()


def test_without_a_home_folder_settings_are_printed_and_the_default_output_dir_asks_for_another(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where no home is known
    params.check("04_segmentation", values(tmp_path))
    monkeypatch.setattr(params, "ROOT", tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    for start in (lambda: params.check("04_segmentation", values(tmp_path, output_dir="")), toyworld.ensure):
        with refused("home directory.*set HOME"):
            start()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


ARM = "checkpoints/fused-seed0"
LINKS = ["checkpoints", ARM, f"{ARM}/strict", f"{ARM}/{FILE}", f"{ARM}/strict/{FILE}", "heads/fused.safetensors"]


@pytest.mark.parametrize("place", [*LINKS, *params.OUTPUTS[1:], "masks/cat", "masks/cat.png", "denoiser_1x1_seed0/a"])
def test_through_a_link_nothing_is_removed_and_the_check_of_the_parameters_tells_what_is_no_runs_own(tmp_path, place):
    outside, at = tmp_path / "outside", tmp_path / "out" / place
    mine = [outside / FILE, outside / "strict" / FILE, outside / "fused-seed0" / "strict" / FILE]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    at.parent.mkdir(parents=True)
    wrong = [("link", lambda: at.symlink_to(outside)), ("link", lambda: at.symlink_to(mine[0]))]
    wrong += [("folder", at.mkdir)] if at.suffix == ".safetensors" else []
    wrong += [("file", at.touch)] if "/" not in place else []
    for kind, make in wrong:
        make()
        with refused(f"{at} is a {kind}, and not of the run's own making: move", FileExistsError):
            params.check("04_segmentation", values(tmp_path))
        with refused(kind=FileExistsError) if place.startswith("checkpoints") else nullcontext():
            remove_trainings(tmp_path / "out" / "checkpoints")
        at.rmdir() if kind == "folder" else at.unlink()
    assert [path.read_text() for path in mine] == ["mine"] * 3 and params.check("04_segmentation", values(tmp_path))
