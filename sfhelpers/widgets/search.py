"""Draw, and see which photos of a gallery a sketch finds, what in them, and where."""

import html
from pathlib import Path

import ipywidgets
from PIL import Image

from sfhelpers import plots
from sfhelpers.drawing import PRESETS, Drawing
from sfhelpers.plots.found import Answer, Sheet, search_sheet
from sfhelpers.search.searcher import Found, Searcher
from sfhelpers.widgets.base import ROW, Live, State
from sfhelpers.widgets.clickable import Clickable
from sfhelpers.widgets.sketchpad import SketchPad

MOST_POINTS = 7  # as many as there are colours that everybody can tell apart
NAMED = 3  # categories with a bar
STILLS = 2  # drawings in the still picture
EMPTY = "Draw something: the answer comes after every stroke."
HINT = "Choose another photo by a click on it, and points to be matched by clicks on the sketch."


class SketchSearch(Live, ipywidgets.HBox):
    """A sketch pad beside what its drawing finds, renewed after every stroke.

    Shown are the best photos with the cosine of their embeddings, the matches of a few points of the sketch in one of
    them, the mask of what was sketched, and the likeliest categories. A click on a photo looks into that one, a click
    on the sketch chooses a point.

    `found` is the last answer, `pad` the sketch pad. `update` takes another `drawing`, which is answered with its best
    photo and points along its lines, another `place` (0 for the best photo) to look into, or `points` to match.

    Args:
        searcher: a gallery and the models that are asked.
        pad: to draw on; a new one, with the first preset that the gallery has photos of, if None.
        top: photos that are shown, 1 to 8; others are a ValueError.
    """

    def __init__(self, searcher: Searcher, pad: SketchPad | None = None, top: int = 6):
        if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= 8:
            raise ValueError(f"top is {top!r}: give a whole number of photos from 1 to 8.")
        self.searcher, self.top = searcher, min(top, len(searcher.gallery))
        self._presets = sorted(PRESETS, key=lambda name: name not in searcher.gallery.categories)
        self.pad = SketchPad(drawing=PRESETS[self._presets[0]]) if pad is None else pad
        self.image, self.found, self._first = Clickable(), None, self.pad.drawing
        places = [(str(k + 1), k) for k in range(self.top)]
        options = {"options": places, "continuous_update": False, "disabled": self.top < 2}
        place = ipywidgets.SelectionSlider(description="look into", **options)
        self._begin({"drawing": Drawing(), "place": 0, "points": None}, {"place": place})
        self._show(self._state)
        self.spread = ipywidgets.Button(description="spread the points", tooltip="Match points all along the lines")
        self.spread.on_click(lambda _: self.update(points=None))
        self.image.on_click(self._clicked)
        self.pad.on_drawn(lambda _: self.update(drawing=self.pad.drawing))  # the newest, whichever was told of
        self.update(drawing=self._first)
        layout = {"flex": "1 1 400px", "max_width": "436px"}
        answer = ipywidgets.VBox([self.image, self.words, ipywidgets.HBox([place, self.spread])], layout=layout)
        super().__init__([self.pad, answer], layout=ROW)

    @property
    def pair(self) -> tuple[Image.Image, Image.Image]:
        """The drawing and the photo that is looked into, to go on with. ValueError if nothing is drawn."""
        if self.found is None:
            raise ValueError("nothing is drawn: draw something on the pad above, or choose a preset.")
        return self.found.sketch, self.found.picture

    def _changed(self, state: State, changes: State) -> State:
        afresh = {"place": 0, "points": None} if "drawing" in changes else {}
        return super()._changed(state | afresh, changes)

    def _checked(self, state: State) -> State:
        if not isinstance(state["drawing"], Drawing):
            raise ValueError(f"drawing is of type {type(state['drawing']).__name__}: pass a Drawing.")
        if state["place"] not in range(self.top):
            raise ValueError(f"place is {state['place']!r}: choose from 0, the best photo, to {self.top - 1}.")
        return state

    def _show(self, state: State) -> None:
        found, sheet, said, told = None, None, EMPTY, "nothing drawn yet"
        if state["drawing"].strokes:
            found = self.searcher.search(state["drawing"], state["points"], state["place"])
            sheet, told = search_sheet([self._answer(found, state["place"])]), self._told(found)
            self.image.value = sheet.figure.quick_png()
            said = "<br>".join(html.escape(line) for line in (told, found.note, HINT) if line)
        self.found, self._sheet, self._said = found, sheet, said
        self.image.label, self.image.layout.display = told, None if found else "none"

    def _clicked(self, x: float, y: float) -> None:
        sheet: Sheet | None = self._sheet
        if sheet is None:
            return
        place, point = sheet.photo_at(x, y), sheet.sketch_at(x, y)
        if place is not None:
            self.update(place=place)
        elif point is not None:
            self.update(points=[*(self._state["points"] or []), point][-MOST_POINTS:])

    def _answer(self, found: Found, place: int, title: str = "") -> Answer:
        best = [int(k) for k in found.order[: self.top]]
        return Answer(
            sketch=found.sketch,
            photos=[self.searcher.gallery.picture(k) for k in best],
            captions=[f"{self._name(k)}\n{score:.2f}" for k, score in zip(best, found.scores, strict=False)],
            chosen=place,
            looked=found.picture,
            mask=found.mask,
            matches=[(match.sketch, match.photo, match.score) for match in found.matches],
            categories=found.categories[:NAMED],
            title=title,
        )

    def _name(self, index: int) -> str:
        """What stands below a photo: its category, or else its file's name, cut short."""
        record = self.searcher.gallery.records[index]
        return (record.category or Path(record.path).stem)[:13]

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
        drawings |= {name: PRESETS[name] for name in self._presets if name != first}
        answers, said = [], []
        for name, drawing in list(drawings.items())[:STILLS]:
            found = self.searcher.search(drawing)
            answers.append(self._answer(found, 0, name))
            said.append(f"{name} finds {self._name(found.photo)} with cosine {found.scores[0]:.2f}")
        text = f"<SketchSearch in {len(self.searcher.gallery)} photos; shown: {', '.join(said)}>"
        return search_sheet(answers).figure, text
