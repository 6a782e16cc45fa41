"""Reading photos, the widgets, and a step of each companion."""

from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfhelpers import toyworld
from sfhelpers.backbones import Backbone
from sfhelpers.drawing import PRESETS
from sfhelpers.fusion import ARMS
from sfhelpers.images import load_images
from sfhelpers.pilot import FeatureMaps
from sfhelpers.pilot.pairs import toy_pairs
from sfhelpers.search.gallery import Gallery
from sfhelpers.search.searcher import Searcher
from sfhelpers.tasks.drclip import PromptedClip
from sfhelpers.tasks.heads import Head
from sfhelpers.tasks.matchmaker import PromptedDiffusion
from sfhelpers.tasks.retrieval import SIDES, SketchRetriever, retrieval_loss
from sfhelpers.widgets import FrequencyExplorer, PCAExplorer, SketchPad, SketchSearch
from tools.bench.measuring import Rows, clock, compared, peak_megabytes, rounds


def reading(repeats: int, folder: Path, number: int = 120, size: int = 480) -> Rows:
    """Made JPEGs of 500 x 375 px, as ImageNet's photos are, about 60 kB each, read at `size` px."""
    dice, paths = np.random.default_rng(0), [folder / f"{k}.jpg" for k in range(number)]
    for path in paths:
        few = Image.fromarray(dice.integers(0, 255, (25, 32, 3), dtype=np.uint8))
        smooth = np.asarray(few.resize((500, 375), Image.Resampling.BICUBIC))
        noisy = np.clip(smooth + dice.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(path, quality=90)
    name = f"reading {number} photos at {size} px"
    (row,) = compared(rounds({name: partial(load_images, paths, size)}, repeats), name)
    return [row | {"photos a CPU second": number / row["seconds"], "photos a second": number / row["wall"]}]


def widgets(backbone: Backbone, repeats: int, folder: Path) -> Rows:
    """From a change of a widget to its new picture; untrained layers of equal size stand for the trained ones."""
    categories, bases, drawings = ("cup", "house"), ("image", "set", "pair"), list(PRESETS.values())
    told = 0.5, 0, backbone.weights_sha256, {}
    heads = {method: Head(method, arm["inject"], *told).built(backbone) for method, arm in ARMS.items()}
    pairs = toy_pairs(1, categories=categories)
    given = [tuple(images) for images in pairs.images], pairs.labels, FeatureMaps(backbone, heads)
    pca, frequency, pad = PCAExplorer(*given), FrequencyExplorer(*given), SketchPad()
    toyworld.write_folder(folder, photos=8, sketches=1, categories=categories, masks=False)
    search = SketchSearch(Searcher(Gallery.from_folder(folder, backbone), backbone, heads))
    changes = {
        "PCAExplorer, new timestep": lambda k: pca.update(timestep=100 + k),
        "PCAExplorer, new basis": lambda k: pca.update(basis=bases[k % 3]),
        "FrequencyExplorer, new timestep": lambda k: frequency.update(timestep=300 + k),
        "FrequencyExplorer, new band": lambda k: frequency.update(band=(0.0, 1.0 + k % 5)),
        "SketchPad, new drawing": lambda k: setattr(pad, "drawing", drawings[k % len(drawings)]),
        "SketchSearch, new drawing": lambda k: search.update(drawing=drawings[k % len(drawings)]),
    }
    counts = {name: count() for name in changes}  # each time something else
    ways = {name: lambda name=name: changes[name](next(counts[name])) for name in changes}
    return compared(rounds(ways, repeats, backbone.device.type), next(iter(ways)))


def companions(backbone: Backbone, batch: int) -> Rows:
    """A training step of SD-PL and one of Dr. CLIP, on random images of two categories."""
    rows: Rows = []
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
        start, (reached, most, _) = clock(device.type), peak_megabytes(partial(_step, learned, loss))
        if device.type == "cuda":
            most = torch.cuda.max_memory_allocated() / 1e6
        row = {"what": f"one training step of {name}", "seconds": clock(device.type) - start, "images": batch}
        row |= {"peak MB": most, "numbers that learn": sum(p.numel() for p in learned)}
        rows.append(row | {"tensors with a gradient": f"{reached} of {len(learned)}"})
    return rows


def _step(learned: list[Tensor], loss: Callable[[], Tensor]) -> int:
    """A step of an optimiser of its own; how many tensors got a gradient."""
    optimiser = torch.optim.AdamW(learned, lr=1e-3)
    loss().backward()
    optimiser.step()
    return sum(bool(parameter.grad.any()) for parameter in learned)
