"""05, strict, CLIP only: what smaller batches and groups do to the metric, by steps and CPU seconds."""
import os, time
os.environ["TQDM_DISABLE"] = "1"
import torch
torch.set_num_threads(1)
from sfhelpers.backbones import load_backbone
from sfhelpers.datasets import load_dataset, first_sketches, splits
from sfhelpers.metrics import AP
from sfhelpers.tasks import arms, retrieval
from sfhelpers.tasks.fit import Training
import sys
method = sys.argv[1] if len(sys.argv) > 1 else "CLIP only"
models = load_backbone("pocket", "cpu")
data = first_sketches(load_dataset("toy", limit=10), 1)
clock = time.process_time
frozen = None
for batch, group, steps, rate in ((8, 2, 240, 2e-3), (32, 4, 60, 2e-3), (16, 4, 150, 2e-3), (8, 4, 300, 2e-3), (8, 2, 300, 1e-3)):
    retrieval.GROUP = splits.GROUP = group
    task = retrieval.Retrieval(data, 1, rate, batch, ("strict",))
    arm = arms.arm_of(method, models, 0)
    if frozen is None:
        maker = arm.extractor(task.start) if method == "CLIP only" else arms.preparer([arm])
        frozen = {n: task.read(maker, p, arms.reading_size(models)) for n, p in task.parts.items()}
    of = task.of_problem(frozen, "strict")
    model = task.model(arm.extractor(task.start), of)
    size = batch // group
    training = Training(model, lambda m, i: task.loss(m, of, i), task.examples(of), lambda m: 0.0, 1, rate, size, 0)
    from unittest import mock
    training.schedule = mock.Mock()
    order = torch.Generator().manual_seed(0)
    queue, told, spent = [], [], 0.0
    for step in range(steps + 1):
        if step % (steps // 3) == 0:
            model.eval()
            with torch.no_grad():
                value = task.validate(model, of)
                trial = retrieval.Trial(method, 0, "strict", model=model, found=task.predict(model, of))
                told.append(f"{step}: {value:.3f} {task.scores(trial)[AP()].mean():.3f}")
            model.train()
        if len(queue) < 1:
            queue = [b for b in torch.randperm(task.examples(of), generator=order).split(size) if len(b) == size]
        start = clock()
        training.step(queue.pop())
        spent += clock() - start
    print(f"{method} batch {batch} groups of {group} rate {rate}: {spent / (steps + 1):.3f} s/step; validation, unseen: {'; '.join(told)}", flush=True)
