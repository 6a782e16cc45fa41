"""What a committed notebook looks like: the same bytes for the same results, nothing of the machine that ran it."""

import base64
import hashlib
import json
import re
from itertools import pairwise
from pathlib import Path

import nbformat
from nbformat import NotebookNode

WIDGET = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
# Fixed, so that another patch release of Python makes no difference.
LANGUAGE = {"file_extension": ".py", "mimetype": "text/x-python", "name": "python", "version": "3.11"}
STAMP = "sketchfusion"
PROGRESS = re.compile(r"\d+%\|")
ADDRESS = re.compile(r"\bat 0x[0-9a-f]{6,}")
MACHINE = re.compile(r"(?<![\w.~/])/(?:home|root|Users|work|tmp|usr|opt|mnt|var)/\w+|[A-Z]:\\Users")
MAX_FIGURE = 150_000
MAX_NOTEBOOK = 1.5  # MB


def source_sha256(notebook: NotebookNode) -> str:
    """The hash of all code cells' sources and tags: outputs under another hash are stale."""
    cells = [[cell.source, cell.metadata.get("tags", [])] for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def clean(notebook: NotebookNode) -> NotebookNode:
    """A copy without what differs between two runs or belongs to one viewer: times, widget states, progress bars."""
    notebook = nbformat.from_dict(notebook)
    cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    for cell in cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = NotebookNode({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs = _outputs(cell.outputs)
    notebook.cells = cells
    stamp = notebook.metadata.get(STAMP, {})
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": LANGUAGE, STAMP: stamp})
    return notebook


def stamped(notebook: NotebookNode) -> NotebookNode:
    """The cleaned copy of a notebook that has just been executed, with the hash of its sources."""
    notebook = clean(notebook)
    notebook.metadata[STAMP] = NotebookNode({"source_sha256": source_sha256(notebook)})
    return notebook


def text_of(notebook: NotebookNode) -> str:
    """The notebook as it stands in its file."""
    return nbformat.writes(notebook) + "\n"


def _outputs(outputs: list[NotebookNode]) -> list[NotebookNode]:
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name == "stderr" and PROGRESS.search(output.text):
                continue
            # A kernel cuts a stream into pieces by the clock.
            if kept and kept[-1].output_type == "stream" and kept[-1].name == output.name:
                kept[-1].text += output.text
                continue
        elif "data" in output:
            data = output.data
            if data.pop(WIDGET, None) is not None and data.keys() <= {"text/plain"}:
                continue  # a live widget without a still picture: nothing is left of it in a file
            if "image/png" in data:
                data.pop("image/jpeg", None)
            # The width at which a figure is shown is kept: charts are drawn twice as fine.
            output.metadata = NotebookNode({k: v for k, v in output.metadata.items() if k == "image/png"})
        kept.append(output)
    return kept


def problems(path: Path) -> list[str]:
    """What keeps a notebook from being committed, one sentence each (empty: nothing)."""
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    found, megabytes = [], len(text.encode()) / 1e6
    if megabytes > MAX_NOTEBOOK:
        found.append(f"it has {megabytes:.2f} MB, more than {MAX_NOTEBOOK} MB")
    if notebook.nbformat_minor < 5:
        found.append("its cells have no ids, so each execution would invent others: save it in JupyterLab 4")
    if text != text_of(clean(notebook)):
        found.append("it is not clean: run make execute")
    if notebook.metadata.get(STAMP, {}).get("source_sha256") != source_sha256(notebook):
        found.append("its outputs are stale, its code was edited after it was executed: run make execute")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("its cells were not executed once each, in order: run make execute")
    if not code or "parameters" not in code[0].metadata.get("tags", []):
        found.append("its first code cell is not tagged parameters")
    for before, cell in pairwise(notebook.cells):  # only the parameters and their check may touch
        if before.cell_type == cell.cell_type == "code" and "parameters" not in before.metadata.get("tags", []):
            found.append(f"no text stands between code cells {code.index(before) + 1} and {code.index(cell) + 1}")
    for number, cell in enumerate(code, start=1):
        found += [f"code cell {number} {problem}" for output in cell.outputs for problem in _output_problems(output)]
    return found


def _output_problems(output: NotebookNode) -> list[str]:
    found, data = [], output.get("data", {})
    if output.output_type == "error":
        found.append(f"ended with {output.ename}")
    if output.get("name") == "stderr":
        found.append("printed a warning: mend its cause")
    for kind, image in data.items():
        size = len(image if kind == "image/svg+xml" else base64.b64decode(image)) if kind.startswith("image/") else 0
        if size > MAX_FIGURE:
            found.append(f"has a figure of {size / 1000:.0f} kB, more than {MAX_FIGURE / 1000:.0f} kB")
    texts = [str(value) for kind, value in data.items() if kind.startswith("text/")]
    words = "\n".join([output.get("text", ""), *texts])
    if ADDRESS.search(words):
        found.append("shows a memory address, which differs from run to run")
    if MACHINE.search(words):
        found.append(f"shows a path of this machine, {MACHINE.search(words).group()}")
    return found


def declared(notebook: NotebookNode) -> set[str]:
    """Names that the cell tagged parameters assigns."""
    sources = [cell.source for cell in notebook["cells"] if "parameters" in cell.metadata.get("tags", [])]
    return {name for source in sources for name in re.findall(r"^(\w+)(?:: \w+)? = ", source, re.MULTILINE)}
