"""Rankings as pictures: what was found, right and wrong marked by colour and by shape, and where the vectors lie."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.patheffects import withStroke
from PIL import Image, ImageDraw
from sklearn.manifold import TSNE
from torch import Tensor

from sfhelpers import plots
from sfhelpers.images import open_image
from sfhelpers.plots.figure import BLUE, COLORS, INK, PALE, VERMILION, Figure
from sfhelpers.tasks.retrieval_comparison import Parts, Trial, asked
from sfhelpers.tasks.retrieval_parts import PROBLEMS

SIDE = 160  # px of a picture in a ranked list


def ranked_lists(
    trial: Trial, parts: Parts, problem: str, queries: Iterable[int], values: np.ndarray, name: str, shown: int = 8
) -> Figure:
    """A row a query: the sketch, then the photos of the whole zero-shot gallery, best first.

    Right photos have a blue frame and a tick, wrong ones an orange frame and a cross. Where only one photo is right it
    stands at the end once more, wherever it is ranked.

    Args:
        queries: positions among the queries of the problem's zero-shot test.
        values: (Q,) what the rows are labelled with, called `name`.
    """
    (sketches, photos), (asking, offered) = asked(trial, parts, problem)
    level = PROBLEMS[problem][1]
    rows, labels = [], []
    for query in queries:
        order = (offered @ asking[query]).argsort(descending=True, stable=True)[:shown].tolist()
        sketch = sketches[query]
        right = [_right(sketch, photos[k], level) for k in order]
        found = [marked(open_image(photos[k].path), good) for k, good in zip(order, right, strict=True)]
        own = [open_image(p.path) for p in photos if level == "instance" and _right(sketch, p, level)]
        rows.append([open_image(sketch.path), *found, *own])
        labels.append(f"{sketch.category.replace('_', ' ')}\n{name} {values[query]:.2f}")
    numbers = [str(k) for k in range(1, min(shown, len(photos)) + 1)]
    return plots.grid(rows, labels, ["query", *numbers, *["drawn from"] * (level == "instance")], size=0.86)


def marked(photo: Image.Image, right: bool) -> Image.Image:
    """The photo as a square with a frame and a sign in its corner: blue and a tick, or orange and a cross."""
    square = photo.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    draw, color, low = ImageDraw.Draw(square), BLUE if right else VERMILION, SIDE - 44
    draw.rectangle((0, 0, SIDE - 1, SIDE - 1), outline=color, width=8)
    draw.rectangle((low, low, SIDE - 1, SIDE - 1), fill=color)
    lines = [((8, 22), (18, 33), (36, 10))] if right else [((9, 9), (35, 35)), ((35, 9), (9, 35))]
    for line in lines:
        draw.line([(low + x, low + y) for x, y in line], fill="white", width=7)
    return square


def embedding_map(trial: Trial, parts: Parts, problem: str = "strict", seed: int = 0) -> Figure:
    """Sketches (hollow) and photos (full) of the unseen classes in the plane, by t-SNE of their cosine distances.

    Each class is named above the half of its marks that lie closest together. Distances between far groups mean nothing
    in such a picture.
    """
    (sketches, photos), vectors = asked(trial, parts, problem)
    records = sketches + photos
    points = plane(vectors, seed)
    figure = Figure(figsize=(8, 5.2), dpi=200)
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.91))
    classes = sorted({record.category for record in records})
    for k, category in enumerate(classes):
        color, marker = COLORS[k % len(COLORS)], "os^DvPXd*"[k % 9]
        for side, face in (("sketch", "white"), ("photo", color)):
            chosen = [r.category == category and r.domain == side for r in records]
            axes.scatter(*points[chosen].T, s=30, marker=marker, facecolor=face, edgecolor=color, linewidth=1.1)
        own = points[[r.category == category for r in records]]
        away = np.linalg.norm(own - np.median(own, axis=0), axis=1)
        middle = own[away <= np.median(away)]
        axes.annotate(
            category.replace("_", " "), (middle[:, 0].mean(), middle[:, 1].max()), (0, 6), textcoords="offset points",
            fontsize=9.5, color=INK, ha="center", weight="bold",
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip
    axes.set_xticks([]), axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(PALE)
    axes.set_title(f"{trial.method}: photos full, sketches hollow", fontsize=10.5, color=INK, loc="left", weight="bold")
    return figure


def plane(vectors: Sequence[Tensor], seed: int = 0) -> np.ndarray:
    """(S, d) and (P, d) to (S + P, 2) by t-SNE, the same on every run with one seed."""
    both = np.concatenate([(v / v.norm(dim=1, keepdim=True)).double().numpy() for v in vectors])
    perplexity = min(30, (len(both) - 1) / 3)
    return TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=seed).fit_transform(both)


def _right(sketch, photo, level: str) -> bool:
    same = sketch.category == photo.category
    return same if level == "category" else same and sketch.instance == photo.instance
