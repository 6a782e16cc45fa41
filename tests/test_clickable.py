"""A picture that reports the points chosen in it."""

import io
import re

import pytest
import traitlets
from PIL import Image

from sfhelpers.widgets.clickable import Clickable


def png(color):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(file, format="PNG")
    return file.getvalue()


def chosen_in(picture):
    points = []
    picture.on_click(lambda x, y: points.append((x, y)))
    return points


def test_a_message_of_the_front_end_reaches_every_callback():
    picture = Clickable(png("red"))
    first, second = chosen_in(picture), chosen_in(picture)
    picture._handle_custom_msg({"x": 0, "y": 0.75}, [])
    picture._handle_custom_msg({"x": 0, "y": 0.75}, [])  # the same point twice is two questions
    assert first == second == [(0.0, 0.75)] * 2


@pytest.mark.parametrize("point", [(-0.1, 0.5), (0.5, 1.01), (float("nan"), 0), ("0.5", 0.5), (None, 0), (True, 0)])
def test_a_point_outside_the_picture_is_refused_in_one_sentence(point):
    picture = Clickable()
    points = chosen_in(picture)
    with pytest.raises(ValueError, match=r"not in the picture: give two numbers from 0 to 1\.$"):
        picture.click(*point)
    assert points == []


def test_picture_and_label_go_to_the_front_end_and_only_bytes_are_a_picture():
    picture = Clickable(png("red"), "a red square")
    state = picture.get_state()
    assert (state["value"], state["label"]) == (png("red"), "a red square")
    picture.value = png("blue")
    assert picture.get_state("value")["value"] == png("blue") != png("red")
    with pytest.raises(traitlets.TraitError):
        picture.value = "red"


def test_its_front_end_is_our_own_reachable_by_keyboard_and_asks_nobody():
    code = str(Clickable()._esm)
    assert not re.search(r"https?:|import[ (]|fetch\(|eval\(|innerHTML", code)
    for need in ("tabIndex = 0", "aria-label", "data-lm-suppress-shortcuts", "ArrowLeft", "Enter", "image.alt"):
        assert need in code
