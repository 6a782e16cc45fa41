"""Between start and end of run H: zero-shot on toy validation decides; no real picture is looked at here."""
import sys
sys.path.insert(0, "runs/next/vit_src")
from vit_eval import *
from vit_shipped import shipped_clip
import open_clip
torch.set_num_threads(1)
tops = torch.cat([torch.load(p)["top"] for p in sorted((ROOT / "vit_data_shipped").glob("*.pt"))], 1)
start = start_as_pooling(shipped_clip(0), tops[0, :: tops.shape[1] // 300])
first, last = start.state_dict(), torch.load(ROOT / "vit_runs/H/first.pt", weights_only=True)["model"]
print("moved", sum((last[k] - first[k]).norm() ** 2 for k in last if "visual.trunk.blocks" in k) ** 0.5, sum(first[k].norm() ** 2 for k in last if "visual.trunk.blocks" in k) ** 0.5)
tok = open_clip.get_tokenizer(f"local-dir:{ROOT / 'vit_runs/H'}")
model = new_clip()
(ROOT / "vit_runs/W").mkdir(exist_ok=True)
for share in (0.0, 0.25, 0.5, 0.75, 1.0):
    state = {k: torch.lerp(first[k], v, share) if k.startswith("visual.") and v.is_floating_point() else v for k, v in last.items()}
    model.load_state_dict(state)
    torch.save({"model": state}, ROOT / f"vit_runs/W/{share}_first.pt")
    print(share, json.dumps(report(model.eval(), tok, ("val",), False, SEEN, "_shipped")), flush=True)
