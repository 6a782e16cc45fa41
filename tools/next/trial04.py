"""trial.py BACKBONE LIMIT BATCH ABSENT method:rate:epochs ..."""
import sys, time, torch, pickle
from sfhelpers.backbones import load_backbone
from sfhelpers.datasets import load_dataset, first_sketches
from sfhelpers.tasks import segmentation as S
from sfhelpers.tasks.arms import arm_of, reading_size
from sfhelpers.tasks.fit import Training
torch.set_num_threads(1)
cpu = time.process_time
bb, limit, batch, absent = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
b = load_backbone(bb, "cpu")
data = first_sketches(load_dataset("toy", limit=limit, seed=0), 1)
kept = {}
for spec in sys.argv[5:]:
    method, rate, epochs = spec.split(":")
    task = S.Segmentation(data, int(epochs), float(rate), batch, absent)
    arm = arm_of(method, b, 0)
    ex = arm.extractor()
    key = (method,)
    if key not in kept:
        t = cpu()
        kept.clear()
        kept[key] = {n: task.read(ex, p, reading_size(b), seed=0) for n, p in task.parts.items()}
        print(method, "prepared", round(cpu() - t, 1), "cpu s", {n: (len(p), {k: len(v) for k, v in S.questions(p, absent).items()}) for n, p in kept[key].items()}, flush=True)
    frozen = kept[key]
    t = cpu()
    model = task.model(ex, frozen)
    vt = [0.0]
    def val(m):
        s = cpu(); v = task.validate(m, frozen); vt[0] += cpu() - s; return v
    tr = Training(model, lambda m, i: task.loss(m, frozen, i), task.examples(frozen), val, int(epochs), float(rate), batch, 0)
    h = tr.fit()
    total = cpu() - t
    print(spec, "trained", round(total, 1), "cpu s of which validation", round(vt[0], 1), "steps", h.steps, "s a step", round((total - vt[0]) / max(1, h.steps), 3))
    print("  val", [round(e["validation"], 3) for e in h.epochs], "loss", [e["loss"] and round(e["loss"], 3) for e in h.epochs], flush=True)
    t = cpu()
    class T: found = task.predict(model, frozen)
    print("  cut", T.found.threshold, "scale", round(model.log_temperature.exp().item(), 2), "centre", round(model.centre.item(), 3))
    for part in ("seen", "unseen"):
        rows = {}
        for m in task.measure(T, frozen):
            if m.gallery.startswith(part + " ") and "paper" not in m.definition:
                rows[m.metric] = round(float(m.values.mean()), 3)
        print("  ", part, {k: v for k, v in rows.items() if k not in ("mIoU", "pAcc", "pAcc (class mean)", "dataset IoU")}, "diff", round(rows["right sketch"] - rows["wrong sketch"], 3))
    print("  predicted", round(cpu() - t, 1), flush=True)
