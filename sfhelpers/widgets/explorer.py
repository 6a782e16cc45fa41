"""What the explorers of feature maps share: pairs, controls, and updates that wait for each other."""

import html
import re
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import ipywidgets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfhelpers import plots
from sfhelpers.images import Square
from sfhelpers.pilot import BASES, INJECTIONS, SOURCES, FeatureMaps, Settings
from sfhelpers.plots.grids import Picture
from sfhelpers.widgets.base import Still, failed

SIDES = ("sketch", "photo")
DRAWS = (1, 6, 32)
SHOWN = 192  # pixels a side, as the pictures are kept for showing
CLASS = "[CLASS]"
STILL = (("SD f2", "none"), ("SD f3", "none"), ("CLIP tokens", "none"), ("fused", "up"))  # of the still pictures
DEFAULT = Settings()
WITHOUT = {  # what a source does not depend on
    "CLIP tokens": ("injection", "timestep", "prompt", "seed", "draws"),
    "SD+CLIP concatenated": ("injection",),
}
State = dict[str, Any]


class Explorer(Still, ipywidgets.HBox):
    """Controls for a pair and for how its features are made, beside a picture. A subclass draws the picture.

    Every change, by a control or by `update`, waits until the one before it is drawn; changes that arrive meanwhile
    are drawn together, the newest last. What cannot be drawn is said in one sentence and changes nothing.

    Args:
        pairs: (sketch, photo) each, of any kind that `plots` takes and of any size; padded to squares.
        labels: as many different names, as the menu shows them; one without its number replaces [CLASS] in a prompt.
        maps: where the features come from.
        settings: where the controls start.
        image: the widget that shows the picture, by its `value`.
        own: the subclass's own state where it starts, beside `controls` for those parts of it that have one.

    Raises:
        ValueError: pairs and labels do not fit together, an image is none, or the settings cannot be drawn.
    """

    def __init__(
        self, pairs: Sequence[tuple[Picture, Picture]], labels: Sequence[str], maps: FeatureMaps, settings: Settings,
        image: ipywidgets.DOMWidget, own: State, controls: Mapping[str, ipywidgets.Widget],
    ):  # fmt: skip
        self.maps, self.labels = maps, list(labels)
        self.pictures, self.images = _squares(pairs, self.labels, maps.backbone.diffusion.size)
        maps.check(settings)
        self._draws = sorted({*DRAWS, settings.draws})
        self._start = {"label": self.labels[0], **asdict(settings), "basis": "pair", **own}
        self._start = self._state = self._checked(self._start)
        self._pending: deque[State] = deque()
        self._drawing, self._settling = threading.Lock(), None
        self.image, self.words = image, ipywidgets.HTML()
        self.controls = self._made(maps.backbone.diffusion.scheduler.config.num_train_timesteps - 1) | dict(controls)
        for name, control in self.controls.items():
            control.layout.width, control.style.description_width = "256px", "84px"
            control.observe(lambda change, name=name: self._moved(name, change.new), "value")
        image.value, self._said = self._drawn(self._state)
        column = ipywidgets.VBox([*self.controls.values(), self.words], layout={"flex": "0 0 264px"})
        super().__init__([column, image], layout={"flex_flow": "row wrap", "align_items": "flex-start"})
        self._settle([])

    def _made(self, last: int) -> dict[str, ipywidgets.Widget]:
        state, slow = self._state, {"continuous_update": False}
        return {
            "label": ipywidgets.Dropdown(options=self.labels, value=state["label"], description="pair"),
            "source": ipywidgets.Dropdown(options=SOURCES, value=state["source"], description="source"),
            "injection": ipywidgets.Dropdown(options=INJECTIONS, value=state["injection"], description="injection"),
            "timestep": ipywidgets.IntSlider(state["timestep"], min=0, max=last, description="timestep", **slow),
            "prompt": ipywidgets.Text(
                state["prompt"], description="prompt", placeholder=f"empty, or: a photo of {CLASS}", **slow
            ),
            "seed": ipywidgets.BoundedIntText(state["seed"], min=0, max=2**32 - 1, description="noise seed", **slow),
            "draws": ipywidgets.Dropdown(options=self._draws, value=state["draws"], description="noise draws"),
            "basis": ipywidgets.Dropdown(options=BASES, value=state["basis"], description="PCA basis"),
        }

    @property
    def label(self) -> str:
        """The pair that is shown."""
        return self._state["label"]

    @property
    def basis(self) -> str:
        """What the principal components are fitted on."""
        return self._state["basis"]

    @property
    def settings(self) -> Settings:
        """How the features that are shown are made, the prompt as it was typed."""
        return Settings(**{name: self._state[name] for name in asdict(DEFAULT)})

    def update(self, **changes: Any) -> None:
        """Show something else: `label`, `source`, `injection`, `timestep`, `prompt`, `seed`, `draws`, `basis`.

        What cannot be shown is said in the widget, which stays as it was.
        """
        self._pending.append(changes)
        with self._drawing:
            if not self._pending:
                return  # whoever drew before us took these changes along
            state, problems = self._state, []
            while self._pending:
                try:
                    state = self._checked({**state, **self._pending.popleft()})
                except ValueError as error:
                    problems.append(failed(error))
            try:
                if state != self._state:
                    self.image.value, self._said = self._drawn(state)
                    self._state = state
            except ValueError as error:
                problems.append(failed(error))
            finally:
                self._settle(problems)

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
                control.disabled = name in WITHOUT.get(self._state["source"], ())
        finally:
            self._settling = None

    def _checked(self, state: State) -> State:
        if unknown := [name for name in state if name not in self._start]:
            raise ValueError(f"there is no setting {unknown[0]!r}: choose from {', '.join(self._start)}.")
        if state["timestep"] is None:
            state = {**state, "timestep": self.maps.backbone.diffusion.timestep}
        choices = {"label": self.labels, "basis": BASES, "draws": self._draws}
        for name, allowed in choices.items():
            if state[name] not in allowed or isinstance(state[name], bool):
                listed = ", ".join(str(choice) for choice in allowed)
                raise ValueError(f"{name} is {state[name]!r}: choose from {listed}.")
        if not isinstance(state["prompt"], str):
            raise ValueError(f"prompt is of type {type(state['prompt']).__name__}: pass a text.")
        self.maps.check(_settings(state))
        return state

    def _features(self, state: State) -> tuple[Tensor, int]:
        """(N, 2, C, h, w), the chosen pair's or, where the basis is fitted on the set, all pairs'; and which it is."""
        chosen = self.labels.index(state["label"])
        wanted = range(len(self.labels)) if state["basis"] == "set" else [chosen]
        found = []
        for number, index in enumerate(wanted, 1):
            if state["draws"] > 1 or len(wanted) > 1:
                draws = f"{state['draws']} noise draw{'s' if state['draws'] > 1 else ''}"
                self._say(f"computing {draws}, pair {number} of {len(wanted)} ...")
            found.append(self.maps(self.images[index], _settings({**state, "label": self.labels[index]})))
        return torch.stack(found), wanted.index(chosen)

    def _say(self, words: str) -> None:
        self.words.value = f'<div style="line-height: 1.4">{words}</div>'

    def _notes(self, state: State) -> list[str]:
        note = self.maps.notes(_settings(state))
        return [html.escape(note)] if note else []

    def _still_views(self) -> dict[str, State]:
        """Heading to state of the still picture's columns: those of `STILL` whose head is there, of the first pair."""
        views = {}
        for source, injection in STILL:
            if source != "fused" or "fused" in self.maps.heads:
                views[source] = {**self._start, "source": source, "injection": injection, "draws": 1, "basis": "pair"}
        return views

    def _drawn(self, state: State) -> tuple[bytes, str]:
        """The picture as a PNG, and the words as HTML."""
        raise NotImplementedError(f"{type(self).__name__} draws nothing: give it a method _drawn(state).")


def _settings(state: State) -> Settings:
    """For the pair of this state: its name stands in the prompt."""
    settings = Settings(**{name: state[name] for name in asdict(DEFAULT)})
    word = re.sub(r"[\s_]*\d*$", "", state["label"]).replace("_", " ")  # a second cat is still a cat
    return replace(settings, prompt=settings.prompt.replace(CLASS, word))


def _squares(
    pairs: Sequence[tuple[Picture, Picture]], labels: list[str], size: int
) -> tuple[list[dict[str, np.ndarray]], list[Tensor]]:
    """Per pair its two pictures for showing, and (2, 3, size, size) for the backbones."""
    if len(pairs) != len(labels) or not labels:
        raise ValueError(f"there are {len(pairs)} pairs and {len(labels)} labels: pass as many of each, at least one.")
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise ValueError(f"the label {twice[0]!r} names {twice.count(twice[0])} pairs: number them.")
    pictures, images = [], []
    for label, pair in zip(labels, pairs, strict=True):
        if not isinstance(label, str):
            raise ValueError(f"the label {label!r} is of type {type(label).__name__}: pass a text.")
        if isinstance(pair, str) or not hasattr(pair, "__len__") or len(pair) != 2:
            raise ValueError(f"the pair {label!r} is not two images: pass (sketch, photo).")
        opened = [_opened(image, f"the {side} of {label!r}") for side, image in zip(SIDES, pair, strict=True)]
        fitted = {side: Square.of(*image.size, SHOWN).image(image) for side, image in zip(SIDES, opened, strict=True)}
        pictures.append({side: plots.picture(image) for side, image in fitted.items()})
        images.append(torch.stack([Square.of(*image.size, size).image(image) for image in opened]))
    return pictures, images


def _opened(image: Any, name: str) -> Image.Image:
    if not isinstance(image, Tensor | np.ndarray | Image.Image):
        raise ValueError(f"{name} is of type {type(image).__name__}: pass a tensor, an array or a PIL image.")
    try:
        pixels = plots.picture(image)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if 0 in pixels.shape:
        raise ValueError(f"{name} has the shape {tuple(image.shape)}: pass an image with pixels.")
    return Image.fromarray(pixels)
