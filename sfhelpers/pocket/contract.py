"""The contract of the miniature: what is published of Stable Diffusion and CLIP, and the same measured on any pair.

Everything is off the shelf: nothing learns but linear probes. Each noise seed gives a value, so all have a spread.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, RidgeClassifier, RidgeCV
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional as F

from sfhelpers import results
from sfhelpers.backbones import Backbone
from sfhelpers.fusion.modules import ClipInjection, to_grid
from sfhelpers.metrics import AP, evaluate_retrieval
from sfhelpers.pilot import ToyPairs
from sfhelpers.tasks.correspondence import cosines, sample

GRID = 24
TIMESTEPS = (1, 50, 195, 400, 600, 800)
MARGIN = 2  # standard errors over the noise seeds by which the larger must be larger
TENTH = "a tenth"
# What is published of the real pair -> its numbers there, their source, and what is measured here, the largest first;
# and the definitions, by how a measure's name starts.
TABLES = json.loads(Path(__file__).with_name("contract.json").read_text(encoding="utf-8"))
FACTS, DEFINITIONS = TABLES["facts"], TABLES["definitions"]
COLUMNS = {  # of the table that is shown -> which pair of models, and on what
    "before, seen": ("pocket of the earlier world", "seen categories"),
    "now, seen": ("pocket", "seen categories"),
    "now, unseen": ("pocket", "unseen categories"),
}


@torch.no_grad()
def measure(backbone: Backbone, pairs: ToyPairs, seeds: Iterable[int] = range(5)) -> dict[str, list[float]]:
    """Every measure of FACTS on pairs of two or more a category -> a value a noise seed; CLIP's are all alike."""
    vision = backbone.vision
    tokens, vectors = of_pairs(lambda part: (vision.tokens(part), vision.embed(part)), pairs.images)
    found: dict[str, list[float]] = {}
    for seed in seeds:
        blocks = up_blocks(backbone, pairs.images, seed)
        maps = joined(blocks.values())
        noisier = (joined(up_blocks(backbone, pairs.images, seed, t).values()) for t in TIMESTEPS)
        first, *between, last = (matching(each, pairs, 0.1) for each in noisier)
        values = {
            "mAP@all, SD": retrieval(standardised(blocks["f2"]).amax((3, 4)), pairs.labels),
            "mAP@all, CLIP": retrieval(vectors, pairs.labels),
            "Acc@1, SD": recognition(blocks.values(), pairs.labels),
            "Acc@1, CLIP": recognition([tokens], pairs.labels),
            "PCK@5, SD": matching(maps, pairs, 0.05),
            "PCK@5, CLIP": matching(joined([tokens]), pairs, 0.05),
            "PCK@10, sketch to other photo": matching(maps, pairs, 0.1, side=0, shift=1),
            "PCK@10, photo to other photo": matching(maps, pairs, 0.1, side=1, shift=1),
            **{f"PCK@10, t = {t}": value for t, value in zip(TIMESTEPS, (first, *between, last), strict=True)},
            "PCK@10, best between": max(between),
            "PCK@10, better end": max(first, last),
            "feedback": feedback(backbone, pairs.images[:32, 1], seed),
            TENTH: 0.1,
        }
        for name, source in {**blocks, "CLIP": tokens}.items():
            values[f"foreground AUC, {name}"] = foreground(source[:, 1], pairs.masks)
            values[f"edges, {name}"] = edges(source[:, 1], pairs.images[:, 1])
        for name, value in values.items():
            found.setdefault(name, []).append(float(value))
    return found


def of_pairs(model: Callable[[Tensor], Sequence[Tensor]], images: Tensor) -> list[Tensor]:
    """What a model gives of pairs (N, 2, 3, H, W), each as (N, 2, ...) on the CPU."""
    parts = zip(*map(model, images.flatten(0, 1).split(32)), strict=True)
    return [torch.cat(part).float().cpu().unflatten(0, (-1, 2)) for part in parts]


def up_blocks(backbone: Backbone, images: Tensor, seed: int, timestep: int | None = None) -> dict[str, Tensor]:
    """f1, f2, f3 of pairs, (N, 2, C, h, w) each."""
    ask = partial(backbone.diffusion.features, blocks=(0, 1, 2), seed=seed, timestep=timestep)
    return dict(zip(("f1", "f2", "f3"), of_pairs(ask, images), strict=True))


def standardised(maps: Tensor) -> Tensor:
    """(N, 2, C, h, w) with mean 0 and spread 1 of each channel, over all sketches' positions and over all photos'."""
    spread, mean = torch.std_mean(maps, (0, 3, 4), keepdim=True)
    return (maps - mean) / spread.clamp(min=1e-6)


def joined(sources: Iterable[Tensor]) -> Tensor:
    """Several sources as one (N, 2, C, GRID, GRID) of length 1 a position, each standardised and of the same weight."""
    resized = (to_grid(standardised(source).flatten(0, 1), (GRID, GRID)) for source in sources)
    return F.normalize(torch.cat([F.normalize(map_, dim=1) for map_ in resized], 1), dim=1).unflatten(0, (-1, 2))


def retrieval(vectors: Tensor, labels: Sequence[str]) -> float:
    """mAP@all of sketches over photos by the cosine of (N, 2, D); right are the photos asked for the same category."""
    sketches, photos = F.normalize(vectors, dim=2).unbind(1)
    return evaluate_retrieval(sketches, photos, list(labels), list(labels), (AP(),))[AP()].mean()


def recognition(sources: Iterable[Tensor], labels: Sequence[str]) -> float:
    """Acc@1 of a logistic regression on the max-pooled features of the first half of each category's sketches."""
    values, names = torch.cat([source[:, 0].amax((2, 3)) for source in sources], 1).numpy(), np.array(labels)
    order = np.array([list(names[:k]).count(name) for k, name in enumerate(names)])
    learnt = order < (order.max() + 1) / 2
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    return model.fit(values[learnt], names[learnt]).score(values[~learnt], names[~learnt])


def matching(maps: Tensor, pairs: ToyPairs, alpha: float, side: int = 0, shift: int = 0) -> float:
    """Share of a sketch's (`side` 0) or photo's (1) points found within alpha in the photo `shift` individuals on."""
    other = torch.arange(len(pairs)).roll(-shift)
    visible = pairs.visible[:, side] & pairs.visible[other, 1]
    visible &= torch.tensor([pairs.labels[k] == name for k, name in zip(other, pairs.labels, strict=True)])[:, None]
    best = cosines(sample(maps[:, side], pairs.points[:, side]), maps[other, 1]).flatten(2).argmax(-1)
    place = (torch.stack([best % GRID, best // GRID], -1) + 0.5) / GRID
    return float(((place - pairs.points[other, 1]).norm(dim=-1) <= alpha)[visible].float().mean())


def foreground(maps: Tensor, masks: Tensor) -> float:
    """ROC AUC, on every other photo, of a linear probe for "a thing is here" that was fitted on the rest."""
    learnt, asked = _rows(maps)
    known, true = _rows(F.adaptive_avg_pool2d(masks[:, None].float(), GRID) > 0.5)
    return roc_auc_score(true[:, 0], RidgeClassifier(alpha=10.0).fit(learnt, known[:, 0]).decision_function(asked))


def edges(maps: Tensor, photos: Tensor) -> float:
    """R2, on every other photo, of a linear probe for the log of the mean brightness gradient at each position."""
    down, right = torch.gradient(photos.mean(1), dim=(1, 2))
    strength = (F.adaptive_avg_pool2d((down**2 + right**2).sqrt()[:, None], GRID) + 1e-3).log()
    (learnt, asked), (known, true) = _rows(maps), _rows(strength)
    return r2_score(true[:, 0], RidgeCV(alphas=(1.0, 100.0)).fit(learnt, known[:, 0]).predict(asked))


def feedback(backbone: Backbone, photos: Tensor, seed: int) -> float:
    """Relative change of f3 when tokens go into f2, through a random convolution, at the size of f2."""
    diffusion, tokens = backbone.diffusion, backbone.vision.tokens(photos)
    noised = diffusion.noised(photos, seed=seed)
    plain = diffusion.through_hooks(noised)[2]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        convolution = ClipInjection(tokens.shape[1], diffusion.block_dims, zero=False).to(tokens)

    def inject(block: int, feature: Tensor) -> Tensor:
        added = convolution(block, torch.zeros_like(feature), tokens)
        return feature + added * (feature.norm() / added.norm()) if block == 1 else feature

    return float((diffusion.through_hooks(noised, inject)[2] - plain).norm() / plain.norm())


def holds(order: Sequence[str], found: Mapping[str, Sequence[float]]) -> bool:
    """Whether each measure is larger than the next, by MARGIN standard errors of their difference over the seeds."""
    apart = [np.subtract(found[larger], found[smaller]) for larger, smaller in pairwise(order)]
    return all(each.mean() > MARGIN * each.std(ddof=1) / len(each) ** 0.5 for each in apart)


def table(found: Mapping[str, Sequence[float]]) -> dict[str, tuple[str, bool]]:
    """Each of FACTS -> what was measured, mean and spread over the seeds, and whether it holds."""
    said = {name: f"{name} {fmean(values):.3f} ± {stdev(values):.3f}" for name, values in found.items()}
    orders = {fact: order for fact, (*_, order) in FACTS.items()}
    return {k: ("; ".join(said[n] for n in v if n != TENTH), holds(v, found)) for k, v in orders.items()}


def markdown(told: Iterable[results.Row]) -> str:
    """FACTS as a table, from the rows that `rows` made for each of COLUMNS; ValueError if some lack or runs mix."""
    told = [row for row in told if row.task == "contract"]
    heads, tables, seeds = ["published", "there"], [], set()
    for head, where in COLUMNS.items():
        found, mine = of_rows(told, *where), [row for row in told if (row.backbone, row.gallery) == where]
        counts, seeds = {row.n for row in mine}, {row.seed for row in mine}
        known = {name for *_, order in FACTS.values() for name in order} <= found.keys()
        if not known or len(counts) > 1 or any(len(values) != len(seeds) for values in found.values()):
            raise ValueError(f"the contract of {', '.join(where)} lacks rows or mixes runs: keep those of a whole one.")
        tables.append(table(found))
        held = sum(yes for _, yes in tables[-1].values())
        heads.append(f"{head}: {held} of {len(FACTS)} hold (n = {counts.pop()})")
    lines = []
    for fact, (numbers, source, _) in FACTS.items():
        here = [f"**{'holds' if yes else 'does not'}**: {said}" for said, yes in (found[fact] for found in tables)]
        lines.append([fact, f"{numbers}; {source}", *here])
    rule = f"*Holds*: each measure is larger than the next by {MARGIN} standard errors over {len(seeds)} noise seeds"
    spread = "± is the sample standard deviation over them; n counts pairs of a sketch and a photo"
    return f"{results.markdown(heads, lines)}\n\n{rule}; {spread}."


def rows(run: Any, found: Mapping[str, Sequence[float]], n: int, **about: Any) -> list[results.Row]:
    """A result row a measure and noise seed, of n pairs; `about` holds gallery, backbone and weights_sha256."""
    about |= {"task": "contract", "method": "off the shelf", "dataset": "toy", "split": "", "n": n}
    told = []
    for name, values in found.items():
        about |= {"metric": name, "definition": next(v for k, v in DEFINITIONS.items() if name.startswith(k))}
        told += [results.row(run, value=value, seed=seed, **about) for seed, value in enumerate(values)]
    return told


def of_rows(told: Iterable[results.Row], backbone: str, gallery: str) -> dict[str, list[float]]:
    """What `measure` found, from the rows that `rows` made of it."""
    found: dict[str, list[float]] = {}
    for row in sorted(told, key=lambda row: row.seed):
        if (row.task, row.backbone, row.gallery) == ("contract", backbone, gallery):
            found.setdefault(row.metric, []).append(row.value)
    return found


def _rows(maps: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(N, C, h, w) as (positions, C) of every other image, and of the rest."""
    values = to_grid(maps.float(), (GRID, GRID)).permute(0, 2, 3, 1)
    return tuple(values[start::2].flatten(0, 2).numpy() for start in (0, 1))
