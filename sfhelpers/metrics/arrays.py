"""What the metrics share: arrays out of anything array-like, and the checks with their sentences."""

from numbers import Integral
from typing import Any

import numpy as np
from torch import Tensor


def to_array(values: Any, name: str = "", ndim: int = 0, shapes: tuple[tuple[int, ...], ...] = ()) -> np.ndarray:
    """An array of `ndim` axes (of one item one less), none empty but a batch's first, in one of `shapes` if given."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() and values.itemsize < 4 else values
    values = np.asarray(values)
    if ndim and values.ndim not in (ndim - 1, ndim):
        raise ValueError(f"{name} has shape {values.shape}: give {ndim - 1} axes for one item, or {ndim} for a batch.")
    if shapes and values.shape not in shapes:
        raise ValueError(f"{name} has shape {values.shape} where {shapes[-1]} is wanted: give one for each item.")
    if ndim and 0 in values.shape[1 - ndim :]:
        raise ValueError(f"{name} is empty, of shape {values.shape}: there is nothing to measure in an item.")
    return values


def numbers(values: np.ndarray, name: str) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} holds {values.dtype}: give numbers.")
    if len(bad := np.argwhere(np.isnan(values))):
        raise ValueError(f"{name} is NaN at {bad[0].tolist()}: find out where it comes from, since NaN has no rank.")
    return values.astype(np.float64)


def whole(k: Any, name: str = "k") -> int:
    if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
        raise ValueError(f"{name} is {k!r}: give a whole number from 1.")
    return int(k)


def one_of(value: str, choices: tuple[str, ...], name: str) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: choose {' or '.join(map(repr, choices))}.")
