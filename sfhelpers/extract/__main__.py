"""Extract features of all images in a folder and below it into a store; a job that was stopped goes on."""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from sfhelpers.datasets.records import listed
from sfhelpers.extract.engines import ENGINES, ray_data
from sfhelpers.extract.job import KEPT, WHAT, Job, Plan, broken, find, planned, without, write_list
from sfhelpers.files import given, shown
from sfhelpers.store import Store

TABLE = "\n".join(f"  {name:<10} {told}" for name, told in WHAT.items())


def arguments() -> argparse.ArgumentParser:
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m sfhelpers.extract", description=__doc__, epilog=TABLE, formatter_class=shape
    )
    add = parser.add_argument
    add("folder", help="of images, with folders below it")
    add("out", help="folder of the store, which any number of jobs fill together")
    add("--backbone", default="pocket", help="as of a notebook: pocket, sd21, sd21+dinov3-b16 or a folder")
    add("--what", choices=WHAT, default="prefix", help="see below")
    add("--engine", choices=ENGINES, default="local", help="processes of this machine, or Ray's actors")
    add("--workers", type=int, default=1, help="processes or actors; on several GPUs, each takes the next one")
    add("--batch", type=int, default=0, help="images at a time (0: as many as suit the backbone)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--dtype", choices=["auto", *KEPT], default="auto", help="kept on disk (auto: float16 at full size)")
    add("--seed", type=int, default=0, help="of the noise")
    add("--budget", type=float, default=100.0, help="GB that the store may take")
    add("--skip-broken", action="store_true", help="leave out images that cannot be read")
    add("--plan", action="store_true", help="only say how many there are to do, and what that takes")
    return parser


def told(job: Job, plan: Plan, workers: int) -> str:
    """What is to be done, and, after a batch was tried, how long that takes."""
    done, todo = len({digest for _, digest in job.images}) - len(plan.lacking), len(plan.lacking)
    said = f"{len(job.images):,} images, {done:,} extracted already, {todo:,} to do: {plan.each * todo / 1e9:,.3f} GB"
    if not plan.seconds:
        return said
    cards = torch.cuda.device_count() if torch.cuda.is_available() and job.device in ("auto", "cuda") else 1
    hours = plan.seconds / plan.at_once * todo / 3600
    said += f"\n{plan.seconds:.2f} s a batch of {plan.at_once}: {hours:.2f} hours of this device"
    return f"{said}, {hours / min(workers, cards):.2f} with {workers} workers on {cards}"


def main(given_arguments: list[str] | None = None) -> int:
    asked = arguments().parse_args(given_arguments)
    try:
        return extract(asked)
    except (ValueError, OSError, RuntimeError, ModuleNotFoundError) as error:
        print(f"problem: {error}", file=sys.stderr)
        return 1


def extract(asked: argparse.Namespace) -> int:
    for name, least in (("workers", 1), ("batch", 0)):
        if (value := getattr(asked, name)) < least:
            raise ValueError(f"--{name} is {value}: give {least} or more.")
    if asked.engine == "ray":
        ray_data()
    root, images = find(asked.folder)
    about = asked.backbone, asked.what, asked.device, asked.dtype, asked.seed, asked.batch, asked.budget * 1e9
    job = Job(root, given(asked.out).absolute(), images, *about)
    if asked.plan:
        with tempfile.TemporaryDirectory() as aside:
            job = job if job.out.exists() else replace(job, out=Path(aside))
            print(told(job, planned(job, tried=True), asked.workers))
        return 0
    plan = planned(job)
    print(told(job, plan, asked.workers))
    if wrong := broken(job, plan):
        said = f"{len(wrong)} of {len(images)} images under {shown(root)} cannot be used ({listed(wrong.values())})"
        if not asked.skip_broken:
            raise ValueError(f"{said}: repair them or take them away, or pass --skip-broken.")
        print(f"{said} and are left out.", file=sys.stderr)
        job, plan = without(job, plan, wrong)
    if plan.lacking:
        Store(job.out, job.budget).check_room(plan.each * len(plan.lacking), len(plan.lacking))
        ENGINES[asked.engine](replace(job, batch=plan.at_once), plan.lacking, asked.workers)
    return ended(job, plan)


def ended(job: Job, plan: Plan) -> int:
    """Look that nothing is missing, and list what is there."""
    keys = [key for some in plan.keys.values() for key in some]
    if gone := Store(job.out).missing(keys):
        raise RuntimeError(f"{len(gone)} of {len(keys)} items are not in {shown(job.out)}: start it again to go on.")
    path = write_list(job, plan)
    print(f"{len(job.images):,} images are in {shown(job.out)}, under the keys that {path.name} lists")
    return 0


if __name__ == "__main__":
    sys.exit(main())
