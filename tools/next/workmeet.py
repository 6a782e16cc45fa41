# argv: METHOD|seed,... of SketchFusion's arms for the meeting
import time
from dataclasses import replace
from sfhelpers.datasets import splits
from sfhelpers.datasets.splits import GROUP
from sfhelpers.tasks.retrieval import Retrieval
from sfhelpers.tasks.compare import compare
from sfhelpers.metrics import AP
dataset = data[0]
MEETING = drclip.MEETING
found = splits.apply(dataset, replace(splits.strict(dataset), name=MEETING))
place = {record.path: k for side in (dataset.sketches, dataset.photos) for k, record in enumerate(side)}
problem = {MEETING: splits.problem_of(found, "category", place)}
task = Retrieval(dataset, run.epochs, 1e-4, 2 * GROUP, problem)
for unit in argv:
    method, some = unit.split("|"); some = [int(s) for s in some.split(",")]
    began = time.time()
    trials, frozen = compare(models, task, (method,), some, checkpoints=run.output_dir / "checkpoints" / "meeting" / "Retrieval", resume=True, configuration=run.configuration)
    for tr in trials:
        print("\nDONE meeting", unit, tr.seed, tr.history.steps, tr.history.best_epoch, tr.history.ended, tr.tried, "AP", round(float(task.scores(tr)[AP()].mean()), 4), f"{time.time()-began:.0f} s", flush=True)
