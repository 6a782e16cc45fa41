"""Run G halfway back to its start (ImageNet trunk, transformer that pools)."""
import sys
sys.path.insert(0, "runs/next/vit_src")
from vit_eval import *
torch.set_num_threads(1)
tops = torch.cat([torch.load(p, mmap=True)["top"][0] for p in sorted(FOLDER.glob("*_?????.pt"))])
start = start_as_pooling(new_clip(0), tops[:: len(tops) // 300]).state_dict()
last = torch.load(ROOT / "vit_runs/G/second.pt", weights_only=True)["model"]
(ROOT / "vit_runs/GW").mkdir(exist_ok=True)
state = {k: torch.lerp(start[k], v, 0.5) if k.startswith("visual.") and v.is_floating_point() else v for k, v in last.items()}
torch.save({"model": state}, ROOT / "vit_runs/GW/second.pt")
