"""Lets nbval run the notebooks quickly: small parameters from tests/nbval_parameters.yaml, no more after a failure.

nbval's kernel starts in this folder and knows nothing of papermill's parameters, so the values are appended to the
source of the cell tagged `parameters`.
"""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
OVERRIDES = ROOT / "tests" / "nbval_parameters.yaml"
FAILED = pytest.StashKey[bool]()


def pytest_ignore_collect(collection_path, config):
    """Leave out what users write beside the notebooks, such as papermill's out.ipynb."""
    if collection_path.suffix == ".ipynb" and not re.fullmatch(r"\d\d_\w+", collection_path.stem):
        return True
    return None


def pytest_collection_modifyitems(items):
    """Append the notebook's small values, and an output folder of nbval's own, to its parameters cell."""
    overrides = yaml.safe_load(OVERRIDES.read_text(encoding="utf-8")) or {}
    for item in items:
        cell = getattr(item, "cell", None)
        if cell is None or "parameters" not in cell.metadata.get("tags", []):
            continue
        stem, names = item.path.stem, re.findall(r"^(\w+)(?:: \w+)? = ", cell.source, re.MULTILINE)
        values = dict(overrides.get(stem) or {})
        for name in values:
            if name not in names:
                raise pytest.UsageError(f"{OVERRIDES.name} sets {name!r}, which {stem} does not declare: remove it.")
        if "output_dir" in names:
            values.setdefault("output_dir", str(ROOT / "runs" / "nbval" / stem))
        cell.source += "".join(f"\n{name} = {value!r}" for name, value in values.items())


def pytest_runtest_setup(item):
    """After a notebook's first failure its other cells would only fail for the same reason."""
    if item.parent.stash.get(FAILED, False):
        pytest.skip("an earlier cell of this notebook failed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Remember that a cell failed."""
    report = yield
    if report.failed:
        item.parent.stash[FAILED] = True
    return report
