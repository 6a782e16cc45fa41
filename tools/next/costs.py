"""CPU seconds a training step of each arm takes, task by task: python runs/next/costs.py TASK [ARM ...]"""
import os, sys, time
os.environ["TQDM_DISABLE"] = "1"
from collections import defaultdict
from dataclasses import replace
import torch
torch.set_num_threads(1)
from sfhelpers.backbones import load_backbone
from sfhelpers.datasets import load_dataset, first_sketches
from sfhelpers.tasks import arms, retrieval, segmentation, correspondence, recognition
from sfhelpers.datasets import psc6k, sketches as sk
from sfhelpers.tasks.fit import Training

kind, methods = sys.argv[1], sys.argv[2:] or ["fused", "late fusion", "SD only", "CLIP only", "SD+CLIP concatenated", "fused (fixed random injection)"]
models = load_backbone("pocket", "cpu")
clock = time.process_time
LIMIT = 5

def task_of(batch):
    if kind == "05":
        return retrieval.Retrieval(first_sketches(load_dataset("toy", limit=LIMIT), 1), 1, 2e-3, batch)
    if kind == "04":
        return segmentation.Segmentation(load_dataset("toy", limit=LIMIT), 1, 2e-3, batch)
    if kind == "03":
        return correspondence.Correspondence(psc6k.load(load_dataset("toy"), limit=LIMIT), 1, 3e-3, batch)
    return recognition.Recognition(sk.load_sketches("toy"), 1, 2e-3, batch, shots=10, limit=5)

BATCHES = {"05": (32, 16, 8), "04": (16, 8), "03": (8, 4), "06": (32, 16, 8)}[kind]
task = task_of(BATCHES[0])
for method in methods:
    arm = arms.arm_of(method, models, 0)
    maker = arms.preparer([arm])
    start = clock()
    frozen = {name: task.read(maker, part, arms.reading_size(models)) for name, part in task.parts.items()}
    def count(part):
        part = getattr(part, "images", part)
        if hasattr(part, "sketch_records"): return len(part.sketch_records) + len(part.photo_records)
        return len(next(iter(part.values())))
    n = sum(map(count, frozen.values()))
    preparing = (clock() - start) / n
    problem = "strict" if kind == "05" else ""
    frozen = task.of_problem(frozen, problem)
    extractor = arm.extractor(task.start)
    model = task.model(extractor, frozen)
    told = []
    for batch in BATCHES:
        size = batch // 4 if kind == "05" else batch
        examples = task.examples(frozen)
        training = Training(model, lambda m, i: task.loss(m, frozen, i), examples, lambda m: 0.0, 1, 1e-3, size, 0)
        order = torch.randperm(examples, generator=torch.Generator().manual_seed(0)).split(size)
        model.train()
        training.step(order[0])
        start = clock()
        steps = max(3, 48 // batch)
        for k in range(steps):
            training.step(order[k % max(1, len(order) - 1)])
        told.append(f"b{batch} {(clock() - start) / steps:.3f}s")
    start = clock()
    task.validate(model, frozen)
    validating = clock() - start
    if kind == "05":
        nv = sum(map(len, frozen["validation"]))
    else:
        nv = count(frozen["validation"])
    print(f"{kind} {method:32} prepare {1e3*preparing:.1f} ms/image ({n}); step {', '.join(told)}; validate {1e3*validating/nv:.1f} ms/image ({nv}); parameters {sum(p.numel() for p in model.parameters() if p.requires_grad)}", flush=True)
