"""The tasks that the ablations are measured on, each on a small share of its data."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from sfhelpers.datasets import Dataset, first_sketches, load_dataset
from sfhelpers.datasets.sketches import Sketches, load_sketches
from sfhelpers.params import Parameter
from sfhelpers.tasks import before as arms
from sfhelpers.tasks import (
    recognition,
    recognition_comparison,
    retrieval_comparison,
)
from sfhelpers.tasks.ablations import Retest


@dataclass(frozen=True)
class Problem:
    """A task with its data.

    Attributes:
        task: as the comparisons see it.
        retest: see `ablations.run`.
        dataset, split: for result rows.
    """

    task: arms.Task
    retest: Retest
    dataset: str
    split: str


def problems(run: Any, names: Iterable[str]) -> list[Problem]:
    """The tasks of these names, with the dataset, limit, epochs, learning rate and batch size of a run.

    Args:
        run: from `params.check`; its `limit` is photos a category, each with one sketch, and of recognition the shots
            and the test sketches a category.
        names: of TASKS.

    Raises:
        ValueError: an unknown name, or what the datasets refuse.
    """
    names = tuple(names)
    wrong = [name for name in names if name not in TASKS]
    if wrong or not names:
        raise ValueError(f"unknown task {', '.join(wrong) or 'list, which is empty'}: use some of {', '.join(TASKS)}.")
    data = first_sketches(load_dataset(run.dataset, run.data_root, run.split, run.limit), 1)
    return [TASKS[name](data, run.limit, run.epochs, run.learning_rate, run.batch_size) for name in names]


def _retrieval(data: Dataset, limit: int, *settings: Any) -> Problem:
    def retest(trial: Any, parts: Any) -> Any:
        found = {k: retrieval_comparison.embedded(model, parts, k) for k, model in trial.models.items()}
        return replace(trial, vectors=found)

    # Real data has no classes that Stable Diffusion or CLIP never saw.
    problem = "strict" if data.select(seen=False).photos else "clip-style"
    return Problem(retrieval_comparison.task(data, *settings, problems=(problem,)), retest, data.name, problem)


def _recognition(data: Dataset, limit: int, *settings: Any) -> Problem:
    def retest(trial: Any, parts: Any) -> Any:
        return replace(trial, logits=recognition.predict_sketches(trial.model, parts.test))

    if data.name == "toy":
        sketches = load_sketches("toy")
    else:
        sketches = Sketches(data.name, data.root, data.split, data.select(seen=True).sketches)
    task = recognition_comparison.task(sketches, *settings, shots=limit, limit=limit)
    return Problem(task, retest, sketches.name, sketches.split)


TASKS: dict[str, Callable[..., Problem]] = {
    "retrieval": _retrieval,
    "recognition": _recognition,
}

# What 07_ablations has beside the parameters of every notebook.
PARAMETERS = {
    "tasks": Parameter(str, "what the extractor is trained for", choices=("few", "all", *TASKS)),
    "variants": Parameter(str, "which ablations", choices=("few", "all")),
    "seeds": Parameter(int, "seeds a variant is trained with", low=1),
    "others": Parameter(str, "image encoders in CLIP's place"),
}
