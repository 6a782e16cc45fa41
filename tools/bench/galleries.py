"""Searching and scoring galleries: by the package's own blocks, by FAISS, by scikit-learn."""

from functools import partial

import faiss
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score
from threadpoolctl import threadpool_info
from torch import Tensor

from sfhelpers.metrics import AP, evaluate_retrieval
from sfhelpers.search.nearest import nearest
from tools.bench.measuring import Rows, Time, compared, grown, peak_megabytes, rounds

QUERIES, GALLERY, DIMENSIONS, CLASSES = 12_694, 10_453, 512, 21  # as of the Sketchy 21 classes
K, PHOTOS, ASKED = 200, 204_489, 2_400  # TU-Berlin-Extended's photos, and its test sketches
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
    index = faiss.IndexFlatIP(DIMENSIONS)
    index.add(gallery.numpy())
    for number in asked:
        some, large = queries[:number], number == max(asked)
        ways = {
            f"{number} queries by nearest": partial(nearest, some, gallery, K),
            f"{number} queries by FAISS flat": partial(index.search, some.numpy(), K),
        }
        found += compared(rounds(ways, 1 if large else repeats, warm=not large), next(iter(ways)), photos=photos, k=K)
    gap = float((torch.from_numpy(index.search(queries[:64].numpy(), K)[0]) - scores[:64]).abs().max())
    about = {"BLAS of FAISS": [d.get("architecture") for d in threadpool_info() if "faiss" in d["filepath"]]}
    found[-2] |= about | {"peak MB": most, "own MB": more, "largest difference": gap}
    sizes = [photos // 2**k for k in (4, 3, 2, 1, 0)]
    taken = rounds({size: partial(nearest, queries[:64], gallery[:size], K) for size in sizes}, repeats)
    return [*found, grown("growth with the gallery, 64 queries", {n: min(some).seconds for n, some in taken.items()})]
