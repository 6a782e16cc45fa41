"""A notebook of one cell a widget, over the tiny random backbone: quick, and nothing in it knows what to answer."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from tests.search_helpers import photo
from tools import clean

SETUP = """
import numpy as np
import torch
from sfhelpers.backbones import load_backbone
from sfhelpers.pilot import FeatureMaps
from sfhelpers.tasks.heads import untrained_head
from sfhelpers.search.gallery import Gallery
from sfhelpers.search.searcher import Searcher
from sfhelpers.widgets import FrequencyExplorer, MaskExplorer, PCAExplorer, SketchPad, SketchSearch

backbone = load_backbone(BACKBONE, device="cpu")
heads = {method: untrained_head(method, backbone) for method in ("fused", "SD+CLIP concatenated")}
noise = np.random.default_rng(0)
given = [(noise.random((40, 40, 3)), noise.random((40, 40, 3))) for _ in range(2)], ["cat 1", "cat 2"]
ramp = torch.linspace(0, 1, 64).expand(2, 64, 64)
"""
CELLS = {
    "masks": 'masks = MaskExplorer([ramp[0]] * 2, [ramp[0]] * 2, ramp, ramp > 0.5, ["cat 1", "cat 2"], 0.5)',
    "pca": "pca = PCAExplorer(*given, FeatureMaps(backbone, heads))",
    "frequency": "frequency = FrequencyExplorer(*given, FeatureMaps(backbone, heads))",
    "pad": "pad = SketchPad(256)",
    "search": "search = SketchSearch(Searcher(Gallery.from_folder(PHOTOS, backbone), backbone, heads))",
}


def setup(folder: Path, backbone: Path) -> str:
    """The code before the widgets'; the photos that it searches are written into `folder`."""
    for seed, name in enumerate(("cat/1", "cat/2", "dog/1", "dog/2")):
        photo(folder / "photos" / f"{name}.png", seed, (64, 48))
    return f"BACKBONE = {str(backbone)!r}\nPHOTOS = {str(folder / 'photos')!r}\n{SETUP.strip()}"


def written(folder: Path, backbone: Path) -> str:
    """Write the notebook into `folder`; gives its name."""
    cells = [new_code_cell(setup(folder, backbone), id="setup")]
    cells += [new_code_cell(f"{source}\n{name}", id=name) for name, source in CELLS.items()]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": clean.KERNEL}), folder / "widgets.ipynb")
    return "widgets.ipynb"
