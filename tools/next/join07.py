"""join07.py: the rows of tools/next/rows07 as data/results/07_ablations.json, in the order in which 07 writes them."""

import json
from dataclasses import replace
from pathlib import Path

from sfhelpers import params, results
from sfhelpers.tasks import ablations
from sfhelpers.tasks.ablations import FULL

cells = {c["id"]: "".join(c["source"]) for c in json.loads(Path("notebooks/07_ablations.ipynb").read_text())["cells"]}
space = {}
exec("from sfhelpers.tasks.ablations import Variant\n" + cells["parts"].split("made = ")[0] + cells["variants"], space)
exec(cells["noise"], space)
rows, missing = [], []
for task in params.TASKS:
    folder = Path("tools/next/rows07") / task
    known = [v for v in space["VARIANTS"] if not v.tasks or task in v.tasks]
    files = [folder / f"{v.name.replace('/', '').replace(' ', '_')}.json" for v in known]
    files += [path for path in sorted(folder.glob("*_instead_of_CLIP.json"))]
    missing += [str(path) for path in files if not path.exists()]
    counted = {row.method: row for row in results.read(folder / "operations")} if files else {}
    for found in (results.read(path) for path in files if path.exists()):
        name, _, _ = found[0].method.partition(", ")
        base = {"t =": FULL, "late fusion": "injected afterwards (late fusion)"}
        method = next((to for start, to in base.items() if name.startswith(start)), name)
        if any(row.metric == ablations.OPERATIONS for row in found):
            rows += found
            continue
        same, one = counted[found[0].method if found[0].method in counted else method], {row.seed: row for row in found if row.metric == ablations.PARAMETERS}
        rows += [replace(row, definition="that got gradients", seconds=0.0) if row in one.values() else row for row in found]
        told = {key: getattr(same, key) for key in ("metric", "definition", "value", "n")}
        rows += [replace(row, seconds=0.0, **told) for row in one.values()]
for number, row in enumerate(rows):
    if row.metric == ablations.OPERATIONS and row.task == "retrieval":  # was counted in groups of four pairs
        rows[number] = replace(row, definition=row.definition.replace("step of 2,", "step of 8,"))
print(len(rows), "rows; missing:", missing)
import sys

if not missing or sys.argv[1:] == ["all"]:
    results.write(rows, Path("data/results/07_ablations.json"))
