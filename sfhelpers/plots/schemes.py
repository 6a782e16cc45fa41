"""Drawings of how things fit together."""

from collections.abc import Mapping, Sequence

from matplotlib.offsetbox import AnnotationBbox, OffsetImage, TextArea, VPacker
from matplotlib.patches import FancyArrowPatch

from sfhelpers.plots.figure import BLUE, DPI, INK, PALE, PLAIN, VERMILION, Figure, sheet
from sfhelpers.plots.grids import picture

STYLES = {  # told apart in grey print as well
    "frozen": {"facecolor": "#ECECEC", "edgecolor": PALE, "linewidth": 0.8},
    "learned": {"facecolor": "#DCEBF7", "edgecolor": BLUE, "linewidth": 2.0},
    "data": {"facecolor": "white", "edgecolor": INK, "linewidth": 0.8},
}
KINDS = {"features": INK, "tokens": VERMILION}
SIDE = 78  # px of a picture in a box


def scheme(boxes: Mapping[str, tuple], arrows: Sequence[tuple[str, str, str]], width: int, height: int) -> Figure:
    """Boxes with a name, words and perhaps a picture, and arrows from box to box.

    Args:
        boxes: name -> (x, y of its middle in px, words, "frozen", "learned" or "data", and a picture if there is one).
        arrows: (name of one box, name of another, what goes there: "features" or "tokens").
        width, height: in px.
    """
    axes, placed = sheet(width, height, fine=2), {}
    for name, (x, y, words, style, *pictures) in boxes.items():
        texts = [(text, weight) for text, weight in ((name, "bold"), (words, "normal")) if text]
        look = {"fontsize": 8, "color": INK, "linespacing": 1.1, "multialignment": "center", **PLAIN}
        inside = [TextArea(text, textprops={**look, "weight": weight}) for text, weight in texts]
        for pixels in map(picture, pictures):
            inside.append(OffsetImage(pixels, zoom=SIDE / max(pixels.shape) * 72 / DPI))
        packed = VPacker(children=inside, align="center", pad=0, sep=3)
        round_box = {"boxstyle": "round,pad=0.4,rounding_size=0.4", **STYLES[style]}
        placed[name] = axes.add_artist(AnnotationBbox(packed, (x, y), bboxprops=round_box, zorder=3))
    for start, end, kind in arrows:
        ends = {f"pos{side}": boxes[name][:2] for side, name in (("A", start), ("B", end))}
        clipped = {f"patch{side}": placed[name].patch for side, name in (("A", start), ("B", end))}
        look = {"arrowstyle": "-|>", "mutation_scale": 8, "linewidth": 1.2, "color": KINDS[kind], "zorder": 4}
        axes.add_patch(FancyArrowPatch(**ends, **clipped, **look))
    return axes.figure
