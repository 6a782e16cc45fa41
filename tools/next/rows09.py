# rows of 09's arms from checkpoints: argv = OUT PART...
from sfhelpers.tasks.compare import compare, differences, rows as rows_of
from sfhelpers.tasks.drclip import MAIN, PLAIN, UNTOUCHED, CHANCE
from sfhelpers import results
out, *names = argv
all_seeds = range(run.seed, run.seed + run.seeds); where = run.output_dir / "checkpoints"
kept = {"resume": True, "configuration": run.configuration}
recipes = [drclip.arm(n, models, s) for n in (MAIN, PLAIN) for s in all_seeds]
trials, frozen = compare(models, task, [*recipes, CHANCE], all_seeds, rates=run.rates, checkpoints=where, **kept)
parts = [drclip.arm(n, models, run.seed) for n in (UNTOUCHED, *names)]
trials += compare(models, task, parts, all_seeds, checkpoints=where / "parts", **kept)[0]
rows = rows_of(run, task, trials, frozen, models.weights_sha256) + differences(run, task, trials, frozen, models.weights_sha256)
results.write(rows, out)
m = MEASURES[level][0]
split = [r for r in rows if r.split == problem.split.name]
print("\n", results.table(split, "all", m.name)); print(results.verdicts(split, "all", m.name)); print(results.differences(split, "all", m.name)); print(results.trainings(split,"all",m.name), flush=True)
