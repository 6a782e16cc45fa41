"""What the paper's pilot study says (SketchFusion, Sec. 4 and Fig. 1), held against what was measured."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sfhelpers.pilot.report import cell
from sfhelpers.pilot.study import Score, Table

SHOWS, NOT, UNKNOWN = "shows", "does not show", "cannot be told here"
WITHIN = ("photo to other photo", "sketch to other sketch")
ONTO_PHOTOS = ("photo to other photo", "sketch to other photo")
AUC = ("object AUC, photo", "object AUC, sketch")
WRONG, MIDDLE = ", wrong mask", ", nearness to the middle"  # an AUC's controls: what knows places alone
LOW = ("low-frequency share, photo", "low-frequency share, sketch")
ALIKE = 0.02  # AUCs that differ by less are called equal
_Trivial = Mapping[str, Score]


@dataclass(frozen=True)
class Claim:
    """What the paper says, and what was found.

    Attributes:
        says: nearly the paper's words.
        verdict: "shows", "does not show" or "cannot be told here", "SD" being the second up-block, the paper's.
        third: the verdict with the third up-block in its place.
        number: what both rest on.
    """

    says: str
    verdict: str
    number: str
    third: str = ""


def claims(table: Table, trivial: _Trivial) -> list[Claim]:
    """The paper's claims in its order, each with a verdict that follows from the numbers by rule.

    A difference counts if it is more than twice its standard error, as if both sides were independent; a claim shows
    if every comparison goes its way, does not if one goes the other way, and cannot be told if one is too close. That
    a component parts objects is a comparison with the mask of another image and with nearness to the middle; an AUC
    that the wrong mask reaches as well speaks of places, and no verdict rests on it.

    Args:
        table: of `study.compare`, with the sources "white noise" and "1/f" of `study.yardsticks`.
        trivial: of `study.baselines`.
    """
    both = [(claim(table, trivial, "SD f2"), claim(table, trivial, "SD f3")) for claim in _CLAIMS]
    return [replace(second, third=third.verdict) for second, third in both]


def markdown(told: Sequence[Claim]) -> str:
    """The claims as a markdown table."""
    lines = ["| the paper says | here (f2) | with f3 | numbers (± standard error) |", "|---|---|---|---|"]
    lines += [f"| {claim.says} | **{claim.verdict}** | {claim.third} | {claim.number} |" for claim in told]
    return "\n".join(lines)


def compared(a: Score, b: Score) -> int:
    """1 if a is larger than b by more than two standard errors of the difference, -1 if it is smaller, else 0."""
    difference = a.value - b.value
    return 0 if abs(difference) <= 2 * math.hypot(a.error, b.error) else int(math.copysign(1, difference))


def _verdict(*orders: int) -> str:
    return SHOWS if min(orders) == 1 else NOT if min(orders) == -1 else UNKNOWN


def _told(table: Table, names: Sequence[str], *sources: str) -> str:
    return ", ".join(f"{source} {' / '.join(cell(table[source].get(name)) for name in names)}" for source in sources)


def _better_parted(scores: Mapping[str, Score]) -> int:
    """1 if photos' objects are parted better than sketches', -1 if worse; 0 if it is places that are known better."""
    order = compared(*(scores[name] for name in AUC))
    better = AUC[0] if order == 1 else AUC[1]
    return order if compared(scores[better], scores[better + WRONG]) == 1 else 0


def _inferior(table: Table, trivial: _Trivial, sd: str) -> Claim:
    orders = [compared(*(table[sd][name] for name in WITHIN)), _better_parted(table[sd])]
    number = f"keypoints matched, photo to photo / sketch to sketch: {_told(table, WITHIN, 'SD f2', 'SD f3')}; "
    number += f"object AUC, photos / sketches: {_told(table, AUC, 'SD f2', 'SD f3')}; "
    number += f"wrong mask: {_told(table, [name + WRONG for name in AUC], 'SD f2', 'SD f3')}"
    return Claim("SD's features of sketches are significantly inferior to those of photos", _verdict(*orders), number)


def _unequal(table: Table, trivial: _Trivial, sd: str) -> Claim:
    order = compared(*(table[sd][name] for name in ONTO_PHOTOS))
    number = (
        f"keypoints of a photo matched, from a photo / from a sketch: {_told(table, ONTO_PHOTOS, 'SD f2', 'SD f3')}"
    )
    number += f"; {_told(table, ONTO_PHOTOS, 'CLIP tokens')}; chance {trivial['agreement, chance'].value:.3f}"
    return Claim("SD's features are not equally representative for sketches and photos", _verdict(order), number)


def _natural(table: Table, trivial: _Trivial, sd: str) -> Claim:
    number = "pocket's denoiser learnt from 12,000 photos and 4,000 sketches; none was trained on photos alone"
    return Claim("sketches are hard for SD since it was trained on natural images", UNKNOWN, number)


def _high(table: Table, trivial: _Trivial, sd: str) -> Claim:
    orders = [compared(table["1/f"][name], table[sd][name]) for name in LOW]
    number = f"low-frequency share, photos / sketches: {_told(table, LOW, 'SD f2', 'SD f3', 'SD f4')}; "
    number += ", ".join(f"{name} {table[name][LOW[0]].value:.3f}" for name in ("1/f", "white noise"))
    return Claim(
        "SD focuses predominantly on high frequencies for both (more than 1/f does)", _verdict(*orders), number
    )


def _better(table: Table, trivial: _Trivial, sd: str) -> Claim:
    number = f"low-frequency share, photos / sketches: {_told(table, LOW, 'SD f2', 'SD f3')}"
    order = compared(*(table[sd][name] for name in LOW))
    return Claim("in the spectrum SD does better on photos than on sketches", _verdict(order), number)


def _denoiser(table: Table, trivial: _Trivial, sd: str) -> Claim:
    orders = [compared(table[sd.replace("SD", "random UNet")][name], table[sd][name]) for name in LOW]
    sources = ("random UNet f2", "SD f2", "random UNet f3", "SD f3")
    number = f"low-frequency share, photos / sketches: {_told(table, LOW, *sources)}"
    return Claim("training as a denoiser takes the low frequencies away", _verdict(*orders), number)


def _skips(table: Table, trivial: _Trivial, sd: str) -> Claim:
    return Claim("skip connections carry the high frequencies", UNKNOWN, "no UNet without them was measured")


def _separates(table: Table, trivial: _Trivial, sd: str) -> Claim:
    clip = table["CLIP tokens"]
    orders = [
        compared(clip[name], than)
        for name in AUC
        for than in (table[sd][name], clip[name + WRONG], trivial[name + MIDDLE])
    ]
    middle = " / ".join(cell(trivial[name + MIDDLE]) for name in AUC)
    number = f"object AUC, photos / sketches: {_told(table, AUC, 'CLIP tokens', 'SD f2', 'SD f3')}; "
    number += f"CLIP's with the wrong mask {' / '.join(cell(clip[name + WRONG]) for name in AUC)}; "
    return Claim(
        "CLIP parts background and foreground accurately, more so than SD", _verdict(*orders),
        f"{number}nearness to the middle {middle}",
    )  # fmt: skip


def _lacking(table: Table, trivial: _Trivial, sd: str) -> Claim:
    orders = [compared(table["CLIP tokens"][name], table[sd][name]) for name in LOW]
    number = f"low-frequency share, photos / sketches: {_told(table, LOW, 'CLIP tokens', 'SD f2', 'SD f3')}"
    return Claim("CLIP has the low frequencies that SD lacks", _verdict(*orders), number)


def _spatial(table: Table, trivial: _Trivial, sd: str) -> Claim:
    order = compared(table[sd][WITHIN[0]], table["CLIP tokens"][WITHIN[0]])
    number = f"keypoints matched, photo to photo: {_told(table, WITHIN[:1], 'SD f2', 'SD f3', 'CLIP tokens')}"
    return Claim("SD is spatially aware and CLIP less so", _verdict(order), number)


def _equally_parted(table: Table, trivial: _Trivial, sd: str) -> Claim:
    photo, sketch = (table["fused"][name].value for name in AUC)
    number = f"object AUC, photos / sketches: {_told(table, AUC, 'fused')}"
    verdict = SHOWS if abs(photo - sketch) < ALIKE else NOT
    return Claim("fused features work equally well for sketches and photos: parting the object", verdict, number)


def _equally_matched(table: Table, trivial: _Trivial, sd: str) -> Claim:
    number = f"keypoints of a photo matched, from a photo / from a sketch: {_told(table, ONTO_PHOTOS, 'fused')}"
    verdict = NOT if compared(*(table["fused"][name] for name in ONTO_PHOTOS)) == 1 else UNKNOWN
    return Claim("fused features work equally well for sketches and photos: matching", verdict, number)


def _both_bands(table: Table, trivial: _Trivial, sd: str) -> Claim:
    ways = [[compared(table["fused"][name], table[part][name]) for part in (sd, "CLIP tokens")] for name in LOW]
    outside = any(abs(sum(way)) == 2 for way in ways)  # above both, or below both
    between = all(sorted(way) == [-1, 1] for way in ways)
    number = f"low-frequency share, photos / sketches: {_told(table, LOW, 'fused', 'SD f2', 'SD f3', 'CLIP tokens')}"
    says = "fused features hold high and low frequencies: their share lies between those of SD and CLIP"
    return Claim(says, NOT if outside else SHOWS if between else UNKNOWN, number)


def _tasks(table: Table, trivial: _Trivial, sd: str) -> Claim:
    return Claim("fusing helps in four tasks, by 39 % on average", UNKNOWN, "see 04 for segmentation")


_CLAIMS: tuple[Callable[[Table, _Trivial, str], Claim], ...] = (
    _inferior, _unequal, _natural, _high, _better, _denoiser, _skips, _separates, _lacking, _spatial, _equally_parted,
    _equally_matched, _both_bands, _tasks,
)  # fmt: skip
