"""A gallery from any folder, and as a file: every layout, bounded memory, one sentence for what cannot be used."""

import os
import subprocess
import sys
from copy import copy
from functools import partial
from math import inf, nan

import faiss
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tqdm.auto import tqdm

from sfhelpers import kept
from sfhelpers.datasets import Dataset
from sfhelpers.drawing import PRESETS
from sfhelpers.images import EXTENSIONS, load_images
from sfhelpers.search.framing import Frame
from sfhelpers.search.gallery import KEY, PICTURES, THUMBNAIL, Gallery, find_images
from sfhelpers.tasks.heads import load_head
from sfhelpers.tasks.retrieval import SketchRetriever
from tests.backbone_fixtures import WRONG, fake, flipped, photo, refused, saved_head, sketch


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


def test_limit_takes_so_many_photos_a_class(folder):
    found = [Gallery.from_folder(folder, fake(), limit=2, seed=seed) for seed in (0, 0, 1)]
    assert [gallery.labels.tolist() for gallery in found] == [[-1, 0, 0, 1, 1]] * 3
    assert found[0].records == found[1].records != found[2].records


def test_five_thousand_photos_are_never_in_memory_together(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sfhelpers.tasks.prepared.tqdm", partial(tqdm, mininterval=0, ncols=120))
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
    bars = [bar for bar in capsys.readouterr().err.split("\r") if bar.startswith("embedding 5,000 images: ")]
    assert "| 0/157 [" in bars[0] and "| 1/157 [" in bars[1]  # how many batches, and from then on how long


def test_files_images_and_drawings_ask_alike_and_batches_embed_alike(gallery, tiny_backbone, tmp_path):
    drawing = next(iter(PRESETS.values()))
    drawing.to_image().save(path := tmp_path / "sketch.png")
    assert gallery.ask(path) == gallery.ask(str(path)) == gallery.ask(drawing) == gallery.ask(drawing.to_image())
    dataset = Dataset("folder", gallery.root, "default", gallery.records)
    one_by_one = Gallery.from_dataset(dataset, tiny_backbone, batch_size=1)
    assert torch.allclose(one_by_one.embeddings, gallery.embeddings, atol=1e-6)
    assert torch.allclose(gallery.embeddings.norm(dim=1), torch.ones(5))


def test_what_cannot_be_asked_is_said_in_one_sentence(gallery, tmp_path):
    Image.new("RGB", (64, 64), "white").save(tmp_path / "paper.png")
    broken, backbone = copy(gallery), fake()
    broken.embedder = backbone.vision.embed = lambda images: torch.full((len(images), 24), nan)
    for said, ask, *given in (
        *((f"k is {k!r}: give a whole number", gallery.ask, sketch(), k) for k in (0, 2.5, "3")),
        ("paper.png has no line", gallery.ask, tmp_path / "paper.png"),
        ("1 of 1 embeddings of the sketch are not finite", broken.ask, sketch()),
        ("1 of 1 embeddings of the photos are not", Gallery.from_folder, tmp_path, backbone),
    ):
        with refused(said):
            ask(*given)


@pytest.mark.filterwarnings("ignore:links that lead nowhere")
@pytest.mark.parametrize(
    ("made", "asked", "options", "error", "words"),
    [
        ([], "nowhere", {}, FileNotFoundError, "there is no folder"),
        (["a.png"], "a.png", {}, NotADirectoryError, "is a file"),
        ([], "", {}, ValueError, "no photo found under"),
        (["notes.txt", "deep/deeper/a.png"], "", {}, ValueError, "found: deep/, notes.txt"),
        ([], "", {"embed": "nowhere"}, FileNotFoundError, "no trained model at"),
        (["cat/a.png"], "", {"limit": -1}, ValueError, "limit is -1: "),
        (["a.png"], "", {"batch_size": 0}, ValueError, "batch_size is 0: "),
    ],
)
def test_a_folder_without_photos_is_said_in_one_sentence(tmp_path, made, asked, options, error, words):
    for name in made:
        photo(tmp_path / name) if name.endswith(EXTENSIONS) else (tmp_path / name).write_text("x")
    with refused(words, error):
        Gallery.from_folder(tmp_path / asked, fake(), **options)


def test_broken_photos_are_named_or_skipped_and_none_may_be_left(tmp_path):
    photo(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG")
    with refused(r"1 of 2 images.*bad\.png"):
        Gallery.from_folder(tmp_path, fake())
    with pytest.warns(UserWarning, match=r"bad\.png"):
        assert len(Gallery.from_folder(tmp_path, fake(), skip_broken=True)) == 1
    (tmp_path / "good.png").unlink()
    with pytest.warns(UserWarning), refused("no usable photo is left"):
        Gallery.from_folder(tmp_path, fake(), skip_broken=True)
    with refused("has no photo here"):
        Gallery.from_dataset(Dataset("toy", tmp_path, "default", ()), fake())


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
    return Gallery.from_folder(folder, fake()).save(tmp_path / "made" / "photos.index")


def test_a_saved_index_answers_as_before_embeds_nothing_anew_and_can_be_read_by_others(folder, saved, tmp_path):
    backbone, made = fake(), Gallery.from_folder(folder, fake())
    index = Gallery.load(saved, backbone)
    assert backbone.batches == [] and index.ask(sketch()) == made.ask(sketch())
    assert torch.equal(index.embeddings, made.embeddings) and index.records == made.records
    assert index.categories == made.categories and torch.equal(index.labels, made.labels)
    assert torch.equal(load_file(saved)["embeddings"], index.embeddings)
    faiss.write_index(index.faiss, str(tmp_path / "photos.faiss"))
    other = faiss.read_index(str(tmp_path / "photos.faiss"))
    assert isinstance(other, faiss.IndexFlatIP) and (other.ntotal, other.d) == (7, 3)


def test_photos_that_have_moved_are_found_again_by_their_new_root(folder, saved, tmp_path):
    folder.rename(tmp_path / "elsewhere")
    with refused("7 of the 7 photos.*pass root=", FileNotFoundError):
        Gallery.load(saved, fake())
    found = Gallery.load(saved, fake(), root=tmp_path / "elsewhere").ask(sketch(), k=7)
    assert all(path.is_relative_to(tmp_path / "elsewhere") and path.is_file() for path, _ in found)


def test_refresh_embeds_what_is_new_and_forgets_what_is_gone(folder, saved):
    (folder / "cat" / "1.png").unlink()
    photo(folder / "cow" / "0.png", 50)
    with refused(r"1 of the 7 photos .*\(cat/1\.png\).*refresh=True", FileNotFoundError):
        Gallery.load(saved, fake())
    backbone = fake()
    index = Gallery.load(saved, backbone, refresh=True)
    assert backbone.batches == [1] and len(index) == 7 and index.categories == ("cat", "cow", "dög 猫")
    anew = Gallery.from_folder(folder, fake())
    assert dict(index.ask(sketch())) == pytest.approx(dict(anew.ask(sketch())))
    again = Gallery.load(index.save(saved), fake(), refresh=True)
    assert again.records == index.records and torch.equal(again.embeddings, index.embeddings)


def test_a_trained_retriever_may_embed_and_another_one_is_refused(folder, tmp_path, tiny_backbone):
    head = saved_head(SketchRetriever, tiny_backbone, tmp_path / "heads", "retrieval")
    made = Gallery.from_folder(folder, tiny_backbone, embed=head)
    model, paths = load_head(head, tiny_backbone).model, [record.path for record in made.records]
    asked, photos = model(Frame.of(sketch()).tensor(96)[None]), model(load_images(paths, 96))
    assert dict(made.ask(sketch())) == pytest.approx(dict(zip(paths, (photos @ asked[0]).tolist(), strict=True)))
    saved = made.save(tmp_path / "photos.index")
    assert Gallery.load(saved, tiny_backbone).ask(sketch()) == made.ask(sketch())
    assert saved_head(SketchRetriever, tiny_backbone, tmp_path / "heads", "retrieval", seed=1) == head
    with refused("backbone or retrieval head than"):
        Gallery.load(saved, tiny_backbone)


def test_an_index_of_another_backbone_or_version_is_refused_and_made_anew_in_its_place(folder, saved):
    with refused("embedded by another backbone or retrieval head than fake has now: load the one"):
        Gallery.load(saved, fake("e" * 64))
    tensors, described, _ = kept.from_signed(saved, KEY)
    for version in ({"format": 1}, {}):
        saved.write_bytes(kept.signed(tensors, {"root": described["root"], **version}, KEY))
        with refused(r"was written by another version of sfhelpers: make the index anew\.$"):
            Gallery.load(saved, fake())
    photos = [[name, "\x1b[31m\n"] for name, _ in described["photos"]]
    saved.write_bytes(kept.signed(tensors, described | {"photos": photos}, KEY))
    assert Gallery.load(saved, fake()).categories == (r"\x1b[31m\n",)
    assert len(Gallery.load(Gallery.from_folder(folder, fake()).save(saved), fake())) == 7


def test_a_file_that_is_no_whole_index_is_refused(saved):
    whole = saved.read_bytes()
    damaged = [whole[:0], whole[:100], whole[:-1], whole[:-20] + b"flip" + whole[-16:], b"\x80\x04\x95pickled"]
    for content in (*damaged, *flipped(whole, 10**6)):
        saved.write_bytes(content)
        with refused("photos.index"):
            Gallery.load(saved, fake())


def crafted(tensors, told):
    """What an index that is signed as it should be may hold: where in it, by which name, and what."""
    (first, *rest), vectors = told["photos"], tensors["embeddings"]
    parts = [(told, "root"), (told, "photos"), (told, "made_by"), (told["made_by"], "embed")]
    yield from ((*part, value) for part in parts for value in WRONG)
    places = "/etc/a.png", "//etc/a.png", "../a.png", "cat/../a.png", "cat//a.png", "./a.png", "a.png/", ".", None
    photos = [[[place, "cat"], *rest] for place in places]
    photos += [rest, [rest[0], *rest], [first, *told["photos"]], [[first[0], 1], *rest]]
    yield from ((told, "photos", some) for some in photos)
    wrong = [torch.ones(shape) for shape in ((), (7,), (7, 0), (7, 1, 1), (0, 2**40), (6, 1), (8, 1))]
    wrong += [torch.eye(7).to(kind) for kind in (torch.float64, torch.int64, torch.bool)]
    wrong += [torch.cat([vectors[:6], torch.full((1, 3), value)]) for value in (nan, inf, 0.0, 1e30)]
    yield from ((tensors, "embeddings", some) for some in wrong)


@pytest.mark.parametrize("refresh", [False, True])
def test_an_index_that_says_what_cannot_be_is_refused_in_one_sentence(saved, refresh):
    tensors, told, _ = kept.from_signed(saved, KEY)
    for where, name, value in crafted(tensors, told):
        before, where[name] = where[name], value
        saved.write_bytes(kept.signed(tensors, told, KEY))
        where[name] = before
        with refused(kind=(ValueError, OSError)):
            Gallery.load(saved, fake(), refresh=refresh)
    saved.write_bytes(kept.signed({"embeddings": torch.eye(7)}, told, KEY))
    with refused("of 7 numbers and sketches of 3"):
        Gallery.load(saved, fake()).ask(sketch())


def test_only_an_index_is_replaced_by_an_index_and_only_one_that_is_there_is_read(folder):
    index, before = Gallery.from_folder(folder, fake()), (folder / "loose.png").read_bytes()
    with refused("is a file but no index: name another place", FileExistsError):
        index.save(folder / "loose.png")
    assert (folder / "loose.png").read_bytes() == before
    with refused(r"\(Is a directory\): name another file", IsADirectoryError):
        index.save(folder)
    with refused("there is no index", FileNotFoundError):
        Gallery.load(folder / "no.index", fake())


@pytest.mark.parametrize(
    "first", ["import faiss", "import sfhelpers.search.searcher, sys; assert 'faiss' not in sys.modules"]
)
def test_faiss_and_torch_live_in_one_process_whichever_comes_first(first):
    """Both bring an OpenMP runtime, which has made processes crash; who does not ask by FAISS never loads it."""
    code = f"""
{first}
import torch, faiss
rows = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
before = rows @ rows[:32].T
index = faiss.IndexFlatIP(64)
index.add(rows.numpy())
scores, _ = index.search(rows[:32].numpy(), 5)
assert torch.equal(before, rows @ rows[:32].T)
assert torch.allclose(torch.from_numpy(scores), before.T.topk(5, 1).values, atol=1e-3)
"""
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
