"""Searching and scoring galleries: by the package's own blocks, by FAISS, by scikit-learn."""

from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score
from torch import Tensor

from sfhelpers.metrics import AP, evaluate_retrieval
from sfhelpers.search.nearest import faiss_index, nearest
from tools.bench.measuring import Rows, Time, clock, compared, grown, peak_megabytes, rounds

QUERIES, GALLERY, DIMENSIONS, CLASSES = 12_694, 10_453, 512, 21  # as of the Sketchy 21 classes
K, PHOTOS, ASKED = 200, 204_489, 2_400  # TU-Berlin-Extended's photos, and its test sketches
MANY, FEW = 1_000_000, 200  # vectors on disk, and queries of which the exact answers are known
INNER, KINDS = 64, 1_000  # dimensions in which made vectors really differ, and clusters


def embeddings(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(number, 512) float32 of length 1 around the centres of 21 classes, for an mAP@all of about .5; and labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(CLASSES, size=number)
    centres = np.random.default_rng(0).standard_normal((CLASSES, DIMENSIONS), dtype=np.float32)
    found = 0.3 * centres[labels] + generator.standard_normal((number, DIMENSIONS), dtype=np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True), labels


def vectors(number: int, seed: int) -> Tensor:
    """(number, 512) of length 1, made: 1,000 clusters in 64 dimensions, turned into 512, with a little noise."""
    dice, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    centres, turned = torch.randn(KINDS, INNER, generator=dice), torch.randn(INNER, DIMENSIONS, generator=dice)
    inner = centres[torch.randint(KINDS, (number,), generator=own)] + torch.randn(number, INNER, generator=own)
    return F.normalize((inner @ turned).add_(torch.randn(number, DIMENSIONS, generator=own)), dim=1)


def metrics(repeats: int, sample: int = 100, size: tuple[int, int] = (QUERIES, GALLERY)) -> Rows:
    """`evaluate_retrieval` on all queries; scikit-learn's average precision on `sample` of them, one by one."""
    (queries, query_labels), (gallery, labels) = embeddings(size[0], 1), embeddings(size[1], 2)
    ours = partial(evaluate_retrieval, queries, gallery, query_labels, labels)
    values, most, more = peak_megabytes(ours)
    some = np.random.default_rng(3).integers(size[0], size=sample)

    def loop() -> list[float]:
        return [average_precision_score(labels == query_labels[i], gallery @ queries[i]) for i in some]

    gap = float(np.abs(values[AP()][some] - loop()).max())
    taken = rounds({"all metrics, all queries": ours, "mAP@all by scikit-learn": loop}, repeats, warm=False)
    scaled = [Time(*(size[0] / sample * seconds for seconds in one)) for one in taken["mAP@all by scikit-learn"]]
    taken["mAP@all by scikit-learn"] = scaled
    about = {"queries": size[0], "photos": size[1], "peak MB": most, "own MB": more, "largest difference": gap}
    return compared(taken, "all metrics, all queries", **about)


def exact(repeats: int, photos: int = PHOTOS, asked: tuple[int, ...] = (1, 64, ASKED)) -> Rows:
    """The 200 nearest of made vectors, by `nearest` and by FAISS's flat index, and how this grows with the gallery."""
    gallery, queries, found = vectors(photos, 1), vectors(max(asked), 2), []
    (scores, _), most, more = peak_megabytes(lambda: nearest(queries, gallery, K))
    index = faiss_index(gallery)
    for number in asked:
        some, once = queries[:number], repeats if number < max(asked) else 1
        ways = {
            f"{number} queries by nearest": partial(nearest, some, gallery, K),
            f"{number} queries by FAISS flat": partial(index.search, some.numpy(), K),
        }
        found += compared(rounds(ways, once), next(iter(ways)), photos=photos, k=K)
    gap = float((torch.from_numpy(index.search(queries[:64].numpy(), K)[0]) - scores[:64]).abs().max())
    found[-2] |= {"peak MB": most, "own MB": more, "largest difference": gap}
    sizes = [photos // 2**k for k in (4, 3, 2, 1, 0)]
    taken = rounds({size: partial(nearest, queries[:64], gallery[:size], K) for size in sizes}, repeats)
    return [*found, grown("growth with the gallery, 64 queries", {n: min(some).seconds for n, some in taken.items()})]


def compressed(folder: Path, number: int = MANY, few: int = FEW) -> Rows:
    """IVF-PQ of vectors on disk beside exact search of them: recall@200 and time, also ranked anew by the vectors."""
    file, index_file = folder / "vectors", folder / "index"
    kept = torch.from_file(str(file), shared=True, size=number * DIMENSIONS).view(number, DIMENSIONS)
    for k, some in enumerate(kept.split(50_000)):
        some.copy_(vectors(len(some), 10 + k))
    queries, start = vectors(few, 2), clock()
    index, most, _ = peak_megabytes(lambda: faiss_index(kept))
    built = clock() - start
    faiss.write_index(index, str(index_file))
    index, start = faiss.read_index(str(index_file)), clock()
    (_, truth), exact_most, _ = peak_megabytes(lambda: nearest(queries, kept, K))
    whole = clock() - start
    sizes = {"vectors": number, "MB on disk": file.stat().st_size / 1e6, "index MB": index_file.stat().st_size / 1e6}
    rows = [{"what": "building IVF-PQ", "seconds": built, "peak MB": most, **sizes}]
    rows += [{"what": f"{few} queries by nearest", "seconds": whole, "peak MB": exact_most}]
    for probes, looked in ((8, 1), (32, 1), (128, 1), (32, 10), (128, 10)):
        index.nprobe, start = probes, clock()
        places = _ranked(index, queries, kept, looked)
        taken = clock() - start
        recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(places.tolist(), truth.tolist(), strict=True)])
        name = f"{few} queries by IVF-PQ, {probes} lists" + f", the best {looked * K} ranked anew" * (looked > 1)
        rows.append({"what": name, "seconds": taken, "recall@200": float(recall), "times faster": whole / taken})
    return rows


def _ranked(index: Any, queries: Tensor, kept: Tensor, looked: int) -> Tensor:
    places = torch.from_numpy(index.search(queries.numpy(), K * looked)[1])
    if looked == 1:
        return places
    found = [(kept[own] @ query).topk(K).indices for own, query in zip(places, queries, strict=True)]
    return torch.stack([own[order] for own, order in zip(places, found, strict=True)])
