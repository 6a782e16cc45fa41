"""SVG in and out: our own files come back as they were, others as the outlines of what is seen of their shapes.

An SVG may hold scripts, ask for other files, or unfold into gigabytes. So it is looked through first, with no entities
allowed (`defusedxml`), its cost is bounded, and only shapes with what places them reach the library of curves.
"""

import io
import re
from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from svgelements import SVG, Curve, Length, Move, Path, Shape

from sfhelpers.drawing import css
from sfhelpers.drawing.strokes import MAX_POINTS, Points, Stroke, clipped

INK = "#191919"  # 25 of 255, as the toy world's sketches
OWN = "data-canvas"  # on files of our own: the canvas's side in pixels
SPACE = "{http://www.w3.org/2000/svg}"
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
SIZE = re.compile(rf"{css.NUMBER}(px|pt|pc|mm|cm|in)?")
NUMBERS = re.compile(rf"(?:{css.NUMBER}|[\s,])*+")
ALLOWED = dict.fromkeys(["x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "rx", "ry", "width", "height"], LENGTH) | {
    "r": SIZE,  # the library's per cent give an ellipse
    "viewBox": NUMBERS,
    "preserveAspectRatio": re.compile(r"[A-Za-z ]*"),
    "transform": re.compile(rf"((matrix|translate|scale|rotate|skewx|skewy)\s*\((?:{css.NUMBER}|[\s,])*+\)[\s,]*)*+"),
    "points": NUMBERS,
    "d": re.compile(rf"(?:{css.NUMBER}|[MmZzLlHhVvCcSsQqTtAa\s,])*+"),
}
PLACES = {"left": "0%", "top": "0%", "center": "50%", "right": "100%", "bottom": "100%"}
TOKEN = re.compile(r"[A-Za-z]|\d*\.?\d+")
OPEN = re.compile(r"[Zz][\s,]*(?![\s,Mm]|$)")  # goes on behind a closed line without a move
MAX_TOKENS = 7 * MAX_POINTS  # numbers and commands of paths; a cubic curve has seven
MAX_TAGS, MAX_DEPTH, MAX_ATTRIBUTE, MAX_OPEN, MAX_MOVES = 10_000, 64, 2_000, 200, 100_000
CURVE_POINTS = 4_000  # shared by all curves of a file, each of which gets 2 to 32
FAINT = 0.06  # of the range from black to white: nobody sees a line that differs less from the page


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
    """Lines and outlines that are seen, in pixels of the page, and the canvas's side where the file is one of ours.

    A ValueError's sentence follows on "because". Line widths only count in our own files.
    """
    root = _root(content)
    rules = css.rules_of(root)
    style = css.style_of(root, css.INITIAL, rules)
    shapes = Element("svg", _page(root, style))
    view = [float(number) for number in re.findall(css.NUMBER + "|nan", shapes.get("viewBox", "0 0 nan nan"))]
    if len(view) != 4 or min(view[2:]) <= 0:
        raise ValueError("it has a 'viewBox' that cannot be read: repair it.")
    styles = list(_copy(root, shapes, style, rules, view[2:])) if style["display"] != "none" else []
    for number, shape in enumerate(shape for shape in shapes.iter() if shape.tag in SHAPES):
        shape.set("id", str(number))
    lines = [shape.get(key, "") for shape in shapes.iter() for key in ("points", "d")]
    if sum(len(TOKEN.findall(line)) for line in lines) > MAX_TOKENS:
        raise ValueError(f"it has more than {MAX_POINTS:,} points: simplify its paths.")
    if sum(len(OPEN.findall(line)) for line in lines) > MAX_OPEN:  # the library looks back for each one's beginning
        raise ValueError(f"its paths go on behind a z more than {MAX_OPEN} times: begin each line with a move.")
    if sum(shape.get("transform", "").count("(") * sum(1 for _ in shape.iter()) for shape in shapes.iter()) > MAX_MOVES:
        raise ValueError(f"its shapes are transformed more than {MAX_MOVES:,} times: simplify its groups.")
    colors = [css.color_of(style.get(name, "")) for name in ("background-color", "background")]
    *color, alpha = next(filter(None, colors), (1.0, 1.0, 1.0, 1.0))
    try:
        page = SVG.parse(io.StringIO(tostring(shapes, encoding="unicode")))
        found = _seen(page, styles, 1 - alpha * (1 - np.array(color)), "viewBox" in shapes.attrib)
    except Exception as error:  # the reader raises many kinds on paths that do not begin with a move, and the like
        raise ValueError(f"it has a shape that cannot be read ({type(error).__name__}): repair it.") from error
    if not found:
        raise ValueError("it holds no path, line or shape with ink on its page: choose another file.")
    own = re.fullmatch("[0-9]{1,4}", root.get(OWN, ""))
    return [Stroke(points, width if own else 1.0) for points, width in found], int(own[0]) if own else None


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
        scripts = any(link.startswith("javascript:") for link in links)
        if handlers or scripts or element.tag.rpartition("}")[2].lower() in ("script", "foreignobject"):
            raise ValueError("it holds a script or a web page: a drawing needs none.")
    return root


def _page(root: Element, style: css.Style) -> dict[str, str]:
    """What places the page; sizes that depend on a window or a font are left out, as the viewBox says it all."""
    sizes = {name: style.get(name, "") for name in ("width", "height")}
    if not all(map(SIZE.fullmatch, sizes.values())):
        sizes = dict.fromkeys(sizes, "auto")
    if style["transform"] != "none":
        raise ValueError("it moves the whole page by a transform: write that onto a group inside.")
    found = _placed(root, style | sizes | {"x": "auto", "y": "auto"}, [])
    if "width" in found:  # without a viewBox, the library takes per cent of the other side
        width, height = (Length(size).value(ppi=96) for size in sizes.values())
        found.setdefault("viewBox", f"0 0 {width} {height}")
    return found


def _copy(
    source: Element, target: Element, outer: css.Style, rules: Sequence[css.Rule], box: Sequence[float], depth: int = 0
) -> Iterator[css.Style]:
    """Copy what is seen and what places it; the styles of the shapes among it."""
    if depth > MAX_DEPTH:
        raise ValueError(f"it nests groups more than {MAX_DEPTH} deep: ungroup them.")
    for element in source:
        tag, language = element.tag, element.get("systemLanguage", "en").strip().lower()
        if tag in SILENT or tag[0] == "{" or element.get("requiredExtensions") or not language.startswith("en"):
            continue  # other namespaces hold an editor's notes
        style = css.style_of(element, outer, rules)
        is_hidden = style["display"] == "none" or float(style["opacity"]) == 0
        if is_hidden or (style["visibility"] != "visible" and tag not in GROUPS):
            pass
        elif tag in GROUPS:
            inner = SubElement(target, "svg" if tag == "svg" else "g", _placed(element, style, box))
            yield from _copy(element, inner, style, rules, box, depth + 1)
        elif tag not in SHAPES:
            raise ValueError(f"it holds a <{tag}> element, which is no stroke: turn it into paths or take it out.")
        elif not SHAPES[tag] or style.get(SHAPES[tag]):
            SubElement(target, tag, _placed(element, style, box))
            yield style
        if source.tag == "switch":
            return  # the first that can be shown stands for all


def _placed(element: Element, style: css.Style, box: Sequence[float]) -> dict[str, str]:
    """What places an element, each in the form that it must have; `box` is the page's width and height."""
    found = {key: style[key].strip() for key in ALLOWED if style.get(key, "auto") != "auto"}
    if style["transform"] != "none":
        found["transform"] = style["transform"]
    for key, value in found.items():
        allowed = ALLOWED[key].fullmatch(value) or (key == "transform" and css.TRANSFORM.fullmatch(value))
        if (len(value) > MAX_ATTRIBUTE and key not in ("points", "d")) or not allowed:
            raise ValueError(f"it has a <{element.tag}> whose {key!r} cannot be read: repair it.")
    if "transform" in found and style["transform-origin"] != "0 0":
        x, y = _origin(style["transform-origin"], box)
        found["transform"] = f"translate({x},{y}) {found['transform']} translate({-x},{-y})"
    return found


def _origin(value: str, box: Sequence[float]) -> list[float]:
    """What a transform goes around, in the units of the page."""
    words = [*value.split(), "center"][:2]
    words = words[::-1] if words[0] in ("top", "bottom") or words[1] in ("left", "right") else words
    marks = [PLACES.get(word, word) for word in words]
    if not all(map(LENGTH.fullmatch, marks)) or (np.isnan(box).any() and "%" in "".join(marks)):
        raise ValueError(f"it has the transform-origin {value!r}, which is not read: give it in px.")
    return [Length(mark).value(ppi=96, relative_length=side) for mark, side in zip(marks, box, strict=True)]


def _seen(page: SVG, styles: Sequence[css.Style], color: Points, is_bounded: bool) -> list[tuple[Points, float]]:
    """Points, in pixels of the page, and width of every subpath that differs from what it is drawn on."""
    drawn = page.select(lambda item: isinstance(item, Shape))
    shapes = [(Path(shape).reify(), styles[int(shape.id)]) for shape in drawn]
    curves = sum(isinstance(segment, Curve) for path, _ in shapes for segment in path)
    pieces = int(np.clip(CURVE_POINTS // max(curves, 1), 2, 32))
    size = np.array([page.width, page.height])
    found: list[tuple[Points, float]] = []
    for path, style in shapes:
        lines = _lines(path, pieces)
        (fill, filled), (stroke, stroked) = (css.paint_of(style, name) for name in ("fill", "stroke"))
        if filled and _covers(lines, size):
            found = found if filled < 1 else []
            color, filled = filled * fill + (1 - filled) * color, 0
        width = float(re.match(css.NUMBER, style["stroke-width"])[0])
        is_line, is_area = (_differs(*paint, color) for paint in ((stroke, stroked * (width > 0)), (fill, filled)))
        for line in lines:
            corners = len(np.unique(line, axis=0))
            if (is_line and (corners > 1 or style["stroke-linecap"] != "butt")) or (is_area and corners > 2):
                line = line if corners > 1 else line[:1]  # a dot
                inside = clipped(line, size) if is_bounded and np.isfinite(line).all() else [line]
                found += [(piece, width) for piece in inside]
    return found


def _differs(paint: Points, opacity: float, color: Points) -> bool:
    return opacity > 0 and not opacity * np.abs(color - paint).max() <= FAINT  # as what is of several colours does


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
        if isinstance(segment, Curve):
            lines[-1].extend(segment.npoint(np.arange(1, pieces + 1) / pieces))
        else:
            lines[-1].append((segment.end.x, segment.end.y))
    return [np.array(line, dtype=float) for line in lines if len(line) > 1]
