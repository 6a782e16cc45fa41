"""PSC6K's keypoints: what the toy world writes is what was drawn, parts never share an image, and bad rows are told."""

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sfhelpers.datasets import load_dataset, psc6k, sketchy
from sfhelpers.toyworld import DIFFICULTY, UNSEEN, render_scene, render_sketch, write_sketchy
from tests.backbone_fixtures import refused

HEAD = "photo,sketch,class,XA,YA,XB,YB\n"


@pytest.fixture
def table(toy, tmp_path):
    """The toy world's rows, and a function that writes changed ones beside its images and reads them."""
    rows = list(csv.DictReader((toy.root / psc6k.NAME).read_text().splitlines()))
    (tmp_path / "256x256").symlink_to(toy.root / "256x256")

    def read(changed):
        lines = [",".join(row.values()) + "\n" for row in changed]
        (tmp_path / psc6k.NAME).write_text("".join([HEAD, *lines]))
        return psc6k.read(tmp_path / psc6k.NAME, toy)

    return rows, read


def test_what_the_toy_world_draws_is_read_back_in_the_256_px_frame_and_pairs_are_of_one_photo(toy, tmp_path):
    annotated = psc6k.load(toy)
    assert len(annotated.pairs) == len(toy.sketches)
    assert all(p.sketch.instance == p.photo.instance and p.sketch.part == p.photo.part for p in annotated.pairs)
    assert {p.photo.part for p in annotated.pairs if not p.photo.seen} == {"test"}
    assert {p.photo.category for p in annotated.select("test", seen=False)} == set(UNSEEN[:3])
    write_sketchy(tmp_path, photos=1, sketches=2, categories=("duck",))
    _, pair = psc6k.load(load_dataset("sketchy", tmp_path)).pairs
    _, (duck, *_) = render_scene("duck", 0, 0, DIFFICULTY)
    in_photo, in_sketch = duck.keypoints, render_sketch("duck", 0, 1, 0, DIFFICULTY)[1]
    shown = (in_photo[:, 2] > 0) & (in_sketch[:, 2] > 0)
    assert pair.visible.tolist() == shown.tolist() and shown.sum() >= 4
    for found, drawn in ((pair.photo_points, in_photo), (pair.sketch_points, in_sketch)):
        np.testing.assert_allclose(found[shown], drawn[shown, :2] * 256 / 160, atol=0.051)


def test_x_is_horizontal_and_hidden_points_are_empty_and_not_visible(table):
    rows, read = table
    rows[0] |= {"XA": "10;;30;40;50;60;70;80", "YA": "1;;3;4;5;6;7;8"}
    first = read(rows[:1])[0]
    assert np.isnan(first.photo_points[1]).all() and not first.visible[1]
    assert np.delete(first.photo_points, 1, 0).tolist() == [[10.0 * k, k] for k in (1, 3, 4, 5, 6, 7, 8)]
    rows[0] |= {"XA": ";" * 7, "YA": ";" * 7}
    assert len(read(rows[:2])) == 1, "a pair without a visible point teaches nothing"


@pytest.mark.parametrize("split", psc6k.SPLITS)
def test_no_test_image_is_trained_or_validated_on(toy, split):
    annotated = psc6k.load(toy, split)
    images = [r for pair in annotated.pairs for r in (pair.photo, pair.sketch)] + [*annotated.unlabelled.records]
    train, val, test = ({r.path.read_bytes() for r in images if r.part == part} for part in ("train", "val", "test"))
    assert train and val and test and not (train | val) & test and not train & val


def test_60_40_parts_the_sorted_photos_of_each_category_as_the_released_code_does(toy):
    annotated = psc6k.load(toy, "60:40")
    assert all(pair.photo.seen for pair in annotated.pairs)
    for category in toy.categories:
        parts = sorted({(p.photo.path.name, p.photo.part) for p in annotated.pairs if p.photo.category == category})
        assert [part for _, part in parts] == ["train"] * 2 + ["val"] + ["test"] * 3


def test_self_supervised_trains_on_no_keypoint_and_tests_all_of_a_tree_that_holds_more(toy, table, tmp_path):
    annotated = psc6k.load(toy, "self-supervised")
    assert {p.photo.part for p in annotated.pairs} == {"test"}
    assert {(r.part, r.seen) for r in annotated.unlabelled.records} == {("train", True), ("val", True)}
    few = {p.photo.instance for p in psc6k.load(toy).pairs if p.photo.part == "val"}
    rows, read = table
    pairs = read([row for row in rows if Path(row["photo"]).stem in few])
    annotated = psc6k.load(replace(toy, root=tmp_path), "self-supervised")
    assert len(annotated.pairs) == len(pairs) and not {r.instance for r in annotated.unlabelled.records} & few


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"XA": "300;20;30;40;50;60;70;80", "YA": "1;2;3;4;5;6;7;8"}, r"outside the 256 px frame"),
        ({"XB": "-1;20;30;40;50;60;70;80", "YB": "1;2;3;4;5;6;7;8"}, r"outside the 256 px frame"),
        ({"YA": "1;2;3"}, "has not 8 numbers in each of XA and YA"),
        ({"XA": ";2;3;4;5;6;7;8", "YA": "1;2;3;4;5;6;7;8"}, "only one of XA and YA"),
        ({"XB": "a;2;3;4;5;6;7;8"}, "XB or YB: could not convert"),
        ({"photo": "256x256/photo/tx_000100000000/unicorn/a.jpg"}, "names photo/.*/unicorn/a.jpg, not there under"),
        ({"sketch": "sketch.png"}, "has the sketch 'sketch.png': expected"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_is_told_with_its_line(table, change, said):
    rows, read = table
    rows[1] |= change
    with refused(f"line 3 of .*{said}"):
        read(rows)


def test_a_table_that_cannot_be_or_is_not_there_is_refused(toy, table, tmp_path):
    rows, read = table
    with refused("which it does not show"):
        read([rows[0] | {"sketch": rows[2]["sketch"]}])
    with refused("line 3 of .* repeats the pair of line 2"):
        read([rows[0], rows[0]])
    for content, said in (
        (HEAD.encode("utf-16"), "ps.csv cannot be read as CSV in UTF-8 after its line 0"),
        (HEAD.encode() + b"a,b,c," + b"1;" * 70_000, "ps.csv cannot be read as CSV in UTF-8 after its line 1"),
        (HEAD.replace(",XB", "").encode(), "has no column XB"),
    ):
        (tmp_path / psc6k.NAME).write_bytes(content)
        with refused(said):
            psc6k.read(tmp_path / psc6k.NAME, toy)
    with refused("no keypoints beside", FileNotFoundError):
        psc6k.load(replace(toy, root=tmp_path / "a" / "b" / "c"))


def test_a_split_that_is_not_there_a_limit_below_0_and_60_40_of_two_photos_are_refused(toy):
    few = replace(toy, records=tuple(sketchy.read(toy.root, UNSEEN, limit=2)))
    bad = ("no split '70:30'", toy, "70:30"), ("limit is -1", toy, "60:40", -1), ("needs three", few, "60:40")
    for said, *given in bad:
        with refused(said):
            psc6k.load(*given)


def test_what_the_dataset_leaves_out_is_left_out_and_a_limit_counts_annotated_photos_alone(toy, table, tmp_path):
    rows, read = table
    kept = replace(toy, records=tuple(sketchy.read(toy.root, UNSEEN, limit=3)))
    assert len(psc6k.load(kept).pairs) == 3 * len(toy.categories)
    few = {p.photo.instance for p in psc6k.load(toy).pairs if p.photo.part != "test"}
    read([row for row in rows if Path(row["photo"]).stem in few])
    limited = psc6k.load(replace(toy, root=tmp_path), limit=2)
    assert {*Counter(p.photo.category for p in limited.pairs).values()} == {2}
    assert {p.photo.instance for p in limited.pairs} <= few
    blind = psc6k.load(toy, "self-supervised", limit=3)
    assert {*Counter(p.category for p in blind.unlabelled.photos).values()} == {3}
