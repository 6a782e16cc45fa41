"""What 01 claims of the committed long run, a test a sentence; a difference counts beyond two standard errors."""

import math

import pytest

from sfhelpers import results
from tests.test_pilot_notebook import HAND

TABLES = HAND.tables_of(results.committed("01_pilot_study"))
MAIN, NOTHING = TABLES["all settings by default"], TABLES["no features"]["no features"]
SIDES = ("photo", "sketch")
BLOCKS = ("SD f2", "SD f3")
ONTO, WITHIN = "sketch to other photo", ("photo to other photo", "sketch to other sketch")
MAPS_WITH_MASKS = ("SD aggregated alone", "SD f3, injected", "fused", "late fusion", "fused (fixed random injection)")
LISTED = ("SD f2", "SD f3", "random UNet f3", "pixels", "CLIP tokens", "SD+CLIP concatenated", *MAPS_WITH_MASKS)
CHANCE, SAME_PLACE = NOTHING["agreement, chance"], NOTHING["agreement, same place"]
MIDDLE = {side: NOTHING[f"object AUC, {side}, nearness to the middle"] for side in SIDES}
ONE_OVER_F = 0.392  # the low-frequency share of such noise, as the notebook measures it


def value(source, measure, table=MAIN):
    return table[source][measure].value


def above(a, b):
    return a.value - b.value > 2 * math.hypot(a.error, b.error)


def level(a, b):
    return not above(a, b) and not above(b, a)


def auc(source, side, control=""):
    return MAIN[source][f"object AUC, {side}{control}"]


def low(source, side, table=MAIN):
    return table[source][f"low-frequency share, {side}"]


def untrained(block):
    return MAIN[block.replace("SD", "random UNet")]


def swept(kind):
    """Setting -> table, in order."""
    found = {name.removeprefix(kind).strip(): table for name, table in TABLES.items() if name.startswith(kind)}
    return dict(sorted(found.items(), key=lambda entry: (len(entry[0]), entry[0])))


def beating(score, measure):
    return [source for source in LISTED if above(MAIN[source][measure], score)]


OF_EACH_BLOCK = {
    "the trained blocks stay far below the same place": lambda block: value(block, "agreement") < SAME_PLACE.value / 2,
    "and the untrained UNet is no worse": lambda block: (
        not above(MAIN[block]["agreement"], untrained(block)["agreement"])
    ),
    "photo to photo and sketch to sketch are matched about equally well": lambda block: (
        level(*(MAIN[block][way] for way in WITHIN)) and abs(value(block, WITHIN[0]) - value(block, WITHIN[1])) < 0.12
    ),
    "several times chance and above the untrained UNet": lambda block: (
        min(value(block, way) for way in WITHIN) > max(5 * CHANCE.value, 1.3 * untrained(block)[WITHIN[0]].value)
    ),
    "from sketch to photo a third to a fifth of that is found": lambda block: (
        max(value(block, way) for way in WITHIN) / 5 < value(block, ONTO) < min(value(block, w) for w in WITHIN) / 3
    ),
    "which is more than chance": lambda block: (
        above(MAIN[block][ONTO], CHANCE) and value(block, ONTO) < 3 * CHANCE.value
    ),
    "but no more than with the plain pixels or a UNet that was never trained": lambda block: (
        not above(MAIN[block][ONTO], MAIN["pixels"][ONTO]) and not above(MAIN[block][ONTO], untrained(block)[ONTO])
    ),
    "with the offsets gone they stay far below the same place": lambda block: (
        value(block, "agreement, offsets removed") < SAME_PLACE.value / 2
    ),
    "the prompt moves nothing by more than two standard errors": lambda block: all(
        abs(value(block, measure, table) - score.value) < 2 * score.error
        for measure, score in TABLES['prompt ""'][block].items()
        for table in swept("prompt").values()
    ),
}
OF_EACH_SIDE = {
    "the fused map parts objects best": lambda side: (
        auc("fused", side).value > max(auc(source, side).value for source in (*BLOCKS, "CLIP tokens"))
    ),
    "f2's first component knows places and no objects": lambda side: (
        not above(auc("SD f2", side), auc("SD f2", side, ", wrong mask"))
    ),
    "every other map beats its wrong mask but for the untrained UNet on photos": lambda side: (
        [source for source in LISTED if above(auc(source, side), auc(source, side, ", wrong mask"))]
        == [s for s in LISTED if s != "SD f2" and (s, side) != ("random UNet f3", "photo")]
    ),
    "the paper's block leans to low frequencies and f4 to high ones": lambda side: (
        low("SD f2", side).value > ONE_OVER_F > low("SD f4", side).value
    ),
    "f3 stands near CLIP, both a little on the high side of 1/f": lambda side: (
        abs(low("SD f3", side).value - low("CLIP tokens", side).value) < 0.06
        and max(low(source, side).value for source in ("SD f3", "CLIP tokens")) < ONE_OVER_F
    ),
    "training as a denoiser adds low frequencies": lambda side: all(
        above(low(block, side), untrained(block)[f"low-frequency share, {side}"]) for block in BLOCKS
    ),
    "the fused map has a larger share than f3 and CLIP": lambda side: (
        low("fused", side).value > max(low(source, side).value for source in ("SD f3", "CLIP tokens"))
    ),
    "the object stays in f3's first component up to t = 400": lambda side: all(
        value("SD f3", f"object AUC, {side}", table) > 0.75 for t, table in swept("timestep").items() if int(t) <= 400
    ),
    "f4 turns white as the noise grows": lambda side: (
        low("SD f4", side, TABLES["timestep 950"]).value < low("SD f4", side, TABLES["timestep 195"]).value
    ),
}
OF_ALL = {
    "the long run has 108 pairs and 3 noise seeds": lambda: (
        {score.n for scores in MAIN.values() for score in scores.values()} == {108}
        and all(score.spread is not None for score in MAIN["SD f3"].values())
    ),
    "only CLIP's tokens, and what is mostly CLIP's tokens, beat the same place": lambda: (
        {source for source in MAIN if above(MAIN[source]["agreement"], SAME_PLACE)}
        == {"CLIP tokens", "SD+CLIP concatenated", "fused (fixed random injection)"}
    ),
    "CLIP's tokens cross over almost without loss": lambda: (
        value("CLIP tokens", ONTO) > 0.85 * value("CLIP tokens", WITHIN[0])
    ),
    "a random injection crosses over more than twice as well as the trained one": lambda: (
        value("fused (fixed random injection)", ONTO) > 2 * value("fused", ONTO)
    ),
    "for the fused map a good part of the gap is an offset": lambda: (
        value("fused", "agreement, offsets removed") > value("fused", "agreement") + 0.1
    ),
    "f3 parts object and paper better than object and scene": lambda: above(
        auc("SD f3", "sketch"), auc("SD f3", "photo")
    ),
    "the middle alone beats f2 and f3 on photos": lambda: all(
        above(MIDDLE["photo"], auc(block, "photo")) for block in BLOCKS
    ),
    "and draws level with CLIP": lambda: (
        level(auc("CLIP tokens", "photo"), MIDDLE["photo"])
        and abs(auc("CLIP tokens", "photo").value - MIDDLE["photo"].value) < 0.03
    ),
    "the best of f2's three components is no better than the middle": lambda: (
        auc("SD f2", "photo", ", best of 3").value > 0.85
        and level(auc("SD f2", "photo", ", best of 3"), MIDDLE["photo"])
    ),
    "on photos only the concatenation and maps trained on masks beat the middle": lambda: (
        beating(MIDDLE["photo"], "object AUC, photo") == ["SD+CLIP concatenated", *MAPS_WITH_MASKS]
    ),
    "on sketches f3 and CLIP do too": lambda: (
        beating(MIDDLE["sketch"], "object AUC, sketch")
        == ["SD f3", "CLIP tokens", "SD+CLIP concatenated", *MAPS_WITH_MASKS]
    ),
    "on photos f2 leans to low frequencies more than the photos themselves": lambda: (
        low("SD f2", "photo").value > low("pixels", "photo").value
    ),
    "no timestep and no block brings sketch and photo together": lambda: (
        max(s["agreement"].value for table in swept("timestep").values() for s in table.values())
        < SAME_PLACE.value + 0.05
    ),
    "at the far end the agreement rises towards the same place": lambda: (
        max(s["agreement"].value for s in TABLES["timestep 950"].values())
        > 2 * max(s["agreement"].value for s in TABLES["timestep 195"].values())
    ),
    "more draws raise f3's low-frequency share on sketches": lambda: (
        (shares := [low("SD f3", "sketch", table).value for table in swept("draws").values()]) == sorted(shares)
        and list(swept("draws")) == ["1", "6", "32"]
    ),
    "and bring nothing together": lambda: (
        max(value("SD f3", "agreement", table) for table in swept("draws").values()) < SAME_PLACE.value / 2
    ),
}


@pytest.mark.parametrize("sentence", OF_ALL)
def test_of_all(sentence):
    assert OF_ALL[sentence]()


@pytest.mark.parametrize("sentence", OF_EACH_BLOCK)
@pytest.mark.parametrize("block", BLOCKS)
def test_of_the_second_and_the_third_block(sentence, block):
    assert OF_EACH_BLOCK[sentence](block)


@pytest.mark.parametrize("sentence", OF_EACH_SIDE)
@pytest.mark.parametrize("side", SIDES)
def test_of_photos_and_of_sketches(sentence, side):
    assert OF_EACH_SIDE[sentence](side)


@pytest.mark.parametrize("part", ["seen categories", "unseen categories"])
@pytest.mark.parametrize("measure", ["CKA", "agreement"])
def test_on_categories_that_clip_never_saw_the_tokens_are_as_far_ahead_and_fused_comes_second(part, measure):
    tokens, fused, *blocks = (TABLES[part][source][measure] for source in ("CLIP tokens", "fused", *BLOCKS))
    assert above(tokens, fused) and tokens.value > 2 * max(block.value for block in blocks)
    assert fused.value > max(block.value for block in blocks) and level(*blocks)
    told_apart = [above(fused, block) for block in blocks]
    assert told_apart == [(part, measure) != ("unseen categories", "agreement")] * 2
