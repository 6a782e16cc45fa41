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
WRONG = ("", ", wrong mask")
SHARES = HAND.low_share(power(HAND.coloured_noise(24, 1)[:, None]))
FIELD = Score(SHARES.mean(), SHARES.std(ddof=1) / len(SHARES) ** 0.5, len(SHARES))  # of 1/f noise


def above(a, b):
    return HAND.compared(a, b) == 1


def auc(source, side, control=""):
    return MAIN[source][f"object AUC, {side}{control}"]


def auc_of(table):
    return table["SD f3"]["object AUC, photo"]


def low(source, side, table=MAIN):
    return table[source][f"low-frequency share, {side}"]


def swept(kind):
    """Setting -> table, in order."""
    found = {name.removeprefix(kind).strip(): table for name, table in TABLES.items() if name.startswith(kind)}
    return dict(sorted(found.items(), key=lambda entry: (len(entry[0]), entry[0])))


def test_the_second_block_brings_sketch_and_photo_together_and_the_third_does_not():
    assert {score.n for scores in MAIN.values() for score in scores.values()} == {108}
    assert all(score.spread is not None for score in MAIN["SD f3"].values()), "108 pairs, 3 noise seeds"
    f2, f3, clip = (MAIN[source]["agreement"] for source in (*BLOCKS, "CLIP tokens"))
    assert all(above(f2, table["agreement"]) for source, table in MAIN.items() if source != "SD f2"), "f2 finds most"
    assert f2.value > 5 * SAME_PLACE.value, "many times the same place"
    assert HAND.compared(f3, SAME_PLACE) == 0 and above(clip, SAME_PLACE), "f3 is not told from it, CLIP above"
    assert clip.value < 2 * SAME_PLACE.value and MAIN["CLIP tokens"]["CKA"].value > 4 * MAIN["SD f3"]["CKA"].value
    for control in ("random UNet", "no skips"):
        assert [HAND.compared(MAIN[f"{control} f{k}"]["agreement"], SAME_PLACE) for k in (2, 3)] == [0, 0]


@pytest.mark.parametrize("block", BLOCKS)
def test_sketches_are_no_worse_among_themselves(block):
    photos, sketches = (MAIN[block][name] for name in WITHIN)
    assert above(sketches, photos), "they match better"
    assert photos.value > max(10 * CHANCE.value, 4 * MAIN[block.replace("SD", "random UNet")][WITHIN[0]].value)


def test_keypoints_across_the_domains():
    f2, f3, clip, fused, fixed = (MAIN[s] for s in (*BLOCKS, "CLIP tokens", "fused", "fused (fixed random injection)"))
    pixels = MAIN["pixels"][ONTO]
    assert HAND.compared(f2[ONTO], f2[WITHIN[0]]) == 0, "f2 crosses over nearly as well as from photo to photo"
    assert f3[ONTO].value == pytest.approx(f3[WITHIN[0]].value / 4, rel=0.1), "f3 finds a quarter"
    assert above(f3[ONTO], CHANCE) and not above(f3[ONTO], pixels), "more than chance, no more than pixels"
    assert not above(clip[ONTO], pixels) and clip[WITHIN[0]].value < f3[WITHIN[0]].value / 2, "CLIP's do not cross"
    assert fused[ONTO].value > 3 * f3[ONTO].value and above(f2[ONTO], fused[ONTO]), "fused in between"
    assert above(fused[ONTO], fixed[ONTO]), "training makes the difference"


def test_an_offset_is_part_of_it_for_the_third_block():
    gone = {s: MAIN[s]["agreement, offsets removed"] for s in (*BLOCKS, "fused", "CLIP tokens")}
    own = {s: MAIN[s]["agreement"] for s in gone}
    assert [HAND.compared(gone[s], own[s]) for s in gone] == [0, 1, 0, 1], "nothing to remove in f2 and fused"
    assert gone["SD f3"].value == pytest.approx(2 * own["SD f3"].value, rel=0.1) and above(gone["SD f3"], SAME_PLACE)
    assert gone["SD f3"].value < MAIN["SD f3"][WITHIN[0]].value / 2, "below half of photo to photo"
    assert gone["CLIP tokens"].value < gone["SD f2"].value / 4, "CLIP's stay far behind"


def test_categories_that_clip_never_saw_make_no_difference_to_its_tokens():
    seen, unseen = (TABLES[f"{part} categories"] for part in ("seen", "unseen"))
    assert HAND.compared(seen["CLIP tokens"]["agreement"], unseen["CLIP tokens"]["agreement"]) == 0
    for part in (seen, unseen):
        f2, f3, clip, fused = (part[s]["agreement"] for s in (*BLOCKS, "CLIP tokens", "fused"))
        assert above(f2, fused) and fused.value > 2 * max(f3.value, clip.value), "f2, fused, and the two far behind"


def test_f2_parts_things_alike_on_photos_and_on_sketches_and_f3_better_on_sketches():
    assert HAND.compared(*(auc("SD f2", side) for side in SIDES)) == 0
    assert above(auc("SD f3", "sketch"), auc("SD f3", "photo"))
    for side in SIDES:
        assert not any(above(auc(source, side), auc("SD f2", side)) for source in MAIN), "nothing does better"
    for source in ("CLIP tokens", "fused"):
        assert above(auc(source, "photo"), MIDDLE["photo"]), "they do on photos"
        assert abs(auc(source, "sketch").value - 0.5) < auc(source, "sketch").error, "and on sketches not at all"
    beating = [source for source in LISTED if above(auc(source, "sketch"), MIDDLE["sketch"])]
    assert beating == ["SD f2", "SD f3", "SD+CLIP concatenated", "SD f3, injected"]


def test_right_masks_and_wrong_masks():
    for block, side in ((block, side) for block in BLOCKS for side in SIDES):
        assert above(auc(block, side), auc(block, side, ", wrong mask")) and above(auc(block, side), MIDDLE[side])
    for side in SIDES:
        assert not above(auc("no skips f3", side), auc("no skips f3", side, ", wrong mask")), "places only"
        assert above(auc("random UNet f3", side), auc("random UNet f3", side, ", wrong mask")), "the architecture"
    assert above(auc("CLIP tokens", "photo"), auc("CLIP tokens", "photo", ", wrong mask")), "not position alone"
    level = [s for s in ("CLIP tokens", *MAPS_WITH_MASKS) if HAND.compared(*(auc(s, "sketch", c) for c in WRONG)) == 0]
    assert level == ["CLIP tokens", "SD aggregated alone", "late fusion", "fused (fixed random injection)"]
    assert min(auc(s, "sketch").error for s in level) > 0.04 > 3 * auc("SD f3", "sketch").error, "wide bars"
    assert above(*(auc("fused", "sketch", control) for control in WRONG)), "only since the wrong mask is below one half"
    assert auc("fused", "sketch", ", wrong mask").value < 0.5
    helped = [s for s in LISTED if above(auc(s, "photo", ", best of 3"), auc(s, "photo"))]
    assert helped == ["late fusion"], "the best of three helps late fusion alone"


@pytest.mark.parametrize("side", SIDES)
def test_frequencies_of_photos_and_of_sketches(side):
    blocks = [low(f"SD f{k}", side) for k in (2, 3, 4)]
    clip = low("CLIP tokens", side)
    assert all(clip.value > 1.5 * block.value for block in blocks), "CLIP's tokens have far more low ones"
    for between in ("fused", "SD+CLIP concatenated"):
        assert above(clip, low(between, side)) and all(above(low(between, side), block) for block in blocks)
    line = {"photo": [0, 1, -1], "sketch": [1, 0, -1]}[side]
    assert [HAND.compared(block, FIELD) for block in blocks] == line, "beside 1/f: f2, f3, f4"
    assert HAND.compared(blocks[0], low("pixels", side)) == {"photo": -1, "sketch": 1}[side], "f2 beside the pixels"
    for block in BLOCKS:
        assert above(low(block, side), low(block.replace("SD", "random UNet"), side)), "training adds low ones"
        bare = low(block.replace("SD", "no skips"), side)
        assert above(bare, low(block, side)) and abs(bare.value - clip.value) < 0.1, "without skips, near CLIP"
    shares = [low("SD f4", side, TABLES[f"timestep {t}"]).value for t in (1, 50, 195, 400, 950)]
    assert shares == sorted(shares, reverse=True), "f4 turns white as the noise grows"
    shares = [low("SD f2", side, TABLES[f"timestep {t}"]).value for t in (195, 400, 700, 950)]
    assert shares == sorted(shares), "f2 goes the other way"


def test_over_timesteps():
    steps = {int(t): table for t, table in swept("timestep").items()}
    f2 = {t: table["SD f2"]["agreement"] for t, table in steps.items()}
    assert all(HAND.compared(f2[t], f2[1]) == 0 for t in (50, 195)), "as well as at t = 1"
    assert f2[700].value == pytest.approx(f2[1].value / 2, rel=0.1) and HAND.compared(f2[950], SAME_PLACE) == 0
    for block, told in (("SD f1", []), ("SD f3", []), ("SD f4", [1, 50])):
        found = {t: table[block]["agreement"] for t, table in steps.items()}
        assert [t for t in steps if above(found[t], SAME_PLACE)] == told, "f4 alone, with hardly any noise"
        assert all(found[t].value < f2[t].value / 4 for t in told)
    areas = {(s, b): [table[b][f"object AUC, {s}"] for table in steps.values()] for s in SIDES for b in BLOCKS}
    assert list(steps) == [1, 50, 195, 400, 700, 950]
    for (side, block), found in areas.items():
        order = [HAND.compared(score, MIDDLE[side]) for score in found[:5]]
        assert order == ([-1, -1, 1, 1, 1] if (side, block) == ("photo", "SD f3") else [1] * 5)
    assert above(low("SD f4", "photo", steps[1]), FIELD), "even f4, at t = 1"


def test_over_prompts_and_noise_draws():
    prompts, draws = swept("prompt"), swept("draws")
    plain, photo, sketch = (prompts[f'"{words}"'] for words in ("", "a photo of [CLASS]", "a sketch of [CLASS]"))
    for name, score in plain["SD f2"].items():
        assert HAND.compared(photo["SD f2"][name], score) == HAND.compared(sketch["SD f2"][name], score) == 0
    assert above(photo["SD f3"]["CKA"], plain["SD f3"]["CKA"]) and above(MIDDLE["photo"], auc_of(sketch))
    assert above(auc_of(plain), MIDDLE["photo"])
    assert list(draws) == ["1", "6", "32"]
    for block in BLOCKS:
        one, *more = (table[block]["agreement"] for table in draws.values())
        assert [HAND.compared(score, one) for score in more] == [0, 0], "no nearer to each other"
    gains = {}
    for side in SIDES:
        one, six, many = (low("SD f3", side, table).value for table in draws.values())
        assert one < six < many and six - one > 0.75 * (many - one), "a little, and six do nearly all"
        gains[side] = many - one
    assert gains["sketch"] > gains["photo"]


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


def test_the_committed_rows_give_four_that_show_six_that_do_not_and_four_that_cannot_be_told():
    scores = MAIN | TABLES["no features"] | {"1/f": {"low-frequency share, photo": FIELD}}
    second, third = ([told for told, _ in HAND.claims(scores, sd).values()] for sd in BLOCKS)
    end = [NOT, SHOWS, SHOWS, NOT, UNKNOWN, SHOWS, UNKNOWN]
    assert second == [NOT, UNKNOWN, UNKNOWN, NOT, NOT, NOT, SHOWS, *end]
    assert third == [NOT, SHOWS, UNKNOWN, NOT, SHOWS, NOT, SHOWS, *end]
    assert [third.count(kind) for kind in (SHOWS, NOT, UNKNOWN)] == [6, 5, 3]


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
