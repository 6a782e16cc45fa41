"""train.py NAME STEPS REPA [LR]: the denoiser on scenes, with REPA alignment; resumes; logs in f/runs/NAME."""

import json, math, sys, time
from pathlib import Path
import numpy as np, torch
from torch import nn
from torch.nn import functional as F
from safetensors import safe_open
from safetensors.torch import save_file, load_file
from diffusers import DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from sfhelpers.backbones.presets import POCKET_FOLDER as S

name, STEPS, REPA = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
LR = float(sys.argv[4]) if len(sys.argv) > 4 else 1e-3
B, SEED, KEEP = 32, 0, {500, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000}
ROOT = Path("runs/pocket")
OUT = ROOT / "runs" / name
OUT.mkdir(parents=True, exist_ok=True)
torch.manual_seed(SEED)
shards = sorted((ROOT / "data").glob("*.safetensors"))
latents, features, texts = [], [], []
for path in shards:
    with safe_open(path, "pt") as f:
        latents.append(f.get_tensor("latents"))
        features.append(f.get_tensor("features") if REPA else None)
        texts += json.loads(f.metadata()["captions"])
latents = torch.cat(latents)
features = torch.cat(features) if REPA else None
tok = CLIPTokenizer.from_pretrained(ROOT / "tokenizer")
ids = lambda t: tok(t, padding="max_length", max_length=24, truncation=True, return_tensors="pt").input_ids
prompts, nothing = ids(texts), ids([""])[0]
print(len(latents), "pictures", "longest", max(len(tok(t).input_ids) for t in texts[::50]), flush=True)
special = {n: getattr(tok, n) for n in ("bos_token_id", "eos_token_id", "pad_token_id")}
cfg = CLIPTextConfig.from_pretrained(S / "text_encoder", vocab_size=len(tok), max_position_embeddings=24, **special)
unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(S / "unet"))
model = nn.ModuleDict({"unet": unet, "text": CLIPTextModel(cfg)})
if REPA:
    dim = unet.config.block_out_channels[::-1][1]
    model["head"] = nn.Sequential(nn.Conv2d(dim, 256, 1), nn.SiLU(), nn.Conv2d(256, features.shape[1], 1))
    some = features[::30].float()
    fmean = some.mean((0, 2, 3), keepdim=True)[0]
    fstd = some.std((0, 2, 3), keepdim=True)[0] + 1e-6
hidden = []
unet.up_blocks[1].register_forward_hook(lambda m, a, o: hidden.append(o))
sched = DDPMScheduler.from_pretrained(S / "scheduler")
opt = torch.optim.AdamW(model.parameters(), LR, weight_decay=0.01, fused=True)
rate = lambda s: min(1, (s + 1) / 100) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * s / STEPS)))
mean = {n: p.detach().clone() for n, p in model.named_parameters()}
dice = torch.Generator().manual_seed(SEED)
start = 0
log = []
ck = OUT / "state.pt"
if ck.exists():
    st = torch.load(ck, weights_only=True)
    model.load_state_dict(st["model"])
    opt.load_state_dict(st["opt"])
    mean = st["mean"]
    dice.set_state(st["dice"])
    start = st["step"]
    log = json.loads((OUT / "log.json").read_text())
t0, sums = time.time(), np.zeros(2)
for step in range(start, STEPS):
    for g in opt.param_groups:
        g["lr"] = LR * rate(step)
    pick = torch.randint(len(latents), (B,), generator=dice)
    tokens = torch.where(torch.rand(B, 1, generator=dice) < 0.3, nothing, prompts[pick])
    t = (1000 * torch.rand(B, generator=dice) ** 1.5).long()
    x = latents[pick].float()
    noise = torch.randn(x.shape, generator=dice)
    hidden.clear()
    out = unet(sched.add_noise(x, noise, t), t, model["text"](tokens).last_hidden_state).sample
    loss = mse = F.mse_loss(out, noise)
    align = torch.zeros(())
    if REPA:
        target = (features[pick].float() - fmean) / fstd
        guess = model["head"](F.interpolate(hidden[0], size=target.shape[2:], mode="bilinear", antialias=True))
        align = 1 - F.cosine_similarity(guess, target, dim=1).mean()
        loss = mse + REPA * align
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    decay = min(0.999, (step + 1) / (step + 10))
    with torch.no_grad():
        for n, p in model.named_parameters():
            mean[n].lerp_(p, 1 - decay)
    sums += mse.item(), align.item()
    if (step + 1) % 50 == 0:
        log.append(
            {
                "samples": B * (step + 1),
                "loss": round(sums[0] / 50, 5),
                "align": round(sums[1] / 50, 5),
                "seconds": round(time.time() - t0, 1),
            }
        )
        sums[:] = 0
        t0 = time.time()
        print(log[-1], flush=True)
    if (step + 1) % 250 == 0 or step + 1 == STEPS:
        torch.save(
            {
                "model": model.state_dict(),
                "opt": opt.state_dict(),
                "mean": mean,
                "dice": dice.get_state(),
                "step": step + 1,
            },
            ck.with_suffix(".tmp"),
        )
        ck.with_suffix(".tmp").rename(ck)
        (OUT / "log.json").write_text(json.dumps(log))
    if step + 1 in KEEP or step + 1 == STEPS:
        save_file(
            {n: p.contiguous() for n, p in mean.items() if not n.startswith("head")},
            OUT / f"mean_{step + 1:05d}.safetensors",
        )
