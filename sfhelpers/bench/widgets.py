"""How long the widgets take to answer one change, from the control to the new picture."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sfhelpers import toyworld
from sfhelpers.backbones import Backbone
from sfhelpers.drawing import PRESETS
from sfhelpers.fusion import ARMS
from sfhelpers.pilot import FeatureMaps
from sfhelpers.pilot.pairs import toy_pairs
from sfhelpers.search.gallery import Gallery
from sfhelpers.search.searcher import Searcher
from sfhelpers.tasks.heads import Head, untrained_head
from sfhelpers.widgets import FrequencyExplorer, PCAExplorer, SketchPad, SketchSearch

CATEGORIES = ("cup", "house")
PHOTOS = 8  # a category in the gallery; a larger one costs one longer product of matrices


def updates(backbone: Backbone, repeats: int) -> str:
    """Median and longest seconds of an update of each widget; the trained layers are untrained ones of equal size."""
    heads = {method: untrained_head(method, backbone) for method in ARMS}
    lines = ["One update of a widget, from the change to the new picture", f"  {'':34}{'median':>10}{'longest':>10}"]
    with tempfile.TemporaryDirectory() as folder:
        for name, change in _changes(backbone, heads, Path(folder)).items():
            taken = [_seconds(change, k) for k in range(repeats + 1)][1:]  # the first one warms up
            lines.append(f"  {name:34}{statistics.median(taken):8.2f} s{max(taken):8.2f} s")
    return "\n".join(lines)


def _changes(backbone: Backbone, heads: dict[str, Head], folder: Path) -> dict[str, Callable[[int], None]]:
    """Name to a function that makes the k-th change; `folder` is filled with the gallery's photos."""
    pairs = toy_pairs(1, categories=CATEGORIES)
    maps = FeatureMaps(backbone, heads)
    given = [tuple(images) for images in pairs.images], pairs.labels, maps
    pca, frequency, pad = PCAExplorer(*given), FrequencyExplorer(*given), SketchPad()
    bases, drawings = ("image", "set", "pair"), list(PRESETS.values())
    toyworld.write_folder(folder, photos=PHOTOS, sketches=1, categories=CATEGORIES, masks=False)
    search = SketchSearch(Searcher(Gallery.from_folder(folder, backbone), backbone, heads), SketchPad())
    return {
        "PCAExplorer, new timestep": lambda k: pca.update(timestep=100 + k),
        "PCAExplorer, new basis": lambda k: pca.update(basis=bases[k % 3]),
        "FrequencyExplorer, new timestep": lambda k: frequency.update(timestep=300 + k),
        "FrequencyExplorer, new band": lambda k: frequency.update(band=(0.0, 1.0 + k % 5)),
        "SketchPad, new drawing": lambda k: setattr(pad, "drawing", drawings[k % len(drawings)]),
        "SketchSearch, new drawing": lambda k: search.update(drawing=drawings[k % len(drawings)]),
    }


def _seconds(change: Callable[[int], None], k: int) -> float:
    start = time.perf_counter()
    change(k)
    return time.perf_counter() - start
