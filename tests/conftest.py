"""Fixtures that several test files share."""

import shutil
from dataclasses import replace

import pytest

from sfhelpers import toyworld
from sfhelpers.datasets import Dataset, sketchy
from tests.backbone_fixtures import *  # noqa: F403  all its fixtures
from tests.backbone_fixtures import photo


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """Five seen and three unseen classes of six photos with a sketch each, masks and keypoints."""
    root = tmp_path_factory.mktemp("toy")
    some = ("bus", "cat", "cup", "duck", "fish", *toyworld.UNSEEN[:3])
    toyworld.write_sketchy(root, photos=6, sketches=1, categories=some)
    return Dataset("toy", root, "default", tuple(sketchy.read(root, unseen=toyworld.UNSEEN)))


@pytest.fixture
def toy_copy(toy, tmp_path):
    root = shutil.copytree(toy.root, tmp_path / "own")
    return replace(toy, root=root, records=tuple(sketchy.read(root, toyworld.UNSEEN)))


@pytest.fixture
def own(tmp_path):
    """A folder as a user has it: two classes of three photos and two sketches."""
    for category in ("cat", "dog"):
        for place in ("photo/{}/a.jpg", "photo/{}/b.jpg", "photo/{}/c.jpg", "sketch/{}/s1.png", "sketch/{}/s2.png"):
            photo(tmp_path / "own" / place.format(category))
    return tmp_path / "own"
