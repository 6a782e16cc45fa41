"""operations07.py TASK BATCH: the operations of a step of every variant, counted untrained on four photos a category."""

import json
import os
import sys
from pathlib import Path

TASK, BATCH = sys.argv[1:]
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
        space |= {"tasks": TASK, "variants": "all", "seeds": 1, "rates": 1, "limit": 4, "epochs": 0}
        space |= {"batch_size": int(BATCH), "output_dir": str(RUNS / TASK), "resume": True, "others": os.environ.get("OTHERS", "")}
run, models, ablations, results = (space[name] for name in ("run", "models", "ablations", "results"))
task = space["task_for"](TASK, run)
# Noise changes nothing of a step, so its variants have the operations of what they are of (`join07.py`).
asked = [variant for variant in space["chosen"] if not variant.noise]
rows = ablations.measure(run, task, models, asked, (0,))
results.write([row for row in rows if row.metric == ablations.OPERATIONS], OUT / "operations")
