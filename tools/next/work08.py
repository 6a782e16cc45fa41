# argv: PROBLEM|METHOD[|seeds] ... ; arms of 08 trained into the notebook's own checkpoint folder.
import time
for unit in argv:
    problem, method, *rest = unit.split("|")
    some = [int(s) for s in rest[0].split(",")] if rest else list(seeds)
    t = Matchmaker(data, run.epochs, run.learning_rate, run.batch_size, (problem,), others=given)
    arms_ = [matchmaker.arm_of(method, models, s, **settings) for s in some]
    began = time.time()
    trials, frozen = compare(models, t, arms_, some, rates=run.rates, checkpoints=run.output_dir / "checkpoints" / "arms", **kept)
    for tr in trials:
        q, g = t.asked(tr)
        from sfhelpers.metrics import AP
        print("DONE", unit, tr.seed, tr.history.steps, tr.history.best_epoch, tr.history.ended, tr.tried,
              "mAP", round(float(t.scores(tr)[AP()].mean()), 4), f"{time.time()-began:.0f} s", flush=True)
