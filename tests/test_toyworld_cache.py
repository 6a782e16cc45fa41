"""The cached world is whole or drawn anew, by one process at a time, and nothing that is somebody else's is removed."""

import errno
import os
import random
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest

from sfhelpers.toyworld import quick, world
from tests.backbone_fixtures import files, refused

WRITE = partial(world.write_sketchy, photos=3, sketches=2, categories=("cat", "key"))
FULL = (errno.ENOSPC, errno.EDQUOT)
START = """
import time
from sfhelpers.toyworld import world
def write(root):
    print("drawn", flush=True)
    world.write_sketchy(root, photos=3, sketches=2, categories=("cat", "key"))
    time.sleep({0})
world.CACHE_MEGABYTES = 0.01
print(world.cached("toyworld", "v1", write))
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches" / "sfhelpers" / "toyworld"


def ensure(name="v1", write=WRITE):
    return world.cached("toyworld", name, write)


def start(seconds=0.0):
    """A process that wants the world v1 and, if it draws it, waits before it puts it in its place."""
    return subprocess.Popen([sys.executable, "-c", START.format(seconds)], stdout=subprocess.PIPE, text=True)


def damages(folder):
    """What a world may lose or be given: folders, files, ends of files, further files, its manifest."""
    dice, manifest = random.Random(0), folder / world.MANIFEST
    some = dice.sample(sorted(path for path in folder.rglob("*.*") if path != manifest), 5)
    yield from (partial(shutil.rmtree, path) for path in folder.rglob("*") if path.is_dir())
    yield lambda: [path.unlink() for path in folder.rglob("*-2.png")]
    yield from (path.unlink for path in (*some, manifest))
    yield from (partial(path.write_bytes, path.read_bytes()[: dice.randrange(200)]) for path in some)
    yield from (partial(shutil.copy, path, path.with_name("another" + path.suffix)) for path in some)
    yield from (partial(manifest.write_text, text) for text in ("", "{}", "[]", "3", "{", "[" * 100_000))
    yield lambda: (manifest.unlink(), os.mkfifo(manifest))


def test_a_world_that_is_not_as_it_was_drawn_is_drawn_anew_with_a_word(cache):
    drawn = files(ensure())
    for k in range(len(list(damages(cache / "v1")))):
        list(damages(cache / "v1"))[k]()
        with pytest.warns(UserWarning, match="v1 was not as it had been drawn, so it was drawn anew"):
            assert files(ensure()) == drawn
    (cache / "v1" / "Thumbs.db").touch()  # what systems leave wherever somebody looks
    ensure(write=None)
    assert {path.name for path in cache.iterdir()} <= {"v1", ".lock"}


def test_above_the_bound_those_used_longest_ago_go_whatever_their_kind(cache, monkeypatch):
    monkeypatch.setattr(quick.write_quick, "__defaults__", (1, 0.5, ("cat", "key")))
    assert quick.ensure_quick() == quick.ensure_quick()
    os.utime(ensure("v2"), (1, 1))
    monkeypatch.setattr(world, "CACHE_MEGABYTES", 2.5 * sum(map(len, files(ensure("v1")).values())) / 1e6)
    ensure("v3")
    assert {path.name for path in cache.glob("v*")} == {"v1", "v3"}


def test_the_world_of_an_earlier_look_beside_it_is_never_read_and_stays(cache, monkeypatch):
    earlier = ensure(f"v{world.VERSION - 1}-seed0-difficulty{world.DIFFICULTY:g}-{world.PHOTOS}x{world.SKETCHES}")
    before = files(earlier)
    monkeypatch.setattr(world, "write_sketchy", WRITE)
    assert (new := world.ensure()) != earlier and new.parent == earlier.parent == cache
    assert files(earlier) == before and files(new)


def test_starts_at_once_on_a_cache_over_its_bound_all_find_the_world_and_it_is_drawn_once(cache):
    for k in range(6):
        ensure(f"v0-{k}")
    found = [process.communicate(timeout=60)[0].split() for process in [start() for _ in range(3)]]
    assert sorted(map(len, found)) == [1, 1, 2] and {words[-1] for words in found} == {str(cache / "v1")}
    assert [path.name for path in cache.glob("v*")] == ["v1"] and ensure(write=None)


def test_what_a_killed_process_left_goes_and_what_a_live_one_writes_stays(cache):
    ensure("v0")
    for killed in (True, False):
        process = start(600 if killed else 2)
        assert process.stdout.readline() == "drawn\n"
        (part,) = cache.glob("part-*")
        assert ensure("v0", None) == cache / "v0" and part.is_dir(), "a whole world waits for nobody"
        if killed:
            process.kill()
            process.wait()
            assert part.is_dir() and ensure("v0", None) and not part.exists()
    assert process.communicate(timeout=60)[0].strip() == str(cache / "v1") and not part.exists()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, *FULL])
def test_a_cache_that_takes_nothing_serves_if_it_holds_the_world_and_says_what_helps_if_not(cache, monkeypatch, number):
    folder, fail = ensure(), Mock(side_effect=OSError(number, os.strerror(number)))
    monkeypatch.setattr(os, "utime", fail)
    monkeypatch.setattr(Path, "write_bytes" if number in FULL else "mkdir", fail)
    assert ensure(write=None) == folder
    next(folder.rglob("*.jpg")).unlink()
    with refused("make room on its disk" if number in FULL else "set the variable XDG_CACHE_HOME", OSError):
        ensure()
    assert not list(cache.glob("part-*"))


@pytest.mark.filterwarnings("ignore:.* drawn anew")
def test_nothing_is_removed_through_a_link(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(world, "CACHE_MEGABYTES", 0)
    outside = tmp_path / "outside"
    for name in ("v0", "part-x", "toyworld/v0", "toyworld/part-y"):
        (outside / name).mkdir(parents=True)
        (outside / name / "a.png").touch()
    before = files(outside)
    cache.mkdir(parents=True)
    for name, to in (("part-x", "part-x"), ("v0", "v0"), ("v1", "v0")):
        (cache / name).symlink_to(outside / to)
    ensure()
    for level in (cache, cache.parent):
        shutil.rmtree(level)
        level.symlink_to(outside)
        ensure()
        level.unlink()
        level.mkdir()
    assert before.items() <= files(outside).items()
