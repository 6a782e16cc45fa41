"""Folders and Sketchy's tree read as records: who belongs together, in which part, and every bad layout told."""

import os
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from sfhelpers import toyworld
from sfhelpers.datasets import Dataset, Record, load_dataset, pairs, sketchy
from sfhelpers.datasets.records import LONGEST, PARTS, check_apart, fingerprint, part_of
from sfhelpers.datasets.sketches import load_sketches
from sfhelpers.datasets.sketchy import RENDERING
from sfhelpers.datasets.splits import without_duplicates
from sfhelpers.toyworld import quick, scenes, world
from tests.backbone_fixtures import photo, refused


def drawn(root, photos, *categories):
    toyworld.write_sketchy(root, photos, sketches=2, categories=categories, things=1)
    return load_dataset("sketchy", root)


def assert_fails(words, *args, kind=ValueError, **kwargs):
    with refused(kind=kind) as error:
        load_dataset(*args, **kwargs)
    assert all(word in str(error.value) for word in words), error.value


def test_names_that_are_not_ascii_and_come_composed_or_not(own):
    """And records in order, every photo paired with a sketch in turn, but no name too long for the outputs."""
    photo(own / "photo" / "caf\u00e9 猫" / "Bild ä.jpg")
    photo(own / "sketch" / "cafe\u0301 猫" / "öl.PNG")
    dataset = load_dataset("folder", own)
    assert dataset.categories == ("caf\u00e9 猫", "cat", "dog") and not dataset.select(masked=True).photos
    assert [(p.instance, p.part, p.seen) for p in dataset.photos[1:3]] == [("a", "test", True), ("b", "test", True)]
    found = [(s.category, s.instance, p.instance) for s, p in pairs(dataset)]
    assert found[1:4] == [("cat", "s1", "a"), ("cat", "s2", "b"), ("cat", "s1", "c")] and len(found) == 7
    photo(own / "photo" / "cat" / f"{'猫' * (LONGEST // 3)}.jpg")
    photo(own / "sketch" / "cat" / f"{'x' * (LONGEST + 1)}.jpg")
    assert len(load_dataset("folder", own).photos) == 8
    photo(own / "photo" / "cat" / f"{'x' * (LONGEST + 1)}.jpg")
    assert_fails([f"photo/cat/{'x' * (LONGEST + 1)}.jpg has a name of {LONGEST + 1} bytes"], "folder", own)


@pytest.mark.parametrize("split", ["default", "parts"])
def test_single_photo_or_single_sketch_of_a_class_works_and_many_are_parted(own, split):
    for category, photos, sketches in (("owl", 1, 2), ("yak", 30, 1), ("zebra", 40, 40)):
        for domain, number in (("photo", photos), ("sketch", sketches)):
            for k in range(number):
                photo(own / domain / category / f"{k}.jpg")
    dataset = load_dataset("folder", own, split=split)
    parts = [dataset.select(part=part) for part in ("train", "val", "test")]
    assert len([pair for part in parts for pair in pairs(part)]) == len(dataset.photos) == 6 + 1 + 30 + 40
    assert {p.part for p in dataset.select(categories=["owl", "yak"]).records} == {"test"}
    assert all(part.photos and part.sketches for part in parts) == (split == "parts")
    sketches = load_sketches("folder", own)
    assert len(sketches) == 47 and (split == "default" or sketches.records == dataset.sketches)
    assert sketches.images([0, 46], 32).shape == (2, 3, 32, 32) and sketches.images([], 32).shape == (0, 3, 32, 32)
    escaped = photo(own / "a\n\x1b[31m.png")
    twins = [Record(escaped, "photo", category, "a") for category in ("cat", "dog")]
    with refused(r"cat/a\\n\\x1b\[31m\.png"):
        check_apart(twins[:1], twins[1:])
    with refused(r"a\\n\\x1b\[31m\.png of"):
        without_duplicates(Dataset("toy", own, "", tuple(twins)))


def test_what_is_hidden_or_no_image_is_ignored_and_what_is_lost_is_counted(own):
    for name in (".DS_Store", "Thumbs.db", "._a.jpg", "../readme.txt", "../.jpg"):
        (own / "photo" / "cat" / name).write_bytes(b"junk")
    for name in (".hidden.jpg", "list.txt"):
        (own / "photo" / "cat" / name).symlink_to("nowhere.jpg")
    photo(own / "photo" / "dog" / ".cache" / "d.jpg")
    assert len(load_dataset("folder", own).photos) == 6
    for name, to in (("cat/gone.jpg", "nowhere.jpg"), ("cat/loop.png", "loop.png"), ("owl", "no_owls")):
        (own / "photo" / name).symlink_to(to)
    for name in ("more/d.jpg", "more.jpg/2020/e.jpg", "more/.thumbs/2020/e.jpg"):
        photo(own / "photo" / "dog" / name)
    os.mkfifo(own / "photo" / "dog" / "pipe.jpg")
    named = r"cat/gone\.jpg, cat/loop\.png, dog/more/d\.jpg and 3 more\.$"
    with pytest.warns(UserWarning, match=rf"^links that lead nowhere, what is no file .*\(6 in all\): {named}"):
        assert len(load_dataset("folder", own).photos) == 6


@pytest.mark.parametrize("domain", ["photo", "sketch"])
def test_files_of_kinds_that_are_not_read_are_counted_by_kind_and_jfif_is_read(own, domain):
    (own / domain / "dog" / "more" / "2020").mkdir(parents=True)
    endings = [".HEIC", ".heic", ".heic", ".avif", ".jp2", ".svg", ".jpg_large", ".JXL", ""] * 7
    for k, ending in enumerate(endings):
        (own / domain / ("cat", "dog/more", "dog/more/2020")[k % 3] / f"IMG_{k}{ending}").write_bytes(b"not read")
    counted = Counter(ending.lower() or "without an ending" for ending in endings)
    photo(own / domain / "dog" / "really_a_png.JFIF")
    photo(own / domain / "loose.png")
    with pytest.warns(UserWarning) as warned:
        dataset = load_dataset("folder", own)
    said = " ".join(str(warning.message) for warning in warned)
    assert all(f"{number} {kind}" in said for kind, number in counted.items()) and "(1 in all): loose.png" in said
    assert str(own / domain) in said and len(dataset.records) == 11


def saved(own, *names, size=(40, 40), to=255):
    for name in names:
        (own / "mask" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, to).save(own / "mask" / name)


def test_masks_are_found_by_name_and_those_that_fit_no_photo_fail(own):
    saved(own, "cat/a.png")
    dataset = load_dataset("folder", own)
    assert [p.instance for p in dataset.select(masked=True).photos] == ["a"]
    assert len(dataset.select(masked=False).photos) == 5 and len(dataset.select(masked=True).sketches) == 4
    photo(own / "mask" / "cat" / "a.png")
    assert_fails(["mask/cat/a.png has 16 values"], "folder", own)
    saved(own, "cat/zzz.png", "cat/b.png", "cat/b.gif")
    words = ["2 of 4 masks", "(cat/b.gif is named like no photo", "or another mask, cat/zzz.png is named"]
    assert_fails(words, "folder", own)
    photo(own / "photo" / "cat" / "a.png")  # would share a result file
    assert_fails(["called 'a'", "cat"], "folder", own)


def test_a_photo_has_masks_of_several_categories_and_its_records_say_what_else_it_shows(own):
    for name in ("x", "y"):
        photo(own / "photo" / "cat" / f"{name}.jpg")
    saved(own, "cat/x.png", "owl/x.png", "dog/x.png", "cat/y.png", "cat/a.png", "dog/a.png")
    found = {(p.category, p.instance): p for p in load_dataset("folder", own).photos}
    x, mask = found["cat", "x"], own / "mask"
    assert x.things == ("cat", "dog", "owl") and x.also == (("dog", mask / "dog/x.png"), ("owl", mask / "owl/x.png"))
    assert x.mask == mask / "cat/x.png" and list(x.masks.values()) == [x.mask, *(path for _, path in x.also)]
    assert found["cat", "a"].things == ("cat",) and found["dog", "a"].mask == mask / "dog/a.png", "each its own"
    assert {p.things for p in found.values()} == {("cat",), ("dog",), x.things} and not found["dog", "b"].masks
    few = load_dataset("folder", own, limit=2)
    assert all(found[p.category, p.instance] == p for p in few.photos) and len(few.photos) == 4
    assert len(load_dataset("folder", own).select(masked=True).photos) == 4
    was = fingerprint([x])
    saved(own, "owl/x.png", to=0)
    assert fingerprint([x]) != was
    saved(own, "owl/x.png", size=(16, 16))
    assert_fails(["mask/owl/x.png is 16 x 16", "40 x 40"], "folder", own)
    saved(own, "owl/x.png", "owl/a.png", "owl/b.png")  # of which a, cat or dog; of a photo without its own
    assert_fails(["2 of 8 masks", *(f"owl/{name}.png is named like no photo" for name in "ab")], "folder", own)


def test_what_shows_an_unseen_thing_is_tested_in_the_whole_toy_world_and_in_any_other(tmp_path, monkeypatch):
    blank = np.zeros((1, 1), np.uint8)

    def named(*key):
        return blank, [toyworld.Thing(name, "", blank, np.zeros((8, 3))) for name in scenes._planned(*key)[1]]

    monkeypatch.setattr(world, "render_scene", named)
    toyworld.write_sketchy(tmp_path, sketches=0)
    first = min((tmp_path / "256x256" / "photo" / RENDERING / "cat").iterdir())
    photo(tmp_path / "256x256" / "sketch" / RENDERING / "cat" / f"{first.stem}-1.png")

    def read(unseen):
        found = [record for record in sketchy.read(tmp_path, unseen) if record.domain == "photo"]
        assert len(found) == len(toyworld.CATEGORIES) * world.PHOTOS and {len(r.things) for r in found} == {2, 3, 4}
        for record in found:
            assert record.seen == (record.category not in unseen)
            assert record.part == "test" or not set(record.things) & set(unseen)
        return Counter(record.part for record in found if record.seen)

    stems = [(n, f"n{toyworld.CATEGORIES.index(n):08d}_{k}") for n in toyworld.SEEN for k in range(world.PHOTOS)]
    hashed = [part_of(*stem) for stem in stems].count("test")
    assert read(toyworld.UNSEEN)["test"] == hashed, "in this world no photo of a seen thing shows an unseen one"
    assert read(("cat", "giraffe"))["test"] > 1.1 * read(("giraffe",))["test"], "in another one it may"


def test_folder_without_photos_without_sketches_or_with_classes_that_do_not_meet(own):
    (own / "sketch" / "dog").rename(own / "sketch" / "Dog")
    assert_fails(["dog", "Dog", str(own)], "folder", own)
    (own / "photo" / "dog").rename(own / "elsewhere")
    with pytest.warns(UserWarning, match="Dog"):
        assert load_dataset("folder", own).categories == ("cat",)
    (own / "photo").rename(own / "pictures")
    assert_fails(["no photos", f"{own / 'photo'}/<class>", "pictures/", ".jpg"], "folder", own)
    (own / "pictures").rename(own / "photo")
    (own / "sketch").rename(own / "gone")
    photo(own / "sketch" / "loose.png")
    assert_fails(["no sketches", "loose.png"], "folder", own)


def test_a_damaged_toy_world_is_to_be_drawn_anew(monkeypatch, toy_copy):
    monkeypatch.setattr(toyworld, "ensure", lambda: toy_copy.root)
    assert load_dataset("toy") == toy_copy
    toy_copy.photos[0].path.write_bytes(b"")
    assert_fails(["1 of 96 images", str(toy_copy.root), "delete this folder", "drawn anew"], "toy")
    (toy_copy.root / "cat.ndjson").write_text('{"word": "c')
    monkeypatch.setattr(quick, "ensure_quick", lambda: toy_copy.root)
    with refused(r"own cannot be used \(cat.ndjson line 1.*\): delete this folder, so that the toy world is drawn"):
        load_sketches("toy")


def test_broken_images_are_named_counted_and_skipped_only_if_asked(own):
    """And blank sketches; a photo may be blank."""
    for k, paper in enumerate([(255, 255, 255), (0, 0, 0), (0, 90, 200), (255, 255, 255, 0), (20, 20, 20, 0)]):
        for domain in ("photo", "sketch"):
            Image.new("RGBA"[: len(paper)], (30, 40), paper).save(own / domain / "cat" / f"blank{k}.png")
    dust = np.random.default_rng(0).integers(235, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(dust).save(own / "sketch" / "dog" / "dust.png")
    (own / "photo" / "cat" / "a.jpg").write_bytes(b"")
    (own / "photo" / "dog" / "b.jpg").write_bytes(b"no picture")
    (own / "sketch" / "cat" / "s1.png").write_bytes((own / "sketch" / "cat" / "s1.png").read_bytes()[:-30])
    photo(own / "sketch" / "dog" / "thin.png", size=(1, 90))
    words = ["10 of 22", "cat/a.jpg", "dog/b.jpg", "cat/blank0.png has no line", "skip_broken=True", "7 more"]
    assert_fails(words, "folder", own)
    with pytest.warns(UserWarning, match=r"10 of 22.*a\.jpg.*b\.jpg.*blank4.*s1\.png.*dust\.png has no.*thin\.png"):
        dataset = load_dataset("folder", own, skip_broken=True)
    assert len(dataset.photos) == 9 and len(dataset.sketches) == 3
    for broken, said in (("sketch/dog/*", ["'dog'", "sketch"]), ("*/*/*g", ["no usable image"])):
        for path in own.glob(broken):
            path.write_bytes(b"")
        with pytest.warns(UserWarning):
            assert_fails(said, "folder", own, skip_broken=True)


def test_sketchy_pairs_by_instance_parts_seen_categories_and_tests_unseen_ones(tmp_path):
    dataset = drawn(tmp_path, 20, "apple", "cow")
    found = pairs(dataset)
    assert len(found) == len(dataset.sketches) == 80
    assert all(s.instance == p.instance and (s.part, s.seen) == (p.part, p.seen) for s, p in found)
    assert all(photo.mask.stem == photo.instance for photo in dataset.photos)
    assert {p.part for p in dataset.select(seen=False).photos} == {"test"}
    assert dataset.select(seen=False).categories == ("cow",)
    parts = [part_of("apple", str(number)) for number in range(2000)]
    assert np.abs(np.array([parts.count(part) / 2000 for part in PARTS]) - (0.6, 0.15, 0.25)).max() < 0.04


def test_adding_photos_moves_none_to_another_part_and_a_limit_keeps_parts_mixed_and_follows_the_seed(tmp_path):
    alone = drawn(tmp_path, 1, *toyworld.SEEN[:10])
    assert {record.part for record in alone.records} == {"test"}, "a lone photo is tested"
    first, after = (drawn(tmp_path / "more", photos, "apple") for photos in (10, 40))
    assert {(p.instance, p.part) for p in first.photos} <= {(p.instance, p.part) for p in after.photos}
    assert part_of("hot-air_balloon", "x") == part_of("hot_air_balloon", "x")
    few, again, other = (load_dataset("sketchy", tmp_path / "more", limit=4, seed=seed) for seed in (0, 0, 1))
    assert sorted(p.part for p in few.photos) == ["test", "train", "train", "val"] and len(few.sketches) == 8
    assert few.records == again.records != other.records
    assert load_dataset("sketchy", tmp_path / "more", limit=1000).records == after.records


def test_sketchy_layout_errors_say_what_was_found(tmp_path, own):
    assert_fails(["256x256", "photo/", RENDERING], "sketchy", own)
    drawn(tmp_path / "s", 2, "apple")
    base = tmp_path / "s" / "256x256" / "sketch"
    photo(base / RENDERING / "apple" / "n999_1-1.png")
    with pytest.warns(UserWarning, match=r"1 sketch.*n999_1-1\.png"):
        assert len(load_dataset("sketchy", base.parent).sketches) == 4
    next(base.parent.glob("mask/*/apple/*.png")).rename(base.parent / "mask" / RENDERING / "apple" / "zzz.bmp")
    assert_fails(["1 of 2 masks", "apple/zzz.bmp"], "sketchy", base.parent)
    (base / RENDERING / "apple").rename(base / RENDERING / "pear")
    assert_fails(["apple", "pear"], "sketchy", tmp_path / "s")
    (base / RENDERING).rename(base / "tx_000000000000")
    assert_fails(["no sketches", "tx_000000000000/"], "sketchy", tmp_path / "s")


def test_a_name_split_limit_or_data_root_that_cannot_be_is_refused(own):
    assert_fails(["'toys'", "toy, toy-restyled, toy-instances, sketchy, "], "toys")
    assert_fails(["'half'", "default, parts"], "folder", own, split="half")
    assert_fails(["-3"], "folder", own, limit=-3)
    assert_fails(["takes no data_root", "-p dataset"], "toy", own)
    assert_fails(["-p data_root"], "folder")
    assert_fails(["nowhere", "does not exist"], "folder", own / "nowhere", kind=FileNotFoundError)
    assert_fails(["is a file"], "folder", photo(own / "file.png"), kind=NotADirectoryError)
    (own / "empty").mkdir()
    for name in ("folder", "sketchy"):
        assert_fails(["no photos", "empty: nothing)"], name, own / "empty")
