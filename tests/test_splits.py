"""Splits: what teaches and what is asked for share no class and no file; PSC6K's keypoints, and every bad row told."""

import csv
import shutil
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from sfhelpers import toyworld
from sfhelpers.datasets import load_dataset, psc6k, sketchy, splits
from sfhelpers.datasets.quickdraw import Doodle
from sfhelpers.datasets.records import fingerprint
from sfhelpers.datasets.sketches import Sketches
from sfhelpers.datasets.splits import ClassSplit
from sfhelpers.tasks.compare import compare
from sfhelpers.tasks.correspondence import Correspondence
from sfhelpers.tasks.recognition import Recognition
from sfhelpers.tasks.retrieval import Retrieval
from sfhelpers.tasks.segmentation import Segmentation
from sfhelpers.toyworld import DIFFICULTY, UNSEEN, render_scene, render_sketch, write_sketchy
from tests.backbone_fixtures import refused

mine = partial(ClassSplit, "mine")
TASKS = {
    "correspondence": lambda world: Correspondence(psc6k.load(world), 1, 2e-3, 8),
    "segmentation": lambda world: Segmentation(world, 1, 2e-3, 8),
    "retrieval": lambda world: Retrieval(world, 1, 2e-3, 8, ("strict",)),
    "recognition": lambda world: Recognition(
        Sketches("folder", world.root, "default", world.select(categories=("bus", "cat")).sketches), 1, 2e-3, 8, shots=0
    ),
}


@pytest.fixture(scope="module")
def parted(toy):
    return splits.apply(toy, splits.strict(toy))


def test_classes_never_seen_or_any_are_tested_and_a_share_of_the_others_chooses(parted, toy, monkeypatch):
    split = parted.split
    assert set(split.test) == set(toyworld.UNSEEN[:3]) == {record.category for record in parted.test.records}
    seen = {*split.train, *split.validation}
    assert seen == set(toy.categories) - set(split.test) and len(split.validation) == 1
    assert len(parted.test.photos) == 18, "all of their images are asked for"
    laxer = splits.clip_style(toy, number=3)
    assert laxer == splits.clip_style(toy, number=3) and set(laxer.test) & seen
    found = splits.apply(toy, laxer)
    learned = {record.category for record in found.train.photos + found.validation.photos}
    assert learned == set(toy.categories) - set(laxer.test), "classes without parts of their own too"
    monkeypatch.setattr(splits, "VALIDATION", 0.4)
    assert len(splits.strict(toy).validation) == 2


def test_what_shows_anything_of_a_test_class_neither_teaches_nor_chooses(parted, toy):
    taught = {record for part in (parted.train, parted.validation) for record in part.photos}
    assert len(taught) > 2 and not {name for record in taught for name in record.things} & set(parted.split.test)
    some = [next(r for r in part.photos) for part in (parted.train, parted.validation)]
    shown = [replace(r, also=((parted.split.test[0], r.mask),)) for r in some]
    records = tuple(shown[some.index(r)] if r in some else r for r in toy.records)
    found = splits.apply(replace(toy, records=records), parted.split)
    assert taught - {*found.train.photos, *found.validation.photos} == set(some)


def test_a_generalised_test_adds_held_out_images_of_a_fifth_of_the_seen_classes_or_a_fifth_of_the_images(parted):
    by_class, by_sample = (splits.generalised(parted, kind) for kind in ("class", "sample"))
    added = set(by_class.records) - set(parted.test.records)
    (category,) = {record.category for record in added}
    assert added == {record for record in parted.seen.records if record.category == category}
    assert len(by_sample.photos) == len(parted.test.photos) + round(0.2 * len(parted.test.photos))
    assert len(parted.test.sketches) < len(by_sample.sketches) and by_sample == splits.generalised(parted, "sample")
    splits.require_relevant(by_sample)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda found: mine(("a", "b"), ("d",), ("c", "d")), "split 'mine' overlaps, d is named twice"),
        (lambda found: mine(("a", "a"), ("b",), ("c", "d")), "split 'mine' overlaps, a is named twice"),
        (lambda found: mine(("a", "b"), ("c",), ("d",)), "split 'mine' has 1 classes for test"),
        (lambda found: mine(("a", "b"), (), ("c", "d")), "split 'mine' has 0 classes for validation"),
        (lambda found: splits.apply(found.test, mine(("a", "b"), ("church",), ("giraffe", "c"))), "names a, b, c, wh"),
        (lambda found: splits.clip_style(found.test, number=1), "so 1 cannot be held out of them"),
        (lambda found: splits.generalised(found, "photo"), "kind is 'photo'"),
        (lambda found: splits.generalised(replace(found, seen=found.test.select("val")), "class"), "no held-out image"),
        (lambda found: splits.require_relevant(found.test.select("val")), "no query sketch"),
        (lambda found: splits.require_relevant(found.test.select(masked=False)), "no photo of butterfly, ch"),
    ],
)
def test_splits_that_overlap_are_too_small_or_name_what_is_not_there_are_refused(make, said, parted):
    with refused(said):
        make(parted)


def test_copies_in_the_gallery_are_counted_and_left_out_and_their_sketches_keep_their_photo(toy_copy):
    first, twin = [photo.path for photo in toy_copy.select(categories=("church",)).photos[:2]]
    shutil.copy(first, twin)  # the second photo is now a copy of the first
    with pytest.warns(UserWarning, match="1 of 48 gallery photos are copies"):
        single = splits.without_duplicates(toy_copy)
    assert len(single.photos) == 47 and twin not in {photo.path for photo in single.photos}
    asking = [s for s in single.sketches if s.category == "church" and s.instance == first.stem]
    assert len(asking) == 2 and len(single.sketches) == 48
    shutil.copy(first, toy_copy.select(categories=("cat",)).photos[0].path)
    with refused(r"of class 'church' is the same file as .* of class 'cat'"):
        splits.without_duplicates(toy_copy)


def test_one_class_and_one_image_a_class(toy, tmp_path):
    with refused("has 1 classes, so 9 cannot be held out.* give photos and sketches of more"):
        splits.clip_style(toy.select(categories=("cat",)))
    toyworld.write_folder(tmp_path, photos=1, sketches=1, categories=toyworld.CATEGORIES[:8], masks=False)
    few = load_dataset("folder", tmp_path)
    with refused("has no class that its backbone never saw.* give photos and"):
        splits.strict(few)
    with refused("has no train image in split 'clip-style'"):
        splits.apply(few, splits.clip_style(few, number=2))


def mirror(path):
    with Image.open(path) as image:
        ImageOps.mirror(image.convert("RGB")).save(path)


@pytest.mark.parametrize("task", TASKS)
def test_a_training_does_not_go_on_with_other_images_under_the_same_names(task, tiny_backbone, toy_copy, tmp_path):
    def train():
        settings = {"log": lambda line: None, "checkpoints": tmp_path / "kept"}
        return compare(tiny_backbone, TASKS[task](toy_copy), ("CLIP only",), **settings)[0][0]

    first = train().history
    assert train().history.epochs == first.epochs  # taken up as it was
    mirror(next(s for s in toy_copy.sketches if s.part == "train" and s.seen).path)
    with refused(r"is of another training \(configuration images was"):
        train()


@pytest.mark.parametrize(
    ("task", "side"), [(t, s) for t in TASKS for s in ("sketches", "photos") if (t, s) != ("recognition", "photos")]
)
def test_a_test_image_under_another_name_in_training_is_refused(task, side, toy_copy):
    learned = getattr(toy_copy.select("train", categories=("cat",)), side)[0].path
    for asked in (toy_copy.select("test", categories=("cat",)), toy_copy.select(seen=False)):
        shutil.copy(learned, getattr(asked, side)[0].path)
    with refused(f"{learned.name} is trained on and is the same file as the test image"):
        TASKS[task](toy_copy)


def test_the_fingerprint_feels_contents_masks_parts_keypoints_and_keys_but_not_the_folder(toy_copy, toy):
    was = fingerprint(toy_copy.records)
    assert was == fingerprint(toy.records)
    assert fingerprint([replace(toy_copy.records[0], part="new"), *toy_copy.records[1:]]) != was
    assert fingerprint(toy_copy.records[1:]) != was != fingerprint(toy_copy.records, [b"more"])
    mirror(toy_copy.photos[0].mask)
    assert fingerprint(toy_copy.records) != was
    annotated = psc6k.load(toy_copy)
    moved = replace(annotated.pairs[0], sketch_points=annotated.pairs[0].sketch_points + 1)
    assert replace(annotated, pairs=(moved, *annotated.pairs[1:])).fingerprint() != annotated.fingerprint()
    drawing = Doodle(toy_copy.root / "cat.ndjson", "sketch", "cat", "123", line=1, length=10)
    assert fingerprint([drawing]) != fingerprint([replace(drawing, instance="124")])
    odd = toy_copy.records[0].path.with_name("caf\udce9.jpg")  # no UTF-8
    shutil.copy(toy_copy.records[0].path, odd)
    assert fingerprint([replace(toy_copy.records[0], path=odd)]) != fingerprint([toy_copy.records[0]])


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
