# argv: OUT. Rows of the meeting; trainings that 08 and 09 made with the same settings are taken from there.
import json, shutil
from pathlib import Path
from sfhelpers import kept as kept_module
from sfhelpers.tasks.compare import compare, differences, rows as rows_of
from sfhelpers.tasks.drclip import MAIN, PLAIN, UNTOUCHED, CHANCE
from sfhelpers import results
def lenient(self):
    if not self.path.exists(): return None
    tensors, d, whole = kept_module.from_signed(self.path, kept_module.KEY)
    assert whole
    for name in ("learning_rate", "batch_size", "seed", "train", "epochs"):
        assert d["made_by"]["fit"][name] == self.made_by["fit"][name], (self.path, name)
    assert d["made_by"]["weights"] == self.made_by["weights"], self.path
    return tensors, d["state"]
kept_module.Checkpoint.read = lenient
where = run.output_dir / "checkpoints" / "meeting"
for s in (0, 1, 2):
    for src, dst in ((f"/work/golden/runs/mm/checkpoints/arms/sd-pl-seed{s}/strict", where / "Matchmaker" / f"sd-pl-seed{s}" / "the meeting"),
                     (run.output_dir / "checkpoints" / f"dr-clip-seed{s}" / "gzs", where / "DrClip" / f"dr-clip-seed{s}" / "cgsbir"),
                     (run.output_dir / "checkpoints" / f"plain-tuning-seed{s}" / "gzs", where / "DrClip" / f"plain-tuning-seed{s}" / "cgsbir")):
        dst = Path(dst); dst.mkdir(parents=True, exist_ok=True)
        if not (dst / "training.safetensors").exists(): shutil.copy(Path(src) / "training.safetensors", dst / "training.safetensors")
all_seeds = range(run.seed, run.seed + run.seeds)
nb = {c["id"]: "".join(c["source"]) for c in json.loads(Path("09_drclip.ipynb").read_text())["cells"]}
space = dict(globals()); 
for cell in ("d62",):
    src = nb[cell].split("(asking, offered)")[0]; exec(src, space)
space["run"].resume = True
for cell in ("meet-run", "meet-cost", "meet-real", "meet-rows"): exec(compile(nb[cell], cell, "exec"), space)
results.write(space["met_rows"], argv[0])
rows = space["met_rows"]
for split in (drclip.MEETING, "not trained on"):
    some = [r for r in rows if r.split == split]
    from sfhelpers.metrics import AP
    print("\n", split, results.table(some, "all", AP().name, AP().definition) or results.table(some, "all", AP().name))
some = [r for r in rows if r.split == drclip.MEETING]
print(results.verdicts(some, "all", "mAP@all")); print(results.differences(some, "all", "mAP@all"), flush=True)
