# parts of 09 at the rate of the whole (factor in argv[0]); argv[1:]: METHOD|seeds
import time
from sfhelpers.tasks.compare import compare
from sfhelpers.metrics import AP
task.learning_rate *= float(argv[0])
for unit in argv[1:]:
    method, some = unit.split("|"); some = [int(s) for s in some.split(",")]
    began = time.time()
    trials, frozen = compare(models, task, [drclip.arm(method, models, s) for s in some], some, checkpoints=run.output_dir / "checkpoints" / "parts", resume=True, configuration=run.configuration)
    for tr in trials:
        print("\nDONE", run.scenario, unit, tr.seed, tr.history.steps, tr.history.best_epoch, tr.history.ended, tr.tried, "AP", round(float(task.scores(tr)[AP()].mean()), 4), f"{time.time()-began:.0f} s", flush=True)
