"""A pad to draw on with mouse, pen, finger or keyboard."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from numpy.typing import NDArray
from PIL import Image

from sfhelpers import plots
from sfhelpers.drawing import PRESETS, Drawing, Stroke
from sfhelpers.widgets.base import Still

SIZES = (256, 384, 512)
THIN, THICK = 1, 24  # pixels
HISTORY = 200  # steps that can be undone


class Refused(traitlets.TraitError, ValueError):
    """A width that a pad cannot take. Of both kinds, so that traitlets puts the earlier value back."""


class SketchPad(Still, anywidget.AnyWidget):
    """A square paper with undo, redo, clear, line width, presets, and files to open and save, by button or from code.

    With the keyboard: Tab reaches the paper, the arrow keys move a cursor (with Shift five times as far), Space lowers
    and lifts the pen, Ctrl+Z and Ctrl+Shift+Z undo and redo. Drawing and history are kept in the kernel: the front end
    reports one message a stroke and shows what comes back, so that views agree and a reloaded page loses nothing.

    Args:
        size: the paper's side in pixels, 256, 384 or 512.
        line_width: of the pen in pixels, 1 to 24; a trait, to be assigned to.
        drawing: to begin with, scaled to `size`; a property, to be assigned to.

    Raises a ValueError if one of them is wrong. `strokes` holds the drawing as plain numbers, to 0.01 px.
    """

    _esm = Path(__file__).with_suffix(".js")
    _css = Path(__file__).with_suffix(".css")
    strokes = traitlets.List(read_only=True).tag(sync=True)  # [{"width": w, "points": [[x, y], ...]}, ...]
    size = traitlets.Int(384, read_only=True).tag(sync=True)
    line_width = traitlets.Any(4).tag(sync=True)
    words = traitlets.Unicode().tag(sync=True)
    wrong = traitlets.Bool().tag(sync=True)
    undoable = traitlets.Bool().tag(sync=True)
    redoable = traitlets.Bool().tag(sync=True)
    choices = traitlets.Dict({"sizes": SIZES, "widths": (THIN, THICK), "presets": tuple(PRESETS)}).tag(sync=True)

    def __init__(self, size: int = 384, line_width: float = 4, drawing: Drawing | None = None):
        self._lock = threading.RLock()  # messages of the front end arrive in a thread of their own
        self._callbacks: list[Callable[[Drawing], Any]] = []
        self._past: deque[Drawing] = deque(maxlen=HISTORY)
        self._future: deque[Drawing] = deque(maxlen=HISTORY)
        super().__init__(line_width=line_width)
        self._put((Drawing() if drawing is None else _drawing(drawing)).resized(_size(size)))
        self.on_msg(self._heard)

    @property
    def drawing(self) -> Drawing:
        """What is drawn. Assigning another drawing, scaled to the paper, is a step that can be undone."""
        return self._drawing

    @drawing.setter
    def drawing(self, drawing: Drawing) -> None:
        with self._changing():
            self._step(_drawing(drawing))

    def to_image(self, side: int | None = None) -> Image.Image:
        """As `Drawing.to_image`."""
        return self._drawing.to_image(side)

    def to_stroke3(self) -> NDArray[np.float64]:
        """As `Drawing.to_stroke3`."""
        return self._drawing.to_stroke3()

    def on_drawn(self, callback: Callable[[Drawing], Any]) -> None:
        """Call `callback(drawing)` after each change; calls can overtake each other, `pad.drawing` is the newest."""
        self._callbacks.append(callback)

    def preset(self, name: str) -> None:
        """Show one of `PRESETS`."""
        with self._changing():
            if not isinstance(name, str) or name not in PRESETS:
                raise ValueError(f"there is no preset {name!r}: choose from {', '.join(PRESETS)}.")
            self._step(PRESETS[name], f"Preset: {name}.")

    def load(self, path: str | Path, number: int = 0) -> None:
        """Show a drawing from a file, see `Drawing.load`."""
        self._open(lambda: Drawing.load(path, number=number), Path(path).name)

    def save(self, path: str | Path, word: str = "") -> None:
        """As `Drawing.save`."""
        with self._changing():
            self._drawing.save(path, word)
            self._say(f"Saved as {Path(path).name}.")

    def undo(self) -> None:
        """Take back the last step."""
        self._back(self._past, self._future, "There is nothing to undo.")

    def redo(self) -> None:
        """Do again what was taken back."""
        self._back(self._future, self._past, "There is nothing to redo.")

    def clear(self) -> None:
        """Empty the paper; can be undone."""
        with self._changing():
            if self._drawing.strokes:
                self._step(Drawing(self._drawing.size))

    def still(self) -> tuple[plots.Figure, str]:
        paper = f"SketchPad of {self._drawing.size} x {self._drawing.size} pixels"
        if self._drawing.strokes:
            text = f"<{paper}, {_counted(self._drawing)}>"
            return plots.grid([[self.to_image()]], size=2.4), text
        images = [drawing.to_image(150) for drawing in PRESETS.values()]
        return plots.grid([images], None, list(PRESETS), 0.75), f"<{paper}, empty; shown: presets {', '.join(PRESETS)}>"

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """What a page may set: `strokes` and `size` are told to it, it asks for others in messages."""
        super().set_state({name: value for name, value in sync_data.items() if name not in ("strokes", "size")})

    def _heard(self, widget: Any, content: Any, buffers: Sequence[Any]) -> None:
        try:
            self._do(content if isinstance(content, dict) else {}, buffers)
        except (ValueError, OSError) as error:
            self._say(str(error), wrong=True)
        finally:
            if isinstance(content, dict) and content.get("do") == "stroke":
                self.send({"done": content.get("id")})  # from now on `strokes` says whether it is drawn

    def _do(self, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        match content:
            case {"do": "stroke", "points": points, "width": width, "size": size}:
                self._draw(points, width, size)
            case {"do": "undo" | "redo" | "clear" as what}:
                getattr(self, what)()
            case {"do": "preset", "name": name}:
                self.preset(name)
            case {"do": "size", "value": size}:
                with self._changing():
                    self._put(self._drawing.resized(_size(size)))
            case {"do": "open", "name": str(name)} if len(buffers) == 1:
                self._open(lambda: Drawing.parse(bytes(buffers[0]), name), name)
            case {"do": "save", "as": "svg" | "ndjson" as kind, "id": id_}:
                self.send({"file": f"drawing.{kind}", "text": self._drawing.to_file(kind), "id": id_})
            case _:
                raise ValueError("the page sent what this pad does not know: reload the page.")

    def _draw(self, points: Any, width: Any, size: Any) -> None:
        """Add a stroke that was drawn on a paper of `size`, cut where it leaves the paper."""
        _width(width)
        with self._changing():
            own = self._drawing.size
            stroke = Stroke(points, width).scaled(own / _size(size))
            if added := Drawing.clipped([stroke], own).strokes:
                self._step(Drawing(own, (*self._drawing.strokes, *added)))

    def _open(self, read: Callable[[], Drawing], name: str) -> None:
        with self._changing():
            self._step(drawing := read(), f"Opened {name}: {_counted(drawing)}.")

    def _back(self, source: deque[Drawing], target: deque[Drawing], otherwise: str) -> None:
        with self._changing():
            if not source:
                return self._say(otherwise)
            target.append(self._drawing)
            self._put(source.pop().resized(self._drawing.size))

    def _step(self, drawing: Drawing, words: str = "") -> None:
        """Show a drawing and remember the one before it."""
        resized = drawing.resized(self._drawing.size)
        self._past.append(self._drawing)
        self._future.clear()
        self._put(resized, words)

    def _put(self, drawing: Drawing, words: str = "") -> None:
        plain = [{"width": stroke.width, "points": stroke.points.round(2).tolist()} for stroke in drawing.strokes]
        self._drawing = drawing
        with self.hold_sync():  # one message, so that the front end never sees the strokes of another size
            self.set_trait("size", drawing.size)
            self.set_trait("strokes", plain)
            self.undoable, self.redoable = bool(self._past), bool(self._future)
            self.words, self.wrong = words, False

    def _say(self, words: str, wrong: bool = False) -> None:
        with self._lock, self.hold_sync():
            self.words, self.wrong = words, wrong

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Changes wait for each other and are told; what fails is said on the pad too, as code may print elsewhere."""
        with self._lock:
            before = self._drawing
            try:
                yield
            except (ValueError, OSError) as error:
                self._say(str(error), wrong=True)
                raise
            changed = self._drawing is not before
        for callback in list(self._callbacks) if changed else ():
            callback(self._drawing)

    @traitlets.validate("line_width")
    def _validated(self, proposal: Any) -> float:
        try:
            return _width(proposal.value)
        except ValueError as error:
            raise Refused(str(error)) from error


def _drawing(drawing: Any) -> Drawing:
    if not isinstance(drawing, Drawing):
        raise ValueError(f"the drawing is a {type(drawing).__name__}: pass a sfhelpers.drawing.Drawing.")
    return drawing


def _size(size: Any) -> int:
    if isinstance(size, bool) or size not in SIZES:
        raise ValueError(f"the paper's size is {size!r}: choose from {', '.join(map(str, SIZES))} pixels.")
    return int(size)


def _width(width: Any) -> float:
    if isinstance(width, bool) or not isinstance(width, int | float) or not THIN <= width <= THICK:
        raise ValueError(f"the line width is {width!r}: give a number of pixels from {THIN} to {THICK}.")
    return float(width)


def _counted(drawing: Drawing) -> str:
    return f"{len(drawing.strokes)} stroke{'s' * (len(drawing.strokes) != 1)}"
