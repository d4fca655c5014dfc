"""The structure of the two matrices: which tap joins which input to which output, and what follows from it."""

from __future__ import annotations

from collections import defaultdict
from math import prod

import numpy as np

from harness.oracle.exact import pairs
from harness.spec import ConvSpec


def filter_taps(spec: ConvSpec) -> np.ndarray:
    """(outputs, inputs): the stored tap that stands there, -1 for none; the last where several meet (and 0 of a pool)."""
    taps = np.full((prod(spec.out_shape), prod(spec.x_shape)), -1)
    for row, at in enumerate(np.ndindex(*spec.out_shape)):
        for x_at, w_at in pairs(spec, at):
            taps[row, _flat(x_at, spec.x_shape)] = _flat(w_at, spec.w_shape) if spec.w_shape else 0
    return taps


def data_sources(spec: ConvSpec) -> np.ndarray:
    """(window positions, outputs): the input that is read there, -1 for padding; the window's last position first."""
    assert spec.w_shape is not None
    at_rows = window_order(spec)
    sources = np.full((prod(spec.w_shape), prod(spec.out_shape)), -1)
    for column, at in enumerate(np.ndindex(*spec.out_shape)):
        for x_at, w_at in pairs(spec, at):
            sources[at_rows.index(_flat(w_at, spec.w_shape)), column] = _flat(x_at, spec.x_shape)
    return sources


def window_order(spec: ConvSpec) -> list[int]:
    """The stored taps in the order of the data matrix's rows: the slide's [h_m ... h_1], [h_1 ... h_m] where flipped."""
    assert spec.w_shape is not None
    taps = np.arange(prod(spec.w_shape)).reshape(spec.w_shape)
    if spec.flip:
        taps = np.flip(taps, tuple(range(2, taps.ndim)))
    return [int(t) for t in taps.reshape(-1)[::-1]]


def diagonals(spec: ConvSpec, matrix: np.ndarray) -> tuple[int, int]:
    """(diagonals, those that are not constant) of a filter matrix.

    A diagonal is the entries of equal o s - i (mod n where circular) on every axis and of the same channels;
    of a transposed convolution o - i s. In 1-D with stride 1 these are the matrix's diagonals, in more
    dimensions those of its blocks, from block to block.
    """
    found: dict[tuple[int, ...], set[float]] = defaultdict(set)
    for r, o in enumerate(np.ndindex(*spec.out_shape)):
        for c, i in enumerate(np.ndindex(*spec.x_shape)):
            found[(o[1], i[1], *_offset(spec, o[2:], i[2:]))].add(float(matrix[r, c]))
    return len(found), sum(len(v) > 1 for v in found.values())


def _offset(spec: ConvSpec, o: tuple[int, ...], i: tuple[int, ...]) -> tuple[int, ...]:
    if spec.op == "conv_transpose":
        return tuple(a - b * s for a, b, s in zip(o, i, spec.stride, strict=True))
    offset = tuple(a * s - b for a, b, s in zip(o, i, spec.stride, strict=True))
    return tuple(d % n for d, n in zip(offset, spec.in_size, strict=True)) if spec.padding_mode == "circular" else offset


def labels(letter: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of a tensor's elements in memory order, counted from 1 as on the slides; axes of length 1 in front left out.

    Examples
    --------
    >>> labels("y", (1, 1, 3)), labels("x", (1, 2, 2))
    (('y1', 'y2', 'y3'), ('x1,1', 'x1,2', 'x2,1', 'x2,2'))
    """
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return tuple(letter + ",".join(str(v + 1) for v in at) for at in np.ndindex(*shape))


def shift(spec: ConvSpec, size: tuple[int, ...], channels: int, axis: int, by: int) -> np.ndarray:
    """The operator that shifts a tensor along one axis by `by` places, circularly, as a matrix."""
    n = channels * prod(size)
    place = np.roll(np.arange(n).reshape(channels, *size), by, axis=1 + axis).reshape(-1)
    s = np.zeros((n, n))
    s[np.arange(n), place] = 1.0
    return s


def circle(spec: ConvSpec, w: np.ndarray) -> np.ndarray:
    """The first column of the circulant matrix, on the axes of the input: the taps placed on the circle."""
    column = np.zeros(spec.in_size)
    w = w.reshape(spec.kernel_size).astype(np.float64)
    for k in np.ndindex(*spec.kernel_size):
        stored = tuple(a.m - 1 - j for a, j in zip(spec.axes, k, strict=True)) if spec.flip else k
        column[tuple((a.lo - j * a.d) % a.n for a, j in zip(spec.axes, k, strict=True))] += w[stored]
    return column


def _flat(index: tuple[int, ...], shape: tuple[int, ...] | None) -> int:
    assert shape is not None
    return int(np.ravel_multi_index(index, shape))
