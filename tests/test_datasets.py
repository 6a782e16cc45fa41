import numpy as np
import pytest
from PIL import Image

from sfhelpers import toyworld
from sfhelpers.datasets import load_dataset, pairs
from sfhelpers.datasets.records import part_of
from sfhelpers.datasets.sketches import load_sketches
from sfhelpers.toyworld import quick

TX = "tx_000100000000"


def picture(path, value=100, size=(24, 16), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 50, 50)).save(path)


@pytest.fixture
def own(tmp_path):
    """A folder as a user has it: two classes of three photos and two sketches."""
    for category in ("cat", "dog"):
        for stem in ("a", "b", "c"):
            picture(tmp_path / "photo" / category / f"{stem}.jpg")
        for stem in ("s1", "s2"):
            picture(tmp_path / "sketch" / category / f"{stem}.png", 255, mode="L")
    return tmp_path


def write_sketchy(root, photos=20, categories=("apple", "bat"), masks=False):
    base = root / "256x256"
    for category in categories:
        for number in range(photos):
            stem = f"n02691156_{number}"
            picture(base / "photo" / TX / category / f"{stem}.jpg")
            for k in (1, 2):
                picture(base / "sketch" / TX / category / f"{stem}-{k}.png", 255, mode="L")
            if masks:
                picture(base / "mask" / TX / category / f"{stem}.png", 255, mode="L")
    return root


def assert_fails(words, *args, kind=ValueError, **kwargs):
    with pytest.raises(kind) as error:
        load_dataset(*args, **kwargs)
    text = str(error.value)
    assert text.endswith(".") and ". " not in text and "\n" not in text, text
    for word in words:
        assert word in text, text


def test_folder_gives_records_in_order(own):
    dataset = load_dataset("folder", own)
    assert dataset.categories == ("cat", "dog") and not dataset.has_masks
    assert [(p.category, p.instance, p.part, p.seen) for p in dataset.photos[:2]] == [
        ("cat", "a", "test", True),
        ("cat", "b", "test", True),
    ]
    assert len(dataset.photos) == 6 and len(dataset.sketches) == 4


def test_folder_pairs_every_photo_with_a_sketch_in_turn(own):
    found = [(s.category, s.instance, p.instance) for s, p in pairs(load_dataset("folder", own))]
    assert found[:3] == [("cat", "s1", "a"), ("cat", "s2", "b"), ("cat", "s1", "c")] and len(found) == 6


@pytest.mark.parametrize("split", ["default", "parts"])
def test_single_photo_or_single_sketch_of_a_class_works(own, split):
    picture(own / "photo" / "owl" / "only.jpg")
    picture(own / "sketch" / "owl" / "many1.png")
    picture(own / "sketch" / "owl" / "many2.png")
    for number in range(30):
        picture(own / "photo" / "yak" / f"{number}.jpg")
    picture(own / "sketch" / "yak" / "lone.png")
    dataset = load_dataset("folder", own, split=split)
    found = [pair for part in ("train", "val", "test") for pair in pairs(dataset.select(part=part))]
    assert len(found) == len(dataset.photos) == 6 + 1 + 30
    assert {p.part for p in dataset.select(categories=["owl", "yak"]).records} == {"test"}


def test_folder_can_be_parted_for_training(tmp_path):
    for number in range(40):
        picture(tmp_path / "photo" / "cat" / f"{number}.jpg")
        picture(tmp_path / "sketch" / "cat" / f"s{number}.png")
    dataset = load_dataset("folder", tmp_path, split="parts")
    assert all(dataset.select(part=part, domain="photo").records for part in ("train", "val", "test"))


def test_hidden_files_and_other_extensions_are_ignored(own):
    for name in (".DS_Store", "Thumbs.db", "notes.txt", "._a.jpg"):
        (own / "photo" / "cat" / name).write_bytes(b"junk")
    (own / "photo" / ".cache").mkdir()
    (own / "photo" / "readme.txt").write_text("mine")
    assert len(load_dataset("folder", own).photos) == 6


def test_links_that_lead_nowhere_and_images_a_folder_too_deep_are_counted(own):
    (own / "photo" / "cat" / "gone.jpg").symlink_to("nowhere.jpg")
    (own / "photo" / "cat" / "loop.png").symlink_to("loop.png")
    (own / "photo" / "owl").symlink_to("no_owls")
    for name in (".hidden.jpg", "list.txt"):
        (own / "photo" / "cat" / name).symlink_to("nowhere.jpg")
    picture(own / "photo" / "dog" / "more" / "d.jpg")
    picture(own / "photo" / "dog" / ".cache" / "d.jpg")
    named = r"cat/gone\.jpg, cat/loop\.png, dog/more/d\.jpg and 1 more\.$"
    with pytest.warns(UserWarning, match=rf"^links that lead nowhere .*\(4 in all\): {named}"):
        assert len(load_dataset("folder", own).photos) == 6


def test_names_that_are_not_ascii_and_come_composed_or_not(own):
    picture(own / "photo" / "caf\u00e9 猫" / "Bild ä.jpg")
    picture(own / "sketch" / "cafe\u0301 猫" / "öl.PNG")
    dataset = load_dataset("folder", own).select(categories=["caf\u00e9 猫"])
    assert len(dataset.photos) == len(dataset.sketches) == 1


def test_sketches_white_on_black_are_kept_as_they_are(own):
    path = own / "sketch" / "cat" / "s1.png"
    picture(path, 0, mode="L")
    before = path.read_bytes()
    load_dataset("folder", own)
    assert path.read_bytes() == before


def test_masks_are_found_by_name_and_partial_masks_can_be_selected(own):
    picture(own / "mask" / "cat" / "a.png", 255, mode="L")
    dataset = load_dataset("folder", own)
    assert dataset.has_masks and [p.instance for p in dataset.select(masked=True).photos] == ["a"]
    assert len(dataset.select(masked=False).photos) == 5 and len(dataset.select(masked=True).sketches) == 4


def test_masks_that_fit_no_photo_or_have_another_size_fail(own):
    picture(own / "mask" / "cat" / "zzz.png", 255, mode="L")
    assert_fails(["mask/cat/zzz.png"], "folder", own)
    (own / "mask" / "cat" / "zzz.png").unlink()
    picture(own / "mask" / "cat" / "a.png", 255, size=(16, 16), mode="L")
    assert_fails(["mask/cat/a.png is 16 x 16", "24 x 16"], "folder", own)


def test_data_root_missing_not_given_a_file_or_empty(tmp_path):
    assert_fails(["nowhere", "does not exist"], "folder", tmp_path / "nowhere", kind=FileNotFoundError)
    assert_fails(["-p data_root"], "folder")
    (tmp_path / "file").write_text("")
    assert_fails(["is a file"], "folder", tmp_path / "file", kind=NotADirectoryError)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").write_text("")
    for name in ("folder", "sketchy"):
        assert_fails(["is empty"], name, tmp_path / "empty")


@pytest.mark.parametrize(("domain", "plural"), [("photo", "photos"), ("sketch", "sketches")])
def test_folder_without_photos_or_without_sketches(own, domain, plural):
    (own / domain).rename(own / "pictures")
    assert_fails([f"no {plural}", f"{own / domain}/<class>", "pictures/", ".jpg"], "folder", own)
    (own / domain).mkdir()
    (own / domain / "loose.heic").write_bytes(b"x")
    assert_fails([f"no {plural}", "loose.heic"], "folder", own)


def test_classes_that_do_not_meet(own):
    (own / "sketch" / "dog").rename(own / "sketch" / "Dog")
    assert_fails(["dog", "Dog", str(own)], "folder", own)
    (own / "photo" / "dog").rename(own / "elsewhere")
    with pytest.warns(UserWarning, match="Dog"):
        assert load_dataset("folder", own).categories == ("cat",)


def test_two_photos_that_would_share_a_result_file_fail(own):
    picture(own / "photo" / "cat" / "a.png")
    assert_fails(["called 'a'", "cat"], "folder", own)


def test_a_damaged_toy_world_is_to_be_drawn_anew(monkeypatch, tmp_path):
    toyworld.write_sketchy(tmp_path / "world", photos=3, sketches=1, categories=("bus", "cat"))
    monkeypatch.setattr(toyworld, "ensure", lambda: tmp_path / "world")
    next((tmp_path / "world").rglob("*.jpg")).write_bytes(b"")
    assert_fails(["1 of 12 images", "world", "delete this folder", "drawn anew"], "toy")
    quick.write_quick(tmp_path / "quick", 4, categories=("bus", "cat"))
    monkeypatch.setattr(quick, "ensure_quick", lambda: tmp_path / "quick")
    with (tmp_path / "quick" / "cat.ndjson").open("a") as file:
        file.write('{"word": "c')
    with pytest.raises(ValueError, match=r"quick cannot be used .* delete this folder, so that the toy world is drawn"):
        load_sketches("toy")


def test_broken_images_are_named_counted_and_skipped_only_if_asked(own):
    (own / "photo" / "cat" / "a.jpg").write_bytes(b"")
    (own / "photo" / "dog" / "b.jpg").write_bytes(b"no picture")
    whole = (own / "sketch" / "cat" / "s1.png").read_bytes()
    (own / "sketch" / "cat" / "s1.png").write_bytes(whole[:-30])
    picture(own / "sketch" / "dog" / "thin.png", size=(1, 90))
    assert_fails(["4 of 11", "photo/cat/a.jpg", "photo/dog/b.jpg", "skip_broken=True", "1 more"], "folder", own)
    with pytest.warns(UserWarning, match=r"4 of 11.*a\.jpg.*b\.jpg.*s1\.png.*thin\.png"):
        dataset = load_dataset("folder", own, skip_broken=True)
    assert len(dataset.photos) == 4 and len(dataset.sketches) == 3
    assert (own / "photo" / "cat" / "a.jpg").exists()


@pytest.mark.filterwarnings("ignore:.*are skipped")
def test_class_that_loses_its_last_image_fails(own):
    for path in (own / "sketch" / "dog").iterdir():
        path.write_bytes(b"")
    assert_fails(["'dog'", "sketch"], "folder", own, skip_broken=True)


def test_sketchy_pairs_by_instance_and_parts_follow_the_photo(tmp_path):
    dataset = load_dataset("sketchy", write_sketchy(tmp_path))
    found = pairs(dataset)
    assert len(found) == len(dataset.sketches) == 80
    assert all(s.instance == p.instance and (s.part, s.seen) == (p.part, p.seen) for s, p in found)


def test_sketchy_splits_seen_categories_and_tests_unseen_ones(tmp_path):
    dataset = load_dataset("sketchy", write_sketchy(tmp_path, photos=200, categories=("apple", "bat")))
    assert {p.part for p in dataset.select(seen=False).photos} == {"test"}
    assert dataset.select(seen=False).categories == ("bat",)
    shares = [len(dataset.select(part=part, seen=True).photos) / 200 for part in ("train", "val", "test")]
    assert np.abs(np.array(shares) - (0.6, 0.15, 0.25)).max() < 0.1


def test_adding_photos_moves_none_to_another_part(tmp_path):
    first = load_dataset("sketchy", write_sketchy(tmp_path, photos=10, categories=("apple",)))
    before = {p.instance: p.part for p in first.photos}
    after = load_dataset("sketchy", write_sketchy(tmp_path, photos=30, categories=("apple",)))
    assert before.items() <= {p.instance: p.part for p in after.photos}.items()
    assert part_of("hot-air_balloon", "x") == part_of("hot_air_balloon", "x")


def test_lone_photo_of_a_category_is_a_test_photo(tmp_path):
    write_sketchy(tmp_path, photos=1, categories=tuple(f"seen{number}" for number in range(12)))
    assert {record.part for record in load_dataset("sketchy", tmp_path).records} == {"test"}


def test_sketchy_accepts_the_inner_folder_and_finds_masks(tmp_path):
    write_sketchy(tmp_path, photos=3, masks=True)
    dataset = load_dataset("sketchy", tmp_path / "256x256")
    assert dataset.has_masks and all(p.mask.stem == p.instance for p in dataset.photos)


def test_limit_keeps_parts_mixed_and_follows_the_seed(tmp_path):
    write_sketchy(tmp_path, photos=60, categories=("apple",))
    dataset = load_dataset("sketchy", tmp_path, limit=4)
    assert sorted(p.part for p in dataset.photos) == ["test", "train", "train", "val"]
    assert len(dataset.sketches) == 8
    chosen = {p.instance for p in dataset.photos}
    assert chosen == {p.instance for p in load_dataset("sketchy", tmp_path, limit=4).photos}
    assert chosen != {p.instance for p in load_dataset("sketchy", tmp_path, limit=4, seed=1).photos}
    assert len(load_dataset("sketchy", tmp_path, limit=1000).photos) == 60


def test_sketchy_layout_errors_say_what_was_found(tmp_path, own):
    assert_fails(["256x256", "photo/", TX], "sketchy", own)
    write_sketchy(tmp_path / "s", photos=2)
    base = tmp_path / "s" / "256x256"
    (base / "sketch" / TX).rename(base / "sketch" / "tx_000000000000")
    assert_fails(["no sketches", "tx_000000000000/"], "sketchy", tmp_path / "s")


def test_sketchy_categories_that_do_not_meet(tmp_path):
    write_sketchy(tmp_path, photos=2, categories=("apple",))
    base = tmp_path / "256x256" / "sketch" / TX
    (base / "apple").rename(base / "pear")
    assert_fails(["apple", "pear"], "sketchy", tmp_path)


def test_sketches_without_their_photo_are_counted(tmp_path):
    write_sketchy(tmp_path, photos=2, categories=("apple",))
    picture(tmp_path / "256x256" / "sketch" / TX / "apple" / "n999_1-1.png")
    with pytest.warns(UserWarning, match=r"1 sketch.*n999_1-1\.png"):
        assert len(load_dataset("sketchy", tmp_path).sketches) == 4


def test_toy_goes_through_the_sketchy_adapter(tmp_path, monkeypatch):
    write_sketchy(tmp_path, photos=2, categories=(toyworld.SEEN[0], toyworld.UNSEEN[0]), masks=True)
    monkeypatch.setattr(toyworld, "ensure", lambda: tmp_path, raising=False)
    dataset = load_dataset("toy")
    assert dataset.name == "toy" and dataset.has_masks
    assert dataset.select(seen=False).categories == (toyworld.UNSEEN[0],)


def test_unknown_name_split_limit_and_a_root_for_toy_fail(own):
    assert_fails(["'toys'", "toy, sketchy, folder"], "toys")
    assert_fails(["'half'", "default, parts"], "folder", own, split="half")
    assert_fails(["-3"], "folder", own, limit=-3)
    assert_fails(["takes no data_root"], "toy", own)
