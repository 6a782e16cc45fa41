"""Things to play with in a notebook: live in JupyterLab, a still picture wherever no kernel runs."""

from sfhelpers.widgets.masks import MaskExplorer

__all__ = ["MaskExplorer"]
