"""A gallery from any folder of photos: every layout, bounded memory, one sentence for what cannot be used."""

import os
from functools import partial

import pytest
import torch
from tqdm.auto import tqdm

from sfhelpers.datasets import Dataset
from sfhelpers.images import EXTENSIONS
from sfhelpers.tasks import photos
from sfhelpers.tasks.search import Gallery, find_images
from tests.backbone_fixtures import one_sentence
from tests.search_helpers import fake, photo


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("photo/cat/a.png", ["cat"]),
        ("cat/a.png", ["cat"]),
        ("photo/a.png", [""]),
        ("a.png", [""]),
        ("256x256/photo/tx_000100000000/cat/a.jpg", ["cat"]),
        ("photo/tx_000100000000/cat/a.jpg", ["cat"]),
    ],
)
def test_photos_are_found_in_every_layout(tmp_path, place, names):
    photo(tmp_path / place)
    found = Gallery.from_folder(tmp_path, fake())
    assert [record.category for record in found.records] == names and len(found) == 1
    assert found.categories == tuple(name for name in names if name)


def test_sketches_and_masks_beside_the_photos_are_not_taken_for_photos(tmp_path):
    for place in ("photo/cat/a.png", "sketch/cat/a-1.png", "mask/cat/a.png", "photo/.hidden.png", "readme.png"):
        photo(tmp_path / place)
    assert [record.path.name for record in Gallery.from_folder(tmp_path, fake()).records] == ["a.png"]
    assert [record.path.name for record in find_images(tmp_path, "sketch")] == ["a-1.png"]
    assert find_images(tmp_path / "mask", "sketch") == []


def test_photos_in_and_out_of_classes_live_together(tmp_path):
    photo(tmp_path / "cat" / "a.png")
    photo(tmp_path / "b.png")
    found = Gallery.from_folder(tmp_path, fake())
    assert [(r.category, r.path.name) for r in found.records] == [("", "b.png"), ("cat", "a.png")]
    assert found.labels.tolist() == [-1, 0]


def test_limit_takes_so_many_photos_a_class(tmp_path):
    for name in ("cat", "dog"):
        for k in range(5):
            photo(tmp_path / name / f"{k}.png", k)
    found = [Gallery.from_folder(tmp_path, fake(), limit=2, seed=seed) for seed in (0, 0, 1)]
    assert [gallery.labels.tolist() for gallery in found] == [[0, 0, 1, 1]] * 3
    assert found[0].records == found[1].records != found[2].records


@pytest.mark.parametrize(("name", "value"), [("limit", -1), ("batch_size", 0), ("batch_size", -1)])
def test_numbers_of_photos_that_cannot_be_are_refused(tmp_path, name, value):
    photo(tmp_path / "cat" / "a.png")
    with pytest.raises(ValueError, match=f"{name} is {value}: ") as error:
        Gallery.from_folder(tmp_path, fake(), **{name: value})
    one_sentence(error)


def test_embeddings_do_not_depend_on_the_batch(tmp_path):
    for k in range(5):
        photo(tmp_path / f"{k}.png", k)
    one, all_ = (Gallery.from_folder(tmp_path, fake(), batch_size=size).embeddings for size in (1, 32))
    assert torch.allclose(one, all_, atol=1e-6) and torch.allclose(one.norm(dim=1), torch.ones(5))


def test_five_thousand_photos_are_never_in_memory_together(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(photos, "tqdm", partial(tqdm, mininterval=0))
    first = photo(tmp_path / "0000.bmp", size=(8, 8))
    for k in range(1, 5000):
        os.link(first, tmp_path / f"{k:04}.bmp")
    backbone = fake()
    found = Gallery.from_folder(tmp_path, backbone)
    assert max(backbone.batches) == 32 and sum(backbone.batches) == len(found) == 5000
    assert found.embeddings.nbytes == 5000 * 3 * 4
    found._pictures.megabytes = 0.001  # five pictures of 8 x 8
    for k in range(20):
        found.picture(k)
    assert found._pictures.bytes <= 1000 and len(found._pictures) == 5
    bar = capsys.readouterr().err
    assert "embedding 5,000 photos:   0%" in bar and "32/5000 [" in bar  # how many, and from then on how long


def test_a_picture_is_small_and_kept(gallery, monkeypatch):
    picture = gallery.picture(3)
    assert picture.size == (80, 40) and gallery.records[3].category == "dog"
    monkeypatch.setattr(photos, "open_image", None)  # whoever opened it again would fail
    assert gallery.picture(3) is picture


def test_what_is_kept_is_the_newest_and_within_the_budget():
    kept = photos.Kept(megabytes=10e-6)
    for key in "abc":
        assert kept.get(key, lambda key=key: (key * 2, 4)) == key * 2
    assert kept.bytes == 8 and kept.get("b", None) == "bb"
    assert kept.get("d", lambda: ("dd", 40)) == "dd" and len(kept) == 1


@pytest.mark.filterwarnings("ignore:links that lead nowhere")
@pytest.mark.parametrize(
    ("made", "asked", "error", "words"),
    [
        ([], "nowhere", FileNotFoundError, "there is no folder"),
        (["a.png"], "a.png", NotADirectoryError, "is a file"),
        ([], "", ValueError, "no photo found under"),
        (["notes.txt", "deep/deeper/a.png"], "", ValueError, "(found: deep/, notes.txt)"),
    ],
)
def test_a_folder_without_photos_is_said_in_one_sentence(tmp_path, made, asked, error, words):
    for name in made:
        photo(tmp_path / name) if name.endswith(EXTENSIONS) else (tmp_path / name).write_text("x")
    with pytest.raises(error) as caught:
        Gallery.from_folder(tmp_path / asked, fake())
    assert words in one_sentence(caught)


def test_broken_photos_are_named_or_skipped(tmp_path):
    photo(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError) as caught:
        Gallery.from_folder(tmp_path, fake())
    assert "1 of 2 images" in one_sentence(caught) and "bad.png" in str(caught.value)
    with pytest.warns(UserWarning, match=r"bad\.png"):
        assert len(Gallery.from_folder(tmp_path, fake(), skip_broken=True)) == 1
    (tmp_path / "good.png").unlink()
    with pytest.warns(UserWarning), pytest.raises(ValueError) as caught:
        Gallery.from_folder(tmp_path, fake(), skip_broken=True)
    assert "no usable photo is left" in one_sentence(caught)


def test_a_dataset_without_photos_is_refused(tmp_path):
    empty = Dataset("toy", tmp_path, "default", ())
    with pytest.raises(ValueError) as caught:
        Gallery.from_dataset(empty, fake())
    assert "has no photo here" in one_sentence(caught)
