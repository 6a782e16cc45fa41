"""The pilot study's rows, tables and verdicts: nothing lost on the way, and verdicts that follow from numbers."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from sfhelpers import results
from sfhelpers.pilot import Score, claims, report, spread_categories, toy_pairs, yardsticks
from sfhelpers.pilot.study import MEASURES, SIDES, baselines
from sfhelpers.toyworld import CATEGORIES

RUN = SimpleNamespace(notebook="01_pilot_study", backbone="pocket", dataset="folder", split="x", seed=0, device="cpu")
SOURCES = ("SD f1", "SD f2", "SD f3", "SD f4", "CLIP tokens", "fused", "random UNet f2", "random UNet f3")


def table(**changes):
    """Every source alike, 0.5 ± 0.01, but for the changes: source with _ for spaces -> {measure: value}."""
    made = {source: {name: Score(0.5, 0.01, 50, 0.002) for name in MEASURES} for source in SOURCES}
    for source, values in changes.items():
        scores = made[source.replace("_", " ")]
        scores |= {name: replace(scores[name], value=value) for name, value in values.items()}
    return made


def trivial():
    names = ["agreement, chance", "agreement, same place"]
    names += [f"object AUC, {side}, nearness to the middle" for side in SIDES]
    return {name: Score(0.2, 0.01, 50) for name in names}


def verdicts(found, **baselines):
    told = claims.claims(found | yardsticks(), trivial() | baselines)
    return {claim.says: (claim.verdict, claim.third) for claim in told}


def low(value):
    return {f"low-frequency share, {side}": value for side in SIDES}


def said(told, words):
    (found,) = [value for says, value in told.items() if words in says]
    return found


def test_rows_and_back_lose_nothing(tmp_path):
    tables = {report.MAIN: table(fused={"CKA": 0.7}), report.TRIVIAL: {"no features": trivial()}}
    tables |= report.conditions("timestep", {700: table(), 5: table()})
    rows = report.rows(RUN, tables, "abc")
    results.write(rows, tmp_path / "rows.json")
    again = report.tables(results.read(tmp_path / "rows.json"))
    assert again == tables
    assert {row.dataset for row in rows} == {"toy"}, "whatever pictures were shown, the toy world was measured"
    assert all(row.definition != row.metric for row in rows)


def test_sweeps_come_back_by_value_numbers_in_order():
    a, b = table(), table(fused={"CKA": 0.1})
    found = report.conditions("timestep", {700: a, 5: b}) | report.conditions(
        "prompt", {"": a, "a photo of [CLASS]": b}
    )
    assert list(found) == ["timestep 700", "timestep 5", 'prompt ""', 'prompt "a photo of [CLASS]"']
    assert list(report.swept(found, "timestep").items()) == [(5, b), (700, a)]
    assert report.swept(found, "prompt") == {"": a, "a photo of [CLASS]": b}
    assert report.swept(found, "draws") == {}


def test_text_puts_values_beside_those_of_another_table_and_dashes_where_there_are_none():
    one = {"SD f1": {"CKA": Score(0.25, 0.05, 9)}, "fused": {}}
    lines = report.text(one, {"CKA": "CKA"}, {"SD f1": {"CKA": Score(0.3, 0.01, 99)}}).splitlines()
    assert lines[0].split() == ["CKA"] and lines[1].split("  ")[-1].strip() == "0.25 ± 0.05 (0.30)"
    assert lines[2].split() == ["fused", "–"] and len({len(line) for line in lines}) == 1
    assert report.dots(one, {"CKA": "heading"}, ("SD f1", "fused")) == {"heading": {"SD f1": (0.25, 0.05)}}


def test_a_difference_counts_beyond_two_standard_errors():
    a = Score(0.5, 0.03, 9)
    for value, order in ((0.39, 1), (0.41, 0), (0.59, 0), (0.61, -1)):
        assert claims.compared(a, Score(value, 0.04, 9)) == order


def test_what_is_alike_everywhere_cannot_be_told_and_nothing_is_judged_by_hand():
    told = verdicts(table(**{source.replace(" ", "_"): low(0.3) for source in SOURCES}))
    assert len(told) == 14
    for words in ("significantly inferior", "equally representative", "spatially aware", "that SD lacks"):
        assert said(told, words) == ("cannot be told here",) * 2


def test_sketches_that_match_and_separate_worse_are_inferior_and_better_ones_are_not():
    worse = {"sketch to other sketch": 0.3, "object AUC, sketch": 0.3, "object AUC, photo, wrong mask": 0.3}
    assert said(verdicts(table(SD_f2=worse)), "inferior") == ("shows", "cannot be told here")
    assert said(verdicts(table(SD_f3=worse)), "inferior") == ("cannot be told here", "shows")
    mixed = {"sketch to other sketch": 0.3, "object AUC, sketch": 0.9}
    assert said(verdicts(table(SD_f2=mixed)), "inferior")[0] == "does not show"


def test_an_auc_that_the_wrong_mask_reaches_says_nothing_of_sketches_against_photos():
    for side, verdict in (("sketch", "does not show"), ("photo", "cannot be told here")):  # matching is alike
        for wrong, expected in ((0.6, verdict), (0.79, "cannot be told here"), (0.9, "cannot be told here")):
            changes = {f"object AUC, {side}": 0.8, f"object AUC, {side}, wrong mask": wrong}
            assert said(verdicts(table(SD_f2=changes)), "inferior")[0] == expected


def test_clip_parts_objects_only_if_it_beats_sd_the_wrong_mask_and_the_middle_on_both_sides():
    parts = {f"object AUC, {side}": 0.9 for side in SIDES}
    assert said(verdicts(table(CLIP_tokens=parts)), "CLIP parts") == ("shows", "shows")
    for side in SIDES:
        name = f"object AUC, {side}"
        for value, verdict in ((0.89, "cannot be told here"), (0.97, "does not show")):
            wrong = table(CLIP_tokens=parts | {f"{name}, wrong mask": value})
            assert said(verdicts(wrong), "CLIP parts") == (verdict, verdict)
            middle = {f"{name}, nearness to the middle": Score(value, 0.01, 50)}
            assert said(verdicts(table(CLIP_tokens=parts), **middle), "CLIP parts") == (verdict, verdict)
            beside = said(verdicts(table(CLIP_tokens=parts, SD_f3={name: value})), "CLIP parts")
            assert beside == ("shows", verdict)


def test_features_that_do_not_cross_domains_are_not_equally_representative():
    assert said(verdicts(table(SD_f2={"sketch to other photo": 0.1})), "equally representative")[0] == "shows"
    assert said(verdicts(table(SD_f2={"sketch to other photo": 0.9})), "equally representative")[0] == "does not show"


def test_high_means_less_low_than_the_noise_that_falls_as_1_over_f():
    assert said(verdicts(table(SD_f2=low(0.2))), "predominantly on high")[0] == "shows"
    assert said(verdicts(table(SD_f2=low(0.6))), "predominantly on high")[0] == "does not show"
    half = {"low-frequency share, photo": 0.2, "low-frequency share, sketch": 0.6}
    assert said(verdicts(table(SD_f2=half)), "predominantly on high")[0] == "does not show"


def test_training_takes_low_frequencies_away_only_if_the_untrained_has_more():
    assert said(verdicts(table(random_UNet_f2=low(0.7))), "denoiser takes") == ("shows", "cannot be told here")
    assert said(verdicts(table(random_UNet_f3=low(0.1))), "denoiser takes") == ("cannot be told here", "does not show")


def test_fused_features_lie_between_their_parts_or_outside():
    def of(sd, clip, fused):
        return said(verdicts(table(SD_f2=low(sd), CLIP_tokens=low(clip), fused=low(fused))), "high and low")[0]

    assert of(0.2, 0.6, 0.4) == "shows" and of(0.6, 0.2, 0.4) == "shows"
    assert of(0.2, 0.3, 0.6) == of(0.6, 0.5, 0.1) == "does not show"
    assert of(0.4, 0.6, 0.4) == "cannot be told here"


def test_fused_features_work_equally_well_only_if_numbers_say_so():
    assert said(verdicts(table(fused={"object AUC, sketch": 0.51})), "parting")[0] == "shows"
    assert said(verdicts(table(fused={"object AUC, sketch": 0.4})), "parting")[0] == "does not show"
    assert (
        said(verdicts(table(fused={"sketch to other photo": 0.2})), "sketches and photos: matching")[0]
        == "does not show"
    )


def test_claims_as_markdown_are_one_table_with_the_numbers_behind_each():
    text = claims.markdown(claims.claims(table() | yardsticks(), trivial()))
    lines = text.splitlines()
    assert len(lines) == 16 and all(line.count("|") == 5 for line in lines)
    assert "0.500 ± 0.010" in text


def test_yardsticks_stand_where_white_noise_and_1_over_f_must():
    found = yardsticks()
    white, pink = (found[name]["low-frequency share, photo"] for name in ("white noise", "1/f"))
    steps = np.hypot(*np.mgrid[-5:6, -5:6])
    assert white.value == pytest.approx(((steps <= 2).sum() - 1) / ((steps <= 5).sum() - 1), abs=0.03)
    powers = np.divide(1, steps**2, out=np.zeros_like(steps), where=steps > 0) * (steps <= 5)
    assert white.value < pink.value < powers[steps <= 2].sum() / powers.sum() + 0.02  # the window smears a little


def test_the_baselines_that_are_measured_are_those_that_the_verdicts_ask_for():
    assert set(baselines(toy_pairs(1, ("cat", "cup", "key")))) == set(trivial())


def test_categories_are_spread_over_the_alphabet():
    assert spread_categories(99) == list(CATEGORIES)
    assert spread_categories(2) == ["airplane", "wine_glass"]
    assert len(set(spread_categories(12))) == 12
