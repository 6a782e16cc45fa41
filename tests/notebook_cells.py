"""What a notebook defines in cells that bear a tag, and the solutions folded below its exercises."""

import re
from functools import cache

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
