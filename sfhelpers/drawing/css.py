"""The styles of an SVG as plain attributes, as CSS weighs rules, style attributes and variables (`cssselect2`)."""

import re
from collections.abc import Iterator
from functools import lru_cache
from xml.etree.ElementTree import Element

import cssselect2
import tinycss2
from svgelements import Length, Matrix
from tinycss2.color4 import parse_color

PAINTS = ("fill", "stroke", "color", "stop-color", "background")
INITIAL = {"fill": "black", "stroke": "none", "color": "black", "visibility": "visible", "stroke-width": "1"}
UNREAD = {"all", "d", "translate", "rotate", "scale", "zoom", "animation", "animation-name", "offset-path"}
UNREAD |= {"mask-image", "mix-blend-mode", "transform-box"}
SILENT = ("charset", "namespace", "font-face", "keyframes")
FUNCTIONS = {"matrix", "rotate", "skew", "skewx", "skewy", "translate", "translatex", "translatey"}
FUNCTIONS |= {"scale", "scalex", "scaley"}
RELATIVE = re.compile(r"%|\d\s*(r?em|ex|ch|in|cm|mm|p[tc]|v[wh])")  # units of a move that are not computed here
MARK = re.compile(r"[+-]?[\d.]+(px|pt|pc|mm|cm|in|%)?")
PLACES = {"left": "0%", "top": "0%", "center": "50%", "right": "100%", "bottom": "100%"}
VARIABLE = re.compile(r"var\(\s*(--[\w-]+)\s*(?:,((?:[^()]|\([^()]*\))*+))?\)")
MAX_CSS, MAX_VALUE, MAX_VARIABLES, MAX_TURNS = 300_000, 2_000, 200, 20
MAX_MATCHES = 1_000_000  # entries of rules times elements


def to_attributes(root: Element, box: list[float]) -> None:
    """Write all styles into attributes, in place; `box` is the page's size in its units. Errors follow on "because"."""
    elements = list(root.iter())
    sheets = [one for one in elements if one.tag == "style" and one.get("media", "all") in ("all", "screen")]
    text = "\n".join("".join(sheet.itertext()) for sheet in sheets)
    if len(text) + sum(len(style) for style in {one.get("style", "") for one in elements}) > MAX_CSS:
        raise ValueError(f"its styles have more than {MAX_CSS:,} characters: simplify them.")
    for one in (one for one in elements if one.tag == "style"):
        one.clear()  # what it says stands in attributes from here on
    matcher, count = cssselect2.Matcher(), 0
    for selectors, entries in _rules(tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True)):
        count += len(selectors) * (len(entries) or 1) * len(elements)
        if count > MAX_MATCHES:
            raise ValueError(f"it has too many rules of style for {len(elements):,} elements: simplify them.")
        for selector in selectors:
            matcher.add_selector(selector, entries)
    variables: dict[Element | None, dict[str, str]] = {None: {}}  # of an element, with those around it
    for node in cssselect2.ElementWrapper.from_xml_root(root).iter_subtree():
        outer = variables[node.parent.etree_element if node.parent else None]
        variables[node.etree_element] = _write(node.etree_element, matcher.match(node), outer, box)


def _rules(items: list) -> Iterator[tuple[list, list[tuple[str, str, bool]]]]:
    """Selectors and entries; fonts and what holds in print alone are left out."""
    for item in items:
        if item.type == "at-rule" and item.lower_at_keyword not in SILENT:
            if (medium := tinycss2.serialize(item.prelude).strip()) != "print":
                raise ValueError(f"its style sheet asks for {medium[:40]!r}: write what holds there as plain rules.")
        elif item.type == "qualified-rule":
            said = tinycss2.serialize(item.prelude).strip()
            try:
                if re.search(r":has|~(?!=)", said):  # each looks at all that is below or beside
                    raise cssselect2.SelectorError
                selectors = cssselect2.compile_selector_list(item.prelude)
            except cssselect2.SelectorError:
                raise ValueError(f"its style sheet selects {said[:40]!r}, which is not read: simplify it.") from None
            yield selectors, _entries(tinycss2.serialize(item.content))


@lru_cache(maxsize=10_000)
def _entries(css: str) -> list[tuple[str, str, bool]]:
    found = []
    for item in tinycss2.parse_blocks_contents(css, skip_comments=True, skip_whitespace=True):
        if item.type in ("at-rule", "qualified-rule"):
            raise ValueError("its style has a rule inside a rule: write each as one of its own.")
        if item.type == "declaration":
            value = tinycss2.serialize([part for part in item.value if part.type != "comment"]).strip()
            name = item.name if item.name.startswith("--") else item.lower_name
            found.append((name.replace("background-color", "background"), value, item.important))
    return found


def _write(element: Element, matches: list, outer: dict[str, str], box: list[float]) -> dict[str, str]:
    """Write one element's style into its attributes; returns its variables."""
    found = [(False, (-1,), 0, name, value) for name, value in element.attrib.items() if name not in ("style", "class")]
    for weight, order, _, entries in (*matches, ((MAX_CSS,), 0, None, _entries(element.get("style", "")))):
        found += [(important, weight, order, name, value) for name, value, important in entries]
    found.sort(key=lambda one: one[:3])
    variables = outer | {name: value for *_, name, value in found if name.startswith("--")}
    if len(variables) > MAX_VARIABLES:
        raise ValueError(f"its style has more than {MAX_VARIABLES} variables: simplify it.")
    written = {}
    for _, weight, _, name, given in found:
        value, turns = given, 0
        while "var(" in value:  # one may stand for others, or for itself
            value, turns = VARIABLE.sub(lambda match: variables.get(match[1], match[2] or ""), value).strip(), turns + 1
            if turns > MAX_TURNS or len(value) > MAX_VALUE:
                raise ValueError(f"its style gives {name!r} variables that are not read: simplify it.")
        if name in UNREAD and weight != (-1,) and value not in ("none", "normal"):
            raise ValueError(f"its style gives {name}: {value[:40]}, which is not read: save it as plain attributes.")
        if name in PAINTS:
            value = _paint(value if value.startswith("url(") else value.lower())
        if value is not None and not name.startswith("-"):
            written[name] = INITIAL.get(name, value) if value == "initial" else value
    if "transform" in written:
        written["transform"] = _matrix(written["transform"], written.pop("transform-origin", "0 0"), box)
    element.attrib.clear()
    element.attrib.update(written)
    return variables


def _paint(value: str) -> str | None:
    """A colour as rgba, another paint as it is; None for what a browser does not take, which leaves what was before."""
    if value in ("none", "inherit", "initial") or value.startswith("url("):
        return value
    color = parse_color(value)
    if color is None or color == "currentcolor":
        if "(" in value:
            raise ValueError(f"it has the colour {value[:40]!r}, which is not read: write it as #rrggbb.")
        return color and "currentColor"
    try:
        red, green, blue, alpha = color.to("srgb")
    except NotImplementedError:
        raise ValueError(f"it has the colour {value[:40]!r}, which is not read: write it as #rrggbb.") from None
    return f"rgba({255 * red:.0f},{255 * green:.0f},{255 * blue:.0f},{alpha:g})"


def _matrix(transform: str, origin: str, box: list[float]) -> str:
    moves, (x, y) = transform.lower().replace("px", ""), _origin(origin.lower(), box)
    try:
        names = re.findall(r"([a-z]\w*)\s*\(", moves)
        if RELATIVE.search(moves) or len(moves) > MAX_VALUE or not FUNCTIONS.issuperset(names):
            raise ValueError
        matrix = Matrix(f"translate({x},{y}) {moves} translate({-x},{-y})")
        return "matrix({})".format(",".join(f"{float(getattr(matrix, name)):.9g}" for name in "abcdef"))
    except (ValueError, TypeError):
        raise ValueError(f"it has the transform {transform[:40]!r}, which is not read: write it as a matrix.") from None


def _origin(value: str, box: list[float]) -> list[float]:
    words = [*value.split(), "center"][:2]
    words = words[::-1] if words[0] in ("top", "bottom") or words[1] in ("left", "right") else words
    marks = [PLACES.get(word, word) for word in words]
    if not all(map(MARK.fullmatch, marks)):
        raise ValueError(f"it has the transform-origin {value[:40]!r}, which is not read: give it in px.")
    return [Length(mark).value(ppi=96, relative_length=side) for mark, side in zip(marks, box, strict=True)]
