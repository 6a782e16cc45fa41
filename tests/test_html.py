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

from sfhelpers.notebooks import __main__ as command
from sfhelpers.notebooks import clean, find
from sfhelpers.notebooks.html import markdown, mathml, page
from tests.backbone_fixtures import one_sentence

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
                self.requests += _in_css(value)
        if tag == "img":
            self.alts.append(dict(attributes).get("alt"))

    def handle_endtag(self, tag):
        if tag in self.inside:
            del self.inside[len(self.inside) - 1 - self.inside[::-1].index(tag) :]

    def handle_data(self, data):
        if "style" in self.inside:
            self.requests += _in_css(data)
        elif "script" in self.inside:
            self.requests += OUTSIDE.findall(data)
        elif not {"pre", "code"} & set(self.inside):
            self.words += data


def _in_css(text):
    return [first or second for first, second in IN_CSS.findall(text)]


def requests_of(text):
    """What a browser that shows this page would ask for beyond the page itself (links that one clicks apart)."""
    return Page(text).requests


def images_of(notebook):
    """How many outputs of a notebook are shown as a picture."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) and "text/html" not in output.data for output in outputs)


def png():
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def notebook():
    """A heading, formulas in text and in code, a figure, a widget and its state."""
    text = "# First\n\n## Loss & <b>cost</b>\n\nIt is $x_1 < \\sigma$ in `$HOME`.\n\n"
    text += "$$\\frac{a}{b}$$\n\n```sh\necho $A $B\n```"
    figure = new_output(
        "display_data", {"image/png": png(), "text/plain": "<figure>"}, metadata={"image/png": {"width": 7}}
    )
    view = {clean.WIDGET: {"model_id": "1", "version_major": 2, "version_minor": 0}}
    widget = new_output("display_data", {**view, "image/png": png(), "text/plain": '<Explorer of "cats">'})
    bar = new_output("display_data", {**view, "text/plain": "100%|#####| 1/1"})
    cells = [new_markdown_cell(text), new_code_cell("price = '$5 or $6'", outputs=[figure, widget, bar])]
    state = {"application/vnd.jupyter.widget-state+json": {"state": {"1": {}}, "version_major": 2, "version_minor": 0}}
    return new_notebook(cells=cells, metadata={"kernelspec": clean.KERNEL, "widgets": state})


def test_a_page_has_no_script_and_asks_for_nothing():
    text = page(notebook(), "01_tiny")
    assert requests_of(text) == [] and "<script" not in text
    assert "<title>01_tiny</title>" in text
    plain, _ = HTMLExporter().from_notebook_node(notebook())
    assert any("mathjax" in address for address in requests_of(plain))


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://a.org/a.js"></script>',
        '<script type="module">import a from "https://a.org/a.mjs"</script>',
        '<link rel="stylesheet" href="//a.org/a.css">',
        "<style>@import 'https://a.org/a.css'; p {color: red}</style>",
        "<style>p {background: url(https://a.org/a.png)}</style>",
        '<p style="background: url(&quot;a.png&quot;)"></p>',
        '<img src="a.png">',
        '<iframe src="https://a.org"></iframe>',
        '<svg><image xlink:href="https://a.org/a.png"></image></svg>',
    ],
)
def test_what_a_browser_would_load_is_found(text):
    assert len(requests_of(text)) == 1


def test_what_it_would_not_load_is_not_a_request():
    text = '<a href="https://a.org">a</a><img src="data:image/png;base64,aa"><style>p {background: url(data:b)}</style>'
    assert requests_of(text + '<math xmlns="http://www.w3.org/1998/Math/MathML"></math><use href="#a"></use>') == []


def test_formulas_are_mathml_and_code_stays_as_it_is():
    text = page(notebook(), "01_tiny")
    assert text.count('<math display="inline"') == 1 and text.count('<math display="block"') == 1
    assert "σ" in text and "$" not in Page(text).words
    for code in ("<code>$HOME</code>", "echo", "$5 or $6"):
        assert code in text
    assert "<mfrac>" in markdown("\\begin{align}\\frac{a}{b} &= c\\end{align}")


@pytest.mark.parametrize("formula", ["x_", "x^2^3", r"\unheard{x}", r"\begin{aligned}a &= b\end{aligned}"])
def test_a_formula_that_cannot_be_turned_is_refused_in_one_sentence(formula):
    with pytest.raises(ValueError, match="cannot be turned into MathML") as caught:
        mathml(formula)
    one_sentence(caught)


def test_run_says_which_formula_it_cannot_show_and_goes_on(tmp_path, capsys):
    wrong = notebook()
    wrong.cells = [new_markdown_cell("$x_$"), new_code_cell("1")]
    nbformat.write(wrong, tmp_path / "01_wrong.ipynb")
    wrong.cells[0].source = "$x_1$"
    nbformat.write(wrong, tmp_path / "02_right.ipynb")
    out = tmp_path / "runs"
    assert command.main(["run", "--folder", str(tmp_path), "--out", str(out)]) == 1
    first, second, _ = capsys.readouterr().out.splitlines()
    assert "ok, but no page: the formula 'x_'" in first and second.endswith(" ok")
    assert (out / "02_right.html").exists() and not (out / "01_wrong.html").exists()
    assert "01_wrong.html" not in (out / "index.html").read_text()


def test_pictures_are_described_by_the_heading_above_and_their_own_text():
    text = page(notebook(), "01_tiny")
    assert Page(text).alts == ["Loss & <b>cost</b>: figure", 'Loss & <b>cost</b>: Explorer of "cats"']
    assert 'width="7"' in text and "100%|" not in text


def test_links_to_other_notebooks_lead_to_their_pages():
    shown = notebook()
    shown.cells[
        0
    ].source = "See [04](04_segmentation.ipynb#masks), [a file](../data/a.ipynb) and `04_segmentation.ipynb`."
    text = page(shown, "01_tiny")
    assert 'href="04_segmentation.html#masks"' in text
    assert 'href="../data/a.ipynb"' in text and "<code>04_segmentation.ipynb</code>" in text


def test_the_notebook_that_is_shown_stays_as_it_was():
    shown = notebook()
    page(shown, "01_tiny")
    assert [cell.get("outputs") for cell in shown.cells] == [cell.get("outputs") for cell in notebook().cells]


@pytest.mark.parametrize("path", find([]), ids=lambda path: path.stem)
def test_a_committed_notebook_becomes_a_page_with_every_picture_and_no_request(path):
    shown = nbformat.read(path, as_version=4)
    found = Page(page(shown, path.stem))
    assert found.requests == []
    assert len(found.alts) >= images_of(shown) and all(found.alts)
    assert "$" not in found.words, "a formula is left as it was typed"
    plain, _ = HTMLExporter().from_notebook_node(shown)  # jupyter nbconvert --to html shows them too
    assert len(Page(plain).alts) >= images_of(shown)
