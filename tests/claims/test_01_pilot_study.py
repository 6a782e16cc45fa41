"""What 01 claims of the committed long run, a test a sentence; a difference counts beyond two standard errors."""

import pytest

from sfhelpers import results
from sfhelpers.pilot import power
from tests.test_pilot_notebook import HAND, HERE, SIDES, Score

TABLES = HAND.tables_of(results.committed(HERE))
MAIN, NOTHING = TABLES["all settings by default"], TABLES["no features"]["no features"]
BLOCKS = ("SD f2", "SD f3")
SHOWS, NOT, UNKNOWN = "shows", "does not show", HAND.UNKNOWN
ONTO, WITHIN = "sketch to other photo", ("photo to other photo", "sketch to other sketch")
MAPS_WITH_MASKS = ("SD aggregated alone", "SD f3, injected", "fused", "late fusion", "fused (fixed random injection)")
LISTED = ("SD f2", "SD f3", "random UNet f3", "no skips f3", "pixels", "CLIP tokens", "SD+CLIP concatenated")
LISTED += MAPS_WITH_MASKS
CHANCE, SAME_PLACE = NOTHING["agreement, chance"], NOTHING["agreement, same place"]
MIDDLE = {side: NOTHING[f"object AUC, {side}, nearness to the middle"] for side in SIDES}
ONE_OVER_F = 0.392  # the low-frequency share of such noise, as the notebook measures it


def above(a, b):
    return HAND.compared(a, b) == 1


def auc(source, side, control=""):
    return MAIN[source][f"object AUC, {side}{control}"]


def low(source, side, table=MAIN):
    return table[source][f"low-frequency share, {side}"]


def swept(kind):
    """Setting -> table, in order."""
    found = {name.removeprefix(kind).strip(): table for name, table in TABLES.items() if name.startswith(kind)}
    return dict(sorted(found.items(), key=lambda entry: (len(entry[0]), entry[0])))


@pytest.mark.parametrize("block", BLOCKS)
def test_the_second_and_the_third_block(block):
    own, plain, prompts = MAIN[block], MAIN[block.replace("SD", "random UNet")], swept("prompt")
    photos, sketches, onto = own[WITHIN[0]], own[WITHIN[1]], own[ONTO]
    assert own["agreement"].value < SAME_PLACE.value / 2, "stays far below the same place"
    assert own["agreement, offsets removed"].value < SAME_PLACE.value / 2, "with the offsets gone too"
    assert not above(own["agreement"], plain["agreement"]), "the untrained UNet is no worse"
    lower, upper = sorted((photos.value, sketches.value))
    assert HAND.compared(photos, sketches) == 0 and upper - lower < 0.12, "match about equally well within"
    assert lower > max(5 * CHANCE.value, 1.3 * plain[WITHIN[0]].value), "several times chance, above the untrained UNet"
    assert upper / 5 < onto.value < lower / 3, "from sketch to photo a third to a fifth of that"
    assert above(onto, CHANCE) and onto.value < 3 * CHANCE.value, "which is more than chance"
    assert not above(onto, MAIN["pixels"][ONTO]) and not above(onto, plain[ONTO]), "no more than pixels, or untrained"
    for measure, score in prompts['""'][block].items():
        moved = [abs(table[block][measure].value - score.value) for table in prompts.values()]
        assert len(moved) == 3 and max(moved) < 2 * score.error, "the prompt moves nothing"


@pytest.mark.parametrize("side", SIDES)
def test_objects_on_photos_and_on_sketches(side):
    best = max(auc(source, side).value for source in (*BLOCKS, "CLIP tokens"))
    assert auc("fused", side).value > best, "the fused map parts objects best"
    knowing = [source for source in LISTED if above(auc(source, side), auc(source, side, ", wrong mask"))]
    expected = [s for s in LISTED if s != "SD f2" and (s, side) != ("random UNet f3", "photo")]
    assert knowing == expected, "f2 knows places and no objects, every other map beats its wrong mask but the untrained"
    early = [table["SD f3"][f"object AUC, {side}"].value for t, table in swept("timestep").items() if int(t) <= 400]
    assert len(early) == 4 and min(early) > 0.75, "the object stays in f3's first component up to t = 400"


@pytest.mark.parametrize("side", SIDES)
def test_frequencies_of_photos_and_of_sketches(side):
    f2, f3, f4, clip, fused = (low(s, side).value for s in (*BLOCKS, "SD f4", "CLIP tokens", "fused"))
    assert f2 > ONE_OVER_F > f4, "the paper's block leans to low frequencies, f4 to high ones"
    assert abs(f3 - clip) < 0.06 and max(f3, clip) < ONE_OVER_F, "f3 stands near CLIP, on the high side of 1/f"
    for block in BLOCKS:
        assert above(low(block, side), low(block.replace("SD", "random UNet"), side)), "a denoiser gains low ones"
    assert fused > max(f3, clip), "the fused map has a larger share than f3 and CLIP"
    shares = [low("SD f4", side, TABLES[f"timestep {t}"]).value for t in (195, 950)]
    assert shares[1] < shares[0], "f4 turns white as the noise grows"


def test_keypoints_across_the_domains():
    assert {score.n for scores in MAIN.values() for score in scores.values()} == {108}
    assert all(score.spread is not None for score in MAIN["SD f3"].values()), "108 pairs, 3 noise seeds"
    best = {source for source in MAIN if above(MAIN[source]["agreement"], SAME_PLACE)}
    assert best == {"CLIP tokens", "SD+CLIP concatenated", "fused (fixed random injection)"}, "mostly CLIP's tokens"
    clip, fused, fixed = (MAIN[source] for source in ("CLIP tokens", "fused", "fused (fixed random injection)"))
    assert clip[ONTO].value > 0.85 * clip[WITHIN[0]].value, "cross over almost without loss"
    assert fixed[ONTO].value > 2 * fused[ONTO].value, "crosses over twice as well"
    assert fused["agreement, offsets removed"].value > fused["agreement"].value + 0.1, "a good part is an offset"
    timesteps = {t: max(s["agreement"].value for s in table.values()) for t, table in swept("timestep").items()}
    assert max(timesteps.values()) < SAME_PLACE.value + 0.05, "no timestep and no block brings them together"
    assert timesteps["950"] > 2 * timesteps["195"], "at the far end the agreement rises towards the same place"
    draws = swept("draws")
    shares = [low("SD f3", "sketch", table).value for table in draws.values()]
    assert list(draws) == ["1", "6", "32"] and shares == sorted(shares), "more draws raise f3's low-frequency share"
    assert max(table["SD f3"]["agreement"].value for table in draws.values()) < SAME_PLACE.value / 2, "and no more"


def test_objects_and_the_middle():
    clip, best = auc("CLIP tokens", "photo"), auc("SD f2", "photo", ", best of 3")
    assert above(auc("SD f3", "sketch"), auc("SD f3", "photo")), "f3 parts object and paper better"
    assert all(above(MIDDLE["photo"], auc(block, "photo")) for block in BLOCKS), "the middle alone beats f2 and f3"
    assert clip.value == pytest.approx(MIDDLE["photo"].value, abs=0.03), "and is level with CLIP"
    assert [HAND.compared(each, MIDDLE["photo"]) for each in (clip, best)] == [0, 0]
    assert best.value > 0.85, "the best of f2's three is no better than the middle"
    beating = {side: [s for s in LISTED if above(auc(s, side), MIDDLE[side])] for side in SIDES}
    assert beating["photo"] == ["SD+CLIP concatenated", *MAPS_WITH_MASKS]
    assert beating["sketch"] == ["SD f3", "CLIP tokens", "SD+CLIP concatenated", *MAPS_WITH_MASKS]
    assert low("SD f2", "photo").value > low("pixels", "photo").value, "f2 leans to low ones more than the photos do"


@pytest.mark.parametrize("part", ["seen categories", "unseen categories"])
@pytest.mark.parametrize("measure", ["CKA", "agreement"])
def test_on_categories_that_clip_never_saw_the_tokens_are_as_far_ahead_and_fused_comes_second(part, measure):
    tokens, fused, *blocks = (TABLES[part][source][measure] for source in ("CLIP tokens", "fused", *BLOCKS))
    assert above(tokens, fused) and tokens.value > 2 * max(block.value for block in blocks)
    assert fused.value > max(block.value for block in blocks) and HAND.compared(*blocks) == 0
    assert [above(fused, block) for block in blocks] == [(part, measure) != ("unseen categories", "agreement")] * 2


def said(words, nothing=0.2, **changes):
    """The verdicts with f2 and with f3 where every source is alike, 0.5 ± 0.01, but for source -> {measure: value}."""
    alike = dict.fromkeys((*MAIN, "1/f"), 0.5) | {"no features": nothing}
    scores = {source: dict.fromkeys(HAND.definitions, Score(value, 0.01, 50)) for source, value in alike.items()}
    for source, values in changes.items():
        scores[source.replace("_", " ")] |= {name: Score(value, 0.01, 50) for name, value in values.items()}
    return tuple(told for sd in BLOCKS for claim, (told, _) in HAND.claims(scores, sd).items() if words in claim)


def shares(photo, sketch):
    return {"low-frequency share, photo": photo, "low-frequency share, sketch": sketch}


def test_a_difference_counts_beyond_two_standard_errors_and_what_is_alike_everywhere_cannot_be_told():
    for value, order in ((0.39, 1), (0.41, 0), (0.59, 0), (0.61, -1)):
        assert HAND.compared(Score(0.5, 0.03, 9), Score(value, 0.04, 9)) == order
    for words in ("significantly inferior", "equally representative", "spatially aware", "that SD lacks", "natural"):
        assert said(words) == (UNKNOWN,) * 2


def test_the_committed_rows_give_three_that_show_six_that_do_not_and_five_that_cannot_be_told():
    found = HAND.low_share(power(HAND.coloured_noise(24, 1)[:, None]))
    field = Score(found.mean(), found.std(ddof=1) / len(found) ** 0.5, len(found))
    scores = MAIN | TABLES["no features"] | {"1/f": {"low-frequency share, photo": field}}
    told = [[verdict for verdict, _ in HAND.claims(scores, sd).values()] for sd in ("SD f2", "SD f3")]
    assert told[0] == [UNKNOWN, SHOWS, UNKNOWN, NOT, SHOWS, NOT, UNKNOWN, UNKNOWN, NOT, NOT, SHOWS, NOT, NOT, UNKNOWN]
    assert told[1] == [NOT, SHOWS, UNKNOWN, SHOWS, UNKNOWN, NOT, *[UNKNOWN] * 3, NOT, SHOWS, NOT, NOT, UNKNOWN]
    assert field.value == pytest.approx(ONE_OVER_F, abs=0.001)


def test_a_claim_shows_only_if_the_numbers_say_so():
    worse = {"sketch to other sketch": 0.3, "object AUC, sketch": 0.3, "object AUC, photo, wrong mask": 0.3}
    clip = {"object AUC, photo": 0.9, "object AUC, sketch": 0.9}
    for words, changes, expected in (
        ("inferior", {"SD_f2": worse}, (SHOWS, UNKNOWN)),
        ("inferior", {"SD_f3": {"sketch to other sketch": 0.3, "object AUC, sketch": 0.9}}, (UNKNOWN, NOT)),
        ("CLIP parts", {"CLIP_tokens": clip, "SD_f3": {"object AUC, photo": 0.97}}, (SHOWS, NOT)),
        ("CLIP parts", {"CLIP_tokens": clip | {"object AUC, sketch, wrong mask": 0.89}}, (UNKNOWN, UNKNOWN)),
        ("CLIP parts", {"CLIP_tokens": clip, "nothing": 0.89}, (UNKNOWN, UNKNOWN)),  # as near to the middle
        ("equally representative", {"SD_f2": {"sketch to other photo": 0.1}}, (SHOWS, UNKNOWN)),
        ("predominantly on high", {"SD_f2": shares(0.2, 0.2), "SD_f3": shares(0.2, 0.6)}, (SHOWS, NOT)),
        ("better on photos", {"SD_f3": shares(0.6, 0.4)}, (UNKNOWN, SHOWS)),
        ("denoiser takes", {"random_UNet_f3": shares(0.1, 0.1)}, (UNKNOWN, NOT)),
        ("skip connections", {"no_skips_f2": shares(0.8, 0.8)}, (SHOWS, UNKNOWN)),
        ("parting", {"fused": {"object AUC, sketch": 0.51}}, (SHOWS, SHOWS)),
        ("photos: matching", {"fused": {"sketch to other photo": 0.2}}, (NOT, NOT)),
        ("high and low", {"SD_f2": shares(0.2, 0.2), "CLIP_tokens": shares(0.6, 0.6)}, (SHOWS, UNKNOWN)),
    ):
        assert said(words, **changes) == expected, words
