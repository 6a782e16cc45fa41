"""SVG in and out: our own files come back as they were, others as the outlines of what is seen of their shapes."""

import io
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path as FilePath
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter
from svgelements import SVG, Curve, Length, Move, Path, Shape

from sfhelpers.drawing import css
from sfhelpers.drawing.strokes import MAX_POINTS, MAX_WIDTH, Points, Stroke, clipped, joined

INK = "#191919"  # 25 of 255, as the toy world's sketches
OWN = "data-canvas"  # on files of our own: the canvas's side in pixels
SPACE = "{http://www.w3.org/2000/svg}"
SHAPES = {"path", "line", "polyline", "polygon", "rect", "circle", "ellipse"}
GROUPS = {"svg", "g", "a", "switch"}
SILENT = {"title", "desc", "metadata", "defs", "style", "symbol", "marker", "pattern", "filter", "clipPath", "mask"}
SILENT |= {"linearGradient", "radialGradient", "view"}  # none of these is drawn where it stands
DOCTYPE = re.compile(r"""<!DOCTYPE\s+svg(\s+(PUBLIC\s+("[^"]*"|'[^']*')|SYSTEM)\s+["'](?!file:)[^"'<>]*["'])?\s*>""")
HANDLER = re.compile(  # a browser's names of events
    "on(load|unload|begin|end|repeat|activate|abort|error|resize|scroll|zoom|focus|focusin|focusout|blur|click|dblclick|"
    "wheel|contextmenu|copy|cut|paste|input|change|drop|message|(mouse|pointer|touch|key|drag|animation|transition)[a-z]+)"
)

NUMBER = r"[+-]?(?:\d{1,40}(?:\.\d{1,40})?|\.\d{1,40})(?:[Ee][+-]?\d{1,3})?(?!\d)"
LENGTH = re.compile(rf"{NUMBER}(px|pt|pc|mm|cm|in|%)?")
SIZE = re.compile(rf"(?!-){NUMBER}(px|pt|pc|mm|cm|in)?")
NUMBERS = re.compile(rf"(?:{NUMBER}|[\s,])*+")
ALLOWED = dict.fromkeys(["x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "rx", "ry", "width", "height"], LENGTH) | {
    "r": re.compile(rf"{NUMBER}(px|pt|pc|mm|cm|in)?"),  # the library's per cent give an ellipse
    "viewBox": NUMBERS,
    "preserveAspectRatio": re.compile(r"[A-Za-z ]*"),
    "transform": re.compile(r"matrix\([\de.,+-]*\)"),
    "points": NUMBERS,
    "d": re.compile(rf"(?:{NUMBER}|[MmZzLlHhVvCcSsQqTtAa\s,])*+"),
}
TOKEN = re.compile(r"[A-Za-z]|\d*\.?\d+")
OPEN = re.compile(r"[Zz][\s,]*(?![\s,Mm]|$)")  # goes on behind a closed line without a move
MAX_TOKENS = 7 * MAX_POINTS  # numbers and commands of paths; a cubic curve has seven
MAX_TAGS, MAX_DEPTH, MAX_ATTRIBUTE, MAX_OPEN = 10_000, 64, 2_000, 200
CURVE_POINTS = 4_000  # shared by all curves of a file, each of which gets 2 to 32
RENDERER = FilePath(__file__).with_name("rendered.py")
PPI = 96  # a browser's pixels an inch
SIDE = 1024  # pixels of the picture's longer side
FAINT = 15  # of 255: nobody sees a line that differs less from what is around it
GAP = 25  # pixels: what is hidden for longer was not drawn; shorter gaps are those of a dashed line
SECONDS = 8  # which a small picture never takes


def document(strokes: Sequence[Stroke], size: int) -> str:
    """Strokes as an SVG of polylines. White paper, dark round lines, coordinates with two decimals."""
    head = f'<svg xmlns="{SPACE[1:-1]}" viewBox="0 0 {size} {size}" width="{size}" height="{size}" {OWN}="{size}"'
    pen = f'<g fill="none" stroke="{INK}" stroke-linecap="round" stroke-linejoin="round">'
    lines = [f'{head} style="background: #fff">', pen]
    for stroke in strokes:
        points = np.repeat(stroke.points, 2, axis=0) if len(stroke.points) == 1 else stroke.points  # a dot has two ends
        pairs = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
        lines.append(f'<polyline stroke-width="{stroke.width:g}" points="{pairs}"/>')
    return "\n".join([*lines, "</g>", "</svg>"]) + "\n"


def strokes_of(content: str) -> tuple[list[Stroke], int | None]:
    """Lines and outlines that are seen, and the canvas's side of a file of ours; errors follow on "because"."""
    root = _root(content)
    own = re.fullmatch("[0-9]{1,4}", root.get(OWN, ""))
    box = _page(root)
    css.to_attributes(root, box or [100.0, 100.0])
    _page(root)  # again, since a style may give the page a size
    shapes = Element("svg", {"xmlns": SPACE[1:-1]} | _placed(root))
    _copy(root, shapes, {name: root.get(name, css.INITIAL[name]) for name in ("fill", "stroke", "stroke-width")})
    lines = [shape.get(key, "") for shape in shapes.iter() for key in ("points", "d")]
    if sum(len(TOKEN.findall(line)) for line in lines) > MAX_TOKENS:
        raise ValueError(f"it has more than {MAX_POINTS:,} points: simplify its paths.")
    if sum(len(OPEN.findall(line)) for line in lines) > MAX_OPEN:  # the library looks back for each one's beginning
        raise ValueError(f"its paths go on behind a z more than {MAX_OPEN} times: begin each line with a move.")
    try:
        page = SVG.parse(io.StringIO(tostring(shapes, encoding="unicode")))
        lines = list(_lines([Path(shape).reify() for shape in page.select(lambda item: isinstance(item, Shape))]))
    except Exception as error:  # the reader raises many kinds on paths that do not begin with a move, and the like
        raise ValueError(f"it has a shape that cannot be read ({type(error).__name__}): repair it.") from error
    strokes = [Stroke(points, width if own else np.clip(width, 1e-9, MAX_WIDTH)) for points, width in lines]
    strokes = _seen(strokes, root) if strokes and not own else strokes
    if not strokes:
        raise ValueError("it holds no path, line or shape with ink on its page: choose another file.")
    return strokes, int(own[0]) if own else None


def _root(content: str) -> Element:
    """The file's elements, none of which is active."""
    if content.count("<") > MAX_TAGS:  # counted before anything is read
        raise ValueError(f"it has more than {MAX_TAGS:,} tags: simplify it.")
    if "<?xml-stylesheet" in content:
        raise ValueError("its style sheet is another file: write what that says into this one.")
    try:
        root = fromstring(DOCTYPE.sub("", content, count=1), forbid_dtd=True)
    except DefusedXmlException:
        raise ValueError("it has a document type or entities, which could hide anything: delete them.") from None
    except (ParseError, ValueError) as error:
        raise ValueError(f"it is not an SVG, or it is cut ({error}): save it again.") from None
    if (tag := root.tag.removeprefix(SPACE)) != "svg":
        raise ValueError(f"it is not an SVG, its first element is <{tag.rpartition('}')[2]}>: choose another file.")
    for element in root.iter():
        element.tag = element.tag.removeprefix(SPACE)
        handlers = any(HANDLER.fullmatch(key.lower()) for key in element.attrib)
        links = [re.sub(r"\s", "", value).lower() for key, value in element.items() if key.endswith("href")]
        foreign = element.tag.rpartition("}")[2].lower() in ("script", "foreignobject")
        if handlers or any(link.startswith("javascript:") for link in links) or (foreign and not _is_skipped(element)):
            raise ValueError("it holds a script or a web page: a drawing needs none.")
        element.attrib = {key: text for key, text in element.items() if not key.endswith("href") or text[:1] == "#"}
    return root


def _page(root: Element) -> list[float]:
    """Width and height in the file's own units, [] if unsaid; a size that hangs on a window or a font says nothing."""
    sizes = [root.attrib.pop(name, "") for name in ("width", "height")]
    given = root.get("viewBox", "")
    view = [float(number) for number in re.findall(NUMBER, given)] if NUMBERS.fullmatch(given) else []
    if all(map(SIZE.fullmatch, sizes)):
        sizes = [float(Length(size).value(ppi=PPI)) for size in sizes]
        view = view if given else [0.0, 0.0, *sizes]
    else:
        sizes = view[2:]
    if (given or view) and (len(view) != 4 or min(view[2:] + sizes) <= 0):
        raise ValueError("it has a 'viewBox' that cannot be read: repair it.")
    for name in ("x", "y"):
        root.attrib.pop(name, None)
    if view:
        root.attrib |= {"viewBox": " ".join(map(str, view)), "width": str(sizes[0]), "height": str(sizes[1])}
    return view[2:]


def _copy(source: Element, target: Element, outer: dict[str, str], depth: int = 0) -> None:
    """Copy what is drawn where it stands, with what places it and its paints; take out what no browser draws."""
    if depth > MAX_DEPTH:
        raise ValueError(f"it nests groups more than {MAX_DEPTH} deep: ungroup them.")
    for element in list(source):
        tag = element.tag
        if tag[0] == "{" or _is_skipped(element):  # other namespaces hold an editor's notes
            source.remove(element)
            continue
        paints = outer | {name: element.get(name) for name in outer if element.get(name, "inherit") != "inherit"}
        if tag in SILENT or element.get("display") == "none":
            pass
        elif tag in GROUPS:
            _copy(element, SubElement(target, tag if tag == "svg" else "g", _placed(element)), paints, depth + 1)
        elif tag not in SHAPES:
            raise ValueError(f"it holds a <{tag}> element, which is no stroke: turn it into paths or take it out.")
        elif {paints["fill"], paints["stroke"]} != {"none"} and (tag != "path" or element.get("d")):
            if tag == "ellipse":  # one radius says the other, too
                radii = [element.get(name, "auto") for name in ("rx", "ry", "rx")]
                element.attrib |= {"rx": min(radii[:2], key="auto".__eq__), "ry": min(radii[1:], key="auto".__eq__)}
            SubElement(target, tag, paints | _placed(element))


def _is_skipped(element: Element) -> bool:
    return bool(element.get("requiredExtensions")) or not element.get("systemLanguage", "en").lower().startswith("en")


def _placed(element: Element) -> dict[str, str]:
    """What places an element, each in the form that it must have."""
    found = {key: value for key, value in element.attrib.items() if key in ALLOWED and value != "auto"}
    for key, value in found.items():
        if (len(value) > MAX_ATTRIBUTE and key not in ("points", "d")) or not ALLOWED[key].fullmatch(value.strip()):
            raise ValueError(f"it has a <{element.tag}> whose {key!r} cannot be read: repair it.")
    return found


def _lines(paths: Sequence[Path]) -> Iterator[tuple[Points, float]]:
    """Points and width of every subpath; a dot is one point."""
    curves = sum(isinstance(segment, Curve) for path in paths for segment in path)
    pieces = int(np.clip(CURVE_POINTS // max(curves, 1), 2, 32))
    for path in paths:
        lines: list[list[tuple[float, float]]] = []
        for segment in path:
            if isinstance(segment, Move):
                lines.append([])
            if isinstance(segment, Curve):
                lines[-1].extend(segment.npoint(np.arange(1, pieces + 1) / pieces))
            else:
                lines[-1].append((segment.end.x, segment.end.y))
        for points in (np.array(line) for line in lines if len(line) > 1):
            corners = len(np.unique(points, axis=0))
            if corners > 2 or path.values["stroke"] != "none":  # what is only filled has an area
                width = path.stroke_width if isinstance(path.stroke_width, int | float) else 16.0  # as em of a font
                yield points if corners > 1 else points[:1], width


def _seen(strokes: Sequence[Stroke], root: Element) -> list[Stroke]:
    """The strokes, or those stretches of them, that have ink in the file's picture."""
    start, size = np.zeros(2), np.array([float(root.get(name, "0")) for name in ("width", "height")])
    if not size.all():
        start, end = (edge(joined(strokes), axis=0) + beside for edge, beside in ((np.min, -2), (np.max, 2)))
        size = end - start
        root.set("viewBox", " ".join(map(str, (*start, *size))))
    scale = SIDE / size.max()
    edges, inks = _edges(root, (size * scale).round().astype(int).clip(1)), {}
    found = []
    for stroke in strokes:
        reach = 2 ** int(np.ceil(np.log2(2 + stroke.width * scale / 2)))
        if reach not in inks:
            inks[reach] = np.asarray(edges.filter(ImageFilter.BoxBlur(reach))) > 0
        for piece in clipped((stroke.points - start) * scale, size * scale):
            found += [Stroke(part / scale, stroke.width) for part in _stretches(piece, inks[reach])]
    return found


def _stretches(line: Points, ink: NDArray[np.bool_]) -> list[Points]:
    """A line in pixels as it is if it has ink all along; else its stretches that have."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    steps = np.linspace(0, along[-1], int(along[-1]) + 2)
    points = np.stack([np.interp(steps, along, axis) for axis in line.T], 1)
    column, row = points.astype(int).T.clip(0, np.array(ink.shape)[::-1, None] - 1)
    at = np.flatnonzero(ink[row, column])
    runs = np.split(at, np.flatnonzero(np.diff(at) > GAP) + 1) if len(at) else []
    if len(runs) == 1 and at[0] <= GAP and at[-1] >= len(steps) - 1 - GAP:
        return [line]
    return [points[run[0] : run[-1] + 1] for run in runs if len(run) > GAP or len(runs) > 5]


def _edges(root: Element, size: NDArray[np.int_]) -> Image.Image:
    """Where the picture differs from what is around, in white on black."""
    page = root.get("background", "") if root.get("background", "").startswith("rgba") else "white"
    command = [sys.executable, RENDERER, *map(str, size), page]
    try:  # in a process of its own, whose time is bounded
        done = subprocess.run(command, input=tostring(root), capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise ValueError(f"it takes longer than {SECONDS} seconds to draw: simplify it.") from None
    if done.returncode:
        raise ValueError("it cannot be drawn: open it in an editor and save it again.")
    drawn = Image.open(io.BytesIO(done.stdout)).convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")
    around = ImageChops.subtract(picture.filter(ImageFilter.MaxFilter(5)), picture.filter(ImageFilter.MinFilter(5)))
    return Image.fromarray((np.asarray(around).max(2) > FAINT).astype(np.uint8) * 255)
