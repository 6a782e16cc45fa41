"""SD-PL: what learns gets gradients through the frozen models, its vectors, its arms, and what is told of them."""

import math
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfhelpers import results
from sfhelpers.backbones import load_backbone
from sfhelpers.datasets.splits import problems_of
from sfhelpers.images import load_images
from sfhelpers.metrics import AP
from sfhelpers.tasks import compare, matchmaker, retrieval
from sfhelpers.tasks.matchmaker import LINEAR, NEITHER, PLAIN, REAL, SD_PL, TOWER, TUNED, Matchmaker
from sfhelpers.tasks.retrieval import B_CLIP, CHANCE, SketchRetriever
from tests.backbone_fixtures import RUN, refused
from tests.cells import defined, handbuilt, solutions

HAND = handbuilt("08_matchmaker", torch=torch, nn=nn, F=F)
LEARNED = {  # method -> what gets gradients
    SD_PL: {"frame", "text_prompt"}, "visual prompt only": {"frame"}, "text prompt only": {"text_prompt"},
    PLAIN: set(), REAL: set(), LINEAR: {"linear.weight"}, TOWER: {"frame"},
}  # fmt: skip
HALVES = {"visual prompt only": {"learn_text": False}, "text prompt only": {"width": 0}}  # as 08 leaves one out
SAME = torch.eye(2).bool().repeat(2, 2)  # two categories, two photos of each
OWN = torch.eye(4).bool()


def made(backbone, level="category", method=SD_PL, **settings):
    """An extractor that looks at a level, standardised on eight images, and what is frozen of these."""
    extractor = matchmaker.arm_of(method, backbone, 0, **{"draws": 2, **settings}).extractor()
    extractor.choose(level)
    frozen = extractor.frozen(torch.rand(8, 3, 96, 96, generator=torch.Generator().manual_seed(0)))
    extractor.fit_statistics(frozen)
    return extractor, frozen


def loss_of(extractor, frozen, level="instance", margin=1.0):
    model = SketchRetriever(extractor, margin, level)
    sides = [model({"pixels": frozen["pixels"][k::2]}) for k in (0, 1)]
    return retrieval.retrieval_loss(*sides, SAME, OWN, **model.settings)


def frozen_models(backbone):
    return (backbone.diffusion.vae, backbone.diffusion.unet, backbone.diffusion.text_encoder, backbone.vision.model)


@contextmanager
def untouched(backbone):
    """No weight of the backbone gets a gradient inside or is another one afterwards."""
    before = [deepcopy(module.state_dict()) for module in frozen_models(backbone)]
    yield
    for module, old in zip(frozen_models(backbone), before, strict=True):
        assert all(p.grad is None and not p.requires_grad for p in module.parameters())
        assert all(torch.equal(value, old[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("method", LEARNED)
def test_what_learns_gets_gradients_through_the_frozen_models_and_nothing_else_does(tiny_backbone, method):
    extractor, frozen = made(tiny_backbone, method=method, **HALVES.get(method, {}))
    with untouched(tiny_backbone):
        loss = loss_of(extractor, frozen)
        if LEARNED[method]:
            loss.backward()
    assert loss.requires_grad == bool(LEARNED[method])
    for name, parameter in extractor.named_parameters():
        assert parameter.requires_grad == (name in LEARNED[method]), name
        if parameter.requires_grad:
            rows = parameter.grad.abs().sum(-1) if name == "text_prompt" else parameter.grad
            assert parameter.grad.isfinite().all() and (rows != 0).float().mean() > 0.99, "at every pixel and token"
    assert {name for name, p in extractor.named_parameters() if p.grad is not None} == LEARNED[method]


def test_finetuning_trains_a_copy_of_the_unet_alone(tiny_backbone):
    extractor, frozen = made(tiny_backbone, method=TUNED)
    with untouched(tiny_backbone):
        loss_of(extractor, frozen).backward()
        torch.optim.SGD(extractor.parameters(), lr=0.1).step()
    reached = {name for name, p in extractor.named_parameters() if p.grad is not None}
    assert reached and all(name.startswith("unet.") for name in reached)
    pairs = zip(extractor.unet.parameters(), tiny_backbone.diffusion.unet.parameters(), strict=True)
    assert not all(torch.equal(mine, theirs) for mine, theirs in pairs)


@pytest.mark.parametrize("method", [SD_PL, LINEAR, TUNED, TOWER])
def test_beside_models_in_half_precision_what_learns_stays_in_single(tiny_folder, tiny_backbone, method):
    half = load_backbone(tiny_folder, "cpu", torch.bfloat16)
    extractor, frozen = made(half, method=method)
    exact, _ = made(tiny_backbone, method=method)
    with untouched(half):
        loss_of(extractor, frozen).backward()
    learned = [p for p in extractor.parameters() if p.requires_grad]
    assert learned and {p.dtype for p in extractor.parameters()} == {torch.float32}
    assert all(p.grad.isfinite().all() for p in learned if p.grad is not None)
    with torch.no_grad():
        found, expected = extractor.pooled(frozen), exact.pooled(frozen)
    assert found.dtype == torch.float32 and F.cosine_similarity(found, expected).min() > 0.9
    assert {p.dtype for module in frozen_models(half) for p in module.parameters()} == {torch.bfloat16}


def test_six_draws_are_the_mean_of_six_single_ones_and_at_the_start_features_are_the_plain_ones(tiny_folder):
    backbone = load_backbone(tiny_folder, device="cpu", dtype=torch.float64)  # else roundings come near to 1e-6
    extractor, frozen = made(backbone, "instance", draws=6)
    diffusion, images = backbone.diffusion, frozen["pixels"]
    with torch.no_grad():
        together = extractor.maps(images + extractor.visual_prompt)
        noised = diffusion.noised(images, 273, draws=6)
        single = [
            diffusion.through_hooks({**noised, "noisy": noised["noisy"][:, k : k + 1]}, until=4) for k in range(6)
        ]
        plain = diffusion.features(images, timestep=273, draws=6)
        for number, name in ((2, "f3"), (3, "f4")):
            mean = torch.stack([outputs[number] for outputs in single]).mean(0)
            torch.testing.assert_close(together[name], mean, atol=1e-6, rtol=0)
            torch.testing.assert_close(together[name], plain[number], atol=1e-6, rtol=0)
        values = extractor.pooled(frozen)
        untouched = made(backbone, "instance", PLAIN, draws=6)[0].pooled(frozen)
    torch.testing.assert_close(values, untouched, atol=1e-6, rtol=0)
    torch.testing.assert_close(values.mean(0), torch.zeros_like(values[0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(values.std(0, correction=0), torch.ones_like(values[0]), atol=1e-3, rtol=0)


def test_the_frame_is_added_at_the_edge_alone(tiny_backbone):
    for width, edge in ((1 / 8, 12), (1 / 4, 24), (1 / 2, 48)):
        extractor = matchmaker.PromptedDiffusion(tiny_backbone, width=width)
        nn.init.ones_(extractor.frame)
        prompt = extractor.visual_prompt
        assert prompt.sum() == extractor.frame.numel() == 3 * (96**2 - (96 - 2 * edge) ** 2)
        assert not prompt[:, edge : 96 - edge, edge : 96 - edge].any()
    extractor.frame.data = torch.arange(3.0 * 96 * 96).view(3, -1)
    assert torch.equal(extractor.visual_prompt, torch.arange(3.0 * 96 * 96).view(3, 96, 96)), "each in its place"


def test_the_text_prompt_starts_from_a_prompt_and_what_is_shared_is_the_pixels(tiny_backbone, two_images):
    diffusion = tiny_backbone.diffusion
    for text in ("", "a"):
        extractor = matchmaker.PromptedDiffusion(tiny_backbone, text=text)
        assert torch.equal(extractor.text_prompt, diffusion.text(text)) and extractor.text_prompt.shape == (16, 32)
    arms = [matchmaker.arm_of(method, tiny_backbone, seed, draws=1) for method in (SD_PL, PLAIN) for seed in (0, 1)]
    keys = {arm.frozen_key for arm in arms}
    assert len(keys) == 1 and matchmaker.arm_of(TOWER, tiny_backbone, 0).frozen_key not in keys
    assert torch.equal(extractor.frozen(two_images)["pixels"], two_images)
    first, other = (arm.extractor() for arm in arms[:2])
    first.choose("category")
    other.choose("category")
    assert not torch.equal(first.pooled(two_images), other.pooled(two_images)), "a seed's own noise"


@pytest.mark.parametrize("method", [SD_PL, TOWER])
def test_images_some_at_a_time_give_the_same_and_keep_less_for_the_backward_pass(tiny_backbone, method):
    kept, found = [], []
    for at_once in (0, 3):
        extractor, frozen = made(tiny_backbone, method=method, at_once=at_once)
        kept.append(0)

        def keep(tensor):
            kept[-1] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = loss_of(extractor, frozen)
        loss.backward()
        found.append([loss, *(p.grad for p in extractor.parameters() if p.requires_grad)])
    torch.testing.assert_close(*found, atol=1e-6, rtol=1e-4)
    assert kept[1] < kept[0] / 5


def test_the_loss_of_three_items_is_that_worked_out_by_hand():
    sketch, photos = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8], [0.8, 0.6], [0.0, 1.0]])
    same, own = torch.tensor([[True, True, False]]), torch.tensor([[True, False, False]])
    # Distances .4, .2 and 1. Category: max(0, .3 + .4 - 1) and max(0, .3 + .2 - 1). Hard: max(0, .3 + .4 - .2).
    for level, margin, expected in (("category", 0.3, 0), ("category", 1.0, 0.3), ("instance", 0.3, 0.5)):
        assert retrieval.retrieval_loss(sketch, photos, same, own, level, margin, 1.0) == pytest.approx(expected)
    hand = HAND.very_photo_loss(sketch, photos, own, same, margin=0.3)
    assert hand == pytest.approx(0.5) and HAND.triplet_loss(sketch, photos, same, ~same, 1.0) == pytest.approx(0.3)


def test_what_cannot_be_is_refused_in_one_sentence(tiny_backbone, toy):
    ours = matchmaker.PromptedDiffusion
    for words, make in {
        "width is 0.51: a frame takes 0 to 0.5": lambda: ours(tiny_backbone, width=0.51),
        "the UNet has no level 'f5': use some of f1": lambda: ours(tiny_backbone, levels=("f1", "f5")),
        "draws is 0": lambda: ours(tiny_backbone, draws=0),
        "timestep 1000 is not in the scheduler": lambda: ours(tiny_backbone, timestep=1000),
        "the prompt has .* tokens": lambda: ours(tiny_backbone, text="a cat " * 20),
        "at_once is -1": lambda: ours(tiny_backbone, at_once=-1),
        "1 training categories are asked for: choose from 2 to 4": lambda: Matchmaker(toy, 1, 0.01, 8, classes=1),
        "unknown problem 'gzz'": lambda: Matchmaker(toy, 1, 0.01, 8, ("gzz",)),
    }.items():
        with refused(words):
            make()


def test_fewer_classes_teach_and_standardise(toy):
    whole = problems_of(toy, ("strict",))["strict"].train
    few = Matchmaker(toy, 1, 0.01, 8, ("strict",), classes=2)
    train = few.about["strict"].train
    names = [{toy.sketches[k].category for k in groups.pairs[:, 0]} for groups in (train, whole)]
    assert len(names[0]) == 2 < len(names[1]) == 4 and names[0] < names[1]
    for members in train.members.values():
        assert len({toy.sketches[k].category for k in train.pairs[members, 0]}) == 1
    assert set(map(tuple, train.draw(torch.arange(len(train)), 0).tolist())) <= set(map(tuple, whole.pairs.tolist()))
    assert few.images != Matchmaker(toy, 1, 0.01, 8, ("strict",)).images, "a training does not go on from another's"


@pytest.fixture(scope="module")
def compared(tiny_backbone, toy):
    """The task, its trials by method and problem, and what was frozen of the last arm."""
    task = Matchmaker(toy, 1, 1e-2, 16, ("strict", "fine-grained"))
    wanted = [matchmaker.arm_of(method, tiny_backbone, 0, draws=1) for method in (SD_PL, PLAIN, TOWER)]
    trials, frozen = compare.compare(tiny_backbone, task, [*wanted, *task.baselines])
    return task, {(trial.method, trial.problem): trial for trial in trials}, frozen


def test_every_problem_looks_at_its_levels_and_what_has_nothing_to_learn_is_only_measured(compared, tiny_backbone):
    task, trials, _ = compared
    methods = (SD_PL, PLAIN, TOWER, B_CLIP, CHANCE)
    assert set(trials) == {(method, problem) for method in methods for problem in ("strict", "fine-grained")}
    for problem, levels in (("strict", ["f1", "f2"]), ("fine-grained", ["f3", "f4"])):
        trained, plain = (trials[method, problem] for method in (SD_PL, PLAIN))
        assert [*trained.model.extractor.statistics] == levels
        assert trained.parameters == 3 * (96**2 - 72**2) + 16 * 32 and trained.history.steps > 0
        assert (plain.parameters, plain.history.steps, plain.history.ended) == (0, 0, "")
        assert plain.history.best == trained.history.epochs[0]["validation"], "training starts from it"
        places = task.about[problem].places
        photos = load_images([task.parts["photos"][k].path for k in places[1][:2]], 96)
        with torch.no_grad():
            torch.testing.assert_close(trained.model.eval()(photos), trained.found.photos[:2], atol=1e-5, rtol=0)


def test_rows_tell_both_galleries_and_sd_pl_is_tested_against_every_other(compared):
    task, trials, frozen = compared
    rows = compare.rows(RUN, task, trials.values(), frozen, "a" * 64)
    tests = compare.differences(RUN, task, trials.values(), frozen, "a" * 64)
    assert {row.task for row in rows + tests} == {"retrieval"} and {row.gallery for row in rows} >= {"all", "class"}
    for metric in ("mAP@all", "Acc@1"):
        assert set(results.differences(tests, "all", metric)) == {PLAIN, TOWER, B_CLIP, CHANCE}
    (expected,) = [row for row in rows if row.metric == retrieval.EXPECTED]
    assert expected.value == 1 / 18 and all(math.isfinite(row.value) for row in rows + tests)


def test_every_arm_and_variant_may_be_asked_every_question(toy):
    task = Matchmaker(toy, 1, 1e-2, 8)
    assert task.problems(SD_PL) == task.problems("t = 50") == ("strict", "fine-grained", "clip-style")


def test_a_training_that_was_stopped_goes_on_to_the_same_end(tiny_backbone, toy, tmp_path, monkeypatch):
    arm, told = matchmaker.arm_of(SD_PL, tiny_backbone, 0, draws=1), []

    def ended(folder):
        task = Matchmaker(toy, 2, 1e-2, 8, ("strict",))
        (trial,), _ = compare.compare(tiny_backbone, task, [arm], checkpoints=folder)
        return trial

    def stopping(*given):
        told.append(len(told))
        if len(told) == 5:  # a step of the second epoch
            raise KeyboardInterrupt
        return kept(*given)

    whole, kept = ended(tmp_path / "whole"), Matchmaker.loss
    monkeypatch.setattr(Matchmaker, "loss", stopping)
    with pytest.raises(KeyboardInterrupt):
        ended(tmp_path / "stopped")
    again = ended(tmp_path / "stopped")
    assert whole.history.steps == 6 and len(told) == 5 + 3, "the first epoch is not trained again"
    losses = [[epoch["loss"] for epoch in trial.history.epochs] for trial in (whole, again)]
    assert losses[0] == losses[1], "since the best epoch may be the one before any step"
    assert torch.equal(whole.found.photos, again.found.photos)
    assert all(map(torch.equal, whole.model.parameters(), again.model.parameters()))
    with refused("settings"):
        compare.compare(
            tiny_backbone, Matchmaker(toy, 2, 1e-2, 8, ("strict",)),
            [replace(arm, settings={"draws": 1, "timestep": 5})], checkpoints=tmp_path / "stopped",
        )  # fmt: skip


def test_attention_of_the_tokens_is_a_share_and_of_the_tokens_that_are_there(tiny_backbone):
    extractor, frozen = made(tiny_backbone)
    given = {"AP": AP, "matchmaker": matchmaker, "run": SimpleNamespace(draws=1, epochs=1), "of_arms": ()}
    hand = defined("08_matchmaker", **vars(HAND), **given)
    shares = hand.attention(extractor, frozen["pixels"][:2], 1)
    assert len(shares) == 2 * 2 and all(share.shape == (2, 144, 16) for share in shares), "two layers, two draws"
    for share in shares:
        torch.testing.assert_close(share.sum(-1), torch.ones(share.shape[:-1]), atol=1e-5, rtol=0)
    assert NEITHER == {"width": 0, "learn_text": False}


def test_the_exercises_code_of_08_runs(compared, tiny_backbone, two_images, capsys):
    task, trials, _ = compared
    names = {**vars(HAND), "matchmaker": matchmaker, "models": tiny_backbone, "task": task}
    names |= {"run": SimpleNamespace(seed=0, text=""), "SD_PL": SD_PL, "diffusion": tiny_backbone.diffusion}
    names["first"] = {method: trial for (method, problem), trial in trials.items() if problem == "strict"}
    # Squared, since of the same two images on both sides both frames would get the same gradient.
    names |= {"drawn": two_images, "shot": two_images.flip(0) ** 2, "same": torch.eye(2, dtype=torch.bool)}
    extractor = trials[SD_PL, "strict"].model.extractor
    before = extractor.frame.clone(), extractor.text_prompt.clone()
    for source in solutions("08_matchmaker").values():
        exec(source, names)
    first, second, *held = capsys.readouterr().out.splitlines()
    (frame, text), (other, again) = ([float(word) for word in line.split()] for line in (first, second))
    assert min(frame, other, text) > 0 and frame != other and text == again, "a frame each and one text"
    names = ["as learned", "shuffled", "none", "the first token alone", "all"]
    assert [line.rpartition(" ")[0] for line in held] == names
    assert held[0].split()[-1] == held[-1].split()[-1], "all is as it was learned"
    assert torch.equal(extractor.frame, before[0]) and torch.equal(extractor.text_prompt, before[1])
