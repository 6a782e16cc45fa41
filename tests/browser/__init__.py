"""What the tests in a real browser stand on: a Chromium, and a JupyterLab of their own.

Where no Chromium is installed they are skipped and say so; with SFHELPERS_BROWSER=required they fail instead.
"""

import importlib.util
import os
import shutil

import pytest

BROWSER, DRIVER = "chromium", "chromedriver"


def missing() -> str:
    """What keeps a browser from being started, in one sentence; empty if nothing does."""
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed: pip install -e '.[test]'."
    programs = [name for name in (BROWSER, DRIVER) if shutil.which(name) is None]
    if programs:
        return f"{' and '.join(programs)} not found: apt-get install chromium chromium-driver."
    return ""


if problem := missing():
    if os.environ.get("SFHELPERS_BROWSER") == "required":
        raise RuntimeError(f"no test in a browser: {problem}")
    pytest.skip(f"no test in a browser: {problem}", allow_module_level=True)
