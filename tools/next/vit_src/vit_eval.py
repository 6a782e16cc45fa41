"""Evaluation of image towers: toy test (seed 0), toy validation (seed 1, seen only), real photos and sketches."""
import json, sys
sys.path.insert(0, "runs/next/vit_src")
from vit_model import *
import numpy as np
from PIL import Image
from torch import nn
from torch.nn import functional as F
from sfhelpers.pocket.data import TEMPLATES, prompt
from sfhelpers.toyworld import SEEN, UNSEEN, render_sketch
from sfhelpers.toyworld.scenes import render_scene

REAL = Path("shared/data/real_photo_sketch")
HELD = ("cow", "cup", "flower", "sailboat", "lamp", "car")  # left out of the pilots, to choose by
FOLDER = ROOT / "vit_data"

def toy(categories, count, seed):
    ph, sk, kp, ks, ms, lab = [], [], [], [], [], []
    for c in categories:
        for k in range(count):
            p, t = render_scene(c, k, seed, 0.5, things=1)
            s, q = render_sketch(c, k, 0, seed, 0.5)
            ph.append(p); sk.append(np.repeat(s[..., None], 3, 2)); kp.append(t[0].keypoints); ks.append(q); ms.append(t[0].mask); lab.append(c)
    T = lambda x: torch.from_numpy(np.stack(x)).permute(0, 3, 1, 2)
    return {"photo": T(ph), "sketch": T(sk), "kp": np.stack(kp), "ks": np.stack(ks), "mask": np.stack(ms), "label": np.array(lab), "sketch_label": np.array(lab)}

def real():
    out, labels = {}, {}
    for kind in ("photo", "sketch"):
        files = sorted(f for f in (REAL / kind).glob("*/*") if f.suffix.lower() in (".jpg", ".png", ".jpeg"))
        px = [np.asarray(Image.open(f).convert("RGB").resize((160, 160), Image.Resampling.BICUBIC)) for f in files]
        out[kind], labels[kind] = torch.from_numpy(np.stack(px)).permute(0, 3, 1, 2), np.array([f.parent.name for f in files])
    return out | {"label": labels["photo"], "sketch_label": labels["sketch"]}

def sets(suffix=""):
    path = FOLDER / f"eval_sets{suffix}.pt"
    if path.exists():
        return torch.load(path, weights_only=False)
    from vit_features import all_of
    found = {"test": toy(list(SEEN[::3]) + list(UNSEEN), 10, 0), "val": toy(SEEN, 8, 1), "real": real()}
    for some in found.values():
        for kind in ("photo", "sketch"):
            with torch.inference_mode():
                parts = [all_of((p / 127.5 - 1).contiguous(memory_format=torch.channels_last)) for p in some[kind].split(30)]
            for name, z in zip(("low", "top", "pool"), zip(*parts)):
                some[f"{kind}_{name}"] = torch.cat(z).contiguous()
    torch.save(found, path)
    return found

def ap(sim, rel):
    o = rel[np.arange(len(sim))[:, None], (-sim).argsort(1)]
    c = o.cumsum(1) / np.arange(1, o.shape[1] + 1)
    return float(((c * o).sum(1) / o.sum(1)).mean())

def retrieval(sk, ph, ls, lp, keep=None):
    if keep is not None:
        a, b = np.isin(ls, keep), np.isin(lp, keep)
        sk, ph, ls, lp = sk[a], ph[b], ls[a], lp[b]
    return round(ap((F.normalize(sk, dim=1) @ F.normalize(ph, dim=1).T).numpy(), ls[:, None] == lp[None]), 3)

def auc(score, inside):
    r = score.argsort().argsort() + 1
    n, m = inside.sum(), (~inside).sum()
    return (r[inside].sum() - n * (n + 1) / 2) / (n * m)

def token_row(p, q, some):
    """p, q: token maps of photos and sketches (N, C, h, w)."""
    row, lab, side = {}, some["label"], p.shape[-1]
    a, b = ((z - z.mean((0, 2, 3), keepdim=True)) / (z.std((0, 2, 3), keepdim=True) + 1e-6) for z in (p, q))
    for name, f in (("mean", lambda z: z.mean((2, 3))), ("max", lambda z: z.amax((2, 3)))):
        u, v = f(a) - f(a).mean(0), f(b) - f(b).mean(0)
        for part, keep in (("seen", SEEN), ("unseen", UNSEEN)):
            row[f"mAP {name} {part}"] = retrieval(v, u, lab, lab, keep)
    flat = a.permute(0, 2, 3, 1).reshape(len(a), side * side, -1)
    inside = F.interpolate(torch.from_numpy(some["mask"])[:, None].float(), size=(side, side), mode="area")[:, 0].flatten(1).numpy() > 0.5
    _, _, v = torch.linalg.svd(flat.flatten(0, 1)[::7], full_matrices=False)
    pc, ok = (flat @ v[0]).numpy(), [k for k in range(len(a)) if 0 < inside[k].sum() < inside.shape[1]]
    value = np.mean([auc(pc[k], inside[k]) for k in ok])
    row["AUC PC1"] = round(float(max(value, 1 - value)), 3)
    inner = flat.mean(1, keepdim=True)
    cos = F.cosine_similarity(flat, inner, dim=2).numpy()
    row["AUC cos own mean"] = round(float(np.mean([auc(cos[k], inside[k]) for k in ok])), 3)
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    for radius in (8, 16):
        hit = []
        for i in range(len(lab)):
            vis = (some["kp"][i, :, 2] > 0) & (some["ks"][i, :, 2] > 0)
            g = torch.from_numpy(some["ks"][i, vis, :2] / 160 * 2 - 1).float()[None, None]
            f = F.grid_sample(b[i : i + 1], g, align_corners=False)[0, :, 0]
            at = torch.einsum("ck,chw->khw", f, a[i]).flatten(1).argmax(1).numpy()
            xy = np.stack([at % side, at // side], 1) + 0.5
            hit += list(np.hypot(*(xy / side * 160 - some["kp"][i, vis, :2]).T) < radius)
        row[f"PCK@{radius * 100 // 160}"] = round(float(np.mean(hit)), 3)
    return row

def on(model, maps, layer=None):
    """Embeddings (N, D), or token maps of `layer`, from `low` or `top` maps."""
    t, out = model.visual.trunk, []
    stages = t.patch_embed.backbone.blocks[4:]
    with torch.inference_mode():
        for x in maps.float().split(30):
            if x.shape[1] == 80:
                for s in stages:
                    x = s(x)
            x = t.norm_pre(t._pos_embed(t.patch_embed.proj(x).flatten(2).transpose(1, 2)))
            for n, block in enumerate(t.blocks):
                x = block(x)
                if layer is not None and n == len(t.blocks) + layer:
                    out.append(x[:, 1:].transpose(1, 2).unflatten(2, (10, 10)))
                    break
            else:
                out.append(model.visual.head(t.forward_head(t.norm(x))))
    return torch.cat(out)

def banks(tokenize, categories=SEEN):
    return [[tokenize([prompt(c, d, k) for c in categories]) for d in TEMPLATES] for k in range(3)]

def zero_shot(model, tokenize, emb, lab, names, domains=("photo", "sketch")):
    with torch.inference_mode():
        asked = sum(model.encode_text(tokenize([prompt(c, d) for c in names]), normalize=True) for d in domains)
    keep = np.isin(lab, names)
    guess = (F.normalize(emb, dim=1)[keep] @ F.normalize(asked, dim=1).T).argmax(1).numpy()
    return round(float((np.array(names)[guess] == lab[keep]).mean()), 3)

def report(model, tokenize, which=("val",), low=True, trained=SEEN, suffix=""):
    row, found = {}, sets(suffix)
    key = "low" if low else "top"
    for name in which:
        s = found[name]
        p, q = on(model, s[f"photo_{key}"]), on(model, s[f"sketch_{key}"])
        r = {}
        if name == "real":
            r["mAP"] = retrieval(q, p, s["sketch_label"], s["label"])
        elif name == "val":
            r = {"held": retrieval(q, p, s["label"], s["label"], HELD), "seen": retrieval(q, p, s["label"], s["label"]), "zs photo": zero_shot(model, tokenize, p, s["label"], trained), "zs sketch": zero_shot(model, tokenize, q, s["label"], trained)}
        else:
            r = {"seen": retrieval(q, p, s["label"], s["label"], SEEN), "unseen": retrieval(q, p, s["label"], s["label"], UNSEEN)}
            r |= {f"zs {k} {g}": zero_shot(model, tokenize, e, s["label"], names) for k, e in (("photo", p), ("sketch", q)) for g, names in (("seen", SEEN), ("unseen", UNSEEN))}
            r["tokens"] = token_row(on(model, s[f"photo_{key}"], -2), on(model, s[f"sketch_{key}"], -2), s)
        row[name] = r
    return row

if __name__ == "__main__":
    torch.set_num_threads(1)
    found = sets()
    out = lambda tag, row: print(tag, json.dumps(row), flush=True)
    r, v, t = found["real"], found["val"], found["test"]
    print({k: (len(s["photo"]), len(s["sketch"])) for k, s in found.items()})
    for tag, f in (("untouched pool 1280", lambda s, k: s[f"{k}_pool"]), ("untouched top mean (320, stride 16)", lambda s, k: s[f"{k}_top"].mean((2, 3)))):
        out(tag, {"real": retrieval(f(r, "sketch"), f(r, "photo"), r["sketch_label"], r["label"]), "val held": retrieval(f(v, "sketch"), f(v, "photo"), v["label"], v["label"], HELD), "val": retrieval(f(v, "sketch"), f(v, "photo"), v["label"], v["label"]), "seen": retrieval(f(t, "sketch"), f(t, "photo"), t["label"], t["label"], SEEN), "unseen": retrieval(f(t, "sketch"), f(t, "photo"), t["label"], t["label"], UNSEEN)})
    out("untouched trunk tokens (320, stride 16)", token_row(t["photo_top"], t["sketch_top"], t))
    from sfhelpers.backbones import load_backbone
    vision = load_backbone("pocket", "cpu").vision
    each = lambda f, x: torch.cat([f(part.float() / 255) for part in x.split(30)])
    e = {(n, k): each(vision.embed, found[n][k]) for n in found for k in ("photo", "sketch")}
    out("shipped tower", {"real": retrieval(e["real", "sketch"], e["real", "photo"], r["sketch_label"], r["label"]), "val held (trained on)": retrieval(e["val", "sketch"], e["val", "photo"], v["label"], v["label"], HELD), "val": retrieval(e["val", "sketch"], e["val", "photo"], v["label"], v["label"]), "seen": retrieval(e["test", "sketch"], e["test", "photo"], t["label"], t["label"], SEEN), "unseen": retrieval(e["test", "sketch"], e["test", "photo"], t["label"], t["label"], UNSEEN)})
    out("shipped tokens", token_row(each(vision.tokens, t["photo"]), each(vision.tokens, t["sketch"]), t))
