"""What the explorers of feature maps share: pairs, controls for how features are made, and panels to draw on."""

import html
import io
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import ipywidgets
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from PIL import Image
from torch import Tensor

from sfhelpers import plots
from sfhelpers.images import Square
from sfhelpers.pilot import BASES, INJECTIONS, SOURCES, FeatureMaps, Settings
from sfhelpers.plots.figure import COLORMAP, DPI, HAIR, INK, PALE
from sfhelpers.plots.grids import Picture
from sfhelpers.widgets.base import Live, State, check_labels

SIDES = ("sketch", "photo")
DRAWS = (1, 6, 32)
SHOWN = 192  # pixels a side, as the pictures are kept for showing
APART = 24  # pixels between two pictures of the still one
CLASS = "[CLASS]"
STILL = {"SD f2": "none", "SD f3": "none", "CLIP tokens": "none", "fused": "up"}  # of the still pictures: injection
DEFAULT = Settings()


class Explorer(Live):
    """Controls for a pair and for how its features are made, beside a picture.

    `pairs` are (sketch, photo) each, of any kind that `plots` takes and of any size, padded to squares; `labels` as
    many different names for the menu, one of which, without its number, replaces [CLASS] in a prompt; `settings` where
    the controls start. ValueError if they do not fit together or cannot be shown.
    """

    # A subclass has `_own()`, its own widget, state and controls, and `_picture(state, pictures, maps, chosen)`.
    def __init__(
        self, pairs: Sequence[Sequence[Picture]], labels: Sequence[str], maps: FeatureMaps, settings: Settings = DEFAULT
    ):
        self.maps, self.labels = maps, list(labels)
        check_labels(self.labels, pairs)
        maps.check(settings)
        sizes = SHOWN, maps.backbone.diffusion.size
        squares = [_squares(pair, label, sizes) for pair, label in zip(pairs, labels, strict=True)]
        self.pictures = [[plots.picture(image) for image in shown] for shown, _ in squares]
        self.images = [images for _, images in squares]
        image, own, controls = self._own()
        last, slow = maps.backbone.diffusion.scheduler.config.num_train_timesteps - 1, {"continuous_update": False}
        hint, draws = f"empty, or: a photo of {CLASS}", sorted({*DRAWS, settings.draws})
        shared = {
            "label": ipywidgets.Dropdown(options=self.labels, description="pair"),
            "source": ipywidgets.Dropdown(options=SOURCES, description="source"),
            "injection": ipywidgets.Dropdown(options=INJECTIONS, description="injection"),
            "timestep": ipywidgets.IntSlider(min=0, max=last, description="timestep", **slow),
            "prompt": ipywidgets.Text(description="prompt", placeholder=hint, **slow),
            "seed": ipywidgets.BoundedIntText(min=0, max=2**32 - 1, description="noise seed", **slow),
            "draws": ipywidgets.Dropdown(options=draws, description="noise draws"),
            "basis": ipywidgets.Dropdown(options=BASES, description="PCA basis"),
        }
        state = {"label": self.labels[0], **asdict(settings), "basis": "pair", **own}
        super().__init__(image, state, shared | controls)

    def _checked(self, state: State) -> State:
        self.maps.check(_settings(state))
        own = self.maps.backbone.diffusion.timestep
        return {**state, "timestep": own if state["timestep"] is None else state["timestep"]}

    def _drawn(self, state: State) -> tuple[plots.Figure, str]:
        pictures = self.pictures[self.labels.index(state["label"])]
        figure, words = self._picture(state, pictures, *self._features(state))
        note = self.maps.notes(_settings(state, state["label"]))
        return figure, "<br>".join([*words, html.escape(note)] if note else words)

    def _features(self, state: State) -> tuple[Tensor, int]:
        """(N, 2, C, h, w), the chosen pair's or, for a basis of the set, all pairs'; and which is the chosen."""
        chosen = self.labels.index(state["label"])
        wanted = range(len(self.labels)) if state["basis"] == "set" else [chosen]
        found = []
        for number, index in enumerate(wanted, 1):
            if state["draws"] > 1 or len(wanted) > 1:
                self._say(f"computing, noise draws: {state['draws']}, pair {number} of {len(wanted)} ...")
            found.append(self.maps(self.images[index], _settings(state, self.labels[index])))
        return torch.stack(found), wanted.index(chosen)

    def still(self) -> tuple[plots.Figure, str]:
        """What is drawn of the first pair by a few sources, two beside each other."""
        sources = [source for source in STILL if source != "fused" or "fused" in self.maps.heads]
        views = ({**self._start, "source": source, "injection": STILL[source], "draws": 1} for source in sources)
        drawn = [Image.open(io.BytesIO(self._drawn(view)[0].png(live=True))) for view in views]
        width, height = drawn[0].size
        figure = plots.Figure(figsize=((2 * width + APART) / DPI, (2 * height + APART) / DPI))
        for k, image in enumerate(drawn):
            figure.figimage(image, k % 2 * (width + APART), (1 - k // 2) * (height + APART))
        shown = f"{self.labels[0]} by {', '.join(sources)}"
        return figure, f"<{type(self).__name__} of {len(self.labels)} pairs; shown: {shown}>"


def _settings(state: State, label: str = "") -> Settings:
    """How features are made; for a pair of this label, its name stands in the prompt."""
    settings = Settings(**{name: state[name] for name in asdict(DEFAULT)})
    word = re.sub(r"[\s_]*\d*$", "", label).replace("_", " ")  # a second cat is still a cat
    return replace(settings, prompt=settings.prompt.replace(CLASS, word)) if label else settings


def _squares(pair: Any, label: str, sizes: tuple[int, int]) -> list[Tensor]:
    """Sketch and photo, in that order, padded to squares: (2, 3, size, size) for each size."""
    try:
        sketch, photo = (Image.fromarray(plots.picture(image)) for image in pair)
        both = sketch, photo
        return [torch.stack([Square.of(*image.size, size).image(image) for image in both]) for size in sizes]
    except (TypeError, ValueError, AttributeError) as error:
        why = str(error).rstrip(".")
        raise ValueError(f"the pair {label!r} is not two images, (sketch, photo), that can be shown: {why}.") from error


def show(axes: Axes, pixels: np.ndarray, title: str = "", below: str = "", **style: Any) -> AxesImage:
    """A square picture, or values in colour; x and y from 0 to 1, y downwards."""
    shown = axes.imshow(pixels, COLORMAP, extent=(0, 1, 1, 0), aspect="auto", **style)
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
    axes.set_title(title, size=9, color=INK, pad=5)
    axes.set_xlabel(below, size=8, color=PALE, labelpad=4)
    axes.spines[:].set_color(HAIR)
    return shown


def ramp(image: AxesImage, **style: Any) -> None:
    bar = image.axes.inset_axes((0.1, -0.1, 0.8, 0.05))
    style |= {"orientation": "horizontal", "ticks": image.get_clim(), "format": "%.2f"}
    image.figure.colorbar(image, bar, **style).outline.set_visible(False)
    bar.tick_params(length=0, labelsize=8, labelcolor=PALE)
