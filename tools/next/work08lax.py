# PROBLEM|NAME[|setting=value]: what 08 trains once, at SD-PL's rate (factor 1)
import time
from sfhelpers.metrics import AP, Acc
for unit in argv:
    problem, name, *changed = unit.split("|")
    changed = {k: eval(v) for k, v in (c.split("=") for c in changed)}
    t = Matchmaker(data, run.epochs, run.learning_rate, run.batch_size, (problem,))
    folder = problem if problem != "strict" else "variants"
    began = time.time()
    trials, frozen = compare(models, t, [matchmaker.arm_of(name, models, run.seed, **settings | changed)], [run.seed], checkpoints=run.output_dir / "checkpoints" / folder, resume=True, configuration=run.configuration)
    for tr in trials:
        m = Acc(1) if problem == "fine-grained" else AP()
        print("\nDONE", unit, tr.history.steps, tr.history.best_epoch, tr.history.ended, tr.tried, m.name, round(float(t.scores(tr, (m,))[m].mean()), 4), f"{time.time()-began:.0f} s", flush=True)
