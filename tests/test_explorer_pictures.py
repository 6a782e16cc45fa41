"""What a click on the PCA explorer and the slider of the frequency explorer show."""

import io

import numpy as np
import pytest
from PIL import Image

from sfhelpers.pilot import band_pass
from sfhelpers.widgets.explorer import SIDES
from sfhelpers.widgets.frequency import FrequencyExplorer
from sfhelpers.widgets.pca import PCAExplorer, _sheet
from tests.explorer_helpers import maker, picture


@pytest.fixture(scope="module")
def make(tiny_backbone):
    """Makes an explorer of two pairs."""
    return maker(tiny_backbone)


def test_a_click_asks_for_the_positions_most_like_the_one_under_it(make):
    spots = np.random.default_rng(1).random((64, 64))
    explorer = make(PCAExplorer, pairs=[(spots, spots)], labels=["cat"])
    before = picture(explorer)
    grid = explorer.maps(explorer.images[0], explorer.settings).shape[-1]
    x, y = ((int(share * grid) + 0.5) / grid for share in (0.3, 0.7))  # a position of the grid itself
    left, top, side = _sheet().places["sketch map"]
    width, height = Image.open(io.BytesIO(before)).size
    explorer.image.click((left + x * side) / width, (top + y * side) / height)
    assert explorer.point[0] == "sketch" and explorer.point[1:] == pytest.approx((x, y))
    assert f"in the photo is ({x:.2f}, {y:.2f}), marked o, cosine <b>1.00</b>" in explorer.words.value  # equal images
    assert picture(explorer) != before
    explorer.image.click(0.001, 0.001)
    assert "between the pictures" in explorer.words.value and explorer.point[0] == "sketch"


def test_a_point_outside_the_images_is_refused(make):
    explorer = make(PCAExplorer)
    before = picture(explorer)
    for point in [("sketch", 2, 0.5), ("cat", 0, 0), ("photo", 0.5), 3, ("photo", "0", 0), [[], 0, 0], None]:
        explorer.update(point=point)
        assert "</span>" in explorer.words.value and picture(explorer) == before
    explorer.update(point=("photo", 0, 1))
    assert "in the photo at (0.00, 1.00)" in explorer.words.value


def test_the_band_slider_keeps_the_share_of_the_power_it_names(make):
    explorer = make(FrequencyExplorer)
    assert "<b>100%</b> of the sketch's and <b>100%</b> of the photo's" in explorer.words.value
    before = picture(explorer)
    explorer.controls["band"].value = (0, 3)
    assert explorer.band == (0.0, 3.0) and picture(explorer) != before
    found = explorer.maps(explorer.images[0], explorer.settings)
    low = band_pass(found, 0, 3)
    for number, side in enumerate(SIDES):
        share = (low[number].var(dim=(1, 2)).sum() / found[number].var(dim=(1, 2)).sum()).item()
        assert 0.01 < share < 0.99 and f"<b>{share:.0%}</b> of the {side}'s" in explorer.words.value


def test_a_band_without_a_frequency_is_said_and_leaves_no_colours(make):
    explorer = make(FrequencyExplorer)
    explorer.update(band=(0, 0))
    assert "<b>0%</b> of the sketch's" in explorer.words.value and "Nothing to colour" in explorer.words.value
    explorer.update(source="SD f1", band=(explorer.top - 0.5, explorer.top))
    assert "Nothing to colour" in explorer.words.value


def test_a_wrong_band_is_refused(make):
    explorer = make(FrequencyExplorer)
    before = picture(explorer)
    for band in [(5, 2), (-1, 3), (0, 1000), (1,), 4, ("a", 3), (float("nan"), 3)]:
        explorer.update(band=band)
        assert "band is" in explorer.words.value and picture(explorer) == before
        assert explorer.controls["band"].value == explorer.band == (0.0, explorer.top)
