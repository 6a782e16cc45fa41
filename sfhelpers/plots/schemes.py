"""Drawings of how things fit together: the parts of the collection, and the architecture of an extractor."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyBboxPatch, Patch
from torch import Tensor

from sfhelpers.fusion import FusedExtractor
from sfhelpers.plots.figure import BLUE, INK, PALE, VERMILION, Figure, sheet, write
from sfhelpers.plots.grids import Picture, enlarged, paste, picture

STYLES = {  # told apart in grey print as well
    "frozen": {"facecolor": "#ECECEC", "edgecolor": PALE, "linewidth": 0.8},
    "learned": {"facecolor": "#DCEBF7", "edgecolor": BLUE, "linewidth": 2.0},
    "data": {"facecolor": "white", "edgecolor": INK, "linewidth": 0.8},
    "not run": {"facecolor": "white", "edgecolor": "#B5B5B5", "linewidth": 0.8, "linestyle": "--"},
}
LOW, DOTTED = "₁₂₃₄₅₆₇₈₉", (0, (1.5, 2))
# Of the architecture, in px: where each column stands, and from one UNet level to the next.
IMAGE, ENCODER, DOWN, MID, UP, PLUS, CONV, BUS, BLOCK, SUM, MAP = 50, 140, 248, 306, 364, 428, 482, 529, 588, 686, 750
ROW = 86

PARTS = {  # left, top and width in px, two texts, and whether anything in it is learned here
    "SD": (156, 26, 244, "Stable Diffusion", "frozen; its UNet's\nfeatures: where", "frozen"),
    "CLIP": (156, 186, 244, "CLIP", "frozen; tokens and\nembedding: what", "frozen"),
    "fused": (462, 26, 190, "fused map", "a few\nlearned\nlayers", "learned"),
}
PICTURES = ("sketch", "photo", *PARTS, "mask")
FLOWS = (  # from, to, colour, words on the way and where they stand
    *(((90, start), (152, end), PALE, "", 0, 0) for end in (79, 222) for start in (79, 239)),
    ((404, 79), (458, 79), INK, "", 0, 0),
    ((656, 79), (710, 79), INK, "", 0, 0),
    ((240, 184), (240, 136), VERMILION, "tokens, injected\ninto the UNet", 248, 160),
    ((404, 222), (644, 222), INK, "tokens, compared point by point", 412, 212),
    ((404, 262), (644, 262), INK, "embedding, compared as a whole", 412, 252),
)


def parts(pictures: Mapping[str, Picture]) -> Figure:
    """Sketch and photo go through two frozen models; what is learned sits on top; four kinds of answers come out.

    `pictures`: "sketch" and "photo"; "SD", "CLIP" and "fused", the photo's features as colours; "mask", the photo with
    its mask.
    """
    axes = sheet(800, 304)
    for name, x, y in (("sketch", 8, 40), ("photo", 8, 200), ("mask", 716, 40)):
        paste(axes, pictures[name], x, y, 78)
        write(axes, x + 39, y + 90, name, ha="center", va="center")
    for name, (left, top, width, title, words, style) in PARTS.items():
        _frame(axes, left, top, width, 106, style, zorder=0)
        paste(axes, enlarged(picture(pictures[name])), left + width - 92, top + 14, 78)  # a coarse map keeps its steps
        write(axes, left + 11, top + 24, title, va="center", weight="bold")
        write(axes, left + 11, top + 39, words, va="top")
    for start, end, color, words, x, y in FLOWS:
        _arrow(axes, start, end, color=color)
        write(axes, x, y, words, va="center", color=color)
    for y, words in ((222, "matches"), (262, "ranked photos,\na category")):
        write(axes, 652, y, words, va="center", weight="bold")
    return axes.figure


@torch.no_grad()
def _read_shapes(extractor: FusedExtractor, images: Tensor) -> dict[str, str]:
    """ "CLIP", "up-block 1" and so on -> "channels × height × width" of one image, from one run."""
    diffusion, found = extractor.backbone.diffusion, {}
    blocks = {f"down-block {n + 1}": block for n, block in enumerate(diffusion.unet.down_blocks)}
    blocks["mid block"] = diffusion.unet.mid_block

    def note(name: str):
        return lambda module, args, output: found.update({name: output if isinstance(output, Tensor) else output[0]})

    hooks = [block.register_forward_hook(note(name)) for name, block in blocks.items()]
    features = diffusion.features(images[:1])
    for hook in hooks:
        hook.remove()
    found |= {f"up-block {n + 1}": feature for n, feature in enumerate(features)}
    found |= {"VAE, noise": diffusion.latents(images[:1]), "CLIP": extractor.backbone.vision.tokens(images[:1])}
    found |= {"image": images.new_zeros(1, 3, diffusion.size, diffusion.size), "map": extractor(images[:1])}
    return {name: " × ".join(map(str, tensor.shape[1:])) for name, tensor in found.items()}


def architecture(extractor: FusedExtractor, images: Tensor, title: str = "") -> Figure:
    """Draw an extractor (SketchFusion, Fig. 2): frozen parts in grey, learned ones in blue with a thick edge.

    All shapes are read off one run on `images`. Skips are drawn level by level; of three that an up-block joins, one
    comes from the level above. The extractor must inject into the up-blocks and aggregate each that is run.
    """
    until, names = extractor.until, tuple(f"f{n + 1}" for n in range(extractor.until))
    if extractor.inject not in ("up", "random") or extractor.branches != names or len(extractor.injected) != until:
        raise ValueError(
            f"inject={extractor.inject!r} with branches {extractor.branches} cannot be drawn: only extractors that "
            "inject into every up-block they run, and aggregate them one by one."
        )
    shapes, ups = _read_shapes(extractor, images), extractor.backbone.diffusion.unet.up_blocks
    levels = [100 + ROW * n for n in reversed(range(len(ups)))]  # the lowest first
    top, mid, clip = levels[-1], levels[0] + ROW, levels[0] + 2 * ROW
    start, end = (top + clip) / 2, (levels[0] + levels[until - 1]) / 2
    axes = sheet(800, clip + 78, title, fine=2)
    write(axes, 792, 10, "channels × height × width of one image", 8, ha="right", color=PALE, va="center")
    frozen = {"VAE, noise": (ENCODER, top), "CLIP": (ENCODER, clip), "mid block": (MID, mid)}
    for name, place in {"image": (IMAGE, start), "map": (MAP, end), **frozen}.items():
        _box(axes, *place, name, shapes[name], "frozen" if name in frozen else "data")
    _arrow(axes, (IMAGE, start), (IMAGE, top), (ENCODER - 46, top))
    _arrow(axes, (IMAGE, start), (IMAGE, clip), (ENCODER - 46, clip))
    _arrow(axes, (ENCODER + 46, top), (DOWN - 46, top))
    for above, below in pairwise(reversed(levels)):
        _arrow(axes, (DOWN, above + 24), (DOWN, below - 24))
    _arrow(axes, (DOWN, levels[0] + 24), (DOWN, mid), (MID - 46, mid))
    path = [(MID + 46, mid), (UP, mid)]
    for n, y in enumerate(levels):
        down, up = f"down-block {len(levels) - n}", f"up-block {n + 1}"
        _box(axes, DOWN, y, down, shapes[down], "frozen")
        _box(axes, UP, y, up, shapes[up], "frozen" if n < until else "not run")
        if n < until:
            _arrow(axes, (DOWN + 46, y), (UP - 46, y), color=PALE, dashes=DOTTED)
            _arrow(axes, *path, (UP, y + 24))
            path = [(PLUS, y), (PLUS, y - 31), (UP, y - 31)]  # what was injected goes on into the next block
            _branch(axes, extractor, n, y, clip, end)
    write(axes, BLOCK, levels[until - 1] - 28, "standardise, resize,\nResNet block", 8, ha="center", va="bottom")
    _sign(axes, SUM, end, "Σ")
    _arrow(axes, (SUM + 8, end), (MAP - 46, end))
    _legend(axes, extractor)
    return axes.figure


def _branch(axes: Axes, extractor: FusedExtractor, n: int, y: float, clip: float, end: float) -> None:
    """One up-block's injection, fed from a bus that rises from CLIP, on its way into the sum."""
    _arrow(axes, (ENCODER + 46, clip), (BUS, clip), (BUS, y + 36), (CONV + 39, y + 36), color=VERMILION)
    _arrow(axes, (CONV - 39, y + 36), (PLUS, y + 36), (PLUS, y + 8), color=VERMILION)
    _arrow(axes, (UP + 46, y), (PLUS - 8, y))
    _arrow(axes, (PLUS + 8, y), (BLOCK - 44, y))
    _arrow(axes, (BLOCK + 44, y), (SUM, y), (SUM, end + 8 * np.sign(y - end)))
    convs = extractor.injection.convs[n], extractor.aggregator.blocks[n].shortcut[0]
    inject, aggregate = (f"{conv.in_channels} → {conv.out_channels}" for conv in convs)
    _box(axes, CONV, y + 36, f"C{LOW[n]}", inject, "frozen" if extractor.inject == "random" else "learned", 78, 32)
    _box(axes, BLOCK, y, f"A{LOW[n]}", aggregate, "learned", 88)
    _sign(axes, PLUS, y, "+")
    weight = extractor.aggregator.branch_weights.softmax(dim=0)[n]
    for x, words in ((CONV, f"f{LOW[n]}"), (BLOCK + 67, f"× {weight:.2f}")):
        write(axes, x, y - 4, words, 8, ha="center", va="bottom")


def _legend(axes: Axes, extractor: FusedExtractor) -> None:
    parts = extractor.injection, extractor.aggregator
    counts = [sum(p.numel() for p in part.parameters() if p.requires_grad) for part in parts]
    learned = "learned: injection C {:,}, aggregation A {:,} parameters".format(*counts)
    words = {"frozen": "frozen", "learned": learned, "not run": "not run"}
    keys = [Patch(**STYLES[style], label=label) for style, label in words.items()]
    keys.append(Line2D([], [], color=VERMILION, linewidth=1.2, label="tokens"))
    keys.append(Line2D([], [], color=PALE, linewidth=1.2, linestyle=DOTTED, label="skips"))
    axes.legend(handles=keys, loc="lower left", ncols=5, fontsize=8, frameon=False, labelcolor=INK, handlelength=1.6)


def _box(
    axes: Axes, x: float, y: float, name: str, detail: str, style: str, width: float = 92, height: float = 48
) -> None:
    _frame(axes, x - width / 2, y - height / 2, width, height, style)
    look = {"ha": "center", "va": "center", "color": PALE if style == "not run" else INK, "zorder": 4}
    write(axes, x, y - height / 4.4, name, 8, weight="bold", **look)
    write(axes, x, y + height / 4.4, detail, 7.5, **look)


def _frame(axes: Axes, left: float, top: float, width: float, height: float, style: str, zorder: int = 3):
    shape = "round,pad=0,rounding_size=5"
    axes.add_patch(FancyBboxPatch((left, top), width, height, boxstyle=shape, zorder=zorder, **STYLES[style]))


def _sign(axes: Axes, x: float, y: float, sign: str) -> None:
    axes.add_patch(Circle((x, y), 8, facecolor="white", edgecolor=INK, linewidth=0.9, zorder=4))
    write(axes, x, y, sign, 9, ha="center", va="center", zorder=5)


def _arrow(axes: Axes, *points: tuple[float, float], color: str = INK, dashes="-") -> None:
    path, length = np.array(points, dtype=float), 10
    axes.plot(*path.T, color="white", linewidth=4, zorder=1)
    axes.plot(*path.T, color=color, linewidth=1.2, linestyle=dashes, zorder=2)
    ahead = path[-1] - path[-2]
    start = path[-1] - ahead * min(1, length / max(np.hypot(*ahead), 1e-9))
    look = {"arrowstyle": "-|>", "color": color, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 8}
    axes.annotate("", path[-1], start, arrowprops=look, zorder=2)
