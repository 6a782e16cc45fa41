"""The published data sets read as records, and what the package says of them: splits, sources, names, counts."""

import shutil
import tracemalloc
import warnings
from collections import Counter

import pytest

from sfhelpers import datasets
from sfhelpers.datasets import SPLITS, doctor, layouts, load_dataset, pairs, published
from sfhelpers.datasets.__main__ import main
from sfhelpers.datasets.sketches import load_sketches
from sfhelpers.datasets.sketchy import RENDERING
from tests import miniatures
from tests.backbone_fixtures import refused
from tests.miniatures import put

PAIRED = ("sketchy", "sketchy-extended", "shoev2", "chairv2", "fscoco")
CLASSES = {"sketchy": 125, "sketchy-extended": 125, "tuberlin-extended": 250, "quickdraw-extended": 110}


@pytest.fixture
def unopened(monkeypatch):
    """Images are not decoded here, which takes most of the time; the test of every layout does that."""
    monkeypatch.setattr(datasets, "without_broken", lambda found, *more: found)


def test_every_list_has_a_source_and_the_length_that_it_names():
    lists = {path.stem for path in published.TABLES.glob("*.txt")}
    assert lists == published.sources().keys()
    for name, row in published.sources().items():
        assert len(set(published.classes(name))) == len(published.classes(name)) == int(row["n_classes"])
        assert row["source"] and row["status"] in ("verified", "derived", "inferred")
    for entry in published.DATASETS.values():
        for side in entry.get("sides", {}).values():
            assert "each" not in side or published.each(entry, side).keys() <= set(published.classes(entry["classes"]))
    assert sum(int(row["extended_photos"]) for row in published.table("sketchy_counts.csv")) == 60_502 + 12_500
    assert sum(int(row["sketches_tx000000000000"]) for row in published.table("sketchy_counts.csv")) == 75_481


@pytest.mark.parametrize("name", [name for name, entry in published.DATASETS.items() if "splits" in entry])
def test_every_split_parts_all_classes_and_no_two_have_one_name_in_two_spellings(name):
    entry = published.DATASETS[name]
    known = published.spellings(entry)
    assert len(known) == len(published.classes(entry["classes"]))
    for train, test in entry["splits"].values():
        sides = [{published.compared(c) for c in published.classes(side)} for side in (train, test)]
        assert not sides[0] & sides[1] and sides[0] | sides[1] == known.keys()


def test_one_table_of_names_knows_every_published_misspelling():
    for table, given, meant in (
        ("tuberlin_ext_photo_dirnames.csv", "photo_dir_as_distributed", "tuberlin_class"),
        ("tuberlin_ext_photo_dirnames.csv", "sempcyc_name", "tuberlin_class"),
        ("quickdraw_ext_to_quickdraw345.csv", "quickdraw_ext_name", "quickdraw345_name"),
    ):
        for row in published.table(table):
            assert published.compared(row[given]) == published.compared(row[meant])
    assert published.compared("Cafe\u0301 NOIR") == published.compared("caf\u00e9_noir") != published.compared("猫")
    assert published.compared("rooster") != published.compared("chicken") and published.compared("?!") == "?!"


@pytest.mark.parametrize("name", [name for name in miniatures.MADE if name in SPLITS and name != "folder"])
def test_every_layout_is_read_as_records_of_published_names(name, tmp_path, monkeypatch):
    root = miniatures.make(name, tmp_path / "root", monkeypatch)
    with warnings.catch_warnings(action="error"):
        data = load_dataset(name, root)
    counts = miniatures.MADE[name][1]
    assert len(data.photos) == sum(count[0] for count in counts["photo"][0])
    assert len(data.sketches) == sum(count[0] for count in counts["sketch"][0])
    own = sum(sketch.instance == photo.instance for sketch, photo in pairs(data))
    assert (own == len(data.sketches)) == (name in PAIRED)
    if name in CLASSES:
        entry = published.DATASETS[name]
        assert (
            set(data.categories) == set(published.classes(entry["classes"])) and len(data.categories) == CLASSES[name]
        )
        for split, (_, test) in entry["splits"].items():
            found = layouts.read(entry, layouts.locate(entry, root), layouts.role_of(entry, root, split))
            assert {record.category for record in found if not record.seen} == set(published.classes(test))
        assert {record.part for record in data.records if not record.seen} == {"test"}
    else:
        assert len(data.categories) == 1 and {p.instance for p in data.select("test").photos} < {"21", "000000000285"}
        assert {"train", "test"} <= {record.part for record in data.records} <= {"train", "val", "test"}


def test_individuals_in_folders_of_their_own_and_other_lists_of_scenes(tmp_path, monkeypatch, unopened):
    miniatures.shrink("shoev2", monkeypatch)
    miniatures.cduf(tmp_path / "cduf")
    shoes = load_dataset("shoev2", tmp_path / "cduf")
    assert [(s.instance, s.part) for s in shoes.select("test").sketches] == [("21", "test")] * 2
    assert {p.instance for p in shoes.select("train").photos} == {"11", "12", "13"} and len(shoes.sketches) == 8
    miniatures.make("fscoco", tmp_path / "scenes", monkeypatch)
    tested = [load_dataset("fscoco", tmp_path / "scenes", split).select("test").photos for split in SPLITS["fscoco"]]
    assert [[photo.instance[-3:] for photo in some] for some in tested] == [["285"], ["285"], ["632"]]
    (tmp_path / "scenes" / "val_normal.txt").unlink()
    with refused("no list of what is tested .*val_normal.txt"):
        load_dataset("fscoco", tmp_path / "scenes")


def test_misspelt_folders_are_classes_and_palm_tree_is_tested_under_any_name(tmp_path, monkeypatch, unopened):
    root = miniatures.make("quickdraw-extended", tmp_path / "q", monkeypatch)
    for side in ("QuickDraw_sketches_final", "QuickDraw_images_final"):
        shutil.move(root / side / "palm tree", root / side / "palm_tree")
        shutil.move(root / side / "eiffel tower", root / side / "effiel_tower")
    data = load_dataset("quickdraw-extended", root)
    assert {r.part for r in data.select(categories=["palm tree"]).records} == {"test"}
    assert len(data.select(categories=["eiffel tower"]).records) == 2
    put(root / "QuickDraw_images_final" / "Palm-Tree", "image_00001.jpg")  # of one class, from two folders
    assert len(load_dataset("quickdraw-extended", root).select(categories=["palm tree"]).photos) == 2


@pytest.mark.parametrize(("where", "level"), [(".", ""), ("..", "below"), ("256x256/photo", "above"), ("256x256", "")])
def test_a_root_too_high_or_too_low_is_found_and_said(where, level, tmp_path, monkeypatch, unopened, capsys):
    root = miniatures.make("sketchy", tmp_path / "data" / "mine", monkeypatch)
    given = (root / where).resolve()
    with warnings.catch_warnings(record=True, action="always") as said:
        data = load_dataset("sketchy", given)
    assert len(data.photos) == 125 and data.root.resolve() == (root / "256x256").resolve()
    assert [f"lies {level} " in str(warning.message) for warning in said] == [True] * bool(level)
    assert main(["doctor", "sketchy", str(given)]) == 0 and (f"lies {level} " in capsys.readouterr().out) == bool(level)


def test_drawings_too_are_found_below(tmp_path, monkeypatch):
    quick = miniatures.make("quickdraw", tmp_path / "q" / "some" / "simplified", monkeypatch)
    for path in list(quick.iterdir())[5:]:
        path.unlink()
    with warnings.catch_warnings(record=True, action="always") as said:
        assert len(load_sketches("quickdraw", tmp_path / "q")) == len(load_sketches("quickdraw", quick.parent)) == 5
    assert [str(warning.message).count("lies below") for warning in said] == [1]


def test_a_root_far_away_or_half_of_a_data_set_elsewhere_is_not_taken(tmp_path, monkeypatch, unopened):
    root = miniatures.make("tuberlin-extended", tmp_path / "t", monkeypatch)
    shutil.rmtree(root / "png")
    for place in (root, root / "ImageResized", tmp_path):
        with refused("no (photos|sketches) under .*(png|ImageResized)/"):
            load_dataset("tuberlin-extended", place)


def test_sketches_of_tuberlin_are_parted_by_names_numbers_or_folds_and_drawn_from_svg_once(tmp_path, monkeypatch):
    root = miniatures.make("tuberlin", tmp_path / "t", monkeypatch)
    for k in range(1, 6):
        put(root / "png" / "airplane", f"{1000 + k}.png")
    monkeypatch.setattr(datasets.records, "without_broken", lambda found, *more: found)
    folds = [load_sketches("tuberlin", root, f"fold{k}") for k in (1, 2, 3)]
    tested = [{r.path for r in fold.select("test").records if r.category == "airplane"} for fold in folds]
    assert len(set().union(*tested)) == sum(map(len, tested)) == 6 and {len(some) for some in tested} == {2}
    assert len(folds[0]) == 255 and folds[0].images([0, 1], 32).shape == (2, 3, 32, 32)
    with refused("has 1 drawings, fewer than 4"):
        load_sketches("tuberlin", root, "4/2")
    with refused("split is 'fold4'"):
        load_sketches("tuberlin", root, "fold4")
    miniatures.tuberlin(tmp_path / "v", "svg")
    with pytest.warns(UserWarning, match="svg"), refused("no sketches under .*datasets draw FOLDER NEW_FOLDER"):
        load_sketches("tuberlin", tmp_path / "v")
    drawing = ["draw", "--side", "64", str(tmp_path / "v" / "svg"), str(tmp_path / "v" / "png")]
    assert main(drawing) == 0
    drawn = load_sketches("tuberlin", tmp_path / "v")
    assert drawn.categories == folds[0].categories and drawn.images([0], 32).min() < 0.5
    (tmp_path / "v" / "svg" / "ant.svg").write_text("<svg>")
    assert main(drawing) == 1


def test_a_split_that_trains_on_what_it_tests_under_another_name_is_told(tmp_path, monkeypatch, capsys):
    root = miniatures.make("sketchy", tmp_path / "root", monkeypatch)
    monkeypatch.setitem(published.DATASETS["sketchy"], "splits", {"mixed": ["sketchy_train100", "sketchy_test21"]})
    both = set(published.classes("sketchy_train100")) & set(published.classes("sketchy_test21"))
    assert main(["doctor", "sketchy", str(root)]) == 1
    said = capsys.readouterr().err
    assert "trains on classes that it tests" in said and min(both) in said and "on neither side" in said


def test_images_that_cannot_be_opened_are_told_if_every_one_is_looked_at(tmp_path, monkeypatch, capsys):
    root = miniatures.make("sketchy", tmp_path / "root", monkeypatch)
    (root / "256x256" / "photo" / RENDERING / "ant" / "n00000001_2.jpg").write_text("<html>404</html>")
    assert main(["doctor", "sketchy", str(root)]) == 0
    assert main(["doctor", "sketchy", str(root), "--every"]) == 1
    assert "not an image that can be read: ant/n00000001_2.jpg" in capsys.readouterr().err


def test_the_doctors_memory_does_not_grow_with_the_files_of_a_folder(tmp_path):
    peaks = []
    for number in (500, 5_000):
        for k in range(number):
            (tmp_path / "photo" / "caf\u00e9").mkdir(parents=True, exist_ok=True)
            (tmp_path / "photo" / "caf\u00e9" / f"{k}.jpg").touch()
        put(tmp_path, "sketch/cafe\u0301/a.png")
        doctor.examine("folder", tmp_path)
        tracemalloc.start()
        report = doctor.examine("folder", tmp_path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert f"empty files: {', '.join(report.odd['empty files'])} and {number - 3:,} more." in report.problems
    assert peaks[1] < peaks[0] + 200_000, peaks


def test_what_is_not_there_is_refused_in_a_sentence(tmp_path, capsys):
    for arguments in (["doctor", "sketchy", str(tmp_path / "none")], ["fetch", "sketchy", str(tmp_path)]):
        assert main(arguments) == 1
    said = capsys.readouterr().err.splitlines()
    assert "does not exist" in said[0] and "is not fetched: ask where it is kept" in said[1] and "licence" in said[1]
    assert Counter(line.startswith("problem: ") and line.endswith(".") for line in said) == {True: 2}
    entry = published.DATASETS["sketchy"]
    assert not layouts.locate(entry, tmp_path).complete
