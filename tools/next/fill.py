"""fill.py NOTEBOOK UNTIL params.json: run the notebook's cells up to the cell UNTIL (excluded), then `exec` work from argv[4]."""
import json, os, sys
from pathlib import Path
nb, until, params, work = sys.argv[1:5]
params = json.loads(Path(params).read_text()) if params.endswith(".json") else json.loads(params)
os.chdir("notebooks")
cells = [c for c in json.loads(Path(nb).read_text())["cells"] if c["cell_type"] == "code"]
space = {"__name__": "__main__", "display": lambda *a, **k: None}
skip = set(os.environ.get("SKIP", "").split(","))
for cell in cells:
    if cell["id"] == until: break
    if cell["id"] in skip: continue
    src = "".join(cell["source"])
    exec(compile(src, cell["id"], "exec"), space)
    if "parameters" in cell["metadata"].get("tags", []): space |= params
exec(compile(Path(work).read_text(), work, "exec"), space | {"argv": sys.argv[5:]})
