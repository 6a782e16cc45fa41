"""The README's examples in Python: short, and they run as they stand."""

import re
from pathlib import Path
from types import SimpleNamespace

from sfhelpers.tasks.arms import extractor_for
from sfhelpers.tasks.correspondence import SketchMatcher
from sfhelpers.tasks.heads import save_heads
from tests.search_helpers import photo, sketch

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def python_examples():
    """Title -> code of the examples in Python, in the README's order."""
    section = README.split("\n## From Python\n")[1].split("\n## ")[0]
    text, *rest = section.split("```python\n")
    found = {}
    for piece in rest:
        title = re.findall(r"\*\*([^*]+)\*\*", text)[-1]
        found[title.strip(".")], text = piece.split("```\n", 1)
    assert len(found) == README.count("```python")
    return found


def test_the_python_examples_are_short():
    examples = python_examples()
    assert len(examples) == 5
    assert all(len([line for line in code.splitlines() if line]) < 10 for code in examples.values())


def test_the_python_examples_run_as_they_stand(tiny_folder, tiny_backbone, tmp_path, monkeypatch, capsys):
    """In an empty folder with a sketch, a photo and a few photos; only the backbone and its heads are tiny ones."""
    sketch().save(tmp_path / "sketch.png")
    for name in ("photo.jpg", "photos/cat/a.jpg", "photos/cat/b.jpg", "photos/dog/c.png"):
        photo(tmp_path / name, seed=len(name))
    extractor = extractor_for("fused", tiny_backbone, seed=0)
    trial = SimpleNamespace(method="fused", seed=0, model=SketchMatcher(extractor))
    trained = SimpleNamespace(dataset="toy", split="default", limit=4, epochs=1, learning_rate=1e-3, seed=0)
    folder = tmp_path / "heads" / "correspondence"
    save_heads(trained, [trial], tiny_backbone.weights_sha256, folder, "correspondence")
    monkeypatch.setattr("sfhelpers.search.searcher.HEADS", tmp_path / "heads")
    monkeypatch.chdir(tmp_path)
    namespace, printed = {}, {}
    for title, code in python_examples().items():
        exec(code.replace('"pocket"', repr(str(tiny_folder))), namespace)
        printed[title] = capsys.readouterr().out.splitlines()
    assert namespace["images"].shape == (2, 3, 160, 160) and namespace["fused"].shape == (2, 64, 24, 24)
    assert namespace["vectors"].shape == (3, tiny_backbone.vision.embed(namespace["images"]).shape[1])
    assert [path.name for path in namespace["paths"]] == ["a.jpg", "b.jpg", "c.png"]
    assert len(printed["Asked with a sketch"]) == 3 == len(namespace["index"])
    assert len(printed["Matches for a pair"]) == 5 and "->" in printed["Matches for a pair"][0]
