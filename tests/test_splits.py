"""Zero-shot splits: what teaches and what is asked for never share a class or a file; which training may go on."""

import shutil
from dataclasses import replace
from functools import partial

import pytest
from PIL import Image, ImageOps

from sfhelpers import toyworld
from sfhelpers.datasets import load_dataset, psc6k, splits
from sfhelpers.datasets.quickdraw import Doodle
from sfhelpers.datasets.records import fingerprint
from sfhelpers.datasets.sketches import Sketches
from sfhelpers.datasets.splits import ClassSplit
from sfhelpers.tasks.compare import compare
from sfhelpers.tasks.correspondence import Correspondence
from sfhelpers.tasks.recognition import Recognition
from sfhelpers.tasks.retrieval import Retrieval
from sfhelpers.tasks.segmentation import Segmentation
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
    """Another image under the same name."""
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
