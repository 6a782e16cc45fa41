"""Draw the pictures the vision model learns from, once: uint8 at 160 px, with the things in each and a caption.

vit_draw.py PART PARTS: each part draws every PARTS-th shard of 500.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from sfhelpers.pocket import data
from sfhelpers.pocket.captions import caption
from sfhelpers.toyworld import SEEN, render_sketch
from sfhelpers.toyworld.scenes import render_scene
from sfhelpers.toyworld.shapes import stream

OUT = Path("runs/next/vit_data")
OUT.mkdir(exist_ok=True)
PLAN = [("photo", 3000), ("sketch", 4000), ("scene", 3000)]
shards = [(kind, start) for kind, count in PLAN for start in range(0, count, 500)]
for kind, start in shards[int(sys.argv[1]) :: int(sys.argv[2])]:
    t = time.time()
    pixels, told = [], []
    for k in range(start, start + 500):
        category = SEEN[k % len(SEEN)]
        if kind == "sketch":
            pixels.append(np.repeat(render_sketch(category, k, 0, data.TRAINING_SEED, 0.5)[0][..., None], 3, 2))
            told.append([[category], [1.0], ""])
        else:
            drawn, things = render_scene(category, k, data.TRAINING_SEED, 0.5, things=1 if kind == "photo" else 0)
            pixels.append(drawn)
            areas = [float(thing.mask.sum()) for thing in things]
            told.append([[x.category for x in things], areas, caption(stream("caption", kind, k), things)])
    np.save(OUT / f"{kind}_{start:05d}.npy", np.stack(pixels))
    (OUT / f"{kind}_{start:05d}.json").write_text(json.dumps(told))
    print(kind, start, f"{time.time() - t:.1f} s", flush=True)
