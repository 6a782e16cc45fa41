"""Words for training pictures: what is there, in which colour, with which part, and where beside what."""

import numpy as np

from sfhelpers.toyworld import SEEN, keypoint_names
from sfhelpers.toyworld.categories import COLOURS
from sfhelpers.toyworld.scenes import Thing

KINDS = {"photo": ("a photo of", "a picture of"), "sketch": ("a sketch of", "a drawing of", "a line drawing of")}
PLACES = ("left of", "right of", "above", "below")


def caption(rng: np.random.Generator, things: tuple[Thing, ...]) -> str:
    """A random true sentence about a photo, such as "a photo of a red cup left of a fish"; 14 words at most."""
    start = KINDS["photo"][rng.integers(2)]
    first, *others = (things[k] for k in rng.permutation(len(things)))
    if not others or rng.random() < 0.25:
        visible = np.array(keypoint_names(first.category))[first.keypoints[:, 2] > 0]
        if len(visible) and rng.random() < 0.4:
            return f"{start} {named(rng, first)} with {article(visible[rng.integers(len(visible))])}"
        return f"{start} {named(rng, first)}"
    if len(others) == 1 or rng.random() < 0.6:
        return f"{start} {named(rng, first)} {place(first, others[0])} {named(rng, others[0])}"
    *before, last = (named(rng, thing, 0.2) for thing in (first, *others))
    return f"{start} {', '.join(before)} and {last}"


def place(one: Thing, other: Thing) -> str:
    """Where the middle of one is from the middle of another: the larger of both distances decides."""
    (y, x), (y0, x0) = (np.argwhere(thing.mask).mean(0) for thing in (one, other))
    left, right, above, below = PLACES
    if abs(x - x0) >= abs(y - y0):
        return left if x < x0 else right
    return above if y < y0 else below


def named(rng: np.random.Generator, thing: Thing, coloured: float = 0.6) -> str:
    """A thing with its article and, with a probability, its main colour."""
    return article(f"{thing.colour} {thing.category}" if rng.random() < coloured else thing.category)


def article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun.replace('_', ' ')}"


def bank() -> list[str]:
    """Every word that a caption may hold, in sentences; unseen categories are never named."""
    parts = sorted({part for category in SEEN for part in keypoint_names(category)})
    nouns = [*SEEN, *parts, *(f"{colour} thing" for colour in COLOURS)]
    found = [f"{start} {article(noun)}" for noun in nouns for starts in KINDS.values() for start in starts]
    return found + [f"a photo of a cup {where} a fish , a tree and a house with a door" for where in PLACES]
