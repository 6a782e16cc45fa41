"""Ablations change one thing each, share what is frozen, go on after a kill, and are told as they were measured."""

from dataclasses import replace
from statistics import median
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch

from sfhelpers import params, results
from sfhelpers.backbones import encoders, randomised
from sfhelpers.backbones.loading import with_encoder
from sfhelpers.datasets import psc6k
from sfhelpers.datasets.sketches import Sketches, load_sketches
from sfhelpers.fusion import FusedExtractor
from sfhelpers.tasks import ablations, correspondence, recognition, retrieval, segmentation
from sfhelpers.tasks.ablations import FULL, Variant
from sfhelpers.tasks.compare import Measured
from tests.backbone_fixtures import refused
from tests.cells import cells, defined
from tests.test_compare import Brightness

RUN = SimpleNamespace(notebook="07_ablations", backbone="tiny", dataset="toy", split="default", seed=0, device="cpu")
RUN.epochs, RUN.learning_rate, RUN.batch_size, RUN.limit = 0, 2e-3, 8, 2
MODULES = (ablations, results, correspondence, segmentation, psc6k, recognition, retrieval)
NAMES = {module.__name__.rpartition(".")[2]: module for module in MODULES} | {"median": median, "Variant": Variant}
NAMES |= {"SimpleNamespace": SimpleNamespace, "Sketches": Sketches, "load_sketches": load_sketches}
NOTEBOOK = defined("07_ablations", **NAMES)
VARIANTS = {variant.name: variant for variant in NOTEBOOK.VARIANTS}


class Toy(Brightness):
    """A task on two images, by default without any training; it notes what is prepared and what is validated."""

    def __init__(self, name="toy", epochs=0, stop=99, **settings):
        super(Brightness, self).__init__({"test": None}, "toy", "s", "", epochs, 1e-3, 2)
        self.name, self.prepared, self.validated, self.stop, self.settings = name, [], 0, stop, settings

    def read(self, extractor, part, size, **noise):
        self.prepared.append((extractor.inject, extractor.until, noise))
        images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
        return extractor.prepare(images, **noise) | {"bright": torch.ones(2)}

    def of_problem(self, frozen, problem):
        return frozen | {"train": frozen["test"], "validation": frozen["test"]}

    def validate(self, model, frozen):
        if self.validated == self.stop:
            raise KeyboardInterrupt
        self.validated += 1
        return super().validate(model, frozen)

    def measure(self, trial, frozen):
        values, groups = np.append(trial.found, np.nan), {"photos": np.arange(3)}
        yield Measured("seen categories", "closeness", "a number", values, groups)
        yield Measured("seen categories", "another", "not tested", trial.found)


def measure(toy, backbone, names, seeds=(0,), **options):
    variants = [VARIANTS[name] if isinstance(name, str) else name for name in names]
    return ablations.measure(RUN, toy, backbone, variants, seeds, **options)


def values(rows, metric="closeness"):
    return {(row.method, row.seed): row.value for row in rows if row.metric == metric}


def test_every_variant_changes_one_thing_runs_and_shares_what_is_frozen(tiny_backbone):
    for variant in VARIANTS.values():
        changed = len(variant.settings) + len(variant.noise) + bool(variant.like)
        assert changed == (variant.name != FULL) + (variant.group == "draws" or "SD only, t" in variant.name)
    toy = Toy("correspondence")  # the task that every variant is for
    rows = measure(toy, tiny_backbone, VARIANTS)
    assert list(dict.fromkeys(r.method for r in rows)) == list(VARIANTS) and next(iter(VARIANTS)) == FULL
    kinds = [(inject, tuple(noise.items())) for inject, _, noise in toy.prepared]
    assert len(set(kinds)) == len(kinds)
    assert {k for k, noise in kinds if not noise} == {"up", "up+down", "none", "random"}
    assert ("up", 4, {}) in toy.prepared, "f4 decides how far the shared tensors reach"
    assert {t for _, _, noise in toy.prepared for t in noise.values()} == {50, 400, 800, 4, 16}
    together = values(rows)
    for name in ("kernel 3", "injected into f2 only", "no injection (SD only)", "injected afterwards (late fusion)"):
        alone = values(measure(Toy("correspondence"), tiny_backbone, [name]))
        assert together[name, 0] == pytest.approx(alone[name, 0], abs=1e-6)


def test_seeds_and_tasks_of_a_variant_are_obeyed_and_unscored_queries_left_out(tiny_backbone):
    variants = (Variant(FULL, "parts"), Variant("once", "details", seeds=1), Variant("else", "parts", tasks=("other",)))
    rows = measure(Toy(), tiny_backbone, variants, seeds=(3, 4))
    assert list(values(rows)) == [(FULL, 3), (FULL, 4), ("once", 3)]
    assert {r.n for r in rows if r.metric == "closeness"} == {2}
    assert not [r for r in rows if r.metric == "another"], "only what is tested is told"


def test_full_is_tested_again_with_each_branch_silenced(tiny_backbone):
    toy = Toy("correspondence")
    rows = measure(toy, tiny_backbone, [FULL, "kernel 3"])
    silent = {(r.method, r.metric[-2:]): r.value for r in rows if r.metric.startswith("closeness without ")}
    assert silent.keys() == {(FULL, f"f{n}") for n in (1, 2, 3)}
    extractor = VARIANTS[FULL].arm(tiny_backbone, 0).extractor()
    frozen = toy.of_problem({"test": toy.read(extractor, None, 96)}, "")
    model = toy.model(extractor, frozen)
    lost, whole = 0.0, toy.predict(model, frozen).mean()
    for n, branch in enumerate(("f1", "f2", "f3")):
        with ablations.silenced(extractor, n):
            left = toy.predict(model, frozen).mean()
        assert silent[FULL, branch] == pytest.approx(left, abs=1e-6)
        lost += whole - left
    assert toy.predict(model, frozen).mean() == whole
    assert lost == pytest.approx(whole, abs=1e-5), "the map is the sum of its branches"


def test_another_encoder_stands_for_the_backbones_own(tiny_backbone, two_images):
    other = replace(randomised(tiny_backbone), weights_sha256="other")
    swap = Variant("Other instead of CLIP", "encoder", backbone=other)
    rows = measure(Toy(), tiny_backbone, [FULL, swap])
    assert {r.weights_sha256 for r in rows if r.method == swap.name} == {"other"}
    assert values(rows)[FULL, 0] != values(rows)[swap.name, 0]

    torch.manual_seed(0)
    kind = encoders.ENCODERS["ImageNet"]
    encoder = encoders.Encoder("ImageNet", kind, timm.create_model(kind.model, num_classes=0), "abc")
    swapped = with_encoder(tiny_backbone, encoder)
    tokens = swapped.vision.tokens(two_images)
    assert tokens.shape[:2] == (2, swapped.vision.token_dim) and not tokens.requires_grad
    extractor = FusedExtractor(swapped, dim=12, grid=9, width=8)
    assert extractor.injection.convs[0].in_channels == swapped.vision.token_dim
    assert torch.equal(extractor.prepare(two_images)["tokens"], tokens)
    assert swapped.weights_sha256 not in (tiny_backbone.weights_sha256, "abc")


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same(tiny_backbone, tmp_path):
    def run(toy, **kept):
        return measure(toy, tiny_backbone, [FULL, "w/o learnable weights", "w/o aggregation network"], (0, 1), **kept)

    with pytest.raises(KeyboardInterrupt):
        run(Toy(epochs=1, stop=9), checkpoints=tmp_path)
    toy, third = Toy(epochs=1), Toy(epochs=1)
    again = run(toy, checkpoints=tmp_path)
    assert toy.validated == 3, "of the fifth training the end was left, and the sixth"
    told = [[(r.method, r.seed, r.metric, r.value) for r in rows] for rows in (again, run(Toy(epochs=1)))]
    assert told[0] == told[1]
    run(third, checkpoints=tmp_path)
    assert not third.validated


def test_rates_are_tried_for_full_alone_and_every_variant_takes_its(tiny_backbone, tmp_path):
    toy, run = Toy(epochs=1), SimpleNamespace(**vars(RUN), rates=3, seeds=2, tasks="toy", variants="few", others="")
    run.store, run.output_dir, run.resume, run.configuration, run.epochs = "", tmp_path, False, {}, 1
    names = vars(NOTEBOOK) | {"run": run, "params": params, "models": tiny_backbone, "task_for": lambda *given: toy}
    (source,) = [cell.source for cell in cells("07_ablations") if cell.id == "co-13"]
    exec(source, names)
    validated = 2 * (3 + 1 + 2 * 2)  # before and after: full at three rates and with a second seed, two others twice
    assert toy.validated == validated and len({row.method for row in names["rows"]}) == 3
    assert {row.learning_rate for row in names["rows"]} == {toy.learning_rate} and toy.learning_rate != 1e-3
    assert [*tmp_path.rglob("full-seed0*")], "the others' call removes nothing"


def test_what_was_kept_with_other_settings_is_refused(tiny_backbone, tmp_path):
    def run(window=5, **changes):
        made = {"settings": {"match": "interpolation"}, "noise": {"timestep": 5}} | changes
        toy = Toy(epochs=1, window=window)
        return measure(toy, tiny_backbone, [Variant("mine", "details", **made)], checkpoints=tmp_path)

    assert values(run()) == values(run())
    for named, changed in (
        ("settings match", {"settings": {"match": "scaled interpolation"}}),
        ("noise timestep", {"noise": {"timestep": 50}}),
        ("model window", {"window": 7}),
    ):
        with refused(f"is of another training .*{named} was "):
            run(**changed)


def test_a_difference_counts_beyond_both_spreads():
    some = [(0.01, 0.4, 0.01, -1), (0.01, 0.51, 0.01, 0), (0.01, 0.6, 0.01, 1), (0.01, 0.6, 0.2, 0)]
    for first, value, spread, sign in (*some, (None, 0.6, None, 0), (0.01, 0.53, None, 1)):
        full, other = SimpleNamespace(value=0.5, spread=first), SimpleNamespace(value=value, spread=spread)
        assert NOTEBOOK.beyond(full, other) == sign


@pytest.mark.parametrize("name", params.TASKS)
def test_a_task_is_measured_and_what_is_not_silenced_is_found_again(tiny_backbone, toy, name, monkeypatch):
    task = defined("07_ablations", **NAMES, data=toy).task_for(name, RUN)
    with monkeypatch.context() as patch:
        patch.setattr(ablations, "silenced", lambda extractor, n: torch.no_grad())
        rows = measure(task, tiny_backbone, [FULL, "w/o aggregation network"])
    metric, gallery = NOTEBOOK.TOLD[name]
    whole = {r.gallery: r.value for r in rows if (r.method, r.metric) == (FULL, metric)}
    assert gallery in whole and all(0 <= value <= 1 for value in whole.values())
    for branch in ("f1", "f2", "f3"):
        assert {r.gallery: r.value for r in rows if r.metric == f"{metric} without {branch}"} == whole
    found = NOTEBOOK.measured(rows, name)
    assert found["w/o aggregation network"].parameters < found[FULL].parameters
    assert 0 < found["w/o aggregation network"].operations < found[FULL].operations


def test_operations_are_those_of_a_linear_layer_and_leave_no_gradient():
    task = Toy()
    task.loss, model = lambda model, frozen, indices: model(torch.ones(len(indices), 3)).sum(), torch.nn.Linear(3, 5)
    frozen = {"train": {"bright": range(9)}}
    forwards = 2 * task.batch_size * 3 * 5  # a product and a sum each
    assert ablations.operations(task, model, frozen) == 2 * forwards
    assert model.weight.grad is None


def test_real_data_is_split_clip_style_for_want_of_unseen_classes(toy):
    asked = SimpleNamespace(Retrieval=lambda data, *settings, problems: problems[0])
    for some, problem in ((toy, "strict"), (toy.select(seen=True), "clip-style")):
        names = NAMES | {"data": some, "retrieval": asked}
        assert defined("07_ablations", **names).task_for("retrieval", RUN) == problem
