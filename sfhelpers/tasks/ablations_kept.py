"""What the ablations have found so far, in one file that a run which was killed goes on from."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sfhelpers.files import replace_file


@dataclass(frozen=True)
class Outcome:
    """One variant trained with one seed on one task.

    Attributes:
        task, variant, seed: which; `weights_sha256` of the backbone it stands on.
        described: all that makes the variant.
        values, n: gallery -> mean of the task's metric over so many queries.
        parameters: how many it learned.
        seconds: training and prediction.
        preparing: seconds for what is frozen, which variants and seeds of a kind share.
        weights: branch -> its weight after the softmax.
        without: branch -> gallery -> the metric with that branch silenced in the trained model; empty if not measured.
    """

    task: str
    variant: str
    described: Mapping[str, Any]
    seed: int
    weights_sha256: str
    values: Mapping[str, float]
    n: Mapping[str, int]
    parameters: int
    seconds: float
    preparing: float
    weights: Mapping[str, float] = field(default_factory=dict)
    without: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Kept:
    """Outcomes by task, variant and seed; written to a file, whole, after every one.

    Args:
        path: the file; None keeps them in memory alone.
        configuration: what else decides the numbers, as JSON holds it (dataset, weights' sha256, epochs, ...).
        resume: go on from what the file holds; else it is replaced when there is something new to keep, not before.

    Raises:
        ValueError: one sentence, if the file is broken or of another configuration.
    """

    def __init__(
        self, path: Path | None = None, configuration: Mapping[str, Any] | None = None, resume: bool = True
    ) -> None:
        self.path, self.configuration = path, json.loads(json.dumps(dict(configuration or {})))
        self.outcomes: list[Outcome] = []
        if resume and path is not None and path.exists():
            self.outcomes = self._read(path)

    def find(self, task: str, described: Mapping[str, Any], seed: int) -> Outcome | None:
        """The outcome of this task, variant and seed, or None."""
        for outcome in self.outcomes:
            if (outcome.task, outcome.described, outcome.seed) == (task, described, seed):
                return outcome
        return None

    def add(self, outcome: Outcome) -> None:
        """Keep one more, on disk before this returns."""
        self.outcomes.append(outcome)
        if self.path is not None:
            text = {"configuration": self.configuration, "outcomes": [asdict(o) for o in self.outcomes]}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.path, json.dumps(text, indent=1).encode("utf-8"))

    def _read(self, path: Path) -> list[Outcome]:
        try:
            text = json.loads(path.read_text(encoding="utf-8"))
            made, outcomes = text["configuration"], [Outcome(**entry) for entry in text["outcomes"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is not a file of ablations ({error}): delete it, or start anew with -p resume False."
            ) from error
        keys = made.keys() | self.configuration.keys()
        differ = sorted(key for key in keys if made.get(key) != self.configuration.get(key))
        if differ:
            raise ValueError(
                f"{path} was made with another {', '.join(differ)}: start anew with -p resume False, "
                "or pass what it was made with."
            )
        return outcomes
