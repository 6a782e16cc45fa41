"""What 00, 02, 03, 06, 08 and 09 build by hand, from their own cells, is the package's, and counts what it says."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sfhelpers import metrics, plots
from sfhelpers.backbones import load_backbone
from sfhelpers.datasets import Record, psc6k
from sfhelpers.fusion import FusedExtractor
from sfhelpers.images import Square
from sfhelpers.plots.matches import Match
from sfhelpers.search.framing import Frame
from sfhelpers.tasks import correspondence, drclip, matchmaker
from sfhelpers.tasks.compare import Trial
from sfhelpers.tasks.correspondence import SIDES, SketchMatcher, predict_pairs
from sfhelpers.tasks.recognition import Recognition, SketchRecogniser
from sfhelpers.tasks.retrieval import SIDES as RETRIEVED
from sfhelpers.tasks.retrieval import SketchRetriever
from tests.backbone_fixtures import assert_same_loss_and_gradients, sketch, small
from tests.cells import defined, handbuilt, run_cells, solutions
from tests.test_correspondence import truth, world
from tests.test_matchmaker import HAND as PROMPTED
from tests.test_matchmaker import OWN, SAME, loss_of, made
from tests.test_segmentation import TinyExtractor

EXTRACTOR = handbuilt("02_fused_extractor", torch=torch, F=F, nn=nn)


@pytest.mark.parametrize("seed", [0, 1])
def test_handbuilt_extractor_equals_the_package_in_features_and_gradients(tiny_backbone, two_images, seed):
    ours = small(tiny_backbone, seed=seed)
    for parameter in ours.injection.parameters():
        nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(5))
    prepared = ours.prepare(two_images)
    ours.fit_statistics(prepared)
    mine = EXTRACTOR.HandBuiltExtractor(tiny_backbone, 12, 9, width=8, seed=seed)  # as `small` gives the package's
    assert not torch.allclose(mine(two_images), ours(prepared), atol=1e-2)
    mine.load_state_dict(ours.state_dict())
    tokens, noised = tiny_backbone.vision.tokens(two_images), tiny_backbone.diffusion.noised(two_images, seed=seed)
    features, maps = [*ours.features(prepared).values()], (mine(two_images), ours(prepared))
    torch.testing.assert_close([*mine.features(noised, tokens), maps[0]], [*features, maps[1]], atol=1e-6, rtol=0)
    target = torch.rand(maps[0].shape, generator=torch.Generator().manual_seed(seed))
    for result in maps:
        (result - target).square().sum().backward()  # a sum, so that no gradient is small against 1e-6
    package = dict(ours.named_parameters())
    for name, parameter in mine.named_parameters():
        assert package[name].grad.abs().max() > 1e-3, name
        torch.testing.assert_close(parameter.grad, package[name].grad, atol=1e-6, rtol=0, msg=name)


def test_a_hook_that_fails_leaves_the_unet_as_it_was(tiny_backbone, two_images):
    diffusion = tiny_backbone.diffusion
    with pytest.raises(RuntimeError, match="no"):
        EXTRACTOR.run_unet(diffusion, diffusion.noised(two_images), Mock(side_effect=RuntimeError("no")))
    assert not any(block._forward_hooks for block in diffusion.unet.up_blocks)


@pytest.mark.parametrize("source", solutions("02_fused_extractor").values())
def test_a_solution_of_02_runs_and_its_asserts_hold(tiny_backbone, two_images, source, capsys):
    tokens = tiny_backbone.vision.tokens(two_images)
    assert "assert " in source
    names = {"torch": torch, "F": F, "nn": nn, "FusedExtractor": FusedExtractor, "FlopCounterMode": FlopCounterMode}
    names |= {"models": tiny_backbone, "images": two_images, "tokens": tokens, "side": 24}
    exec(source, vars(defined("02_fused_extractor", run=SimpleNamespace(device="cpu", seed=0), **names)))


def test_dr_clips_losses_and_gradients_by_hand_are_the_packages(vit_backbone):
    hand, dice = handbuilt("09_drclip", torch=torch, nn=nn, deepcopy=deepcopy, SIDES=RETRIEVED), torch.Generator()
    backbone = load_backbone(vit_backbone.name, device="cpu", dtype=torch.float64)  # else roundings reach 1e-6
    theirs = drclip.PromptedClip(backbone).teach(("cat", "car", "photo"))
    ours, names = (
        hand.ByHand(theirs.tower).double(),
        [(s, name) for s in RETRIEVED for name in theirs.tower.tunable("norms")],
    )
    mine = [*ours.prompts.values(), *(ours.towers[s].get_parameter(name) for s, name in names)]
    yours = [*theirs.prompts.values(), *(theirs.tuned[s][name.replace(".", "/")] for s, name in names)]
    learned = [parameter for parameter in ours.parameters() if parameter.requires_grad]
    assert len(mine) == len(yours) == len(learned) == len(list(theirs.parameters())) == 36
    batch = {s: theirs.frozen(torch.rand(6, 3, 32, 32, generator=dice)) for s in RETRIEVED}
    labels = {s: torch.tensor([0, 1, 2, 1, 2, 0]) for s in RETRIEVED}
    step = batch, labels, labels["sketches"][:, None] == labels["photos"]
    texts = theirs.texts, backbone.vision.model.logit_scale.exp()
    for _ in range(2):  # from CLIP's own weights, and from those of a step
        with torch.no_grad():
            for own, copied in zip(mine, yours, strict=True):
                copied.copy_(own)
        found, package = hand.losses(ours, *step, *texts), theirs.terms(*step)
        for name in drclip.FULL:
            both = (found[name], mine), (package[name], yours)
            gradients = [torch.autograd.grad(loss, some, retain_graph=True) for loss, some in both]
            assert all(gradient.abs().max() > 0 for gradient in gradients[0]), name
            torch.testing.assert_close(
                [found[name], *gradients[0]], [package[name], *gradients[1]], atol=1e-6, rtol=1e-5
            )
        told = hand.step(ours, hand.optimiser_of(ours, 1e-2), *step, *texts)
        assert told == {name: value.item() for name, value in found.items()}


def test_recognitions_loss_gradients_and_step_by_hand_are_the_packages(tiny_backbone):
    hand, dice = handbuilt("06_recognition", torch=torch, nn=nn), torch.Generator().manual_seed(0)
    theirs = SketchRecogniser(small(tiny_backbone), ["cat", "cup", "key"], dim=12)
    ours, labels = hand.Recogniser(small(tiny_backbone), 3, dim=12), torch.arange(8) % 3
    prepared = theirs.extractor.prepare(torch.rand(8, 3, 96, 96, generator=dice))
    theirs.fit_statistics(prepared)
    assert not any(parameter.any() for parameter in ours.head.parameters())
    nn.init.normal_(theirs.head.weight, std=0.05, generator=dice)  # from zero, nothing before the head would learn
    ours.load_state_dict({name.removeprefix("statistics."): value for name, value in theirs.state_dict().items()})
    loss = hand.cross_entropy(ours(prepared), labels)
    package = Recognition.loss(None, theirs, {"train": prepared | {"labels": labels}}, torch.arange(8))
    assert_same_loss_and_gradients(ours, loss, theirs, package)
    optimiser = torch.optim.AdamW(ours.parameters(), 2e-3)
    losses = [hand.step(ours, optimiser, prepared, labels) for _ in range(6)]
    assert losses[0] == loss.item() and losses[-1] < losses[0]


@pytest.mark.parametrize("level", ["category", "instance"])
def test_the_matchmakers_vectors_loss_gradients_and_step_by_hand_are_the_packages(tiny_folder, level):
    backbone = load_backbone(tiny_folder, device="cpu", dtype=torch.float64)  # its maxima hardly vary
    extractor, frozen = made(backbone, level)
    ours, dice = PROMPTED.Prompts(backbone.diffusion, matchmaker.WIDTH).double(), torch.Generator().manual_seed(0)
    for prompts in (ours, extractor):  # away from the start, where a frame of zeros could be lost unseen
        nn.init.normal_(prompts.frame, std=0.1, generator=torch.Generator().manual_seed(1))
    noises = [torch.randn(8, 24, 24, generator=dice).double() for _ in range(2)]
    places = [int(name[1]) - 1 for name in matchmaker.LEVELS[level]]
    mean, std = (torch.cat([getattr(s, kind) for s in extractor.statistics.values()]) for kind in ("mean", "std"))

    def loss():
        found = PROMPTED.vectors(PROMPTED.maxima(ours, frozen["pixels"], noises, places), mean, std)
        torch.testing.assert_close(found, SketchRetriever(extractor)(frozen), atol=1e-6, rtol=0)
        return PROMPTED.very_photo_loss(found[::2], found[1::2], OWN, SAME, margin=1.0)

    assert_same_loss_and_gradients(ours, loss(), extractor, loss_of(extractor, frozen))
    optimisers = [torch.optim.AdamW(prompts.parameters(), 0.01) for prompts in (ours, extractor)]
    PROMPTED.step(ours, optimisers[0], loss())
    nn.utils.clip_grad_norm_(extractor.parameters(), 1.0)
    optimisers[1].step()
    for mine, theirs in zip(ours.parameters(), extractor.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0)


def by_hand(**given):
    given |= {"psc6k": psc6k, "replace": replace, "run": SimpleNamespace(split="default"), "Match": Match}
    return defined("03_correspondence", **vars(correspondence) | given)


HAND = by_hand()


@pytest.mark.parametrize("seed", [0, 1])
def test_correspondences_loss_gradients_places_and_score_are_the_packages(seed):
    data, package = world(6, seed), SketchMatcher(TinyExtractor(seed))
    ours = HAND.HandBuiltMatcher(TinyExtractor(seed + 7))
    ours.load_state_dict(package.state_dict())
    chosen = dict(zip(("sketch", "photo"), data.images.pairs.unbind(1), strict=True))
    prepared = {"sketch": data.images.sketches["pixels"], "photo": data.images.photos["pixels"]}
    maps = {kind: ours.extractor({"pixels": prepared[kind][index]}) for kind, index in chosen.items()}
    loss = sum(ours.losses(maps, data.points, data.visible))
    assert_same_loss_and_gradients(ours, loss, package, package.loss(data, torch.arange(12)))
    places = predict_pairs(package, data)
    for direction, (here, there) in SIDES.items():
        cosine = HAND.correlation(maps[here], maps[there], data.points[here])
        found = HAND.soft_argmax(HAND.in_window(cosine) / package.log_temperature.exp()).detach()
        torch.testing.assert_close(found, places[direction], atol=1e-6, rtol=0)
    theirs = metrics.pck(places["s2p"], data.points["photo"], 0.1, 1, data.visible)
    np.testing.assert_allclose(HAND.pck(places["s2p"], data.points["photo"], data.visible, 0.1), theirs, rtol=1e-6)


def test_ways_to_fail_are_counted():
    data = world(3, 0)
    data.points = {kind: torch.linspace(0.05, 0.95, 6)[:, None].expand(6, 6, 2) for kind in data.points}
    assert HAND.fates(truth(data), data, 0.05) == {"right": 1, "on another keypoint": 0, "elsewhere": 0}
    assert HAND.fates({d: p + 3 for d, p in truth(data).items()}, data, 0.05)["elsewhere"] == 1
    data.visible[:] = True
    assert HAND.fates({d: p.roll(1, 1) for d, p in truth(data).items()}, data, 0.05)["on another keypoint"] == 1


def test_wrong_points_on_another_thing_are_counted_and_what_other_things_cover():
    data = world(3, 0)
    data.visible[:] = True
    data.points = {kind: torch.full((6, 6, 2), 0.25) for kind in data.points}
    data.images.photo_records = [
        Record(Path(f"{k}"), "photo", "cat", f"{k}", Path("m"), also=(("dog", Path("n")), ("key", Path("o"))) * (k < 2))
        for k in range(3)
    ]
    own, other = torch.zeros(2, 160, 160, dtype=torch.bool)
    own[:80], other[80:, 80:] = True, True
    data.images.masks = torch.stack([own, other, own & other] * 2 + [own])
    whole = torch.tensor([len(data.images.photo_records[k].also) > 0 for k in data.images.pairs[:, 1]])
    share = whole.double().mean().item()
    for place, expected in ((0.75, share), (0.25, 0), (0.95, share)):
        places = {direction: torch.full((6, 6, 2), place) for direction in SIDES}
        assert HAND.astray(places, data, 0.1) == pytest.approx((expected, share / 4 if place != 0.25 else 0))


def test_mirrored_pairs_are_known_by_three_points_and_measured_apart():
    turn, flip = torch.tensor([[0.8, -0.6], [0.6, 0.8]]), torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
    data = world(4, 0)
    moved = {"sketch": data.points["sketch"], "photo": 0.5 * data.points["sketch"] @ turn}
    moved["photo"][:2] = moved["photo"][:2] @ flip
    data = replace(data, points=moved, visible=torch.ones_like(data.visible))
    assert HAND.mirrored(data).tolist() == [True] * 2 + [False] * 6
    few = (torch.arange(6) < 2).expand_as(data.visible)  # through two points goes a mirror image of everything
    assert not HAND.mirrored(replace(data, visible=few)).any()
    places = {direction: places.roll(1, 1) for direction, places in truth(data).items()}
    for direction in places:
        places[direction][:2] = truth(data)[direction][:2]  # only those of mirrored pairs are right
    task = object.__new__(HAND.MirroredApart)
    measured = task.measure(Trial("fused", 0, found={"unseen": places}), {"unseen": data})
    found = {m.gallery: m for m in measured if m.metric == "PCK@5"}
    whole, *apart = (found[f"unseen categories{end}"] for end in ("", ", not mirrored", ", mirrored"))
    assert [len(m.values) for m in (whole, *apart)] == [16, 12, 4] and apart[1].values.mean() == 1
    assert apart[0].values.mean() < 0.5 and all(m.groups is None for m in apart)


def test_a_directed_pair_is_drawn_with_its_own_images_and_points():
    data = world(2, 0, sketches=1)
    matched = truth(data)
    matched["p2s"][1] = 3.0
    hand = by_hand(pairs=data, matched=matched, flipped=np.array([True, False]), open_image=str)
    first, last = (hand.drawn(k, 0.05) for k in (0, 3))
    assert (first.source, first.target, last.source, last.target) == ("0-0.png", "0.png", "1.png", "1-0.png")
    shown = [int(data.visible[k].sum()) for k in (0, 1)]
    assert first.label == f"dots, mirrored: {shown[0]} of {shown[0]} within 5 %" and first.right.all()
    assert last.label == f"dots: 0 of {shown[1]} within 5 %" and not last.right.any()
    np.testing.assert_array_equal(first.points, data.points["sketch"][0][data.visible[0]])


def test_the_exercises_code_of_03_runs(capsys):
    (source,), model = solutions("03_correspondence").values(), SketchMatcher(TinyExtractor())
    names = {"first": {"fused": SimpleNamespace(model=model)}, "annotated": SimpleNamespace(select=lambda *_: None)}
    names |= {"models": None, "prepare_points": lambda *_: world(3, 0), "reading_size": lambda _: 0}
    exec(source, names | {"predict_pairs": predict_pairs, "score": correspondence.score})
    assert len(capsys.readouterr().out.splitlines()) == 3 and model.settings["window"] == 7


@pytest.fixture(scope="module")
def names(searcher, heads):
    """What the cells tagged handbuilt define, asking untrained models."""
    names = {"plots": plots, "Square": Square, "trained": heads, "search": SimpleNamespace(searcher=searcher)}
    return run_cells("00_start_here", names, "handbuilt")


def test_right_answers_and_chance_are_counted(names, searcher, tmp_path, monkeypatch):
    red, _, blue = torch.eye(3)
    monkeypatch.setitem(names, "embedded", lambda gallery, sketches: torch.stack([red, red, blue]))
    sketches = [SimpleNamespace(category=name) for name in ("cat", "dog", "dog")]
    photos = [SimpleNamespace(things=things) for things in (("cat",), ("cat", "dog"), ("cat",), ("dog",))]
    embeddings = torch.stack([red, red, red, blue])
    gallery = SimpleNamespace(embeddings=embeddings, records=photos, categories=("cat", "dog"))
    asking = SimpleNamespace(gallery=gallery, recognise=lambda embeddings: (9 * embeddings[:, [0, 2]]).softmax(1))
    answers, likely = names["ask"](asking, sketches)
    assert [key[0] for key in answers] == ["P@1"] * 2 + ["category accuracy"] * 2 and (likely > 0.5).all()
    right, chance, named, blind = (values.tolist() for values in answers.values())
    assert right == named == [True, False, True] and chance == [0.75, 0.5, 0.5] and set(blind) == {0.5}
    monkeypatch.undo()
    sketch().save(tmp_path / "a.png")
    asked = names["embedded"](searcher.gallery, [SimpleNamespace(path=tmp_path / "a.png")] * 33)
    assert torch.allclose(asked, searcher.gallery.embed([Frame.of(sketch())]).expand(33, -1), atol=1e-6)


def test_a_match_counts_when_it_is_near_enough(names):
    flag = torch.from_numpy(np.asarray(sketch()) / 255).permute(2, 0, 1).float()
    points = torch.tensor([[(20, 130), (80, 40), (20, 30)]]).expand(2, -1, -1) / 160
    pairs = SimpleNamespace(images=torch.stack([flag, flag])[None], points=points[None].clone())
    pairs.visible = torch.tensor([[[True, True, False], [True, True, True]]])
    assert names["pck"](pairs, ("tokens",), radius=0.15).tolist() == [True, True]
    there = names["nearest"](*[names["feature_map"](flag, ("f3", "tokens"))] * 2, points[0])
    assert (there - points[0]).abs().max() < 0.15, "a place is most like itself"
    pairs.points[0, 1] = 1 - points[0]
    assert not names["pck"](pairs, ("tokens",), radius=0.05).any()
