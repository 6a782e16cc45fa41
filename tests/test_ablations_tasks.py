"""The four tasks serve the ablations: they train any variant, and test a trained one again."""

from types import SimpleNamespace

import pytest
import timm
import torch

from sfhelpers import toyworld
from sfhelpers.backbones import encoders
from sfhelpers.backbones.encoder_tokens import with_encoder
from sfhelpers.datasets import Dataset, first_sketches, sketchy
from sfhelpers.fusion import FusedExtractor
from sfhelpers.tasks import ablations
from sfhelpers.tasks.ablations_tasks import TASKS, problems
from tests.backbone_fixtures import one_sentence

SEEN = tuple(name for name in toyworld.CATEGORIES if name not in toyworld.UNSEEN)[:4]
VARIANTS = ablations.chosen([ablations.FULL, "w/o aggregation network"])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four seen and two unseen categories of six photos with a sketch each, masks and keypoints."""
    root = tmp_path_factory.mktemp("world")
    toyworld.write_sketchy(root, photos=6, sketches=1, categories=(*SEEN, *toyworld.UNSEEN[:2]))
    world = Dataset("world", root, "default", tuple(sketchy.read(root, unseen=toyworld.UNSEEN)))
    return first_sketches(world, 1)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_trains_variants_and_tests_again_what_is_not_silenced_with_the_same_values(tiny_backbone, data, name):
    problem = TASKS[name](data, 2, 1, 2e-3, 8)
    again = []

    def retest(trial, parts):
        before = problem.task.values(trial, parts)
        after = problem.task.values(problem.retest(trial, parts), parts)
        again.append(before.keys() == after.keys() and all((before[k] == after[k]).all() for k in before))
        return problem.retest(trial, parts)

    # Nothing is silenced here, so that a second test must find what the first one found.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablations, "silenced", lambda extractor, n: torch.no_grad())
        found = ablations.run(tiny_backbone, problem.task, VARIANTS, (0,), retest, log=lambda line: None)
    assert again == [True] * 3
    assert [o.variant for o in found] == [v.name for v in VARIANTS]
    for outcome in found:
        assert outcome.task == name and all(0 <= value <= 1 for value in outcome.values.values())
        assert min(outcome.n.values()) > 0
    assert found[1].parameters < found[0].parameters


def test_silencing_any_branch_changes_what_a_task_finds(tiny_backbone, data):
    problem = TASKS["segmentation"](data, 2, 1, 2e-3, 8)
    (full,) = ablations.run(tiny_backbone, problem.task, VARIANTS[:1], (0,), problem.retest, log=lambda line: None)
    assert all(without != full.values for without in full.without.values())


def test_real_data_is_split_clip_style_for_want_of_unseen_classes(data):
    seen = data.select(seen=True)
    assert TASKS["retrieval"](data, 2, 1, 2e-3, 8).split == "strict"
    assert TASKS["retrieval"](seen, 2, 1, 2e-3, 8).split == "clip-style"


@pytest.mark.parametrize("names", [[], ["retrieval", "guessing"]])
def test_unknown_tasks_are_refused(names):
    with pytest.raises(ValueError, match="unknown task") as error:
        problems(SimpleNamespace(), names)
    one_sentence(error)


def test_another_encoders_tokens_are_injected_in_the_place_of_clips(tiny_backbone, two_images):
    kind = encoders.ENCODERS["ImageNet"]
    torch.manual_seed(0)
    encoder = encoders.Encoder("ImageNet", timm.create_model(kind.model, num_classes=0), "abc")
    swapped = with_encoder(tiny_backbone, encoder)
    tokens = swapped.vision.tokens(two_images)
    assert tokens.shape[:2] == (2, swapped.vision.token_dim) and not tokens.requires_grad
    extractor = FusedExtractor(swapped, dim=12, grid=9, width=8)
    assert extractor.injection.convs[0].in_channels == swapped.vision.token_dim
    assert torch.equal(extractor.prepare(two_images)["tokens"], tokens)
    assert extractor(two_images).shape == (2, 12, 9, 9)
    assert swapped.weights_sha256 not in (tiny_backbone.weights_sha256, "abc")
