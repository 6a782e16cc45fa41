"""Photos, a sketch, a backbone that only embeds, and a small gallery that can be asked, for the tests of search."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch.nn.functional as F
from PIL import Image, ImageDraw

from sfhelpers.search.gallery import Gallery
from sfhelpers.search.searcher import Searcher
from sfhelpers.tasks.arms import arm_of
from sfhelpers.tasks.compare import Trial
from sfhelpers.tasks.heads import save_heads
from tests.backbone_fixtures import untrained_head

RUN = SimpleNamespace(notebook="00_any", backbone="tiny", dataset="folder", split="parts", device="cpu", limit=4)
RUN.seed, RUN.epochs, RUN.learning_rate, RUN.batch_size = 0, 1, 2e-3, 8


def photo(path, seed=0, size=(40, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(path)
    return path


def sketch(scale=1.0, corner=(20, 30), side=160):
    """A flag on a pole: no symmetry."""
    image = Image.new("RGB", (side, side), "white")
    lines = np.array([(0, 100), (0, 0), (60, 10), (50, 40), (0, 40)]) * scale + corner
    ImageDraw.Draw(image).line([tuple(point) for point in lines], fill=(25, 25, 25), width=3)
    return image


def fake(sha256="f" * 64):
    """A backbone whose embedding is the mean colour; it notes how many photos it got at a time."""
    batches = []

    def embed(images):
        batches.append(len(images))
        return F.normalize(images.mean((2, 3)) + 1e-3, dim=1)

    parts = {"vision": SimpleNamespace(size=16, embed=embed), "diffusion": SimpleNamespace(size=16)}
    return SimpleNamespace(**parts, weights_sha256=sha256, name="fake", batches=batches)


def saved_head(kind, backbone, folder, task, seed=0):
    """The file of an untrained model of this class."""
    model = kind(arm_of("fused", backbone, seed).extractor())
    return save_heads(RUN, [Trial("fused", 0, model=model)], backbone.weights_sha256, folder, task)[0]


@pytest.fixture(scope="module")
def heads(tiny_backbone):
    """Untrained heads of the two arms that search needs."""
    return {method: untrained_head(method, tiny_backbone) for method in ("fused", "SD+CLIP concatenated")}


@pytest.fixture(scope="module")
def gallery(tiny_backbone, tmp_path_factory):
    """Three cats and two dogs, one of them wide."""
    root = tmp_path_factory.mktemp("gallery")
    for k in range(3):
        photo(root / "photo" / "cat" / f"{k}.png", k)
    photo(root / "photo" / "dog" / "0.png", 10, size=(80, 40))
    photo(root / "photo" / "dog" / "1.png", 11)
    return Gallery.from_folder(root, tiny_backbone)


@pytest.fixture(scope="module")
def searcher(gallery, tiny_backbone, heads):
    """Asks that gallery."""
    return Searcher(gallery, tiny_backbone, heads)
