"""The architecture of a fused extractor as a drawing (SketchFusion, Fig. 2), every number read off the module itself.

Boxes and arrows are laid out as plain data first (`layout`) and drawn afterwards (`architecture`).
"""

from dataclasses import dataclass, field
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyBboxPatch

from sfhelpers.plots.architecture_shapes import Shape, Shapes, read_shapes
from sfhelpers.plots.figure import BLUE, DPI, INK, PALE, VERMILION, Figure

__all__ = ["Box", "Layout", "Line", "Shapes", "architecture", "layout", "read_shapes"]

Point = tuple[float, float]
# All in inches: the figure's width, from one UNet level to the next, and where each column stands.
WIDTH, ROW, CLIP_Y = 8.0, 0.86, 0.72
IMAGE, ENCODER, DOWN, UP, PLUS, CONV, BUS, BLOCK, SUM, MAP = 0.47, 1.40, 2.48, 3.64, 4.28, 4.82, 5.29, 5.88, 6.86, 7.50
BELOW = 0.36  # how far under its block a convolution stands
STYLES = {  # fill, edge, width of the edge, dashes: told apart in grey print as well
    "frozen": ("#ECECEC", PALE, 0.8, "-"),
    "learned": ("#DCEBF7", BLUE, 2.0, "-"),
    "data": ("white", INK, 0.8, "-"),
    "not run": ("white", "#B5B5B5", 0.8, "--"),
}
LINES = {"skip": (PALE, (0, (1.5, 2))), "feature": (INK, "-"), "tokens": (VERMILION, "-")}  # drawn in this order


@dataclass(frozen=True)
class Box:
    """One box: centre and size in inches, a name and a second line, and one of `STYLES`."""

    name: str
    detail: str
    style: str
    x: float
    y: float
    width: float = 0.92
    height: float = 0.48


@dataclass(frozen=True)
class Line:
    """An arrow from one box to another along points: "feature", "tokens" or "skip"."""

    source: str
    target: str
    kind: str
    points: tuple[Point, ...]


@dataclass
class Layout:
    """Boxes, arrows, circles with their sign, and words."""

    boxes: list[Box] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    circles: list[tuple[float, float, str]] = field(default_factory=list)
    words: list[tuple[float, float, str]] = field(default_factory=list)

    def box(self, *args: str | float) -> Box:
        """Add a box."""
        self.boxes.append(Box(*args))
        return self.boxes[-1]

    def line(self, source: str, target: str, *points: Point, kind: str = "feature") -> None:
        """Add an arrow."""
        self.lines.append(Line(source, target, kind, points))


def layout(shapes: Shapes) -> Layout:
    """Where each box stands and what leads where: the down-blocks falling, the up-blocks rising, as a U.

    The skips are drawn level by level; of three that an up-block joins, one comes from the level above.
    """
    plan = Layout()
    unet = "frozen" if shapes.run else "not run"
    needs_tokens = bool(shapes.convs) or any("tokens" in branch.split("+") for branch in shapes.branches)
    vision = plan.box("CLIP", _by(shapes.tokens), "frozen" if needs_tokens else "not run", ENCODER, CLIP_Y)
    top = _row(len(shapes.up))
    plan.box("image", _by(shapes.image), "data", IMAGE, (top + CLIP_Y) / 2, 0.86)
    plan.box("VAE, noise", _by(shapes.latent), unet, ENCODER, top)
    for name, style, y in (("VAE, noise", unet, top), ("CLIP", vision.style, CLIP_Y)):
        if style == "frozen":
            side = 0.24 if y == top else -0.24
            plan.line("image", name, (IMAGE, (top + CLIP_Y) / 2 + side), (IMAGE, y), (ENCODER - 0.46, y))
    _down_blocks(plan, shapes, unet)
    anchors = _up_blocks(plan, shapes)
    anchors["tokens"] = (ENCODER + 0.46, CLIP_Y, "CLIP")
    _token_lines(plan, shapes)
    _aggregation(plan, shapes, anchors)
    return plan


def _row(level: int) -> float:
    """The height of a UNet level; 0 is the mid block's."""
    return CLIP_Y + (level + 1) * ROW


def _by(shape: Shape) -> str:
    return " × ".join(str(size) for size in shape)


def _indexed(letter: str, n: int) -> str:
    return letter + str(n + 1).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def _down_blocks(plan: Layout, shapes: Shapes, style: str) -> None:
    count, bottom = len(shapes.down), _row(0)
    mid = plan.box("mid block", _by(shapes.mid), style, (DOWN + UP) / 2, bottom)
    boxes = [
        plan.box(f"down-block {n + 1}", _by(shape), style, DOWN, _row(count - n)) for n, shape in enumerate(shapes.down)
    ]
    if style != "frozen":
        return
    plan.line("VAE, noise", boxes[0].name, (ENCODER + 0.46, boxes[0].y), (DOWN - 0.46, boxes[0].y))
    for above, below in pairwise(boxes):
        plan.line(above.name, below.name, (DOWN, above.y - 0.24), (DOWN, below.y + 0.24))
    plan.line(boxes[-1].name, mid.name, (DOWN, boxes[-1].y - 0.24), (DOWN, bottom), (mid.x - 0.46, bottom))
    for box in boxes[count - shapes.run :]:  # up-block n joins the skips of the n-th down-block from below
        up = f"up-block {round((box.y - bottom) / ROW)}"
        plan.line(box.name, up, (DOWN + 0.46, box.y), (UP - 0.46, box.y), kind="skip")


def _up_blocks(plan: Layout, shapes: Shapes) -> dict[str, tuple[float, float, str]]:
    """Gives where each feature can be taken from: x, y and the box it comes from."""
    anchors, feedback = {}, shapes.inject != "late"
    before, path = "mid block", ((UP - 0.12, _row(0)), (UP, _row(0)))
    for n, shape in enumerate(shapes.up):
        y, name = _row(n + 1), f"up-block {n + 1}"
        plan.box(name, _by(shape), "frozen" if n < shapes.run else "not run", UP, y)
        if n >= shapes.run:
            continue
        plan.line(before, name, *path, (UP, y - 0.24))
        before, path = name, ((UP, y + 0.24),)
        anchors[f"f{n + 1}"] = (UP + 0.46, y, name)
        plan.words.append((CONV, y + 0.03, _indexed("f", n)))
        if n in shapes.injected:
            anchors[f"f{n + 1}"] = (PLUS + 0.08, y, name)
            plan.circles.append((PLUS, y, "+"))
            plan.line(name, f"{name} injected", (UP + 0.46, y), (PLUS - 0.08, y))
            if feedback:  # what was injected goes on into the next block
                turn = y + ROW - 0.55
                path = ((PLUS, y + 0.08), (PLUS, turn), (UP, turn))
    return anchors


def _token_lines(plan: Layout, shapes: Shapes) -> None:
    """The injection's convolutions, each fed from a bus that rises from CLIP."""
    style = "learned" if shapes.learned[0] else "frozen"
    for n, sizes in zip(shapes.injected, shapes.convs, strict=True):
        y = _row(n + 1)
        box = plan.box(_indexed("C", n), "{} → {}".format(*sizes), style, CONV, y - BELOW, 0.78, 0.32)
        plan.line("CLIP", box.name, (ENCODER + 0.46, CLIP_Y), (BUS, CLIP_Y), (BUS, box.y), (CONV + 0.39, box.y),
                  kind="tokens")  # fmt: skip
        plan.line(box.name, f"up-block {n + 1} injected", (CONV - 0.39, box.y), (PLUS, box.y), (PLUS, y - 0.08),
                  kind="tokens")  # fmt: skip
    for n, sizes in enumerate(shapes.down_convs):
        y = _row(len(shapes.down) - n) - ROW / 2
        box = plan.box(_indexed("D", n), "{} → {}".format(*sizes), style, DOWN - 0.56, y, 0.78, 0.32)
        plan.circles.append((DOWN, y, "+"))
        plan.line("CLIP", box.name, (ENCODER, CLIP_Y + 0.24), (ENCODER, y), (box.x - 0.39, y), kind="tokens")
        plan.line(box.name, f"down-block {n + 1} injected", (box.x + 0.39, y), (DOWN - 0.08, y), kind="tokens")


def _aggregation(plan: Layout, shapes: Shapes, anchors: dict[str, tuple[float, float, str]]) -> None:
    """One ResNet block a branch, the branch weights, the sum and the map."""
    sources = [[anchors[name] for name in branch.split("+")] for branch in shapes.branches]
    heights = _spread([sum(y for _, y, _ in some) / len(some) for some in sources])
    middle, left = sum(heights) / len(heights), BLOCK - 0.44
    for n, (some, y, sizes, weight) in enumerate(zip(sources, heights, shapes.blocks, shapes.weights, strict=True)):
        box = plan.box(_indexed("A", n), "{} → {}".format(*sizes), "learned", BLOCK, y, 0.88)
        for x, start, source in some:
            kind = "tokens" if source == "CLIP" else "feature"
            plan.line(source, box.name, (x, start), (left - 0.12, start), (left - 0.12, y), (left, y), kind=kind)
        end = (SUM - 0.08, y) if y == middle else (SUM, middle + (0.08 if y > middle else -0.08))
        plan.line(box.name, "map", (BLOCK + 0.44, y), (SUM, y), end)
        plan.words.append((BLOCK + 0.67, y + 0.03, f"× {weight:.2f}"))
    plan.circles.append((SUM, middle, "Σ"))
    plan.words.append((BLOCK, max(heights) + 0.28, "standardise, resize,\nResNet block"))
    plan.box("map", _by(shapes.output), "data", MAP, middle, 0.9)
    plan.line("sum", "map", (SUM + 0.08, middle), (MAP - 0.45, middle))


def _spread(heights: list[float]) -> list[float]:
    """The same heights, pushed upwards where two boxes would overlap."""
    placed: dict[int, float] = {}
    for index in sorted(range(len(heights)), key=heights.__getitem__):
        placed[index] = max([heights[index], *(y + 0.62 for y in placed.values())])
    return [placed[index] for index in range(len(heights))]


def architecture(shapes: Shapes, title: str = "") -> Figure:
    """Draw what `read_shapes` found: what is frozen in grey, what is learned in blue with a thick edge.

    Args:
        shapes: of one extractor.
        title: a line above all.
    """
    plan, height = layout(shapes), _row(len(shapes.up)) + 0.86
    figure = Figure(figsize=(WIDTH, height), dpi=2 * DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, height))
    axes.set_axis_off()
    for line in sorted(plan.lines, key=lambda line: list(LINES).index(line.kind)):
        _draw_line(axes, line)
    for box in plan.boxes:
        _draw_box(axes, box)
    for x, y, sign in plan.circles:
        axes.add_patch(Circle((x, y), 0.08, facecolor="white", edgecolor=INK, linewidth=0.9, zorder=4))
        axes.text(x, y - 0.005, sign, ha="center", va="center", fontsize=9, color=INK, zorder=5)
    for x, y, text in plan.words:
        axes.text(x, y, text, ha="center", va="bottom", fontsize=8, color=INK, linespacing=1.1, zorder=5)
    axes.text(0.06, height - 0.08, title, ha="left", va="top", fontsize=10.5, color=INK, weight="bold")
    axes.text(WIDTH - 0.08, height - 0.1, "channels × height × width of one image", ha="right", va="top", fontsize=8,
              color=PALE)  # fmt: skip
    _legend(axes, shapes)
    return figure


def _draw_box(axes: Axes, box: Box) -> None:
    _frame(axes, (box.x - box.width / 2, box.y - box.height / 2), box.width, box.height, box.style)
    color, step = (PALE if box.style == "not run" else INK), box.height / 4.4
    texts = ((box.name, step, "bold", 8), (box.detail, -step, "normal", 7.5))
    for words, shift, weight, size in texts:
        axes.text(box.x, box.y + shift, words, ha="center", va="center", fontsize=size, color=color, weight=weight,
                  zorder=4)  # fmt: skip


def _frame(axes: Axes, corner: Point, width: float, height: float, style: str) -> None:
    fill, edge, line_width, dashes = STYLES[style]
    round_off = f"round,pad=0,rounding_size={min(height / 5, 0.05)}"
    look = {"facecolor": fill, "edgecolor": edge, "linewidth": line_width, "linestyle": dashes, "zorder": 3}
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=round_off, **look))


def _draw_line(axes: Axes, line: Line) -> None:
    color, dashes = LINES[line.kind]
    x, y = zip(*line.points, strict=True)
    axes.plot(x, y, color="white", linewidth=4, zorder=1, solid_capstyle="butt")
    axes.plot(x, y, color=color, linewidth=1.2, linestyle=dashes, zorder=2)
    arrow = {"arrowstyle": "-|>", "color": color, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 8}
    axes.annotate("", line.points[-1], _just_before(*line.points[-2:]), arrowprops=arrow, zorder=2)


def _just_before(start: Point, end: Point) -> Point:
    """A point 0.1 inches ahead of the end, from where the arrow's head is drawn."""
    length = max(abs(end[0] - start[0]) + abs(end[1] - start[1]), 1e-9)
    return tuple(b - (b - a) * min(1.0, 0.1 / length) for a, b in zip(start, end, strict=True))


def _legend(axes: Axes, shapes: Shapes) -> None:
    learned = "learned: injection C {:,}, aggregation A {:,} parameters".format(*shapes.learned)
    x = 0.1
    for style, words, width in (("frozen", "frozen", 0.8), ("learned", learned, 4.03), ("not run", "not run", 0.92)):
        _frame(axes, (x, 0.08), 0.16, 0.14, style)
        axes.text(x + 0.22, 0.15, words, ha="left", va="center", fontsize=8, color=INK)
        x += width
    for kind, words in (("tokens", "tokens"), ("skip", "skips")):
        color, dashes = LINES[kind]
        axes.plot((x, x + 0.26), (0.15, 0.15), color=color, linewidth=1.2, linestyle=dashes)
        axes.text(x + 0.32, 0.15, words, ha="left", va="center", fontsize=8, color=INK)
        x += 1.0
