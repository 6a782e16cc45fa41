"""JupyterLab and the exported pages in a real browser: drawing, sliders, pictures, and not one request outside.

Screenshots land in runs/browser/: one at the end of every test, also of one that fails.
"""

import base64
import io
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml
from nbconvert.preprocessors import ClearOutputPreprocessor
from nbformat.v4 import new_code_cell, new_notebook
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from PIL import Image, ImageChops, ImageFilter, ImageOps
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from sfhelpers.drawing import Drawing
from tests.browser import Lab, chromium, jupyterlab, outside
from tests.test_notebooks import images_of
from tests.test_widgets import CELLS, setup
from tools.clean import KERNEL
from tools.notebooks import find
from tools.pages import page

ROOT = Path(__file__).parents[1]
SMALL = yaml.safe_load((ROOT / "tests" / "nbval_parameters.yaml").read_text(encoding="utf-8"))
ALTS = "return Array.from(document.images, (image) => image.complete && image.naturalWidth > 0 && image.alt)"
FOLDS = """return Array.from(document.querySelectorAll("details"), (fold) => {
  const folded = fold.offsetHeight;
  fold.querySelector("summary").click();
  return fold.offsetHeight > folded;
})"""
FORMULAS = "return Array.from(document.querySelectorAll('math'), (math) => math.getBoundingClientRect().width)"
CORNER = [(0.2, 0.2), (0.8, 0.2), (0.8, 0.7)]  # a stroke, from 0 to 1
INK = """
const { width, height } = arguments[0], pixels = arguments[0].getContext("2d").getImageData(0, 0, width, height).data;
return pixels.filter((value, place) => place % 4 === 0 && value < 128).length;
"""
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 300" stroke-width="3" fill="none" stroke="#222" {}</svg>'
)
BEND, RAY = '<path d="M50 50L350 60L200 280"/>', '<path d="M20 250L380 20"/>'
SVGS = {
    "classes": "><style>.a {stroke: none} #b {stroke: red}</style><path class='a' id='b' d='M9 9L300 90'/>"
    f"<g class='a'>{RAY}</g>{BEND}",
    "hidden": f"><g visibility='hidden'>{RAY}<g visibility='visible'>{BEND}</g></g><g opacity='0.01'>{RAY}</g>",
    "dark": f"style='background: #222'>{RAY}<g stroke='#fff'>{BEND}</g>",
    "page": f"><rect width='500' height='300' fill='ivory' stroke='none'/><g stroke='#fff'>{RAY}</g>{BEND}",
    "covered": f">{RAY}<path d='M0 0h400v300h-400z' fill='#345' stroke='none'/><g stroke='#eee'>{BEND}</g>",
    "moved": f"><g style='transform: translate(60px, 20px) rotate(10deg) scale(.5)'>{BEND}</g>{RAY}",
    "origin": f"><g style='transform: rotate(.125turn); transform-origin: center'>{BEND}</g>{RAY}",
    "corner": f"><g transform='scale(.5)' transform-origin='right top'>{BEND}</g>{RAY}",
    "outside": f">{BEND}<path d='M-100 200L500 100M-500 100L200 -300M5000 0L5001 5'/>",
    "stretched": f"width='40mm' height='5cm' preserveAspectRatio='none'>{BEND}{RAY}",
    "units": f"width='20rem' height='auto'>{BEND}<line x1='1cm' y1='5mm' x2='50%' y2='2in'/>",
    "turned": f"><rect x='9' y='80' width='90' height='60' rx='9' transform='rotate(20)'/><circle r='30' cx='9'/>{RAY}",
    "nothing": f"><path stroke='none' fill='red' d='M0 0L400 300'/><path d='M5 5M390 290M9 9z'/>{BEND}{RAY}",
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The folder that a JupyterLab serves, and the address there of any notebook in it."""
    folder, home = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("jupyter")
    with jupyterlab(folder, home) as address:
        yield folder, address


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One Chromium for all tests, so that what it asked for can be told at the end."""
    with chromium(tmp_path_factory.mktemp("chromium"), ROOT / "runs" / "browser") as running:
        yield running


@pytest.fixture(scope="module")
def widgets(browser, lab, tiny_folder):
    folder, address = lab
    cells = [new_code_cell(setup(folder, tiny_folder), id="setup")]
    cells += [new_code_cell(f"{source}\n{name}", id=name) for name, source in CELLS.items()]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), folder / "widgets.ipynb")
    notebook = Lab(browser, address, "widgets.ipynb")
    notebook.run_all(deadline=90)
    return notebook


@pytest.fixture(autouse=True)
def screenshot(request, browser):
    """What the window shows when a test ends, whatever its end."""
    yield
    browser.screenshot(re.sub(r"\W+", "_", request.node.name).strip("_"))


def pictures(browser, notebook, file):
    """The alternative texts of all pictures of a notebook's page, false for one that the browser does not show."""
    file.write_text(page(notebook, file.stem), encoding="utf-8")
    browser.open(file.as_uri())
    return browser.run(ALTS)


@pytest.mark.parametrize(
    ("name", "control", "value"),
    [
        ("masks", "threshold", "masks.state['threshold']"),
        ("pca", "timestep", "pca.state['timestep']"),
        ("frequency", "keep cycles", "frequency.state['band'][0]"),
    ],
)
def test_a_slider_changes_the_picture(browser, widgets, name, control, value):
    cell, before = widgets.cell(name), widgets.value(value)
    with browser.changing(cell):
        browser.drag(browser.control(cell, control, ".noUi-handle"), right=40)
    widgets.holds(f"{value} > {before}")


def test_a_point_can_be_chosen_with_the_mouse_and_the_keyboard(browser, widgets):
    cell = widgets.cell("pca")
    for y, side in ((0.75, "photo"), (0.25, "sketch")):
        with browser.changing(cell):
            browser.stroke(browser.find("img", cell)[0], [(0.1, y)])
        widgets.holds(f"pca.state['point'][0] == {side!r}")
    _, x, y = widgets.value("pca.state['point']")
    with browser.changing(cell):
        browser.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ENTER)
    widgets.holds(f"pca.state['point'][0] == 'sketch' and pca.state['point'][1] > {x} and pca.state['point'][2] > {y}")


def test_the_pad_is_drawn_on_with_the_mouse_and_the_keyboard_and_undoes_by_button_and_by_key(browser, widgets):
    cell = widgets.cell("pad")
    paper = browser.find("canvas", cell)[0]
    assert browser.run(INK, paper) == 0
    browser.stroke(paper, CORNER)
    browser.stroke(paper, [(0.5, 0.5)])
    widgets.holds("len(pad.drawing.strokes) == 2")
    drawn = widgets.value("[(stroke.points / pad.size).tolist() for stroke in pad.drawing.strokes]")
    for point, found in (*zip(CORNER[::2], (drawn[0][0], drawn[0][-1]), strict=True), ((0.5, 0.5), drawn[1][0])):
        assert found == pytest.approx(point, abs=0.01)
    assert min(abs(x - 0.8) + abs(y - 0.2) for x, y in drawn[0]) < 0.02  # the corner of the stroke
    assert browser.run(INK, paper) > 500
    browser.button(cell, "Undo").click()
    widgets.holds("len(pad.drawing.strokes) == 1")
    browser.driver.switch_to.active_element.send_keys(Keys.CONTROL, "z")
    widgets.holds("len(pad.drawing.strokes) == 0")
    browser.wait("the paper is white", lambda: browser.run(INK, paper) == 0)
    browser.run("arguments[0].focus()", paper)
    browser.keys(" ", *[Keys.ARROW_RIGHT] * 5, *[Keys.ARROW_DOWN] * 3, " ")
    widgets.holds("len(pad.drawing.strokes) == 1")
    first, last = widgets.value("(pad.drawing.strokes[0].points[[0, -1]] / pad.size).tolist()")
    assert last == pytest.approx((first[0] + 0.05, first[1] + 0.03), abs=0.001)


def test_a_hostile_file_is_refused_on_the_pad_and_nothing_drawn_is_lost(browser, widgets, tmp_path):
    cell, file = widgets.cell("pad"), tmp_path / "laughs.svg"
    file.write_text('<!DOCTYPE svg [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><svg><path d="M 0 0 L 9 9"/>&b;</svg>')
    before = widgets.value("pad.strokes")
    browser.find("input[type=file]", cell)[0].send_keys(str(file))
    browser.wait("its sentence", lambda: browser.find(".sketchpad-wrong", cell))
    assert "laughs.svg" in browser.find(".sketchpad-words", cell)[0].text
    assert widgets.value("pad.strokes") == before


def test_a_stroke_asks_the_gallery_and_an_empty_paper_and_one_dot_are_no_trouble(browser, widgets):
    cell = widgets.cell("search")
    paper = browser.find("canvas", cell)[0]
    with browser.changing(cell):
        browser.stroke(paper, CORNER)
    browser.button(cell, "Clear").click()
    browser.wait("it asks for a drawing", lambda: "Draw something" in cell.text)
    browser.stroke(paper, [(0.5, 0.5)])
    browser.wait("its sentence", lambda: "a single dot" in cell.text)
    widgets.holds("search.found is None and len(search.pad.drawing.strokes) == 1")
    browser.stroke(paper, CORNER)
    widgets.holds("search.found is not None and len(search.pad.drawing.strokes) == 2")
    browser.wait("an answer", lambda: browser.find("img", cell)[0].is_displayed() and "a single dot" not in cell.text)


def test_every_widget_leaves_its_picture_in_the_exported_page(browser, widgets, tmp_path):
    notebook = widgets.notebook()
    shown = pictures(browser, notebook, tmp_path / "widgets.html")
    assert len(shown) == images_of(notebook) == len(CELLS)
    for name, words in zip(("Mask", "PCA", "Frequency", "SketchPad", "SketchSearch"), shown, strict=True):
        assert name in words


def test_the_front_door_answers_a_drawing_and_a_slider(browser, lab):
    (path,) = find(["00"])
    folder, address = lab
    settings = SMALL[path.stem] | {"output_dir": str(folder / "results")}
    given = parameterize_notebook(load_notebook_node(str(path)), settings)
    nbformat.write(ClearOutputPreprocessor().preprocess(given, {})[0], folder / path.name)
    notebook = Lab(browser, address, path.name)
    notebook.run_all(deadline=240)
    search = notebook.cell("search")
    with browser.changing(search):
        browser.stroke(browser.find("canvas", search)[0], CORNER)
    browser.screenshot("00_drawn")
    explorer = notebook.cell("explore")
    with browser.changing(explorer):
        Select(browser.control(explorer, "source", "select")).select_by_visible_text("SD f2")
    with browser.changing(explorer):
        browser.drag(browser.control(explorer, "timestep", ".noUi-handle"), right=40)
    assert notebook.checked()


@pytest.mark.parametrize("path", find([]), ids=lambda path: path.stem)
def test_an_exported_page_shows_every_picture_and_formula_without_a_script_error(browser, tmp_path, path):
    notebook, known = nbformat.read(path, as_version=4), len(browser.errors)
    shown = pictures(browser, notebook, tmp_path / f"{path.stem}.html")
    assert all(shown) and len(shown) == images_of(notebook) > 0
    assert all(browser.run(FOLDS)), "a solution that does not unfold"
    assert all(browser.run(FORMULAS))
    assert browser.errors[known:] == []


def outline(picture):
    """Where a picture differs from its corner, cut out and scaled to 100 pixels."""
    paper = Image.new("RGB", picture.size, picture.getpixel((0, 0)))
    ink = ImageChops.difference(picture, paper).convert("L").point(lambda value: 255 * (value > 40))
    ink = ImageOps.pad(ink.crop(ink.getbbox()), (400, 400)).reduce(4)
    return ink.point(lambda value: 255 * (value > 60))


@pytest.mark.parametrize("name", SVGS)
def test_an_svg_has_the_ink_that_the_browser_shows(browser, name):
    content = SVG.format(SVGS[name])
    source = f"data:image/svg+xml;base64,{base64.b64encode(content.encode()).decode()}"
    browser.open(f"data:text/html,<img width=400 src='{source}'>")
    shown = Image.open(io.BytesIO(browser.find("img")[0].screenshot_as_png)).convert("RGB")
    ours, theirs = outline(Drawing.parse(content.encode(), f"{name}.svg").to_image()), outline(shown)
    for one, other in ((ours, theirs), (theirs, ours)):
        beside = ImageChops.subtract(one, other.filter(ImageFilter.MaxFilter(5)))
        assert np.mean(np.asarray(beside) > 0) < 0.03 * np.mean(np.asarray(one) > 0)


def test_what_leaves_the_machine_and_what_goes_wrong_is_noticed(tmp_path):
    with chromium(tmp_path, tmp_path) as other:
        other.open("data:text/html,<img src='https://example.org/a.png'><script>undefined.name</script>")
        assert outside(other.requests) == ["https://example.org/a.png"]
        assert any("TypeError" in error for error in other.errors)


def test_nothing_was_asked_for_outside_and_no_page_reported_an_error(browser):
    assert any("127.0.0.1" in address for address in browser.requests)
    assert outside(browser.requests) == []
    assert browser.errors == []
