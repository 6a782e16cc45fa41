"""How often search is right is counted rightly, and never without chance beside it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sfhelpers.datasets import Dataset, Record
from sfhelpers.search import check
from sfhelpers.search.gallery import Gallery
from sfhelpers.search.photos import find_images
from sfhelpers.search.searcher import Searcher
from tests.search_helpers import fake, photo, refused, sketch

RUN = SimpleNamespace(notebook="00_start_here", backbone="tiny", dataset="toy", split="default", seed=0, device="cpu")
RED, BLUE = torch.eye(3)[0], torch.eye(3)[2]
TOKENS = SimpleNamespace(extractor=SimpleNamespace(sources=("tokens",)))  # of a head, all that is asked of it here


@pytest.fixture
def known(tmp_path):
    """Asks a gallery of three red cats and one blue dog as if its sketches had these embeddings; and three sketches."""
    for name, colour, photos, sketches in (("cat", "red", 3, 1), ("dog", "blue", 1, 2)):
        for k in range(photos):
            Image.new("RGB", (20, 20), colour).save(photo(tmp_path / "photo" / name / f"{k}.png"))
        for k in range(sketches):
            sketch().save(photo(tmp_path / "sketch" / name / f"{k}.png"))
    backbone = fake()
    searcher = Searcher(
        Gallery.from_folder(tmp_path, backbone), backbone, {"fused": TOKENS, "SD+CLIP concatenated": TOKENS}
    )

    def told(*embeddings):
        given = iter(embeddings)
        searcher.gallery.embed = lambda frames: torch.stack([next(given) for _ in frames])
        return searcher

    return told, find_images(tmp_path, "sketch")


def test_right_answers_and_chance_are_counted(known):
    told, sketches = known
    checked = check.check(told(RED, RED, BLUE), sketches, batch_size=2)
    assert checked.first.tolist() == [True, False, True] == checked.category.tolist()
    assert checked.chance_first.tolist() == [0.75, 0.25, 0.25] and set(checked.chance_category) == {0.5}
    assert (checked.probability > 0.5).all()


def test_an_embedding_that_says_nothing_earns_nothing(known):
    told, sketches = known
    checked = check.check(told(*torch.zeros(3, 3)), sketches)
    assert not checked.first.any() and not checked.category.any()
    assert checked.first.dtype == checked.category.dtype == bool


def test_rows_hold_every_part_with_its_chance(known):
    told, sketches = known
    parts = {"cats": np.array([True, False, False]), "none": np.zeros(3, bool), "all": np.ones(3, bool)}
    rows = check.result_rows(RUN, check.check(told(RED, RED, RED), sketches), parts, "f" * 64, dataset="folder")
    found = {(row.metric, row.method, row.gallery): (row.value, row.n) for row in rows}
    assert found["P@1", "CLIP embedding", "cats"] == (1, 1) and found["P@1", "chance", "cats"] == (0.75, 1)
    assert found["category accuracy", "CLIP embedding", "all"] == (pytest.approx(1 / 3), 3)
    assert len(rows) == 8 and {row.dataset for row in rows} == {"folder"}


def test_a_sketch_that_cannot_be_scored_is_named(known):
    told, sketches = known
    cow = replace(sketches[0], category="cow")
    assert "no photo of 'cow'" in refused(ValueError, check.check, told(), [cow])
    assert "no sketch to ask with" in refused(ValueError, check.check, told(), [])
    Image.new("RGB", (20, 20), "white").save(sketches[0].path)
    assert "0.png cannot ask: the sketch has no line" in refused(ValueError, check.check, told(), sketches)


def test_a_match_counts_when_it_is_near_enough(searcher):
    flag = torch.from_numpy(np.asarray(sketch()) / 255).permute(2, 0, 1).float()
    ends = torch.tensor([[(20, 130), (80, 40), (20, 30), (155, 5)]]) / 160  # the last is nowhere near the ink
    images, points = torch.stack([flag, flag])[None], torch.stack([ends, ends.clone()], 1)
    visible = torch.tensor([[[True, True, False, True], [True, True, True, True]]])
    right, same = check.check_matches(searcher, images, points, visible, radius=0.15)
    assert right.tolist() == [True, True, False] and same.tolist() == [True, True, True]
    (row,) = check.match_rows(RUN, {"tokens": right}, "f" * 64)
    assert (row.metric, row.value, row.n) == ("PCK@10", pytest.approx(2 / 3), 3)
    points[:, 1] = 1 - points[:, 1]
    right, same = check.check_matches(searcher, images, points, visible, radius=0.05)
    assert not right.any() and not same.any()


def test_limit_and_seed_choose_the_sketches_that_ask(tmp_path):
    photos = [(name, f"{name}{k}") for name in ("cat", "dog") for k in range(9)]
    found = [Record(tmp_path / f"{stem}-{n}.png", "sketch", name, stem) for name, stem in photos for n in range(3)]
    dataset = Dataset("toy", tmp_path, "default", tuple(found))
    assert len(check.questions(dataset)) == 18
    few = [{record.instance for record in check.questions(dataset, 4, seed)} for seed in (0, 0, 1)]
    assert len(few[0]) == 8 and few[0] == few[1] != few[2]
