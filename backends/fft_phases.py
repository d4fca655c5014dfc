"""Every convolution as one of stride 1: strides become phases, phases become channels.

Along an axis of stride s, padded position i = q s + p has phase p. A strided convolution is the sum over
phases of stride-1 convolutions of the phases of x with those of the kernel, so its phases act as further
input channels; each phase of the output of a transposed convolution is a stride-1 convolution of x, so its
phases act as further output channels. No output is computed to be thrown away, no zero is put between
inputs, and phases that no tap of a dilated kernel reaches drop out.

References
----------
P. P. Vaidyanathan, Multirate Systems and Filter Banks, Prentice Hall, 1993, section 4.3 (polyphase).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from backends.padding import padded
from harness.spec import ConvSpec
from harness.spec.geometry import Axis

Phases = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class DenseAxis:
    """An axis of a linear convolution z[i] = sum_j h[j] x[i - j], i in [first, first + count)."""

    n: int
    m: int
    first: int
    count: int


@dataclass(frozen=True)
class Dense:
    """The stride-1 convolution to which a specification comes down.

    Attributes
    ----------
    batch, groups : int
    rows, cols : int
        Output and input channels a group, phases included: the kernels are matrices rows x cols.
    axes : tuple of DenseAxis
    phases : tuple of tuple of int
        The phases in use, an axis.
    """

    batch: int
    groups: int
    rows: int
    cols: int
    axes: tuple[DenseAxis, ...]
    phases: Phases


def dense(spec: ConvSpec) -> Dense:
    """The stride-1 convolution that computes `spec`.

    Examples
    --------
    >>> d = dense(ConvSpec("conv", (9,), (3,), stride=(2,)))
    >>> d.cols, d.axes
    (2, (DenseAxis(n=5, m=2, first=1, count=4),))
    """
    phases = tuple(tuple(sorted({k * a.d % a.s for k in range(a.m)})) for a in spec.axes)
    count = prod(map(len, phases))
    rows, cols = spec.out_channels // spec.groups, spec.in_channels // spec.groups
    sizes = zip(spec.axes, spec.out_size, strict=True)
    if spec.op == "conv_transpose":
        axes = [DenseAxis(a.n, _taps(a), a.lo // a.s, (a.lo + o - 1) // a.s - a.lo // a.s + 1) for a, o in sizes]
        return Dense(spec.batch, spec.groups, rows * count, cols, tuple(axes), phases)
    axes = [DenseAxis(o - 1 + _taps(a), _taps(a), _taps(a) - 1, o) for a, o in sizes]
    return Dense(spec.batch, spec.groups, rows, cols * count, tuple(axes), phases)


def inputs(spec: ConvSpec, d: Dense, x: np.ndarray, dtype: np.dtype, length: Sequence[int] | None = None) -> np.ndarray:
    """`x` as the dense convolution takes it, (batch, groups, cols, n...); a convolution's with zeros behind up to `length`."""
    if spec.op == "conv_transpose":
        return x.astype(dtype, copy=False).reshape(d.batch, d.groups, d.cols, *spec.in_size)
    size = [a.n for a in d.axes] if length is None else list(length)
    whole = tuple(n * s for n, s in zip(size, spec.stride, strict=True))
    plain = whole == spec.in_size and x.dtype == dtype and not any(map(any, spec.padding)) and set(spec.stride) == {1}
    parts = x if plain else split(padded(x, spec, whole, dtype), spec.stride, d.phases)
    return parts.reshape(d.batch, d.groups, d.cols, *size)


def kernels(spec: ConvSpec, d: Dense, w: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`w` as the dense convolution takes it, (groups, rows, cols, m...): zero-stuffed, split, in convolution's order."""
    spatial = tuple(range(2, 2 + spec.rank))
    stuffed = np.zeros((*w.shape[:2], *(_taps(a) * a.s for a in spec.axes)), dtype)
    at = (slice(0, a.extent, a.d) for a in spec.axes)
    stuffed[(slice(None), slice(None), *at)] = np.flip(w, spatial) if spec.flip else w
    parts = split(stuffed, spec.stride, d.phases)
    size = tuple(a.m for a in d.axes)
    if spec.op == "conv_transpose":
        return parts.reshape(d.groups, d.cols, d.rows, *size).swapaxes(1, 2)
    return np.flip(parts, tuple(range(3, 3 + spec.rank))).reshape(d.groups, d.rows, d.cols, *size)


def outputs(spec: ConvSpec, d: Dense, z: np.ndarray) -> np.ndarray:
    """The output of `spec` from the dense convolution's, (batch, groups, rows, count...)."""
    if spec.op == "conv":
        return z.reshape(spec.out_shape)
    planes = z.reshape(spec.batch, spec.out_channels, prod(map(len, d.phases)), *(a.count for a in d.axes))
    crop = (slice(a.lo % a.s, a.lo % a.s + o) for a, o in zip(spec.axes, spec.out_size, strict=True))
    return merge(planes, spec.stride, d.phases)[(slice(None), slice(None), *crop)]


def split(a: np.ndarray, stride: tuple[int, ...], phases: Phases) -> np.ndarray:
    """Take the phases in use out of the spatial axes: (i, j, q s...) to (i, j, phases, q...).

    Examples
    --------
    >>> split(np.arange(6).reshape(1, 1, 6), (3,), ((0, 2),)).tolist()
    [[[[0, 3], [2, 5]]]]
    """
    apart = a.reshape(*a.shape[:2], *(e for n, s in zip(a.shape[2:], stride, strict=True) for e in (n // s, s)))
    for i, used in enumerate(phases):
        if len(used) < stride[i]:
            apart = apart.take(used, 3 + 2 * i)
    rank = len(stride)
    order = (0, 1, *range(3, 3 + 2 * rank, 2), *range(2, 2 + 2 * rank, 2))
    return apart.transpose(order).reshape(*a.shape[:2], prod(map(len, phases)), *apart.shape[2::2])


def merge(parts: np.ndarray, stride: tuple[int, ...], phases: Phases) -> np.ndarray:
    """Undo `split`; phases that are not in use become zeros.

    Examples
    --------
    >>> merge(np.array([[[[0, 3], [2, 5]]]]), (3,), ((0, 2),)).tolist()
    [[[0, 0, 2, 3, 0, 5]]]
    """
    lead, size, rank = parts.shape[:2], parts.shape[3:], len(stride)
    apart = np.zeros((*lead, *stride, *size), parts.dtype)
    used: tuple[Any, ...] = (slice(None), slice(None), *np.ix_(*phases))
    apart[used] = parts.reshape(*lead, *map(len, phases), *size)
    order = (0, 1, *(e for i in range(rank) for e in (2 + rank + i, 2 + i)))
    return apart.transpose(order).reshape(*lead, *(n * s for n, s in zip(size, stride, strict=True)))


def _taps(a: Axis) -> int:
    """Taps of one phase of the zero-stuffed kernel."""
    return -(-a.extent // a.s)
