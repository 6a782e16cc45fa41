"""The pilot study's numbers: what each means, and how they become result rows and come back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sfhelpers import results

_MATCH = "share of visible keypoints whose most similar position (cosine, 24 x 24) lies within 0.1 of the side"
_AUC = "area under the ROC curve of the first principal component of all {0}s, object against ground"
_SHARE = "share of the power up to 5 cycles per image that lies at or below 2, Hann window, no mean, {0}s"
_SIDED = {
    "object AUC, {0}": f"{_AUC}, sign from the other images",
    "object AUC, {0}, best of 3": f"{_AUC}, or of the second or third",
    "object AUC, {0}, wrong mask": f"{_AUC} of another category",
    "object AUC, {0}, nearness to the middle": "area under the ROC curve, object against ground, {0}s",
    "low-frequency share, {0}": _SHARE,
}
_WAYS = (("sketch", "photo"), ("photo", "photo"), ("sketch", "sketch"))
DEFINITIONS = {
    "CKA": "debiased linear CKA of sketch and photo features at the keypoints visible in both",
    "agreement": f"{_MATCH}, sketch to its own photo",
    "agreement, offsets removed": f"{_MATCH}, channels standardised over all sketches and over all photos",
    "agreement, chance": "expected agreement of a position drawn at random",
    "agreement, same place": "agreement of the keypoint's own place in the sketch",
    **{f"{a} to other {b}": f"{_MATCH}, {a} to the {b} of another individual of its category" for a, b in _WAYS},
    **{name.format(side): words.format(side) for side in ("sketch", "photo") for name, words in _SIDED.items()},
}
ERROR = ", standard error"


@dataclass(frozen=True)
class Score:
    """A measured value of n pairs, the mean over the noise seeds."""

    value: float
    error: float  # standard error over categories, mean over the noise seeds
    n: int
    spread: float | None = None  # sample standard deviation over the noise seeds; None for a single one

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.error:.3f}"


Table = dict[str, dict[str, Score]]  # source -> measure -> score


def rows(run: Any, tables: Mapping[str, Table], weights_sha256: str) -> list[results.Row]:
    """Two rows a value of each condition's table, the second with its standard error."""
    common, made = {"task": "pilot study", "split": "", "dataset": "toy", "weights_sha256": weights_sha256}, []
    spelt = "from leaving out one category at a time; mean over the noise seeds"
    for condition, table in tables.items():
        for source, name, score in ((s, n, score) for s, scores in table.items() for n, score in scores.items()):
            whose = common | {"method": source, "n": score.n, "gallery": condition}
            told = {"definition": DEFINITIONS[name], "value": score.value, "spread": score.spread}
            made.append(results.row(run, metric=name, **told, **whose))
            made.append(results.row(run, metric=name + ERROR, definition=spelt, value=score.error, **whose))
    return made


def tables(found: Iterable[results.Row]) -> dict[str, Table]:
    """The conditions' tables whose rows these are."""
    by_name = {(row.gallery, row.method, row.metric): row for row in found}
    made: dict[str, Table] = {}
    for (condition, source, name), row in by_name.items():
        if error := by_name.get((condition, source, name + ERROR)):
            scores = made.setdefault(condition, {}).setdefault(source, {})
            scores[name] = Score(row.value, error.value, row.n, row.spread)
    return made
