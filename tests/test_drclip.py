"""Dr. CLIP: its losses worked out by hand, what learns and what stays, its arms, its four scenarios and their audit."""

import re
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from sfhelpers import results
from sfhelpers.images import load_images
from sfhelpers.metrics import AP
from sfhelpers.tasks import compare as protocol
from sfhelpers.tasks import drclip
from sfhelpers.tasks.drclip import EIGHT, MAIN, UNTOUCHED, VARIANTS, DrClip, PromptedClip
from sfhelpers.tasks.fit import Training
from sfhelpers.tasks.retrieval import AS_PUBLISHED, B_CLIP, CHANCE, SIDES
from tests.backbone_fixtures import RUN, load, refused, write_tiny
from tests.cells import handbuilt, solutions
from tests.test_scenarios import crowd

CHOSEN = "epoch chosen on the test set"


@pytest.fixture(scope="module")
def clip(vit_backbone):
    return vit_backbone


@pytest.fixture(scope="module")
def other_clip(tmp_path_factory):
    """A backbone whose image tower is pocket's."""
    return load(write_tiny(tmp_path_factory.mktemp("hybrid") / "tiny", "hybrid"))


def at(*degrees):
    """Unit vectors (n, 2)."""
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_three_items_worked_out_by_hand():
    """Cosines of the sketch with its photo 1, 1/2, 0, with the wrong photo -1, 1/2, 1, with the wrong sketch 0, -1,
    1/2: so the triplets cost 0, .3, 1.3 and 0, 0, .8."""
    s, p, wrong, wrong_sketch = at(0, 0, 0), at(0, 60, 90), at(180, 60, 0), at(90, 180, 60)
    assert drclip.triplet(s, p, wrong, 0.3).item() == pytest.approx(1.6 / 3)
    assert drclip.quadruplet(s, p, wrong, wrong_sketch, 0.3).item() == pytest.approx(1.6 / 3 + 0.8 / 3)
    teacher = torch.tensor([[0.2, 0.3, 0.5], [0.5, 0.25, 0.25], [0.8, 0.1, 0.1]], dtype=torch.float64).log()
    student = torch.tensor([[0.2, 0.3, 0.5], [1 / 3, 1 / 3, 1 / 3], [0.4, 0.3, 0.3]], dtype=torch.float64).log()
    lost = [0, 0.5 * 0.4054651 - 0.5 * 0.2876821, 0.8 * 0.6931472 - 0.2 * 1.0986123]
    assert drclip.forgetting(student + 7, teacher).item() == pytest.approx(sum(lost) / 3, abs=1e-6)
    assert abs(drclip.forgetting(teacher, student).item() - sum(lost) / 3) > 0.01, "the direction matters"
    sketches, photos = at(0, 90, 0), at(0, 90, 180)  # cosines 1, 0, -1; 0, 1, 0; 1, 0, -1
    same = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 0, 0]], dtype=torch.bool)
    floor = 0.2689414**2  # of sigmoid(1) from 1, and of sigmoid(-1) from 0
    by_hand = 2 * (floor + 0.25 + floor) + (0.25 + floor + 0.25)
    assert drclip.relation(3 * sketches, photos, same).item() == pytest.approx(by_hand / 9, abs=1e-6)


def test_relations_cannot_cost_less_than_their_floor():
    ends = at(0, 180)
    perfect = drclip.relation(ends, ends, torch.eye(2, dtype=torch.bool))
    assert perfect.item() == pytest.approx(0.0723295, abs=1e-6)
    dice = torch.Generator().manual_seed(0)
    for _ in range(50):
        sides = torch.randn(2, 5, 3, generator=dice, dtype=torch.float64)
        assert drclip.relation(*sides, torch.rand(5, 5, generator=dice) > 0.5) > perfect


def test_the_printed_quadruplet_pushes_the_photo_away_and_ours_pulls_it_near():
    def printed(s, right, wrong, margin):
        return ((s * right).sum(1) - (s * wrong).sum(1) + margin).clamp(min=0).mean()  # similarities for distances

    for loss, nearer in ((printed, False), (drclip.triplet, True)):
        sketch = at(0).requires_grad_()
        loss(sketch, at(40), at(-40), 0.3).backward()
        after = F.normalize(sketch.detach() - 0.1 * sketch.grad, dim=1)
        assert ((after @ at(40).T) > (at(0) @ at(40).T)).item() == nearer


@pytest.mark.parametrize("name", ["clip", "other_clip"])
def test_without_prompts_the_tower_answers_as_it_did_and_prompts_change_it(name, request, two_images):
    vision = request.getfixturevalue(name).vision
    backbone = SimpleNamespace(vision=vision)
    prepared = PromptedClip(backbone).frozen(two_images)
    own = vision.embed(two_images)
    torch.testing.assert_close(prepared["teacher"], own, atol=1e-6, rtol=0)
    bare = PromptedClip(backbone, prompts=0)
    prompted, first = PromptedClip(backbone), PromptedClip(backbone, output="first prompt")
    for side in SIDES:
        torch.testing.assert_close(bare(prepared, side), own, atol=1e-6, rtol=0)
        near, far = ((model(prepared, side) * own).sum(1).mean() for model in (prompted, first))
        assert 1 - 1e-6 > near > far, "the class token starts near CLIP's answer, the first prompt does not"
    assert not torch.equal(*(prompted(prepared, side) for side in SIDES))
    assert prompted.prompts["photos"].shape == (3, prompted.tower.width)


def test_a_tower_without_a_class_token_to_read_is_refused(tiny_backbone, clip):
    pooled = open_clip.model.VisionTransformer(32, 8, 32, 1, 2, 4.0, output_dim=8, pool_type="avg")
    for tower, name in ((tiny_backbone.vision.model.visual, "ByobNet|EfficientNet"), (pooled, "VisionTransformer")):
        with refused(f"image tower .({name})"):
            drclip.PromptedTower(tower)


def a_step(model):
    """Prepared images of two quadruplets, labels, and which share a class."""
    dice = torch.Generator().manual_seed(1)
    prepared = {side: model.frozen(torch.rand(4, 3, 32, 32, generator=dice)) for side in SIDES}
    labels = {side: torch.tensor([0, 1, 1, 0]) for side in SIDES}
    return prepared, labels, labels["sketches"][:, None] == labels["photos"]


@pytest.mark.parametrize("tuned", ["norms", "all"])
def test_beside_a_tower_in_half_precision_what_learns_stays_in_single(tmp_path, clip, tuned):
    half = load(write_tiny(tmp_path / "tiny", "vit"), dtype=torch.bfloat16)
    model, exact = (PromptedClip(some, tuned=tuned).teach(("cat", "car", "photo")) for some in (half, clip))
    prepared, labels, same = a_step(model)
    sum(model.terms(prepared, labels, same).values()).backward()
    assert all(p.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())
    assert {p.dtype for p in half.vision.model.parameters()} == {torch.bfloat16}
    for side in SIDES:
        found, expected = model(prepared[side], side), exact(a_step(exact)[0][side], side)
        assert found.dtype == torch.float32 and (found * expected).sum(1).min() > 0.999


@pytest.mark.parametrize(("tuned", "copies"), [("norms", 17), ("all", 43), ("nothing", 0)])
@pytest.mark.parametrize("loss", drclip.LOSSES)
def test_every_loss_alone_reaches_prompts_and_copies_of_both_domains_and_nothing_frozen(clip, loss, tuned, copies):
    before = {name: tensor.clone() for name, tensor in clip.vision.model.state_dict().items()}
    model = PromptedClip(clip, losses=(loss,), tuned=tuned, margin=2.0).teach(("cat", "car", "photo"))
    prepared, labels, same = a_step(model)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(2):
        optimiser.zero_grad()
        terms = model.terms(prepared, labels, same)
        terms[loss].backward()
        optimiser.step()
    assert terms.keys() == {loss} and all(p.grad.abs().max() > 0 for p in model.parameters())
    assert [len(list(model.tuned[side].parameters())) for side in SIDES] == [copies] * 2 and len(model.prompts) == 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in clip.vision.model.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in clip.vision.model.parameters())
    again, _, _ = a_step(model)
    assert all(torch.equal(again[side]["teacher"], prepared[side]["teacher"]) for side in SIDES), "to the bit"


def test_the_released_codes_teacher_moves_and_its_relations_teach_nothing(clip):
    model = PromptedClip(clip, teacher="shared", relation="none").teach(("cat", "car"))
    prepared, labels, same = a_step(model)
    before = model.taught(prepared["photos"])
    terms = model.terms(prepared, labels, same)
    assert not terms["RP"].requires_grad and terms["FSC"].requires_grad and not before.requires_grad
    terms["DBQ"].backward()
    with torch.no_grad():
        for parameter in model.tuned["sketches"].parameters():
            parameter -= 0.1 * parameter.grad
    assert not torch.allclose(model.taught(prepared["photos"]), before)
    ours = PromptedClip(clip)
    ours.load_state_dict(model.state_dict())  # trained as far
    assert torch.equal(ours.taught(prepared["photos"]), prepared["photos"]["teacher"])


@pytest.fixture(scope="module")
def compared(clip, toy):
    """The task, and its trials by method."""
    task = DrClip("gzs", [toy], epochs=2, learning_rate=1e-2, batch_size=4)
    some = (MAIN, UNTOUCHED, "without RP", CHOSEN)
    methods = [drclip.arm(name, clip, 0) for name in some]
    trials, frozen = protocol.compare(clip, task, [*methods, CHANCE], log=lambda line: None)
    return task, {trial.method: trial for trial in trials}, frozen


def test_arms_learn_from_what_was_computed_once_and_the_untouched_ones_answer_is_clips(compared, clip):
    task, trials, frozen = compared
    assert {name: len(trial.history.epochs) - 1 for name, trial in trials.items() if trial.history} == {
        MAIN: 2, UNTOUCHED: 0, "without RP": 2, CHOSEN: 2,
    }  # fmt: skip
    assert trials[UNTOUCHED].parameters == 0 and trials[MAIN].parameters == sum(
        parameter.numel() for parameter in PromptedClip(clip).parameters()
    )
    pool = frozen["sketches"]["teacher"][task.first.places[0]]
    torch.testing.assert_close(trials[UNTOUCHED].found.sketches, pool, atol=1e-6, rtol=0)
    assert not torch.allclose(trials[MAIN].found.sketches, pool, atol=1e-3)
    losses = [epoch["loss"] for epoch in trials[MAIN].history.epochs[1:]]
    assert losses[1] < losses[0]


def test_without_a_gradient_relations_change_the_printed_loss_and_nothing_that_is_learned(clip):
    def learned(**settings):
        """The weights after three steps, and the last loss."""
        model = PromptedClip(clip, **settings).teach(("cat", "car"))
        step, optimiser = a_step(model), torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(3):
            optimiser.zero_grad()
            loss = sum(model.terms(*step).values())
            loss.backward()
            optimiser.step()
        return torch.cat([p.detach().flatten() for p in model.parameters()]), loss.item()

    (released, printed), (left_out, loss) = learned(relation="none"), learned(losses=("FSC", "DBQ"))
    assert torch.equal(released, left_out), "to the bit"
    assert printed > loss + 4 * 0.0723 and not torch.equal(released, learned()[0])


def test_a_run_that_was_stopped_goes_on_and_ends_with_the_same(compared, clip, tmp_path, monkeypatch):
    task, trials, frozen = compared
    kept = {id(task.parts[side]): frozen[side] for side in SIDES}
    monkeypatch.setattr(task, "read", lambda extractor, part, size: kept[id(part)])
    epoch, taken, terms = -(-len(task.first.train) // 4), [], PromptedClip.terms

    def stopping(*given):
        taken.append(len(taken))
        if len(taken) == epoch + 2:  # a step of the second epoch
            raise KeyboardInterrupt
        return terms(*given)

    def run():
        (trial,), _ = protocol.compare(clip, task, [drclip.arm(MAIN, clip, 0)], checkpoints=tmp_path, log=len)
        return trial

    monkeypatch.setattr(PromptedClip, "terms", stopping)
    with pytest.raises(KeyboardInterrupt):
        run()
    again = run()
    assert len(taken) == epoch + 2 + epoch, "the first epoch is not trained again"
    assert torch.equal(again.found.photos, trials[MAIN].found.photos)
    assert [e["loss"] for e in again.history.epochs] == [e["loss"] for e in trials[MAIN].history.epochs]


def test_the_epoch_is_chosen_on_the_tests_own_queries_only_in_the_arm_that_is_called_so(compared):
    task, trials, _ = compared
    trial = trials[CHOSEN]
    assert trial.history.best == pytest.approx(task.scores(trial)[AP()].mean())
    assert trial.history.best == max(epoch["validation"] for epoch in trial.history.epochs)
    (sketches, photos), learned = task.first.validation, {r.category for r in task.first.sketches}
    assert learned.isdisjoint(task.parts["sketches"][k].category for k in sketches.tolist())
    assert learned.isdisjoint(task.parts["photos"][k].category for k in photos.tolist())


def test_rows_tell_every_test_of_the_scenario_and_tests_are_against_dr_clip(compared):
    task, trials, frozen = compared
    rows = protocol.rows(RUN, task, trials.values(), frozen, "f" * 64)
    assert AS_PUBLISHED in {row.split for row in rows} and {row.task for row in rows} == {"drclip"}
    tests = protocol.differences(RUN, task, trials.values(), frozen, "f" * 64)
    assert {row.method for row in tests} == {UNTOUCHED, "without RP", CHOSEN, CHANCE}
    assert {row.metric for row in tests} == {"mAP@all: Dr. CLIP - other"}
    assert set(results.verdicts(rows + tests, "all", "mAP@all")) == {row.method for row in tests}


def test_all_eight_combinations_of_losses_are_arms_and_every_arm_can_be_made(clip):
    made = {name: drclip.arm(name, clip, 0).extractor() for name in VARIANTS}
    combinations = [tuple(made[name].settings["losses"]) for name in EIGHT]
    assert len(set(combinations)) == 8 and set(sum(combinations, ())) == set(drclip.FULL)
    weights = [
        len(list(made[name].parameters())) for name in (MAIN, "without prompts", "without LayerNorms", UNTOUCHED)
    ]
    assert weights == [36, 34, 2, 0]
    some = drclip.arms("core", clip, (3, 4))
    assert [(arm.method, arm.seed) for arm in some].count((UNTOUCHED, 3)) == 1 and (UNTOUCHED, 4) not in [
        (arm.method, arm.seed) for arm in some
    ]
    assert {arm.frozen_key for arm in some} == {some[0].frozen_key}, "what is frozen is computed once"


def test_at_the_meeting_all_systems_rank_one_gallery_and_one_task_measures_them(clip, toy, tmp_path):
    task, trials = drclip.meeting(toy, clip, (0,), 1, tmp_path, log=lambda line: None)
    by = {trial.method: trial for trial in trials}
    systems = {"fused", "SD-PL", MAIN, drclip.PLAIN, UNTOUCHED, "SD without prompts", B_CLIP, CHANCE}
    assert systems < by.keys() and len(by) == len(trials) == 10
    for side in SIDES:
        plain, ours = (getattr(by[method].found, side) for method in (B_CLIP, UNTOUCHED))
        torch.testing.assert_close(plain, ours, atol=1e-5, rtol=0)  # the same images in the same places
    rows = protocol.rows(RUN, task, trials, {}, "f" * 64)
    assert {row.split for row in rows} == {drclip.MEETING} and {row.method for row in rows} == by.keys()
    assert len({row.n for row in rows if row.metric == "mAP@all"}) == 1
    tests = protocol.differences(RUN, task, trials, {}, "f" * 64)
    assert {row.method for row in tests} == by.keys() - {"fused"}
    photos = load_images([record.path for record in task.about[drclip.MEETING].photos[:2]], 96)
    with torch.no_grad():
        again = by[MAIN].model.embed(photos, "photos")
    torch.testing.assert_close(again, by[MAIN].found.photos[:2], atol=1e-5, rtol=0)


def test_prompts_learn_ten_times_as_fast(clip):
    model = PromptedClip(clip)
    training = Training(model, lambda *_: None, 4, lambda _: 0, 1, 1e-4, 2, 0)
    rates = {id(p): group["lr"] for group in training.optimiser.param_groups for p in group["params"]}
    assert {rates[id(p)] for p in model.prompts.parameters()} == {1e-3}
    assert {rates[id(p)] for p in model.tuned.parameters()} == {1e-4} and len(rates) == 36


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("no setting 'prompt'", {"prompt": "x"}),
        ("tuned is 'layers': use norms or all or nothing", {"tuned": "layers"}),
        ("prompts is 0: give a whole number of 1", {"output": "first prompt", "prompts": 0}),
        ("losses is 'RP'", {"losses": "RP"}),
        ("losses is .'CE', 'FSC'.", {"losses": ["CE", "FSC"]}),
        ("no loss to learn by", {"losses": ()}),
        ("margin is 0", {"margin": 0}),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_sentence(clip, words, settings):
    with refused(words):
        PromptedClip(clip, **settings)


def test_a_class_name_that_the_tokenizer_cuts_and_a_gallery_smaller_than_k_are_refused(clip, compared):
    longest = 16 - 2 - 4  # tokens that "a photo of a" and both ends leave
    assert drclip.class_texts(clip.vision, ["cat", "z" * longest]).shape == (2, 24)
    with refused("the tokenizer cuts the text of z+ after 16 tokens"):
        drclip.class_texts(clip.vision, ["cat", "z" * (longest + 1)])
    task, trials, _ = compared
    (_, offered), _ = task.asked(trials[MAIN])
    first = task.nearest(trials[MAIN], 0, len(offered))
    assert len(set(first)) == len(offered) and first[:2] == task.nearest(trials[MAIN], 0, 2)
    with refused(f"k is {len(offered) + 1} and the gallery has {len(offered)} photos"):
        task.nearest(trials[MAIN], 0, len(offered) + 1)


def test_the_exercises_code_of_09_runs(compared, clip, capsys):
    task, trials, _ = compared
    names = {"drclip": drclip, "compare": protocol.compare, "models": clip, "task": task, "first": trials}
    names |= {"run": RUN, "UNTOUCHED": UNTOUCHED, "MAIN": MAIN, "torch": torch}
    names["fsc"] = handbuilt("09_drclip", torch=torch, nn=torch.nn).fsc
    for source in solutions("09_drclip").values():
        exec(source, names)
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 3 + 3 + 2 and names["trial"].model.settings["output"] == "first prompt"
    sure, unsure = ([float(word) for word in re.findall(r"-?[\d.]+(?=,|$)", line)] for line in told[-2:])
    assert sure[0] > sure[1] and unsure[0] < unsure[1], "teacher first is the harder one for who has grown sure"


@pytest.mark.parametrize("name", ["fgsbir", "cdsbir"])
def test_the_other_scenarios_train_and_rank_by_the_same_steps(name, tmp_path, clip):
    """On made vectors in the place of patch tokens: what a scenario asks for can be learned from them."""
    parts = ("train",) * 3 + ("val",) * 2 + ("test",) * 2
    data = [crowd(tmp_path, 4 if name == "fgsbir" else 8, parts, 0 if name == "fgsbir" else 2)]
    data += [crowd(tmp_path, 2, parts, 3, "d")] if name == "cdsbir" else []
    tested = ("d3", "d4") if name == "cdsbir" else ()
    task, model = DrClip(name, data, 1, 1e-2, 4, tested), PromptedClip(clip)
    assert task.first.split.test == (tested or ("c0", "c1", "c2", "c3"))
    dice = np.random.default_rng(0)
    frozen = {}
    for side in SIDES:
        patches = torch.from_numpy(dice.normal(size=(len(task.parts[side]), 16, 32))).float()
        frozen[side] = {"patches": patches, "teacher": F.normalize(model.tower(patches, model.none, 0), dim=1)}
    own = task.of_problem(frozen, name)
    trained = task.model(model, own)
    task.loss(trained, own, torch.arange(4)).backward()
    assert all(p.grad.abs().max() > 0 for p in trained.parameters()) and 0 < task.validate(trained, own) <= 1
    found = task.predict(trained, own)
    assert len(found.photos) == len(task.first.photos) and task.first.level == (
        "instance" if name == "fgsbir" else "category"
    )
