"""rows07.py TASK BATCH [PATTERN...]: the variants of 07's table, one by one, each into tools/next/rows07/TASK/NAME.json.

What one `papermill 07_ablations.ipynb -p tasks TASK -p variants all -p seeds 3 -p rates 3 -p limit 6 -p batch_size BATCH
-p epochs 120` gives, but a variant that has its file is not trained again, on whichever machine; `full` comes first, since
the others take its rate. Several processes may share a task with other patterns (fnmatch). `join07.py` makes one table.
"""

import fnmatch
import json
import os
import sys
from pathlib import Path

TASK, BATCH, *PATTERNS = sys.argv[1:]
OUT = Path("tools/next/rows07").absolute() / TASK
OUT.mkdir(parents=True, exist_ok=True)
RUNS = Path(os.environ.get("RUNS", "runs/rows07")).absolute()
os.chdir("notebooks")
cells = [c for c in json.loads(Path("07_ablations.ipynb").read_text())["cells"] if c["cell_type"] == "code"]
space = {"__name__": "__main__", "display": lambda *given, **settings: None}
for cell in cells:
    source = "".join(cell["source"])
    if cell["id"] == "co-11":
        continue
    if cell["id"] == "co-13":
        exec(source.split("rows, tasks = []")[0], space)
        break
    exec(source, space)
    if "parameters" in cell["metadata"].get("tags", []):
        space |= {"tasks": TASK, "variants": "all", "seeds": 3, "rates": 3, "limit": 6, "epochs": 120}
        space |= {"batch_size": int(BATCH), "output_dir": str(RUNS / TASK), "resume": True, "others": os.environ.get("OTHERS", "")}
run, models, ablations, results = (space[name] for name in ("run", "models", "ablations", "results"))
task = space["task_for"](TASK, run)
kept = {"checkpoints": run.output_dir / "checkpoints" / TASK, "configuration": space["same"], "resume": True}


def file_of(variant):
    return OUT / f"{variant.name.replace('/', '').replace(' ', '_')}.json"


first, *rest = space["chosen"]
for variant in (first, *rest):
    if variant is not first and not any(fnmatch.fnmatch(variant.name, p) for p in PATTERNS or ["*"]):
        continue
    if variant.tasks and TASK not in variant.tasks:
        continue
    if not file_of(variant).exists():
        rates = {"rates": run.rates} if variant is first else {}
        results.write(ablations.measure(run, task, models, [variant], space["seeds"], **kept, **rates), file_of(variant))
        print("DONE", variant.name, flush=True)
    if variant is first:
        task.learning_rate = results.read(file_of(first))[0].learning_rate
        print("rate", task.learning_rate, flush=True)
