"""What every part of the bench measures with, and the one file that it writes."""

import json
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypeVar

import numpy as np
import psutil
import torch

from sfhelpers.files import replace_file
from sfhelpers.results import versions

Result = TypeVar("Result")
Rows = list[dict[str, Any]]


class Time(NamedTuple):
    seconds: float  # by `clock`
    wall: float


Taken = dict[Any, list[Time]]


def clock(device: str = "cpu") -> float:
    """Seconds of this process's CPU, since others on the machine would slow down a wall clock; of that one on a GPU."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def rounds(ways: Mapping[Any, Callable[[], Any]], repeats: int, device: str = "cpu", warm: bool = True) -> Taken:
    """Seconds of each way, all of them once a round, so that what disturbs one disturbs all; a first round warms up."""
    taken: Taken = {name: [] for name in ways}
    for _ in range(repeats + warm):
        for name, way in ways.items():
            start, wall = clock(device), time.perf_counter()
            way()
            taken[name].append(Time(clock(device) - start, time.perf_counter() - wall))
    return {name: some[warm:] for name, some in taken.items()}


def compared(taken: Taken, to: str, **about: Any) -> Rows:
    """A row a way: median seconds, and how many times those of `to` in each round: the median, least and most."""
    rows = []
    for name, some in taken.items():
        own, walls = zip(*some, strict=True)
        times = [one / other.seconds for one, other in zip(own, taken[to], strict=True)]
        row = {"what": name, "seconds": median(own), "lowest": min(own), "highest": max(own), "wall": median(walls)}
        row |= {"repeats": len(own), "ratio": median(times), "ratios": [min(times), max(times)], "to": to}
        rows.append(row | about)
    return rows


def on_a_line(taken: Mapping[int, Time], at: int) -> Time:
    """What a number takes, by a straight line through what a few smaller ones take."""
    return Time(*np.polyval(np.polyfit(list(taken), list(taken.values()), 1), at).tolist())


def grown(what: str, taken: Mapping[int, float]) -> dict[str, Any]:
    """A row that tells with which power of a number the seconds grow."""
    exponent = float(np.polyfit(np.log(list(taken)), np.log(list(taken.values())), 1)[0])
    return {"what": what, "at": list(taken), "each": list(taken.values()), "exponent": exponent}


def peak_megabytes(function: Callable[[], Result], pause: float = 0.01) -> tuple[Result, float, float]:
    """What a function returns, this process's peak memory in MB meanwhile, and by how much that is more than before."""
    process, done = psutil.Process(), threading.Event()
    seen = [process.memory_info().rss]

    def watch() -> None:
        while not done.wait(pause):
            seen.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        result = function()
        seen.append(process.memory_info().rss)
    finally:
        done.set()
        watcher.join()
    return result, max(seen) / 1e6, (max(seen) - seen[0]) / 1e6


def machine() -> dict[str, Any]:
    """What the times depend on; no name and no path of the machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    told = {"cpu": names[0] if names else platform.processor(), "cores": os.cpu_count(), "gpu": gpu}
    return told | {"threads": torch.get_num_threads(), "memory GB": round(psutil.virtual_memory().total / 1e9)}


def tell(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    print(title)
    for row in rows:
        known = {"what", "seconds", "lowest", "highest", "wall", "repeats", "ratio", "ratios", "to"}
        parts = [f"{row['seconds']:10.4g} s" if "seconds" in row else ""]
        if row.get("to", row["what"]) != row["what"]:
            parts.append(f"{row['ratio']:.3g} times ({row['ratios'][0]:.3g} to {row['ratios'][1]:.3g}) {row['to']}")
        parts += [f"{name} {shortened(value)}" for name, value in row.items() if name not in known]
        print(f"  {row['what']:44}" + ", ".join(part for part in parts if part), flush=True)


def shortened(value: Any) -> str:
    some = value if isinstance(value, list) else [value]
    return " ".join(f"{one:.3g}" if isinstance(one, float) else str(one) for one in some)


def keep(path: Path, name: str, rows: Rows) -> None:
    """Write the rows of one part and backbone into the file, in the place of what an earlier run measured of it."""
    found = json.loads(path.read_text()) if path.exists() else {}
    found[name] = {"machine": machine(), "versions": versions(), "rows": rows}
    replace_file(path, f"{json.dumps(dict(sorted(found.items())), indent=1)}\n".encode())
