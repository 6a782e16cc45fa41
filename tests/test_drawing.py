"""Drawings: what was drawn is what is seen and comes back from files; what is none, or hostile, is refused."""

import json
import re
import tracemalloc

import numpy as np
import pytest

from sfhelpers.drawing import PRESETS, Drawing, Stroke, svg
from sfhelpers.drawing.strokes import MAX_POINTS, MAX_STROKES, joined
from sfhelpers.images import find_ink
from sfhelpers.toyworld.categories import CATEGORIES, SEEN, UNSEEN
from tests.backbone_fixtures import refused

SVG = '<svg xmlns="http://www.w3.org/2000/svg"{}>{}</svg>'
LAUGHS = """<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "ha ha ha ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><svg xmlns="http://www.w3.org/2000/svg"><title>&c;</title></svg>"""


def stroke(*points, width=4.0):
    return Stroke(np.array(points, dtype=float), width)


def drawing():
    """A bent line, a line of another width, a dot."""
    strokes = (stroke((20, 30), (200.25, 40), (300, 333.5)), stroke((50, 300), (150, 300), width=9.5), stroke((60, 90)))
    return Drawing(384, strokes)


def ink(*lines):
    """The share of ink in each pixel of a paper of 100 x 100; of lines that leave it, what lies on it."""
    values = np.asarray(Drawing.clipped(lines, 100).to_image())[..., 0].astype(float)
    assert values.min() == 25 and values.max() == 255
    return (255 - values) / (255 - 25)


def test_a_line_is_as_wide_dark_and_long_as_drawn_with_round_ends_a_point_is_a_dot_and_a_turn_has_no_gap_and_no_spike():
    line = ink(stroke((20, 50), (80, 50), width=6))
    across = line[:, 50]
    assert abs(across.sum() - 6) < 0.2 and abs((across * (np.arange(100) + 0.5)).sum() / across.sum() - 50) < 0.1
    assert abs(line[49:51].sum() / 2 - 66) < 0.7  # 60 px and half a disc at each end
    assert line[47, 17] < 0.1 < 0.9 < line[50, 18]  # round, not square

    dot, turn = ink(stroke((30, 70), width=10)), ink(stroke((20, 80), (50, 20), (80, 80), width=10))
    assert abs(dot.sum() - np.pi * 25) < 3 and dot[70, 30] == 1
    assert turn[17, 50] > 0.9 and not turn[:14].any()


def test_resizing_scales_lines_and_widths_and_loses_nothing_at_the_edge():
    edge = Drawing(384, (stroke((384, 384)), stroke((384, 0), (384, 384)), stroke((10, 20), (30, 40), width=6)))
    back = edge.resized(256).resized(500).resized(384)
    for one, other in zip(edge.strokes, back.strokes, strict=True):
        assert np.allclose(one.points, other.points) and one.width == pytest.approx(other.width)
    assert edge.resized(256).strokes[2].width == pytest.approx(4)


def test_what_leaves_the_paper_is_cut_at_its_edge():
    out_and_in = stroke((50, 50), (150, 50), (150, 80), (50, 80))
    around = stroke((-50, 50), (50, 150))  # touches the corner of the paper's outside only
    through = stroke((-100, 10), (200, 10))
    cut = Drawing.clipped([out_and_in, around, through, stroke((120, 20)), stroke((20, 20))], 100)
    expected = [[[50, 50], [100, 50]], [[100, 80], [50, 80]], [[0, 10], [100, 10]], [[20, 20]]]
    assert [item.points.tolist() for item in cut.strokes] == expected
    seen = ink(out_and_in)
    assert seen[50, 97] > 0.85 and seen[65, 98] == 0  # no line along the edge


def test_what_is_larger_than_the_paper_can_be_fitted_with_a_margin():
    fitted = Drawing.fitted([stroke((-4000, 0), (4000, 1000)), stroke((0, 500))], 200)
    x, y = joined(fitted.strokes).T
    assert x.min() == pytest.approx(16) and x.max() == pytest.approx(184)
    assert x[2] == y[2] == pytest.approx(100) and np.ptp(y) == pytest.approx(21)  # centred, not stretched


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Stroke([["1", "2"]], 1), "two numbers"),
        (lambda: Stroke([[1, 2], [3]], 1), "two numbers"),
        (lambda: stroke((1, np.nan)), "not a finite number"),
        (lambda: stroke((1, 1), width=np.nan), "width is nan"),
        (lambda: stroke((1, 1), width=True), "width is True"),
        (lambda: Drawing(384.0), "side is 384.0"),
        (lambda: Drawing(384, ("line",)), "stroke 0 is a str"),
        (lambda: Drawing(100, (stroke((101, 3)),)), "stroke 0 leaves the 100 x 100 paper"),
        (lambda: Drawing(100, (stroke(*[(1, 1)] * (MAX_POINTS + 1)),)), "20,001 points, more than 20,000"),
        (lambda: Drawing.fitted([]), "no strokes to fit"),
        (lambda: drawing().to_image(5000), "side is 5000"),
        (lambda: Drawing().to_file("svg"), "nothing to save"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(make, words):
    with refused(words):
        make()


def test_presets_are_drawings_of_seen_and_unseen_categories_that_survive_saving():
    assert set(PRESETS) <= set(CATEGORIES) and len(PRESETS) >= 6
    assert len(set(PRESETS) & set(SEEN)) >= 3 and len(set(PRESETS) & set(UNSEEN)) >= 3
    for name, preset in PRESETS.items():
        find_ink(preset.to_image())
        assert opened(preset.to_file("svg"), f"{name}.svg") == preset
        assert 0.5 < np.ptp(joined(preset.strokes), axis=0).max() / preset.size < 0.95
    assert len({preset.to_image(32).tobytes() for preset in PRESETS.values()}) == len(PRESETS)
    find_ink(Drawing(384, (stroke((100, 100)), stroke((200, 100)))).to_image())  # two dots are something to see, too


def opened(content, name="mine.svg"):
    return Drawing.parse(content.encode() if isinstance(content, str) else content, name)


def test_our_own_svg_comes_back_as_it_was_drawn_and_the_largest_drawing_too(tmp_path):
    lines = np.random.default_rng(0).uniform(0, 384, (MAX_STROKES, MAX_POINTS // MAX_STROKES, 2)).round(2)
    for mine in (drawing(), Drawing(384, tuple(Stroke(line, 4) for line in lines))):
        for name in ("mine.svg", "mine.ndjson"):
            mine.save(tmp_path / name)
            assert len(Drawing.load(tmp_path / name).strokes) == len(mine.strokes)
        assert Drawing.load(tmp_path / "mine.svg") == mine
    edited = drawing().to_file("svg").replace("20.00,30.00", "-500.00,30.00")
    assert opened(edited).strokes[0].points.min() >= 0  # beyond its paper: fitted


def test_ndjson_is_in_the_simplified_format_of_quick_draw():
    line = np.stack([np.linspace(100, 300, 101), np.linspace(50, 152, 101)], 1)
    mine = Drawing(384, (Stroke(line, 4), stroke((100, 62), (100, 148)), stroke((121, 140))))
    text = mine.to_file("ndjson")
    assert text.endswith("\n") and text.count("\n") == 1
    expected = [[[0, 255], [0, 130]], [[0, 0], [15, 125]], [[27], [115]]]
    assert json.loads(text) == {"word": "", "drawing": expected}
    again = joined(opened(text, "mine.ndjson").strokes)
    ends = np.concatenate([line[[0, -1]], mine.strokes[1].points, mine.strokes[2].points])
    scale = np.ptp(again[:, 0]) / 200
    assert np.allclose((again - again[0]) / scale, ends - ends[0], atol=1)  # the form is kept, within a box of 255


def test_of_quick_draws_lines_the_first_that_is_not_blank_is_read_raw_or_simplified():
    raw = json.dumps({"word": "x", "drawing": [[[10.5, 700.25], [3, 90], [0, 16]], [[], []], [[5], [5], [20]]]})
    simple = json.dumps({"word": "y", "drawing": [[[0, 9, 9], [0, 0, 9]]]})
    for text, name, counts in ((f"\n{raw}\n\n{simple}\n", "a.ndjson", [2, 1]), (simple, "A.NDJSON", [3])):
        assert [len(item.points) for item in opened(text, name).strokes] == counts


def test_a_foreign_svg_is_outlined_fitted_and_its_curves_are_smooth():
    shapes = """<defs><path d="M0 0 L 900 900"/></defs><rect width="100%" height="100%" fill="#FFF"/>
        <g fill="none" stroke="black" transform="translate(100 50) scale(2)"><circle cx="10" cy="10" r="10"/>
        <path d="m 10,10 h 5 z M 0 0 c 0 10 10 20 20 20" style="stroke-width:3"/><path stroke="none" d="M0 0L99 99"/>
        <g style="display: none"><path d="M0 0L99 99"/></g></g>"""
    found = opened(SVG.format(' viewBox="0 0 500 500"', shapes)).resized(200)
    circle, corner, curve = (item.points for item in found.strokes)
    assert np.allclose(np.hypot(*(circle - 100).T), 84, atol=0.1)  # fitted: a margin of 8% on each side
    assert 40 < len(circle) < 400 and len(corner) == 3 and np.allclose(corner[0], corner[2])
    assert np.hypot(*np.diff(curve, axis=0).T).max() < 10 and np.allclose(curve[[0, -1]], [[16, 16], [184, 184]])
    assert all(item.width == pytest.approx(200 * 4 / 384) for item in found.strokes)


VIEW = ' viewBox="0 0 800 600"'
TRIANGLE = '<path d="M100 100L300 100L200 300Z" fill="none" stroke="#000"/>'
RECT, LINE = '<rect width="800" height="600" stroke="none" {}/>', '<path d="M0 0L800 600" {}/>'
WHITE = ("white", "#FFF", "#fffe", "#ffffffff", "ivory", "#fdfdfd", "rgb(100%,100%,100%)", "hsl(0 0% 98%)")
PAGES = (*WHITE, "rgba(0, 0, 0, 0)", "var(--page, #fff)", "lightblue", "rgb(0 0 0/40%)", "url(#sky)", "none")
HIDING = {
    "visibility": ("hidden", "collapse"), "opacity": ("0", "0%", "1e-9"), "stroke": (*WHITE, "none", "currentColor"),
    "stroke-opacity": ("0", "0.02"), "stroke-width": ("0", "0px"), "display": ("none",), "class": ("no", "a no"),
    "style": ("stroke: none !important; stroke: red", "stroke:var(--no)", "stroke:NONE;stroke:no", "/**/opacity:0"),
    "requiredExtensions": ("x",), "systemLanguage": ("de",), "id": ("no",), "transform": ("translate(900)",),
}  # fmt: skip
HIDDEN = [
    *[LINE.format(f'{name}="url(#{to})"') for name, to in (("clip-path", "c"), ("mask", "m"), ("stroke", "no"))],
    LINE.format('stroke-dasharray="1 9999" stroke-dashoffset="-1500"'),
    '<svg width="9" height="9"><path d="M9 0L800 600"/></svg>',
    '<rect x="400" y="500" width="-50" height="20"/><circle cx="500" cy="500" r="-20"/>',
    '<path stroke="none" d="M500 500h.01v.01z"/><path d="M9 9L600 500" stroke-width=".001"/>',
    *[RECT.format(look.format(page)) for page in PAGES for look in ('fill="{}"', "style='fill: {}'")],
    *[LINE.format(f'{name}="{value}"') for name, values in HIDING.items() for value in values],
    *[f"<{tag}>{LINE.format('')}</{tag.split()[0]}>" for tag in ("defs", 'g class="no b"', 'a display="none"')],
    "<line x2='800' y2='600' stroke='none'/><path d='M9 9M700 9'/>" + LINE.format("") + RECT.format(""),
    f"<switch><g/>{LINE.format('')}</switch>",
    f'<g opacity="0.2"><g opacity="20%">{LINE.format("")}</g></g>',
    "<g stroke='none'>" + LINE.format('stroke="inherit"') + "</g>",
]
SHEET = """<style>@font-face {font-family: x} /* .a {} */ .no, #no {opacity: 0} path.a {fill: none} .a {fill: red}
    g {--no: none; color: #fff} * {stroke-linecap: butt} @media print {g {opacity: 0}} path:hover {stroke: red}</style>
    <clipPath id="c"><rect width="9" height="9"/></clipPath><mask id="m"><rect width="800" height="600"/></mask>"""


@pytest.mark.parametrize("hidden", HIDDEN)
def test_what_a_browser_does_not_show_leaves_no_stroke_and_does_not_move_what_it_shows(hidden):
    found = opened(SVG.format(VIEW, f"{SHEET}<g stroke='#000'>{hidden}</g>{TRIANGLE.replace('#000', '#234')}"))
    assert found == opened(SVG.format(VIEW, TRIANGLE))


RED = 'stroke="red" fill="none"'
KINDS = ("", ' SYSTEM "svg.dtd"', ' PUBLIC "-//W3C//DTD SVG 1.1//EN"\n "http://www.w3.org/TR/svg11.dtd"')
DARK = {"#123": "#fff", "rgb(18, 18, 18)": "ivory", "black": "#888", "rgba(0,0,0,.9)": "white", "navy": "hsl(0 0% 90%)"}
MOVES = {
    "rotate(90deg)": "rotate(90)", "rotate(.125turn)": "rotate(45)", "skewX(10deg)": "skewX(10)", "none": "",
    "translateX(60px) scale(.5, 2)": "translate(60)scale(.5 2)",
    "scale(.5);transform-origin:center": "matrix(.5 0 0 .5 200 150)",
    "rotate(30deg); transform-origin: 150px 50px": "rotate(30 150 50)",
    "rotate(9deg);transform-origin:top right": "rotate(9,800,0)",
}  # fmt: skip
CIRCLE = '<circle cx="300" cy="300" r="200" fill="#fc0"/>'
SAME = [
    SVG.format(f'{VIEW} style="width: 9%; background: none; -inkscape-stroke: none; stroke-width: .2em"', TRIANGLE),
    SVG.format(VIEW, TRIANGLE.replace("fill", 'stroke-dasharray="4 20" stroke-linecap="round" fill')),
    SVG.format(VIEW, f"<style>svg > g path:first-child {{stroke: var(--a, var(--b, #000))}}</style><g>{TRIANGLE}</g>"),
    SVG.format(
        VIEW, f'<clipPath id="c"><rect width="800" height="600"/></clipPath><g clip-path="url(#c)">{TRIANGLE}</g>'
    ),
    SVG.format(VIEW, TRIANGLE.replace("#000", "url(#A)") + '<linearGradient id="A"><stop/></linearGradient>'),
    SVG.format(f'{VIEW} style="background: #000"', TRIANGLE.replace("#000", "#fff")),
    SVG.format(VIEW, f'<switch><foreignObject requiredExtensions="x"><i/></foreignObject>{TRIANGLE}</switch>'),
    *[f"<!DOCTYPE svg{kind}>" + SVG.format(VIEW, TRIANGLE) for kind in KINDS],
    *[SVG.format(f'{VIEW} width="{side}" height="{side}"', TRIANGLE) for side in ("1em", "auto", "9vw", "9mm")],
    *[SVG.format(f'{VIEW} {name}="javascript: on"', TRIANGLE) for name in ("ontology", "one", "data-onload")],
    *[SVG.format(VIEW, f"<{tag}>{TRIANGLE}</{tag}>") for tag in ("a", "switch", "svg", "g")],
    *[SVG.format(VIEW, RECT.format(f'fill="{page}"') + TRIANGLE.replace("#000", ink)) for page, ink in DARK.items()],
]
BESIDE = [
    (CIRCLE + '<path d="M150 300H450" stroke="#000" visibility="hidden"/>', CIRCLE),
    (f'<ellipse cx="500" cy="400" ry="50" {RED}/>', f'<circle cx="500" cy="400" r="50" {RED}/>'),
    (f'<path d="M-99 150L450 150L450 -9M900 9h9" {RED}/>', f'<path d="M0 150L450 150V0" {RED}/>'),
    *[(f'<g style="transform: {x}">{TRIANGLE}</g>', f'<g transform="{y}">{TRIANGLE}</g>') for x, y in MOVES.items()],
]
ALIKE = [(content, TRIANGLE) for content in SAME]
ALIKE += [(SVG.format(VIEW, TRIANGLE + one), TRIANGLE + other) for one, other in BESIDE]


@pytest.mark.parametrize(("content", "plain"), ALIKE)
def test_a_file_that_says_it_otherwise_is_the_same_drawing(content, plain):
    pairs = zip(opened(content).strokes, opened(SVG.format(VIEW, plain)).strokes, strict=True)
    assert all(np.allclose(one.points, other.points, atol=0.01) for one, other in pairs)


REFUSED_SVG = [
    (LAUGHS, "document type or entities"),
    ('<!DOCTYPE svg SYSTEM "file:///etc/hostname"><svg/>', "document type"),
    ("<html><body/></html>", "first element is <html>"),
    ("<svg><path d='M0 0", "cut"),
    (SVG.format("", "<path/>"), "no path, line or shape"),
    (SVG.format("", "<script>alert(1)</script>"), "script"),
    (SVG.format(' onload="alert(1)"', '<path d="M0 0L9 9"/>'), "script"),
    (SVG.format("", '<metadata><a href="JavaScript:alert(1)"/></metadata>'), "script"),
    (SVG.format("", "<foreignObject><p/></foreignObject>"), "web page"),
    (SVG.format("", '<image href="http://127.0.0.1/a.png"/>'), "<image>"),
    (SVG.format("", '<path d="M0 0 L nan nan"/>'), "<path> whose 'd'"),
    (SVG.format("", '<path d="M0 0 L 1e999 3" stroke="red"/>'), "not a finite number"),
    (SVG.format("", f'<g transform="{"scale(1)" * 400}"><path d="M0 0L9 9"/></g>'), "the transform 'scale"),
    (SVG.format("", '<path d="L 1 1"/>'), "cannot be read"),
    (SVG.format("", f'<path d="M0 0{"z" * 2_000_000}"/>'), "more than 20,000 points"),
    (SVG.format("", "<g>" * 100 + "</g>" * 100), "64 deep"),
    (SVG.format("", "<g>" * 1_000_000), "more than 10,000 tags"),
    (SVG.format(' stroke="#000"', '<path d="M0 0l1 1"/>' * (MAX_STROKES + 1)), "2,001 strokes"),
    (SVG.format("", f'<path d="M0 0{"z" * 10_000}"/>'), "go on behind a z"),
    (SVG.format("", f'<path d="M0 0{"." * 4_900_000}"/>'), "<path> whose 'd'"),
    (SVG.format("", f'<polyline points="{"9" * 4_900_000}"/>'), "<polyline> whose 'points'"),
    (SVG.format("", f"<style>{'a{b:c}' * 800_000}</style>"), "more than 300,000 characters"),
    (SVG.format("", f"<style>{'*{fill:none}' * 900}</style>" + "<g/>" * 9_000), "too many rules of style"),
    (SVG.format("", "".join(f'<g style="--a{i}:x{f"var(--a{i - 1})" * 9}">' for i in range(20)) + "</g>" * 20), "--a"),
    (SVG.format("", "<style>@media (width > 9px) {g {fill: red}}</style>"), "asks for '(width > 9px)'"),
    (
        SVG.format("", "<style>g {--a: var(--b); --b: var(--a); fill: var(--a)}</style><g/>"),
        "variables that are not read",
    ),
    (SVG.format("", '<g style="transform: rotate3d(1, 1, 1, 9deg)"/>'), "the transform 'rotate3d"),
    (SVG.format("", '<g style="animation: a 1s"/>'), "animation"),
    (SVG.format("", '<g fill="oklch(1 0 0)"/>'), "the colour 'oklch(1 0 0)'"),
    (SVG.format("", '<g fill="color-mix(in srgb, red, blue)"/>'), "the colour 'color-mix"),
    (SVG.format("", '<g style="transform: scale(.5); transform-origin: here"/>'), "the transform-origin 'here"),
    (SVG.format("", f'<g style="a:{"(" * 3_000}"/>'), "nests too deep"),
    (SVG.format("", f"<defs>{'<g>' * 4_000}{'</g>' * 4_000}</defs>{TRIANGLE}"), "nests too deep"),
    (SVG.format("", "<style>g:has(path) {fill: red}</style>"), "selects 'g:has(path)'"),
    (SVG.format("", '<g style="transform: translate(10%, 0)"/>'), "the transform 'translate(10%, 0)"),
    (SVG.format("", "<style>g {path {fill: red}}</style>"), "rule inside a rule"),
    (SVG.format("", f'<g style="{"".join(f"--a{i}:b;" for i in range(201))}"/>'), "more than 200 variables"),
    (SVG.format(' viewBox="0 0 0 9"', ""), "'viewBox' that cannot be read"),
    ('<?xml-stylesheet href="a.css"?>' + SVG.format("", ""), "style sheet is another file"),
    (SVG.format(r' style="\31 a: b" stroke="#000"', '<path d="M0 0L9 9"/>'), "cannot be drawn"),
    (b"\xff\xfe<\x00s\x00v\x00g\x00", "not UTF-8"),
    (b"", "empty"),
]
REFUSED_NDJSON = [
    ("[" * 100_000, "cut or not JSON"),
    ('{"drawing":[[[1,' + "9" * 5000 + "],[1,2]]]}", "cut or not JSON"),
    ("[1]", "Quick, Draw! format"),
    ('{"drawing":[[[],[]]]}', "no strokes"),
    ('{"drawing":[[[1,2],[3]]]}', "of one length"),
    ('{"drawing":[[["1"],["2"]]]}', "two numbers"),
    (json.dumps({"drawing": [[[1] * (MAX_POINTS + 1)] * 2]}), "20,001 points"),
    (" \n \n", "blank lines"),
]
REFUSED = [("mine.svg", *case) for case in REFUSED_SVG] + [("mine.ndjson", *case) for case in REFUSED_NDJSON]


@pytest.mark.parametrize(("name", "content", "words"), REFUSED, ids=range(len(REFUSED)))
def test_a_file_that_is_none_or_hostile_is_refused_in_one_sentence(name, content, words):
    with refused(f"^{re.escape(repr(name))} .*{re.escape(words)}"):
        opened(content, name)


def test_other_places_suffixes_100_megabytes_and_what_takes_long_are_refused_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(svg, "SECONDS", 1e-3)
    with refused("takes longer than 0.001 seconds"):
        opened(SVG.format(VIEW, TRIANGLE))
    with (tmp_path / "large.svg").open("wb") as file:
        file.truncate(100_000_000)
    tracemalloc.start()
    with refused("more than 5 MB"):
        Drawing.load(tmp_path / "large.svg")
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    with refused("no drawing", FileNotFoundError):
        Drawing.load(tmp_path / "none.svg")
    with refused("ends in '.png'"):
        drawing().save(tmp_path / "a.png")
    with refused("could not be written", FileNotFoundError):
        drawing().save(tmp_path / "no" / "a.svg")
