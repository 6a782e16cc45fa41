"""A pad to draw on with mouse, pen, finger or keyboard."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from sfhelpers import plots
from sfhelpers.drawing import PRESETS, Drawing, Stroke
from sfhelpers.widgets.base import Still, within

SIZES = (256, 384, 512)
THIN, THICK = 1, 24  # pixels
HISTORY = 200  # steps that can be undone


class Width(traitlets.TraitType):
    def validate(self, pad: Any, width: Any) -> float:
        if not within(width, THIN, THICK):
            raise traitlets.TraitError(f"the line width is {width!r}: give a number of pixels from {THIN} to {THICK}.")
        return float(width)


class SketchPad(Still, anywidget.AnyWidget):
    """A square paper with undo, redo, clear, line width, presets, and files to open and save.

    Drawing and history are kept in the kernel: the front end reports one message a stroke and shows what comes back,
    so that views agree and a reloaded page loses nothing. `size` is the paper's side in pixels, 256, 384 or 512,
    `line_width` the pen's, 1 to 24; others are a ValueError or a TraitError. `drawing` is what is drawn; another one
    that is assigned, such as `Drawing.load(path)`, is scaled to the paper, a step that can be undone.
    """

    _esm = Path(__file__).with_suffix(".js")
    _css = Path(__file__).with_suffix(".css")
    strokes = traitlets.List(read_only=True).tag(sync=True)  # the drawing, to 0.01 px: [{"width", "points"}, ...]
    size = traitlets.Enum(SIZES, 384, read_only=True).tag(sync=True)
    line_width = Width(4).tag(sync=True)
    words = traitlets.Unicode().tag(sync=True)
    wrong = traitlets.Bool().tag(sync=True)
    undoable = traitlets.Bool().tag(sync=True)
    redoable = traitlets.Bool().tag(sync=True)
    choices = traitlets.Dict({"sizes": SIZES, "widths": (THIN, THICK), "presets": tuple(PRESETS)}).tag(sync=True)

    def __init__(self, size: int = 384):
        self._lock = threading.RLock()  # messages of the front end arrive in a thread of their own
        self._callbacks: list[Callable[[Drawing], Any]] = []
        self._history, self._at = [Drawing(size)], 0  # all that can be undone or done again, and which of it is shown
        super().__init__()
        self._put(self._history[0])
        self.on_msg(self._heard)

    @property
    def drawing(self) -> Drawing:
        return self._drawing

    @drawing.setter
    def drawing(self, drawing: Drawing) -> None:
        self._step(drawing)

    def on_drawn(self, callback: Callable[[Drawing], Any]) -> None:
        """Call `callback(drawing)` after each change."""
        self._callbacks.append(callback)

    def preset(self, name: str) -> None:
        """Show one of `PRESETS`."""
        if not isinstance(name, str) or name not in PRESETS:
            raise ValueError(f"there is no preset {name!r}: choose from {', '.join(PRESETS)}.")
        self._step(PRESETS[name], f"Preset: {name}.")

    def undo(self) -> None:
        self._move(-1, "There is nothing to undo.")

    def redo(self) -> None:
        self._move(1, "There is nothing to redo.")

    def clear(self) -> None:
        """Empty the paper; can be undone."""
        if self._drawing.strokes:
            self._step(Drawing())

    def still(self) -> tuple[plots.Figure, str]:
        paper, count = f"<SketchPad of {self.size} x {self.size} pixels", len(self.strokes)
        if count:
            return plots.grid([[self.drawing.to_image()]], size=2.4), f"{paper}, {count} stroke{'s' * (count > 1)}>"
        images = [drawing.to_image(150) for drawing in PRESETS.values()]
        return plots.grid([images], None, list(PRESETS), 0.75), f"{paper}, empty; shown: presets {', '.join(PRESETS)}>"

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """What a page sets by itself: not `strokes` and `size`, which it asks for in messages."""
        super().set_state({name: value for name, value in sync_data.items() if name not in ("strokes", "size")})

    def _heard(self, widget: Any, content: Any, buffers: Sequence[Any]) -> None:
        """Do what the front end asks for; what cannot be done is said on the pad."""
        try:
            match content:
                case {"do": "stroke", "points": points, "width": width, "size": size}:
                    self._draw(points, width, size)
                case {"do": "undo" | "redo" | "clear" as what}:
                    getattr(self, what)()
                case {"do": "preset", "name": name}:
                    self.preset(name)
                case {"do": "size", "value": size}:
                    with self._lock:
                        self._put(self._drawing.resized(size))
                case {"do": "open", "name": str(name)} if len(buffers) == 1:
                    self._step(Drawing.parse(bytes(buffers[0]), name), f"Opened {name}.")
                case {"do": "save", "as": "svg" | "ndjson" as kind, "id": id_}:
                    self.send({"file": f"drawing.{kind}", "text": self._drawing.to_file(kind), "id": id_})
                case _:
                    raise ValueError("the page sent what this pad does not know: reload the page.")
        except (ValueError, OSError, traitlets.TraitError) as error:
            self._say(str(error), wrong=True)
        finally:
            if isinstance(content, dict) and content.get("do") == "stroke":
                self.send({"done": content.get("id")})  # from now on `strokes` says whether it is drawn

    def _draw(self, points: Any, width: Any, size: Any) -> None:
        """Add a stroke that was drawn on a paper of `size`, cut where it leaves the paper."""
        with self._lock:
            width, size = SketchPad.line_width.validate(self, width), SketchPad.size.validate(self, size)
            stroke = Stroke(points, width).scaled(self.size / size)
            if added := Drawing.clipped([stroke], self.size).strokes:
                self._step(Drawing(self.size, (*self._drawing.strokes, *added)))

    def _move(self, by: int, otherwise: str) -> None:
        with self._lock:
            if not 0 <= self._at + by < len(self._history):
                return self._say(otherwise)
            self._at += by
            self._put(self._history[self._at].resized(self.size))

    def _step(self, drawing: Drawing, words: str = "") -> None:
        if not isinstance(drawing, Drawing):
            raise ValueError(f"the drawing is a {type(drawing).__name__}: pass a sfhelpers.drawing.Drawing.")
        with self._lock:
            scaled = drawing.resized(self.size)
            self._history = [*self._history[: self._at + 1], scaled][-HISTORY - 1 :]
            self._at = len(self._history) - 1
            self._put(scaled, words)

    def _put(self, drawing: Drawing, words: str = "") -> None:
        plain = [{"width": stroke.width, "points": stroke.points.round(2).tolist()} for stroke in drawing.strokes]
        with self.hold_sync():  # one message, so that the front end never sees the strokes of another size
            self.set_trait("size", drawing.size)
            self._drawing = drawing
            self.set_trait("strokes", plain)
            self.undoable, self.redoable = self._at > 0, self._at < len(self._history) - 1
            self.words, self.wrong = words, False
        for callback in self._callbacks:
            callback(drawing)

    def _say(self, words: str, wrong: bool = False) -> None:
        with self.hold_sync():
            self.words, self.wrong = words, wrong
