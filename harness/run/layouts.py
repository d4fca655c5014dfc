"""Operands in other memory layouts than the contract's, for backends that declare that they take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

_ALIGN = 64


def fortran(a: np.ndarray) -> np.ndarray:
    """First axis fastest."""
    return np.asfortranarray(a)


def strided(a: np.ndarray) -> np.ndarray:
    """Every second element of a larger array along each axis; between them lies what is no data."""
    outer = np.empty(tuple(2 * n + 1 for n in a.shape), a.dtype)
    outer.view(f"u{a.itemsize}")[...] = np.array(2 ** (8 * a.itemsize) - 1, f"u{a.itemsize}")
    view = outer[tuple(slice(1, None, 2) for _ in a.shape)]
    view[...] = a
    return view


def negative(a: np.ndarray) -> np.ndarray:
    """Every axis runs backwards through memory."""
    back = tuple(slice(None, None, -1) for _ in a.shape)
    return np.ascontiguousarray(a[back])[back]


def unaligned(a: np.ndarray) -> np.ndarray:
    """C-contiguous, aligned to the element and to nothing wider: one element beyond a 64-byte boundary."""
    room = np.empty(a.nbytes + 2 * _ALIGN, np.uint8)
    start = -room.ctypes.data % _ALIGN + a.itemsize
    view = room[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


LAYOUTS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "F": fortran,
    "strided": strided,
    "negative": negative,
    "unaligned": unaligned,
}
