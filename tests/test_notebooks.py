"""The notebook tools: honest runs and checks, nothing stale or dirty; pages that ask for nothing and show it all."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from html import unescape

import nbformat
import psutil
import pytest
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.backbone_fixtures import refused
from tools import clean
from tools.clean import KERNEL, WIDGET
from tools.notebooks import FOLDER, find, main
from tools.pages import markdown, mathml, page

PARAMETERS = 'seed = 0  # fixes every random choice\noutput_dir = ""  # where results are written'
FIGURE = "import random\nfrom PIL import Image\nrandom.seed(seed)\nImage.new('L', (8, 8), random.randrange(255))"


def tiny(folder, *sources, name="01_tiny", text="What comes out?"):
    """A notebook with a parameters cell and text before every other code cell."""
    cells = [new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}, id="parameters")]
    for number, source in enumerate(sources):
        cells += [new_markdown_cell(text, id=f"text-{number}"), new_code_cell(source, id=f"code-{number}")]
    path = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
    return path


def test_execute_gives_the_same_bytes_twice_and_passes_check(tmp_path):
    progress = "from tqdm.auto import tqdm\nfor _ in tqdm(range(3)):\n    print(_, flush=True)"
    path = tiny(tmp_path, FIGURE, progress, "print(hash('a'))")
    assert main(["execute", "--folder", str(tmp_path)]) == 0
    first = path.read_bytes()
    assert main(["execute", "01", "--folder", str(tmp_path)]) == 0
    assert path.read_bytes() == first and clean.problems(path) == []
    assert [cell.id for cell in nbformat.read(path, as_version=4).cells][:3] == ["parameters", "text-0", "code-0"]
    assert list(tmp_path.iterdir()) == [path]


def test_execute_leaves_a_failing_notebook_as_it_was(tmp_path, capsys):
    path = tiny(tmp_path, "raise ValueError('no such\\nthing')")
    before = path.read_bytes()
    assert main(["execute", "--folder", str(tmp_path)]) == 1
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    assert "failed: ValueError: no such thing" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("command", ["run", "execute"])
def test_a_signal_ends_kernels_and_what_they_started_and_leaves_the_notebooks(tmp_path, command, number):
    begun = f"import subprocess\nsubprocess.Popen(['sleep', '601'])\nopen({str(tmp_path / 'begun')!r}, 'a').write('x')"
    paths = [tiny(tmp_path, f"{begun}\nwhile True:\n    pass", name=name) for name in ("01_a", "02_b", "03_c")]
    before = [path.read_bytes() for path in paths]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "03_c.ipynb").write_text("of an earlier run")
    mark = {"SKETCHFUSION_TEST": str(tmp_path)}
    places = ["--folder", str(tmp_path), "--out", str(tmp_path / "out"), "--jobs", "2"]
    words = [sys.executable, "-m", "tools.notebooks", command, *places]
    runner = subprocess.Popen(words, cwd=FOLDER.parent, env=os.environ | mark)
    while runner.poll() is None and not (tmp_path / "begun").exists():
        time.sleep(0.05)
    assert len(marked(mark)) >= 4  # runner, papermill, kernel, sleep
    runner.send_signal(number)
    assert runner.wait(30) == 128 + number and marked(mark) == []
    assert [path.read_bytes() for path in paths] == before
    assert (tmp_path / "out" / "03_c.ipynb").read_text() == "of an earlier run"
    assert not list(tmp_path.glob("*/.*")) + list(tmp_path.glob(".*"))


def marked(mark):
    every = psutil.process_iter(["environ"])
    return [process for process in every if mark.items() <= (process.info["environ"] or {}).items()]


def test_run_prints_time_and_the_kernels_memory_makes_an_index_and_fails_if_one_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    shared = "import os\nassert os.environ['OMP_NUM_THREADS'] == '1'\n"
    write = "from pathlib import Path\nPath(output_dir).mkdir()\n(Path(output_dir) / 'results.json').write_text('[]')"
    tiny(tmp_path, shared + write, "import time\nblock = bytearray(b'1') * 400_000_000\ntime.sleep(1)")
    tiny(tmp_path, "1 / 0", name="02_wrong")
    tiny(tmp_path, "1", name="03_formula", text="$x_$")
    out = tmp_path / "runs"
    assert main(["run", "--folder", str(tmp_path), "--out", str(out), "--jobs", "2"]) == 1
    good, bad, odd = sorted(capsys.readouterr().out.splitlines()[:-1])
    assert good.startswith("01_tiny ") and good.endswith(" ok") and float(good.split()[3]) > 0.4
    assert "failed: ZeroDivisionError" in bad and "ok, but no page: the formula 'x_'" in odd
    index = (out / "index.html").read_text()
    for link in ("01_tiny.html", "01_tiny.ipynb", "01_tiny/results.json", "02_wrong.html", "03_formula.ipynb"):
        assert f'href="{link}"' in index and (out / link).exists()
    assert "03_formula.html" not in index and index.index("01_tiny") < index.index("02_wrong") < index.index("03_")


def test_names_are_numbers_stems_or_paths_and_out_notebooks_are_left_alone(tmp_path):
    first, second = tiny(tmp_path), tiny(tmp_path, name="04_segmentation")
    tiny(tmp_path, name="out")
    assert find([], tmp_path) == [first, second]
    assert find(["04"], tmp_path) == find(["04_segmentation"], tmp_path) == find([str(second)], tmp_path) == [second]
    assert main(["check", "05", "--folder", str(tmp_path)]) == 2


def test_cleaning_drops_what_differs_between_runs():
    view = {WIDGET: {"model_id": "1"}, "text/plain": "Bar()"}
    outputs = [
        new_output("display_data", view),
        new_output("display_data", view | {"text/plain": "Explorer()", "image/png": "aa"}),
        new_output("stream", name="stderr", text="\r 33%|███   | 1/3 [00:00<00:01]"),
        new_output("stream", name="stdout", text="a\n"),
        new_output("stream", name="stdout", text="b\n"),
        new_output("display_data", {"image/png": "aa", "image/jpeg": "bb", "text/plain": "<Image>"}),
    ]
    outputs[-1].metadata = {"image/png": {"width": 800}, "other": {"than": "a width"}}
    times = {"tags": ["keep"], "execution": {"iopub.status.busy": "now"}, "papermill": {"duration": 1}}
    injected = new_code_cell("epochs = 9", metadata={"tags": ["injected-parameters"]})
    metadata = {"papermill": {}, "widgets": {}, "language_info": {"name": "python", "version": "3.11.7"}}
    cells = [injected, new_code_cell("x", outputs=outputs, metadata=times)]
    cleaned = clean.clean(notebook := new_notebook(cells=cells, metadata=metadata))
    (cell,) = cleaned.cells
    assert cell.metadata == {"tags": ["keep"]}
    still, text, figure = (output.get("text", output.get("data")) for output in cell.outputs)
    assert still == {"text/plain": "Explorer()", "image/png": "aa"} and text == "a\nb\n"
    assert figure == {"image/png": "aa", "text/plain": "<Image>"}
    assert [output.get("metadata", {}) for output in cell.outputs] == [{}, {}, {"image/png": {"width": 800}}]
    assert cleaned.metadata.keys() == {"kernelspec", "language_info", clean.STAMP}
    assert clean.clean(cleaned) == cleaned
    assert len(notebook.cells) == 2 and notebook.cells[1].outputs[0].data.keys() == view.keys()


def shows(kind, data=None, **given):
    return lambda cells: cells[2].update(outputs=[new_output(kind, data, **given)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda cells: cells[2].update(source="2"), "stale"),
        (lambda cells: cells[2].update(execution_count=3), "in order"),
        (lambda cells: cells[0].metadata.update(tags=["settings"]), "not tagged parameters"),
        (lambda cells: cells[1].metadata.update(collapsed=True), "not clean"),
        (lambda cells: cells.pop(3), "no text stands between code cells 2 and 3"),
        (shows("error", ename="ValueError", evalue="", traceback=[]), "ended with ValueError"),
        (shows("stream", name="stderr", text="UserWarning: old"), "warning"),
        (shows("display_data", {"image/png": "A" * 240_000}), "180 kB"),
        (shows("execute_result", {"text/plain": "<Axes at 0x7f3a11>"}, execution_count=2), "memory address"),
        (shows("stream", name="stdout", text="wrote /tmp/runs/a.png"), "path of this machine"),
        (shows("display_data", {"text/plain": "a" * 1_600_000}), "1.60 MB"),
    ],
)
def test_an_edit_after_execution_and_outputs_that_do_not_belong_in_git_are_found(tmp_path, change, words):
    path = tiny(tmp_path, "1", "2")
    notebook = nbformat.read(path, as_version=4)
    for count, cell in enumerate(notebook.cells[::2], start=1):
        cell.execution_count = count
    notebook = clean.stamped(notebook)
    path.write_text(clean.text_of(notebook), encoding="utf-8")
    assert clean.problems(path) == []
    change(notebook.cells)
    path.write_text(clean.text_of(notebook), encoding="utf-8")
    assert any(words in problem for problem in clean.problems(path))


NBVAL = {"seed: 7": "1 failed, 3 passed, 1 skipped", "sed: 7": "sets 'sed', which 01_tiny does not declare"}


@pytest.mark.parametrize("override", NBVAL)
def test_nbval_takes_small_values_refuses_other_names_skips_after_a_failure_and_leaves_out_others(tmp_path, override):
    """As `make test` runs it, on a copy of the layout."""
    for folder in (tests := tmp_path / "tests", notebooks := tmp_path / "notebooks"):
        folder.mkdir()
    (tests / "nbval_parameters.yaml").write_text(f"01_tiny: {{{override}}}")
    shutil.copy(FOLDER / "conftest.py", notebooks)
    tiny(notebooks, "assert seed == 7 and 'nbval' in output_dir")
    tiny(notebooks, "1 / 0", "2 / 0", name="02_wrong")
    tiny(notebooks, "1 / 0", name="out")
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run([*command, "notebooks"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and NBVAL[override] in done.stdout + done.stderr


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


@pytest.mark.parametrize("path", find([]), ids=lambda path: path.stem)
def test_a_committed_notebook_becomes_a_page_with_every_picture_and_no_request(path):
    notebook = nbformat.read(path, as_version=4)
    text = page(notebook, path.stem)
    assert loads(text) == [] and text.count("<img") == len(alts(text)) >= images_of(notebook) and all(alts(text))
    assert "$" not in words(text), "a formula is left as it was typed"
    plain, _ = HTMLExporter().from_notebook_node(notebook)  # jupyter nbconvert --to html shows them too
    assert plain.count("<img") >= images_of(notebook)
