"""Figures of the notebooks: image grids, mask overlays, curves and dot plots, readable without colour vision.

Every function returns a `Figure` that shows itself in a notebook and draws the same bytes on every run. Images are
(3, H, W) tensors or (H, W, 3) arrays in [0, 1], uint8 arrays or PIL images; (H, W) arrays are grey if uint8, black
and white if bool, and a colour map over [0, 1] if float.
"""

from sfhelpers.plots.charts import bars_with_spread, curve, forest, heat_table
from sfhelpers.plots.figure import BLUE, LOOKS, VERMILION, Figure, chart
from sfhelpers.plots.grids import color_map, grid, mask_grid, overlay, picture, scheme
