"""train.py NAME STEPS CROPPED REPA: the denoiser on scenes; CROPPED steps on 16x16 of 24x24 latents; resumes; by torchrun too."""
import json, math, os, sys, time
from pathlib import Path
import numpy as np, torch
from torch import nn
import torch.distributed as dist
from torch.nn import functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from diffusers import DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from sfhelpers.backbones.presets import POCKET_FOLDER as S

torch.set_num_threads(1)
name, STEPS, CROPPED, REPA = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
LR = float(sys.argv[5]) if len(sys.argv) > 5 else 1e-3
B, SEED, EVERY = 32, 0, 1000
RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
if WORLD > 1:
    dist.init_process_group("gloo")
ROOT = Path("runs/next")
OUT = ROOT / "runs" / name
OUT.mkdir(parents=True, exist_ok=True)
torch.manual_seed(SEED)
latents, features, texts = [], [], []
for path in sorted((ROOT / "data").glob("*.safetensors")):
    with safe_open(path, "pt") as f:
        latents.append(f.get_tensor("latents"))
        features.append(f.get_tensor("features") if REPA else None)
        texts += json.loads(f.metadata()["captions"])
latents = torch.cat(latents)
features = torch.cat(features) if REPA else None
tok = CLIPTokenizer.from_pretrained(ROOT / "tokenizer")
ids = lambda t: tok(t, padding="max_length", max_length=24, truncation=True, return_tensors="pt").input_ids
prompts, nothing = ids(texts), ids([""])[0]
if RANK == 0:
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
params = [p for p in model.parameters()]
opt = torch.optim.AdamW(params, LR, weight_decay=0.01, fused=True)
rate = lambda s: min(1, (s + 1) / 100) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * s / STEPS)))
mean = {n: p.detach().clone() for n, p in model.named_parameters()}
start, log = 0, []
ck = OUT / "state.pt"
if ck.exists():
    st = torch.load(ck, weights_only=True)
    model.load_state_dict(st["model"])
    opt.load_state_dict(st["opt"])
    mean, start, log = st["mean"], st["step"], st["log"]
t0, sums, took = time.time(), np.zeros(2), 0
for step in range(start, STEPS):
    for g in opt.param_groups:
        g["lr"] = LR * rate(step)
    dice = torch.Generator().manual_seed(1_000_003 * SEED + step)
    pick = torch.randint(len(latents), (B,), generator=dice)
    empty = torch.rand(B, 1, generator=dice) < 0.3
    t = (1000 * torch.rand(B, generator=dice) ** 1.5).long()
    noise = torch.randn(B, *latents.shape[1:], generator=dice)
    side, full = (16 if step < CROPPED else 24), latents.shape[-1]
    top, left = torch.randint(full - side + 1, (2,), generator=dice).tolist()
    mine = slice(RANK * B // WORLD, (RANK + 1) * B // WORLD)
    pick, empty, t, noise = pick[mine], empty[mine], t[mine], noise[mine, :, :side, :side]
    tokens = torch.where(empty, nothing, prompts[pick])
    x = latents[pick][:, :, top : top + side, left : left + side].float()
    hidden.clear()
    out = unet(sched.add_noise(x, noise, t), t, model["text"](tokens).last_hidden_state).sample
    loss = mse = F.mse_loss(out, noise)
    align = torch.zeros(())
    if REPA:
        target = (features[pick].float() - fmean) / fstd
        if side < full:
            k = 7
            at = [((o + (torch.arange(k) + 0.5) * side / k) / full) * 2 - 1 for o in (left, top)]
            grid = torch.stack(torch.meshgrid(at[0], at[1], indexing="xy"), -1)
            target = F.grid_sample(target, grid.expand(len(target), -1, -1, -1), align_corners=False, padding_mode="border")
        guess = model["head"](F.interpolate(hidden[0], size=target.shape[2:], mode="bilinear", antialias=True))
        align = 1 - F.cosine_similarity(guess, target, dim=1).mean()
        loss = mse + REPA * align
    opt.zero_grad(set_to_none=True)
    loss.backward()
    if WORLD > 1:
        flat = torch.cat([p.grad.flatten() for p in params])
        dist.all_reduce(flat)
        for p, g in zip(params, flat.div_(WORLD).split([p.numel() for p in params])):
            p.grad.copy_(g.view_as(p))
    nn.utils.clip_grad_norm_(params, 1.0)
    opt.step()
    decay = min(0.999, (step + 1) / (step + 10))
    with torch.no_grad():
        torch._foreach_lerp_(list(mean.values()), [p.detach() for p in params], 1 - decay)
    sums += mse.item(), align.item()
    took += 1
    if RANK:
        continue
    if (step + 1) % 50 == 0:
        log.append({"samples": B * (step + 1), "side": side, "loss": round(float(sums[0]) / took, 5), "align": round(float(sums[1]) / took, 5), "seconds": round(time.time() - t0, 1), "processes": WORLD})
        sums[:], took, t0 = 0, 0, time.time()
        print(log[-1], flush=True)
    if (step + 1) % 100 == 0 or step + 1 == STEPS:
        torch.save({"model": model.state_dict(), "opt": opt.state_dict(), "mean": mean, "step": step + 1, "log": log}, ck.with_suffix(".tmp"))
        ck.with_suffix(".tmp").rename(ck)
    if (step + 1) % EVERY == 0 or step + 1 == STEPS:
        save_file({n: p.contiguous() for n, p in mean.items() if not n.startswith("head")}, OUT / f"mean_{step + 1:05d}.safetensors")
        (OUT / "log.json").write_text(json.dumps(log))
