"""What all widgets share: a still picture, changes that wait for each other, one sentence for what went wrong."""

import base64
import html
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets

from sfhelpers.plots.figure import VERMILION

State = dict[str, Any]


class Still:
    """A widget with `still()`: a picture, shown wherever no kernel runs, and what it shows in words."""

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        shown = super()._repr_mimebundle_(**kwargs)
        data, metadata = shown if isinstance(shown, tuple) else (shown, {})  # anywidget gives both, ipywidgets the data
        figure, text = self.still()
        return data | {"image/png": base64.b64encode(figure.png()).decode(), "text/plain": text}, metadata


class Live(Still, ipywidgets.HBox):
    """An image of a state beside its controls; a subclass has `_checked(state)` and `_drawn(state)`: figure, words."""

    def __init__(self, image: ipywidgets.DOMWidget, state: State, controls: Mapping[str, ipywidgets.Widget]):
        self.image, self.controls, self.words, self._said = image, dict(controls), ipywidgets.HTML(), ""
        self._lock = threading.RLock()  # messages of the front end may arrive in a thread of their own
        self._start = self.state = self._changed(state, {})
        for name, control in self.controls.items():
            control.observe(lambda change, name=name: self.update(**{name: change.new}), "value")
            control.layout.width, control.style.description_width = "256px", "84px"
        beside = ipywidgets.VBox([*self.controls.values(), self.words], layout={"flex": "0 0 264px"})
        layout = {"flex_flow": "row wrap", "align_items": "flex-start", "grid_gap": "6px"}
        super().__init__([beside, self.image], layout=layout)
        self._show(self.state)
        self._settle()

    def update(self, **changes: Any) -> None:
        """Show something else, by the names of the state; what cannot be shown is said in the widget."""
        problem = ""
        with self._lock:
            try:
                state = self._changed(self.state, changes)
                if state != self.state:
                    self._show(state)
                    self.state = state
            except (ValueError, OSError) as error:  # OSError: a photo that has been taken away since
                problem = f'<span style="color: {VERMILION}">{html.escape(str(error))}</span><br>'
            finally:
                self._settle(problem)

    def _changed(self, state: State, changes: State) -> State:
        if unknown := [name for name in changes if name not in state]:
            raise ValueError(f"there is no setting {unknown[0]!r}: choose from {', '.join(state)}.")
        state = {**state, **changes}
        for name, control in self.controls.items():
            if isinstance(control, ipywidgets.Dropdown) and state[name] not in control.options:
                choices = ", ".join(map(str, control.options))
                raise ValueError(f"{name} is {state[name]!r}: choose from {choices}.")
        return self._checked(state)

    def _show(self, state: State) -> None:
        figure, self._said = self._drawn(state)
        self.image.value = figure.png(live=True)

    def _settle(self, problem: str = "") -> None:
        """Controls as the state is, and words: last, since a control that is moved here says its own."""
        for name, control in self.controls.items():
            control.value = self.state[name]
        self._say(problem + self._said)

    def _say(self, words: str) -> None:
        self.words.value = f'<div style="line-height: 1.4">{words}</div>'


class Clickable(anywidget.AnyWidget):
    """A PNG that reports the points chosen in it to `callback(x, y)`, each 0 to 1 from the upper left corner."""

    _esm = Path(__file__).with_name("clickable.js")
    value = traitlets.Bytes().tag(sync=True)
    label = traitlets.Unicode("picture").tag(sync=True)  # what it shows, for screen readers

    def __init__(self, callback: Callable[[float, float], None], **traits: Any):
        super().__init__(**traits)
        self._callback = callback
        self.on_msg(lambda widget, content, buffers: self.click(content["x"], content["y"]))

    def click(self, x: float, y: float) -> None:
        """Choose a point from code. ValueError if it is not in the picture."""
        if not within(x, 0, 1) or not within(y, 0, 1):
            raise ValueError(f"the point ({x!r}, {y!r}) is not in the picture: give two numbers from 0 to 1.")
        self._callback(float(x), float(y))


def within(value: Any, low: float, high: float) -> bool:
    """Whether it is a number, and in this range."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def check_labels(labels: Sequence[str], *columns: Sequence[Any]) -> None:
    """ValueError unless they are different texts, so that a menu can show them, as many as each column has."""
    if len(counts := {len(labels), *map(len, columns)}) > 1 or not labels:
        raise ValueError(f"there are {sorted(counts)} labels, images or maps: pass as many of each, at least one.")
    for label in labels:
        if not isinstance(label, str) or labels.count(label) > 1:
            raise ValueError(f"the label {label!r} is no text, or names {labels.count(label)} pairs: number them.")
