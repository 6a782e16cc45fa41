"""Draw, and see which photos of a gallery a sketch finds, what in them, and where."""

import html

import ipywidgets
from PIL import Image

from sfhelpers import plots
from sfhelpers.drawing import PRESETS, Drawing
from sfhelpers.files import shown
from sfhelpers.plots.matches import search_sheet
from sfhelpers.search.searcher import Found, Searcher
from sfhelpers.widgets.base import Clickable, Live, State
from sfhelpers.widgets.sketchpad import SketchPad

TOP = 6  # photos that are shown
MOST_POINTS = 7  # as many as there are colours that everybody can tell apart
EMPTY = "Draw something: the answer comes after every stroke."
HINT = "A click on a photo looks into that one, a click on the sketch chooses a point to be matched."


class SketchSearch(Live):
    """A sketch pad beside what its drawing finds, renewed after every stroke.

    Shown are the best photos with the cosine of their embeddings and, for one of them, the matches of a few points, the
    mask of what was sketched, and the likeliest categories. `found` is the last answer. `update` takes another
    `drawing`, which begins anew, a `place` (0 for the best photo) to look into, or `points` to match.
    """

    def __init__(self, searcher: Searcher):
        self.searcher, self.top, self.found = searcher, min(TOP, len(searcher.gallery)), None
        self._presets = sorted(PRESETS, key=lambda name: name not in searcher.gallery.categories)
        self.pad = SketchPad()
        self.pad.drawing = PRESETS[self._presets[0]]
        options = {"options": [(str(k + 1), k) for k in range(self.top)], "continuous_update": False}
        place = ipywidgets.SelectionSlider(description="look into", disabled=self.top < 2, **options)
        super().__init__(Clickable(self._clicked), {"drawing": Drawing(), "place": 0, "points": None}, {"place": place})
        layout = {"flex": "1 1 400px", "max_width": "436px"}
        self.children = [self.pad, ipywidgets.VBox([self.image, self.words, place], layout=layout)]
        self.pad.on_drawn(lambda _: self.update(drawing=self.pad.drawing))  # the newest, whichever was told of
        self.update(drawing=self.pad.drawing)

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
        found, boxes, said, told = None, [], EMPTY, "nothing drawn yet"
        if state["drawing"].strokes:
            found = self.searcher.search(state["drawing"], state["points"], state["place"])
            (figure, boxes), told = search_sheet({"": self._answer(found)}), self._told(found)
            self.image.value = figure.png(live=True)
            said = "<br>".join(html.escape(line) for line in (told, found.note, HINT) if line)
        self.found, self._boxes, self._said = found, boxes, said
        self.image.label, self.image.layout.display = told, None if found else "none"

    def _clicked(self, x: float, y: float) -> None:
        for k, (left, top, width, height) in enumerate(self._boxes):  # of the sketch, and then of the photos
            u, v = (x - left) / width, (y - top) / height
            if 0 <= u <= 1 and 0 <= v <= 1:
                points = [*(self.state["points"] or []), (u, v)][-MOST_POINTS:]
                self.update(**{"place": k - 1} if k else {"points": points})

    def _answer(self, found: Found) -> tuple[Found, list[tuple[Image.Image, str]]]:
        best = zip(found.order[: self.top].tolist(), found.scores, strict=False)
        likely = found.categories[0][0] if found.categories else ""
        named = ((k, self._name(k, likely)[:13], score) for k, score in best)
        photos = [(self.searcher.gallery.picture(k), f"{name}\n{score:.2f}") for k, name, score in named]
        return found, photos

    def _name(self, index: int, likely: str = "") -> str:
        """What the drawing is taken for, if the photo shows it, or the photo's category, or else its file's name."""
        record = self.searcher.gallery.records[index]
        return likely if likely in record.things[1:] else record.category or shown(record.path.name)

    def _told(self, found: Found) -> str:
        record = self.searcher.gallery.records[found.photo]
        looked = ", ".join(filter(None, (*record.things, shown(record.path.name))))
        covers = f"Photo looked into: {looked}; {found.mask.mean():.0%} of it is marked."
        if not found.categories:
            return covers
        name, probability = found.categories[0]
        return f"Recognised: {name}, {probability:.0%} among {len(found.categories)} categories. {covers}"

    def still(self) -> tuple[plots.Figure, str]:
        """Two presets, each with what it finds."""
        found = {name: self.searcher.search(PRESETS[name]) for name in self._presets[:2]}
        said = [f"{name} finds {self._name(one.photo)} with cosine {one.scores[0]:.2f}" for name, one in found.items()]
        figure = search_sheet({name: self._answer(one) for name, one in found.items()})[0]
        return figure, f"<SketchSearch in {len(self.searcher.gallery)} photos; shown: {', '.join(said)}>"
