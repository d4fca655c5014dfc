"""The oracle's own array work: padding, windows, correlation as chunked float64 GEMM.

Inputs and outputs are float64. A contiguous slice a GEMM is twenty times faster than a strided
`tensordot`, so windows are copied into a contiguous matrix, at most `CHUNK` bytes at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from harness.spec import ConvSpec

#: Bytes of window matrix at a time: within the second-level cache's reach, large enough for GEMM.
CHUNK = 4 << 20


def outer(counts: Sequence[Sequence[int]]) -> np.ndarray:
    """The product over axes of per-axis counts, float64, one axis an entry."""
    arrays = [np.asarray(c, np.float64) for c in counts]
    return reduce(np.multiply.outer, arrays)


def tap_lengths(spec: ConvSpec) -> np.ndarray:
    """K of every output position, (out_size...), float64: products (pools: elements) that it sums."""
    return spec.channel_taps * outer(spec.tap_counts)


def padded(spec: ConvSpec, x: np.ndarray, fill: float) -> np.ndarray:
    """`x` with its padding in place, long enough for every window; `fill` stands where no data are copied."""
    size = [
        max(a.n + a.lo + a.hi, (o - 1) * a.s + a.extent) if spec.is_pool else a.n + a.lo + a.hi
        for a, o in zip(spec.axes, spec.out_size, strict=True)
    ]
    if spec.padding_mode == "zeros":
        if size == list(spec.in_size) and not any(a.lo for a in spec.axes):
            return np.ascontiguousarray(x)
        out = np.full((*x.shape[:2], *size), fill)
        source = tuple(slice(max(0, -a.lo), a.n + min(0, a.hi)) for a in spec.axes)
        target = tuple(slice(max(0, a.lo), max(0, a.lo) + s.stop - s.start) for a, s in zip(spec.axes, source, strict=True))
        out[(slice(None), slice(None), *target)] = x[(slice(None), slice(None), *source)]
        return out
    for i, a in enumerate(spec.axes):
        at = np.arange(-a.lo, a.n + a.hi)
        if spec.padding_mode == "circular":
            at = np.where(at < 0, at + a.n, np.where(at >= a.n, at - a.n, at))
        elif spec.padding_mode == "reflect":
            at = np.where(at < 0, -at, np.where(at >= a.n, 2 * (a.n - 1) - at, at))
        else:
            at = np.clip(at, 0, a.n - 1)
        x = np.take(x, at, axis=2 + i)
    return np.ascontiguousarray(x)


def taps(spec: ConvSpec, x: np.ndarray, fill: float) -> Iterator[np.ndarray]:
    """For each tap of the kernel, the view (batch, channel, out_size...) of what it reads."""
    xp = padded(spec, x, fill)
    for index in np.ndindex(*spec.kernel_size):
        view = tuple(
            slice(k * a.d, k * a.d + (o - 1) * a.s + 1, a.s) for k, a, o in zip(index, spec.axes, spec.out_size, strict=True)
        )
        yield xp[(slice(None), slice(None), *view)]


def receptive_field(spec: ConvSpec, place: tuple[int, ...]) -> np.ndarray:
    """Which outputs read x[place], bool of `spec.out_shape`; an axis at a time, from the definition."""
    batch, channel, *at = place
    per_in, per_out = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    axes = []
    for a, out, i in zip(spec.axes, spec.out_size, at, strict=True):
        o, k = np.arange(out)[:, None], np.arange(a.m)[None, :]
        if spec.op == "conv_transpose":
            axes.append(np.any(i * a.s - a.lo + k * a.d == o, axis=1))
            continue
        source = o * a.s - a.lo + k * a.d
        if spec.padding_mode == "circular":
            source = source % a.n
        elif spec.padding_mode == "reflect":
            source = np.where(source < a.n, np.abs(source), 2 * (a.n - 1) - source)
        elif spec.padding_mode == "replicate":
            source = np.clip(source, 0, a.n - 1)
        axes.append(np.any(source == i, axis=1))
    field = np.zeros(spec.out_shape, bool)
    group = channel // per_in
    channels = slice(channel, channel + 1) if spec.is_pool else slice(group * per_out, (group + 1) * per_out)
    field[batch, channels] = reduce(np.logical_and.outer, axes)
    return field


def pool_max(spec: ConvSpec, x: np.ndarray) -> np.ndarray:
    """Maximum over each window's real elements; a NaN propagates."""
    y = np.full(spec.out_shape, -np.inf)
    for part in taps(spec, x, -np.inf):
        y = np.maximum(y, part)
    return y


def correlate(spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """`spec`'s convolution without bias: windows x weights, a GEMM a group, in chunks of output rows."""
    g, mg, cg = spec.groups, spec.out_channels // spec.groups, spec.in_channels // spec.groups
    if spec.flip:
        w = np.flip(w, tuple(range(2, w.ndim)))
    weights = np.ascontiguousarray(w).reshape(g, mg, -1)
    xp = padded(spec, x, 0.0)
    out = np.empty((spec.batch, g, mg, *spec.out_size))
    first, rest = spec.out_size[0], spec.out_size[1:]
    row = max(1, g * cg * prod(spec.kernel_size) * prod(rest) * 8)
    rows = max(1, min(first, CHUNK // row))
    st = xp.strides
    for n in range(spec.batch):
        for o in range(0, first, rows):
            size = (min(rows, first - o), *rest)
            view = as_strided(
                xp[n, :, o * spec.stride[0] :],
                (g, cg, *spec.kernel_size, *size),
                (cg * st[1], st[1], *(s * a.d for s, a in zip(st[2:], spec.axes, strict=True)),
                 *(s * a.s for s, a in zip(st[2:], spec.axes, strict=True))),
                writeable=False,
            )  # fmt: skip
            matrix = view.reshape(g, weights.shape[2], -1)
            out[n, :, :, o : o + size[0]] = np.matmul(weights, matrix).reshape(g, mg, *size)
    return out.reshape(spec.out_shape)


def transpose(spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """`spec`'s transposed convolution without bias: a GEMM a group, then each tap's plane added at its place."""
    g, mg, cg = spec.groups, spec.out_channels // spec.groups, spec.in_channels // spec.groups
    if spec.flip:
        w = np.flip(w, tuple(range(2, w.ndim)))
    weights = np.ascontiguousarray(np.moveaxis(w.reshape(g, cg, mg, -1), 1, 3)).reshape(g, -1, cg)
    full = [a.lo + o + max(0, (a.n - 1) * a.s + a.extent - a.lo - o) for a, o in zip(spec.axes, spec.out_size, strict=True)]
    out = np.empty(spec.out_shape)
    crop = tuple(slice(a.lo, a.lo + o) for a, o in zip(spec.axes, spec.out_size, strict=True))
    for n in range(spec.batch):
        planes = np.matmul(weights, x[n].reshape(g, cg, -1)).reshape(g * mg, *spec.kernel_size, *spec.in_size)
        total = np.zeros((g * mg, *full))
        for index in np.ndindex(*spec.kernel_size):
            at = tuple(slice(k * a.d, k * a.d + (a.n - 1) * a.s + 1, a.s) for k, a in zip(index, spec.axes, strict=True))
            total[(slice(None), *at)] += planes[(slice(None), *index)]
        out[n] = total[(slice(None), *crop)]
    return out
