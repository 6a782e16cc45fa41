"""Extraction: the same rows from every engine, each image once, whatever is killed."""

import csv
import os
import re
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from sfhelpers.extract import engines
from sfhelpers.extract.__main__ import main
from sfhelpers.extract.job import WHAT, Job, find, planned
from sfhelpers.fusion import FusedExtractor
from sfhelpers.images import load_images
from sfhelpers.store import Filling, Store, fill
from sfhelpers.tasks.arms import reading_size
from tests.backbone_fixtures import files, photo, refused
from tests.test_store_filling import Slow, numbered

N = 60


@pytest.fixture
def images(tmp_path):
    """Nine images in two folders, one of them twice, and what is none."""
    for k in range(8):
        photo(tmp_path / "images" / "ab"[k % 2] / f"{k}.png", k)
    photo(tmp_path / "images" / "again.png", 0)
    photo(tmp_path / "images" / ".hidden" / "9.png", 9)
    (tmp_path / "images" / "notes.txt").write_text("mine")
    return tmp_path / "images"


def extract(*given):
    return main([*map(str, given), "--device", "cpu"])


def listed(out, what):
    (path,) = Path(out).glob(f"{what}-*.csv")
    return list(csv.DictReader(path.open(encoding="utf-8")))


def test_two_processes_extract_what_the_backbone_gives_and_a_second_run_computes_nothing(
    images, tiny_folder, tiny_backbone, tmp_path, capsys
):
    given = (images, tmp_path / "out", "--backbone", tiny_folder, "--what", "pooled", "--batch", 2)
    assert extract(*given, "--plan") == 0
    plan = r"9 images, 0 extracted already, 8 to do: 0.000 GB\n.* s a batch of 2: 0.00 hours of this device, .*\n"
    assert re.fullmatch(plan, capsys.readouterr().out) and not (tmp_path / "out").exists()
    assert extract(*given, "--workers", 2) == 0
    assert capsys.readouterr().out.startswith("9 images, 0 extracted already, 8 to do: 0.000 GB\n9 images are in ")
    table = listed(tmp_path / "out", "pooled")
    assert [row["path"] for row in table] == [
        *(f"a/{k}.png" for k in range(0, 8, 2)),
        "again.png",
        *(f"b/{k}.png" for k in range(1, 8, 2)),
    ]
    found = Store(tmp_path / "out").get([row["pooled"] for row in table])
    branches = ("f1", "f2", "f3", "tokens")
    expected = FusedExtractor(tiny_backbone, inject="none", branches=branches).frozen(
        load_images([images / row["path"] for row in table], reading_size(tiny_backbone))
    )
    for name in branches:
        torch.testing.assert_close(found[f"mean {name}"], expected[name].mean((2, 3)), atol=1e-5, rtol=1e-5)
    before = files(tmp_path / "out")
    assert extract(*given) == 0
    assert "9 images, 8 extracted already, 0 to do" in capsys.readouterr().out and files(tmp_path / "out") == before


def test_what_is_extracted_has_keys_of_its_own_and_a_training_reads_it(images, tiny_folder, tiny_backbone, tmp_path):
    root, found = find(images)
    jobs = [Job(root, tmp_path / "out", found, str(tiny_folder), what, "cpu") for what in WHAT]
    fillings = {job.what: job.filling() for job in jobs}
    for job, filling in zip(jobs, fillings.values(), strict=True):
        computed = job.what == "tokens"  # by what came before
        assert bool(filling.lacking()) != computed
        filling.complete(job.reader(filling.size))
        assert planned(job).lacking == []
    keys = [key for filling in fillings.values() for group in filling.groups for key in set(group.keys)]
    assert len(set(keys)) == 8 * 5  # tokens, prefix, latents, means, embedding
    extractor, digests = FusedExtractor(tiny_backbone), [digest for _, digest in found]
    extractor.frozen = Mock(side_effect=AssertionError("computed again"))
    size = reading_size(tiny_backbone)
    for noise in ({}, {"latents": True}):
        kept = fill(Store(tmp_path / "out"), extractor, digests, None, size, **noise)
        assert ("hidden" in kept) != bool(noise) and len(kept["tokens"]) == 9


def test_what_cannot_be_extracted_is_one_sentence(images, tiny_folder, tmp_path, capsys):
    def said(*given):
        assert extract(*given, "--backbone", tiny_folder) == 1
        err = capsys.readouterr().err
        assert err.startswith("problem: ") and err.count("\n") == 1
        return err

    out = tmp_path / "out"
    assert "there is no folder" in said(tmp_path / "none", out)
    (tmp_path / "empty").mkdir()
    assert "no image is in" in said(tmp_path / "empty", out)
    assert "--workers is 0: give 1 or more." in said(images, out, "--workers", 0)
    assert "has no store.json and is no store" in said(images, images)
    assert "no room: 8 items need" in said(images, out, "--what", "tokens", "--budget", "1e-5")
    (images / "a" / "0.png").write_bytes(b"\x89PNG broken")
    told = r"1 of 9 images under .* cannot be used \(a/0.png is not an image that can be read\): .* --skip-broken\."
    assert re.search(told, said(images, out, "--what", "tokens"))


def test_a_broken_image_is_left_out_on_demand(images, tiny_folder, tmp_path, capsys):
    (images / "a" / "0.png").write_bytes(b"\x89PNG broken")
    given = (images, tmp_path / "out", "--backbone", tiny_folder, "--what", "embedding", "--skip-broken")
    assert extract(*given) == 0
    assert "a/0.png is not an image that can be read) and are left out." in capsys.readouterr().err
    table = listed(tmp_path / "out", "embedding")
    assert len(table) == 8 and "a/0.png" not in {row["path"] for row in table}
    assert len(Store(tmp_path / "out").get([row["embedding"] for row in table])["embedding"]) == 8


def test_without_ray_its_engine_says_what_is_missing_before_anything_starts(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert extract(images, tmp_path / "out", "--engine", "ray") == 1
    assert re.fullmatch(
        r"problem: the engine ray needs Ray Data, .*sfhelpers\[ray\]'.*local\.\n", capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


class Mortal(Slow):
    """An extractor whose process dies in a batch as long as there is something in a folder, which it takes away."""

    def frozen(self, images):
        for path in self.log.parent.glob("kill*"):
            path.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().frozen(images)


@dataclass(frozen=True)
class Numbers(Job):
    """A job whose images are numbers; it logs which of them are computed."""

    def filling(self, device=""):
        digests = [digest for _, digest in self.images]
        return Filling(Store(self.out, shard=20_000), Mortal(self.root / "log"), digests, 8)

    def reader(self, size, which=None):
        every = list(range(len(self.images)) if which is None else which)
        return lambda some: numbered([every[k] + 1 for k in some])

    @property
    def computed(self):
        """The numbers but for the grey image, which is written as 0."""
        return sorted(float(line) for line in (self.root / "log").read_text().split() if line != "0")

    def is_whole(self):
        found = fill(Store(self.out), Mortal(self.root / "log"), [d for _, d in self.images], None, 8)
        return found["f1"][torch.arange(N)].equal(numbered(range(1, N + 1)) * 2) and not Store(self.out).verify()


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "START", "fork")  # so that no process has to import everything
    (tmp_path / "log").touch()
    return Numbers(tmp_path, tmp_path / "out", tuple((str(k), str(k)) for k in range(N)), "", device="cpu")


EVERY = [float(k) for k in range(1, N + 1)]


def kills(job, number):
    for k in range(number):
        (job.root / f"kill{k}").touch()


@pytest.mark.parametrize(("workers", "number"), [(2, 1), (3, 2), (1, 2)])
def test_workers_that_are_killed_cost_a_retry_and_each_image_is_computed_once(job, workers, number):
    kills(job, number)
    engines.over_processes(job, list(range(N)), workers)
    assert job.computed == EVERY and job.is_whole() and not list(job.root.glob("kill*"))


def test_when_all_workers_are_killed_again_and_again_that_is_said_and_the_next_job_goes_on(job):
    half = list(range(N // 2))
    engines.over_processes(job, half, 1)
    kills(job, 3)
    with refused(
        "^all 1 workers ended by signal 9 before all was extracted: start it again to go on", ChildProcessError
    ):
        engines.over_processes(job, list(range(N)), 1)
    assert job.computed == EVERY[: N // 2]
    engines.over_processes(job, list(range(N)), 1)
    assert job.computed == EVERY and job.is_whole()


def test_an_error_of_the_workers_own_is_told_by_them_and_not_tried_again(job, capfd):
    job = replace(job, out=job.root / "log")  # a file
    with refused("^all 2 workers ended with an error before all was extracted", ChildProcessError):
        engines.over_processes(job, list(range(N)), 2)
    assert sorted(line[:10] for line in capfd.readouterr().err.splitlines()) == ["worker 0: ", "worker 1: "]


def beside(job):
    if process := os.fork():
        return process
    try:
        engines.over_processes(job, list(range(N)), 2)
        os._exit(0)
    finally:
        os._exit(1)


def test_a_job_that_is_killed_goes_on_where_it_was_and_computes_a_batch_twice_at_most(job):
    process = beside(job)
    while len(job.computed) < N // 4:
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    assert len(job.computed) < N
    engines.over_processes(job, list(range(N)), 2)
    assert sorted(set(job.computed)) == EVERY and len(job.computed) <= N + Slow.backbone.at_once and job.is_whole()


def test_two_jobs_with_one_output_share_the_work(job):
    process = beside(job)
    engines.over_processes(job, list(range(N)), 2)
    assert os.waitpid(process, 0)[1] == 0
    assert job.computed == EVERY and job.is_whole()


def test_ray_gives_the_same_rows_and_an_actor_that_is_killed_costs_a_retry(images, tiny_folder, tmp_path, job):
    pytest.importorskip("ray.data")
    tables = {}
    for engine in ("local", "ray"):
        given = (images, tmp_path / engine, "--backbone", tiny_folder, "--what", "tokens", "--batch", 2)
        assert extract(*given, "--engine", engine, "--workers", 2) == 0
        tables[engine] = listed(tmp_path / engine, "tokens")
    assert tables["local"] == tables["ray"]
    keys = [row["tokens"] for row in tables["ray"]]
    one, other = (Store(tmp_path / engine).get(keys)["tokens"] for engine in tables)
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    kills(job, 1)
    engines.over_ray(replace(job, batch=3), list(range(N)), 2)
    assert job.computed == EVERY and job.is_whole() and not list(job.root.glob("kill*"))
