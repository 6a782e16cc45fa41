"""Things to play with in a notebook: live in JupyterLab, a still picture wherever no kernel runs."""

from sfhelpers.widgets.features import FrequencyExplorer, MaskExplorer, PCAExplorer
from sfhelpers.widgets.search import SketchSearch
from sfhelpers.widgets.sketchpad import SketchPad
