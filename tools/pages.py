"""Notebooks as HTML pages that ask for nothing outside: they open from a disk, without a network."""

import re

from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from tools.clean import WIDGET

# Pictures first: a widget's still picture is what an HTML page can show.
PRIORITY = ["text/html", "image/svg+xml", "image/png", "image/jpeg", "text/markdown", "text/plain"]
LINK = re.compile(r'href="(\d\d_\w+)\.ipynb')
# nbconvert's page without its scripts, which come from servers (require.js, MathJax, Mermaid), its pictures with words
# for those who cannot see them, and a gap between code in a text and what follows it.
TEMPLATE = """{%- extends 'index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block html_head_css -%}<style>.jp-RenderedMarkdown .highlight { margin-bottom: 1em }</style>{%- endblock -%}
{%- block data_png scoped -%}
{%- set width = output | get_metadata('width', 'image/png') -%}
<div class="jp-RenderedImage jp-OutputArea-output {{ extra_class }}">
<img src="data:image/png;base64,{{ output.data['image/png'] | escape_html }}"
 alt="{{ output.metadata.alt | escape_html }}" {% if width is not none %}width="{{ width | escape_html }}"{% endif %}>
</div>
{%- endblock -%}
"""


def page(notebook: NotebookNode, title: str) -> str:
    """The notebook as one HTML page: every picture within it, formulas as MathML, no script, no request.

    Links to other notebooks of the collection lead to their pages. ValueError if a formula cannot become MathML.
    """
    exporter = HTMLExporter(raw_template=TEMPLATE, filters={"markdown2html": markdown})
    exporter.config.NbConvertBase.display_data_priority = PRIORITY  # of the exporter's filters, which read its config
    text, _ = exporter.from_notebook_node(_described(notebook), {"metadata": {"name": title}})
    return LINK.sub(r'href="\1.html', text)


def markdown(source: str) -> str:
    """Markdown as HTML, its formulas as MathML. ValueError if a formula cannot be."""
    return MarkdownWithMath(renderer=_Renderer(escape=False)).render(source)


class _Renderer(IPythonRenderer):
    """nbconvert's, which leaves formulas to MathJax, with MathML instead: browsers draw it by themselves."""

    def inline_math(self, body: str) -> str:
        return mathml(body, "inline")

    def block_math(self, body: str) -> str:
        return mathml(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")


def mathml(formula: str, display: str = "inline") -> str:
    """A LaTeX formula as MathML, "inline" or as a "block"; ValueError for what the converter does not know."""
    try:
        found, reason = convert(formula.strip(), display=display), "a command or environment it does not know"
    except Exception as error:  # the converter's errors have no common class
        found, reason = "\\", type(error).__name__
    # What it does not know it copies: the name of a command, or the & of an environment that it takes for none.
    if "\\" in found or "<mi>&</mi>" in found:
        shown = " ".join(formula.split())
        raise ValueError(f"the formula {shown!r} cannot be turned into MathML ({reason}): write it in plainer LaTeX.")
    return found


def _described(notebook: NotebookNode) -> NotebookNode:
    """A copy without the state of live widgets, its pictures described by the heading above and their own text."""
    cells, heading = [], ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = next((line for line in reversed(cell.source.splitlines()) if line.startswith("#")), heading)
        elif cell.cell_type == "code":
            # A live widget without a picture, such as a progress bar, is nothing that a page could show.
            kept = [output for output in cell.outputs if output.get("data", {}).keys() - {"text/plain"} != {WIDGET}]
            cell = NotebookNode(cell, outputs=[_with_alt(output, heading.lstrip("# ")) for output in kept])
        cells.append(cell)
    metadata = {name: value for name, value in notebook.metadata.items() if name != "widgets"}
    return NotebookNode(notebook, cells=cells, metadata=NotebookNode(metadata))


def _with_alt(output: NotebookNode, heading: str) -> NotebookNode:
    if "image/png" not in output.get("data", {}):
        return output
    words = [heading, output.data.get("text/plain", "").strip("<>")]
    return NotebookNode(output, metadata=NotebookNode(output.metadata, alt=": ".join(word for word in words if word)))
