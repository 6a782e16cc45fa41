"""What notebooks write in their cells, for the tests."""

import ast
from types import SimpleNamespace

from tests.notebook_cells import cells, run_cells, solutions, tagged  # noqa: F401


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
