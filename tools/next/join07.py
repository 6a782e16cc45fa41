"""join07.py: the rows of tools/next/rows07 as data/results/07_ablations.json, in the order in which 07 writes them."""

import json
from pathlib import Path

from sfhelpers import params, results

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
    rows += [row for path in files if path.exists() for row in results.read(path)]
print(len(rows), "rows; missing:", missing)
if not missing:
    results.write(rows, Path("data/results/07_ablations.json"))
