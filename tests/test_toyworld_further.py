"""The toy world's two further data sets: another style, many individuals, and the first world as it was."""

import subprocess
import sys
from collections import Counter
from inspect import getsource
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfhelpers import toyworld
from sfhelpers.datasets import SPLITS, load_dataset
from sfhelpers.datasets.records import part_of
from sfhelpers.datasets.scenarios import SCENARIOS, audit, scenario
from sfhelpers.toyworld.further import FURTHER, NEW, render_further, write_further
from sfhelpers.toyworld.quick import quick_drawing
from tests.backbone_fixtures import refused

SETS = pytest.mark.parametrize("name", FURTHER)
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def drawn(name, category, index):
    """The bytes of a photo, its mask and its sketches."""
    photo, mask, sketches = render_further(name, category, index)
    return b"".join(array.tobytes() for array in (photo, mask, *sketches))


@pytest.fixture
def few(tmp_path, monkeypatch):
    """Loads a data set of which some photos are drawn."""

    def load(name, photos, categories=()):
        write_further(tmp_path / name, name, photos, categories)
        return load_dataset(name)

    monkeypatch.setattr(toyworld, "ensure_further", lambda name: tmp_path / name)
    return load


@SETS
def test_a_fresh_process_draws_the_same_and_every_individual_is_another(name):
    code = f"import sys\nfrom sfhelpers.toyworld.further import render_further\n{getsource(drawn)}"
    code += f"sys.stdout.buffer.write(drawn('{name}', 'shoe', 5))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).stdout == drawn(name, "shoe", 5)
    assert len({drawn(some, category, k) for some, category, k in product(FURTHER, ("chair", "shoe"), range(4))}) == 16


@SETS
def test_one_thing_is_alone_and_large_in_its_photo(name):
    for category in FURTHER[name].categories:
        photo, mask, sketches = render_further(name, category, 0)
        assert photo.shape == (160, 160, 3) and max(np.ptp(np.nonzero(mask), axis=1)) > 0.7 * 160
        assert len(sketches) == FURTHER[name].sketches and all(0.005 < (s < 128).mean() < 0.4 for s in sketches)


def test_the_first_world_is_drawn_as_the_shipped_weights_learned_it():
    """Means of a photo, a sketch and a quick drawing, since processors differ in the last bit of a sine."""
    for category, *means in (("cat", 143.26, 242.57, 779.53), ("giraffe", 131.45, 246.11, 1372.79)):
        photo, _ = toyworld.render_scene(category, 3, 0, 0.5)
        sketch, _ = toyworld.render_sketch(category, 3, 1, 0, 0.5)
        found = photo.mean(), sketch.mean(), np.concatenate(quick_drawing(category, 3, 0)).mean()
        assert found == pytest.approx(tuple(means), abs=0.05)


@pytest.mark.parametrize("category", FURTHER["toy-instances"].categories)
def test_a_second_sketch_is_most_like_the_first_of_the_same_chair_or_shoe(category):
    def looks(sketch):
        rows, columns = np.nonzero(sketch < 128)
        box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        ink = Image.fromarray(255 - sketch).crop(box).resize((20, 20), Image.Resampling.BOX)
        return np.append(np.asarray(ink) / np.linalg.norm(ink), 0.5 * np.log((box[2] - box[0]) / (box[3] - box[1])))

    tested = [k for k in range(FURTHER["toy-instances"].photos) if part_of(category, f"{category}_{k:03d}") == "test"]
    sketches = [render_further("toy-instances", category, k)[2] for k in tested]
    first, second = (np.stack([looks(some[n]) for some in sketches]) for n in (0, 1))
    nearest = ((first[:, None] - second) ** 2).sum(2).argmin(0)
    assert np.mean(nearest == np.arange(len(tested))) > 0.5, "by plain comparison of ink; by chance 0.05"


def test_individuals_of_both_categories_are_parted_and_shoes_are_unseen(few):
    dataset, problem = scenario("fgsbir", [few("toy-instances", 16)])
    assert {(record.category, record.seen) for record in dataset.records} == {("chair", True), ("shoe", False)}
    assert len(dataset.photos) == 32 and len(dataset.sketches) == 96 and all(photo.mask for photo in dataset.photos)
    parts = {(photo.category, photo.instance): photo.part for photo in dataset.photos}
    assert all(parts[sketch.category, sketch.instance] == sketch.part for sketch in dataset.sketches)
    assert audit(dataset, problem).tested == ("chair", "shoe")


def test_there_are_individuals_enough_and_the_readme_counts_them():
    about, other = FURTHER["toy-instances"], FURTHER["toy-restyled"]
    both = Counter()
    for category in about.categories:
        parts = Counter(part_of(category, f"{category}_{k:03d}") for k in range(about.photos))
        assert parts["train"] >= 40 and parts["test"] >= 20
        both += parts
    assert "({train} train, {val} val, {test} test)".format(**both) in README
    assert f"{about.photos} chairs and {about.photos} shoes" in README
    assert f"{other.photos * len(other.categories)} faded, soft photos" in README


def test_across_data_sets_what_no_model_saw_is_tested(few, toy):
    target = few("toy-restyled", 2, ("apple", "cup", "key", "giraffe", *NEW))
    dataset, problem = scenario("cdsbir", [toy, target])
    found = audit(dataset, problem)
    assert found.tested == tuple(sorted(("giraffe", *NEW))) and found.both == ()
    assert {name for names in SCENARIOS.values() for name in names} <= SPLITS.keys()


@SETS
def test_what_is_wrong_is_said_in_one_sentence(few, tmp_path, name):
    with refused(f"dataset '{name}' takes no data_root"):
        load_dataset(name, tmp_path)
    with refused(f"there is no dataset '{name}s': choose one of toy, toy-restyled, toy-instances, sketchy, "):
        load_dataset(name + "s")
    few(name, 1, ("shoe",))
    next(tmp_path.rglob("*.jpg")).write_bytes(b"")
    with refused("delete this folder, so that the toy world is drawn anew"):
        load_dataset(name)
