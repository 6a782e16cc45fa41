"""What notebooks write in their cells, for the tests."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat


def cells(notebook):
    return nbformat.read(Path(__file__).parents[1] / "notebooks" / f"{notebook}.ipynb", as_version=4).cells


def tagged(notebook, tag):
    return [cell.source for cell in cells(notebook) if tag in cell.metadata.get("tags", [])]


def handbuilt(notebook, **names):
    """What the cells tagged so define; `names` is what they use."""
    for source in tagged(notebook, "handbuilt"):
        exec(source, names)
    return SimpleNamespace(**names)


def defined(notebook, **names):
    """The functions that a notebook's cells define, and their constants in capitals; `names` is what they use."""
    for cell in (cell for cell in cells(notebook) if cell.cell_type == "code"):
        kept = [
            node
            for node in ast.parse(cell.source).body
            if isinstance(node, ast.FunctionDef)
            or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).partition("[")[0].isupper())
        ]
        exec(compile(ast.Module(kept, []), cell.id, "exec"), names)
    return SimpleNamespace(**names)


def solutions(notebook):
    """The code that solves the exercises, in order."""
    text = "".join(cell.source for cell in cells(notebook) if "Solution to 1" in cell.source)
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)
