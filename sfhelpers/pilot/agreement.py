"""How well features of sketch and photo agree, and how well they part object and ground: numbers for what one sees.

Points are (x, y) in the image, 0 to 1 from the upper left corner. Maps of every source are brought to one grid before
they are compared, so that no source gains by being finer.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sfhelpers.fusion.modules import to_grid
from sfhelpers.pilot.pca import check_maps

GRID = 24  # positions a side at which maps are compared
RADIUS = 0.1  # of the image's side: a match this near counts, as in PCK@0.1


def similar_positions(a_map: Tensor, position: tuple[float, float], b_map: Tensor) -> Tensor:
    """How similar every position of one map is to a chosen point of another.

    Args:
        a_map: (C, h, w).
        position: (x, y) in a's image.
        b_map: (C, h', w').

    Returns:
        (h', w') cosines.
    """
    if a_map.ndim != 3 or b_map.ndim != 3 or len(a_map) != len(b_map):
        shapes = f"{tuple(a_map.shape)} and {tuple(b_map.shape)}"
        raise ValueError(f"the maps have the shapes {shapes}: pass (C, h, w) with equal channels.")
    if len(position) != 2 or not all(0 <= value <= 1 for value in position):
        raise ValueError(f"the position is {tuple(position)}: give x and y from 0 to 1.")
    feature = sample(a_map[None], torch.tensor([[position]], dtype=torch.float32))[0, 0]
    return F.cosine_similarity(b_map.float(), feature[:, None, None], dim=0)


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """Features at points, bilinear between positions: maps (B, C, h, w), points (B, K, 2) -> (B, K, C)."""
    grid = 2 * points.to(torch.float32)[:, :, None] - 1
    found = F.grid_sample(maps.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return found[..., 0].transpose(1, 2)


def linear_cka(a: Tensor, b: Tensor) -> float:
    """Linear centred kernel alignment of two representations of the same items (Kornblith et al. 2019).

    It does not change under rotation and scaling of either. The kernel products are the unbiased ones of Song et al.
    (2012): with the plain ones, unrelated features agree the better the more channels they have.

    Args:
        a, b: (N, C) and (N, C'), row by row the same item; N >= 4.

    Returns:
        1 for the same representation, about 0 (a little above or below) for unrelated ones.

    Raises:
        ValueError: other shapes, fewer than 4 items, or a representation that is the same for all.
    """
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b) or len(a) < 4:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(f"the representations have the shapes {shapes}: pass (N, C) and (N, C') with N of 4 or more.")
    return alignment(kernel(a), kernel(b))


def kernel(values: Tensor) -> Tensor:
    """The linear kernel (N, N) of representations (N, C), without its diagonal; see `linear_cka`."""
    values = values.double() - values.double().mean(dim=0)
    return (values @ values.T).fill_diagonal_(0)


def alignment(k: Tensor, l: Tensor) -> float:  # noqa: E741  the names of the paper
    """CKA of two kernels (N, N) without diagonals; a ValueError if either is the same for all items."""
    product, own_k, own_l = _hsic(k, l), _hsic(k, k), _hsic(l, l)
    if not (own_k > 0 and own_l > 0):
        raise ValueError("a representation is the same for all items: CKA compares what varies.")
    return float(product / (own_k * own_l).sqrt())


def keypoint_features(maps: Tensor, points: Tensor, grid: int = GRID) -> Tensor:
    """Unit-length features (B, K, C) of maps (B, C, h, w), brought to one grid, at points (B, K, 2)."""
    check_maps(maps)
    return F.normalize(sample(to_grid(maps.float(), (grid, grid)), points), dim=2)


def keypoint_agreement(
    a_maps: Tensor, b_maps: Tensor, a_points: Tensor, b_points: Tensor, visible: Tensor, radius: float = RADIUS,
    grid: int = GRID,
) -> np.ndarray:  # fmt: skip
    """How often the position of b that is most similar to a keypoint of a is where that keypoint lies in b.

    Args:
        a_maps, b_maps: (N, C, h, w), e.g. of sketches and photos.
        a_points, b_points: (N, K, 2), matching row by row.
        visible: (N, K) bool, whether a keypoint is seen in both.
        radius: how far off a match may be, as a share of the image's side.
        grid: positions a side at which the maps are compared.

    Returns:
        (N,) share of right matches among the visible keypoints; NaN for a pair without any.
    """
    features = keypoint_features(a_maps, a_points, grid)
    targets = F.normalize(to_grid(b_maps.float(), (grid, grid)).flatten(2), dim=1)
    best = torch.einsum("nkc,ncp->nkp", features, targets).argmax(dim=2)
    found = (torch.stack([best % grid, best // grid], dim=2) + 0.5) / grid
    return _share((found - b_points).norm(dim=2) <= radius, visible)


def same_place_agreement(a_points: Tensor, b_points: Tensor, visible: Tensor, radius: float = RADIUS) -> np.ndarray:
    """The trivial baseline that answers with the keypoint's own place in a; arguments as `keypoint_agreement`."""
    return _share((a_points - b_points).norm(dim=2) <= radius, visible)


def chance_agreement(b_points: Tensor, visible: Tensor, radius: float = RADIUS, grid: int = GRID) -> np.ndarray:
    """What a position drawn at random gets on average; arguments as `keypoint_agreement`."""
    steps = (torch.arange(grid) + 0.5) / grid
    positions = torch.cartesian_prod(steps, steps).flip(1)
    near = (b_points[:, :, None] - positions).norm(dim=3) <= radius
    return _share(near.float().mean(dim=2), visible)


def foreground_auc(scores: Tensor, masks: Tensor) -> np.ndarray:
    """How well a map's values part the object from the ground: area under the ROC curve.

    Args:
        scores: (N, K, h, w), e.g. PCA scores; brought to the masks' size, bilinearly.
        masks: (N, H, W) bool.

    Returns:
        (N, K): the chance that a random pixel of the object scores above a random pixel of the ground; 0.5 says
        nothing, 0 and 1 separate perfectly. NaN where a mask is empty or full.
    """
    check_maps(scores)
    if masks.dtype != torch.bool or masks.ndim != 3 or len(masks) != len(scores):
        raise ValueError(f"the masks are {masks.dtype} {tuple(masks.shape)}: pass (N, H, W) bool, one for each map.")
    sized = to_grid(scores.float(), tuple(masks.shape[1:])).flatten(2).numpy()
    rows = zip(sized, masks.flatten(1).numpy(), strict=True)
    return np.array([[_auc(one[mask], one[~mask]) for one in values] for values, mask in rows])


def oriented(auc: np.ndarray, best: bool = False) -> np.ndarray:
    """AUC of the first component, or of the best of all, when neither sign nor choice was looked up on the image.

    A component's sign is arbitrary, and max(auc, 1 - auc) would call pure chance a success. So whether high scores
    mean object, and which component is best, is decided for every image on all the other ones.

    Args:
        auc: (N, K) as `foreground_auc` gives it, N >= 2.
        best: take the component that separates best on the other images, instead of the first.

    Returns:
        (N,); below 0.5 where the image disagrees with the others.
    """
    if auc.ndim != 2 or len(auc) < 2:
        raise ValueError(f"the AUCs have the shape {auc.shape}: pass (N, K) of two images or more.")
    known = np.isfinite(auc)
    values = np.where(known, auc - 0.5, 0)
    others = (values.sum(0) - values) / np.maximum(known.sum(0) - known, 1)
    chosen = np.abs(others).argmax(axis=1) if best else np.zeros(len(auc), dtype=int)
    rows = np.arange(len(auc))
    return 0.5 + np.where(others[rows, chosen] < 0, -1, 1) * (auc - 0.5)[rows, chosen]


def jackknife(statistic: Callable[[np.ndarray], float], groups: Sequence[str]) -> tuple[float, float]:
    """A statistic over all items and its standard error, by leaving out one group of items at a time.

    Items of one category resemble each other, so the group is left out as a whole; drawing items with replacement
    would spoil CKA, which takes an item that comes twice for agreement.

    Args:
        statistic: from the (M,) indices of the items kept to a number.
        groups: each item's group, e.g. its category; at least two different ones.

    Returns:
        value, standard error.
    """
    labels = np.asarray(groups)
    names = np.unique(labels)
    if len(names) < 2:
        raise ValueError(f"there is {len(names)} group: leaving one out needs two or more.")
    without = np.array([statistic(np.flatnonzero(labels != name)) for name in names])
    error = np.sqrt((len(names) - 1) * np.mean((without - without.mean()) ** 2))
    return float(statistic(np.arange(len(labels)))), float(error)


def _hsic(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741  the names of the paper
    """Unbiased Hilbert-Schmidt independence criterion (Song et al. 2012, Eq. 5), times n(n - 3)."""
    n = len(k)
    rows_k, rows_l = k.sum(dim=1), l.sum(dim=1)
    return (k * l).sum() + rows_k.sum() * rows_l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows_k @ rows_l


def _share(right: Tensor, visible: Tensor) -> np.ndarray:
    count = visible.sum(dim=1)
    share = (right * visible).sum(dim=1).double() / count
    return torch.where(count > 0, share, torch.nan).numpy()


def _auc(inside: np.ndarray, outside: np.ndarray) -> float:
    if not len(inside) or not len(outside):
        return float("nan")
    ordered = np.sort(outside)
    below, upto = (np.searchsorted(ordered, inside, side=side) for side in ("left", "right"))
    return float((below + upto).mean() / (2 * len(outside)))
