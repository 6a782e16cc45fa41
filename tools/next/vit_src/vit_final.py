"""vit_final.py RUN/first.pt: writes runs/next/vision in half precision and evaluates what was written."""
import sys
sys.path.insert(0, "runs/next/vit_src")
from vit_eval import *
import open_clip
from safetensors.torch import load_file, save_model
from copy import deepcopy
torch.set_num_threads(1)
name, low, suffix = sys.argv[1], sys.argv[1].endswith("second.pt"), "_shipped" if "shipped" in sys.argv else ""
folder = ROOT / ("vision" if len(sys.argv) < 4 else sys.argv[3])
write_words(folder)
shutil.copyfile("./data/pocket/vision/LICENSE.txt", folder / "LICENSE.txt")
settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"model_max_length": 24}
(folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
model = new_clip()
model.load_state_dict(torch.load(ROOT / "vit_runs" / name, weights_only=True)["model"])
save_model(deepcopy(model).half(), str(folder / "open_clip_model.safetensors"))
print(sum(f.stat().st_size for f in folder.iterdir()) / 1e6, "MB", sum(p.numel() for p in model.parameters()), flush=True)
read = open_clip.create_model(f"local-dir:{folder}").eval()
tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
found = sets(suffix)["test"]
from sfhelpers.backbones.vision import VisionFeatures
features = VisionFeatures(read, tokenize)
x = found["photo"][:6].float() / 255
print(features.tokens(x).shape, F.cosine_similarity(features.embed(x), on(read, found["photo_top" if not low else "photo_low"][:6])), flush=True)
for which in ("real", "val", "test"):
    print(which, json.dumps(report(read, tokenize, (which,), low, SEEN, suffix)), flush=True)
