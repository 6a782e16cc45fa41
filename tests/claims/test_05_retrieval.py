"""What 05_retrieval says of its committed rows and of the default run whose outputs it shows."""

from sfhelpers import results
from sfhelpers.metrics import AP, Acc
from sfhelpers.results import BETTER, NOT_TOLD
from sfhelpers.tasks.retrieval import B_CLIP, B_SD, CHANCE, EXPECTED, GENERALISED, SEEN
from tests.claims import shown, told

ROWS = results.committed("05_retrieval")
STRICT = [row for row in ROWS if row.split == "strict"]
_, APART, VERDICTS = told(STRICT, "all", "mAP@all", AP().definition)


def table(split="strict", measure=AP(), gallery="all"):  # noqa: B008
    rows = [row for row in ROWS if row.split == split]
    return {m: v for m, (v, _) in results.table(rows, gallery, measure.name, measure.definition).items()}


def test_fused_beside_the_other_methods_on_unseen_classes():
    assert table()["fused"] > 6 * table()[CHANCE], "more than six times what chance has"
    assert VERDICTS[B_CLIP] == BETTER, "and more than CLIP off the shelf"
    assert APART["CLIP only"][1] > 0, "other photos would put fused above CLIP only"
    assert VERDICTS["CLIP only"] == NOT_TOLD, "and another training perhaps not"
    for joined in ("fused (fixed random injection)", "late fusion", "fused (random UNet)"):
        assert VERDICTS[joined] == NOT_TOLD, "how the two are joined cannot be told apart"
    assert table()[B_SD] < 1.2 * table()[CHANCE], "the pooled up-block says almost nothing of the category"
    assert max(table()["SD only"], table()[B_SD]) < 0.6 * table()["CLIP only"], "and a head on the UNet little"


def test_the_very_photo_is_found_ten_times_as_often_as_by_chance_and_not_more_often_than_by_clip_only():
    (expected,) = [row.value for row in ROWS if row.metric == EXPECTED]
    assert expected == 1 / 288 and table(measure=Acc(1))["fused"] >= 10 * expected
    assert told(STRICT, "all", "Acc@1", Acc(1).definition)[2]["CLIP only"] == NOT_TOLD
    values = table(measure=Acc(1), gallery="class")
    assert max(values.values()) < 2 * values[CHANCE], "told the category, no arm finds it twice as often as chance"


def test_clip_off_the_shelf_gains_most_from_classes_the_backbone_knows_and_is_ahead_of_every_head_there():
    for values in (table(), table(GENERALISED["class"], gallery=SEEN)):
        assert values["B-Finetuning"] < values[B_CLIP], "finetuning is below it, on classes it was trained on too"
    laxer, strict = table("clip-style"), table()
    assert max(laxer, key=lambda method: laxer[method] - strict[method]) == B_CLIP
    assert laxer[B_CLIP] > max(laxer[method] for method in ("fused", "CLIP only", "SD only"))
    assert table(GENERALISED["class"], gallery=SEEN)[B_CLIP] > 0.95


def test_the_default_run():
    line = r"^{} +mAP@all ([\d.]+)"
    fused, sd, chance = (shown("05_retrieval", line.format(who))[0] for who in ("fused", "SD only", "chance"))
    assert fused > 2 * chance and sd < 1.5 * chance, "more than twice chance, and a head on the UNet alone little more"
    low, high = shown("05_retrieval", r"^mAP@3: ([\d.]+) to ([\d.]+)")
    low_share, high_share = shown("05_retrieval", r"^of their own ceilings: ([\d.]+) to ([\d.]+)")
    (methods,) = shown("05_retrieval", r"^for comparison, .* lie ([\d.]+) apart")
    assert high > 2 * low, "definitions are apart more than twofold"
    assert methods < high_share - low_share < (high - low) / 2, "ceilings are most of it"
