"""Exported pages: nothing is asked for outside, formulas are MathML, every picture is there and described."""

import base64
import io
import re
from html.parser import HTMLParser

import nbformat
import pytest
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from tests.backbone_fixtures import one_sentence
from tools import notebooks
from tools.clean import KERNEL, WIDGET
from tools.pages import markdown, mathml, page

LOADING = {"src", "srcset", "data", "poster", "background", "xlink:href", "action", "formaction", "http-equiv"}
IN_CSS = re.compile(r"""url\(\s*["']?(?!data:|#)([^"')]+)|@import\s+["']?([^"';]+)""")
OUTSIDE = re.compile(r"(?:https?|wss?)://[^\s\"'<>)]+")


class Page(HTMLParser):
    """Collects what a browser would load, the alternative texts of images, and the text outside code."""

    def __init__(self, text):
        super().__init__()
        self.requests, self.alts, self.words, self.inside = [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in ("img", "meta", "link", "br", "hr", "input"):
            self.inside.append(tag)
        for name, value in attributes:
            linked = name == "href" and tag not in ("a", "area")
            if (name in LOADING or linked) and not (value or "").startswith(("data:", "#")):
                self.requests.append(value)
            if name == "style":
                self.requests += in_css(value)
        if tag == "img":
            self.alts.append(dict(attributes).get("alt"))

    def handle_endtag(self, tag):
        if tag in self.inside:
            del self.inside[len(self.inside) - 1 - self.inside[::-1].index(tag) :]

    def handle_data(self, data):
        if "style" in self.inside:
            self.requests += in_css(data)
        elif "script" in self.inside:
            self.requests += OUTSIDE.findall(data)
        elif not {"pre", "code"} & set(self.inside):
            self.words += data


def in_css(text):
    return [first or second for first, second in IN_CSS.findall(text)]


def shown():
    """A heading, formulas in text and in code, links, a figure, a widget and its state."""
    text = "# First\n\n## Loss & <b>cost</b>\n\nIt is $x_1 < \\sigma$ in `$HOME`.\n\n"
    text += "$$\\frac{a}{b}$$\n\n```sh\necho $A $B\n```\n"
    text += "[04](04_segmentation.ipynb#masks), [a file](../data/a.ipynb), `04_segmentation.ipynb`"
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "PNG")
    png = base64.b64encode(file.getvalue()).decode()
    width = {"image/png": {"width": 7}}
    figure = new_output("display_data", {"image/png": png, "text/plain": "<figure>"}, metadata=width)
    view = {WIDGET: {"model_id": "1", "version_major": 2, "version_minor": 0}}
    widget = new_output("display_data", {**view, "image/png": png, "text/plain": '<Explorer of "cats">'})
    bar = new_output("display_data", {**view, "text/plain": "100%|#####| 1/1"})
    cells = [new_markdown_cell(text), new_code_cell("price = '$5 or $6'", outputs=[figure, widget, bar])]
    state = {"application/vnd.jupyter.widget-state+json": {"state": {"1": {}}, "version_major": 2, "version_minor": 0}}
    return new_notebook(cells=cells, metadata={"kernelspec": KERNEL, "widgets": state})


def test_a_page_has_no_script_and_asks_for_nothing_and_the_notebook_stays_as_it_was():
    notebook = shown()
    text = page(notebook, "01_tiny")
    assert Page(text).requests == [] and "<script" not in text and "<title>01_tiny</title>" in text
    assert [cell.get("outputs") for cell in notebook.cells] == [cell.get("outputs") for cell in shown().cells]
    plain, _ = HTMLExporter().from_notebook_node(notebook)
    assert any("mathjax" in address for address in Page(plain).requests)


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://a.org/a.js"></script>',
        '<script type="module">import a from "https://a.org/a.mjs"</script>',
        '<link rel="stylesheet" href="//a.org/a.css">',
        "<style>@import 'https://a.org/a.css'; p {color: red}</style>",
        '<p style="background: url(&quot;a.png&quot;)"></p>',
        '<svg><image xlink:href="https://a.org/a.png"></image></svg>',
    ],
)
def test_what_a_browser_would_load_is_found(text):
    assert len(Page(text).requests) == 1
    assert Page('<a href="https://a.org">a</a><img src="data:image/png;base64,aa"><use href="#a">').requests == []


def test_formulas_are_mathml_and_code_stays_as_it_is():
    text = page(shown(), "01_tiny")
    assert text.count('<math display="inline"') == 1 and text.count('<math display="block"') == 1
    assert "σ" in text and "$" not in Page(text).words
    assert all(code in text for code in ("<code>$HOME</code>", "echo", "$5 or $6"))
    assert "<mfrac>" in markdown("\\begin{align}\\frac{a}{b} &= c\\end{align}")


@pytest.mark.parametrize("formula", ["x_", "x^2^3", r"\unheard{x}", r"\begin{aligned}a &= b\end{aligned}"])
def test_a_formula_that_cannot_be_turned_is_refused_in_one_sentence(formula):
    with pytest.raises(ValueError, match="cannot be turned into MathML") as caught:
        mathml(formula)
    one_sentence(caught)


def test_pictures_are_described_and_links_to_other_notebooks_lead_to_their_pages():
    text = page(shown(), "01_tiny")
    assert Page(text).alts == ["Loss & <b>cost</b>: figure", 'Loss & <b>cost</b>: Explorer of "cats"']
    assert 'width="7"' in text and "100%|" not in text
    assert 'href="04_segmentation.html#masks"' in text
    assert 'href="../data/a.ipynb"' in text and "<code>04_segmentation.ipynb</code>" in text


@pytest.mark.parametrize("path", notebooks.find([]), ids=lambda path: path.stem)
def test_a_committed_notebook_becomes_a_page_with_every_picture_and_no_request(path):
    notebook = nbformat.read(path, as_version=4)
    data = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = sum("image/png" in shown and "text/html" not in shown for shown in data)
    found = Page(page(notebook, path.stem))
    assert found.requests == [] and len(found.alts) >= pictures and all(found.alts)
    assert "$" not in found.words, "a formula is left as it was typed"
    plain, _ = HTMLExporter().from_notebook_node(notebook)  # jupyter nbconvert --to html shows them too
    assert len(Page(plain).alts) >= pictures
