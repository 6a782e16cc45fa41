"""samples.py FOLDER OUT.png [n]: samples of seen categories, named by the folder's own CLIP; a picture of 27 + 9 scenes."""
import sys
import numpy as np, torch
from PIL import Image
from torch.nn import functional as F
from diffusers import StableDiffusionPipeline
from sfhelpers import toyworld
from sfhelpers.backbones import load_backbone
from sfhelpers.pocket import data
torch.set_num_threads(1)
bb = load_backbone(sys.argv[1], "cpu"); n = int(sys.argv[3])
parts = {k: getattr(bb.diffusion, k) for k in ("unet", "text_encoder", "tokenizer", "scheduler", "vae")}
pipe = StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
pipe.set_progress_bar_config(disable=True)
asked = [data.prompt(c, "photo") for c in toyworld.SEEN]
dice = torch.Generator().manual_seed(0)
s = dict(height=96, width=96, num_inference_steps=20, guidance_scale=3.0, output_type="pt", generator=dice)
images = torch.cat([pipe(asked, **s).images for _ in range(n)])
texts = sum(bb.vision.embed_text([data.prompt(c, d) for c in toyworld.SEEN]) for d in data.TEMPLATES)
hit = ((bb.vision.embed(images) @ F.normalize(texts, dim=-1).T).argmax(1) == torch.arange(27).repeat(n)).double()
print(f"recognised {hit.mean():.3f}, chance {1/27:.3f}, n {len(hit)}, spread over rounds {[round(float(h.mean()),3) for h in hit.split(27)]}")
more = pipe(["a red cup left of a fish", "a photo of a dog above a house", "a photo of a green bus right of a yellow duck", "a sketch of a cat", "a drawing of a car", "a sketch of a tree", "a photo of a cat, a cup and a tree", "a picture of a blue chair", "a photo of a purple umbrella"], **s).images
tiles = torch.cat([images[:27], more]).permute(0, 2, 3, 1).numpy()
grid = np.concatenate([np.concatenate(list(tiles[r * 9:(r + 1) * 9]), 1) for r in range(4)], 0)
Image.fromarray((grid * 255).astype(np.uint8)).resize((grid.shape[1] * 2, grid.shape[0] * 2)).save(sys.argv[2])
