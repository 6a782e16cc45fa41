"""An index of photos: exact, the same after it was saved, and one sentence for whatever does not belong to it."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from math import nan
from types import SimpleNamespace

import faiss
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sfhelpers import PhotoIndex
from sfhelpers.drawing import PRESETS
from sfhelpers.images import load_images
from sfhelpers.tasks.arms import extractor_for
from sfhelpers.tasks.framing import Frame
from sfhelpers.tasks.heads import load_head, save_heads
from sfhelpers.tasks.retrieval import SketchRetriever
from sfhelpers.tasks.search import Gallery
from tests.backbone_fixtures import one_sentence
from tests.search_helpers import fake, photo, sketch

RUN = SimpleNamespace(dataset="toy", split="default", limit=4, epochs=1, learning_rate=1e-3, seed=0)


@pytest.fixture
def folder(tmp_path):
    """Three cats, three dogs, and a photo in no class."""
    for k in range(3):
        photo(tmp_path / "photos" / "cat" / f"{k}.png", k)
        photo(tmp_path / "photos" / "dög 猫" / f"{k}.png", 10 + k)
    photo(tmp_path / "photos" / "loose.png", 99)
    return tmp_path / "photos"


@pytest.fixture
def saved(folder, tmp_path):
    """The file of an index of the folder."""
    return PhotoIndex.from_folder(folder, fake()).save(tmp_path / "made" / "photos.index")


def test_photos_come_by_the_cosine_of_their_embeddings(folder, tiny_backbone):
    gallery = Gallery.from_folder(folder, tiny_backbone)
    found = PhotoIndex.from_folder(folder, tiny_backbone).ask(sketch(), k=99)
    asked = tiny_backbone.vision.embed(Frame.of(sketch()).tensor(96)[None])
    scores, order = (asked @ gallery.embeddings.T)[0].sort(descending=True)
    assert [path for path, _ in found] == [gallery.records[n].path for n in order] and len(found) == 7
    assert np.allclose([score for _, score in found], scores, atol=1e-6)
    assert PhotoIndex.from_gallery(gallery, tiny_backbone).ask(sketch(), k=2) == found[:2]


def test_a_sketch_may_be_a_file_an_image_or_a_drawing(folder, tmp_path):
    index = PhotoIndex.from_folder(folder, fake())
    sketch().save(tmp_path / "sketch.png")
    assert index.ask(tmp_path / "sketch.png") == index.ask(str(tmp_path / "sketch.png")) == index.ask(sketch())
    drawing = next(iter(PRESETS.values()))
    assert index.ask(drawing) == index.ask(drawing.to_image())


def test_a_saved_index_answers_as_before_and_embeds_nothing_anew(folder, saved):
    backbone = fake()
    index = PhotoIndex.load(saved, backbone)
    assert backbone.batches == [] and index.ask(sketch()) == PhotoIndex.from_folder(folder, backbone).ask(sketch())
    assert {path.read_bytes() for path in index.paths} == {path.read_bytes() for path in folder.rglob("*.png")}


def test_other_programs_can_take_the_faiss_index_out(saved):
    index = faiss.deserialize_index(load_file(saved)["faiss"].numpy())
    assert isinstance(index, faiss.IndexFlatIP) and (index.ntotal, index.d) == (7, 3)


def test_photos_that_have_moved_are_found_again_by_their_new_root(folder, saved, tmp_path):
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError) as error:
        PhotoIndex.load(saved, fake())
    assert "7 of the 7 photos" in one_sentence(error) and "pass root=" in str(error.value)
    found = PhotoIndex.load(saved, fake(), root=tmp_path / "elsewhere").ask(sketch(), k=7)
    assert all(path.is_relative_to(tmp_path / "elsewhere") and path.is_file() for path, _ in found)


def test_refresh_embeds_what_is_new_and_forgets_what_is_gone(folder, saved):
    (folder / "cat" / "1.png").unlink()
    photo(folder / "cow" / "0.png", 50)
    with pytest.raises(FileNotFoundError, match=r"1 of the 7 photos .*\(cat/1\.png\).*refresh=True"):
        PhotoIndex.load(saved, fake())
    backbone = fake()
    index = PhotoIndex.load(saved, backbone, refresh=True)
    assert backbone.batches == [1] and len(index) == 7
    anew = PhotoIndex.from_folder(folder, fake())
    assert dict(index.ask(sketch())) == pytest.approx(dict(anew.ask(sketch())))
    assert PhotoIndex.load(index.save(saved), fake()).names == index.names


def test_an_index_of_another_backbone_is_refused(saved, folder):
    other = fake()
    other.weights_sha256 = "e" * 64
    with pytest.raises(ValueError) as error:
        PhotoIndex.load(saved, other)
    assert "embedded by a backbone with weights ffffffffffff, but fake has eeeeeeeeeeee" in one_sentence(error)
    with pytest.raises(ValueError) as error:
        PhotoIndex.from_gallery(Gallery.from_folder(folder, fake()), other)
    assert "embedded by another backbone" in one_sentence(error)


def retrieval_head(backbone, folder, seed=0):
    """The file of an untrained retriever."""
    trial = SimpleNamespace(method="fused", seed=0, model=SketchRetriever(extractor_for("fused", backbone, seed)))
    return save_heads(RUN, [trial], backbone.weights_sha256, folder, "retrieval")[0]


def test_a_trained_retriever_may_embed_and_another_one_is_refused(folder, tmp_path, tiny_backbone):
    head = retrieval_head(tiny_backbone, tmp_path / "heads")
    made = PhotoIndex.from_folder(folder, tiny_backbone, embed=head)
    model = load_head(head, tiny_backbone).model
    asked, photos = model(Frame.of(sketch()).tensor(96)[None]), model(load_images(made.paths, 96))
    assert dict(made.ask(sketch())) == pytest.approx(dict(zip(made.paths, (photos @ asked[0]).tolist(), strict=True)))
    saved = made.save(tmp_path / "photos.index")
    assert PhotoIndex.load(saved, tiny_backbone).ask(sketch()) == made.ask(sketch())
    assert retrieval_head(tiny_backbone, tmp_path / "heads", seed=1) == head
    with pytest.raises(ValueError) as error:
        PhotoIndex.load(saved, tiny_backbone)
    assert "embedded by another retrieval head" in one_sentence(error)


def rewrite(path, content=None, **changes):
    """Change an index file's bytes of FAISS, or what it says of itself."""
    head = path.read_bytes()
    described = json.loads(
        json.loads(head[8 : 8 + int.from_bytes(head[:8], "little")])["__metadata__"]["sketchfusion index"]
    )
    kept = load_file(path)["faiss"] if content is None else torch.from_numpy(content)
    save_file({"faiss": kept}, path, metadata={"sketchfusion index": json.dumps(described | changes)})


def test_an_index_of_another_version_is_refused(saved):
    rewrite(saved, format=99)
    with pytest.raises(ValueError) as error:
        PhotoIndex.load(saved, fake())
    assert "another version of sfhelpers" in one_sentence(error)


@pytest.mark.parametrize("length", [0, 4, 100, 500, -1])
def test_an_index_that_was_cut_is_refused(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(ValueError) as error:
        PhotoIndex.load(saved, fake())
    assert "is not a whole index of photos" in one_sentence(error)


@pytest.mark.parametrize("kind", ["a byte", "another kind of index", "no description", "a pickle"])
def test_a_file_that_is_no_such_index_is_refused(saved, kind):
    if kind == "a byte":
        whole = bytearray(saved.read_bytes())
        whole[-20] ^= 1
        saved.write_bytes(whole)
    elif kind == "another kind of index":
        content = faiss.serialize_index(faiss.IndexHNSWFlat(3, 4))
        rewrite(saved, content, sha256=hashlib.sha256(content).hexdigest())
    elif kind == "no description":
        save_file(load_file(saved), saved)
    else:
        saved.write_bytes(b"\x80\x04\x95pickled")
    with pytest.raises(ValueError) as error:
        PhotoIndex.load(saved, fake())
    assert "is not a whole index of photos" in one_sentence(error)


def test_a_full_disk_is_said_and_the_earlier_index_stays(folder, saved, monkeypatch):
    before, index = saved.read_bytes(), PhotoIndex.from_folder(folder, fake())
    photo(folder / "new.png", 5)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError) as error:
            index.save(saved)
    assert "could not be written (No space left on device)" in one_sentence(error)
    assert saved.read_bytes() == before and list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize(
    ("asked", "k", "error", "words"),
    [
        (sketch(), 0, ValueError, "k is 0"),
        (sketch(), 2.5, ValueError, "k is 2.5: ask for a whole number"),
        (sketch(), "3", ValueError, "k is '3': ask for a whole number"),
        (Image.new("RGB", (64, 64), "white"), 1, ValueError, "has no line"),
        ("nowhere.png", 1, FileNotFoundError, "there is no image nowhere.png"),
        (np.zeros((8, 8)), 1, ValueError, "of type ndarray"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_sentence(folder, asked, k, error, words):
    with pytest.raises(error) as caught:
        PhotoIndex.from_folder(folder, fake()).ask(asked, k)
    assert words in one_sentence(caught)


def test_embeddings_that_are_not_finite_are_refused_in_one_sentence(folder):
    index = PhotoIndex.from_folder(folder, fake())
    broken = PhotoIndex(
        index.root, index.names, index.faiss, replace(index.embedder, function=lambda x: torch.full((len(x), 3), nan))
    )
    with pytest.raises(ValueError) as error:
        broken.ask(sketch())
    assert "1 of 1 embeddings of the sketch are not finite" in one_sentence(error)
    backbone = fake()
    backbone.vision.embed = lambda images: torch.full((len(images), 3), nan)
    with pytest.raises(ValueError) as error:
        PhotoIndex.from_folder(folder, backbone)
    assert "7 of 7 embeddings of the photos are not finite" in one_sentence(error)


def test_only_an_index_is_replaced_by_an_index(folder, saved):
    index, picture = PhotoIndex.from_folder(folder, fake()), folder / "loose.png"
    before = picture.read_bytes()
    with pytest.raises(FileExistsError) as error:
        index.save(picture)
    assert "is a file but no index: name another place" in one_sentence(error)
    assert picture.read_bytes() == before
    rewrite(saved, format=99)
    assert len(PhotoIndex.load(index.save(saved), fake())) == 7
    with pytest.raises(IsADirectoryError) as error:
        index.save(folder)
    assert "(Is a directory): name another file" in one_sentence(error)


def test_what_is_not_there_is_said_in_one_sentence(tmp_path, tiny_backbone):
    for make, words in (
        (lambda: PhotoIndex.load(tmp_path / "no.index", fake()), "there is no index"),
        (lambda: PhotoIndex.from_folder(tmp_path / "none", fake()), "there is no folder"),
        (lambda: PhotoIndex.from_folder(tmp_path, fake(), embed=tmp_path / "none"), "no trained model at"),
    ):
        with pytest.raises(FileNotFoundError) as error:
            make()
        assert words in one_sentence(error)


@pytest.mark.parametrize("first", ["faiss", "torch"])
def test_faiss_and_torch_live_in_one_process_whichever_comes_first(first):
    """Both bring an OpenMP runtime, which has made processes crash; each is used after the other."""
    code = f"""
import {first}, torch, faiss, numpy
rows = numpy.random.default_rng(0).standard_normal((4000, 64)).astype("float32")
before = torch.from_numpy(rows) @ torch.from_numpy(rows[:32]).T
index = faiss.IndexFlatIP(64)
index.add(rows)
scores, _ = index.search(rows[:32], 5)
after = torch.from_numpy(rows) @ torch.from_numpy(rows[:32]).T
assert torch.equal(before, after)
assert numpy.allclose(scores, after.T.topk(5, 1).values, atol=1e-3)
"""
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
