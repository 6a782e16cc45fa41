"""The README says what is true: generated results, links that resolve, commands that exist, an example that runs."""

import re
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, stdev

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook, new_output
from safetensors.torch import load_file

from sfhelpers import params, results
from sfhelpers.tasks import arms
from sfhelpers.tasks.correspondence import SketchMatcher
from sfhelpers.toyworld import SEEN, UNSEEN
from tests.backbone_fixtures import files, photo, refused, saved_head, sketch
from tools import clean, readme
from tools.notebooks import find

ROOT = params.ROOT
README = (ROOT / "README.md").read_text(encoding="utf-8")
POCKET_README = (ROOT / "data" / "pocket" / "README.md").read_text(encoding="utf-8")
FOUND = {name: results.committed(name) for name in (readme.POCKET, *(line.notebook for line in readme.HEADLINES))}
ROWS = FOUND["04_segmentation"]
COUNTED = [row for gallery in readme.GALLERIES for row in readme.SEGMENTATION.of(ROWS, gallery)]


@pytest.fixture
def project(tmp_path):
    shutil.copytree(results.COMMITTED, tmp_path / "data" / "results")
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "04_segmentation.ipynb", tmp_path / "notebooks")
    (tmp_path / "README.md").write_text(readme.with_block(README, "old"), encoding="utf-8")
    return tmp_path


def test_the_table_of_segmentation_has_mean_and_spread_over_seeds_best_method_first():
    cells = []
    for gallery in readme.GALLERIES:
        values = [row.value for row in COUNTED if (row.method, row.gallery) == ("fused", gallery)]
        assert len(values) == 5
        cells.append(f"{fmean(values):.3f} ± {stdev(values):.3f}")
    head, _, *lines = readme.segmentation_block(ROWS).splitlines()
    assert all(f"{row.gallery} (n = {row.n})" in head for row in COUNTED)
    assert [line for line in lines if line.startswith(f"| fused | {cells[0]} | {cells[1]} | ")]
    firsts = [line.split(" | ")[1] for line in lines if line.startswith("| ")]
    assert len(firsts) == len({row.method for row in COUNTED}) and firsts == sorted(firsts, reverse=True)
    assert "±" not in readme.segmentation_block([row for row in ROWS if row.seed == 0])


PCK = readme.HEADLINES[0].of(FOUND["03_correspondence"])


def with_pck(rows):
    others = [row for row in FOUND["03_correspondence"] if row not in PCK]
    return readme.tasks_block(FOUND | {"03_correspondence": [*rows, *others]})


def test_rows_that_make_no_honest_table_are_refused():
    wrong = [
        (readme.segmentation_block, [row for row in ROWS if row.gallery != "unseen categories"], "each seed once"),
        (readme.segmentation_block, [*COUNTED, COUNTED[0]], "each seed once"),
        (readme.segmentation_block, COUNTED[1:], "each seed once"),
        *((with_pck, [row for row in PCK if row.method != name], "03_correspondence.json lacks") for name in arms.CORE),
    ]
    for block, (first, *rest) in ((readme.segmentation_block, COUNTED), (with_pck, PCK)):
        for field, value in (("weights_sha256", "f" * 64), ("epochs", 99), ("n", 3)):
            wrong.append((block, [replace(first, **{field: value}), *rest], f"several runs .{field}"))
    for block, rows, says in wrong:
        with refused(says):
            block(rows)


def test_each_task_has_its_row_with_verdicts_against_the_better_single_backbone_and_the_zeroed_unet():
    lines = readme.tasks_block(FOUND).splitlines()
    firsts = [f"| [{line.task}](notebooks/{line.notebook}.ipynb) | {line.metric} |" for line in readme.HEADLINES]
    assert [line[: len(first)] for line, first in zip(lines[2:], firsts, strict=False)] == firsts
    assert {line.metric for line in readme.HEADLINES[:2]} == {"PCK@5", "PCK@10"}, "both are judged"
    table = results.table(COUNTED, readme.GALLERIES[0], "foreground IoU")
    said = results.verdicts(ROWS, readme.GALLERIES[0], "foreground IoU")
    single = max(arms.SINGLE, key=lambda method: table[method])
    cells = lines[4].split(" | ")[3:5]
    for cell, method, name in zip(cells, (single, arms.ZEROED_UNET), (single, "zeroed"), strict=True):
        assert cell == "**{}**<br>{}: {:.3f} ± {:.3f}".format(said[method], name, *table[method])
    steps = [row.steps for row in readme.SEGMENTATION.of(ROWS) if row.steps]
    trained = f"5 seeds, {min(steps):,} to {max(steps):,} steps"
    assert f"- segmentation: {COUNTED[0].definition}; {trained}, {COUNTED[0].epochs} epochs at most" in lines


def judged(metric, p):
    """How often fused is better than each of AGAINST, where this p parts it from the zeroed UNet by this metric."""
    values, rows = {"mean": 1.0, "p": p}, []
    for row in FOUND["03_correspondence"]:
        if (row.metric, row.method) == (f"{metric}: fused - other", arms.ZEROED_UNET):
            row = replace(row, value=values.get(row.definition.rpartition("; ")[2], row.value))
        rows.append(row)
    block = readme.tasks_block(FOUND | {"03_correspondence": rows})
    return [int(number) for number in re.findall(r"^- Fused against .+: better in (\d), .+ of 5 ", block, re.M)]


def test_the_verdicts_of_both_comparisons_are_counted_and_correspondence_once_by_pck_5():
    single, zeroed = judged("PCK@5", 1.0)
    assert judged("PCK@5", 0.0) == [single, zeroed + 1]
    assert judged("PCK@10", 0.0) == judged("PCK@10", 1.0)


def test_what_a_step_takes_stands_beside_what_it_is_compared_with():
    row = {"what": "hooks", "seconds": 6.0, "images": 1, "px": 480, "ratio": 3.0, "ratios": [2.9, 3.2], "to": "stored"}
    rows = [row, row | {"what": "stored", "seconds": 2.0}, {"what": "kept", "MB": 6.1}]
    lines = readme.costs_block({"steps, a": {"rows": rows}, "steps, b": {"rows": rows[1:]}, "widgets, a": {}})
    assert lines.splitlines() == [
        "| | a, 480 px | b, 480 px |",
        "|---|---:|---:|",
        "| hooks | 6 s, 1 image: 3 (2.9 to 3.2) times *stored* | – |",
        "| stored | 2 s, 1 image | 2 s, 1 image |",
    ]


def test_only_the_block_between_the_marks_changes_and_twice_is_once_and_marks_must_be_there():
    text = f"a\n{readme.START}\nold\n{readme.END}\nb"
    once = readme.with_block(text, "new")
    assert once == f"a\n{readme.START}\n\nnew\n\n{readme.END}\nb" == readme.with_block(once, "new")
    for text in ("", readme.START, readme.END + readme.START, (readme.START + readme.END) * 2):
        with refused("once each"):
            readme.with_block(text, "new")


def test_a_notebook_without_the_picture_is_refused_in_one_sentence(tmp_path):
    for images, tags, says in ((1, [], "0 pictures"), (0, ["readme"], "0 pictures"), (2, ["readme"], "2 pictures")):
        outputs = [new_output("display_data", {"image/png": "aaaa"})] * images
        cells = [new_code_cell("1"), new_code_cell("2", metadata={"tags": tags}, outputs=outputs)]
        nbformat.write(new_notebook(cells=cells), tmp_path / "a.ipynb")
        with refused(says):
            readme.picture(tmp_path / "a.ipynb")


def test_the_results_and_the_picture_of_the_readme_are_what_update_writes_and_main_names(project, capsys):
    assert readme.main(project) == 0
    written = ["data/readme.png", "README.md"]
    assert capsys.readouterr().out.split() == written
    for name in written:
        assert (project / name).read_bytes() == (ROOT / name).read_bytes(), "run python -m tools.readme"


@pytest.mark.parametrize("gone", ["README.md", "notebooks/04_segmentation.ipynb", "data/results/04_segmentation.json"])
def test_where_something_is_missing_nothing_changes_and_one_sentence_says_so(project, gone, capsys):
    (project / gone).unlink()
    before = files(project)
    assert readme.main(project) == 1
    assert files(project) == before
    said = capsys.readouterr()
    assert said.out == "" and Path(gone).name in said.err and said.err.count("\n") == 1


def test_every_make_target_of_the_readme_exists_and_its_plain_lines_are_those_of_the_makefile():
    """Commands of a target are taken without `$(BIN)/`."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(BIN)/", "")
    recipes = dict(re.findall(r"^([a-z-]+):(?!.*:=).*\n((?:\t.+\n)*)", text, re.M))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)(?=`|\s+#)", README, re.M))
    assert {"notebooks", "test", "lab", "execute", "bench"} <= named <= recipes.keys()
    for target in ("notebooks", "lint", "test", "test-full", "lab", "execute", "bench"):
        row = next(line for line in README.splitlines() if line.startswith(f"| `make {target}`"))
        plain = [line.strip("`") for line in row.split(" | ")[-1].strip(" |").split("<br>") if "export" not in line]
        assert plain == re.findall(r"\t(.+)", recipes[target])


def test_every_relative_link_leads_to_a_file_and_every_notebook_is_answered_for():
    for folder, text in ((ROOT, README), (ROOT / "data" / "pocket", POCKET_README)):
        relative = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
        assert relative and [link for link in relative if not (folder / link).exists()] == []
    named = set(re.findall(r"\]\(notebooks/(\w+)\.ipynb\)", README))
    assert named == {path.stem for path in find([])}


def test_every_setting_of_the_readme_is_a_parameter_of_its_notebook():
    declared = {path.stem: clean.declared(nbformat.read(path, as_version=4)) for path in find([])}
    for command in re.finditer(r"papermill (\w+)\.ipynb (.*)", README):
        assert set(re.findall(r"-p (\w+)", command[2])) <= declared[command[1]], command[0]
    elsewhere = re.sub(r"papermill .*", "", README)
    assert set(re.findall(r"-p (\w+)", elsewhere)) <= declared["04_segmentation"] | declared["06_recognition"]


def test_the_spellings_of_sd21_in_the_readme_pass_the_notebooks_check(tiny_folder, tmp_path):
    given = {"seed": 0, "device": "cpu", "output_dir": str(tmp_path), "pairs": 2, "steps": 1}
    for where, name in (("local folder", tiny_folder), ("mirror", "someone/stable-diffusion-2-1")):
        assert f"`sd21:<{where}>`" in README
        assert params.check("02_fused_extractor", given | {"backbone": f"sd21:{name}"}).backbone == f"sd21:{name}"


@pytest.mark.parametrize("part", ["vae", "unet", "text_encoder", "vision"])
def test_the_sizes_of_pocket_are_those_of_the_shipped_weights(part):
    (path,) = (ROOT / "data" / "pocket" / part).glob("*.safetensors")
    size = f"{sum(tensor.numel() for tensor in load_file(path).values()) / 1e6:.2f} M"
    (row,) = [line for line in POCKET_README.splitlines() if line.startswith(f"| `{part}/`")]
    assert size in row and size in README
    total = sum(path.stat().st_size for path in (ROOT / "data" / "pocket").rglob("*.safetensors"))
    assert f"{total / 1e6:.1f} MB" in README


def test_the_notice_of_the_image_tower_is_there_and_every_folder_and_the_unseen_categories_are_named():
    notice = ["ML Illustrated", "Apache License, Version 2.0", "http://www.apache.org/licenses/LICENSE-2.0", "Changes:"]
    assert [text for text in notice if text not in POCKET_README] == []
    folders = [path.name for path in (ROOT / "data" / "pocket").iterdir() if path.is_dir()]
    assert [name for name in folders if f"| `{name}/`" not in POCKET_README] == []
    assert ", ".join(UNSEEN).replace("_", " ") in POCKET_README
    assert f"{len(SEEN)} seen and {len(UNSEEN)} unseen" in README


def test_the_citations_are_those_of_the_citation_file():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    papers = {paper["title"]: paper for paper in citation["references"]}
    for title, paper in papers.items():
        line = next((line for line in README.splitlines() if f"*{title}*" in line), "")
        assert str(paper["year"]) in line and all(author["family-names"] in line for author in paper["authors"])
    assert all(name in " ".join(papers) for name in ("SketchFusion", "Sketch-Photo Matchmakers", "Dr. CLIP"))
    assert citation["title"].removeprefix("The ") in README.splitlines()[0]
    assert citation["version"] == version("sfhelpers")


def test_the_python_examples_run_as_they_stand(tiny_folder, tiny_backbone, tmp_path, monkeypatch, capsys):
    """In an empty folder with a sketch, a photo and a few photos; only the backbone and its heads are tiny ones."""
    sketch().save(tmp_path / "sketch.png")
    for name in ("photo.jpg", "photos/cat/a.jpg", "photos/cat/b.jpg", "photos/dog/c.png"):
        photo(tmp_path / name, seed=len(name))
    saved_head(SketchMatcher, tiny_backbone, tmp_path / "heads" / "correspondence", "correspondence")
    monkeypatch.setattr("sfhelpers.search.searcher.HEADS", tmp_path / "heads")
    monkeypatch.chdir(tmp_path)
    namespace, printed = {}, {}
    section = README.split("\n## From Python\n")[1].split("\n## ")[0]
    examples = re.findall(r"\*\*([^*]+?)\.?\*\*[^*]*?```python\n(.*?)```", section, re.DOTALL)
    assert len(examples) == 5 == README.count("```python")
    for title, code in examples:
        assert len([line for line in code.splitlines() if line]) < 10, title
        exec(code.replace('"pocket"', repr(str(tiny_folder))), namespace)
        printed[title] = capsys.readouterr().out.splitlines()
    assert namespace["images"].shape == (2, 3, 160, 160) and namespace["fused"].shape == (2, 64, 24, 24)
    assert namespace["vectors"].shape == (3, tiny_backbone.vision.embed(namespace["images"]).shape[1])
    assert [path.name for path in namespace["paths"]] == ["a.jpg", "b.jpg", "c.png"]
    assert len(printed["Asked with a sketch"]) == 3 == len(namespace["index"])
    assert len(printed["Matches for a pair"]) == 5 and "->" in printed["Matches for a pair"][0]
