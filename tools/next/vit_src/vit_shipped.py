"""The same maps for the trunk of the tower that is shipped today (ImageNet, then 320 steps of the prompt bank)."""
import sys
sys.path.insert(0, "runs/next/vit_src")
from vit_eval import *
from safetensors.torch import load_file
torch.set_num_threads(1)
tuned = load_file("./data/pocket/vision/open_clip_model.safetensors")
tuned = {k.removeprefix("visual.trunk."): v.float() for k, v in tuned.items() if k.startswith("visual.trunk.")}
def shipped_clip(seed=0, share=1.0):
    model = new_clip(seed)
    trunk = model.visual.trunk.patch_embed.backbone
    trunk.load_state_dict({k: v + share * (tuned[k] - v) if v.is_floating_point() else v for k, v in trunk.state_dict().items()})
    return model
if __name__ == "__main__":
    trunk = shipped_clip().visual.trunk.patch_embed.backbone.to(memory_format=torch.channels_last)
    run = lambda x: torch.cat([trunk((p / 127.5 - 1).contiguous(memory_format=torch.channels_last))[0] for p in x.split(25)])
    found = sets()
    with torch.inference_mode():
        for name in ("real", "val", "test"):
            s = found[name]
            for kind in ("photo", "sketch"):
                s[f"{kind}_top"] = run(s[kind])
            f = {k: s[f"{k}_top"].mean((2, 3)) for k in ("photo", "sketch")}
            print(name, "mean pooled", retrieval(f["sketch"], f["photo"], s["sketch_label"], s["label"]), flush=True)
            for k in ("photo_low", "sketch_low"): s.pop(k)
        torch.save(found, FOLDER / "eval_sets_shipped.pt")
        (ROOT / "vit_data_shipped").mkdir(exist_ok=True)
        for start in range(0, 3000, 500):
            for kind, count in (("photo", 200), ("sketch", 250), ("scene", 250)):
                px = torch.from_numpy(np.load(FOLDER / f"{kind}_{start:05d}.npy")[:count]).permute(0, 3, 1, 2)
                with torch.autocast("cpu", torch.bfloat16):
                    top = run(px).half()
                torch.save({"top": top[None]}, ROOT / f"vit_data_shipped/{kind}_{start:05d}.pt")
                print(kind, start, flush=True)
