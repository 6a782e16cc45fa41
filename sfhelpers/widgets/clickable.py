"""A picture that can be pointed at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets


class Clickable(anywidget.AnyWidget):
    """A PNG in the notebook that reports the points chosen in it, by mouse, pen, finger or keyboard.

    With the keyboard: Tab reaches the picture, the arrow keys move a ring (with Shift five times as far), Enter or
    Space chooses.
    """

    _esm = Path(__file__).with_suffix(".js")
    value = traitlets.Bytes().tag(sync=True)
    label = traitlets.Unicode("picture").tag(sync=True)  # what it shows, for screen readers

    def __init__(self, **traits: Any):
        super().__init__(**traits)
        self._callbacks: list[Callable[[float, float], None]] = []
        self.on_msg(lambda widget, content, buffers: self.click(content["x"], content["y"]))

    def on_click(self, callback: Callable[[float, float], None]) -> None:
        """Call `callback(x, y)` for each point chosen: 0 to 1 from the left, 0 to 1 from the top."""
        self._callbacks.append(callback)

    def click(self, x: float, y: float) -> None:
        """Choose a point from code. ValueError if it is not in the picture."""
        for value in (x, y):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ValueError(f"the point ({x!r}, {y!r}) is not in the picture: give two numbers from 0 to 1.")
        for callback in self._callbacks:
            callback(float(x), float(y))
