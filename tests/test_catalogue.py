"""The map of the collection: every notebook is on it, in its own words, and a notebook without them is found."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from sfhelpers.notebooks import FOLDER, catalogue, find
from sfhelpers.notebooks.catalogue import Entry, markdown
from tests.backbone_fixtures import one_sentence

FIRST = """# 07 · Cups: what | holds

**Question.** Does a cup
hold?

**What you will learn**
- to pour;

**Time and memory.** A minute.
**Paper.** SketchFusion, Sec. 7."""


def written(folder, text=FIRST, name="07_cups", kind=new_markdown_cell):
    path = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=[kind(text, id="first"), new_code_cell("1", id="second")]), path)
    return path


def test_every_notebook_of_the_collection_is_on_the_map():
    entries = catalogue.entries()
    assert [entry.file for entry in entries] == [path.name for path in find([])]
    table = markdown(entries)
    for entry in entries:
        assert f"]({entry.file})" in table and (FOLDER / entry.file).is_file()
        assert entry.question.endswith("?") and entry.paper and entry.time


def test_the_map_shown_in_the_first_notebook_is_the_present_one():
    cells = nbformat.read(FOLDER / "00_start_here.ipynb", as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    (shown,) = [output.data["text/markdown"] for output in outputs if "text/markdown" in output.get("data", {})]
    assert shown == markdown(catalogue.entries()), "execute 00_start_here again"


def test_an_entry_holds_the_notebooks_own_words(tmp_path):
    written(tmp_path)
    (entry,) = catalogue.entries(tmp_path)
    assert entry == Entry(
        number="07",
        title="Cups",
        subtitle="what | holds",
        question="Does a cup hold?",
        time="A minute.",
        paper="SketchFusion, Sec. 7.",
        file="07_cups.ipynb",
    )


def test_a_changed_question_changes_the_map(tmp_path):
    before = catalogue.entries(written(tmp_path).parent)._repr_markdown_()
    written(tmp_path, FIRST.replace("hold?", "break?"))
    after = catalogue.entries(tmp_path)._repr_markdown_()
    assert before != after and "Does a cup break?" in after


def test_notebooks_come_in_order_and_users_own_are_left_out(tmp_path):
    for name in ("90_last", "07_cups", "out"):
        written(tmp_path, FIRST.replace("# 07", f"# {name[:2]}"), name)
    assert [entry.number for entry in catalogue.entries(tmp_path)] == ["07", "90"]


def test_a_bar_in_a_text_does_not_break_the_table(tmp_path):
    written(tmp_path, FIRST.replace("hold?", "hold 1 | 2?"))
    row = markdown(catalogue.entries(tmp_path)).splitlines()[2]
    assert row == "| [07 · Cups](07_cups.ipynb) | Does a cup hold 1 \\| 2? | SketchFusion, Sec. 7. |"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("**Question.**", "Question.", "has no line **Question.**"),
        ("**Time and memory.** A minute.", "", "has no line **Time and memory.**"),
        ("**Paper.** SketchFusion, Sec. 7.", "**Paper.**", "has no line **Paper.**"),
        ("# 07", "# 08", 'does not begin with a text cell "# 07 · Title"'),
        ("# 07 · Cups", "## Cups", "does not begin"),
    ],
)
def test_a_notebook_without_its_lines_is_found(tmp_path, old, new, words):
    assert old in FIRST
    written(tmp_path, FIRST.replace(old, new))
    with pytest.raises(ValueError) as error:
        catalogue.entries(tmp_path)
    assert words in one_sentence(error)


def test_a_first_cell_of_code_and_an_empty_notebook_are_found(tmp_path):
    written(tmp_path, kind=new_code_cell)
    with pytest.raises(ValueError, match="does not begin with a text cell"):
        catalogue.entries(tmp_path)
    nbformat.write(new_notebook(), tmp_path / "07_cups.ipynb")
    with pytest.raises(ValueError, match="does not begin with a text cell"):
        catalogue.entries(tmp_path)


def test_two_notebooks_of_one_number_are_found(tmp_path):
    written(tmp_path)
    written(tmp_path, name="07_mugs")
    with pytest.raises(ValueError, match=r"07_cups.ipynb and 07_mugs.ipynb have the same number"):
        catalogue.entries(tmp_path)
