"""Sketch-based image retrieval (paper, Sec. 6.1): a sketch ranks photos by the cosine of max-pooled features."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfhelpers.datasets import Dataset, Record
from sfhelpers.datasets.records import fingerprint
from sfhelpers.datasets.splits import GROUP, PROBLEMS, Level, Problem, names_of, numbers, problems_of, shown_in
from sfhelpers.fusion import FusedExtractor
from sfhelpers.metrics import AP, Acc, Measure, P, evaluate_retrieval
from sfhelpers.tasks.arms import DIM, SINGLE, UP, reading_size
from sfhelpers.tasks.compare import Frozen, Measured, Task, Trial, best_share
from sfhelpers.tasks.prepared import Prepared, compute, digests, embed_photos, prepare_images, reader, take

Embedder = Callable[[Tensor], Tensor]  # images (B, 3, H, W) in [0, 1] to (B, d); `.size` in px if it wants more detail
SIDES = ("sketches", "photos")
B_CLIP, B_SD, B_BOTH, CHANCE = "B-CLIP", "B-SD", "B-SD+CLIP", "chance"
AT_200 = AP(200, "k"), AP(200, "min"), AP(200, "min", True), AP(200, "found"), AP(200, "relevant")
PRECISIONS = tuple(P(k, over) for k in (100, 200) for over in ("k", "gallery", "relevant"))
MEASURES: dict[Level, tuple[Measure, ...]] = {
    "category": (AP(), AP(interpolated=True), *AT_200, *PRECISIONS),
    "instance": (Acc(1), Acc(5), Acc(10)),
}
GENERALISED = {"class": "strict, generalised by class", "sample": "strict, generalised by sample"}
AS_PUBLISHED = "strict, generalised by class with images that were learned from"
UNSEEN, SEEN = "all, unseen queries", "all, seen queries"
EXPECTED = "Acc@1, expected"
RELEVANT = "a photo is relevant for every thing in it; "  # before every definition at level "category"


class SketchRetriever(nn.Module):
    """Images to unit vectors: the extractor's map of standardised features, max-pooled over positions.

    `margin` of the triplet loss, above 0, is in units of 1 - cosine (not in the paper). `level` is what a photo shares
    with the sketch if it is right, "category" or "instance"; `category_weight`, 0 or more, is of category triplets
    beside the hard ones of level "instance": with 0, as the paper prints it, the loss forgets the categories.
    """

    def __init__(
        self, extractor: nn.Module, margin: float = 0.1, level: Level = "category", category_weight: float = 1.0
    ):
        super().__init__()
        if not margin > 0:
            raise ValueError(f"margin is {margin}: give a number above 0, for example 0.1.")
        if level not in get_args(Level):
            raise ValueError(f"level is {level!r}: use {' or '.join(get_args(Level))}.")
        if not category_weight >= 0:
            raise ValueError(f"category_weight is {category_weight}: give a number of 0 or more.")
        self.extractor = extractor
        self.settings: dict[str, Any] = {"margin": margin, "level": level, "category_weight": category_weight}

    def forward(self, images: Tensor | Prepared) -> Tensor:
        """(B, 3, H, W) in [0, 1], or what was prepared of them, to (B, d) of length 1."""
        return F.normalize(self.extractor.pooled(images), dim=1)


def triplets(sketches: Tensor, photos: Tensor, right: Tensor, wrong: Tensor, margin: float) -> Tensor:
    """Mean of max(0, margin + d(s, p) - d(s, n)) over all triplets of unit vectors, d = 1 - cosine (paper, Eq. 1)."""
    distance = 1 - sketches @ photos.T
    chosen = (right[:, :, None] & wrong[:, None, :]).to(distance.device)
    if not chosen.any():
        return 0 * distance.sum()
    return (margin + distance[:, :, None] - distance[:, None, :]).clamp(min=0)[chosen].mean()


def retrieval_loss(
    sketches: Tensor, photos: Tensor, same: Tensor, own: Tensor, level: Level, margin: float, category_weight: float
) -> Tensor:
    """The loss of a level; `same` and `own` (S, P) bool: photos that show the sketch's category, and the one drawn."""
    category = triplets(sketches, photos, same, ~same, margin)
    if level == "category":
        return category
    return triplets(sketches, photos, own, same & ~own, margin) + category_weight * category


def labels(sides: Iterable[Sequence[Record]], level: Level) -> tuple[np.ndarray, np.ndarray]:
    """What queries (Q,) ask for and gallery photos (N, K) show, as `evaluate_retrieval` takes it."""
    queries, gallery = sides
    return names_of(queries, level), shown_in(gallery, level)


@torch.no_grad()
def embed(model: nn.Module, frozen: Frozen, places: Sequence[Tensor]) -> list[Tensor]:
    """(S, d) and (P, d) on the CPU of the sketches and photos at some places, in eval mode."""
    sides = ((frozen[side], which.split(64)) for side, which in zip(SIDES, places, strict=True))
    return [torch.cat([model.eval()(take(side, part)).cpu() for part in parts]) for side, parts in sides]


class Vectors(NamedTuple):
    """What a trial made of a problem's pool, on the CPU."""

    sketches: Tensor  # (S, d)
    photos: Tensor  # (P, d)
    expected: bool = False  # whether its rows also tell the Acc@1 that a random ranking is expected to have


class Retrieval(Task):
    """Trained for every problem of PROBLEMS anew, tested on classes that were held back; compared by the first.

    The clip-style problem, "fused" and its halves alone, asks what a laxer split does to a number, not which arm wins.
    `batch_size` counts pairs, of two groups or more; `others` are embedders by name, further untrained rows.
    """

    name = "retrieval"
    start = "random"  # mean AP of classes that an image tower had not learned: .787, from zero .737

    def __init__(
        self, dataset: Dataset, epochs: int, learning_rate: float, batch_size: int,
        problems: Collection[str] | Mapping[str, Problem] = tuple(PROBLEMS),
        others: Mapping[str, Embedder] | None = None,
    ):  # fmt: skip
        if batch_size < (least := 2 * GROUP):
            raise ValueError(f"batch_size is {batch_size}: give {least} pairs or more, so that a step has two groups.")
        self.about = problems if isinstance(problems, Mapping) else problems_of(dataset, problems)
        self.first = next(iter(self.about.values()))
        parts = {"sketches": list(dataset.sketches), "photos": list(dataset.photos)}
        about = dataset.name, self.first.split.name, fingerprint(dataset.records)
        super().__init__(parts, *about, epochs, learning_rate, batch_size // GROUP)
        self.others = dict(others or {})
        self.baselines = (B_CLIP, B_SD, B_BOTH, *self.others, CHANCE)
        self.asked_for = numbers(names_of(dataset.sketches, "category"))  # (S,)
        self.shown = numbers(shown_in(dataset.photos, "category"))  # (P, K)
        self.embedded: dict[str, dict[Path, Tensor]] = {}  # off the shelf, each image once

    def read(self, extractor: nn.Module, records: list[Record], size: int, **noise: Any) -> Prepared:
        about = len(records), "preparing images", digests(records), size
        return prepare_images(extractor, reader(records, size), *about, **noise)

    def problems(self, method: str) -> tuple[str, ...]:
        chosen = tuple(problem for problem in self.about if problem != "clip-style" or method in ("fused", *SINGLE))
        return chosen or tuple(self.about)

    def of_problem(self, frozen: Frozen, problem: str) -> Frozen:
        found = self.about[problem]
        return {**frozen, "problem": problem, "train": found.train, "validation": found.validation}

    def model(self, extractor: nn.Module, frozen: Frozen) -> SketchRetriever:
        """Standardised on at most 64 sketches and as many photos of the training pairs, evenly spaced."""
        pairs = frozen["train"].pairs
        few = pairs[torch.linspace(0, len(pairs) - 1, min(64, len(pairs))).round().long()]
        sides = [take(frozen[side], which) for side, which in zip(SIDES, few.unbind(1), strict=True)]
        extractor.fit_statistics({name: torch.cat([side[name] for side in sides]) for name in sides[0]})
        return SketchRetriever(extractor, level=self.about[frozen["problem"]].level)

    def loss(self, model: SketchRetriever, frozen: Frozen, indices: Tensor) -> Tensor:
        """Every triplet of a step is made of the step's own images."""
        found = frozen["train"].draw(indices, model.extractor.seed)
        sketch, photo = found[:, 0], found[:, 1].unique()
        same = (self.asked_for[sketch][:, None, None] == self.shown[photo]).any(2)
        vectors = model(take(frozen["sketches"], sketch)), model(take(frozen["photos"], photo))
        return retrieval_loss(*vectors, same, found[:, 1:] == photo, **model.settings)

    def validate(self, model: SketchRetriever, frozen: Frozen) -> float:
        """Mean AP at the model's level, of sketches and photos of the validation classes."""
        return self._precision(embed(model, frozen, frozen["validation"]), frozen)

    def _precision(self, vectors: Sequence[Tensor], frozen: Frozen) -> float:
        sides, level = zip(SIDES, frozen["validation"], strict=True), self.about[frozen["problem"]].level
        records = ([self.parts[side][k] for k in which] for side, which in sides)
        return float(evaluate_retrieval(*vectors, *labels(records, level), (AP(),))[AP()].mean())

    def predict(self, model: SketchRetriever, frozen: Frozen) -> Vectors:
        return Vectors(*embed(model, frozen, self.about[frozen["problem"]].places))

    def untrained(self, method: str, seeds: Sequence[int], frozen: Frozen, plain: FusedExtractor) -> Iterator[Trial]:
        """Embeddings off the shelf, and random vectors, with which every ranking is as likely as any other."""
        encoder, chance = self.others.get(method), method == CHANCE
        row = {} if encoder is None else {"weights_sha256": encoder.weights_sha256, "backbone": method}
        for seed in seeds if chance else seeds[:1]:
            dice = torch.Generator().manual_seed(seed)
            for name, about in self.about.items():
                started, tried, own = time.perf_counter(), {}, self.of_problem(frozen, name)
                if chance:
                    sides = [torch.randn(len(side), DIM, generator=dice) for side in about.places]
                else:
                    sides, tried = self._off_the_shelf(method, own, plain)
                found = Vectors(*sides, chance and about.level == "instance" and seed == seeds[0])
                seconds = time.perf_counter() - started
                yield Trial(method, seed, name, tried=tried, seconds=seconds, found=found, row=row)

    def _off_the_shelf(self, method: str, frozen: Frozen, plain: FusedExtractor) -> tuple[list[Tensor], dict]:
        """(S, d) and (P, d) of a problem's pool, and what validation said of SD's up-blocks or of its share."""
        places = self.about[frozen["problem"]].places, frozen["validation"]  # the pool, and what chooses
        if method not in (B_SD, B_BOTH):
            return self._embedded(method, places[0], plain), {}
        self.model(plain, frozen)  # which fits the statistics
        blocks = {block: self._precision(self._pooled(block, places[1], frozen, plain), frozen) for block in UP}
        sd = [self._pooled(max(blocks, key=blocks.get), which, frozen, plain) for which in places]
        if method == B_SD:
            return sd[0], blocks
        clip = [self._embedded(B_CLIP, which, plain) for which in places]
        pool, learned = zip(sd, clip, strict=True)

        def joined(both: Sequence[list[Tensor]], share: float) -> list[Tensor]:
            weighed = zip((share**0.5, (1 - share) ** 0.5), both, strict=True)
            scaled = [[weight * F.normalize(side, dim=1) for side in sides] for weight, sides in weighed]
            return [torch.cat(side, dim=1) for side in zip(*scaled, strict=True)]

        share, tried = best_share(lambda share: self._precision(joined(learned, share), frozen))
        return joined(pool, share), tried

    def _pooled(self, block: str, places: Sequence[Tensor], frozen: Frozen, plain: FusedExtractor) -> list[Tensor]:
        """The maxima of an up-block's standardised features: a spread is above 0, so the maxima may be standardised."""
        statistics = plain.statistics[block].cpu()  # as what is frozen
        found = ({block: frozen[side][block]} for side in SIDES)
        maxima = [compute(lambda some: some[block].amax(dim=(2, 3), keepdim=True), side, 64, None) for side in found]
        return [statistics(side[which]).flatten(1) for side, which in zip(maxima, places, strict=True)]

    def _embedded(self, method: str, places: Sequence[Tensor], plain: FusedExtractor) -> list[Tensor]:
        """(S, d) and (P, d) of the sketches and photos at some places, by an image encoder."""
        paths = [[self.parts[side][k].path for k in which] for side, which in zip(SIDES, places, strict=True)]
        known = self.embedded.setdefault(method, {})
        if missing := list(dict.fromkeys(path for side in paths for path in side if path not in known)):
            embedder = self.others.get(method, plain.backbone.vision.embed)
            size = max(reading_size(plain.backbone), getattr(embedder, "size", 0))
            known |= zip(missing, embed_photos(missing, embedder, size), strict=True)
        return [torch.stack([known[path] for path in side]) for side in paths]

    def asked(self, trial: Trial, test: str = "zero-shot") -> tuple[tuple[list[Record], ...], tuple[Tensor, ...]]:
        """Records of a test's queries and gallery, and their vectors."""
        about = self.about[trial.problem]
        queries, gallery = about.tests[test]
        records = [about.sketches[k] for k in queries], [about.photos[k] for k in gallery]
        return records, (trial.found.sketches[queries], trial.found.photos[gallery])

    def nearest(self, trial: Trial, query: int, k: int) -> list[Record]:
        """A query's first k photos; ValueError if the gallery has fewer."""
        (_, offered), (s, p) = self.asked(trial)
        if k > len(offered):
            raise ValueError(f"k is {k} and the gallery has {len(offered)} photos: give a smaller k.")
        return [offered[at] for at in (p @ s[query]).argsort(descending=True, stable=True)[:k].tolist()]

    def scores(
        self, trial: Trial, measures: Iterable[Measure] = (AP(),), test: str = "zero-shot", gallery: str = "all"
    ) -> dict[Measure, np.ndarray]:
        """Every query's value of each measure; `test` is "zero-shot", "class", ..., `gallery` "all" or "class"."""
        sides, vectors = self.asked(trial, test)
        classes = labels(sides, "category") if gallery == "class" else None
        found = labels(sides, self.about[trial.problem].level)
        return evaluate_retrieval(*vectors, *found, tuple(measures), classes)

    def measure(self, trial: Trial, frozen: Frozen) -> Iterator[Measured]:
        """`split` is the protocol; `gallery` is "all", "class", or in generalised tests also whose queries."""
        about = self.about[trial.problem]
        instance, split = about.level == "instance", about.split.name
        rule = "" if instance else RELEVANT
        queries, photos = about.tests["zero-shot"]
        levels = {"photos": "instance", "categories": "category"}
        groups = {unit: names_of((about.sketches[k] for k in queries), by) for unit, by in levels.items()}
        tested = MEASURES[about.level][0] if instance or about is self.first else None
        for gallery in ("all", "class") if instance else ("all",):
            for measure, values in self.scores(trial, MEASURES[about.level], gallery=gallery).items():
                together = groups if gallery == "all" and measure == tested else None
                yield Measured(gallery, measure.name, rule + measure.definition, values, together, split=split)
        for test, (asking, _) in list(about.tests.items())[1:]:
            values = self.scores(trial, test=test)[AP()]
            unseen = np.array([about.sketches[k].category in about.split.test for k in asking])
            for gallery, chosen in (("all", slice(None)), (UNSEEN, unseen), (SEEN, ~unseen)):
                name = GENERALISED.get(test, AS_PUBLISHED)
                yield Measured(gallery, AP().name, rule + AP().definition, values[chosen], split=name)
        if trial.found.expected:
            value = np.array([1 / len(photos)])
            yield Measured("all", EXPECTED, "1 / number of photos", value, n=len(queries), split=split)
