"""What notebooks write in their cells, for the tests."""

import ast
import re
from functools import cache
from types import SimpleNamespace

import nbformat

from tools.notebooks import FOLDER


@cache
def cells(notebook):
    """All cells of a notebook, e.g. "02_fused_extractor"."""
    return nbformat.read(FOLDER / f"{notebook}.ipynb", as_version=4).cells


def tagged(notebook, *tags):
    return [cell.source for cell in cells(notebook) if set(tags) & set(cell.metadata.get("tags", []))]


def printed(notebook):
    """What the run that a notebook shows has printed."""
    outputs = [output for cell in cells(notebook) for output in cell.get("outputs", [])]
    return "\n".join(output.text for output in outputs if output.get("name") == "stdout")


def run_cells(notebook, names, *tags):
    """Run the cells that bear one of the tags in a namespace like the notebook's own; gives it back."""
    for source in tagged(notebook, *tags):
        exec(source, names)
    return names


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


def solutions(notebook):
    """Title -> the code that solves an exercise, in order."""
    found = re.compile(r"<summary>(Solution to \d+)</summary>\s*```python\n(.*?)```", re.DOTALL)
    return dict(match for cell in cells(notebook) for match in found.findall(cell.source))
