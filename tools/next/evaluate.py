"""evaluate.py MEAN.safetensors...: off the shelf on 270 scenes' singles and sketches of the world (seed 0): retrieval, PCK."""

import sys, json, numpy as np, torch
from copy import deepcopy
from pathlib import Path
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from sfhelpers.backbones import load_backbone
from sfhelpers.backbones.presets import POCKET_FOLDER as S
from sfhelpers.toyworld import SEEN, UNSEEN, render_sketch
from sfhelpers.toyworld.scenes import render_scene

torch.set_num_threads(1)
bb = load_backbone("pocket", "cpu")
base = bb.diffusion
tok = CLIPTokenizer.from_pretrained("runs/next/tokenizer")
N = 10
cats = list(SEEN[::3]) + list(UNSEEN)
ph, sk, kp, ks, lab = [], [], [], [], []
for c in cats:
    for k in range(N):
        p, t = render_scene(c, k, 0, 0.5, things=1)
        s, q = render_sketch(c, k, 0, 0, 0.5)
        ph.append(p)
        sk.append(np.repeat(s[..., None], 3, 2))
        kp.append(t[0].keypoints)
        ks.append(q)
        lab.append(c)
T = lambda x: torch.from_numpy(np.stack(x)).permute(0, 3, 1, 2).float() / 255
ph, sk, kp, ks, lab = T(ph), T(sk), np.stack(kp), np.stack(ks), np.array(lab)


def ap(sim, rel):
    o = rel[np.arange(len(sim))[:, None], (-sim).argsort(1)]
    c = o.cumsum(1) / np.arange(1, o.shape[1] + 1)
    return (c * o).sum(1) / o.sum(1)


def evaluate(d, tag):
    out = {}
    with torch.inference_mode():
        fs = (
            [
                torch.cat(x)
                for x in zip(*[d.suffix(d.prefix(part)) if False else d.blocks(part) for part in ph.split(45)])
            ]
            if hasattr(d, "blocks")
            else None
        )
    return out


def feats(d, x):
    res = []
    with torch.inference_mode():
        for part in x.split(45):
            res.append([f.float() for f in d(part)[:3]])
    return [torch.cat(f) for f in zip(*res)]


def run(d, tag):
    P, Q = feats(d, ph), feats(d, sk)
    rel = lab[:, None] == lab[None]
    row = {}
    for n, (p, q) in enumerate(zip(P, Q)):
        m, s = p.mean((0, 2, 3), keepdim=True), p.std((0, 2, 3), keepdim=True)
        m2, s2 = q.mean((0, 2, 3), keepdim=True), q.std((0, 2, 3), keepdim=True)
        a, b = (p - m) / s, (q - m2) / s2
        for pool, f in (("mean", lambda z: z.mean((2, 3))), ("max", lambda z: z.amax((2, 3)))):
            u, v = F.normalize(f(a) - f(a).mean(0), dim=1), F.normalize(f(b) - f(b).mean(0), dim=1)
            for part, keep in (("seen", np.isin(lab, SEEN)), ("unseen", np.isin(lab, UNSEEN))):
                row[f"mAP up{n + 1} {pool} {part}"] = round(
                    float(ap((v @ u.T).numpy()[keep][:, keep], rel[keep][:, keep]).mean()), 3
                )
        a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
        side = a.shape[-1]
        hit = []
        for i in range(len(lab)):
            vis = (kp[i, :, 2] > 0) & (ks[i, :, 2] > 0)
            g = torch.from_numpy(ks[i, vis, :2] / 160 * 2 - 1).float()[None, None]
            f = F.grid_sample(b[i : i + 1], g, align_corners=False)[0, :, 0]
            at = torch.einsum("ck,chw->khw", f, a[i]).flatten(1).argmax(1).numpy()
            xy = np.stack([at % side, at // side], 1) + 0.5
            hit += list(np.hypot(*(xy / side * 160 - kp[i, vis, :2]).T) < 16)
        row[f"PCK@10 up{n + 1}"] = round(float(np.mean(hit)), 3)
    print(tag, json.dumps(row), flush=True)


run(lambda x: base.features(x) if hasattr(base, "features") else base(x), "shipped") if "shipped" in sys.argv else None
for path in [a for a in sys.argv[1:] if a != "shipped"]:
    state = load_file(path)
    d = deepcopy(base)
    cfg = CLIPTextConfig.from_pretrained(S / "text_encoder", vocab_size=len(tok), max_position_embeddings=24)
    text = CLIPTextModel(cfg).eval()
    m = nn.ModuleDict({"unet": d.unet, "text": text})
    m.load_state_dict(state, strict=False)
    d.text_encoder, d.tokenizer = text, tok
    d._texts = {}
    run(lambda x: d.features(x) if hasattr(d, "features") else d(x), Path(path).parent.name + "/" + Path(path).stem)
