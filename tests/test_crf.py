import pytest
import torch
import torch.nn.functional as F

from sfhelpers import metrics
from sfhelpers.tasks import segmentation


def test_the_crf_pulls_a_blurred_map_onto_the_edge_of_the_object():
    image = torch.full((3, 60, 80), 0.2)
    image[:, 15:45, 20:60] = torch.tensor([0.9, 0.5, 0.1])[:, None, None]
    mask = torch.zeros(60, 80, dtype=torch.bool)
    mask[15:45, 20:60] = True
    coarse = F.interpolate(mask[None, None].float(), size=(4, 5), mode="area")
    blurred = F.interpolate(coarse, size=(60, 80), mode="bilinear")[0, 0] * 0.8 + 0.1
    refined = segmentation.refine_with_crf(image, blurred)
    assert refined.shape == (60, 80) and refined.dtype == torch.float32
    assert refined.min() >= 0 and refined.max() <= 1
    before, after = (metrics.foreground_iou((m >= 0.5)[None], mask[None])[0] for m in (blurred, refined))
    assert after > 0.97 > before
    both = segmentation.refine_batch(torch.stack([image, image]), torch.stack([blurred, blurred]))
    assert torch.equal(both[0], refined) and torch.equal(both[1], refined)


def test_the_crf_takes_the_chosen_threshold_as_undecided():
    grey = torch.full((3, 20, 20), 0.5)
    faint = torch.full((20, 20), 0.3)
    assert (segmentation.refine_with_crf(grey, faint, threshold=0.2) > 0.5).all()
    assert (segmentation.refine_with_crf(grey, faint, threshold=0.5) < 0.5).all()


def test_the_crf_refuses_an_image_of_another_size():
    with pytest.raises(ValueError, match="same size"):
        segmentation.refine_with_crf(torch.zeros(3, 20, 20), torch.zeros(20, 21))
    with pytest.raises(ValueError, match="between 0 and 1"):
        segmentation.refine_with_crf(torch.zeros(3, 20, 20), torch.zeros(20, 20), threshold=0.0)
