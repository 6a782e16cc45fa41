"""SVG in and out: our own files come back as they were, others as the outlines of their shapes.

An SVG is a program's file: it may hold scripts, ask for other files, or unfold into gigabytes. So it is looked through
first, with no document type and no entities allowed (`defusedxml`), and only shapes with the attributes that place them
reach the library that computes curves (`svgelements`).
"""

import io
import re
from collections.abc import Sequence
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from svgelements import SVG, Close, Line, Move, Path, Shape

from sfhelpers.drawing.strokes import MAX_POINTS, Points, Stroke, check_count

INK = "#191919"  # 25 of 255, as the toy world's sketches
OWN = "data-canvas"  # on files of our own: the canvas's side in pixels
SPACES = ("", "http://www.w3.org/2000/svg")
SHAPES = {  # and the attribute without which they have no form
    "path": "d", "line": "", "polyline": "points", "polygon": "points", "rect": "width", "circle": "r", "ellipse": "rx",
}  # fmt: skip
SILENT = {"title", "desc", "metadata", "defs", "style", "symbol", "marker", "pattern", "filter", "clipPath", "mask"}
SILENT |= {"linearGradient", "radialGradient"}  # none of these is drawn where it stands
NO_INK = {"none", "transparent", "white", "#fff", "#ffffff", "rgb(255,255,255)"}
STYLE = ("fill", "stroke", "stroke-width", "display")

LENGTH = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([Ee][+-]?\d+)?(px|pt|pc|mm|cm|in|em|ex|%)?")
LENGTHS = ("x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "ry", "width", "height")
NUMBERS = re.compile(r"[Ee\d\s,.+-]*")
ALLOWED = dict.fromkeys(LENGTHS, LENGTH) | {
    "viewBox": NUMBERS,
    "transform": re.compile(r"([A-Za-z]+\s*\([Ee\d\s,.+-]*\)[\s,]*)*"),
    "points": NUMBERS,
    "d": re.compile(r"[MmZzLlHhVvCcSsQqTtAaEe\d\s,.+-]*"),
}
LINES = ("points", "d")  # may be long
TOKEN = re.compile(r"[A-Za-z]|\d*\.?\d+")
MAX_TOKENS = 7 * MAX_POINTS  # numbers and commands of paths; a cubic curve has seven
MAX_TAGS, MAX_DEPTH, MAX_ATTRIBUTE = 10_000, 64, 2_000
STRAIGHT = (Move, Line, Close)
CURVE_POINTS = 4_000  # shared by all curves of a file, each of which gets 2 to 32


def document(strokes: Sequence[Stroke], size: int) -> str:
    """Strokes as an SVG of polylines. White paper, dark round lines, coordinates with two decimals."""
    head = f'<svg xmlns="{SPACES[1]}" viewBox="0 0 {size} {size}" width="{size}" height="{size}" {OWN}="{size}"'
    pen = f'<g fill="none" stroke="{INK}" stroke-linecap="round" stroke-linejoin="round">'
    lines = [f'{head} style="background: #fff">', pen]
    for stroke in strokes:
        points = np.repeat(stroke.points, 2, axis=0) if len(stroke.points) == 1 else stroke.points  # a dot has two ends
        pairs = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
        lines.append(f'<polyline stroke-width="{stroke.width:g}" points="{pairs}"/>')
    return "\n".join([*lines, "</g>", "</svg>"]) + "\n"


def strokes_of(content: str) -> tuple[list[Stroke], int | None]:
    """Lines and outlines with ink, in the file's own units, and the side of the canvas if the file is one of ours, in
    which alone the lines' widths count; a ValueError's sentence follows on "because"."""
    root = _root(content)
    shapes = Element("svg", {"xmlns": SPACES[1]} | _placed(root))
    _copy(root, shapes, _style(root, {}))
    if sum(len(TOKEN.findall(shape.get(key, ""))) for shape in shapes.iter() for key in LINES) > MAX_TOKENS:
        raise ValueError(f"it has more than {MAX_POINTS:,} points: simplify its paths.")
    own = root.get(OWN, "")
    is_own = own.isascii() and own.isdecimal() and len(own) < 5
    try:
        found = _lines(tostring(shapes, encoding="unicode"), is_own)
    except Exception as error:  # the reader raises many kinds on paths that do not begin with a move, and the like
        raise ValueError(f"it has a shape that cannot be read ({type(error).__name__}): repair it.") from error
    if not found:
        raise ValueError("it holds no path, line or shape with ink: choose another file.")
    check_count(len(found), sum(len(points) for points, _ in found))
    return [Stroke(points, width) for points, width in found], int(own) if is_own else None


def _root(content: str) -> Element:
    """The file's elements, none of which is active."""
    if content.count("<") > MAX_TAGS:  # counted before anything is read
        raise ValueError(f"it has more than {MAX_TAGS:,} tags: simplify it.")
    try:
        root = fromstring(content, forbid_dtd=True)
    except DefusedXmlException:
        raise ValueError("it has a document type or entities, which could hide anything: delete them.") from None
    except (ParseError, ValueError) as error:
        raise ValueError(f"it is not an SVG, or it is cut ({error}): save it again.") from None
    if _split(root) not in [(space, "svg") for space in SPACES]:
        raise ValueError(f"it is not an SVG, its first element is <{_split(root)[1]}>: choose another file.")
    for element in root.iter():
        handlers = any(key.lower().startswith("on") for key in element.attrib)
        links = any("javascript:" in value.lower() for value in element.attrib.values())
        if handlers or links or _split(element)[1].lower() in ("script", "foreignobject"):
            raise ValueError("it holds a script or a web page: a drawing needs none.")
    return root


def _split(element: Element) -> tuple[str, str]:
    space, _, local = element.tag.rpartition("}")
    return space.removeprefix("{"), local


def _copy(source: Element, target: Element, style: dict[str, str], depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"it nests groups more than {MAX_DEPTH} deep: ungroup them.")
    for element in source:
        space, local = _split(element)
        if space not in SPACES or local in SILENT:  # other namespaces hold an editor's notes
            continue
        if local not in SHAPES and local not in ("svg", "g"):
            raise ValueError(f"it holds a <{local}> element, which is no stroke: turn it into paths or take it out.")
        own = _style(element, style)
        if own.get("display") == "none":
            continue
        has_ink = own.get("stroke", "none") not in NO_INK or own.get("fill", "black") not in NO_INK
        if local not in SHAPES:
            _copy(element, SubElement(target, local, _placed(element)), own, depth + 1)
        elif (not SHAPES[local] or element.get(SHAPES[local])) and has_ink:
            SubElement(target, local, _placed(element) | {"stroke-width": own.get("stroke-width", "1")})


def _placed(element: Element) -> dict[str, str]:
    """The attributes that place an element, each in the form that it must have."""
    found = {key: value.strip() for key, value in element.attrib.items() if key in ALLOWED}
    for key, value in found.items():
        if (len(value) > MAX_ATTRIBUTE and key not in LINES) or not ALLOWED[key].fullmatch(value):
            raise ValueError(f"it has a <{_split(element)[1]}> whose {key!r} cannot be read: repair it.")
    return found


def _style(element: Element, inherited: dict[str, str]) -> dict[str, str]:
    """What the element and those around it say about ink, by attributes or by a style attribute."""
    entries = [entry.partition(":") for entry in element.get("style", "").split(";")]
    found = element.attrib | {key.strip(): value for key, _, value in entries}
    return inherited | {key: value.replace(" ", "").lower() for key, value in found.items() if key in STYLE}


def _lines(shapes: str, with_width: bool) -> list[tuple[Points, float]]:
    """The points of every subpath, in the units of the whole, and its line's width."""
    shapes = SVG.parse(io.StringIO(shapes), reify=True).elements(lambda item: isinstance(item, Shape))
    paths = [(Path(shape), float(shape.values["stroke-width"]) if with_width else 1.0) for shape in shapes]
    for path, _ in paths:
        path.approximate_arcs_with_cubics()
    curves = sum(not isinstance(segment, STRAIGHT) for path, _ in paths for segment in path)
    pieces = int(np.clip(CURVE_POINTS // max(curves, 1), 2, 32))
    found = []
    for path, width in paths:
        lines: list[list[tuple[float, float]]] = []
        for segment in path:
            if isinstance(segment, Move):
                lines.append([])
            if isinstance(segment, STRAIGHT):
                lines[-1].append((segment.end.x, segment.end.y))
            else:
                lines[-1].extend(segment.npoint(np.arange(1, pieces + 1) / pieces))
        dots = [line[:1] if len(line) == 2 and line[0] == line[1] else line for line in lines]
        found += [(np.array(line, dtype=float), width) for line in dots]
    return found
