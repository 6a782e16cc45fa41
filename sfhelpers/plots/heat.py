"""A table whose cells are coloured by what they mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from sfhelpers.plots.charts import WIDTH
from sfhelpers.plots.figure import BLUE, INK, PALE, PLAIN, VERMILION, Figure, chart

SHADES = LinearSegmentedColormap.from_list("worse to better", [VERMILION, "#FFFFFF", BLUE])


@dataclass(frozen=True)
class Cell:
    """One cell: its text, a shade from -1 (worse) over 0 (white) to 1 (better), and whether it is bold."""

    text: str
    shade: float = 0.0
    bold: bool = False


def heat_table(
    groups: Mapping[str, Mapping[str, Sequence[Cell]]], columns: Sequence[str], title: str = "", below: str = ""
) -> Figure:
    """Rows of cells in groups, each under its name.

    Args:
        groups: name of the group ("" writes none) -> name of the row -> one cell a column.
        columns: headings; a line break is kept.
        below: a line of explanation under the table.
    """
    lines = [line for group, rows in groups.items() for line in (*[(group, ())] * bool(group), *rows.items())]
    shades = np.zeros((len(lines), len(columns)))
    axes = chart(WIDTH, 0.9 + 0.235 * len(lines), title).subplots()
    for y, (name, cells) in enumerate(lines):
        axes.text(0, y + 0.5, "" if cells else name, fontsize=7.5, color=PALE, va="center", **PLAIN)
        for x, cell in enumerate(cells):
            shades[y, x] = 0.66 * np.clip(cell.shade, -1, 1)  # never so dark that black on it is hard to read
            style = {"fontsize": 8, "color": INK, "weight": "bold" if cell.bold else "normal"}
            axes.text(x + 0.5, y + 0.5, cell.text, ha="center", va="center", **style)
    axes.pcolormesh(shades, cmap=SHADES, vmin=-1, vmax=1, edgecolors="white", linewidth=1.5)
    axes.invert_yaxis()
    axes.xaxis.tick_top()
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, fontsize=8, weight="bold", color=INK, **PLAIN)
    names = [name if cells else "" for name, cells in lines]
    axes.set_yticks(np.arange(len(lines)) + 0.5, names, fontsize=8.5, color=INK, **PLAIN)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(below, fontsize=8, color=PALE, loc="left")
    return axes.figure
