"""Draw the training pictures once: latents, captions, ImageNet features. Shards in data."""

import json, sys, time
from pathlib import Path
import numpy as np, torch, timm
from safetensors.torch import save_file
from sfhelpers.backbones import load_backbone
from sfhelpers.pocket import data
from sfhelpers.pocket.captions import KINDS, article, caption
from sfhelpers.toyworld import SEEN, render_sketch
from sfhelpers.toyworld.scenes import render_scene
from sfhelpers.toyworld.shapes import stream

torch.set_num_threads(1)
OUT = Path("runs/next/data")
OUT.mkdir(exist_ok=True)
PLAN = [("scene", 16000), ("photo", 6000), ("sketch", 8000)]
bb = load_backbone("pocket", "cpu")
vae = bb.diffusion.vae
trunk = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(3,))
theirs = list(torch.load(sys.argv[1], map_location="cpu", weights_only=True).values())[:-2]
whole = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
whole.load_state_dict(dict(zip(whole.state_dict(), theirs, strict=True)))
print(trunk.load_state_dict(whole.state_dict(), strict=False).missing_keys)
trunk.eval()


def draw(kind, k):
    category = SEEN[k % len(SEEN)]
    rng = stream("caption", kind, k)
    if kind == "sketch":
        pixels = np.repeat(render_sketch(category, k, 0, data.TRAINING_SEED, 0.5)[0][..., None], 3, 2)
        return pixels, f"{KINDS['sketch'][k % 3]} {article(category.replace('_', ' '))}"
    pixels, things = render_scene(category, k, data.TRAINING_SEED, 0.5, things=1 if kind == "photo" else 0)
    return pixels, caption(rng, things)


for kind, count in PLAN:
    for start in range(1000 * int(sys.argv[2]), count, 1000 * int(sys.argv[3])):
        path = OUT / f"{kind}_{start:05d}.safetensors"
        if path.exists():
            continue
        t = time.time()
        drawn = [draw(kind, k) for k in range(start, start + 1000)]
        x = torch.from_numpy(np.stack([p for p, _ in drawn])).permute(0, 3, 1, 2)
        lat, feat = [], []
        with torch.inference_mode():
            for part in x.split(50):
                lat.append((vae.encode(data.resized(part)).latent_dist.mode() * vae.config.scaling_factor).half())
                feat.append(trunk(part / 127.5 - 1)[0].half())
        save_file(
            {"latents": torch.cat(lat).contiguous(), "features": torch.cat(feat).contiguous()},
            path.with_suffix(".part"),
            metadata={"captions": json.dumps([c for _, c in drawn])},
        )
        path.with_suffix(".part").rename(path)
        print(path.name, f"{time.time() - t:.0f} s", torch.cat(feat).shape, flush=True)
