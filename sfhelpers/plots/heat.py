"""A table whose cells are coloured by what they mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from sfhelpers.plots.figure import BLUE, DPI, HAIR, INK, PALE, VERMILION, Figure, text_width

WIDTH, LINE = 8.0, 0.235  # inches: of the figure, and a row's height
SHADES = LinearSegmentedColormap.from_list("worse to better", [VERMILION, "#FFFFFF", BLUE])


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what stands in it.
        shade: -1 (worse) over 0 (white) to 1 (better).
        bold: for what is more than chance.
    """

    text: str
    shade: float = 0.0
    bold: bool = False


def heat_table(
    groups: Mapping[str, Mapping[str, Sequence[Cell]]], columns: Sequence[str], title: str = "", below: str = ""
) -> Figure:
    """Rows of cells in named groups, a line above each group.

    Args:
        groups: name of the group -> name of the row -> one cell a column.
        columns: headings; a line break is kept.
        below: a line of explanation under the table.
    """
    names = [name for group in groups.values() for name in group]
    head = 0.34 if any("\n" in column for column in columns) else LINE
    lines = len(names) + 0.75 * len(groups)
    height = lines * LINE + head + (0.3 if title else 0.06) + (0.3 if below else 0.06)
    figure = Figure(figsize=(WIDTH, height), dpi=2 * DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
    axes.set_axis_off()
    left = max(text_width(name, 8.5) for name in names) / DPI + 0.3
    step = (WIDTH - left - 0.02) / len(columns)
    top = 0.3 if title else 0.06
    axes.text(0.02, 0.05, title, fontsize=10.5, color=INK, va="top", weight="bold")
    for k, column in enumerate(columns):
        axes.text(left + (k + 0.5) * step, top + head - 0.06, column, fontsize=8, color=INK, ha="center",
                  va="bottom", weight="bold", linespacing=1.1)  # fmt: skip
    y = top + head
    for group, rows in groups.items():
        axes.plot([0.02, WIDTH - 0.02], [y, y], color=HAIR, linewidth=0.8)
        axes.text(0.02, y + 0.4 * LINE, group, fontsize=7.5, color=PALE, va="center")
        y += 0.75 * LINE
        for name, cells in rows.items():
            axes.text(0.12, y + LINE / 2, name, fontsize=8.5, color=INK, va="center")
            for k, cell in enumerate(cells):
                _cell(axes, left + k * step, y, step, cell)
            y += LINE
    axes.text(0.02, y + 0.07, below, fontsize=8, color=PALE, va="top")
    return figure


def _cell(axes: Axes, x: float, y: float, width: float, cell: Cell) -> None:
    color = SHADES(0.5 + 0.33 * max(-1.0, min(1.0, cell.shade)))  # never so dark that black on it is hard to read
    axes.add_patch(Rectangle((x + 0.015, y + 0.012), width - 0.03, LINE - 0.024, facecolor=color, edgecolor="none"))
    axes.text(x + width / 2, y + LINE / 2, cell.text, fontsize=8, color=INK, ha="center", va="center",
              weight="bold" if cell.bold else "normal")  # fmt: skip
