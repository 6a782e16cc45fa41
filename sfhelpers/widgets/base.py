"""What all widgets share: a still picture, changes that wait for each other, one sentence for what went wrong."""

import base64
import html
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

import ipywidgets

from sfhelpers.plots.figure import VERMILION

ROW = {"flex_flow": "row wrap", "align_items": "flex-start", "grid_gap": "6px"}  # controls beside a picture
State = dict[str, Any]


class Still:
    """A widget with `still()`: a picture, shown wherever no kernel runs, and what it shows in words."""

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        shown = super()._repr_mimebundle_(**kwargs)
        data, metadata = shown if isinstance(shown, tuple) else (shown, {})  # anywidget gives both, ipywidgets the data
        figure, text = self.still()
        png = base64.b64encode(figure.png()).decode()
        return data | {"image/png": png, "text/plain": text}, metadata


class Live(Still):
    """A widget that shows a state, a part of which each control sets.

    Changes that arrive while one is drawn wait, and are drawn together. What cannot be drawn is said in one sentence
    and changes nothing. A subclass has `_drawn(state)`, which gives a PNG and the words beside it.
    """

    def _begin(self, state: State, controls: Mapping[str, ipywidgets.Widget]) -> None:
        self._state, self.controls = state, dict(controls)
        self.words, self._said = ipywidgets.HTML(), ""
        self._pending: deque[State] = deque()
        self._drawing, self._settling = threading.Lock(), None
        for name, control in self.controls.items():
            control.observe(lambda change, name=name: self._moved(name, change.new), "value")

    def update(self, **changes: Any) -> None:
        """Show something else, by the names of the state; what cannot be shown is said in the widget."""
        self._pending.append(changes)
        with self._drawing:
            if not self._pending:
                return  # whoever drew before us took these changes along
            state, problems = self._state, []
            while self._pending:
                try:
                    state = self._changed(state, self._pending.popleft())
                except ValueError as error:
                    problems.append(_failed(error))
            try:
                if state != self._state:
                    self._show(state)
                    self._state = state
            except (ValueError, OSError) as error:  # OSError: a photo that has been taken away since
                problems.append(_failed(error))
            finally:
                self._settle(problems)

    def _changed(self, state: State, changes: State) -> State:
        if unknown := [name for name in changes if name not in state]:
            raise ValueError(f"there is no setting {unknown[0]!r}: choose from {', '.join(state)}.")
        return self._checked({**state, **changes})

    def _show(self, state: State) -> None:
        self.image.value, self._said = self._drawn(state)

    def _moved(self, name: str, value: Any) -> None:
        if self._settling != threading.get_ident():  # `_settle` moves the controls too
            self.update(**{name: value})

    def _settle(self, problems: list[str]) -> None:
        """Words and controls as the state is, unless a newer change waits that will do it."""
        self._say("<br>".join([*problems, self._said]))
        if self._pending:
            return
        self._settling = threading.get_ident()
        try:
            for name, control in self.controls.items():
                control.value = self._state[name]
        finally:
            self._settling = None

    def _say(self, words: str) -> None:
        self.words.value = f'<div style="line-height: 1.4">{words}</div>'


def shown(name: str) -> property:
    """A part of a live widget's state, to be read."""
    return property(lambda widget: widget._state[name])


def check_labels(labels: list[str]) -> None:
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise ValueError(f"the label {twice[0]!r} names {twice.count(twice[0])} pairs: number them.")


def _failed(error: Exception) -> str:
    return f'<span style="color: {VERMILION}">{html.escape(str(error))}</span>'
