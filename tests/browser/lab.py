"""A notebook open in JupyterLab: run it, read what its cells put out and what its kernel knows."""

import ast
from pathlib import Path
from typing import Any

import nbformat
from selenium.webdriver.remote.webelement import WebElement

from tests.browser.chromium import Browser
from tests.browser.server import Server

PANEL = "const panel = window.jupyterapp?.shell?.currentWidget; const cells = panel?.content?.widgets ?? [];"
STATUS = PANEL + "return panel?.sessionContext?.session?.kernel?.status ?? 'not started'"
RUN = f"""{PANEL}
const code = cells.map((cell) => cell.model).filter((model) => model.type === "code");
const outputs = code.flatMap((model) => Array.from({{ length: model.outputs.length }}, (_, k) => model.outputs.get(k)));
const failed = outputs.filter((output) => output.type === "error").map((output) => output.toJSON());
return {{ done: code.every((model) => model.executionCount), failed }};
"""
CELL = PANEL + "return cells.find((cell) => cell.model.id === arguments[0])?.node"
NOTEBOOK = PANEL + "return panel.content.model.toJSON()"
EVALUATE = """
const [expression, done] = arguments, kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
kernel.requestExecute({ code: "", store_history: false, user_expressions: { found: expression } }).done
  .then((reply) => done(reply.content.user_expressions.found), (error) => done({ evalue: `${error}` }));
"""


class Lab:
    """Opens `notebook`, a file in the server's folder, and waits for its kernel."""

    def __init__(self, browser: Browser, server: Server, notebook: str):
        self.browser = browser
        browser.open(server.lab(notebook))
        browser.wait("the kernel is idle", lambda: browser.run(STATUS) == "idle")

    def run_all(self, deadline: float) -> None:
        """Choose Run > Run All Cells, and wait until the last cell has run. AssertionError if one of them fails."""
        (menu,) = (item for item in self.browser.find(".lm-MenuBar-item") if item.text == "Run")
        menu.click()
        self.browser.wait("the menu", lambda: self.browser.find('[data-command="runmenu:run-all"]'))[0].click()
        self.browser.wait("all cells have run", lambda: self.checked() and self.browser.run(STATUS) == "idle", deadline)

    def checked(self) -> bool:
        """Whether every cell has run. AssertionError if one has failed."""
        state = self.browser.run(RUN)
        for output in state["failed"]:
            raise AssertionError(f"a cell failed: {output['ename']}: {output['evalue']}")
        return state["done"]

    def cell(self, identity: str) -> WebElement:
        """The cell of this id, scrolled into view."""
        found = self.browser.run(CELL, identity)
        assert found is not None, f"the notebook has no cell {identity!r}"
        return self.browser.show(found)

    def notebook(self) -> nbformat.NotebookNode:
        """The notebook with its outputs, as it would be saved."""
        return nbformat.from_dict(self.browser.run(NOTEBOOK))

    def holds(self, expression: str) -> None:
        """Wait until the kernel finds a Python expression true: what was done in the page takes a moment to arrive."""
        self.browser.wait(expression, lambda: self.value(f"bool({expression})"))

    def value(self, expression: str) -> Any:
        """A Python literal that the kernel evaluates now."""
        answer = self.browser.driver.execute_async_script(EVALUATE, expression)
        assert answer.get("status") == "ok", f"{expression}: {answer.get('evalue')}"
        return ast.literal_eval(answer["data"]["text/plain"])


def copied(path: Path, folder: Path, values: dict[str, Any]) -> str:
    """A copy without outputs whose parameters cell ends with these values; gives its name."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if "parameters" in cell.metadata.get("tags", []):
            cell.source += "".join(f"\n{name} = {value!r}" for name, value in values.items())
    nbformat.write(notebook, folder / path.name)
    return path.name
