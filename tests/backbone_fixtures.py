"""A tiny random backbone in the real folder format, made once a session."""

from contextlib import contextmanager

import pytest
import torch

from sfhelpers.backbones import load_backbone
from sfhelpers.fusion import FusedExtractor
from tests.tiny import write_tiny


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """The folder of a tiny random backbone; copy it before you change anything in it."""
    return write_tiny(tmp_path_factory.mktemp("backbone") / "tiny")


@pytest.fixture(scope="session")
def tiny_backbone(tiny_folder):
    """The loaded backbone, on the CPU: 96 px, up-blocks of 32, 24, 16, 8 channels, 48-channel tokens on a 4x4 grid."""
    return load_backbone(tiny_folder, device="cpu")


@pytest.fixture
def two_images():
    """(2, 3, 96, 96) in [0, 1]."""
    return torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))


def one_sentence(error: pytest.ExceptionInfo) -> str:
    """The error's message, after making sure that it is one sentence."""
    message = str(error.value)
    assert "\n" not in message and message.endswith(".") and ". " not in message, message
    return message


@contextmanager
def refused(said=None, kind=ValueError):
    """What is done inside fails with one sentence that matches."""
    with pytest.raises(kind, match=said) as error:
        yield error
    one_sentence(error)


def small(backbone, inject="up", **options):
    """A small extractor."""
    return FusedExtractor(backbone, **{"dim": 12, "grid": 9, "width": 8, **options}, inject=inject)


def one_step(extractor, prepared, optimiser=None):
    """A training step; gives the optimiser for further ones."""
    optimiser = optimiser or torch.optim.AdamW(extractor.parameters(), lr=1e-2)
    optimiser.zero_grad()
    target = torch.rand(12, 9, 9, generator=torch.Generator().manual_seed(0)).to(extractor.aggregator.branch_weights)
    (extractor(prepared) - target).square().mean().backward()
    optimiser.step()
    return optimiser


def assert_same_loss_and_gradients(ours, loss, theirs, package):
    """A model built by hand and the package's: equal losses, and equal gradients that are not zero, to 1e-6."""
    assert abs(loss - package) < 1e-6
    for value in (loss, package):
        value.backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert parameter.grad.abs().max() > 0, name
        torch.testing.assert_close(parameter.grad, expected[name].grad, atol=1e-6, rtol=0, msg=name)
