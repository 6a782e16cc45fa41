"""What the explorers of feature maps share: pairs, controls for how features are made, and panels to draw on."""

import html
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import ipywidgets
import numpy as np
import torch
from matplotlib.axes import Axes
from PIL import Image
from torch import Tensor

from sfhelpers import plots
from sfhelpers.images import Square
from sfhelpers.pilot import BASES, INJECTIONS, SOURCES, FeatureMaps, Settings
from sfhelpers.plots.figure import COLORMAP, DPI, HAIR, INK, PALE
from sfhelpers.plots.grids import Picture
from sfhelpers.widgets.base import ROW, Live, State, check_labels, shown

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


class Explorer(Live, ipywidgets.HBox):
    """Controls for a pair and for how its features are made, beside a picture.

    A subclass has `_drawn`, and `_own()`: its widget for the picture, its part of the state, and controls for that.

    Args:
        pairs: (sketch, photo) each, of any kind that `plots` takes and of any size; padded to squares.
        labels: as many different names, as the menu shows them; one without its number replaces [CLASS] in a prompt.
        maps: where the features come from.
        settings: where the controls start.

    Raises a ValueError if pairs and labels do not fit together, an image is none, or the settings cannot be drawn.
    """

    label, basis = shown("label"), shown("basis")

    def __init__(
        self, pairs: Sequence[tuple[Picture, Picture]], labels: Sequence[str], maps: FeatureMaps,
        settings: Settings = DEFAULT,
    ):  # fmt: skip
        self.maps, self.labels = maps, list(labels)
        self.pictures, self.images = _squares(pairs, self.labels, maps.backbone.diffusion.size)
        maps.check(settings)
        self._draws = sorted({*DRAWS, settings.draws})
        self.image, own, controls = self._own()
        self._start = self._checked({"label": self.labels[0], **asdict(settings), "basis": "pair", **own})
        controls = self._made() | controls
        for control in controls.values():
            control.layout.width, control.style.description_width = "256px", "84px"
        self._begin(self._start, controls)
        self._show(self._state)
        column = ipywidgets.VBox([*controls.values(), self.words], layout={"flex": "0 0 264px"})
        super().__init__([column, self.image], layout=ROW)
        self._settle([])

    def _made(self) -> dict[str, ipywidgets.Widget]:
        last, slow = self.maps.backbone.diffusion.scheduler.config.num_train_timesteps - 1, {"continuous_update": False}
        hint = f"empty, or: a photo of {CLASS}"
        return {
            "label": ipywidgets.Dropdown(options=self.labels, description="pair"),
            "source": ipywidgets.Dropdown(options=SOURCES, description="source"),
            "injection": ipywidgets.Dropdown(options=INJECTIONS, description="injection"),
            "timestep": ipywidgets.IntSlider(min=0, max=last, description="timestep", **slow),
            "prompt": ipywidgets.Text(description="prompt", placeholder=hint, **slow),
            "seed": ipywidgets.BoundedIntText(min=0, max=2**32 - 1, description="noise seed", **slow),
            "draws": ipywidgets.Dropdown(options=self._draws, description="noise draws"),
            "basis": ipywidgets.Dropdown(options=BASES, description="PCA basis"),
        }

    @property
    def settings(self) -> Settings:
        """How the features that are shown are made, the prompt as it was typed."""
        return Settings(**{name: self._state[name] for name in asdict(DEFAULT)})

    def _settle(self, problems: list[str]) -> None:
        super()._settle(problems)
        for name, control in self.controls.items():
            control.disabled = name in WITHOUT.get(self._state["source"], ())

    def _checked(self, state: State) -> State:
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
        """(N, 2, C, h, w), the chosen pair's or, for a basis of the set, all pairs'; and which is the chosen."""
        chosen = self.labels.index(state["label"])
        wanted = range(len(self.labels)) if state["basis"] == "set" else [chosen]
        found = []
        for number, index in enumerate(wanted, 1):
            if state["draws"] > 1 or len(wanted) > 1:
                draws = f"{state['draws']} noise draw{'s' if state['draws'] > 1 else ''}"
                self._say(f"computing {draws}, pair {number} of {len(wanted)} ...")
            found.append(self.maps(self.images[index], _settings({**state, "label": self.labels[index]})))
        return torch.stack(found), wanted.index(chosen)

    def _notes(self, state: State) -> list[str]:
        note = self.maps.notes(_settings(state))
        return [html.escape(note)] if note else []

    def _still_views(self) -> dict[str, State]:
        """Heading to state of the still picture's columns, of the first pair."""
        return {
            source: {**self._start, "source": source, "injection": injection, "draws": 1, "basis": "pair"}
            for source, injection in STILL
            if source != "fused" or "fused" in self.maps.heads
        }


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
    check_labels(labels)
    pictures, images = [], []
    for label, pair in zip(labels, pairs, strict=True):
        if not isinstance(label, str):
            raise ValueError(f"the label {label!r} is of type {type(label).__name__}: pass a text.")
        if isinstance(pair, str) or not hasattr(pair, "__len__") or len(pair) != 2:
            raise ValueError(f"the pair {label!r} is not two images: pass (sketch, photo).")
        opened = {side: _opened(image, f"the {side} of {label!r}") for side, image in zip(SIDES, pair, strict=True)}
        padded = {side: Square.of(*image.size, SHOWN).image(image) for side, image in opened.items()}
        pictures.append({side: plots.picture(image) for side, image in padded.items()})
        images.append(torch.stack([Square.of(*image.size, size).image(image) for image in opened.values()]))
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


def panels(rows: list[list[str]], width: int, height: int, **grid: float) -> tuple[plots.Figure, dict[str, Axes]]:
    """An empty figure of so many pixels and its axes by name; `grid` as matplotlib's GridSpec."""
    figure = plots.Figure(figsize=(width / DPI, height / DPI))
    return figure, figure.subplot_mosaic(rows, gridspec_kw=grid)


def show(axes: Axes, pixels: np.ndarray, title: str = "", below: str = "", **style: Any) -> None:
    """A square picture, x and y from 0 to 1 and y downwards; with interpolation="nearest" a map keeps its steps."""
    axes.imshow(pixels, extent=(0, 1, 1, 0), aspect="auto", **style)
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
    axes.set_title(title, size=9, color=INK, pad=5)
    axes.set_xlabel(below, size=8, color=PALE, labelpad=4)
    axes.spines[:].set_color(HAIR)


def ramp(axes: Axes, low: str, high: str) -> None:
    """A colour scale below a picture, with a word below each end."""
    bar = axes.inset_axes((0, -0.1, 1, 0.05))
    bar.imshow(np.linspace(0, 1, 256)[None], cmap=COLORMAP, aspect="auto", extent=(0, 1, 0, 1))
    bar.set_xticks((0, 1), (low, high), size=8, color=PALE)
    for label, side in zip(bar.get_xticklabels(), ("left", "right"), strict=True):
        label.set_horizontalalignment(side)
    bar.set_yticks([])
    bar.tick_params(length=0)
    bar.spines[:].set_visible(False)
