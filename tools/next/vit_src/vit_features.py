"""What the untouched trunk gives for every drawn picture and its mirror image, once: `low` after stage 3 (80 channels),
`top` after the last (320, stride 16), `pool` of the whole ImageNet tower (1280)."""
import sys, time
sys.path.insert(0, "runs/next/vit_src")
from vit_model import *
import numpy as np

torch.set_num_threads(1)
tower, trunk = imagenet(), new_clip().visual.trunk.patch_embed.backbone
tower, trunk = (x.to(memory_format=torch.channels_last) for x in (tower, trunk))

def all_of(x):
    low = trunk.bn1(trunk.conv_stem(x)) if not hasattr(trunk, "act1") else trunk.act1(trunk.bn1(trunk.conv_stem(x)))
    for stage in trunk.blocks[:4]:
        low = stage(low)
    mid = trunk.blocks[4](low)
    top = trunk.blocks[6](trunk.blocks[5](mid))
    pool = tower.forward_head(tower.bn2(tower.conv_head(tower.blocks[6](tower.blocks[5](mid)))))
    return low, top, pool

if __name__ == "__main__":
    with torch.inference_mode():
        x = torch.rand(2, 3, 160, 160) * 2 - 1
        low, top, pool = all_of(x)
        print((trunk(x)[0] - top).abs().max(), (tower(x) - pool).abs().max(), top.abs().mean())
    todo = [(k, s) for k, n in (("photo", 3000), ("sketch", 4000), ("scene", 3000)) for s in range(0, n, 500)]
    for kind, start in todo:
        source, target = ROOT / f"vit_data/{kind}_{start:05d}.npy", ROOT / f"vit_data/{kind}_{start:05d}.pt"
        if target.exists():
            continue
        while not source.with_suffix(".json").exists():
            time.sleep(2)
        t = time.time()
        pixels = torch.from_numpy(np.load(source)).permute(0, 3, 1, 2)
        found = []
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            for mirrored in (False, True):
                parts = [all_of(((p.flip(-1) if mirrored else p) / 127.5 - 1).contiguous(memory_format=torch.channels_last)) for p in pixels.split(25)]
                found.append([torch.cat(some).half().contiguous() for some in zip(*parts)])
        torch.save({name: torch.stack(both) for name, both in zip(("low", "top", "pool"), zip(*found))}, target)
        print(kind, start, f"{time.time() - t:.1f} s", flush=True)
