"""The store: what is kept is found again as it was, whatever is killed, full, damaged or joined meanwhile."""

import json
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors import SafetensorError

from sfhelpers.store import Store, item_key, shards
from sfhelpers.store import store as stores
from sfhelpers.store.__main__ import main
from tests.backbone_fixtures import refused

MADE = {"of": "a test"}


def item(number):
    """What must be found under a key for ever: (1, 2000) numbers that tell which item they are."""
    return torch.arange(2000).add(number * 7919).sin()[None]


def key(number):
    return item_key(MADE, str(number))


def wrong(store, numbers):
    """Which of these items are not there as they were made."""
    store.refresh()
    return [k for k in numbers if key(k) not in store.places or not store.get([key(k)])["x"].equal(item(k))]


def put(store, *numbers, **options):
    store.put([key(k) for k in numbers], {"x": torch.cat([item(k) for k in numbers])}, MADE, **options)


def names(store):
    return sorted(path.name for path in store.root.glob("*.safetensors"))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", shard=40_000)


def test_items_come_back_as_they_were_in_any_order_and_twice_from_another_process_too(store):
    tensors = {"half": torch.randn(3, 2, 5).half(), "n": torch.arange(3), "on": torch.tensor([True, False, True])}
    store.put(["a", "b", "c"], tensors)
    put(store, 1)
    for again in (store, Store(store.root, create=False)):
        found = again.get(["c", "a", "c"])
        assert found.keys() == tensors.keys()
        assert all(
            found[name].equal(tensors[name][[2, 0, 2]]) and found[name].dtype == tensors[name].dtype for name in found
        )
        assert again.get(["b"], ["n"]).keys() == {"n"}
        assert again.missing(["b", "d", key(1), "e"]) == ["d", "e"]


def test_what_is_there_is_not_written_again(store):
    put(store, 1)
    before = names(store)
    store.put([key(1)], {"x": torch.zeros(1, 2000)}, MADE)
    assert names(store) == before and not wrong(store, [1])
    store.put([key(2), key(1), key(2)], {"x": torch.cat([item(2), item(9), item(2)])}, MADE)
    assert not wrong(store, [1, 2]) and sum(store.sizes().values()) < 2.2 * 8000


def test_everything_that_changes_a_value_changes_the_key():
    made = {"weights_sha256": "a", "timestep": 1, "prompt": "", "seed": 0, "draws": 1, "kept": "None"}
    keys = [item_key(made | {name: value}, "x") for name, value in [*made.items(), *((name, 2) for name in made)]]
    keys += [item_key(made, "y"), item_key(made, "x", flip=True), item_key(dict(reversed(made.items())), "x")]
    assert len(set(keys)) == len(made) + 3


def test_small_shards_are_joined_and_readers_that_knew_them_go_on(store):
    reader = Store(store.root)
    for number in range(4):
        put(store, number)
        assert not wrong(reader, range(number + 1))
    assert len(names(reader)) == 4
    put(store, 4)
    assert reader.get([key(2), key(0)])["x"].equal(torch.cat([item(2), item(0)]))
    assert len(names(store)) == 1 and not wrong(store, range(5))
    put(store, 5)
    assert len(names(store)) == 2  # the large one is left as it is
    assert not store.verify()


def test_half_precision_says_how_far_off_it_is_and_refuses_what_it_cannot_hold(store, capsys):
    put(store, 1, dtype=torch.float16)
    found, given = store.get([key(1)])["x"], item(1)
    off = float((found - given).abs().max() / given.abs().max())
    assert found.dtype == torch.float32 and 0 < off < 2**-11
    assert sum(store.sizes().values()) < 5000
    assert main(["info", str(store.root)]) == 0
    assert f"error {off:.1e} of the largest value" in capsys.readouterr().out
    with refused(r"x has values up to 1e\+05, which torch.float16 cannot hold: keep it in torch.bfloat16, .*\.$"):
        store.put(["large"], {"x": torch.full((1, 2), 1e5)}, dtype=torch.float16)
    store.put(["large"], {"x": torch.full((1, 2), 1e5)}, dtype=torch.bfloat16)
    with refused("float64 is no half precision"):
        store.put(["other"], {"x": torch.ones(1, 2)}, dtype=torch.float64)


def test_a_folder_that_is_no_store_or_of_another_version_is_refused_and_left(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    with refused(rf"^{tmp_path} has no store.json and is no store: name one, or an empty folder to begin one in\.$"):
        Store(tmp_path)
    with refused(rf"there is no store {tmp_path / 'none'}", FileNotFoundError):
        Store(tmp_path / "none", create=False)
    assert os.listdir(tmp_path) == ["mine.txt"]
    store = Store(tmp_path / "store")
    put(store, 1)
    (store.root / "store.json").write_text(json.dumps({"format": 99}))
    for command in ("info", "verify", "gc"):
        assert main([command, str(store.root)]) == 1
        said = capsys.readouterr().err
        assert re.fullmatch(r"the store .* was written by another version of sfhelpers .*99.*\.\n", said)
    assert len(names(store)) == 1


def test_a_budget_smaller_than_an_item_and_one_that_is_used_up_lose_nothing(tmp_path):
    small = Store(tmp_path / "store", budget=7_000)
    with refused(
        r"no room: 1 items need 0.008 MB, and of a budget of 0.007 MB 0.000 are taken: raise budget, or .*gc\.$"
    ):
        put(small, 1)
    assert names(small) == []
    store = Store(small.root, budget=20_000)
    put(store, 1, 2)
    with refused("no room"):
        put(store, 3)
    assert not wrong(store, [1, 2])


@pytest.mark.parametrize("step", ["save_file", "replace"])
def test_a_full_disk_is_one_sentence_with_the_bytes_and_what_is_there_stays(store, monkeypatch, step):
    put(store, 1)

    def full(*args, **options):
        if step == "replace":
            raise OSError(28, "No space left on device")
        (store.root / "half" / "shard").write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(shards.os if step == "replace" else shards, step, full)
    with refused(
        r"store could not be written \(No space left on device\): make room for 0.0 MB on its disk\.$", OSError
    ):
        put(store, 2)
    monkeypatch.undo()
    assert not list((store.root / "half").iterdir())
    assert not wrong(store, [1]) and store.missing([key(2)]) == [key(2)]
    put(store, 2)
    assert not wrong(store, [1, 2])


@pytest.mark.parametrize("bits", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_verify_finds_every_flipped_bit_and_gc_removes_what_it_found(store, capsys, bits):
    put(store, 1, 2)
    put(store, 3)
    path, dice = store.root / max(store.sizes().items(), key=lambda one: one[1])[0], random.Random(0)
    whole = path.read_bytes()
    assert main(["verify", str(store.root)]) == 0
    for _ in range(bits):
        place = dice.choice((dice.randrange(400), dice.randrange(len(whole))))  # the index, and anywhere
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << dice.randrange(8)]) + whole[place + 1 :])
        assert Store(store.root).verify() == [path]
    capsys.readouterr()
    assert main(["verify", str(store.root)]) == 1
    assert re.fullmatch(rf"{path} is damaged, not as it was written: python -m .* gc .*\.\n", capsys.readouterr().err)
    assert main(["gc", str(store.root)]) == 0
    again = Store(store.root)
    assert again.missing([key(k) for k in (1, 2, 3)]) == [key(1), key(2)] and not wrong(again, [3])


@pytest.mark.parametrize("cut", [0, 5, 100, 8000])
def test_a_shard_that_cannot_be_read_is_one_sentence_and_gc_mends_the_store(store, cut):
    put(store, 1)
    (name,) = names(store)
    os.truncate(store.root / name, cut)
    with refused(rf"{name} is damaged, not as it was written: python -m sfhelpers.store gc .*computed again\.$"):
        Store(store.root).missing([key(1)])
    store.gc()
    put(store, 1)
    assert not wrong(Store(store.root), [1])


def test_a_damaged_shard_is_never_joined_under_a_new_checksum(store):
    for number in range(4):
        put(store, number)
    path = store.root / names(store)[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with refused("is damaged"):
        put(store, 4)
    assert store.verify() == [path]
    store.gc()
    lost = store.missing([key(k) for k in range(5)])
    assert len(lost) == 1 and not wrong(store, [k for k in range(5) if key(k) not in lost])


def test_what_a_kill_between_joining_and_removing_leaves_twice_is_found_once_more(store, monkeypatch):
    for number in range(4):
        put(store, number)
    copies = {name: (store.root / name).read_bytes() for name in names(store)}
    put(store, 4)
    for name, content in copies.items():  # as if none had been removed
        (store.root / name).write_bytes(content)
    assert not wrong(Store(store.root), range(5))
    store.gc()
    assert len(names(store)) == 1 and not wrong(Store(store.root), range(5))


def test_joining_two_copies_of_one_item_leaves_one(store):
    put(store, 1)
    (name,) = names(store)
    content = (store.root / name).read_bytes()
    (store.root / name).unlink()
    store.put([key(1)], {"x": item(1)}, {"of": "others"})
    (store.root / name).write_bytes(content)
    assert len(names(store)) == 2
    store.gc()
    assert len(names(store)) == 1 and not wrong(Store(store.root), [1])


def test_a_file_that_is_not_the_stores_is_neither_read_nor_removed(store):
    put(store, 1)
    (store.root / "model.safetensors").write_bytes(b"mine")
    assert not wrong(Store(store.root), [1]) and not store.verify() and not store.gc()
    assert (store.root / "model.safetensors").read_bytes() == b"mine"


def test_gc_with_a_budget_removes_the_oldest_and_says_which(store, capsys):
    for number in range(3):
        put(store, 5 * number, *range(5 * number + 1, 5 * number + 5))
    oldest = next(iter(store.sizes()))
    assert main(["gc", str(store.root), "--budget", "0.00009"]) == 0
    said = capsys.readouterr().out
    assert f"{store.root / oldest} is removed." in said and "10 items in 1 shards" in said
    assert store.missing([key(k) for k in range(15)]) == [key(k) for k in range(5)]
    with refused(r"1 of 2 items are not in the store .*: fill it again", LookupError):
        store.get([key(0), key(9)])


def test_gc_removes_nothing_while_another_fills_the_store(store):
    put(store, 1)
    with store.claim([key(2)], 1) as claimed:
        assert claimed == [key(2)]
        with Store(store.root).claim([key(2), key(3)], 2) as others:
            assert others == [key(3)]
        with refused("is being written by another process: wait until it has ended; nothing was removed", RuntimeError):
            store.gc(0)
    assert not wrong(store, [1]) and not list((store.root / "claims").iterdir())
    store.gc(0)
    assert names(store) == []


def test_a_process_that_does_not_end_its_writing_is_waited_for_and_then_told(store, monkeypatch):
    monkeypatch.setattr(stores, "WAIT", 0.1)
    put(store, 1)
    with FileLock(store.root / ".lock"):
        with refused("has been written by another process for 0 s: wait until it has ended, or end it", TimeoutError):
            put(store, 2)
        assert not wrong(store, [1])


@pytest.mark.parametrize(
    ("owner", "step", "before"),
    [
        (os, "fsync", 0),
        (os, "replace", 0),
        (os, "fsync", 1),
        (os, "replace", 1),
        (Path, "unlink", 0),
        (Path, "unlink", 2),
        (Path, "unlink", 4),
    ],
)
def test_a_kill_at_any_step_of_writing_and_joining_loses_no_finished_item(store, owner, step, before):
    for number in range(4):
        put(store, number)
    if (process := os.fork()) == 0:
        usual, calls = getattr(owner, step), []

        def last(*args, **options):
            calls.append(args)
            return usual(*args, **options) if len(calls) <= before else os.kill(os.getpid(), signal.SIGKILL)

        setattr(owner, step, last)
        put(store, 4)  # which joins them all
        os._exit(0)
    assert os.waitpid(process, 0)[1] == signal.SIGKILL
    again = Store(store.root, shard=40_000)
    finished = range(4 if (owner, before) == (os, 0) else 5)
    assert not wrong(again, finished) and not again.verify()
    put(again, 4)
    again.gc()
    assert len(names(again)) == 1 and not wrong(again, range(5)) and not list((again.root / "half").iterdir())


def work(folder, items, log):
    """Claim and put items, three at a time, and log each one that is done."""
    store, places = Store(folder, shard=40_000), {key(k): k for k in range(items)}
    while lacking := store.missing(list(places)):
        with store.claim(lacking, 3) as claimed:
            if claimed:
                put(store, *(places[one] for one in claimed))
                os.write(log, b"".join(b"%d\n" % places[one] for one in claimed))


def begun(*what):
    """The number of a process that works beside this one."""
    if process := os.fork():
        return process
    try:
        work(*what)
        os._exit(0)
    finally:
        os._exit(1)


def kill_while_writing(folder, writers, kills, dice, longest=0.1):
    """How often a kill met a shard half written; processes fill a store, are killed at any moment, and begin anew."""
    met, said = 0, folder.with_suffix(".log")
    log = os.open(said, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    for turn in range(kills + 1):
        done = [int(line) for line in said.read_text().split()]
        running = [begun(folder, 10_000 if turn < kills else max(done) + 5, log) for _ in range(writers)]
        if turn < kills:
            while said.read_text().count("\n") == len(done):
                time.sleep(0.01)
            time.sleep(dice.random() * longest)
            for process in running:
                os.kill(process, signal.SIGKILL)
        ended = [os.waitpid(process, 0)[1] for process in running]
        done = [int(line) for line in said.read_text().split()]
        store = Store(folder)
        assert not wrong(store, done) and not store.verify()  # no finished item is lost, and no number is wrong
        met += any((folder / "half").iterdir())
    assert ended == [0] * writers and not wrong(store, range(max(done)))
    assert len(done) == len(set(done))  # and each was made by one of them
    os.close(log)
    return met


MANY = [pytest.param(writers, kills, marks=pytest.mark.slow) for writers, kills in ((1, 50), (2, 10))]


@pytest.mark.parametrize(("writers", "kills"), [(1, 4), (2, 3), *MANY])
def test_kills_at_any_moment_lose_no_finished_item_and_leave_no_wrong_number(tmp_path, writers, kills):
    kill_while_writing(tmp_path / "store", writers, kills, random.Random(writers))
    store = Store(tmp_path / "store", shard=40_000)
    store.gc()
    store.refresh()
    kept = [key for blocks in store.index.values() for block in blocks for key in block["keys"]]
    assert len(kept) == len(set(kept)) and list((store.root / "half").iterdir()) == []
