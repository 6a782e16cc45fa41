"""How long things take, as ratios and medians of one run; times depend on the machine, so nothing here is asserted.

python -m tools.bench [metrics] [steps] [widgets] [companions]
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from timeit import timeit
from typing import TypeVar

import numpy as np
import open_clip
import psutil
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from sklearn.metrics import average_precision_score
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from sfhelpers import toyworld
from sfhelpers.backbones import Backbone, load_backbone
from sfhelpers.backbones.diffusion import DiffusionFeatures
from sfhelpers.backbones.vision import VisionFeatures
from sfhelpers.drawing import PRESETS
from sfhelpers.fusion import ARMS, FusedExtractor
from sfhelpers.metrics import AP, evaluate_retrieval
from sfhelpers.pilot import FeatureMaps
from sfhelpers.pilot.pairs import toy_pairs
from sfhelpers.search.gallery import Gallery
from sfhelpers.search.searcher import Searcher
from sfhelpers.tasks.drclip import PromptedClip
from sfhelpers.tasks.heads import Head
from sfhelpers.tasks.matchmaker import PromptedDiffusion
from sfhelpers.tasks.retrieval import SIDES, SketchRetriever, retrieval_loss
from sfhelpers.widgets import FrequencyExplorer, PCAExplorer, SketchPad, SketchSearch

QUERIES, GALLERY, DIMENSIONS, CLASSES = 12_694, 10_453, 512, 21  # as of the Sketchy 21 classes
PARTS = ["metrics", "steps", "widgets", "companions"]
FULL_SIZE = "full-size"  # a backbone of random weights
Result = TypeVar("Result")


def peak_megabytes(function: Callable[[], Result], pause: float = 0.01) -> tuple[Result, float, float]:
    """What a function returns, this process's peak memory in MB meanwhile, and by how much that is more than before."""
    process, done = psutil.Process(), threading.Event()
    seen = [process.memory_info().rss]

    def watch() -> None:
        while not done.wait(pause):
            seen.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        result = function()
        seen.append(process.memory_info().rss)
    finally:
        done.set()
        watcher.join()
    return result, max(seen) / 1e6, (max(seen) - seen[0]) / 1e6


def embeddings(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(number, 512) float32 of length 1 around the centres of 21 classes, for an mAP@all of about .5; and labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(CLASSES, size=number)
    centres = np.random.default_rng(0).standard_normal((CLASSES, DIMENSIONS), dtype=np.float32)
    found = 0.3 * centres[labels] + generator.standard_normal((number, DIMENSIONS), dtype=np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True), labels


def metrics(repeats: int, sample: int = 100) -> None:
    """`evaluate_retrieval` on all queries, and scikit-learn's average precision on `sample` of them, one by one."""
    (queries, query_labels), (gallery, labels) = embeddings(QUERIES, 1), embeddings(GALLERY, 2)
    evaluate_retrieval(queries[:500], gallery, query_labels[:500], labels)  # warms up
    ours, loops = [], []
    for some in np.random.default_rng(3).integers(QUERIES, size=(repeats, sample)):
        start = time.perf_counter()
        values, most, more = peak_megabytes(lambda: evaluate_retrieval(queries, gallery, query_labels, labels))
        middle = time.perf_counter()
        theirs = [average_precision_score(labels == query_labels[i], gallery @ queries[i]) for i in some]
        loops.append((time.perf_counter() - middle) * QUERIES / sample)
        ours.append(middle - start)
    quick, plain, gap = median(ours), median(loops), np.abs(values[AP()][some] - theirs).max()
    print(f"Retrieval: {QUERIES:,} queries, {GALLERY:,} photos, {DIMENSIONS} numbers each")
    print(f"  all metrics, all queries: {quick:.2f} s; {most:.0f} MB at the peak, {more:.0f} MB of it its own")
    print(f"  mAP@all by scikit-learn, scaled from {sample}: {plain / quick:.1f} times as long; equal to {gap:.0e}")


def steps(backbone: Backbone, repeats: int, batch: int) -> None:
    """A training step with the frozen prefix stored, and one with everything recomputed in it."""
    extractor, size = FusedExtractor(backbone), backbone.diffusion.size
    images = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(backbone.device)
    start = time.perf_counter()
    prepared = extractor.prepare(images)
    once, stored = time.perf_counter() - start, sum(value.nbytes for value in prepared.values()) / 1e6
    optimiser = torch.optim.AdamW(extractor.parameters(), lr=1e-4)

    def step(forward: Callable[[], Tensor]) -> None:
        optimiser.zero_grad()
        forward().square().mean().backward()
        optimiser.step()
        if backbone.device.type == "cuda":
            torch.cuda.synchronize()

    forwards = [lambda: extractor(prepared), lambda: _from_images(extractor, images)]
    gap = (forwards[0]() - forwards[1]()).abs().max().item()
    rounds = [[timeit(partial(step, way), number=1) for way in forwards] for _ in range(repeats + 1)]
    quick, plain = (1e3 * median(taken) for taken in zip(*rounds[1:], strict=True))  # the first warms up
    print(f"One training step: {backbone.name} on {backbone.device}, {batch} images of {size} px")
    print(f"  prefix stored, suffix run {quick:15.1f} ms")
    print(f"  hooks over VAE, CLIP, whole UNet {plain:8.1f} ms, {plain / quick:.2f} times as long")
    print(f"  storing it: {1e3 * once / batch:.1f} ms and {stored / batch:.2f} MB an image; maps differ by {gap:.0e}")


def _from_images(extractor: FusedExtractor, images: Tensor) -> Tensor:
    """The map as by plain hooks: autoencoder, CLIP and the whole UNet in every step, nothing stored."""
    diffusion, vision = extractor.backbone.diffusion, extractor.backbone.vision
    tokens = vision.tokens(images)
    noised = diffusion.noised(images)

    def inject(block: int, feature: Tensor) -> Tensor:
        return extractor.injection(block, feature, tokens) if block < 3 else feature

    outputs = diffusion.through_hooks(noised, inject, until=4)
    return extractor.aggregator([extractor.statistics[f"f{n + 1}"](f) for n, f in enumerate(outputs[:3])])


def widgets(backbone: Backbone, repeats: int, folder: Path) -> None:
    """From a change of a widget to its new picture; untrained layers of equal size stand for the trained ones."""
    categories, bases, drawings = ("cup", "house"), ("image", "set", "pair"), list(PRESETS.values())
    told = 0.5, 0, backbone.weights_sha256, {}
    heads = {method: Head(method, arm["inject"], *told).built(backbone) for method, arm in ARMS.items()}
    pairs = toy_pairs(1, categories=categories)
    given = [tuple(images) for images in pairs.images], pairs.labels, FeatureMaps(backbone, heads)
    pca, frequency, pad = PCAExplorer(*given), FrequencyExplorer(*given), SketchPad()
    toyworld.write_folder(folder, photos=8, sketches=1, categories=categories, masks=False)
    search = SketchSearch(Searcher(Gallery.from_folder(folder, backbone), backbone, heads))
    print("One update of a widget, from the change to the new picture")
    for name, change in {
        "PCAExplorer, new timestep": lambda k: pca.update(timestep=100 + k),
        "PCAExplorer, new basis": lambda k: pca.update(basis=bases[k % 3]),
        "FrequencyExplorer, new timestep": lambda k: frequency.update(timestep=300 + k),
        "FrequencyExplorer, new band": lambda k: frequency.update(band=(0.0, 1.0 + k % 5)),
        "SketchPad, new drawing": lambda k: setattr(pad, "drawing", drawings[k % len(drawings)]),
        "SketchSearch, new drawing": lambda k: search.update(drawing=drawings[k % len(drawings)]),
    }.items():
        taken = [timeit(partial(change, k), number=1) for k in range(repeats + 1)][1:]  # the first warms up
        print(f"  {name:34}median {median(taken):6.2f} s, longest {max(taken):6.2f} s")


def full_size(device: str) -> Backbone:
    """Random weights in the classes and at the sizes of Stable Diffusion 2.1 and of CLIP ViT-B/32."""
    pocket = load_backbone("pocket", device)
    attention = {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, **blocks)
    text = CLIPTextConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16)
    parts = (part.to(pocket.device) for part in (vae, UNet2DConditionModel(**attention), CLIPTextModel(text)))
    diffusion = DiffusionFeatures(*parts, pocket.diffusion.tokenizer, pocket.diffusion.scheduler, 480, 195)
    vision = VisionFeatures(open_clip.create_model("ViT-B-32"), open_clip.get_tokenizer("ViT-B-32"))
    vision.model.to(pocket.device)
    return Backbone(FULL_SIZE, diffusion, vision, "", pocket.device)


def companions(backbone: Backbone, batch: int) -> None:
    """A training step of SD-PL and one of Dr. CLIP, on random images of two categories."""
    half, size, device = batch // 2, backbone.diffusion.size, backbone.device
    images = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    places = torch.arange(half, device=device) * 2 // half  # the second half are the wrong ones of the first
    same, own, labels = places[:, None] == places, torch.eye(half, dtype=torch.bool), dict.fromkeys(SIDES, places)
    prompts = PromptedDiffusion(backbone, at_once=1)
    prompts.choose("category")
    pixels = prompts.frozen(images)
    prompts.fit_statistics(pixels)
    retriever = SketchRetriever(prompts, margin=3.0, level="category")  # so wide that every triplet costs something
    clip = PromptedClip(backbone).teach(("cat", "car"))
    sides = {side: clip.frozen(some) for side, some in zip(SIDES, images.chunk(2), strict=True)}
    for name, model, loss in (
        ("SD-PL", retriever, lambda: retrieval_loss(*retriever(pixels).chunk(2), same, own, **retriever.settings)),
        ("Dr. CLIP", clip, lambda: sum(clip.terms(sides, labels, same).values())),
    ):
        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        start, (reached, most, _) = time.perf_counter(), peak_megabytes(partial(_step, learned, loss))
        if device.type == "cuda":
            most = torch.cuda.max_memory_allocated() / 1e6
        print(f"One training step of {name}: {backbone.name} on {device}, {batch} images")
        print(f"  {time.perf_counter() - start:.1f} s, {most:.0f} MB at the peak")
        print(
            f"  {sum(p.numel() for p in learned):,} numbers learn; {reached} of {len(learned)} tensors have a gradient"
        )


def _step(learned: list[Tensor], loss: Callable[[], Tensor]) -> int:
    """A step of an optimiser of its own; how many tensors got a gradient."""
    optimiser = torch.optim.AdamW(learned, lr=1e-3)
    loss().backward()
    optimiser.step()
    return sum(bool(parameter.grad.any()) for parameter in learned)


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench")
    parser.add_argument("parts", nargs="*", choices=(*PARTS, "all"), default="all")
    parser.add_argument("--backbone", default="pocket", help=f"name, folder, or {FULL_SIZE}: SD 2.1 and ViT-B/32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=5, help="how often each is timed")
    parser.add_argument("--batch", type=int, default=16, help="images a step; a multiple of four")
    args = parser.parse_args()
    parts = PARTS if "all" in args.parts else args.parts
    if "metrics" in parts:
        metrics(args.repeats)  # first, so that the memory it tells is its own
    backbone = (full_size if args.backbone == FULL_SIZE else partial(load_backbone, args.backbone))(args.device)
    if "steps" in parts:
        steps(backbone, args.repeats, args.batch)
    if "widgets" in parts:
        with tempfile.TemporaryDirectory() as folder:
            widgets(backbone, args.repeats, Path(folder))
    if "companions" in parts:
        companions(backbone, args.batch)


if __name__ == "__main__":
    main()
