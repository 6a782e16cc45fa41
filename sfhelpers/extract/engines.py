"""Who does the work: processes of this machine, or Ray's actors on any number of them."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import torch

from sfhelpers.extract.job import Job
from sfhelpers.params import resolve_device

START = "spawn"  # since a GPU cannot be used after a fork
ATTEMPTS = 3  # with workers that are killed all at once


def over_processes(job: Job, lacking: list[int], workers: int) -> None:
    """Each claims what nobody else is at, so that what a killed one leaves is taken up by the others, or, without
    any, by new ones. ChildProcessError if all end before all is done."""
    start, codes = multiprocessing.get_context(START).Process, []
    for _ in range(ATTEMPTS):
        processes = [start(target=_work, args=(job, lacking, number, workers)) for number in range(workers)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        codes = [process.exitcode for process in processes]
        if 0 in codes:  # one that found nothing more to do
            return
        if max(codes) > 0:  # it has said why
            break
    how = f"by signal {-min(codes)}" if min(codes) < 0 else "with an error"
    said = f"all {workers} workers ended {how} before all was extracted"
    raise ChildProcessError(f"{said}: start it again to go on from here, with fewer workers if memory was short.")


def _work(job: Job, lacking: list[int], number: int, workers: int) -> None:
    device, parent = resolve_device(job.device), multiprocessing.parent_process()
    if device.startswith("cuda") and workers > 1:
        device = f"cuda:{number % torch.cuda.device_count()}"
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    try:
        filling = job.filling(device)
        filling.images = [job.images[k][1] for k in lacking]
        read = job.reader(filling.size, lacking)

        def read_for(some):
            if not parent.is_alive():  # the job was killed
                sys.exit(1)
            return read(some)

        filling.complete(read_for, None if number else "extracting", job.batch)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"worker {number}: {_first_line(error)}", file=sys.stderr)
        sys.exit(1)


class Actor:
    """A worker of Ray's: it keeps its backbone between batches."""

    def __init__(self, job: Job):
        self.job, self.filling = job, job.filling()

    def __call__(self, batch: dict) -> dict:
        which = batch["at"].tolist()
        part = replace(self.filling, images=[self.job.images[k][1] for k in which])
        part.complete(self.job.reader(part.size, which), batch=self.job.batch)
        return batch


def ray_data() -> ModuleType:
    """Ray with Ray Data, an extra; ModuleNotFoundError without it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    try:
        import ray.data  # takes seconds
    except ImportError as error:
        said = f"the engine ray needs Ray Data, which cannot be imported ({_first_line(error)})"
        raise ModuleNotFoundError(f"{said}: pip install 'sfhelpers[ray]', or use --engine local.") from error
    return ray


def over_ray(job: Job, lacking: list[int], workers: int) -> None:
    """Ray's actors, on the cluster of RAY_ADDRESS or on this machine; RuntimeError if it gives up. Several machines
    need the images, the backbone and the store under the same paths."""
    ray = ray_data()
    own = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": max(workers + 1, os.cpu_count() or 1)}
    ray.init(include_dashboard=False, log_to_driver=False, **own)
    gpus = {"num_gpus": 1} if resolve_device(job.device).startswith("cuda") else {}
    try:
        rows = ray.data.from_items([{"at": k} for k in lacking])
        pool = ray.data.ActorPoolStrategy(size=workers)
        about = {"compute": pool, "fn_constructor_args": (job,), "num_cpus": 1, **gpus}
        for _ in rows.map_batches(Actor, batch_size=job.batch, **about).iter_batches(batch_size=None):
            pass
    except ray.exceptions.RayError as error:
        said = f"Ray gave up before all was extracted ({_first_line(getattr(error, 'cause', None) or error)})"
        raise RuntimeError(f"{said}: start it again to go on from here.") from error
    finally:
        ray.shutdown()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


ENGINES: dict[str, Callable[[Job, list[int], int], None]] = {"local": over_processes, "ray": over_ray}
