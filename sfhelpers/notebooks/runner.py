"""Executes notebooks with papermill, each in a process of its own, and measures time and memory."""

import html
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat
import psutil

from sfhelpers.notebooks import clean
from sfhelpers.notebooks.html import page

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


@dataclass(frozen=True)
class Outcome:
    """One executed notebook: its name, seconds, peak memory in bytes, and "ok" or what went wrong."""

    name: str
    seconds: float
    peak: int
    result: str

    def line(self) -> str:
        """As printed."""
        return f"{self.name:<24} {self.seconds:7.1f} s  {self.peak / 1e9:6.2f} GB  {self.result}"


def papermill(source: Path, target: Path, parameters: Mapping[str, str], environment: Mapping[str, str]) -> Outcome:
    """Execute `source` into `target` in the notebook's own folder; never raises for a notebook that fails.

    The peak is the resident memory of papermill and its kernel together, sampled five times a second.
    """
    words = [sys.executable, "-m", "papermill", str(source), str(target), "--cwd", str(source.parent)]
    words += ["-k", "python3", "--no-progress-bar"]
    for name, value in parameters.items():
        words += ["-r", name, value]
    # MPLBACKEND would keep the kernel from showing its figures in the notebook.
    variables = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"} | dict(environment)
    start, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env=variables)
        try:
            while process.poll() is None:
                peak = max(peak, _resident(process.pid))
                _wait(process, 0.2)
        finally:
            _end(process)
        log.seek(0)
        printed = log.read().decode(errors="replace")
    result = "ok" if process.returncode == 0 else _reason(target, printed)
    return Outcome(source.stem, time.perf_counter() - start, peak, result)


def _wait(process: subprocess.Popen, seconds: float) -> None:
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return


def _tree(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _resident(pid: int) -> int:
    total = 0
    for process in _tree(pid):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue  # it ended since the list was made
    return total


def _end(process: subprocess.Popen) -> None:
    """Leave no kernel behind when the run is interrupted."""
    if process.poll() is None:
        for child in _tree(process.pid):
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        process.wait()


def _reason(target: Path, printed: str) -> str:
    """The error of the cell that failed, in one line; where no cell was reached, papermill's last line."""
    if target.exists():
        for cell in nbformat.read(target, as_version=4).cells:
            for output in cell.get("outputs", []):
                if output.output_type == "error":
                    return f"failed: {output.ename}: {' '.join(output.evalue.split())}"
    return f"failed: {(printed.strip().splitlines() or ['papermill said nothing'])[-1]}"


def run(notebooks: list[Path], out: Path, jobs: int = 1) -> bool:
    """Execute notebooks into `out` with their results beside them, print a line each, and write out/index.html.

    Args:
        jobs: how many at a time; they share OMP_NUM_THREADS, for the small models gain nothing from a second thread.

    Returns:
        Whether all of them ran to their end.
    """
    out = out.expanduser().resolve()
    out.mkdir(parents=True, exist_ok=True)
    threads = {"OMP_NUM_THREADS": str(max(1, int(os.environ.get("OMP_NUM_THREADS", 2)) // jobs))}
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(jobs) as pool:  # each only waits for a process of its own
        for done in as_completed([pool.submit(_run_one, path, out / path.name, threads) for path in notebooks]):
            outcomes = sorted([*outcomes, done.result()], key=lambda outcome: outcome.name)
            print(done.result().line(), flush=True)
            (out / "index.html").write_text(_index(outcomes, out), encoding="utf-8")
    print(f"index: {out / 'index.html'}")
    return all(outcome.result == "ok" for outcome in outcomes)


def _run_one(path: Path, target: Path, environment: Mapping[str, str]) -> Outcome:
    target.unlink(missing_ok=True)
    notebook = nbformat.read(path, as_version=4)
    own = {"output_dir": str(target.with_suffix(""))} if "output_dir" in clean.declared(notebook) else {}
    outcome = papermill(path, target, own, environment)
    target.with_suffix(".html").unlink(missing_ok=True)
    if target.exists():
        try:
            text = page(nbformat.read(target, as_version=4), target.stem)
        except ValueError as error:
            return replace(outcome, result=f"{outcome.result}, but no page: {error}")
        target.with_suffix(".html").write_text(text, encoding="utf-8")
    return outcome


def _index(outcomes: list[Outcome], out: Path) -> str:
    rows = []
    for outcome in outcomes:
        ends = [end for end in (".html", ".ipynb") if (out / f"{outcome.name}{end}").exists()]
        links = [f'<a href="{outcome.name}{end}">{end[1:]}</a>' for end in ends]
        cells = [html.escape(outcome.name), " ".join(links), _files(out / outcome.name, out)]
        cells += [f"{outcome.seconds:.1f} s", f"{outcome.peak / 1e9:.2f} GB", html.escape(outcome.result)]
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
        links.append(f'<a href="{html.escape(path.relative_to(out).as_posix())}">{html.escape(path.name)}</a>{count}')
    return "<br>".join(links)


def execute(notebooks: list[Path]) -> bool:
    """Execute notebooks with their default parameters on the CPU, clean them, and put them in place of the old ones.

    A notebook that fails or is interrupted stays as it was.

    Returns:
        Whether all of them ran to their end.
    """
    fine = True
    for path in notebooks:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".execute-") as folder:
            target = Path(folder) / path.name
            outcome = papermill(path, target, {}, FIXED)
            if outcome.result == "ok":
                notebook = clean.stamped(nbformat.read(target, as_version=4))
                target.write_text(clean.text_of(notebook), encoding="utf-8", newline="\n")
                os.replace(target, path)
        fine = fine and outcome.result == "ok"
        print(outcome.line(), flush=True)
    return fine
