"""No picture that the embedded backbone is trained on is in a data set, and none shows an unseen category."""

import io

import pytest
from PIL import Image

from sfhelpers.pocket import data
from sfhelpers.toyworld import SEEN, UNSEEN, render, write_sketchy
from sfhelpers.toyworld.world import PHOTOS, SKETCHES

STARTS = (0, 600, 2_950, 11_960)  # of the runs of pictures that are looked at
COUNT = 2 * len(SEEN)  # in each of them, so that every category comes


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """All individuals of the first two seen categories and of an unseen one, as the data set has them on disk."""
    root = tmp_path_factory.mktemp("world")
    write_sketchy(root, PHOTOS, SKETCHES, categories=(*SEEN[:2], UNSEEN[0]))
    return root


def encoded(domain, starts):
    """What the files of training pictures would hold in the data set."""
    how = {"format": "PNG"} if domain == "sketch" else {"format": "JPEG", "quality": 92}
    found = []
    for image in (image for start in starts for image in data.pictures(domain, start, COUNT)[0]):
        pixels, file = image.permute(1, 2, 0).numpy(), io.BytesIO()
        Image.fromarray(pixels[..., 0] if domain == "sketch" else pixels).save(file, **how)
        found.append(file.getvalue())
    return found


@pytest.mark.parametrize("domain", ["photo", "sketch"])
def test_no_training_picture_is_in_a_data_set(world, monkeypatch, domain):
    files = [path for path in (world / "256x256" / domain).rglob("*.*g") if path.is_file()]
    written = {path.read_bytes() for path in files}
    assert len(files) == len(written) == 3 * PHOTOS * (SKETCHES if domain == "sketch" else 1)
    drawn = encoded(domain, STARTS)
    assert not set(drawn) & written and len(set(drawn)) == len(drawn) == len(STARTS) * COUNT
    monkeypatch.setattr(data, "TRAINING_SEED", 0)  # the world's own: the test would see it
    assert len(set(encoded(domain, (0,))) & written) >= 2


def test_nothing_of_an_unseen_category_is_the_subject_or_the_background_of_a_training_picture(monkeypatch):
    drawn, individual = [], render.individual
    monkeypatch.setattr(render, "individual", lambda name, rng: drawn.append(name) or individual(name, rng))
    subjects = [name for start in STARTS for name in data.pictures("photo", start, COUNT)[1]]
    assert len(drawn) > 1.2 * len(subjects) and set(drawn) <= set(SEEN) == set(subjects)  # with the bystanders
    for start in STARTS:
        assert set(data.pictures("sketch", start, COUNT)[1]) == set(SEEN)
