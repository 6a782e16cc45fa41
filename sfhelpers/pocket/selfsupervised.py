"""A small network that learns from pocket's training pictures without any label: it stands in for DINO in notebook 07.

Self-distillation (BYOL, Grill et al. 2020): a student foretells, from one random view of a picture, what a slowly
moving average of itself makes of another view. No category and no caption is used, and no pairing of a sketch with
its photo. `python -m sfhelpers.pocket.selfsupervised FILE [STEPS]` writes what `-p others Self-supervised=FILE` reads.
"""

import copy
import math
import sys
from pathlib import Path

import timm
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import trange

from sfhelpers.backbones.encoders import ENCODERS
from sfhelpers.files import replace_file
from sfhelpers.pocket.data import pictures

PICTURES = {"photo": 3000, "sketch": 4000, "scene": 3000}  # 0.77 GB, drawn in two minutes
STEPS, BATCH, SIDE, WIDTH = 800, 64, 96, 128
RATE, WARM_UP, DECAY, MOMENTUM = 1.5e-3, 200, 0.02, 0.99


def views(images: Tensor, dice: torch.Generator) -> Tensor:
    """(B, 3, H, W) uint8 to random views of them, (B, 3, SIDE, SIDE) in [0, 1]: place, size, mirror, colours, blur."""
    number, zero = len(images), torch.zeros(len(images))

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(number, *shape, generator=dice)

    area, ratio = between(0.2, 1.0), (between(-1.0, 1.0) * math.log(4 / 3)).exp()
    w, h = ((area * r).sqrt().clamp(max=1) for r in (ratio, 1 / ratio))
    x, y = (between(-1.0, 1.0) * (1 - share) for share in (w, h))
    mirror = between(-1.0, 1.0).sign()
    place = torch.stack([torch.stack([w * mirror, zero, x], 1), torch.stack([zero, h, y], 1)], 1)
    grid = F.affine_grid(place, [number, 3, SIDE, SIDE], align_corners=False)
    crops = F.grid_sample(images / 255, grid, padding_mode="reflection", align_corners=False)
    grey, coloured = crops.mean(1, keepdim=True), between(0.0, 1.0, 1, 1, 1) > 0.2
    crops = grey + coloured * between(0.6, 1.4, 1, 1, 1) * (crops - grey)
    level = crops.mean((1, 2, 3), keepdim=True)
    crops = level + between(0.6, 1.4, 1, 1, 1) * (crops - level)
    crops = crops * between(0.7, 1.3, 1, 1, 1) * between(0.85, 1.15, 3, 1, 1)
    blurred = F.avg_pool2d(F.pad(crops, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return torch.where(between(0.0, 1.0, 1, 1, 1) < 0.3, blurred, crops).clamp(0, 1)


def head(*widths: int) -> nn.Sequential:
    first, hidden, last = widths
    return nn.Sequential(nn.Linear(first, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, last))


def distance(foretold: Tensor, found: Tensor) -> Tensor:
    return 2 - 2 * F.cosine_similarity(foretold, found, dim=1).mean()


def train(images: Tensor, steps: int = STEPS, seed: int = 0) -> tuple[nn.Module, dict[str, float]]:
    """A network from (N, 3, H, W) uint8, and how it ended: its loss (0 to 4) and the spread of its unit vectors.

    A spread near zero is a collapse; 1 / sqrt(WIDTH) is as spread as unit vectors can be.
    """
    torch.manual_seed(seed)
    dice, network = torch.Generator().manual_seed(seed), timm.create_model("lcnet_050", num_classes=0)
    mean, std = (torch.tensor(network.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    student = nn.Sequential(network, head(network.head_hidden_size, 512, WIDTH))
    teacher, foretell = copy.deepcopy(student).requires_grad_(False), head(WIDTH, 256, WIDTH)
    learned = [*student.parameters(), *foretell.parameters()]
    groups = [{"params": [p for p in learned if p.ndim > 1]}, {"params": [p for p in learned if p.ndim <= 1]}]
    groups[1]["weight_decay"] = 0.0
    optimiser = torch.optim.AdamW(groups, RATE, weight_decay=DECAY)
    plan = trange(steps, desc="learning without labels")
    for step in plan:
        falling = 0.5 + 0.5 * math.cos(math.pi * step / steps)
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARM_UP) * (0.01 + 0.99 * falling)
        batch = images[torch.randint(len(images), (BATCH,), generator=dice)]
        both = torch.cat([(views(batch, dice) - mean) / std for _ in range(2)])
        with torch.no_grad():
            goal = teacher(both)
        loss = distance(foretell(student(both)), goal.roll(len(batch), 0))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        keep = 1 - (1 - MOMENTUM) * falling
        with torch.no_grad():
            for own, slow in zip(student.parameters(), teacher.parameters(), strict=True):
                slow.lerp_(own, 1 - keep)
        ended = {"loss": loss.item(), "spread": F.normalize(goal, dim=1).std(0).mean().item()}
        plan.set_postfix({name: f"{value:.3f}" for name, value in ended.items()})
    return network.eval(), ended


def main(path: str, steps: str = str(STEPS)) -> None:
    images = torch.cat([pictures(kind, 0, count)[0] for kind, count in PICTURES.items()])
    network, ended = train(images, int(steps))
    about = {"model": ENCODERS["Self-supervised"].model, "recipe": "BYOL, no labels", "steps": steps}
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    replace_file(Path(path), save(state, about | {name: f"{value:.3f}" for name, value in ended.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
