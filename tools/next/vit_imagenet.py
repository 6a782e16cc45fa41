"""vit_imagenet.py [STEPS]: the same CLIP in one loop straight from ImageNet, the trunk's last three stages learning too.

Stem and stages 0 to 3 stay as ImageNet left them, so what they give for every picture and its mirror image (80 channels
at stride 16, `low`) is made once (vit_src/vit_features.py).
"""

import json
import sys
import time

sys.path.insert(0, "runs/next/vit_src")
import numpy as np
import open_clip
import torch
from timm.layers import PatchDropout
from torch import nn
from torch.nn import functional as F
from vit_eval import banks
from vit_model import ROOT, new_clip, start_as_pooling, write_words

from sfhelpers.toyworld import SEEN

torch.set_num_threads(1)
STEPS, BATCH, RATE, SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 110, 48, 5e-4, 0
OUT = ROOT / "vit_runs/imagenet"


def pictures():
    """Maps (2, N, 80, 10, 10) half of pictures and mirror images, tops (N, 320, 10, 10) to start from, targets (N, 27) that sum to one, domains (N,): 0 photo or scene, 1 sketch."""
    maps, tops, targets, domains = [], [], [], []
    for path in sorted((ROOT / "vit_data").glob("*_?????.pt")):
        found = torch.load(path, mmap=True)
        maps.append(found["low"])
        tops.append(found["top"][0])
        told = json.loads(path.with_suffix(".json").read_text())
        shown = torch.tensor([[float(c in things) for c in SEEN] for things, _, _ in told])
        targets.append(shown / shown.sum(1, keepdim=True))
        domains.append(torch.full((len(told),), int(path.name.startswith("sketch"))))
    return torch.cat(maps, 1), torch.cat(tops), torch.cat(targets), torch.cat(domains)


def alignment_loss(model, pictures, targets, domains, bank):
    """Cross-entropy of class tokens against 27 prompts of photos and 27 of sketches; a scene's target is its things' mean."""
    embedded = model.encode_image(pictures, normalize=True)
    texts = [model.encode_text(prompts, normalize=True) for prompts in bank]
    scale = model.logit_scale.exp()
    category = scale * embedded @ F.normalize(texts[0] + texts[1], dim=-1).T
    exact = scale * embedded @ torch.cat(texts).T
    asked = torch.cat([targets * (domains == k)[:, None] for k in (0, 1)], dim=1)
    return F.cross_entropy(category, targets) + 0.3 * F.cross_entropy(exact, asked)


write_words(OUT)
maps, tops, targets, domains = pictures()
bank = banks(open_clip.get_tokenizer(f"local-dir:{OUT}"))
model = start_as_pooling(new_clip(SEED), tops[:: len(tops) // 300])
tower = model.visual.trunk
trunk = tower.patch_embed.backbone
tower.patch_embed.backbone = nn.Sequential(*trunk.blocks[4:])  # what is below is frozen, its maps are at hand
tower.patch_drop = PatchDropout(0.5)  # half of the patches teach as much, at half the cost
old = set(tower.patch_embed.backbone.parameters())
matrices, vectors = ([p for p in model.parameters() if p not in old and (p.ndim > 1) == many] for many in (True, False))
plan = [(list(old), 3e-4, 0.0), (matrices, RATE, 0.05), (vectors, RATE, 0.0)]
optimiser = torch.optim.AdamW([{"params": some, "lr": rate, "weight_decay": decay} for some, rate, decay in plan])
rates = [rate for _, rate, _ in plan]
schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=STEPS, pct_start=0.15, cycle_momentum=False)

dice, losses, began = torch.Generator().manual_seed(SEED), [], time.time()
model.train()
for module in model.modules():
    if isinstance(module, nn.BatchNorm2d):
        module.eval()  # keeps its ImageNet statistics
for _ in range(STEPS):
    pick = torch.randint(len(targets), (BATCH,), generator=dice)
    side = torch.randint(2, (BATCH,), generator=dice)
    words = bank[int(torch.randint(3, (1,), generator=dice))]
    loss = alignment_loss(model, maps[side, pick].float(), targets[pick], domains[pick], words)
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    schedule.step()
    losses.append(loss.item())
model.eval()
tower.patch_drop, tower.patch_embed.backbone = nn.Identity(), trunk

torch.save({"model": model.state_dict()}, OUT / "second.pt")
(OUT / "log.json").write_text(json.dumps({"encoder": [round(x, 4) for x in losses], "seconds": round(time.time() - began, 1)}))
print("pictures", len(targets), "loss", [round(float(np.mean(losses[k : k + 10])), 3) for k in range(0, STEPS, 10)], f"{time.time() - began:.0f} s")
