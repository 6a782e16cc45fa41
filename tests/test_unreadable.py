"""What the system says no to: each error names the path and the true reason, nothing hangs, and the rest goes on."""

import os
import tempfile
from contextlib import contextmanager, nullcontext
from itertools import product
from pathlib import Path

import pytest

from sfhelpers import params, results, toyworld
from sfhelpers.backbones import load_backbone
from sfhelpers.backbones.encoders import load_encoder
from sfhelpers.backbones.presets import read_preset
from sfhelpers.datasets import load_dataset
from sfhelpers.drawing import Drawing
from sfhelpers.files import file_sha256, replace_file
from sfhelpers.images import image_size, open_image, open_mask
from sfhelpers.kept import FILE, Checkpoint, remove_trainings
from sfhelpers.search.gallery import Gallery, find_images
from sfhelpers.tasks.heads import load_head
from tests.backbone_fixtures import refused
from tests.search_helpers import photo
from tests.test_params import values

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
