"""ssl.py [MINUTES] [THREADS]: a small convolutional network that learns from the denoiser's pictures without labels.

Self-distillation (BYOL, Grill et al. 2020): a student must foretell, from one random crop of a picture, what a slowly
moving average of itself makes of another crop of the same picture. No category, no caption, and no pairing of a sketch
with its photo is used. The network is timm's `lcnet_050` (0.6 M parameters, 2.4 MB), from a random start; it is what
`encoders.ENCODERS["Self-supervised"]` loads. Pictures: vit_data/*.npy (3,000 single photos, 4,000 sketches, 3,000
scenes at 160 px of TRAINING_SEED, seen categories alone). Measured: 4 ms a view forwards and backwards at 96 px on one
core, so about 12 ms a picture with both views and the teacher; 25 minutes are some 120,000 pictures, 12 passes.
"""

import copy
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

MINUTES = float(sys.argv[1]) if len(sys.argv) > 1 else 25.0
torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
ROOT = Path("runs/next")
OUT = ROOT / "runs" / "ssl"
B, SIDE, RATE, WARM, MOMENTUM, SEED = 64, 96, 1.5e-3, 200, 0.99, 0
torch.manual_seed(SEED)


def views(pictures: torch.Tensor, dice: torch.Generator) -> torch.Tensor:
    """(B, 3, 160, 160) uint8 to standardised random crops (B, 3, SIDE, SIDE): place, size, mirror, light, colours."""
    number, uniform = len(pictures), lambda *shape: torch.rand(*shape, generator=dice)
    share = (0.2 + 0.8 * uniform(number)).sqrt()  # of the side: a fifth to all of the area
    ratio = torch.exp((uniform(number) - 0.5) * 2 * math.log(4 / 3)).sqrt()
    w, h = (share * ratio).clamp(max=1), (share / ratio).clamp(max=1)
    x, y = (uniform(2, number) * 2 - 1) * (1 - torch.stack([w, h]))
    mirror = torch.where(uniform(number) < 0.5, -1.0, 1.0)
    zero = torch.zeros(number)
    place = torch.stack([torch.stack([w * mirror, zero, x], 1), torch.stack([zero, h, y], 1)], 1)
    grid = F.affine_grid(place, (number, 3, SIDE, SIDE), align_corners=False)
    crops = F.grid_sample(pictures.float() / 255, grid, padding_mode="reflection", align_corners=False)
    grey = crops.mean(1, keepdim=True)
    keep = torch.where(uniform(number, 1, 1, 1) < 0.2, 0.0, 0.6 + 0.8 * uniform(number, 1, 1, 1))  # 0: no colour is left
    crops = grey + keep * (crops - grey)
    level = crops.mean((1, 2, 3), keepdim=True)
    crops = level + (0.6 + 0.8 * uniform(number, 1, 1, 1)) * (crops - level)
    crops = crops * (0.7 + 0.6 * uniform(number, 1, 1, 1)) * (0.85 + 0.3 * uniform(number, 3, 1, 1))
    blurred = F.avg_pool2d(F.pad(crops, (1, 1, 1, 1), mode="replicate"), 3, 1)
    crops = torch.where(uniform(number, 1, 1, 1) < 0.3, blurred, crops).clamp(0, 1)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (STATISTICS["mean"], STATISTICS["std"]))
    return (crops - mean) / std


def layers(*widths: int) -> nn.Sequential:
    first, hidden, last = widths
    return nn.Sequential(nn.Linear(first, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, last))


def agreement(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return 2 - 2 * F.cosine_similarity(student, teacher.detach(), dim=1).mean()


shards = [np.load(path, mmap_mode="r") for path in sorted((ROOT / "vit_data").glob("*.npy"))]
pictures = torch.from_numpy(np.concatenate(shards)).permute(0, 3, 1, 2)  # 0.77 GB for 10,000
network = timm.create_model("lcnet_050", pretrained=False, num_classes=0)
STATISTICS = network.pretrained_cfg
student = nn.Sequential(network, layers(network.head_hidden_size, 512, 128))
teacher, foretell = copy.deepcopy(student).requires_grad_(False), layers(128, 256, 128)
learned = [*student.parameters(), *foretell.parameters()]
decayed = [p for p in learned if p.ndim > 1]
groups = [{"params": decayed, "weight_decay": 0.02}, {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0}]
optimiser = torch.optim.AdamW(groups, RATE)
OUT.mkdir(parents=True, exist_ok=True)
dice, started, step, log, total = torch.Generator().manual_seed(SEED), time.process_time(), 0, [], 0.0
while (done := (time.process_time() - started) / (60 * MINUTES)) < 1:  # CPU time, so that a busy machine trains as long
    for group in optimiser.param_groups:
        group["lr"] = RATE * min(1.0, (step + 1) / WARM) * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * done)))
    batch = pictures[torch.randint(len(pictures), (B,), generator=dice)]
    one, other = views(batch, dice), views(batch, dice)
    with torch.no_grad():
        goal_one, goal_other = teacher(torch.cat([one, other])).chunk(2)
    found_one, found_other = foretell(student(torch.cat([one, other]))).chunk(2)
    loss = (agreement(found_one, goal_other) + agreement(found_other, goal_one)) / 2
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(learned, 1.0)
    optimiser.step()
    keep = 1 - (1 - MOMENTUM) * (0.5 + 0.5 * math.cos(math.pi * done))
    with torch.no_grad():
        for own, slow in zip(student.parameters(), teacher.parameters(), strict=True):
            slow.lerp_(own, 1 - keep)
    step, total = step + 1, total + loss.item()
    if step % 100 == 0:
        # A collapse shows as a spread of unit vectors near zero (1 / sqrt(128) = .088 is as spread as can be).
        spread = F.normalize(goal_one, dim=1).std(0).mean().item()
        log.append({"step": step, "pictures": step * B, "loss": total / 100, "spread": spread, "done": done})
        print(json.dumps(log[-1]), flush=True)
        total = 0.0
# The student's running statistics mix sketches, photos and scenes, as they are asked later; so they stay.
kept = {name: value.contiguous() for name, value in network.eval().state_dict().items()}
about = {"model": "lcnet_050", "pictures": str(step * B), "cpu_minutes": f"{MINUTES:g}", "recipe": "BYOL, no labels"}
save_file(kept, OUT / "model.safetensors", metadata=about)
(OUT / "log.json").write_text(json.dumps(log))
