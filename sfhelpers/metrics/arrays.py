"""What the metrics share: arrays out of anything array-like, and the checks with their sentences."""

import operator
from typing import Any

import numpy as np
from torch import Tensor

Values = np.ndarray | Tensor


def to_array(values: Any) -> np.ndarray:
    """A numpy array of a tensor (any device, any gradient) or of anything numpy understands."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return values.float().numpy() if values.is_floating_point() and values.itemsize < 4 else values.numpy()
    return np.asarray(values)


def batched(values: Any, name: str, ndim: int = 2) -> tuple[np.ndarray, bool]:
    """The values with a batch axis in front, and whether it was added.

    Raises:
        ValueError: neither `ndim` nor `ndim - 1` axes.
    """
    values = to_array(values)
    if values.ndim not in (ndim - 1, ndim):
        raise ValueError(f"{name} has shape {values.shape}: give {ndim - 1} axes for one item, or {ndim} for a batch.")
    return (values[None], True) if values.ndim == ndim - 1 else (values, False)


def unbatched(values: np.ndarray, single: bool) -> np.ndarray | float:
    """A float for one item, the (B,) array for a batch."""
    return float(values[0]) if single else values


def numbers(values: np.ndarray, name: str) -> np.ndarray:
    """The values as float64.

    Raises:
        ValueError: they are no numbers, or one is NaN.
    """
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} holds {values.dtype}: give numbers.")
    values = values.astype(np.float64)
    if np.isnan(values).any():
        first = tuple(int(i) for i in np.argwhere(np.isnan(values))[0])
        raise ValueError(f"{name} is NaN at {first}: find out where it comes from, since NaN has no rank.")
    return values


def flags(values: np.ndarray, name: str) -> np.ndarray:
    """The values as bool.

    Raises:
        ValueError: something other than 0, 1, False and True, NaN included.
    """
    if values.dtype == bool:
        return values
    if values.dtype.kind not in "iuf" or not np.isin(values, (0, 1)).all():
        raise ValueError(f"{name} holds values other than 0 and 1: compare labels first, or apply a threshold.")
    return values.astype(bool)


def per_item(values: Any, count: int, name: str) -> np.ndarray:
    """(count,) array of one value for all items, or of one for each.

    Raises:
        ValueError: as many values as neither 1 nor `count`.
    """
    values = to_array(values)
    if values.ndim > 1 or (values.ndim == 1 and len(values) != count):
        raise ValueError(f"{name} has shape {values.shape} for {count} items: give one value, or one an item.")
    return np.broadcast_to(values, (count,))


def whole(k: Any, name: str = "k") -> int:
    """k as an int of at least 1.

    Raises:
        ValueError: not a whole number, or below 1.
    """
    try:
        number = operator.index(k)
    except TypeError:
        number = 0
    if number < 1 or isinstance(k, bool):
        raise ValueError(f"{name} is {k!r}: give a whole number from 1.")
    return number


def one_of(value: str, choices: tuple[str, ...], name: str) -> None:
    """Check that an option is known.

    Raises:
        ValueError: it is not among the choices.
    """
    if value not in choices:
        known = ", ".join(repr(choice) for choice in choices[:-1])
        raise ValueError(f"{name} is {value!r}: choose {known} or {choices[-1]!r}.")
