"""assemble.py MEAN.safetensors LOG.json VISION_FOLDER VISION_LOG.json OUT: a whole data/pocket; run from a worktree.

MEAN: runs/NAME/mean_XXXXX.safetensors; LOG: its log.json; VISION_FOLDER: open_clip folder with LICENSE.txt; VISION_LOG:
entries with "step" and "words". autoencoder and scheduler are those of the worktree's data/pocket, README.md too.
"""

import json
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import open_clip
from diffusers import AutoencoderKL
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from sfhelpers.backbones import load_backbone, write_preset
from sfhelpers.pocket import models
from sfhelpers.pocket.data import LENGTH, SIZE

LIMIT = 25_000_000
mean, log, vision, vision_log, out = map(Path, sys.argv[1:6])
if out.exists():
    sys.exit(f"{out} is there already: give another path")

with TemporaryDirectory() as folder:
    words = Path(folder) / "vision"
    shutil.copytree(vision, words)
    told = json.loads((words / "tokenizer_config.json").read_text()) | {"model_max_length": LENGTH}
    (words / "tokenizer_config.json").write_text(json.dumps(told, indent=2) + "\n")
    assert (words / "LICENSE.txt").exists(), "the image tower needs its LICENSE.txt"
    tokenizer = CLIPTokenizer.from_pretrained(words)
    denoiser = models.new_denoiser(tokenizer)
    denoiser.load_state_dict(load_file(mean))
    clip = open_clip.create_model(f"local-dir:{words}").eval()
    vae = AutoencoderKL.from_pretrained(models.SHIPPED / "vae")
    models.write_folder(out, vae, denoiser.eval(), clip, words)
shutil.copytree(models.SHIPPED / "vae", out / "vae", dirs_exist_ok=True)  # byte by byte as it is
shutil.copyfile(models.SHIPPED / "README.md", out / "README.md")

# The entry from which the training went on after its last write is kept once.
keys = ("samples", "side", "loss", "align", "seconds")
steps = [{key: entry[key] for key in keys} for entry in json.loads(log.read_text())]
last = int(mean.stem.split("_")[1]) * 32
steps = [entry for entry in steps if entry["samples"] <= last]
assert steps[-1]["samples"] == last and [e["samples"] for e in steps] == sorted({e["samples"] for e in steps})
words = [{"step": e["step"], "words": round(e["words"], 4)} for e in json.loads(vision_log.read_text())]
lines = ",\n".join(f'"{name}": [\n' + ",\n".join(map(json.dumps, some)) + "\n]" for name, some in (("denoiser", steps), ("encoder", words)))
(out / "training.json").write_text(json.dumps(json.loads("{" + lines + "}")) and "{\n" + lines + "\n}\n")
write_preset(out, size=SIZE)

for path in out.rglob("*"):
    path.chmod(0o755 if path.is_dir() else 0o644)
backbone = load_backbone(str(out), "cpu")
print("weights", backbone.weights_sha256[:16], "vision tokens of", backbone.vision.size, "px")
files = sorted((f for f in out.rglob("*") if f.is_file()), key=lambda f: -f.stat().st_size)
for f in files:
    print(f"{f.stat().st_size:>10,} {f.relative_to(out)}")
total = sum(f.stat().st_size for f in files)
print(f"{total:,} bytes of {LIMIT:,}: {'fits' if total <= LIMIT else 'TOO LARGE'}")
sys.exit(total > LIMIT)
