"""The toy world: deterministic, exact, varied, written in layouts that real adapters read, nothing of it trained on."""

import inspect
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sfhelpers.pocket import data
from sfhelpers.toyworld import CATEGORIES, SEEN, UNSEEN, render_scene, render_sketch, scenes, shapes, world
from sfhelpers.toyworld.categories import USUAL, individual
from tests.backbone_fixtures import files, refused


def drawn(category, index, seed):
    """The bytes of a photo, its things' masks and keypoints, and of a sketch."""
    photo, things = render_scene(category, index, seed, 0.5)
    arrays = [photo, render_sketch(category, index, 1, seed, 0.5)[0]]
    arrays += [array for thing in things for array in (thing.mask, thing.keypoints)]
    return b"".join(array.tobytes() for array in arrays)


def test_a_fresh_process_draws_the_same_individual_and_index_and_seed_change_it():
    assert len(CATEGORIES) == 36 and len(SEEN) == 27 and set(SEEN).isdisjoint(UNSEEN)
    code = f"import sys\nfrom sfhelpers.toyworld import render_scene, render_sketch\n{inspect.getsource(drawn)}"
    code += "sys.stdout.buffer.write(drawn('giraffe', 5, 3))"
    env = {**os.environ, "PYTHONHASHSEED": "123"}
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, env=env).stdout == drawn("giraffe", 5, 3)
    assert len({drawn("cup", 0, 0), drawn("cup", 1, 0), drawn("cup", 0, 1)}) == 3


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_category_has_a_mask_ink_and_eight_keypoints_on_the_object(category):
    on_object = []
    for index in range(4):
        photo, (thing,) = render_scene(category, index, 0, 0.0, things=1)  # nothing hides anything
        mask, keypoints = thing.mask, thing.keypoints
        sketch, sketched = render_sketch(category, index, 0, 0, 0.0)
        assert photo.shape == (160, 160, 3) and photo.dtype == np.uint8
        assert 0.01 < mask.mean() < 0.7 and 0.005 < (sketch < 128).mean() < 0.3
        assert keypoints.shape == sketched.shape == (8, 3)
        columns, rows = keypoints[keypoints[:, 2] == 1, :2].round().astype(int).T
        near = np.pad(mask, 4)
        on_object += [near[r : r + 9, c : c + 9].any() for r, c in zip(rows, columns, strict=True)]
    assert np.mean(on_object) > 0.9, "named points lie on the object or within 4 px of it"


def test_sides_of_a_symmetric_drawing_are_named_as_the_picture_shows_them():
    for category, index in itertools.product(CATEGORIES, range(12)):
        drawing = individual(category, shapes.stream("shape", 0, category, index))
        assert drawing.symmetric == (category in ("bottle", "butterfly", "guitar", "lamp", "wine_glass"))
        here, there = (drawing.placed(shapes.Pose(0.8, 0.1, (0.0, 0.0), mirror)) for mirror in (False, True))
        assert (here == there).all() == drawing.symmetric


def test_a_sketch_faces_the_way_its_photo_does_and_in_a_harder_world_not_always():
    turned = {}
    for difficulty in (0.0, 1.0):
        found = []
        for who in itertools.product(("cat", "duck", "car", "cup"), range(60)):  # things with a front and a back
            _, (asked, *_) = render_scene(*who, 0, difficulty, who[1] % 5)
            points = asked.keypoints, render_sketch(*who, 0, 0, difficulty, who[1] % 5)[1]
            here, there = (xy - xy.mean(0) for xy in (some[:, :2] for some in points))
            found.append(np.linalg.det(np.linalg.lstsq(here, there, rcond=None)[0]) < 0)  # a mirror image
        turned[difficulty] = np.mean(found)
    assert turned[0.0] == 0 and 0.14 < turned[1.0] < 0.26, "TURNED_ROUND, within three standard errors of 240 draws"
    facing = [scenes.mirrored("cat", k, 0, 0.5, 0) for k in range(100)]
    assert 0.35 < np.mean(facing) < 0.65, "photos face both ways"


def test_difficulty_forgets_strokes_adds_clutter_and_takes_other_colours():
    def ink_edges_and_usual(difficulty):
        drawn = [render_scene(category, 0, 0, difficulty) for category in CATEGORIES]
        photos = np.stack([photo for photo, _ in drawn]).astype(float).mean(-1)
        ground = ~np.stack([np.any([thing.mask for thing in things], axis=0) for _, things in drawn])
        steps = np.abs(np.diff(photos, axis=2)) > 25
        ink = np.mean([(render_sketch(c, 0, 0, 0, difficulty)[0] < 128).mean() for c in CATEGORIES])
        usual = [thing.colour == USUAL[thing.category].split()[0] for _, things in drawn for thing in things]
        return ink, steps[ground[..., 1:] & ground[..., :-1]].mean(), np.mean(usual)

    (ink, edges, usual), (hard_ink, hard_edges, hard_usual) = map(ink_edges_and_usual, (0.0, 1.0))
    assert hard_ink < ink and hard_edges > 1.3 * edges and hard_usual < 0.6 < usual == 1


@pytest.mark.parametrize("difficulty", [0.0, 0.5, 1.0])
def test_a_photo_shows_two_to_four_things_of_comparable_size_with_exact_masks_and_points(difficulty):
    numbers, ratios, shares = set(), [], []
    for category, index in itertools.product(CATEGORIES, range(3)):
        *_, placed = scenes._planned(category, index, 1, difficulty, 0)
        wholes = {thing.category: np.asarray(thing.stencil.reduce(scenes.FINE)) > 127 for thing in placed}
        _, things = render_scene(category, index, 1, difficulty)
        numbers.add(len(things))
        assert things[0].category == category and len(wholes) == len(things)
        assert category in UNSEEN or set(wholes) <= set(SEEN), "what a model learns from shows nothing unseen"
        assert np.sum([thing.mask for thing in things], axis=0).max() == 1, "no pixel is of two things"
        areas = [int(thing.mask.sum()) for thing in things]
        ratios.append(max(areas) / min(areas))
        for thing in things:
            whole, at = wholes[thing.category], thing.keypoints[:, :2].round().astype(int)
            assert not (thing.mask & ~whole).any()
            shares.append(thing.mask.sum() / whole.sum())
            inside = ((at >= 0) & (at < shapes.SIZE)).all(1)
            assert not thing.keypoints[~inside, 2].any()
            at, told = tuple(at[inside].T[::-1]), thing.keypoints[inside, 2]
            assert (told == thing.mask[at])[whole[at]].all(), "a point on the thing is seen where the thing is"
    assert numbers == {2, 3, 4} and min(shares) >= scenes.VISIBLE
    assert np.mean(np.array(ratios) < 8) > 0.9


def test_as_many_things_as_asked_for_and_one_sentence_where_there_is_no_room_or_no_such_difficulty(tmp_path):
    assert [len(render_scene("key", 0, 0, 0.5, things)[1]) for things in range(1, 5)] == [1, 2, 3, 4]
    for options, said in (
        *(({"things": number}, f"a photo has no room for {number} things: ask for 1 to 4") for number in (5, -1, 2.5)),
        *(({"difficulty": level}, f"the difficulty is {level}: give a number") for level in (-0.1, 1.01, np.nan)),
    ):
        for write in (world.write_sketchy, world.write_folder):
            with refused(said):
                write(tmp_path / "new", photos=1, sketches=1, categories=("key",), **options)
        with refused(said):
            render_sketch("key", 0, 0, 0, **{"difficulty": 0.5, **options})
    assert not list(tmp_path.iterdir())


def test_layouts_name_sketches_by_their_photo_with_masks_or_without(tmp_path):
    world.write_sketchy(tmp_path / "a", photos=1, sketches=2, categories=("key",), things=1)
    ends = (("photo", ".jpg"), ("mask", ".png"), ("sketch", "-1.png"), ("sketch", "-2.png"))
    pictures = {f"256x256/{kind}/tx_000100000000/key/n00000023_0{end}" for kind, end in ends}
    assert files(tmp_path / "a").keys() == {"test_pairs_ps.csv", *pictures}
    assert {Image.open(tmp_path / "a" / path).size for path in pictures} == {(160, 160)}
    world.write_folder(tmp_path / "b", photos=1, sketches=1, categories=("cat",), masks=False)
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"photo", "sketch"}
    world.write_folder(tmp_path / "c", photos=1, sketches=1, categories=("cat",), things=3)
    for thing in render_scene("cat", 0, 0, world.DIFFICULTY, 3)[1]:
        with Image.open(tmp_path / "c" / "mask" / thing.category / "n00000008_0.png") as image:
            assert (np.asarray(image) == thing.mask).all()
    assert [path.name for path in (tmp_path / "c" / "photo").iterdir()] == ["cat"]


STARTS, COUNT = (0, 600, 11_960), 2 * len(SEEN)  # of the runs of training pictures that are looked at: all categories


def test_no_training_picture_is_in_a_data_set_or_shows_anything_of_an_unseen_category(tmp_path, monkeypatch):
    def learned(kind, start):
        pictures, _, things = data.pictures(kind, start, COUNT)
        assert {subject for subject, *_ in things} == set(SEEN)
        return [(p[0] if kind == "sketch" else p.permute(1, 2, 0)).numpy().tobytes() for p in pictures]

    shown, make, written = [], scenes.individual, {"photo": [], "mask": [], "sketch": []}
    monkeypatch.setattr(world, "save", lambda pixels, path: written[path.parts[-4]].append(pixels.tobytes()))
    world.write_sketchy(tmp_path, categories=(*SEEN[:2], UNSEEN[0]))  # all individuals
    monkeypatch.setattr(scenes, "individual", lambda name, rng: shown.append(name) or make(name, rng))
    for domain, kind, of_each in (("photo", "scene", 1), ("sketch", "sketch", world.SKETCHES)):
        assert len(set(written[domain])) == len(written[domain]) == 3 * world.PHOTOS * of_each
        found = [picture for start in STARTS for picture in learned(kind, start)]
        assert not set(found) & set(written[domain]) and len(set(found)) == len(found) == len(STARTS) * COUNT
        if domain == "photo":  # with all that stands beside
            assert len(shown) > 2 * len(found) and set(shown) == set(SEEN)
        with monkeypatch.context() as patch:
            patch.setattr(data, "TRAINING_SEED", 0)  # the world's own: the test would see it
            assert len(set(learned(kind, 0)) & set(written[domain])) >= 2
