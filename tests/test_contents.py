"""What image files hold decides what is apart, and which training may go on."""

import shutil
from dataclasses import replace

import pytest
from PIL import Image, ImageOps

from sfhelpers import toyworld
from sfhelpers.datasets import Dataset, psc6k, sketchy
from sfhelpers.datasets.quickdraw import Doodle
from sfhelpers.datasets.records import fingerprint
from sfhelpers.datasets.sketches import Sketches
from sfhelpers.tasks.compare import compare
from sfhelpers.tasks.correspondence import Correspondence
from sfhelpers.tasks.recognition import Recognition
from sfhelpers.tasks.retrieval import Retrieval
from sfhelpers.tasks.segmentation import Segmentation
from tests.backbone_fixtures import refused

CATEGORIES = ("bus", "cat", "cup", "duck", "fish", *toyworld.UNSEEN[:3])
TASKS = {
    "correspondence": lambda world: Correspondence(psc6k.load(world), 1, 2e-3, 8),
    "segmentation": lambda world: Segmentation(world, 1, 2e-3, 8),
    "retrieval": lambda world: Retrieval(world, 1, 2e-3, 8, ("strict",)),
    "recognition": lambda world: Recognition(few_sketches(world), 1, 2e-3, 8, shots=0),
}


def few_sketches(world):
    """Of two categories, for training, validation and test."""
    return Sketches("folder", world.root, "default", world.select(categories=("bus", "cat")).sketches)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    toyworld.write_sketchy(root, photos=6, sketches=1, categories=CATEGORIES)
    return root


@pytest.fixture
def own(world, tmp_path):
    """A copy of the world that may be changed."""
    return read(shutil.copytree(world, tmp_path / "own"))


def read(root):
    return Dataset("toy", root, "default", tuple(sketchy.read(root, unseen=toyworld.UNSEEN)))


def mirror(path):
    """Another image under the same name."""
    with Image.open(path) as image:
        ImageOps.mirror(image.convert("RGB")).save(path)


@pytest.mark.parametrize("task", TASKS)
def test_a_training_does_not_go_on_with_other_images_under_the_same_names(task, tiny_backbone, own, tmp_path):
    def train():
        settings = {"log": lambda line: None, "checkpoints": tmp_path / "kept"}
        return compare(tiny_backbone, TASKS[task](own), ("CLIP only",), **settings)[0][0]

    first = train().history
    assert train().history.seconds == first.seconds  # taken up as it was
    mirror(next(s for s in own.sketches if s.part == "train" and s.seen).path)
    with refused(r"is of another training \(configuration images was"):
        train()


def test_the_fingerprint_feels_contents_masks_parts_keypoints_and_keys_but_not_the_folder(own, world, tmp_path):
    was = fingerprint(own.records)
    assert was == fingerprint(read(shutil.copytree(world, tmp_path / "elsewhere")).records)
    assert fingerprint([replace(own.records[0], part="new"), *own.records[1:]]) != was
    assert fingerprint(own.records[1:]) != was != fingerprint(own.records, [b"more"])
    masked = next(record for record in own.records if record.mask)
    mirror(masked.mask)
    assert fingerprint(own.records) != was
    annotated = psc6k.load(own)
    moved = replace(annotated.pairs[0], sketch_points=annotated.pairs[0].sketch_points + 1)
    assert replace(annotated, pairs=(moved, *annotated.pairs[1:])).fingerprint() != annotated.fingerprint()
    drawing = Doodle(own.root / "cat.ndjson", "sketch", "cat", "123", line=1, length=10)
    assert fingerprint([drawing]) != fingerprint([replace(drawing, instance="124")])
    odd = own.records[0].path.with_name("caf\udce9.jpg")  # no UTF-8
    shutil.copy(own.records[0].path, odd)
    assert fingerprint([replace(own.records[0], path=odd)]) != fingerprint([own.records[0]])
