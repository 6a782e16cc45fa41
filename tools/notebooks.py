"""Runs the notebooks with papermill, executes and cleans the committed ones, and checks that they are clean.

python -m tools.notebooks run [--out runs] [--jobs 2] [names...]
python -m tools.notebooks execute [names...]
python -m tools.notebooks check [names...]
"""

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import nbformat
import psutil

from sfhelpers.files import replace_file
from tools import clean
from tools.pages import page

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
# What `execute` fixes so that the same seed gives the same bytes: hash order, threads (the order of sums), the CPU.
FIXED = {
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "2",
    "OMP_WAIT_POLICY": "PASSIVE",  # sleeping, not spinning, where other programs want the cores too
    "MKL_NUM_THREADS": "2",
    "CUDA_VISIBLE_DEVICES": "",
    "SOURCE_DATE_EPOCH": "0",
    "TQDM_DISABLE": "1",
}
STOPPED: list[int] = []  # signals that came: what runs is ended, and nothing else is begun


@dataclass(frozen=True)
class Outcome:
    """One executed notebook: its name, seconds, peak memory in bytes, and "ok" or what went wrong."""

    name: str
    seconds: float
    peak: int
    result: str

    def __str__(self) -> str:
        return f"{self.name:<24} {self.seconds:7.1f} s  {self.peak / 1e9:6.2f} GB  {self.result}"


def find(names: list[str], folder: Path = FOLDER) -> list[Path]:
    """Notebooks called NN_name.ipynb, in order; with names only those (04, 04_segmentation or a path will do)."""
    notebooks = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    found = [] if names else notebooks
    for name in names:
        stem = Path(name).name.removesuffix(".ipynb")
        matches = [path for path in notebooks if stem in (path.stem, path.stem.split("_")[0])]
        if not matches:
            known = ", ".join(path.stem for path in notebooks)
            raise FileNotFoundError(f"no notebook {name!r} in {folder.name}/: choose from {known}.")
        found += matches
    return found


def papermill(source: Path, target: Path, parameters: Mapping[str, Any], environment: Mapping[str, str]) -> Outcome:
    """Execute `source` into `target` in the notebook's own folder; never raises for a notebook that fails.

    The peak is the resident memory of papermill and its kernel together, sampled five times a second.
    """
    words = [sys.executable, "-m", "papermill", str(source), str(target), "--cwd", str(source.parent)]
    words += ["-k", "python3", "--no-progress-bar"]
    for name, value in parameters.items():
        words += ["-r", name, value] if isinstance(value, str) else ["-y", json.dumps({name: value})]
    mark = f"SKETCHFUSION_{secrets.token_hex(8)}"  # by which its kernel is found, though papermill be gone
    # MPLBACKEND would keep the kernel from showing its figures in the notebook.
    variables = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"} | dict(environment)
    variables[mark] = "1"
    start, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env=variables)
        try:
            while process.poll() is None and not STOPPED:
                peak = max(peak, _resident(process.pid))
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.2)
        finally:
            process.kill()
            process.wait()
            _end(mark)
        log.seek(0)
        printed = log.read().decode(errors="replace")
    result = "ok" if process.returncode == 0 else "stopped" if STOPPED else _reason(target, printed)
    return Outcome(source.stem, time.perf_counter() - start, peak, result)


def _end(mark: str) -> None:
    """End every process that has the mark in its environment, whoever its parent is now."""
    while found := [each for each in psutil.process_iter(["environ"]) if mark in (each.info["environ"] or {})]:
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=5)


def _resident(pid: int) -> int:
    total = 0
    with suppress(psutil.NoSuchProcess):  # it ended since the list was made
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            total += process.memory_info().rss
    return total


def _reason(target: Path, printed: str) -> str:
    """The error of the cell that failed, in one line; where no cell was reached, papermill's last line."""
    cells = nbformat.read(target, as_version=4).cells if target.exists() else []
    for output in (output for cell in cells for output in cell.get("outputs", [])):
        if output.output_type == "error":
            return f"failed: {output.ename}: {' '.join(output.evalue.split())}"
    return f"failed: {(printed.strip().splitlines() or ['papermill said nothing'])[-1]}"


def run(notebooks: list[Path], out: Path, jobs: int = 1) -> bool:
    """Execute notebooks into `out` with their results beside them, and write out/index.html; True if none failed.

    So many jobs at a time share OMP_NUM_THREADS, for the small models gain nothing from a second thread.
    """
    out = out.expanduser().resolve()
    out.mkdir(parents=True, exist_ok=True)
    threads = {"OMP_NUM_THREADS": str(max(1, int(os.environ.get("OMP_NUM_THREADS", 2)) // jobs))}
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(jobs) as pool:  # each only waits for a process of its own
        for done in as_completed([pool.submit(_run_one, path, out / path.name, threads) for path in notebooks]):
            outcomes = sorted([*outcomes, done.result()], key=lambda outcome: outcome.name)
            print(done.result(), flush=True)
            replace_file(out / "index.html", _index(outcomes, out).encode())
    print(f"index: {out / 'index.html'}")
    return all(outcome.result == "ok" for outcome in outcomes)


def _run_one(path: Path, target: Path, environment: Mapping[str, str]) -> Outcome:
    if STOPPED:
        return Outcome(path.stem, 0, 0, "not run")
    target.unlink(missing_ok=True)
    target.with_suffix(".html").unlink(missing_ok=True)
    names = clean.declared(nbformat.read(path, as_version=4))
    own = {"output_dir": str(target.with_suffix(""))} if "output_dir" in names else {}
    outcome = papermill(path, target, own, environment)
    if target.exists() and not STOPPED:
        try:
            text = page(nbformat.read(target, as_version=4), target.stem)
        except ValueError as error:
            return replace(outcome, result=f"{outcome.result}, but no page: {error}")
        replace_file(target.with_suffix(".html"), text.encode())
    return outcome


def _index(outcomes: list[Outcome], out: Path) -> str:
    rows = []
    for outcome in outcomes:
        ends = [end for end in (".html", ".ipynb") if (out / f"{outcome.name}{end}").exists()]
        links = [f'<a href="{outcome.name}{end}">{end[1:]}</a>' for end in ends]
        cells = [escape(outcome.name), " ".join(links), _files(out / outcome.name, out)]
        cells += [f"{outcome.seconds:.1f} s", f"{outcome.peak / 1e9:.2f} GB", escape(outcome.result)]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{name}</th>" for name in ("notebook", "read", "made", "time", "peak memory", "result"))
    style = "body{font-family:sans-serif;margin:2em}td,th{padding:.3em 1em;text-align:left;vertical-align:top}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>SketchFusion notebooks</title>'
        f"<style>{style}</style><h1>What the notebooks made</h1><table><tr>{head}</tr>{''.join(rows)}</table></html>\n"
    )


def _files(folder: Path, out: Path) -> str:
    """Links to the files a notebook wrote; of a folder inside, one link and a count."""
    links = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        count = f" ({sum(1 for _ in path.iterdir())} files)" if path.is_dir() else ""
        links.append(f'<a href="{escape(path.relative_to(out).as_posix())}">{escape(path.name)}</a>{count}')
    return "<br>".join(links)


def execute(notebooks: list[Path]) -> bool:
    """Execute notebooks on the CPU, clean them and put them in place of the old; one that fails stays as it was."""
    fine = True
    for path in notebooks:
        if STOPPED:
            break
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / path.name
            outcome = papermill(path, target, {}, FIXED)
            if outcome.result == "ok":
                replace_file(path, clean.text_of(clean.stamped(nbformat.read(target, as_version=4))).encode())
        fine = fine and outcome.result == "ok"
        print(outcome, flush=True)
    return fine


def check(notebooks: list[Path]) -> bool:
    """Print what keeps each notebook from being committed; True if nothing does."""
    found = [f"{path.name}: {problem}" for path in notebooks for problem in clean.problems(path)]
    print("\n".join(found) or f"{len(notebooks)} notebooks are clean")
    return not found


def main(words: list[str] | None = None) -> int:
    """Run one command; the exit status is 1 if a notebook failed or is not clean, 2 if it is not there, and 128 and
    the signal's number if one came, on which everything that was started is ended."""
    parser = argparse.ArgumentParser(prog="python -m tools.notebooks")
    parser.add_argument("command", choices=("run", "execute", "check"))
    parser.add_argument("names", nargs="*", help="04, 04_segmentation or a path; all if left out")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where `run` writes (default: runs)")
    parser.add_argument("--jobs", type=int, default=1, help="notebooks that `run` executes at a time (default: 1)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the notebooks are")
    options = parser.parse_args(words)
    try:
        paths = find(options.names, options.folder)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    commands = {"run": partial(run, out=options.out, jobs=options.jobs), "execute": execute, "check": check}
    fine = commands[options.command](paths)
    return 128 + STOPPED[0] if STOPPED else 1 - fine


if __name__ == "__main__":
    for number in (number for number in signal.Signals if number.name in ("SIGINT", "SIGTERM", "SIGHUP")):
        if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` has it
            signal.signal(number, lambda number, frame: STOPPED.append(number))
    sys.exit(main())
