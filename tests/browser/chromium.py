"""A headless Chromium that remembers what it asked for and what went wrong in its pages."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.browser import BROWSER, DRIVER

FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--window-size=1280,900"]
# Chromium's own services (updates, suggestions) look for their servers whatever the flags: no name is found for them.
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--no-proxy-server"]
DEADLINE = 60  # seconds until something that is waited for must have happened
HASH = """
const [element, done] = arguments;
fetch(element.src).then((answer) => answer.arrayBuffer()).then((bytes) => crypto.subtle.digest("SHA-256", bytes))
  .then((hash) => done(Array.from(new Uint8Array(hash)).join()), (error) => done("failed: " + error));
"""


class Browser:
    """A Chromium: open, point, wait; `requests` and `errors` hold what all pages so far asked for and reported."""

    def __init__(self, driver: webdriver.Chrome, screenshots: Path):
        self.driver, self.screenshots = driver, screenshots
        self.open, self.run = driver.get, driver.execute_script
        self._requests: list[str] = []
        self._errors: list[str] = []

    def wait(self, what: str, condition: Callable[[], Any], deadline: float = DEADLINE) -> Any:
        """The first true value of `condition`, asked again and again. AssertionError after `deadline` seconds."""
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            try:
                if found := condition():
                    return found
            except StaleElementReferenceException:
                pass  # the page has just drawn it anew
            time.sleep(0.1)
        raise AssertionError(f"after {deadline} seconds still not: {what}")

    def find(self, selector: str, inside: WebElement | None = None) -> list[WebElement]:
        """All elements that a CSS selector finds in the page or in an element."""
        return (inside or self.driver).find_elements(By.CSS_SELECTOR, selector)

    def show(self, element: WebElement) -> WebElement:
        """Scroll the element into the middle of the window."""
        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        return element

    def stroke(self, element: WebElement, points: list[tuple[float, float]]) -> None:
        """Press the pointer at the first point, draw through the others, lift; from 0 to 1 of the element's size."""
        box = self.show(element).rect
        chain = ActionChains(self.driver, duration=20)
        for number, (x, y) in enumerate(points):
            chain.move_to_element_with_offset(
                element, round((x - 0.5) * box["width"]), round((y - 0.5) * box["height"])
            )
            if number == 0:
                chain.click_and_hold()
        chain.release().perform()

    def drag(self, element: WebElement, right: int) -> None:
        """Pull an element, such as a slider's handle, to the right by so many pixels (to the left if negative)."""
        ActionChains(self.driver, duration=50).drag_and_drop_by_offset(self.show(element), right, 0).perform()

    def keys(self, *keys: str, holding: str = "") -> None:
        """Type into whatever has the focus, while a key such as Control is held down."""
        chain = ActionChains(self.driver)
        if holding:
            chain.key_down(holding).send_keys(*keys).key_up(holding).perform()
        else:
            chain.send_keys(*keys).perform()

    def button(self, inside: WebElement, text: str) -> WebElement:
        """The button with this text, scrolled into view."""
        return self.show(next(button for button in self.find("button", inside) if button.text == text))

    def control(self, inside: WebElement, description: str, selector: str) -> WebElement:
        """The first part of a widget's control, such as its slider's handle, by the words beside the control."""
        for row in self.find(".widget-inline-hbox", inside):
            if [label.text for label in self.find(".widget-label", row)] == [description]:
                return self.find(selector, row)[0]
        raise AssertionError(f"there is no control {description!r}")

    @contextmanager
    def changing(self, inside: WebElement) -> Iterator[None]:
        """Wait, after the block, until the picture that is shown has become another one."""
        before = self.hash(inside)
        yield
        self.wait("the picture changes", lambda: self.hash(inside) != before)

    def hash(self, inside: WebElement) -> str:
        """A hash of the bytes that the first <img> in an element shows."""
        image = self.find("img", inside)[0]
        self.wait("the image is complete", lambda: self.run("return arguments[0].naturalWidth", image))
        found = self.driver.execute_async_script(HASH, image)
        assert not found.startswith("failed"), found
        return found

    def screenshot(self, name: str) -> None:
        """The window as it looks now, in a PNG."""
        self.screenshots.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(self.screenshots / f"{name}.png"))

    @property
    def requests(self) -> list[str]:
        """The address of every request that a page made so far, web sockets included."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self._requests.append(message["params"]["request"]["url"])
            elif message["method"] == "Network.webSocketCreated":
                self._requests.append(message["params"]["url"])
        return self._requests

    @property
    def errors(self) -> list[str]:
        """The errors that pages reported in their console so far."""
        entries = self.driver.get_log("browser")
        self._errors += [entry["message"] for entry in entries if entry["level"] == "SEVERE"]
        return self._errors


def outside(requests: list[str]) -> list[str]:
    """Those requests that leave this machine."""
    parts = [(urlsplit(address), address) for address in requests]
    local = ("127.0.0.1", "localhost")
    return [address for part, address in parts if part.scheme in ("http", "https", "ws", "wss")
            and part.hostname not in local]  # fmt: skip


@contextmanager
def running(home: Path, pictures: Path) -> Iterator[Browser]:
    """A fresh Chromium whose profile lies in `home`; closed with the block. Old screenshots are removed first."""
    for old in pictures.glob("*.png"):
        old.unlink()
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which(BROWSER)
    for flag in [*FLAGS, f"--user-data-dir={home / 'profile'}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which(DRIVER)))
    driver.set_script_timeout(DEADLINE)
    try:
        yield Browser(driver, pictures)
    finally:
        driver.quit()
