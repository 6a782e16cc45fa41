"""What all widgets share: a still picture for pages without a kernel, and one sentence for what went wrong."""

import base64
import html
from typing import Any

from sfhelpers import plots
from sfhelpers.plots.figure import VERMILION


class Still:
    """Adds a picture to a widget's display, shown wherever no kernel runs. Name it before the ipywidgets class."""

    def still(self) -> tuple[plots.Figure, str]:
        """The picture and a line of text that says what it shows."""
        raise NotImplementedError(f"{type(self).__name__} has no still picture: give it a method still().")

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        shown = super()._repr_mimebundle_(**kwargs)
        data, metadata = shown if isinstance(shown, tuple) else (shown, {})  # anywidget gives both, ipywidgets the data
        figure, text = self.still()
        png = base64.b64encode(figure.png()).decode()
        return data | {"image/png": png, "text/plain": text}, metadata


def failed(error: Exception) -> str:
    """An error's sentence as HTML for a widget, whatever the user's text in it holds."""
    return f'<span style="color: {VERMILION}">{html.escape(str(error))}</span>'
