"""Folders and Sketchy's tree read as records: who belongs together, in which part, and every bad layout told."""

import itertools

import numpy as np
import pytest
from PIL import Image

from sfhelpers import toyworld
from sfhelpers.datasets import load_dataset, pairs
from sfhelpers.datasets.records import PARTS, part_of
from sfhelpers.datasets.sketches import load_sketches
from sfhelpers.toyworld import quick
from tests.backbone_fixtures import one_sentence, refused

TX = "tx_000100000000"


def picture(path, value=100, size=(24, 16)):
    """A photo, or a sketch or mask if it is to be white or black."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = value in (0, 255)
    Image.new("L" if grey else "RGB", size, value if grey else (value, 50, 50)).save(path)


@pytest.fixture
def own(tmp_path):
    """A folder as a user has it: two classes of three photos and two sketches."""
    for category in ("cat", "dog"):
        for place in ("photo/{}/a.jpg", "photo/{}/b.jpg", "photo/{}/c.jpg", "sketch/{}/s1.png", "sketch/{}/s2.png"):
            picture(tmp_path / place.format(category), 255 if place.startswith("sketch") else 100)
    return tmp_path


def write_sketchy(root, photos=20, categories=("apple", "bat")):
    for category, number in itertools.product(categories, range(photos)):
        for domain, end in (("photo", ".jpg"), ("sketch", "-1.png"), ("sketch", "-2.png"), ("mask", ".png")):
            path = root / "256x256" / domain / TX / category / f"n02691156_{number}{end}"
            picture(path, 100 if domain == "photo" else 255)
    return root


def assert_fails(words, *args, kind=ValueError, **kwargs):
    with pytest.raises(kind) as error:
        load_dataset(*args, **kwargs)
    said = one_sentence(error)
    assert all(word in said for word in words), said


def test_names_that_are_not_ascii_and_come_composed_or_not(own):
    """And records in order, every photo paired with a sketch in turn."""
    picture(own / "photo" / "caf\u00e9 猫" / "Bild ä.jpg")
    picture(own / "sketch" / "cafe\u0301 猫" / "öl.PNG")
    dataset = load_dataset("folder", own)
    assert dataset.categories == ("caf\u00e9 猫", "cat", "dog") and not dataset.has_masks
    assert [(p.instance, p.part, p.seen) for p in dataset.photos[1:3]] == [("a", "test", True), ("b", "test", True)]
    found = [(s.category, s.instance, p.instance) for s, p in pairs(dataset)]
    assert found[1:4] == [("cat", "s1", "a"), ("cat", "s2", "b"), ("cat", "s1", "c")] and len(found) == 7


@pytest.mark.parametrize("split", ["default", "parts"])
def test_single_photo_or_single_sketch_of_a_class_works_and_many_are_parted(own, split):
    for category, photos, sketches in (("owl", 1, 2), ("yak", 30, 1), ("zebra", 40, 40)):
        for domain, number in (("photo", photos), ("sketch", sketches)):
            for k in range(number):
                picture(own / domain / category / f"{k}.jpg")
    dataset = load_dataset("folder", own, split=split)
    parts = [dataset.select(part=part) for part in ("train", "val", "test")]
    assert len([pair for part in parts for pair in pairs(part)]) == len(dataset.photos) == 6 + 1 + 30 + 40
    assert {p.part for p in dataset.select(categories=["owl", "yak"]).records} == {"test"}
    assert all(part.photos and part.sketches for part in parts) == (split == "parts")


def test_what_is_hidden_or_no_image_is_ignored_and_what_is_lost_is_counted(own):
    for name in (".DS_Store", "Thumbs.db", "._a.jpg", "../readme.txt", "../.jpg"):
        (own / "photo" / "cat" / name).write_bytes(b"junk")
    for name in (".hidden.jpg", "list.txt"):
        (own / "photo" / "cat" / name).symlink_to("nowhere.jpg")
    picture(own / "photo" / "dog" / ".cache" / "d.jpg")
    assert len(load_dataset("folder", own).photos) == 6
    (own / "photo" / "cat" / "gone.jpg").symlink_to("nowhere.jpg")
    (own / "photo" / "cat" / "loop.png").symlink_to("loop.png")
    (own / "photo" / "owl").symlink_to("no_owls")
    picture(own / "photo" / "dog" / "more" / "d.jpg")
    named = r"cat/gone\.jpg, cat/loop\.png, dog/more/d\.jpg and 1 more\.$"
    with pytest.warns(UserWarning, match=rf"^links that lead nowhere .*\(4 in all\): {named}"):
        assert len(load_dataset("folder", own).photos) == 6


def test_masks_are_found_by_name_and_those_that_fit_no_photo_or_have_another_size_fail(own):
    picture(own / "mask" / "cat" / "a.png", 255)
    dataset = load_dataset("folder", own)
    assert dataset.has_masks and [p.instance for p in dataset.select(masked=True).photos] == ["a"]
    assert len(dataset.select(masked=False).photos) == 5 and len(dataset.select(masked=True).sketches) == 4
    picture(own / "mask" / "cat" / "a.png", 255, size=(16, 16))
    assert_fails(["mask/cat/a.png is 16 x 16", "24 x 16"], "folder", own)
    picture(own / "mask" / "cat" / "zzz.png", 255)
    assert_fails(["mask/cat/zzz.png"], "folder", own)
    picture(own / "photo" / "cat" / "a.png")  # would share a result file
    assert_fails(["called 'a'", "cat"], "folder", own)


def test_data_root_missing_not_given_a_file_or_empty(tmp_path):
    assert_fails(["nowhere", "does not exist"], "folder", tmp_path / "nowhere", kind=FileNotFoundError)
    assert_fails(["-p data_root"], "folder")
    (tmp_path / "file").write_text("")
    assert_fails(["is a file"], "folder", tmp_path / "file", kind=NotADirectoryError)
    (tmp_path / "empty").mkdir()
    for name in ("folder", "sketchy"):
        assert_fails(["no photos", "empty: nothing)"], name, tmp_path / "empty")


def test_folder_without_photos_or_without_sketches(own):
    (own / "photo").rename(own / "pictures")
    assert_fails(["no photos", f"{own / 'photo'}/<class>", "pictures/", ".jpg"], "folder", own)
    (own / "pictures").rename(own / "photo")
    (own / "sketch").rename(own / "elsewhere")
    picture(own / "sketch" / "loose.png")
    assert_fails(["no sketches", "loose.png"], "folder", own)


def test_classes_that_do_not_meet(own):
    (own / "sketch" / "dog").rename(own / "sketch" / "Dog")
    assert_fails(["dog", "Dog", str(own)], "folder", own)
    (own / "photo" / "dog").rename(own / "elsewhere")
    with pytest.warns(UserWarning, match="Dog"):
        assert load_dataset("folder", own).categories == ("cat",)


def test_a_damaged_toy_world_is_to_be_drawn_anew(monkeypatch, tmp_path):
    toyworld.write_sketchy(tmp_path / "world", photos=3, sketches=1, categories=("bus", "church"))
    monkeypatch.setattr(toyworld, "ensure", lambda: tmp_path / "world")
    dataset = load_dataset("toy")
    assert dataset.name == "toy" and dataset.has_masks and dataset.select(seen=False).categories == ("church",)
    next((tmp_path / "world").rglob("*.jpg")).write_bytes(b"")
    assert_fails(["1 of 12 images", "world", "delete this folder", "drawn anew"], "toy")
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick" / "cat.ndjson").write_text('{"word": "c')
    monkeypatch.setattr(quick, "ensure_quick", lambda: tmp_path / "quick")
    with refused(r"quick cannot be used .* delete this folder, so that the toy world is drawn"):
        load_sketches("toy")


def test_broken_images_are_named_counted_and_skipped_only_if_asked(own):
    (own / "photo" / "cat" / "a.jpg").write_bytes(b"")
    (own / "photo" / "dog" / "b.jpg").write_bytes(b"no picture")
    (own / "sketch" / "cat" / "s1.png").write_bytes((own / "sketch" / "cat" / "s1.png").read_bytes()[:-30])
    picture(own / "sketch" / "dog" / "thin.png", size=(1, 90))
    assert_fails(["4 of 11", "photo/cat/a.jpg", "photo/dog/b.jpg", "skip_broken=True", "1 more"], "folder", own)
    with pytest.warns(UserWarning, match=r"4 of 11.*a\.jpg.*b\.jpg.*s1\.png.*thin\.png"):
        dataset = load_dataset("folder", own, skip_broken=True)
    assert len(dataset.photos) == 4 and len(dataset.sketches) == 3
    for broken, said in (("sketch/dog/*", ["'dog'", "sketch"]), ("*/*/*g", ["no usable image"])):
        for path in own.glob(broken):
            path.write_bytes(b"")
        with pytest.warns(UserWarning):
            assert_fails(said, "folder", own, skip_broken=True)


def test_sketchy_pairs_by_instance_parts_seen_categories_and_tests_unseen_ones(tmp_path):
    dataset = load_dataset("sketchy", write_sketchy(tmp_path))
    found = pairs(dataset)
    assert len(found) == len(dataset.sketches) == 80
    assert all(s.instance == p.instance and (s.part, s.seen) == (p.part, p.seen) for s, p in found)
    assert {p.part for p in dataset.select(seen=False).photos} == {"test"}
    assert dataset.select(seen=False).categories == ("bat",)
    parts = [part_of("apple", str(number)) for number in range(2000)]
    assert np.abs(np.array([parts.count(part) / 2000 for part in PARTS]) - (0.6, 0.15, 0.25)).max() < 0.04


def test_adding_photos_moves_none_to_another_part_and_a_limit_keeps_parts_mixed_and_follows_the_seed(tmp_path):
    alone = load_dataset("sketchy", write_sketchy(tmp_path, photos=1, categories=[f"seen{k}" for k in range(12)]))
    assert {record.part for record in alone.records} == {"test"}, "a lone photo is tested"
    more = tmp_path / "more"
    first = load_dataset("sketchy", write_sketchy(more, photos=10, categories=("apple",)))
    after = load_dataset("sketchy", write_sketchy(more, photos=60, categories=("apple",)))
    assert {(p.instance, p.part) for p in first.photos} <= {(p.instance, p.part) for p in after.photos}
    assert part_of("hot-air_balloon", "x") == part_of("hot_air_balloon", "x")
    few, again, other = (load_dataset("sketchy", more, limit=4, seed=seed) for seed in (0, 0, 1))
    assert sorted(p.part for p in few.photos) == ["test", "train", "train", "val"] and len(few.sketches) == 8
    assert few.records == again.records != other.records
    assert load_dataset("sketchy", more, limit=1000).records == after.records


def test_sketchy_layout_errors_say_what_was_found(tmp_path, own):
    assert_fails(["256x256", "photo/", TX], "sketchy", own)
    base = write_sketchy(tmp_path / "s", photos=2) / "256x256"
    (base / "sketch" / TX).rename(base / "sketch" / "tx_000000000000")
    assert_fails(["no sketches", "tx_000000000000/"], "sketchy", tmp_path / "s")


def test_sketchys_masks_and_sketches_without_their_photo_and_categories_that_do_not_meet(tmp_path):
    inner = write_sketchy(tmp_path, photos=2, categories=("apple",)) / "256x256"
    assert all(p.mask.stem == p.instance for p in load_dataset("sketchy", inner).photos)
    base = inner / "sketch" / TX
    picture(base / "apple" / "n999_1-1.png")
    with pytest.warns(UserWarning, match=r"1 sketch.*n999_1-1\.png"):
        assert len(load_dataset("sketchy", tmp_path).sketches) == 4
    (base / "apple").rename(base / "pear")
    assert_fails(["apple", "pear"], "sketchy", tmp_path)


def test_unknown_name_split_limit_and_a_root_for_toy_fail(own):
    assert_fails(["'toys'", "toy, sketchy, folder"], "toys")
    assert_fails(["'half'", "default, parts"], "folder", own, split="half")
    assert_fails(["-3"], "folder", own, limit=-3)
    assert_fails(["takes no data_root", "-p dataset"], "toy", own)
