"""How an SVG's elements look, as CSS weighs attributes, rules and styles; what else could change that is refused."""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from xml.etree.ElementTree import Element

import numpy as np
import tinycss2
from numpy.typing import NDArray
from tinycss2.color4 import parse_color

NUMBER = r"[+-]?(?:\d{1,40}(?:\.\d{1,40})?|\.\d{1,40})(?:[Ee][+-]?\d{1,3})?(?!\d)"
INHERITED = {
    "fill": "black", "stroke": "none", "color": "black", "fill-opacity": "1", "stroke-opacity": "1",
    "stroke-width": "1", "stroke-linecap": "butt", "visibility": "visible",
}  # fmt: skip
PAINTS = ("fill", "stroke", "color")
INITIAL = INHERITED | {"display": "inline", "opacity": "1", "transform": "none", "transform-origin": "0 0"}
UNREAD = {"d", "translate", "rotate", "scale", "animation", "animation-name", "offset-path", "transform-box"}
ARGUMENT = rf"\(\s*(?:{NUMBER}%s|0)(?:\s*,\s*(?:{NUMBER}%s|0))*+\s*\)\s*"
TRANSFORM = re.compile(  # as a property; attributes have no units
    rf"(?:translate[xy]?{ARGUMENT % ('px', 'px')}|(?:scale[xy]?|matrix){ARGUMENT % ('', '')}"
    rf"|(?:rotate|skew[xy]){ARGUMENT % (('(?:deg|grad|rad|turn)',) * 2)})*+|none"
)
VALID = dict.fromkeys(("opacity", "fill-opacity", "stroke-opacity"), re.compile(f"{NUMBER}%?")) | {
    "stroke-width": re.compile(rf"(?!-){NUMBER}[a-z%]*"),
    "visibility": re.compile("visible|hidden|collapse"),
}
SELECTOR = re.compile(r"\s*(\*|[A-Za-z][\w-]*)?((?:[.#][A-Za-z_-][\w-]*)*)\s*")
VARIABLE = re.compile(r"var\(\s*(--[\w-]+)\s*(?:,((?:[^()]|\([^()]*\))*+))?\)")
HARMLESS = re.compile(r"@font-face\s*\{[^{}]*\}|@(charset|namespace)[^;{}]*;")  # fonts may hold a megabyte
MAX_CSS, MAX_VALUE, MAX_VARIABLES, MAX_DEPTH = 300_000, 2_000, 200, 64
MAX_MATCHES = 1_000_000  # entries of rules times elements

Style = dict[str, str]
Entries = list[tuple[str, str, bool]]  # names, values, whether they are important
Rule = tuple[str, set[str], tuple[int, int, int], Entries]  # tag, .classes and #id, weight


def rules_of(root: Element) -> list[Rule]:
    """The rules of a file's style sheets, in order; ValueErrors, here and below, follow on "because"."""
    elements, sheets = list(root.iter()), root.findall(".//{*}style")
    text = HARMLESS.sub("", "\n".join("".join(sheet.itertext()) for sheet in sheets))
    styles = {one.get("style", "") for one in elements}
    if len(text) + sum(map(len, styles)) > MAX_CSS:
        raise ValueError(f"its styles have more than {MAX_CSS:,} characters: simplify them.")
    steps = [[(sign in "([{") - (sign in ")]}") for sign in one] for one in (text, *styles)]
    if max(max(accumulate(step), default=0) for step in steps) > MAX_DEPTH:
        raise ValueError(f"its styles nest brackets more than {MAX_DEPTH} deep: simplify them.")
    found: list[Rule] = []
    for item in tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True):
        for selector in tinycss2.serialize(item.prelude).split(",") if item.type == "qualified-rule" else ["@"]:
            match = SELECTOR.fullmatch("svg" if selector.strip() == ":root" else selector)
            if match is None or any(sheet.get("media", "all") not in ("all", "screen") for sheet in sheets):
                what = f"its style sheet has a medium or selects {selector.strip()!r}"
                raise ValueError(f"{what}: use only tags, classes and ids, as in 'path.thin'.")
            names = re.findall(r"[.#][\w-]+", match[2])
            weight = sum(name[0] == "#" for name in names), len(names), match[1] not in (None, "*")
            found.append((match[1] or "*", set(names), weight, _entries(tinycss2.serialize(item.content))))
    if sum(len(entries) for *_, entries in found) * len(elements) > MAX_MATCHES:
        raise ValueError(f"it has {len(found):,} rules of style for {len(elements):,} elements: simplify them.")
    return found


@lru_cache(maxsize=10_000)
def _entries(css: str) -> Entries:
    found = []
    for item in tinycss2.parse_blocks_contents(css, skip_comments=True, skip_whitespace=True):
        if item.type in ("at-rule", "qualified-rule"):
            raise ValueError("its style has a rule inside a rule: write each as one of its own.")
        if item.type == "declaration":
            value = tinycss2.serialize([part for part in item.value if part.type != "comment"]).strip()
            found.append((item.name if item.name.startswith("--") else item.lower_name, value, item.important))
    return found


def style_of(element: Element, outer: Style, rules: Sequence[Rule]) -> Style:
    """All attributes and properties of an element inside one whose style is `outer`; its opacity is that of both."""
    names = {f".{name}" for name in element.get("class", "").split()} | {f"#{element.get('id')}"}
    found = [(False, (), name, value) for name, value in element.attrib.items() if name != "style"]
    for tag, wanted, weight, entries in rules:
        if tag in ("*", element.tag) and wanted <= names:
            found += [(important, weight, name, value) for name, value, important in entries]
    found += [(important, (MAX_CSS,), *entry) for *entry, important in _entries(element.get("style", ""))]
    found.sort(key=lambda one: one[:2])
    style = INITIAL | {name: value for name, value in outer.items() if name in INHERITED or name.startswith("--")}
    style |= {name: value for _, _, name, value in found if name.startswith("--")}
    if len(style) > len(INITIAL) + MAX_VARIABLES:
        raise ValueError(f"its style has more than {MAX_VARIABLES} variables: simplify it.")
    for _, weight, name, given in found:
        value = VARIABLE.sub(lambda match: style.get(match[1], match[2] or ""), given).strip()
        if "var(" in given and max(len(given), len(value)) > MAX_VALUE:  # variables in variables grow without bound
            raise ValueError(f"its style gives {name!r} more than {MAX_VALUE:,} characters: simplify it.")
        value = value.lower() if weight or name in INITIAL else value
        if weight and value != "none" and (name in UNREAD or (name == "transform" and not TRANSFORM.fullmatch(value))):
            raise ValueError(f"its style gives {name}: {value[:40]}, which is not read: save it as plain attributes.")
        if value in ("inherit", "initial"):
            style[name] = (outer if value == "inherit" else INITIAL).get(name, "auto")
        elif _is_valid(name, value):
            style[name] = value
    style["opacity"] = str(_alpha(style["opacity"]) * _alpha(outer["opacity"]))
    return style


def _is_valid(name: str, value: str) -> bool:
    """Whether a browser takes it; what it does not take leaves what was said before."""
    if name in PAINTS and len(value) <= MAX_VALUE:
        return value in ("none", "currentcolor") or value.startswith("url(") or color_of(value) is not None
    return name not in PAINTS and (name not in VALID or VALID[name].fullmatch(value) is not None)


def _alpha(value: str) -> float:
    return min(max(float(value.rstrip("%")) / (100 if value.endswith("%") else 1), 0), 1)


def paint_of(style: Style, name: str) -> tuple[NDArray[np.float64], float]:
    """Red, green and blue in [0, 1] of "fill" or "stroke", not a number for a gradient or pattern; and its opacity."""
    value = style["color"] if style[name] == "currentcolor" else style[name]
    *color, alpha = color_of(value) or (np.nan, np.nan, np.nan, float(value.startswith("url(")))
    return np.array(color), alpha * _alpha(style[f"{name}-opacity"]) * float(style["opacity"])


@lru_cache(maxsize=10_000)
def color_of(value: str) -> tuple[float, ...] | None:
    """Red, green, blue and opacity, in [0, 1]; None if it is no colour of its own."""
    color = parse_color(value)
    try:
        return None if color is None or color == "currentcolor" else tuple(color.to("srgb"))
    except NotImplementedError:
        raise ValueError(f"it has the colour {value!r}, which is not read: write it as #rrggbb.") from None
