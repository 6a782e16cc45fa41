from sfhelpers.metrics import AP, Acc
import numpy as np
t = Matchmaker(data, run.epochs, run.learning_rate, run.batch_size, ("strict",), others=given)
arms_ = [matchmaker.arm_of(m, models, s, **settings) for m in (SD_PL, PLAIN, matchmaker.REAL) for s in (seeds if m != matchmaker.REAL else seeds[:1])]
trials, frozen = compare(models, t, [*arms_, *t.baselines], seeds, checkpoints=run.output_dir / "checkpoints" / "arms", **kept)
from sfhelpers import results
from sfhelpers.tasks.compare import rows as rows_of, differences
rows = rows_of(run, t, trials, frozen, models.weights_sha256) + differences(run, t, trials, frozen, models.weights_sha256)
results.write(rows, "runs/next/interim08.json")
strict=[r for r in rows if r.split=="strict"]
print("\n", results.table(strict, "all", AP().name, "a photo is relevant for every thing in it; "+AP().definition))
print(results.verdicts(rows,"all","mAP@all")); print(results.differences(rows,"all","mAP@all"))
print(results.trainings(strict, "all", AP().name, "a photo is relevant for every thing in it; "+AP().definition), flush=True)
