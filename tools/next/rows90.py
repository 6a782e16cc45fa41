"""rows90.py OUT.json individuals seeds NAME=FOLDER[:MEAN.safetensors] ...: contract rows of pairs of models; run from a worktree."""
import sys, json, time
from copy import deepcopy
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
import torch
from safetensors.torch import load_file
from torch import nn
from sfhelpers import results, toyworld
from sfhelpers.backbones import load_backbone
from sfhelpers.pilot import toy_pairs
from sfhelpers.pocket import contract

torch.set_num_threads(1)
out, individuals, seeds = Path(sys.argv[1]), int(sys.argv[2]), range(int(sys.argv[3]))
run = SimpleNamespace(notebook="90_train_pocket", seed=0, device="cpu")
galleries = {"seen categories": toyworld.SEEN[::2], "unseen categories": toyworld.UNSEEN}
told = []
for given in sys.argv[4:]:
    name, _, where = given.partition("=")
    folder, _, mean = where.partition(":")
    used = load_backbone(folder, "cpu")
    digest = used.weights_sha256
    if mean:
        diffusion = deepcopy(used.diffusion)
        nn.ModuleDict({"unet": diffusion.unet, "text": diffusion.text_encoder}).load_state_dict(load_file(mean))
        digest = sha256(f"{digest} {sha256(Path(mean).read_bytes()).hexdigest()}".encode()).hexdigest()
        used = replace(used, diffusion=diffusion)
    for gallery, names in galleries.items():
        t = time.time()
        pairs = toy_pairs(individuals, names)
        found = contract.measure(used, pairs, seeds)
        told += contract.rows(run, found, len(pairs), backbone=name, gallery=gallery, weights_sha256=digest)
        print(name, gallery, len(pairs), "pairs", f"{time.time() - t:.0f} s", flush=True)
        for fact, (said, yes) in contract.table(found).items():
            print("  ", "holds" if yes else "no   ", fact, "|", said, flush=True)
        print("    ", {k: round(sum(v) / len(v), 3) for k, v in found.items() if "t = " in k}, flush=True)
    results.write(told, out)
