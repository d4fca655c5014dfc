"""The four operations as literal loops, compiled by numba: the formulas of `backends.naive`.

Apart from `naive` because importing this imports numba. Every array has three spatial axes
(depth, height, width); arrays of fewer gain axes of length 1, so that one compiled kernel an
operation and element type serves every problem.

`source_h[p]` is the input row that stands at position p of the padded height, or -1 where the
padding reads nothing; so is `source_d` for depth and `source_w` for width. The innermost loop
runs along a row of the output, which is contiguous; an output still adds its products one by
one, in the order of the taps.

`half` is None, or True where every product and sum is rounded to float16 (numba has no such
type): numba prunes the branch that is not taken when it compiles.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])
Triple = tuple[int, int, int]


def compiled(fn: F) -> F:
    """Compile `fn`, keeping the result on disk where some cache directory can be written."""
    try:
        return cast(F, numba.njit(cache=True)(fn))
    except RuntimeError:  # numba's "no locator available": no cache directory is writable
        return cast(F, numba.njit(fn))


@compiled
def to_half(v: np.float32) -> np.float32:
    """`v` rounded to the nearest float16, ties to even, as a float32.

    The sum, product or quotient of two float16 numbers, computed in float32 and rounded by this
    function, is the correctly rounded one: rounding twice is innocuous when the wider type has
    24 >= 2*11 + 2 bits (Figueroa, "When is double rounding innocuous?", 1995).
    """
    if np.isnan(v):  # a carry into the sign must not make a number of a NaN
        return v
    if abs(v) < np.float32(2.0**-14):  # subnormal: the spacing of float32 in [0.5, 1) is float16's least, 2**-24
        shift = np.float32(0.75)
        return np.float32(np.copysign((abs(v) + shift) - shift, v))
    bits = np.float32(v).view(np.int32)  # numba views only what is visibly a numpy scalar
    half_a_unit = np.int32(0xFFF) + ((bits >> np.int32(13)) & np.int32(1))  # ties go to the even neighbour
    r = np.int32((bits + half_a_unit) & np.int32(~0x1FFF)).view(np.float32)
    return np.float32(np.copysign(np.inf, v)) if abs(r) > np.float32(65504.0) else r


@compiled
def conv(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    source_d: np.ndarray,
    source_h: np.ndarray,
    source_w: np.ndarray,
    stride: Triple,
    dilation: Triple,
    groups: int,
    half: bool | None,
    y: np.ndarray,
) -> None:
    """y[n,m,o] = b[m] + sum over c, k of w[m,c,k] * x[n, first+c, source[o*stride + k*dilation]]."""
    (s_d, s_h, s_w), (d_d, d_h, d_w) = stride, dilation
    batch, out_channels, out_d, out_h, out_w = y.shape
    _, channels, k_d, k_h, k_w = w.shape
    for n in range(batch):
        for m in range(out_channels):
            first = m // (out_channels // groups) * channels
            for o_d in range(out_d):
                for o_h in range(out_h):
                    row = y[n, m, o_d, o_h]
                    row[:] = 0
                    for c in range(channels):
                        for kd in range(k_d):
                            i_d = source_d[o_d * s_d + kd * d_d]
                            for kh in range(k_h):
                                i_h = source_h[o_h * s_h + kh * d_h]
                                if i_d < 0 or i_h < 0:
                                    continue
                                for kw in range(k_w):
                                    tap = w[m, c, kd, kh, kw]
                                    for o_w in range(out_w):
                                        i_w = source_w[o_w * s_w + kw * d_w]
                                        if i_w >= 0:
                                            product = tap * x[n, first + c, i_d, i_h, i_w]
                                            if half is None:
                                                row[o_w] += product
                                            else:
                                                row[o_w] = to_half(row[o_w] + to_half(product))
                    for o_w in range(out_w):
                        if half is None:
                            row[o_w] += b[m]
                        else:
                            row[o_w] = to_half(row[o_w] + b[m])


@compiled
def conv_transpose(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    low: Triple,
    stride: Triple,
    dilation: Triple,
    groups: int,
    half: bool | None,
    y: np.ndarray,
) -> None:
    """y[n,m,i*stride - low + k*dilation] += x[n,c,i] * w[c, m in its group, k], over c, i and k; then b[m]."""
    (lo_d, lo_h, lo_w), (s_d, s_h, s_w), (d_d, d_h, d_w) = low, stride, dilation
    batch, out_channels, out_d, out_h, out_w = y.shape
    _, channels, in_d, in_h, in_w = x.shape
    _, group_out, k_d, k_h, k_w = w.shape
    group_in = channels // groups
    for n in range(batch):
        for m in range(out_channels):
            y[n, m] = 0
            for c in range(m // group_out * group_in, (m // group_out + 1) * group_in):
                for i_d in range(in_d):
                    for i_h in range(in_h):
                        for kd in range(k_d):
                            o_d = i_d * s_d - lo_d + kd * d_d
                            for kh in range(k_h):
                                o_h = i_h * s_h - lo_h + kh * d_h
                                if not (0 <= o_d < out_d and 0 <= o_h < out_h):
                                    continue
                                row = y[n, m, o_d, o_h]
                                for kw in range(k_w):
                                    tap = w[c, m % group_out, kd, kh, kw]
                                    for i_w in range(in_w):
                                        o_w = i_w * s_w - lo_w + kw * d_w
                                        if 0 <= o_w < out_w:
                                            product = tap * x[n, c, i_d, i_h, i_w]
                                            if half is None:
                                                row[o_w] += product
                                            else:
                                                row[o_w] = to_half(row[o_w] + to_half(product))
            plane = y[n, m].reshape(-1)
            for i in range(plane.size):
                if half is None:
                    plane[i] += b[m]
                else:
                    plane[i] = to_half(plane[i] + b[m])


@compiled
def max_pool(
    x: np.ndarray,
    source_d: np.ndarray,
    source_h: np.ndarray,
    source_w: np.ndarray,
    kernel_size: Triple,
    stride: Triple,
    dilation: Triple,
    lowest: Any,
    y: np.ndarray,
) -> None:
    """y[n,c,o] = max over k of x[n,c,source[o*stride + k*dilation]]; a NaN in the window is its maximum."""
    (k_d, k_h, k_w), (s_d, s_h, s_w), (d_d, d_h, d_w) = kernel_size, stride, dilation
    batch, channels, out_d, out_h, out_w = y.shape
    for n in range(batch):
        for c in range(channels):
            for o_d in range(out_d):
                for o_h in range(out_h):
                    row = y[n, c, o_d, o_h]
                    row[:] = lowest
                    for kd in range(k_d):
                        i_d = source_d[o_d * s_d + kd * d_d]
                        for kh in range(k_h):
                            i_h = source_h[o_h * s_h + kh * d_h]
                            if i_d < 0 or i_h < 0:
                                continue
                            for kw in range(k_w):
                                for o_w in range(out_w):
                                    i_w = source_w[o_w * s_w + kw * d_w]
                                    if i_w >= 0:
                                        v = x[n, c, i_d, i_h, i_w]
                                        if v > row[o_w] or np.isnan(v):
                                            row[o_w] = v


@compiled
def avg_pool(
    x: np.ndarray,
    source_d: np.ndarray,
    source_h: np.ndarray,
    source_w: np.ndarray,
    divisor_d: np.ndarray,
    divisor_h: np.ndarray,
    divisor_w: np.ndarray,
    kernel_size: Triple,
    stride: Triple,
    dilation: Triple,
    half: bool | None,
    y: np.ndarray,
) -> None:
    """y[n,c,o] = (sum over k of x[n,c,source[o*stride + k*dilation]]) / (divisor_d * divisor_h * divisor_w)[o]."""
    (k_d, k_h, k_w), (s_d, s_h, s_w), (d_d, d_h, d_w) = kernel_size, stride, dilation
    batch, channels, out_d, out_h, out_w = y.shape
    for n in range(batch):
        for c in range(channels):
            for o_d in range(out_d):
                for o_h in range(out_h):
                    row = y[n, c, o_d, o_h]
                    row[:] = 0
                    for kd in range(k_d):
                        i_d = source_d[o_d * s_d + kd * d_d]
                        for kh in range(k_h):
                            i_h = source_h[o_h * s_h + kh * d_h]
                            if i_d < 0 or i_h < 0:
                                continue
                            for kw in range(k_w):
                                for o_w in range(out_w):
                                    i_w = source_w[o_w * s_w + kw * d_w]
                                    if i_w >= 0:
                                        v = x[n, c, i_d, i_h, i_w]
                                        if half is None:
                                            row[o_w] += v
                                        else:
                                            row[o_w] = to_half(row[o_w] + v)
                    for o_w in range(out_w):
                        # An integer divisor makes numba divide in float64; storing rounds that once more, innocuously.
                        row[o_w] = row[o_w] / (divisor_d[o_d] * divisor_h[o_h] * divisor_w[o_w])
                        if half is not None:
                            row[o_w] = to_half(row[o_w])


@cache
def kernel(op: str, work: str, half: bool) -> Any:
    """The loops of `op` for elements of numpy type `work`, compiled or read from numba's cache."""
    types: Any = numba.types  # partly annotated: through Any, mypy asks for no more than numba gives
    element = getattr(types, work)
    read = types.Array(element, 5, "C", readonly=True)
    vector = types.Array(element, 1, "C", readonly=True)
    index = types.Array(types.int64, 1, "C", readonly=True)
    write = types.Array(element, 5, "C")
    triple, number = types.UniTuple(types.int64, 3), types.int64
    flag = types.boolean if half else types.none
    signatures: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "conv": (conv, (read, read, vector, index, index, index, triple, triple, number, flag, write)),
        "conv_transpose": (conv_transpose, (read, read, vector, triple, triple, triple, number, flag, write)),
        "max_pool": (max_pool, (read, index, index, index, triple, triple, triple, element, write)),
        "avg_pool": (avg_pool, (read, *(index,) * 6, triple, triple, triple, flag, write)),
    }
    dispatcher, signature = signatures[op]
    dispatcher.compile(signature)
    return dispatcher
