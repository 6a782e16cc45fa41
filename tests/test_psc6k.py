"""PSC6K's keypoints: what the toy world writes is what was drawn, parts never share an image, and bad rows are told."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from sfhelpers import toyworld
from sfhelpers.datasets import Dataset, psc6k, sketchy
from sfhelpers.toyworld import render_photo, render_sketch
from tests.backbone_fixtures import refused

HEAD = "photo,sketch,class,XA,YA,XB,YB\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two seen classes with photos in every part and an unseen one, two sketches a photo."""
    root = tmp_path_factory.mktemp("world")
    toyworld.write_sketchy(root, photos=6, sketches=2, categories=("cat", "duck", toyworld.UNSEEN[0]))
    return Dataset("toy", root, "default", tuple(sketchy.read(root, unseen=toyworld.UNSEEN)))


@pytest.fixture
def table(world, tmp_path):
    """The table's rows, and a function that writes changed ones beside the world's images and reads them."""
    rows = list(csv.DictReader((world.root / psc6k.NAME).read_text().splitlines()))

    def read(changed):
        lines = [",".join(row.values()) + "\n" for row in changed]
        (tmp_path / psc6k.NAME).write_text("".join([HEAD, *lines]))
        return psc6k.read(tmp_path / psc6k.NAME, world)

    return rows, read


def annotating(few, world, folder):
    """The world with a table beside it that annotates a few photos alone, and the lines of that table."""
    with (world.root / psc6k.NAME).open() as file:
        rows = [line for line in file if line.startswith("photo,") or line.split(",")[0].rpartition("/")[2][:-4] in few]
    (folder / "256x256").symlink_to(world.root / "256x256")
    (folder / psc6k.NAME).write_text("".join(rows))
    return replace(world, root=folder), rows


def test_what_the_toy_world_draws_is_read_back_in_the_256_px_frame_and_pairs_are_of_one_photo(world):
    annotated = psc6k.load(world)
    assert len(annotated.pairs) == len(world.sketches)
    assert all(p.sketch.instance == p.photo.instance and p.sketch.part == p.photo.part for p in annotated.pairs)
    assert {p.photo.part for p in annotated.pairs if not p.photo.seen} == {"test"}
    assert {p.photo.category for p in annotated.select("test", seen=False)} == {toyworld.UNSEEN[0]}
    pair = next(p for p in annotated.pairs if p.photo.category == "duck" and p.sketch.path.stem.endswith("-2"))
    index = int(pair.photo.instance.rpartition("_")[2])
    in_photo = render_photo("duck", index, 0, toyworld.DIFFICULTY)[2]
    in_sketch = render_sketch("duck", index, 1, 0, toyworld.DIFFICULTY)[1]
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
def test_no_test_image_is_trained_or_validated_on(world, split):
    annotated = psc6k.load(world, split)
    images = [r for pair in annotated.pairs for r in (pair.photo, pair.sketch)] + [*annotated.unlabelled.records]
    train, val, test = ({r.path.read_bytes() for r in images if r.part == part} for part in ("train", "val", "test"))
    assert train and val and test and not (train | val) & test and not train & val


def test_60_40_parts_the_sorted_photos_of_each_category_as_the_released_code_does(world):
    annotated = psc6k.load(world, "60:40")
    assert all(pair.photo.seen for pair in annotated.pairs)
    for category in world.categories:
        parts = sorted({(p.photo.path.name, p.photo.part) for p in annotated.pairs if p.photo.category == category})
        assert [part for _, part in parts] == ["train"] * 2 + ["val"] + ["test"] * 3


def test_self_supervised_trains_on_no_keypoint_and_tests_all_of_a_tree_that_holds_more(world, tmp_path):
    annotated = psc6k.load(world, "self-supervised")
    assert {p.photo.part for p in annotated.pairs} == {"test"}
    assert {(r.part, r.seen) for r in annotated.unlabelled.records} == {("train", True), ("val", True)}
    few = {p.photo.instance for p in psc6k.load(world).pairs if p.photo.part == "val"}
    larger, rows = annotating(few, world, tmp_path)
    annotated = psc6k.load(larger, "self-supervised")
    assert len(annotated.pairs) == len(rows) - 1
    assert not {r.instance for r in annotated.unlabelled.records} & few


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


def test_a_table_that_cannot_be_or_is_not_there_is_refused(world, table, tmp_path):
    rows, read = table
    with refused("which it does not show"):
        read([rows[0] | {"sketch": rows[2]["sketch"]}])
    with refused("line 3 of .* repeats the pair of line 2"):
        read([rows[0], rows[0]])
    for line, content in enumerate((HEAD.encode("utf-16"), HEAD.encode() + b"a,b,c," + b"1;" * 70_000)):
        (tmp_path / psc6k.NAME).write_bytes(content)
        with refused(f"ps.csv cannot be read as CSV in UTF-8 after its line {line}"):
            psc6k.read(tmp_path / psc6k.NAME, world)
    (tmp_path / psc6k.NAME).write_text(HEAD.replace(",XB", ""))
    with refused("has no column XB"):
        psc6k.read(tmp_path / psc6k.NAME, world)
    with refused("no keypoints beside", FileNotFoundError):
        psc6k.load(replace(world, root=tmp_path / "a" / "b" / "c"))


def test_a_split_that_is_not_there_a_limit_below_0_and_60_40_of_two_photos_are_refused(world):
    with refused("no split '70:30'"):
        psc6k.load(world, "70:30")
    with refused("limit is -1"):
        psc6k.load(world, limit=-1)
    few = replace(world, records=tuple(sketchy.read(world.root, limit=2)))
    with refused("needs three"):
        psc6k.load(few, "60:40")


def test_what_the_dataset_leaves_out_is_left_out_and_a_limit_counts_annotated_photos_alone(world, tmp_path):
    kept = replace(world, records=tuple(sketchy.read(world.root, unseen=toyworld.UNSEEN, limit=3)))
    assert len(psc6k.load(kept).pairs) == 3 * 3 * 2
    few = {p.photo.instance for p in psc6k.load(world).pairs if p.photo.part != "test"}
    limited = psc6k.load(annotating(few, world, tmp_path)[0], limit=2)
    assert len({p.photo for p in limited.pairs}) == 2 * 2 and {p.photo.instance for p in limited.pairs} <= few
    blind = psc6k.load(world, "self-supervised", limit=3)
    assert 0 < len(blind.unlabelled.photos) <= 2 * 3
