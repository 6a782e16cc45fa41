"""vit.py NAME [key=value ...]: pocket's CLIP, an image tower of a trunk and a transformer, aligned to a prompt bank.

Two phases of one loop: first the transformer and the words learn on maps of the untouched trunk, then the trunk's last
three stages with them, at a low rate; stem and stages 0 to 3 stay as ImageNet left them, so their maps are made once.
"""

import json
import sys
import time

sys.path.insert(0, "runs/next/vit_src")
import numpy as np
import open_clip
import torch
from torch import nn
from torch.nn import functional as F
from vit_eval import HELD, banks, report
from vit_shipped import shipped_clip
from timm.layers import PatchDropout
from vit_model import ROOT, new_clip, start_as_pooling, write_words

from sfhelpers.toyworld import SEEN

torch.set_num_threads(1)
name = sys.argv[1]
plan = {"first": 300, "second": 120, "rate": 5e-4, "trunk_rate": 1e-4, "distil": 0.5, "seed": 0, "held": 1, "start": "", "batch": 48, "exact": 0.3, "dropped": 0.5, "shipped": 0}
plan |= {k: type(plan[k])(v) for k, v in (a.split("=") for a in sys.argv[2:])}
OUT = ROOT / "vit_runs" / name
write_words(OUT)
tokenize = open_clip.get_tokenizer(f"local-dir:{OUT}")
trained = [c for c in SEEN if not (plan["held"] and c in HELD)]


def drawn():
    """Maps (2, N, ...) of pictures and of their mirror images, (N, C) targets that sum to one, domains (N,)."""
    maps, targets, domains = [], [], []
    for path in sorted((ROOT / "vit_data").glob("*_?????.pt")):
        told = json.loads(path.with_suffix(".json").read_text())
        theirs = ROOT / "vit_data_shipped" / path.name
        if plan["shipped"] and not theirs.exists():
            continue
        tops = torch.load(theirs)["top"] if plan["shipped"] else None
        told = told[: tops.shape[1]] if plan["shipped"] else told
        keep = [k for k, (names, _, _) in enumerate(told) if all(c in trained for c in names)]
        here = torch.zeros(len(keep), len(trained))
        for row, k in enumerate(keep):
            for c in told[k][0]:
                here[row, trained.index(c)] = 1 / len(told[k][0])
        here_maps = torch.load(path, mmap=True)
        if plan["shipped"]:
            here_maps = {"top": tops, "pool": here_maps["pool"][:1]}
        maps.append({key: value[:, keep] for key, value in here_maps.items()})
        targets.append(here)
        domains.append(torch.full((len(keep),), int(path.name.startswith("sketch"))))
    maps = {key: torch.cat([m[key] for m in maps], 1) for key in maps[0]}
    return maps, torch.cat(targets), torch.cat(domains)


def alignment_loss(model, maps, targets, domains, bank, known, back, weights):
    """Which things a picture shows, which prompt names it, and what ImageNet's tower knew of it, all from the class token.

    targets (B, C): the share of every category; known (B, 1280): the pooled feature of the untouched ImageNet tower.
    """
    embedded = model.encode_image(maps)
    texts = [model.encode_text(prompts, normalize=True) for prompts in bank]
    scaled = model.logit_scale.exp() * F.normalize(embedded, dim=-1)
    category = scaled @ F.normalize(texts[0] + texts[1], dim=-1).T
    exact = scaled @ torch.cat(texts).T
    asked = torch.cat([targets * (domains == k)[:, None] for k in (0, 1)], dim=1)
    words = F.cross_entropy(category, targets) + weights["exact"] * F.cross_entropy(exact, asked)
    kept = 1 - F.cosine_similarity(back(embedded), known).mean()
    return words + weights["distil"] * kept, words, kept


def groups(model, back, trunk_rate, rate):
    """The trunk's last stages at a low rate, if any; matrices of the rest decayed, vectors not."""
    trunk = [p for p in model.visual.trunk.patch_embed.backbone.parameters()]
    inside = {id(p) for p in trunk}
    rest = [p for p in [*model.parameters(), *back.parameters()] if id(p) not in inside]
    return [
        {"params": trunk, "lr": trunk_rate, "weight_decay": 0.0},
        {"params": [p for p in rest if p.ndim > 1], "lr": rate, "weight_decay": 0.05},
        {"params": [p for p in rest if p.ndim <= 1], "lr": rate, "weight_decay": 0.0},
    ]


maps, targets, domains = drawn()
print(json.dumps(plan), tuple(targets.shape), flush=True)
pool = maps["pool"].float()
middle = pool.mean((0, 1))  # what all pictures have in common is not asked for
bank = banks(tokenize, trained)
model = start_as_pooling((shipped_clip if plan["shipped"] else new_clip)(plan["seed"]), maps["top"][0, :: len(targets) // 300])
back = nn.Linear(128, 1280)
if plan["start"]:
    kept = torch.load(ROOT / "vit_runs" / plan["start"], weights_only=True)
    model.load_state_dict(kept["model"])
    back.load_state_dict(kept["back"])
trunk = model.visual.trunk.patch_embed.backbone
dice, log = torch.Generator().manual_seed(plan["seed"]), []
for phase, key, steps in (("first", "top", plan["first"]), ("second", "low", plan["second"])):
    if not steps:
        continue
    model.visual.trunk.patch_embed.backbone = nn.Identity() if key == "top" else nn.Sequential(*trunk.blocks[4:])
    rate = plan["rate"]
    optimiser = torch.optim.AdamW(groups(model, back, plan["trunk_rate"], rate))
    rates = [g["lr"] for g in optimiser.param_groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=steps, pct_start=0.15, cycle_momentum=False)
    model.train()
    model.visual.trunk.patch_drop = PatchDropout(plan["dropped"])  # half of the patches teach as much, at half the cost
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    sums, t0 = np.zeros(2), time.time()
    for step in range(steps):
        pick = torch.randint(len(targets), (plan["batch"],), generator=dice)
        side = torch.randint(len(maps["top"]), (plan["batch"],), generator=dice)
        words = bank[int(torch.randint(3, (1,), generator=dice))]
        batch = maps[key][side, pick].float()
        if key == "low":
            batch = batch.contiguous(memory_format=torch.channels_last)
        loss, *parts = alignment_loss(model, batch, targets[pick], domains[pick], words, pool[side, pick] - middle, back, plan)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*model.parameters(), *back.parameters()], 1.0)
        optimiser.step()
        schedule.step()
        sums += [p.item() for p in parts]
        if (step + 1) % 10 == 0:
            log.append({"phase": phase, "step": step + 1, "words": round(sums[0] / 10, 4), "kept": round(sums[1] / 10, 4), "scale": round(model.logit_scale.exp().item(), 1), "seconds": round(time.time() - t0, 1)})
            sums[:] = 0
            print(json.dumps(log[-1]), flush=True)
    model.eval()
    model.visual.trunk.patch_drop = nn.Identity()
    model.visual.trunk.patch_embed.backbone = trunk
    torch.save({"model": model.state_dict(), "back": back.state_dict(), "plan": plan}, OUT / f"{phase}.pt")
    (OUT / "log.json").write_text(json.dumps(log))
    print(phase, json.dumps(report(model, tokenize, ("val", *(("test",) if phase == "second" or not plan["second"] else ())), key == "low", trained, "_shipped" * plan["shipped"])), flush=True)
