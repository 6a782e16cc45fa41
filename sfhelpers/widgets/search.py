"""Draw, and see which photos of a gallery a sketch finds, what in them, and where."""

import html
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets
from PIL import Image

from sfhelpers import plots
from sfhelpers.drawing import PRESETS, Drawing
from sfhelpers.plots.found import Answer, Sheet, search_sheet
from sfhelpers.tasks.search import Found, Searcher
from sfhelpers.widgets.base import Still, failed
from sfhelpers.widgets.clickable import Clickable
from sfhelpers.widgets.sketchpad import SketchPad

MOST_POINTS = 7  # as many as there are colours that everybody can tell apart
NAMED = 3  # categories with a bar
STILLS = 2  # drawings in the still picture
NOTHING = "nothing drawn yet"
EMPTY = "Draw something: the answer comes after every stroke."
HINT = "Choose another photo by a click on it, and points to be matched by clicks on the sketch."


class SketchSearch(Still, ipywidgets.HBox):
    """A sketch pad beside what its drawing finds, renewed after every stroke.

    Shown are the best photos with the cosine of their embeddings, the matches of a few points of the sketch in one of
    them, the mask of what was sketched, and the likeliest categories. A click on a photo looks into that one, a click
    on the sketch chooses a point. Changes that arrive while one is being answered are answered together, the newest
    last. What cannot be answered is said in one sentence; the drawing stays on the pad.

    `found` is the last answer, `pad` the sketch pad. The still picture shows the drawing it started with and presets.

    Args:
        searcher: a gallery and the models that are asked.
        pad: to draw on; a new one, with the first preset that the gallery has photos of, if None.
        top: photos that are shown, 1 to 8.

    Raises:
        ValueError: `top` is out of range.
    """

    def __init__(self, searcher: Searcher, pad: SketchPad | None = None, top: int = 6):
        if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= 8:
            raise ValueError(f"top is {top!r}: give a whole number of photos from 1 to 8.")
        self.searcher, self.top = searcher, min(top, len(searcher.gallery))
        self._presets = _in_gallery(searcher)
        self.pad = SketchPad(drawing=PRESETS[self._presets[0]]) if pad is None else pad
        self.found: Found | None = None
        self._first, self._state = self.pad.drawing, {"drawing": Drawing(), "place": 0, "points": None}
        self._pending: deque[dict[str, Any]] = deque()
        self._searching, self._settling, self._sheet, self._said = threading.Lock(), None, None, EMPTY
        self.image, self.words = Clickable(label=NOTHING), ipywidgets.HTML(EMPTY)
        self.image.layout.display = "none"
        self.place = ipywidgets.IntSlider(
            1, min=1, max=max(2, self.top), description="look into", continuous_update=False, disabled=self.top < 2
        )
        self.spread = ipywidgets.Button(description="spread the points", tooltip="Match points all along the lines")
        self.place.observe(self._moved, "value")
        self.spread.on_click(lambda _: self.update(points=None))
        self.image.on_click(self._clicked)
        self.pad.on_drawn(lambda _: self.update(drawing=self.pad.drawing))  # the newest, whichever was told of
        self.update(drawing=self._first)
        controls = ipywidgets.HBox([self.place, self.spread])
        answer = ipywidgets.VBox([self.image, self.words, controls], layout={"flex": "1 1 400px", "max_width": "436px"})
        layout = {"flex_flow": "row wrap", "align_items": "flex-start", "grid_gap": "6px"}
        super().__init__([self.pad, answer], layout=layout)

    @property
    def pair(self) -> tuple[Image.Image, Image.Image]:
        """The drawing and the photo that is looked into, to go on with. ValueError if nothing is drawn."""
        if self.found is None:
            raise ValueError("nothing is drawn: draw something on the pad above, or choose a preset.")
        return self.found.sketch, self.found.picture

    def update(self, **changes: Any) -> None:
        """Answer another `drawing`, look into another `place` (0 for the best photo), or match other `points`.

        A new drawing is answered with its best photo and points along its lines, unless the call says otherwise.
        """
        self._pending.append(changes)
        with self._searching:
            if not self._pending:
                return  # whoever answered before us took these changes along
            state, problems = self._state, []
            while self._pending:
                try:
                    state = self._changed(state, self._pending.popleft())
                except ValueError as error:
                    problems.append(failed(error))
            try:
                if state != self._state:
                    self._answer(state)
                    self._state = state
            except (ValueError, OSError) as error:  # OSError: a photo that has been taken away since
                problems.append(failed(error))
            self._settle(problems)

    def _changed(self, state: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        if unknown := [name for name in changes if name not in state]:
            raise ValueError(f"there is no setting {unknown[0]!r}: choose from {', '.join(state)}.")
        if "drawing" in changes:
            if not isinstance(changes["drawing"], Drawing):
                raise ValueError(f"drawing is of type {type(changes['drawing']).__name__}: pass a Drawing.")
            state = {**state, "place": 0, "points": None}
        state = {**state, **changes}
        if state["place"] not in range(self.top):
            raise ValueError(f"place is {state['place']!r}: choose from 0, the best photo, to {self.top - 1}.")
        return state

    def _answer(self, state: dict[str, Any]) -> None:
        if not state["drawing"].strokes:
            self.found, self._sheet, self._said = None, None, EMPTY
            self.image.label, self.image.layout.display = NOTHING, "none"
            return
        found = self.searcher.search(state["drawing"], state["points"], state["place"])
        sheet = search_sheet([self._drawn(found, state["place"])])
        png = sheet.png()
        told = self._told(found)
        self.found, self._sheet = found, sheet
        self._said = "<br>".join(html.escape(line) for line in (told, found.note, HINT) if line)
        self.image.value, self.image.label, self.image.layout.display = png, told, None

    def _settle(self, problems: Sequence[str] = ()) -> None:
        """Words and slider as the state is, unless a newer change waits that will do it."""
        self.words.value = f'<div style="line-height: 1.35">{"<br>".join([*problems, self._said])}</div>'
        if self._pending:
            return
        self._settling = threading.get_ident()
        try:
            self.place.value = self._state["place"] + 1
        finally:
            self._settling = None

    def _moved(self, change: Any) -> None:
        if self._settling != threading.get_ident():
            self.update(place=change.new - 1)

    def _clicked(self, x: float, y: float) -> None:
        sheet: Sheet | None = self._sheet
        if sheet is None:
            return
        place, point = sheet.photo_at(x, y), sheet.sketch_at(x, y)
        if place is not None:
            self.update(place=place)
        elif point is not None:
            self.update(points=[*(self._state["points"] or []), point][-MOST_POINTS:])

    def _drawn(self, found: Found, place: int, title: str = "") -> Answer:
        gallery, best = self.searcher.gallery, [int(k) for k in found.order[: self.top]]
        return Answer(
            sketch=found.sketch,
            photos=[gallery.picture(k) for k in best],
            captions=[f"{_name(self.searcher, k)}\n{s:.2f}" for k, s in zip(best, found.scores, strict=False)],
            chosen=place,
            looked=found.picture,
            mask=found.mask,
            matches=[(match.sketch, match.photo, match.score) for match in found.matches],
            categories=found.categories[:NAMED],
            title=title,
        )

    def _told(self, found: Found) -> str:
        record = self.searcher.gallery.records[found.photo]
        looked = f"{record.category}, {record.path.name}" if record.category else record.path.name
        covers = f"Photo looked into: {looked}; {found.mask.mean():.0%} of it is marked."
        if not found.categories:
            return covers
        name, probability = found.categories[0]
        return f"Recognised: {name}, {probability:.0%} among {len(found.categories)} categories. {covers}"

    def still(self) -> tuple[plots.Figure, str]:
        """The drawing it started with and a preset, or two presets, each with what it finds."""
        first = next((name for name, drawing in PRESETS.items() if drawing == self._first), "your drawing")
        drawings = {first: self._first} if self._first.strokes else {}
        for name in self._presets:
            if len(drawings) < STILLS:
                drawings.setdefault(name, PRESETS[name])
        answers, said = [], []
        for name, drawing in drawings.items():
            found = self.searcher.search(drawing)
            answers.append(self._drawn(found, 0, name))
            said.append(f"{name} finds {_name(self.searcher, found.photo)} with cosine {found.scores[0]:.2f}")
        text = f"<SketchSearch in {len(self.searcher.gallery)} photos; shown: {', '.join(said)}>"
        return search_sheet(answers).figure, text


def _in_gallery(searcher: Searcher) -> Sequence[str]:
    """The presets' names, those first that are categories of the gallery."""
    return sorted(PRESETS, key=lambda name: name not in searcher.gallery.categories)


def _name(searcher: Searcher, index: int) -> str:
    """What stands below a photo: its category, or else its file's name, cut short."""
    record = searcher.gallery.records[index]
    return (record.category or Path(record.path).stem)[:13]
