"""A headless Chromium that remembers what its pages asked for, and a JupyterLab of its own with a notebook open in it.

Where no Chromium is installed the tests are skipped and say so; with SFHELPERS_BROWSER=required they fail instead.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

import nbformat
import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

PROGRAMS = ("chromium", "chromedriver")
if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
    problem = f"no test in a browser: {' and '.join(missing)} not found: apt-get install chromium chromium-driver."
    if os.environ.get("SFHELPERS_BROWSER") == "required":
        raise RuntimeError(problem)
    pytest.skip(problem, allow_module_level=True)

FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--window-size=1280,900"]
# Chromium's own services (updates, suggestions) look for their servers whatever the flags: no name is found for them.
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--no-proxy-server"]
DEADLINE = 60  # seconds until something that is waited for must have happened
PANEL = "const panel = window.jupyterapp?.shell?.currentWidget;"
STATUS = PANEL + "return panel?.sessionContext?.session?.kernel?.status"
CELL = PANEL + "return panel.content.widgets.find((cell) => cell.model.id === arguments[0]).node"
NOTEBOOK = PANEL + "return panel.content.model.toJSON()"
EVALUATE = f"""
const [expression, done] = arguments; {PANEL}
panel.sessionContext.session.kernel.requestExecute({{ code: "", user_expressions: {{ found: expression }} }}).done
  .then((reply) => done(reply.content.user_expressions.found), (error) => done({{ evalue: `${{error}}` }}));
"""


class Browser:
    """A Chromium: open, point, wait; `requests` and `errors` hold what all pages so far asked for and reported."""

    def __init__(self, driver, screenshots):
        self.driver, self.screenshots = driver, screenshots
        self.open, self.run = driver.get, driver.execute_script
        self._requests, self._errors = [], []

    def wait(self, what, condition, deadline=DEADLINE):
        """The first true value of `condition`, asked again and again, also while the page draws something anew."""
        patient = WebDriverWait(self.driver, deadline, 0.1, [StaleElementReferenceException])
        return patient.until(lambda _: condition(), f"still not: {what}")

    def find(self, selector, inside=None):
        """All elements that a CSS selector finds in the page or in an element."""
        return (inside or self.driver).find_elements(By.CSS_SELECTOR, selector)

    def show(self, element):
        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        return element

    def stroke(self, element, points):
        """Press the pointer at the first point, draw through the others, lift; from 0 to 1 of the element's size."""
        box = self.show(element).rect
        chain = ActionChains(self.driver, duration=20)
        for number, (x, y) in enumerate(points):
            right, down = round((x - 0.5) * box["width"]), round((y - 0.5) * box["height"])
            chain.move_to_element_with_offset(element, right, down)
            if number == 0:
                chain.click_and_hold()
        chain.release().perform()

    def drag(self, element, right):
        """Pull an element, such as a slider's handle, to the right by so many pixels (to the left if negative)."""
        ActionChains(self.driver, duration=50).drag_and_drop_by_offset(self.show(element), right, 0).perform()

    def keys(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def button(self, inside, text):
        return self.show(next(button for button in self.find("button", inside) if button.text == text))

    def control(self, inside, description, selector):
        """The first part of a widget's control, such as its slider's handle, by the words beside the control."""
        rows = self.find(".widget-inline-hbox", inside)
        row = next(row for row in rows if [label.text for label in self.find(".widget-label", row)] == [description])
        return self.find(selector, row)[0]

    @contextmanager
    def changing(self, inside):
        """Wait, after the block, until the picture that is shown has become another one, and is complete."""
        before = self.find("img", inside)[0].get_attribute("src")
        yield
        self.wait("the picture changes", lambda: self.find("img", inside)[0].get_attribute("src") != before)
        image = self.find("img", inside)[0]
        self.wait("the image is complete", lambda: self.run("return arguments[0].naturalWidth", image))

    def screenshot(self, name):
        self.screenshots.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(self.screenshots / f"{name}.png"))

    @property
    def requests(self):
        """The address of every request that a page made so far, web sockets included."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                self._requests.append(message["params"].get("request", message["params"])["url"])
        return self._requests

    @property
    def errors(self):
        """The errors that pages reported in their console so far."""
        entries = self.driver.get_log("browser")
        self._errors += [entry["message"] for entry in entries if entry["level"] == "SEVERE"]
        return self._errors


def outside(requests):
    parts = [(urlsplit(address), address) for address in requests]
    asked = [(part.hostname, address) for part, address in parts if part.scheme in ("http", "https", "ws", "wss")]
    return [address for host, address in asked if host not in ("127.0.0.1", "localhost")]


@contextmanager
def chromium(home, pictures):
    """A fresh Browser whose profile lies in `home`; closed with the block. Old screenshots are removed first."""
    for old in pictures.glob("*.png"):
        old.unlink()
    options = webdriver.ChromeOptions()
    options.binary_location, service = map(shutil.which, PROGRAMS)
    for flag in [*FLAGS, f"--user-data-dir={home / 'profile'}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(service))
    driver.set_script_timeout(DEADLINE)
    try:
        yield Browser(driver, pictures)
    finally:
        driver.quit()


class Lab:
    """A notebook of a JupyterLab: opens the page, without what an earlier visit left open, and waits for the kernel."""

    def __init__(self, browser, address, notebook):
        self.browser = browser
        browser.open(address.format(notebook))
        browser.wait("the kernel is idle", lambda: browser.run(STATUS) == "idle")

    def run_all(self, deadline):
        """Run all cells, and wait until the last one has run. AssertionError if one of them fails."""
        self.browser.run("window.jupyterapp.commands.execute('runmenu:run-all')")
        self.browser.wait("all cells have run", lambda: self.checked() and self.browser.run(STATUS) == "idle", deadline)

    def checked(self):
        """Whether every cell has run. AssertionError if one has failed."""
        cells = [cell for cell in self.notebook().cells if cell.cell_type == "code"]
        failed = [output for cell in cells for output in cell.outputs if output.output_type == "error"]
        assert not failed, failed
        return all(cell.execution_count for cell in cells)

    def cell(self, identity):
        return self.browser.show(self.browser.run(CELL, identity))

    def notebook(self):
        return nbformat.from_dict(self.browser.run(NOTEBOOK))

    def holds(self, expression):
        """Wait until the kernel finds a Python expression true: what was done in the page takes a moment to arrive."""
        self.browser.wait(expression, lambda: self.value(f"bool({expression})"))

    def value(self, expression):
        """A Python literal that the kernel evaluates now."""
        answer = self.browser.driver.execute_async_script(EVALUATE, expression)
        assert answer.get("status") == "ok", f"{expression}: {answer.get('evalue')}"
        return ast.literal_eval(answer["data"]["text/plain"])


@contextmanager
def jupyterlab(folder, home):
    """The address of any notebook in `folder`, on a free port; its own files go into `home`. Ends with the block."""
    folders = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    variables = {key: value for key, value in os.environ.items() if key not in ("MPLBACKEND", "JUPYTER_PATH")}
    variables |= folders | {"IPYTHONDIR": str(home / "ipython"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--ip=127.0.0.1", "--ServerApp.port=0"]
    command += [f"--ServerApp.root_dir={folder}", "--expose-app-in-browser", "--allow-root", "--LabApp.news_url=None"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    streams, end = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT}, time.monotonic() + DEADLINE
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, env=variables, cwd=home, **streams)
    try:
        while not (found := [file for file in (home / "runtime").glob("jpserver-*.json") if file.stat().st_size]):
            words = (home / "server.log").read_text(errors="replace")[-2000:]
            assert process.poll() is None and time.monotonic() < end, f"JupyterLab does not answer: {words}"
            time.sleep(0.1)
        server = json.loads(found[0].read_text())
        yield f"http://127.0.0.1:{server['port']}/lab/tree/{{}}?token={server['token']}&reset"
    finally:
        process.terminate()  # it ends its kernels too
        process.wait(timeout=30)
