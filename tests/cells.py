"""What notebooks write in their cells, for the tests: by tag, by definition, and the solutions of exercises."""

import ast
import re
from functools import cache
from types import SimpleNamespace

import nbformat

from tools.notebooks import FOLDER


@cache
def cells(stem):
    """All cells of a notebook, e.g. "02_fused_extractor"."""
    return nbformat.read(FOLDER / f"{stem}.ipynb", as_version=4).cells


def tagged(stem, *tags):
    """The sources of the code cells that bear one of the tags, in the notebook's order."""
    return [cell.source for cell in cells(stem) if set(tags) & set(cell.metadata.get("tags", []))]


def run_cells(stem, names, *tags):
    """Run these cells in a namespace like the notebook's own; gives it back."""
    for source in tagged(stem, *tags):
        exec(source, names)
    return names


def solutions(stem):
    """Title -> source of every solution in Python."""
    found = re.compile(r"<summary>(Solution to \d+)</summary>\s*```python\n(.*?)```", re.DOTALL)
    return dict(match for cell in cells(stem) for match in found.findall(cell.source))


def printed(notebook):
    """What the run that a notebook shows has printed."""
    outputs = [output for cell in cells(notebook) for output in cell.get("outputs", [])]
    return "\n".join(output.text for output in outputs if output.get("name") == "stdout")


def handbuilt(notebook, **names):
    """What the cells tagged so define; `names` is what they use."""
    return SimpleNamespace(**run_cells(notebook, names, "handbuilt"))


def defined(notebook, **names):
    """The functions and classes that a notebook's cells define, and constants in capitals; `names` is what they use."""
    for cell in (cell for cell in cells(notebook) if cell.cell_type == "code"):
        kept = [
            node
            for node in ast.parse(cell.source).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
            or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).partition("[")[0].isupper())
        ]
        exec(compile(ast.Module(kept, []), cell.id, "exec"), names)
    return SimpleNamespace(**names)
