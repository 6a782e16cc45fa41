"""What is kept of a run: rows, told by both tests, and trained models; one sentence for what does not belong."""

import json
import re
from dataclasses import asdict, replace
from importlib import import_module
from math import nan
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from sfhelpers import kept, results
from sfhelpers.backbones import load_backbone, randomised
from sfhelpers.backbones.presets import POCKET_FOLDER
from sfhelpers.fusion import ARMS
from sfhelpers.tasks import heads
from sfhelpers.tasks.arms import arm_of
from sfhelpers.tasks.compare import Trial
from sfhelpers.tasks.segmentation import MEAN_MASK, Masks
from tests.backbone_fixtures import RUN, WRONG, files, flipped, folder_sha256, refused
from tests.cells import cells
from tools.notebooks import find

ROOT = Path(__file__).parents[1]


def make(method="fused", value=0.5, **changes):
    given = {"metric": "foreground IoU", "definition": "mean over pairs of |A∩B| / |A∪B|", "n": 10} | changes
    return results.row(RUN, task="segmentation", method=method, value=value, weights_sha256="aa", **given)


def test_what_is_written_is_read_back_in_an_order_of_its_own_with_the_fields_every_notebook_reads(tmp_path):
    rows = [make("CLIP only", torch.tensor(0.5), seconds=1.26), make("SD only", np.float32(0.25), spread=0.01), make()]
    results.write(rows, tmp_path / "new" / "a.json")
    results.write(rows[::-1], tmp_path / "b.json")
    assert results.read(tmp_path / "new" / "a.json") == rows
    assert rows[0].value == 0.5 and rows[0].seconds == 1.3
    assert (tmp_path / "new" / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    wanted = "notebook task method backbone weights_sha256 dataset split gallery metric definition value n seed epochs "
    wanted += "steps best_epoch learning_rate ended seconds device versions spread"
    assert set(json.loads((tmp_path / "b.json").read_text())[0]) == set(wanted.split())
    assert (make().steps, make().best_epoch, make().learning_rate, make().ended) == (0, 0, 0.0, "")
    assert {"python", "torch", "diffusers"} <= make().versions.keys()


@pytest.mark.parametrize(
    "changes",
    [{"value": float("nan")}, {"spread": float("inf")}, {"n": 0}, {"definition": ""}, {"method": ""}, {"ended": "x"}],
)
def test_a_row_that_says_nothing_is_refused(changes):
    with refused("the row"):
        replace(make(), **changes)


def test_a_broken_or_missing_file_gives_one_sentence(tmp_path):
    path = tmp_path / "results.json"
    with refused("run the notebook", FileNotFoundError):
        results.read(path)
    broken = {"[{": "holds no result rows", "{}": "no list", '[{"value": 1}]': "missing .* 'notebook', "}
    earlier = {name: value for name, value in asdict(make()).items() if name not in ("steps", "ended")}
    broken[json.dumps([earlier])] = "missing 2 .* 'steps' and 'ended'.*: delete it and run its notebook again"
    for text, words in broken.items():
        path.write_text(text)
        with refused(words):
            results.read(path)


def test_committed_results_were_measured_with_the_shipped_weights():
    shipped = folder_sha256(ROOT / "data" / "pocket")
    for file in sorted((ROOT / "data" / "results").glob("[0-9]*.json")):  # not the bench's table
        rows = results.read(file)
        assert rows, f"{file} holds no rows"
        own = [row for row in rows if row.backbone == "pocket" and not row.method.endswith(" instead of CLIP")]
        others = {row.weights_sha256 for row in own} - {shipped}
        assert not others, f"{file} is stale: measure it again"


def test_committed_rows_ship_for_the_backbone_and_dataset_that_made_them_and_no_other(capsys):
    run, told = SimpleNamespace(notebook="04_segmentation", backbone="pocket", dataset="toy"), []
    for run.backbone, run.dataset in (("pocket", "toy"), ("sd21", "toy"), ("pocket", "folder")):
        told.append((results.ships(run), capsys.readouterr().out))
    said = "The tables are of this run, with {}; the text tells of pocket on toy.\n"
    assert told == [(True, ""), *((False, said.format(own)) for own in ("sd21 on toy", "pocket on folder"))]
    assert results.committed(run) == results.committed("04_segmentation")


@pytest.mark.parametrize("number", ["03", "04", "05", "06", "07", "08", "09"])
def test_a_notebook_asks_for_committed_rows_only_where_they_ship_for_its_run(number):
    (path,) = find([number])
    code = "\n".join(cell.source for cell in cells(path.stem) if cell.cell_type == "code")
    asked = len(re.findall(r"results\.committed\(run\)", code))
    assert asked == len(re.findall(r"results\.committed", code)) == code.count("results.ships(run)") > 0


def paired(method, ended, **units):
    """Rows of the paired tests of "fused" against a method, unit -> (mean, corrected p)."""
    for unit, (mean, p) in units.items():
        for end, value in zip(results.ENDS, (mean, mean - 0.1, mean + 0.1, p), strict=True):
            rule = f"paired bootstrap over {unit}: drawn 10,000 times; {end}"
            yield make(method, value, metric="IoU: fused - other", definition=rule, gallery="seen", ended=ended)


@pytest.mark.parametrize(
    ("photos", "categories", "ended", "expected"),
    [
        ((0.1, 0.01), (0.1, 0.04), "plateau", "better"),
        ((0.1, 0.01), (0.1, 0.06), "plateau", "not told apart"),
        ((0.1, 0.06), (0.1, 0.01), "plateau", "not told apart"),
        ((-0.1, 0.01), (-0.1, 0.01), "cap", "worse"),
        ((0.1, 0.01), (0.1, 0.06), "cap", "not trained to the end"),
        ((0.1, 0.01), (0.1, 0.06), "", "not trained to the end"),
        ((0.1, 0.01), None, "plateau", "not told apart"),
    ],
)
def test_better_and_worse_need_both_tests_and_not_told_apart_trainings_that_ended(photos, categories, ended, expected):
    units = {"photos": photos} | ({"categories": categories} if categories else {})
    rows = [*paired("CLIP only", ended, **units), *paired("SD only", "plateau", photos=(0.2, 0), categories=(0.2, 0))]
    found = results.verdicts([make(), *rows], "seen", "IoU")
    assert found == {"CLIP only": expected, "SD only": "better"} and expected in results.VERDICTS
    assert results.verdicts(rows, "unseen", "IoU") == results.verdicts(rows, "seen", "mIoU") == {}
    told = results.differences(rows, "seen", "IoU", "photos")
    assert told["CLIP only"] == (photos[0], photos[0] - 0.1, photos[0] + 0.1, photos[1])
    assert ("CLIP only" in results.differences(rows, "seen", "IoU")) == (categories is not None)


def test_how_methods_were_trained_is_a_line_each_of_all_their_seeds():
    trained = {"gallery": "seen", "learning_rate": 0.003, "ended": "plateau"}
    rows = [make("mean mask", 0.9, gallery="seen"), make("SD only", 0.7, **trained | {"gallery": "unseen"})]
    rows += [make("SD only", 0.2, **trained, seed=seed, steps=900 + 300 * seed, best_epoch=7) for seed in (0, 1)]
    rows += [
        make("fused", 0.5, **trained | {"ended": "cap"}, seed=seed, steps=500, best_epoch=9 - seed) for seed in (0, 1)
    ]
    rows.append(make("fused", 0.6, **trained, seed=2, steps=500, best_epoch=12))
    head, *lines = results.trainings(rows, "seen", "foreground IoU").splitlines()
    assert [re.split("  +", line) for line in lines] == [
        ["fused", "3", "0.003", "500", "8 to 12", "plateau 1, cap 2"],
        ["SD only", "2", "0.003", "900 to 1,200", "7", "plateau 2"],
    ]
    assert all(head.index(name) == lines[1].index(part) for name, part in (("rate", "0.003"), ("ended", "plateau")))
    assert results.trainings(rows, "seen", "foreground IoU", "none ends so") == head


MADE_WITH = {
    "segmentation": {},
    "correspondence": {"window": 5},
    "retrieval": {"level": "instance"},
    "recognition": {"categories": ["cat", "a dög", "cow"]},
}


def trial(backbone, method="fused", task="segmentation"):
    module = import_module(f"sfhelpers.tasks.{task}")
    model = getattr(module, heads.MODELS[task])(arm_of(method, backbone, 0).extractor(), **MADE_WITH[task])
    with torch.no_grad():  # as if trained: away from what the seed alone would give
        for parameter in model.parameters():
            parameter.add_(0.01)
    return Trial(method, 0, model=model.eval(), found=Masks(0.4, {}) if task == "segmentation" else None)


@pytest.fixture
def saved(tiny_backbone, tmp_path):
    (path,) = heads.save_heads(RUN, [trial(tiny_backbone)], tiny_backbone.weights_sha256, tmp_path)
    return path


@pytest.mark.parametrize(
    ("method", "task"),
    [("late fusion", "segmentation"), ("CLIP only", "segmentation"), *(("fused", t) for t in MADE_WITH)],
)
def test_a_head_read_back_is_the_model_as_it_was_made(tiny_backbone, two_images, tmp_path, method, task):
    made = trial(tiny_backbone, method, task)
    made.model.extractor.fit_statistics(made.model.extractor.prepare(two_images))
    (path,) = heads.save_heads(RUN, [made], tiny_backbone.weights_sha256, tmp_path, task)
    head, state = heads.load_head(path, tiny_backbone, task), made.model.state_dict()
    assert (head.method, head.task, head.seed, head.training["limit"]) == (method, task, 0, 4)
    assert head.threshold == (0.4 if task == "segmentation" else None)
    assert type(head.model) is type(made.model) and MADE_WITH[task].items() <= head.settings.items()
    assert head.settings == made.model.settings == head.model.settings
    assert head.model.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in head.model.state_dict().items())
    assert {name for name in state if "statistics" not in name} == {name for name, _ in made.model.named_parameters()}
    with torch.no_grad():
        assert torch.equal(head.extractor(two_images), made.model.extractor(two_images))
    assert not head.model.training and not any(parameter.requires_grad for parameter in head.model.parameters())


def test_models_of_the_first_seed_and_of_an_arm_alone_are_kept_and_come_back_in_order(tiny_backbone, tmp_path):
    fused, other = trial(tiny_backbone), trial(tiny_backbone, "SD+CLIP concatenated")
    left = [replace(fused, seed=1), replace(fused, method=MEAN_MASK), replace(fused, method="late fusion", model=None)]
    written = heads.save_heads(RUN, [other, fused, *left], tiny_backbone.weights_sha256, tmp_path)
    assert [path.name for path in written] == ["sd-clip-concatenated.safetensors", "fused.safetensors"]
    assert list(heads.load_heads(tmp_path, tiny_backbone)) == ["fused", "SD+CLIP concatenated"]
    before, run = files(tmp_path), SimpleNamespace(**(vars(RUN) | {"epochs": 0}))  # which only evaluates
    assert heads.save_heads(run, [trial(tiny_backbone)], tiny_backbone.weights_sha256, tmp_path) == []
    assert files(tmp_path) == before


def test_what_is_not_there_or_in_the_way_and_a_head_of_another_backbone_or_task_are_refused(saved, tiny_backbone):
    with refused("run 05_retrieval, which writes some", FileNotFoundError):
        heads.load_head(saved.with_name("none.safetensors"), tiny_backbone, "retrieval")
    with refused("no trained models.*run 04_segmentation", FileNotFoundError):
        heads.load_heads(saved.with_name("none"), tiny_backbone)
    with refused(r"fused.safetensors could not be written \(File exists\)", FileExistsError):
        heads.save_heads(RUN, [trial(tiny_backbone)], tiny_backbone.weights_sha256, saved)
    with refused("was trained on a backbone with weights"):
        heads.load_head(saved, randomised(tiny_backbone))
    with refused("a trained model of segmentation, not of correspondence: pass one that 03_"):
        heads.load_head(saved, tiny_backbone, "correspondence")


def test_a_head_that_is_damaged_of_another_version_or_does_not_fit_its_description_is_refused(saved, tiny_backbone):
    content, weights, told = saved.read_bytes(), load_file(saved), kept.from_signed(saved, heads.KEY)[1]
    damaged = [b"", content[:-100], content[:-4000] + bytes(1000) + content[-3000:], save(weights)]
    unsigned = [json.dumps(told | changes) for changes in ({"threshold": 0.6}, {"colour": 3})]
    none = ['"a text"', "[" * 10**5, "3", "null", "{}", '{"seed": NaN}', f'{{"seed": {"9" * 5000}}}']
    damaged += [save(weights, {heads.KEY: text}) for text in (*none, *unsigned)]
    others = [told | wrong for wrong in ({"format": 99}, {"method": "B-DINO"}, {"dim": 7}, {"task": "drawing"})]
    incomplete = {name: tensor for name, tensor in weights.items() if name != "centre"}
    unfit = [(weights, told | {"settings": {"colour": 3}}), (incomplete, told)]
    for said, contents in {
        "is not a whole trained model of this collection: run the notebook": damaged,
        "another version of sfhelpers": [kept.signed(weights, other, heads.KEY) for other in others],
        "fused.safetensors": flipped(content, 1000),  # bits of the header, which are under the checksum too
        "does not fit the model it names": [kept.signed(*both, heads.KEY) for both in unfit],
    }.items():
        for bad in contents:
            saved.write_bytes(bad)
            with refused(said):
                heads.load_head(saved, tiny_backbone)


@pytest.mark.parametrize("task", MADE_WITH)
def test_fields_and_settings_of_another_kind_and_weights_that_are_no_numbers_are_refused(tiny_backbone, tmp_path, task):
    made, plain = trial(tiny_backbone, task=task), {int, float, type(None)}
    (path,) = heads.save_heads(RUN, [made], tiny_backbone.weights_sha256, tmp_path, task)
    state, told, _ = kept.from_signed(path, heads.KEY)
    crafted = [(where, name, value) for where in (told, told["settings"]) for name in where for value in WRONG]
    kinds = [{type(where[name]), type(value)} for where, name, value in crafted]
    crafted = [some for some, both in zip(crafted, kinds, strict=True) if len(both) == 2 and not both <= plain]
    crafted += [(told, "threshold", value) for value in (None, -0.1, 1.5) if task == "segmentation"]
    crafted += [(state, name, torch.full_like(state[name], nan)) for name in list(state)[:3]]
    for where, name, value in crafted:
        before, where[name] = where[name], value
        path.write_bytes(kept.signed(state, told, heads.KEY))
        where[name] = before
        with refused("fused.safetensors"):
            heads.load_head(path, tiny_backbone)


def test_the_shipped_heads_belong_to_the_shipped_backbone():
    backbone = load_backbone("pocket", "cpu")
    assert backbone.weights_sha256 == folder_sha256(POCKET_FOLDER)
    assert {path.name for path in heads.HEADS.iterdir() if path.is_dir()} == heads.MODELS.keys()
    for task in heads.MODELS:
        shipped = heads.load_heads(heads.HEADS / task, backbone, task)
        assert "fused" in shipped and (task != "segmentation" or list(shipped) == list(ARMS))
        assert all(head.training["limit"] == shipped["fused"].training["limit"] for head in shipped.values())
        assert all((head.threshold is not None) == (task == "segmentation") for head in shipped.values())
    assert sum(path.stat().st_size for path in heads.HEADS.rglob("*.safetensors")) < 5e6
