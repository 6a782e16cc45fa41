# argv: OUT. As the cells from mm-32 on, but that B-Fine-Tuning has one rate
import json
from pathlib import Path
cells_ = {c["id"]: "".join(c["source"]) for c in json.loads(Path("08_matchmaker.ipynb").read_text())["cells"]}
from sfhelpers.tasks.matchmaker import TUNED
from sfhelpers.metrics import AP, Acc
task = Matchmaker(data, run.epochs, run.learning_rate, run.batch_size, ("strict",), others=given)
wanted = [matchmaker.arm_of(method, models, seed, **settings) for method in ARMS for seed in (seeds if method in (SD_PL, PLAIN) else seeds[:1])]
where = run.output_dir / "checkpoints" / "arms"
trials, frozen = compare(models, task, [*[a for a in wanted if a.method != TUNED], *task.baselines], seeds, rates=run.rates, checkpoints=where, **kept)
trials += compare(models, task, [a for a in wanted if a.method == TUNED], seeds, checkpoints=where, **kept)[0]
first = {trial.method: trial for trial in trials if trial.seed == run.seed}
own_rows = rows_of(run, task, trials, frozen, models.weights_sha256)
own_tests = differences(run, task, trials, frozen, models.weights_sha256)
for name in ("mm-one", "mm-more"): exec(cells_[name], globals())
varied = trained(only(), "variants", {"visual prompt only": {"learn_text": False}, "text prompt only": {"width": 0}})
results.write(own_rows + own_tests + varied, argv[0])
rows = own_rows + own_tests
strict = [r for r in rows if r.split == "strict"]
print("\nDONE", results.table(strict, "all", "mAP@all", AP().definition))
print(results.verdicts(rows, "all", "mAP@all")); print(results.differences(rows, "all", "mAP@all")); print(results.trainings(strict + varied, "all", "mAP@all", AP().definition))
for g in ("all", "class"):
    for k in (1, 5, 10): print(g, k, {m: round(v[0], 3) for m, v in results.table(strict, g, Acc(k).name, Acc(k).definition).items()})
print("clip", results.table([r for r in rows if r.split == "clip-style"], "all", "mAP@all", AP().definition), flush=True)
