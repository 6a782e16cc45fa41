"""A gallery from any folder of photos: every layout, bounded memory, one sentence for what cannot be used."""

import os
from copy import copy
from functools import partial
from math import nan

import numpy as np
import pytest
import torch
from PIL import Image
from tqdm.auto import tqdm

from sfhelpers.datasets import Dataset
from sfhelpers.drawing import PRESETS
from sfhelpers.images import EXTENSIONS
from sfhelpers.search.framing import Frame
from sfhelpers.search.gallery import PICTURES, THUMBNAIL, Gallery, find_images
from tests.search_helpers import fake, photo, refused, sketch


@pytest.mark.parametrize(
    ("places", "found"),
    [
        (("photo/a.png",), [("", "a")]),
        (("cat/a.png", "b.png"), [("", "b"), ("cat", "a")]),
        (("256x256/photo/tx_000100000000/cat/a.jpg",), [("cat", "a")]),
        (("photo/tx_000100000000/cat/a.jpg",), [("cat", "a")]),
        (("photo/cat/a.png", "sketch/cat/b.png", "mask/cat/c.png", "photo/.d.png", "e.png"), [("cat", "a")]),
    ],
)
def test_photos_are_found_in_every_layout_and_nothing_else(tmp_path, places, found):
    for place in places:
        photo(tmp_path / place)
    gallery = Gallery.from_folder(tmp_path, fake())
    assert [(record.category, record.path.stem) for record in gallery.records] == found and len(gallery) == len(found)
    assert gallery.categories == tuple(sorted({name for name, _ in found} - {""}))
    assert gallery.labels.tolist() == [0 if name else -1 for name, _ in found]
    sketches = [record.path.name for record in find_images(tmp_path, "sketch")]
    assert sketches == [place.split("/")[-1] for place in places if place.startswith("sketch/")]


def test_limit_takes_so_many_photos_a_class(tmp_path):
    for name in ("cat", "dog"):
        for k in range(5):
            photo(tmp_path / name / f"{k}.png", k)
    found = [Gallery.from_folder(tmp_path, fake(), limit=2, seed=seed) for seed in (0, 0, 1)]
    assert [gallery.labels.tolist() for gallery in found] == [[0, 0, 1, 1]] * 3
    assert found[0].records == found[1].records != found[2].records


def test_five_thousand_photos_are_never_in_memory_together(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sfhelpers.tasks.prepared.tqdm", partial(tqdm, mininterval=0))
    first = photo(tmp_path / "0000.bmp", size=(8, 8))
    for k in range(1, 5000):
        os.link(first, tmp_path / f"{k:04}.bmp")
    backbone = fake()
    found = Gallery.from_folder(tmp_path, backbone)
    assert max(backbone.batches) == 32 and sum(backbone.batches) == len(found) == 5000
    assert found.embeddings.nbytes == 5000 * 3 * 4
    for k in range(2 * PICTURES):
        found.picture(k)
    assert found.picture.cache_info().currsize == PICTURES and PICTURES * 3 * THUMBNAIL**2 < 20e6  # bytes
    assert found.picture(199) is found.picture(199) and found.picture(199).size == (8, 8)
    bar = capsys.readouterr().err
    assert "embedding 5,000 photos:   0%" in bar and "32/5000 [" in bar  # how many, and from then on how long


def test_photos_come_by_the_cosine_of_their_embeddings(gallery, tiny_backbone):
    found = gallery.ask(sketch(), k=99)
    asked = tiny_backbone.vision.embed(Frame.of(sketch()).tensor(96)[None])
    scores, order = (asked @ gallery.embeddings.T)[0].sort(descending=True)
    assert [path for path, _ in found] == [gallery.records[n].path for n in order] and len(found) == 5
    assert np.allclose([score for _, score in found], scores, atol=1e-6)
    dataset = Dataset("folder", gallery.root, "default", gallery.records)
    one_by_one = Gallery.from_dataset(dataset, tiny_backbone, batch_size=1)
    assert torch.allclose(one_by_one.embeddings, gallery.embeddings, atol=1e-6)
    assert torch.allclose(gallery.embeddings.norm(dim=1), torch.ones(5))


def test_a_sketch_may_be_a_file_an_image_or_a_drawing(gallery, tmp_path):
    path, drawing = tmp_path / "sketch.png", next(iter(PRESETS.values()))
    sketch().save(path)
    assert gallery.ask(path) == gallery.ask(str(path)) == gallery.ask(sketch())
    assert gallery.ask(drawing) == gallery.ask(drawing.to_image())


def test_what_cannot_be_asked_is_said_in_one_sentence(gallery, tmp_path):
    for k in (0, 2.5, "3"):
        assert f"k is {k!r}: give a whole number" in refused(ValueError, gallery.ask, sketch(), k)
    assert "there is no image nowhere.png" in refused(FileNotFoundError, gallery.ask, "nowhere.png")
    Image.new("RGB", (64, 64), "white").save(tmp_path / "paper.png")
    assert "paper.png has no line" in refused(ValueError, gallery.ask, tmp_path / "paper.png")
    broken, backbone = copy(gallery), fake()
    broken.embedder = backbone.vision.embed = lambda images: torch.full((len(images), 32), nan)
    assert "1 of 1 embeddings of the sketch are not finite" in refused(ValueError, broken.ask, sketch())
    assert "1 of 1 embeddings of the photos are not" in refused(ValueError, Gallery.from_folder, tmp_path, backbone)


@pytest.mark.filterwarnings("ignore:links that lead nowhere")
@pytest.mark.parametrize(
    ("made", "asked", "options", "error", "words"),
    [
        ([], "nowhere", {}, FileNotFoundError, "there is no folder"),
        (["a.png"], "a.png", {}, NotADirectoryError, "is a file"),
        ([], "", {}, ValueError, "no photo found under"),
        (["notes.txt", "deep/deeper/a.png"], "", {}, ValueError, "(found: deep/, notes.txt)"),
        ([], "", {"embed": "nowhere"}, FileNotFoundError, "no trained model at"),
        (["cat/a.png"], "", {"limit": -1}, ValueError, "limit is -1: "),
        (["a.png"], "", {"batch_size": 0}, ValueError, "batch_size is 0: "),
    ],
)
def test_a_folder_without_photos_is_said_in_one_sentence(tmp_path, made, asked, options, error, words):
    for name in made:
        photo(tmp_path / name) if name.endswith(EXTENSIONS) else (tmp_path / name).write_text("x")
    assert words in refused(error, Gallery.from_folder, tmp_path / asked, fake(), **options)


def test_broken_photos_are_named_or_skipped_and_none_may_be_left(tmp_path):
    photo(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG")
    said = refused(ValueError, Gallery.from_folder, tmp_path, fake())
    assert "1 of 2 images" in said and "bad.png" in said
    with pytest.warns(UserWarning, match=r"bad\.png"):
        assert len(Gallery.from_folder(tmp_path, fake(), skip_broken=True)) == 1
    (tmp_path / "good.png").unlink()
    with pytest.warns(UserWarning):
        said = refused(ValueError, Gallery.from_folder, tmp_path, fake(), skip_broken=True)
    assert "no usable photo is left" in said
    empty = Dataset("toy", tmp_path, "default", ())
    assert "has no photo here" in refused(ValueError, Gallery.from_dataset, empty, fake())
