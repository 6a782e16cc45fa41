"""No picture that the embedded backbone is trained on is in a data set, and none shows an unseen category."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from sfhelpers.pocket import data
from sfhelpers.toyworld import CATEGORIES, SEEN, UNSEEN, render, write_sketchy
from sfhelpers.toyworld.world import PHOTOS, SKETCHES

STARTS = (0, 600, 2_950, 11_960)  # of the runs of pictures that are looked at
COUNT = 2 * len(SEEN)  # in each of them, so that every category comes


def hashes(pictures):
    return {hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest() for pixels in pictures}


def training(domain, starts=STARTS):
    """Pixels of training pictures, (160, 160, 3) uint8 each."""
    return [image.permute(1, 2, 0).numpy() for start in starts for image in data.pictures(domain, start, COUNT)[0]]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """All individuals of the first two seen categories and of an unseen one, as the data set has them on disk."""
    root = tmp_path_factory.mktemp("world")
    write_sketchy(root, PHOTOS, SKETCHES, categories=(*SEEN[:2], UNSEEN[0]))
    return root


def encoded(pictures, suffix, folder):
    """sha256 of the files that the pictures would be in the data set."""
    found = set()
    for pixels in pictures:
        path = folder / f"picture{suffix}"
        Image.fromarray(pixels).save(path, **({"quality": 92} if suffix == ".jpg" else {}))
        found.add(hashlib.sha256(path.read_bytes()).hexdigest())
    return found


@pytest.mark.parametrize(("domain", "suffix"), [("photo", ".jpg"), ("sketch", ".png")])
def test_no_training_picture_is_in_a_data_set(world, tmp_path, monkeypatch, domain, suffix):
    files = sorted((world / "256x256" / domain).rglob(f"*{suffix}"))
    written = {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    pixels = hashes(np.asarray(Image.open(path).convert("RGB")) for path in files)
    assert len(files) == len(written) == 3 * PHOTOS * (SKETCHES if domain == "sketch" else 1)

    def shared(pictures):
        as_saved = [picture[..., 0] if domain == "sketch" else picture for picture in pictures]
        return len(encoded(as_saved, suffix, tmp_path) & written) + len(hashes(pictures) & pixels)

    drawn = training(domain)
    assert shared(drawn) == 0 and len(hashes(drawn)) == len(STARTS) * COUNT
    monkeypatch.setattr(data, "TRAINING_SEED", 0)  # the world's own: the test would see it
    assert shared(training(domain, starts=(0,))) >= 4


def test_no_unseen_category_is_the_subject_of_a_training_picture():
    for domain in ("photo", "sketch"):
        for start in STARTS:
            assert set(data.pictures(domain, start, COUNT)[1]) == set(SEEN)


def test_nothing_of_an_unseen_category_stands_in_the_background_of_a_training_photo(monkeypatch):
    drawn = []

    class Noted(dict):
        def __getitem__(self, name):
            drawn.append(name)
            return super().__getitem__(name)

    monkeypatch.setattr(render, "CATEGORIES", Noted(CATEGORIES))
    subjects = [name for start in STARTS for name in data.pictures("photo", start, COUNT)[1]]
    assert set(drawn) <= set(SEEN)
    # Each drawing is looked up for its shape and for its colours: with bystanders that is more than twice a photo.
    assert len(drawn) > 2.5 * len(subjects)
