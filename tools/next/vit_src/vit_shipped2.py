"""Part of the maps of vit_shipped.py: vit_shipped2.py START..."""
from vit_shipped import *
trunk = shipped_clip().visual.trunk.patch_embed.backbone.to(memory_format=torch.channels_last)
(ROOT / "vit_data_shipped").mkdir(exist_ok=True)
for start in map(int, sys.argv[1:]):
    for kind, count in (("photo", 200), ("sketch", 250), ("scene", 250)):
        path = ROOT / f"vit_data_shipped/{kind}_{start:05d}.pt"
        if path.exists():
            continue
        px = torch.from_numpy(np.load(FOLDER / f"{kind}_{start:05d}.npy")[:count]).permute(0, 3, 1, 2)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            top = torch.cat([trunk((p / 127.5 - 1).contiguous(memory_format=torch.channels_last))[0] for p in px.split(25)]).half()
        torch.save({"top": top[None]}, path)
        print(kind, start, flush=True)
