"""The four scenarios of zero-shot retrieval: which images teach and are asked for, by rule, and who audits it."""

import re
from dataclasses import replace
from itertools import product

import pytest
import torch

from sfhelpers.datasets import Dataset, Record, published, scenarios
from sfhelpers.datasets.scenarios import SCENARIOS, audit, cross_dataset, scenario
from sfhelpers.params import table
from tests.backbone_fixtures import refused

LISTS = {  # what is tested -> of which classes
    "sketchy_test21": "sketchy_all125", "sketchy_test25": "sketchy_all125", "tuberlin_test30": "tuberlin_all250",
    "tuberlin_sempcyc_test30": "tuberlin_all250", "quickdraw_test30": "quickdraw_ext_all110",
}  # fmt: skip


def crowd(folder, seen=8, parts=("train", "train", "train", "test"), unseen=2, named="c", start=0):
    """A data set of files that are no images: a photo of every part a class, with two sketches each."""
    records = []
    for domain, k, (i, part) in product(("photo", "sketch"), range(start, start + seen + unseen), enumerate(parts)):
        for n in range(1 + (domain == "sketch")):
            path = folder / f"{named}-{domain}-{k}-{i}-{n}"
            path.write_text(path.name)
            records.append(Record(path, domain, f"{named}{k}", f"i{i}", part=part, seen=k < start + seen))
    return Dataset(named, folder, "default", tuple(records))


def renamed(dataset, **names):
    """The data set with some classes called otherwise."""
    return replace(
        dataset, records=tuple(replace(r, category=names.get(r.category, r.category)) for r in dataset.records)
    )


def drawn(dataset, problem, epochs):
    """Records of sketch, photo, wrong photo and wrong sketch, of some epochs."""
    number = len(problem.train)
    found = torch.cat([problem.train.draw(torch.arange(number) + k * number, 0) for k in range(epochs)]).tolist()
    sides = dataset.sketches, dataset.photos, dataset.photos, dataset.sketches
    return [[side[k] for side, k in zip(sides, one, strict=True)] for one in found]


def test_a_step_has_every_category_as_often_and_wrong_ones_that_are_wrong(tmp_path):
    plain = crowd(tmp_path)
    also = {"c0": "c1", "c1": "c2", "c2": "c0"}  # what every second photo of them shows as well
    crowded = [
        replace(r, also=((also[r.category], r.path),)) if r.category in also and r.instance == "i1" else r
        for r in plain.photos
    ]
    dataset, problem = scenario("cgsbir", [replace(plain, records=(*crowded, *plain.sketches))])
    found = drawn(dataset, problem, 20)
    times = [sum(sketch.category == name for sketch, *_ in found) for name in problem.split.train]
    assert max(times) - min(times) <= 20 and len(found) == 20 * len(problem.train)
    for sketch, photo, wrong, wrong_sketch in found:
        assert sketch.category == photo.category != wrong.category == wrong_sketch.category
        assert sketch.category not in wrong.things and {r.part for r in (sketch, photo, wrong)} == {"train"}
    assert len({photo.path for _, photo, *_ in found}) == 3 * len(problem.split.train), "in time, all"
    first, again, other = (problem.train.draw(torch.arange(9), seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_coarse_and_generalised_test_classes_are_not_trained_on_but_as_published_they_are(tmp_path):
    data = [crowd(tmp_path)]
    dataset, problem = scenario("gzs", data)
    found = audit(dataset, problem)
    assert found.tested == ("c8", "c9") and found.both == ()
    assert set(found.trained) ^ set(found.chosen) == {f"c{k}" for k in range(8)}
    assert list(problem.tests) == ["zero-shot", "class", "sample", "trained"]
    for test, parts in (("class", {"test"}), ("sample", {"test"}), ("trained", {"train", "test"})):
        queries, gallery = problem.tests[test]
        known = {problem.sketches[k].category for k in queries} - {"c8", "c9"}
        assert known and audit(dataset, problem, test).both == tuple(sorted(known))
        assert {problem.photos[k].part for k in gallery if problem.photos[k].category in known} == parts
    assert list(scenario("cgsbir", data)[1].tests) == ["zero-shot"]
    given = audit(*scenario("cgsbir", data, ("c1", "c2")))
    assert given.tested == ("c1", "c2") and given.both == ()


def test_across_data_sets_a_class_trained_on_under_any_spelling_is_not_tested(tmp_path):
    source = crowd(tmp_path)
    beside = replace(source.photos[0], also=(("NEW", source.photos[0].path),))  # c0 beside a class that is tested
    source = replace(source, records=(beside, *source.records[1:]))
    target = renamed(crowd(tmp_path, named="d", unseen=3), d8="C 1", d9="new", d10="newer")
    dataset, problem = scenario("cdsbir", [source, target])
    found = audit(dataset, problem)
    assert found.tested == ("new", "newer") and found.both == () and dataset.name == "c to d"
    used = {dataset.photos[k].path for k in problem.train.used[1].tolist()}
    assert beside.path not in used and {path.name[0] for path in used} == {"c"}
    assert {photo.path.name[0] for photo in problem.photos} == {"d"}
    with refused("2 of 2 test classes are trained on .C 1, c2."):
        scenario("cdsbir", [source, renamed(target, d0="c2")], ("c2", "C 1"))


def test_fine_grained_individuals_are_apart_and_the_wrong_ones_are_of_the_same_class(tmp_path):
    parts = ("train",) * 3 + ("val",) * 2 + ("test",) * 2
    dataset, problem = scenario("fgsbir", [crowd(tmp_path, 2, parts, 0)])
    assert problem.level == "instance" and audit(dataset, problem).both == ("c0", "c1")
    for sketch, photo, wrong, wrong_sketch in drawn(dataset, problem, 5):
        assert sketch.category == wrong.category and sketch.instance == photo.instance
        assert wrong.instance == wrong_sketch.instance != photo.instance and photo.part == wrong.part == "train"
    assert {photo.part for photo in problem.photos} == {"test"}
    assert {dataset.photos[k].part for k in problem.validation[1].tolist()} == {"val"}


def test_the_rule_compares_names_as_the_published_lists_spell_them():
    trained = ("mouse (animal)", "hot-air_balloon", "rooster", "horse")
    assert cross_dataset(trained, ("mouse", "Hot air balloon", "chicken", "windmill")) == ("chicken", "windmill")
    with refused("2 of 3 test classes are trained on .horse, mouse."):
        scenarios.check_untrained(trained, ("horse", "mouse", "bus"))


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """Data sets by published list, of its real class names: the tested ones are unseen, all others seen."""
    found = {}
    for split, whole in LISTS.items():
        tested = published.classes(split)
        learned = [name for name in published.classes(whole) if name not in tested]
        made = crowd(tmp_path_factory.mktemp("list"), len(learned), ("train", "test"), len(tested), f"{split} ")
        found[split] = renamed(made, **{f"{split} {k}": name for k, name in enumerate((*learned, *tested))})
    return found


@pytest.mark.parametrize(
    ("source", "target", "found"),
    [
        ("sketchy_test25", "tuberlin_test30", "cds_zse_S2T21"),  # the published counts
        ("sketchy_test25", "quickdraw_test30", "cds_zse_S2Q11"),
        ("tuberlin_test30", "sketchy_test25", "cds_zse_T2S8"),
        ("tuberlin_test30", "quickdraw_test30", "cds_zse_T2Q10"),
        ("sketchy_test21", "tuberlin_test30", "cds_strict_sk104_S2T20"),  # what is left of lists in use since
        ("sketchy_test21", "tuberlin_sempcyc_test30", "cds_strict_sk104_S2Tsempcyc18"),
        ("sketchy_test21", "quickdraw_test30", "cds_strict_sk104_S2Q22"),
        ("tuberlin_sempcyc_test30", "sketchy_test21", "cds_strict_sempcyc_T2S10"),
    ],
)
def test_on_the_published_lists_the_cross_dataset_rule_gives_the_published_lists(listed, source, target, found):
    audited = audit(*scenario("cdsbir", [listed[source], listed[target]]))
    assert audited.tested == tuple(sorted(published.classes(found))) and audited.both == ()
    assert len(audited.tested) == int(re.search(r"\d+$", found)[0])
    assert {*audited.trained, *audited.chosen} == set(listed[source].categories) - set(published.classes(source))


def test_the_published_cross_dataset_classes_are_refused_where_one_of_them_is_trained_on(listed):
    with refused("1 of 21 test classes are trained on .horse."):
        scenario("cdsbir", [listed["sketchy_test21"], listed["tuberlin_test30"]], published.classes("cds_zse_S2T21"))


@pytest.mark.parametrize(("split", "learned", "added"), [("sketchy_test21", 104, 21), ("tuberlin_test30", 220, 44)])
def test_on_the_published_lists_new_classes_are_new_and_a_fifth_of_the_old_is_added(listed, split, learned, added):
    tested = set(published.classes(split))
    for name in ("cgsbir", "gzs"):
        dataset, problem = scenario(name, [listed[split]])
        found = audit(dataset, problem)
        assert set(found.tested) == tested and found.both == ()
        assert len({*found.trained, *found.chosen}) == len(found.trained) + len(found.chosen) == learned
    for test in ("class", "trained"):
        found = audit(dataset, problem, test)
        assert len(found.both) == added and set(found.tested) == {*found.both, *tested}
    known = [problem.photos[k].seen for k in problem.tests["sample"][1]]
    assert sum(known) == round(0.2 * known.count(False)) and known.count(False) == 2 * len(found.tested) - 2 * added


@pytest.mark.parametrize(
    ("words", "make"),
    [
        ("no scenario 'gzz': choose one of cgsbir, fgsbir, cdsbir, gzs", lambda at: scenario("gzz", [])),
        ("'cdsbir' got 1 data sets: give 2", lambda at: scenario("cdsbir", [crowd(at)])),
        ("'fgsbir' holds back individuals and no class", lambda at: scenario("fgsbir", [crowd(at)], ("c0",))),
        (
            "2 of 2 test classes are trained on .c0, c1.",
            lambda at: scenario("cdsbir", [crowd(at), renamed(crowd(at, named="d"), d8="c1", d9="c0")]),
        ),
        ("has no class that its backbone never saw", lambda at: scenario("gzs", [crowd(at, unseen=0)])),
        ("has 1 train photos", lambda at: scenario("fgsbir", [crowd(at, 1, ("train", "val", "val", "test"), 0)])),
        (
            "'c0' has one photo, and a wrong one of the same class",
            lambda at: scenario("fgsbir", [crowd(at, 2, ("train", "val", "test"), 0)]),
        ),
    ],
)
def test_what_cannot_be_split_is_refused_in_one_sentence(tmp_path, words, make):
    with refused(words):
        make(tmp_path)


def test_a_photo_that_shows_everything_is_no_negative(tmp_path):
    plain = crowd(tmp_path)
    every = tuple((f"c{k}", tmp_path) for k in range(8))
    everything = [replace(r, also=tuple(e for e in every if e[0] != r.category)) for r in plain.photos]
    with refused("every training photo shows 'c"):
        scenario("cgsbir", [replace(plain, records=(*everything, *plain.sketches))])


def test_the_scenarios_are_those_of_the_parameter():
    assert tuple(SCENARIOS) == table.SCENARIOS
