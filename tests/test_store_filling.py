"""Filling a store: what is frozen comes from it as it would from memory, and each image is computed once."""

import multiprocessing
import os
import re
import resource
import signal
import time
from functools import partial
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from sfhelpers.datasets import load_dataset
from sfhelpers.fusion import ARMS, FusedExtractor
from sfhelpers.store import Filling, Store, fill, grey_image, joined, kept_bytes, precision
from sfhelpers.tasks import prepared
from sfhelpers.tasks.prepared import compute, keeping, prepare_images, prepare_pairs, take
from tests.backbone_fixtures import load, refused

IMAGES = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
NAMES = [f"image {k}" for k in range(5)]


def read(some):
    return IMAGES[list(some)]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", shard=200_000)


@pytest.mark.parametrize(
    "arm", [*ARMS.values(), {"inject": "up+down"}], ids=lambda arm: "-".join(map(str, arm.values()))
)
def test_every_arm_gets_from_the_store_what_it_gets_from_memory_and_computes_it_once(store, tiny_backbone, arm):
    extractor = FusedExtractor(tiny_backbone, dim=8, width=4, **arm)
    usual = prepare_images(extractor, read, 5, None, draws=2)
    found = fill(store, extractor, NAMES, read, 32, draws=2)
    assert found.keys() == usual.keys()
    some = torch.tensor([3, 0, 3])
    torch.testing.assert_close(take(found, some), take(usual, some), atol=1e-5, rtol=1e-5)
    extractor.fit_statistics(take(found, some))
    torch.testing.assert_close(
        compute(extractor, found, 2, None), compute(extractor, usual, 5, None), atol=1e-4, rtol=0
    )
    extractor.frozen = Mock(side_effect=AssertionError("computed again"))
    again = fill(Store(store.root), extractor, NAMES[::-1], read, 32, draws=2)
    torch.testing.assert_close(take(again, some), take(found, 4 - some), atol=0, rtol=0)


def test_arms_share_what_is_the_same_and_nothing_else(store, tiny_backbone):
    arms = {name: FusedExtractor(tiny_backbone, dim=8, width=4, **arm) for name, arm in ARMS.items()}
    fill(store, arms["fused"], NAMES, read, 32)
    fill(store, arms["late fusion"], NAMES, read, 32)
    for name, computed in {"CLIP only": [1], "SD only": [1], "fused (fixed random injection)": [1, 5]}.items():
        extractor = arms[name]
        extractor.frozen = Mock(wraps=extractor.frozen)  # of the grey image, and of all
        fill(store, extractor, NAMES, read, 32)
        assert [len(call.args[0]) for call in extractor.frozen.call_args_list] == computed
    other = FusedExtractor(tiny_backbone, dim=8, width=4, inject="random", seed=1)
    first, second = (
        fill(store, one, NAMES, read, 32, seed=0) for one in (arms["fused (fixed random injection)"], other)
    )
    assert not first["f2"][torch.tensor([0])].equal(second["f2"][torch.tensor([0])])


CHANGES = [{"seed": 1}, {"timestep": 9}, {"prompt": "a cat"}, {"draws": 2}, {"flip": True}, {"dtype": torch.float16}]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_what_changes_a_value_is_computed_anew(store, tiny_backbone, change):
    extractor = FusedExtractor(tiny_backbone, dim=8, width=4)
    fill(store, extractor, NAMES[:2], read, 32)
    extractor.frozen = Mock(wraps=extractor.frozen)
    found = fill(store, extractor, NAMES[:2], read, 32, **change)
    assert extractor.frozen.call_args_list[-1].args[0].shape[0] == 2
    usual = {name: value for name, value in change.items() if name not in ("flip", "dtype")}
    near = 2e-3 if "dtype" in change else 1e-5
    expected = prepare_images(extractor, read, 2, None, **usual)
    torch.testing.assert_close(take(found, torch.arange(2)), expected, atol=near, rtol=near)


def test_from_latents_comes_what_comes_from_the_prefix_with_less_to_keep(store, tiny_backbone):
    extractor = FusedExtractor(tiny_backbone, dim=8, width=4)
    extractor.injection.convs[0].weight.data.add_(0.1)
    prefix = fill(store, extractor, NAMES, read, 32, draws=2)
    latents = fill(store, extractor, NAMES, read, 32, draws=2, latents=True)
    assert set(latents) == {"noisy", "timestep", "text", "tokens"}
    first, second = (compute(extractor, found, 2, None) for found in (prefix, latents))
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)


def test_pairs_come_from_the_store_too(store, own, tiny_backbone):
    extractor, dataset = FusedExtractor(tiny_backbone, dim=8, width=4), load_dataset("folder", own)
    usual, found = prepare_pairs(extractor, dataset, 32), prepare_pairs(extractor, dataset, 32, store=store)
    assert found.pairs.equal(usual.pairs) and found.photo_records == usual.photo_records
    for side in ("sketches", "photos"):
        expected = getattr(usual, side)
        every = torch.arange(len(expected["hidden"]))
        torch.testing.assert_close(take(getattr(found, side), every), expected, atol=1e-5, rtol=1e-5)


class Slow:
    """An extractor that tells in a file which images it is given."""

    inject, until, sources, injected, seed = "none", 1, ("f1",), (), 0
    weight = SimpleNamespace(conv_in=SimpleNamespace(weight=torch.zeros(1)))
    backbone = SimpleNamespace(
        at_once=3,
        weights_sha256="weights",
        diffusion=SimpleNamespace(size=8, timestep=1, unet=weight),
        vision=SimpleNamespace(size=8),
    )

    def __init__(self, log):
        self.log = log

    def frozen(self, images):
        time.sleep(0.02)
        with self.log.open("ab", buffering=0) as file:
            file.write(b"".join(b"%d\n" % number for number in images[:, 0, 0, 0].tolist()))
        return {"f1": images * 2, "tokens": images + 1}


def numbered(some):
    return torch.tensor(list(some), dtype=torch.float32)[:, None, None, None].expand(-1, 3, 8, 8)


def beside(folder, log, n):
    if process := os.fork():
        return process
    try:
        fill(Store(folder, shard=20_000), Slow(log), [str(k) for k in range(n)], numbered, 8)
        os._exit(0)
    finally:
        os._exit(1)


def test_several_processes_share_the_work_and_what_one_leaves_when_killed_the_others_do(store, tmp_path):
    log, n = tmp_path / "log", 90
    log.touch()
    running = [beside(store.root, log, n) for _ in range(3)]
    while log.read_bytes().count(b"\n") < 20:
        time.sleep(0.01)
    os.kill(running[0], signal.SIGKILL)
    assert [os.waitpid(process, 0)[1] for process in running] == [signal.SIGKILL, 0, 0]
    done = [float(line) for line in log.read_text().split()]
    assert set(map(float, range(n))) <= set(done)
    assert len([k for k in done if k]) <= n + 3 + 3  # a batch twice at most, and the grey image, 0.5 as 0, by each
    found = fill(Store(store.root), Slow(log), [str(k) for k in range(n)], numbered, 8)
    assert found["f1"][torch.arange(n)].equal(numbered(range(n)) * 2) and found["tokens"][:9].equal(
        numbered(range(9)) + 1
    )
    assert len(log.read_text().split()) == len(done) and not store.verify()


def test_what_will_not_fit_is_refused_with_the_numbers_before_it_starts(tmp_path):
    log = tmp_path / "log"
    with refused("90 items need 0.138 MB, and of a budget of 0.020 MB 0.00. are taken: raise budget"):
        fill(Store(tmp_path / "store", budget=20_000), Slow(log), [str(k) for k in range(90)], numbered, 8)
    assert log.read_text().split() == ["0"]  # the grey image
    with refused("1 items need 0.002 MB, and of a budget of 0.001 MB 0.000 are taken"):
        fill(Store(tmp_path / "less", budget=1000), Slow(log), ["0"], numbered, 8)


def test_a_run_is_kept_where_it_fits_and_refused_with_the_numbers_where_nothing_does(
    tiny_backbone, tmp_path, monkeypatch
):
    extractor = FusedExtractor(tiny_backbone, dim=8, width=4)
    at_most = partial(keeping, extractor=extractor, size=96, n=1000)
    assert at_most("auto") == at_most("off") == ({}, "")
    with monkeypatch.context() as patch:
        patch.setattr(prepared, "LONG", 0.0)
        assert re.fullmatch(r"what is .* GB of memory; by one image it takes about \d+ min in all", at_most("auto")[1])
    each = kept_bytes(extractor.frozen(grey_image(96)), None)
    less = kept_bytes(
        {name: x for name, x in extractor.frozen(grey_image(96), latents=True).items() if name != "text"}, None
    )
    monkeypatch.setattr(prepared.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000 * each))
    monkeypatch.setattr(prepared.params, "runs", lambda: tmp_path)
    with monkeypatch.context() as patch:  # what two processes would both compute is shared
        patch.setattr(prepared.psutil, "virtual_memory", lambda: SimpleNamespace(available=9000 * each))
        assert at_most("auto") == ({}, "")
        patch.setenv("WORLD_SIZE", "2")
        assert at_most("auto")[0]["store"].root == tmp_path / "store"
    with refused(
        r"1,000 images at most takes \d.\d\d GB of memory, and .* are to spare: pass -p store auto", ValueError
    ):
        at_most("off")
    kept, said = at_most("auto")
    assert kept.keys() == {"store", "dtype"} and kept["store"].root == tmp_path / "store" and kept["dtype"] is None
    assert re.search(
        rf"takes \d.\d\d GB of memory: kept in \d.\d\d GB on disk in {tmp_path}/store, computed once", said
    )
    monkeypatch.setattr(prepared.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000 * less))
    kept, said = at_most(str(tmp_path / "other"))
    assert kept["latents"] and kept["store"].root == tmp_path / "other" and "as latents, computed once" in said
    monkeypatch.setattr(prepared.shutil, "disk_usage", lambda path: SimpleNamespace(free=900 * less))
    with refused(r"GB of memory or 0.\d\d GB on disk, and the store .* has room for 0.\d\d: pass -p store FOLDER"):
        at_most("auto")


def test_full_size_is_kept_in_half_precision_and_what_is_joined_stays_on_disk(store, tiny_backbone):
    sizes = [SimpleNamespace(diffusion=SimpleNamespace(size=size)) for size in (96, 256, 480)]
    assert [precision(backbone) for backbone in sizes] == [None, None, torch.float16]
    extractor = FusedExtractor(tiny_backbone, dim=8, width=4)
    found = fill(store, extractor, NAMES, read, 32)
    both, some = {name: joined(column, column) for name, column in found.items()}, torch.tensor([1, 6])
    assert len(both["hidden"]) == 10 and both["text"].stride(0) == 0
    torch.testing.assert_close(take(both, some), take(found, some % 5), atol=0, rtol=0)


def filling_of(folder, root, n):
    extractor = FusedExtractor(load(folder), dim=8, width=4)
    return Filling(Store(root), extractor, [f"image {k}" for k in range(n)], 32)


def keep_copies(folder, root, n):
    """As if n images had been computed, a thousand at a time: copies of five."""
    filling = filling_of(folder, root, n)
    few = filling.extractor.frozen(IMAGES)
    for group in filling.groups:
        for start in range(0, n, 1000):
            keys = group.keys[start : start + 1000]
            filling.store.put(keys, take({x: few[x] for x in group.names}, torch.arange(len(keys)) % 5), group.made_by)


def peak_of_training(folder, root, n, told):
    torch.set_num_threads(1)
    filling = filling_of(folder, root, n)
    assert not filling.lacking()
    extractor, found = filling.extractor, filling.columns()
    optimiser, dice = torch.optim.AdamW(extractor.parameters()), torch.Generator().manual_seed(0)
    for _ in range(100):
        optimiser.zero_grad()
        extractor(take(found, torch.randint(n, (8,), generator=dice))).square().mean().backward()
        optimiser.step()
    told.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, n * filling.each / 1e6))


@pytest.mark.slow
def test_a_training_over_a_hundred_times_as_many_stored_items_takes_the_same_memory(tiny_folder, tmp_path, capsys):
    start, peaks = multiprocessing.get_context("spawn"), {}
    for n in (500, 50_000):
        told, given = start.Queue(), (tiny_folder, tmp_path / str(n), n)
        for process in (
            start.Process(target=keep_copies, args=given),
            start.Process(target=peak_of_training, args=(*given, told)),
        ):
            process.start()
            process.join()
            assert process.exitcode == 0
        peaks[n] = told.get()
    with capsys.disabled():
        print(
            *(
                f"\n{n:,} items of {size:,.1f} MB in all: {peak:,.0f} MB at the peak"
                for n, (peak, size) in peaks.items()
            )
        )
    assert peaks[50_000][0] < peaks[500][0] + 0.1 * peaks[50_000][1]
