"""What the tests in a real browser stand on: a Chromium, and a JupyterLab of their own.

Where no Chromium is installed they are skipped and say so; with SFHELPERS_BROWSER=required they fail instead.
"""

import os
import shutil

import pytest

BROWSER, DRIVER = "chromium", "chromedriver"

if missing := [name for name in (BROWSER, DRIVER) if shutil.which(name) is None]:
    problem = f"no test in a browser: {' and '.join(missing)} not found: apt-get install chromium chromium-driver."
    if os.environ.get("SFHELPERS_BROWSER") == "required":
        raise RuntimeError(problem)
    pytest.skip(problem, allow_module_level=True)
