"""The pilot study's numbers as result rows and back, as text, and for figures."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sfhelpers import results
from sfhelpers.pilot.study import MEASURES, SIDES, Score, Table

COMMITTED = Path(__file__).resolve().parents[2] / "data" / "results" / "01_pilot_study.json"
MAIN, TRIVIAL = "all settings by default", "no features"
ERROR = ", standard error"
_EXTRA = {
    "agreement, chance": "expected agreement of a position drawn at random",
    "agreement, same place": "agreement of the keypoint's own place in the sketch",
    **{
        f"object AUC, {side}, nearness to the middle": f"area under the ROC curve, object against ground, {side}s"
        for side in SIDES
    },
}


def rows(run: Any, tables: Mapping[str, Table], weights_sha256: str) -> list[results.Row]:
    """Two rows a value, the second with its standard error over categories; `spread` is over the noise seeds.

    Args:
        tables: condition, such as `MAIN` or "timestep 400", -> source -> measure -> score.
    """
    made = []
    for condition, table in tables.items():
        for source, scores in table.items():
            for name, score in scores.items():
                definition = {**MEASURES, **_EXTRA}[name]
                common = {"task": "pilot study", "method": source, "n": score.n, "gallery": condition, "split": ""}
                common |= {"weights_sha256": weights_sha256, "dataset": "toy"}
                made.append(
                    results.row(
                        run, metric=name, definition=definition, value=score.value, spread=score.spread, **common
                    )
                )
                spelt = "from leaving out one category at a time; mean over the noise seeds"
                made.append(results.row(run, metric=name + ERROR, definition=spelt, value=score.error, **common))
    return made


def tables(found: Iterable[results.Row]) -> dict[str, dict[str, dict[str, Score]]]:
    """What `rows` was given, from the rows."""
    found = list(found)
    errors = {(r.gallery, r.method, r.metric): r.value for r in found if r.metric.endswith(ERROR)}
    made: dict[str, dict[str, dict[str, Score]]] = {}
    for r in found:
        error = errors.get((r.gallery, r.method, r.metric + ERROR))
        if error is not None:
            scores = made.setdefault(r.gallery, {}).setdefault(r.method, {})
            scores[r.metric] = Score(r.value, error, r.n, r.spread)
    return made


def conditions(name: str, swept: Mapping[Any, Table]) -> dict[str, Table]:
    """A sweep's tables by the names under which their rows are written: "timestep 400", 'prompt ""'."""
    return {f'{name} "{value}"' if isinstance(value, str) else f"{name} {value}": t for value, t in swept.items()}


def swept(found: Mapping[str, Table], name: str) -> dict[Any, Table]:
    """Back from conditions to a sweep: value -> table, numbers as numbers and in order."""
    values: dict[Any, Table] = {}
    for condition, table in found.items():
        if match := re.fullmatch(rf'{name} (?:(\d+)|"(.*)")', condition):
            values[int(match[1]) if match[1] else match[2]] = table
    return dict(sorted(values.items())) if all(isinstance(v, int) for v in values) else values


def text(table: Table, measures: Mapping[str, str], other: Table | None = None) -> str:
    """A table to print: a source a line, value and standard error of each measure, beside them those of another table.

    Args:
        measures: measure -> heading.
        other: e.g. of a longer run; its values follow in brackets, and all have two decimals.
    """
    width, column = max(len(name) for name in table) + 1, 16 if other is None else 20
    lines = [" " * width + "".join(f"{heading:>{column}}" for heading in measures.values())]
    for name, scores in table.items():
        cells = [cell(scores.get(measure), 3 if other is None else 2) for measure in measures]
        if other is not None:
            beside = (other.get(name, {}).get(measure) for measure in measures)
            cells = [f"{c} ({b.value:.2f})" if b else c for c, b in zip(cells, beside, strict=True)]
        lines.append(f"{name:<{width}}" + "".join(f"{entry:>{column}}" for entry in cells))
    return "\n".join(lines)


def dots(
    table: Table, measures: Mapping[str, str], sources: Sequence[str]
) -> dict[str, dict[str, tuple[float, float]]]:
    """For `plots.bars_with_spread`: heading -> source -> (value, standard error); measures -> headings."""
    return {
        heading: {s: (table[s][name].value, table[s][name].error) for s in sources if name in table[s]}
        for name, heading in measures.items()
    }


def cell(score: Score | None, decimals: int = 3) -> str:
    """Value and standard error, or a dash where the measure cannot be taken."""
    return "–" if score is None else f"{score.value:.{decimals}f} ± {score.error:.{decimals}f}"
