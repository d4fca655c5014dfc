"""A convolution's input with its padding in place: a copy by index, for backends that need whole windows.

Kept apart from the algorithms, and free of `numpy.pad`, whose reflection and wrap-around repeat
where a specification would refuse.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.spec import ConvSpec
from harness.spec.geometry import Axis


def padded(x: np.ndarray, spec: ConvSpec, length: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Copy `x` into an array of `length` elements an axis that begins at each axis' padding.

    Parameters
    ----------
    x : ndarray, `spec.x_shape`
    spec : ConvSpec
        Of a `conv`. Negative padding crops.
    length : sequence of int
        Elements an axis; what lies beyond the padded input is zero, what of it lies beyond is left out.
    dtype : dtype
        Of the result; it holds every value of `x`.

    Returns
    -------
    ndarray, (batch, in_channels, length...)

    Examples
    --------
    >>> spec = ConvSpec("conv", (3,), (3,), padding=((2, 1),), padding_mode="reflect")
    >>> padded(np.array([[[1, 2, 3]]]), spec, (7,), np.dtype("i8")).tolist()
    [[[3, 2, 1, 2, 3, 2, 0]]]
    """
    out = np.zeros((*x.shape[:2], *length), dtype)
    source, target = [slice(None)] * 2, [slice(None)] * 2
    for i, (a, size) in enumerate(zip(spec.axes, length, strict=True)):
        if spec.padding_mode == "zeros":
            first = max(0, -a.lo)
            count = max(0, min(a.n + min(a.hi, 0), size - a.lo) - first)
            source.append(slice(first, first + count))
            target.append(slice(first + a.lo, first + a.lo + count))
        else:
            at = _positions(a, spec.padding_mode)[:size]
            x = x.take(at, 2 + i)
            source.append(slice(None))
            target.append(slice(at.size))
    out[tuple(target)] = x[tuple(source)]
    return out


def _positions(a: Axis, mode: str) -> np.ndarray:
    """The input element that stands at each place of the padded axis, where padding repeats data."""
    i = np.arange(-a.lo, a.n + a.hi)
    if mode == "circular":
        return i % a.n
    if mode == "reflect":
        return a.n - 1 - np.abs(a.n - 1 - np.abs(i))
    if mode == "replicate":
        return np.clip(i, 0, a.n - 1)
    raise ValueError(f"padding mode {mode!r} copies no data: it is circular, reflect or replicate")
