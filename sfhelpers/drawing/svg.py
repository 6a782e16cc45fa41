"""SVG in and out: our own files come back as they were, others as the outlines of what is seen of their shapes.

An SVG is a program's file: it may hold scripts, ask for other files, or unfold into gigabytes. So it is looked through
first, with no entities allowed (`defusedxml`), its cost is bounded, and only shapes with the attributes that place them
reach the library that computes curves (`svgelements`).
"""

import io
import re
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from numpy.typing import NDArray
from svgelements import SVG, Close, Length, Line, Move, Path, Shape

from sfhelpers.drawing import css
from sfhelpers.drawing.strokes import MAX_POINTS, Points, Stroke, check_count, clipped

INK = "#191919"  # 25 of 255, as the toy world's sketches
OWN = "data-canvas"  # on files of our own: the canvas's side in pixels
SPACES = ("", "http://www.w3.org/2000/svg")
SHAPES = {  # and the attribute without which they have no form
    "path": "d", "line": "", "polyline": "points", "polygon": "points", "rect": "width", "circle": "r", "ellipse": "rx",
}  # fmt: skip
GROUPS = ("svg", "g", "a", "switch")
SILENT = {"title", "desc", "metadata", "defs", "style", "symbol", "marker", "pattern", "filter", "clipPath", "mask"}
SILENT |= {"linearGradient", "radialGradient", "view"}  # none of these is drawn where it stands
DOCTYPE = re.compile(r"""<!DOCTYPE\s+svg(\s+(PUBLIC\s+("[^"]*"|'[^']*')|SYSTEM)\s+["'](?!file:)[^"'<>]*["'])?\s*>""")
HANDLER = re.compile(  # a browser's names of events
    "on(load|unload|begin|end|repeat|activate|abort|error|resize|scroll|zoom|focus|focusin|focusout|blur|click|dblclick|"
    "wheel|contextmenu|copy|cut|paste|input|change|drop|message|(mouse|pointer|touch|key|drag|animation|transition)[a-z]+)"
)

LENGTH = re.compile(rf"{css.NUMBER}(px|pt|pc|mm|cm|in|%)?")
LENGTHS = ("x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "ry", "width", "height")
NUMBERS = re.compile(rf"(?:{css.NUMBER}|[\s,])*+")
ALLOWED = dict.fromkeys(LENGTHS, LENGTH) | {
    "r": re.compile(rf"{css.NUMBER}(px|pt|pc|mm|cm|in)?"),  # the library's per cent give an ellipse
    "viewBox": NUMBERS,
    "preserveAspectRatio": re.compile(r"[A-Za-z ]*"),
    "transform": re.compile(rf"((matrix|translate|scale|rotate|skewx|skewy)\s*\((?:{css.NUMBER}|[\s,])*+\)[\s,]*)*+"),
    "points": NUMBERS,
    "d": re.compile(rf"(?:{css.NUMBER}|[MmZzLlHhVvCcSsQqTtAa\s,])*+"),
}
ORIGIN = re.compile(rf"{css.NUMBER}(px|%)?")
PLACES = {"left": "0%", "top": "0%", "center": "50%", "right": "100%", "bottom": "100%"}
TOKEN = re.compile(r"[A-Za-z]|\d*\.?\d+")
OPEN = re.compile(r"[Zz][\s,]*(?![\s,Mm]|$)")  # goes on behind a closed line without a move
MAX_TOKENS = 7 * MAX_POINTS  # numbers and commands of paths; a cubic curve has seven
MAX_TAGS, MAX_DEPTH, MAX_ATTRIBUTE, MAX_OPEN, MAX_MOVES = 10_000, 64, 2_000, 200, 100_000
STRAIGHT = (Move, Line, Close)
CURVE_POINTS = 4_000  # shared by all curves of a file, each of which gets 2 to 32
FAINT = 0.06  # of the range from black to white: nobody sees a line that differs less from the page


class File(NamedTuple):
    """What is known of a file while it is copied."""

    rules: list[css.Rule]
    styles: list[css.Style]  # of the shapes so far
    box: list[float]  # the page's width and height in the file's own units


Paper = NDArray[np.float64] | None  # red, green and blue in [0, 1]; None if of several colours


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
    """Lines and outlines that are seen, in pixels of the page, and the canvas's side where the file is one of ours.

    A ValueError's sentence follows on "because". Line widths only count in our own files.
    """
    root = _root(content)
    rules = css.rules_of(root)
    style = css.style_of(root, css.INITIAL, rules)
    shapes = Element("svg", {"xmlns": SPACES[1]} | _page(root, style))
    view = [float(number) for number in re.findall(css.NUMBER + "|nan", shapes.get("viewBox", "0 0 nan nan"))]
    if len(view) != 4 or min(view[2:]) <= 0:
        raise ValueError("it has a 'viewBox' that cannot be read: repair it.")
    file = File(rules, [], view[2:])
    if style["display"] != "none":
        _copy(root, shapes, style, file)
    lines = [shape.get(key, "") for shape in shapes.iter() for key in ("points", "d")]
    if sum(len(TOKEN.findall(line)) for line in lines) > MAX_TOKENS:
        raise ValueError(f"it has more than {MAX_POINTS:,} points: simplify its paths.")
    if sum(len(OPEN.findall(line)) for line in lines) > MAX_OPEN:  # the library looks back for each one's beginning
        raise ValueError(f"its paths go on behind a z more than {MAX_OPEN} times: begin each line with a move.")
    if sum(shape.get("transform", "").count("(") * sum(1 for _ in shape.iter()) for shape in shapes.iter()) > MAX_MOVES:
        raise ValueError(f"its shapes are transformed more than {MAX_MOVES:,} times: simplify its groups.")
    own = root.get(OWN, "")
    is_own = own.isascii() and own.isdecimal() and len(own) < 5
    try:
        page = SVG.parse(io.StringIO(tostring(shapes, encoding="unicode")), reify=True)
        found = _seen(page, file.styles, _background(style), "viewBox" in shapes.attrib)
    except Exception as error:  # the reader raises many kinds on paths that do not begin with a move, and the like
        raise ValueError(f"it has a shape that cannot be read ({type(error).__name__}): repair it.") from error
    if not found:
        raise ValueError("it holds no path, line or shape with ink on its page: choose another file.")
    check_count(len(found), sum(len(points) for points, _ in found))
    return [Stroke(points, width if is_own else 1.0) for points, width in found], int(own) if is_own else None


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
    if _split(root) not in [(space, "svg") for space in SPACES]:
        raise ValueError(f"it is not an SVG, its first element is <{_split(root)[1]}>: choose another file.")
    for element in root.iter():
        handlers = any(HANDLER.fullmatch(key.lower()) for key in element.attrib)
        links = [re.sub(r"\s", "", value).lower() for key, value in element.items() if key.endswith("href")]
        scripts = any(link.startswith("javascript:") for link in links)
        if handlers or scripts or _split(element)[1].lower() in ("script", "foreignobject"):
            raise ValueError("it holds a script or a web page: a drawing needs none.")
    return root


def _split(element: Element) -> tuple[str, str]:
    space, _, local = element.tag.rpartition("}")
    return space.removeprefix("{"), local


def _page(root: Element, style: css.Style) -> dict[str, str]:
    """What places the page; sizes that depend on a window or a font are left out, as the viewBox says it all."""
    sizes = {name: style.get(name, "") for name in ("width", "height")}
    if not all(re.fullmatch(LENGTH, size) and size[-1] != "%" for size in sizes.values()):
        sizes = dict.fromkeys(sizes, "auto")
    if style["transform"] != "none":
        raise ValueError("it moves the whole page by a transform: write that onto a group inside.")
    found = _placed(root, style | sizes | {"x": "auto", "y": "auto"}, [])
    if "width" in found:  # without a viewBox, the library takes per cent of the other side
        width, height = (Length(size).value(ppi=96) for size in sizes.values())
        found.setdefault("viewBox", f"0 0 {width} {height}")
    return found


def _background(style: css.Style) -> Paper:
    """The colour of a page: white, or what the root is given."""
    found = [css.color_of(style.get(name, "")) for name in ("background-color", "background")]
    *color, alpha = next((one for one in found if one), (1.0, 1.0, 1.0, 1.0))
    return 1 - alpha * (1 - np.array(color))


def _copy(source: Element, target: Element, outer: css.Style, file: File, depth: int = 0) -> None:
    """Copy what is seen and what places it; the id of a shape is the number of its style."""
    if depth > MAX_DEPTH:
        raise ValueError(f"it nests groups more than {MAX_DEPTH} deep: ungroup them.")
    for element in source:
        space, local = _split(element)
        language = element.get("systemLanguage", "en").strip().lower()
        skipped = local in SILENT or element.get("requiredExtensions") or not language.startswith("en")
        if space not in SPACES or skipped:  # other namespaces hold an editor's notes
            continue
        style = css.style_of(element, outer, file.rules)
        is_hidden = style["display"] == "none" or float(style["opacity"]) == 0
        if is_hidden or (style["visibility"] != "visible" and local not in GROUPS):
            pass
        elif local in GROUPS:
            inner = SubElement(target, "svg" if local == "svg" else "g", _placed(element, style, file.box))
            _copy(element, inner, style, file, depth + 1)
        elif local not in SHAPES:
            raise ValueError(f"it holds a <{local}> element, which is no stroke: turn it into paths or take it out.")
        elif not SHAPES[local] or style.get(SHAPES[local]):
            SubElement(target, local, _placed(element, style, file.box) | {"id": str(len(file.styles))})
            file.styles.append(style)
        if _split(source)[1] == "switch":
            return  # the first that can be shown stands for all


def _placed(element: Element, style: css.Style, box: Sequence[float]) -> dict[str, str]:
    """What places an element, each in the form that it must have; `box` is the page's width and height."""
    found = {key: style[key].strip() for key in ALLOWED if style.get(key, "auto") != "auto"}
    if style["transform"] != "none":
        found["transform"] = style["transform"]
    for key, value in found.items():
        allowed = ALLOWED[key].fullmatch(value) or (key == "transform" and css.TRANSFORM.fullmatch(value))
        if (len(value) > MAX_ATTRIBUTE and key not in ("points", "d")) or not allowed:
            raise ValueError(f"it has a <{_split(element)[1]}> whose {key!r} cannot be read: repair it.")
    if "transform" in found and style["transform-origin"] != "0 0":
        x, y = _origin(style["transform-origin"], box)
        found["transform"] = f"translate({x},{y}) {found['transform']} translate({-x},{-y})"
    return found


def _origin(value: str, box: Sequence[float]) -> list[float]:
    """What a transform goes around, in the units of the page."""
    words = [*value.split(), "center"][:2]
    words = words[::-1] if words[0] in ("top", "bottom") or words[1] in ("left", "right") else words
    marks = [PLACES.get(word, word) for word in words]
    if not all(ORIGIN.fullmatch(mark) for mark in marks) or (np.isnan(box).any() and "%" in value + "".join(marks)):
        raise ValueError(f"it has the transform-origin {value!r}, which is not read: give it in px.")
    shares = [side / 100 if mark[-1] == "%" else 1 for mark, side in zip(marks, box, strict=True)]
    return [float(re.sub("px|%", "", mark)) * share for mark, share in zip(marks, shares, strict=True)]


def _seen(page: SVG, styles: Sequence[css.Style], color: Paper, is_bounded: bool) -> list[tuple[Points, float]]:
    """Points, in pixels of the page, and width of every subpath that differs from what it is drawn on."""
    drawn = page.elements(lambda item: isinstance(item, Shape))
    shapes = [(Path(shape).reify(), styles[int(shape.id)]) for shape in drawn]
    curves = sum(not isinstance(segment, STRAIGHT) for path, _ in shapes for segment in path)
    pieces = int(np.clip(CURVE_POINTS // max(curves, 1), 2, 32))
    size = np.array([page.width, page.height])
    found: list[tuple[Points, float]] = []
    for path, style in shapes:
        lines = _lines(path, pieces)
        (fill, filled), (stroke, stroked) = (css.paint_of(style, name) for name in ("fill", "stroke"))
        if filled and _covers(lines, size):
            found = found if filled < 1 else []
            color = None if fill is None or color is None else filled * np.array(fill) + (1 - filled) * color
            filled = 0
        width = float(re.match(css.NUMBER, style["stroke-width"])[0])
        is_line, is_area = (_differs(*paint, color) for paint in ((stroke, stroked * (width > 0)), (fill, filled)))
        for line in lines:
            corners = len(np.unique(line, axis=0))
            if (is_line and (corners > 1 or style["stroke-linecap"] != "butt")) or (is_area and corners > 2):
                line = line if corners > 1 else line[:1]  # a dot
                inside = clipped(line, size) if is_bounded and np.isfinite(line).all() else [line]
                found += [(piece, width) for piece in inside]
    return found


def _differs(paint: Sequence[float] | None, opacity: float, color: Paper) -> bool:
    return opacity > 0 and (paint is None or color is None or opacity * np.abs(color - paint).max() > FAINT)


def _covers(lines: Sequence[Points], size: Points) -> bool:
    """Whether a shape is a rectangle over the whole page."""
    if len(lines) != 1:
        return False
    low, high = lines[0].min(axis=0), lines[0].max(axis=0)
    x, y = lines[0].T
    area = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
    return (low <= 0.02 * size).all() and (high >= 0.98 * size).all() and area >= 0.97 * np.prod(high - low)


def _lines(path: Path, pieces: int) -> list[Points]:
    lines: list[list[tuple[float, float]]] = []
    for segment in path:
        if isinstance(segment, Move):
            lines.append([])
        if isinstance(segment, STRAIGHT):
            lines[-1].append((segment.end.x, segment.end.y))
        else:
            lines[-1].extend(segment.npoint(np.arange(1, pieces + 1) / pieces))
    return [np.array(line, dtype=float) for line in lines if len(line) > 1]
