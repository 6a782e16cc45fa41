"""Exported pages: nothing is asked for outside, formulas are MathML, every picture is there and described."""

import re
from html import unescape

import nbformat
import pytest
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.backbone_fixtures import refused
from tools import notebooks
from tools.clean import KERNEL, WIDGET
from tools.pages import markdown, mathml, page

TEXT = re.compile(r"<(pre|code)\b.*?</\1>|<a\b[^>]*>", re.DOTALL)  # where an address is only shown, or led to
LOADS = re.compile(
    r"""<script\b|\s(?:src|srcset|data|poster|background|(?:xlink:)?href|(?:form)?action|http-equiv)=["'](?!data:|\#)"""
    r"""|url\((?!\s*(?:["']|&quot;)?(?:data:|\#))|@import"""
)


def loads(text):
    """What in a page makes a browser ask for something."""
    return LOADS.findall(TEXT.sub("", text))


def words(text):
    """The text outside code."""
    return re.sub(r"<(style|script|pre|code)\b.*?</\1>|<[^>]*>", "", text, flags=re.DOTALL)


def alts(text):
    return [unescape(alt) for _, alt in re.findall(r"""<img\b[^>]*?\salt=(["'])(.*?)\1""", text)]


def images_of(notebook):
    """How many outputs of a notebook are shown as a picture."""
    data = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in shown and "text/html" not in shown for shown in data)


def shown():
    """A heading, formulas in text and in code, links, a figure, a widget and its state."""
    text = "# First\n\n## Loss & <b>cost</b>\n\nIt is $x_1 < \\sigma$ in `$HOME`.\n\n"
    text += "$$\\frac{a}{b}$$\n\n```sh\necho $A $B\n```\n"
    text += "[04](04_segmentation.ipynb#masks), [a file](../data/a.ipynb), `04_segmentation.ipynb`"
    image, width = {"image/png": "aaaa"}, {"image/png": {"width": 7}}
    figure = new_output("display_data", image | {"text/plain": "<figure>"}, metadata=width)
    view = {WIDGET: {"model_id": "1", "version_major": 2, "version_minor": 0}}
    widget = new_output("display_data", {**view, **image, "text/plain": '<Explorer of "cats">'})
    bar = new_output("display_data", {**view, "text/plain": "100%|#####| 1/1"})
    cells = [new_markdown_cell(text), new_code_cell("price = '$5 or $6'", outputs=[figure, widget, bar])]
    state = {"application/vnd.jupyter.widget-state+json": {"state": {"1": {}}, "version_major": 2, "version_minor": 0}}
    return new_notebook(cells=cells, metadata={"kernelspec": KERNEL, "widgets": state})


def test_what_a_browser_would_load_is_found():
    text = """<script src="https://a.org/a.js"></script><link rel="stylesheet" href="//a.org/a.css">
    <style>@import 'https://a.org/a.css'; p {color: red}</style><p style="background: url(&quot;a.png&quot;)"></p>
    <svg><image xlink:href="https://a.org/b.png"></image></svg>"""
    assert loads(text) == ["<script", ' src="', ' href="', "@import", "url(", ' xlink:href="']
    assert loads('<a href="https://a.org">a</a><img src="data:image/png;base64,aa"><use href="#a">') == []


def test_a_page_asks_for_nothing_and_shows_formulas_code_pictures_and_links_and_the_notebook_stays_as_it_was():
    notebook = shown()
    text = page(notebook, "01_tiny")
    assert loads(text) == [] and "<script" not in text and "<title>01_tiny</title>" in text
    assert loads(HTMLExporter().from_notebook_node(notebook)[0])  # nbconvert's own
    assert [cell.get("outputs") for cell in notebook.cells] == [cell.get("outputs") for cell in shown().cells]
    assert text.count('<math display="inline"') == 1 and text.count('<math display="block"') == 1
    assert "σ" in text and "$" not in words(text)
    assert all(code in text for code in ("<code>$HOME</code>", "echo", "$5 or $6"))
    assert "<mfrac>" in markdown("\\begin{align}\\frac{a}{b} &= c\\end{align}")
    assert alts(text) == ["Loss & <b>cost</b>: figure", 'Loss & <b>cost</b>: Explorer of "cats"']
    assert 'width="7"' in text and "100%|" not in text
    assert 'href="04_segmentation.html#masks"' in text
    assert 'href="../data/a.ipynb"' in text and "<code>04_segmentation.ipynb</code>" in text


@pytest.mark.parametrize("formula", ["x_", "x^2^3", r"\unheard{x}", r"\begin{aligned}a &= b\end{aligned}"])
def test_a_formula_that_cannot_be_turned_is_refused_in_one_sentence(formula):
    with refused("cannot be turned into MathML"):
        mathml(formula)


@pytest.mark.parametrize("path", notebooks.find([]), ids=lambda path: path.stem)
def test_a_committed_notebook_becomes_a_page_with_every_picture_and_no_request(path):
    notebook = nbformat.read(path, as_version=4)
    text = page(notebook, path.stem)
    assert loads(text) == [] and text.count("<img") == len(alts(text)) >= images_of(notebook) and all(alts(text))
    assert "$" not in words(text), "a formula is left as it was typed"
    plain, _ = HTMLExporter().from_notebook_node(notebook)  # jupyter nbconvert --to html shows them too
    assert plain.count("<img") >= images_of(notebook)
